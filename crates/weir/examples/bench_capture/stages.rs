//! How the CPU of the Weir process is split into stages.
//!
//! In place, by the thread's own CPU clock, once per call: the handler (route + encode + counting) and, inside it,
//! handing the records to librdkafka. By thread name: librdkafka's own threads and the one that serves its reports.
//! Apart, after the run: parsing, on fresh copies of the same frames in the same process. What the workers spent
//! beside these is receiving: socket reads, the budget, answers, and tokio itself.

use crate::shape::{self, CODEC};
use crate::usage::thread_ns;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weir_hbase::replication::{Handler, Promise, ReplicateCall};
use weir_runtime::log::{Job, LogWriter, RecordBatch};
use weir_wire::hbase::call::parse_call;
use weir_wire::hbase::replication::ReplicateRequest;

/// Nanoseconds of CPU in the stages that are timed in place.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    handle: AtomicU64,
    append: AtomicU64,
}

impl Clocks {
    /// Both, as a line.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.handle.load(Ordering::Relaxed), self.append.load(Ordering::Relaxed))
    }

    /// Reads the line: seconds in the handler, and of these in the append.
    pub(crate) fn parse(line: &str) -> (f64, f64) {
        let (handle, append) = line.split_once(' ').unwrap();
        let seconds = |text: &str| text.parse::<f64>().unwrap() / 1e9;
        (seconds(handle), seconds(append))
    }
}

/// The log, timed.
pub(crate) struct TimedLog<L> {
    pub(crate) log: L,
    pub(crate) clocks: Arc<Clocks>,
}

impl<L: LogWriter> LogWriter for TimedLog<L> {
    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        let before = thread_ns();
        let job = self.log.append(batch);
        self.clocks.append.fetch_add(thread_ns() - before, Ordering::Relaxed);
        job
    }
}

/// The handler, timed.
pub(crate) struct TimedHandler {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) clocks: Arc<Clocks>,
}

impl Handler for TimedHandler {
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise {
        let before = thread_ns();
        let promise = self.handler.replicate(call);
        self.clocks.handle.fetch_add(thread_ns() - before, Ordering::Relaxed);
        promise
    }
}

/// Microseconds that parsing one entry takes, on fresh copies of what a connection reads.
pub(crate) fn parse_us(shape: usize) -> f64 {
    const ROUNDS: usize = 300;
    let frame = shape::frame(shape, "t", 0);
    let mut spent = 0;
    for _ in 0..ROUNDS {
        let copy = std::hint::black_box(frame.bytes[4..].to_vec());
        let before = thread_ns();
        let call = parse_call(&copy).unwrap();
        let request = ReplicateRequest::parse(call.param, call.cell_block, CODEC).unwrap();
        assert_eq!(std::hint::black_box(&request).entry_count(), shape::ENTRIES_PER_CALL);
        spent += thread_ns() - before;
    }
    spent as f64 / 1000.0 / (ROUNDS * shape::ENTRIES_PER_CALL) as f64
}
