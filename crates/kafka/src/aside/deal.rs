//! Deals with dead letters in transactions: what is put back and the mark that says so are there both, or neither.
//!
//! One operator at a time: whoever begins takes over from the one before, whose next step is refused.

use super::marks::{self, Dealt};
use super::{Letter, MARKS, stamp};
use crate::ffi::admin::{NewTopic, Refused as Refusal};
use crate::producer::now_ms;
use crate::reader::{refuse_addresses, unreachable};
use crate::reasons::Listener;
use crate::topics::{Topics, fault_of, terms};
use crate::{partition, parts};
use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use weir_model::{Fault, FaultKind};
use weir_runtime::dead_letter;

/// How long one step of a transaction may take.
const STEP_WAIT: Duration = Duration::from_secs(60);

/// librdkafka's own limit of a record, which is the highest that it takes: whether a letter is too large is the broker's
/// to say.
const RECORD_BYTES_MAX: &str = "1000000000";

/// The first record that was refused: its topic, and why.
#[derive(Clone, Default)]
struct Refused(Arc<Mutex<Option<(String, KafkaError)>>>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = delivered {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
    }
}

/// Who may deal with letters.
pub(super) struct Dealer {
    producer: BaseProducer<Refused>,
    refused: Refused,
    /// Partitions of the topics that letters went back to.
    counts: BTreeMap<String, i32>,
    settings: BTreeMap<String, BTreeMap<String, String>>,
    bootstrap: String,
    properties: BTreeMap<String, String>,
}

impl Dealer {
    /// Takes over from whoever dealt with letters before, and makes the topic for marks when it is not there.
    pub(super) fn begin(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        letters: &str,
    ) -> Result<Self, Fault> {
        refuse_addresses(properties)?;
        let mut client = ClientConfig::new();
        for (key, value) in properties {
            client.set(key, value);
        }
        client.set("bootstrap.servers", bootstrap);
        make_marks(&client, bootstrap, properties, letters)?;
        // Each letter is a batch of its own, well compressed: what a topic took before, it takes again.
        for (key, value) in [
            ("message.max.bytes", RECORD_BYTES_MAX),
            ("batch.num.messages", "1"),
            ("compression.codec", "zstd"),
        ] {
            if !properties.contains_key(key) {
                client.set(key, value);
            }
        }
        client.set("transactional.id", MARKS);
        let refused = Refused::default();
        let producer: BaseProducer<Refused> =
            client.create_with_context(refused.clone()).map_err(|error| {
                Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka producer", bootstrap)
                    .caused_by(error)
            })?;
        producer.init_transactions(STEP_WAIT).map_err(|error| failed(&error, MARKS))?;
        Ok(Self {
            producer,
            refused,
            counts: BTreeMap::new(),
            settings: BTreeMap::new(),
            bootstrap: bootstrap.to_owned(),
            properties: properties.clone(),
        })
    }

    /// Puts letters back to the topics that they came from, with their own key, value and headers, and keeps what was
    /// dealt with; all or nothing.
    pub(super) fn replay(
        &mut self,
        topic: &str,
        letters: &[Letter],
        dealt: &BTreeMap<i32, Dealt>,
    ) -> Result<(), Fault> {
        self.producer.begin_transaction().map_err(|error| self.failed(&error))?;
        let done = self.send(topic, letters, dealt).and_then(|()| {
            let committed = self.producer.commit_transaction(STEP_WAIT);
            committed.map_err(|error| self.failed(&error))
        });
        if done.is_err() {
            // Whoever took over has aborted it already; the broker does after a minute.
            let _ = self.producer.abort_transaction(STEP_WAIT);
        }
        done
    }

    fn send(&mut self, topic: &str, letters: &[Letter], dealt: &BTreeMap<i32, Dealt>) -> Result<(), Fault> {
        for letter in letters {
            self.put_back(letter)?;
        }
        for (partition, dealt) in dealt {
            let (key, text) = (marks::key(topic, *partition), dealt.text());
            self.enqueue(BaseRecord::to(MARKS).key(key.as_bytes()).payload(text.as_bytes()).partition(0))?;
        }
        Ok(())
    }

    /// Puts one letter back, in parts of the same size if it was written in parts. It has its own timestamp where the
    /// topic takes and keeps that; otherwise the present, and its own in a header. A letter that goes back to a retry
    /// topic keeps the headers that say where and when it was written first.
    fn put_back(&mut self, letter: &Letter) -> Result<(), Fault> {
        let home = letter.home()?;
        let count = self.count(home.as_str())?;
        let is_first = letter.header(dead_letter::ORIGIN).is_empty()
            || letter.header(dead_letter::ORIGIN) == letter.header(dead_letter::PLACE);
        let (written_ms, now_ms) = (letter.written_ms(), now_ms());
        let is_kept = is_first && stamp::is_kept(self.settings(home.as_str()), written_ms, now_ms);
        let timestamp_ms = if is_kept { written_ms } else { now_ms };
        let stays = |name: &str| match name {
            dead_letter::ORIGIN => !is_first,
            dead_letter::TIMESTAMP => !is_kept,
            name => !dead_letter::is_ours(name),
        };
        let own = letter.headers.iter().filter(|(name, _)| stays(name));
        let headers = own.fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: value.as_ref() })
        });
        let record = |headers| {
            let mut record =
                BaseRecord::<[u8], [u8]>::to(home.as_str()).timestamp(timestamp_ms).headers(headers);
            if let Some(key) = &letter.key {
                record = record.key(key).partition(partition::of_key(key, count));
            } else if letter.part_bytes > 0 {
                // All parts go to one partition.
                record = record.partition(partition::of_key(&[], count));
            }
            record
        };
        match &letter.value {
            Some(value) if letter.part_bytes > 0 => {
                for (part, bytes) in parts::cut(value, letter.part_bytes) {
                    let text = part.header();
                    let header = Header { key: parts::HEADER, value: Some(&text) };
                    self.enqueue(record(headers.clone().insert(header)).payload(bytes))?;
                }
                Ok(())
            }
            Some(value) => self.enqueue(record(headers).payload(value)),
            None => self.enqueue(record(headers)),
        }
    }

    /// The settings of a topic; looked up once. Empty when the brokers do not tell them.
    fn settings(&mut self, topic: &str) -> &BTreeMap<String, String> {
        let (bootstrap, properties) = (&self.bootstrap, &self.properties);
        self.settings.entry(topic.to_owned()).or_insert_with(|| {
            let all = terms::settings(bootstrap, properties, &[topic.to_owned()]);
            all.into_iter().next().flatten().unwrap_or_default()
        })
    }

    fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), Fault> {
        loop {
            record = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(Code::QueueFull), again)) => {
                    self.producer.poll(Duration::from_millis(100));
                    again
                }
                Err((error, record)) => return Err(failed(&error, record.topic)),
            };
        }
    }

    /// Partitions of a topic; looked up once.
    fn count(&mut self, topic: &str) -> Result<i32, Fault> {
        if let Some(count) = self.counts.get(topic) {
            return Ok(*count);
        }
        let metadata = self.producer.client().fetch_metadata(Some(topic), STEP_WAIT);
        let metadata = metadata.map_err(|error| failed(&error, topic))?;
        let found = metadata.topics().iter().find(|one| one.name() == topic && one.error().is_none());
        let count = found.and_then(|found| i32::try_from(found.partitions().len()).ok()).unwrap_or_default();
        if count == 0 {
            let fault = Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "put a dead letter back", topic);
            return Err(fault.caused_by("the topic that it came from is not there"));
        }
        self.counts.insert(topic.to_owned(), count);
        Ok(count)
    }

    /// Why a step failed: somebody took over, a record was refused, or what the step itself says.
    fn failed(&self, error: &KafkaError) -> Fault {
        if self.producer.client().fatal_error().is_some_and(|(code, _)| is_fenced(code)) {
            return taken_over();
        }
        let first = self.refused.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.map_or_else(|| failed(error, MARKS), |(topic, error)| failed(&error, &topic))
    }
}

/// The compacted topic for marks, with as many replicas as the letters have.
fn make_marks(
    client: &ClientConfig,
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    letters: &str,
) -> Result<(), Fault> {
    let all = Topics::new(bootstrap, properties)?.list()?;
    if all.iter().any(|one| one.name == MARKS) {
        return Ok(());
    }
    let replicas = all.iter().find(|one| one.name == letters).map_or(1, |one| one.replica_count);
    let replicas = i32::try_from(replicas).unwrap_or(1).max(1);
    let admin: AdminClient<Listener> =
        client.create_with_context(Listener::new(bootstrap)).map_err(|error| failed(&error, MARKS))?;
    let settings = [("cleanup.policy", "compact".to_owned())];
    let new = NewTopic { name: MARKS, partitions: 1, replication: replicas, settings: &settings };
    match crate::ffi::admin::create_topic(&admin, &new, STEP_WAIT) {
        Err(refused) if Code::from(refused.code) != Code::TopicAlreadyExists => {
            let text = format!("{}; create it: one partition, cleanup.policy=compact", refused.text);
            Err(fault_of(Refusal { text, ..refused }, "create the topic for marks", MARKS))
        }
        _ => Ok(()),
    }
}

const fn is_fenced(code: Code) -> bool {
    matches!(code, Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch)
}

fn taken_over() -> Fault {
    Fault::new(FaultKind::Config, "W-KAFKA-REJECTED", "deal with dead letters", MARKS)
        .caused_by("somebody else has begun to deal with dead letters; look at the list, and begin again")
}

fn failed(error: &KafkaError, about: &str) -> Fault {
    let code = error.rdkafka_error_code();
    match code {
        Some(code) if is_fenced(code) => taken_over(),
        Some(Code::TransactionalIdAuthorizationFailed) => {
            Fault::new(FaultKind::Denied, "W-KAFKA-DENIED", "deal with dead letters", about)
                .caused_by(format!("allow this user Write and Describe on the transactional id {MARKS}"))
        }
        Some(Code::MessageSizeTooLarge) if about == MARKS => {
            Fault::new(FaultKind::Rejected, "W-KAFKA-REJECTED", "keep which letters were dealt with", about)
                .caused_by("they are too scattered; deal with the older ones first")
        }
        _ => unreachable(error, about),
    }
}
