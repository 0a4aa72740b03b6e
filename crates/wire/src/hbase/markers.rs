//! Cells of HBase itself (`WALEdit.METAFAMILY`): bulk loads, replication heartbeats, and what a sink skips.

use super::cell_block::Cell;
use crate::cursor::{Cursor, WireError};

/// The family of marker cells.
pub const FAMILY: &[u8] = b"METAFAMILY";

const BULK_LOAD: &[u8] = b"HBASE::BULK_LOAD";

/// What a marker cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker<'a> {
    /// `HBASE::BULK_LOAD`: files were loaded past the WAL; the value is a `BulkLoadDescriptor`.
    BulkLoad(&'a [u8]),
    /// `HBASE::REPLICATION_MARKER`: a heartbeat of a region server (2.5 and later).
    Replication {
        /// The region server.
        server: &'a str,
        /// WAL file.
        wal: &'a str,
        /// Position in it.
        offset: u64,
    },
    /// Flush, compaction or region event: of no use outside the cluster.
    Internal,
    /// A qualifier that this version does not know.
    Unknown,
}

/// Whether a cell is a marker that changes nothing in the table under whose name it is filed.
///
/// A region server files its heartbeat under any of its regions, and needs no topic of that table. A bulk load is the
/// one marker that changes its table.
#[inline]
#[must_use]
pub fn is_of_no_table(cell: &Cell<'_>) -> bool {
    is_marker(cell) && cell.qualifier != BULK_LOAD
}

/// Whether a cell is a marker.
#[inline]
#[must_use]
pub fn is_marker(cell: &Cell<'_>) -> bool {
    cell.family == FAMILY
}

/// Reads a marker cell.
///
/// # Errors
/// When the descriptor of a bulk load or heartbeat does not parse.
pub fn parse<'a>(cell: &Cell<'a>) -> Result<Marker<'a>, WireError> {
    match cell.qualifier {
        BULK_LOAD => {
            let mut cursor = Cursor::new(cell.value);
            while cursor.field("bulk load descriptor")?.is_some() {}
            Ok(Marker::BulkLoad(cell.value))
        }
        b"HBASE::REPLICATION_MARKER" => replication(cell.value),
        b"HBASE::COMPACTION" | b"HBASE::FLUSH" => Ok(Marker::Internal),
        other if other.starts_with(b"HBASE::REGION_EVENT") => Ok(Marker::Internal),
        _ => Ok(Marker::Unknown),
    }
}

fn replication(value: &[u8]) -> Result<Marker<'_>, WireError> {
    const WHAT: &str = "replication marker";
    let (mut server, mut wal, mut offset) = ("", "", 0);
    let mut cursor = Cursor::new(value);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => server = field.text(WHAT)?,
            2 => wal = field.text(WHAT)?,
            3 => offset = field.varint(WHAT)?,
            _ => {}
        }
    }
    Ok(Marker::Replication { server, wal, offset })
}
