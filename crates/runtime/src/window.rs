//! Which records of one assignment are done: one bit a record, set from any thread, read by the poller alone.
//!
//! A slot is a count, not an offset, so holes in the log (compaction, transaction markers) cost nothing. A window
//! belongs to one assignment: a record that finishes after its partition was taken away sets a bit that nobody reads
//! any more, and there is nothing global that could leak.

#[cfg(test)]
use crate::mutant::{self, Mutant};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const WORD: u64 = u64::BITS as u64;

/// The bits, shared with the records in flight.
#[derive(Debug)]
struct Bits {
    words: Box<[AtomicU64]>,
    mask: u64,
}

impl Bits {
    fn word(&self, slot: u64) -> &AtomicU64 {
        let index = usize::try_from((slot & self.mask) / WORD).expect("a window is in memory");
        &self.words[index]
    }
}

/// The duty to finish one record. Finishing takes it; dropping it unfinished leaves the record pending for ever, which
/// the owner of the record must turn into a failure.
#[derive(Debug)]
pub struct Slot {
    bits: Arc<Bits>,
    number: u64,
}

impl Slot {
    /// Its number, counted from the window's start.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Marks the record as done. Any thread may do it, at any time.
    pub fn finish(self) {
        // Release: what the handler did is seen by whoever sees the bit.
        self.bits.word(self.number).fetch_or(1 << (self.number % WORD), Ordering::Release);
    }
}

/// The poller's side: what was started in log order, and how far all of it is done.
#[derive(Debug)]
pub struct Window {
    bits: Arc<Bits>,
    /// Offsets of the slots in flight; `head & mask` is the oldest.
    offsets: Box<[i64]>,
    head: u64,
    tail: u64,
    /// Where the log went back: the number of the first slot after it, and its offset. In order; those that the head
    /// has passed are gone.
    cuts: VecDeque<(u64, i64)>,
    /// Offset of the last record that was started.
    last: Option<i64>,
}

impl Window {
    /// A window for at least `capacity` records in flight (rounded up to a power of two). It takes eight
    /// bytes and one bit a record.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.next_power_of_two();
        let words = (0..capacity.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let bits = Arc::new(Bits { words, mask: capacity as u64 - 1 });
        Self {
            bits,
            offsets: vec![0; capacity].into_boxed_slice(),
            head: 0,
            tail: 0,
            cuts: VecDeque::new(),
            last: None,
        }
    }

    /// A window with the bits of another, for the simulator's mutant.
    #[cfg(test)]
    pub(crate) fn with_bits_of(mut self, other: &Self) -> Self {
        self.bits = Arc::clone(&other.bits);
        self
    }

    /// Records that may be started before the oldest must finish.
    #[must_use]
    pub fn free(&self) -> usize {
        self.offsets.len() - self.pending()
    }

    /// Records from the oldest that is not done to the newest, done ones among them.
    #[must_use]
    pub fn pending(&self) -> usize {
        usize::try_from(self.tail - self.head).expect("a window is in memory")
    }

    /// Offset of the oldest record that is not done, as of the last [`Window::advance`].
    #[must_use]
    pub fn head_offset(&self) -> Option<i64> {
        (self.head < self.tail).then(|| self.offset(self.head))
    }

    /// Starts the next record of the log. One that is not above the last says that the log went back: what was started
    /// from its offset on is of a log that is no more. It holds its slots until it is done, and the commit does not
    /// pass the new record before.
    ///
    /// # Panics
    /// When the window is full: the poller ignored its bound.
    pub fn start(&mut self, offset: i64) -> Slot {
        assert!(self.free() > 0, "the poller ignored the window's bound");
        let number = self.tail;
        if self.pending() > 0 && self.last.is_some_and(|last| offset <= last) {
            self.cuts.push_back((number, offset));
        }
        let place = self.place(number);
        self.offsets[place] = offset;
        self.last = Some(offset);
        self.tail += 1;
        Slot { bits: Arc::clone(&self.bits), number }
    }

    /// Moves past everything that is done from the oldest on. Returns the offset to commit, one past the last record
    /// of the finished stretch, when that moved.
    pub fn advance(&mut self) -> Option<i64> {
        let before = self.head;
        while self.head < self.tail {
            let word = self.bits.word(self.head);
            let shift = self.head % WORD;
            let ones = u64::from((word.load(Ordering::Acquire) >> shift).trailing_ones());
            let ones = ones.min(WORD - shift).min(self.tail - self.head);
            #[cfg(test)]
            let ones = if mutant::is(Mutant::CommitsPastAHole) { ones.max(1) } else { ones };
            if ones == 0 {
                break;
            }
            let cleared = (u64::MAX >> (WORD - ones)) << shift;
            word.fetch_and(!cleared, Ordering::Relaxed);
            self.head += ones;
        }
        if self.head == before {
            return None;
        }
        let passed = self.offset(self.head - 1).saturating_add(1);
        let mut position = passed;
        while let Some((number, offset)) = self.cuts.pop_front_if(|(number, _)| *number <= self.head) {
            position = if number == self.head { offset } else { passed };
        }
        Some(self.cut().map_or(position, |cut| position.min(cut)))
    }

    /// Whether slots are in flight from before the log went back.
    pub(crate) fn is_cut(&self) -> bool {
        !self.cuts.is_empty()
    }

    /// The lowest offset that the log went back to, as long as slots from before that are in flight.
    fn cut(&self) -> Option<i64> {
        self.cuts.iter().map(|(_, offset)| *offset).min()
    }

    /// The number of the oldest slot in flight, or of the next one. Numbers never go back.
    #[must_use]
    pub const fn head_number(&self) -> u64 {
        self.head
    }

    /// Ranges of offsets past the committed one that are done already, in order: what a successor need not repeat.
    /// Offsets that the log does not have count to the range around them. Nothing past an offset that the log went back
    /// to, as long as something from before is in flight.
    #[must_use]
    pub fn done_beyond(&self) -> Vec<Range<i64>> {
        let mut ranges: Vec<Range<i64>> = Vec::new();
        let mut is_open = false;
        let upto = self.cuts.front().map_or(self.tail, |(number, _)| *number);
        let cut = self.cut().unwrap_or(i64::MAX);
        for number in self.head..upto {
            let is_done = self.bits.word(number).load(Ordering::Acquire) >> (number % WORD) & 1 == 1;
            let offset = self.offset(number);
            if offset >= cut {
                break;
            }
            match ranges.last_mut().filter(|_| is_open && is_done) {
                Some(range) => range.end = offset.saturating_add(1),
                None if is_done => ranges.push(offset..offset.saturating_add(1)),
                None => {}
            }
            is_open = is_done;
        }
        #[cfg(test)]
        if mutant::is(Mutant::MapClaimsMore) {
            ranges.iter_mut().for_each(|range| range.end += 1);
        }
        ranges
    }

    fn place(&self, number: u64) -> usize {
        usize::try_from(number & self.bits.mask).expect("a window is in memory")
    }

    fn offset(&self, number: u64) -> i64 {
        self.offsets[self.place(number)]
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_small_window_has_as_many_places_as_it_was_asked_for() {
        for capacity in [1, 2, 16, 64] {
            let mut window = Window::new(capacity);
            for round in 0..100 {
                let slots: Vec<Slot> = (0..window.free()).map(|_| window.start(round)).collect();
                assert_eq!((slots.len(), window.free()), (capacity, 0));
                slots.into_iter().for_each(Slot::finish);
                assert!(window.advance().is_some() && window.pending() == 0);
            }
        }
    }

    #[test]
    fn the_window_commits_only_up_to_the_first_record_that_is_not_done() {
        let mut window = Window::new(64);
        let [seven, eight, twelve] = [7, 8, 12].map(|offset| window.start(offset));
        assert_eq!((window.advance(), window.head_offset()), (None, Some(7)));
        eight.finish();
        assert_eq!((window.advance(), window.done_beyond()), (None, vec![8..9]));
        seven.finish();
        assert_eq!((window.advance(), window.pending()), (Some(9), 1));
        twelve.finish();
        assert_eq!((window.advance(), window.head_offset()), (Some(13), None));
    }

    #[test]
    fn a_dropped_slot_holds_the_window_for_ever() {
        let mut window = Window::new(64);
        drop(window.start(0));
        (1..64).for_each(|offset| window.start(offset).finish());
        assert_eq!((window.advance(), window.free(), window.done_beyond()), (None, 0, vec![1..64]));
    }

    #[test]
    #[should_panic(expected = "ignored the window's bound")]
    fn a_full_window_takes_no_more() {
        let mut window = Window::new(64);
        for offset in 0..65 {
            drop(window.start(offset));
        }
    }

    #[test]
    fn where_the_log_went_back_the_commit_waits_for_what_was_started_before() {
        let mut window = Window::new(64);
        let [five, six, seven] = [5, 6, 7].map(|offset| window.start(offset));
        let [again, next] = [6, 7].map(|offset| window.start(offset));
        again.finish();
        six.finish();
        assert_eq!((window.advance(), window.done_beyond()), (None, vec![]));
        five.finish();
        assert_eq!(
            (window.advance(), window.done_beyond()),
            (Some(6), vec![]),
            "the old 6 says nothing of the new"
        );
        seven.finish();
        assert_eq!((window.advance(), window.head_offset()), (Some(7), Some(7)));
        let [eight, _nine] = [8, 9].map(|offset| window.start(offset));
        eight.finish();
        assert_eq!((window.advance(), window.done_beyond()), (None, vec![8..9]));
        next.finish();
        assert_eq!((window.advance(), window.pending()), (Some(9), 1));
        let mut window = Window::new(64);
        // The last offset that there can be, and a lower one than any before.
        window.start(i64::MAX).finish();
        assert_eq!(window.advance(), Some(i64::MAX));
        window.start(i64::MIN).finish();
        assert_eq!(window.advance(), Some(i64::MIN + 1));
    }

    #[test]
    fn records_may_finish_on_any_thread() {
        let mut window = Window::new(1 << 12);
        let (sender, receiver) = std::sync::mpsc::sync_channel::<Slot>(1 << 12);
        let receiver = std::sync::Mutex::new(receiver);
        let mut committed = 0;
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        let slot = receiver.lock().unwrap().recv();
                        let Ok(slot) = slot else { return };
                        slot.finish();
                    }
                });
            }
            let mut offset = 0;
            while offset < 200_000 {
                while window.free() > 0 && offset < 200_000 {
                    sender.send(window.start(offset)).unwrap();
                    offset += 1;
                }
                committed = window.advance().unwrap_or(committed);
            }
            drop(sender);
        });
        committed = window.advance().unwrap_or(committed);
        assert_eq!((committed, window.pending()), (200_000, 0));
    }

    proptest! {
        /// Against a plain model: a set of what is done.
        #[test]
        fn any_order_of_finishing_commits_exactly_the_finished_prefix(
            gaps in prop::collection::vec(1i64..4, 1..200),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        ) {
            let mut window = Window::new(256);
            let (mut offset, mut open, mut all) = (0, Vec::new(), Vec::new());
            for gap in gaps {
                offset += gap;
                all.push((offset, false));
                open.push((all.len() - 1, window.start(offset)));
            }
            let mut committed = None;
            for pick in order {
                if open.is_empty() { break; }
                let (index, slot) = open.swap_remove(pick.index(open.len()));
                all[index].1 = true;
                slot.finish();
                committed = window.advance().or(committed);
                let prefix = all.iter().take_while(|(_, done)| *done).last().map(|(offset, _)| offset + 1);
                prop_assert_eq!(committed, prefix);
                let beyond: Vec<i64> = all.iter().skip_while(|(_, done)| *done)
                    .filter(|(_, done)| *done).map(|(offset, _)| *offset).collect();
                let ranges = window.done_beyond();
                let covered: Vec<i64> = all.iter().map(|(offset, _)| *offset)
                    .filter(|offset| ranges.iter().any(|range| range.contains(offset))).collect();
                prop_assert_eq!(covered, beyond);
            }
        }
    }
}
