//! The order in which the writes of a row stand in the log, measured.

use std::collections::{HashMap, HashSet};
use std::fmt;
use weir_kafka::reader::LogRecord;

/// What a topic says about the order of its rows. An entry that writes three rows counts for each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Writes of a row, first copies.
    pub(crate) writes: usize,
    /// Copies that came again.
    pub(crate) again: usize,
    /// First copies that came after a newer write of their row.
    pub(crate) late: usize,
    /// Rows that saw such a write.
    pub(crate) rows_late: HashSet<Vec<u8>>,
    seen: HashSet<(Vec<u8>, String, u64)>,
    newest: HashMap<Vec<u8>, u64>,
}

/// Reads the records of one topic in the order of each partition.
pub(crate) fn of_rows(records: &[LogRecord]) -> Order {
    let mut order = Order::default();
    for record in records {
        let change = weir_wire::change::decode(&record.value).unwrap();
        let rows: HashSet<&[u8]> = change.cells.iter().map(|cell| cell.row).collect();
        for row in rows {
            order.take(row, change.encoded_region, change.sequence);
        }
    }
    order
}

impl Order {
    /// The next write in the log.
    ///
    /// Sequence numbers of a row only grow, through moves, splits and merges too: a region opens above all that it was
    /// made of.
    fn take(&mut self, row: &[u8], region: &str, sequence: u64) {
        if !self.seen.insert((row.to_vec(), region.to_owned(), sequence)) {
            self.again += 1;
            return;
        }
        self.writes += 1;
        let newest = self.newest.entry(row.to_vec()).or_default();
        if sequence < *newest {
            self.late += 1;
            self.rows_late.insert(row.to_vec());
        }
        *newest = sequence.max(*newest);
    }
}

impl fmt::Display for Order {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} writes of rows, {} came again, {} came after a newer one ({} rows)",
            self.writes,
            self.again,
            self.late,
            self.rows_late.len()
        )
    }
}

/// Writes as (row, region, sequence) -> how many were first copies, came again, came late, and rows of these.
#[track_caller]
fn check(writes: &[(&str, &str, u64)], expect: [usize; 4]) {
    let mut order = Order::default();
    for (row, region, sequence) in writes {
        order.take(row.as_bytes(), region, *sequence);
    }
    assert_eq!([order.writes, order.again, order.late, order.rows_late.len()], expect);
}

#[test]
fn a_write_is_late_when_a_newer_one_of_its_row_came_before() {
    check(&[("a", "r", 1), ("a", "r", 5), ("b", "r", 3)], [3, 0, 0, 0]);
    check(&[("a", "r", 1), ("a", "r", 5), ("a", "r", 3), ("a", "r", 4), ("a", "r", 6)], [5, 0, 2, 1]);
    // The daughter of a split goes on above its parent.
    check(&[("a", "parent", 7), ("a", "daughter", 9), ("a", "parent", 8)], [3, 0, 1, 1]);
}

#[test]
fn a_write_that_comes_again_is_not_late() {
    check(&[("a", "r", 1), ("a", "r", 2), ("a", "r", 1), ("a", "r", 2)], [2, 2, 0, 0]);
}
