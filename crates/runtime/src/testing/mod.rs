//! For tests without a broker: a log in memory with groups, commits and faults by script.
//!
//! ```ignore
//! let log = MemoryLog::with_topic("orders", 4);
//! log.put("orders", Record::new("orders", "1").with_key("alice"));
//! let running = Consumer::new(log.source("group", &["orders"])).start_in_task(handler)?;
//! ```
//!
//! With `#[tokio::test(start_paused = true)]` and [`crate::consumer::Consumer::start_in_task`] retries and time-outs
//! take no time. [`judge::Judge`] watches what a handler is given.

pub mod judge;

use crate::budget::Budget;
use crate::log::{Job, LogWriter, RecordBatch};
use crate::record::{Header, Place, Record};
use crate::source::{Assigned, Commit, Event, LogSource, Membership, Retention};
use crate::wake::Wake;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use weir_model::{Fault, FaultKind};

/// What the next append does instead of being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFault {
    /// It is refused with a fault of this kind.
    Refused(FaultKind),
    /// It is done, and the answer is a fault all the same.
    AnswerLost,
    /// It is neither done nor answered.
    Hangs,
}

/// What the next commit does instead of being taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// It is refused.
    Refused,
    /// It is done, and the answer is a fault all the same.
    AnswerLost,
    /// It is done, and no answer ever comes. Who waits for it is told that it took too long.
    NoAnswer,
}

#[derive(Default)]
struct State {
    /// The records of each partition; an offset is an index, so a log with holes has `None`.
    partitions: BTreeMap<Place, Vec<Option<Record>>>,
    /// Committed offset and metadata by group and partition.
    committed: BTreeMap<(String, Place), (i64, String)>,
    append_faults: VecDeque<AppendFault>,
    commit_faults: VecDeque<CommitFault>,
    /// The living members, by number.
    members: BTreeMap<u64, Member>,
    member_last: u64,
    /// How long the groups wait for a silent member, if they say so.
    silence_max: Option<Duration>,
    /// How long topics say that they keep their records.
    kept: BTreeMap<String, Duration>,
}

#[derive(Default)]
struct Member {
    group: String,
    topics: Vec<String>,
    wake: Wake,
    events: Vec<Event>,
    /// Where each partition of it is read next.
    positions: BTreeMap<Place, i64>,
}

/// A log in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryLog {
    state: Arc<Mutex<State>>,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A log with one topic.
    #[must_use]
    pub fn with_topic(topic: &str, partition_count: i32) -> Self {
        let log = Self::new();
        log.create_topic(topic, partition_count);
        log
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Adds a topic.
    pub fn create_topic(&self, topic: &str, partition_count: i32) {
        let mut state = self.state();
        for partition in 0..partition_count {
            state.partitions.entry(Place::new(topic, partition)).or_default();
        }
    }

    /// Adds a record to the partition that its key says; its topic, partition and offset are set. Returns its offset.
    ///
    /// # Panics
    /// When the topic is not there.
    pub fn put(&self, topic: &str, record: Record) -> i64 {
        let mut state = self.state();
        let place = state.place_of(topic, record.key()).expect("the topic was created");
        state.put(&place, Some(record))
    }

    /// Leaves a hole in a partition, as compaction and transactions do.
    ///
    /// # Panics
    /// When the partition is not there.
    pub fn put_hole(&self, topic: &str, partition: i32) {
        self.state().put(&Place::new(topic, partition), None);
    }

    /// Deletes a partition's log and creates it again, empty. Members that have it are told.
    ///
    /// # Panics
    /// When the partition is not there.
    pub fn recreate(&self, topic: &str, partition: i32) {
        let place = Place::new(topic, partition);
        let mut state = self.state();
        state.partitions.get_mut(&place).expect("the partition was created").clear();
        for member in state.members.values_mut() {
            if let Some(position) = member.positions.get_mut(&place) {
                *position = 0;
                member.tell(Event::Recreated(place.clone(), 0));
            }
        }
    }

    /// Cuts a partition: its records from offset `end` on are gone, and other ones may take their offsets. Members that
    /// were past it go on at `goes_on_at`, as the log's policy for a position that is not there may say.
    ///
    /// # Panics
    /// When the partition is not there.
    pub fn cut(&self, topic: &str, partition: i32, end: i64, goes_on_at: i64) {
        let place = Place::new(topic, partition);
        let mut state = self.state();
        let records = state.partitions.get_mut(&place).expect("the partition was created");
        records.truncate(usize::try_from(end).expect("an offset of a log in memory"));
        let positions = state.members.values_mut().filter_map(|member| member.positions.get_mut(&place));
        positions.filter(|position| **position > end).for_each(|position| *position = goes_on_at);
    }

    /// All records of a topic, by partition and offset.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let state = self.state();
        let of_topic = state.partitions.iter().filter(|(place, _)| &*place.topic == topic);
        of_topic.flat_map(|(_, records)| records.iter().flatten().cloned()).collect()
    }

    /// What a group has committed of a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
        self.state().committed.get(&(group.to_owned(), Place::new(topic, partition))).cloned()
    }

    /// Commits in a group's name, as an administrator or an older program may.
    pub fn set_committed(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let place = Place::new(topic, partition);
        self.state().committed.insert((group.to_owned(), place), (offset, metadata.to_owned()));
    }

    /// The next append meets this; several wait in line.
    pub fn fail_append(&self, fault: AppendFault) {
        self.state().append_faults.push_back(fault);
    }

    /// The next commit meets this; several wait in line.
    pub fn fail_commit(&self, fault: CommitFault) {
        self.state().commit_faults.push_back(fault);
    }

    /// From now on a source says that its group waits for a silent member so long.
    pub fn say_silence_max(&self, silence_max: Duration) {
        self.state().silence_max = Some(silence_max);
    }

    /// From now on a source says that this topic keeps its records so long. They stay all the same.
    pub fn say_kept_for(&self, topic: &str, kept_for: Duration) {
        self.state().kept.insert(topic.to_owned(), kept_for);
    }

    /// A consumer of this log. It has all partitions of its topics, and a member of its group that had one of them before
    /// has lost it.
    #[must_use]
    pub fn source(&self, group: &str, topics: &[&str]) -> MemorySource {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        MemorySource { log: self.clone(), group: group.to_owned(), topics, member: 0, read_to: None }
    }

    /// Takes partitions away from the group's members, which may drain them first.
    pub fn revoke(&self, group: &str, places: &[Place]) {
        self.tell(group, places, Event::Revoked);
    }

    /// Takes partitions away from the group's members at once.
    pub fn lose(&self, group: &str, places: &[Place]) {
        self.tell(group, places, Event::Lost);
    }

    /// Gives partitions to the group's members, to each those of its topics.
    pub fn assign(&self, group: &str, places: &[Place]) {
        let mut state = self.state();
        let of_group = state.members.iter().filter(|(_, member)| member.group == group);
        for number in of_group.map(|(number, _)| *number).collect::<Vec<u64>>() {
            state.assign(number, places);
        }
    }

    /// Ends the group's members beyond repair.
    pub fn end(&self, group: &str, fault: Fault) {
        let mut state = self.state();
        let of_group = state.members.values_mut().filter(|member| member.group == group);
        of_group.for_each(|member| member.tell(Event::Ended(crate::ending::repeated(&fault))));
    }

    /// Tells each member of a group what happens to the partitions among these that are of its topics.
    fn tell(&self, group: &str, places: &[Place], event: fn(Vec<Place>) -> Event) {
        let mut state = self.state();
        for member in state.members.values_mut().filter(|member| member.group == group) {
            let ours = member.of_its_topics(places);
            if !ours.is_empty() {
                member.tell(event(ours));
            }
        }
    }

    /// Whether a member of a group still holds a partition.
    #[must_use]
    pub fn holds(&self, group: &str, place: &Place) -> bool {
        let state = self.state();
        let mut of_group = state.members.values().filter(|member| member.group == group);
        of_group.any(|member| member.positions.contains_key(place))
    }
}

impl Member {
    fn of_its_topics(&self, places: &[Place]) -> Vec<Place> {
        let is_of = |place: &&Place| self.topics.iter().any(|topic| **topic == *place.topic);
        places.iter().filter(is_of).cloned().collect()
    }

    fn tell(&mut self, event: Event) {
        self.events.push(event);
        self.wake.wake();
    }
}

impl State {
    fn place_of(&self, topic: &str, key: Option<&[u8]>) -> Option<Place> {
        let places: Vec<&Place> = self.partitions.keys().filter(|place| &*place.topic == topic).collect();
        let lane = crate::lane::of(0, Some(key.unwrap_or_default()), 0);
        (!places.is_empty()).then(|| places[crate::lane::shard(lane, places.len())].clone())
    }

    fn put(&mut self, place: &Place, record: Option<Record>) -> i64 {
        let records = self.partitions.get_mut(place).expect("the partition was created");
        let offset = i64::try_from(records.len()).expect("a log in memory is small");
        records.push(record.map(|record| Record {
            topic: place.topic,
            partition: place.partition,
            offset,
            attempt: 1,
            ..record
        }));
        for member in self.members.values() {
            member.wake.wake();
        }
        offset
    }

    /// Gives a member those of these partitions that are of its topics.
    fn assign(&mut self, number: u64, places: &[Place]) {
        let Some(member) = self.members.get_mut(&number) else { return };
        let of_one = |place: Place| {
            let committed = self.committed.get(&(member.group.clone(), place.clone()));
            let (committed, metadata) = committed.cloned().unzip();
            Assigned { place, committed, metadata: metadata.unwrap_or_default() }
        };
        let assigned: Vec<Assigned> = member.of_its_topics(places).into_iter().map(of_one).collect();
        if assigned.is_empty() {
            return;
        }
        for one in &assigned {
            member.positions.insert(one.place.clone(), one.committed.unwrap_or(0));
        }
        member.tell(Event::Assigned(assigned));
    }

    fn commit(&mut self, number: u64, commits: &[Commit]) -> Result<(), Fault> {
        let member = self.members.get(&number);
        let member = member
            .filter(|member| commits.iter().all(|commit| member.positions.contains_key(&commit.place)))
            .ok_or_else(|| scripted(FaultKind::Transient, "commit what is another member's"))?;
        let fault = self.commit_faults.pop_front();
        if fault != Some(CommitFault::Refused) {
            for commit in commits {
                let key = (member.group.clone(), commit.place.clone());
                self.committed.insert(key, (commit.offset, commit.metadata.clone()));
            }
        }
        fault.map_or(Ok(()), |fault| {
            Err(scripted(FaultKind::Transient, "commit").caused_by(format!("{fault:?}")))
        })
    }
}

fn scripted(kind: FaultKind, doing: &'static str) -> Fault {
    Fault::new(kind, "W-KAFKA-UNREACHABLE", doing, "the log in memory")
}

impl LogWriter for MemoryLog {
    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        let mut state = self.state();
        let fault = state.append_faults.pop_front();
        match fault {
            Some(AppendFault::Hangs) => return Box::pin(std::future::pending()),
            Some(AppendFault::Refused(kind)) => {
                return Box::pin(std::future::ready(Err(scripted(kind, "append"))));
            }
            Some(AppendFault::AnswerLost) | None => {}
        }
        let copy = |range| batch.optional(range).map(Bytes::copy_from_slice);
        for span in &batch.records {
            let topic = batch.topics[usize::from(span.topic)].as_str();
            let headers = &batch.headers[span.headers.start as usize..span.headers.end as usize];
            let headers: Vec<Header> = headers
                .iter()
                .map(|header| Header { name: (*header.name).into(), value: copy(&header.value) })
                .collect();
            let key = copy(&span.key);
            let Some(place) = state.place_of(topic, key.as_deref()) else {
                return Box::pin(std::future::ready(Err(scripted(FaultKind::Config, "find the topic"))));
            };
            let record = Record {
                timestamp_ms: span.timestamp_ms,
                ..Record::of(place.topic, key, copy(&span.value), headers)
            };
            state.put(&place, Some(record));
        }
        Box::pin(std::future::ready(match fault {
            None => Ok(()),
            Some(_) => Err(scripted(FaultKind::Transient, "hear the answer")),
        }))
    }
}

/// A consumer of a [`MemoryLog`].
pub struct MemorySource {
    log: MemoryLog,
    group: String,
    topics: Vec<String>,
    /// Its number since it started.
    member: u64,
    /// Where the partition of the last fetch ends, if that fetch came so far.
    read_to: Option<i64>,
}

impl LogSource for MemorySource {
    fn membership(&self) -> Option<Membership> {
        Some(Membership {
            log: format!("{:p}", Arc::as_ptr(&self.log.state)),
            group: self.group.clone(),
            topics: self.topics.clone(),
            silence_max: self.log.state().silence_max,
        })
    }

    fn retention(&mut self) -> Option<Retention> {
        let state = self.log.state();
        let ours = state.kept.iter().filter(|(topic, _)| self.topics.contains(topic));
        let all = ours.map(|(topic, kept_for)| Retention { topic: topic.clone(), kept_for: *kept_for });
        all.min_by_key(|one| one.kept_for)
    }

    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        let mut state = self.log.state();
        let places: Vec<Place> = state.partitions.keys().cloned().collect();
        if let Some(topic) =
            self.topics.iter().find(|topic| !places.iter().any(|place| *place.topic == ***topic))
        {
            return Err(Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "find the topic", topic));
        }
        let member =
            Member { group: self.group.clone(), topics: self.topics.clone(), wake, ..Member::default() };
        for other in state.members.values_mut().filter(|other| other.group == self.group) {
            let had: Vec<Place> = other.positions.keys().cloned().collect();
            let lost = member.of_its_topics(&had);
            lost.iter().for_each(|place| {
                other.positions.remove(place);
            });
            if !lost.is_empty() {
                other.tell(Event::Lost(lost));
            }
        }
        state.member_last += 1;
        self.member = state.member_last;
        state.members.insert(self.member, member);
        state.assign(self.member, &places);
        Ok(())
    }

    fn events(&mut self, events: &mut Vec<Event>) {
        if let Some(member) = self.log.state().members.get_mut(&self.member) {
            events.append(&mut member.events);
        }
    }

    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        self.read_to = None;
        let mut state = self.log.state();
        let State { partitions, members, .. } = &mut *state;
        let Some(position) = members.get_mut(&self.member).and_then(|member| member.positions.get_mut(place))
        else {
            return;
        };
        let rest = &partitions[place]
            [usize::try_from(*position).unwrap_or(usize::MAX).min(partitions[place].len())..];
        let before = records.len();
        for record in rest {
            if records.len() - before == count_max {
                break;
            }
            *position += 1;
            records.extend(record.iter().map(|record| counted(record, budget)));
        }
        self.read_to = (usize::try_from(*position) == Ok(partitions[place].len())).then_some(*position);
    }

    fn read_to(&mut self) -> Option<i64> {
        self.read_to.take()
    }

    fn end(&mut self, place: &Place) -> Option<i64> {
        i64::try_from(self.log.state().partitions.get(place)?.len()).ok()
    }

    fn commit(&mut self, commits: &[Commit]) {
        let mut state = self.log.state();
        let is_answered = state.commit_faults.front() != Some(&CommitFault::NoAnswer);
        let places = commits.iter().map(|commit| commit.place.clone()).collect();
        let event = match state.commit(self.member, commits) {
            Ok(()) => Event::Committed(places),
            Err(fault) => Event::CommitFailed(places, fault),
        };
        if let Some(member) = state.members.get_mut(&self.member).filter(|_| is_answered) {
            member.events.push(event);
        }
    }

    fn commit_and_wait(&mut self, commits: &[Commit], _wait_max: Duration) -> Result<(), Fault> {
        self.log.state().commit(self.member, commits)
    }

    fn release(&mut self, places: &[Place]) {
        if let Some(member) = self.log.state().members.get_mut(&self.member) {
            places.iter().for_each(|place| {
                member.positions.remove(place);
            });
        }
    }

    fn close(&mut self) {
        self.log.state().members.remove(&self.member);
    }
}

/// The record with its value counted to the budget for as long as it lives, as a real source does with its batches.
fn counted(record: &Record, budget: &Budget) -> Record {
    struct Counted(Bytes, #[expect(dead_code, reason = "given back by its drop")] crate::budget::Taken);
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    let value = record.value_bytes().map(|value| {
        let taken = budget.take_at_once(value.len());
        Bytes::from_owner(Counted(value, taken))
    });
    record.clone().with_value(value)
}
