//! Topics beside the one at full rate, and what else happens to topics: partitions are added, transactions are committed
//! and aborted, a topic is deleted and created again. The record of each value has a number of its own, and the members
//! keep a byte for each number that they have done.

use crate::consumer::kill::committed;
use crate::consumer::logs::real::{admin, delete};
use crate::consumer::{create, until};
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_testkit::engine::kafka::Kafka;

/// Gets partitions added.
pub(super) const GROWN: &str = "grown";
/// Is written in transactions.
pub(super) const TRANSACTED: &str = "transacted";
/// Is deleted and created again.
pub(super) const REMADE: &str = "remade";

/// Where members keep a byte for each number.
pub(super) const FILE: &str = "side";

/// Records of one act in one partition.
const RECORDS: u64 = 20;

const PARTITIONS_MAX: i32 = 16;

/// How long one request may take; the broker may just have been restarted.
const WAIT: Duration = Duration::from_secs(30);

/// The numbers that a producer's broker has acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<BTreeSet<u64>>>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Ok(message) = delivered {
            let number = std::str::from_utf8(message.payload().unwrap()).unwrap().parse().unwrap();
            self.0.lock().unwrap().insert(number);
        }
    }
}

/// The topics beside, and what was written to them.
pub(super) struct Side {
    folder: PathBuf,
    partitions: i32,
    next: u64,
    /// Written for good: each must be handled.
    expected: BTreeSet<u64>,
    /// Aborted: none may be handled.
    aborted: BTreeSet<u64>,
}

impl Side {
    pub(super) async fn start(kafka: &Kafka, folder: PathBuf) -> Self {
        for topic in [GROWN, TRANSACTED, REMADE] {
            create(kafka, topic, 1).await;
        }
        Self { folder, partitions: 1, next: 0, expected: BTreeSet::new(), aborted: BTreeSet::new() }
    }

    /// Sends one record for each of some new numbers to each of these partitions; the numbers that were acknowledged.
    fn send(&mut self, producer: &BaseProducer<Acknowledged>, topic: &str, partitions: i32) -> BTreeSet<u64> {
        let before = producer.context().0.lock().unwrap().clone();
        for partition in 0..partitions {
            for number in self.next..self.next + RECORDS {
                let text = number.to_string();
                producer.send(BaseRecord::to(topic).partition(partition).key(&text).payload(&text)).unwrap();
            }
            self.next += RECORDS;
        }
        producer.flush(WAIT).unwrap();
        let now = producer.context().0.lock().unwrap();
        now.difference(&before).copied().collect()
    }

    /// A partition is added, and each partition is written to at once.
    pub(super) async fn grow(&mut self, kafka: &Kafka) {
        if self.partitions < PARTITIONS_MAX {
            self.partitions += 1;
            let more = [NewPartitions::new(GROWN, usize::try_from(self.partitions).unwrap())];
            let grown = admin(kafka).create_partitions(&more, &AdminOptions::new()).await.unwrap();
            assert!(grown.iter().all(Result::is_ok), "{grown:?}");
        }
        let written = self.send(&producer(kafka, None), GROWN, self.partitions);
        self.expected.extend(written);
    }

    /// One transaction is committed, and the one after it aborted: the log ends with markers.
    pub(super) fn transact(&mut self, kafka: &Kafka) {
        let producer = producer(kafka, Some("soak"));
        producer.init_transactions(WAIT).unwrap();
        producer.begin_transaction().unwrap();
        let written = self.send(&producer, TRANSACTED, 1);
        producer.commit_transaction(WAIT).unwrap();
        self.expected.extend(written);
        producer.begin_transaction().unwrap();
        let written = self.send(&producer, TRANSACTED, 1);
        producer.abort_transaction(WAIT).unwrap();
        self.aborted.extend(written);
    }

    /// What the topic had is done; then it is deleted, created again and written to at once.
    pub(super) async fn remake(&mut self, kafka: &Kafka) {
        let written = self.send(&producer(kafka, None), REMADE, 1);
        self.expected.extend(written);
        until("the topic that goes away is done", || self.missing() == 0).await;
        delete(kafka, REMADE).await;
        create(kafka, REMADE, 1).await;
        let written = self.send(&producer(kafka, None), REMADE, 1);
        assert_eq!(written.len() as u64, RECORDS, "a topic that was just created takes records");
        self.expected.extend(written);
    }

    fn done(&self) -> Vec<u8> {
        std::fs::read(self.folder.join(FILE)).unwrap_or_default()
    }

    /// How many numbers were not handled that must be.
    pub(super) fn missing(&self) -> usize {
        let done = self.done();
        let is_done = |number: &u64| done.get(usize::try_from(*number).unwrap()) == Some(&1);
        self.expected.iter().filter(|number| !is_done(number)).count()
    }

    /// How many numbers of aborted transactions were handled.
    pub(super) fn aborted_and_handled(&self) -> usize {
        let done = self.done();
        self.aborted.iter().filter(|number| done.get(usize::try_from(**number).unwrap()) == Some(&1)).count()
    }

    /// How many records were written for good.
    pub(super) fn written(&self) -> usize {
        self.expected.len()
    }

    /// Whether the group's position is the end of the topic that is written in transactions, markers included.
    pub(super) fn is_at_the_end(&self, kafka: &Kafka, asker: &BaseConsumer) -> bool {
        let end = asker.fetch_watermarks(TRANSACTED, 0, WAIT).map_or(-1, |(_, end)| end);
        end == 0 || committed(kafka, "g", TRANSACTED, 0).is_some_and(|(offset, _)| offset == end)
    }
}

fn producer(kafka: &Kafka, transactional_id: Option<&str>) -> BaseProducer<Acknowledged> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.bootstrap()).set("acks", "all");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    config.create_with_context(Acknowledged::default()).unwrap()
}
