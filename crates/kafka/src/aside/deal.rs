//! Deals with dead letters in transactions: what is put back and the mark that says so are there both, or neither.
//!
//! One operator at a time: whoever begins takes over from the one before, whose next step is refused.

use super::marks::{self, Dealt};
use super::{Letter, MARKS};
use crate::ffi::admin::{NewTopic, Refused as Refusal};
use crate::partition;
use crate::reader::unreachable;
use crate::topics::{Topics, fault_of};
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, DefaultClientContext};
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

/// The largest letter: whether the log takes it is the broker's to say.
const RECORD_BYTES_MAX: &str = "104857600";

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
}

impl Dealer {
    /// Takes over from whoever dealt with letters before, and makes the topic for marks when it is not there.
    pub(super) fn begin(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        letters: &str,
    ) -> Result<Self, Fault> {
        let mut client = ClientConfig::new();
        for (key, value) in properties {
            client.set(key, value);
        }
        client.set("bootstrap.servers", bootstrap);
        make_marks(&client, bootstrap, properties, letters)?;
        client.set("transactional.id", MARKS).set("message.max.bytes", RECORD_BYTES_MAX);
        let refused = Refused::default();
        let producer: BaseProducer<Refused> =
            client.create_with_context(refused.clone()).map_err(|error| {
                Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka producer", bootstrap)
                    .caused_by(error)
            })?;
        producer.init_transactions(STEP_WAIT).map_err(|error| failed(&error, MARKS))?;
        Ok(Self { producer, refused, counts: BTreeMap::new() })
    }

    /// Puts letters back to the topics that they came from, with their own key, value, headers and timestamp, and keeps
    /// what was dealt with; all or nothing.
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
            let home = letter.home()?;
            let count = self.count(home.as_str())?;
            let own = letter.headers.iter().filter(|(name, _)| !dead_letter::is_ours(name));
            let headers = own.fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: value.as_ref() })
            });
            let mut record =
                BaseRecord::<[u8], [u8]>::to(home.as_str()).timestamp(letter.timestamp_ms).headers(headers);
            if let Some(key) = &letter.key {
                record = record.key(key).partition(partition::of_key(key, count));
            }
            if let Some(value) = &letter.value {
                record = record.payload(value);
            }
            self.enqueue(record)?;
        }
        for (partition, dealt) in dealt {
            let (key, text) = (marks::key(topic, *partition), dealt.text());
            self.enqueue(BaseRecord::to(MARKS).key(key.as_bytes()).payload(text.as_bytes()).partition(0))?;
        }
        Ok(())
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
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|error| failed(&error, MARKS))?;
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
