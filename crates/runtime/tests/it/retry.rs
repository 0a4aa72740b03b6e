//! Records that fail: tried again in place, given up by policy, never lost.

use crate::judge::{Judge, attempts, fill, until, verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{FaultKind, TopicName};
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::testing::{AppendFault, MemoryLog};

fn letters(log: &MemoryLog) -> DeadLetters {
    log.create_topic("t-dead", 1);
    DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g")
}

fn three_attempts() -> RetryPolicy {
    RetryPolicy { attempts_max: 3, exhausted: Exhausted::DeadLetter, ..RetryPolicy::default() }
}

/// Decaton's retry topic gives up the order of a key; in place it holds.
#[tokio::test(start_paused = true)]
async fn a_record_that_fails_holds_its_key_in_order_while_other_keys_flow() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 1000, 20);
    let judge = Judge::default();
    let fails = Arc::new(AtomicU32::new(0));
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let (judge, fails) = (judge.clone(), Arc::clone(&fails));
            move |record: Record| {
                let attempt = judge.begin(&record);
                // One in a hundred fails three times.
                let must_fail = record.text().1.ends_with("50") && record.attempt <= 3;
                fails.fetch_add(u32::from(must_fail), Ordering::Relaxed);
                async move {
                    if must_fail {
                        return Err("not now");
                    }
                    attempt.done();
                    Ok(())
                }
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 1000).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.failed, counts.retried, counts.done), (30, 30, 1000));
    assert_eq!(fails.load(Ordering::Relaxed), 30);
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
}

/// Decaton completes, and so loses, a record whose processor throws.
#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_its_record_and_of_nothing_else() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                assert!(record.offset != 7 || record.attempt > 1, "before the future");
                async move {
                    assert!(record.offset != 13 || record.attempt > 1, "at once");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    assert!(record.offset != 21 || record.attempt > 2, "later");
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 100).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.failed, counts.done), (4, 100));
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn waits_grow_from_attempt_to_attempt_and_a_handler_may_name_its_own() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 2, 2);
    let started = Instant::now();
    let seen: Arc<std::sync::Mutex<Vec<(i64, u32, u128)>>> = Arc::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .retry(RetryPolicy { jitter: 0.0, ..RetryPolicy::default() })
        .start_in_task({
            let seen = Arc::clone(&seen);
            move |record: Record| {
                seen.lock().unwrap().push((record.offset, record.attempt, started.elapsed().as_millis()));
                async move {
                    match (record.offset, record.attempt) {
                        (_, 4..) => Outcome::Done,
                        (0, _) => Outcome::retry(),
                        _ => Outcome::retry_after(Duration::from_secs(30)),
                    }
                }
            }
        })
        .unwrap();
    until("both are done", || running.counts().done == 2).await;
    let seen = seen.lock().unwrap().clone();
    let times = |of: i64| -> Vec<u128> { seen.iter().filter(|one| one.0 == of).map(|one| one.2).collect() };
    let waits = |times: Vec<u128>| times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>();
    assert_eq!(waits(times(0)), [100, 200, 400]);
    assert_eq!(waits(times(1)), [30_000; 3]);
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_tried_again_at_once_and_for_ever_lets_the_others_go_on() {
    for (outcome, first) in [(Outcome::retry_after(Duration::ZERO), 100), (Outcome::retry(), 1)] {
        let log = MemoryLog::with_topic("t", 1);
        fill(&log, 100, 10);
        let first = Duration::from_millis(first);
        let running = Consumer::new(log.source("g", &["t"]))
            .retry(RetryPolicy { first, longest: first, ..RetryPolicy::default() })
            .start_in_task(move |record: Record| {
                let outcome = if record.offset == 0 { outcome.clone() } else { Outcome::Done };
                async { outcome }
            })
            .unwrap();
        until("the others are done", || running.counts().done == 90).await;
        until("it was tried often", || running.counts().retried > 100).await;
        running.stop(Duration::ZERO).await.unwrap();
    }
}

/// Decaton issue 199: partial success of a bulk.
#[tokio::test(start_paused = true)]
async fn what_is_left_of_a_bulk_is_tried_again_instead_of_the_whole() {
    let log = MemoryLog::with_topic("t", 1);
    log.put("t", Record::new("t", "abc").with_key("k"));
    let seen: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let seen = Arc::clone(&seen);
            move |record: Record| {
                let value = record.text().1;
                seen.lock().unwrap().push(value.clone());
                async move {
                    if value.len() == 1 { Outcome::Done } else { Outcome::retry_with(value[1..].to_owned()) }
                }
            }
        })
        .unwrap();
    until("it is done", || running.counts().done == 1).await;
    assert_eq!(*seen.lock().unwrap(), ["abc", "bc", "c"]);
    running.stop(Duration::ZERO).await.unwrap();
}

/// Parallel Consumer issues 196 and 310: no end of attempts, no dead letters.
#[tokio::test(start_paused = true)]
async fn after_its_last_attempt_a_record_goes_to_the_dead_letters_and_its_key_goes_on() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .retry(three_attempts())
        .dead_letters(letters(&log))
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    match record.offset {
                        11 => return Outcome::failed("the table is read only"),
                        12 => return Outcome::dead_letter("not JSON"),
                        _ => attempt.done(),
                    }
                    Outcome::Done
                }
            }
        })
        .unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 100)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.dead_letters, counts.failed), (98, 2, 3));
    assert_eq!((attempts(&judge, 11), attempts(&judge, 12)), (3, 1));
    let letters = log.records("t-dead");
    for (letter, value, cause, attempts, place) in [
        (&letters[0], "k2 12", "not JSON", "1", "t/0/12"),
        (&letters[1], "k1 11", "the table is read only", "3", "t/0/11"),
    ] {
        assert_eq!(letter.text(), (value[..2].to_owned(), value.to_owned()));
        let told =
            [dead_letter::CAUSE, dead_letter::ATTEMPTS, dead_letter::PLACE].map(|name| letter.header(name));
        assert_eq!(told, [cause, attempts, place].map(|text| Some(text.as_bytes())));
    }
}

/// Decaton completes the record although its retry was not written.
#[tokio::test(start_paused = true)]
async fn a_record_stays_pending_until_its_dead_letter_is_durable() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let refused = [FaultKind::Transient, FaultKind::Config, FaultKind::Denied];
    refused.into_iter().for_each(|kind| log.fail_append(AppendFault::Refused(kind)));
    log.fail_append(AppendFault::AnswerLost);
    let running = Consumer::new(log.source("g", &["t"]))
        .dead_letters(letters(&log))
        .start_in_task(|_: Record| async { Outcome::dead_letter("poison") })
        .unwrap();
    until("it was refused", || running.counts().dead_letters_failed == 3).await;
    assert!(log.committed("g", "t", 0).is_none_or(|(offset, _)| offset == 0));
    until("it is committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 1)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.dead_letters, counts.dead_letters_failed), (1, 4));
    // The lost answer is the one duplicate that at-least-once allows.
    assert_eq!(log.records("t-dead").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn age_ends_the_patience_too() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let policy = RetryPolicy {
        age_max: Some(Duration::from_secs(60)),
        exhausted: Exhausted::DeadLetter,
        ..RetryPolicy::default()
    };
    let started = Instant::now();
    let running = Consumer::new(log.source("g", &["t"]))
        .retry(policy)
        .dead_letters(letters(&log))
        .start_in_task(|_: Record| async { Outcome::retry() })
        .unwrap();
    until("it is a dead letter", || running.counts().dead_letters == 1).await;
    let waited = started.elapsed().as_secs();
    assert!((60..=125).contains(&waited), "{waited} s");
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_parked_record_holds_its_key_and_its_commit_and_health_names_it() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .retry(RetryPolicy { attempts_max: 2, exhausted: Exhausted::Park, ..RetryPolicy::default() })
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    if record.offset == 50 {
                        return Err("it never works");
                    }
                    attempt.done();
                    Ok(())
                }
            }
        })
        .unwrap();
    // The key of offset 50 has four more records; the other nine keys end.
    until("the others are done", || judge.done_count() == 95).await;
    // At once: nothing but a restart ends it.
    until("it is known", || !running.health().complaints(Duration::from_secs(3600)).is_empty()).await;
    let complaint = running.health().complaints(Duration::from_secs(3600)).remove(0);
    assert!(
        complaint.starts_with("t/0 is held by offset 50, which is parked until a restart"),
        "{complaint}"
    );
    assert!(complaint.contains(", key hash "), "{complaint}");
    assert!(complaint.ends_with(", 2 attempts failed: it never works"), "{complaint}");
    assert_eq!((judge.done_count(), running.counts().parked), (95, 1));
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(log.committed("g", "t", 0).unwrap().0, 50);
}

#[tokio::test(start_paused = true)]
async fn by_the_policy_stop_the_consumer_ends_with_the_records_place() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 20, 20);
    let mut running = Consumer::new(log.source("g", &["t"]))
        .retry(RetryPolicy { attempts_max: 1, exhausted: Exhausted::Stop, ..RetryPolicy::default() })
        .start_in_task(|record: Record| async move {
            if record.offset == 5 { Err("no such column") } else { Ok(()) }
        })
        .unwrap();
    let fault = running.ended().await.unwrap_err();
    assert_eq!(
        fault.chain(),
        "[W-RUNTIME-GIVEN-UP] failed to handle a record: t/0/5 after 1 attempts: no such column"
    );
    assert_eq!(log.committed("g", "t", 0).unwrap().0, 5);
}
