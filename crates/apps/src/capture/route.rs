//! One replication call into one batch of records.
//!
//! Records are encoded straight into the batch's arena, in the order of the entries. A call is routed whole or
//! refused whole: there is no half.

use super::{Capture, KeyRule};
use weir_model::{TableName, TopicName, limits};
use weir_runtime::log::{HeaderSpan, RecordBatch, RecordSpan};
use weir_wire::change::{self, Encoder};
use weir_wire::hbase::bulk_load;
use weir_wire::hbase::cell_block::Cell;
use weir_wire::hbase::markers::{self, Marker};
use weir_wire::hbase::replication::{Entry, ReplicateRequest};
use weir_wire::identity::{self, EventIdentity, Stamp};

/// Why an entry or a cell was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Entry of a table of HBase itself.
    SystemTable,
    /// Entry of a table that the settings leave out.
    Table,
    /// Cell, or files of a bulk load, of a family that the settings leave out.
    Family,
    /// Entry without cells.
    Empty,
    /// Marker of HBase's own (flush, compaction, region event).
    Marker,
    /// Marker that this version does not know or cannot read.
    UnknownMarker,
    /// Heartbeat of a region server: it tells of a server, not of the table under whose name it is filed.
    Heartbeat,
}

/// All reasons with the label that metrics use, in the order of [`Report::skipped`].
pub const SKIP_REASONS: [(SkipReason, &str); 7] = [
    (SkipReason::SystemTable, "system-table"),
    (SkipReason::Table, "table-filter"),
    (SkipReason::Family, "family-filter"),
    (SkipReason::Empty, "no-cells"),
    (SkipReason::Marker, "marker"),
    (SkipReason::UnknownMarker, "unknown-marker"),
    (SkipReason::Heartbeat, "heartbeat"),
];

/// Why a whole call cannot be routed. The source must wait until the operator fixes the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The table's name is no HBase table name.
    #[error("the entry's table name is not one")]
    Table(#[from] weir_model::names::TableNameError),
    /// No topic can be named after the table.
    #[error("table {table} has no topic")]
    Topic {
        /// The table.
        table: TableName,
        /// Why not.
        source: weir_model::topic::TopicNameError,
    },
    /// A bulk-load marker does not parse.
    #[error("marker of table {table} does not parse")]
    Marker {
        /// The table.
        table: TableName,
        /// What is wrong with it.
        source: weir_wire::WireError,
    },
    /// More bytes than a batch can address.
    #[error("the call makes more than 2 GiB of records")]
    TooLarge,
}

/// What of one table a call brought to the log. A table of which nothing came is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The table.
    pub table: TableName,
    /// Its topic.
    pub topic: TopicName,
    /// Entries that became records.
    pub entries: u64,
    /// Cells in them.
    pub cells: u64,
    /// Bytes of the records' values.
    pub bytes: u64,
    /// Bulk-load events.
    pub bulk_loads: u64,
    /// Newest write time of its entries and events, ms since 1970.
    pub last_write_ms: u64,
    /// Index of the topic in the batch.
    topic_index: u16,
}

/// A region server's word on how far its WAL was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The region server, `host,port,start code`.
    pub server: String,
    /// When it was written to the WAL, ms since 1970: what is before it there has been read.
    pub write_time_ms: u64,
}

/// What a call brought, and what of it was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By table, in order of first appearance.
    pub tables: Vec<TableReport>,
    /// Counts by reason, in the order of [`SKIP_REASONS`].
    pub skipped: [u64; SKIP_REASONS.len()],
    /// Heartbeats, which are skipped too.
    pub heartbeats: Vec<Heartbeat>,
}

impl Report {
    /// How often this was the reason.
    #[must_use]
    pub fn skipped(&self, reason: SkipReason) -> u64 {
        self.skipped.get(reason as usize).copied().unwrap_or_default()
    }

    fn skip(&mut self, reason: SkipReason, count: u64) {
        if let Some(slot) = self.skipped.get_mut(reason as usize) {
            *slot += count;
        }
    }

    /// Entries that became records, over all tables.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.tables.iter().map(|table| table.entries).sum()
    }
}

/// Where entries of one table go.
enum Way {
    Skipped(SkipReason),
    /// Nothing can be sent under this name.
    Refused(Refusal),
    Captured(Captured),
}

/// A table that is captured.
struct Captured {
    table: TableName,
    /// Its place in the report, once a record was written: a call must not fail for want of a topic that it does not
    /// need.
    place: Option<usize>,
}

impl Capture {
    /// Routes a call into `batch`, which must be empty. `source` is the id of the source cluster.
    ///
    /// # Errors
    /// When an entry can be neither sent nor rightly skipped; nothing of the call may be acknowledged then.
    pub fn route(
        &self,
        source: weir_model::ClusterId,
        request: &ReplicateRequest<'_>,
        batch: &mut RecordBatch,
    ) -> Result<Report, Refusal> {
        let mut report = Report::default();
        let mut ways: Vec<(&[u8], Way)> = Vec::new();
        let mut encoder = Encoder::new(source);
        let mut stamp = Stamp::new(&source.to_string());
        for entry in request.entries() {
            let known = ways.iter().rposition(|(table, _)| *table == entry.key.table);
            let place = known.unwrap_or_else(|| {
                ways.push((entry.key.table, self.way(entry.key.table)));
                ways.len() - 1
            });
            match &mut ways[place].1 {
                Way::Skipped(reason) => {
                    if of_no_table(&entry, &mut report) < entry.cells.len() || entry.cells.len() == 0 {
                        report.skip(*reason, 1);
                    }
                }
                Way::Refused(refusal) => {
                    if of_no_table(&entry, &mut report) < entry.cells.len() {
                        return Err(refusal.clone());
                    }
                    report.skip(SkipReason::Empty, u64::from(entry.cells.len() == 0));
                }
                Way::Captured(captured) => {
                    let (encoder, stamp, batch) = (&mut encoder, &mut stamp, &mut *batch);
                    let report = &mut report;
                    let mut writer = Writer { capture: self, request, source, encoder, stamp, batch, report };
                    writer.entry(&entry, captured)?;
                }
            }
            if batch.arena.len() > limits::CALL_ARENA_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(report)
    }

    fn way(&self, name: &[u8]) -> Way {
        match TableName::from_bytes(name) {
            Err(error) => Way::Refused(error.into()),
            Ok(table) if table.is_system() => Way::Skipped(SkipReason::SystemTable),
            Ok(table) if !self.settings.takes(&table) => Way::Skipped(SkipReason::Table),
            Ok(table) => Way::Captured(Captured { table, place: None }),
        }
    }
}

/// Counts the cells of an entry that change nothing in its table, and how many they are.
fn of_no_table(entry: &Entry<'_>, report: &mut Report) -> usize {
    let cells = entry.cells.filter(markers::is_of_no_table);
    cells.map(|cell| note(&cell, entry, report)).count()
}

/// Notes a marker that is of no table: it is never sent, whatever the name of the table it is filed under.
fn note(cell: &Cell<'_>, entry: &Entry<'_>, report: &mut Report) {
    let reason = match markers::parse(cell) {
        Ok(Marker::Replication { server, .. }) => {
            let (server, write_time_ms) = (server.to_owned(), entry.key.write_time_ms);
            report.heartbeats.push(Heartbeat { server, write_time_ms });
            SkipReason::Heartbeat
        }
        Ok(Marker::Internal) => SkipReason::Marker,
        Ok(Marker::BulkLoad(_) | Marker::Unknown) | Err(_) => SkipReason::UnknownMarker,
    };
    report.skip(reason, 1);
}

/// Writes the records of one entry.
struct Writer<'w, 'r> {
    capture: &'w Capture,
    request: &'w ReplicateRequest<'r>,
    source: weir_model::ClusterId,
    encoder: &'w mut Encoder<'r>,
    stamp: &'w mut Stamp<'r>,
    batch: &'w mut RecordBatch,
    report: &'w mut Report,
}

impl<'r> Writer<'_, 'r> {
    fn entry(&mut self, entry: &Entry<'r>, captured: &mut Captured) -> Result<(), Refusal> {
        let families = self.capture.settings.families.get(&captured.table);
        let (mut sent, mut has_load) = (0u64, false);
        let takes =
            |name: &[u8]| families.is_none_or(|families| families.iter().any(|family| family == name));
        for cell in entry.cells {
            if markers::is_marker(&cell) {
                if markers::is_of_no_table(&cell) {
                    note(&cell, entry, self.report);
                } else {
                    has_load = true;
                }
            } else if takes(cell.family) {
                sent += 1;
            } else {
                self.report.skip(SkipReason::Family, 1);
            }
        }
        if entry.cells.len() == 0 {
            self.report.skip(SkipReason::Empty, 1);
        }
        if has_load {
            self.bulk_loads(entry, captured, &takes)?;
        }
        if sent == 0 {
            return Ok(());
        }
        let table = self.table(captured)?;
        let topic = self.report.tables[table].topic_index;
        let cells = entry.cells.filter(move |cell| !markers::is_marker(cell) && takes(cell.family));
        let before = self.batch.arena.len();
        match self.capture.settings.key {
            KeyRule::Region => {
                let (key, value) = self.put(entry.key.encoded_region, |out, encoder| {
                    encoder.change(out, &entry.key, None, cells);
                });
                self.record(entry, topic, key, value, None);
            }
            KeyRule::Row | KeyRule::RowLength(_) | KeyRule::RowDelimiter(_) => {
                self.rows(entry, topic, cells)?;
            }
        }
        let totals = &mut self.report.tables[table];
        totals.entries += 1;
        totals.cells += sent;
        totals.bytes += (self.batch.arena.len() - before) as u64;
        totals.last_write_ms = totals.last_write_ms.max(entry.key.write_time_ms);
        Ok(())
    }

    /// The place of a table in the report. The first record of a table is what makes its topic needed.
    fn table(&mut self, captured: &mut Captured) -> Result<usize, Refusal> {
        if let Some(place) = captured.place {
            return Ok(place);
        }
        let table = captured.table.clone();
        let topic = match self.capture.settings.topic(&table) {
            Ok(topic) => topic,
            Err(source) => return Err(Refusal::Topic { table, source }),
        };
        let topic_index = u16::try_from(self.batch.topics.len()).map_err(|_| Refusal::TooLarge)?;
        self.batch.topics.push(topic.clone());
        self.report.tables.push(TableReport {
            table,
            topic,
            entries: 0,
            cells: 0,
            bytes: 0,
            bulk_loads: 0,
            last_write_ms: 0,
            topic_index,
        });
        Ok(*captured.place.insert(self.report.tables.len() - 1))
    }

    /// One record per row, in order of first appearance.
    fn rows<'c>(
        &mut self,
        entry: &Entry<'r>,
        topic: u16,
        cells: impl Iterator<Item = Cell<'c>>,
    ) -> Result<(), Refusal> {
        let mut rows: Vec<(&[u8], Vec<Cell<'c>>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for cell in cells {
            let place = *places.entry(cell.row).or_insert_with(|| {
                rows.push((cell.row, Vec::new()));
                rows.len() - 1
            });
            rows[place].1.push(cell);
        }
        let count = u32::try_from(rows.len()).expect("a frame holds fewer rows than bytes");
        for ((row, cells), index) in rows.into_iter().zip(0..) {
            let row_key = self.capture.settings.key.of_row(row).unwrap_or(row);
            let part = change::RowPart { index, count };
            let (key, value) = self.put(row_key, |out, encoder| {
                encoder.change(out, &entry.key, Some(part), cells.into_iter());
            });
            self.record(entry, topic, key, value, None);
            // Each row repeats the entry's head, so a short entry of many rows can be long here.
            if self.batch.arena.len() > limits::CALL_ARENA_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(())
    }

    /// Each bulk load of a family that is taken becomes a record of its own.
    fn bulk_loads(
        &mut self,
        entry: &Entry<'r>,
        captured: &mut Captured,
        takes: &impl Fn(&[u8]) -> bool,
    ) -> Result<(), Refusal> {
        let is_filtered = self.capture.settings.families.contains_key(&captured.table);
        let is_load = |cell: &Cell<'_>| markers::is_marker(cell) && !markers::is_of_no_table(cell);
        for cell in entry.cells.filter(is_load) {
            let corrupt = |source| Refusal::Marker { table: captured.table.clone(), source };
            let Marker::BulkLoad(descriptor) = markers::parse(&cell).map_err(corrupt)? else { continue };
            let filtered;
            let mut descriptor = descriptor;
            if is_filtered {
                filtered = bulk_load::filter(descriptor, takes).map_err(corrupt)?;
                self.report.skip(SkipReason::Family, filtered.left_out);
                if filtered.kept == 0 {
                    continue;
                }
                descriptor = &filtered.descriptor;
            }
            let table = self.table(captured)?;
            let (base, archive) = (self.request.base_namespace_dir, self.request.hfile_archive_dir);
            let (key, value) = self.put(entry.key.encoded_region, |out, encoder| {
                encoder.bulk_load(out, &entry.key, descriptor, base, archive);
            });
            self.record(entry, self.report.tables[table].topic_index, key, value, Some(identity::BULK_LOAD));
            let totals = &mut self.report.tables[table];
            totals.bulk_loads += 1;
            totals.last_write_ms = totals.last_write_ms.max(entry.key.write_time_ms);
        }
        Ok(())
    }

    /// Appends key and value to the arena. A key equal to the one before is not written again.
    fn put(
        &mut self,
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>, &mut Encoder<'r>),
    ) -> (std::ops::Range<u32>, std::ops::Range<u32>) {
        let last = self.batch.records.last().map(|record| record.key.clone());
        let key = match last {
            Some(last) if self.batch.bytes(&last) == key => last,
            _ => self.bytes(key),
        };
        let start = place(&self.batch.arena);
        encode(&mut self.batch.arena, self.encoder);
        (key, start..place(&self.batch.arena))
    }

    fn bytes(&mut self, bytes: &[u8]) -> std::ops::Range<u32> {
        let start = place(&self.batch.arena);
        self.batch.arena.extend_from_slice(bytes);
        start..place(&self.batch.arena)
    }

    fn record(
        &mut self,
        entry: &Entry<'r>,
        topic: u16,
        key: std::ops::Range<u32>,
        value: std::ops::Range<u32>,
        event: Option<&'static str>,
    ) {
        let first = place_of(self.batch.headers.len());
        if self.capture.settings.headers || event.is_some() {
            self.headers(entry, event);
        }
        self.batch.records.push(RecordSpan {
            topic,
            key,
            value,
            headers: first..place_of(self.batch.headers.len()),
            timestamp_ms: i64::try_from(entry.key.write_time_ms).unwrap_or(i64::MAX),
        });
    }

    fn headers(&mut self, entry: &Entry<'r>, event: Option<&'static str>) {
        let start = place(&self.batch.arena);
        let key = &entry.key;
        match event {
            None => {
                self.stamp.put(&mut self.batch.arena, key.encoded_region, key.sequence, key.write_time_ms);
            }
            Some(kind) => {
                let event = EventIdentity {
                    kind,
                    source: self.source,
                    // The server refuses a region name that is no text.
                    encoded_region: std::str::from_utf8(key.encoded_region).unwrap_or_default(),
                    sequence: key.sequence,
                    write_time_ms: key.write_time_ms,
                };
                identity::encode_event(&mut self.batch.arena, &event);
            }
        }
        let value = start..place(&self.batch.arena);
        self.batch.headers.push(HeaderSpan { name: identity::HEADER.into(), value });
        if let Some(event) = event {
            let value = self.bytes(event.as_bytes());
            self.batch.headers.push(HeaderSpan { name: identity::EVENT_HEADER.into(), value });
        }
    }
}

/// The end of the arena. Checked against 2 GiB after each record of a row and each entry, and one of them is a frame and
/// its head at most.
fn place(arena: &[u8]) -> u32 {
    place_of(arena.len())
}

fn place_of(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
