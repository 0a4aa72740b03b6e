//! Handlers that compute: on threads of their own.

use crate::judge::{Judge, fill, verdict};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use weir_runtime::blocking::Blocking;
use weir_runtime::consumer::Consumer;
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

/// Waits in real time: what blocks a thread knows no other.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(30), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(waited.await.is_ok(), "half a minute has passed without: {what}");
}

#[tokio::test]
async fn a_function_that_does_not_return_holds_its_key_and_nobody_else_even_with_one_shard() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let (release, is_released) = sync_channel::<()>(0);
    let is_released = std::sync::Mutex::new(is_released);
    let handler = {
        let judge = judge.clone();
        Blocking::on_threads(NonZeroUsize::new(4).unwrap(), move |record: Record| {
            let attempt = judge.begin(&record);
            if record.offset == 0 {
                is_released.lock().unwrap().recv().unwrap();
            }
            attempt.done();
        })
    };
    let running = Consumer::new(log.source("g", &["t"])).shards(1).start_in_task(handler).unwrap();
    // All but the ten of the key that waits.
    until("the others are done", || judge.done_count() == 90).await;
    release.send(()).unwrap();
    until("all are done", || running.counts().done == 100).await;
    running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

#[tokio::test]
async fn no_more_of_them_compute_at_once_than_there_are_threads_and_a_panic_is_a_failure() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 50, 50);
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let most = Arc::clone(&most);
        Blocking::on_threads(NonZeroUsize::new(3).unwrap(), move |record: Record| {
            let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            std::hint::black_box((0..20_000u64).fold(0, |sum, number| sum ^ number.wrapping_mul(31)));
            at_once.fetch_sub(1, Ordering::SeqCst);
            assert!(record.offset != 7 || record.attempt > 1, "by chance");
        })
    };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(handler).unwrap();
    until("all are done", || running.counts().done == 50).await;
    let counts = running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!((counts.done, counts.failed), (50, 1));
    assert!((1..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
}
