//! What a service writes: an `async fn(Record) -> Outcome`, as a closure or as a struct.

use crate::outcome::Outcome;
use crate::record::Record;
use std::future::Future;

/// Handles records. One value is shared by all shards; records of one key come one after the other, others at once.
///
/// ```ignore
/// struct Mailer { client: Client }
///
/// impl Handler for Mailer {
///     async fn handle(&self, record: Record) -> Outcome {
///         match self.client.send(record.value.unwrap_or_default()).await {
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
