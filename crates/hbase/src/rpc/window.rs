//! How many calls one server has in flight: fewer after it said that it is overloaded, slowly more while it does not.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bound on calls in flight that adapts (additive increase, multiplicative decrease).
#[derive(Clone, Debug)]
pub struct Window {
    free: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    limit: usize,
    limit_max: usize,
    /// Permits in use that are to vanish when they come back.
    excess: usize,
    /// Good answers since the last change.
    good: usize,
    /// Number of decreases; a call that started before the last one says nothing new.
    decreases: u64,
}

/// A call's place in the window; say how the call went, or drop it.
#[derive(Debug)]
pub struct Permit {
    window: Window,
    permit: Option<OwnedSemaphorePermit>,
    decreases: u64,
}

impl Window {
    /// A window that is wide open.
    #[must_use]
    pub fn new(limit_max: usize) -> Self {
        let limit = limit_max.max(1);
        Self {
            free: Arc::new(Semaphore::new(limit)),
            state: Arc::new(Mutex::new(State { limit, limit_max: limit, excess: 0, good: 0, decreases: 0 })),
        }
    }

    /// Waits for a place, first come, first served.
    pub async fn enter(&self) -> Permit {
        let permit = self.free.clone().acquire_owned().await.ok();
        Permit { window: self.clone(), permit, decreases: self.lock().decreases }
    }

    /// How many calls may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.lock().limit
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The server answered as usual: after a window full of such answers there is one more place.
    pub fn good(self) {
        let mut state = self.window.lock();
        state.good += 1;
        if state.good >= state.limit && state.limit < state.limit_max {
            state.good = 0;
            state.limit += 1;
            if state.excess > 0 {
                state.excess -= 1;
            } else {
                self.window.free.add_permits(1);
            }
        }
    }

    /// The server said that it is overloaded: half the places, once for all calls that were in flight together.
    pub fn overloaded(self) {
        let mut state = self.window.lock();
        if state.decreases != self.decreases {
            return;
        }
        state.decreases += 1;
        state.good = 0;
        let less = state.limit - state.limit.div_ceil(2);
        state.limit -= less;
        // Free places go at once, those in use when they come back.
        state.excess += less - self.window.free.forget_permits(less);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.window.lock();
        if state.excess > 0 {
            state.excess -= 1;
            if let Some(permit) = self.permit.take() {
                permit.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn overload_halves_the_window_once_for_calls_in_flight_together_and_good_answers_widen_it_again() {
        let window = Window::new(8);
        let together = [window.enter().await, window.enter().await, window.enter().await];
        together.into_iter().for_each(Permit::overloaded);
        assert_eq!(window.limit(), 4);
        window.enter().await.overloaded();
        assert_eq!(window.limit(), 2);
        let first = window.enter().await;
        let second = window.enter().await;
        let third = tokio::time::timeout(std::time::Duration::from_millis(20), window.enter()).await;
        assert!(third.is_err(), "a third call got into a window of two");
        first.good();
        second.good();
        assert_eq!(window.limit(), 3);
        for _ in 0..100 {
            window.enter().await.good();
        }
        assert_eq!(window.limit(), 8);
        assert_eq!(window.free.available_permits(), 8);
    }

    #[tokio::test]
    async fn one_call_at_a_time_is_always_left() {
        let window = Window::new(3);
        for _ in 0..10 {
            window.enter().await.overloaded();
        }
        assert_eq!(window.limit(), 1);
        window.enter().await.good();
    }
}
