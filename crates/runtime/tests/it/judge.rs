//! What the judge of the test kit needs to know of a log in memory.

use std::time::Duration;
use weir_runtime::offset_map;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::MemoryLog;
pub(crate) use weir_runtime::testing::judge::Judge;

/// What was wrong, and what is wrong with what the group `g` has committed of topic `t`: everything before the commit,
/// and everything that its metadata calls done, must have been done.
pub(crate) fn verdict(judge: &Judge, log: &MemoryLog, partition_count: i32) -> Vec<String> {
    let mut wrong = judge.wrong();
    for partition in 0..partition_count {
        let Some((offset, metadata)) = log.committed("g", "t", partition) else { continue };
        let place = Place::new("t", partition);
        let beyond = offset_map::decode(offset, &metadata).unwrap();
        for record in log.records("t").iter().filter(|record| record.partition == partition) {
            let is_said = record.offset < offset || beyond.iter().any(|range| range.contains(&record.offset));
            if is_said && !judge.is_done(&place, record.offset) {
                wrong.push(format!("committed and not done: {place}/{}", record.offset));
            }
        }
    }
    wrong
}

/// Attempts at a record of partition 0.
pub(crate) fn attempts(judge: &Judge, offset: i64) -> u32 {
    judge.attempts(&Place::new("t", 0), offset)
}

/// Puts `count` records over `key_count` keys into topic `t`.
pub(crate) fn fill(log: &MemoryLog, count: usize, key_count: usize) {
    for number in 0..count {
        let key = format!("k{}", number % key_count);
        log.put("t", Record::new("t", format!("{key} {number}")).with_key(key));
    }
}

/// Waits on the paused clock until the condition holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(3600), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    assert!(waited.await.is_ok(), "an hour has passed without: {what}");
}
