//! Where the records go: librdkafka's mock cluster in this process, or real Kafka as a process of its own.

use crate::shape::PARTITIONS;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::time::Duration;
use weir_kafka::embedded::EmbeddedLog;
use weir_model::TopicName;
use weir_testkit::engine::kafka::{self, Kafka};

const ASK_WAIT: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Mock,
    Kafka,
}

impl Kind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Mock => "librdkafka mock cluster".to_owned(),
            Self::Kafka => format!("Apache Kafka {}", kafka::VERSION),
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Mock => "mock",
            Self::Kafka => "kafka",
        }
    }
}

/// Real Kafka runs through a whole bench; a mock cluster is made for each run, since it forgets nothing but records.
pub(crate) enum Sink {
    Mock,
    Kafka(Kafka),
}

/// A topic for one run.
pub(crate) struct Target<'s> {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    mock: Option<EmbeddedLog>,
    sink: &'s Sink,
}

impl Sink {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::Mock => Self::Mock,
            Kind::Kafka => Self::Kafka(Kafka::start()),
        }
    }

    /// A fresh topic.
    pub(crate) fn target(&self, topic: &str) -> Target<'_> {
        let mock = matches!(self, Self::Mock).then(|| EmbeddedLog::start(1).unwrap());
        let bootstrap = match (self, &mock) {
            (Self::Kafka(kafka), _) => kafka.bootstrap(),
            (Self::Mock, log) => log.as_ref().unwrap().bootstrap(),
        };
        match &mock {
            Some(log) => log.create_topic(&TopicName::new(topic).unwrap(), PARTITIONS, 1).unwrap(),
            None => {
                let new = NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(1));
                let results = wait(admin(&bootstrap).create_topics([&new], &AdminOptions::new()));
                results.unwrap().into_iter().for_each(|result| drop(result.unwrap()));
            }
        }
        Target { bootstrap, topic: topic.to_owned(), mock, sink: self }
    }
}

impl Target<'_> {
    /// Records in the topic, by its offsets.
    pub(crate) fn record_count(&self) -> i64 {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", &self.bootstrap).create().unwrap();
        let end = |partition| consumer.fetch_watermarks(&self.topic, partition, ASK_WAIT).unwrap().1;
        (0..PARTITIONS).map(end).sum()
    }

    /// From here on no write is answered.
    pub(crate) fn stall(&self) {
        match (&self.mock, self.sink) {
            (Some(log), _) => log.cluster().broker_down(1).unwrap(),
            (None, Sink::Kafka(kafka)) => kafka.pause(),
            (None, Sink::Mock) => unreachable!("a mock sink has a mock cluster"),
        }
    }
}

impl Drop for Target<'_> {
    fn drop(&mut self) {
        if let (None, Sink::Kafka(kafka)) = (&self.mock, self.sink) {
            kafka.resume();
            let results = wait(admin(&self.bootstrap).delete_topics(&[&self.topic], &AdminOptions::new()));
            if let Err(error) = results {
                eprintln!("topic {} stays: {error}", self.topic);
            }
        }
    }
}

fn admin(bootstrap: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap()
}

fn wait<T>(job: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(job)
}
