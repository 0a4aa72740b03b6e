//! Creates topics and reads their settings, with the broker's own words when it refuses.
//!
//! The wrapper's admin client drops `rd_kafka_topic_result_error_string`, in which the broker says why. Each question
//! has a queue of its own, so that no answer is taken for another.

use super::consumer::overhear;
use crate::reasons::{Listener, Reasons};
use rdkafka::admin::AdminClient;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

/// Time that librdkafka has beyond the request's own time-out to deliver the answer.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// How often the client's errors are looked at while an answer is waited for.
const LISTEN_EVERY: Duration = Duration::from_millis(100);

/// Why an admin request, or one part of it, was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    /// The broker's own text; librdkafka's text of the code when the broker sent none.
    pub(crate) text: String,
}

/// A topic to create.
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replication: i32,
    pub(crate) settings: &'a [(&'a str, String)],
}

/// One setting of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// `None` when the broker keeps it to itself.
    pub(crate) value: Option<String>,
    pub(crate) source: sys::rd_kafka_ConfigSource_t,
}

/// The settings of one topic, or why the broker does not tell them.
pub(crate) type Described = Result<Vec<Entry>, Refused>;

/// Frees what librdkafka has allocated.
struct Guard<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Guard<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the allocator that belongs to this destructor, and is freed once.
            unsafe { (self.1)(self.0) }
        }
    }
}

fn refused(code: Code, text: *const c_char) -> Refused {
    // SAFETY: librdkafka's texts are C strings that live as long as their event; both are copied.
    let text = unsafe {
        let text = if text.is_null() { sys::rd_kafka_err2str(code) } else { text };
        CStr::from_ptr(text).to_string_lossy().into_owned()
    };
    Refused { code, text }
}

fn text_of(text: &str) -> Result<CString, Refused> {
    CString::new(text).map_err(|_| Refused {
        code: Code::RD_KAFKA_RESP_ERR__INVALID_ARG,
        text: "a name or a value holds the byte 0".to_owned(),
    })
}

/// Creates a topic. Blocks until the broker has answered, at most for `timeout` and two seconds.
pub(crate) fn create_topic(
    admin: &AdminClient<Listener>,
    new: &NewTopic<'_>,
    timeout: Duration,
) -> Result<(), Refused> {
    let client = admin.inner().native_ptr();
    let name = text_of(new.name)?;
    let mut error = [0u8; 512];
    // SAFETY: `name` is a C string, `error` has the length that is passed.
    let topic = unsafe {
        sys::rd_kafka_NewTopic_new(
            name.as_ptr(),
            new.partitions,
            new.replication,
            error.as_mut_ptr().cast(),
            error.len(),
        )
    };
    if topic.is_null() {
        return Err(refused(Code::RD_KAFKA_RESP_ERR__INVALID_ARG, error.as_ptr().cast()));
    }
    let topic = Guard(topic, sys::rd_kafka_NewTopic_destroy);
    for (key, value) in new.settings {
        let (key, value) = (text_of(key)?, text_of(value)?);
        // SAFETY: the topic is alive; librdkafka copies both strings.
        let code = unsafe { sys::rd_kafka_NewTopic_set_config(topic.0, key.as_ptr(), value.as_ptr()) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(refused(code, ptr::null()));
        }
    }
    let mut topics = [topic.0];
    let asked = |options, queue| {
        // SAFETY: client, options, queue and the topic are alive; librdkafka copies the topic.
        unsafe { sys::rd_kafka_CreateTopics(client, topics.as_mut_ptr(), topics.len(), options, queue) };
    };
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
    let event = ask((client, &admin.inner().context().reasons), operation, timeout, asked)?;
    // SAFETY: the event is alive until the end of this function, and what it holds as long as it is; a null result is
    // not read.
    unsafe {
        let result = sys::rd_kafka_event_CreateTopics_result(event.0);
        if result.is_null() {
            return Err(refused(Code::RD_KAFKA_RESP_ERR__BAD_MSG, ptr::null()));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
        for index in 0..count {
            let one = *topics.add(index);
            let code = sys::rd_kafka_topic_result_error(one);
            if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
                return Err(refused(code, sys::rd_kafka_topic_result_error_string(one)));
            }
        }
    }
    Ok(())
}

/// Reads the settings of topics, in the order of `names`. Blocks as [`create_topic`] does.
pub(crate) fn describe_topics(
    admin: &AdminClient<Listener>,
    names: &[&str],
    timeout: Duration,
) -> Result<Vec<(String, Described)>, Refused> {
    let client = admin.inner().native_ptr();
    let mut resources = Vec::with_capacity(names.len());
    for name in names {
        let name = text_of(name)?;
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        // SAFETY: the name is a C string, which librdkafka copies.
        let resource = unsafe { sys::rd_kafka_ConfigResource_new(kind, name.as_ptr()) };
        resources.push(Guard(resource, sys::rd_kafka_ConfigResource_destroy));
    }
    let mut pointers: Vec<_> = resources.iter().map(|resource| resource.0).collect();
    let asked = |options, queue| {
        // SAFETY: client, options, queue and resources are alive; librdkafka copies the resources.
        unsafe {
            sys::rd_kafka_DescribeConfigs(client, pointers.as_mut_ptr(), pointers.len(), options, queue);
        }
    };
    let operation = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
    let event = ask((client, &admin.inner().context().reasons), operation, timeout, asked)?;
    // SAFETY: as in `create_topic`.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0);
        if result.is_null() {
            return Err(refused(Code::RD_KAFKA_RESP_ERR__BAD_MSG, ptr::null()));
        }
        let mut count = 0;
        let all = sys::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
        Ok((0..count).map(|index| described(*all.add(index))).collect())
    }
}

/// SAFETY (caller): `resource` is alive.
unsafe fn described(resource: *const sys::rd_kafka_ConfigResource_t) -> (String, Described) {
    // SAFETY: by the caller's promise; all strings are copied.
    unsafe {
        let copy = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
        let name = copy(sys::rd_kafka_ConfigResource_name(resource));
        let code = sys::rd_kafka_ConfigResource_error(resource);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return (name, Err(refused(code, sys::rd_kafka_ConfigResource_error_string(resource))));
        }
        let mut count = 0;
        let all = sys::rd_kafka_ConfigResource_configs(resource, &raw mut count);
        let entry = |index| {
            let entry = *all.add(index);
            let value = sys::rd_kafka_ConfigEntry_value(entry);
            Entry {
                name: copy(sys::rd_kafka_ConfigEntry_name(entry)),
                value: (!value.is_null()).then(|| copy(value)),
                source: sys::rd_kafka_ConfigEntry_source(entry),
            }
        };
        (name, Ok((0..count).map(entry).collect()))
    }
}

/// Sends one request and waits for its answer; a failure of the whole request is an error.
fn ask(
    (client, reasons): (*mut sys::rd_kafka_t, &Reasons),
    operation: sys::rd_kafka_admin_op_t,
    timeout: Duration,
    send: impl FnOnce(*const sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
) -> Result<Guard<sys::rd_kafka_event_t>, Refused> {
    let milliseconds = |span: Duration| i32::try_from(span.as_millis()).unwrap_or(i32::MAX);
    let mut error = [0u8; 512];
    // SAFETY: the client is alive, because the caller holds it; `error` has the length that is passed; options and
    // queue are freed after the answer or the time-out, and librdkafka keeps its own reference to a queue in use.
    unsafe {
        let options =
            Guard(sys::rd_kafka_AdminOptions_new(client, operation), sys::rd_kafka_AdminOptions_destroy);
        let code = sys::rd_kafka_AdminOptions_set_request_timeout(
            options.0,
            milliseconds(timeout),
            error.as_mut_ptr().cast(),
            error.len(),
        );
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(refused(code, error.as_ptr().cast()));
        }
        if operation == sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS {
            // Without it the broker answers before the topic is there.
            let (span, error_bytes) = (milliseconds(timeout), error.len());
            let error = error.as_mut_ptr().cast();
            sys::rd_kafka_AdminOptions_set_operation_timeout(options.0, span, error, error_bytes);
        }
        let queue = Guard(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy);
        send(options.0, queue.0);
        let deadline = Instant::now() + timeout + ANSWER_MARGIN;
        let event = loop {
            let event = sys::rd_kafka_queue_poll(queue.0, milliseconds(LISTEN_EVERY));
            if !event.is_null() {
                break event;
            }
            // librdkafka tells the reason elsewhere, and nobody serves an admin client's events. Some reasons are final.
            overhear(client, reasons);
            if reasons.is_final("").is_some() || Instant::now() >= deadline {
                return Err(refused(Code::RD_KAFKA_RESP_ERR__TIMED_OUT, ptr::null()));
            }
        };
        let event = Guard(event, sys::rd_kafka_event_destroy);
        let code = sys::rd_kafka_event_error(event.0);
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(refused(code, sys::rd_kafka_event_error_string(event.0)));
        }
        Ok(event)
    }
}
