//! Metric names of a consumer, read at each scrape; the only file that knows the names. Aliases are in
//! `docs/runtime.md`.

use crate::budget::Budget;
use crate::health::{Health, PartitionHealth};
use crate::stats::{Counts, Stats};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::fmt;
use std::sync::{Arc, Mutex};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Subscription {
    subscription: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Partition {
    subscription: String,
    topic: String,
    partition: i32,
}

/// A name, what it means, and where its number is.
type Counter = (&'static str, &'static str, fn(&Counts) -> u64);
type Gauge = (&'static str, &'static str, fn(&PartitionHealth) -> f64);

const COUNTERS: [Counter; 19] = [
    ("consumer_records_received", "Records that came from the log", |counts| counts.received),
    ("consumer_records_done", "Records that the handler called done", |counts| counts.done),
    ("consumer_records_skipped", "Records that the handler skipped", |counts| counts.skipped),
    ("consumer_records_spared", "Records that a predecessor had done", |counts| counts.spared),
    ("consumer_records_ignored", "Records of ignored keys", |counts| counts.ignored),
    ("consumer_attempts_failed", "Attempts that failed", |counts| counts.failed),
    ("consumer_attempts_retried", "Further attempts", |counts| counts.retried),
    ("consumer_attempts_cancelled", "Attempts dropped with their partition", |counts| counts.cancelled),
    ("consumer_dead_letters", "Dead letters that are durable", |counts| counts.dead_letters),
    ("consumer_dead_letters_failed", "Dead letters not written yet, by try", |counts| {
        counts.dead_letters_failed
    }),
    ("consumer_records_requeued", "Records that are durable in the retry topic", |counts| counts.requeued),
    ("consumer_requeues_failed", "Records not written to the retry topic yet, by try", |counts| {
        counts.requeues_failed
    }),
    ("consumer_records_parked", "Records given up and held", |counts| counts.parked),
    ("consumer_commits", "Commits answered with yes, by partition", |counts| counts.commits),
    ("consumer_commits_failed", "Commits that failed, by partition", |counts| counts.commits_failed),
    ("consumer_records_shaped", "Records over their key's quota, durable in the shaping topic", |counts| {
        counts.shaped
    }),
    ("consumer_shaping_failed", "Records over their key's quota, not written there yet, by try", |counts| {
        counts.shaping_failed
    }),
    ("consumer_records_slowed", "Records over their key's quota whose key had to wait", |counts| {
        counts.slowed
    }),
    ("consumer_records_repeated", "Records that come again behind one of their key that failed", |counts| {
        counts.repeated
    }),
];

const GAUGES: [Gauge; 5] = [
    ("consumer_partition_pending", "Records from the oldest not done to the newest", |one| {
        one.pending as f64
    }),
    ("consumer_partition_committed", "Committed offset, or -1", |one| one.committed.unwrap_or(-1) as f64),
    ("consumer_partition_head_seconds", "Age of the oldest record not done", |one| {
        one.head_for.as_secs_f64()
    }),
    ("consumer_partition_failing", "Records that failed and are not done", |one| one.failing as f64),
    ("consumer_partition_stopped", "1 when it gives no more records", |one| {
        f64::from(u8::from(one.fault.is_some()))
    }),
];

/// What a scrape reads.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) subscription: String,
    pub(crate) stats: Arc<Stats>,
    pub(crate) health: Arc<Mutex<Health>>,
    pub(crate) budget: Budget,
}

impl Collector for Meter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ours = Subscription { subscription: self.subscription.clone() };
        let counts = self.stats.counts();
        for (name, help, count) in COUNTERS {
            let counter = ConstCounter::new(count(&counts));
            let mut metric = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(metric.encode_family(&ours)?)?;
        }
        let bytes = ConstGauge::new(self.budget.used_bytes() as f64);
        let help = "Bytes of records in flight, of all that share the budget";
        let mut metric =
            encoder.encode_descriptor("consumer_bytes_in_flight", help, None, bytes.metric_type())?;
        bytes.encode(metric.encode_family(&ours)?)?;
        let health = self.health.lock().map_err(|_| fmt::Error)?.clone();
        for (name, help, number) in GAUGES {
            let of = |one: &PartitionHealth| ConstGauge::new(number(one));
            let Some(first) = health.partitions.first() else { continue };
            let mut metric = encoder.encode_descriptor(name, help, None, of(first).metric_type())?;
            for one in &health.partitions {
                let label = Partition {
                    subscription: self.subscription.clone(),
                    topic: one.place.topic.to_string(),
                    partition: one.place.partition,
                };
                of(one).encode(metric.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}
