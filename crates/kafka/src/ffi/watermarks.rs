//! What librdkafka last heard of a partition's ends; nobody is asked.

use rdkafka_sys as sys;
use std::ffi::CString;
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::record::Place;

/// One past the newest record of a partition, as the last answer to a fetch of it said; `None` before the first one.
///
/// `client` is a live consumer.
pub(crate) fn end(client: *mut sys::rd_kafka_t, place: &Place) -> Option<i64> {
    let topic = CString::new(&*place.topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive by the caller's promise; both offsets outlive the call, which does not wait.
    let code = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            client,
            topic.as_ptr(),
            place.partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (code == Code::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}
