//! Where a partition is read from when it is assigned, and whether its topic is still the one that the commit is of.
//!
//! At least once must hold while nothing is committed yet: a position that is taken is committed before the first record is
//! read. And an offset is not an identity: librdkafka 2.12.1 sees that a topic has another id and fetches on at the old
//! offset (`rd_kafka_topic_metadata_update`, "FIXME: an offset reset must be triggered"). So each commit notes the
//! topic's id ([`Note`]).

use super::committed::commits;
use super::note::{self, Note};
use super::{Context, StartAt};
use crate::ffi::committed::Committed;
use crate::ffi::topic_ids::{TopicFacts, describe, has_controller};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka_sys::rd_kafka_resp_err_t as RawCode;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use weir_runtime::record::Place;

/// How long a question for topics' ids may take. Partitions that the group has commits of do not wait for it again.
const FACTS_WAIT: Duration = Duration::from_secs(3);

/// How long one partition's offset is asked for after the question for all of them failed: one without a leader holds
/// the others up.
const ONE_WAIT: Duration = Duration::from_secs(1);

/// Where a partition begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) place: Place,
    /// What a successor would start at.
    pub(super) offset: i64,
    /// Where this member starts: `offset`, or the beginning, which may have moved since `offset` was read.
    pub(super) from: Offset,
    /// The runtime's map of a commit that was found.
    pub(super) map: String,
    /// `None` when the topic's id is not known.
    pub(super) note: Option<Note>,
    /// Whether the group has not committed this yet.
    pub(super) is_new: bool,
    /// Whether a commit that was found has no note, which can be added.
    pub(super) is_unnoted: bool,
}

/// A partition of a topic that was deleted and created again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recreated {
    pub(super) place: Place,
    pub(super) start: i64,
    pub(super) note: Note,
}

/// How a partition begins, before its offset is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// Where the group was.
    Committed(i64),
    /// By the policy for partitions without a commit.
    Policy(StartAt),
    /// At its beginning: it was added after the group came to the topic.
    Added,
    /// At its beginning: what is committed, or was read, is of another topic of that name.
    Recreated,
}

/// What the group has committed in one topic: the partition and the note of each commit.
type Group = Vec<(i32, Option<Note>)>;

/// What decides how a partition begins.
struct Known<'a> {
    /// The topic as it is now.
    now: Option<TopicFacts>,
    /// The topic as this member saw it first.
    first: Option<TopicFacts>,
    group: &'a Group,
    /// Whether the group had commits in the topic before this member started.
    is_older: bool,
    start_at: StartAt,
}

/// Decides how a partition begins, and with which note.
fn begin(
    known: &Known<'_>,
    partition: i32,
    committed: Option<i64>,
    note: Option<Note>,
) -> (Begin, Option<Note>) {
    let Known { now, first, group, is_older, start_at } = known;
    let Some(now) = *now else {
        return (committed.map_or(Begin::Policy(*start_at), Begin::Committed), note);
    };
    let seen_count = first.filter(|first| first.id == now.id).map_or(0, |first| first.partition_count);
    let recreated = (Begin::Recreated, Some(Note::of(now, 0)));
    if let Some(offset) = committed {
        return match note {
            Some(note) if note.id != now.id => recreated,
            Some(note) => (Begin::Committed(offset), Some(note)),
            None => (Begin::Committed(offset), Some(Note::of(now, seen_count))),
        };
    }
    let is_other = first.is_some_and(|first| first.id != now.id);
    let notes = || group.iter().filter_map(|(_, note)| *note);
    if is_other || notes().any(|note| note.id != now.id) {
        return recreated;
    }
    // Commits without a note say nothing of their age. Those of members that start together with this one are not older.
    let has_unnoted = *is_older && group.iter().any(|(_, note)| note.is_none());
    let noted_count = notes().map(|note| note.known_count).min();
    let known_count = noted_count.unwrap_or_else(|| seen_count.unsigned_abs());
    let is_added = has_unnoted || partition.unsigned_abs() >= known_count;
    let note = Some(Note { id: now.id, known_count });
    (if is_added { Begin::Added } else { Begin::Policy(*start_at) }, note)
}

pub(super) fn code_of(error: KafkaError) -> Code {
    error.rdkafka_error_code().unwrap_or(Code::Fail)
}

/// Asks the brokers. Lives on the thread that may wait.
pub(super) struct Asker<'a> {
    consumer: &'a BaseConsumer<Context>,
    start_at: StartAt,
    /// Topics as they were when they were looked at first.
    first: BTreeMap<String, TopicFacts>,
    /// Topics in which the group had no commit when this member started.
    untouched: BTreeSet<String>,
    /// Where the partitions of those topics ended then, for [`StartAt::Latest`]: what is written once the consumer has
    /// started is after it, however long the group takes to give a partition away.
    ends: BTreeMap<Place, i64>,
}

impl<'a> Asker<'a> {
    pub(super) const fn new(consumer: &'a BaseConsumer<Context>, start_at: StartAt) -> Self {
        Self { consumer, start_at, first: BTreeMap::new(), untouched: BTreeSet::new(), ends: BTreeMap::new() }
    }

    /// Looks at topics for the first time. What cannot be known is looked at again when it is needed.
    pub(super) fn look(&mut self, topics: &[String]) {
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let Ok(facts) = self.facts(&topics, FACTS_WAIT) else { return };
        self.remember(&facts);
        if self.start_at != StartAt::Earliest
            && let Ok(groups) = self.groups(&topics, &facts, FACTS_WAIT)
        {
            let touched = |topic: &&str| groups.contains_key(*topic);
            self.untouched.extend(topics.into_iter().filter(|topic| !touched(topic)).map(str::to_owned));
        }
        if self.start_at == StartAt::Latest {
            let mut wanted = TopicPartitionList::new();
            for topic in &self.untouched {
                let count = facts.get(topic).map_or(0, |facts| facts.partition_count);
                for partition in 0..count {
                    // Each is named once.
                    let _ = wanted.add_partition_offset(topic, partition, Offset::End);
                }
            }
            self.ends = self.offsets(wanted, FACTS_WAIT).unwrap_or_default();
        }
    }

    fn remember(&mut self, facts: &BTreeMap<String, TopicFacts>) {
        for (topic, facts) in facts {
            self.first.entry(topic.clone()).or_insert(*facts);
        }
    }

    fn facts(&self, topics: &[&str], wait_max: Duration) -> Result<BTreeMap<String, TopicFacts>, Code> {
        let Some(any) = topics.first() else { return Ok(BTreeMap::new()) };
        let (client, wait_max) = (self.consumer.client(), wait_max.min(FACTS_WAIT));
        let broker = if has_controller(client.native_ptr()) {
            None
        } else {
            let metadata = client.fetch_metadata(Some(any), wait_max).map_err(code_of)?;
            metadata.brokers().first().map(rdkafka::metadata::MetadataBroker::id)
        };
        match describe(client.native_ptr(), topics, broker, wait_max).map_err(Code::from) {
            // Brokers that cannot say it, or may not: it is done without.
            Err(Code::UnsupportedFeature | Code::UnsupportedVersion | Code::TopicAuthorizationFailed) => {
                Ok(BTreeMap::new())
            }
            answer => answer,
        }
    }

    /// Where these partitions begin. One whose offset cannot be had now is left out.
    pub(super) fn starts(&mut self, places: &[Place], wait_max: Duration) -> Result<Vec<Found>, Code> {
        let topics: BTreeSet<&str> = places.iter().map(|place| &*place.topic).collect();
        let facts = self.facts(&topics.into_iter().collect::<Vec<_>>(), wait_max);
        let all = known(commits(self.consumer, places, wait_max)?, places)?;
        let facts = match facts {
            // A broker is away. Whoever has a commit goes on from it; it is noted when the next owner takes it.
            Err(_) if self.start_at == StartAt::Earliest || all.iter().all(|one| one.offset.is_some()) => {
                BTreeMap::new()
            }
            facts => facts?,
        };
        self.remember(&facts);
        let without = all.iter().filter(|one| one.offset.is_none() && self.start_at != StartAt::Earliest);
        let without: BTreeSet<&str> = without.map(|one| &*one.place.topic).collect();
        let groups = self.groups(&without.into_iter().collect::<Vec<_>>(), &facts, wait_max)?;
        let none = Group::new();
        let mut found = Vec::new();
        let mut unknown = TopicPartitionList::new();
        for one in all {
            let topic = &*one.place.topic;
            let known = Known {
                now: facts.get(topic).copied(),
                first: self.first.get(topic).copied(),
                group: groups.get(topic).unwrap_or(&none),
                is_older: !self.untouched.contains(topic),
                start_at: self.start_at,
            };
            let (map, noted) = note::split(&one.metadata);
            let (begin, note) = begin(&known, one.place.partition, one.offset, noted);
            say(&one.place, begin);
            let from = match begin {
                Begin::Committed(offset) => Offset::Offset(offset),
                Begin::Policy(StartAt::Earliest) | Begin::Added | Begin::Recreated => Offset::Beginning,
                Begin::Policy(StartAt::Latest) => Offset::End,
                Begin::Policy(StartAt::Time(since_ms)) => Offset::Offset(since_ms),
            };
            // Not before the log's own beginning, which may have moved since.
            let has_end = from == Offset::End && self.ends.contains_key(&one.place);
            let asked = if has_end { Offset::Beginning } else { from };
            let is_new = !matches!(begin, Begin::Committed(_));
            let map = if is_new { String::new() } else { map.to_owned() };
            if is_new && unknown.add_partition_offset(topic, one.place.partition, asked).is_err() {
                continue;
            }
            // Metadata of others stays as it is until there is a commit of ours.
            let is_unnoted = !is_new && noted.is_none() && note.is_some() && note::may_follow(&map);
            found.push(Found {
                place: one.place,
                offset: one.offset.unwrap_or(0),
                from,
                map,
                note,
                is_new,
                is_unnoted,
            });
        }
        let offsets = self.offsets(unknown, wait_max)?;
        found.retain_mut(|one| {
            if !one.is_new {
                return true;
            }
            let Some(offset) = offsets.get(&one.place) else { return false };
            one.offset = *offset;
            if let Some(end) = self.ends.get(&one.place).filter(|_| one.from == Offset::End) {
                one.offset = (*end).max(*offset);
            }
            if one.from != Offset::Beginning {
                one.from = Offset::Offset(one.offset);
            }
            true
        });
        Ok(found)
    }

    /// What the group has committed in these topics.
    fn groups(
        &self,
        topics: &[&str],
        facts: &BTreeMap<String, TopicFacts>,
        wait_max: Duration,
    ) -> Result<BTreeMap<String, Group>, Code> {
        let counted = topics.iter().filter_map(|topic| Some((*topic, facts.get(*topic)?.partition_count)));
        let places: Vec<Place> = counted
            .flat_map(|(topic, count)| (0..count).map(move |partition| Place::new(topic, partition)))
            .collect();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        if places.is_empty() {
            return Ok(groups);
        }
        for one in known(commits(self.consumer, &places, wait_max)?, &places)? {
            if one.offset.is_some() {
                let note = note::split(&one.metadata).1;
                groups.entry((*one.place.topic).to_owned()).or_default().push((one.place.partition, note));
            }
        }
        Ok(groups)
    }

    /// The offsets of these partitions at a logical offset or a time. One without an answer is left out.
    fn offsets(&self, wanted: TopicPartitionList, wait_max: Duration) -> Result<BTreeMap<Place, i64>, Code> {
        let mut offsets = BTreeMap::new();
        if wanted.count() == 0 {
            return Ok(offsets);
        }
        let began = Instant::now();
        let mut rest = vec![wanted];
        let mut last = None;
        while let Some(list) = rest.pop() {
            let wait = wait_max.saturating_sub(began.elapsed());
            let wait = if last.is_some() { wait.min(ONE_WAIT) } else { wait.min(wait_max / 3) };
            match self.consumer.offsets_for_times(list.clone(), wait) {
                Ok(answer) => rest.extend(taken(&answer, &mut offsets)),
                // One by one: the trouble may be of one partition.
                Err(error) if last.is_none() && list.count() > 1 => {
                    last = Some(code_of(error));
                    rest = list
                        .elements()
                        .iter()
                        .filter_map(|one| {
                            let mut list = TopicPartitionList::new();
                            list.add_partition_offset(one.topic(), one.partition(), one.offset()).ok()?;
                            Some(list)
                        })
                        .collect();
                }
                Err(error) => last = Some(code_of(error)),
            }
        }
        match last {
            Some(code) if offsets.is_empty() => Err(code),
            _ => Ok(offsets),
        }
    }

    /// Which of these partitions are of a topic that has another id by now.
    pub(super) fn recreated(
        &self,
        known: &[(Place, [u8; 8])],
        wait_max: Duration,
    ) -> Result<Vec<Recreated>, Code> {
        let topics: BTreeSet<&str> = known.iter().map(|(place, _)| &*place.topic).collect();
        let facts = self.facts(&topics.into_iter().collect::<Vec<_>>(), wait_max)?;
        let mut others = BTreeMap::new();
        let mut unknown = TopicPartitionList::new();
        for (place, id) in known {
            let Some(now) = facts.get(&*place.topic).filter(|now| now.id != *id) else { continue };
            if unknown.add_partition_offset(&place.topic, place.partition, Offset::Beginning).is_ok() {
                others.insert(place.clone(), Note::of(*now, 0));
            }
        }
        let offsets = self.offsets(unknown, wait_max)?;
        Ok(others
            .into_iter()
            .filter_map(|(place, note)| Some(Recreated { start: *offsets.get(&place)?, place, note }))
            .collect())
    }
}

/// Takes over what was answered. Returns what is to be asked for again: a time after the last record has no offset, and
/// means the end.
fn taken(answer: &TopicPartitionList, offsets: &mut BTreeMap<Place, i64>) -> Option<TopicPartitionList> {
    let mut again = TopicPartitionList::new();
    for one in answer.elements() {
        match (one.error(), one.offset()) {
            (Err(_), _) => {}
            (Ok(()), Offset::Offset(offset)) => {
                offsets.insert(Place::new(one.topic(), one.partition()), offset);
            }
            (Ok(()), _) => {
                // A list takes each place that it was given once.
                let _ = again.add_partition_offset(one.topic(), one.partition(), Offset::End);
            }
        }
    }
    (again.count() > 0).then_some(again)
}

/// The commits that were asked for. One that is not known is not one that is not there: to start at the beginning, or the
/// end, would be wrong.
fn known(mut all: Vec<Committed>, asked: &[Place]) -> Result<Vec<Committed>, Code> {
    all.retain(|one| asked.contains(&one.place));
    match all.iter().find(|one| one.code != RawCode::RD_KAFKA_RESP_ERR_NO_ERROR) {
        Some(one) => Err(one.code.into()),
        None => Ok(all),
    }
}

/// Tells what an operator does not expect.
fn say(place: &Place, begin: Begin) {
    match begin {
        Begin::Committed(_) | Begin::Policy(_) => {}
        Begin::Added => {
            tracing::info!(%place, "a partition was added after the group came to its topic; it is read from its beginning");
        }
        Begin::Recreated => tracing::warn!(
            %place,
            "the topic was deleted and created again: the group's position is of the old one; it is read from its beginning"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TopicFacts = TopicFacts { id: [1; 8], partition_count: 8 };
    const BEFORE: TopicFacts = TopicFacts { id: [2; 8], partition_count: 8 };

    fn note(id: [u8; 8], known_count: u32) -> Option<Note> {
        Some(Note { id, known_count })
    }

    #[track_caller]
    fn check(
        first: TopicFacts,
        group: &[Option<Note>],
        of: (Option<i64>, Option<Note>),
        expect: (Begin, Option<Note>),
    ) {
        let group = (0..).zip(group.iter().copied()).collect();
        let (now, first, start_at) = (Some(NOW), Some(first), StartAt::Latest);
        let known = Known { now, first, group: &group, is_older: true, start_at };
        assert_eq!(begin(&known, 5, of.0, of.1), expect);
    }

    #[test]
    fn a_commit_holds_for_the_topic_that_it_is_of() {
        let six = TopicFacts { partition_count: 6, ..NOW };
        check(six, &[], (Some(7), note([1; 8], 3)), (Begin::Committed(7), note([1; 8], 3)));
        check(six, &[], (Some(7), None), (Begin::Committed(7), note([1; 8], 6)));
        check(six, &[], (Some(7), note([2; 8], 3)), (Begin::Recreated, note([1; 8], 0)));
    }

    #[test]
    fn a_partition_without_a_commit_that_is_newer_than_the_group_starts_at_its_beginning() {
        let latest = Begin::Policy(StartAt::Latest);
        check(NOW, &[], (None, None), (latest, note([1; 8], 8)));
        let five = TopicFacts { partition_count: 5, ..NOW };
        check(five, &[], (None, None), (Begin::Added, note([1; 8], 5)));
        // Others of the same age have a commit: another member was quicker.
        check(NOW, &[note([1; 8], 8)], (None, None), (latest, note([1; 8], 8)));
        check(NOW, &[note([1; 8], 8), note([1; 8], 5)], (None, None), (Begin::Added, note([1; 8], 5)));
        // Who made those is not known, nor when.
        check(NOW, &[None], (None, None), (Begin::Added, note([1; 8], 8)));
    }

    #[test]
    fn nothing_of_a_topic_that_was_created_again_is_skipped() {
        check(BEFORE, &[], (None, None), (Begin::Recreated, note([1; 8], 0)));
        check(NOW, &[note([2; 8], 8)], (None, None), (Begin::Recreated, note([1; 8], 0)));
        // A member that came later, beside one that has begun with the new topic.
        check(NOW, &[note([1; 8], 0)], (None, None), (Begin::Added, note([1; 8], 0)));
    }

    #[test]
    fn without_ids_a_commit_is_taken_as_it_is() {
        let (now, first, group, start_at) = (None, Some(NOW), &Vec::new(), StartAt::Earliest);
        let known = Known { now, first, group, is_older: true, start_at };
        assert_eq!(begin(&known, 0, Some(3), None), (Begin::Committed(3), None));
        assert_eq!(begin(&known, 0, None, None), (Begin::Policy(StartAt::Earliest), None));
    }
}
