//! Values that were written in parts, put together on their way through one partition of a consumer.
//!
//! A whole value is one record at the offset of its last part. Until that record is done, nothing at or after the
//! offset of its first part is committed; [`Wholes::hold`] lowers a commit and lists in its metadata what is done after
//! that. A restart then reads the same parts again and puts the same value together.

use crate::parts::Part;
use bytes::Bytes;
use std::ops::Range;
use std::time::{Duration, Instant};
use weir_model::limits::PARTS_PENDING_BYTES_MAX;
use weir_runtime::budget::{Budget, Taken};
use weir_runtime::offset_map;
use weir_runtime::source::Commit;

/// A value is given up when this many other records and this much time have passed since its last part: its writer has
/// stopped in the middle. A writer that tries again writes all parts again.
const GIVE_UP_RECORDS: u64 = 100_000;
const GIVE_UP_AFTER: Duration = Duration::from_secs(600);

/// What one part came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// The value is not whole yet, or the part came a second time.
    Part,
    /// A part whose beginning is not there: a copy of a part of a value that is whole already, or the beginning was
    /// deleted by the topic's retention.
    Orphan,
    /// The value is whole.
    Whole(Bytes),
    /// The parts do not match the checksum of the value.
    Damaged,
}

#[derive(Debug)]
struct Pending {
    key: Vec<u8>,
    part: Part,
    slots: Vec<Option<Bytes>>,
    first: i64,
    taken: Vec<Taken>,
    /// Since its last part.
    since: Instant,
    others: u64,
}

impl Pending {
    fn is_of(&self, key: &[u8], part: Part) -> bool {
        let identity = |part: Part| (part.count, part.total_bytes, part.crc);
        self.key == key && identity(self.part) == identity(part)
    }

    fn bytes(&self) -> usize {
        self.slots.iter().flatten().map(Bytes::len).sum()
    }
}

/// The values in parts of one partition.
#[derive(Debug, Default)]
pub(crate) struct Wholes {
    pending: Vec<Pending>,
    /// First and last offset of each value that was handed on and may not be done.
    handed_on: Vec<(i64, i64)>,
    last: Option<i64>,
}

impl Wholes {
    /// Whether there is nothing to remember.
    pub(crate) const fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.handed_on.is_empty()
    }

    /// Takes one part. Its bytes count to the whole budget until the value is whole, and never stop the partition.
    pub(crate) fn add(&mut self, offset: i64, key: &[u8], part: Part, bytes: &[u8], budget: &Budget) -> Met {
        self.went_to(offset);
        let mut at = self.pending.iter().position(|pending| pending.is_of(key, part));
        if let Some(index) = at
            && let Some(Some(before)) = self.pending[index].slots.get(part.index as usize)
            && before.len() != bytes.len()
        {
            // The same value, cut in parts of another size: what came before belongs to a writer that has stopped.
            self.pending.swap_remove(index);
            at = None;
        }
        let index = match at {
            Some(index) => index,
            None if part.index > 0 => return Met::Orphan,
            None => {
                self.make_room(usize::try_from(part.total_bytes).unwrap_or(usize::MAX));
                self.pending.push(Pending {
                    key: key.to_vec(),
                    part,
                    slots: vec![None; part.count as usize],
                    first: offset,
                    taken: Vec::new(),
                    since: Instant::now(),
                    others: 0,
                });
                self.pending.len() - 1
            }
        };
        let pending = &mut self.pending[index];
        (pending.since, pending.others) = (Instant::now(), 0);
        if let Some(slot) = pending.slots.get_mut(part.index as usize)
            && slot.is_none()
        {
            *slot = Some(Bytes::copy_from_slice(bytes));
            pending.taken.push(budget.whole().take_at_once(bytes.len()));
        }
        if pending.slots.iter().any(Option::is_none) {
            return Met::Part;
        }
        let whole = self.pending.swap_remove(index);
        let mut value = Vec::with_capacity(whole.bytes());
        whole.slots.iter().flatten().for_each(|bytes| value.extend_from_slice(bytes));
        if value.len() as u64 != part.total_bytes || crc32c::crc32c(&value) != part.crc {
            return Met::Damaged;
        }
        self.handed_on.push((whole.first, offset));
        Met::Whole(value.into())
    }

    /// Notes records that are not parts. `last` is the offset of the last of them.
    pub(crate) fn passed(&mut self, count: usize, last: i64) {
        self.went_to(last);
        self.pending.retain_mut(|pending| {
            pending.others += count as u64;
            let is_over = pending.others >= GIVE_UP_RECORDS && pending.since.elapsed() >= GIVE_UP_AFTER;
            if is_over {
                given_up(pending, "its writer stopped in the middle");
            }
            !is_over
        });
    }

    /// A lower offset than the last one belongs to another log: nothing of the old one is put together with it.
    fn went_to(&mut self, offset: i64) {
        if self.last.is_some_and(|last| offset <= last) {
            self.pending.clear();
            self.handed_on.clear();
        }
        self.last = Some(offset);
    }

    /// Gives up the oldest values until this many bytes have room.
    fn make_room(&mut self, bytes: usize) {
        let used = |pending: &[Pending]| pending.iter().map(Pending::bytes).sum::<usize>();
        while !self.pending.is_empty() && used(&self.pending).saturating_add(bytes) > PARTS_PENDING_BYTES_MAX
        {
            let oldest = (0..self.pending.len()).min_by_key(|index| self.pending[*index].first);
            let pending = self.pending.swap_remove(oldest.unwrap_or_default());
            given_up(&pending, "parts of other values need its room");
        }
    }

    /// Lowers a commit to the first part of a value that is not done, and adds to its metadata what is done after that.
    pub(crate) fn hold(&mut self, commit: Commit) -> Commit {
        let upto = commit.offset;
        // A value is done when the commit is after its last part.
        self.handed_on.retain(|(_, last)| *last >= upto);
        let firsts = self.pending.iter().map(|pending| pending.first);
        let firsts = firsts.chain(self.handed_on.iter().map(|(first, _)| *first));
        let Some(first) = firsts.min().filter(|first| *first < upto) else { return commit };
        let mut done: Vec<Range<i64>> = Vec::new();
        if first + 1 < upto {
            done.push(first + 1..upto);
        }
        // Metadata of ours is always read.
        for range in offset_map::decode(upto, &commit.metadata).unwrap_or_default() {
            match done.last_mut().filter(|last| last.end == range.start) {
                Some(last) => last.end = range.end,
                None => done.push(range),
            }
        }
        let metadata = offset_map::encode(first, &done, offset_map::TEXT_BYTES_MAX);
        Commit { place: commit.place, offset: first, metadata }
    }
}

fn given_up(pending: &Pending, why: &str) {
    tracing::error!(
        offset = pending.first,
        total_bytes = pending.part.total_bytes,
        parts = pending.part.count,
        why,
        "a value in parts is given up: its other parts did not come"
    );
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]
mod tests {
    use super::*;
    use crate::parts::cut;
    use weir_runtime::record::Place;

    const VALUE: &[u8] = b"a value that is cut in parts";

    /// Adds parts of the value, given as `(offset, index)`; the offsets at which it was whole, and the orphans.
    fn met(wholes: &mut Wholes, parts: &[(i64, usize)]) -> (Vec<i64>, Vec<i64>) {
        let all: Vec<_> = cut(VALUE, 10).collect();
        let (mut whole, mut orphans) = (Vec::new(), Vec::new());
        for (offset, index) in parts {
            match wholes.add(*offset, b"k", all[*index].0, all[*index].1, &Budget::new(1 << 20)) {
                Met::Whole(value) => {
                    assert_eq!(value, VALUE);
                    whole.push(*offset);
                }
                Met::Orphan => orphans.push(*offset),
                Met::Part => {}
                Met::Damaged => panic!("damaged at {offset}"),
            }
        }
        (whole, orphans)
    }

    fn held(wholes: &mut Wholes, offset: i64, done: &[Range<i64>]) -> (i64, Vec<Range<i64>>) {
        let metadata = offset_map::encode(offset, done, 4000);
        let commit = wholes.hold(Commit { place: Place::new("t", 0), offset, metadata });
        (commit.offset, offset_map::decode(commit.offset, &commit.metadata).unwrap())
    }

    #[test]
    fn a_value_is_one_record_also_when_its_parts_come_twice_or_between_each_other() {
        assert_eq!(met(&mut Wholes::default(), &[(5, 0), (6, 1), (7, 2)]), (vec![7], vec![]));
        // A writer that stopped in the middle, and its second attempt.
        assert_eq!(
            met(&mut Wholes::default(), &[(5, 0), (6, 1), (9, 0), (10, 1), (11, 2)]),
            (vec![11], vec![])
        );
        // Two writers of the same value.
        let two = [(5, 0), (6, 0), (7, 1), (8, 2), (9, 1), (10, 2)];
        assert_eq!(met(&mut Wholes::default(), &two), (vec![8], vec![9, 10]));
        // Its beginning is not there any more.
        assert_eq!(met(&mut Wholes::default(), &[(6, 1), (7, 2)]), (vec![], vec![6, 7]));
    }

    #[test]
    fn nothing_after_the_first_part_is_committed_before_the_value_is_done() {
        let mut wholes = Wholes::default();
        met(&mut wholes, &[(5, 0), (7, 1)]);
        // Offset 6 is another record, and done.
        assert_eq!(held(&mut wholes, 7, &[]), (5, vec![6..7]));
        assert_eq!(held(&mut wholes, 5, &[]), (5, vec![]));
        met(&mut wholes, &[(9, 2)]);
        assert_eq!(held(&mut wholes, 9, &[10..12]), (5, vec![6..9, 10..12]));
        assert_eq!(held(&mut wholes, 10, &[]), (10, vec![]));
        assert!(wholes.is_empty());
    }

    #[test]
    fn a_value_that_was_cut_in_parts_of_another_size_begins_again() {
        let (mut wholes, budget) = (Wholes::default(), Budget::new(1 << 20));
        let add = |wholes: &mut Wholes, offset, bytes: usize, index: usize| {
            let (part, piece) = cut(VALUE, bytes).nth(index).unwrap();
            wholes.add(offset, b"k", part, piece, &budget)
        };
        assert_eq!(add(&mut wholes, 5, 10, 0), Met::Part);
        assert_eq!(add(&mut wholes, 6, 10, 1), Met::Part);
        for (offset, index) in [(7, 0), (8, 1)] {
            assert_eq!(add(&mut wholes, offset, 12, index), Met::Part);
        }
        assert_eq!(held(&mut wholes, 7, &[]), (7, vec![]));
        assert_eq!(add(&mut wholes, 9, 12, 2), Met::Whole(Bytes::from_static(VALUE)));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_log_that_went_back_takes_its_parts_with_it() {
        let mut wholes = Wholes::default();
        assert_eq!(met(&mut wholes, &[(5, 0), (6, 1), (3, 2)]), (vec![], vec![3]));
        wholes.passed(1, 4);
        assert!(wholes.is_empty());
    }
}
