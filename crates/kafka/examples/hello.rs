//! Hello: records of two keys, handled side by side and in order for each key.
//!
//! `cargo x engines up kafka`, then `cargo run -p weir-kafka --example hello [BOOTSTRAP]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::record::Record;

const TOPIC: &str = "hello";
const RECORDS: usize = 10;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let bootstrap = std::env::args().nth(1).map_or_else(engine, Ok)?;
    write(&bootstrap).await?;

    // From here on it is what a service writes.
    let handled = Arc::new(AtomicUsize::new(0));
    let source = KafkaSource::new(SourceConfig::new(&bootstrap, &group(), &[TOPIC]));
    let running = Consumer::new(source)
        .start({
            let handled = Arc::clone(&handled);
            move |record: Record| {
                let handled = Arc::clone(&handled);
                async move {
                    // Something that takes time. Each key waits for its own, and for nobody else's.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let (key, value) = record.text();
                    println!("{key} {value}   (partition {}, offset {})", record.partition, record.offset);
                    handled.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await?;

    let started = Instant::now();
    while handled.load(Ordering::Relaxed) < RECORDS && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts = running.stop(Duration::from_secs(5)).await?;
    println!(
        "\n{} records received, {} done, {} commits acknowledged",
        counts.received, counts.done, counts.commits
    );
    Ok(())
}

/// A group of its own for each run, so that each run sees all records.
fn group() -> String {
    format!("hello-{}", std::process::id())
}

/// Five records each of `alice` and `bob`.
async fn write(bootstrap: &str) -> Result<(), Failure> {
    let topic = TopicName::new(TOPIC)?;
    let settings =
        NewSettings { partitions: 1, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
    Topics::new(bootstrap, &BTreeMap::new())?.create(&topic, &settings).await?;
    let producer = Producer::start(ProducerConfig::new(bootstrap))?;
    let mut batch = RecordBatch { topics: vec![topic], ..RecordBatch::default() };
    for number in 0..RECORDS {
        let mut put = |text: &str| {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(text.as_bytes());
            start..batch.arena.len() as u32
        };
        let (key, value) = (put(["alice", "bob"][number % 2]), put(&format!("says {}", number / 2 + 1)));
        batch.records.push(RecordSpan { topic: 0, key, value, headers: 0..0, timestamp_ms: now_ms() });
    }
    producer.append(batch).await?;
    Ok(())
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default()
}

/// The broker of `cargo x engines up kafka`.
fn engine() -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(weir_testkit::engine::maven::cache().join("running.txt")).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("kafka: "));
    Ok(found.ok_or("no broker: run `cargo x engines up kafka`, or name one")?.to_owned())
}
