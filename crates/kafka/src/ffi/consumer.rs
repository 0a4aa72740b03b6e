//! A partition's own queue, read in batches without waiting, and the queue of commits' answers; both ring a bell when
//! they become non-empty.

use super::messages::{Message, QueueError};
use super::payload::{Lender, to_records};
use crate::source::whole::Wholes;
use rdkafka::TopicPartitionList;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;
use weir_model::limits;
use weir_runtime::budget::Budget;
use weir_runtime::record::{Place, Record};
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

/// Where what a queue has goes.
pub(crate) struct Into<'a> {
    pub(crate) place: &'a Place,
    pub(crate) lender: &'a Lender,
    /// The values of the partition that came in parts.
    pub(crate) wholes: &'a mut Wholes,
    pub(crate) records: &'a mut Vec<Record>,
    pub(crate) errors: &'a mut Vec<QueueError>,
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
    pub(crate) fn read(&self, count_max: usize, budget: &Budget, into: Into<'_>) {
        const AT_ONCE: usize = limits::FETCH_RECORDS_MAX;
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
        // SAFETY: they came from `rd_kafka_consume_batch_queue` just now, and nobody else has them. The client waits for
        // what is lent (`KafkaSource::close`); the others are gone when this returns.
        let messages = messages[..got].iter().filter_map(|message| NonNull::new(*message));
        let messages = messages.map(|message| unsafe { Message::new(message) }).collect();
        to_records(messages, into.place, into.lender, budget, into.wholes, into.records, into.errors);
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
