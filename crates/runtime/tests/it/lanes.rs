//! Order and seriality per key, and what flows beside a key that waits.

use crate::judge::{Judge, fill, until, verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use weir_runtime::budget::Budget;
use weir_runtime::consumer::Consumer;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

/// Resolves a future without any runtime: this thread sleeps until it is woken.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn records_of_one_key_come_in_order_and_one_at_a_time_and_all_of_them_come() {
    let log = MemoryLog::with_topic("t", 4);
    fill(&log, 5000, 37);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .shards(3)
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    // Some at once, some later: both ways meet in one lane.
                    if record.offset % 3 != 0 {
                        tokio::time::sleep(Duration::from_millis(record.offset.unsigned_abs() % 7)).await;
                    }
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 5000).await;
    let counts = running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!((counts.received, counts.done, counts.failed), (5000, 5000, 0));
    assert_eq!(verdict(&judge, &log, 4), Vec::<String>::new());
    let committed: i64 = (0..4).map(|partition| log.committed("g", "t", partition).unwrap().0).sum();
    assert_eq!(committed, 5000);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_keys_of_ten_milliseconds_each_take_about_ten_milliseconds() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10_000, 10_000);
    let judge = Judge::default();
    let started = Instant::now();
    let running = Consumer::new(log.source("g", &["t"]))
        .concurrency(10_000)
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 10_000).await;
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_wait_for_nobody() {
    let log = MemoryLog::with_topic("t", 1);
    for number in 0..1000 {
        log.put("t", Record::new("t", format!("n{number} {number}")));
    }
    let judge = Judge::default();
    let started = Instant::now();
    let running = Consumer::new(log.source("g", &["t"]))
        .concurrency(10_000)
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
    until("all are done", || judge.done_count() == 1000).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_stage_is_counted_in_the_registry() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            if record.attempt == 1 && record.offset == 3 { Outcome::failed("once") } else { Outcome::Done }
        })
        .unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    running.register(&mut registry, "orders");
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 100)).await;
    until("that is known", || running.health().partitions[0].committed == Some(100)).await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "consumer_records_received_total{subscription=\"orders\"} 100",
        "consumer_records_done_total{subscription=\"orders\"} 100",
        "consumer_attempts_failed_total{subscription=\"orders\"} 1",
        "consumer_attempts_retried_total{subscription=\"orders\"} 1",
        "consumer_bytes_in_flight{subscription=\"orders\"} 0.0",
        "consumer_partition_pending{subscription=\"orders\",topic=\"t\",partition=\"0\"} 0.0",
        "consumer_partition_committed{subscription=\"orders\",topic=\"t\",partition=\"0\"} 100.0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    running.stop(Duration::ZERO).await.unwrap();
}

/// Parallel Consumer stops the whole assignment here; Decaton the partition's threads.
#[tokio::test(start_paused = true)]
async fn a_key_that_hangs_holds_its_own_partitions_window_and_nothing_else() {
    let log = MemoryLog::with_topic("t", 2);
    log.put("t", Record::new("t", "stuck 0").with_key("stuck"));
    let stuck = log.records("t")[0].partition;
    fill(&log, 2000, 50);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(128)
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    if record.text().0 == "stuck" {
                        std::future::pending::<()>().await;
                    }
                    attempt.done();
                }
            }
        })
        .unwrap();
    let other = log.records("t").iter().filter(|record| record.partition != stuck).count();
    // The other partition ends; of the stuck one a window's length was done.
    until("the other partition and a window are done", || judge.done_count() == other + 127).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(judge.done_count(), other + 127);
    let health = running.health();
    let stuck_one = health.partitions.iter().find(|partition| partition.place.partition == stuck).unwrap();
    assert_eq!((stuck_one.head, stuck_one.pending), (Some(0), 128));
    assert!(stuck_one.head_for >= Duration::from_secs(4));
    let complaint = health.complaints(Duration::from_secs(3));
    assert_eq!(complaint.len(), 1, "{complaint:?}");
    assert!(complaint[0].starts_with(&format!("t/{stuck} has waited for offset 0 for ")), "{complaint:?}");
    assert!(
        complaint[0].contains(", key hash ") && complaint[0].ends_with(", 0 attempts failed"),
        "{complaint:?}"
    );
    let (offset, metadata) = log.committed("g", "t", stuck).unwrap();
    assert_eq!((offset, metadata.is_empty()), (0, false));
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn bytes_in_flight_stay_within_the_budget_and_one_batch() {
    let log = MemoryLog::with_topic("t", 3);
    for number in 0..600 {
        let value = format!("k{number} {}", "x".repeat(10_000));
        log.put("t", Record::new("t", value).with_key(format!("k{number}")));
    }
    let judge = Judge::default();
    let budget = Budget::new(200_000);
    let running = Consumer::new(log.source("g", &["t"]))
        .budget(budget.clone())
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    drop(record);
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 600).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn holes_in_the_log_cost_nothing_and_are_committed_over() {
    let log = MemoryLog::with_topic("t", 1);
    for number in 0..500 {
        log.put("t", Record::new("t", format!("k{number} {number}")).with_key(format!("k{number}")));
        (0..number % 4).for_each(|_| log.put_hole("t", 0));
    }
    let last = log.records("t").last().unwrap().offset;
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(64)
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                judge.begin(&record).done();
                async {}
            }
        })
        .unwrap();
    until("all are done", || judge.done_count() == 500).await;
    running.stop(Duration::ZERO).await.unwrap();
    // The three holes after the last record are committed over, too.
    assert_eq!(log.committed("g", "t", 0), Some((last + 1 + 3, String::new())));
}

#[tokio::test(start_paused = true)]
async fn a_skipped_record_is_counted_apart_and_counts_as_finished() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            if record.offset % 2 == 0 { Outcome::skip("even") } else { Outcome::Done }
        })
        .unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 10)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.skipped), (5, 5));
}

#[test]
fn without_a_runtime_of_the_callers_the_library_brings_its_own() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let handler = {
        let judge = judge.clone();
        move |record: Record| {
            let attempt = judge.begin(&record);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                attempt.done();
            }
        }
    };
    let consumer = Consumer::new(log.source("g", &["t"])).commit_every(Duration::from_millis(20));
    let running = block_on(consumer.start(handler)).unwrap();
    let started = std::time::Instant::now();
    while judge.done_count() < 100 {
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", running.counts());
        std::thread::yield_now();
    }
    let counts = block_on(running.stop(Duration::from_secs(5))).unwrap();
    assert_eq!(counts.done, 100);
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
}

fn compute(time: Duration) {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A thread of tokio looks at its timers after 61 turns of its tasks, so a shard's turn must be short.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn while_handlers_compute_the_timers_of_their_thread_go_on() {
    const RECORDS: usize = 32_000;
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, RECORDS, RECORDS);
    let ticks = Arc::new(AtomicU32::new(0));
    tokio::spawn({
        let ticks = Arc::clone(&ticks);
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                ticks.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let running = Consumer::new(log.source("g", &["t"]))
        .shards(1)
        .start(async |_: Record| compute(Duration::from_micros(50)))
        .await
        .unwrap();
    let before = ticks.load(Ordering::Relaxed);
    // This task has a thread of its own, which is asleep.
    while running.counts().done < RECORDS as u64 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let ticks = ticks.load(Ordering::Relaxed) - before;
    assert!(ticks >= 8, "{ticks} ticks of a millisecond in 1.6 s of computing");
    running.stop(Duration::from_secs(5)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_has_not_begun_when_its_partition_goes_away_does_not_begin_any_more() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 16_000, 16_000);
    let running = Consumer::new(log.source("g", &["t"]))
        .shards(1)
        .start(async |_: Record| compute(Duration::from_micros(100)))
        .await
        .unwrap();
    // All of it is with the shard, and would take 1.6 s.
    while running.counts().received < 16_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let before = running.counts().done;
    let after = running.stop(Duration::from_secs(5)).await.unwrap().done;
    assert!(after - before < 4000, "{before} were done, and then {after}");
    assert_eq!(log.committed("g", "t", 0).unwrap().0.unsigned_abs(), after);
}
