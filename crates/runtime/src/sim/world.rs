//! The log of a run, as its members see it: records, commits, and what goes wrong with them. One lock, one thread, no
//! waiting.

use super::book::{Book, Promise};
use super::plan::Plan;
use super::script::{CommitTrouble, FlowChange, LetterTrouble};
use crate::record::Place;
use crate::source::{Commit, Event};
use crate::wake::Wake;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{Fault, FaultKind};
use weir_sim_kernel::Rng;

pub(super) const TOPIC: &str = "t";
pub(super) const DEAD_TOPIC: &str = "t-dead";

/// A member may take this long beside its limits to do what it was told.
const TURN_MAX: Duration = Duration::from_millis(250);

/// A partition that was given is heard of so many ms later at the earliest, at the next look.
pub(super) const GIVEN_MS_MAX: u64 = 20;

/// A partition as one member has it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) position: i64,
    pub(super) watch: usize,
    /// When something was fetched last, or the partition came.
    pub(super) fetched_at: Instant,
    /// The group wants it back.
    pub(super) is_asked: bool,
    /// When the member must have given it back.
    pub(super) due: Option<Instant>,
    /// The group has given it to somebody else already.
    pub(super) is_fenced: bool,
    /// The member knows.
    pub(super) is_lost: bool,
    /// The answer to the last commit on the way out.
    pub(super) is_committed: bool,
}

/// One life of one member.
#[derive(Default)]
pub(super) struct Member {
    pub(super) is_in_group: bool,
    pub(super) is_dead: bool,
    pub(super) is_closed: bool,
    /// Stopping in order.
    pub(super) is_stopping: bool,
    pub(super) frozen_until: Option<Instant>,
    thawed_at: Option<Instant>,
    pub(super) wake: Wake,
    events: VecDeque<Event>,
    /// It is out of the group, and may hear of it.
    pub(super) is_to_hear: bool,
    /// Given by the group, and not heard of before this time.
    pub(super) given: Vec<(usize, Instant)>,
    /// When, in which assignment, and what.
    answers: VecDeque<(Instant, usize, Event)>,
    pub(super) held: BTreeMap<usize, Held>,
    wakers: Vec<Waker>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    next_offset: i64,
    offsets: BTreeSet<i64>,
    /// The number of each record.
    records: BTreeMap<i64, u64>,
    /// When each came.
    put_at: BTreeMap<i64, Instant>,
    pub(super) committed: Option<(i64, String)>,
    pub(super) owner: Option<usize>,
    pub(super) target: Option<usize>,
}

/// Trouble until some time.
type Until<T> = Option<(T, Instant)>;

pub(super) struct State {
    pub(super) plan: Plan,
    pub(super) book: Book,
    pub(super) members: Vec<Member>,
    pub(super) partitions: Vec<Partition>,
    pub(super) dice: Rng,
    /// An eager group waits until nobody has anything.
    pub(super) is_dealing: bool,
    /// Calls of handlers so far.
    pub(super) calls: u64,
    pub(super) cut_until: Option<Instant>,
    pub(super) commits: Until<CommitTrouble>,
    pub(super) letters: Until<LetterTrouble>,
    pub(super) flow: FlowChange,
    pub(super) flow_since: Instant,
}

/// The world; clones share it.
#[derive(Clone)]
pub(super) struct World {
    state: Arc<Mutex<State>>,
}

pub(super) fn place(partition: usize) -> Place {
    Place::new(TOPIC, partition as i32)
}

pub(super) fn scripted(doing: &'static str) -> Fault {
    Fault::new(FaultKind::Transient, "W-KAFKA-UNREACHABLE", doing, "the simulated log").caused_by("by script")
}

/// What is left of a trouble now.
pub(super) fn now_of<T: Copy>(trouble: &Until<T>) -> Option<T> {
    trouble.filter(|(_, until)| Instant::now() < *until).map(|(trouble, _)| trouble)
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let state = State {
            book: Book::new(plan.attempts_max, plan.batch.is_some(), plan.concurrency),
            members: Vec::new(),
            partitions: (0..plan.partitions).map(|_| Partition::default()).collect(),
            dice: Rng::new(plan.seed, "world"),
            is_dealing: false,
            calls: 0,
            cut_until: None,
            commits: None,
            letters: None,
            flow: FlowChange::Free,
            flow_since: Instant::now(),
            plan: plan.clone(),
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Does something to the world later.
    pub(super) fn later(&self, wait: Duration, act: impl FnOnce(&mut State) + Send + 'static) {
        let world = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            act(&mut world.state());
        });
    }

    /// A member is gone without a word; the group finds out when its session ends.
    pub(super) fn kill(&self, member: usize) {
        let mut state = self.state();
        state.members[member].is_dead = true;
        let session = Duration::from_millis(state.plan.session_ms);
        drop(state);
        self.later(session, move |state| state.fence(member));
    }

    /// A member stands still for a while.
    pub(super) fn freeze(&self, member: usize, span: Duration) {
        let mut state = self.state();
        let until = Instant::now() + span;
        let one = &mut state.members[member];
        one.frozen_until = one.frozen_until.max(Some(until));
        for held in one.held.values_mut() {
            held.due = None;
        }
        let session = Duration::from_millis(state.plan.session_ms);
        drop(state);
        if span > session {
            self.later(session, move |state| {
                state.fence(member);
                state.hear(member);
            });
        }
        self.later(span, move |state| state.members[member].thaw());
    }

    /// A member is put out of the group, and hears of it after a while.
    pub(super) fn lose(&self, member: usize, heard: Duration) {
        self.state().fence(member);
        self.later(heard, move |state| state.hear(member));
    }

    /// A wake-up call for everybody when something may come again.
    pub(super) fn wake_later(&self, wait: Duration) {
        self.later(wait, State::wake_all);
    }
}

impl Member {
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen_until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether what it does now should be seen in its health.
    pub(super) fn is_awake_for(&self, span: Duration) -> bool {
        let is_late = self.thawed_at.max(self.frozen_until).is_some_and(|at| at.elapsed() < span);
        !self.is_dead && !self.is_closed && !self.is_stopping && !self.is_frozen() && !is_late
    }

    fn thaw(&mut self) {
        if !self.is_frozen() {
            self.thawed_at = Some(Instant::now());
            self.wake.wake();
            self.wakers.drain(..).for_each(Waker::wake);
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        self.wake.wake();
    }

    /// A future of this member may run; its waker is kept when not.
    pub(super) fn may_run(&mut self, waker: &Waker) -> bool {
        if self.is_frozen() {
            self.wakers.push(waker.clone());
        }
        !self.is_dead && !self.is_frozen()
    }

    pub(super) fn thaw_now(&mut self) {
        self.frozen_until = None;
        self.thaw();
    }
}

impl State {
    pub(super) fn put(&mut self, record: u64) {
        let partition = self.plan.partition(record);
        let one = &mut self.partitions[partition];
        let offset = one.next_offset;
        one.next_offset += 1;
        one.offsets.insert(offset);
        one.records.insert(offset, record);
        one.put_at.insert(offset, Instant::now());
        self.book.counts.records += 1;
        self.wake_all();
    }

    pub(super) fn put_hole(&mut self, partition: usize) {
        let index = partition % self.partitions.len();
        self.partitions[index].next_offset += 1;
    }

    pub(super) fn wake_all(&mut self) {
        self.members.iter().for_each(|member| member.wake.wake());
    }

    pub(super) fn events(&mut self, member: usize, events: &mut Vec<Event>) {
        let now = Instant::now();
        let drain = Duration::from_millis(self.plan.drain_max_ms);
        if self.members[member].is_dead || self.members[member].is_frozen() {
            return;
        }
        self.heard(member);
        let one = &mut self.members[member];
        while let Some((due, ..)) = one.answers.front()
            && *due <= now
        {
            let Some((_, watch, event)) = one.answers.pop_front() else { break };
            // A source tells no answer to an assignment that has ended: it would be taken for the next one's.
            events.extend(one.held.values().any(|held| held.watch == watch).then_some(event));
        }
        for event in one.events.drain(..) {
            let (places, is_lost) = match &event {
                Event::Revoked(places) => (places, false),
                Event::Lost(places) => (places, true),
                _ => {
                    events.push(event);
                    continue;
                }
            };
            for partition in places.iter().map(|place| place.partition as usize) {
                let Some(held) = one.held.get_mut(&partition) else { continue };
                let limit = if is_lost { TURN_MAX } else { drain + TURN_MAX };
                if !one.is_stopping {
                    held.due = Some(now + limit);
                }
                held.is_lost |= is_lost;
                self.book.watches[held.watch].is_leaving = true;
            }
            events.push(event);
        }
        let assigned = self.take_given(member);
        if !assigned.is_empty() {
            events.push(Event::Assigned(assigned));
        }
    }

    /// Whether a member's fetch may find something.
    pub(super) fn may_fetch(&mut self, member: usize) -> bool {
        let is_cut = self.cut_until.is_some_and(|until| Instant::now() < until);
        if self.flow == FlowChange::Paused && self.flow_since.elapsed() > TURN_MAX {
            let text = format!("member {member} fetches {:?} after it was paused", self.flow_since.elapsed());
            self.book.breach(Promise::Paused, text);
        }
        !is_cut && !self.members[member].is_dead && !self.members[member].is_frozen()
    }

    /// The next records of a partition: offset, number and assignment of each.
    pub(super) fn fetch(&mut self, member: usize, place: &Place, count_max: usize) -> Vec<(i64, u64, usize)> {
        let index = place.partition as usize;
        if !self.may_fetch(member) {
            return Vec::new();
        }
        let Some(held) = self.members[member].held.get_mut(&index) else { return Vec::new() };
        let partition = &self.partitions[index];
        let next = partition.records.range(held.position..).take(count_max.min(self.plan.fetch_max));
        let found: Vec<(i64, u64, usize)> =
            next.map(|(offset, record)| (*offset, *record, held.watch)).collect();
        if let Some((last, ..)) = found.last() {
            held.position = last + 1;
            held.fetched_at = Instant::now();
        }
        found
    }

    /// Where a partition ends, if its member has come that far: past holes, which are no records.
    pub(super) fn read_to(&mut self, member: usize, place: &Place) -> Option<i64> {
        let index = place.partition as usize;
        if !self.may_fetch(member) {
            return None;
        }
        let (held, partition) = (self.members[member].held.get(&index)?, &self.partitions[index]);
        let is_at_end = partition.records.range(held.position..).next().is_none();
        is_at_end.then_some(partition.next_offset)
    }

    /// Takes a commit or not: by partition, whether it was taken, and whether the member hears that.
    fn take_commits(&mut self, member: usize, commits: &[Commit]) -> Vec<(bool, bool)> {
        let is_cut = self.cut_until.is_some_and(|until| Instant::now() < until);
        let trouble = now_of(&self.commits);
        let is_mute = is_cut || self.members[member].is_dead || self.members[member].is_frozen();
        let mut taken = Vec::new();
        for commit in commits {
            let index = commit.place.partition as usize;
            let held = self.members[member].held.get(&index);
            if held.is_none_or(|held| held.is_lost) && !self.members[member].is_dead {
                let text = format!("partition {index} is committed by member {member}, who does not have it");
                self.book.breach(Promise::LostCommitsNothing, text);
            }
            let partition = &mut self.partitions[index];
            let is_owner = partition.owner == Some(member) && held.is_some_and(|held| !held.is_fenced);
            if !self.members[member].is_dead {
                self.book.commit(index, commit.offset, &commit.metadata, &partition.offsets);
            }
            let is_taken = is_owner && !is_mute && trouble != Some(CommitTrouble::Refused);
            if is_taken {
                partition.committed = Some((commit.offset, commit.metadata.clone()));
            }
            let is_heard = is_taken && trouble != Some(CommitTrouble::AnswerLost);
            self.book.counts.commits += u64::from(is_taken);
            self.book.counts.commits_failed += u64::from(!is_heard);
            taken.push((is_taken, is_heard));
        }
        taken
    }

    /// A commit whose answer comes later; how much later.
    pub(super) fn commit(&mut self, member: usize, commits: &[Commit]) -> Duration {
        let taken = self.take_commits(member, commits);
        let mut wait = Duration::from_millis(self.dice.between(0, self.plan.answer_ms));
        if let Some(CommitTrouble::Late(ms)) = now_of(&self.commits) {
            wait += Duration::from_millis(ms);
        }
        let now = Instant::now();
        let one = &mut self.members[member];
        // A connection answers in order; one that is cut answers when it is there again.
        let due = one.answers.back().map_or(now, |(due, ..)| *due).max(now + wait);
        let due = due.max(self.cut_until.unwrap_or(now));
        for (commit, (_, is_heard)) in commits.iter().zip(taken) {
            let places = vec![commit.place.clone()];
            let event = if is_heard {
                Event::Committed(places)
            } else {
                Event::CommitFailed(places, scripted("commit"))
            };
            let watch =
                one.held.get(&(commit.place.partition as usize)).map_or(usize::MAX, |held| held.watch);
            one.answers.push_back((due, watch, event));
        }
        due - now
    }

    pub(super) fn commit_and_wait(
        &mut self,
        member: usize,
        commits: &[Commit],
        wait_max: Duration,
    ) -> Result<(), Fault> {
        let taken = self.take_commits(member, commits);
        let is_late = matches!(now_of(&self.commits), Some(CommitTrouble::Late(ms)) if Duration::from_millis(ms) > wait_max);
        let is_heard = taken.iter().all(|(_, is_heard)| *is_heard) && !is_late;
        for commit in commits {
            if let Some(held) = self.members[member].held.get_mut(&(commit.place.partition as usize)) {
                held.is_committed = is_heard;
            }
        }
        if is_heard { Ok(()) } else { Err(scripted("commit")) }
    }

    pub(super) fn release(&mut self, member: usize, index: usize) {
        let one = &mut self.members[member];
        let Some(held) = one.held.remove(&index) else { return };
        let now = Instant::now();
        let is_dead = one.is_dead;
        if held.due.is_some_and(|due| now > due) && !is_dead {
            let text = format!("partition {index} is given back {:?} late", held.due.map(|due| now - due));
            self.book.breach(Promise::DrainInTime, text);
        }
        let partition = &mut self.partitions[index];
        let is_orderly = !held.is_fenced
            && held.is_committed
            && !is_dead
            && partition.owner == Some(member)
            && self.plan.metadata_bytes_max >= 4000;
        // Who has never committed had nothing to say.
        let nothing = (0, String::new());
        let committed = is_orderly.then(|| partition.committed.as_ref().unwrap_or(&nothing));
        self.book.release(held.watch, committed, &partition.offsets, is_dead);
        // One that nobody asked for stays its member's until then: a member that stops takes nothing new.
        if partition.owner == Some(member) && held.is_asked {
            partition.owner = None;
        }
        let has_nothing = self.members[member].held.is_empty();
        // One that has not heard yet joins again when it does.
        if held.is_lost && has_nothing {
            self.rejoin(member);
        }
        self.give_out();
    }

    pub(super) fn set_flow(&mut self, change: FlowChange) {
        (self.flow, self.flow_since) = (change, Instant::now());
    }

    /// Whether records of a partition have waited so long for the member that has it.
    pub(super) fn has_waited(&self, partition: usize, held: &Held, span: Duration) -> bool {
        let next = self.partitions[partition].put_at.range(held.position..).next();
        // Also while nothing came from the log, nobody knew that they were there.
        let is_seen = self.cut_until.is_none_or(|until| until.elapsed() > span && until < Instant::now());
        is_seen && held.fetched_at.elapsed() > span && next.is_some_and(|(_, at)| at.elapsed() > span)
    }

    /// By partition, the first record that is not done; and whether commits have come that far.
    pub(super) fn rest(&self) -> Vec<(usize, Option<i64>, bool)> {
        let of_one = |(index, partition): (usize, &Partition)| {
            let not_done = |offset: &&i64| !self.book.is_done((index, **offset));
            let first = partition.offsets.iter().find(not_done).copied();
            let want = first.unwrap_or(partition.next_offset);
            let committed = partition.committed.as_ref().map_or(0, |(offset, _)| *offset);
            // Holes before a record that is not done need no commit; those at the end do.
            let is_committed = match first {
                Some(_) => committed <= want && partition.offsets.range(committed..want).next().is_none(),
                None => committed == want,
            };
            (index, first, is_committed)
        };
        self.partitions.iter().enumerate().map(of_one).collect()
    }

    /// Whose a partition is, as the group sees it, and as its members do.
    pub(super) fn owners(&self, partition: usize) -> String {
        let (owner, target) = (self.partitions[partition].owner, self.partitions[partition].target);
        let holders = self.members.iter().enumerate();
        let holders = holders.filter_map(|(member, one)| Some((member, one.held.get(&partition)?)));
        let holders: Vec<String> = holders.map(|(member, held)| format!("{member}: {held:?}")).collect();
        let out: Vec<usize> = (0..self.members.len()).filter(|one| !self.members[*one].is_in_group).collect();
        format!("owner {owner:?}, to be {target:?}, held by {holders:?}, out of the group {out:?}")
    }

    /// Records of a partition that are not done.
    pub(super) fn undone(&self, partition: usize) -> Vec<(i64, u64)> {
        let records = self.partitions[partition].records.iter();
        let undone = records.filter(|(offset, _)| !self.book.is_done((partition, **offset)));
        undone.map(|(offset, record)| (*offset, *record)).collect()
    }

    /// All records: where, and which.
    pub(super) fn all(&self) -> Vec<((usize, i64), u64)> {
        let of_one = |(index, partition): (usize, &Partition)| {
            let records = partition.records.iter();
            records.map(move |(offset, record)| ((index, *offset), *record)).collect::<Vec<_>>()
        };
        self.partitions.iter().enumerate().flat_map(of_one).collect()
    }
}
