//! One replication call into one batch of records.
//!
//! Records are encoded straight into the batch's arena, in the order of the entries. A call is routed whole or
//! refused whole: there is no half.

use super::{Capture, KeyRule};
use weir_model::{TableName, TopicName, limits};
use weir_runtime::log::{HeaderSpan, RecordBatch, RecordSpan};
use weir_wire::change::{self, Encoder};
use weir_wire::hbase::cell_block::Cell;
use weir_wire::hbase::markers::{self, Marker};
use weir_wire::hbase::replication::{Entry, ReplicateRequest};
use weir_wire::identity::{self, Stamp};

/// Why an entry or a cell was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// Entry of a table of HBase itself.
    SystemTable,
    /// Entry of a table that the settings leave out.
    Table,
    /// Cell of a family that the settings leave out.
    Family,
    /// Entry without cells.
    Empty,
    /// Marker of HBase's own (flush, compaction, region event).
    Marker,
    /// Marker that this version does not know.
    UnknownMarker,
}

/// All reasons with the label that metrics use, in the order of [`Report::skipped`].
pub const SKIP_REASONS: [(SkipReason, &str); 6] = [
    (SkipReason::SystemTable, "system-table"),
    (SkipReason::Table, "table-filter"),
    (SkipReason::Family, "family-filter"),
    (SkipReason::Empty, "no-cells"),
    (SkipReason::Marker, "marker"),
    (SkipReason::UnknownMarker, "unknown-marker"),
];

/// Why a whole call cannot be routed. The source must wait until the operator mends it.
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
    /// A bulk-load or replication marker does not parse.
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

/// What of one table a call brought.
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
    /// Newest write time, ms since 1970.
    pub last_write_ms: u64,
    /// Index of the topic in the batch.
    topic_index: u16,
}

/// What a call brought, and what of it was skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// By table, in order of first appearance.
    pub tables: Vec<TableReport>,
    /// Counts by reason, in the order of [`SKIP_REASONS`].
    pub skipped: [u64; SKIP_REASONS.len()],
    /// Bulk-load events published.
    pub bulk_loads: u64,
    /// Heartbeats published.
    pub heartbeats: u64,
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
    Captured(usize),
    Skipped(SkipReason),
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
            let place = match known {
                Some(place) => place,
                None => {
                    ways.push((entry.key.table, self.way(entry.key.table, batch, &mut report)?));
                    ways.len() - 1
                }
            };
            match ways[place].1 {
                Way::Skipped(reason) => report.skip(reason, 1),
                Way::Captured(table) => {
                    let (encoder, stamp, batch) = (&mut encoder, &mut stamp, &mut *batch);
                    let mut writer = Writer { capture: self, request, encoder, stamp, batch };
                    writer.entry(&entry, table, &mut report)?;
                }
            }
            if batch.arena.len() > limits::CALL_ARENA_BYTES_MAX {
                return Err(Refusal::TooLarge);
            }
        }
        Ok(report)
    }

    fn way(&self, name: &[u8], batch: &mut RecordBatch, report: &mut Report) -> Result<Way, Refusal> {
        let table = TableName::from_bytes(name)?;
        if table.is_system() {
            return Ok(Way::Skipped(SkipReason::SystemTable));
        }
        if !self.settings.takes(&table) {
            return Ok(Way::Skipped(SkipReason::Table));
        }
        let topic = match self.settings.topic(&table) {
            Ok(topic) => topic,
            Err(source) => return Err(Refusal::Topic { table, source }),
        };
        let topic_index = u16::try_from(batch.topics.len()).map_err(|_| Refusal::TooLarge)?;
        batch.topics.push(topic.clone());
        report.tables.push(TableReport {
            table,
            topic,
            entries: 0,
            cells: 0,
            bytes: 0,
            last_write_ms: 0,
            topic_index,
        });
        Ok(Way::Captured(report.tables.len() - 1))
    }
}

/// Writes the records of one entry.
struct Writer<'w, 'r> {
    capture: &'w Capture,
    request: &'w ReplicateRequest<'r>,
    encoder: &'w mut Encoder<'r>,
    stamp: &'w mut Stamp<'r>,
    batch: &'w mut RecordBatch,
}

impl<'r> Writer<'_, 'r> {
    fn entry(&mut self, entry: &Entry<'r>, table: usize, report: &mut Report) -> Result<(), Refusal> {
        let settings = &self.capture.settings;
        let families = settings.families.get(&report.tables[table].table);
        let (mut sent, mut has_marker) = (0u64, false);
        let takes = |cell: &Cell<'_>| {
            families.is_none_or(|families| families.iter().any(|family| family == cell.family))
        };
        for cell in entry.cells {
            if markers::is_marker(&cell) {
                has_marker = true;
            } else if takes(&cell) {
                sent += 1;
            } else {
                report.skip(SkipReason::Family, 1);
            }
        }
        if entry.cells.len() == 0 {
            report.skip(SkipReason::Empty, 1);
        }
        if has_marker {
            self.markers(entry, table, report)?;
        }
        if sent == 0 {
            return Ok(());
        }
        let cells = entry.cells.filter(move |cell| !markers::is_marker(cell) && takes(cell));
        let before = self.batch.arena.len();
        match settings.key {
            KeyRule::Region => {
                let (key, value) = self.put(entry.key.encoded_region, |out, encoder| {
                    encoder.change(out, &entry.key, None, cells);
                });
                self.record(entry, report.tables[table].topic_index, key, value, None);
            }
            KeyRule::Row | KeyRule::RowLength(_) | KeyRule::RowDelimiter(_) => {
                self.rows(entry, report.tables[table].topic_index, cells)?;
            }
        }
        let totals = &mut report.tables[table];
        totals.entries += 1;
        totals.cells += sent;
        totals.bytes += (self.batch.arena.len() - before) as u64;
        totals.last_write_ms = totals.last_write_ms.max(entry.key.write_time_ms);
        Ok(())
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

    /// Bulk loads and heartbeats become records of their own; other markers are counted.
    fn markers(&mut self, entry: &Entry<'r>, table: usize, report: &mut Report) -> Result<(), Refusal> {
        let topic = report.tables[table].topic_index;
        for cell in entry.cells.filter(markers::is_marker) {
            let marker = markers::parse(&cell)
                .map_err(|source| Refusal::Marker { table: report.tables[table].table.clone(), source })?;
            match marker {
                Marker::BulkLoad(descriptor) => {
                    let (base, archive) = (self.request.base_namespace_dir, self.request.hfile_archive_dir);
                    let (key, value) = self.put(entry.key.encoded_region, |out, encoder| {
                        encoder.bulk_load(out, &entry.key, descriptor, base, archive);
                    });
                    self.record(entry, topic, key, value, Some("bulk-load"));
                    report.bulk_loads += 1;
                }
                Marker::Replication { server, wal, offset } => {
                    let (key, value) = self.put(entry.key.encoded_region, |out, encoder| {
                        encoder.heartbeat(out, &entry.key, server, wal, offset);
                    });
                    self.record(entry, topic, key, value, Some("heartbeat"));
                    report.heartbeats += 1;
                }
                Marker::Internal => report.skip(SkipReason::Marker, 1),
                Marker::Unknown => report.skip(SkipReason::UnknownMarker, 1),
            }
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
        self.stamp.put(&mut self.batch.arena, key.encoded_region, key.sequence, key.write_time_ms);
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
