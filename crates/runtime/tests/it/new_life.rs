//! A log that goes back: cut by an unclean election, or a topic made anew. What was known of the old records says
//! nothing about the new ones.

#![expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]

use crate::judge::until;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::flow::Flow;
use weir_runtime::offset_map;
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

/// The values that were handled to their end.
type Done = Arc<Mutex<BTreeSet<String>>>;

/// A handler that never ends for values that begin with `stuck`, takes a minute for those that begin with `slow`, and
/// no time for others.
fn start_with(log: &MemoryLog, done: &Done, flow: Flow) -> Running {
    let done = Arc::clone(done);
    Consumer::new(log.source("g", &["t"]))
        .flow(flow)
        .start_in_task(move |record: Record| {
            let (done, value) = (Arc::clone(&done), record.text().1);
            async move {
                if value.starts_with("stuck") {
                    std::future::pending::<()>().await;
                }
                if value.starts_with("slow") {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                }
                done.lock().unwrap().insert(value);
            }
        })
        .unwrap()
}

fn start(log: &MemoryLog, done: &Done) -> Running {
    start_with(log, done, Flow::default())
}

fn put(log: &MemoryLog, names: impl IntoIterator<Item = String>) {
    for name in names {
        log.put("t", Record::new("t", name.clone()).with_key(name));
    }
}

fn numbered(name: &str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |number| format!("{name} {number}"))
}

async fn until_committed(log: &MemoryLog, offset: i64) {
    let is_there = || log.committed("g", "t", 0).is_some_and(|(committed, _)| committed == offset);
    until(&format!("{offset} is committed"), is_there).await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_made_anew_is_handled_from_its_start_and_the_commit_goes_back_with_it() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    put(&log, numbered("old", 10));
    let running = start(&log, &done);
    until_committed(&log, 10).await;
    log.cut("t", 0, 0, 0);
    put(&log, numbered("new", 5));
    until("all new ones are done", || done.lock().unwrap().len() == 15).await;
    until_committed(&log, 5).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.spared, log.committed("g", "t", 0)), (0, Some((5, String::new()))));
}

#[tokio::test(start_paused = true)]
async fn marks_of_the_old_log_spare_no_record_of_the_new_one() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    put(&log, numbered("old", 30).chain(["stuck".to_owned()]).chain(numbered("older", 19)));
    let running = start(&log, &done);
    until("the rest is done", || done.lock().unwrap().len() == 49).await;
    running.stop(Duration::ZERO).await.unwrap();
    let (offset, metadata) = log.committed("g", "t", 0).unwrap();
    assert_eq!((offset, offset_map::decode(offset, &metadata).unwrap()), (30, vec![31..50]));
    // The next member begins at 30, and before it takes anything the log is made anew.
    let running = start_with(&log, &done, Flow { is_paused: true, ..Flow::default() });
    until("it has the partition", || running.health().partitions.len() == 1).await;
    log.cut("t", 0, 0, 0);
    put(&log, numbered("new", 45));
    running.flow(Flow::default()).unwrap();
    until("all new ones are done", || done.lock().unwrap().len() == 94).await;
    until_committed(&log, 45).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.spared, log.committed("g", "t", 0)), (0, Some((45, String::new()))));
}

#[tokio::test(start_paused = true)]
async fn a_record_of_the_old_log_that_never_ends_holds_no_commit_of_the_new_one() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    put(&log, numbered("old", 5).chain(["stuck".to_owned()]).chain(numbered("older", 14)));
    let running = start(&log, &done);
    until_committed(&log, 5).await;
    log.cut("t", 0, 0, 0);
    put(&log, numbered("new", 12));
    until_committed(&log, 12).await;
    assert_eq!((done.lock().unwrap().len(), running.counts().spared), (31, 0));
    until("nothing is pending", || running.health().partitions[0].head.is_none()).await;
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_end_keeps_what_is_pending_of_the_rest() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    put(&log, numbered("old", 3).chain(["slow".to_owned()]).chain(numbered("older", 16)));
    let running = start(&log, &done);
    until_committed(&log, 3).await;
    // 10 to 19 were never on the other replicas; others come in their place.
    log.cut("t", 0, 10, 10);
    put(&log, numbered("new", 5));
    until("the new ones are done", || done.lock().unwrap().len() == 24).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (offset, metadata) = log.committed("g", "t", 0).unwrap();
    let marks = offset_map::decode(offset, &metadata).unwrap();
    assert_eq!((offset, marks), (3, vec![4..10]), "marks past the cut would be of the old log");
    until_committed(&log, 15).await;
    assert_eq!(done.lock().unwrap().len(), 25);
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.spared, counts.received), (0, 25));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_goes_back_again_and_again_stops_nothing_and_loses_nothing() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    put(&log, ["slow".to_owned()].into_iter().chain(numbered("old", 300)));
    let running = start(&log, &done);
    until("the rest is done", || done.lock().unwrap().len() == 300).await;
    for round in 0..200usize {
        let end = i64::try_from(1 + round * 7 % 13).unwrap();
        log.cut("t", 0, end, end);
        put(&log, numbered(&format!("round {round}"), 5 + round % 4));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    until("the slow one is done", || done.lock().unwrap().contains("slow")).await;
    let end = log.records("t").len();
    until_committed(&log, i64::try_from(end).unwrap()).await;
    let done = done.lock().unwrap().clone();
    assert!(log.records("t").iter().all(|record| done.contains(&record.text().1)));
    running.stop(Duration::ZERO).await.unwrap();
}
