//! One byte budget for everything in flight, given back by dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes per permit: tokio's semaphore counts in `u32`, and bytes need no finer step.
const UNIT_BYTES: usize = 1024;

/// A budget of bytes. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
    waiting: Arc<AtomicUsize>,
}

/// Bytes taken from a budget; dropping gives them back.
#[derive(Debug)]
pub struct Taken {
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes_max` bytes (rounded up to KiB).
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let units_max = u32::try_from(bytes_max.div_ceil(UNIT_BYTES).max(1)).unwrap_or(u32::MAX >> 3);
        Self {
            units: Arc::new(Semaphore::new(units_max as usize)),
            units_max,
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// Waits until `bytes` are free, first come first served. A request over the whole budget gets all of it, alone.
    ///
    /// # Panics
    /// Never: the semaphore is not closed.
    pub async fn take(&self, bytes: usize) -> Taken {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units_max);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting(&self.waiting);
        let permit =
            Arc::clone(&self.units).acquire_many_owned(units).await.expect("the budget is never closed");
        drop(waiting);
        Taken { _permit: permit }
    }

    /// Takes what there is of `bytes` at once, down to nothing: for bytes that are in memory already. Whoever calls it
    /// looks at [`Budget::is_spent`] first, so that the bound is passed by one batch at most.
    #[must_use]
    pub fn take_what_is_left(&self, bytes: usize) -> Taken {
        let mut units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        loop {
            units = units.min(u32::try_from(self.units.available_permits()).unwrap_or(u32::MAX));
            // Another taker may have been faster; each turn asks for less, and nothing is always there.
            if let Ok(permit) = Arc::clone(&self.units).try_acquire_many_owned(units) {
                return Taken { _permit: permit };
            }
        }
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.units.available_permits() == 0
    }

    /// Bytes in flight now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        (self.units_max as usize - self.units.available_permits().min(self.units_max as usize)) * UNIT_BYTES
    }

    /// The bound in bytes.
    #[must_use]
    pub const fn bytes_max(&self) -> usize {
        self.units_max as usize * UNIT_BYTES
    }

    /// How many callers wait for bytes now.
    #[must_use]
    pub fn waiting_count(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
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
    fn what_is_in_memory_already_takes_what_is_left_and_spends_the_budget() {
        let budget = Budget::new(10 * 1024);
        let first = budget.take_what_is_left(9 * 1024);
        let second = budget.take_what_is_left(5 * 1024);
        assert_eq!((budget.is_spent(), budget.used_bytes()), (true, 10 * 1024));
        drop(first);
        assert_eq!((budget.is_spent(), budget.used_bytes()), (false, 1024));
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
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
