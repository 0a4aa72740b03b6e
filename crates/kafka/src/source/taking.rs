//! Takes partitions that were assigned: asks where they begin, commits that, and only then reads them. And begins again
//! those whose topic was deleted and created again.

use super::committed::Answer;
use super::positions::{Found, Recreated};
use super::whole::Wholes;
use super::{
    ASK_AGAIN, ASK_WAIT, Context, KafkaSource, Own, Protocol, Unread, assign, denied, is_denied, list_of,
    queue_trouble, trouble, unassign,
};
use crate::ffi::consumer::{CommitAnswer, PartitionQueue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_runtime::record::Place;
use weir_runtime::source::{Assigned, Commit, Event};

/// How often a member asks whether its topics are still the same: one request of metadata. For so long records of a topic
/// that was created again may be handled from an offset of the old one; then it is begun at its beginning.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl KafkaSource {
    /// Takes answers, and asks what is to be asked next.
    pub(super) fn read(&mut self, events: &mut Vec<Event>) {
        if let Some(answer) = self.committed.as_ref().and_then(|queue| queue.answer(Duration::ZERO)) {
            self.is_asking = false;
            match answer {
                Answer::Starts(found) => self.on_starts(found, events),
                Answer::Same(found) => self.on_look(found, events),
                Answer::Commits(_) => {}
            }
        }
        while let Some(answer) = self.positions.as_ref().and_then(|queue| queue.answer(Duration::ZERO)) {
            self.on_positions(&answer, events);
        }
        let Some(queue) = self.committed.as_ref().filter(|_| !self.is_asking) else { return };
        let now = Instant::now();
        let Unread { places, asked, committing, due } = &mut self.unread;
        if !places.is_empty() && committing.is_empty() && due.is_none_or(|due| due <= now) {
            queue.ask_starts(places, ASK_WAIT);
            (*asked, *due) = (Some(places.clone()), None);
            self.is_asking = true;
        } else if self.look_due <= now && !self.own.is_empty() {
            let known = |(place, own): (&Place, &Own)| Some((place.clone(), own.note?.id));
            queue.ask_same(self.own.iter().filter_map(known).collect(), ASK_WAIT);
            self.look_due = now + LOOK_EVERY;
            self.is_asking = true;
        }
    }

    fn on_starts(&mut self, found: Result<Vec<Found>, RDKafkaErrorCode>, events: &mut Vec<Event>) {
        let asked = self.unread.asked.take().unwrap_or_default();
        let mut found = match found {
            Ok(found) => found,
            Err(code) => return self.refused(code, "read the group's commits", events),
        };
        found.retain(|one| asked.contains(&one.place));
        if found.len() < asked.len() {
            self.unread.due = Some(Instant::now() + ASK_AGAIN);
        }
        let is_noting = self.maps.is_noting;
        let to_commit = |one: &Found| one.is_new || one.is_unnoted && is_noting;
        let (mut committing, mut ready): (Vec<Found>, Vec<Found>) = found.into_iter().partition(to_commit);
        if self.config.protocol == Protocol::Eager && !committing.is_empty() {
            // There each assignment replaces the one before: all together.
            committing.append(&mut ready);
        }
        self.take(ready, events);
        if committing.is_empty() {
            return;
        }
        let list = self.maps.list_with_notes(committing.iter().map(|one| {
            let commit = Commit { place: one.place.clone(), offset: one.offset, metadata: one.map.clone() };
            (commit, one.note)
        }));
        self.unread.committing = committing;
        let Some(queue) = &self.positions else { return };
        if let Err(code) = queue.commit(&list, 0) {
            self.unread.committing.clear();
            self.refused(code.into(), "commit where a partition begins", events);
        }
    }

    /// Positions are committed: from now on they hold for whoever comes next.
    fn on_positions(&mut self, answer: &CommitAnswer, events: &mut Vec<Event>) {
        let code_of = |place: &Place| {
            let of_place = answer.places.iter().find(|(of, _)| of == place).map(|(_, code)| *code);
            if answer.code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                of_place.unwrap_or(answer.code)
            } else {
                answer.code
            }
        };
        let mut first = None;
        let (fine, refused): (Vec<Found>, Vec<Found>) = std::mem::take(&mut self.unread.committing)
            .into_iter()
            .partition(|one| match code_of(&one.place) {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => true,
                // A broker that takes less than a note. It is noted in memory alone, and the position is committed without.
                Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE => {
                    self.maps.is_noting = false;
                    false
                }
                code => {
                    first.get_or_insert(code);
                    false
                }
            });
        if !refused.is_empty() {
            self.unread.due = Some(Instant::now() + ASK_AGAIN);
        }
        if let Some(code) = first {
            self.refused(code.into(), "commit where a partition begins", events);
        }
        if refused.is_empty() || self.config.protocol != Protocol::Eager {
            self.take(fine, events);
        }
    }

    fn refused(&mut self, code: RDKafkaErrorCode, doing: &'static str, events: &mut Vec<Event>) {
        if is_denied(code) {
            events.push(Event::Ended(denied(&self.config.group, code)));
        } else {
            events.push(Event::Trouble(trouble(&KafkaError::OffsetFetch(code), doing)));
        }
        self.unread.due = Some(Instant::now() + ASK_AGAIN);
    }

    /// Begins to fetch partitions whose positions are committed.
    fn take(&mut self, found: Vec<Found>, events: &mut Vec<Event>) {
        let mut assigned = Vec::new();
        let mut fresh = Vec::new();
        for one in found {
            let Found { place, offset, from, map: metadata, note, .. } = one;
            if self.split(&place, note, from, Wholes::default()) {
                self.unread.forget(std::slice::from_ref(&place));
                fresh.push(place.clone());
                assigned.push(Assigned { place, committed: Some(offset), metadata });
            }
        }
        if assigned.is_empty() {
            return;
        }
        match self.begin_fetching(&fresh) {
            Ok(()) => events.push(Event::Assigned(assigned)),
            Err(error) => events.push(Event::Ended(trouble(&error, "take what the group assigned"))),
        }
    }

    /// Splits a partition's queue off the consumer's. Whether there is such a partition.
    fn split(&mut self, place: &Place, note: Option<super::Note>, from: Offset, wholes: Wholes) -> bool {
        let Some(consumer) = self.consumer.as_ref() else { return false };
        // The one before first: both would be one queue of librdkafka, with one callback.
        self.own.remove(place);
        let queue = PartitionQueue::split(consumer.client().native_ptr(), place, &self.wake);
        let since = self.commit_number;
        let own = |queue| Own { queue, since, note, from, is_damaged: false, wholes };
        queue.is_some_and(|queue| self.own.insert(place.clone(), own(queue)).is_none())
    }

    /// Has librdkafka fetch these of our partitions, beside those that it fetches.
    fn begin_fetching(&mut self, fresh: &[Place]) -> KafkaResult<()> {
        let Some(consumer) = self.consumer.clone() else { return Ok(()) };
        let mut list = TopicPartitionList::new();
        for (place, own) in self.own.iter().filter(|(place, _)| fresh.contains(*place)) {
            list.add_partition_offset(&place.topic, place.partition, own.from)?;
        }
        if self.config.protocol == Protocol::Eager {
            self.add_others(&consumer, fresh, &mut list)?;
        }
        assign(&consumer, &list)
    }

    /// An assignment that is not told in steps replaces the one before: with the others where they are.
    fn add_others(
        &mut self,
        consumer: &Arc<BaseConsumer<Context>>,
        fresh: &[Place],
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        let positions = consumer.position()?;
        let others: Vec<Place> = self.own.keys().filter(|place| !fresh.contains(place)).cloned().collect();
        for place in others {
            let Some(own) = self.own.get_mut(&place) else { continue };
            let at = positions.find_partition(&place.topic, place.partition).map(|one| one.offset());
            let at = at.filter(|at| matches!(at, Offset::Offset(_))).unwrap_or(own.from);
            // Parts that were read stay: the rest of their value comes behind that offset.
            let (note, wholes) = (own.note, std::mem::take(&mut own.wholes));
            list.add_partition_offset(&place.topic, place.partition, at)?;
            self.split(&place, note, at, wholes);
        }
        Ok(())
    }

    fn on_look(&mut self, found: Result<Vec<Recreated>, RDKafkaErrorCode>, events: &mut Vec<Event>) {
        let Ok(found) = found else {
            // Asked again soon if something waits for it; the brokers' silence is told by others.
            if !self.misplaced.is_empty() {
                self.look_due = Instant::now() + ASK_AGAIN;
            }
            return;
        };
        self.misplaced.retain(|(place, _)| !found.iter().any(|one| one.place == *place));
        for (place, error) in std::mem::take(&mut self.misplaced) {
            if self.own.contains_key(&place) {
                events.push(queue_trouble(place, &error));
            }
        }
        let is_other = |one: &Recreated| {
            self.own.get(&one.place).is_some_and(|own| own.note.is_some_and(|note| note.id != one.note.id))
        };
        let found: Vec<Recreated> = found.into_iter().filter(is_other).collect();
        if found.is_empty() {
            return;
        }
        let places: Vec<Place> = found.iter().map(|one| one.place.clone()).collect();
        if let Err(error) = self.begin_again(&found, &places) {
            events.push(Event::Ended(trouble(&error, "read a topic that was created again")));
            return;
        }
        events.extend(found.into_iter().map(|one| Event::Recreated(one.place, one.start)));
    }

    fn begin_again(&mut self, found: &[Recreated], places: &[Place]) -> KafkaResult<()> {
        if let Some(consumer) = self.consumer.as_ref().filter(|_| self.config.protocol != Protocol::Eager) {
            unassign(consumer, &list_of(places))?;
        }
        for one in found {
            self.split(&one.place, Some(one.note), Offset::Beginning, Wholes::default());
        }
        self.begin_fetching(places)
    }

    /// Puts a partition back to where it is.
    pub(super) fn put_back(&self, place: &Place, offset: i64) {
        let Some(consumer) = &self.consumer else { return };
        let mut list = TopicPartitionList::new();
        let sought = list
            .add_partition_offset(&place.topic, place.partition, Offset::Offset(offset))
            // Without waiting. One that has stopped is not to be put anywhere.
            .and_then(|()| consumer.seek_partitions(list, Duration::ZERO));
        if let Err(error) = sought {
            tracing::debug!(%place, offset, %error, "a partition was not put back");
        }
    }
}
