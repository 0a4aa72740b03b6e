//! Where records go that cannot be handled, and what is written with them.
//!
//! The dead letter has the record's own key, value and headers, and six headers of ours. [`ORIGIN`] and [`TIMESTAMP`]
//! say where and when the record was written first, also after retry topics, and when the letter itself has a later
//! timestamp. The record counts as done only when the log has answered that the letter is durable.
//!
//! A letter that the log refuses for its size is written again with fewer headers of ours (`Told`); the record's own
//! bytes are never changed.

use crate::decaton::TaskMetadata;
use crate::log::{HeaderSpan, LogWriter, RecordBatch, RecordSpan};
use crate::record::Record;
use crate::shaping;
use std::fmt;
use std::sync::Arc;
use weir_model::TopicName;

/// Header: why it is here.
pub const CAUSE: &str = "dead.cause";
/// Header: how many attempts there were.
pub const ATTEMPTS: &str = "dead.attempts";
/// Header: where it was, `topic/partition/offset`.
pub const PLACE: &str = "dead.place";
/// Header: the group that could not handle it.
pub const GROUP: &str = "dead.group";

/// Header: where the record was written first, `topic/partition/offset`. A retry topic and a shaping topic hand it on.
pub const ORIGIN: &str = "weir.dlq.origin";
/// Header: the timestamp that the record had there, ms since 1970.
pub const TIMESTAMP: &str = "weir.dlq.timestamp";

/// Longest cause that is written, in bytes: an error's text may hold a whole page.
pub const CAUSE_BYTES_MAX: usize = 2000;

/// Which of our headers a dead letter has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// All of them.
    All,
    /// All but the cause, which is the longest.
    NoCause,
    /// [`PLACE`] alone, which replay needs.
    Place,
    /// None.
    Nothing,
}

impl Told {
    /// What is written when this was too large; `None` when there is nothing left to leave out.
    pub(crate) const fn shorter(self) -> Option<Self> {
        match self {
            Self::All => Some(Self::NoCause),
            Self::NoCause => Some(Self::Place),
            Self::Place => Some(Self::Nothing),
            Self::Nothing => None,
        }
    }
}

/// Where dead letters go.
#[derive(Clone)]
pub struct DeadLetters {
    writer: Arc<dyn LogWriter>,
    topic: TopicName,
    group: String,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("DeadLetters").field("topic", &self.topic).field("group", &self.group).finish()
    }
}

impl DeadLetters {
    /// Letters of this group to this topic.
    #[must_use]
    pub fn new(writer: Arc<dyn LogWriter>, topic: TopicName, group: &str) -> Self {
        Self { writer, topic, group: group.to_owned() }
    }

    pub(crate) fn topic(&self) -> &str {
        self.topic.as_str()
    }

    pub(crate) fn writer(&self) -> &dyn LogWriter {
        &*self.writer
    }

    /// Writes one; resolves when it is durable.
    pub(crate) fn write(&self, record: &Record, cause: &str, told: Told) -> crate::log::Job<'static, ()> {
        self.write_all(std::iter::once(record), cause, told)
    }

    /// Writes several, in order; resolves when all are durable.
    pub(crate) fn write_all<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        cause: &str,
        told: Told,
    ) -> crate::log::Job<'static, ()> {
        let mut batch = RecordBatch { topics: vec![self.topic.clone()], ..RecordBatch::default() };
        records.for_each(|record| self.letter(record, cause, told, &mut batch));
        self.writer.append(batch)
    }

    fn letter(&self, record: &Record, cause: &str, told: Told, batch: &mut RecordBatch) {
        let key = batch.put_optional(record.key());
        let value = batch.put_optional(record.value());
        let count =
            |batch: &RecordBatch| u32::try_from(batch.headers.len()).expect("fewer headers than 4 Gi");
        let first = count(batch);
        // A letter that failed again after it was put back tells its last story only.
        for header in record.headers().iter().filter(|header| !is_ours(&header.name)) {
            let value = batch.put_optional(header.value.as_deref());
            batch.headers.push(HeaderSpan { name: header.name.to_string().into(), value });
        }
        let cause = cut(cause, CAUSE_BYTES_MAX);
        let written_ms = written_ms(record);
        let ours = [
            (CAUSE, cause.to_owned()),
            (PLACE, place(record)),
            (ATTEMPTS, record.attempt.to_string()),
            (GROUP, self.group.clone()),
            (ORIGIN, origin(record)),
            (TIMESTAMP, written_ms.to_string()),
        ];
        let ours = match told {
            Told::All => &ours[..],
            Told::NoCause => &ours[1..],
            Told::Place => &ours[1..2],
            Told::Nothing => &[],
        };
        for (name, text) in ours {
            let value = batch.put(text.as_bytes());
            batch.headers.push(HeaderSpan { name: (*name).into(), value });
        }
        let headers = first..count(batch);
        batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms: written_ms });
    }
}

/// Whether a header is one that dead letters add.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    [CAUSE, ATTEMPTS, PLACE, GROUP, ORIGIN, TIMESTAMP].contains(&name)
}

/// `topic/partition/offset` of a record.
pub(crate) fn place(record: &Record) -> String {
    format!("{}/{}/{}", record.topic, record.partition, record.offset)
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    std::str::from_utf8(record.header(name)?).ok()
}

/// Where a record was written first, as far as it is known: before retry topics and shaping topics.
pub(crate) fn origin(record: &Record) -> String {
    let known = text(record, ORIGIN).or_else(|| text(record, shaping::PLACE));
    known.map_or_else(|| place(record), str::to_owned)
}

/// The timestamp that a record had when it was written first. Decaton's retries have it in their metadata.
pub(crate) fn written_ms(record: &Record) -> i64 {
    let of_task = || {
        let metadata = TaskMetadata::of(record).ok().flatten()?;
        (metadata.retry_count > 0 && metadata.timestamp_ms > 0).then_some(metadata.timestamp_ms)
    };
    let known = text(record, TIMESTAMP).and_then(|text| text.parse().ok());
    known.or_else(of_task).unwrap_or(record.timestamp_ms)
}

/// The longest beginning of a text that is no longer than `bytes_max`.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Body, Header};
    use crate::testing::MemoryLog;

    #[test]
    fn a_letter_has_all_of_the_record_and_its_story_and_null_stays_null() {
        let log = MemoryLog::new();
        let letters = DeadLetters::new(Arc::new(log), TopicName::new("t-dead").unwrap(), "g");
        let mut record = Record::new("t", "v").with_key("k");
        (record.partition, record.offset, record.attempt, record.timestamp_ms) = (3, 77, 5, 12);
        let header = |name: &str, value: Option<&'static str>| Header {
            name: name.into(),
            value: value.map(|value| bytes::Bytes::from_static(value.as_bytes())),
        };
        let headers = vec![header("trace", Some("1")), header("empty", None), header(CAUSE, Some("old"))];
        record = record.with_headers(headers);
        let letter = |record: &Record, cause: &str| {
            let mut batch = RecordBatch::default();
            letters.letter(record, cause, Told::All, &mut batch);
            batch
        };
        let batch = letter(&record, &"é".repeat(1500));
        let span = &batch.records[0];
        assert_eq!((batch.bytes(&span.key), batch.bytes(&span.value)), (&b"k"[..], &b"v"[..]));
        assert_eq!(span.timestamp_ms, 12);
        let headers: Vec<(&str, Option<&[u8]>)> =
            batch.headers.iter().map(|header| (&*header.name, batch.optional(&header.value))).collect();
        assert_eq!(headers[0], ("trace", Some(&b"1"[..])));
        assert_eq!(headers[1], ("empty", None));
        assert_eq!((headers[2].0, headers[2].1.unwrap().len()), (CAUSE, 2000));
        assert_eq!(headers[3], (PLACE, Some(&b"t/3/77"[..])));
        assert_eq!(headers[4], (ATTEMPTS, Some(&b"5"[..])));
        assert_eq!(headers[5], (GROUP, Some(&b"g"[..])));
        assert_eq!(headers[6..], [(ORIGIN, Some(&b"t/3/77"[..])), (TIMESTAMP, Some(&b"12"[..]))]);
        record.body = Body::of(None, None, Vec::new());
        let batch = letter(&record, "");
        let span = &batch.records[0];
        assert_eq!((batch.optional(&span.key), batch.optional(&span.value)), (None, None));
        let names = |told| {
            let mut batch = RecordBatch::default();
            letters.letter(&record, "it failed", told, &mut batch);
            batch.headers.iter().map(|header| header.name.clone().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(Told::NoCause), [PLACE, ATTEMPTS, GROUP, ORIGIN, TIMESTAMP]);
        assert_eq!((names(Told::Place), names(Told::Nothing)), (vec![PLACE.to_owned()], Vec::new()));
    }

    #[test]
    fn where_and_when_a_record_was_written_first_is_known_after_every_hop() {
        let header = |name: &str, value: Vec<u8>| Header { name: name.into(), value: Some(value.into()) };
        let check = |headers: Vec<Header>, expect: (&str, i64)| {
            let mut record = Record::new("t-retry", "v").with_headers(headers);
            (record.partition, record.offset, record.timestamp_ms) = (1, 2, 3);
            assert_eq!((origin(&record).as_str(), written_ms(&record)), expect);
        };
        check(Vec::new(), ("t-retry/1/2", 3));
        check(vec![header(ORIGIN, b"t/0/9".to_vec()), header(TIMESTAMP, b"8".to_vec())], ("t/0/9", 8));
        check(vec![header(shaping::PLACE, b"t/0/7".to_vec())], ("t/0/7", 3));
        let task = |retry_count| {
            let metadata = TaskMetadata { timestamp_ms: 8, retry_count, ..TaskMetadata::default() };
            vec![header(crate::decaton::HEADER, metadata.encode())]
        };
        check(task(2), ("t-retry/1/2", 8));
        check(task(0), ("t-retry/1/2", 3));
    }
}
