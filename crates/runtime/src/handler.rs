//! What a service writes: an `async fn(Record) -> Outcome`, as a closure or as a struct.

use crate::outcome::Outcome;
use crate::record::Record;
use std::future::Future;
use std::sync::Arc;

/// Handles records. One value is shared by all shards; records of one key come one after the other, others at once.
///
/// ```ignore
/// struct Mailer { client: Client }
///
/// impl Handler for Mailer {
///     async fn handle(&self, record: Record) -> Outcome {
///         match self.client.send(record.value().unwrap_or_default()).await {
///             Ok(_) => Outcome::Done,
///             Err(error) if error.is_permanent() => Outcome::dead_letter(error.to_string()),
///             Err(_) => Outcome::retry(),
///         }
///     }
/// }
/// ```
///
/// A handler's future is dropped at an `.await` when its partition is taken away and it has not ended within the drain
/// limit: the record comes again elsewhere.
pub trait Handler: Send + Sync + 'static {
    /// Handles one attempt at one record.
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send;

    /// Whether it bounds by itself how much of it is under way, so that
    /// [`Consumer::concurrency`](crate::consumer::Consumer::concurrency) does not count its attempts. A handler that
    /// wraps another hands this on, as it does [`Handler::run_max`].
    fn has_own_limit(&self) -> bool {
        false
    }

    /// How many waiting records of one key [`Handler::handle_run`] is given at once. One, and that is not called.
    fn run_max(&self) -> usize {
        1
    }

    /// Handles a run: records of one key, in their order, at least two. Retries, and what does not wait behind another,
    /// come to [`Handler::handle`] as ever.
    ///
    /// One outcome a record, in their order; there may be fewer, and what has none comes again with the next run. The
    /// records count as done up to the first whose outcome is neither `Done` nor `Skip`. That one goes its way alone
    /// (retries, dead letter, parked); those behind it come again after it, whatever their outcomes were and without
    /// another attempt being counted: no record of a key is done before the ones in front of it.
    fn handle_run(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send {
        async move {
            let mut outcomes = Vec::new();
            for record in records {
                outcomes.push(self.handle(record).await);
                if !outcomes.last().is_some_and(Outcome::is_done) {
                    break;
                }
            }
            outcomes
        }
    }
}

impl<F, T> Handler for F
where
    F: Fn(Record) -> T + Send + Sync + 'static,
    T: Future + Send,
    T::Output: Into<Outcome>,
{
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send {
        let attempt = self(record);
        async move { attempt.await.into() }
    }
}

/// A handler that a service keeps a share of, as for its figures or a test.
impl<H: Handler> Handler for Arc<H> {
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send {
        H::handle(self, record)
    }

    fn has_own_limit(&self) -> bool {
        H::has_own_limit(self)
    }

    fn run_max(&self) -> usize {
        H::run_max(self)
    }

    fn handle_run(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send {
        H::handle_run(self, records)
    }
}
