//! Handlers that compute: on threads beside the shards, so that a long computation holds its own key and nobody else.
//!
//! `cargo run --release -p weir-kafka --example cpu_bound`; no broker. One record computes a hundred times as long as the
//! others. It prints when the others were done, with a handler on the shard and with `Blocking`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir_runtime::blocking::Blocking;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

const RECORDS: usize = 100;
/// Rounds of the usual record.
const ROUNDS: u64 = 2_000_000;

/// Stands for work that a core is busy with.
fn compute(record: &Record) {
    let rounds = if record.offset == 0 { 100 * ROUNDS } else { ROUNDS };
    let mixed = (0..rounds).fold(1u64, |sum, number| (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    std::hint::black_box(mixed);
}

/// A log with a key for each record.
fn log() -> MemoryLog {
    let log = MemoryLog::with_topic("images", 1);
    for number in 0..RECORDS {
        log.put("images", Record::new("images", "pixels").with_key(format!("image-{number}")));
    }
    log
}

/// How long it took until all but the long one were done, and until all were.
async fn wait(running: Running, others: &AtomicUsize) -> Result<(Duration, Duration), weir_model::Fault> {
    let started = Instant::now();
    while others.load(Ordering::Relaxed) < RECORDS - 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let others_took = started.elapsed();
    while (running.counts().done as usize) < RECORDS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    running.stop(Duration::from_secs(5)).await?;
    Ok((others_took, took))
}

#[tokio::main]
async fn main() -> Result<(), weir_model::Fault> {
    for is_beside in [false, true] {
        let others = Arc::new(AtomicUsize::new(0));
        let work = {
            let others = Arc::clone(&others);
            move |record: Record| {
                compute(&record);
                others.fetch_add(usize::from(record.offset != 0), Ordering::Relaxed);
            }
        };
        let consumer = Consumer::new(log().source("thumbnails", &["images"])).shards(1);
        let running = if is_beside {
            consumer.start(Blocking::new(work)).await?
        } else {
            consumer
                .start(move |record: Record| {
                    work(record);
                    async {}
                })
                .await?
        };
        let (others_took, took) = wait(running, &others).await?;
        let place = if is_beside { "beside it" } else { "on one shard" };
        println!(
            "computed {place}: {} records done after {} ms, all after {} ms",
            RECORDS - 1,
            others_took.as_millis(),
            took.as_millis()
        );
    }
    Ok(())
}
