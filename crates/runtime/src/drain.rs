//! Orderly shut-down: one signal, many listeners, and a count of what still runs.

use tokio::sync::watch;

/// Owner of the stop signal.
#[derive(Debug)]
pub struct Drain {
    signal: watch::Sender<bool>,
}

/// A listener; clones listen to the same signal.
#[derive(Clone, Debug)]
pub struct Stop {
    signal: watch::Receiver<bool>,
}

impl Drain {
    /// A signal that has not been given.
    #[must_use]
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(false);
        (Self { signal: sender }, Stop { signal: receiver })
    }

    /// One more listener.
    #[must_use]
    pub fn listener(&self) -> Stop {
        Stop { signal: self.signal.subscribe() }
    }

    /// Gives the signal. Again is harmless.
    pub fn stop(&self) {
        self.signal.send_replace(true);
    }

    /// Resolves when every [`Stop`] has been dropped: all tasks that held one have ended.
    pub async fn ended(&self) {
        self.signal.closed().await;
    }
}

impl Stop {
    /// Resolves when the signal is given, or its owner is gone.
    pub async fn stopped(&mut self) {
        // An error means that the owner is gone, which is a stop too.
        let _ = self.signal.wait_for(|given| *given).await;
    }

    /// Whether the signal has been given.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        *self.signal.borrow() || self.signal.has_changed().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_owner_sees_when_the_last_listener_has_ended() {
        let (drain, stop) = Drain::new();
        let mut task_stop = stop.clone();
        let task = tokio::spawn(async move { task_stop.stopped().await });
        assert!(!stop.is_stopped());
        drain.stop();
        assert!(stop.is_stopped());
        drop(stop);
        task.await.unwrap();
        drain.ended().await;
    }
}
