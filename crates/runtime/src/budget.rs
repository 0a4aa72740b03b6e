//! One byte budget for everything in flight, given back by dropping.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Semaphore;

/// Bytes per permit: tokio's semaphore counts in `u32`, and bytes need no finer step.
const UNIT_BYTES: usize = 1024;

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
    /// Whose bytes these are, when that is counted apart.
    part: Option<Arc<Tally>>,
}

#[derive(Debug)]
struct Shared {
    units: Semaphore,
    /// Units that may be used; less what is kept.
    units_max: AtomicUsize,
    /// Units that are used beyond the bound: what comes back pays these first.
    owed: AtomicUsize,
    waiting: AtomicUsize,
    /// What each part has.
    parts: Mutex<Vec<Arc<Tally>>>,
}

/// Bytes taken from a budget; dropping gives them back.
#[derive(Debug)]
pub struct Taken {
    shared: Arc<Shared>,
    part: Option<Arc<Tally>>,
    units: usize,
}

/// Bytes that lower a budget's bound until this is dropped.
#[derive(Debug)]
pub(crate) struct Kept {
    shared: Arc<Shared>,
    units: usize,
}

/// Units of one part: in flight, and ever taken.
#[derive(Debug, Default)]
struct Tally {
    used: AtomicUsize,
    taken: AtomicUsize,
}

impl Tally {
    fn add(&self, units: usize) {
        self.used.fetch_add(units, Ordering::Relaxed);
        self.taken.fetch_add(units, Ordering::Relaxed);
    }
}

/// One who takes from a budget beside others, such as a partition: what is taken through it is counted apart.
#[derive(Debug)]
pub(crate) struct Part {
    budget: Budget,
}

/// Half of a budget, dealt out in equal shares to its parts, and the other half, for whoever needs it: nobody who holds
/// on to what it took can take another's share. As of one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    share: usize,
    pool_left: usize,
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(UNIT_BYTES)
}

impl Budget {
    /// A budget of `bytes_max` bytes (rounded up to KiB).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let units_max = units_of(bytes_max).clamp(1, u32::MAX as usize >> 3);
        Self {
            shared: Arc::new(Shared {
                units: Semaphore::new(units_max),
                units_max: AtomicUsize::new(units_max),
                owed: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
                parts: Mutex::new(Vec::new()),
            }),
            part: None,
        }
    }

    /// One more part of it.
    pub(crate) fn part(&self) -> Part {
        let part = Arc::new(Tally::default());
        self.shared.parts().push(Arc::clone(&part));
        Part { budget: Self { shared: Arc::clone(&self.shared), part: Some(part) } }
    }

    /// The whole budget, without the part that this handle counts for. For bytes that must not hold up their own
    /// partition, such as the first parts of a value whose rest is still to be read.
    #[must_use]
    pub fn whole(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), part: None }
    }

    /// What its parts may take now.
    pub(crate) fn shares(&self) -> Shares {
        let parts = self.shared.parts();
        let units_max = self.shared.units_max();
        let share = units_max / 2 / parts.len().max(1);
        let pool = units_max - share * parts.len();
        let used = self.used_units();
        let within: usize = parts.iter().map(|part| part.used.load(Ordering::Relaxed).min(share)).sum();
        Shares { share, pool_left: pool.saturating_sub(used.saturating_sub(within)) }
    }

    /// Waits until `bytes` are free, first come first served. A request over the whole budget gets all of it, alone.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn take(&self, bytes: usize) -> Taken {
        let shared = &self.shared;
        let units = units_of(bytes).min(shared.units_max());
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&shared.waiting);
        let count = u32::try_from(units).expect("the bound is below u32::MAX");
        shared.units.acquire_many(count).await.expect("the budget is never closed").forget();
        drop(waiting);
        self.count(units);
        Taken { shared: Arc::clone(shared), part: self.part.clone(), units }
    }

    fn count(&self, units: usize) {
        if let Some(part) = &self.part {
            part.add(units);
        }
    }

    /// Takes `bytes` that are in memory already, without waiting: what is not free is owed, and nobody takes anything
    /// before that is paid. Whoever calls it looks first at what is left, so that the bound is passed by little.
    #[must_use]
    pub fn take_at_once(&self, bytes: usize) -> Taken {
        let mut taken = Taken { shared: Arc::clone(&self.shared), part: self.part.clone(), units: 0 };
        taken.settle(bytes);
        taken
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.shared.units.available_permits() == 0
    }

    /// Bytes in flight now; over the bound for a moment, when calls turned out heavier than what was taken for them.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_units() * UNIT_BYTES
    }

    fn used_units(&self) -> usize {
        let units_max = self.shared.units_max();
        let free = self.shared.units.available_permits().min(units_max);
        units_max - free + self.shared.owed.load(Ordering::Relaxed)
    }

    /// The bound in bytes, less what is kept apart for fetching ahead.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.shared.units_max() * UNIT_BYTES
    }

    /// Keeps bytes apart for something else than records in flight: the bound is lower until the answer is dropped.
    /// Never waits; what is not free is owed. Half of the bound is kept at most.
    pub(crate) fn keep(&self, bytes: usize) -> Kept {
        let shared = &self.shared;
        let units = units_of(bytes).min(shared.units_max() / 2);
        shared.units_max.fetch_sub(units, Ordering::AcqRel);
        let owed = units - shared.take_free(units);
        shared.owed.fetch_add(owed, Ordering::AcqRel);
        Kept { shared: Arc::clone(shared), units }
    }

    /// How many callers wait for bytes now.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }
}

impl Taken {
    /// Corrects an estimate: from now on exactly these bytes are taken.
    ///
    /// Never waits, or calls that each need a little more would wait for each other: what is not free is owed, and
    /// nobody takes anything before that is paid.
    pub fn settle(&mut self, bytes: usize) {
        let units = units_of(bytes);
        if let Some(part) = &self.part {
            part.add(units);
            part.used.fetch_sub(self.units, Ordering::Relaxed);
        }
        if units <= self.units {
            self.shared.give_back(self.units - units);
        } else {
            let more = units - self.units;
            let owed = more - self.shared.take_free(more);
            self.shared.owed.fetch_add(owed, Ordering::AcqRel);
        }
        self.units = units;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(part) = &self.part {
            part.used.fetch_sub(self.units, Ordering::Relaxed);
        }
        self.shared.give_back(self.units);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.units_max.fetch_add(self.units, Ordering::AcqRel);
        self.shared.give_back(self.units);
    }
}

impl Part {
    /// The budget to take from in this part's name.
    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes in flight in this part's name.
    pub(crate) fn used_bytes(&self) -> usize {
        self.tally().used.load(Ordering::Relaxed) * UNIT_BYTES
    }

    /// Bytes that were ever taken in this part's name.
    pub(crate) fn taken_bytes(&self) -> usize {
        self.tally().taken.load(Ordering::Relaxed).wrapping_mul(UNIT_BYTES)
    }

    fn tally(&self) -> &Arc<Tally> {
        self.budget.part.as_ref().expect("a part counts")
    }
}

impl Drop for Part {
    /// What is in flight still counts to the pool from now on.
    fn drop(&mut self) {
        self.budget.shared.parts().retain(|part| !Arc::ptr_eq(part, self.tally()));
    }
}

impl Shares {
    /// Bytes that a part may take which has so many: what is left of its share, and of the pool.
    pub(crate) const fn left_bytes(self, used_bytes: usize) -> usize {
        (self.share.saturating_sub(used_bytes / UNIT_BYTES) + self.pool_left) * UNIT_BYTES
    }

    /// A part that had `before` bytes has `after` now.
    pub(crate) const fn took(&mut self, before: usize, after: usize) {
        let beyond_before = (before / UNIT_BYTES).saturating_sub(self.share);
        let beyond_after = (after / UNIT_BYTES).saturating_sub(self.share);
        self.pool_left = self.pool_left.saturating_sub(beyond_after.saturating_sub(beyond_before));
    }
}

impl Shared {
    fn parts(&self) -> MutexGuard<'_, Vec<Arc<Tally>>> {
        self.parts.lock().expect("no panic under this lock")
    }

    fn units_max(&self) -> usize {
        self.units_max.load(Ordering::Acquire)
    }

    /// Takes what is free of so many units, without waiting; how many that were.
    fn take_free(&self, units: usize) -> usize {
        let now = units.min(self.units.available_permits());
        let count = u32::try_from(now).expect("the bound is below u32::MAX");
        // Somebody may be faster; then nothing is free.
        self.units.try_acquire_many(count).map_or(0, |permit| {
            permit.forget();
            now
        })
    }

    fn give_back(&self, units: usize) {
        let before = self
            .owed
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |owed| Some(owed.saturating_sub(units)))
            .expect("the closure always gives a value");
        self.units.add_permits(units - before.min(units));
    }
}

/// Counts one waiter for as long as it lives, also when its future is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_dropped_comes_back_and_a_giant_gets_the_whole_budget() {
        let budget = Budget::new(10 * 1024);
        let small = budget.take(1).await;
        assert_eq!(budget.used_bytes(), 1024);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(usize::MAX >> 8).await }
        });
        while budget.waiting_count() == 0 {
            tokio::task::yield_now().await;
        }
        drop(small);
        let giant = waiting.await.unwrap();
        assert_eq!(budget.used_bytes(), budget.bytes_max());
        drop(giant);
        assert_eq!((budget.used_bytes(), budget.waiting_count()), (0, 0));
    }

    #[test]
    fn what_is_in_memory_already_spends_the_budget_and_owes_the_rest() {
        let budget = Budget::new(10 * 1024);
        let first = budget.take_at_once(9 * 1024);
        let second = budget.take_at_once(5 * 1024);
        assert_eq!((budget.is_spent(), budget.used_bytes()), (true, 14 * 1024));
        drop(first);
        assert_eq!((budget.is_spent(), budget.used_bytes()), (false, 5 * 1024));
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_part_has_its_share_when_another_has_taken_the_pool() {
        const KIB: usize = 1024;
        let budget = Budget::new(100 * KIB);
        let (greedy, other) = (budget.part(), budget.part());
        assert_eq!(budget.shares().left_bytes(0), 75 * KIB);
        let taken = greedy.budget().take_at_once(70 * KIB);
        let mut shares = budget.shares();
        assert_eq!((shares.left_bytes(greedy.used_bytes()), shares.left_bytes(0)), (5 * KIB, 30 * KIB));
        let more = greedy.budget().take_at_once(9 * KIB);
        shares.took(70 * KIB, greedy.used_bytes());
        assert_eq!((shares.left_bytes(greedy.used_bytes()), shares.left_bytes(0)), (0, 25 * KIB));
        assert_eq!(budget.shares().left_bytes(0), 25 * KIB);
        let small = other.budget().take_at_once(20 * KIB);
        assert_eq!(budget.shares().left_bytes(other.used_bytes()), 5 * KIB);
        // What is in flight of one that went away counts to the pool.
        drop(greedy);
        assert_eq!(budget.shares().left_bytes(other.used_bytes()), 30 * KIB);
        drop((taken, more));
        assert_eq!(
            (budget.used_bytes(), budget.shares().left_bytes(other.used_bytes())),
            (20 * KIB, 80 * KIB)
        );
        drop(small);
        assert_eq!((budget.used_bytes(), other.used_bytes()), (0, 0));
    }

    #[tokio::test]
    async fn what_turns_out_heavier_is_owed_and_paid_before_anybody_takes_more() {
        let budget = Budget::new(10 * 1024);
        let (mut first, mut second) = (budget.take(4 * 1024).await, budget.take(4 * 1024).await);
        first.settle(5 * 1024);
        second.settle(12 * 1024);
        assert_eq!(budget.used_bytes(), 17 * 1024);
        drop(first);
        assert_eq!(budget.used_bytes(), 12 * 1024);
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1).await }
        });
        while budget.waiting_count() == 0 {
            tokio::task::yield_now().await;
        }
        second.settle(10 * 1024);
        tokio::task::yield_now().await;
        assert_eq!(budget.waiting_count(), 1, "the debt is paid and nothing is free");
        second.settle(1024);
        drop((second, waiting.await.unwrap()));
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(budget.shared.units.available_permits(), 10);
    }

    #[test]
    fn what_is_kept_apart_lowers_the_bound_and_comes_back() {
        const KIB: usize = 1024;
        let budget = Budget::new(10 * KIB);
        let (_part, taken) = (budget.part(), budget.take_at_once(7 * KIB));
        let kept = budget.keep(4 * KIB);
        assert_eq!((budget.bytes_max(), budget.used_bytes(), budget.is_spent()), (6 * KIB, 7 * KIB, true));
        drop(taken);
        assert_eq!((budget.bytes_max(), budget.used_bytes()), (6 * KIB, 0));
        assert_eq!(budget.shares().left_bytes(0), 6 * KIB);
        let more = budget.keep(100 * KIB);
        assert_eq!(budget.bytes_max(), 3 * KIB, "half of what was left");
        drop((kept, more));
        assert_eq!((budget.bytes_max(), budget.used_bytes()), (10 * KIB, 0));
        assert_eq!(budget.shared.units.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_dropped_waiter_is_not_counted() {
        let budget = Budget::new(1024);
        let held = budget.take(1024).await;
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(5), budget.take(1)).await;
        assert!(waiting.is_err());
        assert_eq!(budget.waiting_count(), 0);
        drop(held);
    }
}
