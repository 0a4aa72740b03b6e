//! Topics: which there are, what is wrong with them, and their creation.

use crate::reader::{consumer, unreachable};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_model::{Fault, FaultKind, TopicName};

const ASK_WAIT: Duration = Duration::from_secs(10);

/// A day: with less retention a consumer that fails on a Friday evening loses records before Monday.
pub const RETENTION_MS_LOW: i64 = 86_400_000;

/// What a topic is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Partitions.
    pub partition_count: usize,
    /// Replicas of its first partition.
    pub replica_count: usize,
    /// Its settings, as the broker tells them; empty when not asked or not allowed.
    pub settings: BTreeMap<String, String>,
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
    admin: AdminClient<DefaultClientContext>,
}

impl Topics {
    /// A client; the brokers are not reached yet.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(bootstrap: &str, properties: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let mut client = ClientConfig::new();
        for (key, value) in properties {
            client.set(key, value);
        }
        client.set("bootstrap.servers", bootstrap);
        let admin = client.create().map_err(|error| {
            Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka client", bootstrap)
                .caused_by(error)
        })?;
        Ok(Self { bootstrap: bootstrap.to_owned(), properties: properties.clone(), admin })
    }

    /// All topics, without settings. Blocks for at most 10 s.
    ///
    /// # Errors
    /// When the brokers cannot be reached.
    pub fn list(&self) -> Result<Vec<Topic>, Fault> {
        let consumer = consumer(&self.bootstrap, &self.properties)?;
        let metadata =
            consumer.fetch_metadata(None, ASK_WAIT).map_err(|error| unreachable(&error, &self.bootstrap))?;
        let mut topics: Vec<Topic> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| Topic {
                name: topic.name().to_owned(),
                partition_count: topic.partitions().len(),
                replica_count: topic.partitions().first().map_or(0, |partition| partition.replicas().len()),
                settings: BTreeMap::new(),
            })
            .collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(topics)
    }

    /// The settings of a topic.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse.
    pub async fn settings(&self, topic: &str) -> Result<BTreeMap<String, String>, Fault> {
        let options = AdminOptions::new().request_timeout(Some(ASK_WAIT));
        let results = self
            .admin
            .describe_configs(&[ResourceSpecifier::Topic(topic)], &options)
            .await
            .map_err(|error| unreachable(&error, topic))?;
        let mut settings = BTreeMap::new();
        for result in results {
            let resource = result.map_err(|code| {
                Fault::new(FaultKind::Transient, "W-KAFKA-TOPIC", "describe a topic", topic)
                    .caused_by(code.to_string())
            })?;
            settings
                .extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// Creates a topic; one that exists already is fine.
    ///
    /// # Errors
    /// When the brokers cannot be reached or refuse.
    pub async fn create(&self, topic: &TopicName, settings: &NewSettings) -> Result<(), Fault> {
        let min_insync = settings.min_insync_replicas.to_string();
        let retention = settings.retention_ms.to_string();
        let new =
            NewTopic::new(topic.as_str(), settings.partitions, TopicReplication::Fixed(settings.replication))
                .set("min.insync.replicas", &min_insync)
                .set("retention.ms", &retention);
        let options = AdminOptions::new().operation_timeout(Some(ASK_WAIT)).request_timeout(Some(ASK_WAIT));
        let results = self
            .admin
            .create_topics([&new], &options)
            .await
            .map_err(|error| unreachable(&error, topic.as_str()))?;
        for result in results {
            if let Err((_, code)) = result
                && code != RDKafkaErrorCode::TopicAlreadyExists
            {
                return Err(Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "create a topic", topic.as_str())
                    .caused_by(code.to_string()));
            }
        }
        Ok(())
    }
}

impl Topic {
    /// What is unwise about this topic, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let number = |key: &str| self.settings.get(key).and_then(|value| value.parse::<i64>().ok());
        let mut warnings = Vec::new();
        if let Some(min_insync) = number("min.insync.replicas") {
            let replicas = i64::try_from(self.replica_count).unwrap_or(i64::MAX);
            if min_insync > replicas {
                warnings.push(format!("min.insync.replicas is {min_insync}, but there are only {replicas} replicas: every write is refused"));
            } else if min_insync < 2 {
                warnings.push(
                    "min.insync.replicas is 1: an acknowledged write can be lost with one broker".to_owned(),
                );
            }
        }
        if self.replica_count < 2 {
            warnings.push(format!("it has {} replica: a lost broker loses it", self.replica_count));
        }
        if let Some(retention) = number("retention.ms")
            && (0..RETENTION_MS_LOW).contains(&retention)
        {
            warnings.push(format!(
                "retention.ms is {retention}, less than a day: a consumer that stops overnight loses records"
            ));
        }
        warnings
    }
}
