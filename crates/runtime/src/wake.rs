//! Wakes one waiter, thread or task, from anywhere; a wake-up before the wait is not lost.

use futures::task::AtomicWaker;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Duration;

#[derive(Debug, Default)]
struct Inner {
    is_given: AtomicBool,
    thread: OnceLock<Thread>,
    task: AtomicWaker,
}

/// A wake-up call. Clones wake the same waiter.
#[derive(Clone, Debug, Default)]
pub struct Wake {
    inner: Arc<Inner>,
}

impl Wake {
    /// Wakes the waiter, or spares it its next wait.
    pub fn wake(&self) {
        if !self.inner.is_given.swap(true, Ordering::AcqRel) {
            if let Some(thread) = self.inner.thread.get() {
                thread.unpark();
            }
            self.inner.task.wake();
        }
    }

    /// Waits on this thread, at most so long. Always the same thread.
    pub(crate) fn wait(&self, wait_max: Duration) {
        let _ = self.inner.thread.set(std::thread::current());
        if !self.inner.is_given.load(Ordering::Acquire) {
            std::thread::park_timeout(wait_max);
        }
        self.inner.is_given.store(false, Ordering::Release);
    }

    /// Resolves when woken, as a task.
    pub(crate) fn poll_given(&self, context: &Context<'_>) -> Poll<()> {
        self.inner.task.register(context.waker());
        if self.inner.is_given.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wake_up_before_the_wait_is_not_lost_and_counts_once() {
        let wake = Wake::default();
        let other = wake.clone();
        std::thread::spawn(move || other.wake()).join().unwrap();
        let started = Instant::now();
        wake.wait(Duration::from_secs(60));
        assert!(started.elapsed() < Duration::from_secs(30));
        assert!(!wake.inner.is_given.load(Ordering::Acquire));
    }
}
