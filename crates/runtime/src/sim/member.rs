//! One member: its consumer with the source, the handler and the writer of letters that the world gives it.

use super::book::{Ended, Promise};
use super::plan::{Fate, Plan, Way};
use super::script::{FlowChange, LetterTrouble};
use super::world::{DEAD_TOPIC, World, now_of, scripted};
use crate::batch::Batching;
use crate::budget::{Budget, Taken};
use crate::consumer::{Consumer, Running};
use crate::dead_letter::{self, DeadLetters};
use crate::deferred;
use crate::flow::Flow;
use crate::log::{Job, LogWriter, RecordBatch};
use crate::outcome::Outcome;
use crate::quota::{OverQuota, Quota};
use crate::record::{Body, Header, Place, Record};
use crate::source::{Commit, Event, LogSource};
use crate::wake::Wake;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{Fault, TopicName};

/// Header: the number of the assignment that a record was fetched in.
const ASSIGNMENT: &str = "sim.assignment";
/// Header: the number of the record.
const RECORD: &str = "sim.record";

type Handling<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A life of a member that runs.
pub(super) struct Live {
    pub(super) member: usize,
    pub(super) running: Running,
    pub(super) budget: Budget,
}

/// Starts a member's next life.
pub(super) fn start(world: &World, plan: &Plan) -> Live {
    let (member, change) = {
        let mut state = world.state();
        (state.birth(), state.flow)
    };
    let budget = Budget::new(plan.budget_bytes);
    let ms = Duration::from_millis;
    let mut consumer = Consumer::new(Source { world: world.clone(), member, read_to: None })
        .shards(plan.shards)
        .concurrency(plan.concurrency)
        .window_records(plan.window_records)
        .budget(budget.clone())
        .commit_every(ms(plan.commit_every_ms))
        .drain_max(ms(plan.drain_max_ms))
        .metadata_bytes_max(plan.metadata_bytes_max)
        .retry(plan.retry())
        .flow(flow(change))
        .seed(plan.seed ^ member as u64);
    if !plan.parks {
        let topic = TopicName::new(DEAD_TOPIC).expect("a good name");
        let writer = Arc::new(Writer { world: world.clone(), member });
        consumer = consumer.dead_letters(DeadLetters::new(writer, topic, "g"));
    }
    let hand = Hand { world: world.clone(), member, plan: Arc::new(plan.clone()) };
    let running = match plan.batch {
        Some(full) => {
            let batching = Batching::new(full, move |records: Vec<Record>| hand.handle_many(records));
            consumer.start_in_task(batching.runs_of(plan.run_max))
        }
        None => consumer.start_in_task(move |record: Record| hand.handle(record)),
    };
    Live { member, running: running.expect("the settings are right"), budget }
}

/// What a change means for a consumer.
pub(super) fn flow(change: FlowChange) -> Flow {
    match change {
        FlowChange::Free => Flow::default(),
        FlowChange::Paused => Flow { is_paused: true, ..Flow::default() },
        FlowChange::PartitionRate(rate) => Flow { rate_per_partition: Some(rate), ..Flow::default() },
        FlowChange::Rate(rate) => Flow { rate: Some(rate), ..Flow::default() },
        FlowChange::KeyQuota(rate) => Flow {
            key_quota: Some(Quota { rate, burst: Duration::from_millis(500), action: OverQuota::SlowDown }),
            ..Flow::default()
        },
        FlowChange::Ignoring => {
            Flow { ignored_keys: Arc::new([key_bytes(0)].into_iter().collect()), ..Flow::default() }
        }
    }
}

fn key_bytes(key: u64) -> Bytes {
    Bytes::from(format!("k{key}"))
}

pub(super) fn value_of(record: u64) -> String {
    format!("r{record}")
}

fn number(record: &Record, header: &str) -> u64 {
    let text = record.header(header).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.and_then(|text| text.parse().ok()).expect("the source gives each record its headers")
}

/// The source of one member.
struct Source {
    world: World,
    member: usize,
    /// Where the partition of the last fetch ends, if that fetch came so far.
    read_to: Option<i64>,
}

impl Source {
    fn record(&self, place: &Place, (offset, number, watch): (i64, u64, usize), budget: &Budget) -> Record {
        struct Counted(Bytes, #[expect(dead_code, reason = "given back by its drop")] Taken);
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let mut state = self.world.state();
        let key = state.plan.key(number);
        let value = value_of(number);
        // The poller took its orders at the beginning of this turn, in which nothing else runs.
        let is_ignored = key == Some(0) && state.flow == FlowChange::Ignoring;
        state.book.fetched(watch, offset, key, value.clone(), is_ignored);
        let value = Bytes::from(value);
        let taken = budget.take_at_once(value.len());
        let header = |name: &str, number: u64| Header {
            name: name.into(),
            value: Some(Bytes::from(number.to_string())),
        };
        Record {
            topic: place.topic,
            partition: place.partition,
            offset,
            timestamp_ms: 0,
            attempt: 1,
            body: Body::of(
                key.map(key_bytes),
                Some(Bytes::from_owner(Counted(value, taken))),
                vec![header(ASSIGNMENT, watch as u64), header(RECORD, number)],
            ),
        }
    }

    fn is_dead(&self) -> bool {
        self.world.state().members[self.member].is_dead
    }
}

impl LogSource for Source {
    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        self.world.state().join(self.member, wake);
        Ok(())
    }

    fn events(&mut self, events: &mut Vec<Event>) {
        self.world.state().events(self.member, events);
    }

    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        let found = self.world.state().fetch(self.member, place, count_max);
        self.read_to = self.world.state().read_to(self.member, place);
        records.extend(found.into_iter().map(|one| self.record(place, one, budget)));
    }

    fn read_to(&mut self) -> Option<i64> {
        self.read_to.take()
    }

    fn commit(&mut self, commits: &[Commit]) {
        let wait = self.world.state().commit(self.member, commits);
        self.world.wake_later(wait);
    }

    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        self.world.state().commit_and_wait(self.member, commits, wait_max)
    }

    fn release(&mut self, places: &[Place]) {
        if !self.is_dead() {
            let mut state = self.world.state();
            places.iter().for_each(|place| state.release(self.member, place.partition as usize));
        }
    }

    fn close(&mut self) {
        self.world.state().close(self.member);
    }
}

/// What handles a member's records.
#[derive(Clone)]
struct Hand {
    world: World,
    member: usize,
    plan: Arc<Plan>,
}

impl Hand {
    fn handle(&self, record: Record) -> Handling<Outcome> {
        let hand = self.clone();
        let (world, member) = (self.world.clone(), self.member);
        let inner = Box::pin(async move {
            let attempt = Attempt::begin(&hand, &record, hand.call(), None);
            let outcome = hand.fare(&record).await;
            attempt.end(outcome, &record)
        });
        Box::pin(Gate { world, member, inner })
    }

    fn handle_many(&self, records: Vec<Record>) -> Handling<Vec<Outcome>> {
        let hand = self.clone();
        let (world, member) = (self.world.clone(), self.member);
        let inner = Box::pin(async move {
            let company: Arc<[usize]> =
                records.iter().map(|record| number(record, ASSIGNMENT) as usize).collect();
            let call = hand.call();
            let attempts: Vec<Attempt> =
                records.iter().map(|record| Attempt::begin(&hand, record, call, Some(&company))).collect();
            let fares = records.iter().map(async |record| match hand.plan.fate(number(record, RECORD)) {
                // A panic would be everybody's: theirs would not follow from the record alone.
                Fate::Fails(times, Way::Panic) if record.attempt <= times => Outcome::failed("by chance"),
                _ => hand.fare(record).await,
            });
            let outcomes = futures::future::join_all(fares).await;
            // Behind one of its key that is not done, nothing of a run counts.
            let mut held = BTreeSet::new();
            let mut ends = Vec::new();
            for ((attempt, outcome), record) in attempts.into_iter().zip(outcomes).zip(&records) {
                let lane = record.key().map(|key| (attempt.watch, key.to_vec()));
                if lane.as_ref().is_some_and(|lane| held.contains(lane)) {
                    ends.push(attempt.uncounted(outcome));
                    continue;
                }
                if !matches!(outcome, Outcome::Done | Outcome::Skip(_)) {
                    held.extend(lane);
                }
                ends.push(attempt.end(outcome, record));
            }
            ends
        });
        Box::pin(Gate { world, member, inner })
    }

    /// The number of the next call of a handler.
    fn call(&self) -> u64 {
        let mut state = self.world.state();
        state.calls += 1;
        state.calls
    }

    /// What becomes of this attempt.
    async fn fare(&self, record: &Record) -> Outcome {
        let ms = |ms: u64| tokio::time::sleep(Duration::from_millis(ms));
        match self.plan.fate(number(record, RECORD)) {
            Fate::Slow(span) => ms(span).await,
            Fate::Fails(times, way) if record.attempt <= times => {
                return match way {
                    Way::Error => Outcome::failed("by chance"),
                    Way::LateError(span) => {
                        ms(span).await;
                        Outcome::failed("by chance, later")
                    }
                    Way::Panic => {
                        self.panics(record);
                    }
                    Way::RetryAfter(span) => Outcome::retry_after(Duration::from_millis(span)),
                    Way::RetryWith => Outcome::retry_with(format!("again {}", record.attempt)),
                };
            }
            Fate::Never => return Outcome::failed("it never works"),
            Fate::Poison => return Outcome::dead_letter("poison"),
            Fate::Skipped => return Outcome::skip("nothing to do"),
            Fate::Deferred(span) => {
                let (token, completion) = deferred::new();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(span)).await;
                    token.finish(());
                });
                return completion.await;
            }
            Fate::Forgotten if record.attempt == 1 => {
                let (token, completion) = deferred::new();
                drop(token);
                return completion.await;
            }
            Fate::Quick | Fate::Fails(..) | Fate::Forgotten => {}
        }
        Outcome::Done
    }

    fn panics(&self, record: &Record) -> ! {
        let watch = number(record, ASSIGNMENT) as usize;
        self.world.state().book.end(watch, record.offset, &Ended::Again(Duration::ZERO, None));
        // Without the hook, which would print thousands of them.
        std::panic::resume_unwind(Box::new("by chance"));
    }
}

/// Lets a future run when its member does: not while it is frozen, and never again when it is dead.
struct Gate<T> {
    world: World,
    member: usize,
    inner: Handling<T>,
}

impl<T> Future for Gate<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let member = self.member;
        let may_run = self.world.state().members[member].may_run(context.waker());
        if may_run { self.inner.as_mut().poll(context) } else { Poll::Pending }
    }
}

/// One attempt under way, as the book has it.
struct Attempt {
    world: World,
    member: usize,
    watch: usize,
    offset: i64,
    /// The assignments of all records of its batch.
    company: Arc<[usize]>,
    is_over: bool,
}

impl Attempt {
    /// Alone, or in a batch with records of these assignments.
    fn begin(hand: &Hand, record: &Record, call: u64, company: Option<&Arc<[usize]>>) -> Self {
        let (watch, offset) = (number(record, ASSIGNMENT) as usize, record.offset);
        let value = record.text().1;
        hand.world.state().book.begin(watch, offset, record.attempt, &value, call);
        let company = company.map_or_else(|| Arc::new([watch]) as Arc<[usize]>, Arc::clone);
        Self { world: hand.world.clone(), member: hand.member, watch, offset, company, is_over: false }
    }

    /// Tells the book, and hands the outcome on.
    fn end(mut self, outcome: Outcome, record: &Record) -> Outcome {
        self.is_over = true;
        let ended = match &outcome {
            Outcome::Done | Outcome::Skip(_) => Ended::Finished,
            Outcome::DeadLetter(_) => Ended::GivenUp,
            Outcome::Failed(_) => Ended::Again(Duration::ZERO, None),
            Outcome::Retry(after) => Ended::Again(after.unwrap_or_default(), None),
            Outcome::RetryWith(..) => Ended::Again(Duration::ZERO, Some(format!("again {}", record.attempt))),
        };
        self.world.state().book.end(self.watch, self.offset, &ended);
        outcome
    }
}

impl Attempt {
    /// It ran behind one of its key that failed, and comes again.
    fn uncounted(mut self, outcome: Outcome) -> Outcome {
        self.is_over = true;
        self.world.state().book.uncounted(self.watch, self.offset);
        outcome
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_over && !std::thread::panicking() {
            let mut state = self.world.state();
            let mut company = self.company.iter();
            let is_expected = state.members[self.member].is_dead
                || company.any(|watch| state.book.watches[*watch].is_leaving);
            state.book.cancelled(self.watch, self.offset, is_expected);
        }
    }
}

/// Writes a member's dead letters.
struct Writer {
    world: World,
    member: usize,
}

impl Writer {
    /// Reads the letter, checks its story, and says what it is about: assignment and offset.
    fn read(&self, batch: &RecordBatch) -> (usize, i64) {
        let span = &batch.records[0];
        let headers = &batch.headers[span.headers.start as usize..span.headers.end as usize];
        let text = |name: &str| {
            let header = headers.iter().rev().find(|header| header.name == name);
            let bytes = header.and_then(|header| batch.optional(&header.value)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let place = text(dead_letter::PLACE);
        let offset = place.rsplit('/').next().and_then(|offset| offset.parse().ok()).unwrap_or(-1);
        let [watch, record, attempts] = [ASSIGNMENT, RECORD, dead_letter::ATTEMPTS]
            .map(|name| text(name).parse::<u64>().unwrap_or(u64::MAX));
        let mut state = self.world.state();
        let partition = state.plan.partition(record);
        let key = state.plan.key(record).map(key_bytes);
        let cause = text(dead_letter::CAUSE);
        let is_right = place == format!("t/{partition}/{offset}")
            && batch.optional(&span.key) == key.as_deref()
            && !cause.is_empty()
            && batch.topics[0].as_str() == DEAD_TOPIC;
        if !is_right {
            let text = format!("the letter of record {record} is of {place}, because of {cause:?}");
            state.book.breach(Promise::DeadLetters, text);
        }
        state.book.letter(watch as usize, offset, attempts as u32);
        (watch as usize, offset)
    }
}

impl LogWriter for Writer {
    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        if self.world.state().members[self.member].is_dead {
            return Box::pin(std::future::pending());
        }
        let (watch, offset) = self.read(&batch);
        let world = self.world.clone();
        let (trouble, until) = {
            let state = world.state();
            (now_of(&state.letters), state.letters.map(|(_, until)| until))
        };
        let wait = match trouble {
            Some(LetterTrouble::Slow(ms)) => Duration::from_millis(ms),
            Some(LetterTrouble::Hangs) => until.map(|until| until - Instant::now()).unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if trouble == Some(LetterTrouble::Panics) {
            world.state().book.letter_is_answered(watch, offset, false);
            if offset % 2 == 0 {
                std::panic::resume_unwind(Box::new("by chance"));
            }
            return Box::pin(async { std::panic::resume_unwind(Box::new("by chance, later")) });
        }
        let is_written = !matches!(trouble, Some(LetterTrouble::Refused | LetterTrouble::Hangs));
        // What is in the log's hands is written, whether or not somebody waits for the answer still.
        if is_written && wait.is_zero() {
            world.state().book.letter_is_durable(watch, offset);
        } else if is_written {
            world.later(wait, move |state| state.book.letter_is_durable(watch, offset));
        }
        let is_ok = is_written && trouble != Some(LetterTrouble::AnswerLost);
        Box::pin(async move {
            if !wait.is_zero() {
                // After what was to happen at that time.
                tokio::time::sleep(wait + Duration::from_millis(1)).await;
            }
            world.state().book.letter_is_answered(watch, offset, is_ok);
            if is_ok { Ok(()) } else { Err(scripted("write a letter")) }
        })
    }
}
