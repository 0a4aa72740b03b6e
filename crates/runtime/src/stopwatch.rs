//! A shard's or the poller's stopwatch: what the time is, and how long each stage takes.
//!
//! The clock is read once a turn, and then once for every [`RUN_MAX`] events, or for each one when they are slow; a
//! record costs no clock read of its own. Attempts that end at once are timed as a run: sum and count are exact, and
//! each counts as the mean of its run.

use crate::histogram::Histogram;
use crate::record::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Events to one look at the clock, when they are quick.
const RUN_MAX: u32 = 16;

/// Events that take longer than this are timed one by one: a clock read is a hundredth of it.
const QUICK_NS: u64 = 5_000;

/// How often the lanes are gone through for the longest one.
const LANES_EVERY_NS: u64 = 1_000_000_000;

/// Nanoseconds since the consumer began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) fn new(began: Instant, now: Instant) -> Self {
        Self(ns(now.saturating_duration_since(began)))
    }

    const fn ns_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

fn ns(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// From the start of an attempt to its outcome.
    Attempt,
    /// From a record's arrival to its end, retries and dead letter included.
    Completion,
    /// From the record's timestamp to the start of its first attempt.
    Delivery,
    /// The wait before a further attempt.
    RetryWait,
    /// One try to write a dead letter, or a record to the retry topic.
    DeadLetter,
    /// From a commit to its answer.
    Commit,
    /// From the loss of partitions to their release.
    Drain,
}

pub(crate) const STAGES: [Stage; 7] = [
    Stage::Attempt,
    Stage::Completion,
    Stage::Delivery,
    Stage::RetryWait,
    Stage::DeadLetter,
    Stage::Commit,
    Stage::Drain,
];

/// What one shard, or the poller, has timed and counted; written by it alone, read by anybody.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    times: [Histogram; STAGES.len()],
    /// Keys with a record that is not done.
    lanes: AtomicUsize,
    /// Records that wait behind another one in the longest lane: never too low, and too high for up to a second.
    lane_longest: AtomicUsize,
    /// Attempts, and dead letters, under way.
    running: AtomicUsize,
}

impl Figures {
    pub(crate) const fn times(&self, stage: Stage) -> &Histogram {
        &self.times[stage as usize]
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes.load(Ordering::Relaxed)
    }

    pub(crate) fn lane_longest(&self) -> usize {
        self.lane_longest.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }
}

/// The stopwatch of one shard.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    began: Instant,
    figures: Arc<Figures>,
    now: Moment,
    /// When the turn began, by this clock and in ms since 1970.
    turn: (Moment, i64),
    /// Events since the last look at the clock; attempts among them that ended at once; and after how many to look.
    events: u32,
    at_once: u32,
    run: u32,
    lane_longest: usize,
    lanes_due: Moment,
}

impl Stopwatch {
    pub(crate) fn new(began: Instant, figures: Arc<Figures>) -> Self {
        Self {
            began,
            figures,
            now: Moment::default(),
            turn: (Moment::default(), 0),
            events: 0,
            at_once: 0,
            run: RUN_MAX,
            lane_longest: 0,
            lanes_due: Moment::default(),
        }
    }

    pub(crate) const fn now(&self) -> Moment {
        self.now
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&mut self) {
        (self.events, self.at_once) = (0, 0);
        self.now = Moment::new(self.began, Instant::now());
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.turn = (self.now, i64::try_from(wall.as_millis()).unwrap_or(i64::MAX));
    }

    /// The first attempt at a record begins.
    pub(crate) fn delivered(&self, record: &Record) {
        // Zero or below is a record without a time.
        if record.timestamp_ms > 0 {
            let (began, wall_ms) = self.turn;
            let late_ms = wall_ms.saturating_sub(record.timestamp_ms).max(0).cast_unsigned();
            let late_ns = late_ms.saturating_mul(1_000_000).saturating_add(self.now.ns_since(began));
            self.figures.times(Stage::Delivery).add(late_ns);
        }
    }

    /// An attempt has ended at its first poll.
    pub(crate) fn ended_at_once(&mut self) {
        self.at_once += 1;
        self.event();
    }

    /// Something happened that takes time: an attempt began and goes on, or one that went on has ended.
    pub(crate) fn event(&mut self) {
        self.events += 1;
        if self.events >= self.run {
            self.look();
        }
    }

    pub(crate) fn since(&self, stage: Stage, start: Moment) {
        self.figures.times(stage).add(self.now.ns_since(start));
    }

    pub(crate) fn took(&self, stage: Stage, time: Duration) {
        self.figures.times(stage).add(ns(time));
    }

    /// A lane has so many records that wait.
    pub(crate) const fn lane_grew(&mut self, waiting: usize) {
        if waiting > self.lane_longest {
            self.lane_longest = waiting;
        }
    }

    /// A turn ends, with so many lanes and attempts under way; `longest` goes through the lanes.
    pub(crate) fn end_turn(&mut self, lanes: usize, running: usize, longest: impl FnOnce() -> usize) {
        if self.at_once > 0 {
            self.look();
        }
        if lanes == 0 {
            self.lane_longest = 0;
        } else if self.now >= self.lanes_due {
            self.lane_longest = longest();
            self.lanes_due = Moment(self.now.0 + LANES_EVERY_NS);
        }
        self.figures.lanes.store(lanes, Ordering::Relaxed);
        self.figures.running.store(running, Ordering::Relaxed);
        self.figures.lane_longest.store(self.lane_longest, Ordering::Relaxed);
    }

    fn look(&mut self) {
        let now = Moment::new(self.began, Instant::now());
        let each = now.ns_since(self.now) / u64::from(self.events.max(1));
        if self.at_once > 0 {
            self.figures.times(Stage::Attempt).add_many(each, u64::from(self.at_once));
        }
        self.run = if each > QUICK_NS { 1 } else { RUN_MAX };
        (self.now, self.events, self.at_once) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Sum;

    fn attempts(figures: &Figures) -> (u64, f64) {
        let sum = Sum::of([figures.times(Stage::Attempt)].into_iter());
        (sum.count(), sum.seconds())
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_of_attempts_has_its_exact_time_and_slow_ones_are_timed_one_by_one() {
        let figures = Arc::new(Figures::default());
        let mut stopwatch = Stopwatch::new(Instant::now(), Arc::clone(&figures));
        stopwatch.begin_turn();
        tokio::time::advance(Duration::from_micros(30)).await;
        (0..10).for_each(|_| stopwatch.ended_at_once());
        assert_eq!(attempts(&figures).0, 0, "the run goes on");
        stopwatch.end_turn(0, 0, || 0);
        assert_eq!(attempts(&figures), (10, 0.000_03));
        stopwatch.begin_turn();
        for _ in 0..RUN_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            stopwatch.ended_at_once();
        }
        assert_eq!(attempts(&figures), (26, 0.016_03));
        tokio::time::advance(Duration::from_millis(50)).await;
        stopwatch.ended_at_once();
        assert_eq!(attempts(&figures), (27, 0.066_03), "at once, and not after sixteen");
        // What passes between two turns belongs to nobody.
        stopwatch.end_turn(0, 0, || 0);
        tokio::time::advance(Duration::from_secs(5)).await;
        stopwatch.begin_turn();
        stopwatch.ended_at_once();
        stopwatch.end_turn(0, 0, || 0);
        assert_eq!(attempts(&figures), (28, 0.066_03));
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_lane_is_never_understated_and_gone_through_once_a_second() {
        let figures = Arc::new(Figures::default());
        let mut stopwatch = Stopwatch::new(Instant::now(), Arc::clone(&figures));
        let turn = |stopwatch: &mut Stopwatch, lanes: usize, grew: usize, longest: usize| {
            stopwatch.begin_turn();
            stopwatch.lane_grew(grew);
            stopwatch.end_turn(lanes, 1, || longest);
            figures.lane_longest()
        };
        assert_eq!(turn(&mut stopwatch, 3, 7, 6), 6);
        assert_eq!(
            turn(&mut stopwatch, 3, 9, 1),
            9,
            "it is not time to look, so the highest that was seen counts"
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(turn(&mut stopwatch, 3, 2, 1), 1);
        assert_eq!(turn(&mut stopwatch, 3, 5, 0), 5);
        assert_eq!(turn(&mut stopwatch, 0, 5, 3), 0, "no lanes");
    }

    #[tokio::test(start_paused = true)]
    async fn delivery_counts_from_the_records_time_also_late_in_a_turn_and_not_without_one() {
        let figures = Arc::new(Figures::default());
        let mut stopwatch = Stopwatch::new(Instant::now(), Arc::clone(&figures));
        stopwatch.begin_turn();
        for timestamp_ms in [-1, 0, i64::MAX, 1] {
            stopwatch.delivered(&Record { timestamp_ms, ..Record::new("t", "") });
        }
        let delivery = || Sum::of([figures.times(Stage::Delivery)].into_iter());
        assert_eq!(
            delivery().count(),
            2,
            "a record of the future took no time, one without a time does not count"
        );
        let before = delivery();
        tokio::time::advance(Duration::from_secs(3)).await;
        stopwatch.ended_at_once();
        stopwatch.end_turn(0, 0, || 0);
        stopwatch.delivered(&Record { timestamp_ms: i64::MAX, ..Record::new("t", "") });
        assert_eq!(delivery().since(&before).seconds(), 3.0);
    }
}
