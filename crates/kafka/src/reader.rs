//! Reads topics from a place on, in the order of each partition, with parts put together.
//!
//! No consumer group, no commits: for `weir log`, tests and the demonstration.

use crate::ffi::consumer::waiting;
use crate::meaning;
use crate::parts::{Assembler, HEADER, Part};
use crate::reasons::{Hears, Listener, is_damage};
use rdkafka::TopicPartitionList;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};

/// How long one question to the brokers may take.
const ASK_WAIT: Duration = Duration::from_secs(10);

/// The first try of a question; each one is twice as long as the one before. In between what librdkafka tells is heard.
const FIRST_TRY: Duration = Duration::from_millis(250);

/// Events that are served in one go.
pub(crate) const EVENTS_MAX: usize = 1000;

/// The largest answer of a broker that is read, which is librdkafka's highest value: a topic's largest record passes.
pub(crate) const RESPONSE_BYTES_MAX: &str = "2147483647";

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest record there is.
    Beginning,
    /// After the newest record there is now.
    End,
    /// The first record with a timestamp at or after this, ms since 1970.
    Since(i64),
    /// So many records before the end of each partition.
    Last(i64),
}

/// One record, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset; of the last part, when it came in parts.
    pub offset: i64,
    /// Timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl LogRecord {
    /// The text of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        std::str::from_utf8(value).ok()
    }
}

/// A reader of all partitions of some topics.
pub struct Reader {
    consumer: Asker,
    assemblers: HashMap<(String, i32), Assembler>,
    /// End of each partition when it was last asked, and how far it was read.
    ends: BTreeMap<(String, i32), i64>,
    next: BTreeMap<(String, i32), i64>,
}

impl Reader {
    /// Opens the topics.
    ///
    /// # Errors
    /// When the brokers cannot be reached, or a topic does not exist.
    pub fn open(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        topics: &[String],
        start: Start,
    ) -> Result<Self, Fault> {
        let consumer = consumer(bootstrap, properties)?;
        let mut reader =
            Self { consumer, assemblers: HashMap::new(), ends: BTreeMap::new(), next: BTreeMap::new() };
        for topic in topics {
            for partition in partitions(&reader.consumer, topic)? {
                reader.ends.insert((topic.clone(), partition), 0);
            }
        }
        let mut list = TopicPartitionList::new();
        let mut by_time = TopicPartitionList::new();
        for (topic, partition) in reader.ends.keys() {
            if let Start::Since(at_ms) = start {
                add(&mut by_time, topic, *partition, Offset::Offset(at_ms))?;
            }
        }
        let found = match start {
            Start::Since(_) => Some(
                reader
                    .consumer
                    .offsets_for_times(by_time, ASK_WAIT)
                    .map_err(|error| unreachable(&error, "offsets"))?,
            ),
            Start::Beginning | Start::End | Start::Last(_) => None,
        };
        for ((topic, partition), end) in &mut reader.ends {
            let (low, high) = reader
                .consumer
                .fetch_watermarks(topic, *partition, ASK_WAIT)
                .map_err(|error| unreachable(&error, topic))?;
            *end = high;
            let from = match start {
                Start::Beginning => low,
                Start::End => high,
                Start::Last(count) => (high - count).max(low),
                Start::Since(_) => match found
                    .as_ref()
                    .and_then(|list| list.find_partition(topic, *partition))
                    .map(|element| element.offset())
                {
                    Some(Offset::Offset(offset)) => offset,
                    _ => high,
                },
            };
            reader.next.insert((topic.clone(), *partition), from);
            add(&mut list, topic, *partition, Offset::Offset(from))?;
        }
        reader.consumer.assign(&list).map_err(|error| unreachable(&error, "partitions"))?;
        Ok(reader)
    }

    /// Waits for the next record; `None` when none came in time.
    ///
    /// # Errors
    /// When the brokers refuse, or parts do not make a whole.
    pub fn next(&mut self, wait_max: Duration) -> Result<Option<LogRecord>, Fault> {
        let Some(polled) = self.consumer.poll(wait_max) else { return Ok(None) };
        let message = match polled {
            Ok(message) => message,
            Err(KafkaError::PartitionEOF(_)) => return Ok(None),
            Err(error) => return Err(self.consumer.context().reasons.fault(&error, "records")),
        };
        let (topic, partition) = (message.topic().to_owned(), message.partition());
        self.next.insert((topic.clone(), partition), message.offset() + 1);
        let mut headers = Vec::new();
        let mut part = None;
        if let Some(list) = message.headers() {
            for header in list.iter() {
                let value = header.value.unwrap_or_default();
                if header.key == HEADER {
                    part = Part::parse(value);
                } else {
                    headers.push((header.key.to_owned(), value.to_vec()));
                }
            }
        }
        let key = message.key().unwrap_or_default().to_vec();
        let mut value = message.payload().unwrap_or_default().to_vec();
        if let Some(part) = part {
            let assembler = self.assemblers.entry((topic.clone(), partition)).or_default();
            let whole = assembler.add(&key, part, &value).map_err(|error| {
                Fault::new(FaultKind::Corrupt, "W-KAFKA-REJECTED", "put parts together", topic.clone())
                    .caused_by(error)
            })?;
            match whole {
                Some(whole) => value = whole,
                None => return Ok(None),
            }
        }
        Ok(Some(LogRecord {
            topic,
            partition,
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
            key,
            value,
            headers,
        }))
    }

    /// Whether everything that was there when the ends were last asked has been read.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.ends.iter().all(|(place, end)| self.next.get(place).is_some_and(|next| next >= end))
    }

    /// Asks for the ends anew.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub fn ask_ends(&mut self) -> Result<(), Fault> {
        for ((topic, partition), end) in &mut self.ends {
            let (_, high) = self
                .consumer
                .fetch_watermarks(topic, *partition, ASK_WAIT)
                .map_err(|error| unreachable(&error, topic))?;
            *end = high;
        }
        Ok(())
    }

    /// Records between what was read and the ends last asked, over all partitions.
    #[must_use]
    pub fn behind(&self) -> i64 {
        self.ends
            .iter()
            .map(|(place, end)| (end - self.next.get(place).copied().unwrap_or_default()).max(0))
            .sum()
    }

    /// Reads until the end as of now.
    ///
    /// # Errors
    /// As [`Reader::next`]; or `Transient` when the end is not reached within the deadline.
    pub fn read_to_end(&mut self, deadline: Duration) -> Result<Vec<LogRecord>, Fault> {
        let started = Instant::now();
        self.ask_ends()?;
        let mut records = Vec::new();
        while !self.is_at_end() {
            if started.elapsed() > deadline {
                let about = format!("{} records are still to come after {deadline:?}", self.behind());
                return Err(Fault::new(
                    FaultKind::Transient,
                    "W-KAFKA-UNREACHABLE",
                    "read to the end",
                    about,
                ));
            }
            records.extend(self.next(Duration::from_millis(100))?);
        }
        Ok(records)
    }
}

/// A consumer that only asks and reads.
pub(crate) type Asker = BaseConsumer<Listener>;

/// A consumer without a group of its own.
pub(crate) fn consumer(bootstrap: &str, properties: &BTreeMap<String, String>) -> Result<Asker, Fault> {
    create(&client_config(bootstrap, properties)?, bootstrap)
}

/// A consumer by these settings.
pub(crate) fn create(client: &ClientConfig, bootstrap: &str) -> Result<Asker, Fault> {
    client.create_with_context(Listener::new(bootstrap)).map_err(|error| {
        Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka consumer", bootstrap).caused_by(error)
    })
}

/// Settings of every consumer of ours.
///
/// # Errors
/// When a property is the business of a field.
pub(crate) fn client_config(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
) -> Result<ClientConfig, Fault> {
    refuse_addresses(properties)?;
    let mut client = ClientConfig::new();
    // The checksum of a batch is all that tells damage on a broker's disk from a record.
    client.set("check.crcs", "true");
    for (key, value) in properties {
        client.set(key, value);
    }
    client
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "weir-reader")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        // The default of a second stalls a fast reader (librdkafka issue 3662).
        .set("fetch.queue.backoff.ms", "5")
        // A question for the ends stands in line behind a waiting fetch on the same connection.
        .set("fetch.wait.max.ms", "50")
        .set("receive.message.max.bytes", RESPONSE_BYTES_MAX)
        .set("queued.max.messages.kbytes", "65536");
    client.set_log_level(log_level(properties));
    Ok(client)
}

/// Refuses the properties that a field of its own would overrule.
pub(crate) fn refuse_addresses(properties: &BTreeMap<String, String>) -> Result<(), Fault> {
    for key in ["bootstrap.servers", "metadata.broker.list"] {
        if properties.contains_key(key) {
            let about = format!("properties.\"{key}\"");
            return Err(Fault::new(
                FaultKind::Config,
                "W-CONFIG",
                "take a setting that has a field of its own",
                about,
            )
            .caused_by("set bootstrap"));
        }
    }
    Ok(())
}

/// What of librdkafka's log comes: warnings, unless the properties ask for more.
pub(crate) fn log_level(properties: &BTreeMap<String, String>) -> RDKafkaLogLevel {
    let asked = properties.get("log_level").and_then(|level| level.parse().ok());
    match asked {
        // Syslog's numbers.
        Some(i32::MIN..=3) => RDKafkaLogLevel::Error,
        Some(4) => RDKafkaLogLevel::Warning,
        Some(5) => RDKafkaLogLevel::Notice,
        Some(6) => RDKafkaLogLevel::Info,
        Some(7..) => RDKafkaLogLevel::Debug,
        None if properties.get("debug").is_some_and(|debug| !debug.is_empty()) => RDKafkaLogLevel::Debug,
        None => RDKafkaLogLevel::Warning,
    }
}

/// The partitions of a topic.
pub(crate) fn partitions(consumer: &Asker, topic: &str) -> Result<Vec<i32>, Fault> {
    let metadata = metadata(consumer, Some(topic), topic)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: Vec<i32> = found
        .filter(|found| found.error().is_none())
        .map(|found| found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect())
        .unwrap_or_default();
    if partitions.is_empty() {
        return Err(Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "find the topic", topic));
    }
    Ok(partitions)
}

fn add(list: &mut TopicPartitionList, topic: &str, partition: i32, offset: Offset) -> Result<(), Fault> {
    list.add_partition_offset(topic, partition, offset).map_err(|error| unreachable(&error, topic))
}

/// What an error of a question means to us.
pub(crate) fn unreachable(error: &KafkaError, about: &str) -> Fault {
    if let Some(code) = error.rdkafka_error_code().filter(|code| is_damage(*code)) {
        return Fault::new(FaultKind::Corrupt, "W-KAFKA-DAMAGED", "read from Kafka", about)
            .caused_by(code.to_string());
    }
    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::UnknownPartition) {
        // A consumer that has lost its brokers says so until it has read the metadata again.
        return Fault::new(FaultKind::Transient, meaning::UNREACHABLE, "read from Kafka", about)
            .caused_by(RDKafkaErrorCode::UnknownPartition.to_string());
    }
    // The error's own text says its code twice.
    if let Some(code) = error.rdkafka_error_code() {
        return meaning::fault(code, "read from Kafka", about);
    }
    Fault::new(FaultKind::Transient, meaning::UNREACHABLE, "read from Kafka", about)
        .caused_by(error.to_string())
}

/// Asks for the metadata of one topic or of all. Blocks for at most 10 s, and not that long when the reason is final.
///
/// librdkafka says "timed out" to whoever waits, and the reason elsewhere: that is listened to between short tries. For
/// a consumer without an assignment: records would be thrown away.
pub(crate) fn metadata<C: Hears>(
    consumer: &BaseConsumer<C>,
    topic: Option<&str>,
    about: &str,
) -> Result<Metadata, Fault> {
    let began = Instant::now();
    let mut wait = FIRST_TRY;
    loop {
        let tried = Instant::now();
        let left = ASK_WAIT.saturating_sub(began.elapsed());
        let error = match consumer.fetch_metadata(topic, wait.min(left).max(FIRST_TRY)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        hear(consumer);
        if let Some(fault) = consumer.context().reasons().is_final(about) {
            return Err(fault);
        }
        if began.elapsed() >= ASK_WAIT || unreachable(&error, about).kind() != FaultKind::Transient {
            return Err(consumer.context().reasons().fault(&error, about));
        }
        // It does not wait when it knows of no broker.
        std::thread::sleep(FIRST_TRY.saturating_sub(tried.elapsed()));
        wait *= 2;
    }
}

/// Has what librdkafka tells come to the context.
pub(crate) fn hear<C: ConsumerContext>(consumer: &BaseConsumer<C>) {
    let client = consumer.client().native_ptr();
    for _ in 0..EVENTS_MAX {
        if waiting(client) == 0 {
            return;
        }
        drop(consumer.poll(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::types::RDKafkaErrorCode as Code;

    #[test]
    fn a_refusal_is_told_from_a_silence() {
        let check = |code: Code, expect: (FaultKind, &str)| {
            let fault = unreachable(&KafkaError::MetadataFetch(code), "b:1");
            assert_eq!((fault.kind(), fault.code()), expect);
            assert_eq!(fault.chain().matches(&code.to_string()).count(), 1, "{}", fault.chain());
        };
        check(Code::GroupAuthorizationFailed, (FaultKind::Denied, "W-KAFKA-DENIED"));
        check(Code::SaslAuthenticationFailed, (FaultKind::Denied, "W-KAFKA-DENIED"));
        check(Code::BrokerTransportFailure, (FaultKind::Transient, "W-KAFKA-UNREACHABLE"));
    }
}
