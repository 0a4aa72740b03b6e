//! The poller: one thread a consumer. Serves the group's events, moves records from the log to the shards as far as
//! windows and budget allow, advances the windows, and commits.
//!
//! A turn never waits, but for the answer to a commit when partitions go away.

use crate::assignment::Assignment;
use crate::budget::Budget;
use crate::deadline;
use crate::ending::{self, NotCommitted};
use crate::flow::{Bucket, Flow};
use crate::health::{Health, PartitionHealth};
use crate::hooks::Hooks;
use crate::intake::Intake;
use crate::lane;
use crate::mailbox::{Mailbox, Message, Work};
#[cfg(test)]
use crate::mutant::{self, Mutant};
use crate::offset_map;
use crate::partition::Partition;
use crate::record::{Place, Record};
use crate::source::{Assigned, Commit, Event, LogSource, PartlyRefused};
use crate::stats::{Counts, Stats};
use crate::stopwatch::{Figures, Moment, Stage};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use weir_model::{Fault, limits};

/// How long a turn may wait when nothing is due; whatever happens wakes it before.
const IDLE_WAIT: Duration = Duration::from_millis(200);

/// The first and the longest wait while windows or budget are full, or partitions drain. Completion sends no word, so
/// that a record's end costs one bit; the poller looks.
const LOOK_WAIT: Duration = Duration::from_millis(1);
const LOOK_WAIT_MAX: Duration = Duration::from_millis(8);

/// How long the answer to a last commit may take.
const LAST_COMMIT_WAIT: Duration = Duration::from_secs(5);

/// What a stop keeps of its time for the last commit and for leaving the group: a quarter, and this at most.
const LEAVE_SHARE_MAX: Duration = Duration::from_secs(2);

/// What the last commit and leaving the group have at least, each.
const LEAVE_WAIT_MIN: Duration = Duration::from_millis(250);

/// How long a cancelled attempt may take to notice: a handler that computes has no `.await`.
pub(crate) const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// What the poller is told from outside.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Stop, and drain for at most so long.
    pub(crate) stop: Option<Duration>,
    /// Nobody waits for the stop: the last commit may take its time.
    pub(crate) is_dropped: bool,
    /// Stop because of this.
    pub(crate) fault: Option<Fault>,
    /// Stop at once: a shard is gone.
    pub(crate) broken: Option<Fault>,
    /// Take as this says from now on.
    pub(crate) flow: Option<Flow>,
}

pub(crate) struct Settings {
    pub(crate) window_records: usize,
    pub(crate) commit_every: Duration,
    pub(crate) drain_max: Duration,
    pub(crate) metadata_bytes_max: usize,
    pub(crate) is_after_parallel_consumer: bool,
    pub(crate) hooks: Hooks,
    /// What times are told from.
    pub(crate) began: Instant,
    /// Where the poller's own times are counted.
    pub(crate) figures: Arc<Figures>,
    /// Told whenever partitions become ours or go away.
    pub(crate) assigned: watch::Sender<Vec<Place>>,
}

/// Partitions on their way out.
struct Drain {
    /// What is released at its end.
    places: Vec<Place>,
    /// The assignments that it waits for.
    ids: Vec<u64>,
    began: Instant,
    deadline: Instant,
    is_cancelled: bool,
    is_lost: bool,
}

pub(crate) struct Poller {
    source: Box<dyn LogSource>,
    settings: Settings,
    budget: Budget,
    shards: Vec<Arc<Mailbox>>,
    stats: Arc<Stats>,
    orders: Arc<Mutex<Orders>>,
    health: Arc<Mutex<Health>>,
    partitions: Vec<Partition>,
    drains: Vec<Drain>,
    /// What was given back to us before we were done with it: begins when that is gone.
    returning: Vec<Assigned>,
    next_id: u64,
    first: usize,
    commit_due: Instant,
    look_wait: Duration,
    flow: Flow,
    bucket: Bucket,
    is_stopping: bool,
    /// When a stop that was ordered is to be over, leaving the group included.
    end_by: Option<Instant>,
    /// What the stop could not commit.
    not_committed: Option<NotCommitted>,
    end: Option<Fault>,
    counts: Counts,
    events: Vec<Event>,
    records: Vec<Record>,
    stages: Vec<Vec<Work>>,
}

/// What follows a turn.
pub(crate) enum Turn {
    /// The next one, after this time or a wake-up.
    Wait(Duration),
    /// Everything is done.
    Ended(Result<(), Fault>),
}

impl Poller {
    pub(crate) fn new(
        source: Box<dyn LogSource>,
        settings: Settings,
        budget: Budget,
        shards: Vec<Arc<Mailbox>>,
        stats: Arc<Stats>,
        orders: Arc<Mutex<Orders>>,
        health: Arc<Mutex<Health>>,
    ) -> Self {
        let stages = shards.iter().map(|_| Vec::new()).collect();
        let commit_due = deadline::after(Instant::now(), settings.commit_every);
        Self {
            source,
            settings,
            budget,
            shards,
            stats,
            orders,
            health,
            partitions: Vec::new(),
            drains: Vec::new(),
            returning: Vec::new(),
            next_id: 1,
            first: 0,
            commit_due,
            look_wait: LOOK_WAIT,
            flow: Flow::default(),
            bucket: Bucket::new(Instant::now()),
            is_stopping: false,
            end_by: None,
            not_committed: None,
            end: None,
            counts: Counts::default(),
            events: Vec::new(),
            records: Vec::new(),
            stages,
        }
    }

    pub(crate) fn source(&mut self) -> &mut dyn LogSource {
        &mut *self.source
    }

    /// One turn; a panic in it is the end, with its text.
    pub(crate) fn turn(&mut self) -> Turn {
        let turned = catch_unwind(AssertUnwindSafe(|| self.try_turn()));
        turned.unwrap_or_else(|panic| {
            let fault = ending::broken(format!("the poller panicked: {}", ending::panic_text(&*panic)));
            // What it knows may be half of a turn: nothing is committed, and the next owner repeats it.
            self.partitions.clear();
            if catch_unwind(AssertUnwindSafe(|| self.source.close())).is_err() {
                tracing::error!("the source panicked while it left the group");
            }
            Turn::Ended(self.ended(Err(fault)))
        })
    }

    /// Tells health how the consumer ended.
    fn ended(&mut self, end: Result<(), Fault>) -> Result<(), Fault> {
        self.publish(Instant::now(), end.as_ref().err().map(Fault::chain));
        end
    }

    fn try_turn(&mut self) -> Turn {
        let now = Instant::now();
        self.obey(now);
        let (had, had_count) = (self.next_id, self.partitions.len());
        let mut events = std::mem::take(&mut self.events);
        self.source.events(&mut events);
        for event in events.drain(..) {
            self.on_event(event, now);
        }
        self.events = events;
        let mut moved = self.drain(now);
        self.begin_returned(now);
        if (had, had_count) != (self.next_id, self.partitions.len()) {
            let ours = self.partitions.iter().filter(|one| !one.is_leaving);
            self.settings.assigned.send_replace(ours.map(|one| one.assignment.place.clone()).collect());
        }
        let (fetched, is_held_back) = self.fetch(now);
        moved |= fetched;
        if now >= self.commit_due {
            self.commit();
            self.publish(now, None);
            self.commit_due = deadline::after(now, self.settings.commit_every);
        }
        self.stats.add(&mut self.counts);
        if self.is_stopping && self.drains.is_empty() {
            match self.end_by {
                Some(by) => self.source.close_within(left(by)),
                None => self.source.close(),
            }
            let not_committed = self.not_committed.take().map(NotCommitted::fault);
            let end = self.end.take().or(not_committed).map_or(Ok(()), Err);
            return Turn::Ended(self.ended(end));
        }
        Turn::Wait(self.wait(now, moved, is_held_back || !self.drains.is_empty()))
    }

    fn wait(&mut self, now: Instant, moved: bool, must_look: bool) -> Duration {
        if moved {
            self.look_wait = LOOK_WAIT;
        }
        if must_look {
            let wait = self.look_wait;
            self.look_wait = (wait * 2).min(LOOK_WAIT_MAX);
            wait
        } else if moved {
            Duration::ZERO
        } else {
            self.commit_due.saturating_duration_since(now).min(IDLE_WAIT)
        }
    }

    fn obey(&mut self, now: Instant) {
        let mut orders = self.orders.lock().expect("no panic under this lock");
        if let Some(flow) = orders.flow.take() {
            if flow.key_quota != self.flow.key_quota {
                self.shards.iter().for_each(|shard| shard.push(Message::Quota(flow.key_quota)));
            }
            self.flow = flow;
        }
        let limit = match (orders.broken.take(), orders.fault.take(), orders.stop.take()) {
            (Some(fault), ..) => {
                self.end.get_or_insert(fault);
                Duration::ZERO
            }
            (None, Some(fault), _) => {
                self.end.get_or_insert(fault);
                self.settings.drain_max
            }
            (None, None, Some(limit)) => {
                self.end_by = (!orders.is_dropped).then(|| deadline::after(now, limit));
                limit.saturating_sub((limit / 4).min(LEAVE_SHARE_MAX))
            }
            (None, None, None) => return,
        };
        drop(orders);
        self.stop(now, limit, false);
    }

    fn stop(&mut self, now: Instant, limit: Duration, is_lost: bool) {
        self.is_stopping = true;
        let all = self.partitions.iter().filter(|partition| !partition.is_leaving);
        let all = all.map(|partition| partition.assignment.place.clone());
        let all = all.chain(self.returning.iter().map(|assigned| assigned.place.clone())).collect();
        let deadline = deadline::after(now, limit);
        for drain in self.drains.iter_mut().filter(|drain| !drain.is_cancelled) {
            drain.deadline = drain.deadline.min(deadline);
        }
        self.begin_drain(all, now, deadline, is_lost);
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Assigned(assigned) if self.is_stopping => {
                let places: Vec<Place> = assigned.into_iter().map(|assigned| assigned.place).collect();
                self.source.release(&places);
            }
            Event::Assigned(assigned) => {
                for one in assigned {
                    self.assigned(one, now);
                }
            }
            Event::Revoked(places) => {
                self.begin_drain(places, now, deadline::after(now, self.settings.drain_max), false);
            }
            Event::Lost(places) => self.begin_drain(places, now, now, true),
            Event::Committed(places) => {
                self.counts.commits += places.len() as u64;
                self.commits_took(&places, now);
                self.answered(&places, |partition| partition.acked = partition.sent.take());
            }
            Event::CommitFailed(places, fault) => {
                self.counts.commits_failed += places.len() as u64;
                self.commits_took(&places, now);
                let commits = named(self.partitions.iter().filter_map(|partition| {
                    let place = places.iter().find(|place| partition.is_at(place))?;
                    Some((place, partition.sent.as_ref()?.0))
                }));
                tracing::warn!(error = %fault.chain(), commits, "a commit failed and comes again");
                self.answered(&places, |partition| partition.sent = None);
            }
            Event::OutOfRange(place, fault) | Event::Damaged(place, fault) => {
                tracing::error!(error = %fault.chain(), "a partition is stopped");
                if let Some(partition) = self.partitions.iter_mut().find(|partition| partition.is_at(&place))
                {
                    partition.fault = Some(fault.chain());
                }
            }
            Event::Recreated(place, start) => {
                tracing::warn!(%place, start, "the topic was deleted and created again; the new one is read from its beginning");
                self.answered(&[place], |partition| partition.recreated(start));
                self.commit_due = now;
            }
            Event::Trouble(fault) => tracing::warn!(error = %fault.chain(), "the log reports trouble"),
            Event::Ended(fault) => {
                self.end.get_or_insert(fault);
                self.stop(now, Duration::ZERO, true);
            }
        }
    }

    fn commits_took(&self, places: &[Place], now: Instant) {
        for place in places {
            for partition in self.partitions.iter().filter(|one| one.is_at(place) && one.sent.is_some()) {
                self.took(Stage::Commit, partition.sent_at, now);
            }
        }
    }

    fn took(&self, stage: Stage, start: Instant, now: Instant) {
        let time = now.saturating_duration_since(start);
        self.settings.figures.times(stage).add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn answered(&mut self, places: &[Place], act: impl Fn(&mut Partition)) {
        for place in places {
            self.partitions.iter_mut().filter(|partition| partition.is_at(place)).for_each(&act);
        }
    }

    /// A partition is ours. When it was ours and we are not done with that, it was lost meanwhile.
    fn assigned(&mut self, assigned: Assigned, now: Instant) {
        if !self.partitions.iter().any(|partition| partition.is_at(&assigned.place)) {
            return self.begin(assigned, now);
        }
        self.begin_drain(vec![assigned.place.clone()], now, now, true);
        // Who had it is to end, and the place is to stay.
        self.drains.iter_mut().for_each(|drain| drain.places.retain(|place| *place != assigned.place));
        self.returning.push(assigned);
    }

    fn begin_returned(&mut self, now: Instant) {
        for assigned in std::mem::take(&mut self.returning) {
            if self.partitions.iter().any(|partition| partition.is_at(&assigned.place)) {
                self.returning.push(assigned);
            } else {
                self.begin(assigned, now);
            }
        }
    }

    fn begin(&mut self, assigned: Assigned, now: Instant) {
        let base = assigned.committed.unwrap_or(0);
        let decode = if self.settings.is_after_parallel_consumer {
            offset_map::decode_either
        } else {
            offset_map::decode
        };
        let done = decode(base, &assigned.metadata).unwrap_or_else(|error| {
            tracing::warn!(place = %assigned.place, %error, "what the last owner had done past its commit is not known");
            Vec::new()
        });
        tracing::info!(place = %assigned.place, committed = ?assigned.committed, "a partition is ours");
        let assignment = Arc::new(Assignment::new(self.next_id, assigned.place));
        self.next_id += 1;
        self.settings.hooks.assigned(&assignment.place);
        for shard in &self.shards {
            shard.push(Message::Begin(Arc::clone(&assignment)));
        }
        self.partitions.push(Partition::new(
            assignment,
            self.settings.window_records,
            self.budget.part(),
            assigned.committed,
            assigned.metadata,
            done,
            now,
        ));
    }

    fn begin_drain(&mut self, places: Vec<Place>, began: Instant, deadline: Instant, is_lost: bool) {
        self.returning.retain(|assigned| !places.contains(&assigned.place));
        let mut ids = Vec::new();
        for partition in &mut self.partitions {
            if places.iter().any(|place| partition.is_at(place)) {
                let id = partition.assignment.id;
                ids.push(id);
                if !partition.is_leaving {
                    partition.is_leaving = true;
                    partition.assignment.leave();
                    self.shards.iter().for_each(|shard| shard.push(Message::Revoke(id)));
                }
            }
        }
        if is_lost {
            // The drains that wait for it go on without it, if there is more to them: it is released here.
            self.drains.retain_mut(|drain| {
                let before = drain.places.len();
                drain.ids.retain(|id| !ids.contains(id));
                drain.places.retain(|place| !places.contains(place));
                drain.places.len() == before || !drain.places.is_empty()
            });
        }
        #[cfg(test)]
        let deadline = deadline + Duration::from_secs(u64::from(mutant::is(Mutant::DrainsTooLong)));
        self.drains.push(Drain { places, ids, began, deadline, is_cancelled: false, is_lost });
    }

    /// Looks at the partitions on their way out; whether one drain came to its end.
    fn drain(&mut self, now: Instant) -> bool {
        let mut drains = std::mem::take(&mut self.drains);
        let before = drains.len();
        drains.retain_mut(|drain| !self.drain_one(drain, now));
        let ended = drains.len() < before;
        self.drains.append(&mut drains);
        ended
    }

    fn drain_one(&mut self, drain: &mut Drain, now: Instant) -> bool {
        let is_of = |partition: &Partition, drain: &Drain| drain.ids.contains(&partition.assignment.id);
        let leaving = || self.partitions.iter().filter(|partition| is_of(partition, drain));
        let is_quiet = leaving().all(|partition| partition.assignment.quiet_count() >= self.shards.len());
        #[cfg(test)]
        let is_quiet = is_quiet || mutant::is(Mutant::LeavesWithoutADrain);
        if !is_quiet && now >= drain.deadline && !drain.is_cancelled {
            for partition in leaving() {
                let id = partition.assignment.id;
                self.shards.iter().for_each(|shard| shard.push(Message::Cancel(id)));
            }
            drain.is_cancelled = true;
            drain.deadline = now + CANCEL_WAIT;
            return false;
        }
        if !is_quiet && now < drain.deadline {
            return false;
        }
        if !is_quiet {
            tracing::warn!(
                "a handler does not let go of its partition; it may end after the next owner has begun"
            );
        }
        let (mut leaving, staying) = std::mem::take(&mut self.partitions)
            .into_iter()
            .partition::<Vec<Partition>, _>(|partition| is_of(partition, drain));
        self.partitions = staying;
        #[cfg(test)]
        let commits = !drain.is_lost && !mutant::is(Mutant::LeavesWithoutACommit)
            || drain.is_lost && mutant::is(Mutant::CommitsWhatIsLost);
        #[cfg(not(test))]
        let commits = !drain.is_lost;
        if commits {
            leaving.iter_mut().for_each(Partition::advance);
            self.commit_last(&leaving);
        }
        let gone: Vec<Place> = leaving.iter().map(|one| one.assignment.place.clone()).collect();
        self.settings.hooks.gone(&gone, drain.is_lost);
        if !leaving.is_empty() {
            self.took(Stage::Drain, drain.began, Instant::now());
        }
        // Of what came back meanwhile nothing is given up.
        if !drain.places.is_empty() || drain.ids.is_empty() {
            self.source.release(&drain.places);
        }
        true
    }

    /// The last commit of partitions that go away. A second try, because the first, or its answer, may get lost with a
    /// broker; after that the next owner repeats what was not committed.
    fn commit_last(&mut self, leaving: &[Partition]) {
        let mut commits: Vec<Commit> = leaving
            .iter()
            .filter_map(|partition| partition.commit(self.settings.metadata_bytes_max))
            .collect();
        if commits.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut answer = self.source.commit_and_wait(&commits, self.commit_wait());
        if answer.is_err() {
            answer = self.source.commit_and_wait(&commits, self.commit_wait());
        }
        let ended = Instant::now();
        commits.iter().for_each(|_| self.took(Stage::Commit, began, ended));
        match answer {
            Ok(()) => self.counts.commits += commits.len() as u64,
            Err(fault) => {
                let partly = fault.cause().and_then(|cause| cause.downcast_ref::<PartlyRefused>());
                let all = commits.len();
                commits.retain(|commit| partly.is_none_or(|partly| partly.places.contains(&commit.place)));
                self.counts.commits += (all - commits.len()) as u64;
                self.counts.commits_failed += commits.len() as u64;
                let commits_text = named(commits.iter().map(|commit| (&commit.place, commit.offset)));
                tracing::warn!(error = %fault.chain(), commits = commits_text, "the last commit failed: the next owner repeats some records");
                if self.is_stopping {
                    self.keep_uncommitted(&commits, &fault.chain());
                }
            }
        }
    }

    /// How long one try of a last commit may take: half of what a stop has left, so that there is time for another
    /// one and for leaving.
    fn commit_wait(&self) -> Duration {
        self.end_by.map_or(LAST_COMMIT_WAIT, |by| (left(by) / 2).clamp(LEAVE_WAIT_MIN, LAST_COMMIT_WAIT))
    }

    /// Remembers for the answer of the stop what was not committed.
    fn keep_uncommitted(&mut self, commits: &[Commit], why: &str) {
        let kept = self
            .not_committed
            .get_or_insert_with(|| NotCommitted { places: Vec::new(), why: why.to_owned() });
        kept.places.extend(commits.iter().map(|commit| (commit.place.clone(), commit.offset)));
    }

    /// Moves records to the shards. Whether some were moved, and whether a window or the budget held some back.
    fn fetch(&mut self, now: Instant) -> (bool, bool) {
        let (mut moved, mut is_held_back) = (false, false);
        let count = self.partitions.len();
        if count == 0 {
            return (false, false);
        }
        self.first = (self.first + 1) % count;
        let mut shares = self.budget.shares();
        for turn in 0..count {
            let partition = &mut self.partitions[(self.first + turn) % count];
            partition.advance();
            let shut = match partition {
                _ if partition.is_leaving => Some(Intake::Leaving),
                _ if partition.fault.is_some() => Some(Intake::Stopped),
                _ => self.flow.is_paused.then_some(Intake::Paused),
            };
            #[cfg(test)]
            let shut = shut.filter(|shut| *shut != Intake::Paused || !mutant::is(Mutant::IgnoresThePause));
            if let Some(shut) = shut {
                partition.intake.set(shut, now);
                continue;
            }
            let rated = self.bucket.left(self.flow.rate, now);
            let rated = rated.min(partition.bucket.left(self.flow.rate_per_partition, now));
            let room = partition.window.free().min(limits::FETCH_RECORDS_MAX);
            let used = partition.part.used_bytes();
            let left = shares.left_bytes(used);
            if room < partition.fetch_min || rated == 0 || left == 0 {
                partition.intake.set(
                    match rated {
                        0 => Intake::Throttled,
                        _ if room < partition.fetch_min => Intake::WindowFull,
                        _ => Intake::BudgetSpent,
                    },
                    now,
                );
                is_held_back = true;
                continue;
            }
            let room = room.min(rated).min(partition.records_within(left));
            let (budget, taken) = (partition.part.budget(), partition.part.taken_bytes());
            self.source.fetch(&partition.assignment.place, room, budget, &mut self.records);
            let read_to = self.source.read_to();
            if self.records.is_empty() {
                partition.intake.set(Intake::Idle, now);
                read_to.into_iter().for_each(|offset| partition.read_to(offset));
                continue;
            }
            partition.intake.set(Intake::Flowing, now);
            let taken = partition.part.taken_bytes().wrapping_sub(taken);
            partition.learn(self.records.len(), taken);
            shares.took(used, used + taken);
            moved = true;
            self.counts.received += self.records.len() as u64;
            self.bucket.take(self.records.len());
            partition.bucket.take(self.records.len());
            let received = Moment::new(self.settings.began, now);
            stage(partition, &self.flow, received, &mut self.records, &mut self.stages, &mut self.counts);
            read_to.into_iter().for_each(|offset| partition.read_to(offset));
            for (shard, stage) in self.shards.iter().zip(&mut self.stages) {
                if !stage.is_empty() {
                    let works = std::mem::take(stage);
                    shard.push(Message::Batch { assignment: partition.assignment.id, works });
                }
            }
        }
        (moved, is_held_back)
    }

    fn commit(&mut self) {
        let mut commits = Vec::new();
        let now = Instant::now();
        for partition in
            self.partitions.iter_mut().filter(|partition| partition.sent.is_none() && !partition.is_leaving)
        {
            if let Some(commit) = partition.commit(self.settings.metadata_bytes_max) {
                partition.sent = Some((commit.offset, commit.metadata.clone()));
                partition.sent_at = now;
                commits.push(commit);
            }
        }
        if !commits.is_empty() {
            self.source.commit(&commits);
        }
    }

    fn publish(&mut self, now: Instant, ended: Option<String>) {
        let Self { partitions, source, .. } = self;
        let health = |partition: &mut Partition| {
            let end = source.end(&partition.assignment.place);
            PartitionHealth { lag: partition.lag(end), ..partition.health(now) }
        };
        let partitions: Vec<PartitionHealth> = partitions.iter_mut().map(health).collect();
        let obstacles = if ended.is_none() { self.source.obstacles() } else { Vec::new() };
        *self.health.lock().expect("no panic under this lock") = Health { partitions, obstacles, ended };
    }
}

impl Drop for Poller {
    /// Without a poller the shards have nothing to do, however it went.
    fn drop(&mut self) {
        self.shards.iter().for_each(|shard| shard.push(Message::Close));
    }
}

/// The time until then, and a little when it is past.
fn left(by: Instant) -> Duration {
    by.saturating_duration_since(Instant::now()).max(LEAVE_WAIT_MIN)
}

/// `topic/partition at offset` of each, for a log line.
fn named<'a>(commits: impl Iterator<Item = (&'a Place, i64)>) -> String {
    let commits: Vec<String> = commits.map(|(place, offset)| format!("{place} at {offset}")).collect();
    commits.join(", ")
}

/// Starts each record in the window and puts it on the stage of its shard.
fn stage(
    partition: &mut Partition,
    flow: &Flow,
    received: Moment,
    records: &mut Vec<Record>,
    stages: &mut [Vec<Work>],
    counts: &mut Counts,
) {
    let per_shard = records.len() / stages.len() + records.len() / 8 + 1;
    for record in records.drain(..) {
        let slot = partition.start(record.offset);
        if partition.is_done_before(record.offset) {
            counts.spared += 1;
            slot.finish();
            continue;
        }
        if flow.ignores(record.key()) {
            counts.ignored += 1;
            slot.finish();
            continue;
        }
        let lane = lane::of(partition.assignment.id, record.key(), record.offset);
        partition.hand_over(&slot, lane);
        let stage = &mut stages[lane::shard(lane, stages.len())];
        if stage.is_empty() {
            stage.reserve(per_shard);
        }
        stage.push(Work { record, slot, lane, received });
    }
}
