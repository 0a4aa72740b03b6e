//! What keeps records back, as far as librdkafka's statistics and errors tell it: one sentence each, with what to set.
//!
//! Statistics are the only place where librdkafka says how far the log goes, whether the group has let the member in,
//! and whether a broker still answers.

use rdkafka::statistics::{Broker, Partition, Statistics};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};
use weir_runtime::record::Place;
use weir_runtime::source::Obstacle;

/// How long a request may be without an answer before its broker counts as silent.
const SILENCE: Duration = Duration::from_secs(3);

/// What a partition's fetching does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Records come, or there are none.
    Fine,
    /// The partition has no leader, or is in no metadata any more.
    Leaderless,
    /// Nothing is asked of the leader, or it does not answer.
    Unfetched,
    /// Records stand in the log that no committed reader gets before a transaction ends.
    BehindTransaction,
    /// Records may be read and do not come.
    Short,
}

/// What a partition's fetching was seen at, and since when it is there.
#[derive(Clone, Debug)]
struct Still {
    doing: Doing,
    /// The next offset to be fetched, the end of what may be read, and the end of the log.
    next: i64,
    stable: i64,
    end: i64,
    since: Instant,
}

impl Still {
    const GONE: (i64, i64, i64) = (-1, -1, -1);

    fn new(doing: Doing, (next, stable, end): (i64, i64, i64), since: Instant) -> Self {
        Self { doing, next, stable, end, since }
    }

    /// Nothing has moved since the other one.
    fn is_as(&self, other: &Self) -> bool {
        let is_placed = matches!(self.doing, Doing::BehindTransaction | Doing::Short);
        self.doing == other.doing
            && (!is_placed || self.next == other.next)
            && (self.doing != Doing::BehindTransaction || self.stable == other.stable)
    }
}

/// Why and since when a client does not work, when it may be its own fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sick {
    pub(super) since: Instant,
    /// A partition that it should get records of.
    pub(super) place: Option<Place>,
}

/// What is known of one client.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Since when the group has not let it in.
    out_since: Option<Instant>,
    /// What it does meanwhile, in librdkafka's words.
    out_state: String,
    /// When the group put it out.
    lost_at: Option<Instant>,
    /// What the group said last, and since when it is that.
    refused: Option<(Code, String, Instant)>,
    /// Topics that are not there, with what the brokers say.
    missing: BTreeMap<String, String>,
    still: HashMap<Place, Still>,
    /// Brokers that are needed and do not answer, by name.
    silent: BTreeMap<String, (Instant, i32)>,
    /// The leader of each partition.
    leaders: HashMap<Place, i32>,
    /// Answers that each broker had given.
    answers: HashMap<i32, u64>,
}

impl Complaints {
    /// Takes an error that librdkafka told of the consumer.
    pub(super) fn hear(&mut self, code: Code, text: &str, now: Instant) {
        match code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => {
                // `Subscribed topic not available: NAME: WHY`
                if let Some((name, why)) = text
                    .strip_prefix("Subscribed topic not available: ")
                    .and_then(|rest| rest.split_once(": "))
                {
                    self.missing.insert(name.to_owned(), why.to_owned());
                }
            }
            Code::InconsistentGroupProtocol
            | Code::GroupMaxSizeReached
            | Code::InvalidSessionTimeout
            | Code::InvalidGroupId
            | Code::UnsupportedAssignor
            | Code::UnreleasedInstanceId => {
                let since = self.refused.take().filter(|(last, ..)| *last == code).map(|(_, _, since)| since);
                self.refused = Some((code, text.to_owned(), since.unwrap_or(now)));
            }
            _ => {}
        }
    }

    /// A probe found that a topic is not there.
    pub(super) fn is_missing(&mut self, topic: String, why: String) {
        self.missing.insert(topic, why);
    }

    /// The group has dealt these partitions to it.
    pub(super) fn assigned(&mut self, places: &[Place]) {
        (self.refused, self.lost_at) = (None, None);
        self.missing.retain(|topic, _| places.iter().all(|place| *place.topic != **topic));
    }

    /// The group took its partitions away without asking.
    pub(super) fn lost(&mut self, now: Instant) {
        self.lost_at = Some(now);
    }

    /// Takes statistics.
    pub(super) fn see(&mut self, seen: &Statistics, own: &HashSet<Place>, is_classic: bool, now: Instant) {
        let group = seen.cgrp.as_ref();
        let is_in = group.is_none_or(|group| {
            // `wait-...-call`: the group waits for us. KIP-848 has no state of its own for a member with nothing.
            let is_joined =
                group.join_state == "steady" || group.join_state.ends_with("-call") || !is_classic;
            group.state == "up" && is_joined
        });
        if is_in {
            self.out_since = None;
            if !own.is_empty() || is_classic {
                self.refused = None;
            }
        } else {
            self.out_since.get_or_insert(now);
            self.out_state =
                group.map(|group| format!("{}, {}", group.state, group.join_state)).unwrap_or_default();
        }
        self.leaders.clear();
        let mut still = HashMap::new();
        for (name, topic) in &seen.topics {
            for partition in topic.partitions.values().filter(|one| one.partition >= 0) {
                let place = Place::new(name, partition.partition);
                if !own.contains(&place) {
                    continue;
                }
                self.leaders.insert(place.clone(), partition.leader);
                let fresh = self.look(partition, seen, now);
                let held = self.still.remove(&place).filter(|last| last.is_as(&fresh));
                let since = held.map_or(now, |last| last.since);
                still.insert(place, Still { since, ..fresh });
            }
        }
        // What is not in the topic's metadata any more is not in the statistics.
        for place in own {
            let gone = Still::new(Doing::Leaderless, Still::GONE, now);
            let before = self.still.remove(place).filter(|last| last.is_as(&gone));
            still.entry(place.clone()).or_insert(before.unwrap_or(gone));
        }
        self.answers = seen.brokers.values().map(|broker| (broker.nodeid, broker.rx)).collect();
        self.missing.retain(|topic, _| {
            still.iter().all(|(place, still)| *place.topic != **topic || still.doing == Doing::Leaderless)
        });
        self.still = still;
        let leaders: HashSet<i32> = self.leaders.values().copied().collect();
        let is_needed =
            |broker: &Broker| leaders.contains(&broker.nodeid) || broker.name == "GroupCoordinator";
        let silent = seen.brokers.values().filter(|broker| is_needed(broker)).filter_map(|broker| {
            let for_us = silence(broker)?;
            let since = now.checked_sub(for_us).unwrap_or(now);
            let before = self.silent.get(&broker.name).map_or(since, |(before, _)| *before);
            Some((broker.name.clone(), (before.min(since), broker.nodeid)))
        });
        self.silent = silent.collect();
    }

    fn look(&self, partition: &Partition, seen: &Statistics, now: Instant) -> Still {
        let (next, stable, end) = (partition.next_offset, partition.ls_offset, partition.hi_offset);
        let leader = seen.brokers.values().find(|broker| broker.nodeid == partition.leader);
        let answered = leader.is_some_and(|leader| self.answers.get(&leader.nodeid) != Some(&leader.rx));
        let is_asked = partition.broker >= 0 && partition.fetch_state == "active" && answered;
        let doing = if partition.leader < 0 || partition.unknown {
            Doing::Leaderless
        } else if partition.fetchq_cnt > 0 {
            Doing::Fine
        } else if !is_asked {
            Doing::Unfetched
        } else if next >= 0 && next < stable {
            Doing::Short
        } else if next >= 0 && stable >= 0 && stable < end {
            Doing::BehindTransaction
        } else {
            Doing::Fine
        };
        Still::new(doing, (next, stable, end), now)
    }

    /// Whether the client does not work, though it may be that brokers do.
    pub(super) fn sick(&self, silence_max: Duration, now: Instant) -> Option<Sick> {
        if self.refused.is_some() {
            return None;
        }
        let out = self.out_since.map(|since| Sick { since, place: None });
        let coordinator =
            self.silent.get("GroupCoordinator").map(|(since, _)| Sick { since: *since, place: None });
        let fetching = self.still.iter().filter_map(|(place, still)| {
            let leader = self.leaders.get(place).copied().unwrap_or(-1);
            let silent = self.silent.values().find(|(_, node)| *node == leader).map(|(since, _)| *since);
            let is_stuck = matches!(still.doing, Doing::Leaderless | Doing::Unfetched | Doing::Short);
            let stuck = is_stuck.then_some(still.since);
            let is_gone = self.missing.contains_key(&*place.topic);
            let since = silent.into_iter().chain(stuck).min().filter(|_| !is_gone)?;
            Some(Sick { since, place: Some(place.clone()) })
        });
        let all = out.into_iter().chain(coordinator).chain(fetching);
        all.min_by_key(|sick| sick.since)
            .filter(|sick| now.saturating_duration_since(sick.since) >= silence_max)
    }

    /// What keeps records back now.
    pub(super) fn all(&self, group: &str, reason: Option<&str>, now: Instant) -> Vec<Obstacle> {
        let lasts = |since: Instant| now.saturating_duration_since(since);
        let mut all = Vec::new();
        for (topic, why) in &self.missing {
            let text = format!(
                "topic `{topic}` is not there any more: {why}; fix: create it again, or take it out of `topics`"
            );
            all.push(Obstacle { place: None, text, lasts: Duration::ZERO, is_final: true });
        }
        if let Some((code, text, since)) = &self.refused {
            let fix = match code {
                Code::InconsistentGroupProtocol => {
                    "another member of the group shares partitions by another assignor or protocol; fix: set the same `protocol` for all members (`Eager` beside members with `range` or `roundrobin`), or use another `group`"
                }
                Code::GroupMaxSizeReached => {
                    "the group is full; fix: stop a member, or raise the brokers' `group.max.size`"
                }
                Code::InvalidSessionTimeout => {
                    "fix: set `session.timeout.ms` between the brokers' `group.min.session.timeout.ms` and `group.max.session.timeout.ms`"
                }
                Code::UnreleasedInstanceId => {
                    "another member has this `instance`; fix: stop it, or set another one"
                }
                _ => "fix: set another `group` or `protocol`",
            };
            let text = format!("the group {group} does not let this member in: {text}; {fix}");
            all.push(Obstacle { place: None, text, lasts: lasts(*since), is_final: true });
        } else if let Some(since) = self.out_since {
            let put_out = if self.lost_at.is_some() { ", after its session was lost" } else { "" };
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let text = format!(
                "the group {group} has not let this member in for {} s{put_out} ({}){reason}; fix: look at its coordinator and at members that are slow to give partitions up: kafka-consumer-groups.sh --describe --group {group} --state",
                lasts(since).as_secs(),
                self.out_state
            );
            all.push(Obstacle { place: None, text, lasts: lasts(since), is_final: false });
        }
        for (broker, (since, _)) in &self.silent {
            let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let text = format!(
                "broker {broker} has not answered for {} s{reason}; fix: look at it",
                lasts(*since).as_secs()
            );
            all.push(Obstacle { place: None, text, lasts: lasts(*since), is_final: false });
        }
        let is_there = |place: &Place| !self.missing.contains_key(&*place.topic);
        let still = self.still.iter().filter(|(place, _)| is_there(place));
        all.extend(still.filter_map(|(place, still)| still.obstacle(place, now)));
        all
    }
}

impl Still {
    fn obstacle(&self, place: &Place, now: Instant) -> Option<Obstacle> {
        let lasts = now.saturating_duration_since(self.since);
        let seconds = lasts.as_secs();
        let (topic, partition) = (&place.topic, place.partition);
        let text = match self.doing {
            Doing::Fine => return None,
            Doing::Leaderless => format!(
                "{place} has had no leader for {seconds} s; fix: start the brokers that have its replicas"
            ),
            Doing::Unfetched => format!(
                "{place} has not been read for {seconds} s: its leader is not asked or does not answer; fix: look at that broker"
            ),
            Doing::BehindTransaction => format!(
                "{place} gives nothing for {seconds} s: a transaction is open since offset {}, and {} offsets up to {} wait for its end; fix: commit or abort it (kafka-transactions.sh find-hanging, then abort --topic {topic} --partition {partition} --start-offset {}), or set isolation.level=read_uncommitted in `properties`",
                self.stable,
                self.end - self.stable,
                self.end,
                self.stable
            ),
            Doing::Short => format!(
                "{place} gives nothing for {seconds} s at offset {}, though its log goes to {}; fix: look at the partition with kafka-dump-log.sh, and at the broker's log",
                self.next, self.end
            ),
        };
        Some(Obstacle { place: Some(place.clone()), text, lasts, is_final: false })
    }
}

/// How long a broker has not answered, when it does not.
fn silence(broker: &Broker) -> Option<Duration> {
    let micros = |count: i64| Duration::from_micros(u64::try_from(count).unwrap_or_default());
    if broker.state != "UP" && broker.state != "UPDATE" {
        return Some(micros(broker.stateage));
    }
    let idle = micros(broker.rxidle);
    (broker.waitresp_cnt > 0 && idle >= SILENCE).then_some(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::{ConsumerGroup, Topic};

    /// Statistics of the n-th second: a partition `t/0` at these offsets, its leader with so many answers, and the group.
    fn seen(offsets: (i64, i64, i64), answers: u64, join_state: &str) -> Statistics {
        let (next_offset, ls_offset, hi_offset) = offsets;
        let partition = Partition {
            next_offset,
            ls_offset,
            hi_offset,
            fetch_state: "active".to_owned(),
            ..Partition::default()
        };
        let topic = Topic { partitions: HashMap::from([(0, partition)]), ..Topic::default() };
        let broker =
            Broker { name: "b:1/0".to_owned(), state: "UP".to_owned(), rx: answers, ..Broker::default() };
        let group = ConsumerGroup {
            state: "up".to_owned(),
            join_state: join_state.to_owned(),
            ..ConsumerGroup::default()
        };
        Statistics {
            topics: HashMap::from([("t".to_owned(), topic)]),
            brokers: HashMap::from([("b:1/0".to_owned(), broker)]),
            cgrp: Some(group),
            ..Statistics::default()
        }
    }

    /// Looks once a second for ten seconds, and returns what is told then, and whether the client seems sick.
    fn check(at: impl Fn(u64) -> Statistics, expect: &[&str], is_sick: bool) {
        let (start, mut complaints) = (Instant::now(), Complaints::default());
        let own = HashSet::from([Place::new("t", 0)]);
        let second = |count| start + Duration::from_secs(count);
        for count in 0..=10 {
            complaints.see(&at(count), &own, true, second(count));
        }
        let all = complaints.all("g", None, second(10));
        let long: Vec<&Obstacle> = all.iter().filter(|one| one.lasts >= Duration::from_secs(8)).collect();
        assert_eq!(long.len(), expect.len(), "{all:?}");
        for (one, words) in long.iter().zip(expect) {
            assert!(one.text.contains(words), "{one:?}");
        }
        assert_eq!(complaints.sick(Duration::from_secs(8), second(10)).is_some(), is_sick, "{all:?}");
    }

    #[test]
    fn what_stands_still_is_told_and_what_moves_is_not() {
        check(|count| seen((5, 5, 5), count, "steady"), &[], false);
        check(|count| seen((count as i64, 90, 90), count, "steady"), &[], false);
        check(
            |count| seen((5, 5, 8), count, "steady"),
            &["t/0 gives nothing for 10 s: a transaction is open"],
            false,
        );
        check(|count| seen((count as i64, count as i64, 90), count, "steady"), &[], false);
        check(|count| seen((5, 8, 8), count, "steady"), &["at offset 5, though its log goes to 8"], true);
        // The first look knows no answer before it.
        check(|_| seen((5, 5, 5), 7, "steady"), &["t/0 has not been read for 9 s"], true);
        check(|count| seen((5, 5, 5), count, "wait-join"), &["has not let this member in for 10 s"], true);
        check(|count| seen((5, 5, 5), count, "wait-assign-call"), &[], false);
    }

    #[test]
    fn a_refusal_by_the_group_names_the_fix_until_partitions_are_dealt() {
        let (now, mut complaints) = (Instant::now(), Complaints::default());
        complaints.hear(
            Code::InconsistentGroupProtocol,
            "JoinGroup failed: Inconsistent group protocol",
            now,
        );
        complaints.hear(
            Code::UnknownTopicOrPartition,
            "Subscribed topic not available: t: Broker: Unknown topic",
            now,
        );
        let texts: Vec<String> = complaints.all("g", None, now).into_iter().map(|one| one.text).collect();
        assert!(texts[0].contains("topic `t` is not there any more: Broker: Unknown topic"), "{texts:?}");
        assert!(texts[1].contains("same `protocol` for all members"), "{texts:?}");
        complaints.assigned(&[Place::new("t", 0)]);
        assert_eq!(complaints.all("g", None, now), Vec::new());
    }
}
