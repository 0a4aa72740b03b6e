//! `rdkafka-batch`, the floor: a group member that takes records out of librdkafka in batches and counts them.
#![expect(unsafe_code, reason = "librdkafka's batch call has no safe form")]

use crate::lap::{Lap, Order, answer_and_stay};
use rdkafka::config::ClientConfig;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::ptr;
use std::time::{Duration, Instant};

/// Messages of one call.
const AT_ONCE: usize = 1000;

/// How long a call waits for a full batch: it returns early only when it is full.
const WAIT_MS: i32 = 5;

pub(crate) fn run(order: &Order) -> Result<(), String> {
    let [warm, measured] = order.passes();
    pass(order, warm)?;
    answer_and_stay(&pass(order, measured)?);
    Ok(())
}

fn pass(order: &Order, (group, records, time_max): (String, u64, Duration)) -> Result<String, String> {
    let mut lap = Lap::begin();
    let config = ClientConfig::new()
        .set("bootstrap.servers", &order.bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create_native_config()
        .map_err(|error| error.to_string())?;
    let topic = CString::new(order.topic.as_str()).map_err(|error| error.to_string())?;
    let mut text = [0; 512];
    let mut count = 0;
    // SAFETY: plain use of librdkafka's C interface: the client takes the configuration; list, queue and client are
    // given back once, in this order; each message is given back once; the array has room for what is asked for.
    unsafe {
        let client = sys::rd_kafka_new(
            sys::rd_kafka_type_t::RD_KAFKA_CONSUMER,
            sys::rd_kafka_conf_dup(config.ptr()),
            text.as_mut_ptr(),
            text.len(),
        );
        if client.is_null() {
            return Err("librdkafka makes no consumer".to_owned());
        }
        sys::rd_kafka_poll_set_consumer(client);
        let topics = sys::rd_kafka_topic_partition_list_new(1);
        sys::rd_kafka_topic_partition_list_add(topics, topic.as_ptr(), -1);
        sys::rd_kafka_subscribe(client, topics);
        sys::rd_kafka_topic_partition_list_destroy(topics);
        let queue = sys::rd_kafka_queue_get_consumer(client);
        let started = Instant::now();
        let mut messages = [ptr::null_mut(); AT_ONCE];
        while count < records && started.elapsed() < time_max {
            let got =
                sys::rd_kafka_consume_batch_queue(queue, WAIT_MS, messages.as_mut_ptr(), messages.len());
            for message in &messages[..usize::try_from(got).unwrap_or_default()] {
                if (**message).err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    lap.first();
                    count += 1;
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
        let line = lap.end(count);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_consumer_close(client);
        sys::rd_kafka_destroy(client);
        Ok(line)
    }
}
