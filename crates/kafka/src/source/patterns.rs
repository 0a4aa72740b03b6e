//! Topics by pattern: an element of `SourceConfig::topics` that begins with `^`, as librdkafka and the brokers have it.

use super::checks::wrong;
use super::{ASK_WAIT, SourceConfig};
use crate::topics::Topics;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use regex::bytes::{Regex, RegexBuilder};
use weir_model::Fault;
use weir_runtime::record::Place;

pub(super) fn is_pattern(topic: &str) -> bool {
    topic.starts_with('^')
}

/// The patterns among these topics.
///
/// # Errors
/// When one is no regular expression.
fn compiled(topics: &[String]) -> Result<Vec<Regex>, Fault> {
    let patterns = topics.iter().filter(|topic| is_pattern(topic));
    patterns
        .map(|pattern| {
            RegexBuilder::new(pattern)
                .unicode(false)
                .build()
                .map_err(|error| wrong("topics", format!("the pattern {pattern} cannot be read: {error}")))
        })
        .collect()
}

/// Whether these topics name this one, or a pattern among them matches it.
pub(super) fn has(topics: &[String], topic: &str) -> bool {
    topics.iter().any(|one| one == topic)
        || compiled(topics).is_ok_and(|all| all.iter().any(|pattern| pattern.is_match(topic.as_bytes())))
}

/// A partition of a topic that a pattern matches now, if there is one. That there is none is no reason not to start: a
/// topic may be made later.
pub(super) fn check<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topics: &[String],
) -> Result<Option<Place>, Fault> {
    let patterns = compiled(topics)?;
    if patterns.is_empty() {
        return Ok(None);
    }
    let metadata = consumer
        .fetch_metadata(None, ASK_WAIT)
        .map_err(|error| crate::reader::unreachable(&error, "topics"))?;
    let names: Vec<&str> = metadata.topics().iter().map(rdkafka::metadata::MetadataTopic::name).collect();
    for pattern in &patterns {
        if !names.iter().any(|name| pattern.is_match(name.as_bytes())) {
            tracing::warn!(%pattern, "no topic matches a pattern of topics: nothing comes of it until one is created");
        }
    }
    let matched = metadata
        .topics()
        .iter()
        .find(|topic| patterns.iter().any(|one| one.is_match(topic.name().as_bytes())));
    let first = matched.and_then(|topic| Some((topic.name(), topic.partitions().first()?.id())));
    Ok(first.map(|(name, partition)| Place::new(name, partition)))
}

/// The names of all topics that are read now.
pub(super) fn names(config: &SourceConfig, topics: &Topics) -> Vec<String> {
    let mut names: Vec<String> = config.topics.iter().filter(|topic| !is_pattern(topic)).cloned().collect();
    if names.len() < config.topics.len() {
        let all = topics.list().unwrap_or_default();
        names.extend(all.into_iter().map(|topic| topic.name).filter(|name| has(&config.topics, name)));
        names.sort_unstable();
        names.dedup();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_begins_with_a_caret_and_a_name_is_taken_as_it_is() {
        let topics = ["orders.eu".to_owned(), "^payments[.](eu|us)$".to_owned()];
        let expect =
            [("orders.eu", true), ("ordersXeu", false), ("payments.us", true), ("payments.us2", false)];
        for (topic, is_read) in expect {
            assert_eq!(has(&topics, topic), is_read, "{topic}");
        }
        let fault = compiled(&["^(".to_owned()]).unwrap_err();
        assert!(fault.chain().contains("the pattern ^( cannot be read"), "{}", fault.chain());
    }
}
