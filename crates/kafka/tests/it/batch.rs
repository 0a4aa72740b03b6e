//! Batches as tests make them.

use std::time::Duration;
use weir_runtime::log::{HeaderSpan, RecordBatch, RecordSpan};

/// How long anything may take on a loaded machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

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
        batch.headers.push(HeaderSpan { name: "weir.seq", value: text });
    }
    let headers = first..batch.headers.len() as u32;
    batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms: 1_700_000_000_000 });
}
