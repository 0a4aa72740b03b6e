//! Reads the log back: distinct cells, extra copies, and SEND_MESSAGE in 100 ms buckets of event time.

use crate::console::Account;
use std::collections::{BTreeMap, HashMap};
use weir_kafka::reader::LogRecord;
use weir_model::Fault;
use weir_wire::change;

/// Tells what is new in the log from what came again.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Sequence numbers seen, by region, as closed ranges: a region's entries come in order, so this stays small.
    seen: HashMap<String, BTreeMap<u64, u64>>,
}

impl Counter {
    /// Takes one record into the account. An entry that was seen before adds to the duplicates only, and a message
    /// counts by the bucket of its own timestamp: one that falls outside of the play is not counted.
    pub(crate) fn take(&mut self, record: &LogRecord, account: &mut Account) -> Result<(), Fault> {
        let change = change::decode(&record.value).map_err(|error| {
            let about = format!("{}-{} at {}", record.topic, record.partition, record.offset);
            Fault::new(weir_model::FaultKind::Corrupt, "W-CAPTURE-CORRUPT", "read a change", about)
                .caused_by(error)
        })?;
        // An event is no entry, and its sequence number is not one of theirs.
        if change.event.is_some() {
            return Ok(());
        }
        let cells = change.cells.len() as u64;
        if !self.note(change.encoded_region, change.sequence) {
            account.duplicates += cells;
            return Ok(());
        }
        account.in_log += cells;
        for cell in change.cells.iter().filter(|cell| cell.qualifier == b"SEND_MESSAGE") {
            if let Some(bucket) = account.bucket_of(cell.timestamp) {
                account.counted_by_bucket[bucket] += 1;
                account.counted += 1;
            }
        }
        Ok(())
    }

    /// Notes a sequence number of a region; false when it was there.
    fn note(&mut self, region: &str, sequence: u64) -> bool {
        if !self.seen.contains_key(region) {
            self.seen.insert(region.to_owned(), BTreeMap::new());
        }
        let ranges = self.seen.get_mut(region).expect("inserted above");
        let before = ranges.range(..=sequence).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| sequence <= last) {
            return false;
        }
        let joins_next = ranges.remove(&(sequence + 1));
        let last = joins_next.unwrap_or(sequence);
        match before {
            Some((first, before_last)) if before_last + 1 == sequence => ranges.insert(first, last),
            _ => ranges.insert(sequence, last),
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sequence_number_of_a_region_counts_once_in_any_order() {
        let mut counter = Counter::default();
        let noted: Vec<bool> =
            [5, 6, 4, 5, 9, 8, 7, 7, 6, 1].map(|sequence| counter.note("r", sequence)).to_vec();
        assert_eq!(noted, [true, true, true, false, true, true, true, false, false, true]);
        assert_eq!(counter.seen["r"], BTreeMap::from([(1, 1), (4, 9)]));
        assert!(counter.note("s", 5));
    }
}
