//! One byte budget over many partitions: whoever is stuck takes no more than its share and the common pool.

use crate::judge::until;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::budget::Budget;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::record::Record;
use weir_runtime::testing::MemoryLog;

const VALUE_BYTES: usize = 10_000;

/// Keys that were handled to their end, with how often.
type Done = Arc<Mutex<BTreeMap<String, usize>>>;

/// Puts `count` records of this key.
fn put(log: &MemoryLog, topic: &str, key: &str, count: usize) {
    for _ in 0..count {
        log.put(topic, Record::new(topic, "x".repeat(VALUE_BYTES)).with_key(key.to_owned()));
    }
}

/// A handler that never ends for keys that begin with `stuck`, and takes a millisecond for others.
fn start(log: &MemoryLog, group: &str, topic: &str, budget: &Budget, done: &Done) -> Running {
    let done = Arc::clone(done);
    Consumer::new(log.source(group, &[topic]))
        .budget(budget.clone())
        .start_in_task(move |record: Record| {
            let done = Arc::clone(&done);
            async move {
                let key = record.text().0;
                if key.starts_with("stuck") {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                *done.lock().unwrap().entry(key).or_default() += 1;
            }
        })
        .unwrap()
}

/// A key of this beginning that goes to this one of so many partitions.
fn key_of(partition: i32, partition_count: i32, beginning: &str) -> String {
    let probe = MemoryLog::with_topic("t", partition_count);
    (0..)
        .map(|number| format!("{beginning}-{number}"))
        .find(|key| {
            probe.put("t", Record::new("t", "").with_key(key.clone()));
            probe
                .records("t")
                .iter()
                .any(|record| record.partition == partition && record.key() == Some(key.as_bytes()))
        })
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stuck_key_whose_records_fill_the_budget_stops_no_other_partition() {
    let log = MemoryLog::with_topic("t", 3);
    let stuck = key_of(0, 3, "stuck");
    let others = [1, 2].map(|partition| key_of(partition, 3, "flows"));
    // 20 MB behind the stuck key; the window has room for all of them, and the budget for a twentieth.
    put(&log, "t", &stuck, 2000);
    let (budget, done) = (Budget::new(1 << 20), Done::default());
    let running = start(&log, "g", "t", &budget, &done);
    until("the stuck one takes no more", || budget.used_bytes() > budget.bytes_max() / 2).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    others.iter().for_each(|key| put(&log, "t", key, 500));
    until("the others are done", || others.iter().all(|key| done.lock().unwrap().get(key) == Some(&500)))
        .await;
    let stuck_bytes = budget.used_bytes();
    assert!(stuck_bytes <= budget.bytes_max(), "{stuck_bytes} bytes");
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(budget.used_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn however_many_partitions_are_stuck_the_last_one_flows_and_the_budget_holds() {
    let log = MemoryLog::with_topic("t", 8);
    for partition in 0..7 {
        put(&log, "t", &key_of(partition, 8, "stuck"), 300);
    }
    let last = key_of(7, 8, "flows");
    let (budget, done) = (Budget::new(4 << 20), Done::default());
    let running = start(&log, "g", "t", &budget, &done);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = budget.used_bytes();
    put(&log, "t", &last, 400);
    until("the last is done", || done.lock().unwrap().get(&last) == Some(&400)).await;
    // Each may pass its share by one record, and 21 MB wait for it.
    let most = budget.bytes_max() + 8 * (VALUE_BYTES + 1024);
    assert!(before <= most && budget.used_bytes() <= most, "{before} and {} bytes", budget.used_bytes());
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn two_consumers_that_share_a_budget_have_shares_of_it_too() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("u", 1);
    put(&log, "t", "stuck", 500);
    let (budget, done) = (Budget::new(1 << 20), Done::default());
    let first = start(&log, "g", "t", &budget, &done);
    let second = start(&log, "h", "u", &budget, &done);
    tokio::time::sleep(Duration::from_secs(1)).await;
    put(&log, "u", "flows", 300);
    until("the other consumer's are done", || done.lock().unwrap().get("flows") == Some(&300)).await;
    first.stop(Duration::ZERO).await.unwrap();
    second.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn alone_a_partition_may_have_the_whole_budget() {
    let log = MemoryLog::with_topic("t", 1);
    put(&log, "t", "stuck", 500);
    let (budget, done) = (Budget::new(1 << 20), Done::default());
    let running = start(&log, "g", "t", &budget, &done);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let used = budget.used_bytes();
    assert!(
        (budget.bytes_max() * 9 / 10..=budget.bytes_max() + VALUE_BYTES + 1024).contains(&used),
        "{used}"
    );
    running.stop(Duration::ZERO).await.unwrap();
}
