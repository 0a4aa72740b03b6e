//! Where records go that cannot be handled, and what is written with them.
//!
//! The dead letter has the record's own key, value, timestamp and headers, and four headers of ours. The record counts
//! as done only when the log has answered that the letter is durable.

use crate::log::{HeaderSpan, LogWriter, RecordBatch, RecordSpan};
use crate::record::Record;
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

/// Longest cause that is written, in bytes: an error's text may hold a whole page.
pub const CAUSE_BYTES_MAX: usize = 2000;

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

    /// Writes one; resolves when it is durable.
    pub(crate) fn write(&self, record: &Record, cause: &str) -> crate::log::Job<'static, ()> {
        self.write_all(std::iter::once(record), cause)
    }

    /// Writes several, in order; resolves when all are durable.
    pub(crate) fn write_all<'a>(
        &self,
        records: impl Iterator<Item = &'a Record>,
        cause: &str,
    ) -> crate::log::Job<'static, ()> {
        let mut batch = RecordBatch { topics: vec![self.topic.clone()], ..RecordBatch::default() };
        records.for_each(|record| self.letter(record, cause, &mut batch));
        self.writer.append(batch)
    }

    fn letter(&self, record: &Record, cause: &str, batch: &mut RecordBatch) {
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
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        for (name, text) in [
            (CAUSE, cause),
            (ATTEMPTS, record.attempt.to_string().as_str()),
            (PLACE, place.as_str()),
            (GROUP, self.group.as_str()),
        ] {
            let value = batch.put(text.as_bytes());
            batch.headers.push(HeaderSpan { name: name.into(), value });
        }
        let headers = first..count(batch);
        let timestamp_ms = record.timestamp_ms;
        batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms });
    }
}

/// Whether a header is one that dead letters add.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    [CAUSE, ATTEMPTS, PLACE, GROUP].contains(&name)
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
            letters.letter(record, cause, &mut batch);
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
        assert_eq!(headers[3], (ATTEMPTS, Some(&b"5"[..])));
        assert_eq!(headers[4], (PLACE, Some(&b"t/3/77"[..])));
        assert_eq!(headers[5..], [(GROUP, Some(&b"g"[..]))]);
        record.body = Body::of(None, None, Vec::new());
        let batch = letter(&record, "");
        let span = &batch.records[0];
        assert_eq!((batch.optional(&span.key), batch.optional(&span.value)), (None, None));
    }
}
