//! Parallel Consumer's users, on partitions that come and go (github.com/confluentinc/parallel-consumer/issues).

use super::{committed, goes, goes_and_comes};
use crate::judge::{Judge, attempts, fill, until, verdict};
use std::time::Duration;
use tokio::time::Instant;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::offset_map;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::{CommitFault, MemoryLog};

/// A handler that takes so long for a record of this partition and offset.
fn start(
    consumer: Consumer,
    judge: &Judge,
    time: impl Fn(i32, i64) -> Duration + Send + Sync + 'static,
) -> Running {
    let judge = judge.clone();
    let handler = move |record: Record| {
        let attempt = judge.begin(&record);
        let time = time(record.partition, record.offset);
        async move {
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            attempt.done();
        }
    };
    consumer.start_in_task(handler).unwrap()
}

/// Commits that the rebalance refuses killed its polling thread; work of an old epoch was skipped for ever.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_857_goes_on_after_a_rebalance() {
    let log = MemoryLog::with_topic("t", 2);
    let judge = Judge::default();
    let running = start(Consumer::new(log.source("g", &["t"])), &judge, |_, offset| {
        Duration::from_millis(offset.unsigned_abs() % 7 * 40)
    });
    for round in 0..30 {
        fill(&log, 40, 5);
        log.fail_commit(CommitFault::Refused);
        log.fail_commit(CommitFault::Refused);
        tokio::time::sleep(Duration::from_millis(30)).await;
        goes_and_comes(&log, &Place::new("t", round % 2)).await;
    }
    until("all are done", || judge.done_count() == 1200).await;
    running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_637_a_commit_that_is_refused_does_not_hold_the_rebalance() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 20);
    let judge = Judge::default();
    let running = start(Consumer::new(log.source("g", &["t"])), &judge, |_, _| Duration::from_millis(400));
    until("some are done", || judge.done_count() >= 40).await;
    (0..100).for_each(|_| log.fail_commit(CommitFault::Refused));
    let took = goes(&log, &Place::new("t", 0)).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert!(running.counts().commits_failed > 0);
    running.stop(Duration::ZERO).await.unwrap();
}

/// Also 547: records that were taken from it when a partition went were counted as in flight for ever.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_606_records_of_a_partition_that_went_are_in_flight_no_more() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 640, 4);
    let judge = Judge::default();
    let consumer =
        Consumer::new(log.source("g", &["t"])).window_records(64).drain_max(Duration::from_millis(1));
    let running = start(consumer, &judge, |_, _| Duration::from_millis(100));
    let place = Place::new("t", 0);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        goes(&log, &place).await;
        assert_eq!(running.bytes_in_flight(), 0);
        log.assign("g", std::slice::from_ref(&place));
    }
    let started = Instant::now();
    let before = judge.done_count();
    until("all are done", || judge.done_count() == 640).await;
    // Four keys, 100 ms each: as fast as on the first day.
    let due = Duration::from_millis(100) * u32::try_from((640 - before) / 4 + 20).unwrap();
    assert!(started.elapsed() < due, "{:?} for {}", started.elapsed(), 640 - before);
    committed(&log, 640).await;
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_680_handlers_of_half_a_minute_stop_neither_the_polling_nor_each_other() {
    let log = MemoryLog::with_topic("t", 3);
    fill(&log, 300, 60);
    let judge = Judge::default();
    let running = start(Consumer::new(log.source("g", &["t"])), &judge, |partition, _| {
        Duration::from_secs(if partition == 0 { 30 } else { 0 })
    });
    let slow = log.records("t").iter().filter(|record| record.partition == 0).count();
    until("the quick ones are done", || judge.done_count() == 300 - slow).await;
    // Whoever polls answers the group at once.
    assert!(goes_and_comes(&log, &Place::new("t", 1)).await < Duration::from_millis(20));
    fill(&log, 300, 60);
    let started = Instant::now();
    until("all are done", || judge.done_count() == 600).await;
    assert!(started.elapsed() < Duration::from_secs(30 * 11), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((judge.repeated_count(), verdict(&judge, &log, 3)), (0, Vec::new()));
}

/// A record that came back met its own old work, and was dropped for it.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_875_no_record_is_skipped_when_its_partition_comes_back() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 60, 3);
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).drain_max(Duration::from_millis(1));
    let running = start(consumer, &judge, |_, _| Duration::from_millis(20));
    let place = Place::new("t", 0);
    for _ in 0..10 {
        // Three run, and the rest waits behind them.
        tokio::time::sleep(Duration::from_millis(30)).await;
        log.lose("g", std::slice::from_ref(&place));
        until("it is released", || !log.holds("g", &place)).await;
        log.assign("g", std::slice::from_ref(&place));
    }
    committed(&log, 60).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert!((0..60).all(|offset| judge.is_done(&place, offset)));
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

/// Also 827.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_826_nothing_is_committed_before_it_is_processed() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 400, 400);
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).commit_every(Duration::from_millis(10));
    let running =
        start(consumer, &judge, |_, offset| Duration::from_millis(offset.unsigned_abs() * 37 % 211));
    for round in 0..120 {
        assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new(), "in round {round}");
        tokio::time::sleep(Duration::from_millis(2)).await;
        if round % 20 == 10 {
            // Some run when it goes, and are cut off at the limit.
            goes_and_comes(&log, &Place::new("t", 0)).await;
        }
    }
    until("all are done", || judge.done_count() == 400).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(verdict(&judge, &log, 2), Vec::<String>::new());
}

/// It committed at its interval only, not when a partition went.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_365_a_rebalance_repeats_only_what_was_cut_off() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 200, 200);
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).commit_every(Duration::from_secs(3600));
    let running =
        start(consumer, &judge, |_, offset| Duration::from_secs(if offset % 50 == 0 { 10 } else { 0 }));
    until("the quick ones are done", || judge.done_count() == 196).await;
    goes_and_comes(&log, &Place::new("t", 0)).await;
    until("all are done", || judge.done_count() == 200).await;
    running.stop(Duration::ZERO).await.unwrap();
    let repeated: Vec<i64> = (0..200).filter(|offset| attempts(&judge, *offset) > 1).collect();
    assert_eq!(repeated, [0, 50, 100, 150]);
}

/// Without a commit it "truncated" what was not there; a commit without progress came back as another offset.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_546_nothing_is_truncated_without_a_commit_or_without_progress() {
    let log = MemoryLog::with_topic("t", 1);
    // Retention has taken the first ones.
    (0..100).for_each(|_| log.put_hole("t", 0));
    fill(&log, 10, 10);
    let judge = Judge::default();
    let slow =
        |seconds| move |_: i32, offset: i64| Duration::from_secs(if offset == 100 { seconds } else { 0 });
    let running = start(Consumer::new(log.source("g", &["t"])), &judge, slow(3600));
    until("all but the first are done", || judge.done_count() == 9).await;
    running.stop(Duration::ZERO).await.unwrap();
    // No progress, and a map of what is done past it.
    let (offset, metadata) = log.committed("g", "t", 0).unwrap();
    let beyond = offset_map::decode(offset, &metadata).unwrap();
    assert_eq!((offset, beyond.first(), beyond.len()), (100, Some(&(101..110)), 1));
    let running = start(Consumer::new(log.source("g", &["t"])), &judge, slow(0));
    committed(&log, 110).await;
    running.stop(Duration::ZERO).await.unwrap();
    let repeated: Vec<i64> = (0..110).filter(|offset| attempts(&judge, *offset) > 1).collect();
    assert_eq!(repeated, [100]);
}

/// What was committed lay past the end of the log, so that the next owner's position was reset.
#[tokio::test(start_paused = true)]
async fn parallel_consumer_894_an_idle_partition_that_moves_often_is_not_committed_past_its_end() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let judge = Judge::default();
    let consumer = Consumer::new(log.source("g", &["t"])).drain_max(Duration::from_millis(1));
    let begun = Instant::now();
    let running = start(consumer, &judge, move |_, offset| {
        // For the first 10 s two of them do not end.
        let is_held = matches!(offset, 3 | 9) && begun.elapsed() < Duration::from_secs(10);
        Duration::from_secs(if is_held { 3600 } else { 0 })
    });
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        goes_and_comes(&log, &Place::new("t", 0)).await;
        let (offset, metadata) = log.committed("g", "t", 0).unwrap();
        let beyond = offset_map::decode(offset, &metadata).unwrap();
        let last = beyond.last().map_or(offset, |range| range.end);
        assert!(offset <= 10 && last <= 10, "{offset} and {beyond:?}, with an end at 10");
    }
    until("all are done", || judge.done_count() == 10).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(log.committed("g", "t", 0), Some((10, String::new())));
    assert_eq!(judge.repeated_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn parallel_consumer_326_foreign_metadata_is_tolerated() {
    // Of Kafka Streams, of other programs, damaged, and of a later version of ours.
    for metadata in ["AgAAAY8=", "AQ==", "{\"node\":\"a\"}", "w1", "w1r!", "w2rAAAA", "\u{0}\u{1}", "w1b"] {
        let log = MemoryLog::with_topic("t", 1);
        fill(&log, 10, 10);
        log.set_committed("g", "t", 0, 4, metadata);
        let judge = Judge::default();
        let running = start(Consumer::new(log.source("g", &["t"])), &judge, |_, _| Duration::ZERO);
        committed(&log, 10).await;
        running.stop(Duration::ZERO).await.unwrap();
        assert!((4..10).all(|offset| attempts(&judge, offset) == 1), "{metadata:?}");
        assert!((0..4).all(|offset| attempts(&judge, offset) == 0), "{metadata:?}");
    }
}
