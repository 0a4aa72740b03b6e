//! The keyed runtime on real Kafka: order, retries, rebalances, kill -9.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_testkit::engine::kafka::Kafka;

mod bodies;
mod brokers;
mod coming;
mod coordinator;
mod elsewhere;
pub(crate) mod kill;
pub(crate) mod logs;
mod mock;
mod real;
mod rights;
mod soak;
mod trouble;

const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) async fn create(kafka: &Kafka, topic: &str, partitions: i32) {
    create_at(&kafka.bootstrap(), topic, partitions, 1, 1).await;
}

/// A topic with so many replicas, of which so many must be in sync for a write.
async fn create_at(bootstrap: &str, topic: &str, partitions: i32, replication: i32, min_insync: u32) {
    let settings =
        NewSettings { partitions, replication, min_insync_replicas: min_insync, retention_ms: 86_400_000 };
    let topics = Topics::new(bootstrap, &BTreeMap::new()).unwrap();
    topics.create(&TopicName::new(topic).unwrap(), &settings).await.unwrap();
}

/// Writes records with these keys and values, in order; durable when it returns.
pub(crate) async fn write(kafka: &Kafka, topic: &str, records: impl IntoIterator<Item = (String, String)>) {
    let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();
    write_with(&producer, topic, records).await;
}

async fn write_with(producer: &Producer, topic: &str, records: impl IntoIterator<Item = (String, String)>) {
    let mut batch = RecordBatch { topics: vec![TopicName::new(topic).unwrap()], ..RecordBatch::default() };
    for (key, value) in records {
        let mut put = |text: &str| {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(text.as_bytes());
            start..batch.arena.len() as u32
        };
        let (key, value) = (put(&key), put(&value));
        batch.records.push(RecordSpan {
            topic: 0,
            key,
            value,
            headers: 0..0,
            timestamp_ms: 1_700_000_000_000,
        });
    }
    producer.append(batch).await.unwrap();
}

/// `count` records over `key_count` keys, each of which takes so many ms.
pub(crate) fn numbered(count: usize, key_count: usize, ms: u64) -> impl Iterator<Item = (String, String)> {
    (0..count).map(move |number| {
        let key = format!("k{}", number % key_count);
        (key.clone(), format!("{key} {number} {ms}"))
    })
}

/// Waits until the condition holds; says what it waited for otherwise.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    until_some(what, || condition().then_some(())).await;
}

/// Waits until `look` returns a value, and returns that one: a second look could see another.
async fn until_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{DEADLINE:?} have passed without: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
