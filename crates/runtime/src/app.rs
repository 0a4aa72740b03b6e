//! An app decides and does nothing: a record comes in, effects go out. What carries them out stands at the rim, and the
//! record is done when that says that all of them are durable.
//!
//! A decision without a socket, a file or a clock is tested by a table and repeated by a replay. The order of a key holds
//! for its effects too: the app sees a key's next record when the effects of the last one are durable.
//!
//! ```ignore
//! let app = move |record: &Record, outputs: &mut Vec<Output>| {
//!     outputs.push(Output::of(record, &greetings, format!("hello {}", record.text().1)));
//! };
//! consumer.start(Deciding::new(app, ToLog::new(producer))).await?;
//! ```

use crate::handler::Handler;
use crate::log::{HeaderSpan, LogWriter, RecordBatch, RecordSpan};
use crate::outcome::Outcome;
use crate::record::{Header, Record};
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use weir_model::{Fault, FaultKind, TopicName};

/// Decides what follows from a record. A closure is an app; so is a struct with its rules.
pub trait App<E>: Send + Sync + 'static {
    /// Adds the effects of this record, and says how it ended. The effects of a record that is not `Done` or `Skip` are
    /// dropped: its next attempt decides anew.
    fn on_record(&self, record: &Record, effects: &mut Vec<E>) -> Outcome;
}

impl<F, E, T> App<E> for F
where
    F: Fn(&Record, &mut Vec<E>) -> T + Send + Sync + 'static,
    T: Into<Outcome>,
{
    fn on_record(&self, record: &Record, effects: &mut Vec<E>) -> Outcome {
        self(record, effects).into()
    }
}

/// Carries effects out.
pub trait Rim<E>: Send + Sync + 'static {
    /// Carries out the effects of one record, in their order; resolves when all are durable. On a fault some may be done:
    /// the record comes again, and all of them with it.
    fn act(&self, effects: Vec<E>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Whether it bounds by itself how much of it is under way: see [`Handler::has_own_limit`].
    fn has_own_limit(&self) -> bool {
        false
    }
}

/// An app with its rim, as a handler.
///
/// A fault of the rim is a failure of the record, tried again by the retry policy; one of the kind `Rejected` can never
/// succeed, and makes it a dead letter.
#[derive(Debug)]
pub struct Deciding<A, R, E> {
    app: A,
    rim: R,
    effects: std::marker::PhantomData<fn(E)>,
}

impl<A: App<E>, R: Rim<E>, E: Send + 'static> Deciding<A, R, E> {
    /// This app with this rim.
    pub const fn new(app: A, rim: R) -> Self {
        Self { app, rim, effects: std::marker::PhantomData }
    }
}

impl<A: App<E>, R: Rim<E>, E: Send + 'static> Handler for Deciding<A, R, E> {
    async fn handle(&self, record: Record) -> Outcome {
        let mut effects = Vec::new();
        let outcome = self.app.on_record(&record, &mut effects);
        if effects.is_empty() || !outcome.is_done() {
            return outcome;
        }
        match self.rim.act(effects).await {
            Ok(()) => outcome,
            Err(fault) if fault.kind() == FaultKind::Rejected => Outcome::dead_letter(fault.chain()),
            Err(fault) => Outcome::failed(fault.chain()),
        }
    }

    fn has_own_limit(&self) -> bool {
        self.rim.has_own_limit()
    }
}

/// The effect of writing one record to a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The topic.
    pub topic: TopicName,
    /// The key, which chooses the partition.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Vec<Header>,
    /// The timestamp, ms since 1970.
    pub timestamp_ms: i64,
}

impl Output {
    /// What a record becomes when it is passed on: its key and timestamp, and this value.
    #[must_use]
    pub fn of(record: &Record, topic: &TopicName, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.clone(),
            key: record.key().map(Bytes::copy_from_slice),
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp_ms: record.timestamp_ms,
        }
    }

    /// The same under another key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }
}

/// Writes outputs to a log.
#[derive(Clone)]
pub struct ToLog {
    writer: Arc<dyn LogWriter>,
}

impl fmt::Debug for ToLog {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("ToLog").finish_non_exhaustive()
    }
}

impl ToLog {
    /// To this log.
    #[must_use]
    pub fn new(writer: Arc<dyn LogWriter>) -> Self {
        Self { writer }
    }
}

impl Rim<Output> for ToLog {
    fn act(&self, effects: Vec<Output>) -> impl Future<Output = Result<(), Fault>> + Send {
        let mut batch = RecordBatch::default();
        for output in effects {
            let found = batch.topics.iter().position(|topic| *topic == output.topic);
            let topic = found.unwrap_or_else(|| {
                batch.topics.push(output.topic.clone());
                batch.topics.len() - 1
            });
            let key = batch.put_optional(output.key.as_deref());
            let value = batch.put_optional(output.value.as_deref());
            let count =
                |batch: &RecordBatch| u32::try_from(batch.headers.len()).expect("fewer headers than 4 Gi");
            let first = count(&batch);
            for header in output.headers {
                let value = batch.put_optional(header.value.as_deref());
                batch.headers.push(HeaderSpan { name: String::from(header.name).into(), value });
            }
            let headers = first..count(&batch);
            let topic = u16::try_from(topic).expect("one record's effects go to fewer topics than 65,536");
            let timestamp_ms = output.timestamp_ms;
            batch.records.push(RecordSpan { topic, key, value, headers, timestamp_ms });
        }
        self.writer.append(batch)
    }

    /// A log's client bounds what it has in flight, and is slow when it has little.
    fn has_own_limit(&self) -> bool {
        true
    }
}
