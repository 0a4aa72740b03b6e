//! The rule that names a topic after a table, readable in both directions.
//!
//! Topic = prefix + body + suffix. The body of `table` is `table`, the body of `namespace:table` is
//! `namespace--table`. A table of the default namespace whose own name holds `--` is written `default--name`, so the
//! first `--` of a body is always the separator: an HBase namespace can hold neither `-` nor `.`.

use crate::limits::TOPIC_NAME_BYTES_MAX;
use crate::names::TableName;
use std::fmt;
use std::sync::Arc;

const SEPARATOR: &str = "--";

/// Name of a Kafka topic, legal by Kafka's own rule. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// Why a text is no topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no Kafka topic name: {wrong}")]
pub struct TopicNameError {
    /// The text.
    pub name: String,
    /// What is wrong with it.
    pub wrong: &'static str,
}

impl TopicName {
    /// Checks a name, following `org.apache.kafka.common.internals.Topic.validate`.
    ///
    /// # Errors
    /// When Kafka would refuse the name.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        let wrong = if name.is_empty() {
            "it is empty"
        } else if name == "." || name == ".." {
            "it is a path"
        } else if name.len() > TOPIC_NAME_BYTES_MAX {
            "it is longer than 249 bytes"
        } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        {
            "it has characters other than ASCII letters, digits, '.', '_' and '-'"
        } else {
            return Ok(Self(name.into()));
        };
        Err(TopicNameError { name: name.to_owned(), wrong })
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Prefix and suffix of all topics of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNaming {
    prefix: String,
    suffix: String,
}

impl TopicNaming {
    /// A rule with these two ends; either may be empty.
    ///
    /// # Errors
    /// When an end has characters that no topic may have.
    pub fn new(prefix: &str, suffix: &str) -> Result<Self, TopicNameError> {
        TopicName::new(&format!("{prefix}t{suffix}"))?;
        Ok(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned() })
    }

    /// The topic of a table.
    ///
    /// # Errors
    /// When the table's name cannot be a topic (letters outside ASCII, too long).
    pub fn topic(&self, table: &TableName) -> Result<TopicName, TopicNameError> {
        let Self { prefix, suffix } = self;
        let (namespace, qualifier) = (table.namespace(), table.qualifier());
        if namespace != "default" || qualifier.contains(SEPARATOR) {
            TopicName::new(&format!("{prefix}{namespace}{SEPARATOR}{qualifier}{suffix}"))
        } else {
            TopicName::new(&format!("{prefix}{qualifier}{suffix}"))
        }
    }

    /// A topic of these two ends with another body.
    ///
    /// # Errors
    /// When the body has characters that no topic may have, or is too long.
    pub fn around(&self, body: &str) -> Result<TopicName, TopicNameError> {
        TopicName::new(&format!("{}{body}{}", self.prefix, self.suffix))
    }

    /// Length of both ends in bytes.
    #[must_use]
    pub const fn ends_bytes(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// The table of a topic; `None` when the topic is not one of ours.
    #[must_use]
    pub fn table(&self, topic: &str) -> Option<TableName> {
        let body = topic.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        let table = match body.split_once(SEPARATOR) {
            Some((namespace, qualifier)) => TableName::new(&format!("{namespace}:{qualifier}")).ok()?,
            None => TableName::new(body).ok()?,
        };
        // Only what the rule writes is read: "default--t" is not the topic of "t".
        (self.topic(&table).ok()?.as_str() == topic).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(table: &str, topic: &str) {
        let naming = TopicNaming::new("hbase.", ".wal").unwrap();
        let table = TableName::new(table).unwrap();
        assert_eq!(naming.topic(&table).unwrap().as_str(), topic);
        assert_eq!(naming.table(topic), Some(table));
    }

    #[test]
    fn every_table_has_a_topic_that_names_it() {
        check("message", "hbase.message.wal");
        check("shop:orders", "hbase.shop--orders.wal");
        check("a--b", "hbase.default--a--b.wal");
        check("shop:a--b", "hbase.shop--a--b.wal");
        check("shop:-x", "hbase.shop---x.wal");
    }

    #[test]
    fn a_topic_that_the_rule_does_not_write_is_nobodys() {
        let naming = TopicNaming::new("hbase.", ".wal").unwrap();
        for topic in ["message", "hbase.message", "hbase.default--t.wal", "hbase..wal", "hbase.wal"] {
            assert_eq!(naming.table(topic), None, "{topic}");
        }
    }

    #[test]
    fn names_that_kafka_refuses_are_refused_here() {
        assert!(TopicName::new("naïve").is_err());
        assert!(TopicName::new("..").is_err());
        assert!(TopicName::new(&"x".repeat(250)).is_err());
        assert!(TopicNaming::new("a b", "").is_err());
    }
}
