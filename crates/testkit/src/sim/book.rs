//! What was written at the source and what came to the log: the checks that hold at every moment, and those at the end.

use super::plan::KeyBy;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard};
use weir_model::ClusterId;
use weir_wire::hbase::cell_block::{Cell, CellKind};
use weir_wire::{change, identity};

/// One cell that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedCell {
    /// Row key.
    pub row: Vec<u8>,
    /// Family.
    pub family: &'static [u8],
    /// Qualifier.
    pub qualifier: Vec<u8>,
    /// Timestamp.
    pub timestamp: u64,
    /// Type.
    pub kind: CellKind,
    /// Value.
    pub value: Vec<u8>,
    /// Tags.
    pub tags: Vec<u8>,
}

impl OwnedCell {
    /// As a slice.
    #[must_use]
    pub fn view(&self) -> Cell<'_> {
        Cell {
            row: &self.row,
            family: self.family,
            qualifier: &self.qualifier,
            timestamp: self.timestamp,
            kind: self.kind,
            value: &self.value,
            tags: &self.tags,
        }
    }
}

/// One WAL entry of the source.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Encoded region name.
    pub region: Arc<str>,
    /// Sequence number.
    pub sequence: u64,
    /// Replication queue into which it was written.
    pub queue: usize,
    /// Table.
    pub table: &'static str,
    /// Write time, ms since 1970.
    pub write_time_ms: u64,
    /// Cells.
    pub cells: Vec<OwnedCell>,
    /// Whether it must come to the log; markers, empty entries and system tables must not.
    pub is_wanted: bool,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// An entry is acknowledged only when all of it is in the log.
    DurableBeforeOk,
    /// Every entry of the source is in the log at the end.
    NothingLost,
    /// A new entry of a region and queue never stands before an older one in a partition.
    Order,
    /// The log holds nothing that was not written, and that as it was written.
    NothingInvented,
    /// A call is answered, or its connection gone, before the source's time-out.
    AnswerInTime,
    /// At rest the budget is whole and no call is open.
    NothingHeld,
    /// A shut-down ends in time.
    DrainInTime,
    /// When all troubles are over, the queues drain.
    Progress,
}

/// A broken promise with its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Which promise.
    pub promise: Promise,
    /// What was seen.
    pub seen: String,
}

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries written at the source.
    pub entries: u64,
    /// Records in the log.
    pub records: u64,
    /// Of them, those that came again.
    pub repeats: u64,
    /// Calls answered OK.
    pub acknowledged: u64,
    /// Calls that failed or timed out.
    pub failed: u64,
    /// Calls that timed out at the source.
    pub timed_out: u64,
}

/// One record as the log is handed it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Key.
    pub key: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
    /// Value of the header `weir`.
    pub header: Option<Vec<u8>>,
}

#[derive(Debug)]
struct Written {
    entry: Arc<Entry>,
    /// Rows, when records are keyed by row; else one.
    parts: u32,
    seen: HashSet<u32>,
}

#[derive(Debug, Default)]
struct Pages {
    written: HashMap<(Arc<str>, u64), Written>,
    /// Newest first appearance by (partition, region, queue).
    newest: HashMap<(usize, Arc<str>, usize), u64>,
    breaches: Vec<Breach>,
    counts: Counts,
    trace: u64,
}

/// The book of one run.
#[derive(Debug)]
pub struct Book {
    source: ClusterId,
    key_by: KeyBy,
    has_headers: bool,
    pages: Mutex<Pages>,
}

/// More breaches than this say nothing new.
const BREACHES_MAX: usize = 20;

impl Book {
    /// An empty book.
    #[must_use]
    pub fn new(source: ClusterId, key_by: KeyBy, has_headers: bool) -> Self {
        Self { source, key_by, has_headers, pages: Mutex::default() }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().expect("no panic under this lock")
    }

    /// Id of the source cluster.
    #[must_use]
    pub const fn source(&self) -> ClusterId {
        self.source
    }

    /// Notes that a client's write is in the WAL.
    pub fn write(&self, entry: &Arc<Entry>) {
        let parts = match self.key_by {
            KeyBy::Region => 1,
            KeyBy::Row | KeyBy::RowLength(_) | KeyBy::RowDelimiter(_) => rows(entry).len() as u32,
        };
        let mut pages = self.pages();
        pages.counts.entries += 1;
        let written = Written { entry: Arc::clone(entry), parts, seen: HashSet::new() };
        pages.written.insert((Arc::clone(&entry.region), entry.sequence), written);
    }

    /// Notes that a record is durable in a partition, and checks it.
    pub fn append(&self, partition: usize, record: &Record) {
        let mut pages = self.pages();
        pages.counts.records += 1;
        pages.note(("append", partition, &record.key, &record.value));
        if let Err((promise, seen)) = self.check(&mut pages, partition, record) {
            pages.breach(promise, seen);
        }
    }

    fn check(&self, pages: &mut Pages, partition: usize, record: &Record) -> Result<(), (Promise, String)> {
        let invented = |seen: String| (Promise::NothingInvented, seen);
        let change = change::decode(&record.value)
            .map_err(|error| invented(format!("a record does not parse: {error}")))?;
        let (region, sequence) = (change.encoded_region, change.sequence);
        let name = format!("{region}/{sequence}");
        let Some(written) = pages.written.get_mut(&(Arc::from(region), sequence)) else {
            return Err(invented(format!("{name} was never written")));
        };
        let entry = Arc::clone(&written.entry);
        if !entry.is_wanted {
            return Err(invented(format!("{name} should not leave the cluster")));
        }
        let index = change.row_part.map_or(0, |part| part.index);
        let expect: Vec<Cell<'_>> = match change.row_part {
            None => entry.cells.iter().map(OwnedCell::view).collect(),
            Some(part) => {
                let rows = rows(&entry);
                let row = rows.get(part.index as usize).copied().unwrap_or_default();
                entry.cells.iter().filter(|cell| cell.row == row).map(OwnedCell::view).collect()
            }
        };
        let key = self.key_by.key(region.as_bytes(), expect.first().map_or(&[][..], |cell| cell.row));
        let count = change.row_part.map_or(1, |part| part.count);
        let is_whole = change.cells == expect
            && !expect.is_empty()
            && record.key == key
            && count == written.parts
            && change.table == entry.table
            && change.write_time_ms == entry.write_time_ms
            && change.source == self.source
            && change.cluster_ids == [self.source]
            && record.topic == format!("hbase.{}.wal", entry.table.replace(':', "--"));
        if !is_whole {
            return Err(invented(format!(
                "{name} is not as it was written: {change:?}, key {:?}",
                record.key
            )));
        }
        let header = record.header.as_deref().map(identity::parse);
        let is_named = match header {
            None => !self.has_headers,
            Some(Ok(said)) => {
                said.source == self.source && said.encoded_region == region && said.sequence == sequence
            }
            Some(Err(_)) => false,
        };
        if !is_named {
            return Err(invented(format!("the header of {name} is {:?}", record.header)));
        }
        if !written.seen.insert(index) {
            pages.counts.repeats += 1;
            return Ok(());
        }
        let newest = pages.newest.entry((partition, Arc::clone(&entry.region), entry.queue)).or_default();
        if *newest > sequence {
            let seen = format!("{name} stands after {} in partition {partition}", *newest);
            return Err((Promise::Order, seen));
        }
        *newest = sequence;
        Ok(())
    }

    /// Notes that the source has heard OK for these.
    pub fn acknowledge(&self, entries: &[Arc<Entry>]) {
        let mut pages = self.pages();
        pages.counts.acknowledged += 1;
        pages.note(("ok", entries.len()));
        for entry in entries.iter().filter(|entry| entry.is_wanted) {
            let key = (Arc::clone(&entry.region), entry.sequence);
            let is_durable =
                pages.written.get(&key).is_some_and(|written| written.seen.len() as u32 == written.parts);
            if !is_durable {
                let seen = format!("{}/{} is acknowledged and not in the log", entry.region, entry.sequence);
                pages.breach(Promise::DurableBeforeOk, seen);
            }
        }
    }

    /// Notes a call that failed.
    pub fn fail(&self, is_timeout: bool) {
        let mut pages = self.pages();
        pages.counts.failed += 1;
        pages.counts.timed_out += u64::from(is_timeout);
        pages.note(("failed", is_timeout));
    }

    /// Notes a broken promise.
    pub fn breach(&self, promise: Promise, seen: String) {
        self.pages().breach(promise, seen);
    }

    /// Checks that everything has come, and ends the book.
    #[must_use]
    pub fn close(&self) -> (Vec<Breach>, Counts, u64) {
        let mut pages = self.pages();
        let mut missing = BTreeMap::new();
        for ((region, sequence), written) in &pages.written {
            if written.entry.is_wanted && written.seen.len() as u32 != written.parts {
                missing.insert((Arc::clone(region), *sequence), (written.seen.len(), written.parts));
            }
        }
        for ((region, sequence), (seen, parts)) in missing {
            let seen = format!("{region}/{sequence}: {seen} of {parts} records are in the log");
            pages.breach(Promise::NothingLost, seen);
        }
        (std::mem::take(&mut pages.breaches), pages.counts, pages.trace)
    }
}

impl Pages {
    fn breach(&mut self, promise: Promise, seen: String) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(Breach { promise, seen });
        }
    }

    /// Mixes an event into the trace: two runs of one seed must have the same.
    fn note(&mut self, event: impl std::hash::Hash) {
        let mut hasher = std::hash::DefaultHasher::new();
        (self.trace, event).hash(&mut hasher);
        self.trace = hasher.finish();
    }
}

/// The rows of an entry, in order of first appearance.
fn rows(entry: &Entry) -> Vec<&[u8]> {
    let mut rows: Vec<&[u8]> = Vec::new();
    for cell in &entry.cells {
        if !rows.contains(&cell.row.as_slice()) {
            rows.push(&cell.row);
        }
    }
    rows
}
