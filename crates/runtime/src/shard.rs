//! One shard: owns its lanes, runs at most one attempt a lane, and waits for nothing but its mailbox, its attempts and
//! its timers.
//!
//! A new attempt is polled once in place; only what is not ready at once is put among the running. A record that has to
//! come again waits in its lane on a timer and holds nothing else.

use crate::assignment::{Assignment, Trouble};
use crate::dead_letter::DeadLetters;
use crate::deadline;
use crate::lane::LaneMap;
use crate::mailbox::{Mailbox, Message, Work};
#[cfg(test)]
use crate::mutant::{self, Mutant};
use crate::outcome::Outcome;
use crate::quota::{Accounts, OverQuota, Quota};
use crate::record::Record;
use crate::retry::{Chance, Exhausted, RetryPolicy, WAIT_MIN};
use crate::retry_topic::RetryTopic;
use crate::shaping::{Lines, Shaping, Target};
use crate::stats::{Counts, Stats};
use crate::step::{self, End, Ended, RunJob, Step};
use crate::stopwatch::{Moment, Stage, Stopwatch};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use weir_model::{Fault, FaultKind};

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

/// A record, and how it has fared.
pub(crate) struct Task {
    pub(crate) work: Work,
    /// When its attempt, or the writing of its dead letter, began.
    started: Moment,
    /// Its first failure.
    since: Option<Instant>,
    /// What is to be written instead of another attempt, and how often that was tried.
    errand: Option<(Errand, u32)>,
    /// Whether it waits for its key's quota, and for nothing else.
    is_slowed: bool,
}

/// What is written of a record, durable before it counts as done.
enum Errand {
    /// A dead letter, for this cause.
    Bury(Cow<'static, str>),
    /// A record for the retry topic, with the time of its next attempt, ms since 1970.
    Requeue(i64),
}

impl Task {
    fn new(work: Work) -> Self {
        Self { work, started: Moment::default(), since: None, errand: None, is_slowed: false }
    }
}

/// A task in it is boxed: lanes are many, and most of them have one among the running.
enum Head {
    /// An attempt, or the writing of a dead letter, is among the running.
    Running,
    /// On the timer of this number.
    Waiting(u64, Box<Task>),
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
            while let Poll::Ready(Some(ended)) = self.running.poll_next_unpin(context) {
                self.ended(ended, context);
                ends_left -= 1;
                if ends_left == 0 {
                    break;
                }
            }
            if ends_left == 0 || mail == Mail::More {
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
        if let Some(head) = self.attempt(assignment, Task::new(work), context) {
            self.lanes.insert(number, Lane { assignment, head, queue: VecDeque::new() });
        }
    }

    /// As [`Shard::arrive`] with a quota, runs or a retry topic. Apart, because a record is copied for each further call that
    /// it is given to, which is a tenth of what it costs.
    fn arrive_by_the_rules(&mut self, assignment: u64, work: Work, context: &mut Context<'_>) {
        if let Some(target) = self.outlet(assignment, &work) {
            if let Some(local) = self.assignments.get(&assignment) {
                self.aside.add(&local.shared, work, target);
            }
            return;
        }
        let number = work.lane;
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.queue.push_back(work);
            self.stopwatch.lane_grew(lane.queue.len());
        } else if self.runs.is_some() {
            let queue = VecDeque::from([work]);
            self.lanes.insert(number, Lane { assignment, head: Head::Running, queue });
            self.fresh.push(number);
        } else if let Some(head) = self.begin(assignment, work, context) {
            self.lanes.insert(number, Lane { assignment, head, queue: VecDeque::new() });
        }
    }

    /// Whether records are handled one by one, as they come.
    fn is_plain(&self) -> bool {
        self.accounts.is_none() && self.runs.is_none() && self.terms.retry_topic.is_none()
    }

    /// Where a record goes that is over its key's quota; `None` for all others, and for those that may be handled later.
    fn outlet(&mut self, assignment: u64, work: &Work) -> Option<Arc<Target>> {
        let accounts = self.accounts.as_mut()?;
        let is_over = accounts.quota().action != OverQuota::SlowDown
            && work.record.key.is_some()
            && accounts.pass(work.lane).is_err();
        let local = is_over.then(|| self.assignments.get_mut(&assignment)).flatten()?;
        let (quota, terms, topic) = (accounts.quota(), &self.terms, &local.shared.place.topic);
        let find = || {
            // What is there was counted before it failed.
            let is_retried = terms.retry_topic.as_ref().is_some_and(|retry| retry.is(topic));
            if is_retried {
                return None;
            }
            Target::of(quota, topic, terms.shaping.as_ref(), terms.dead_letters.as_ref())
        };
        local.outlet.get_or_insert_with(find).clone()
    }

    fn write_aside(&mut self, context: &mut Context<'_>) {
        for id in self.aside.poll(context, &mut self.counts, &mut self.chance) {
            self.quiet_if_idle(id);
        }
    }

    /// New accounts for all keys; what waits for its quota goes on.
    fn set_quota(&mut self, quota: Option<Quota>) {
        self.accounts = quota.map(Accounts::new);
        self.assignments.values_mut().for_each(|local| local.outlet = None);
        let now = Instant::now();
        for (number, lane) in &self.lanes {
            if let Head::Waiting(timer, task) = &lane.head
                && task.is_slowed
            {
                self.timers.push(Reverse((now, *timer, *number)));
            }
        }
    }

    /// Makes the first attempt at a record, now or when the retry topic's header or its key's quota says so, with those
    /// behind it that make a run.
    fn begin(&mut self, assignment: u64, work: Work, context: &mut Context<'_>) -> Option<Head> {
        let mut task = Task::new(work);
        if let Some(topic) = &self.terms.retry_topic {
            match topic.open(&mut task.work.record) {
                Ok(opened) => {
                    let now = Instant::now();
                    task.since = opened.age.and_then(|age| now.checked_sub(age));
                    if !opened.wait.is_zero() {
                        return Some(self.wait(task, deadline::after(now, opened.wait)));
                    }
                }
                Err(reason) => {
                    let to_dead_letters = self.terms.dead_letters.is_some();
                    return Some(self.give_up(assignment, task, reason.into(), to_dead_letters));
                }
            }
        }
        if let Some(wait) = self.quota_wait(&task.work) {
            self.counts.slowed += 1;
            task.is_slowed = true;
            return Some(self.wait(task, deadline::after(Instant::now(), wait)));
        }
        let rest = self.run_behind(task.work.lane);
        let Some(runs) = self.runs.as_ref().filter(|_| !rest.is_empty()) else {
            return self.attempt(assignment, task, context);
        };
        let lane = task.work.lane;
        let records = std::iter::once(&task.work).chain(&rest).map(|work| work.record.clone()).collect();
        let job = (runs.make)(records);
        std::iter::once(&task.work).chain(&rest).for_each(|work| self.stopwatch.delivered(&work.record));
        task.started = self.stopwatch.now();
        self.run_step(assignment, Step::run(assignment, lane, task, rest, job));
        Some(Head::Running)
    }

    /// How long a record must wait for its key's quota, which it has used from now on.
    fn quota_wait(&mut self, work: &Work) -> Option<Duration> {
        let accounts = self.accounts.as_mut()?;
        let is_exempt = accounts.quota().action != OverQuota::SlowDown || work.record.key.is_none();
        // Its first attempt was counted, before it came here through the retry topic.
        let is_retried = work.record.attempt > 1;
        if is_exempt || is_retried {
            return None;
        }
        accounts.tick(Instant::now());
        accounts.reserve(work.lane)
    }

    /// The records that make a run with the lane's next one: all that wait, as far as the quota and the handler go. With
    /// a retry topic, whose records have times of their own, none.
    fn run_behind(&mut self, number: u64) -> Vec<Work> {
        let mut rest = Vec::new();
        let Some(runs) = self.runs.as_ref().filter(|_| self.terms.retry_topic.is_none()) else { return rest };
        let Some(lane) = self.lanes.get_mut(&number) else { return rest };
        while rest.len() + 1 < runs.records_max
            && let Some(next) = lane.queue.front()
        {
            if let Some(accounts) = &mut self.accounts
                && accounts.quota().action == OverQuota::SlowDown
                && next.record.key.is_some()
                && accounts.pass(number).is_err()
            {
                break;
            }
            rest.extend(lane.queue.pop_front());
        }
        rest
    }

    /// Makes one attempt, or writes one errand; what the lane is held by when that does not end it at once.
    fn attempt(&mut self, assignment: u64, mut task: Task, context: &mut Context<'_>) -> Option<Head> {
        let lane = task.work.lane;
        task.started = self.stopwatch.now();
        let (task, end) = if task.errand.is_some() {
            let terms = Arc::clone(&self.terms);
            let write = |task: &Task| {
                let record = &task.work.record;
                match (&task.errand, &terms.dead_letters, &terms.retry_topic) {
                    (Some((Errand::Bury(cause), _)), Some(letters), _) => letters.write(record, cause),
                    (Some((Errand::Requeue(due_ms), _)), _, Some(topic)) => {
                        let age = task.since.map(|since| since.elapsed()).unwrap_or_default();
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
                    self.run_step(assignment, Step::handle(assignment, lane, task, room));
                    return Some(Head::Running);
                }
            }
        };
        self.settle(assignment, task, end)
    }

    fn run_step(&mut self, assignment: u64, step: Step<F>) {
        if let Some(local) = self.assignments.get_mut(&assignment) {
            local.running_count += 1;
        }
        self.running.push(step);
    }

    /// An attempt among the running has ended: what it says, then the lane's next records.
    fn ended(&mut self, ended: Ended<F>, context: &mut Context<'_>) {
        let Ended { assignment, lane: number, task, end, room } = ended;
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
            let Some(lane) = self.lanes.get_mut(&number) else { return };
            let Some(work) = lane.queue.pop_front() else {
                self.lanes.remove(&number);
                return;
            };
            head = if self.is_plain() {
                self.attempt(assignment, Task::new(work), context)
            } else {
                self.begin(assignment, work, context)
            };
        }
        if let (Some(lane), Some(head)) = (self.lanes.get_mut(&number), head) {
            lane.head = head;
        }
    }

    /// Does what the end of an attempt asks for; what the lane is held by, if it is.
    fn settle(&mut self, assignment: u64, mut task: Task, end: End) -> Option<Head> {
        #[cfg(test)]
        let end = match end {
            End::Outcome(Outcome::Failed(_)) if mutant::is(Mutant::ErrorIsDone) => {
                End::Outcome(Outcome::Done)
            }
            End::Buried(Err(_)) if mutant::is(Mutant::LetterIsNotDurable) => End::Buried(Ok(())),
            end => end,
        };
        let (wait, reason) = match end {
            End::Outcome(Outcome::Done) => {
                self.counts.done += 1;
                return self.finish(assignment, task);
            }
            End::Outcome(Outcome::Skip(_)) => {
                self.counts.skipped += 1;
                return self.finish(assignment, task);
            }
            End::Buried(Ok(())) => {
                match task.errand {
                    Some((Errand::Requeue(_), _)) => self.counts.requeued += 1,
                    _ => self.counts.dead_letters += 1,
                }
                return self.finish(assignment, task);
            }
            End::Run(outcomes, rest) => return self.settle_run(assignment, task, outcomes, rest),
            End::Buried(Err(fault)) => return Some(self.write_again(assignment, task, &fault)),
            End::Outcome(Outcome::DeadLetter(reason)) => {
                return Some(self.give_up(assignment, task, reason, self.terms.dead_letters.is_some()));
            }
            End::Outcome(Outcome::Retry(after)) => {
                (after, Cow::Borrowed("the handler asked for another attempt"))
            }
            End::Outcome(Outcome::RetryWith(value, after)) => {
                task.work.record.value = Some(value);
                (after, Cow::Borrowed("the handler asked for another attempt with another value"))
            }
            End::Outcome(Outcome::Failed(reason)) => {
                self.counts.failed += 1;
                if let Some(local) = self.assignments.get(&assignment) {
                    local.shared.attempt_failed();
                }
                (None, reason)
            }
        };
        let now = Instant::now();
        let since = *task.since.get_or_insert(now);
        let attempt = task.work.record.attempt;
        if self.terms.retry.is_exhausted(attempt, now - since) {
            let to_dead_letters = self.terms.retry.exhausted == Exhausted::DeadLetter;
            return Some(self.give_up(assignment, task, reason, to_dead_letters));
        }
        self.note(assignment, &task, now, &reason, false);
        let wait = wait.unwrap_or_else(|| self.terms.retry.wait(attempt, &mut self.chance)).max(WAIT_MIN);
        self.stopwatch.took(Stage::RetryWait, wait);
        if let Some(topic) = self.terms.retry_topic.as_ref().filter(|topic| topic.writes()) {
            task.errand = Some((Errand::Requeue(topic.due_ms(wait)), 0));
            return Some(self.wait(task, now));
        }
        task.work.record.attempt = attempt.saturating_add(1);
        self.counts.retried += 1;
        Some(self.wait(task, deadline::after(now, wait)))
    }

    /// Settles a run up to its first record that is not done. What is behind that waits in the lane again.
    fn settle_run(
        &mut self,
        assignment: u64,
        first: Task,
        outcomes: Vec<Outcome>,
        rest: Vec<Work>,
    ) -> Option<Head> {
        let number = first.work.lane;
        let mut outcomes = outcomes.into_iter().take(rest.len() + 1);
        let outcome = outcomes.next();
        let outcome = outcome.unwrap_or_else(|| Outcome::failed("its handler gave a run no outcome"));
        let mut head = self.settle(assignment, first, End::Outcome(outcome));
        let mut rest = VecDeque::from(rest);
        while head.is_none()
            && let Some(outcome) = outcomes.next()
            && let Some(work) = rest.pop_front()
        {
            head = self.settle(assignment, Task::new(work), End::Outcome(outcome));
        }
        self.counts.repeated += outcomes.len() as u64;
        if let Some(lane) = self.lanes.get_mut(&number) {
            rest.append(&mut lane.queue);
            lane.queue = rest;
        }
        head
    }

    fn finish(&self, assignment: u64, task: Task) -> Option<Head> {
        if task.since.is_some()
            && let Some(local) = self.assignments.get(&assignment)
        {
            local.shared.trouble_is_over(task.work.record.offset);
        }
        self.stopwatch.since(Stage::Completion, task.work.received);
        task.work.slot.finish();
        None
    }

    fn wait(&mut self, task: Task, until: Instant) -> Head {
        self.timer_last += 1;
        #[cfg(test)]
        if mutant::is(Mutant::ForgetsATimer) && task.work.record.attempt == 3 {
            return Head::Waiting(self.timer_last, Box::new(task));
        }
        #[cfg(test)]
        let until = if mutant::is(Mutant::ComesEarly) { Instant::now() } else { until };
        self.timers.push(Reverse((until, self.timer_last, task.work.lane)));
        Head::Waiting(self.timer_last, Box::new(task))
    }

    /// No further attempt: dead letter, park or stop.
    fn give_up(
        &mut self,
        assignment: u64,
        mut task: Task,
        reason: Cow<'static, str>,
        to_dead_letters: bool,
    ) -> Head {
        let now = Instant::now();
        task.since.get_or_insert(now);
        let is_parked = !to_dead_letters && self.terms.retry.exhausted != Exhausted::Stop;
        self.note(assignment, &task, now, &reason, is_parked);
        if to_dead_letters {
            task.errand = Some((Errand::Bury(reason), 0));
            // At once, by the timer: the lane's head is written like any other attempt.
            return self.wait(task, now);
        }
        let record = &task.work.record;
        let about = format!(
            "{}/{}/{} after {} attempts",
            record.topic, record.partition, record.offset, record.attempt
        );
        if self.terms.retry.exhausted == Exhausted::Stop {
            let fault = Fault::new(FaultKind::Rejected, "W-RUNTIME-GIVEN-UP", "handle a record", about);
            (self.terms.stop)(fault.caused_by(reason.into_owned()));
        } else {
            tracing::error!(place = %about, %reason, "a record is parked: its key and its commit wait for a restart");
        }
        self.counts.parked += 1;
        Head::Parked(Box::new(task))
    }

    fn write_again(&mut self, assignment: u64, mut task: Task, fault: &Fault) -> Head {
        let now = Instant::now();
        let what = if let Some((Errand::Requeue(_), _)) = task.errand {
            self.counts.requeues_failed += 1;
            "its next attempt"
        } else {
            self.counts.dead_letters_failed += 1;
            "its dead letter"
        };
        let reason = format!("{what} is not written: {}", fault.chain());
        tracing::warn!(error = %fault.chain(), "{what} is not written yet; the record stays pending");
        self.note(assignment, &task, now, &reason, false);
        let tries = task.errand.as_mut().map_or(1, |(_, tries)| {
            *tries = tries.saturating_add(1);
            *tries
        });
        let wait = RetryPolicy::default().wait(tries, &mut self.chance);
        self.wait(task, deadline::after(now, wait))
    }

    fn note(&self, assignment: u64, task: &Task, now: Instant, reason: &str, is_parked: bool) {
        #[cfg(test)]
        if mutant::is(Mutant::SaysNothing) {
            return;
        }
        if let Some(local) = self.assignments.get(&assignment) {
            let record = &task.work.record;
            let trouble = Trouble {
                attempt: record.attempt,
                since: task.since.unwrap_or(now),
                reason: reason.to_owned(),
                is_parked,
            };
            local.shared.trouble(record.offset, trouble);
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
            task.is_slowed = false;
            let assignment = lane.assignment;
            let head = self.attempt(assignment, *task, context);
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
        self.running = running.into_iter().filter(|step| step.assignment() != id).collect();
        self.lanes.retain(|_, lane| lane.assignment != id);
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
