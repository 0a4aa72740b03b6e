//! What users of Decaton and of Confluent's Parallel Consumer reported or asked for, one test each, named after the
//! issue. Each fails when the defect is put in.

mod decaton;
mod parallel_consumer;
mod rebalance;

use std::time::Duration;
use weir_runtime::record::Place;
use weir_runtime::testing::MemoryLog;

use crate::judge::until;

/// Takes a partition away and gives it back; how long the taking took.
async fn goes_and_comes(log: &MemoryLog, place: &Place) -> Duration {
    let took = goes(log, place).await;
    log.assign("g", std::slice::from_ref(place));
    took
}

/// Takes a partition away; how long that took.
async fn goes(log: &MemoryLog, place: &Place) -> Duration {
    let started = tokio::time::Instant::now();
    log.revoke("g", std::slice::from_ref(place));
    until("it is released", || !log.holds("g", place)).await;
    started.elapsed()
}

/// Waits until all records of partition 0 up to this offset are committed.
async fn committed(log: &MemoryLog, upto: i64) {
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == upto)).await;
}
