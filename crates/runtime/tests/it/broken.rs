//! What breaks inside: endless waits, and panics in what others wrote. A consumer that cannot go on says so, leaves its
//! group, and `stop()` returns.

use crate::judge::{fill, until};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use weir_model::{Fault, TopicName};
use weir_runtime::budget::Budget;
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::flow::Flow;
use weir_runtime::log::{Job, LogWriter, RecordBatch};
use weir_runtime::outcome::Outcome;
use weir_runtime::quota::{OverQuota, Quota};
use weir_runtime::record::{Place, Record};
use weir_runtime::shaping::Shaping;
use weir_runtime::source::{Commit, Event, LogSource};
use weir_runtime::testing::{MemoryLog, MemorySource};
use weir_runtime::wake::Wake;

#[tokio::test(start_paused = true)]
async fn a_wait_without_end_holds_its_key_and_a_stop_without_a_limit_waits_for_what_runs() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|record: Record| async move {
            match record.offset {
                3 => Outcome::retry_after(Duration::MAX),
                4 => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Outcome::Done
                }
                _ => Outcome::Done,
            }
        })
        .unwrap();
    until("the others are done", || running.counts().done == 8).await;
    let counts = running.stop(Duration::MAX).await.unwrap();
    assert_eq!((counts.done, counts.cancelled, log.committed("g", "t", 0).unwrap().0), (9, 0, 3));
}

/// Panics before it returns, then in its promise, then does its work.
struct Panicking {
    log: MemoryLog,
    calls: AtomicU32,
}

impl LogWriter for Panicking {
    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) {
            0 => panic!("no memory for the batch"),
            1 => Box::pin(async { panic!("no memory for the answer") }),
            _ => self.log.append(batch),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_whose_writer_panics_is_one_that_is_not_written_yet() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-dead", 1);
    fill(&log, 10, 1);
    let writer = Arc::new(Panicking { log: log.clone(), calls: AtomicU32::new(0) });
    let running = Consumer::new(log.source("g", &["t"]))
        .dead_letters(DeadLetters::new(writer, TopicName::new("t-dead").unwrap(), "g"))
        .start_in_task(|record: Record| async move {
            if record.offset == 2 { Outcome::dead_letter("poison") } else { Outcome::Done }
        })
        .unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 10)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.dead_letters, counts.dead_letters_failed, counts.done), (1, 2, 9));
    assert_eq!(log.records("t-dead").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_over_its_quota_whose_writer_panics_stays_pending_until_it_is_written() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-shaping", 1);
    fill(&log, 10, 1);
    let writer = Arc::new(Panicking { log: log.clone(), calls: AtomicU32::new(0) });
    let quota = Quota { burst: Duration::from_secs(1), ..Quota::new(2, OverQuota::Shape) };
    let running = Consumer::new(log.source("g", &["t"]))
        .shaping(Shaping::new(writer))
        .flow(Flow { key_quota: Some(quota), ..Flow::default() })
        .start_in_task(|_: Record| async {})
        .unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 10)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.shaped, counts.shaping_failed), (2, 8, 16));
    assert_eq!(log.records("t-shaping").len(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_while_it_is_dropped_holds_up_nothing() {
    struct Loud;
    impl Drop for Loud {
        fn drop(&mut self) {
            panic!("dropped too early");
        }
    }
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 3, 3);
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task(|_: Record| async {
            let _loud = Loud;
            std::future::pending::<()>().await;
        })
        .unwrap();
    until("they run", || running.counts().received == 3).await;
    let place = Place::new("t", 0);
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    assert_eq!(running.counts().cancelled, 3);
    running.stop(Duration::ZERO).await.unwrap();
}

/// Which part of the machinery a source breaks.
#[derive(Clone, Copy)]
enum Breaks {
    Poller,
    Shard,
}

/// A source that breaks something at the record of offset 5.
struct Breaking {
    inner: MemorySource,
    breaks: Breaks,
}

struct Bomb;

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        b"tick"
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("a record that must not be dropped");
        }
    }
}

impl LogSource for Breaking {
    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        self.inner.start(wake)
    }
    fn events(&mut self, events: &mut Vec<Event>) {
        self.inner.events(events);
    }
    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        self.inner.fetch(place, count_max, budget, records);
        if let Some(fifth) = records.iter_mut().find(|record| record.offset == 5) {
            match self.breaks {
                Breaks::Poller => panic!("a source that has lost its way"),
                Breaks::Shard => {
                    *fifth = fifth.clone().with_value(Some(Bytes::from_owner(Bomb)));
                }
            }
        }
    }
    fn commit(&mut self, commits: &[Commit]) {
        self.inner.commit(commits);
    }
    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        self.inner.commit_and_wait(commits, wait_max)
    }
    fn release(&mut self, places: &[Place]) {
        self.inner.release(places);
    }
    fn close(&mut self) {
        self.inner.close();
    }
}

fn breaking(log: &MemoryLog, breaks: Breaks) -> Consumer {
    Consumer::new(Breaking { inner: log.source("g", &["t"]), breaks }).shards(2)
}

#[tokio::test(start_paused = true)]
async fn a_consumer_whose_poller_or_shard_panics_ends_with_its_reason_and_leaves_the_group() {
    for (breaks, reason) in [
        (Breaks::Poller, "the poller panicked: a source that has lost its way"),
        (Breaks::Shard, "a shard panicked: a record that must not be dropped"),
    ] {
        let log = MemoryLog::with_topic("t", 1);
        fill(&log, 10, 10);
        let hangs = |record: Record| async move {
            if record.offset == 9 {
                std::future::pending::<()>().await;
            }
        };
        let mut running =
            breaking(&log, breaks).drain_max(Duration::from_secs(100)).start_in_task(hangs).unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(5), running.ended()).await;
        let fault = waited.unwrap().unwrap_err();
        assert_eq!(
            (fault.code(), fault.chain().ends_with(reason)),
            ("W-RUNTIME-ENDED", true),
            "{}",
            fault.chain()
        );
        assert!(!log.holds("g", &Place::new("t", 0)), "the group is left");
        assert!(log.committed("g", "t", 0).is_none_or(|(offset, _)| offset <= 9), "the last is not done");
        let complaints = running.health().complaints(Duration::from_secs(3600));
        assert!(
            complaints
                .iter()
                .any(|text| text.starts_with("the consumer has ended: ") && text.ends_with(reason)),
            "{complaints:?}"
        );
        let again = running.stop(Duration::from_secs(3600)).await.unwrap_err();
        assert_eq!(again.chain(), fault.chain());
    }
}

#[tokio::test]
async fn a_poller_with_a_thread_of_its_own_that_panics_ends_the_consumer_too() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let running =
        breaking(&log, Breaks::Poller).start(|_: Record| std::future::pending::<()>()).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(30), running.stop(Duration::ZERO)).await;
    let fault = waited.unwrap().unwrap_err();
    assert!(
        fault.chain().ends_with("the poller panicked: a source that has lost its way"),
        "{}",
        fault.chain()
    );
    assert!(!log.holds("g", &Place::new("t", 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_ever_for_a_handler_that_computes_without_an_await() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
    let held = std::sync::Mutex::new(held);
    let running = Consumer::new(log.source("g", &["t"]))
        .shards(1)
        .start(move |_: Record| {
            let _ = held.lock().unwrap().recv();
            async {}
        })
        .await
        .unwrap();
    let health = || running.health().partitions.first().and_then(|partition| partition.head);
    while health() != Some(0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let waited = tokio::time::timeout(Duration::from_secs(40), running.stop(Duration::ZERO)).await;
    let fault = waited.unwrap().unwrap_err();
    assert!(fault.chain().contains("without an .await"), "{}", fault.chain());
    drop(release);
}
