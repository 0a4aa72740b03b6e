//! Counters of a replication server, and a picture of each source for the console.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection or call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not HBase's preamble, or one we do not speak.
    Preamble,
    /// Connection header: service, codec or compressor.
    Header,
    /// Frame length over the limit or negative.
    FrameLength,
    /// Bytes of a call that do not parse.
    Malformed,
    /// Method that we do not have.
    Method,
    /// A frame that began and did not end in time.
    Stalled,
    /// We are shutting down.
    Draining,
}

/// All reasons with their labels.
const REFUSED: [(Refused, &str); 7] = [
    (Refused::Preamble, "preamble"),
    (Refused::Header, "header"),
    (Refused::FrameLength, "frame-length"),
    (Refused::Malformed, "malformed"),
    (Refused::Method, "method"),
    (Refused::Stalled, "stalled"),
    (Refused::Draining, "draining"),
];

/// Live counters.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) connections_open: AtomicU64,
    pub(super) calls_open: AtomicU64,
    pub(super) calls: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) cells: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) again: AtomicU64,
    pub(super) late: AtomicU64,
    pub(super) overlaps: AtomicU64,
    refused: [AtomicU64; REFUSED.len()],
    sources: Mutex<BTreeMap<IpAddr, SourceSnapshot>>,
    in_flight: Mutex<HashSet<u64>>,
}

/// One source machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceSnapshot {
    /// Connections open now.
    pub connections: u64,
    /// Calls taken.
    pub calls: u64,
    /// Entries taken.
    pub entries: u64,
    /// Frame bytes taken.
    pub bytes: u64,
    /// Newest write time of an entry, ms since 1970.
    pub last_write_ms: u64,
    /// HBase version it says it has.
    pub version: String,
}

/// Counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections open now.
    pub connections_open: u64,
    /// Calls taken and not finished.
    pub calls_open: u64,
    /// Calls taken.
    pub calls: u64,
    /// Entries in them.
    pub entries: u64,
    /// Cells in them.
    pub cells: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Calls answered OK.
    pub done: u64,
    /// Calls answered with a retriable exception by the handler.
    pub again: u64,
    /// Calls answered because the source's time-out drew near.
    pub late: u64,
    /// Calls that repeat one whose first attempt still runs.
    pub overlaps: u64,
    /// Refused connections and calls, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Source machines.
    pub sources: Vec<(String, SourceSnapshot)>,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Stats {
    pub(super) fn refuse(&self, why: Refused) {
        if let Some(counter) = self.refused.get(why as usize) {
            add(counter, 1);
        }
    }

    pub(super) fn source(&self, address: IpAddr, change: impl FnOnce(&mut SourceSnapshot)) {
        change(self.sources.lock().expect("no panic under this lock").entry(address).or_default());
    }

    /// Notes a call's fingerprint; true when the same one is in flight already.
    pub(super) fn enter(&self, fingerprint: u64) -> bool {
        let is_new = self.in_flight.lock().expect("no panic under this lock").insert(fingerprint);
        if !is_new {
            add(&self.overlaps, 1);
        }
        !is_new
    }

    pub(super) fn leave(&self, fingerprint: u64) {
        self.in_flight.lock().expect("no panic under this lock").remove(&fingerprint);
    }

    /// Calls taken and not finished.
    #[must_use]
    pub fn calls_open(&self) -> u64 {
        self.calls_open.load(Ordering::Acquire)
    }

    /// All counters at this moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let sources = self.sources.lock().expect("no panic under this lock");
        Snapshot {
            connections_open: get(&self.connections_open),
            calls_open: get(&self.calls_open),
            calls: get(&self.calls),
            entries: get(&self.entries),
            cells: get(&self.cells),
            bytes: get(&self.bytes),
            done: get(&self.done),
            again: get(&self.again),
            late: get(&self.late),
            overlaps: get(&self.overlaps),
            refused: REFUSED
                .iter()
                .zip(&self.refused)
                .map(|((_, label), counter)| (*label, get(counter)))
                .collect(),
            sources: sources.iter().map(|(address, source)| (address.to_string(), source.clone())).collect(),
        }
    }
}
