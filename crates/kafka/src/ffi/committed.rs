//! Reads a group's commits out of a list; the wrapper panics at metadata that is no text.

use super::messages::bytes_of;
use rdkafka::TopicPartitionList;
use rdkafka_sys as sys;
use std::ffi::CStr;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::record::Place;

/// What a group has committed of one partition.
pub(crate) struct Committed {
    pub(crate) place: Place,
    /// Whether the rest is known.
    pub(crate) code: Code,
    pub(crate) offset: Option<i64>,
    /// Empty when there is none or it is no text.
    pub(crate) metadata: String,
}

/// The commits in a list that was asked for.
pub(crate) fn read(list: &TopicPartitionList) -> Vec<Committed> {
    // SAFETY: the list is alive and has `cnt` elements, whose topics are C strings; all is copied.
    unsafe {
        let list = list.ptr();
        let count = usize::try_from((*list).cnt).unwrap_or_default();
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
        all.collect()
    }
}
