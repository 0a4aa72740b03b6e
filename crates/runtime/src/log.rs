//! The log port: a batch of records goes in, and is durable when the promise resolves.
//!
//! A batch owns one arena; records are ranges in it, so that a batch of thousands costs a handful of allocations and
//! the log may read the bytes in place until it has answered.

use std::borrow::Cow;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use weir_model::{Fault, TopicName, limits};

/// A boxed promise. Ports are called once per batch, so the box costs nothing.
pub type Job<'a, T> = Pin<Box<dyn Future<Output = Result<T, Fault>> + Send + 'a>>;

/// One record as ranges (byte offsets) into its batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordSpan {
    /// Index into [`RecordBatch::topics`].
    pub topic: u16,
    /// Key bytes in the arena, or [`RecordBatch::NONE`]; the partition is `murmur2(key)`, as the Java client has it.
    pub key: Range<u32>,
    /// Value bytes in the arena, or [`RecordBatch::NONE`].
    pub value: Range<u32>,
    /// Headers: indexes into [`RecordBatch::headers`].
    pub headers: Range<u32>,
    /// When it was written at its source, ms since 1970. It becomes the record's timestamp unless it is old or ahead
    /// (`limits::RECORD_AGE_MS_MAX`); then the present does.
    pub timestamp_ms: i64,
}

/// One record header: a name and a range of the arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSpan {
    /// The name; borrowed on the way of an edit, where names are a closed list.
    pub name: Cow<'static, str>,
    /// Value bytes in the arena, or [`RecordBatch::NONE`].
    pub value: Range<u32>,
}

/// Records in the order in which each partition must keep them.
#[derive(Debug, Default)]
pub struct RecordBatch {
    /// All bytes: keys, values, header values. Below 4 GiB (a frame is at most 272 MiB).
    pub arena: Vec<u8>,
    /// The records, in order.
    pub records: Vec<RecordSpan>,
    /// Headers of all records.
    pub headers: Vec<HeaderSpan>,
    /// Topics that records point to.
    pub topics: Vec<TopicName>,
}

impl RecordBatch {
    /// Bytes of memory that the batch takes until the log has answered.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        // The log's client keeps keys and header values a second time.
        let copied = |range: &Range<u32>| range.len();
        let copies: usize = self.records.iter().map(|record| copied(&record.key)).sum::<usize>()
            + self.headers.iter().map(|header| copied(&header.value)).sum::<usize>();
        self.arena.len()
            + copies
            + self.records.len() * limits::RECORD_OVERHEAD_BYTES
            + self.headers.len() * limits::HEADER_OVERHEAD_BYTES
    }

    /// The range of a key, value or header value that is not there, which the log tells from an empty one.
    pub const NONE: Range<u32> = u32::MAX..u32::MAX;

    /// Adds bytes to the arena; their range.
    ///
    /// # Panics
    /// When the arena would pass 4 GiB: whoever fills a batch has bounds far below that.
    pub fn put(&mut self, bytes: &[u8]) -> Range<u32> {
        let end = |arena: &Vec<u8>| u32::try_from(arena.len()).expect("a batch is below 4 GiB");
        let start = end(&self.arena);
        self.arena.extend_from_slice(bytes);
        start..end(&self.arena)
    }

    /// As [`RecordBatch::put`], with [`RecordBatch::NONE`] for what is not there.
    ///
    /// # Panics
    /// As [`RecordBatch::put`].
    pub fn put_optional(&mut self, bytes: Option<&[u8]>) -> Range<u32> {
        bytes.map_or(Self::NONE, |bytes| self.put(bytes))
    }

    /// Bytes of a range of the arena; `None` for [`RecordBatch::NONE`].
    ///
    /// # Panics
    /// As [`RecordBatch::bytes`].
    #[must_use]
    pub fn optional(&self, range: &Range<u32>) -> Option<&[u8]> {
        (*range != Self::NONE).then(|| self.bytes(range))
    }

    /// Bytes of a range of the arena.
    ///
    /// # Panics
    /// When the range is not of this batch, which only our own bug can do.
    #[must_use]
    pub fn bytes(&self, range: &Range<u32>) -> &[u8] {
        &self.arena[range.start as usize..range.end as usize]
    }
}

/// What a log says about one of its topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicTerms {
    /// Whether the topic is there.
    pub is_there: bool,
    /// Bytes of the largest record that it takes (`max.message.bytes`), when that is known.
    pub record_bytes_max: Option<u64>,
    /// Whether only the newest record of a key is kept (`cleanup.policy` with `compact`).
    pub is_compacted: bool,
}

/// A durable, partitioned, ordered log.
pub trait LogWriter: Send + Sync {
    /// What the log says about a topic; asked at the start of a consumer, and may wait for the brokers. `None` is
    /// unknown: what would be refused by it is not looked at.
    fn terms(&self, _topic: &TopicName) -> Option<TopicTerms> {
        None
    }

    /// Queues the records at once, in order, before it returns; resolves when **every** record is durable by the
    /// topic's rule. On a fault some records may be durable: the caller repeats the whole batch.
    ///
    /// Two calls one after the other keep their order in each partition.
    fn append(&self, batch: RecordBatch) -> Job<'static, ()>;
}
