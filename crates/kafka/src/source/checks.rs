//! What is looked at before a consumer starts: each refusal names the field, and what mends it.

use super::committed::{Answer, GroupCommits};
use super::{Context, KafkaSource, SourceConfig, is_denied, patterns};
use crate::reader::metadata;
use crate::reasons::Hears;
use crate::topics::{Topics, terms};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::record::Place;
use weir_runtime::source::{Membership, Retention};

/// How long the group's first answer is waited for. A coordinator that is on the move is no reason not to start.
const GROUP_WAIT: Duration = Duration::from_secs(5);

/// librdkafka's default.
const MAX_POLL_INTERVAL_MS: u64 = 300_000;

/// A setting that cannot be.
pub(super) fn wrong(field: impl Into<String>, why: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Config, "W-CONFIG", "configure the Kafka source", field).caused_by(why.into())
}

/// How long a topic that is not there is looked for.
const NEW_TOPIC_WAIT: Duration = Duration::from_secs(2);

/// What librdkafka says to a setting.
pub(super) fn refused(error: KafkaError, bootstrap: &str) -> Fault {
    match error {
        KafkaError::ClientConfig(_, why, key, _) if !key.is_empty() => wrong(
            format!("properties.\"{key}\""),
            format!("{why}; the names and values are those of librdkafka's CONFIGURATION.md"),
        ),
        error => wrong(bootstrap, error.to_string()),
    }
}

/// Each topic is there, and we may see it.
pub(super) fn topics<C: Hears>(
    consumer: &BaseConsumer<C>,
    topics: &[String],
) -> Result<Option<Place>, Fault> {
    let mut any = None;
    for topic in topics.iter().filter(|topic| !patterns::is_pattern(topic)) {
        let started = Instant::now();
        let first = loop {
            let metadata = metadata(consumer, Some(topic), topic)?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            match found.and_then(|found| found.error()).map(RDKafkaErrorCode::from) {
                // It may have been made just now: a broker hears of it after the controller.
                Some(code) if is_missing(code) && started.elapsed() < NEW_TOPIC_WAIT => {
                    std::thread::sleep(NEW_TOPIC_WAIT / 10);
                }
                Some(code) => return Err(unreadable(code, topic)),
                None => break found.and_then(|found| found.partitions().first().map(|first| first.id())),
            }
        };
        any = any.or_else(|| first.map(|partition| Place::new(topic, partition)));
    }
    Ok(any)
}

const fn is_missing(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)
}

fn unreadable(code: RDKafkaErrorCode, topic: &str) -> Fault {
    use RDKafkaErrorCode as Error;
    let (kind, page, mend) = match code {
        Error::UnknownTopic | Error::UnknownTopicOrPartition | Error::InvalidTopic => {
            (FaultKind::Config, "W-KAFKA-TOPIC", "; create it, or take it out of `topics`")
        }
        code if is_denied(code) => {
            (FaultKind::Denied, "W-KAFKA-DENIED", "; allow this user Read and Describe on the topic")
        }
        code => return crate::meaning::fault(code, "read a topic of `topics`", topic),
    };
    Fault::new(kind, page, "read a topic of `topics`", topic).caused_by(format!("{code}{mend}"))
}

/// The group's commits may be read; asked of one partition.
pub(super) fn group(
    consumer: &BaseConsumer<Context>,
    commits: &GroupCommits,
    place: &Place,
    group: &str,
) -> Result<(), Fault> {
    const LOOK: Duration = Duration::from_millis(100);
    commits.ask(std::slice::from_ref(place), GROUP_WAIT);
    let started = Instant::now();
    let code = loop {
        match commits.answer(Duration::ZERO) {
            Some(Answer::Commits(Ok(all))) => break all.first().map(|one| one.code.into()),
            Some(Answer::Commits(Err(code))) => break Some(code),
            Some(Answer::Starts(_) | Answer::Same(_)) => {}
            None if started.elapsed() > GROUP_WAIT + Duration::from_secs(1) => break None,
            None => {}
        }
        // Without the right to the group no coordinator is told, which is waited for; this says why.
        if let Some(Err(error)) = consumer.poll(LOOK)
            && error.rdkafka_error_code().is_some_and(is_denied)
        {
            break error.rdkafka_error_code();
        }
    };
    match code {
        Some(code) if is_denied(code) => Err(denied(group, code)),
        // Whatever else is asked again when partitions are assigned.
        _ => Ok(()),
    }
}

/// A refusal by rights, with the one that is missing.
pub(super) fn denied(group: &str, code: RDKafkaErrorCode) -> Fault {
    let mend = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => "; allow this user Read on the topics",
        _ => "; allow this user Read on the group",
    };
    Fault::new(FaultKind::Denied, "W-KAFKA-DENIED", "consume in the group", group)
        .caused_by(format!("{code}{mend}"))
}

pub(super) fn membership(config: &SourceConfig) -> Membership {
    let silence_ms = config.properties.get("max.poll.interval.ms").and_then(|text| text.parse().ok());
    Membership {
        log: config.bootstrap.clone(),
        group: config.group.clone(),
        topics: config.topics.clone(),
        silence_max: Some(Duration::from_millis(silence_ms.unwrap_or(MAX_POLL_INTERVAL_MS))),
    }
}

impl KafkaSource {
    /// The topic that takes the largest records. Without the right to look it is unknown.
    pub(super) fn largest(&self) -> Option<(String, u64)> {
        let SourceConfig { bootstrap, properties, topics, .. } = &self.config;
        let all = terms::settings(bootstrap, properties, topics);
        let sizes = topics
            .iter()
            .zip(all)
            .filter_map(|(topic, settings)| Some((topic.clone(), terms::record_bytes_max(&settings?)?)));
        sizes.max_by_key(|(_, bytes)| *bytes)
    }

    /// The topic that keeps its records for the shortest time. Without the right to look it is unknown, as for ever.
    pub(super) fn shortest_retention(&self) -> Option<Retention> {
        let config = &self.config;
        // A thread of its own: the admin client is asynchronous, and nobody says what runtime this one is in.
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                let topics = Topics::new(&config.bootstrap, &config.properties).ok()?;
                let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
                let all = patterns::names(config, &topics).into_iter().filter_map(|topic| {
                    let settings = runtime.block_on(topics.settings(&topic)).ok()?;
                    Some(Retention { kept_for: kept_for(&settings)?, topic })
                });
                all.min_by_key(|one| one.kept_for)
            });
            asked.join().ok().flatten()
        })
    }
}

/// How long a topic with these settings keeps its records; `None` is for ever, or a matter of bytes.
fn kept_for(settings: &BTreeMap<String, String>) -> Option<Duration> {
    let deletes = settings.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    // Below zero is for ever.
    let kept_ms = settings.get("retention.ms")?.parse().ok()?;
    deletes.then(|| Duration::from_millis(kept_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_that_is_compacted_or_kept_for_ever_has_no_retention() {
        let check = |settings: &[(&str, &str)], expect: Option<u64>| {
            let settings =
                settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(kept_for(&settings), expect.map(Duration::from_millis), "{settings:?}");
        };
        check(&[("retention.ms", "60000"), ("cleanup.policy", "delete")], Some(60_000));
        check(&[("retention.ms", "60000"), ("cleanup.policy", "compact,delete")], Some(60_000));
        check(&[("retention.ms", "60000"), ("cleanup.policy", "compact")], None);
        check(&[("retention.ms", "-1"), ("cleanup.policy", "delete")], None);
        check(&[], None);
    }
}
