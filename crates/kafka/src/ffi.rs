//! The few calls of librdkafka that its Rust wrapper lacks: batch production without copies, delivery reports in bulk.
//!
//! All `unsafe` of Weir is here. A batch's arena stays where it is until the last delivery report of its records: each
//! record's opaque is a pointer to its [`Flight`], which is freed when `left` reaches zero.
#![expect(unsafe_code, reason = "librdkafka is C; each block says why it is sound")]

pub(crate) mod committed;
pub(crate) mod consumer;
pub(crate) mod messages;
pub(crate) mod payload;

use rdkafka::config::ClientConfig;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::log::RecordBatch;

/// A handle of a producer.
#[derive(Debug)]
pub(crate) struct Handle {
    client: *mut sys::rd_kafka_t,
    main: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's handles may be used from any thread at once.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// A topic of a handle, and how many partitions it had when it was looked up.
#[derive(Debug)]
pub(crate) struct Topic {
    topic: *mut sys::rd_kafka_topic_t,
    pub(crate) partition_count: i32,
}

// SAFETY: as `Handle`.
unsafe impl Send for Topic {}
// SAFETY: as `Handle`.
unsafe impl Sync for Topic {}

/// Called once with the first error of a flight, or none, and its batch.
type Landed = Box<dyn FnOnce(Option<Code>, RecordBatch) + Send>;

/// A batch on its way. Lives until every record has its report.
pub(crate) struct Flight {
    pub(crate) batch: RecordBatch,
    left: AtomicUsize,
    failed: Mutex<Option<Code>>,
    landed: Mutex<Option<Landed>>,
}

impl Flight {
    /// A flight of `count` messages; `landed` gets the first error, or none, and the batch.
    pub(crate) fn new(
        batch: RecordBatch,
        count: usize,
        landed: impl FnOnce(Option<Code>, RecordBatch) + Send + 'static,
    ) -> Box<Self> {
        Box::new(Self {
            batch,
            left: AtomicUsize::new(count),
            failed: Mutex::new(None),
            landed: Mutex::new(Some(Box::new(landed))),
        })
    }
}

/// Marks `count` messages of a flight as reported; frees it after the last.
///
/// SAFETY (caller): `flight` came from `Box::into_raw` and has at least `count` messages left.
unsafe fn report(flight: *mut Flight, count: usize, error: Option<Code>) {
    // SAFETY: by the caller's promise it is alive.
    let this = unsafe { &*flight };
    if let Some(code) = error {
        this.failed.lock().expect("no panic under this lock").get_or_insert(code);
    }
    if this.left.fetch_sub(count, Ordering::AcqRel) == count {
        // SAFETY: the last report; nobody else holds the pointer.
        let Flight { batch, failed, landed, .. } = *unsafe { Box::from_raw(flight) };
        let failed = failed.into_inner().expect("no panic under this lock");
        if let Some(landed) = landed.into_inner().expect("no panic under this lock") {
            landed(failed, batch);
        }
    }
}

/// Runs `launch` with the flight's pointer and batch, then gives back the one message that was ours.
///
/// `launch` must hand over or report each of the other messages exactly once.
pub(crate) fn with_flight(flight: Box<Flight>, launch: impl FnOnce(*mut Flight, &RecordBatch)) {
    let pointer = Box::into_raw(flight);
    // SAFETY: our own message keeps the flight alive until the report below; nobody writes to the batch.
    launch(pointer, unsafe { &(*pointer).batch });
    // SAFETY: our own message was not reported yet.
    unsafe { report(pointer, 1, None) };
}

/// One message to produce: ranges were resolved to slices of the flight's arena.
pub(crate) struct Message<'a> {
    pub(crate) partition: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) timestamp_ms: i64,
}

/// The arguments of `rd_kafka_produceva`: made once per run of one flight, changed in place from message to message.
///
/// One call a message, because librdkafka's batch call carries neither headers nor timestamps.
pub(crate) struct Run {
    client: *mut sys::rd_kafka_t,
    flight: *mut Flight,
    arguments: [sys::rd_kafka_vu_t; 7],
    /// The partition in which a message was refused, and why: what comes after it there must not overtake it.
    refused: Option<(*mut sys::rd_kafka_topic_t, i32, Code)>,
}

impl Run {
    pub(crate) fn new(handle: &Handle, flight: *mut Flight) -> Self {
        use sys::rd_kafka_vtype_t as Kind;
        const KINDS: [Kind; 7] = [
            Kind::RD_KAFKA_VTYPE_RKT,
            Kind::RD_KAFKA_VTYPE_PARTITION,
            Kind::RD_KAFKA_VTYPE_KEY,
            Kind::RD_KAFKA_VTYPE_VALUE,
            Kind::RD_KAFKA_VTYPE_TIMESTAMP,
            Kind::RD_KAFKA_VTYPE_OPAQUE,
            Kind::RD_KAFKA_VTYPE_HEADERS,
        ];
        // SAFETY: a union of plain data, whose zero is valid; `hand_over` sets the member that each type names.
        let mut arguments = KINDS.map(|vtype| sys::rd_kafka_vu_t { vtype, ..unsafe { std::mem::zeroed() } });
        arguments[5].u.ptr = flight.cast();
        Self { client: handle.client, flight, arguments, refused: None }
    }

    /// Hands one message over. A refused one is reported at once, and so are all after it in its partition.
    pub(crate) fn hand_over<'h>(
        &mut self,
        topic: &Topic,
        message: &Message<'_>,
        headers: impl ExactSizeIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        if let Some((of, partition, code)) = self.refused
            && (of, partition) == (topic.topic, message.partition)
        {
            // SAFETY: this message was not handed over and gets no report of its own.
            return unsafe { report(self.flight, 1, Some(code)) };
        }
        let memory = |bytes: Option<&[u8]>| sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: pointer(bytes),
            size: bytes.map_or(0, <[u8]>::len),
        };
        let list = header_list(headers);
        let [of_topic, partition, key, value, timestamp, _, of_headers] = &mut self.arguments;
        of_topic.u.rkt = topic.topic;
        partition.u.i32_ = message.partition;
        key.u.mem = memory(message.key);
        value.u.mem = memory(message.value);
        timestamp.u.i64_ = message.timestamp_ms;
        of_headers.u.headers = list;
        // SAFETY: each argument has the member that its type names; a null list means none. Topic and handle are
        // alive. librdkafka copies the key; the value is in the flight's arena, which lives until the last report.
        unsafe {
            let error = sys::rd_kafka_produceva(self.client, self.arguments.as_ptr(), self.arguments.len());
            if !error.is_null() {
                let code = sys::rd_kafka_error_code(error);
                sys::rd_kafka_error_destroy(error);
                if !list.is_null() {
                    // On failure the list stays ours.
                    sys::rd_kafka_headers_destroy(list);
                }
                self.refused = Some((topic.topic, message.partition, code));
                report(self.flight, 1, Some(code));
            }
        }
    }
}

/// A list that the message will own; null when there is nothing to list. librdkafka copies names and values.
fn header_list<'h>(
    headers: impl ExactSizeIterator<Item = (&'h str, Option<&'h [u8]>)>,
) -> *mut sys::rd_kafka_headers_t {
    if headers.len() == 0 {
        return ptr::null_mut();
    }
    // SAFETY: the list is new and ours; names and values are passed with their lengths.
    unsafe {
        // With its exact size: a list that grows costs a second allocation.
        let list = sys::rd_kafka_headers_new(headers.len());
        for (name, value) in headers {
            sys::rd_kafka_header_add(
                list,
                name.as_ptr().cast(),
                name.len().cast_signed(),
                pointer(value),
                value.map_or(0, <[u8]>::len).cast_signed(),
            );
        }
        list
    }
}

/// Bytes as librdkafka wants them: none is null, and empty is not.
fn pointer(bytes: Option<&[u8]>) -> *mut c_void {
    bytes.map_or(ptr::null_mut(), |bytes| bytes.as_ptr().cast::<c_void>().cast_mut())
}

impl Handle {
    /// A producer by this configuration.
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, String> {
        let native = config.create_native_config().map_err(|error| error.to_string())?;
        let mut text = [0u8; 512];
        // SAFETY: `native` is a valid configuration; `rd_kafka_new` takes it over on success only, so it is
        // duplicated and the copy freed on failure. `text` has the length that is passed. Log lines come to the main
        // queue, which `log.queue` is for.
        unsafe {
            let conf = sys::rd_kafka_conf_dup(native.ptr());
            let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
            sys::rd_kafka_conf_set_events(conf, events);
            let client = sys::rd_kafka_new(
                sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                conf,
                text.as_mut_ptr().cast(),
                text.len(),
            );
            if client.is_null() {
                sys::rd_kafka_conf_destroy(conf);
                let text = CStr::from_bytes_until_nul(&text).map(CStr::to_string_lossy).unwrap_or_default();
                return Err(text.into_owned());
            }
            sys::rd_kafka_set_log_queue(client, ptr::null_mut());
            Ok(Self { client, main: sys::rd_kafka_queue_get_main(client) })
        }
    }

    /// Looks a topic up; `Err` says why the cluster does not have it.
    pub(crate) fn topic(&self, name: &str, timeout_ms: i32) -> Result<Topic, Code> {
        let name = CString::new(name).map_err(|_| Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION)?;
        // SAFETY: name and handle are valid; the metadata is read within its lifetime and freed.
        unsafe {
            let topic = sys::rd_kafka_topic_new(self.client, name.as_ptr(), ptr::null_mut());
            if topic.is_null() {
                return Err(Code::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION);
            }
            let mut topic = Topic { topic, partition_count: 0 };
            let mut metadata = ptr::null();
            let code = sys::rd_kafka_metadata(self.client, 0, topic.topic, &raw mut metadata, timeout_ms);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(code);
            }
            let found = if (*metadata).topic_cnt == 1 {
                &*(*metadata).topics
            } else {
                sys::rd_kafka_metadata_destroy(metadata);
                return Err(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
            };
            let (code, partition_count) = (found.err, found.partition_cnt);
            sys::rd_kafka_metadata_destroy(metadata);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(code);
            }
            if partition_count == 0 {
                return Err(Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
            }
            topic.partition_count = partition_count;
            Ok(topic)
        }
    }

    /// Waits for delivery reports and errors, and serves them. Returns a fatal error's text, once.
    pub(crate) fn serve(&self, timeout_ms: i32) -> Served {
        // SAFETY: the event is valid until destroyed; its messages are read before that.
        unsafe {
            let event = sys::rd_kafka_queue_poll(self.main, timeout_ms);
            if event.is_null() {
                return Served::Nothing;
            }
            let mut served = Served::Nothing;
            match sys::rd_kafka_event_type(event) {
                sys::RD_KAFKA_EVENT_DR => {
                    served = Served::Reports;
                    serve_reports(event);
                }
                sys::RD_KAFKA_EVENT_ERROR => {
                    let text = CStr::from_ptr(sys::rd_kafka_event_error_string(event))
                        .to_string_lossy()
                        .into_owned();
                    served = if sys::rd_kafka_event_error_is_fatal(event) != 0
                        || sys::rd_kafka_event_error(event) == Code::RD_KAFKA_RESP_ERR__FATAL
                    {
                        Served::Fatal(text)
                    } else {
                        Served::Error(sys::rd_kafka_event_error(event), text)
                    };
                }
                sys::RD_KAFKA_EVENT_LOG => served = log_line(event),
                _ => {}
            }
            sys::rd_kafka_event_destroy(event);
            served
        }
    }

    /// Waits until everything queued is reported, at most so long.
    pub(crate) fn flush(&self, timeout_ms: i32) {
        // SAFETY: the handle is valid.
        unsafe {
            sys::rd_kafka_flush(self.client, timeout_ms);
        }
    }

    /// Gives up everything queued or in flight; reports follow.
    pub(crate) fn purge(&self) {
        // SAFETY: the handle is valid.
        unsafe {
            sys::rd_kafka_purge(self.client, sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
        }
    }

    /// Messages that have no report yet.
    pub(crate) fn queued(&self) -> usize {
        // SAFETY: the handle is valid.
        usize::try_from(unsafe { sys::rd_kafka_outq_len(self.client) }).unwrap_or_default()
    }
}

/// What one turn of [`Handle::serve`] met.
pub(crate) enum Served {
    Nothing,
    Reports,
    Error(Code, String),
    Fatal(String),
    /// A line of its log: syslog's level, what part of it speaks, and the line.
    Log(i32, String, String),
}

/// SAFETY (caller): `event` is a live event of a log line.
unsafe fn log_line(event: *mut sys::rd_kafka_event_t) -> Served {
    let (mut facility, mut text, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: on success both strings are set, and live as long as the event; they are copied.
    unsafe {
        if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level) != 0 {
            return Served::Nothing;
        }
        let copy = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
        Served::Log(level, copy(facility), copy(text))
    }
}

/// SAFETY (caller): `event` is a live event of delivery reports.
unsafe fn serve_reports(event: *mut sys::rd_kafka_event_t) {
    let mut messages: [*const sys::rd_kafka_message_t; 512] = [ptr::null(); 512];
    // Reports of one flight come together: count a run before touching its counter.
    let (mut flight, mut count, mut error) = (ptr::null_mut::<Flight>(), 0, None);
    loop {
        // SAFETY: the array has the length that is passed.
        let got = unsafe { sys::rd_kafka_event_message_array(event, messages.as_mut_ptr(), messages.len()) };
        if got == 0 {
            break;
        }
        for message in messages.iter().take(got) {
            // SAFETY: librdkafka filled `got` valid pointers; `_private` is the flight that was passed in.
            let (of, code) = unsafe { ((**message)._private.cast::<Flight>(), (**message).err) };
            if of != flight {
                if count > 0 {
                    // SAFETY: `count` reports of this flight were seen and not yet counted.
                    unsafe { report(flight, count, error) };
                }
                (flight, count, error) = (of, 0, None);
            }
            count += 1;
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                error = error.or(Some(code));
            }
        }
    }
    if count > 0 {
        // SAFETY: as above.
        unsafe { report(flight, count, error) };
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once.
        unsafe { sys::rd_kafka_topic_destroy(self.topic) };
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created by us, destroyed once; topics hold their own reference inside librdkafka.
        unsafe {
            sys::rd_kafka_queue_destroy(self.main);
            sys::rd_kafka_destroy(self.client);
        }
    }
}
