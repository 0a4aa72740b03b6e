//! The child that is the floor: the records of Weir, made once, handed to librdkafka by a bare loop.
//!
//! The same keys, values, headers and timestamps under the same settings of librdkafka; no network before it, no
//! parsing, no routing, and nobody waits for an answer.
#![expect(unsafe_code, reason = "bare librdkafka calls are the point of it")]

use crate::measure::Variant;
use crate::shape::{self, CODEC, CONNECTIONS, PARTITIONS, REGIONS, SOURCE};
use crate::weir_side::{producer_config, settings};
use rdkafka_sys as sys;
use std::io::BufRead as _;
use std::time::{Duration, Instant};
use weir_apps::capture::Capture;
use weir_runtime::log::RecordBatch;
use weir_wire::hbase::call::parse_call;
use weir_wire::hbase::replication::ReplicateRequest;

/// Records in librdkafka's hands at most: as many as the calls that the sources keep in flight with Weir.
const QUEUED_MAX: i32 = (CONNECTIONS * REGIONS * shape::ENTRIES_PER_CALL) as i32;

struct Floor {
    client: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    batches: Vec<RecordBatch>,
    done: u64,
}

/// Answers `run SECONDS` with entries and seconds.
pub(crate) fn run(words: &[&str]) {
    let (bootstrap, variant, shape, table) =
        (words[0], Variant::of(words[1]), words[2].parse().unwrap(), words[3]);
    let batches = (0..CONNECTIONS * REGIONS).map(|region| batch(shape, table, region, variant)).collect();
    let mut floor = Floor::start(bootstrap, variant, table, batches);
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let seconds: u64 = line.strip_prefix("run ").unwrap().parse().unwrap();
        let (entries, seconds) = floor.produce(Duration::from_secs(seconds));
        println!("{entries} {seconds}");
    }
}

/// What Weir makes of one call.
fn batch(shape: usize, table: &str, region: usize, variant: Variant) -> RecordBatch {
    let frame = shape::frame(shape, table, region);
    let call = parse_call(&frame.bytes[4..]).unwrap();
    let request = ReplicateRequest::parse(call.param, call.cell_block, CODEC).unwrap();
    let mut batch = RecordBatch::default();
    Capture::new(settings(variant)).route(SOURCE, &request, &mut batch).unwrap();
    batch
}

impl Floor {
    fn start(bootstrap: &str, variant: Variant, table: &str, batches: Vec<RecordBatch>) -> Self {
        let client = producer_config(bootstrap, variant).client().unwrap();
        let name = std::ffi::CString::new(table).unwrap();
        // SAFETY: plain use of librdkafka as its header says; the configuration is taken over by the client.
        unsafe {
            let native = client.create_native_config().unwrap();
            let conf = sys::rd_kafka_conf_dup(native.ptr());
            sys::rd_kafka_conf_set_events(conf, sys::RD_KAFKA_EVENT_DR);
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = sys::rd_kafka_new(kind, conf, std::ptr::null_mut(), 0);
            assert!(!client.is_null(), "librdkafka refuses its settings");
            let topic = sys::rd_kafka_topic_new(client, name.as_ptr(), std::ptr::null_mut());
            Self { client, topic, batches, done: 0 }
        }
    }

    /// Produces for a while and waits until all is durable; entries of this run, and seconds.
    fn produce(&mut self, wanted: Duration) -> (u64, f64) {
        let (started, before) = (Instant::now(), self.done);
        let batches = std::mem::take(&mut self.batches);
        // SAFETY: the handle lives as long as the process, keys and values as long as this function, and it
        // returns only once nothing is queued.
        unsafe {
            let main = sys::rd_kafka_queue_get_main(self.client);
            'all: loop {
                for batch in &batches {
                    let key = batch.bytes(&batch.records[0].key);
                    let partition = weir_kafka::partition::of_key(key, PARTITIONS);
                    while sys::rd_kafka_outq_len(self.client) + batch.records.len() as i32 > QUEUED_MAX {
                        self.serve(main, 1);
                    }
                    if batch.headers.is_empty() {
                        self.hand_over_at_once(batch, partition);
                    } else {
                        self.hand_over_singly(batch, partition);
                    }
                    self.serve(main, 0);
                    if started.elapsed() > wanted {
                        break 'all;
                    }
                }
            }
            while sys::rd_kafka_outq_len(self.client) > 0 {
                self.serve(main, 10);
            }
            sys::rd_kafka_queue_destroy(main);
        }
        self.batches = batches;
        (self.done - before, started.elapsed().as_secs_f64())
    }

    /// Takes delivery reports and looks at none of them but its error.
    unsafe fn serve(&mut self, main: *mut sys::rd_kafka_queue_t, wait_ms: i32) {
        let mut messages = [std::ptr::null(); 512];
        // SAFETY: the event lives until it is destroyed; the array has the length that is passed.
        unsafe {
            let event = sys::rd_kafka_queue_poll(main, wait_ms);
            if event.is_null() {
                return;
            }
            loop {
                let got = sys::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len());
                if got == 0 {
                    break;
                }
                for message in &messages[..got] {
                    let error: sys::rd_kafka_resp_err_t = (**message).err;
                    assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
                }
                self.done += got as u64;
            }
            sys::rd_kafka_event_destroy(event);
        }
    }

    /// Without headers: librdkafka's batch call.
    unsafe fn hand_over_at_once(&self, batch: &RecordBatch, partition: i32) {
        // SAFETY: zero is the empty value of this plain structure; see `produce` for the rest.
        unsafe {
            let empty: sys::rd_kafka_message_t = std::mem::zeroed();
            let mut messages: Vec<sys::rd_kafka_message_t> = batch
                .records
                .iter()
                .map(|record| sys::rd_kafka_message_t {
                    payload: batch.bytes(&record.value).as_ptr().cast_mut().cast(),
                    len: record.value.len(),
                    key: batch.bytes(&record.key).as_ptr().cast_mut().cast(),
                    key_len: record.key.len(),
                    ..empty
                })
                .collect();
            let count = messages.len() as i32;
            let taken = sys::rd_kafka_produce_batch(self.topic, partition, 0, messages.as_mut_ptr(), count);
            assert_eq!(taken, count, "the queue has no limit");
        }
    }

    /// With headers, which the batch call cannot carry: one call a record.
    unsafe fn hand_over_singly(&self, batch: &RecordBatch, partition: i32) {
        use sys::rd_kafka_vtype_t as Kind;
        for record in &batch.records {
            let header = &batch.headers[record.headers.start as usize];
            let (key, value) = (batch.bytes(&record.key), batch.bytes(&record.value));
            let text = batch.bytes(&header.value);
            // SAFETY: the arguments are what each kind wants; the list goes over to the message.
            unsafe {
                let list = sys::rd_kafka_headers_new(1);
                sys::rd_kafka_header_add(
                    list,
                    header.name.as_ptr().cast(),
                    header.name.len().cast_signed(),
                    text.as_ptr().cast(),
                    text.len().cast_signed(),
                );
                let error = sys::rd_kafka_producev(
                    self.client,
                    Kind::RD_KAFKA_VTYPE_RKT,
                    self.topic,
                    Kind::RD_KAFKA_VTYPE_PARTITION,
                    partition,
                    Kind::RD_KAFKA_VTYPE_KEY,
                    key.as_ptr(),
                    key.len(),
                    Kind::RD_KAFKA_VTYPE_VALUE,
                    value.as_ptr(),
                    value.len(),
                    Kind::RD_KAFKA_VTYPE_TIMESTAMP,
                    record.timestamp_ms,
                    Kind::RD_KAFKA_VTYPE_HEADERS,
                    list,
                    Kind::RD_KAFKA_VTYPE_END,
                );
                assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
            }
        }
    }
}
