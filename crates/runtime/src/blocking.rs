//! Handlers that compute, or block a thread: run beside the shards, so that other keys go on meanwhile.
//!
//! A shard polls its handlers one after the other, and one that computes for a second without an `.await` holds every
//! lane of its shard for that second. [`Blocking`] gives each attempt to tokio's threads for blocking work (about 10 us
//! of hand-over: for work of less than that a plain handler is cheaper).

use crate::handler::Handler;
use crate::outcome::Outcome;
use crate::record::Record;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A handler that is a plain function.
///
/// What computes cannot be dropped: when its partition is taken away and it has not ended within the drain limit, it
/// goes on to its end, nobody hears its outcome, and the next owner may begin with the same record meanwhile.
#[derive(Debug)]
pub struct Blocking<F> {
    function: Arc<F>,
    threads: Arc<Semaphore>,
}

impl<F, T> Blocking<F>
where
    F: Fn(Record) -> T + Send + Sync + 'static,
    T: Into<Outcome>,
{
    /// On as many threads as there are cores: for what computes.
    #[must_use]
    pub fn new(function: F) -> Self {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self::on_threads(cores, function)
    }

    /// On at most so many threads, of the 512 that tokio has unless told otherwise: for what waits in a blocking call.
    #[must_use]
    pub fn on_threads(count: NonZeroUsize, function: F) -> Self {
        let threads = Arc::new(Semaphore::new(count.get().min(Semaphore::MAX_PERMITS)));
        Self { function: Arc::new(function), threads }
    }
}

impl<F, T> Handler for Blocking<F>
where
    F: Fn(Record) -> T + Send + Sync + 'static,
    T: Into<Outcome>,
{
    fn has_own_limit(&self) -> bool {
        true
    }

    async fn handle(&self, record: Record) -> Outcome {
        let permit = Arc::clone(&self.threads).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let function = Arc::clone(&self.function);
        let job = tokio::task::spawn_blocking(move || {
            let outcome = function(record).into();
            drop(permit);
            outcome
        });
        match job.await {
            Ok(outcome) => outcome,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Outcome::failed("the runtime is shutting down"),
            },
        }
    }
}
