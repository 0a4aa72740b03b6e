//! What a commit says of the log: past what is not a record, and of which log it is.

use crate::judge::until;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::MemoryLog;

type Done = Arc<Mutex<BTreeSet<String>>>;

/// A handler that waits without end for values that begin with `stuck`.
fn start(log: &MemoryLog, done: &Done) -> Running {
    let done = Arc::clone(done);
    let handler = move |record: Record| {
        let (done, value) = (Arc::clone(&done), record.text().1);
        async move {
            if value.starts_with("stuck") {
                std::future::pending::<()>().await;
            }
            done.lock().unwrap().insert(value);
            Outcome::Done
        }
    };
    Consumer::new(log.source("g", &["t"])).start_in_task(handler).unwrap()
}

fn put(log: &MemoryLog, value: &str) {
    log.put("t", Record::new("t", value.to_owned()).with_key(value.to_owned()));
}

fn committed(log: &MemoryLog) -> Option<i64> {
    log.committed("g", "t", 0).map(|(offset, _)| offset)
}

#[tokio::test(start_paused = true)]
async fn holes_at_the_end_of_a_partition_are_committed_while_no_record_follows() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    (0..3).for_each(|number| put(&log, &format!("{number}")));
    log.put_hole("t", 0);
    let running = start(&log, &done);
    until("the marker is committed", || committed(&log) == Some(4)).await;
    (0..4).for_each(|_| log.put_hole("t", 0));
    until("so are an aborted transaction and its marker", || committed(&log) == Some(8)).await;
    let newest = running.health().partitions[0].newest;
    assert_eq!(newest, Some(2), "a hole is no record");
    put(&log, "after");
    until("and the next record", || committed(&log) == Some(9)).await;
    assert_eq!(running.stop(Duration::ZERO).await.unwrap().received, 4);
}

#[tokio::test(start_paused = true)]
async fn holes_are_not_committed_before_the_records_in_front_of_them_are_done() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    ["a", "stuck", "b"].iter().for_each(|value| put(&log, value));
    (0..5).for_each(|_| log.put_hole("t", 0));
    let running = start(&log, &done);
    until("the others are done", || done.lock().unwrap().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(committed(&log), Some(1));
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(committed(&log), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_partition_with_nothing_but_holes_is_committed_and_an_empty_one_at_its_start() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    let running = start(&log, &done);
    until("the position is committed", || committed(&log) == Some(0)).await;
    (0..7).for_each(|_| log.put_hole("t", 0));
    until("the holes are committed", || committed(&log) == Some(7)).await;
    running.stop(Duration::ZERO).await.unwrap();
}

/// Whatever length the new log has: the offsets are of the old one.
#[tokio::test(start_paused = true)]
async fn a_log_that_was_created_again_is_read_from_its_beginning_and_what_is_in_flight_ends() {
    let (log, done) = (MemoryLog::with_topic("t", 1), Done::default());
    ["old 0", "stuck", "old 2", "old 3"].iter().for_each(|value| put(&log, value));
    let running = start(&log, &done);
    until("the others are done", || done.lock().unwrap().len() == 3).await;
    log.recreate("t", 0);
    (0..9).for_each(|number| put(&log, &format!("new {number}")));
    until("all new ones are done", || done.lock().unwrap().len() == 12).await;
    until("and committed", || committed(&log) == Some(9)).await;
    log.recreate("t", 0);
    until("an empty one is committed as such", || committed(&log) == Some(0)).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.received, counts.spared), (13, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_assignment_is_told_of_it_and_of_an_end_before_it() {
    let log = MemoryLog::with_topic("t", 2);
    let running = start(&log, &Done::default());
    let both = [0, 1].map(|partition| Place::new("t", partition));
    assert_eq!(running.assigned().await.unwrap(), both);
    log.revoke("g", &both);
    until("both are gone", || !log.holds("g", &both[0])).await;
    let again = running.assigned();
    tokio::pin!(again);
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut again).await.is_err(), "nothing is ours");
    log.assign("g", &both[..1]);
    assert_eq!(again.await.unwrap(), both[..1]);
    log.revoke("g", &both);
    until("it is gone", || !log.holds("g", &both[0])).await;
    let fault = weir_model::Fault::new(weir_model::FaultKind::Config, "W-KAFKA-DENIED", "go on", "g");
    let (waited, ()) = tokio::join!(running.assigned(), async { log.end("g", fault) });
    let told = waited.unwrap_err().chain();
    assert!(told.contains("W-KAFKA-DENIED"), "{told}");
}
