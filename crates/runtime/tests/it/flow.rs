//! What changes at run time: pause, rates, ignored keys.

use crate::judge::{Judge, fill, until, verdict};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::flow::Flow;
use weir_runtime::flow_file::FlowFile;
use weir_runtime::quota::{OverQuota, Quota};
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

fn start(log: &MemoryLog, judge: &Judge, flow: Flow) -> Running {
    let judge = judge.clone();
    Consumer::new(log.source("g", &["t"]))
        .flow(flow)
        .start_in_task(move |record: Record| {
            judge.begin(&record).done();
            async {}
        })
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_paused_consumer_takes_nothing_keeps_its_partitions_and_goes_on_where_it_was() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let running = start(&log, &judge, Flow::default());
    until("all are done", || judge.done_count() == 100).await;
    running.flow(Flow { is_paused: true, ..Flow::default() }).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&log, 100, 10);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((judge.done_count(), running.health().partitions.len()), (100, 2));
    running.flow(Flow::default()).unwrap();
    until("all are done", || judge.done_count() == 200).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((judge.repeated_count(), verdict(&judge, &log, 2)), (0, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn rates_hold_for_each_partition_and_for_all_and_change_at_once() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20_000, 100);
    let judge = Judge::default();
    let running = start(&log, &judge, Flow { rate_per_partition: Some(100), ..Flow::default() });
    let done_in = async |time| {
        let before = judge.done_count();
        tokio::time::sleep(time).await;
        judge.done_count() - before
    };
    // A second's worth at once, then the rate.
    let first = done_in(Duration::from_secs(10)).await;
    assert!((2150..=2200).contains(&first), "{first}");
    running.flow(Flow { rate: Some(50), rate_per_partition: Some(1000), ..Flow::default() }).unwrap();
    let second = done_in(Duration::from_secs(10)).await;
    assert!((530..=550).contains(&second), "{second}");
    running.flow(Flow { rate: Some(0), ..Flow::default() }).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(done_in(Duration::from_secs(60)).await, 0);
    let started = Instant::now();
    running.flow(Flow::default()).unwrap();
    until("all are done", || judge.done_count() == 20_000).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn records_of_ignored_keys_are_finished_without_a_handler_until_the_key_is_taken_back() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let judge = Judge::default();
    let ignored_keys: Arc<HashSet<Bytes>> = Arc::new([Bytes::from("k3"), Bytes::from("k7")].into());
    let running = start(&log, &judge, Flow { ignored_keys, ..Flow::default() });
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 100)).await;
    assert_eq!((judge.done_count(), running.counts().ignored), (80, 20));
    running.flow(Flow::default()).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    fill(&log, 10, 10);
    until("all of the next are done", || judge.done_count() == 90).await;
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_changes_in_a_watched_file_holds_without_a_restart_and_a_wrong_file_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.properties");
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    let judge = Judge::default();
    let running = start(&log, &judge, Flow::default());
    assert!(FlowFile::follow(&path, running.steering()).await.is_err(), "there is no file");
    std::fs::write(&path, "paused = maybe").unwrap();
    let fault = FlowFile::follow(&path, running.steering()).await.unwrap_err();
    assert!(fault.chain().contains("line 1: paused is"), "{}", fault.chain());
    until("the first are done", || judge.done_count() == 10).await;

    std::fs::write(&path, "ignored-keys = k3").unwrap();
    let _file = FlowFile::follow(&path, running.steering()).await.unwrap();
    fill(&log, 10, 10);
    until("all but one are done", || judge.done_count() == 19 && running.counts().ignored == 1).await;
    // A wrong file, then a right one: of the wrong one nothing holds, although its first line is right.
    std::fs::write(&path, "ignored-keys = k4\nno-such = 1").unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(running.counts().ignored, 1);
    fill(&log, 10, 10);
    until("all but one are done", || judge.done_count() == 28 && running.counts().ignored == 2).await;
    std::fs::write(&path, "# all of it").unwrap();
    // Until it is seen, k3 is ignored still.
    let seen = || {
        log.put("t", Record::new("t", "k3").with_key("k3"));
        judge.done_count() > 28
    };
    until("the key is handled again", seen).await;
    running.stop(Duration::from_secs(1)).await.unwrap();
}

/// A writer that cuts the file and then writes it leaves an empty one for a moment, and half of one.
#[tokio::test(start_paused = true)]
async fn a_file_that_is_read_while_it_is_written_counts_neither_as_empty_nor_as_half() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.properties");
    let log = MemoryLog::with_topic("t", 1);
    let judge = Judge::default();
    let running = start(&log, &judge, Flow::default());
    std::fs::write(&path, "ignored-keys = k0, k1\npaused = false").unwrap();
    let _file = FlowFile::follow(&path, running.steering()).await.unwrap();
    // Whatever the file looks like for less than a look, or is empty for however long: k0 and k1 stay ignored.
    for (text, ms) in [("", 3000), ("ignored-keys = k0, k", 400), ("ignored-keys = k", 400), ("", 400)] {
        for _ in 0..20 {
            std::fs::write(&path, text).unwrap();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            fill(&log, 2, 2);
            std::fs::write(&path, "ignored-keys = k0, k1").unwrap();
            tokio::time::sleep(Duration::from_millis(700)).await;
            fill(&log, 2, 2);
        }
    }
    until("all are ignored", || running.counts().ignored == 4 * 20 * 4).await;
    assert_eq!(judge.done_count(), 0);
    std::fs::write(&path, "ignored-keys = k0").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    fill(&log, 2, 2);
    until("one is handled", || judge.done_count() == 1).await;
    running.stop(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_the_consumer_has_no_means_for_is_refused_by_name_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flow.properties");
    let log = MemoryLog::with_topic("t", 1);
    let judge = Judge::default();
    for (action, wanted) in [(OverQuota::Shape, "shaping()"), (OverQuota::DeadLetter, "dead_letters()")] {
        let flow = Flow { key_quota: Some(Quota::new(5, action)), ..Flow::default() };
        let consumer = Consumer::new(log.source("g", &["t"])).flow(flow.clone());
        let fault = consumer.start_in_task(|_: Record| async {}).unwrap_err();
        assert!(fault.chain().contains("key-quota-action") && fault.chain().contains(wanted), "{fault}");
        let running = start(&log, &judge, Flow::default());
        assert!(running.flow(flow).unwrap_err().chain().contains(wanted));
        running.stop(Duration::ZERO).await.unwrap();
    }
    let running = start(&log, &judge, Flow::default());
    std::fs::write(&path, "key-quota = 5\nkey-quota-action = shape").unwrap();
    let fault = FlowFile::follow(&path, running.steering()).await.unwrap_err();
    assert!(fault.chain().contains("key-quota-action"), "{}", fault.chain());
    let none = Flow { key_quota: Some(Quota::new(0, OverQuota::SlowDown)), ..Flow::default() };
    assert!(running.flow(none).unwrap_err().chain().contains("key-quota"));
    fill(&log, 100, 1);
    until("all are done", || judge.done_count() == 100).await;
    running.stop(Duration::ZERO).await.unwrap();
}
