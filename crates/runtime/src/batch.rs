//! Batch handlers: many records in one call, full by count or bytes or after a linger; at most one of each key, or runs
//! of them ([`Batching::runs_of`]).
//!
//! The first record of a batch leads it: its future waits for the batch to fill, makes the call, and tells the others.
//! Lanes keep the order: a key's next record joins a batch only when its last one has its outcome. Several batches may
//! be under way. A record whose partition goes away leaves its batch, unless the call is under way; when that record
//! led it, the others join another batch.

use crate::deferred::{self, Completion, Token};
use crate::ending::panic_text;
use crate::handler::Handler;
use crate::outcome::Outcome;
use crate::record::Record;
use futures::FutureExt as _;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Handles a batch.
pub trait BatchHandler: Send + Sync + 'static {
    /// One outcome a record, in the order of the records. Records without one have failed.
    fn handle(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send;
}

impl<F, T> BatchHandler for F
where
    F: Fn(Vec<Record>) -> T + Send + Sync + 'static,
    T: Future<Output = Vec<Outcome>> + Send,
{
    fn handle(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send {
        self(records)
    }
}

/// When a batch is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// At exactly so many records.
    pub count: usize,
    /// At so many bytes of keys and values, or more by at most the last record.
    pub bytes: usize,
    /// So long after its first record.
    pub linger: Duration,
}

impl Default for Full {
    fn default() -> Self {
        Self { count: 500, bytes: 1 << 20, linger: Duration::from_millis(5) }
    }
}

/// A batch that takes records.
struct Open {
    number: u64,
    records: Vec<Record>,
    tokens: Vec<Token>,
    bytes: usize,
    sealed: oneshot::Sender<Sealed>,
}

/// A batch that takes no more.
type Sealed = (Vec<Record>, Vec<Token>);

/// The number of the batch that is led, and the way that it comes when it is sealed.
type Lead = (u64, oneshot::Receiver<Sealed>);

/// A handler that collects batches for another.
pub struct Batching<B> {
    inner: B,
    full: Full,
    run_max: usize,
    calls: Semaphore,
    open: Mutex<(u64, Option<Open>)>,
}

/// Calls of a batch handler under way at once, unless told otherwise: a pool of ten connections is busy, and few wait.
pub const CALLS_DEFAULT: usize = 16;

impl<B: BatchHandler> Batching<B> {
    /// Batches for this handler.
    pub const fn new(full: Full, inner: B) -> Self {
        let calls = Semaphore::const_new(CALLS_DEFAULT);
        Self { inner, full, run_max: 1, calls, open: Mutex::new((0, None)) }
    }

    /// At most so many calls under way at once, one at least; 16 at first. A batch that is full waits for its turn.
    /// `Consumer::concurrency` does not count the records of batches.
    #[must_use]
    pub fn calls_max(mut self, count: usize) -> Self {
        self.calls = Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// At most so many records of one key in a batch, one behind the other in their order; 1 at first. For handlers that
    /// make one thing of a key's records, and for keys that bring more than a batch's time allows.
    ///
    /// When one of a run is not done, those of its key behind it come again after it, whatever the handler said of them:
    /// what it has done for them already, it does twice. See [`Handler::handle_run`].
    #[must_use]
    pub const fn runs_of(mut self, count_max: usize) -> Self {
        self.run_max = count_max;
        self
    }

    fn open(&self) -> MutexGuard<'_, (u64, Option<Open>)> {
        self.open.lock().expect("no panic under this lock")
    }

    /// Joins the open batch, or opens one and leads it.
    fn join(&self, record: Record, token: Token) -> Option<Lead> {
        self.add(&mut self.open(), record, token)
    }

    /// Joins one batch with as many records of a run as it takes.
    fn join_run(&self, records: &[Record]) -> (Option<Lead>, Vec<Completion>) {
        let mut guard = self.open();
        let (mut lead, mut completions) = (None, Vec::new());
        for record in records {
            let (token, completion) = deferred::new();
            completions.push(completion);
            lead = self.add(&mut guard, record.clone(), token).or(lead);
            if guard.1.is_none() {
                break;
            }
        }
        (lead, completions)
    }

    fn add(&self, (last, open): &mut (u64, Option<Open>), record: Record, token: Token) -> Option<Lead> {
        let record_bytes = record.byte_count();
        let mut lead = None;
        let batch = open.get_or_insert_with(|| {
            *last += 1;
            let (sealed, is_sealed) = oneshot::channel();
            lead = Some((*last, is_sealed));
            Open { number: *last, records: Vec::new(), tokens: Vec::new(), bytes: 0, sealed }
        });
        batch.records.push(record);
        batch.tokens.push(token);
        batch.bytes += record_bytes;
        if batch.records.len() >= self.full.count || batch.bytes >= self.full.bytes {
            seal(open);
        }
        lead
    }

    async fn lead(&self, number: u64, is_sealed: oneshot::Receiver<Sealed>) {
        let mut leader = Leader { batching: self, number, is_over: false };
        let mut is_sealed = std::pin::pin!(is_sealed);
        if let Ok(sealed) = tokio::time::timeout(self.full.linger, &mut is_sealed).await {
            return self.call(sealed.ok()).await;
        }
        leader.seal();
        self.call(is_sealed.await.ok()).await;
    }

    async fn call(&self, sealed: Option<Sealed>) {
        let Some((records, tokens)) = sealed else { return };
        // Dropped while it waits, its tokens are too, and the others join another batch.
        let _permit = self.calls.acquire().await;
        // Those whose partition went away meanwhile are somebody else's.
        let ours = records.into_iter().zip(tokens).filter(|(_, token)| !token.is_abandoned());
        let (records, tokens): (Vec<Record>, Vec<Token>) = ours.unzip();
        // A token that is dropped says that the leader is gone, so each is told something.
        let call = AssertUnwindSafe(async { self.inner.handle(records).await }).catch_unwind();
        let (outcomes, otherwise) = match call.await {
            Ok(outcomes) => (outcomes, "the batch handler said nothing about it".to_owned()),
            Err(panic) => (Vec::new(), format!("the batch handler panicked: {}", panic_text(&*panic))),
        };
        let mut outcomes = outcomes.into_iter();
        for token in tokens {
            token.finish(outcomes.next().unwrap_or_else(|| Outcome::failed(otherwise.clone())));
        }
    }
}

/// Hands the open batch to its leader. When that is gone its tokens are dropped, and their records join another.
fn seal(open: &mut Option<Open>) {
    if let Some(batch) = open.take() {
        let _ = batch.sealed.send((batch.records, batch.tokens));
    }
}

/// Closes the leader's batch when the leader is dropped, so that nobody joins a batch that nobody leads.
struct Leader<'a, B: BatchHandler> {
    batching: &'a Batching<B>,
    number: u64,
    is_over: bool,
}

impl<B: BatchHandler> Leader<'_, B> {
    fn seal(&mut self) {
        self.is_over = true;
        let mut guard = self.batching.open();
        if guard.1.as_ref().is_some_and(|open| open.number == self.number) {
            seal(&mut guard.1);
        }
    }
}

impl<B: BatchHandler> Drop for Leader<'_, B> {
    fn drop(&mut self) {
        if !self.is_over {
            self.seal();
        }
    }
}

impl<B: BatchHandler> Handler for Batching<B> {
    async fn handle(&self, record: Record) -> Outcome {
        loop {
            let (token, completion) = deferred::new();
            if let Some((number, is_sealed)) = self.join(record.clone(), token) {
                self.lead(number, is_sealed).await;
            }
            if let Some(outcome) = completion.told().await {
                return outcome;
            }
        }
    }

    fn has_own_limit(&self) -> bool {
        true
    }

    fn run_max(&self) -> usize {
        self.run_max
    }

    async fn handle_run(&self, records: Vec<Record>) -> Vec<Outcome> {
        loop {
            let (lead, completions) = self.join_run(&records);
            if let Some((number, is_sealed)) = lead {
                self.lead(number, is_sealed).await;
            }
            let mut outcomes = Vec::with_capacity(completions.len());
            for completion in completions {
                let Some(outcome) = completion.told().await else { break };
                outcomes.push(outcome);
            }
            // Without any the leader has gone before the call.
            if !outcomes.is_empty() {
                return outcomes;
            }
        }
    }
}
