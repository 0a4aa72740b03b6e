//! A look at the topics when `weir run` starts: what is missing or unwise is logged with the command that mends it.
//!
//! It holds nothing up: Kafka may be away at the start, and a missing topic fails its own calls only.

use crate::config::Config;
use std::time::Duration;
use weir_kafka::topics::{Topic, Topics};
use weir_model::{Fault, TableName, TopicNaming};

/// Time between two looks while Kafka does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What is wrong with one topic, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The topic.
    pub topic: String,
    /// What is wrong with it.
    pub what: String,
}

/// Looks until Kafka has answered once, and logs what it found.
pub async fn watch(config: Config) {
    loop {
        match look(&config).await {
            Ok(findings) => {
                for Finding { topic, what } in &findings {
                    tracing::warn!(topic = %topic, "{what}");
                }
                tracing::info!(findings = findings.len(), "topics are checked; `weir check` says more");
                return;
            }
            Err(fault) => tracing::warn!(error = %fault.chain(), "topics are not checked yet"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Looks once.
///
/// # Errors
/// When Kafka does not answer.
pub async fn look(config: &Config) -> Result<Vec<Finding>, Fault> {
    let bootstrap = config.log.bootstrap.join(",");
    let properties = config.log.read_properties()?;
    // Listing blocks, and creating the client reads files.
    let listing = tokio::task::spawn_blocking(move || {
        let client = Topics::new(&bootstrap, &properties)?;
        let topics = client.list()?;
        Ok::<_, Fault>((client, topics))
    });
    let (client, topics) = listing.await.expect("listing does not panic")?;
    let mut findings = Vec::new();
    for (topic, is_wanted) in ours(config, &topics) {
        let Some(found) = topics.iter().find(|found| found.name == topic) else {
            if is_wanted && !config.log.topics.create {
                let what = format!(
                    "it is missing, so calls with its table fail: {}",
                    create_line(config, &topic, u32::MAX)
                );
                findings.push(Finding { topic, what });
            }
            continue;
        };
        let mut found: Topic = found.clone();
        found.settings = client.settings(&found.name).await?;
        let complaints = found.complaints(config.log.part_size.as_usize());
        findings.extend(complaints.into_iter().map(|one| Finding { topic: topic.clone(), what: one.text }));
    }
    Ok(findings)
}

/// Topics that captures write to, and whether a table that the configuration names needs it.
fn ours(config: &Config, topics: &[Topic]) -> Vec<(String, bool)> {
    let mut ours: Vec<(String, bool)> = Vec::new();
    for section in config.capture.values() {
        let Ok(rule) = TopicNaming::new(&section.topic.prefix, &section.topic.suffix) else { continue };
        let named = section.tables.include.iter().filter(|table| !table.contains('*'));
        for name in named {
            let own = section.topic.names.get(name).cloned();
            let by_rule = || Some(rule.topic(&TableName::new(name).ok()?).ok()?.to_string());
            ours.extend(own.or_else(by_rule).map(|topic| (topic, true)));
        }
        let here = topics.iter().filter(|topic| rule.table(&topic.name).is_some());
        ours.extend(here.map(|topic| (topic.name.clone(), false)));
    }
    // The wanted one of two comes first.
    ours.sort_by_key(|(topic, is_wanted)| (topic.clone(), !is_wanted));
    ours.dedup_by(|next, kept| next.0 == kept.0);
    ours
}

/// The command that creates a topic as configured, on a cluster with at least so many brokers.
pub(crate) fn create_line(config: &Config, topic: &str, brokers_max: u32) -> String {
    let settings = &config.log.topics;
    let replication = settings.replication.min(brokers_max);
    format!(
        "kafka-topics.sh --bootstrap-server {} --create --topic {topic} --partitions {} --replication-factor {replication} \
         --config min.insync.replicas={}",
        config.log.bootstrap.join(","),
        settings.partitions,
        settings.min_insync_replicas.min(replication)
    )
}
