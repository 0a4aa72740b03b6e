//! Queues of HBase's replication that stand still or are far behind.

use super::{Finding, Level};

/// A lag below this is ordinary work: entries are read, sent and acknowledged within seconds.
pub const LAG_MS_HIGH: i64 = 30_000;

/// One queue by one report of its region server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// The region server that ships it.
    pub server: String,
    /// Its name.
    pub name: String,
    /// WAL files in it, the open one too.
    pub wal_count: usize,
    /// HBase's own lag.
    pub lag_ms: i64,
    /// Write time of the last entry that was acknowledged.
    pub last_shipped_at_ms: u64,
    /// Write time of the entry that is sent next (2.x).
    pub next_at_ms: Option<u64>,
    /// Operations acknowledged since the server's start (2.x).
    pub operations_shipped: Option<u64>,
    /// When the region server said so.
    pub reported_at_ms: u64,
}

/// Judges the queues by two reports of each, the earlier one first.
#[must_use]
pub fn judge(earlier: &[Queue], later: &[Queue]) -> Vec<Finding> {
    let behind = later.iter().filter(|queue| queue.lag_ms > LAG_MS_HIGH);
    behind
        .filter_map(|queue| {
            let is_same = |other: &&Queue| other.server == queue.server && other.name == queue.name;
            Some(one(earlier.iter().find(is_same)?, queue))
        })
        .collect()
}

fn one(earlier: &Queue, later: &Queue) -> Finding {
    let place = |queue: &Queue| (queue.last_shipped_at_ms, queue.next_at_ms, queue.operations_shipped);
    let has_moved = place(earlier) != place(later) || later.wal_count < earlier.wal_count;
    let Queue { server, name, wal_count, lag_ms, .. } = later;
    let seconds = lag_ms / 1000;
    if has_moved {
        return Finding::warning(
            format!(
                "queue {name} of region server {server} is {seconds} s behind in {wal_count} WAL files, and moves"
            ),
            "wait; if the lag grows, start one more weir run behind the same peer (docs/running.md)",
        );
    }
    // HBase 1.x goes on showing a lag for as long as a jam took after it is over.
    let is_sure = later.operations_shipped.is_some() && later.reported_at_ms > earlier.reported_at_ms;
    Finding {
        level: if is_sure { Level::Error } else { Level::Warning },
        what: format!(
            "queue {name} of region server {server} stands still: its oldest entry waits for {seconds} s, in \
             {wal_count} WAL files"
        ),
        fix: format!(
            "fix the calls that fail, which are named here when weir run is asked; when there are none: \
             grep ReplicationSource in the log of region server {server}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(lag_ms: i64, shipped: Option<u64>, reported_at_ms: u64) -> Queue {
        Queue {
            server: "rs".to_owned(),
            name: "weir".to_owned(),
            wal_count: 3,
            lag_ms,
            operations_shipped: shipped,
            reported_at_ms,
            ..Queue::default()
        }
    }

    #[track_caller]
    fn check(earlier: Queue, later: Queue, expect: Option<(Level, &str)>) {
        let found = judge(&[earlier], &[later]);
        assert_eq!(found.len(), usize::from(expect.is_some()), "{found:?}");
        if let (Some((level, text)), [finding]) = (expect, found.as_slice()) {
            assert!(finding.level == level && finding.what.contains(text), "{finding:?}");
        }
    }

    #[test]
    fn a_queue_that_stands_still_is_an_error_and_one_that_moves_a_warning() {
        let (first, second) = (queue(60_000, Some(5), 1), queue(63_000, Some(5), 4));
        check(first.clone(), second, Some((Level::Error, "stands still: its oldest entry waits for 63 s")));
        check(first.clone(), queue(63_000, Some(6), 4), Some((Level::Warning, "and moves")));
        check(first.clone(), queue(29_000, Some(5), 4), None);
        check(
            first.clone(),
            Queue { wal_count: 2, ..queue(63_000, Some(5), 4) },
            Some((Level::Warning, "moves")),
        );
        check(first, queue(63_000, Some(5), 1), Some((Level::Warning, "stands still")));
    }

    #[test]
    fn what_hbase_1_shows_after_a_jam_is_no_error() {
        check(queue(60_000, None, 1), queue(63_000, None, 4), Some((Level::Warning, "stands still")));
    }

    #[test]
    fn a_queue_that_was_not_there_before_is_not_judged() {
        assert_eq!(judge(&[], &[queue(63_000, Some(5), 4)]), []);
    }
}
