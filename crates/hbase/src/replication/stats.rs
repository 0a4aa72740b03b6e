//! Counters of a replication server, and a picture of each source for the console.

use super::refusals::{Refusal, Refusals};
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why a connection or call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Not HBase's preamble, or one we do not speak.
    Preamble,
    /// A TLS handshake.
    Tls,
    /// A login that we do not speak: Kerberos, delegation token.
    Authentication,
    /// Connection header: its form, or the service.
    Header,
    /// The codec of cell blocks.
    Codec,
    /// The compressor of cell blocks.
    Compressor,
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

impl Refused {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::Preamble,
        Self::Tls,
        Self::Authentication,
        Self::Header,
        Self::Codec,
        Self::Compressor,
        Self::FrameLength,
        Self::Malformed,
        Self::Method,
        Self::Stalled,
        Self::Draining,
    ];

    /// The label used in metrics and JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Preamble => "preamble",
            Self::Tls => "tls",
            Self::Authentication => "authentication",
            Self::Header => "header",
            Self::Codec => "codec",
            Self::Compressor => "compressor",
            Self::FrameLength => "frame-length",
            Self::Malformed => "malformed",
            Self::Method => "method",
            Self::Stalled => "stalled",
            Self::Draining => "draining",
        }
    }

    /// Whether it is found before the first call of a connection.
    #[must_use]
    pub const fn is_of_connection(self) -> bool {
        match self {
            Self::Preamble
            | Self::Tls
            | Self::Authentication
            | Self::Header
            | Self::Codec
            | Self::Compressor => true,
            Self::FrameLength | Self::Malformed | Self::Method | Self::Stalled | Self::Draining => false,
        }
    }
}

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
    refused: [AtomicU64; Refused::ALL.len()],
    pub(super) refusals: Refusals,
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
    /// Machines that are refused now.
    pub refusals: Vec<Refusal>,
    /// Source machines.
    pub sources: Vec<(String, SourceSnapshot)>,
}

pub(super) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Stats {
    /// Counts a refusal and notes who was refused; `detail` is what they asked for.
    pub(super) fn refuse(&self, address: IpAddr, why: Refused, detail: &str) {
        if let Some(counter) = self.refused.get(why as usize) {
            add(counter, 1);
        }
        self.refusals.note(address, why, detail);
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
            refused: Refused::ALL
                .iter()
                .zip(&self.refused)
                .map(|(why, counter)| (why.label(), get(counter)))
                .collect(),
            refusals: self.refusals.snapshot(),
            sources: sources.iter().map(|(address, source)| (address.to_string(), source.clone())).collect(),
        }
    }
}
