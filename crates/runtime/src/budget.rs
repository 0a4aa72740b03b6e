//! One byte budget for everything in flight, given back by dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

/// Bytes per permit: tokio's semaphore counts in `u32`, and bytes need no finer step.
const UNIT_BYTES: usize = 1024;

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    units: Semaphore,
    units_max: usize,
    /// Units that are used beyond the bound: what comes back pays these first.
    owed: AtomicUsize,
    waiting: AtomicUsize,
}

/// Bytes taken from a budget; dropping gives them back.
#[derive(Debug)]
pub struct Taken {
    shared: Arc<Shared>,
    units: usize,
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
                units_max,
                owed: AtomicUsize::new(0),
                waiting: AtomicUsize::new(0),
            }),
        }
    }

    /// Waits until `bytes` are free, first come first served. A request over the whole budget gets all of it, alone.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn take(&self, bytes: usize) -> Taken {
        let shared = &self.shared;
        let units = units_of(bytes).min(shared.units_max);
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&shared.waiting);
        let count = u32::try_from(units).expect("the bound is below u32::MAX");
        shared.units.acquire_many(count).await.expect("the budget is never closed").forget();
        drop(waiting);
        Taken { shared: Arc::clone(shared), units }
    }

    /// Takes `bytes` that are in memory already, without waiting: what is not free is owed, and nobody takes anything
    /// before that is paid. Whoever calls it looks at [`Budget::is_spent`] first, so that the bound is passed by one
    /// batch at most.
    #[must_use]
    pub fn take_at_once(&self, bytes: usize) -> Taken {
        let mut taken = Taken { shared: Arc::clone(&self.shared), units: 0 };
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
        let free = self.shared.units.available_permits().min(self.shared.units_max);
        (self.shared.units_max - free + self.shared.owed.load(Ordering::Relaxed)) * UNIT_BYTES
    }

    /// The bound in bytes.
    #[must_use]
    pub fn bytes_max(&self) -> usize {
        self.shared.units_max * UNIT_BYTES
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
        if units <= self.units {
            self.shared.give_back(self.units - units);
        } else {
            let more = units - self.units;
            let now = more.min(self.shared.units.available_permits());
            let count = u32::try_from(now).expect("the bound is below u32::MAX");
            let owed = match self.shared.units.try_acquire_many(count) {
                Ok(permit) => {
                    permit.forget();
                    more - now
                }
                // Somebody was faster.
                Err(_) => more,
            };
            self.shared.owed.fetch_add(owed, Ordering::AcqRel);
        }
        self.units = units;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shared.give_back(self.units);
    }
}

impl Shared {
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
