//! One record of a log partition, as a handler gets it.

use crate::topic::Topic;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
}

impl Place {
    /// A partition of a topic.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: Topic::new(topic), partition }
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

/// Where the bytes of some records are: what a source reads at once, such as a part of a fetch. A record is a number in
/// it.
pub trait Payload: Send + Sync {
    /// The key of a record.
    fn key(&self, index: usize) -> Option<&[u8]>;

    /// The value of a record.
    fn value(&self, index: usize) -> Option<&[u8]>;

    /// The headers of a record, in their order.
    fn headers(&self, index: usize) -> &[Header];

    /// One of the records was not done at once: its handler waits, or it comes again later. Told at least once for each
    /// such attempt.
    fn held(&self) {}
}

/// One record. Key, value and headers are with those of the records that were read together with it: a clone costs no
/// copy, and a record that is kept keeps all of them in memory and in the budget. Copy what is to stay.
#[derive(Clone)]
pub struct Record {
    /// The topic.
    pub topic: Topic,
    /// The partition.
    pub partition: i32,
    /// Which attempt this is, counted from 1 since the partition was assigned; or since the first of all, when it came
    /// through a [`crate::retry_topic`].
    pub attempt: u32,
    /// The offset.
    pub offset: i64,
    /// The record's timestamp, ms since 1970.
    pub timestamp_ms: i64,
    /// Key, value and headers, which methods read.
    pub body: Body,
}

/// Key, value and headers of a record: a place in a [`Payload`].
#[derive(Clone)]
pub struct Body {
    payload: Arc<dyn Payload>,
    index: u32,
}

/// A payload of one record.
struct Own {
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<Header>,
}

impl Payload for Own {
    fn key(&self, _: usize) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn value(&self, _: usize) -> Option<&[u8]> {
        self.value.as_deref()
    }

    fn headers(&self, _: usize) -> &[Header] {
        &self.headers
    }
}

/// The value of a record, as the owner of its bytes.
struct Value(Record);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.value().unwrap_or_default()
    }
}

impl Body {
    /// Record number `index` of a payload.
    #[must_use]
    pub fn new(payload: Arc<dyn Payload>, index: u32) -> Self {
        Self { payload, index }
    }

    /// See [`Payload::held`].
    pub(crate) fn held(&self) {
        self.payload.held();
    }

    /// A body of these parts.
    #[must_use]
    pub fn of(key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Self {
        Self::new(Arc::new(Own { key, value, headers }), 0)
    }
}

impl Record {
    /// A record with a value and nothing else: a beginning for tests of a handler.
    #[must_use]
    pub fn new(topic: &str, value: impl Into<Bytes>) -> Self {
        Self::of(Topic::new(topic), None, Some(value.into()), Vec::new())
    }

    /// A record of these parts.
    #[must_use]
    pub fn of(topic: Topic, key: Option<Bytes>, value: Option<Bytes>, headers: Vec<Header>) -> Self {
        Self {
            topic,
            partition: 0,
            attempt: 1,
            offset: 0,
            timestamp_ms: 0,
            body: Body::of(key, value, headers),
        }
    }

    /// The same record under a key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Bytes>) -> Self {
        let (value, headers) = (self.value_bytes(), self.headers().to_vec());
        Self { body: Body::of(Some(key.into()), value, headers), ..self }
    }

    /// The same record with another value.
    #[must_use]
    pub fn with_value(self, value: Option<Bytes>) -> Self {
        let (key, headers) = (self.key().map(Bytes::copy_from_slice), self.headers().to_vec());
        Self { body: Body::of(key, value, headers), ..self }
    }

    /// The same record with these headers.
    #[must_use]
    pub fn with_headers(self, headers: Vec<Header>) -> Self {
        let (key, value) = (self.key().map(Bytes::copy_from_slice), self.value_bytes());
        Self { body: Body::of(key, value, headers), ..self }
    }

    /// The key; records with the same key are handled one after the other.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.body.payload.key(self.body.index as usize)
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.body.payload.value(self.body.index as usize)
    }

    /// The value for somebody who wants it owned. Not a copy: as long as it lives, so does what was read together with it.
    #[must_use]
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|_| Bytes::from_owner(Value(self.clone())))
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.key().map_or(0, <[u8]>::len) + self.value().map_or(0, <[u8]>::len)
    }

    /// All headers, in their order.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        self.body.payload.headers(self.body.index as usize)
    }

    /// The value of the last header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().iter().rev().find(|header| &*header.name == name)?.value.as_deref()
    }

    /// Key and value as text, for logs and examples; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> (String, String) {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        (text(self.key()), text(self.value()))
    }
}

/// By what they say, wherever that is.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        let numbers = |record: &Self| {
            (record.topic, record.partition, record.offset, record.timestamp_ms, record.attempt)
        };
        numbers(self) == numbers(other)
            && self.key() == other.key()
            && self.value() == other.value()
            && self.headers() == other.headers()
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("attempt", &self.attempt)
            .field("offset", &self.offset)
            .field("timestamp_ms", &self.timestamp_ms)
            .field("key", &self.key().map(Bytes::copy_from_slice))
            .field("value", &self.value().map(Bytes::copy_from_slice))
            .field("headers", &self.headers())
            .finish()
    }
}
