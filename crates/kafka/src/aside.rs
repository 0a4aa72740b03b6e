//! Dead letters of a topic: which are there, back to where they came from, or out of sight.
//!
//! What was dealt with is kept as the commits of a group on the dead letters' own topic, with the runtime's offset map
//! for single ones. So one operator at a time replays a letter once, and nothing is deleted before the topic's retention.

use crate::ffi::consumer;
use crate::producer::{Producer, ProducerConfig};
use crate::reader::{partitions, unreachable};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind, TopicName};
use weir_runtime::dead_letter;
use weir_runtime::log::{HeaderSpan, LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::offset_map::{self, TEXT_BYTES_MAX};

/// The group whose commits say what was dealt with.
pub const GROUP: &str = "weir-aside";

const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long reading a topic to its end may take without a single record.
const READ_WAIT: Duration = Duration::from_secs(30);

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Partition of the dead letters' topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    /// The record's own timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// All headers, those of the dead letter among them.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Letter {
    /// The text of a header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().rev().find(|(header, _)| header == name);
        let value = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }

    /// The topic that it came from.
    ///
    /// # Errors
    /// When its header does not say so: it is no dead letter of ours.
    pub fn home(&self) -> Result<TopicName, Fault> {
        let place = self.header(dead_letter::PLACE);
        let topic = place.rsplitn(3, '/').nth(2).and_then(|topic| TopicName::new(topic).ok());
        topic.ok_or_else(|| {
            let about = format!("{}/{}", self.partition, self.offset);
            Fault::new(
                FaultKind::Corrupt,
                "W-KAFKA-REJECTED",
                "find out where a dead letter came from",
                about,
            )
            .caused_by(format!("its header {} is {place:?}", dead_letter::PLACE))
        })
    }
}

/// What was dealt with in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Dealt {
    /// Everything before this.
    base: i64,
    /// And these, in order.
    beyond: Vec<Range<i64>>,
}

impl Dealt {
    fn has(&self, offset: i64) -> bool {
        offset < self.base || self.beyond.iter().any(|range| range.contains(&offset))
    }

    fn add(&mut self, offset: i64) {
        if self.has(offset) {
            return;
        }
        let at = self.beyond.partition_point(|range| range.start < offset);
        self.beyond.insert(at, offset..offset + 1);
        let mut merged: Vec<Range<i64>> = Vec::with_capacity(self.beyond.len());
        for range in self.beyond.drain(..) {
            match merged.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        if merged.first().is_some_and(|first| first.start == self.base) {
            self.base = merged.remove(0).end;
        }
        self.beyond = merged;
    }
}

/// The dead letters of one topic.
pub struct Aside {
    bootstrap: String,
    properties: BTreeMap<String, String>,
    topic: String,
    consumer: BaseConsumer,
    dealt: BTreeMap<i32, Dealt>,
    ends: BTreeMap<i32, i64>,
}

impl Aside {
    /// Opens a topic of dead letters.
    ///
    /// # Errors
    /// When the brokers cannot be reached, or the topic does not exist.
    pub fn open(bootstrap: &str, properties: &BTreeMap<String, String>, topic: &str) -> Result<Self, Fault> {
        let mut client = ClientConfig::new();
        for (key, value) in properties {
            client.set(key, value);
        }
        client
            .set("bootstrap.servers", bootstrap)
            .set("group.id", GROUP)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = client.create().map_err(|error| {
            Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka consumer", bootstrap)
                .caused_by(error)
        })?;
        let mut aside = Self {
            bootstrap: bootstrap.to_owned(),
            properties: properties.clone(),
            topic: topic.to_owned(),
            consumer,
            dealt: BTreeMap::new(),
            ends: BTreeMap::new(),
        };
        aside.look()?;
        Ok(aside)
    }

    /// Reads what was dealt with, and begins to read the letters from there on.
    fn look(&mut self) -> Result<(), Fault> {
        let failed = |error| unreachable(&error, &self.topic);
        let mut list = TopicPartitionList::new();
        for partition in partitions(&self.consumer, &self.topic)? {
            list.add_partition(&self.topic, partition);
        }
        let committed = self.consumer.committed_offsets(list, ASK_WAIT).map_err(failed)?;
        let mut start = TopicPartitionList::new();
        for (element, metadata) in committed.elements().iter().zip(consumer::metadata(&committed)) {
            let partition = element.partition();
            let (low, high) =
                self.consumer.fetch_watermarks(&self.topic, partition, ASK_WAIT).map_err(failed)?;
            let base = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => low,
            };
            let beyond = offset_map::decode(base, &metadata).map_err(|error| {
                Fault::new(FaultKind::Corrupt, "W-KAFKA-REJECTED", "read what was dealt with", &self.topic)
                    .caused_by(error)
            })?;
            // What retention took away is dealt with, too.
            let dealt = Dealt { base: base.max(low), beyond };
            start.add_partition_offset(&self.topic, partition, Offset::Offset(dealt.base)).map_err(failed)?;
            self.ends.insert(partition, high);
            self.dealt.insert(partition, dealt);
        }
        self.consumer.assign(&start).map_err(failed)
    }

    /// Gives each letter that was not dealt with to `act`, up to the end as of the opening. Once.
    ///
    /// # Errors
    /// When the brokers refuse, or with the fault of `act`.
    pub fn for_each(
        &mut self,
        mut act: impl FnMut(&mut Self, Letter) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut next: BTreeMap<i32, i64> =
            self.dealt.iter().map(|(place, dealt)| (*place, dealt.base)).collect();
        let mut last = Instant::now();
        while self.ends.iter().any(|(partition, end)| next[partition] < *end) {
            let letter = match self.consumer.poll(Duration::from_millis(100)) {
                Some(polled) => letter(&polled.map_err(|error| unreachable(&error, &self.topic))?),
                None if last.elapsed() < READ_WAIT => {
                    // A marker of a transaction is an offset without a record: the position passes it.
                    self.positions(&mut next)?;
                    continue;
                }
                None => {
                    return Err(Fault::new(
                        FaultKind::Transient,
                        "W-KAFKA-UNREACHABLE",
                        "read dead letters to their end",
                        &self.topic,
                    ));
                }
            };
            last = Instant::now();
            next.insert(letter.partition, letter.offset + 1);
            let is_new = letter.offset < self.ends[&letter.partition];
            if is_new && !self.dealt[&letter.partition].has(letter.offset) {
                act(self, letter)?;
            }
        }
        Ok(())
    }

    fn positions(&self, next: &mut BTreeMap<i32, i64>) -> Result<(), Fault> {
        let positions = self.consumer.position().map_err(|error| unreachable(&error, &self.topic))?;
        for element in positions.elements() {
            if let Offset::Offset(offset) = element.offset() {
                next.entry(element.partition()).and_modify(|next| *next = (*next).max(offset));
            }
        }
        Ok(())
    }

    /// Marks letters as dealt with, and waits until that is kept.
    ///
    /// # Errors
    /// When the brokers refuse, or the marks are more than a commit can hold: then none of these is marked.
    pub fn deal(&mut self, places: &[(i32, i64)]) -> Result<(), Fault> {
        let mut dealt = self.dealt.clone();
        for (partition, offset) in places {
            dealt.entry(*partition).or_default().add(*offset);
        }
        let mut list = TopicPartitionList::new();
        for (partition, dealt) in
            dealt.iter().filter(|(partition, dealt)| self.dealt.get(partition) != Some(dealt))
        {
            let metadata = offset_map::encode(dealt.base, &dealt.beyond, TEXT_BYTES_MAX);
            if offset_map::decode(dealt.base, &metadata).as_ref() != Ok(&dealt.beyond) {
                let about = format!("{}/{partition}", self.topic);
                let fault = Fault::new(
                    FaultKind::Rejected,
                    "W-KAFKA-REJECTED",
                    "keep which letters were dealt with",
                    about,
                );
                return Err(fault.caused_by("they are too scattered; deal with the older ones first"));
            }
            let mut element = list.add_partition(&self.topic, *partition);
            element
                .set_offset(Offset::Offset(dealt.base))
                .map_err(|error| unreachable(&error, &self.topic))?;
            element.set_metadata(metadata);
        }
        if list.count() > 0 {
            self.consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|error| unreachable(&error, &self.topic))?;
        }
        self.dealt = dealt;
        Ok(())
    }

    /// A producer that puts letters back.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn producer(&self) -> Result<Producer, Fault> {
        let properties = self.properties.clone();
        Producer::start(ProducerConfig { properties, ..ProducerConfig::new(&self.bootstrap) })
    }
}

/// Puts letters back to the topics that they came from, with their own key, value, headers and timestamp; durable when
/// it resolves.
///
/// # Errors
/// When a letter does not say where it came from, or the log refuses.
pub async fn replay(producer: &Producer, letters: &[Letter]) -> Result<(), Fault> {
    let mut batch = RecordBatch::default();
    for letter in letters {
        let home = letter.home()?;
        let topic = batch.topics.iter().position(|topic| *topic == home).unwrap_or_else(|| {
            batch.topics.push(home);
            batch.topics.len() - 1
        });
        let arena = &mut batch.arena;
        let mut put = |bytes: Option<&Vec<u8>>| {
            let Some(bytes) = bytes else { return RecordBatch::NONE };
            let start = arena.len() as u32;
            arena.extend_from_slice(bytes);
            start..arena.len() as u32
        };
        let (key, value) = (put(letter.key.as_ref()), put(letter.value.as_ref()));
        let first = batch.headers.len() as u32;
        for (name, value) in letter.headers.iter().filter(|(name, _)| !dead_letter::is_ours(name)) {
            batch.headers.push(HeaderSpan { name: name.clone().into(), value: put(value.as_ref()) });
        }
        let headers = first..batch.headers.len() as u32;
        let topic = u16::try_from(topic).unwrap_or(u16::MAX);
        batch.records.push(RecordSpan { topic, key, value, headers, timestamp_ms: letter.timestamp_ms });
    }
    producer.append(batch).await
}

fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let headers = message.headers().map(|list| {
        list.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Letter {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_letters_are_dealt_with_in_any_order_and_the_base_moves_over_them() {
        let mut dealt = Dealt { base: 10, beyond: Vec::new() };
        for offset in [14, 12, 13, 17] {
            dealt.add(offset);
        }
        assert_eq!(dealt, Dealt { base: 10, beyond: vec![12..15, 17..18] });
        assert_eq!([9, 10, 12, 15, 17].map(|offset| dealt.has(offset)), [true, false, true, false, true]);
        dealt.add(10);
        dealt.add(11);
        dealt.add(11);
        assert_eq!((dealt.base, dealt.beyond.len()), (15, 1));
    }
}
