//! Metric names of a producer, read at each scrape; the only file that knows them.

use crate::producer::ProducerStats;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A name, what it means, and where its number is.
type Counter = (&'static str, &'static str, fn(&ProducerStats) -> &AtomicU64);

const COUNTERS: [Counter; 5] = [
    ("producer_records", "Records handed to the Kafka client, parts counted singly", |stats| &stats.records),
    ("producer_bytes", "Value bytes in them", |stats| &stats.bytes),
    ("producer_batches_done", "Batches whose every record became durable", |stats| &stats.batches_done),
    ("producer_batches_failed", "Batches that failed, and come again", |stats| &stats.batches_failed),
    ("producer_replaced", "Kafka clients replaced, because one was beyond repair or stuck", |stats| {
        &stats.replaced
    }),
];

#[derive(Debug)]
struct Meter(Arc<ProducerStats>);

impl Collector for Meter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (name, help, of) in COUNTERS {
            let counter = ConstCounter::new(of(&self.0).load(Ordering::Relaxed));
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// Adds a producer's metrics to a registry.
pub fn register(stats: &Arc<ProducerStats>, registry: &mut Registry) {
    registry.register_collector(Box::new(Meter(Arc::clone(stats))));
}
