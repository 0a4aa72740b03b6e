//! Metric names of a consumer, read at each scrape; the only room that knows the names. Aliases are in
//! `docs/runtime.md`.

mod decaton;

pub(crate) use decaton::Decaton;

use crate::budget::Budget;
use crate::health::{Health, PartitionHealth};
use crate::histogram::Sum;
use crate::stats::{Counts, Stats};
use crate::stopwatch::{Figures, Stage};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionIntake {
    subscription: String,
    topic: String,
    partition: i32,
    intake: &'static str,
}

/// A name, what it means, and where its number is.
type Counter = (&'static str, &'static str, fn(&Counts) -> u64);
type Gauge = (&'static str, &'static str, fn(&Meter) -> f64);
type PartitionGauge = (&'static str, &'static str, fn(&PartitionHealth) -> f64);
type Time = (&'static str, &'static str, Stage);

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

const TIMES: [Time; 7] = [
    ("consumer_attempt_seconds", "From the start of an attempt to its outcome", Stage::Attempt),
    (
        "consumer_completion_seconds",
        "From a record's arrival to its end, retries included",
        Stage::Completion,
    ),
    (
        "consumer_delivery_seconds",
        "From a record's timestamp to the start of its first attempt",
        Stage::Delivery,
    ),
    ("consumer_retry_wait_seconds", "Waits before a further attempt, as they were set", Stage::RetryWait),
    (
        "consumer_dead_letter_seconds",
        "One try to write a dead letter, or a record to the retry topic",
        Stage::DeadLetter,
    ),
    ("consumer_commit_seconds", "From a commit to its answer, by partition", Stage::Commit),
    ("consumer_drain_seconds", "From the loss of partitions to their release", Stage::Drain),
];

const GAUGES: [Gauge; 6] = [
    ("consumer_bytes_in_flight", "Bytes of records in flight, of all that share the budget", |meter| {
        meter.budget.used_bytes() as f64
    }),
    ("consumer_bytes_in_flight_max", "The bound of bytes in flight", |meter| meter.budget.bytes_max() as f64),
    ("consumer_attempts_running", "Attempts, and dead letters, under way", |meter| {
        meter.total(Figures::running) as f64
    }),
    (
        "consumer_concurrency",
        "Attempts that may be under way; 0 when the handler has a limit of its own",
        |meter| meter.concurrency as f64,
    ),
    ("consumer_lanes", "Keys with a record that is not done", |meter| meter.total(Figures::lanes) as f64),
    ("consumer_lane_longest", "Records that wait behind another of their key, at most", |meter| {
        meter.figures.iter().map(|one| one.lane_longest()).max().unwrap_or_default() as f64
    }),
];

const PARTITION_GAUGES: [PartitionGauge; 7] = [
    ("consumer_partition_pending", "Records from the oldest not done to the newest", |one| {
        one.pending as f64
    }),
    ("consumer_partition_window_ratio", "Share of the window that is pending", |one| {
        one.pending as f64 / one.window_records.max(1) as f64
    }),
    ("consumer_partition_committed", "Committed offset, or -1", |one| one.committed.unwrap_or(-1) as f64),
    ("consumer_partition_map_bytes", "Bytes of the last commit's metadata", |one| one.map_bytes as f64),
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
    pub(crate) figures: Arc<[Arc<Figures>]>,
    pub(crate) budget: Budget,
    pub(crate) concurrency: usize,
}

impl Meter {
    fn ours(&self) -> Subscription {
        Subscription { subscription: self.subscription.clone() }
    }

    fn label(&self, one: &PartitionHealth) -> Partition {
        Partition {
            subscription: self.subscription.clone(),
            topic: one.place.topic.to_string(),
            partition: one.place.partition,
        }
    }

    fn health(&self) -> Result<Health, fmt::Error> {
        Ok(self.health.lock().map_err(|_| fmt::Error)?.clone())
    }

    fn total(&self, number: fn(&Figures) -> usize) -> usize {
        self.figures.iter().map(|one| number(one)).sum()
    }

    fn time(&self, stage: Stage) -> Sum {
        Sum::of(self.figures.iter().map(|one| one.times(stage)))
    }
}

/// Writes one metric with a value for each set of labels; nothing when there are none.
fn family<L: EncodeLabelSet, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, kind): (&str, &str, MetricType),
    values: impl Iterator<Item = (L, M)>,
) -> fmt::Result {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (label, value) in values {
        value.encode(metric.encode_family(&label)?)?;
    }
    Ok(())
}

impl Collector for Meter {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let counts = self.stats.counts();
        for (name, help, count) in COUNTERS {
            let value = (self.ours(), ConstCounter::new(count(&counts)));
            family(encoder, (name, help, MetricType::Counter), std::iter::once(value))?;
        }
        for (name, help, number) in GAUGES {
            let value = (self.ours(), ConstGauge::new(number(self)));
            family(encoder, (name, help, MetricType::Gauge), std::iter::once(value))?;
        }
        for (name, help, stage) in TIMES {
            let time = self.time(stage);
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            let ours = self.ours();
            let mut metric = metric.encode_family(&ours)?;
            metric.encode_histogram::<NoLabelSet>(time.seconds(), time.count(), &time.buckets(), None)?;
        }
        let health = self.health()?;
        for (name, help, number) in PARTITION_GAUGES {
            let values = health.partitions.iter().map(|one| (self.label(one), ConstGauge::new(number(one))));
            family(encoder, (name, help, MetricType::Gauge), values)?;
        }
        let lags = health
            .partitions
            .iter()
            .filter_map(|one| one.lag.map(|lag| (self.label(one), ConstGauge::new(lag as f64))));
        let help = "Records of the log that were not taken yet";
        family(encoder, ("consumer_partition_lag", help, MetricType::Gauge), lags)?;
        let intakes = health.partitions.iter().flat_map(|one| {
            one.intake_times.iter().map(|(intake, time)| {
                let Partition { subscription, topic, partition } = self.label(one);
                let label = PartitionIntake { subscription, topic, partition, intake: intake.word() };
                (label, ConstCounter::new(time.as_secs_f64()))
            })
        });
        let help = "How long the partition's intake did what";
        family(encoder, ("consumer_partition_intake_seconds", help, MetricType::Counter), intakes)
    }
}
