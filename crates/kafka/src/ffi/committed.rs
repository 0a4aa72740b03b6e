//! Asks for a group's commits without waiting for the answer, which `rd_kafka_committed` cannot.

use super::consumer::{Bell, bytes_of, ring};
use rdkafka::TopicPartitionList;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::record::Place;
use weir_runtime::wake::Wake;

/// What a group has committed of one partition.
pub(crate) struct Committed {
    pub(crate) place: Place,
    /// Whether the rest is known.
    pub(crate) code: Code,
    pub(crate) offset: Option<i64>,
    /// Empty when there is none or it is no text.
    pub(crate) metadata: String,
}

/// Where the answers arrive.
pub(crate) struct CommittedQueue {
    client: *mut sys::rd_kafka_t,
    queue: *mut sys::rd_kafka_queue_t,
    group: CString,
    // Held for the callback, which has its address.
    _bell: Box<Bell>,
}

// SAFETY: as `PartitionQueue`.
unsafe impl Send for CommittedQueue {}

impl CommittedQueue {
    /// `client` is a live consumer that outlives the queue.
    pub(crate) fn new(client: *mut sys::rd_kafka_t, group: &str, wake: &Wake) -> Self {
        let bell = Bell::new(wake);
        // SAFETY: the client is alive by the caller's promise; the bell outlives the callback (see `Drop`).
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(client);
            let opaque: *const Bell = &raw const *bell;
            sys::rd_kafka_queue_cb_event_enable(queue, Some(ring), opaque.cast_mut().cast());
            queue
        };
        // A name with a NUL in it was refused when the client was made of it.
        let group = CString::new(group).unwrap_or_default();
        Self { client, queue, group, _bell: bell }
    }

    /// Asks; the answer comes within this time. Offsets of transactions under way are waited for by the broker's refusal.
    pub(crate) fn ask(&self, list: &TopicPartitionList, wait_max: Duration) {
        let wait_ms = c_int::try_from(wait_max.as_millis()).unwrap_or(c_int::MAX);
        let mut text: [c_char; 512] = [0; 512];
        // SAFETY: client, queue and list are alive; what is asked is copied, and what was made here is given back once.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(
                self.client,
                sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS,
            );
            // A limit that librdkafka does not take is its own default of 60 s.
            sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, text.as_mut_ptr(), text.len());
            let error = sys::rd_kafka_AdminOptions_set_require_stable_offsets(options, 1);
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
            }
            let mut asked = sys::rd_kafka_ListConsumerGroupOffsets_new(self.group.as_ptr(), list.ptr());
            sys::rd_kafka_ListConsumerGroupOffsets(self.client, &raw mut asked, 1, options, self.queue);
            sys::rd_kafka_ListConsumerGroupOffsets_destroy(asked);
            sys::rd_kafka_AdminOptions_destroy(options);
        }
    }

    /// The answer to the oldest question, if it comes in time; 0 does not wait.
    pub(crate) fn answer(&self, wait_max: Duration) -> Option<Result<Vec<Committed>, Code>> {
        let wait_ms = c_int::try_from(wait_max.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: the event is ours until destroyed; all that it holds is read before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.queue, wait_ms);
            if event.is_null() {
                return None;
            }
            let answer = read(event);
            sys::rd_kafka_event_destroy(event);
            Some(answer)
        }
    }
}

/// SAFETY (caller): `event` is alive.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Vec<Committed>, Code> {
    // SAFETY: by the caller's promise; groups, their lists and their elements belong to the event.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code);
        }
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event);
        let mut count = 0;
        let groups = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count)
        };
        if groups.is_null() || count == 0 {
            return Err(Code::RD_KAFKA_RESP_ERR__BAD_MSG);
        }
        let error = sys::rd_kafka_group_result_error(*groups);
        if !error.is_null() {
            return Err(sys::rd_kafka_error_code(error));
        }
        let list = sys::rd_kafka_group_result_partitions(*groups);
        let count = if list.is_null() { 0 } else { usize::try_from((*list).cnt).unwrap_or_default() };
        let all = (0..count).map(|index| {
            let element = &*(*list).elems.add(index);
            let topic = CStr::from_ptr(element.topic).to_string_lossy();
            let metadata = bytes_of(element.metadata, element.metadata_size).unwrap_or_default();
            Committed {
                place: Place::new(&topic, element.partition),
                code: element.err,
                offset: (element.offset >= 0).then_some(element.offset),
                metadata: String::from_utf8_lossy(metadata).into_owned(),
            }
        });
        Ok(all.collect())
    }
}

impl Drop for CommittedQueue {
    fn drop(&mut self) {
        // SAFETY: as `PartitionQueue`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}
