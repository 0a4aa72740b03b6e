//! One record of a log partition, as a handler gets it.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
}

impl Place {
    /// A partition of a topic.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: Arc::from(topic), partition }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.topic, self.partition)
    }
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: Box<str>,
    /// Its value; the log tells an empty one from none.
    pub value: Option<Bytes>,
}

/// One record. Key and value are slices of the batch that it came with: a clone costs no copy, and a kept slice keeps
/// that batch in memory and in the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// The key; records with the same key are handled one after the other.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, shared by clones; `None` when there are none.
    pub headers: Option<Arc<[Header]>>,
    /// Which attempt this is, counted from 1 since the partition was assigned; or since the first of all, when it came
    /// through a [`crate::retry_topic`].
    pub attempt: u32,
}

impl Record {
    /// A record with a value and nothing else: a beginning for tests of a handler.
    #[must_use]
    pub fn new(topic: &str, value: impl Into<Bytes>) -> Self {
        Self {
            topic: Arc::from(topic),
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: Some(value.into()),
            headers: None,
            attempt: 1,
        }
    }

    /// The same record under a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// All headers, in their order.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        self.headers.as_deref().unwrap_or_default()
    }

    /// The value of the last header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().iter().rev().find(|header| &*header.name == name)?.value.as_deref()
    }

    /// Key and value as text, for logs and examples; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> (String, String) {
        let text = |bytes: &Option<Bytes>| {
            bytes.as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned()
        };
        (text(&self.key), text(&self.value))
    }
}
