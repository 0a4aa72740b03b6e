//! Messages of librdkafka: each is ours until it is dropped, and a view into a whole fetch response, which lives until
//! the last of its messages is gone.

use bytes::Bytes;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::record::Header;

/// What reading a queue met beside records.
pub(crate) struct QueueError {
    pub(crate) code: Code,
    pub(crate) text: String,
}

/// One message.
pub(super) struct Message(NonNull<sys::rd_kafka_message_t>);

// SAFETY: what librdkafka has handed out it leaves alone, and what a message shares with others (the response, the
// partition) is counted by atomics or under locks: it may be given back on any thread.
unsafe impl Send for Message {}
// SAFETY: as above; whatever is read through a shared reference does not change, but for `Message::headers`, which says so.
unsafe impl Sync for Message {}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: alive and ours, by the promise of `Message::new`; given back once.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) };
    }
}

/// SAFETY (caller): pointer and length are of one live allocation, or the pointer is null.
pub(super) unsafe fn bytes_of<'a>(pointer: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: by the caller's promise.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), len) })
}

impl Message {
    /// SAFETY (caller): the message is alive, nobody else gives it back, and its client outlives it.
    pub(super) const unsafe fn new(message: NonNull<sys::rd_kafka_message_t>) -> Self {
        Self(message)
    }

    fn get(&self) -> &sys::rd_kafka_message_t {
        // SAFETY: alive as long as `self`.
        unsafe { self.0.as_ref() }
    }

    /// What it says when it is not a record.
    pub(super) fn error(&self) -> Option<QueueError> {
        let code = self.get().err;
        (code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
            let text = String::from_utf8_lossy(self.value().unwrap_or_default()).into_owned();
            QueueError { code, text }
        })
    }

    /// Where the partition ends, if that is what it says. No record follows before the end has moved.
    pub(super) fn end(&self) -> Option<i64> {
        (self.get().err == Code::RD_KAFKA_RESP_ERR__PARTITION_EOF).then_some(self.get().offset)
    }

    pub(super) fn offset(&self) -> i64 {
        self.get().offset
    }

    pub(super) fn timestamp_ms(&self) -> i64 {
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: alive as long as `self`.
        unsafe { sys::rd_kafka_message_timestamp(self.0.as_ptr(), &raw mut kind) }
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        // SAFETY: the key belongs to the message.
        unsafe { bytes_of(self.get().key, self.get().key_len) }
    }

    /// The value, or the text of an error.
    pub(super) fn value(&self) -> Option<&[u8]> {
        // SAFETY: the payload belongs to the message.
        unsafe { bytes_of(self.get().payload, self.get().len) }
    }

    /// Bytes of key and value.
    pub(super) fn byte_count(&self) -> usize {
        self.get().key_len + self.get().len
    }

    /// The value of its last header of this name.
    ///
    /// SAFETY (caller): as [`Message::headers`].
    pub(super) unsafe fn header(&self, name: &CStr) -> Option<&[u8]> {
        let (mut list, mut value, mut len) = (ptr::null_mut(), ptr::null::<c_void>(), 0);
        // SAFETY: the list is the message's, and lives as long as it does; the value has the length that is told.
        unsafe {
            let code = sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut list);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            let code = sys::rd_kafka_header_get_last(list, name.as_ptr(), &raw mut value, &raw mut len);
            (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| bytes_of(value, len)).flatten()
        }
    }

    /// A copy of its headers.
    ///
    /// SAFETY (caller): called by one thread at a time. librdkafka reads the headers at the first call and keeps the list
    /// in the message.
    pub(super) unsafe fn headers(&self) -> Box<[Header]> {
        let mut list = ptr::null_mut();
        let mut headers = Vec::new();
        // SAFETY: the list is the message's; names are NUL-terminated and values have the length that is told.
        unsafe {
            let code = sys::rd_kafka_message_headers(self.0.as_ptr(), &raw mut list);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Box::default();
            }
            for index in 0.. {
                let (mut name, mut value, mut len) = (ptr::null::<c_char>(), ptr::null::<c_void>(), 0);
                let code =
                    sys::rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut len);
                if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                    break;
                }
                // A name that is not UTF-8 is against the protocol; no service could ask for it.
                if let Ok(name) = CStr::from_ptr(name).to_str() {
                    let value = bytes_of(value, len).map(Bytes::copy_from_slice);
                    headers.push(Header { name: name.into(), value });
                }
            }
        }
        headers.into()
    }
}
