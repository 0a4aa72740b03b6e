//! Spans of attempts: one span of the `tracing` crate for each attempt, entered whenever its handler runs, with the
//! record's own trace as parent.
//!
//! Who has OpenTelemetry gives the span its parent there:
//!
//! ```ignore
//! Consumer::new(source).spans(|record: &Record, parent: Option<Parent<'_>>| {
//!     let span = spans::plain(record, parent);
//!     if let Some(parent) = parent {
//!         let _ = span.set_parent(remote(parent)); // tracing_opentelemetry::OpenTelemetrySpanExt
//!     }
//!     span
//! })
//! ```

use crate::handler::Handler;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::trace::{self, Parent};
use std::pin::Pin;
use tracing::field::{Empty, display};
use tracing::{Instrument as _, Span};

/// Makes the span of an attempt, and is told how it ended.
pub trait Spans: Send + Sync + 'static {
    /// The span of one attempt at a record. `parent` is where the record's trace goes on.
    fn span(&self, record: &Record, parent: Option<Parent<'_>>) -> Span;

    /// The attempt has ended with this outcome. An attempt that was dropped with its partition has none, and neither has
    /// one that panicked.
    fn ended(&self, span: &Span, outcome: &Outcome) {
        record_outcome(span, outcome);
    }
}

impl<F> Spans for F
where
    F: Fn(&Record, Option<Parent<'_>>) -> Span + Send + Sync + 'static,
{
    fn span(&self, record: &Record, parent: Option<Parent<'_>>) -> Span {
        self(record, parent)
    }
}

/// The span that is used when nobody has a better one: place, attempt, the ids of the record's trace, and fields for the
/// outcome. Never a key or a value.
#[must_use]
pub fn plain(record: &Record, parent: Option<Parent<'_>>) -> Span {
    let span = tracing::info_span!(
        "attempt",
        otel.kind = "consumer",
        otel.status_code = Empty,
        topic = %record.topic,
        partition = record.partition,
        offset = record.offset,
        attempt = record.attempt,
        trace_id = Empty,
        parent_id = Empty,
        outcome = Empty,
        reason = Empty,
    );
    if let Some(Parent { context, .. }) = parent {
        span.record("trace_id", display(format_args!("{:032x}", context.trace())));
        span.record("parent_id", display(format_args!("{:016x}", context.span())));
    }
    span
}

/// Writes an outcome into the fields `outcome`, `reason` and `otel.status_code` of a span, as far as it has them.
pub fn record_outcome(span: &Span, outcome: &Outcome) {
    let (word, reason) = match outcome {
        Outcome::Done => ("done", None),
        Outcome::Skip(reason) => ("skip", Some(reason)),
        Outcome::Retry(_) | Outcome::RetryWith(..) => ("retry", None),
        Outcome::DeadLetter(reason) => ("dead-letter", Some(reason)),
        Outcome::Failed(reason) => ("failed", Some(reason)),
    };
    span.record("outcome", word);
    if let Some(reason) = reason {
        span.record("reason", display(reason));
    }
    if matches!(outcome, Outcome::DeadLetter(_) | Outcome::Failed(_)) {
        span.record("otel.status_code", "ERROR");
    }
}

/// One attempt inside its span: what the handler does before its first `.await`, too.
pub(crate) fn attempt<'a>(
    spans: &'a dyn Spans,
    handler: &'a impl Handler,
    record: Record,
) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
    let span = spans.span(&record, trace::parent(&record));
    let handled = span.in_scope(|| handler.handle(record));
    let inner = span.clone();
    let handled = async move {
        let outcome = handled.await;
        spans.ended(&inner, &outcome);
        outcome
    };
    Box::pin(handled.instrument(span))
}

/// One call for a run of one key: a span for each record, and the call in the first one.
pub(crate) async fn run(spans: &dyn Spans, handler: &impl Handler, records: Vec<Record>) -> Vec<Outcome> {
    let of_each: Vec<Span> = records.iter().map(|record| spans.span(record, trace::parent(record))).collect();
    let first = of_each.first().cloned().unwrap_or_else(Span::none);
    let outcomes = handler.handle_run(records).instrument(first).await;
    of_each.iter().zip(&outcomes).for_each(|(span, outcome)| spans.ended(span, outcome));
    outcomes
}
