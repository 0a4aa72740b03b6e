//! One consumer, a handler for each topic.
//!
//! ```ignore
//! let handler = ByTopic::new().on("orders", orders).on("payments", Batching::new(full, payments));
//! let running = Consumer::new(source).start(handler).await?;
//! ```
//!
//! All of them share the consumer's settings: its group, retry policy, dead letters and limits.

use crate::handler::Handler;
use crate::outcome::Outcome;
use crate::record::Record;
use futures::future::Either;
use std::future::Future;

/// Gives each record to the handler of its topic.
///
/// A record of a topic that no handler was given for has failed with that reason: it is tried again by the policy, and
/// `Health` says why nothing moves. [`ByTopic::otherwise`] gives a handler for all other topics.
#[derive(Clone, Debug)]
pub struct ByTopic<R = Nobody> {
    routes: R,
}

/// The end of the routes: fails each record.
#[derive(Clone, Copy, Debug)]
pub struct Nobody;

/// A topic's handler, and the routes that are asked when a record is of another topic.
#[derive(Clone, Debug)]
pub struct Route<H, R> {
    topic: String,
    handler: H,
    others: R,
}

impl ByTopic {
    /// No topic has a handler yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { routes: Nobody }
    }

    /// All topics that have no handler of their own are this one's. Comes first: `ByTopic::otherwise(rest).on(..)`.
    #[must_use]
    pub const fn otherwise<H: Handler>(handler: H) -> ByTopic<H> {
        ByTopic { routes: handler }
    }
}

impl Default for ByTopic {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Handler> ByTopic<R> {
    /// Records of this topic are this handler's. Of two for one topic the later one counts.
    #[must_use]
    pub fn on<H: Handler>(self, topic: &str, handler: H) -> ByTopic<Route<H, R>> {
        ByTopic { routes: Route { topic: topic.to_owned(), handler, others: self.routes } }
    }
}

impl<R: Handler> Handler for ByTopic<R> {
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send {
        self.routes.handle(record)
    }

    fn has_own_limit(&self) -> bool {
        self.routes.has_own_limit()
    }

    fn run_max(&self) -> usize {
        self.routes.run_max()
    }

    fn handle_run(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send {
        self.routes.handle_run(records)
    }
}

impl Handler for Nobody {
    async fn handle(&self, record: Record) -> Outcome {
        Outcome::failed(format!("no handler for topic {}; fix: ByTopic::on(\"{0}\", ..)", record.topic))
    }

    /// What has no handler does not decide for the others.
    fn has_own_limit(&self) -> bool {
        true
    }
}

impl<H: Handler, R: Handler> Route<H, R> {
    fn is_of(&self, record: &Record) -> bool {
        *record.topic == *self.topic
    }
}

impl<H: Handler, R: Handler> Handler for Route<H, R> {
    fn handle(&self, record: Record) -> impl Future<Output = Outcome> + Send {
        if self.is_of(&record) {
            Either::Left(self.handler.handle(record))
        } else {
            Either::Right(self.others.handle(record))
        }
    }

    /// Only when each of them has one: the limit of the consumer counts all attempts, or none.
    fn has_own_limit(&self) -> bool {
        self.handler.has_own_limit() && self.others.has_own_limit()
    }

    fn run_max(&self) -> usize {
        self.handler.run_max().max(self.others.run_max())
    }

    /// The records of a run are of one key of one partition, and so of one topic.
    fn handle_run(&self, records: Vec<Record>) -> impl Future<Output = Vec<Outcome>> + Send {
        if records.first().is_some_and(|first| self.is_of(first)) {
            Either::Left(in_its_runs(&self.handler, records))
        } else {
            Either::Right(self.others.handle_run(records))
        }
    }
}

/// Another handler may take longer runs than this one: it is given runs as long as its own.
async fn in_its_runs<H: Handler>(handler: &H, records: Vec<Record>) -> Vec<Outcome> {
    let count_max = handler.run_max().max(1);
    let (mut outcomes, mut records) = (Vec::new(), records.into_iter().peekable());
    while records.peek().is_some() {
        let mut run: Vec<Record> = records.by_ref().take(count_max).collect();
        let count = run.len();
        let said = match run.pop() {
            Some(one) if run.is_empty() => vec![handler.handle(one).await],
            last => handler.handle_run(run.into_iter().chain(last).collect()).await,
        };
        let is_whole = said.len() >= count && said.iter().all(Outcome::is_done);
        outcomes.extend(said.into_iter().take(count));
        if !is_whole {
            break;
        }
    }
    outcomes
}
