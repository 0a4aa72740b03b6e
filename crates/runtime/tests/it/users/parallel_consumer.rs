//! Parallel Consumer's users (github.com/confluentinc/parallel-consumer/issues): records that fail, the offset map,
//! how much is taken.

use super::committed;
use crate::judge::{Judge, attempts, fill, until, verdict};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::flow::Flow;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Header, Record};
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::testing::{CommitFault, MemoryLog};

fn attempts_of(exhausted: Exhausted) -> RetryPolicy {
    RetryPolicy { attempts_max: 4, exhausted, ..RetryPolicy::default() }
}

/// A consumer of a log with two records of one key, the first of which never works.
fn with_one_that_never_works(
    log: &MemoryLog,
    judge: &Judge,
    consumer: Consumer,
) -> weir_runtime::consumer::Running {
    fill(log, 2, 1);
    let judge = judge.clone();
    let handler = move |record: Record| {
        let attempt = judge.begin(&record);
        async move {
            if record.offset == 0 {
                return Err("no such column");
            }
            attempt.done();
            Ok(())
        }
    };
    consumer.start_in_task(handler).unwrap()
}

/// Also 310 and 366: no end of attempts, no dead letters.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_196_attempts_end_and_the_record_is_a_dead_letter() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-dead", 1);
    let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g");
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).retry(attempts_of(Exhausted::DeadLetter));
    let running = with_one_that_never_works(&log, &judge, consumer.dead_letters(letters));
    committed(&log, 2).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((attempts(&judge, 0), attempts(&judge, 1)), (4, 1));
    let letters = log.records("t-dead");
    assert_eq!(letters.len(), 1);
    let told = [dead_letter::CAUSE, dead_letter::ATTEMPTS, dead_letter::PLACE];
    let told = told.map(|name| letters[0].header(name));
    assert_eq!(told, ["no such column", "4", "t/0/0"].map(|text| Some(text.as_bytes())));
}

/// "Retry max reached: skip, die or DLQ?"
#[tokio::test(start_paused = true)]
async fn parallel_consumer_65_when_attempts_end_the_policy_parks_or_stops() {
    let log = MemoryLog::with_topic("t", 1);
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).retry(attempts_of(Exhausted::Park));
    let running = with_one_that_never_works(&log, &judge, consumer);
    until("it is parked", || running.counts().parked == 1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((attempts(&judge, 0), attempts(&judge, 1)), (4, 0));
    running.stop(Duration::ZERO).await.unwrap();
    assert!(log.committed("g", "t", 0).is_none_or(|(offset, _)| offset == 0));

    let log = MemoryLog::with_topic("t", 1);
    let consumer = Consumer::new(log.source("g", &["t"])).retry(attempts_of(Exhausted::Stop));
    let mut running = with_one_that_never_works(&log, &Judge::default(), consumer);
    let fault = running.ended().await.unwrap_err();
    assert!(fault.chain().ends_with("t/0/0 after 4 attempts: no such column"), "{}", fault.chain());
}

/// 500 records a second made a map of 7.8 kB, and consumption stopped.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_647_the_offset_map_does_not_overflow() {
    const COUNT: i64 = 16_000;
    let log = MemoryLog::with_topic("t", 1);
    let count = usize::try_from(COUNT).unwrap();
    fill(&log, count, count);
    // By no pattern, so that neither bits nor runs are short.
    let is_held = |offset: i64| offset.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64.cast_signed()) >> 61 == 0;
    let held = (0..COUNT).filter(|offset| is_held(*offset)).count();
    assert!(held > count / 10);
    let judge = Judge::default();
    let start = |is_open: bool| {
        let judge = judge.clone();
        let handler = move |record: Record| {
            let attempt = judge.begin(&record);
            async move {
                if !is_open && is_held(record.offset) {
                    std::future::pending::<()>().await;
                }
                attempt.done();
            }
        };
        let consumer = Consumer::new(log.source("g", &["t"])).concurrency(count);
        consumer.metadata_bytes_max(1000).start_in_task(handler).unwrap()
    };
    let running = start(false);
    until("all others are done", || judge.done_count() == count - held).await;
    running.stop(Duration::ZERO).await.unwrap();
    let (_, metadata) = log.committed("g", "t", 0).unwrap();
    assert!((900..=1000).contains(&metadata.len()), "{} bytes", metadata.len());
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
    // What did not fit is repeated, and nothing is lost.
    let running = start(true);
    committed(&log, COUNT).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((judge.done_count(), counts.received), (count, counts.spared + counts.done));
    assert!(counts.spared > 2000 && judge.repeated_count() > 0, "{counts:?}");
}

/// It threw the whole map away when it was a little too long.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_831_of_a_map_that_is_too_long_the_beginning_is_kept() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 4000, 4000);
    let judge = Judge::default();
    let start = |bytes_max: usize, holds: bool| {
        let judge = judge.clone();
        let handler = move |record: Record| {
            let attempt = judge.begin(&record);
            async move {
                if holds && record.offset % 100 == 0 {
                    std::future::pending::<()>().await;
                }
                attempt.done();
            }
        };
        Consumer::new(log.source("g", &["t"])).metadata_bytes_max(bytes_max).start_in_task(handler).unwrap()
    };
    let running = start(43, true);
    until("all others are done", || judge.done_count() == 3960).await;
    running.stop(Duration::ZERO).await.unwrap();
    let running = start(4000, false);
    committed(&log, 4000).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    // Thirty bytes, two for each hundred.
    assert_eq!((counts.spared, judge.repeated_count()), (15 * 99, 25 * 99));
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_415_one_record_that_is_stuck_makes_no_long_map() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 16_000, 16_000);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            if record.offset == 5 {
                std::future::pending::<()>().await;
            }
        })
        .unwrap();
    until("all others are done", || running.counts().done == 15_999).await;
    running.stop(Duration::ZERO).await.unwrap();
    let (offset, metadata) = log.committed("g", "t", 0).unwrap();
    assert!(offset == 5 && metadata.len() < 12, "{offset} with {metadata:?}");
}

/// "Max loading factor steps reached": what it had taken grew with how slow the handler was.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_402_what_is_taken_is_bounded_by_the_window_however_slow_the_handler() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 1000, 10);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(64)
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    attempt.done();
                }
            }
        })
        .unwrap();
    while judge.done_count() < 1000 {
        let counts = running.counts();
        let taken = counts.received - counts.done;
        assert!(taken <= 2 * 64, "{taken} records of windows of 64");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_484_a_partition_that_stands_still_says_for_what() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 20, 20);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            if record.offset == 7 { Err("the table is read only") } else { Ok(()) }
        })
        .unwrap();
    until("the rest is done", || running.counts().done == 19).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let health = running.health();
    let one = &health.partitions[0];
    assert_eq!((one.committed, one.head, one.failing, one.pending), (Some(7), Some(7), 1, 13));
    assert!(one.head_attempts_failed > 3 && one.head_for > Duration::from_secs(25), "{one:?}");
    assert_eq!(one.head_reason.as_deref(), Some("the table is read only"));
    let complaints = health.complaints(Duration::from_secs(20));
    assert!(complaints[0].starts_with("t/0 has waited for offset 7"), "{complaints:?}");
    running.stop(Duration::ZERO).await.unwrap();
}

/// Also 896 and 908.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_299_ten_thousand_records_wait_at_once_without_a_thread_each() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10_000, 10_000);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let running = Consumer::new(log.source("g", &["t"]))
        .concurrency(10_000)
        .start_in_task({
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            move |_: Record| {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let now = Arc::clone(&now);
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    now.fetch_sub(1, Ordering::Relaxed);
                }
            }
        })
        .unwrap();
    until("all are done", || running.counts().done == 10_000).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(most.load(Ordering::Relaxed), 10_000);
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_540_back_pressure_is_of_one_partition_not_of_the_assignment() {
    let log = MemoryLog::with_topic("t", 4);
    fill(&log, 4000, 400);
    let is_open = Arc::new(AtomicBool::new(false));
    let judge = Judge::default();
    // Attempts that hang keep their permits: more of them than the window of one partition holds.
    let running = Consumer::new(log.source("g", &["t"]))
        .concurrency(256)
        .window_records(64)
        .start_in_task({
            let (judge, is_open) = (judge.clone(), Arc::clone(&is_open));
            move |record: Record| {
                let attempt = judge.begin(&record);
                let is_open = Arc::clone(&is_open);
                async move {
                    while record.partition == 2 && !is_open.load(Ordering::Relaxed) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    attempt.done();
                }
            }
        })
        .unwrap();
    let of_two = log.records("t").iter().filter(|record| record.partition == 2).count();
    let started = Instant::now();
    until("the other three are done", || judge.done_count() == 4000 - of_two).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    is_open.store(true, Ordering::Relaxed);
    until("all are done", || judge.done_count() == 4000).await;
    running.stop(Duration::ZERO).await.unwrap();
}

/// Also 24.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_766_a_rate_limit_holds() {
    let log = MemoryLog::with_topic("t", 3);
    fill(&log, 3000, 300);
    let running = Consumer::new(log.source("g", &["t"]))
        .flow(Flow { rate: Some(100), ..Flow::default() })
        .start_in_task(|_: Record| async {})
        .unwrap();
    let started = Instant::now();
    while running.counts().done < 2000 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let most = 100.0 * (started.elapsed().as_secs_f64() + 1.0) + 1.0;
        assert!((running.counts().done as f64) < most, "{:?} in {:?}", running.counts(), started.elapsed());
    }
    assert!(started.elapsed() < Duration::from_secs(21), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

/// A message that is to be handled at a time waits for it, holds its key, and nothing else.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_48_a_record_with_a_time_waits_for_it_and_holds_no_worker() {
    let log = MemoryLog::with_topic("t", 1);
    let begun = Instant::now();
    for number in 0..200u64 {
        let due = Header { name: "due-ms".into(), value: Some((number * 50).to_string().into()) };
        let record = Record::new("t", number.to_string()).with_key(number.to_string());
        log.put("t", record.with_headers(vec![due]));
    }
    fill(&log, 1000, 100);
    let late: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .shards(1)
        .start_in_task({
            let late = Arc::clone(&late);
            move |record: Record| {
                let due = record.header("due-ms").and_then(|due| std::str::from_utf8(due).ok()?.parse().ok());
                let (late, passed) = (Arc::clone(&late), begun.elapsed());
                async move {
                    let Some(due) = due.map(Duration::from_millis) else { return Outcome::Done };
                    if passed < due {
                        return Outcome::retry_after(due - passed);
                    }
                    late.lock().unwrap().push(passed - due);
                    Outcome::Done
                }
            }
        })
        .unwrap();
    until("those without a time are done", || running.counts().done >= 1000).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    committed(&log, 1200).await;
    running.stop(Duration::ZERO).await.unwrap();
    let late = late.lock().unwrap();
    assert!(late.len() == 200 && late.iter().all(|late| *late < Duration::from_millis(20)), "{late:?}");
}

/// A circuit breaker: what sees that its target is down takes no more until it is back.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_110_a_consumer_is_paused_while_its_target_is_down() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 5000, 5000);
    let is_down = Arc::new(AtomicBool::new(true));
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(256)
        .retry(RetryPolicy { longest: Duration::from_secs(5), ..RetryPolicy::default() })
        .start_in_task({
            let is_down = Arc::clone(&is_down);
            move |_: Record| {
                let is_down = is_down.load(Ordering::Relaxed);
                async move { if is_down { Err("down") } else { Ok(()) } }
            }
        })
        .unwrap();
    let steering = running.steering();
    until("some have failed", || running.counts().failed > 0).await;
    steering.flow(Flow { is_paused: true, ..Flow::default() }).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let received = running.counts().received;
    assert!(received < 5000, "{received}");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!((running.counts().received, running.counts().done), (received, 0));
    is_down.store(false, Ordering::Relaxed);
    steering.flow(Flow::default()).unwrap();
    committed(&log, 5000).await;
    assert_eq!(running.stop(Duration::ZERO).await.unwrap().done, 5000);
}

/// Its log line about a failed commit said neither topic nor offset.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_629_a_commit_that_fails_is_named_with_its_partition_and_offset() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    log.fail_commit(CommitFault::Refused);
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(|_: Record| async {}).unwrap();
    committed(&log, 10).await;
    assert_eq!(running.counts().commits_failed, 1);
    running.stop(Duration::ZERO).await.unwrap();
    let lines = lines.0.lock().unwrap();
    let told = lines.iter().find(|line| line.contains("a commit failed")).unwrap();
    assert!(told.contains("t/0 at 10"), "{told}");
}

/// The lines that the library logs, as text.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
