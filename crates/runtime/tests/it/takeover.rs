//! A group that another consumer library left is taken over.

use crate::judge::{fill, until};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::consumer::Consumer;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::stats::Counts;
use weir_runtime::testing::MemoryLog;

/// Written by parallel-consumer-core 0.5.3.3 for a commit of 5: done are 5, 6, 8 and 9.
const THEIRS: &str = "bgAAAAIAAQAC";

/// Takes ten records with a committed offset of 5 over; the offsets that were handled.
async fn take_over(metadata: &str, prepare: impl Fn(Consumer) -> Consumer) -> (Vec<i64>, Counts, MemoryLog) {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 10, 10);
    log.set_committed("g", "t", 0, 5, metadata);
    let handled: Arc<Mutex<Vec<i64>>> = Arc::default();
    let running = prepare(Consumer::new(log.source("g", &["t"])))
        .start_in_task({
            let handled = Arc::clone(&handled);
            move |record: Record| {
                handled.lock().unwrap().push(record.offset);
                async { Outcome::Done }
            }
        })
        .unwrap();
    until("all is done", || running.counts().done + running.counts().spared == 5).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    let mut handled = handled.lock().unwrap().clone();
    handled.sort_unstable();
    (handled, counts, log)
}

#[tokio::test(start_paused = true)]
async fn what_parallel_consumer_had_done_past_its_commit_is_not_repeated() {
    let (handled, counts, log) = take_over(THEIRS, Consumer::after_parallel_consumer).await;
    assert_eq!(handled, [7]);
    assert_eq!(counts.spared, 4);
    assert_eq!(log.committed("g", "t", 0), Some((10, String::new())));
}

#[tokio::test(start_paused = true)]
async fn metadata_that_is_not_ours_is_repeated_never_lost_unless_the_consumer_is_told_whose_it_is() {
    let (handled, _, _) = take_over(THEIRS, |consumer| consumer).await;
    assert_eq!(handled, [5, 6, 7, 8, 9]);
    for foreign in ["consumer-17", "AQAAAAAAAAAA", "bgAAAAIAAQA", "YSi1L/0AWFUAACABkKoAAQBGYA=="] {
        let (handled, _, _) = take_over(foreign, Consumer::after_parallel_consumer).await;
        assert_eq!(handled, [5, 6, 7, 8, 9], "{foreign}");
    }
}
