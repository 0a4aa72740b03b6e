//! Messages of librdkafka, made to records.
//!
//! A message is a view into a whole fetch response. It is copied out at once, some together into one arena, so that one
//! unfinished record pins its arena and not 50 MiB.

use bytes::Bytes;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::budget::{Budget, Taken};
use weir_runtime::record::{Header, Place, Record};

/// Bytes of an arena, unless one record has more. An allocator has what is below 128 KiB at hand again; above that it
/// asks the system for fresh pages, which costs more than the copy.
const ARENA_BYTES: usize = 64 << 10;

/// What reading a queue met beside records.
pub(crate) struct QueueError {
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// Messages that are ours to give back.
pub(super) struct Messages<'a>(&'a [*mut sys::rd_kafka_message_t]);

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        for message in self.0 {
            // SAFETY: each is alive and ours, by the promise of `Messages::new`, and is given back once.
            unsafe { sys::rd_kafka_message_destroy(*message) };
        }
    }
}

/// All bytes of some records, counted to the budget until the last of them is gone.
struct Arena {
    bytes: Vec<u8>,
    _taken: Taken,
}

impl AsRef<[u8]> for Arena {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// SAFETY (caller): pointer and length are of one live allocation, or the pointer is null.
pub(super) unsafe fn bytes_of<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), len) })
}

/// A header as librdkafka has it.
type RawHeader<'a> = (&'a str, Option<&'a [u8]>);

/// The headers of a live message.
///
/// SAFETY (caller): `message` is alive for `'a`.
unsafe fn headers_of<'a>(message: *mut sys::rd_kafka_message_t) -> Vec<RawHeader<'a>> {
    let mut list = ptr::null_mut();
    let mut headers = Vec::new();
    // SAFETY: the list is the message's; names are NUL-terminated and values have the length that is told.
    unsafe {
        if sys::rd_kafka_message_headers(message, &raw mut list) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return headers;
        }
        for index in 0.. {
            let (mut name, mut value, mut len) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0);
            let code = sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                break;
            }
            // A name that is not UTF-8 is against the protocol; such a header is nothing that a service could ask for.
            if let Ok(name) = CStr::from_ptr(name).to_str() {
                headers.push((name, bytes_of(value, len)));
            }
        }
    }
    headers
}

/// A record whose bytes are still librdkafka's.
struct Raw<'a> {
    offset: i64,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Vec<RawHeader<'a>>,
}

impl<'a> Raw<'a> {
    /// SAFETY (caller): `message` is alive for `'a`, and is a record.
    unsafe fn of(message: *mut sys::rd_kafka_message_t) -> Self {
        // SAFETY: key and payload belong to the message.
        unsafe {
            let this = &*message;
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            Self {
                offset: this.offset,
                timestamp_ms: sys::rd_kafka_message_timestamp(message, &raw mut kind),
                key: bytes_of(this.key, this.key_len),
                value: bytes_of(this.payload, this.len),
                headers: headers_of(message),
            }
        }
    }

    /// Key, value and the headers' values, in the order in which they are copied.
    fn parts(&self) -> impl Iterator<Item = &'a [u8]> {
        let headers = self.headers.iter().map(|(_, value)| *value);
        [self.key, self.value].into_iter().chain(headers).flatten()
    }

    fn byte_count(&self) -> usize {
        self.parts().map(<[u8]>::len).sum()
    }

    /// Takes its bytes from the front of `arena`.
    fn record(self, place: &Place, arena: &mut Bytes) -> Record {
        let mut take = |part: Option<&[u8]>| part.map(|part| arena.split_to(part.len()));
        let (key, value) = (take(self.key), take(self.value));
        let headers = self.headers.iter();
        let headers: Vec<Header> =
            headers.map(|(name, value)| Header { name: (*name).into(), value: take(*value) }).collect();
        Record {
            topic: Arc::clone(&place.topic),
            partition: place.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key,
            value,
            headers: (!headers.is_empty()).then(|| headers.into()),
            attempt: 1,
        }
    }
}

impl<'a> Messages<'a> {
    /// SAFETY (caller): each is alive, and is not given back by anybody else.
    pub(super) const unsafe fn new(messages: &'a [*mut sys::rd_kafka_message_t]) -> Self {
        Self(messages)
    }

    /// Appends what is a record to `records`, and what is an error to `errors`.
    pub(super) fn copy_out(
        &self,
        place: &Place,
        budget: &Budget,
        records: &mut Vec<Record>,
        errors: &mut Vec<QueueError>,
    ) {
        let mut raw = Vec::with_capacity(self.0.len());
        let mut byte_count = 0;
        for message in self.0 {
            // SAFETY: the messages live as long as `self`, and what is made of them does not outlive this function.
            let one = unsafe {
                let this = &**message;
                if this.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    errors.extend(error_of(this));
                    continue;
                }
                Raw::of(*message)
            };
            let more = one.byte_count();
            if byte_count + more > ARENA_BYTES {
                to_records(&mut raw, byte_count, place, budget, records);
                byte_count = 0;
            }
            byte_count += more;
            raw.push(one);
        }
        to_records(&mut raw, byte_count, place, budget, records);
    }
}

/// SAFETY (caller): the message is alive.
unsafe fn error_of(message: &sys::rd_kafka_message_t) -> Option<QueueError> {
    // SAFETY: the payload of an error is its text.
    let text = unsafe { bytes_of(message.payload, message.len) }.unwrap_or_default();
    let text = String::from_utf8_lossy(text).into_owned();
    (message.err != Code::RD_KAFKA_RESP_ERR__PARTITION_EOF).then_some(QueueError { code: message.err, text })
}

/// Makes records of all that is in `raw`, in one arena of `byte_count` bytes.
fn to_records(
    raw: &mut Vec<Raw<'_>>,
    byte_count: usize,
    place: &Place,
    budget: &Budget,
    records: &mut Vec<Record>,
) {
    if raw.is_empty() {
        return;
    }
    let mut bytes = Vec::with_capacity(byte_count);
    raw.iter().flat_map(Raw::parts).for_each(|part| bytes.extend_from_slice(part));
    let mut arena = Bytes::from_owner(Arena { bytes, _taken: budget.take_at_once(byte_count) });
    records.extend(raw.drain(..).map(|one| one.record(place, &mut arena)));
}
