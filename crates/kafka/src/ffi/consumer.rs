//! A partition's own queue, read in batches without waiting, and the queue of commits' answers; both ring a bell when
//! they become non-empty.

use super::messages::{Message, QueueError};
use super::payload::{Lender, to_records};
use crate::reader::EVENTS_MAX;
use crate::reasons::Reasons;
use crate::source::whole::Wholes;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
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
    pub(crate) fn read(&self, count_max: usize, budget: &Budget, into: Into<'_>) -> Met {
        // Before the read: what comes after it rings again, because the queue was empty then.
        self.bell.is_ready.store(false, Ordering::Release);
        let wanted = count_max.min(limits::FETCH_RECORDS_MAX);
        let mut messages = self.take_batch(wanted);
        let mut met = Met::default();
        if let Some(last) = messages.last().filter(|last| last.error().is_some()) {
            met = Met { end: last.end(), seek: Some(last.offset()) };
        }
        while met.seek.is_none() && messages.len() < wanted {
            let Some(message) = self.take_one() else { break };
            met.end = message.end();
            messages.push(message);
        }
        if messages.len() == wanted || met.seek.is_some() {
            self.bell.is_ready.store(true, Ordering::Release);
        }
        to_records(messages, into.place, into.lender, budget, into.wholes, into.records, into.errors);
        met
    }

    /// Takes many at once while far more are there.
    ///
    /// librdkafka counts an error, and the end of a partition is one, as a record that was read
    /// (`rd_kafka_q_serve_rkmessages`): after the next rebalance it would go on one record too late. Taken one by one it is
    /// not counted. It stands behind the records, so the first half of the queue has none, unless most of it is markers.
    fn take_batch(&self, wanted: usize) -> Vec<Message> {
        // SAFETY: the queue is alive.
        let there = unsafe { sys::rd_kafka_queue_length(self.queue) };
        if there < BATCH_MIN {
            return Vec::new();
        }
        let mut messages = [ptr::null_mut(); limits::FETCH_RECORDS_MAX];
        // SAFETY: the array has room for what is wanted, which is not more than its length; a time-out of 0 does not wait.
        let got = unsafe {
            sys::rd_kafka_consume_batch_queue(self.queue, 0, messages.as_mut_ptr(), wanted.min(there / 2))
        };
        let got = usize::try_from(got).unwrap_or_default();
        let messages = messages[..got].iter().filter_map(|message| NonNull::new(*message));
        // SAFETY: they came from `rd_kafka_consume_batch_queue` just now, and nobody else has them. The client waits for
        // what is lent (`KafkaSource::close`).
        messages.map(|message| unsafe { Message::new(message) }).collect()
    }

    fn take_one(&self) -> Option<Message> {
        // SAFETY: the queue is alive; a time-out of 0 does not wait. The message is ours, as in `take_batch`.
        unsafe {
            NonNull::new(sys::rd_kafka_consume_queue(self.queue, 0)).map(|message| Message::new(message))
        }
    }
}

impl Met {
    /// Whether nothing more is to be read now.
    pub(crate) const fn is_over(&self) -> bool {
        self.end.is_some() || self.seek.is_some()
    }
}

/// Messages in a queue from which half of them are taken at once.
const BATCH_MIN: usize = 64;

/// What reading a queue met, beside records and errors.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Where the partition ends, if what was read came to it.
    pub(crate) end: Option<i64>,
    /// The partition must be put back to this offset: an error was counted as a record.
    pub(crate) seek: Option<i64>,
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

/// Events of a live consumer that wait to be served. A call of `poll` serves one, and does not say whether it did.
pub(crate) fn waiting(client: *mut sys::rd_kafka_t) -> usize {
    // SAFETY: the client is alive by the caller's promise; the reference to the queue is given back.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(client);
        if queue.is_null() {
            return 0;
        }
        let count = sys::rd_kafka_queue_length(queue);
        sys::rd_kafka_queue_destroy(queue);
        count
    }
}

/// Ends a client whose consumer has left its group. The wrapper would close it once more when it is dropped, and log
/// that as an error; what else the wrapper has (a reference to a queue, a callback) is left to it, some 200 bytes.
pub(crate) fn end_left<C: ConsumerContext>(consumer: Arc<BaseConsumer<C>>) {
    let client = consumer.client().native_ptr();
    std::mem::forget(consumer);
    // SAFETY: alive, and never used again: its only owner was forgotten, and a client is destroyed by nobody else.
    unsafe {
        sys::rd_kafka_destroy_flags(client, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
    }
}

/// Reads the errors and log lines of a live client that nobody else serves, such as an admin client's.
pub(crate) fn overhear(client: *mut sys::rd_kafka_t, reasons: &Reasons) {
    // SAFETY: the client is alive by the caller's promise; the queue's reference is given back, and so is each event
    // after its strings are copied.
    unsafe {
        let queue = sys::rd_kafka_queue_get_main(client);
        for _ in 0..EVENTS_MAX {
            let event = sys::rd_kafka_queue_poll(queue, 0);
            if event.is_null() {
                break;
            }
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_ERROR => {
                    let text = CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy();
                    reasons.event(sys::rd_kafka_event_error(event).into(), &text);
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
                    let code =
                        sys::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level);
                    if code == 0 {
                        let copy = |text| CStr::from_ptr(text).to_string_lossy();
                        reasons.line(&copy(facility), &copy(text));
                    }
                }
                _ => {}
            }
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_queue_destroy(queue);
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
