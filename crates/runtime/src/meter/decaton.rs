//! The same figures under Decaton's names (9.5, `com.linecorp.decaton.processor.metrics.Metrics`), in the form that
//! Micrometer gives them in Prometheus. Off unless it is registered.
//!
//! Decaton publishes summaries: quantiles over about the last minute. They are made at the scrape, from what was added
//! since a scrape a minute ago.

use super::{Meter, Partition, Subscription, family};
use crate::health::PartitionHealth;
use crate::histogram::Sum;
use crate::intake::Intake;
use crate::stats::Counts;
use crate::stopwatch::Stage;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How long a quantile looks back, and how often what it looks back to is kept.
const LOOK_BACK: Duration = Duration::from_secs(60);
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// The quantiles that Decaton publishes.
const QUANTILES: [(&str, f64); 4] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999)];

type OfAll = (&'static str, &'static str, fn(&Counts) -> u64);
type OfPartition = (&'static str, &'static str, fn(&PartitionHealth) -> u64);
type Gauge = (&'static str, &'static str, fn(&PartitionHealth) -> f64);
type Spent = (&'static str, &'static str, &'static [Intake]);

const OF_ALL: [OfAll; 4] = [
    ("decaton_retry_queued_tasks", "Records that are durable in the retry topic", |counts| counts.requeued),
    ("decaton_retry_queueing_failed", "Records not written to the retry topic yet, by try", |counts| {
        counts.requeues_failed
    }),
    (
        "decaton_shaping_queued_tasks",
        "Records over their key's quota, durable in the shaping topic",
        |counts| counts.shaped,
    ),
    ("decaton_shaping_queueing_failed", "Records that were not written there yet, by try", |counts| {
        counts.shaping_failed
    }),
];

const OF_PARTITION: [OfPartition; 2] = [
    ("decaton_tasks_processed", "Records before the oldest that is not done", |one| one.finished),
    ("decaton_tasks_error", "Attempts that failed", |one| one.attempts_failed),
];

const GAUGES: [Gauge; 4] = [
    ("decaton_tasks_pending", "Records from the oldest not done to the newest", |one| one.pending as f64),
    ("decaton_partition_paused", "1 when something keeps records back", |one| {
        f64::from(u8::from(one.intake.is_held()))
    }),
    ("decaton_offset_last_committed", "Committed offset, or -1", |one| one.committed.unwrap_or(-1) as f64),
    ("decaton_offset_latest_consumed", "Offset of the newest record that came, or -1", |one| {
        one.newest.unwrap_or(-1) as f64
    }),
];

const SPENT: [Spent; 3] = [
    (
        "decaton_partition_paused_time_seconds",
        "Time with the window full or the byte budget spent",
        &[Intake::WindowFull, Intake::BudgetSpent],
    ),
    ("decaton_partition_throttled_time_seconds", "Time with the rate used up", &[Intake::Throttled]),
    ("decaton_partition_queue_starved_time_seconds", "Time in which nothing came", &[Intake::Idle]),
];

/// Decaton's names, what they mean here, and which of our times they are. Without the label `section` but for the last.
const SUMMARIES: [(&str, &str, Stage); 4] = [
    ("decaton_tasks_process_duration_seconds", "From the start of an attempt to its outcome", Stage::Attempt),
    (
        "decaton_tasks_complete_duration_seconds",
        "From the start of an attempt to its outcome",
        Stage::Attempt,
    ),
    (
        "decaton_tasks_delivery_latency_seconds",
        "From a record's timestamp to the start of its first attempt",
        Stage::Delivery,
    ),
    ("decaton_tasks_scheduling_delay_seconds", "Waits before a further attempt", Stage::RetryWait),
];
const COMMITS: (&str, &str, Stage) =
    ("decaton_subscription_process_durations_seconds", "From a commit to its answer", Stage::Commit);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Consumed {
    subscription: String,
    topic: String,
    partition: i32,
    format: &'static str,
}

/// Of a summary. Times are counted apart by shard, not by partition, so that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTopic {
    subscription: String,
    topic: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSection {
    subscription: String,
    section: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Quantile<L>(L, &'static str);

impl<L: EncodeLabelSet> EncodeLabelSet for Quantile<L> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)?;
        [("quantile", self.1)].encode(encoder)
    }
}

/// Sums of earlier scrapes, oldest first, by summary.
type Kept = VecDeque<(Instant, Vec<Sum>)>;

/// The figures of a meter under Decaton's names.
#[derive(Debug)]
pub(crate) struct Decaton {
    meter: Meter,
    kept: Mutex<Kept>,
}

impl Decaton {
    pub(crate) fn new(meter: Meter) -> Self {
        Self { meter, kept: Mutex::default() }
    }

    fn summaries() -> impl Iterator<Item = (&'static str, &'static str, Stage)> {
        SUMMARIES.into_iter().chain([COMMITS])
    }

    /// The sums now, and what was added to each in about the last minute.
    fn times(&self) -> Result<Vec<(Sum, Sum)>, fmt::Error> {
        let now = Instant::now();
        let mut kept = self.kept.lock().map_err(|_| fmt::Error)?;
        while kept.get(1).is_some_and(|(at, _)| now - *at >= LOOK_BACK) {
            kept.pop_front();
        }
        let sums: Vec<Sum> = Self::summaries().map(|(.., stage)| self.meter.time(stage)).collect();
        let times = sums.iter().enumerate().map(|(index, sum)| {
            let recent = kept.front().map_or_else(|| sum.clone(), |(_, before)| sum.since(&before[index]));
            (sum.clone(), recent)
        });
        let times = times.collect();
        if kept.back().is_none_or(|(at, _)| now - *at >= KEEP_EVERY) {
            kept.push_back((now, sums));
        }
        Ok(times)
    }

    fn partitions(&self, encoder: &mut DescriptorEncoder<'_>, health: &[PartitionHealth]) -> fmt::Result {
        for (name, help, count) in OF_PARTITION {
            let values = health.iter().map(|one| (self.meter.label(one), ConstCounter::new(count(one))));
            family(encoder, (name, help, MetricType::Counter), values)?;
        }
        for (name, help, number) in GAUGES {
            let values = health.iter().map(|one| (self.meter.label(one), ConstGauge::new(number(one))));
            family(encoder, (name, help, MetricType::Gauge), values)?;
        }
        for (name, help, intakes) in SPENT {
            let name = format!("{name}_sum");
            let values = health.iter().map(|one| {
                let spent: Duration = intakes.iter().map(|intake| one.intake_times.of(*intake)).sum();
                (self.meter.label(one), ConstGauge::new(spent.as_secs_f64()))
            });
            family(encoder, (&name, help, MetricType::Unknown), values)?;
        }
        let values = health.iter().map(|one| {
            let Partition { subscription, topic, partition } = self.meter.label(one);
            let label = Consumed { subscription, topic, partition, format: "other" };
            (label, ConstCounter::new(one.received))
        });
        family(
            encoder,
            ("decaton_records_consumed", "Records that came from the log", MetricType::Counter),
            values,
        )
    }
}

/// The topic of a consumer of one topic; nothing for one of several.
fn topic_of(health: &[PartitionHealth]) -> String {
    let mut topics = health.iter().map(|one| one.place.topic);
    let first = topics.next();
    let only = first.filter(|first| topics.all(|topic| topic == *first));
    only.map(|topic| topic.to_string()).unwrap_or_default()
}

fn summary<L: EncodeLabelSet + Clone>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    label: &L,
    (all, recent): &(Sum, Sum),
) -> fmt::Result {
    let quantiles = QUANTILES.iter().map(|(word, share)| {
        (Quantile(label.clone(), word), ConstGauge::new(recent.quantile(*share).unwrap_or(f64::NAN)))
    });
    family(encoder, (name, help, MetricType::Unknown), quantiles)?;
    for (suffix, value) in [
        ("count", all.count() as f64),
        ("sum", all.seconds()),
        ("max", recent.quantile(1.0).unwrap_or_default()),
    ] {
        let name = format!("{name}_{suffix}");
        let value = (label.clone(), ConstGauge::new(value));
        family(encoder, (&name, help, MetricType::Unknown), std::iter::once(value))?;
    }
    Ok(())
}

impl Collector for Decaton {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        let counts = self.meter.stats.counts();
        for (name, help, count) in OF_ALL {
            let value = (self.meter.ours(), ConstCounter::new(count(&counts)));
            family(encoder, (name, help, MetricType::Counter), std::iter::once(value))?;
        }
        let health = self.meter.health()?.partitions;
        self.partitions(encoder, &health)?;
        let times = self.times()?;
        let Subscription { subscription } = self.meter.ours();
        let of_topic = OfTopic { subscription: subscription.clone(), topic: topic_of(&health) };
        for ((name, help, _), time) in SUMMARIES.iter().zip(&times) {
            summary(encoder, (name, help), &of_topic, time)?;
        }
        let of_commits = OfSection { subscription, section: "commit" };
        summary(encoder, (COMMITS.0, COMMITS.1), &of_commits, &times[SUMMARIES.len()])
    }
}
