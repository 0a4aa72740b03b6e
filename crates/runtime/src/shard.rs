//! One shard: owns its lanes, runs at most one attempt a lane, and waits for nothing but its mailbox, its attempts and
//! its timers.
//!
//! A new attempt is polled once in place; only what is not ready at once is put among the running. A record that has to
//! come again waits in its lane on a timer and holds nothing else.

use crate::assignment::Assignment;
use crate::dead_letter::DeadLetters;
use crate::lane::LaneMap;
use crate::mailbox::{Mailbox, Message, Work};
#[cfg(test)]
use crate::mutant::{self, Mutant};
use crate::outcome::Outcome;
use crate::permits::Permits;
use crate::quota::Accounts;
use crate::record::Record;
use crate::retry::{Chance, RetryPolicy};
use crate::retry_topic::RetryTopic;
use crate::shaping::{Lines, Shaping, Target};
use crate::stats::{Counts, Stats};
use crate::step::{self, End, Ended, RunJob, Step};
use crate::stopwatch::{Stage, Stopwatch};
use crate::task::{Errand, Task};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use weir_model::Fault;

mod ready;
mod rules;
mod settle;

/// Attempts that end in one turn before other tasks of the thread get theirs.
const ENDS_PER_TURN_MAX: usize = 1024;

/// How long records are begun in one turn. A thread of tokio looks at timers and sockets after 61 turns: handlers that
/// compute without an `.await` must not make that seconds.
const BEGIN_TIME_MAX: Duration = Duration::from_micros(500);

/// Records that are begun between two looks at the clock.
const BEGUN_PER_LOOK: usize = 16;

/// What all shards of a consumer are given.
pub(crate) struct Terms {
    pub(crate) retry: RetryPolicy,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) shaping: Option<Shaping>,
    pub(crate) retry_topic: Option<RetryTopic>,
    pub(crate) stats: Arc<Stats>,
    /// Told once, when a record's policy is to stop.
    pub(crate) stop: Box<dyn Fn(Fault) + Send + Sync>,
}

/// A task in it is boxed: lanes are many, and most of them have one among the running.
enum Head {
    /// An attempt, or the writing of a dead letter, is among the running.
    Running,
    /// On the timer of this number.
    Waiting(u64, Box<Task>),
    /// Waits for a permit; without a task it is the next of the queue that is to begin.
    Ready(Option<Box<Task>>),
    /// Given up, and held.
    Parked(#[expect(dead_code, reason = "holds the record's slot, so that it stays pending")] Box<Task>),
}

/// What a lane holds; a lane with nothing is not there.
struct Lane {
    assignment: u64,
    head: Head,
    queue: VecDeque<Work>,
}

/// How runs of one key are handled.
pub(crate) struct Runs {
    pub(crate) records_max: usize,
    pub(crate) make: Box<dyn Fn(Vec<Record>) -> RunJob + Send>,
}

/// What is left of a batch.
type Rest = (u64, std::vec::IntoIter<Work>);

/// What reading the mailbox came to.
#[derive(PartialEq, Eq)]
enum Mail {
    Read,
    /// There is more than fits into a turn.
    More,
    /// The poller has said that it is the end.
    End,
}

struct Local {
    shared: Arc<Assignment>,
    running_count: usize,
    is_revoked: bool,
    /// Where records over their key's quota go, once that was asked.
    outlet: Option<Option<Arc<Target>>>,
}

pub(crate) struct Shard<M, F> {
    terms: Arc<Terms>,
    mailbox: Arc<Mailbox>,
    make: M,
    assignments: LaneMap<Local>,
    lanes: LaneMap<Lane>,
    running: FuturesUnordered<Step<F>>,
    timers: BinaryHeap<Reverse<(Instant, u64, u64)>>,
    timer_last: u64,
    sleep: Pin<Box<Sleep>>,
    chance: Chance,
    counts: Counts,
    stopwatch: Stopwatch,
    /// What is not read yet of the messages, and before it of their first batch.
    messages: VecDeque<Message>,
    rest: Option<Rest>,
    /// When no more records are begun in this turn.
    begin_until: Instant,
    spare: Option<step::Room<F>>,
    /// Of keys with a quota.
    accounts: Option<Accounts>,
    aside: Lines,
    runs: Option<Runs>,
    /// Lanes whose first records wait for the rest of their batch, so that they make a run.
    fresh: Vec<u64>,
    /// The limit of attempts under way; none when the handler has one of its own.
    permits: Option<Permits>,
    /// Lanes that wait for a permit, the oldest first.
    ready: VecDeque<u64>,
}

impl<M, F> Shard<M, F>
where
    M: Fn(Record) -> F,
    F: Future<Output = Outcome>,
{
    pub(crate) fn new(
        terms: Arc<Terms>,
        mailbox: Arc<Mailbox>,
        seed: u64,
        stopwatch: Stopwatch,
        make: M,
        runs: Option<Runs>,
        permits: Option<Permits>,
    ) -> Self {
        Self {
            terms,
            mailbox,
            make,
            assignments: LaneMap::default(),
            lanes: LaneMap::default(),
            running: FuturesUnordered::new(),
            timers: BinaryHeap::new(),
            timer_last: 0,
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            chance: Chance::new(seed),
            counts: Counts::default(),
            stopwatch,
            messages: VecDeque::new(),
            rest: None,
            begin_until: Instant::now(),
            spare: None,
            accounts: None,
            aside: Lines::default(),
            runs,
            fresh: Vec::new(),
            permits,
            ready: VecDeque::new(),
        }
    }

    /// Runs until the mailbox says that it is the end.
    pub(crate) async fn run(mut self) {
        // Without tokio's own budget: it would make handlers' sockets seem busy after 128 polls of a turn. The turn
        // has a bound of its own.
        tokio::task::unconstrained(std::future::poll_fn(|context| self.turn(context))).await;
    }

    fn turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut ends_left = ENDS_PER_TURN_MAX;
        self.stopwatch.begin_turn();
        self.begin_until = Instant::now() + BEGIN_TIME_MAX;
        let polled = loop {
            let mail = self.read_mail(context);
            if mail == Mail::End {
                break Poll::Ready(());
            }
            self.fire_timers(context);
            if !self.aside.is_empty() {
                self.write_aside(context);
            }
            let mut has_more = self.begin_ready(context);
            while let Poll::Ready(Some(ended)) = self.running.poll_next_unpin(context) {
                self.ended(ended, context);
                has_more = self.begin_ready(context);
                ends_left -= 1;
                if ends_left == 0 {
                    break;
                }
            }
            if ends_left == 0 || has_more || mail == Mail::More {
                context.waker().wake_by_ref();
                break Poll::Pending;
            }
            let Some(Reverse((due, ..))) = self.timers.peek() else { break Poll::Pending };
            if self.sleep.deadline() != *due {
                self.sleep.as_mut().reset(*due);
            }
            if self.sleep.as_mut().poll(context).is_pending() {
                break Poll::Pending;
            }
        };
        if self.ready.is_empty()
            && let Some(permits) = &mut self.permits
        {
            permits.rest();
        }
        self.terms.stats.add(&mut self.counts);
        let longest = || self.lanes.values().map(|lane| lane.queue.len()).max().unwrap_or_default();
        self.stopwatch.end_turn(self.lanes.len(), self.running.len(), longest);
        polled
    }

    /// Does what the poller says, as far as that fits into a turn.
    fn read_mail(&mut self, context: &mut Context<'_>) -> Mail {
        // The mailbox is looked at last in any case: only then does it wake this shard for what comes later.
        let mut is_taken = false;
        loop {
            if let Some(batch) = self.rest.take() {
                self.rest = self.read_batch(batch, context);
                if self.rest.is_some() {
                    return Mail::More;
                }
            }
            match self.messages.pop_front() {
                None if is_taken => return Mail::Read,
                None => {
                    self.mailbox.take(&mut self.messages, context.waker());
                    is_taken = true;
                }
                Some(Message::Begin(shared)) => {
                    let local = Local { shared, running_count: 0, is_revoked: false, outlet: None };
                    self.assignments.insert(local.shared.id, local);
                }
                Some(Message::Batch { assignment, works }) => {
                    self.rest = Some((assignment, works.into_iter()))
                }
                Some(Message::Revoke(id)) => self.revoke(id),
                Some(Message::Cancel(id)) => self.cancel(id),
                Some(Message::Quota(quota)) => self.set_quota(quota),
                Some(Message::Close) => return Mail::End,
            }
        }
    }

    /// Begins records of a batch until the turn's time is over; what is left of it then.
    fn read_batch(&mut self, (assignment, mut works): Rest, context: &mut Context<'_>) -> Option<Rest> {
        let is_plain = self.is_plain();
        if let Some(accounts) = &mut self.accounts {
            accounts.tick(Instant::now());
        }
        loop {
            if self.assignments.get(&assignment).is_none_or(|local| local.shared.is_leaving()) {
                works = Vec::new().into_iter();
                break;
            }
            if is_plain {
                for work in works.by_ref().take(BEGUN_PER_LOOK) {
                    self.arrive(assignment, work, context);
                }
            } else {
                for work in works.by_ref().take(BEGUN_PER_LOOK) {
                    self.arrive_by_the_rules(assignment, work, context);
                }
            }
            if works.len() == 0 || Instant::now() >= self.begin_until {
                break;
            }
        }
        for number in std::mem::take(&mut self.fresh) {
            self.go_on(assignment, number, None, context);
        }
        (works.len() > 0).then_some((assignment, works))
    }

    fn arrive(&mut self, assignment: u64, work: Work, context: &mut Context<'_>) {
        let number = work.lane;
        #[cfg(test)]
        let overtakes = self.lanes.get(&number).is_some_and(|lane| {
            mutant::is(Mutant::TwoOfAKeyAtOnce)
                || mutant::is(Mutant::OvertakesARetry) && matches!(lane.head, Head::Waiting(..))
        });
        #[cfg(not(test))]
        let overtakes = false;
        if let Some(lane) = self.lanes.get_mut(&number).filter(|_| !overtakes) {
            lane.queue.push_back(work);
            self.stopwatch.lane_grew(lane.queue.len());
            return;
        }
        if !overtakes && !self.may_begin(context) {
            return self.make_ready(assignment, work);
        }
        if let Some(head) = self.attempt(assignment, Task::new(work, self.stopwatch.now()), context) {
            self.lanes.insert(number, Lane { assignment, head, queue: VecDeque::new() });
        }
    }

    /// Whether records are handled one by one, as they come.
    fn is_plain(&self) -> bool {
        self.accounts.is_none() && self.runs.is_none() && self.terms.retry_topic.is_none()
    }

    /// Makes one attempt, or writes one errand; what the lane is held by when that does not end it at once.
    fn attempt(&mut self, assignment: u64, mut task: Task, context: &mut Context<'_>) -> Option<Head> {
        let lane = task.work.lane;
        task.started = self.stopwatch.now();
        let (task, end) = if task.errand().is_some() {
            let terms = Arc::clone(&self.terms);
            let write = |task: &Task| {
                let record = &task.work.record;
                match (task.errand(), &terms.dead_letters, &terms.retry_topic) {
                    (Some(Errand::Bury(cause, told)), Some(letters), _) => {
                        letters.write(record, cause, *told)
                    }
                    (Some(Errand::Requeue(due_ms)), _, Some(topic)) => {
                        let age = task.since().map(|since| since.elapsed()).unwrap_or_default();
                        topic.write(record, *due_ms, age)
                    }
                    _ => unreachable!("only with a place for it is a record written"),
                }
            };
            self.run_step(assignment, Step::bury(assignment, lane, task, write));
            return Some(Head::Running);
        } else {
            if task.work.record.attempt == 1 {
                self.stopwatch.delivered(&task.work.record);
            }
            let room = self.spare.take().unwrap_or_else(|| Box::pin(None));
            match step::start(room, &self.make, task.work.record.clone(), context) {
                Ok((outcome, room)) => {
                    self.spare = room;
                    self.stopwatch.ended_at_once();
                    (task, outcome)
                }
                Err(room) => {
                    self.stopwatch.event();
                    let step = Step::handle(assignment, lane, task, room);
                    let has_permit = self.take_permit();
                    self.run_step(assignment, step.with_permit(has_permit));
                    return Some(Head::Running);
                }
            }
        };
        self.settle(assignment, task, end)
    }

    fn run_step(&mut self, assignment: u64, step: Step<F>) {
        step.held();
        if let Some(local) = self.assignments.get_mut(&assignment) {
            local.running_count += 1;
        }
        self.running.push(step);
    }

    /// An attempt among the running has ended: what it says, then the lane's next records.
    fn ended(&mut self, ended: Ended<F>, context: &mut Context<'_>) {
        let Ended { assignment, lane: number, task, end, has_permit, room } = ended;
        if has_permit && let Some(permits) = &mut self.permits {
            permits.put_back();
        }
        if self.spare.is_none() {
            self.spare = room;
        }
        self.stopwatch.event();
        let stage = if matches!(end, End::Buried(_)) { Stage::DeadLetter } else { Stage::Attempt };
        self.stopwatch.since(stage, task.started);
        let Some(local) = self.assignments.get_mut(&assignment) else { return };
        local.running_count -= 1;
        if local.is_revoked {
            // What is not done now comes again to the next owner.
            if let Some(end) = end.done() {
                self.settle(assignment, task, end);
            }
            self.lanes.remove(&number);
            self.quiet_if_idle(assignment);
            return;
        }
        let head = self.settle(assignment, task, end);
        self.go_on(assignment, number, head, context);
    }

    /// Starts a lane's next records for as long as each ends at once; what holds the lane is kept in it.
    fn go_on(&mut self, assignment: u64, number: u64, mut head: Option<Head>, context: &mut Context<'_>) {
        while head.is_none() {
            let Some(lane) = self.lanes.get(&number) else { return };
            if lane.queue.is_empty() {
                self.lanes.remove(&number);
                return;
            }
            if !self.may_begin(context) {
                self.ready.push_back(number);
                head = Some(Head::Ready(None));
                break;
            }
            head = self.begin_next(assignment, number, context);
        }
        if let (Some(lane), Some(head)) = (self.lanes.get_mut(&number), head) {
            lane.head = head;
        }
    }

    fn fire_timers(&mut self, context: &mut Context<'_>) {
        if self.timers.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(Reverse((due, ..))) = self.timers.peek()
            && *due <= now
        {
            let Some(Reverse((_, timer, number))) = self.timers.pop() else { return };
            // A lane that was revoked meanwhile is gone, or waits on another timer.
            let Some(lane) = self.lanes.get_mut(&number) else { continue };
            if !matches!(&lane.head, Head::Waiting(waiting, _) if *waiting == timer) {
                continue;
            }
            let Head::Waiting(_, mut task) = std::mem::replace(&mut lane.head, Head::Running) else {
                continue;
            };
            task.set_slowed(false);
            let assignment = lane.assignment;
            let head = if task.errand().is_some() || self.may_begin(context) {
                self.attempt(assignment, *task, context)
            } else {
                self.ready.push_back(number);
                Some(Head::Ready(Some(task)))
            };
            self.go_on(assignment, number, head, context);
        }
    }

    fn revoke(&mut self, id: u64) {
        let Some(local) = self.assignments.get_mut(&id) else { return };
        local.is_revoked = true;
        self.lanes.retain(|_, lane| {
            lane.queue.retain(|_| lane.assignment != id);
            lane.assignment != id || matches!(lane.head, Head::Running)
        });
        self.forget_ready();
        self.aside.revoke(id);
        self.quiet_if_idle(id);
    }

    fn cancel(&mut self, id: u64) {
        if let Some(local) = self.assignments.get_mut(&id) {
            self.counts.cancelled += local.running_count as u64;
            local.running_count = 0;
            local.is_revoked = true;
        }
        let running = std::mem::take(&mut self.running);
        #[cfg(test)]
        let running = if mutant::is(Mutant::CancelsOthers) { FuturesUnordered::new() } else { running };
        let (gone, staying) = running.into_iter().partition::<Vec<_>, _>(|step| step.assignment() == id);
        self.running = staying.into_iter().collect();
        let permit_count = gone.iter().filter(|step| step.has_permit()).count();
        drop(gone);
        if let Some(permits) = &self.permits {
            permits.give_up(permit_count);
        }
        self.lanes.retain(|_, lane| lane.assignment != id);
        self.forget_ready();
        self.counts.cancelled += u64::from(self.aside.cancel(id));
        self.quiet_if_idle(id);
    }

    fn quiet_if_idle(&mut self, id: u64) {
        if self.assignments.get(&id).is_some_and(|local| local.is_revoked && local.running_count == 0)
            && !self.aside.is_busy(id)
            && let Some(local) = self.assignments.remove(&id)
        {
            local.shared.quiet();
        }
    }
}
