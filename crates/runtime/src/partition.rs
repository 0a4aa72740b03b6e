//! The poller's side of one partition: its window, what is committed, and what a predecessor had done.

use crate::assignment::Assignment;
use crate::budget::Part;
use crate::flow::Bucket;
use crate::health::PartitionHealth;
use crate::intake::IntakeClock;
#[cfg(test)]
use crate::mutant;
use crate::offset_map;
use crate::record::Place;
use crate::source::Commit;
use crate::window::{Slot, Window};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tokio::time::Instant;

/// Records that are taken of a partition before it is known how large they are.
const RECORDS_FIRST: usize = 16;

pub(crate) struct Partition {
    pub(crate) assignment: Arc<Assignment>,
    pub(crate) window: Window,
    /// Revoked or lost: no more records.
    pub(crate) is_leaving: bool,
    /// Why it gives no more records.
    pub(crate) fault: Option<String>,
    /// Records that a window must have room for before it is fed again, so that a full one is not fed one by one.
    pub(crate) fetch_min: usize,
    /// Its own rate.
    pub(crate) bucket: Bucket,
    /// Its part of the byte budget.
    pub(crate) part: Part,
    /// Bytes that one of its records takes, as the last ones say; 0 is not known yet.
    record_bytes: usize,
    /// The commit on its way, and the last one that was answered.
    pub(crate) sent: Option<(i64, String)>,
    pub(crate) acked: Option<(i64, String)>,
    /// When the commit on its way, or the last one, was sent.
    pub(crate) sent_at: Instant,
    /// What its intake does, and did.
    pub(crate) intake: IntakeClock,
    /// Records that were started since it is ours.
    started: u64,
    /// Where a successor would start.
    base: Option<i64>,
    window_records: usize,
    /// One past what was read: the last record that was started, or the end of the log.
    next: i64,
    /// The last record that was started.
    newest: Option<i64>,
    /// Offsets that a predecessor had done, in order; those before `next` are gone.
    done_before: VecDeque<Range<i64>>,
    /// Slot number and lane of what was handed to the shards, from the head on: the head must have a name.
    lanes: VecDeque<(u64, u64)>,
    /// The oldest record that is not done, and since when it is that.
    head: Option<(i64, Instant)>,
    since: Instant,
}

impl Partition {
    pub(crate) fn new(
        assignment: Arc<Assignment>,
        window_records: usize,
        part: Part,
        committed: Option<i64>,
        metadata: String,
        done_before: Vec<Range<i64>>,
        now: Instant,
    ) -> Self {
        let window = Window::new(window_records);
        #[cfg(test)]
        let window = mutant::outlived(&assignment.place, window);
        Self {
            assignment,
            fetch_min: (window.free() / 16).clamp(1, 64),
            window,
            bucket: Bucket::new(now),
            part,
            record_bytes: 0,
            is_leaving: false,
            fault: None,
            sent: None,
            acked: committed.map(|offset| (offset, metadata)),
            sent_at: now,
            intake: IntakeClock::new(now),
            started: 0,
            base: committed,
            window_records,
            next: committed.unwrap_or(i64::MIN),
            newest: None,
            done_before: done_before.into(),
            lanes: VecDeque::new(),
            head: None,
            since: now,
        }
    }

    /// How many records are likely to fit into so many bytes; one at least, because only that shows its size.
    pub(crate) fn records_within(&self, bytes: usize) -> usize {
        let few = if self.record_bytes == 0 { RECORDS_FIRST } else { usize::MAX };
        (bytes / self.record_bytes.max(1)).clamp(1, few)
    }

    /// So many records took so many bytes.
    pub(crate) fn learn(&mut self, count: usize, bytes: usize) {
        let now = bytes / count.max(1);
        // Up at once and down slowly: a bound is passed by one surprise.
        self.record_bytes = now.max((self.record_bytes * 3 + now) / 4).max(1);
    }

    pub(crate) fn is_at(&self, place: &Place) -> bool {
        self.assignment.place == *place
    }

    pub(crate) fn start(&mut self, offset: i64) -> Slot {
        if offset < self.next {
            self.go_back(offset);
        }
        self.base.get_or_insert(offset);
        self.next = offset.saturating_add(1);
        self.newest = Some(offset);
        self.started += 1;
        self.window.start(offset)
    }

    /// Everything below this offset was handed out. What lies between the last record and it holds no commit up:
    /// transaction markers, records of aborted transactions, what compaction removed.
    pub(crate) fn read_to(&mut self, offset: i64) {
        if offset < self.next {
            // An end before what was read. With nothing of this log in flight that is the new position; otherwise the
            // first record that comes says how far back the log went.
            if self.base.is_some_and(|base| base < offset) {
                return;
            }
            self.go_back(offset);
        }
        self.base.get_or_insert(offset);
        self.next = offset;
    }

    /// The partition is of another log, which is read from this offset on. Records of the old one that are in flight
    /// end as usual, and are not committed.
    pub(crate) fn recreated(&mut self, start: i64) {
        self.done_before.clear();
        self.window = Window::new(self.window_records);
        self.lanes.clear();
        (self.base, self.next, self.newest) = (Some(start), start, None);
        (self.sent, self.acked, self.fault) = (None, None, None);
    }

    /// The log went back to this offset: it was cut, or made anew. What was known of this offset and what follows is
    /// not true any more. What was started before is handled all the same, in its lanes before what comes now.
    fn go_back(&mut self, offset: i64) {
        let place = &self.assignment.place;
        tracing::warn!(%place, offset, expected = self.next, "the log went back: it was cut, or made anew");
        self.done_before.clear();
        if self.base.is_none_or(|base| offset <= base) {
            // Nothing of what is in flight is of this log.
            self.window = Window::new(self.window_records);
            self.lanes.clear();
            self.base = Some(offset);
        }
    }

    /// Whether a predecessor had done it. Asked for in log order.
    pub(crate) fn is_done_before(&mut self, offset: i64) -> bool {
        #[cfg(test)]
        if mutant::is(mutant::Mutant::ForgetsTheMap) {
            return false;
        }
        while self.done_before.front().is_some_and(|range| range.end <= offset) {
            self.done_before.pop_front();
        }
        self.done_before.front().is_some_and(|range| range.contains(&offset))
    }

    /// Remembers the lane of a record that is handed to a shard. In log order.
    pub(crate) fn hand_over(&mut self, slot: &Slot, lane: u64) {
        self.lanes.push_back((slot.number(), lane));
    }

    pub(crate) fn advance(&mut self) {
        if let Some(base) = self.window.advance() {
            self.base = Some(base);
            let head = self.window.head_number();
            let passed = self.lanes.partition_point(|(number, _)| *number < head);
            self.lanes.drain(..passed);
        }
        if !self.window.is_cut() {
            // Between the last record that is done and the first that is not, or the end, the log has holes alone. `next`
            // is below the base only where the log went back and nothing has come since.
            let first = self.window.head_offset().unwrap_or(self.next);
            self.base = self.base.map(|base| base.max(first));
        }
    }

    /// What is to be committed, if that is not what was committed last.
    pub(crate) fn commit(&self, metadata_bytes_max: usize) -> Option<Commit> {
        let offset = self.base?;
        let mut done = self.window.done_beyond();
        // What a predecessor had done and we have not come to yet must outlive this commit.
        for range in &self.done_before {
            let rest = range.start.max(self.next)..range.end;
            match done.last_mut() {
                _ if rest.is_empty() => {}
                Some(last) if last.end == rest.start => last.end = rest.end,
                _ => done.push(rest),
            }
        }
        let metadata = offset_map::encode(offset, &done, metadata_bytes_max);
        let is_new = self.acked.as_ref().is_none_or(|(acked, text)| *acked != offset || *text != metadata);
        is_new.then(|| Commit { place: self.assignment.place.clone(), offset, metadata })
    }

    /// Records between the next one to take and the end of the log, if both are known.
    pub(crate) fn lag(&self, end: Option<i64>) -> Option<u64> {
        let next = if self.started > 0 { Some(self.next) } else { self.base };
        Some(u64::try_from(end?.saturating_sub(next?)).unwrap_or_default())
    }

    pub(crate) fn health(&mut self, now: Instant) -> PartitionHealth {
        let (head, head_number) = (self.window.head_offset(), self.window.head_number());
        if head != self.head.map(|(offset, _)| offset) {
            self.head = head.map(|offset| (offset, now));
        }
        let trouble = head.and_then(|offset| self.assignment.trouble_at(offset));
        let (intake, intake_for, intake_times) = self.intake.read(now);
        let pending = self.window.pending();
        PartitionHealth {
            place: self.assignment.place.clone(),
            committed: self.acked.as_ref().map(|(offset, _)| *offset),
            head,
            head_for: self.head.map(|(_, since)| now - since).unwrap_or_default(),
            head_attempts_failed: trouble.as_ref().map_or(0, |trouble| trouble.attempt),
            head_is_parked: trouble.as_ref().is_some_and(|trouble| trouble.is_parked),
            head_lane: head
                .and(self.lanes.front())
                .filter(|(number, _)| *number == head_number)
                .map(|one| one.1),
            head_reason: trouble.map(|trouble| trouble.reason),
            pending,
            window_records: pending + self.window.free(),
            commit_unanswered_for: self.sent.as_ref().map(|_| now.saturating_duration_since(self.sent_at)),
            map_bytes: self.acked.as_ref().map_or(0, |(_, map)| map.len()),
            lag: None,
            newest: self.newest,
            received: self.started,
            finished: self.started - pending as u64,
            attempts_failed: self.assignment.failed_count(),
            failing: self.assignment.trouble_count(),
            fault: self.fault.clone(),
            intake,
            intake_for,
            intake_times,
            ours_for: now - self.since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part() -> Part {
        crate::budget::Budget::new(1024).part()
    }

    fn partition(committed: i64, done: Vec<Range<i64>>) -> Partition {
        let assignment = Arc::new(Assignment::new(1, Place::new("t", 0)));
        let metadata = offset_map::encode(committed, &done, 4000);
        Partition::new(assignment, 64, part(), Some(committed), metadata, done, Instant::now())
    }

    fn done_after(commit: &Commit) -> Vec<Range<i64>> {
        offset_map::decode(commit.offset, &commit.metadata).unwrap()
    }

    #[test]
    fn what_a_predecessor_had_done_outlives_the_first_commit_of_its_successor() {
        let mut partition = partition(10, vec![12..14, 20..30]);
        assert_eq!(partition.commit(4000), None);
        let slots: Vec<Slot> = (10..14).map(|offset| partition.start(offset)).collect();
        let spared: Vec<bool> = (10..14).map(|offset| partition.is_done_before(offset)).collect();
        assert_eq!(spared, [false, false, true, true]);
        slots.into_iter().skip(1).for_each(Slot::finish);
        partition.advance();
        let commit = partition.commit(4000).unwrap();
        assert_eq!((commit.offset, done_after(&commit)), (10, vec![11..14, 20..30]));
        partition.start(20).finish();
        assert!(partition.is_done_before(20));
        let commit = partition.commit(4000).unwrap();
        // The log has nothing from 14 to 19, so that one range says it all.
        assert_eq!(done_after(&commit), vec![11..30]);
    }

    #[test]
    fn holes_before_a_record_and_at_the_end_are_committed_past() {
        let mut partition = partition(10, Vec::new());
        let slots = [15, 20].map(|offset| partition.start(offset));
        let mut commits = Vec::new();
        let mut advance = |partition: &mut Partition| {
            partition.advance();
            commits.push(partition.commit(4000).map(|commit| commit.offset));
        };
        advance(&mut partition);
        let [first, second] = slots;
        first.finish();
        advance(&mut partition);
        partition.read_to(24);
        advance(&mut partition);
        second.finish();
        advance(&mut partition);
        // An end before that, of a log that is empty by now.
        partition.read_to(3);
        advance(&mut partition);
        assert_eq!(commits, [15, 20, 20, 24, 3].map(Some));
    }

    #[test]
    fn nothing_is_committed_before_anything_is_known() {
        let assignment = Arc::new(Assignment::new(1, Place::new("t", 0)));
        let mut partition =
            Partition::new(assignment, 64, part(), None, String::new(), Vec::new(), Instant::now());
        assert_eq!(partition.commit(4000), None);
        let slot = partition.start(5);
        // A start without a commit is a position worth keeping: retention or a later record must not move it.
        assert_eq!(partition.commit(4000).map(|commit| commit.offset), Some(5));
        slot.finish();
        partition.advance();
        assert_eq!(partition.commit(4000).map(|commit| commit.offset), Some(6));
    }
}
