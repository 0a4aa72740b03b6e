//! Asks the brokers for the ids of topics, which the wrapper's metadata lacks: a topic that was deleted and created again
//! has another id under the same name.

use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;

/// What a topic is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// The upper half of its id: 64 bits that a cluster chose by chance.
    pub(crate) id: [u8; 8],
    /// How many partitions it has.
    pub(crate) partition_count: i32,
}

/// Whether the cluster names a controller, which librdkafka asks unless it is told another broker. Its own mock cluster
/// has none.
///
/// `client` is a live client.
pub(crate) fn has_controller(client: *mut sys::rd_kafka_t) -> bool {
    // SAFETY: the client is alive; a time-out of 0 does not wait.
    unsafe { sys::rd_kafka_controllerid(client, 0) >= 0 }
}

/// Describes topics, by this broker or the controller. Topics that are not there, that may not be seen, or whose brokers know no ids (before
/// 2.8) are left out. Waits for the answer.
///
/// `client` is a live client.
pub(crate) fn describe(
    client: *mut sys::rd_kafka_t,
    topics: &[&str],
    broker: Option<i32>,
    wait_max: Duration,
) -> Result<BTreeMap<String, TopicFacts>, Code> {
    let names: Vec<CString> = topics.iter().filter_map(|topic| CString::new(*topic).ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    let wait_ms = c_int::try_from(wait_max.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the client is alive by the caller's promise. The names outlive the collection, which copies them. Whatever
    // is made here is given back once; the event's parts are read before it is destroyed.
    unsafe {
        let queue = sys::rd_kafka_queue_new(client);
        let collection = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = sys::rd_kafka_AdminOptions_new(
            client,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        let mut why = [0; 128];
        sys::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, why.as_mut_ptr(), why.len());
        if let Some(broker) = broker {
            sys::rd_kafka_AdminOptions_set_broker(options, broker, why.as_mut_ptr(), why.len());
        }
        sys::rd_kafka_DescribeTopics(client, collection, options, queue);
        // Longer than the request itself may take: what is still under way when the client ends would end the process.
        let event = sys::rd_kafka_queue_poll(queue, wait_ms.saturating_add(5000));
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(collection);
        let found = if event.is_null() {
            Err(Code::RD_KAFKA_RESP_ERR__TIMED_OUT)
        } else {
            let found = read(event);
            sys::rd_kafka_event_destroy(event);
            found
        };
        sys::rd_kafka_queue_destroy(queue);
        found
    }
}

/// SAFETY (caller): `event` is alive.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<BTreeMap<String, TopicFacts>, Code> {
    // SAFETY: the result and its topics live as long as the event; all is copied.
    unsafe {
        let code = sys::rd_kafka_event_error(event);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(code);
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(Code::RD_KAFKA_RESP_ERR__FAIL);
        }
        let (mut count, mut all) = (0, BTreeMap::new());
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, ptr::from_mut(&mut count));
        for index in 0..count {
            let topic = *topics.add(index);
            let error = sys::rd_kafka_TopicDescription_error(topic);
            if !error.is_null() && sys::rd_kafka_error_code(error) != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                continue;
            }
            let mut partition_count = 0;
            sys::rd_kafka_TopicDescription_partitions(topic, ptr::from_mut(&mut partition_count));
            let id = sys::rd_kafka_Uuid_most_significant_bits(sys::rd_kafka_TopicDescription_topic_id(topic));
            if id == 0 || partition_count == 0 {
                continue;
            }
            let name =
                CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let partition_count = i32::try_from(partition_count).unwrap_or(i32::MAX);
            all.insert(name, TopicFacts { id: id.to_be_bytes(), partition_count });
        }
        Ok(all)
    }
}
