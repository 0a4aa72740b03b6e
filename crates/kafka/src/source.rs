//! The runtime's source on Apache Kafka: a member of a consumer group, with a queue for each partition.
//!
//! A rebalance is only noted when librdkafka tells it, and acted on from the poller's loop: until then librdkafka
//! fetches nothing for the whole assignment, so the drain is short. What is assigned is taken once its commits are
//! known, and nothing else waits for that. Commits are ours alone.

use crate::ffi::committed::Committed;
use crate::ffi::consumer::{CommitAnswer, CommitQueue, PartitionQueue};
use crate::ffi::messages::QueueError;
use crate::ffi::payload::Lender;
use crate::meaning;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::record::{Place, Record};
use weir_runtime::source::{Assigned, Commit, Event, LogSource, Membership, Retention};
use weir_runtime::wake::Wake;

mod checks;
mod commit;
mod committed;
mod config;
#[cfg(test)]
mod tests;

use checks::{denied, wrong};
use committed::GroupCommits;
pub use config::{OutOfRange, Protocol, SourceConfig, StartAt};

/// How long one question to the brokers may take.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long after a question for the group's commits that was not answered well it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How long leaving the group may hold up its caller. A broker that says nothing would hold it for a minute.
const LEAVE_WAIT: Duration = Duration::from_secs(5);

/// What librdkafka told, to be acted on from the loop.
enum Noted {
    Assign(Vec<Place>),
    Revoke(Vec<Place>),
}

struct Context {
    /// Whether assignments are told in steps.
    is_incremental: bool,
    noted: Mutex<Vec<Noted>>,
    /// On the way out a rebalance is done with at once: nobody calls the loop any more.
    is_closing: AtomicBool,
}

impl Context {
    fn note(&self, noted: Noted) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka reports an error");
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assign = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.is_closing.load(Ordering::Acquire) {
            // Answered in any case: librdkafka would wait for it, and the group for librdkafka.
            let done = if is_assign {
                assign(consumer, &TopicPartitionList::new())
            } else {
                unassign(consumer, list)
            };
            if let Err(error) = done {
                tracing::debug!(%error, "a rebalance on the way out was not answered");
            }
        } else if is_assign {
            self.note(Noted::Assign(places(list)));
        } else {
            self.note(Noted::Revoke(places(list)));
        }
    }
}

fn places(list: &TopicPartitionList) -> Vec<Place> {
    list.elements().iter().map(|element| Place::new(element.topic(), element.partition())).collect()
}

fn list_of<'a>(places: impl IntoIterator<Item = &'a Place>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for place in places {
        list.add_partition(&place.topic, place.partition);
    }
    list
}

/// Leaves the group and waits for its answer; the client goes on.
fn leave_group(consumer: &BaseConsumer<Context>) {
    match consumer.close_queue() {
        Ok(()) => {
            while !consumer.closed() {
                consumer.poll(Duration::from_millis(100));
            }
        }
        Err(error) => tracing::warn!(%error, "the group was not left; its session ends by itself"),
    }
}

fn assign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    if consumer.context().is_incremental { consumer.incremental_assign(list) } else { consumer.assign(list) }
}

fn unassign(consumer: &BaseConsumer<Context>, list: &TopicPartitionList) -> KafkaResult<()> {
    if consumer.context().is_incremental { consumer.incremental_unassign(list) } else { consumer.unassign() }
}

/// An assigned partition.
struct Own {
    queue: PartitionQueue,
    /// The number of the next commit when it became ours: answers to earlier ones are about a former assignment.
    since: usize,
}

/// What the group assigned and is not taken yet, because its commits are not known.
#[derive(Default)]
struct Unread {
    places: Vec<Place>,
    /// Those of them that the question under way is about.
    asked: Option<Vec<Place>>,
    /// When to ask again.
    due: Option<Instant>,
}

impl Unread {
    fn forget(&mut self, gone: &[Place]) {
        self.places.retain(|place| !gone.contains(place));
        if let Some(asked) = &mut self.asked {
            // One that comes back meanwhile is asked for anew: another member may have committed.
            asked.retain(|place| !gone.contains(place));
        }
    }
}

/// A member of a consumer group.
pub struct KafkaSource {
    config: SourceConfig,
    wake: Wake,
    // Before the consumer: fields drop in this order, and the queues are the consumer's.
    own: HashMap<Place, Own>,
    unread: Unread,
    errors: Vec<(Place, QueueError)>,
    /// Commits that were refused before they were sent.
    refused: Vec<CommitAnswer>,
    commits: Option<CommitQueue>,
    /// The number of the next commit.
    commit_number: usize,
    committed: Option<GroupCommits>,
    /// What is out of the consumer's own memory: it ends after that.
    lender: Lender,
    consumer: Option<Arc<BaseConsumer<Context>>>,
}

impl KafkaSource {
    /// A source by these settings. Brokers are not reached yet.
    #[must_use]
    pub fn new(config: SourceConfig) -> Self {
        Self {
            config,
            wake: Wake::default(),
            own: HashMap::new(),
            unread: Unread::default(),
            errors: Vec::new(),
            refused: Vec::new(),
            commits: None,
            commit_number: 0,
            committed: None,
            lender: Lender::default(),
            consumer: None,
        }
    }

    /// Asks for the commits of what was assigned, and takes what they are known of.
    fn read(&mut self, events: &mut Vec<Event>) {
        let Some(queue) = &self.committed else { return };
        if let Some(answer) = queue.answer(Duration::ZERO) {
            let asked = self.unread.asked.take().unwrap_or_default();
            match answer.and_then(|all| known(all, &asked)) {
                Ok(all) => {
                    self.take(all, events);
                    let is_short = self.unread.places.iter().any(|place| asked.contains(place));
                    self.unread.due = is_short.then(|| Instant::now() + ASK_AGAIN);
                }
                Err(code) => {
                    let error = KafkaError::OffsetFetch(code);
                    if is_denied(code) {
                        events.push(Event::Ended(denied(&self.config.group, code)));
                    } else {
                        events.push(Event::Trouble(trouble(&error, "read the group's commits")));
                    }
                    self.unread.due = Some(Instant::now() + ASK_AGAIN);
                }
            }
        }
        let Unread { places, asked, due } = &mut self.unread;
        let Some(queue) = self.committed.as_ref().filter(|_| asked.is_none() && !places.is_empty()) else {
            return;
        };
        if due.is_none_or(|due| due <= Instant::now()) {
            queue.ask(places, ASK_WAIT);
            (*asked, *due) = (Some(places.clone()), None);
        }
    }

    /// Begins to fetch partitions whose commits are known.
    fn take(&mut self, all: Vec<Committed>, events: &mut Vec<Event>) {
        let Some(consumer) = self.consumer.as_ref() else { return };
        let mut list = TopicPartitionList::new();
        let mut assigned = Vec::new();
        for one in all {
            let Committed { place, offset: committed, metadata, .. } = one;
            let start = match (committed, self.config.start_at) {
                (Some(offset), _) => Offset::Offset(offset),
                (None, StartAt::Earliest) => Offset::Beginning,
                (None, StartAt::Latest) => Offset::End,
            };
            let queue = PartitionQueue::split(consumer.client().native_ptr(), &place, &self.wake);
            let added = list.add_partition_offset(&place.topic, place.partition, start);
            let (Some(queue), Ok(())) = (queue, added) else { continue };
            self.unread.forget(std::slice::from_ref(&place));
            self.own.insert(place.clone(), Own { queue, since: self.commit_number });
            assigned.push(Assigned { place, committed, metadata });
        }
        if assigned.is_empty() {
            return;
        }
        match assign(consumer, &list) {
            Ok(()) => events.push(Event::Assigned(assigned)),
            Err(error) => events.push(Event::Ended(trouble(&error, "take what the group assigned"))),
        }
    }

    fn on_noted(&mut self, noted: Noted, events: &mut Vec<Event>) {
        match noted {
            Noted::Assign(places) => {
                // The group has its answer at once, with nothing: what was ours before is fetched again, and the new
                // ones are added when their commits are known.
                if let Some(consumer) = &self.consumer
                    && let Err(error) = assign(consumer, &TopicPartitionList::new())
                {
                    events.push(Event::Trouble(trouble(&error, "take what the group assigned")));
                }
                self.unread.places.extend(places);
            }
            Noted::Revoke(places) => {
                self.unread.forget(&places);
                let is_lost = self.consumer.as_ref().is_some_and(|consumer| consumer.assignment_lost());
                events.push(if is_lost { Event::Lost(places) } else { Event::Revoked(places) });
            }
        }
    }
}

/// Refusals that no waiting mends.
const fn is_denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Error;
    matches!(
        code,
        Error::GroupAuthorizationFailed | Error::TopicAuthorizationFailed | Error::ClusterAuthorizationFailed
    )
}

/// What was asked for of an answer. One that is not known is not one that is not there: to start at the beginning, or
/// the end, would be wrong.
fn known(mut all: Vec<Committed>, asked: &[Place]) -> Result<Vec<Committed>, RDKafkaErrorCode> {
    all.retain(|one| asked.contains(&one.place));
    match all.iter().find(|one| one.code != Code::RD_KAFKA_RESP_ERR_NO_ERROR) {
        Some(one) => Err(one.code.into()),
        None => Ok(all),
    }
}

fn trouble(error: &KafkaError, doing: &'static str) -> Fault {
    let page = error.rdkafka_error_code().map_or(meaning::UNREACHABLE, |code| meaning::of(code).1);
    Fault::new(FaultKind::Transient, page, doing, "").caused_by(error.clone())
}

impl LogSource for KafkaSource {
    fn membership(&self) -> Option<Membership> {
        Some(checks::membership(&self.config))
    }

    fn retention(&mut self) -> Option<Retention> {
        self.shortest_retention()
    }

    fn prefetch(&mut self, bytes_max: usize) -> Result<usize, Fault> {
        let bytes = self.config.prefetch_bytes.unwrap_or(bytes_max);
        if bytes > bytes_max {
            let why = format!(
                "{bytes} is more than half of the byte budget, which is {bytes_max}; make it less, or the budget larger"
            );
            return Err(wrong("prefetch_bytes", why));
        }
        self.config.prefetch_bytes = Some(bytes);
        Ok(bytes)
    }

    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        let refused = |error| checks::refused(error, &self.config.bootstrap);
        let context = Context {
            is_incremental: self.config.protocol != Protocol::Eager,
            noted: Mutex::default(),
            is_closing: AtomicBool::new(false),
        };
        let mut consumer: BaseConsumer<Context> =
            self.config.client()?.create_with_context(context).map_err(refused)?;
        consumer.set_nonempty_callback({
            let wake = wake.clone();
            move || wake.wake()
        });
        let any = checks::topics(&consumer, &self.config.topics)?;
        let consumer = Arc::new(consumer);
        let client = consumer.client().native_ptr();
        let committed = GroupCommits::start(Arc::clone(&consumer), &wake).map_err(|error| {
            Fault::new(FaultKind::Transient, "W-RUNTIME-ENDED", "start a thread", "").caused_by(error)
        })?;
        if let Some(place) = any {
            checks::group(&consumer, &committed, &place, &self.config.group)?;
        }
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(refused)?;
        (self.commits, self.committed) = (Some(CommitQueue::new(client, &wake)), Some(committed));
        (self.wake, self.consumer) = (wake, Some(consumer));
        Ok(())
    }

    fn events(&mut self, events: &mut Vec<Event>) {
        let Some(consumer) = self.consumer.as_ref() else { return };
        let polled = consumer.poll(Duration::ZERO);
        match polled {
            None => {}
            Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                let fault = Fault::new(
                    FaultKind::Config,
                    "W-KAFKA-REJECTED",
                    "stay in the group",
                    &self.config.group,
                );
                events.push(Event::Ended(fault.caused_by(code.to_string())));
            }
            Some(Err(KafkaError::MessageConsumption(code))) if is_denied(code) => {
                events.push(Event::Ended(denied(&self.config.group, code)));
            }
            Some(Err(error)) => events.push(Event::Trouble(trouble(&error, "consume"))),
            Some(Ok(message)) => {
                use rdkafka::message::Message as _;
                let about = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
                let fault =
                    Fault::new(FaultKind::Corrupt, "W-RUNTIME-ENDED", "read a partition's own queue", about);
                events.push(Event::Ended(fault.caused_by("a record went astray into the group's queue")));
            }
        }
        let noted =
            std::mem::take(&mut *consumer.context().noted.lock().unwrap_or_else(PoisonError::into_inner));
        if !noted.is_empty() {
            // More may stand in line behind what was served.
            self.wake.wake();
        }
        for one in noted {
            self.on_noted(one, events);
        }
        self.read(events);
        let answers = std::iter::from_fn(|| self.commits.as_ref()?.answer(Duration::ZERO));
        for mut answer in std::mem::take(&mut self.refused).into_iter().chain(answers) {
            let is_of_now = |place: &Place| self.own.get(place).is_some_and(|own| answer.number >= own.since);
            answer.places.retain(|(place, _)| is_of_now(place));
            commit::on_answer(answer, events);
        }
        for (place, error) in std::mem::take(&mut self.errors) {
            events.push(queue_trouble(place, &error));
        }
    }

    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        let Some(queue) = self.own.get(place).map(|own| &own.queue).filter(|queue| queue.is_ready()) else {
            return;
        };
        let mut errors = Vec::new();
        queue.read(place, count_max, &self.lender, budget, records, &mut errors);
        if !errors.is_empty() {
            self.errors.extend(errors.into_iter().map(|error| (place.clone(), error)));
            self.wake.wake();
        }
    }

    fn commit(&mut self, commits: &[Commit]) {
        let Some(queue) = &self.commits else { return };
        let number = self.commit_number;
        self.commit_number += 1;
        if let Err(code) = queue.commit(&commit::list(commits), number) {
            let places = commits.iter().map(|commit| (commit.place.clone(), code)).collect();
            self.refused.push(CommitAnswer { number, code, places });
            self.wake.wake();
        }
    }

    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        let Some(consumer) = self.consumer.as_ref() else { return Ok(()) };
        commit::and_wait(consumer, &commit::list(commits), &self.wake, wait_max)
    }

    fn release(&mut self, places: &[Place]) {
        // Only what was taken: librdkafka refuses the rest, and then waits for an answer to the rebalance for ever.
        let taken: Vec<&Place> = places.iter().filter(|place| self.own.remove(place).is_some()).collect();
        self.unread.forget(places);
        if let Some(consumer) = &self.consumer
            && let Err(error) = unassign(consumer, &list_of(taken))
        {
            tracing::warn!(%error, "partitions could not be given back");
        }
    }

    fn close(&mut self) {
        self.own.clear();
        self.commits = None;
        let committed = self.committed.take().map(GroupCommits::end);
        let Some(consumer) = self.consumer.take() else { return };
        consumer.context().is_closing.store(true, Ordering::Release);
        let (left, has_left) = mpsc::sync_channel(1);
        let lender = self.lender.clone();
        // Taken by the thread, or by us when there is none to be had.
        let handed = Arc::new(Mutex::new(Some(consumer)));
        let hand = Arc::clone(&handed);
        let take = |hand: &Mutex<Option<_>>| hand.lock().unwrap_or_else(PoisonError::into_inner).take();
        let leave = move || {
            let Some(consumer) = take(&hand) else { return };
            // It may have a question under way, and holds on to the consumer meanwhile.
            let _ = committed.map(std::thread::JoinHandle::join);
            if lender.is_out() {
                // Somebody keeps a record: the group is left now, the rest ends with that record.
                leave_group(&consumer);
                let _ = left.send(());
                lender.wait();
                return;
            }
            // Leaves the group, and waits for its answer.
            drop(consumer);
            // Nobody may wait for it any more.
            let _ = left.send(());
        };
        match std::thread::Builder::new().name("weir-leave".to_owned()).spawn(leave) {
            Ok(_) if has_left.recv_timeout(LEAVE_WAIT).is_ok() => {}
            Ok(_) => tracing::warn!(
                group = self.config.group,
                "the group does not answer; it is left when it does, or when the session ends"
            ),
            Err(error) => {
                tracing::warn!(%error, "the group is left on the caller's own thread");
                if let Some(consumer) = take(&handed) {
                    leave_group(&consumer);
                    if self.lender.is_out() {
                        // Nobody is there to wait for it, and what is lent must not lose its client.
                        std::mem::forget(consumer);
                    }
                }
            }
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.close();
    }
}

/// What an error in a partition's queue means.
fn queue_trouble(place: Place, error: &QueueError) -> Event {
    if error.code == Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        || error.code == Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
    {
        let fault = Fault::new(
            FaultKind::Corrupt,
            "W-RUNTIME-OUT-OF-RANGE",
            "go on where the group was",
            place.to_string(),
        );
        return Event::OutOfRange(place, fault.caused_by(error.text.clone()));
    }
    if is_denied(error.code.into()) {
        let fault =
            Fault::new(FaultKind::Denied, "W-KAFKA-DENIED", "read a topic of `topics`", &*place.topic);
        return Event::Ended(fault.caused_by("allow this user Read on the topic"));
    }
    let about = place.to_string();
    let (_, page) = meaning::of(error.code.into());
    Event::Trouble(
        Fault::new(FaultKind::Transient, page, "read from Kafka", about).caused_by(error.text.clone()),
    )
}
