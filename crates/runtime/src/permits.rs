//! The limit of attempts under way (`Consumer::concurrency`), shared by the shards of a consumer.
//!
//! A shard takes a permit before it begins attempts and keeps it while they end at once: a record whose handler ends at
//! once costs no permit of its own. An attempt that is pending keeps its permit until it ends. Shards that find no free
//! permit wait in a line, each once, so that a busy shard cannot keep the others out.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

struct State {
    free: usize,
    line: VecDeque<(usize, Waker)>,
    /// By shard: a permit that was given to it while it waited.
    granted: Vec<bool>,
}

struct Shared {
    state: Mutex<State>,
    /// Shards in the line, to be read without the lock.
    waiting: AtomicUsize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }
}

/// One shard's access to the permits.
pub(crate) struct Permits {
    shared: Arc<Shared>,
    shard: usize,
    /// A permit that no attempt has yet.
    spare: bool,
    /// In the line, or granted and not yet taken.
    is_waiting: bool,
}

impl Permits {
    /// Shares `count` permits among the shards; one handle for each.
    pub(crate) fn deal(count: usize, shard_count: usize) -> Vec<Self> {
        let state = State { free: count, line: VecDeque::new(), granted: vec![false; shard_count] };
        let shared = Arc::new(Shared { state: Mutex::new(state), waiting: AtomicUsize::new(0) });
        let of_shard = |shard| Self { shared: Arc::clone(&shared), shard, spare: false, is_waiting: false };
        (0..shard_count).map(of_shard).collect()
    }

    /// Whether the shard has a spare permit now. Otherwise it is in the line, and `waker` is woken when it gets one.
    pub(crate) fn has_spare(&mut self, waker: &Waker) -> bool {
        if self.spare {
            return true;
        }
        let mut state = self.shared.state();
        if self.is_waiting {
            if std::mem::take(&mut state.granted[self.shard]) {
                (self.spare, self.is_waiting) = (true, false);
            } else if let Some(place) = state.line.iter_mut().find(|(shard, _)| *shard == self.shard) {
                place.1.clone_from(waker);
            }
        } else if state.free > 0 && state.line.is_empty() {
            state.free -= 1;
            self.spare = true;
        } else {
            state.line.push_back((self.shard, waker.clone()));
            self.is_waiting = true;
            self.shared.waiting.store(state.line.len(), Ordering::Relaxed);
        }
        self.spare
    }

    /// An attempt is pending and takes the spare permit; whether there was one.
    pub(crate) const fn take_spare(&mut self) -> bool {
        std::mem::replace(&mut self.spare, false)
    }

    /// An attempt with a permit has ended: the permit is the next spare one, unless another shard waits for it.
    pub(crate) fn put_back(&mut self) {
        if self.spare || self.shared.waiting.load(Ordering::Relaxed) > 0 {
            self.give_up(1);
        } else {
            self.spare = true;
        }
    }

    /// Gives `count` permits of attempts that were dropped back to all.
    pub(crate) fn give_up(&self, count: usize) {
        if count == 0 {
            return;
        }
        let mut state = self.shared.state();
        for _ in 0..count {
            match state.line.pop_front() {
                Some((shard, waker)) => {
                    state.granted[shard] = true;
                    waker.wake();
                }
                None => state.free += 1,
            }
        }
        self.shared.waiting.store(state.line.len(), Ordering::Relaxed);
    }

    /// The shard has nothing to begin: it gives its spare permit back and leaves the line.
    pub(crate) fn rest(&mut self) {
        if self.is_waiting {
            self.is_waiting = false;
            let mut state = self.shared.state();
            state.line.retain(|(shard, _)| *shard != self.shard);
            self.shared.waiting.store(state.line.len(), Ordering::Relaxed);
            self.spare |= std::mem::take(&mut state.granted[self.shard]);
        }
        if self.take_spare() {
            self.give_up(1);
        }
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waker() -> &'static Waker {
        Waker::noop()
    }

    #[test]
    fn a_shard_that_waits_gets_the_next_permit_although_another_one_wants_it_too() {
        let mut shards = Permits::deal(2, 2);
        let [first, second] = &mut shards[..] else { unreachable!("two were dealt") };
        for _ in 0..2 {
            assert!(first.has_spare(waker()) && first.take_spare());
        }
        assert!(!first.has_spare(waker()) && !second.has_spare(waker()));
        // The first is in the line before the second.
        first.put_back();
        assert!(first.has_spare(waker()) && !second.has_spare(waker()));
        assert!(first.take_spare() && !first.has_spare(waker()));
        first.put_back();
        assert!(second.has_spare(waker()) && !first.has_spare(waker()));
    }

    #[test]
    fn a_permit_of_a_shard_that_rests_goes_to_one_that_waits() {
        let mut shards = Permits::deal(1, 3);
        let [first, second, third] = &mut shards[..] else { unreachable!("three were dealt") };
        assert!(first.has_spare(waker()) && !second.has_spare(waker()) && !third.has_spare(waker()));
        first.rest();
        // Granted and never taken: the second has nothing to begin any more.
        second.rest();
        assert!(third.has_spare(waker()));
        third.rest();
        assert!(first.has_spare(waker()) && first.take_spare());
        first.give_up(1);
        assert!(second.has_spare(waker()));
    }
}
