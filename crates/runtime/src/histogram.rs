//! Times by size: a histogram that one thread writes and any thread reads.
//!
//! Counting is a load and a store, without a lock and without an atomic exchange, because each shard and the poller
//! have histograms of their own; a scrape adds them up. Steps are a quarter of a doubling, so that a quantile is at
//! most 25 % too high.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Steps to a doubling, as a power of two.
const STEP_BITS: u32 = 2;
const STEPS: usize = 1 << STEP_BITS;

/// Doublings of a microsecond that are told apart: 2^32 us are 71 minutes. What is longer counts as that.
const DOUBLINGS: u32 = 32;
const COUNT: usize = (DOUBLINGS as usize - STEP_BITS as usize + 1) * STEPS;

/// The smallest and the largest bound that a scrape shows, as powers of two of a microsecond: 16 us and 268 s.
const SHOWN_FIRST: u32 = 4;
const SHOWN_LAST: u32 = 28;

/// One histogram. [`Histogram::add`] is for one thread at a time: of two at once one is lost.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [AtomicU64; COUNT],
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| AtomicU64::new(0)), sum_ns: AtomicU64::new(0) }
    }
}

/// What histograms held at one moment, added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    counts: Vec<u64>,
    sum_ns: u64,
}

/// The step that a time belongs to: the one whose upper bound is the smallest that is not below it.
fn step(ns: u64) -> usize {
    let us = ns.saturating_sub(1) / 1000;
    let us = us.min((1 << DOUBLINGS) - 1);
    let doubling = us.checked_ilog2().unwrap_or(0);
    if doubling < STEP_BITS {
        return us as usize;
    }
    let shift = doubling - STEP_BITS;
    (shift as usize) * STEPS + (us >> shift) as usize
}

/// The upper bound of a step, in microseconds; a time that is exactly that belongs to it.
const fn bound_us(step: usize) -> u64 {
    let next = step + 1;
    if next < 2 * STEPS {
        return next as u64;
    }
    let shift = next / STEPS - 1;
    ((STEPS + next % STEPS) as u64) << shift
}

impl Histogram {
    pub(crate) fn add(&self, ns: u64) {
        self.add_many(ns, 1);
    }

    /// Counts `count` times that are `ns` each.
    pub(crate) fn add_many(&self, ns: u64, count: u64) {
        let bump = |counter: &AtomicU64, by: u64| {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
        };
        bump(&self.counts[step(ns)], count);
        bump(&self.sum_ns, ns.wrapping_mul(count));
    }
}

impl Sum {
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut sum = Self { counts: vec![0; COUNT], sum_ns: 0 };
        for one in histograms {
            for (total, count) in sum.counts.iter_mut().zip(&one.counts) {
                *total += count.load(Ordering::Relaxed);
            }
            sum.sum_ns = sum.sum_ns.wrapping_add(one.sum_ns.load(Ordering::Relaxed));
        }
        sum
    }

    /// What was added since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let counts = self.counts.iter().zip(&before.counts).map(|(now, then)| now.saturating_sub(*then));
        Self { counts: counts.collect(), sum_ns: self.sum_ns.wrapping_sub(before.sum_ns) }
    }

    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_ns).as_secs_f64()
    }

    /// The time, in seconds, that a share of all are not above; a bound, so up to a quarter too high. `None` of nothing.
    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((count as f64 * share).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(bound_us(at) as f64 / 1e6)
    }

    /// Upper bounds in seconds and how many are between each and the one before: a bound a doubling, the last without
    /// end.
    pub(crate) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = (SHOWN_FIRST..=SHOWN_LAST).map(|power| 1u64 << power);
        let mut counts = self.counts.iter().enumerate().peekable();
        let mut buckets: Vec<(f64, u64)> = bounds
            .map(|bound| {
                let mut count = 0;
                while let Some((_, more)) = counts.next_if(|(step, _)| bound_us(*step) <= bound) {
                    count += more;
                }
                (bound as f64 / 1e6, count)
            })
            .collect();
        buckets.push((f64::INFINITY, counts.map(|(_, count)| count).sum()));
        buckets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_that_is_exactly_a_bound_belongs_to_it_and_steps_follow_each_other_without_a_gap() {
        assert_eq!((step(0), step(1), step(1000), step(1001), step(u64::MAX)), (0, 0, 0, 1, COUNT - 1));
        for number in 0..COUNT {
            let bound_ns = bound_us(number) * 1000;
            assert_eq!((step(bound_ns), bound_us(number)), (number, bound_ns / 1000));
            assert_eq!(step(bound_ns + 1), (number + 1).min(COUNT - 1));
        }
        assert_eq!(bound_us(COUNT - 1), 1 << DOUBLINGS);
    }

    proptest! {
        /// Against the sorted list of what was added.
        #[test]
        fn quantiles_are_at_most_a_quarter_or_a_microsecond_too_high_and_never_too_low(
            times_us in prop::collection::vec(0u64..100_000_000, 1..200),
            share in 0.01f64..1.0,
        ) {
            let [left, right] = [Histogram::default(), Histogram::default()];
            for (index, us) in times_us.iter().enumerate() {
                if index % 2 == 0 { left.add(us * 1000) } else { right.add(us * 1000) }
            }
            let sum = Sum::of([&left, &right].into_iter());
            let mut sorted = times_us.clone();
            sorted.sort_unstable();
            let exact = sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1] as f64 / 1e6;
            let told = sum.quantile(share).unwrap();
            prop_assert!(told >= exact && told <= exact * 1.25 + 1.1e-6, "{told} for {exact}");
            prop_assert_eq!(sum.count(), times_us.len() as u64);
            prop_assert!((sum.seconds() - times_us.iter().sum::<u64>() as f64 / 1e6).abs() < 1e-6);
            for (bound, _) in sum.buckets() {
                let upto: u64 = sum.buckets().iter().filter(|one| one.0 <= bound).map(|one| one.1).sum();
                let exact = times_us.iter().filter(|us| **us as f64 / 1e6 <= bound).count() as u64;
                prop_assert_eq!(upto, exact);
            }
        }
    }

    #[test]
    fn what_was_added_since_a_moment_is_told_apart_and_nothing_has_no_quantile() {
        let histogram = Histogram::default();
        histogram.add_many(5_000_000, 10);
        let before = Sum::of([&histogram].into_iter());
        assert_eq!(before.since(&before).quantile(0.5), None);
        histogram.add(80_000_000);
        let since = Sum::of([&histogram].into_iter()).since(&before);
        assert_eq!((since.count(), since.seconds()), (1, 0.08));
        assert!((0.08..0.1).contains(&since.quantile(0.5).unwrap()));
    }
}
