//! A partition's own queue, read in batches without waiting, and the queue of commits' answers; both ring a bell when
//! they become non-empty.
//!
//! A message of librdkafka is a view into a whole fetch response. It is copied out into an arena of the batch at once,
//! so that one unfinished record pins one batch and not 50 MiB.

use bytes::Bytes;
use rdkafka::TopicPartitionList;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::budget::{Budget, Taken};
use weir_runtime::record::{Header, Place, Record};
use weir_runtime::wake::Wake;

/// What the callback of a queue touches. Its address does not change while the queue lives.
pub(super) struct Bell {
    is_ready: AtomicBool,
    wake: Wake,
}

impl Bell {
    pub(super) fn new(wake: &Wake) -> Box<Self> {
        Box::new(Self { is_ready: AtomicBool::new(true), wake: wake.clone() })
    }
}

/// The queue of one assigned partition.
pub(crate) struct PartitionQueue {
    queue: *mut sys::rd_kafka_queue_t,
    bell: Box<Bell>,
}

// SAFETY: librdkafka's queues may be used from any thread; the bell is made of atomics.
unsafe impl Send for PartitionQueue {}

/// What reading a queue met beside records.
pub(crate) struct QueueError {
    pub(crate) code: Code,
    pub(crate) text: String,
}

pub(super) unsafe extern "C" fn ring(_: *mut sys::rd_kafka_t, bell: *mut c_void) {
    // SAFETY: `bell` is the queue's own, which lives until the callback is taken off under the queue's lock.
    let bell = unsafe { &*bell.cast::<Bell>() };
    bell.is_ready.store(true, Ordering::Release);
    bell.wake.wake();
}

impl PartitionQueue {
    /// Splits a partition's queue off the consumer's. Before the partition is assigned, so that no record goes astray.
    ///
    /// `client` is a live consumer that outlives the queue.
    pub(crate) fn split(client: *mut sys::rd_kafka_t, place: &Place, wake: &Wake) -> Option<Self> {
        let topic = CString::new(&*place.topic).ok()?;
        let bell = Bell::new(wake);
        // SAFETY: the client is alive by the caller's promise; the bell outlives the callback (see `Drop`).
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), place.partition);
            if queue.is_null() {
                return None;
            }
            sys::rd_kafka_queue_forward(queue, ptr::null_mut());
            let opaque: *const Bell = &raw const *bell;
            sys::rd_kafka_queue_cb_event_enable(queue, Some(ring), opaque.cast_mut().cast());
            Some(Self { queue, bell })
        }
    }

    /// Whether it may have something; cheap.
    pub(crate) fn is_ready(&self) -> bool {
        self.bell.is_ready.load(Ordering::Acquire)
    }

    /// Moves what is there to the end of `records`, `count_max` at most. Errors that stand in line are told apart.
    pub(crate) fn read(
        &self,
        place: &Place,
        count_max: usize,
        budget: &Budget,
        records: &mut Vec<Record>,
        errors: &mut Vec<QueueError>,
    ) {
        const AT_ONCE: usize = 512;
        // Before the read: what comes after it rings again, because the queue was empty then.
        self.bell.is_ready.store(false, Ordering::Release);
        let mut messages = [ptr::null_mut(); AT_ONCE];
        let wanted = count_max.min(AT_ONCE);
        // SAFETY: the array has room for what is wanted; a time-out of 0 does not wait.
        let got = unsafe { sys::rd_kafka_consume_batch_queue(self.queue, 0, messages.as_mut_ptr(), wanted) };
        let got = usize::try_from(got).unwrap_or_default();
        if got == wanted {
            self.bell.is_ready.store(true, Ordering::Release);
        }
        let batch = Messages(&messages[..got]);
        copy_out(&batch, place, budget, records, errors);
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the callback is taken off under the queue's lock before the bell is freed; the queue is given back once.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// Messages that are ours to give back.
struct Messages<'a>(&'a [*mut sys::rd_kafka_message_t]);

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        for message in self.0 {
            // SAFETY: each came from `rd_kafka_consume_batch_queue` and is given back once.
            unsafe { sys::rd_kafka_message_destroy(*message) };
        }
    }
}

/// All bytes of a batch, counted to the budget until its last record is gone.
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

fn copy_out(
    batch: &Messages<'_>,
    place: &Place,
    budget: &Budget,
    records: &mut Vec<Record>,
    errors: &mut Vec<QueueError>,
) {
    let mut raw = Vec::with_capacity(batch.0.len());
    let mut byte_count = 0;
    for message in batch.0 {
        // SAFETY: the messages live as long as `batch`; key and payload belong to them.
        unsafe {
            let this = &**message;
            if this.err != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                if this.err != Code::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                    let text = bytes_of(this.payload, this.len).unwrap_or_default();
                    errors.push(QueueError {
                        code: this.err,
                        text: String::from_utf8_lossy(text).into_owned(),
                    });
                }
                continue;
            }
            let (key, value) = (bytes_of(this.key, this.key_len), bytes_of(this.payload, this.len));
            let headers = headers_of(*message);
            let header_bytes: usize = headers.iter().map(|(_, value)| value.map_or(0, <[u8]>::len)).sum();
            byte_count += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len) + header_bytes;
            let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp_ms = sys::rd_kafka_message_timestamp(*message, &raw mut kind);
            raw.push((this.offset, timestamp_ms, key, value, headers));
        }
    }
    let mut bytes = Vec::with_capacity(byte_count);
    for (_, _, key, value, headers) in &raw {
        let values = headers.iter().map(|(_, value)| value);
        for part in [key, value].into_iter().chain(values).flatten() {
            bytes.extend_from_slice(part);
        }
    }
    let arena = Bytes::from_owner(Arena { bytes, _taken: budget.take_at_once(byte_count) });
    let mut at = 0;
    // In the order in which they were copied.
    let mut next = |part: Option<&[u8]>| {
        part.map(|part| {
            let start = at;
            at += part.len();
            arena.slice(start..at)
        })
    };
    records.extend(raw.into_iter().map(|(offset, timestamp_ms, key, value, headers)| {
        let (key, value) = (next(key), next(value));
        let headers =
            headers.into_iter().map(|(name, value)| Header { name: name.into(), value: next(value) });
        let headers: Vec<Header> = headers.collect();
        Record {
            topic: Arc::clone(&place.topic),
            partition: place.partition,
            offset,
            timestamp_ms,
            key,
            value,
            headers: (!headers.is_empty()).then(|| headers.into()),
            attempt: 1,
        }
    }));
}

/// Where the answers to commits arrive. `rd_kafka_commit` alone answers only those who set a C callback
/// (`rd_kafka_cgrp_propagate_commit_result`), whatever events are enabled.
pub(crate) struct CommitQueue {
    client: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    // Held for the callback, which has its address.
    _bell: Box<Bell>,
}

// SAFETY: as `PartitionQueue`.
unsafe impl Send for CommitQueue {}

/// One commit's answer: which commit it was, what the request as a whole met, and each partition.
pub(crate) struct CommitAnswer {
    pub(crate) number: usize,
    pub(crate) code: Code,
    pub(crate) places: Vec<(Place, Code)>,
}

impl CommitQueue {
    /// `client` is a live consumer that outlives the queue.
    pub(crate) fn new(client: *mut sys::rd_kafka_t, wake: &Wake) -> Self {
        let bell = Bell::new(wake);
        // SAFETY: as `PartitionQueue::split`.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(client);
            let opaque: *const Bell = &raw const *bell;
            sys::rd_kafka_queue_cb_event_enable(queue, Some(ring), opaque.cast_mut().cast());
            queue
        };
        Self { client, queue, _bell: bell }
    }

    /// Begins a commit; its answer comes later, with this number.
    pub(crate) fn commit(&self, list: &TopicPartitionList, number: usize) -> Result<(), Code> {
        let opaque = ptr::without_provenance_mut(number);
        // SAFETY: client and queue are alive; the list is copied, and the number is only handed back.
        let code = unsafe { sys::rd_kafka_commit_queue(self.client, list.ptr(), self.queue, None, opaque) };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code) }
    }

    /// The next answer, if it comes in time; 0 does not wait.
    pub(crate) fn answer(&self, wait_max: Duration) -> Option<CommitAnswer> {
        let wait_ms = c_int::try_from(wait_max.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the event is ours until destroyed; its list is read before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, wait_ms);
            if event.is_null() {
                return None;
            }
            let list = sys::rd_kafka_event_topic_partition_list(event);
            let count = if list.is_null() { 0 } else { usize::try_from((*list).cnt).unwrap_or_default() };
            let places = (0..count).map(|index| {
                let element = &*(*list).elems.add(index);
                let topic = CStr::from_ptr(element.topic).to_string_lossy();
                (Place::new(&topic, element.partition), element.err)
            });
            let answer = CommitAnswer {
                number: sys::rd_kafka_event_opaque(event).addr(),
                code: sys::rd_kafka_event_error(event),
                places: places.collect(),
            };
            sys::rd_kafka_event_destroy(event);
            Some(answer)
        }
    }
}

impl Drop for CommitQueue {
    fn drop(&mut self) {
        // SAFETY: as `PartitionQueue`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}
