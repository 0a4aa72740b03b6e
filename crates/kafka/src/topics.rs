//! Topics: which there are, what is wrong with them, and their creation.

use crate::reader::{consumer, metadata, unreachable};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_model::{Fault, FaultKind, TopicName, limits};

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

/// Room that a record needs beside its value: batch and record headers, Weir's own headers, a key of ordinary length.
const RECORD_OVERHEAD_BYTES: i64 = 1024;

/// A bound on timestamps below this, in milliseconds, may refuse the present too: clocks differ, and a record waits for
/// its broker.
const TIMESTAMP_MS_LOW: i64 = 60_000;

/// Something about a topic that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// One sentence.
    pub text: String,
    /// Whether writes fail by it; otherwise it is unwise only.
    pub is_wrong: bool,
    /// The setting that mends it, with its value; `None` when no setting does.
    pub setting: Option<(&'static str, i64)>,
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
        let metadata = metadata(&consumer, None, &self.bootstrap)?;
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
            let resource = result.map_err(|code| crate::meaning::fault(code, "describe a topic", topic))?;
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
    /// What is wrong or unwise about this topic, when records have values of at most this many bytes.
    #[must_use]
    pub fn complaints(&self, value_bytes_max: usize) -> Vec<Complaint> {
        let number = |key: &str| self.settings.get(key).and_then(|value| value.parse::<i64>().ok());
        let replicas = i64::try_from(self.replica_count).unwrap_or(i64::MAX);
        let mut complaints = Vec::new();
        if let Some(min_insync) = number("min.insync.replicas") {
            if min_insync > replicas {
                complaints.push(Complaint {
                    // Kafka's manual says that such a write is refused; 4.3.1 was seen to take it.
                    text: format!("min.insync.replicas is {min_insync}, but replicas are {replicas}: a broker refuses every write, or (seen with 4.3.1) keeps fewer copies than asked for"),
                    is_wrong: true,
                    setting: Some(("min.insync.replicas", replicas)),
                });
            } else if min_insync < 2 && replicas > 1 {
                complaints.push(Complaint {
                    text: "min.insync.replicas is 1: an acknowledged write can be lost with one broker"
                        .to_owned(),
                    is_wrong: false,
                    setting: Some(("min.insync.replicas", 2)),
                });
            }
        }
        if replicas < 2 {
            let text = format!("it has {replicas} replica: a lost broker loses it");
            complaints.push(Complaint { text, is_wrong: false, setting: None });
        }
        let needed = i64::try_from(value_bytes_max).unwrap_or(i64::MAX).saturating_add(RECORD_OVERHEAD_BYTES);
        if let Some(most) = number("max.message.bytes").filter(|most| *most < needed) {
            complaints.push(Complaint {
                text: format!("max.message.bytes is {most}, less than log.part-size and its headers ({needed}): large records are refused"),
                is_wrong: true,
                setting: Some(("max.message.bytes", needed)),
            });
        }
        complaints.extend(self.timestamps());
        if let Some(retention) = number("retention.ms").filter(|ms| (0..RETENTION_MS_LOW).contains(ms)) {
            complaints.push(Complaint {
                text: format!("retention.ms is {retention}, less than a day: a consumer that stops overnight loses records"),
                is_wrong: false,
                setting: Some(("retention.ms", 7 * RETENTION_MS_LOW)),
            });
        }
        complaints
    }
}

impl Topic {
    /// Bounds on timestamps that are tighter than what a record may have.
    fn timestamps(&self) -> Vec<Complaint> {
        let set = |key: &str| self.settings.get(key).map(String::as_str);
        // The broker writes its own time then, and looks at no bound.
        if set("message.timestamp.type") == Some("LogAppendTime") {
            return vec![Complaint {
                text: "message.timestamp.type is LogAppendTime: a record's timestamp is when the broker took it, and the write time is in the header weir alone".to_owned(),
                is_wrong: false,
                setting: None,
            }];
        }
        let bounds = [
            ("message.timestamp.before.max.ms", limits::RECORD_AGE_MS_MAX, "older"),
            ("message.timestamp.after.max.ms", limits::RECORD_AHEAD_MS_MAX, "further ahead"),
            // Kafka before 3.6.
            ("message.timestamp.difference.max.ms", limits::RECORD_AGE_MS_MAX, "further away"),
        ];
        let tight = bounds.into_iter().filter_map(|(key, needed, words)| {
            let most = set(key)?.parse::<i64>().ok().filter(|most| *most < needed)?;
            let is_wrong = most < TIMESTAMP_MS_LOW;
            let then = if is_wrong {
                "a record that waits that long for the broker, or differs by its clock, is refused"
            } else {
                "they get the time of capture as their timestamp"
            };
            let text = format!("{key} is {most}, less than {needed}: it refuses the write times of entries that are {words}, and {then}");
            Some(Complaint { text, is_wrong, setting: Some((key, needed)) })
        });
        tight.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_complained_about_with_the_setting_that_mends_it() {
        let check =
            |replica_count: usize, settings: &[(&str, &str)], expect: &[(bool, Option<(&str, i64)>)]| {
                let settings =
                    settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
                let topic = Topic { name: "t".to_owned(), partition_count: 1, replica_count, settings };
                let got = topic.complaints(900);
                let got: Vec<_> = got.iter().map(|one| (one.is_wrong, one.setting)).collect();
                assert_eq!(got, expect);
            };
        check(3, &[("min.insync.replicas", "2"), ("retention.ms", "-1"), ("max.message.bytes", "1924")], &[]);
        check(2, &[("min.insync.replicas", "3")], &[(true, Some(("min.insync.replicas", 2)))]);
        check(3, &[("min.insync.replicas", "1")], &[(false, Some(("min.insync.replicas", 2)))]);
        check(1, &[("min.insync.replicas", "1")], &[(false, None)]);
        check(3, &[("max.message.bytes", "1923")], &[(true, Some(("max.message.bytes", 1924)))]);
        check(3, &[("retention.ms", "3600000")], &[(false, Some(("retention.ms", 604_800_000)))]);
        let before = "message.timestamp.before.max.ms";
        check(3, &[(before, "600000")], &[(false, Some((before, 3_600_000)))]);
        check(3, &[(before, "5000")], &[(true, Some((before, 3_600_000)))]);
        check(3, &[(before, "9223372036854775807"), ("message.timestamp.after.max.ms", "3600000")], &[]);
        check(3, &[("message.timestamp.type", "LogAppendTime"), (before, "600000")], &[(false, None)]);
        check(3, &[], &[]);
    }
}
