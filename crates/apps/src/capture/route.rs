//! One replication call into one batch of records.
//!
//! Records are encoded straight into the batch's arena, in the order of the entries. A call is routed whole or
//! refused whole: there is no half.

use super::{Capture, KeyRule};
use weir_model::{TableName, TopicName};
use weir_runtime::log::{HeaderSpan, RecordBatch, RecordSpan};
use weir_wire::change;
use weir_wire::hbase::cell_block::Cell;
use weir_wire::hbase::markers::{self, Marker};
use weir_wire::hbase::replication::{Entry, ReplicateRequest};

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
    #[error("the call makes more than 4 GiB of records")]
    TooLarge,
}

/// What of one table a call brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableReport {
    /// The table.
    pub table: TableName,
    /// Its topic; `None` when the table is not captured.
    pub topic: Option<TopicName>,
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
