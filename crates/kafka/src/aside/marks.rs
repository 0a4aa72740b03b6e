//! Which dead letters were dealt with, as it is kept in a topic: key `TOPIC/PARTITION`, value `BASE START-END ...`.
//!
//! Compacted, so that the newest stays for as long as the topic does: commits of a group would be forgotten with it.

use crate::reader::{consumer, metadata, unreachable};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};

const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long the marks may take to be read.
const READ_WAIT: Duration = Duration::from_secs(30);

/// What was dealt with in one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dealt {
    /// Everything before this.
    pub(super) base: i64,
    /// And these, in order; none touches another or the base.
    beyond: Vec<Range<i64>>,
}

impl Dealt {
    pub(super) fn has(&self, offset: i64) -> bool {
        offset < self.base || self.beyond.iter().any(|range| range.contains(&offset))
    }

    pub(super) fn add(&mut self, offset: i64) {
        if !self.has(offset) {
            let at = self.beyond.partition_point(|range| range.start < offset);
            self.beyond.insert(at, offset..offset + 1);
            self.settle();
        }
    }

    /// What retention took away is dealt with, too. And what a topic that was made anew has not come to yet, is not.
    pub(super) fn fit(mut self, low: i64, high: i64) -> Self {
        if self.base > high || self.beyond.last().is_some_and(|last| last.end > high) {
            self = Self::default();
        }
        self.base = self.base.max(low);
        self.settle();
        self
    }

    fn settle(&mut self) {
        let mut merged: Vec<Range<i64>> = Vec::with_capacity(self.beyond.len());
        for range in self.beyond.drain(..) {
            match merged.last_mut() {
                _ if range.start <= self.base => self.base = self.base.max(range.end),
                Some(last) if last.end == range.start => last.end = range.end,
                _ => merged.push(range),
            }
        }
        self.beyond = merged;
    }

    pub(super) fn text(&self) -> String {
        self.beyond.iter().fold(self.base.to_string(), |mut text, range| {
            let _ = write!(text, " {}-{}", range.start, range.end);
            text
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut dealt = Self { base: words.next()?.parse().ok()?, beyond: Vec::new() };
        for word in words {
            let (start, end) = word.split_once('-')?;
            let range = start.parse().ok()?..end.parse().ok()?;
            let is_after = dealt.beyond.last().map_or(dealt.base, |last| last.end) < range.start;
            if !is_after || range.is_empty() {
                return None;
            }
            dealt.beyond.push(range);
        }
        Some(dealt)
    }
}

/// The key under which a partition's marks are kept.
pub(super) fn key(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

/// The marks of a topic's partitions; none when nothing was ever dealt with.
pub(super) fn read(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    marks: &str,
    topic: &str,
) -> Result<BTreeMap<i32, Dealt>, Fault> {
    let failed = |error: KafkaError| unreachable(&error, marks);
    let consumer = consumer(bootstrap, properties)?;
    let metadata = metadata(&consumer, Some(marks), marks)?;
    let is_there = metadata.topics().iter().any(|one| one.name() == marks && one.error().is_none());
    if !is_there {
        return Ok(BTreeMap::new());
    }
    let (low, high) = consumer.fetch_watermarks(marks, 0, ASK_WAIT).map_err(failed)?;
    if low == high {
        return Ok(BTreeMap::new());
    }
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(marks, 0, Offset::Offset(low)).map_err(failed)?;
    consumer.assign(&start).map_err(failed)?;
    let (mut dealt, started, mut next) = (BTreeMap::new(), Instant::now(), low);
    while next < high {
        if started.elapsed() > READ_WAIT {
            let fault =
                Fault::new(FaultKind::Transient, "W-KAFKA-UNREACHABLE", "read what was dealt with", marks);
            return Err(fault.caused_by("somebody deals with letters at this moment; try again"));
        }
        let Some(polled) = consumer.poll(Duration::from_millis(100)) else {
            // The end of a transaction is an offset without a record: the position passes it.
            let positions = consumer.position().map_err(failed)?;
            if let Some(Offset::Offset(at)) = positions.find_partition(marks, 0).map(|one| one.offset()) {
                next = next.max(at);
            }
            continue;
        };
        let message = polled.map_err(failed)?;
        next = message.offset() + 1;
        let place = message.key().and_then(|key| std::str::from_utf8(key).ok()?.rsplit_once('/'));
        let Some((of, Ok(partition))) = place.map(|(of, partition)| (of, partition.parse::<i32>())) else {
            continue;
        };
        if of == topic {
            let text = message.payload().and_then(|text| std::str::from_utf8(text).ok());
            let read = text.and_then(Dealt::parse).ok_or_else(|| {
                let about = format!("{marks}/0/{}", message.offset());
                Fault::new(FaultKind::Corrupt, "W-KAFKA-REJECTED", "read what was dealt with", about)
                    .caused_by("the record does not read as offsets")
            })?;
            dealt.insert(partition, read);
        }
    }
    Ok(dealt)
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
        assert_eq!(dealt.text(), "10 12-15 17-18");
        assert_eq!(Dealt::parse(&dealt.text()), Some(dealt.clone()));
        dealt.add(10);
        dealt.add(11);
        dealt.add(11);
        assert_eq!((dealt.base, dealt.beyond.len()), (15, 1));
    }

    #[test]
    fn what_retention_takes_is_dealt_with_and_marks_of_a_log_that_is_gone_count_for_nothing() {
        let dealt = Dealt { base: 10, beyond: vec![12..15, 17..18] };
        let fitted = |low, high| dealt.clone().fit(low, high).text();
        assert_eq!(fitted(0, 20), "10 12-15 17-18");
        assert_eq!(fitted(11, 20), "11 12-15 17-18");
        assert_eq!(fitted(12, 20), "15 17-18");
        assert_eq!(fitted(13, 20), "15 17-18");
        assert_eq!(fitted(16, 20), "16 17-18");
        assert_eq!(fitted(17, 20), "18");
        assert_eq!(fitted(20, 20), "20");
        assert_eq!(fitted(0, 17), "0");
        assert_eq!(fitted(3, 9), "3");
    }

    #[test]
    fn marks_that_are_none_are_not_read() {
        for text in ["", "x", "10 12", "10 12-x", "10 15-12", "10 9-12", "10 12-15 14-17", "10  12-15"] {
            assert_eq!(Dealt::parse(text), None, "{text:?}");
        }
    }
}
