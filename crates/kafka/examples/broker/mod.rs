//! What the examples need of a broker: where it is, topics of their own for each run, and records in the first of them.

use std::collections::BTreeMap;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// A broker with topics.
pub(crate) struct Broker {
    pub(crate) bootstrap: String,
    pub(crate) topics: Vec<TopicName>,
}

impl Broker {
    /// Makes topics of these names, with this run's number behind the first one's, and writes records of a key and a
    /// value to the first.
    pub(crate) async fn prepare(
        name: &str,
        suffixes: &[&str],
        records: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let bootstrap = std::env::args().nth(1).map_or_else(engine, Ok)?;
        let admin = Topics::new(&bootstrap, &BTreeMap::new())?;
        let mut topics = Vec::new();
        for suffix in std::iter::once(&"").chain(suffixes) {
            let topic = TopicName::new(&format!("{name}-{}{suffix}", std::process::id()))?;
            let settings = NewSettings {
                partitions: 1,
                replication: 1,
                min_insync_replicas: 1,
                retention_ms: 86_400_000,
            };
            admin.create(&topic, &settings).await?;
            topics.push(topic);
        }
        let producer = Producer::start(ProducerConfig::new(&bootstrap))?;
        let mut batch = RecordBatch { topics: vec![topics[0].clone()], ..RecordBatch::default() };
        for (key, value) in records {
            let (key, value) = (batch.put(key.as_bytes()), batch.put(value.as_bytes()));
            batch.records.push(RecordSpan { topic: 0, key, value, headers: 0..0, timestamp_ms: 1 });
        }
        producer.append(batch).await?;
        Ok(Self { bootstrap, topics })
    }
}

/// The broker of `cargo x engines up kafka`.
fn engine() -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(weir_testkit::engine::maven::cache().join("running.txt")).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("kafka: "));
    Ok(found.ok_or("no broker: run `cargo x engines up kafka`, or name one")?.to_owned())
}
