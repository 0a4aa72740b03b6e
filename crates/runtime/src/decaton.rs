//! Decaton's own bytes: the metadata of a task in the header `dt_meta`, and the record value of Decaton up to 8.x.
//!
//! Fields as in `TaskMetadataProto` and `DecatonTaskRequest` (Decaton 9.5.0). What is written is byte for byte what
//! protobuf's own writers write: fields in order, defaults left out. What is read may have them in any order, twice (the
//! last counts), and unknown ones beside them.

use crate::record::Record;
use bytes::Bytes;

/// The header that a task's metadata is in. Of several the last counts.
pub const HEADER: &str = "dt_meta";

/// Why bytes are not what Decaton writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The bytes end within a field.
    #[error("it ends within a field")]
    Short,
    /// A number is longer than 64 bits, or a field has no number.
    #[error("a number in it is too long")]
    Number,
    /// A text is not UTF-8.
    #[error("a text in it is not UTF-8")]
    Text,
    /// A kind of field that proto3 does not have.
    #[error("it has a field of an unknown kind")]
    Kind,
}

/// What Decaton knows of a task beside its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskMetadata {
    /// When the task was produced, ms since 1970.
    pub timestamp_ms: i64,
    /// The application that produced it.
    pub source_application: String,
    /// The instance of it.
    pub source_instance: String,
    /// Attempts that failed before.
    pub retry_count: i64,
    /// Not to be handled before, ms since 1970; 0 is at once.
    pub scheduled_ms: i64,
}

impl TaskMetadata {
    /// Reads the value of a header.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, TaskError> {
        let mut metadata = Self::default();
        metadata.merge(bytes)?;
        Ok(metadata)
    }

    /// The metadata of a record; `None` without the header.
    ///
    /// # Errors
    /// When the header is damaged.
    pub fn of(record: &Record) -> Result<Option<Self>, TaskError> {
        record.header(HEADER).map(Self::decode).transpose()
    }

    /// The value of the header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_number(&mut out, 1, self.timestamp_ms);
        put_bytes(&mut out, 2, self.source_application.as_bytes());
        put_bytes(&mut out, 3, self.source_instance.as_bytes());
        put_number(&mut out, 4, self.retry_count);
        put_number(&mut out, 5, self.scheduled_ms);
        out
    }

    fn merge(&mut self, mut bytes: &[u8]) -> Result<(), TaskError> {
        while let Some((number, field)) = take_field(&mut bytes)? {
            match (number, field) {
                (1, Field::Number(value)) => self.timestamp_ms = value,
                (2, Field::Bytes(value)) => self.source_application = text(value)?,
                (3, Field::Bytes(value)) => self.source_instance = text(value)?,
                (4, Field::Number(value)) => self.retry_count = value,
                (5, Field::Number(value)) => self.scheduled_ms = value,
                _ => {}
            }
        }
        Ok(())
    }
}

/// A whole record value of Decaton up to 8.x: metadata and task in one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskRequest {
    /// The metadata.
    pub metadata: TaskMetadata,
    /// The task's own bytes.
    pub task: Bytes,
}

impl TaskRequest {
    /// Reads a record's value; the task is a slice of it.
    ///
    /// # Errors
    /// When it is damaged. Other bytes may well read as an empty request: only the caller knows what is in the topic.
    pub fn decode(value: &Bytes) -> Result<Self, TaskError> {
        let mut request = Self::default();
        let mut bytes = &value[..];
        while let Some((number, field)) = take_field(&mut bytes)? {
            match (number, field) {
                (1, Field::Bytes(metadata)) => request.metadata.merge(metadata)?,
                (2, Field::Bytes(task)) => request.task = value.slice_ref(task),
                _ => {}
            }
        }
        Ok(request)
    }

    /// The value of a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (mut out, metadata) = (Vec::new(), self.metadata.encode());
        // Decaton sets the metadata always, and so writes it when it is empty, too.
        put_varint(&mut out, 1 << 3 | 2);
        put_varint(&mut out, metadata.len() as u64);
        out.extend_from_slice(&metadata);
        put_bytes(&mut out, 2, &self.task);
        out
    }
}

enum Field<'a> {
    Number(i64),
    Bytes(&'a [u8]),
    /// Of a fixed width: none of ours.
    Other,
}

fn text(bytes: &[u8]) -> Result<String, TaskError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| TaskError::Text)
}

/// The next field and its number; `None` at the end.
fn take_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, Field<'a>)>, TaskError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let tag = take_varint(bytes)?;
    if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
        return Err(TaskError::Number);
    }
    let field = match tag & 7 {
        0 => Field::Number(take_varint(bytes)?.cast_signed()),
        1 => take(bytes, 8).map(|_| Field::Other)?,
        2 => {
            let length = take_varint(bytes)?;
            Field::Bytes(take(bytes, usize::try_from(length).map_err(|_| TaskError::Short)?)?)
        }
        5 => take(bytes, 4).map(|_| Field::Other)?,
        _ => return Err(TaskError::Kind),
    };
    Ok(Some((tag >> 3, field)))
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], TaskError> {
    let (head, rest) = bytes.split_at_checked(length).ok_or(TaskError::Short)?;
    *bytes = rest;
    Ok(head)
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, TaskError> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = u64::from(take(bytes, 1)?[0]);
        if shift == 63 && byte > 1 {
            break;
        }
        number |= (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(TaskError::Number)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, number: u64, value: i64) {
    if value != 0 {
        put_varint(out, number << 3);
        put_varint(out, value.cast_unsigned());
    }
}

fn put_bytes(out: &mut Vec<u8>, number: u64, value: &[u8]) {
    if !value.is_empty() {
        put_varint(out, number << 3 | 2);
        put_varint(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message as _;

    /// The same messages, as protobuf's own library for Rust has them.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Proto {
        #[prost(int64, tag = "1")]
        timestamp_millis: i64,
        #[prost(string, tag = "2")]
        source_application_id: String,
        #[prost(string, tag = "3")]
        source_instance_id: String,
        #[prost(int64, tag = "4")]
        retry_count: i64,
        #[prost(int64, tag = "5")]
        scheduled_time_millis: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct ProtoRequest {
        #[prost(message, optional, tag = "1")]
        metadata: Option<Proto>,
        #[prost(bytes = "vec", tag = "2")]
        serialized_task: Vec<u8>,
    }

    fn of_proto(proto: Proto) -> TaskMetadata {
        TaskMetadata {
            timestamp_ms: proto.timestamp_millis,
            source_application: proto.source_application_id,
            source_instance: proto.source_instance_id,
            retry_count: proto.retry_count,
            scheduled_ms: proto.scheduled_time_millis,
        }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |index: usize| u8::from_str_radix(&hex[index..index + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn the_bytes_are_those_of_protobuf_itself() {
        let golden = include_str!("../golden/dt-meta-protobuf-7.36.2.txt");
        let lines: Vec<&str> = golden.lines().filter(|line| !line.starts_with('#')).collect();
        for line in &lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse().unwrap();
            let text = |index: usize| words[index].trim_start_matches('-').to_owned();
            let metadata = TaskMetadata {
                timestamp_ms: number(1),
                source_application: text(2),
                source_instance: text(3),
                retry_count: number(4),
                scheduled_ms: number(5),
            };
            assert_eq!(metadata.encode(), bytes(words[6]), "{line}");
            assert_eq!(TaskMetadata::decode(&bytes(words[6])).as_ref(), Ok(&metadata), "{line}");
            let request = TaskRequest { metadata, task: Bytes::from_static(b"task") };
            assert_eq!(request.encode(), bytes(words[7]), "{line}");
            assert_eq!(TaskRequest::decode(&bytes(words[7]).into()), Ok(request), "{line}");
        }
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn damaged_bytes_are_named_and_unknown_fields_are_passed_over() {
        let cases: [(&[u8], TaskError); 6] = [
            (&[0x08], TaskError::Short),
            (&[0x12, 5, b'a'], TaskError::Short),
            (&[0x12, 1, 0xff], TaskError::Text),
            (&[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2], TaskError::Number),
            (&[0x00], TaskError::Number),
            (&[0x0b], TaskError::Kind),
        ];
        for (bytes, error) in cases {
            assert_eq!(TaskMetadata::decode(bytes), Err(error), "{bytes:?}");
        }
        let later = [0x20, 3, 0x32, 1, 9, 0x39, 1, 2, 3, 4, 5, 6, 7, 8, 0x45, 1, 2, 3, 4, 0x20, 4];
        let expect = TaskMetadata { retry_count: 4, ..TaskMetadata::default() };
        assert_eq!(TaskMetadata::decode(&later), Ok(expect));
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_protobuf_writes_and_is_read_again(
            numbers in any::<[i64; 3]>(), application in ".{0,9}", instance in "[a-z]{0,9}", task in any::<Vec<u8>>(),
        ) {
            let [timestamp_millis, retry_count, scheduled_time_millis] = numbers;
            let proto = Proto {
                timestamp_millis, source_application_id: application, source_instance_id: instance, retry_count,
                scheduled_time_millis,
            };
            let metadata = of_proto(proto.clone());
            prop_assert_eq!(metadata.encode(), proto.encode_to_vec());
            let read = TaskMetadata::decode(&metadata.encode());
            prop_assert_eq!(read.as_ref(), Ok(&metadata));
            let request = TaskRequest { metadata, task: task.clone().into() };
            let both = ProtoRequest { metadata: Some(proto), serialized_task: task };
            prop_assert_eq!(request.encode(), both.encode_to_vec());
            prop_assert_eq!(TaskRequest::decode(&request.encode().into()), Ok(request));
        }

        /// Groups are the exception: nobody sends them, and they are refused here.
        #[test]
        fn what_protobuf_reads_is_read_as_the_same(
            fields in prop::collection::vec((1u8..7, prop::sample::select(vec![0u8, 1, 2, 5]), any::<[u8; 8]>()), 0..6),
        ) {
            let mut bytes = Vec::new();
            for (number, kind, value) in fields {
                bytes.push(number << 3 | kind);
                match kind {
                    0 => put_varint(&mut bytes, u64::from_le_bytes(value)),
                    1 => bytes.extend_from_slice(&value),
                    2 => { bytes.push(value[0] % 8); bytes.extend(value[1..].iter().take(usize::from(value[0] % 8)).map(|byte| byte % 128)); }
                    _ => bytes.extend_from_slice(&value[..4]),
                }
            }
            if let Ok(proto) = Proto::decode(&bytes[..]) {
                prop_assert_eq!(TaskMetadata::decode(&bytes), Ok(of_proto(proto)));
            }
        }
    }
}
