//! Batch handlers and completion from elsewhere.

use crate::judge::{Judge, fill, until, verdict};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_runtime::batch::{Batching, Full};
use weir_runtime::consumer::Consumer;
use weir_runtime::deferred;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::MemoryLog;

type Sizes = Arc<Mutex<Vec<usize>>>;

/// Runs `count` records over `key_count` keys through batches of a handler that takes 10 ms and fails each record whose
/// number ends with 7 once. The sizes of the batches, and the time that it took.
async fn batches(full: Full, count: usize, key_count: usize) -> (Vec<usize>, Duration) {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, count, key_count);
    let (judge, sizes) = (Judge::default(), Sizes::default());
    let started = Instant::now();
    let handler = {
        let (judge, sizes) = (judge.clone(), Arc::clone(&sizes));
        move |records: Vec<Record>| {
            let keys: BTreeSet<_> =
                records.iter().map(|record| (record.partition, record.key().map(<[u8]>::to_vec))).collect();
            assert_eq!(keys.len(), records.len(), "two of one key in one batch");
            sizes.lock().unwrap().push(records.len());
            let attempts: Vec<_> = records.iter().map(|record| judge.begin(record)).collect();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let ends = attempts.into_iter().zip(records).map(|(attempt, record)| {
                    if record.attempt == 1 && record.text().1.ends_with('7') {
                        return Outcome::retry_after(Duration::from_millis(1));
                    }
                    attempt.done();
                    Outcome::Done
                });
                ends.collect()
            }
        }
    };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(Batching::new(full, handler)).unwrap();
    until("all are done", || judge.done_count() == count).await;
    let took = started.elapsed();
    running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
    let sizes = sizes.lock().unwrap().clone();
    (sizes, took)
}

/// Decaton flushes at the arrival of the one after the last.
#[tokio::test(start_paused = true)]
async fn a_batch_is_full_at_exactly_its_count_and_several_are_under_way() {
    let hour = Duration::from_secs(3600);
    // None of the numbers up to 6 ends with 7: two batches of three, and no lingering.
    let (sizes, took) = batches(Full { count: 3, bytes: usize::MAX, linger: hour }, 6, 6).await;
    assert_eq!(sizes, [3, 3]);
    assert!(took < Duration::from_millis(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_does_not_fill_goes_after_its_linger_or_by_its_bytes() {
    let linger = Duration::from_millis(40);
    let (sizes, took) = batches(Full { count: 100, bytes: usize::MAX, linger }, 5, 5).await;
    assert_eq!(sizes, [5]);
    assert!((50..60).contains(&took.as_millis()), "{took:?}");
    // `k0` and `k0 0` are six bytes: the third record makes it 18.
    let (sizes, _) = batches(Full { count: 100, bytes: 17, linger: Duration::from_secs(3600) }, 6, 6).await;
    assert_eq!(sizes, [3, 3]);
}

#[tokio::test(start_paused = true)]
async fn batches_keep_each_keys_order_with_retries_of_single_records() {
    let full = Full { count: 20, bytes: usize::MAX, linger: Duration::from_millis(3) };
    let (sizes, _) = batches(full, 1000, 30).await;
    assert_eq!(sizes.iter().sum::<usize>(), 1100);
    assert!(sizes.iter().all(|size| *size <= 20), "{sizes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_batch_handler_that_says_too_little_or_panics_has_failed_the_rest() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let handler = |records: Vec<Record>| async move {
        let first = records.iter().all(|record| record.attempt == 1);
        assert!(!(first && records.len() < 5), "a small batch");
        let told = if first { 2 } else { records.len() };
        vec![Outcome::Done; told]
    };
    let full = Full { count: 6, bytes: usize::MAX, linger: Duration::from_millis(5) };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(Batching::new(full, handler)).unwrap();
    until("all are done", || running.counts().done == 10).await;
    // Six came, two of them were told; then four, and a panic.
    assert_eq!(running.counts().failed, 8);
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_others_of_a_batch_whose_leader_goes_away_come_again() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20, 20);
    let count =
        |partition| log.records("t").iter().filter(|record| record.partition == partition).count() as u64;
    assert!(count(0) > 0 && count(1) > 0);
    let calls = Sizes::default();
    let handler = {
        let calls = Arc::clone(&calls);
        move |records: Vec<Record>| {
            calls.lock().unwrap().push(records.len());
            let hangs = calls.lock().unwrap().len() == 1;
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                vec![Outcome::Done; records.len()]
            }
        }
    };
    let full = Full { count: 20, bytes: usize::MAX, linger: Duration::from_millis(5) };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(Batching::new(full, handler)).unwrap();
    until("all are in one batch that hangs", || *calls.lock().unwrap() == [20]).await;
    for partition in 0..2 {
        let place = Place::new("t", partition);
        log.revoke("g", std::slice::from_ref(&place));
        until("it is released", || !log.holds("g", &place)).await;
        log.assign("g", &[place]);
    }
    until("all are done", || running.counts().done == 20).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.failed, counts.retried), (0, 0), "nothing was wrong with them");
    let committed: i64 = (0..2).map(|partition| log.committed("g", "t", partition).unwrap().0).sum();
    assert_eq!(committed, 20);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_partition_is_taken_away_leaves_the_open_batch_and_the_others_go() {
    let linger = Duration::from_secs(60);
    for leader in 0..2 {
        let log = MemoryLog::with_topic("t", 2);
        let calls: Arc<Mutex<Vec<Vec<i32>>>> = Arc::default();
        let handler = {
            let calls = Arc::clone(&calls);
            move |records: Vec<Record>| {
                calls.lock().unwrap().push(records.iter().map(|record| record.partition).collect());
                async move { vec![Outcome::Done; records.len()] }
            }
        };
        let full = Full { count: 20, bytes: usize::MAX, linger };
        let consumer = Consumer::new(log.source("g", &["t"])).drain_max(Duration::from_secs(1));
        let running = consumer.start_in_task(Batching::new(full, handler)).unwrap();
        for partition in [leader, 1 - leader] {
            let before = running.counts().received;
            put_one(&log, partition);
            until("it is in the batch", || running.counts().received == before + 1).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (place, began) = (Place::new("t", 1), Instant::now());
        log.revoke("g", std::slice::from_ref(&place));
        until("it is released", || !log.holds("g", &place)).await;
        assert!(began.elapsed() < Duration::from_secs(2) && calls.lock().unwrap().is_empty());
        // Whoever led it: the record of the other partition goes, alone.
        until("a call is made", || !calls.lock().unwrap().is_empty()).await;
        assert!(began.elapsed() <= linger * 2, "{:?}", began.elapsed());
        assert_eq!(*calls.lock().unwrap(), [[0]]);
        let counts = running.stop(Duration::ZERO).await.unwrap();
        assert_eq!((counts.done, counts.failed, counts.cancelled), (1, 0, 1));
        assert_eq!(log.committed("g", "t", 1).map_or(0, |(offset, _)| offset), 0);
    }
}

/// Puts one record into this partition.
fn put_one(log: &MemoryLog, partition: i32) {
    let is_there = |key: &String| {
        let probe = MemoryLog::with_topic("t", 2);
        probe.put("t", Record::new("t", "").with_key(key.clone()));
        probe.records("t")[0].partition == partition
    };
    let key = (0..).map(|number| format!("k{number}")).find(is_there).unwrap();
    log.put("t", Record::new("t", "v").with_key(key));
}

/// Decaton's deferred completion leaks when the user forgets it. In real time: a paused clock would not wait for threads.
#[tokio::test]
async fn completion_from_another_thread_counts_and_a_forgotten_one_is_a_failure() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 100);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            let (token, completion) = deferred::new();
            let is_forgotten = record.offset % 10 == 0 && record.attempt == 1;
            std::thread::spawn(move || {
                if !is_forgotten {
                    token.finish(())
                }
            });
            completion.await
        })
        .unwrap();
    until("all are done", || running.counts().done == 100).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.failed), (100, 10));
}
