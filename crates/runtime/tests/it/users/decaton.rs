//! Decaton's users (github.com/line/decaton/issues).

use super::{committed, goes};
use crate::judge::{Judge, attempts, fill, until, verdict};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_runtime::batch::{Batching, Full};
use weir_runtime::consumer::Consumer;
use weir_runtime::deferred;
use weir_runtime::flow::Flow;
use weir_runtime::handler::Handler;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::MemoryLog;

/// Also 177 and 192. What bursts past the window is the quota's matter.
#[tokio::test(start_paused = true)]
async fn decaton_167_a_bursting_key_does_not_hurt_others() {
    let log = MemoryLog::with_topic("t", 1);
    for number in 0..5000 {
        log.put("t", Record::new("t", format!("burst {number}")).with_key("burst"));
    }
    fill(&log, 50, 50);
    let judge = Judge::default();
    let started = Instant::now();
    let running = Consumer::new(log.source("g", &["t"]))
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
    let others = || (5000..5050).filter(|offset| judge.is_done(&Place::new("t", 0), *offset)).count();
    until("the others are done", || others() == 50).await;
    let took = started.elapsed();
    assert!(took < Duration::from_millis(100), "{took:?}, with {} of the burst", judge.done_count() - 50);
    running.stop(Duration::ZERO).await.unwrap();
}

/// Also 193.
#[tokio::test(start_paused = true)]
async fn decaton_119_a_long_task_does_not_block_the_rebalance() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20, 20);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .drain_max(Duration::from_millis(700))
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    if record.partition == 0 && record.offset == 0 {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    }
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("all but the long one are done", || judge.done_count() == 19).await;
    // The one that it holds goes after the drain limit, the other at once meanwhile.
    log.revoke("g", &[Place::new("t", 0)]);
    assert!(goes(&log, &Place::new("t", 1)).await < Duration::from_millis(20));
    assert!(log.holds("g", &Place::new("t", 0)));
    let started = Instant::now();
    until("the other is released", || !log.holds("g", &Place::new("t", 0))).await;
    assert!(started.elapsed() < Duration::from_millis(720), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn decaton_172_a_change_of_settings_drains_and_stops_nothing() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20, 20);
    let judge = Judge::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let judge = judge.clone();
            move |record: Record| {
                let attempt = judge.begin(&record);
                async move {
                    if record.offset == 0 {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                    attempt.done();
                }
            }
        })
        .unwrap();
    until("two run and the rest is done", || judge.done_count() == 18).await;
    for rate in 1..20 {
        running.flow(Flow { rate_per_partition: Some(rate * 100), ..Flow::default() }).unwrap();
        let before = judge.done_count();
        // Keys whose records are not held by the two that run.
        for number in 0..4 {
            let key = format!("new {rate} {number}");
            log.put("t", Record::new("t", format!("{key} 0")).with_key(key));
        }
        let started = Instant::now();
        until("new ones are done", || judge.done_count() == before + 4).await;
        assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
    }
    until("all are done", || judge.done_count() == 20 + 19 * 4).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.cancelled, judge.repeated_count()), (0, 0));
}

/// Also 139 and 150; its own batches go when the one after the last has come.
#[tokio::test(start_paused = true)]
async fn decaton_128_batches_are_built_in_and_go_when_they_are_full() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 30, 30);
    let sizes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let full = Full { count: 10, bytes: usize::MAX, linger: Duration::from_secs(3600) };
    let handler = Batching::new(full, {
        let sizes = Arc::clone(&sizes);
        move |records: Vec<Record>| {
            sizes.lock().unwrap().push(records.len());
            async move { vec![Outcome::Done; records.len()] }
        }
    });
    let started = Instant::now();
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(handler).unwrap();
    until("all are done", || running.counts().done == 30).await;
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(*sizes.lock().unwrap(), [10, 10, 10]);
}

#[tokio::test(start_paused = true)]
async fn decaton_199_what_is_left_of_a_bulk_is_tried_again_instead_of_the_whole() {
    let log = MemoryLog::with_topic("t", 1);
    for key in ["a", "b"] {
        log.put("t", Record::new("t", format!("{key}1 {key}2 {key}3")).with_key(key));
    }
    let written: Arc<Mutex<Vec<String>>> = Arc::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let written = Arc::clone(&written);
            move |record: Record| {
                // One row of a bulk at a time is all that the table takes.
                let value = record.text().1;
                let (first, rest) = value.split_once(' ').unwrap_or((&value, ""));
                written.lock().unwrap().push(first.to_owned());
                let outcome =
                    if rest.is_empty() { Outcome::Done } else { Outcome::retry_with(rest.to_owned()) };
                async move { outcome }
            }
        })
        .unwrap();
    until("both are done", || running.counts().done == 2).await;
    running.stop(Duration::ZERO).await.unwrap();
    let mut written = written.lock().unwrap().clone();
    written.sort();
    assert_eq!(written, ["a1", "a2", "a3", "b1", "b2", "b3"]);
}

/// A handler that decodes for another.
struct Decoding<H>(H);

impl<H: Handler> Handler for Decoding<H> {
    async fn handle(&self, record: Record) -> Outcome {
        let value = record.value().unwrap_or_default();
        let Some(rest) = value.strip_prefix(b"wrapped ") else {
            return Outcome::skip("its value is not what was sent");
        };
        let value = Some(bytes::Bytes::copy_from_slice(rest));
        let record = record.with_value(value);
        self.0.handle(record).await
    }
}

/// Its retried tasks were wrapped, and a custom extractor dropped them.
#[tokio::test(start_paused = true)]
async fn decaton_123_a_handler_that_decodes_for_another_gets_the_same_record_again() {
    let log = MemoryLog::with_topic("t", 1);
    log.put("t", Record::new("t", "wrapped hello").with_key("k"));
    let seen: Arc<Mutex<Vec<(u32, String)>>> = Arc::default();
    let inner = {
        let seen = Arc::clone(&seen);
        move |record: Record| {
            seen.lock().unwrap().push((record.attempt, record.text().1));
            async move { if record.attempt < 3 { Err("not yet") } else { Ok(()) } }
        }
    };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(Decoding(inner)).unwrap();
    committed(&log, 1).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.skipped), (1, 0));
    assert_eq!(*seen.lock().unwrap(), [1, 2, 3].map(|attempt| (attempt, "hello".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn decaton_149_back_off_grows_and_the_handler_sees_which_attempt_it_is() {
    use weir_runtime::retry::RetryPolicy;
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let seen: Arc<Mutex<Vec<(u32, Instant)>>> = Arc::default();
    let policy = RetryPolicy { jitter: 0.0, longest: Duration::from_secs(1), ..RetryPolicy::default() };
    let running = Consumer::new(log.source("g", &["t"]))
        .retry(policy)
        .start_in_task({
            let seen = Arc::clone(&seen);
            move |record: Record| {
                seen.lock().unwrap().push((record.attempt, Instant::now()));
                async move { if record.attempt < 7 { Err("down") } else { Ok(()) } }
            }
        })
        .unwrap();
    until("it is done", || running.counts().done == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.iter().map(|one| one.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    let waits: Vec<u128> = seen.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis()).collect();
    assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
}

#[tokio::test(start_paused = true)]
async fn decaton_26_a_stop_does_not_run_early_what_waits_for_its_time() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 2, 1);
    let judge = Judge::default();
    let start = || {
        let judge = judge.clone();
        let handler = move |record: Record| {
            let attempt = judge.begin(&record);
            async move {
                if record.attempt == 1 && record.offset == 0 {
                    return Outcome::retry_after(Duration::from_secs(100));
                }
                attempt.done();
                Outcome::Done
            }
        };
        Consumer::new(log.source("g", &["t"])).start_in_task(handler).unwrap()
    };
    let running = start();
    until("it has asked for its time", || running.counts().retried == 1).await;
    let started = Instant::now();
    running.stop(Duration::from_secs(10)).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_millis(50),
        "a stop waited for a timer: {:?}",
        started.elapsed()
    );
    assert_eq!((attempts(&judge, 0), attempts(&judge, 1), judge.done_count()), (1, 0, 0));
    // Nothing of it is committed, so it is there for the next.
    let running = start();
    until("both are done", || judge.done_count() == 2).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

/// A thread for each of its units is 20 of 50 partitions' 1000.
#[tokio::test(start_paused = true)]
async fn decaton_224_slow_records_of_many_partitions_need_no_thread_each() {
    let log = MemoryLog::with_topic("t", 50);
    fill(&log, 5000, 5000);
    let threads = || std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    let (before, started) = (threads(), Instant::now());
    let running = Consumer::new(log.source("g", &["t"]))
        .concurrency(5000)
        .start_in_task(|_: Record| tokio::time::sleep(Duration::from_secs(5)))
        .unwrap();
    until("all run", || running.counts().received == 5000).await;
    // Other tests of this process may start some meanwhile.
    assert!(threads() < before + 100, "{} threads", threads());
    until("all are done", || running.counts().done == 5000).await;
    assert!(started.elapsed() < Duration::from_millis(5300), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn decaton_231_a_completion_that_is_forgotten_is_a_failure_and_leaks_nothing() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 500, 500);
    // More are forgotten than the window has room for.
    let running = Consumer::new(log.source("g", &["t"]))
        .window_records(64)
        .start_in_task(|record: Record| async move {
            let (token, completion) = deferred::new();
            if record.attempt == 1 && record.offset % 2 == 0 {
                drop(token);
            } else {
                tokio::spawn(async move { token.finish(()) });
            }
            completion.await
        })
        .unwrap();
    committed(&log, 500).await;
    let bytes = running.bytes_in_flight();
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.failed, bytes), (500, 250, 0));
}
