//! What is refused at the start, each with the field and what mends it.

use crate::judge::until;
use std::sync::Arc;
use std::time::Duration;
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::record::{Place, Record};
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::testing::MemoryLog;

/// Why a consumer does not start, both ways.
async fn refusal(consumer: impl Fn() -> Consumer) -> String {
    let in_task = consumer().start_in_task(|_: Record| async {}).unwrap_err();
    let in_thread = consumer().start(|_: Record| async {}).await.unwrap_err();
    assert_eq!((in_task.code(), in_task.chain()), (in_thread.code(), in_thread.chain()));
    in_task.chain()
}

fn consumer(log: &MemoryLog) -> Consumer {
    Consumer::new(log.source("g", &["t"]))
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_with_the_field_and_the_mend() {
    let log = MemoryLog::with_topic("t", 1);
    let retry = |policy: RetryPolicy| consumer(&log).retry(policy);
    let usual = RetryPolicy::default();
    let hour = Duration::from_secs(3600);
    let refusals: [(&str, &str, &dyn Fn() -> Consumer); 19] = [
        ("shards", "leave it out for one a core", &|| consumer(&log).shards(0)),
        ("shards", "5000 is more than 1024; leave it out", &|| consumer(&log).shards(5000)),
        ("concurrency", "the default is 64", &|| consumer(&log).concurrency(0)),
        ("concurrency", "more than 16777216; the default is 64", &|| consumer(&log).concurrency(usize::MAX)),
        ("window_records", "the default is 16384", &|| consumer(&log).window_records(0)),
        ("window_records", "more than 16777216; the default is", &|| {
            consumer(&log).window_records(usize::MAX)
        }),
        ("commit_every", "the default is a second", &|| consumer(&log).commit_every(Duration::ZERO)),
        ("commit_every", "repeated after a kill; the default", &|| {
            consumer(&log).commit_every(Duration::MAX)
        }),
        ("drain_max", "the group waits for it; the default", &|| consumer(&log).drain_max(hour * 2)),
        ("retry.first", "a millisecond at least", &|| retry(RetryPolicy { first: Duration::ZERO, ..usual })),
        ("retry.first", "longer than the longest", &|| retry(RetryPolicy { first: hour, ..usual })),
        ("retry.longest", "the default is a minute", &|| {
            retry(RetryPolicy { longest: Duration::MAX, ..usual })
        }),
        ("retry.jitter", "NaN is not a part", &|| retry(RetryPolicy { jitter: f64::NAN, ..usual })),
        ("retry.jitter", "inf is not a part", &|| retry(RetryPolicy { jitter: f64::INFINITY, ..usual })),
        ("retry.jitter", "-0.1 is not a part", &|| retry(RetryPolicy { jitter: -0.1, ..usual })),
        ("retry.age_max", "attempts_max: 1", &|| {
            retry(RetryPolicy { age_max: Some(Duration::ZERO), ..usual })
        }),
        ("retry.exhausted", "say where with dead_letters()", &|| {
            retry(RetryPolicy { exhausted: Exhausted::DeadLetter, ..usual })
        }),
        ("dead_letters", "t is read by this consumer", &|| {
            let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t").unwrap(), "g");
            consumer(&log).dead_letters(letters)
        }),
        ("no-such", "find the topic", &|| Consumer::new(log.source("g", &["no-such"]))),
    ];
    for (field, mend, wrong) in refusals {
        let refusal = refusal(wrong).await;
        assert!(refusal.contains(field) && refusal.contains(mend), "{field}, {mend}: {refusal}");
    }
    assert!(!log.holds("g", &Place::new("t", 0)));
    consumer(&log).start_in_task(|_: Record| async {}).unwrap().stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_drain_that_outlasts_the_groups_patience_is_refused() {
    let log = MemoryLog::with_topic("t", 1);
    log.say_silence_max(Duration::from_secs(10));
    let refusal = refusal(|| consumer(&log).drain_max(Duration::from_secs(10))).await;
    assert!(
        refusal.contains("drain_max: 10s is not below the 10s")
            && refusal.ends_with("max.poll.interval.ms longer"),
        "{refusal}"
    );
    let shorter = consumer(&log).drain_max(Duration::from_secs(9)).start_in_task(|_: Record| async {});
    shorter.unwrap().stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn retries_that_outlast_what_the_topic_keeps_are_refused_and_the_group_is_left() {
    let log = MemoryLog::with_topic("t", 1);
    log.say_kept_for("t", Duration::from_secs(3600));
    let aged = |age_max| consumer(&log).retry(RetryPolicy { age_max, ..RetryPolicy::default() });
    let refusal = refusal(|| aged(Some(Duration::from_secs(3600)))).await;
    assert!(
        refusal.contains("retry.age_max: t keeps its records for 3600s")
            && refusal.ends_with("retention.ms longer"),
        "{refusal}"
    );
    assert!(!log.holds("g", &Place::new("t", 0)));
    for age_max in [None, Some(Duration::from_secs(3599))] {
        aged(age_max).start_in_task(|_: Record| async {}).unwrap().stop(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_handler_for_a_topic_in_the_same_group_is_refused_as_long_as_the_first_is_there() {
    let log = MemoryLog::with_topic("t", 2);
    log.create_topic("u", 1);
    let counts = |_: Record| async {};
    let first = consumer(&log).start_in_task(counts).unwrap();
    let refusal = refusal(|| Consumer::new(log.source("g", &["u", "t"]))).await;
    assert!(
        refusal.contains("handler: t has a handler in group g of this process already, it::refused::"),
        "{refusal}"
    );
    // The same handler once more is one more member; another group, log or topic has nothing to do with it.
    let second = consumer(&log).start_in_task(counts).unwrap();
    let strangers = [
        Consumer::new(log.source("h", &["t"])),
        Consumer::new(log.source("g", &["u"])),
        consumer(&MemoryLog::with_topic("t", 1)),
    ];
    for stranger in strangers {
        stranger.start_in_task(|_: Record| async {}).unwrap().stop(Duration::ZERO).await.unwrap();
    }
    first.stop(Duration::ZERO).await.unwrap();
    assert!(consumer(&log).start_in_task(|_: Record| async {}).is_err(), "the second is there still");
    second.stop(Duration::ZERO).await.unwrap();
    let next = consumer(&log).start_in_task(|_: Record| async {}).unwrap();
    until("it has the topic", || next.health().partitions.len() == 2).await;
    next.stop(Duration::ZERO).await.unwrap();
}
