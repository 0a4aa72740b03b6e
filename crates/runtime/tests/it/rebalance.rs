//! Partitions that come and go, commits that fail, restarts.

use crate::judge::{Judge, attempts, fill, until, verdict};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::record::{Place, Record};
use weir_runtime::source::{Commit, Event, LogSource};
use weir_runtime::testing::{CommitFault, MemoryLog, MemorySource};
use weir_runtime::wake::Wake;

/// A handler whose records with an offset that `is_slow` says take `time`, and all others none.
fn start(
    log: &MemoryLog,
    judge: &Judge,
    time: Duration,
    is_slow: impl Fn(i64) -> bool + Send + Sync + 'static,
) -> Running {
    let judge = judge.clone();
    Consumer::new(log.source("g", &["t"]))
        .start_in_task(move |record: Record| {
            let attempt = judge.begin(&record);
            let time = if is_slow(record.offset) { time } else { Duration::ZERO };
            async move {
                if !time.is_zero() {
                    tokio::time::sleep(time).await;
                }
                attempt.done();
            }
        })
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_waits_for_what_runs_and_ends_early() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_millis(300), |offset| offset == 4);
    until("the rest is done", || judge.done_count() == 9).await;
    let (place, revoked) = (Place::new("t", 0), Instant::now());
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    let took = revoked.elapsed();
    assert!(took < Duration::from_millis(400), "{took:?}");
    assert_eq!(log.committed("g", "t", 0), Some((10, String::new())));
    running.stop(Duration::ZERO).await.unwrap();
}

/// Decaton issue 119: one long task holds the rebalance of the whole group.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_outlasts_the_drain_limit_is_dropped_and_what_is_done_past_it_is_not_repeated() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_secs(3000), |offset| offset == 4);
    until("the rest is done", || judge.done_count() == 9).await;
    let (place, revoked) = (Place::new("t", 0), Instant::now());
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    let took = revoked.elapsed();
    assert!((Duration::from_millis(1000)..Duration::from_millis(1100)).contains(&took), "{took:?}");
    assert_eq!(running.counts().cancelled, 1);
    assert_eq!(log.committed("g", "t", 0).unwrap().0, 4);
    // It comes back: only the one that was dropped is handled again.
    log.assign("g", &[place]);
    until("the slow one runs again", || attempts(&judge, 4) == 2).await;
    until("the rest was spared", || running.counts().spared == 5).await;
    assert!((0..10).filter(|offset| *offset != 4).all(|offset| attempts(&judge, offset) == 1));
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn of_a_lost_partition_nothing_is_committed() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 100, 100);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::ZERO, |_| false);
    until("all are done", || judge.done_count() == 100).await;
    // Before the first commit time.
    log.lose("g", &[Place::new("t", 0)]);
    until("it is released", || !log.holds("g", &Place::new("t", 0))).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(log.committed("g", "t", 0), None);
    assert!(log.committed("g", "t", 1).is_some());
}

/// Parallel Consumer issues 857, 637, 547: stops after a rebalance, counters leak.
#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_and_comes_a_hundred_times_loses_nothing_and_stops_nothing() {
    let log = MemoryLog::with_topic("t", 3);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_millis(3), |offset| offset % 5 == 0);
    for round in 0..100 {
        fill(&log, 30, 7);
        let place = Place::new("t", round % 3);
        tokio::time::sleep(Duration::from_millis(u64::from(round.unsigned_abs()) % 4)).await;
        log.revoke("g", std::slice::from_ref(&place));
        until("it is released", || !log.holds("g", &place)).await;
        log.assign("g", &[place]);
    }
    until("all are done", || judge.done_count() == 3000).await;
    running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!(verdict(&judge, &log, 3), Vec::<String>::new());
    let committed: i64 = (0..3).map(|partition| log.committed("g", "t", partition).unwrap().0).sum();
    assert_eq!(committed, 3000);
}

#[tokio::test(start_paused = true)]
async fn a_restart_repeats_nothing_that_the_commit_calls_done() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 50, 50);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_secs(3000), |offset| offset == 0);
    until("the rest is done", || judge.done_count() == 49).await;
    running.stop(Duration::ZERO).await.unwrap();
    let running = start(&log, &judge, Duration::ZERO, |_| false);
    until("the stuck one is done", || judge.done_count() == 50).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.spared, counts.done), (49, 1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_what_runs_within_its_limit_and_starts_nothing_new() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 1);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_millis(500), |_| true);
    until("one runs", || attempts(&judge, 1) == 1).await;
    let counts = running.stop(Duration::from_secs(10)).await.unwrap();
    assert_eq!((counts.done, counts.cancelled), (2, 0));
    assert_eq!(log.committed("g", "t", 0), Some((2, String::new())));
}

/// Parallel Consumer issue 326: foreign metadata crashes the assignment.
#[tokio::test(start_paused = true)]
async fn foreign_metadata_is_no_trouble() {
    for metadata in ["bmd…", "AQAAAAA", "w1", "w1zAAAA", "w1r!!", "NULL"] {
        let log = MemoryLog::with_topic("t", 1);
        fill(&log, 10, 10);
        log.set_committed("g", "t", 0, 3, metadata);
        let judge = Judge::default();
        let running = start(&log, &judge, Duration::ZERO, |_| false);
        until("the rest is done", || judge.done_count() == 7).await;
        running.stop(Duration::ZERO).await.unwrap();
        assert_eq!(log.committed("g", "t", 0), Some((10, String::new())), "{metadata}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lost_and_back_before_anybody_looked_goes_on() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 100, 100);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_secs(2), |offset| offset == 3);
    until("the rest is done", || judge.done_count() == 98).await;
    let place = Place::new("t", 0);
    log.lose("g", std::slice::from_ref(&place));
    log.assign("g", std::slice::from_ref(&place));
    until("the slow ones are done", || judge.done_count() == 100).await;
    fill(&log, 100, 100);
    until("the next are done", || judge.done_count() == 200).await;
    assert_eq!(running.health().partitions.len(), 2);
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
    let committed: i64 = (0..2).map(|partition| log.committed("g", "t", partition).unwrap().0).sum();
    assert_eq!(committed, 200);
}

#[tokio::test(start_paused = true)]
async fn of_partitions_that_are_drained_together_one_that_is_lost_takes_no_commit_and_no_time_from_the_others()
 {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 100, 100);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::from_secs(10), |offset| offset == 3);
    until("the rest is done", || judge.done_count() == 98).await;
    let stop = tokio::spawn(running.stop(Duration::from_secs(60)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    log.lose("g", &[Place::new("t", 0)]);
    let counts = stop.await.unwrap().unwrap();
    assert_eq!((counts.cancelled, judge.done_count()), (1, 99));
    assert_eq!(log.committed("g", "t", 0), None);
    let of_other = log.records("t").iter().filter(|record| record.partition == 1).count();
    assert_eq!(log.committed("g", "t", 1).map(|(offset, _)| offset), i64::try_from(of_other).ok());
}

#[tokio::test(start_paused = true)]
async fn members_of_one_group_with_different_topics_are_strangers_and_with_the_same_one_the_last_has_it() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("u", 1);
    let judge = Judge::default();
    let of = |topic: &str| {
        let judge = judge.clone();
        let handler = move |record: Record| {
            judge.begin(&record).done();
            async {}
        };
        Consumer::new(log.source("g", &[topic])).start_in_task(handler).unwrap()
    };
    let (first, second) = (of("t"), of("u"));
    let (t, u) = (Place::new("t", 0), Place::new("u", 0));
    for (round, topic) in ["t", "u", "t", "u"].into_iter().enumerate() {
        log.put(topic, Record::new(topic, "v").with_key("k"));
        until("it is done", || judge.done_count() == round + 1).await;
    }
    log.revoke("g", std::slice::from_ref(&u));
    until("it is released", || !log.holds("g", &u)).await;
    assert!(log.holds("g", &t));
    log.assign("g", std::slice::from_ref(&u));
    until("it is back", || second.health().partitions.len() == 1).await;
    // Another one of the same topic: the first has lost it, and its end takes nothing from the others.
    let third = of("t");
    until("the first has nothing left", || first.health().partitions.is_empty()).await;
    first.stop(Duration::ZERO).await.unwrap();
    for (round, topic) in ["t", "u"].into_iter().enumerate() {
        log.put(topic, Record::new(topic, "v").with_key("k"));
        until("it is done", || judge.done_count() == 5 + round).await;
    }
    second.stop(Duration::ZERO).await.unwrap();
    third.stop(Duration::ZERO).await.unwrap();
    assert_eq!(judge.wrong(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_fails_comes_again() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    log.fail_commit(CommitFault::Refused);
    log.fail_commit(CommitFault::AnswerLost);
    let judge = Judge::default();
    let running = start(&log, &judge, Duration::ZERO, |_| false);
    until("it is committed", || running.counts().commits == 1).await;
    assert_eq!(log.committed("g", "t", 0), Some((10, String::new())));
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(counts.commits_failed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_beyond_repair_ends_the_consumer_with_its_reason() {
    let log = MemoryLog::with_topic("t", 1);
    let judge = Judge::default();
    let mut running = start(&log, &judge, Duration::ZERO, |_| false);
    log.end("g", Fault::new(FaultKind::Denied, "W-KAFKA-DENIED", "stay in the group", "g"));
    assert_eq!(running.ended().await.unwrap_err().code(), "W-KAFKA-DENIED");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_consumer_leaves_the_group_and_drops_what_runs() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let is_dropped = Arc::new(AtomicBool::new(false));
    let running = Consumer::new(log.source("g", &["t"]))
        .start_in_task({
            let is_dropped = Arc::clone(&is_dropped);
            move |_: Record| {
                let told = Told(Arc::clone(&is_dropped));
                async move {
                    std::future::pending::<()>().await;
                    drop(told);
                }
            }
        })
        .unwrap();
    until("it runs", || running.counts().received == 1).await;
    drop(running);
    until("the group is left", || !log.holds("g", &Place::new("t", 0))).await;
    until("the attempt is dropped", || is_dropped.load(Ordering::Relaxed)).await;
}

/// Found by the simulator (its seed 13): the drain that had begun before ended at once, without the attempt.
#[tokio::test(start_paused = true)]
async fn a_partition_that_is_lost_while_it_drains_is_given_back_only_when_its_attempt_is_dropped() {
    struct Runs(Arc<AtomicBool>);
    impl Drop for Runs {
        fn drop(&mut self) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1, 1);
    let runs = Arc::new(AtomicBool::new(false));
    // What the handler holds is dropped with its attempt; the source looks when the partition is given back.
    let source = Watched { inner: log.source("g", &["t"]), runs: Arc::clone(&runs), wrong: Arc::default() };
    let wrong = Arc::clone(&source.wrong);
    let running = Consumer::new(source)
        .start_in_task({
            let runs = Arc::clone(&runs);
            move |_: Record| {
                runs.store(true, Ordering::Relaxed);
                let held = Runs(Arc::clone(&runs));
                async move {
                    std::future::pending::<()>().await;
                    drop(held);
                }
            }
        })
        .unwrap();
    until("it runs", || runs.load(Ordering::Relaxed)).await;
    let places = [Place::new("t", 0)];
    log.revoke("g", &places);
    tokio::time::sleep(Duration::from_millis(100)).await;
    log.lose("g", &places);
    until("it is released", || !log.holds("g", &places[0])).await;
    assert!(!wrong.load(Ordering::Relaxed), "it was given back while its attempt ran");
    running.stop(Duration::ZERO).await.unwrap();
}

/// A source that looks whether an attempt runs when a partition is given back.
struct Watched {
    inner: MemorySource,
    runs: Arc<AtomicBool>,
    wrong: Arc<AtomicBool>,
}

impl LogSource for Watched {
    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        self.inner.start(wake)
    }
    fn events(&mut self, events: &mut Vec<Event>) {
        self.inner.events(events);
    }
    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        self.inner.fetch(place, count_max, budget, records);
    }
    fn commit(&mut self, commits: &[Commit]) {
        self.inner.commit(commits);
    }
    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        self.inner.commit_and_wait(commits, wait_max)
    }
    fn release(&mut self, places: &[Place]) {
        self.wrong.fetch_or(self.runs.load(Ordering::Relaxed), Ordering::Relaxed);
        self.inner.release(places);
    }
    fn close(&mut self) {
        self.inner.close();
    }
}
