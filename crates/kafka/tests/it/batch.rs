//! Batches as tests make them.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};
use weir_runtime::log::{HeaderSpan, RecordBatch, RecordSpan};

/// How long anything may take on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// When all records of a test process were written.
pub(crate) fn written_ms() -> i64 {
    static WRITTEN_MS: OnceLock<i64> = OnceLock::new();
    *WRITTEN_MS.get_or_init(|| UNIX_EPOCH.elapsed().unwrap().as_millis().try_into().unwrap())
}

/// Adds a record of the batch's first topic; with a header when `header` is not empty.
pub(crate) fn push(batch: &mut RecordBatch, key: &[u8], value: &[u8], header: &str) {
    let mut put = |bytes: &[u8]| {
        let start = batch.arena.len() as u32;
        batch.arena.extend_from_slice(bytes);
        start..batch.arena.len() as u32
    };
    let (key, value, text) = (put(key), put(value), put(header.as_bytes()));
    let first = batch.headers.len() as u32;
    if !header.is_empty() {
        batch.headers.push(HeaderSpan { name: "weir.seq".into(), value: text });
    }
    let headers = first..batch.headers.len() as u32;
    batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms: written_ms() });
}
