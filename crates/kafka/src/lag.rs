//! How far behind a consumer group is, in records and in time, and how old the newest records are.
//!
//! It asks and peeks only: it joins no group and commits nothing.

use crate::reader::{Asker, client_config, create, partitions, unreachable};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_model::Fault;

/// How long one question to the brokers may take.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long all peeks together may take; a record that was not seen by then has no age.
const PEEK_WAIT: Duration = Duration::from_secs(30);

/// Topic and partition.
type Place = (String, i32);

/// How one partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset of the oldest record that the broker still has.
    pub low: i64,
    /// Offset after the newest record.
    pub end: i64,
    /// What the group has committed; `None` when it has committed nothing, or no group was asked about.
    pub committed: Option<i64>,
    /// Timestamp of the oldest record that the group has not read, ms since 1970; without a group, of the newest
    /// record. `None` when there is none.
    pub timestamp_ms: Option<i64>,
    /// Whether no record is left for the group, though its commit is below the end: what lies between is markers of
    /// transactions, records of aborted ones, or what compaction left of them.
    pub is_read: bool,
}

impl PartitionLag {
    /// Where the group goes on reading: never before what the broker still has.
    #[must_use]
    pub fn next(&self) -> i64 {
        self.committed.unwrap_or(self.low).clamp(self.low, self.end.max(self.low))
    }

    /// Offsets between the group and the end; 0 when none of them is a record.
    #[must_use]
    pub fn behind(&self) -> i64 {
        if self.is_read { 0 } else { self.end - self.next() }
    }

    /// Records that the broker has deleted before the group read them.
    #[must_use]
    pub fn expired(&self) -> i64 {
        self.committed.map_or(0, |committed| (self.low - committed).max(0))
    }
}

/// How far a group is behind in each partition of some topics.
///
/// # Errors
/// When the brokers cannot be reached or refuse, or a topic does not exist.
pub fn of_group(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    topics: &[String],
    group: &str,
) -> Result<Vec<PartitionLag>, Fault> {
    let consumer = peeker(bootstrap, properties, group)?;
    let mut lags = ends(&consumer, topics)?;
    let mut asked = TopicPartitionList::new();
    for lag in &lags {
        asked.add_partition(&lag.topic, lag.partition);
    }
    let committed =
        consumer.committed_offsets(asked, ASK_WAIT).map_err(|error| unreachable(&error, group))?;
    for lag in &mut lags {
        lag.committed = match committed.find_partition(&lag.topic, lag.partition) {
            Some(element) => {
                element.error().map_err(|error| unreachable(&error, group))?;
                if let Offset::Offset(offset) = element.offset() { Some(offset) } else { None }
            }
            None => None,
        };
    }
    let places = lags.iter().filter(|lag| lag.behind() > 0).map(|lag| (place(lag), lag.next())).collect();
    date(&consumer, &mut lags, places)?;
    Ok(lags)
}

/// The age of the newest record in each partition of some topics.
///
/// # Errors
/// When the brokers cannot be reached or refuse, or a topic does not exist.
pub fn newest(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    topics: &[String],
) -> Result<Vec<PartitionLag>, Fault> {
    let consumer = peeker(bootstrap, properties, "weir-reader")?;
    let mut lags = ends(&consumer, topics)?;
    let places = lags.iter().filter(|lag| lag.end > lag.low).map(|lag| (place(lag), lag.end - 1)).collect();
    date(&consumer, &mut lags, places)?;
    Ok(lags)
}

fn place(lag: &PartitionLag) -> Place {
    (lag.topic.clone(), lag.partition)
}

fn peeker(bootstrap: &str, properties: &BTreeMap<String, String>, group: &str) -> Result<Asker, Fault> {
    let mut client = client_config(bootstrap, properties)?;
    client
        .set("group.id", group)
        .set("enable.partition.eof", "true")
        // One record of each partition is wanted; a larger one comes all the same.
        .set("fetch.message.max.bytes", "65536");
    create(&client, bootstrap)
}

fn ends(consumer: &Asker, topics: &[String]) -> Result<Vec<PartitionLag>, Fault> {
    let mut lags = Vec::new();
    for topic in topics {
        for partition in partitions(consumer, topic)? {
            let (low, end) = consumer
                .fetch_watermarks(topic, partition, ASK_WAIT)
                .map_err(|error| unreachable(&error, topic))?;
            let topic = topic.clone();
            let (committed, timestamp_ms, is_read) = (None, None, false);
            lags.push(PartitionLag { topic, partition, low, end, committed, timestamp_ms, is_read });
        }
    }
    Ok(lags)
}

/// Reads the first record at or after each place, for its timestamp.
fn date(consumer: &Asker, lags: &mut [PartitionLag], places: BTreeMap<Place, i64>) -> Result<(), Fault> {
    let mut by_topic: BTreeMap<String, BTreeMap<i32, i64>> = BTreeMap::new();
    for ((topic, partition), offset) in places {
        by_topic.entry(topic).or_default().insert(partition, offset);
    }
    let started = Instant::now();
    // One topic after the other, because the end of a partition is told without the name of its topic.
    for (topic, wanted) in by_topic {
        let found = peek(consumer, &topic, wanted, PEEK_WAIT.saturating_sub(started.elapsed()))?;
        for lag in lags.iter_mut().filter(|lag| lag.topic == topic) {
            let found = found.get(&lag.partition).copied();
            lag.timestamp_ms = found.flatten();
            lag.is_read = found == Some(None);
        }
    }
    Ok(())
}

/// Timestamps of the first records at or after these offsets, by partition. `None` where there is no such record: at the
/// end of a partition there may be offsets without one (compaction, transactions). A partition that did not answer in time
/// is left out.
fn peek(
    consumer: &Asker,
    topic: &str,
    mut wanted: BTreeMap<i32, i64>,
    wait_max: Duration,
) -> Result<BTreeMap<i32, Option<i64>>, Fault> {
    let failed = |error: KafkaError| unreachable(&error, topic);
    let mut list = TopicPartitionList::new();
    for (partition, offset) in &wanted {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut found = BTreeMap::new();
    let started = Instant::now();
    while !wanted.is_empty() && started.elapsed() < wait_max {
        let partition = match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            // A late record of the topic before.
            Some(Ok(message)) if message.topic() != topic => continue,
            Some(Ok(message)) => {
                let partition = message.partition();
                if let (true, Some(at)) = (wanted.contains_key(&partition), message.timestamp().to_millis()) {
                    found.insert(partition, Some(at));
                }
                partition
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // A late one of a partition of the topic before says nothing of this one.
                if wanted.contains_key(&partition) {
                    found.entry(partition).or_insert(None);
                }
                partition
            }
            Some(Err(error)) => return Err(failed(error)),
        };
        if wanted.remove(&partition).is_some() {
            let mut done = TopicPartitionList::new();
            done.add_partition(topic, partition);
            consumer.pause(&done).map_err(failed)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_counts_what_is_there_and_says_what_is_gone() {
        let check = |low: i64, end: i64, committed: Option<i64>, expect: (i64, i64, i64)| {
            let (topic, partition, timestamp_ms, is_read) = ("t".to_owned(), 0, None, false);
            let lag = PartitionLag { topic, partition, low, end, committed, timestamp_ms, is_read };
            assert_eq!((lag.next(), lag.behind(), lag.expired()), expect, "{lag:?}");
        };
        check(0, 10, Some(4), (4, 6, 0));
        check(0, 10, None, (0, 10, 0));
        check(7, 10, Some(4), (7, 3, 3));
        check(0, 10, Some(10), (10, 0, 0));
        // A topic that was deleted and made again: what was committed is past its end.
        check(0, 3, Some(10), (3, 0, 0));
    }
}
