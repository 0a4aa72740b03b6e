//! The runtime's source on Apache Kafka: a member of a consumer group, with a queue for each partition.
//!
//! A rebalance is only noted when librdkafka tells it, and acted on from the poller's loop: until then librdkafka
//! fetches nothing for the whole assignment, so the drain is short. What is assigned is taken once its commits are
//! known, and nothing else waits for that. Commits are ours alone.

use crate::ffi::consumer::{CommitAnswer, CommitQueue, Into, Met, PartitionQueue};
use crate::ffi::messages::QueueError;
use crate::ffi::payload::Lender;
use crate::ffi::watermarks;
use crate::meaning;
use crate::reasons::{self, Hears, Reasons, damaged, is_damage};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::record::{Place, Record};
use weir_runtime::source::{Commit, Event, LogSource, Membership, Obstacle, Retention};
use weir_runtime::wake::Wake;

mod checks;
mod client;
mod commit;
mod committed;
mod complaints;
mod config;
mod maps;
mod note;
mod patterns;
mod positions;
mod replace;
mod taking;
#[cfg(test)]
mod tests;
pub(crate) mod whole;

use checks::{denied, wrong};
use committed::GroupCommits;
use complaints::Complaints;
pub use config::{OutOfRange, Protocol, SourceConfig, StartAt};
use maps::Maps;
use note::Note;
use positions::Found;
use replace::Doctor;
use whole::Wholes;

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
    reasons: Reasons,
    told: Mutex<Told>,
}

/// What librdkafka told of the consumer as a whole since it was looked at.
#[derive(Default)]
struct Told {
    errors: Vec<(RDKafkaErrorCode, String)>,
    statistics: Option<Statistics>,
}

impl Context {
    fn note(&self, noted: Noted) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(noted);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reasons.line(facility, text);
        reasons::log(level, facility, text);
    }

    fn stats(&self, statistics: Statistics) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).statistics = Some(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.reasons.event(code, reason);
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.errors.push((code, reason.to_owned()));
        }
        tracing::warn!(%error, reason, "kafka reports an error");
    }
}

impl Hears for Context {
    fn reasons(&self) -> &Reasons {
        &self.reasons
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
    /// Which topic its offsets are of, as far as the brokers say it.
    note: Option<Note>,
    /// Where it was begun to be read.
    from: Offset,
    /// A batch of it is damaged: it gives no more records.
    is_damaged: bool,
    /// Its values that came in parts.
    wholes: Wholes,
}

/// What the group assigned and is not taken yet, because where it begins is not known, or not committed.
#[derive(Default)]
struct Unread {
    places: Vec<Place>,
    /// Those of them that the question under way is about.
    asked: Option<Vec<Place>>,
    /// Those of them whose position is being committed.
    committing: Vec<Found>,
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
        self.committing.retain(|found| !gone.contains(&found.place));
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
    /// Answers to commits of positions that are not read from yet.
    positions: Option<CommitQueue>,
    /// The number of the next commit.
    commit_number: usize,
    maps: Maps,
    committed: Option<GroupCommits>,
    /// Whether a question is under way, about whatever.
    is_asking: bool,
    /// When it is asked again whether the topics are still the same.
    look_due: Instant,
    /// Partitions whose position is not in the log, until it is known whether that is because of another topic.
    misplaced: Vec<(Place, QueueError)>,
    /// Where the partition of the last fetch ends, if that fetch came to it.
    read_to: Option<i64>,
    /// What is out of the consumer's own memory: it ends after that.
    lender: Lender,
    consumer: Option<Arc<BaseConsumer<Context>>>,
    complaints: Complaints,
    doctor: Doctor,
    /// What a client that was given up had, until the runtime has released it; a new client begins after that.
    orphans: HashSet<Place>,
    is_replacing: bool,
}

impl KafkaSource {
    /// A source by these settings. Brokers are not reached yet.
    #[must_use]
    pub fn new(config: SourceConfig) -> Self {
        Self {
            complaints: Complaints::default(),
            doctor: Doctor::new(&config),
            orphans: HashSet::new(),
            is_replacing: false,
            config,
            wake: Wake::default(),
            own: HashMap::new(),
            unread: Unread::default(),
            errors: Vec::new(),
            refused: Vec::new(),
            commits: None,
            positions: None,
            commit_number: 0,
            maps: Maps::default(),
            committed: None,
            is_asking: false,
            look_due: Instant::now(),
            misplaced: Vec::new(),
            read_to: None,
            lender: Lender::default(),
            consumer: None,
        }
    }

    /// Begins commits, with no more metadata than the broker takes.
    fn send(&mut self, mut commits: Vec<Commit>) {
        let Some(queue) = &self.commits else { return };
        let number = self.commit_number;
        self.commit_number += 1;
        commits.iter_mut().for_each(|commit| self.maps.fit(commit));
        if let Err(code) = queue.commit(&self.maps.list(&commits, &self.own), number) {
            let places = commits.iter().map(|commit| (commit.place.clone(), code)).collect();
            self.refused.push(CommitAnswer { number, code, places });
            self.wake.wake();
        }
        self.maps.sent(number, commits);
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
                self.complaints.assigned(&places);
                self.unread.places.extend(places);
            }
            Noted::Revoke(places) => {
                self.unread.forget(&places);
                let is_lost = self.consumer.as_ref().is_some_and(|consumer| consumer.assignment_lost());
                if is_lost {
                    self.complaints.lost(Instant::now());
                }
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

fn trouble(error: &KafkaError, doing: &'static str) -> Fault {
    let page = error.rdkafka_error_code().map_or(meaning::UNREACHABLE, |code| meaning::of(code).1);
    Fault::new(FaultKind::Transient, page, doing, "").caused_by(error.clone())
}

impl LogSource for KafkaSource {
    fn membership(&self) -> Option<Membership> {
        Some(checks::membership(&self.config))
    }

    fn reads(&self, topic: &str) -> bool {
        patterns::has(&self.config.topics, topic)
    }

    fn retention(&mut self) -> Option<Retention> {
        self.shortest_retention()
    }

    fn largest_record(&mut self) -> Option<(String, u64)> {
        self.largest()
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
        self.wake = wake;
        let consumer = self.make()?;
        let by_pattern = patterns::check(&consumer, &self.config.topics)?;
        let any = checks::topics(&consumer, &self.config.topics)?.or(by_pattern);
        let committed = self.ask(&consumer)?;
        if let Some(place) = any {
            checks::group(&consumer, &committed, &place, &self.config.group)?;
        }
        self.join(consumer, committed)
    }

    fn events(&mut self, events: &mut Vec<Event>) {
        if self.is_replacing {
            self.come_back(events);
        }
        let Some(consumer) = self.consumer.as_ref() else { return };
        let consumer = Arc::clone(consumer);
        self.serve(&consumer, events);
        self.watch(&consumer, events);
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
        let mut shorter = Vec::new();
        for mut answer in std::mem::take(&mut self.refused).into_iter().chain(answers) {
            let is_of_now = |place: &Place| self.own.get(place).is_some_and(|own| answer.number >= own.since);
            answer.places.retain(|(place, _)| is_of_now(place));
            shorter.append(&mut self.maps.shorter(&mut answer));
            commit::on_answer(answer, events);
        }
        if !shorter.is_empty() {
            self.send(shorter);
        }
        for (place, error) in std::mem::take(&mut self.errors) {
            if is_out_of_range(&error) && self.own.get(&place).is_some_and(|own| own.note.is_some()) {
                self.misplaced.push((place, error));
                self.look_due = Instant::now();
            } else {
                events.push(queue_trouble(place, &error));
            }
        }
    }

    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        self.read_to = None;
        let own = self.own.get_mut(place).filter(|own| !own.is_damaged);
        let Some(own) = own else { return };
        let (mut errors, before, mut met) = (Vec::new(), records.len(), Met::default());
        // Parts alone are no record yet: the rest of the value comes behind them.
        while own.queue.is_ready() && records.len() == before && errors.is_empty() && !met.is_over() {
            let (lender, wholes, errors) = (&self.lender, &mut own.wholes, &mut errors);
            met = own.queue.read(count_max, budget, Into { place, lender, wholes, records, errors });
        }
        // What stands behind an error was not handed out: the end says nothing of it.
        self.read_to = met.end.filter(|_| errors.is_empty());
        if !errors.is_empty() {
            own.is_damaged = errors.iter().any(|error| is_damage(error.code.into()));
            if own.is_damaged
                && let Some(consumer) = &self.consumer
                && let Err(error) = consumer.pause(&list_of([place]))
            {
                // librdkafka would fetch the batch again and again.
                tracing::warn!(%error, %place, "a damaged partition is not paused");
            }
            self.errors.extend(errors.into_iter().map(|error| (place.clone(), error)));
            self.wake.wake();
        }
        if let Some(offset) = met.seek.filter(|_| !own.is_damaged) {
            self.put_back(place, offset);
        }
    }

    fn end(&mut self, place: &Place) -> Option<i64> {
        let consumer = self.consumer.as_ref().filter(|_| self.own.contains_key(place))?;
        watermarks::end(consumer.client().native_ptr(), place)
    }

    fn read_to(&mut self) -> Option<i64> {
        self.read_to.take()
    }

    fn metadata(&mut self, bytes_max: usize) -> usize {
        self.maps.is_noting = bytes_max >= note::TEXT_BYTES_MAX;
        bytes_max - if self.maps.is_noting { note::TEXT_BYTES_MAX } else { 0 }
    }

    fn commit(&mut self, commits: &[Commit]) {
        let commits = commit::held(commits, &mut self.own);
        self.send(commits);
    }

    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        let commits = commit::held(commits, &mut self.own);
        let Some(consumer) = self.consumer.as_ref() else { return Ok(()) };
        commit::and_wait(consumer, commits, (&mut self.maps, &self.own), &self.wake, wait_max)
    }

    fn release(&mut self, places: &[Place]) {
        if !self.orphans.is_empty() {
            places.iter().for_each(|place| _ = self.orphans.remove(place));
            self.wake.wake();
            return;
        }
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
        self.leave_within(LEAVE_WAIT);
    }

    fn close_within(&mut self, wait_max: Duration) {
        self.leave_within(wait_max);
    }

    fn obstacles(&mut self) -> Vec<Obstacle> {
        self.told_obstacles()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.close();
    }
}

fn is_out_of_range(error: &QueueError) -> bool {
    error.code == Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        || error.code == Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
}

/// What an error in a partition's queue means.
fn queue_trouble(place: Place, error: &QueueError) -> Event {
    if is_out_of_range(error) {
        let fault = Fault::new(
            FaultKind::Corrupt,
            "W-RUNTIME-OUT-OF-RANGE",
            "go on where the group was",
            place.to_string(),
        );
        return Event::OutOfRange(place, fault.caused_by(error.text.clone()));
    }
    if is_damage(error.code.into()) {
        let fault = damaged(&place.to_string(), &error.text);
        return Event::Damaged(place, fault);
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
