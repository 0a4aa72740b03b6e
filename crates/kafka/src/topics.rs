//! Topics: which there are, their settings and where those come from, and their creation.

use crate::ffi::admin::{self, Entry, NewTopic, Refused};
use crate::reader::{consumer, metadata, refuse_addresses, unreachable};
use crate::reasons::Listener;
use rdkafka::admin::AdminClient;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys::{rd_kafka_ConfigSource_t as Source, rd_kafka_resp_err_t as Code};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use weir_model::{Fault, FaultKind, TopicName};

pub(crate) mod terms;

const ASK_WAIT: Duration = Duration::from_secs(10);

/// What a topic is like, as metadata tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Partitions.
    pub partition_count: usize,
    /// Replicas of the partition that has the fewest.
    pub replica_count: usize,
}

/// Where the value of a setting comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is set on the topic itself.
    Topic,
    /// The topic does not set it; a broker's configuration does.
    Broker,
    /// Nobody sets it: Kafka's own default.
    Default,
}

/// The value of a topic's setting that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Value.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Whether a topic exists, as far as this user may know.
#[derive(Debug)]
pub enum Presence {
    /// It exists.
    There,
    /// It does not exist.
    Missing,
    /// The brokers do not say: mostly a missing right to describe it.
    Unknown(Fault),
}

/// How a topic is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSettings {
    /// Partitions.
    pub partitions: i32,
    /// Replicas.
    pub replication: i32,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u32,
    /// `retention.ms`.
    pub retention_ms: u64,
}

/// A client for questions about topics.
pub struct Topics {
    bootstrap: String,
    properties: BTreeMap<String, String>,
    admin: Arc<AdminClient<Listener>>,
}

impl Topics {
    /// A client; the brokers are not reached yet.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(bootstrap: &str, properties: &BTreeMap<String, String>) -> Result<Self, Fault> {
        refuse_addresses(properties)?;
        let mut client = ClientConfig::new();
        for (key, value) in properties {
            client.set(key, value);
        }
        client.set("bootstrap.servers", bootstrap);
        let admin = client.create_with_context(Listener::new(bootstrap)).map_err(|error| {
            Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka client", bootstrap)
                .caused_by(error)
        })?;
        Ok(Self { bootstrap: bootstrap.to_owned(), properties: properties.clone(), admin: Arc::new(admin) })
    }

    /// All topics, without settings. Blocks for at most 10 s.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub fn list(&self) -> Result<Vec<Topic>, Fault> {
        let consumer = consumer(&self.bootstrap, &self.properties)?;
        let metadata = metadata(&consumer, None, &self.bootstrap)?;
        let mut topics: Vec<Topic> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| Topic {
                name: topic.name().to_owned(),
                partition_count: topic.partitions().len(),
                replica_count: fewest_replicas(topic.partitions()),
            })
            .collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(topics)
    }

    /// Ids of the brokers. Blocks for at most 10 s.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub fn brokers(&self) -> Result<Vec<i32>, Fault> {
        let consumer = consumer(&self.bootstrap, &self.properties)?;
        let metadata = metadata(&consumer, None, &self.bootstrap)?;
        let mut ids: Vec<i32> =
            metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether a topic exists. [`Topics::list`] leaves out what this user may not describe. Blocks for at most 10 s.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub fn presence(&self, topic: &str) -> Result<Presence, Fault> {
        let consumer = consumer(&self.bootstrap, &self.properties)?;
        let metadata = metadata(&consumer, Some(topic), &self.bootstrap)?;
        let error = metadata.topics().iter().find(|found| found.name() == topic).map(|found| found.error());
        Ok(match error.map(|error| error.map(RDKafkaErrorCode::from)) {
            Some(None) => Presence::There,
            None | Some(Some(RDKafkaErrorCode::UnknownTopicOrPartition)) => Presence::Missing,
            Some(Some(code)) => Presence::Unknown(unreachable(&KafkaError::MetadataFetch(code), topic)),
        })
    }

    /// The settings of topics that are in force, by topic: for each, why the broker does not tell them.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse the whole question.
    pub async fn describe(&self, topics: &[String]) -> Result<BTreeMap<String, Described>, Fault> {
        if topics.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (admin, topics) = (Arc::clone(&self.admin), topics.to_vec());
        let asked = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            admin::describe_topics(&admin, &names, ASK_WAIT)
        });
        let about = &self.bootstrap;
        let all = asked.await.expect("a question does not panic");
        let all = all.map_err(|refused| self.failed(refused, "describe topics", about))?;
        let one = |(name, described): (String, admin::Described)| {
            let settings = described
                .map(|entries| entries.into_iter().filter_map(setting).collect())
                .map_err(|refused| fault_of(refused, "describe a topic", &name));
            (name, settings)
        };
        Ok(all.into_iter().map(one).collect())
    }

    /// The values of a topic's settings that are in force.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse.
    pub async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>, Fault> {
        // No answer about this topic is no setting known.
        let described = self.describe(&[topic.to_owned()]).await?.remove(topic);
        let settings = described.unwrap_or_else(|| Ok(BTreeMap::new()));
        settings.map(|settings| settings.into_iter().map(|(key, setting)| (key, setting.value)).collect())
    }

    /// Creates a topic that deletes nothing before its retention ends, whatever the brokers' defaults are; one that
    /// exists already is fine.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse; the cause has the broker's own words.
    pub async fn create(&self, topic: &TopicName, settings: &NewSettings) -> Result<(), Fault> {
        self.create_with(topic, settings, &[]).await
    }

    /// The same, with further settings of the topic.
    ///
    /// # Errors
    /// As [`Topics::create`].
    pub async fn create_with(
        &self,
        topic: &TopicName,
        settings: &NewSettings,
        more: &[(&'static str, String)],
    ) -> Result<(), Fault> {
        let mut all = settings.of_topic();
        all.extend(more.iter().cloned());
        let (admin, name) = (Arc::clone(&self.admin), topic.clone());
        let (partitions, replication) = (settings.partitions, settings.replication);
        let asked = tokio::task::spawn_blocking(move || {
            let new = NewTopic { name: name.as_str(), partitions, replication, settings: &all };
            admin::create_topic(&admin, &new, ASK_WAIT)
        });
        match asked.await.expect("a request does not panic") {
            Err(refused) if refused.code != Code::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS => {
                Err(self.failed(refused, "create a topic", topic.as_str()))
            }
            _ => Ok(()),
        }
    }

    /// What a failed request means. When no broker answered, the last reason that librdkafka gave says why.
    fn failed(&self, refused: Refused, doing: &'static str, about: &str) -> Fault {
        match refused.code {
            Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN => {
                let error = KafkaError::AdminOp(refused.code.into());
                self.admin.inner().context().reasons.fault(&error, about)
            }
            _ => fault_of(refused, doing, about),
        }
    }
}

/// The settings of one topic, or why the broker does not tell them.
pub type Described = Result<BTreeMap<String, Setting>, Fault>;

impl NewSettings {
    /// The settings that a new topic is given by name: all that could make Kafka delete a record before its time, so
    /// that no default of the brokers does.
    #[must_use]
    pub fn of_topic(&self) -> Vec<(&'static str, String)> {
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("min.insync.replicas", self.min_insync_replicas.to_string()),
            ("retention.bytes", "-1".to_owned()),
            ("retention.ms", self.retention_ms.to_string()),
        ]
    }
}

fn fewest_replicas(partitions: &[MetadataPartition]) -> usize {
    partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0)
}

fn setting(entry: Entry) -> Option<(String, Setting)> {
    let origin = match entry.source {
        Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_TOPIC_CONFIG => Origin::Topic,
        Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_BROKER_CONFIG
        | Source::RD_KAFKA_CONFIG_SOURCE_DYNAMIC_DEFAULT_BROKER_CONFIG
        | Source::RD_KAFKA_CONFIG_SOURCE_STATIC_BROKER_CONFIG => Origin::Broker,
        _ => Origin::Default,
    };
    Some((entry.name, Setting { value: entry.value?, origin }))
}

/// What a refusal by the brokers means, with their own words as its cause.
pub(crate) fn fault_of(refused: Refused, doing: &'static str, about: &str) -> Fault {
    let (kind, page) = match refused.code {
        Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR__AUTHENTICATION
        | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED => (FaultKind::Denied, "W-KAFKA-DENIED"),
        Code::RD_KAFKA_RESP_ERR__TIMED_OUT
        | Code::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | Code::RD_KAFKA_RESP_ERR__TRANSPORT
        | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
        | Code::RD_KAFKA_RESP_ERR_NOT_CONTROLLER => (FaultKind::Transient, "W-KAFKA-UNREACHABLE"),
        _ => (FaultKind::Config, "W-KAFKA-TOPIC"),
    };
    Fault::new(kind, page, doing, about).caused_by(refused.text)
}
