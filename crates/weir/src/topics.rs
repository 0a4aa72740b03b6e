//! Facts about topics, asked from Kafka for those who decide on them, and the command that creates one.

use crate::captured::{self, Captured};
use crate::config::{Config, unit::Value};
use crate::diagnosis::Finding;
use crate::diagnosis::topic::{self, Facts, KeyOf, Setting, Use, message_bytes_needed};
use std::collections::BTreeMap;
use weir_apps::capture::KeyRule;
use weir_kafka::topics::{NewSettings, Origin, Topic, Topics};

/// `max.message.bytes` of Kafka when nobody sets it.
const MESSAGE_BYTES_DEFAULT: i64 = 1_048_588;

/// A topic that a capture writes to, and what is to be said of it.
pub(crate) struct Judged<'a> {
    /// The topic.
    pub(crate) topic: &'a Topic,
    /// The capture; the first one when several share the topic.
    pub(crate) capture: &'a Captured<'a>,
    /// What `retention.ms` is, when it is known.
    pub(crate) retention_ms: Option<String>,
    /// Its flaws, the gravest first.
    pub(crate) findings: Vec<Finding>,
}

impl Judged<'_> {
    /// The start of each line about it.
    pub(crate) fn subject(&self) -> String {
        format!("capture.{}: topic {}", self.capture.name, self.topic.name)
    }
}

/// Judges every topic that captures write to.
pub(crate) async fn judged<'a>(
    config: &Config,
    client: &Topics,
    existing: &'a [Topic],
    brokers: &[i32],
    captures: &'a [Captured<'a>],
) -> Vec<Judged<'a>> {
    let owner = |topic: &'a Topic| {
        let owner = captured::of_topic(captures, &topic.name).into_iter().next()?;
        Some((topic, owner.0))
    };
    let ours: Vec<(&Topic, &Captured<'_>)> = existing.iter().filter_map(owner).collect();
    let topics: Vec<&Topic> = ours.iter().map(|(topic, _)| *topic).collect();
    let bootstrap = config.log.bootstrap.join(",");
    let judge = |(facts, (topic, capture)): (Facts<'_>, (&'a Topic, &'a Captured<'a>))| {
        let used = Use {
            bootstrap: &bootstrap,
            brokers,
            user: user(config),
            part_bytes: config.log.part_size.as_usize(),
            key: key_of(&capture.settings.key),
        };
        let retention = facts.settings.as_ref().ok().and_then(|settings| settings.get("retention.ms"));
        let retention_ms = retention.map(|setting| setting.value.clone());
        Judged { topic, capture, retention_ms, findings: topic::judge(&facts, &used) }
    };
    facts(client, &topics).await.into_iter().zip(ours).map(judge).collect()
}

/// The topics with their settings; a topic whose settings are refused says why.
async fn facts<'a>(client: &Topics, topics: &[&'a Topic]) -> Vec<Facts<'a>> {
    let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
    // A refusal of the whole question is a refusal for each.
    let (mut described, refused) = match client.describe(&names).await {
        Ok(described) => (described, "the brokers say nothing about it".to_owned()),
        Err(fault) => (BTreeMap::new(), fault.chain()),
    };
    let settings = |name: &str| match described.remove(name) {
        Some(Ok(settings)) => Ok(settings.into_iter().map(setting).collect()),
        Some(Err(fault)) => Err(fault.chain()),
        None => Err(refused.clone()),
    };
    topics
        .iter()
        .zip(names.iter().map(String::as_str).map(settings).collect::<Vec<_>>())
        .map(|(topic, settings)| Facts {
            name: &topic.name,
            partition_count: topic.partition_count,
            replica_count: topic.replica_count,
            settings,
        })
        .collect()
}

fn setting((key, setting): (String, weir_kafka::topics::Setting)) -> (String, Setting) {
    let is_of_topic = setting.origin == Origin::Topic;
    (key, Setting { value: setting.value, is_of_topic })
}

/// What a key of this rule stands for.
const fn key_of(rule: &KeyRule) -> KeyOf {
    match rule {
        KeyRule::Region => KeyOf::Region,
        KeyRule::Row | KeyRule::RowLength(_) | KeyRule::RowDelimiter(_) => KeyOf::Row,
    }
}

/// The Kafka user of the configuration, when it is written there as it is.
pub(crate) fn user(config: &Config) -> Option<&str> {
    match config.log.properties.get("sasl.username")? {
        Value::Plain(name) => Some(name),
        Value::File { .. } | Value::Env { .. } => None,
    }
}

/// How a missing topic is created, on a cluster with this many brokers.
fn new_settings(config: &Config, broker_count: usize) -> NewSettings {
    let settings = &config.log.topics;
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let replication = settings.replication.min(u32::try_from(broker_count).unwrap_or(u32::MAX)).max(1);
    NewSettings {
        partitions: count(settings.partitions),
        replication: count(replication),
        min_insync_replicas: settings.min_insync_replicas.min(replication),
        retention_ms: settings.retention.as_ms(),
    }
}

/// Settings beyond [`NewSettings`] that a topic of this configuration needs, so that no default of the brokers makes it
/// refuse a record.
pub(crate) fn further_settings(config: &Config) -> Vec<(&'static str, String)> {
    let needed = message_bytes_needed(config.log.part_size.as_usize());
    vec![("max.message.bytes", needed.max(MESSAGE_BYTES_DEFAULT).to_string())]
}

/// The command that creates a topic as configured, on a cluster with this many brokers.
pub(crate) fn create_line(config: &Config, topic: &str, broker_count: usize) -> String {
    let new = new_settings(config, broker_count);
    let mut line = format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions {} --replication-factor {}",
        config.log.bootstrap.join(","),
        new.partitions,
        new.replication,
    );
    let mut settings = new.of_topic();
    settings.extend(further_settings(config));
    // The first is the one that is looked for.
    settings.sort_by_key(|(key, _)| (*key != "min.insync.replicas", *key));
    for (key, value) in settings {
        line += &format!(" --config {key}={value}");
    }
    line
}
