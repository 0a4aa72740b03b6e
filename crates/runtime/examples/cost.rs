//! What the runtime itself costs a record: a source that has everything in memory, a handler that counts, no log.
//!
//! `cargo run --release -p weir-runtime --example cost [RECORDS [SHARDS]]` prints CPU and wall time a record, in ns.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_model::Fault;
use weir_runtime::budget::Budget;
use weir_runtime::consumer::Consumer;
use weir_runtime::record::{Body, Place, Record};
use weir_runtime::source::{Assigned, Commit, Event, LogSource};
use weir_runtime::wake::Wake;

/// Keys that records are spread over, so that lanes are many and short.
const KEY_COUNT: u64 = 10_000;

/// One partition with an end.
struct Endless {
    place: Place,
    keys: Vec<Bytes>,
    value: Bytes,
    next: u64,
    end: u64,
    events: Vec<Event>,
}

impl LogSource for Endless {
    fn start(&mut self, _: Wake) -> Result<(), Fault> {
        let assigned = Assigned { place: self.place.clone(), committed: None, metadata: String::new() };
        self.events.push(Event::Assigned(vec![assigned]));
        Ok(())
    }

    fn events(&mut self, events: &mut Vec<Event>) {
        events.append(&mut self.events);
    }

    fn fetch(&mut self, _: &Place, count_max: usize, _: &Budget, records: &mut Vec<Record>) {
        let upto = self.end.min(self.next + count_max as u64);
        for offset in self.next..upto {
            records.push(Record {
                topic: self.place.topic,
                partition: 0,
                offset: offset.cast_signed(),
                timestamp_ms: 1,
                attempt: 1,
                body: Body::of(
                    Some(self.keys[(offset.wrapping_mul(0x9e37_79b9) % KEY_COUNT) as usize].clone()),
                    Some(self.value.clone()),
                    Vec::new(),
                ),
            });
        }
        self.next = upto;
    }

    fn commit(&mut self, commits: &[Commit]) {
        self.events.push(Event::Committed(commits.iter().map(|commit| commit.place.clone()).collect()));
    }

    fn commit_and_wait(&mut self, _: &[Commit], _: Duration) -> Result<(), Fault> {
        Ok(())
    }

    fn release(&mut self, _: &[Place]) {}

    fn close(&mut self) {}
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let records: u64 = words.next().map_or(Ok(5_000_000), |word| word.parse())?;
    let shards: usize = words.next().map_or(Ok(1), |word| word.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(shards).enable_all().build()?;
    let source = Endless {
        place: Place::new("t", 0),
        keys: (0..KEY_COUNT).map(|key| Bytes::from(format!("{key:016}"))).collect(),
        value: Bytes::from_static(&[b'v'; 100]),
        next: 0,
        end: records,
        events: Vec::new(),
    };
    let done = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&done);
    let (started, used) = (Instant::now(), cpu_ns());
    runtime.block_on(async {
        let handler = move |_: Record| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(())
        };
        let running = Consumer::new(source).shards(shards).start(handler).await?;
        while done.load(Ordering::Relaxed) < records {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (took, used) = (started.elapsed(), cpu_ns() - used);
        println!(
            "{records} records, {shards} shards: {:.1} ns of CPU a record, {:.1} ns of wall time",
            used as f64 / records as f64,
            took.as_nanos() as f64 / records as f64
        );
        running.stop(Duration::from_secs(1)).await
    })?;
    Ok(())
}

/// CPU time of all threads of this process that have run so far, in ns.
fn cpu_ns() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_one = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default()
    };
    threads.map(|thread| of_one(thread.path())).sum()
}
