//! What can be seen: times of every stage, Decaton's names, the reason of a stall.

use crate::judge::{fill, until};
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use weir_model::{FaultKind, TopicName};
use weir_runtime::budget::Budget;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::flow::Flow;
use weir_runtime::intake::Intake;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::{AppendFault, CommitFault, MemoryLog};

/// The metrics of a consumer, as a scrape sees them: the value of each name with its labels.
pub(crate) fn scrape(registry: &Registry) -> BTreeMap<String, f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let values = text.lines().filter(|line| !line.starts_with('#'));
    values
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// A consumer that has met everything: retries, a dead letter that was refused once, a commit, a partition that went.
pub(crate) async fn eventful(log: &MemoryLog) -> Running {
    log.create_topic("t-dead", 1);
    log.create_topic("gone", 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    for number in 0..100 {
        let written = now - Duration::from_secs(5);
        let timestamp_ms = i64::try_from(written.as_millis()).unwrap();
        log.put("t", Record { timestamp_ms, ..Record::new("t", "v").with_key(format!("k{}", number % 10)) });
    }
    log.fail_append(AppendFault::Refused(FaultKind::Transient));
    let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g");
    let running = Consumer::new(log.source("g", &["t", "gone"]))
        .dead_letters(letters)
        .start_in_task(|record: Record| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            match (record.offset, record.attempt) {
                (3, 1..=2) => Outcome::failed("not yet"),
                (7, _) => Outcome::dead_letter("poison"),
                _ => Outcome::Done,
            }
        })
        .unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 100)).await;
    log.revoke("g", &[Place::new("gone", 0)]);
    until("it is released", || !log.holds("g", &Place::new("gone", 0))).await;
    until("that is known", || {
        let health = running.health();
        health.partitions.len() == 1 && health.partitions[0].committed == Some(100)
    })
    .await;
    running
}

#[tokio::test(start_paused = true)]
async fn every_stage_is_timed() {
    let log = MemoryLog::with_topic("t", 1);
    let running = eventful(&log).await;
    let mut registry = Registry::default();
    running.register(&mut registry, "orders");
    let values = scrape(&registry);
    let of = |name: &str| values[&format!("{name}{{subscription=\"orders\"}}")];
    let near = |name: &str, from: f64, upto: f64| {
        let value = of(name);
        assert!((from..=upto).contains(&value), "{name} is {value}\n{values:#?}");
    };
    // 100 records, two further attempts; each takes 10 ms.
    near("consumer_attempt_seconds_count", 102.0, 102.0);
    near("consumer_attempt_seconds_sum", 1.02, 1.3);
    // Ten of a key wait for each other.
    near("consumer_completion_seconds_count", 100.0, 100.0);
    near("consumer_completion_seconds_sum", 100.0 * 0.05, 100.0 * 0.5);
    near("consumer_delivery_seconds_count", 100.0, 100.0);
    near("consumer_delivery_seconds_sum", 500.0, 600.0);
    near("consumer_retry_wait_seconds_count", 2.0, 2.0);
    near("consumer_retry_wait_seconds_sum", 0.15, 0.3);
    near("consumer_dead_letter_seconds_count", 2.0, 2.0);
    near("consumer_commit_seconds_count", 1.0, 10.0);
    near("consumer_drain_seconds_count", 1.0, 1.0);
    near("consumer_lanes", 0.0, 0.0);
    near("consumer_attempts_running", 0.0, 0.0);
    near("consumer_lane_longest", 0.0, 0.0);
    let upto = |bound: &str| {
        values[&format!("consumer_attempt_seconds_bucket{{le=\"{bound}\",subscription=\"orders\"}}")]
    };
    assert_eq!((upto("0.008192"), upto("0.016384"), upto("+Inf")), (0.0, 102.0, 102.0), "{values:#?}");
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lanes_and_attempts_under_way_are_gauges() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(128)
        .start_in_task(|_: Record| std::future::pending::<()>())
        .unwrap();
    until("it is known", || running.health().partitions.first().is_some_and(|one| one.pending == 100)).await;
    let mut registry = Registry::default();
    running.register(&mut registry, "orders");
    let values = scrape(&registry);
    let of = |name: &str| values[&format!("{name}{{subscription=\"orders\"}}")];
    assert_eq!((of("consumer_lanes"), of("consumer_attempts_running")), (10.0, 10.0));
    assert_eq!(of("consumer_lane_longest"), 9.0);
    let partition = "{subscription=\"orders\",topic=\"t\",partition=\"0\"}";
    assert_eq!(values[&format!("consumer_partition_window_ratio{partition}")], 100.0 / 128.0);
    running.stop(Duration::ZERO).await.unwrap();
}

/// The table of `docs/runtime.md` with our names, and of the Decaton names in it those that are emitted.
fn documented() -> (BTreeSet<String>, BTreeSet<String>) {
    let page = include_str!("../../../../docs/runtime.md");
    let (mut ours, mut decaton) = (BTreeSet::new(), BTreeSet::new());
    for row in page.lines().filter_map(|line| line.strip_prefix("| ")) {
        let names = row.split('`').filter(|word| !word.contains(' '));
        for name in names {
            let name = name.split('{').next().unwrap_or_default().to_owned();
            if name.starts_with("consumer_") {
                ours.insert(name);
            } else if name.starts_with("decaton_") {
                decaton.insert(name);
            }
        }
    }
    (ours, decaton)
}

/// Names as the page has them: a histogram or summary once, a counter with its `_total`.
fn exported(registry: &Registry) -> BTreeSet<String> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| format!("{name}{}", if kind == "counter" { "_total" } else { "" }))
        .filter(|name| {
            !["_count", "_max"].iter().any(|part| name.ends_with(part)) || !name.starts_with("decaton_")
        })
        .map(|name| match name.strip_suffix("_sum") {
            Some(summary) => summary.to_owned(),
            None => name,
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn the_documented_metrics_are_those_that_are_exported_and_so_are_decatons() {
    let log = MemoryLog::with_topic("t", 1);
    let running = eventful(&log).await;
    let (ours, decaton) = documented();
    let (mut registry, mut of_decaton) = (Registry::default(), Registry::default());
    running.register(&mut registry, "orders");
    running.register_decaton_names(&mut of_decaton, "orders");
    assert_eq!(ours, exported(&registry), "docs/runtime.md on the left");
    assert_eq!(decaton, exported(&of_decaton), "docs/runtime.md on the left");
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn decatons_dashboards_find_its_names_with_its_labels() {
    let log = MemoryLog::with_topic("t", 1);
    let running = eventful(&log).await;
    let mut registry = Registry::default();
    running.register_decaton_names(&mut registry, "orders");
    let values = scrape(&registry);
    let partition = "subscription=\"orders\",topic=\"t\",partition=\"0\"";
    let topic = "subscription=\"orders\",topic=\"t\"";
    for (name, value) in [
        (format!("decaton_tasks_processed_total{{{partition}}}"), 100.0),
        (format!("decaton_tasks_error_total{{{partition}}}"), 2.0),
        (format!("decaton_tasks_pending{{{partition}}}"), 0.0),
        (format!("decaton_partition_paused{{{partition}}}"), 0.0),
        (format!("decaton_offset_last_committed{{{partition}}}"), 100.0),
        (format!("decaton_offset_latest_consumed{{{partition}}}"), 99.0),
        (format!("decaton_records_consumed_total{{{partition},format=\"other\"}}"), 100.0),
        (format!("decaton_tasks_process_duration_seconds_count{{{topic}}}"), 102.0),
        (format!("decaton_tasks_complete_duration_seconds_count{{{topic}}}"), 102.0),
        ("decaton_retry_queued_tasks_total{subscription=\"orders\"}".to_owned(), 0.0),
        ("decaton_retry_queueing_failed_total{subscription=\"orders\"}".to_owned(), 0.0),
    ] {
        assert_eq!(values.get(&name), Some(&value), "{name}\n{values:#?}");
    }
    let p99 = |values: &BTreeMap<String, f64>| {
        values[&format!("decaton_tasks_process_duration_seconds{{{topic},quantile=\"0.99\"}}")]
    };
    assert!((0.01..=0.0125).contains(&p99(&values)), "{values:#?}");
    // A quantile looks back a minute: what was slow before is forgotten, and without anything there is no number.
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(p99(&scrape(&registry)).is_nan());
    running.stop(Duration::ZERO).await.unwrap();
}

/// Parallel Consumer issue 484: it stands still, and nothing says why.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_484_whatever_keeps_a_partition_from_moving_is_named() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1000, 1000);
    let running = Consumer::new(log.source("g", &["t"]))
        .flow(Flow { is_paused: true, ..Flow::default() })
        .window_records(64)
        .start_in_task(|record: Record| async move {
            if record.offset == 500 {
                std::future::pending::<()>().await;
            }
        })
        .unwrap();
    let told = async || {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let health = running.health();
        let one = &health.partitions[0];
        (one.intake, health.complaints(Duration::from_secs(5)), health.to_string())
    };
    let (intake, complaints, text) = told().await;
    assert_eq!(intake, Intake::Paused);
    assert!(
        complaints[0].starts_with("t/0 has taken nothing for ")
            && complaints[0].ends_with(" s: the flow is paused"),
        "{complaints:?}"
    );
    assert!(
        text.starts_with("t/0: the flow is paused for ") && text.contains("; nothing committed"),
        "{text}"
    );

    running.flow(Flow { rate: Some(0), ..Flow::default() }).unwrap();
    let (intake, complaints, _) = told().await;
    assert_eq!(intake, Intake::Throttled);
    assert!(complaints[0].ends_with("the rate is used up"), "{complaints:?}");

    running.flow(Flow::default()).unwrap();
    let (intake, complaints, text) = told().await;
    assert_eq!(intake, Intake::WindowFull);
    assert!(complaints[0].starts_with("t/0 has waited for offset 500 for "), "{complaints:?}");
    assert!(
        complaints[0].contains(" and takes nothing because its window is full, key hash "),
        "{complaints:?}"
    );
    assert!(
        text.contains("; offset 500 is the oldest for ") && text.contains(", 64 of 64 pending"),
        "{text}"
    );

    let times = running.health().partitions[0].intake_times.clone();
    for held in [Intake::Paused, Intake::Throttled, Intake::WindowFull] {
        let seconds = times.of(held).as_secs_f64();
        assert!((8.0..=11.0).contains(&seconds), "{held:?} for {seconds} s");
    }
    log.revoke("g", &[Place::new("t", 0)]);
    until("it is gone", || running.health().partitions.is_empty()).await;
    assert_eq!(running.health().to_string(), "no partition is ours");
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_records_fill_the_byte_budget_says_so() {
    let log = MemoryLog::with_topic("t", 1);
    for number in 0..100 {
        log.put("t", Record::new("t", "x".repeat(10_000)).with_key(format!("k{number}")));
    }
    let running = Consumer::new(log.source("g", &["t"]))
        .budget(Budget::new(64 * 1024))
        .start_in_task(|record: Record| async move {
            std::future::pending::<()>().await;
            drop(record);
        })
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let health = running.health();
    let complaints = health.complaints(Duration::from_secs(5));
    assert_eq!(health.partitions[0].intake, Intake::BudgetSpent);
    assert!(
        complaints[0].starts_with("t/0 has waited for offset 0 for ")
            && complaints[0].contains(" because the byte budget has nothing left for it, key hash "),
        "{complaints:?}"
    );
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_gets_no_answer_is_complained_of() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 100);
    log.fail_commit(CommitFault::NoAnswer);
    let running =
        Consumer::new(log.source("g", &["t"])).start_in_task(|_: Record| async { Outcome::Done }).unwrap();
    tokio::time::sleep(Duration::from_secs(40)).await;
    let complaints = |seconds| running.health().complaints(Duration::from_secs(seconds));
    assert_eq!(complaints(60), Vec::<String>::new());
    let complaint = complaints(30).concat();
    assert!(complaint.starts_with("t/0 has had no answer to its commit for 3"), "{complaint}");
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(log.committed("g", "t", 0).unwrap().0, 100);
}

#[tokio::test(start_paused = true)]
async fn the_health_report_names_the_stuck_head_its_key_its_attempts_and_since_when() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 100);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            if record.offset == 40 { Outcome::failed("the table is read only") } else { Outcome::Done }
        })
        .unwrap();
    let failed_three =
        || running.health().partitions.first().is_some_and(|one| one.head_attempts_failed >= 3);
    until("it has failed three times", failed_three).await;
    let health = running.health();
    let one = &health.partitions[0];
    assert_eq!((one.head, one.failing, one.pending, one.finished), (Some(40), 1, 60, 40));
    assert_eq!(one.head_reason.as_deref(), Some("the table is read only"));
    assert_eq!(u64::from(one.head_attempts_failed), one.attempts_failed);
    let text = health.to_string();
    let hash = format!(", key hash {:016x}, ", one.head_lane.unwrap());
    assert!(text.contains(&hash) && text.ends_with(" attempts failed: the table is read only"), "{text}");
    running.stop(Duration::ZERO).await.unwrap();
}
