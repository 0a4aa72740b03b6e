//! The record on the log, `proto/weir/change/v1/change.proto`: written straight from a WAL entry, read as slices.
//!
//! Encoding allocates nothing but the output; lengths are computed, not patched.

use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint, put_varint_field, varint_len};
use crate::hbase::cell_block::{Cell, CellKind};
use crate::hbase::replication::WalKey;
use weir_model::ClusterId;

const CELLS: u64 = 12;
const BULK_LOAD: u64 = 15;
const HEARTBEAT: u64 = 16;

/// Place of a record among the rows of its entry, when the topic is keyed by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPart {
    /// Counts from 0.
    pub index: u32,
    /// Rows of the entry.
    pub count: u32,
}

/// Encodes records of one source.
///
/// Entries of one region mostly differ in sequence, time and cells alone: the rest of a record's head is kept from the
/// entry before and copied.
#[derive(Debug)]
pub struct Encoder<'k> {
    source: ClusterId,
    /// Source, table and region of the last record as fields, and whose they are.
    front: Vec<u8>,
    front_of: (&'k [u8], &'k [u8]),
    /// Nonces, clusters, scopes and attributes of the last record as fields, and the tail they were made of.
    back: Vec<u8>,
    back_of: &'k [u8],
}

impl<'k> Encoder<'k> {
    /// An encoder for records of this source.
    #[must_use]
    pub const fn new(source: ClusterId) -> Self {
        Self { source, front: Vec::new(), front_of: (&[], &[]), back: Vec::new(), back_of: &[] }
    }

    /// Appends a change with its cells.
    pub fn change<'a>(
        &mut self,
        out: &mut Vec<u8>,
        key: &WalKey<'k>,
        row_part: Option<RowPart>,
        cells: impl Iterator<Item = Cell<'a>>,
    ) {
        self.head(out, key, Some(key.sequence));
        for cell in cells {
            encode_cell(out, &cell);
        }
        if let Some(RowPart { index, count }) = row_part {
            put_nonzero(out, 13, u64::from(index));
            put_nonzero(out, 14, u64::from(count));
        }
    }

    /// Appends a bulk-load event. Its sequence number stands in the event, where no reader takes it for a change's.
    pub fn bulk_load(
        &mut self,
        out: &mut Vec<u8>,
        key: &WalKey<'k>,
        descriptor: &[u8],
        base_namespace_dir: &[u8],
        hfile_archive_dir: &[u8],
    ) {
        self.head(out, key, None);
        let mut event =
            Vec::with_capacity(descriptor.len() + base_namespace_dir.len() + hfile_archive_dir.len() + 32);
        put_bytes_field(&mut event, 1, descriptor);
        put_bytes_field(&mut event, 2, base_namespace_dir);
        put_bytes_field(&mut event, 3, hfile_archive_dir);
        put_varint_field(&mut event, 4, key.sequence);
        put_bytes_field(out, BULK_LOAD, &event);
    }

    fn head(&mut self, out: &mut Vec<u8>, key: &WalKey<'k>, sequence: Option<u64>) {
        if self.front_of != (key.table, key.encoded_region) || self.front.is_empty() {
            self.front.clear();
            put_bytes_field(&mut self.front, 1, &self.source.as_u128().to_be_bytes());
            put_bytes_field(&mut self.front, 2, key.table);
            put_bytes_field(&mut self.front, 3, key.encoded_region);
            self.front_of = (key.table, key.encoded_region);
        }
        if key.tail.is_empty() || self.back_of != key.tail {
            self.back.clear();
            encode_back(&mut self.back, key);
            self.back_of = key.tail;
        }
        out.extend_from_slice(&self.front);
        if let Some(sequence) = sequence {
            put_varint_field(out, 4, sequence);
        }
        put_varint_field(out, 5, key.write_time_ms);
        out.extend_from_slice(&self.back);
    }
}

/// Appends one change, as [`Encoder::change`] does.
pub fn encode<'a>(
    out: &mut Vec<u8>,
    source: ClusterId,
    key: &WalKey<'_>,
    row_part: Option<RowPart>,
    cells: impl Iterator<Item = Cell<'a>>,
) {
    Encoder::new(source).change(out, key, row_part, cells);
}

/// Appends one bulk-load event, as [`Encoder::bulk_load`] does.
pub fn encode_bulk_load(
    out: &mut Vec<u8>,
    source: ClusterId,
    key: &WalKey<'_>,
    descriptor: &[u8],
    base_namespace_dir: &[u8],
    hfile_archive_dir: &[u8],
) {
    Encoder::new(source).bulk_load(out, key, descriptor, base_namespace_dir, hfile_archive_dir);
}

fn put_nonzero(out: &mut Vec<u8>, number: u64, value: u64) {
    if value != 0 {
        put_varint_field(out, number, value);
    }
}

fn encode_back(out: &mut Vec<u8>, key: &WalKey<'_>) {
    put_nonzero(out, 8, key.nonce_group);
    put_nonzero(out, 9, key.nonce);
    put_nonzero(out, 10, key.orig_sequence);
    // Sub-messages of the WAL key have the same layout here, so their bytes go over as they are.
    let mut fields = Cursor::new(key.raw);
    while let Ok(Some((number, field))) = fields.field("WAL key") {
        let number = match number {
            5 | 8 => 6,
            6 => 7,
            12 => 11,
            _ => continue,
        };
        if let Ok(bytes) = field.bytes("WAL key") {
            put_bytes_field(out, number, bytes);
        }
    }
}

fn encode_cell(out: &mut Vec<u8>, cell: &Cell<'_>) {
    let field_len = |len: usize| if len == 0 { 0 } else { 1 + varint_len(len as u64) + len };
    let parts = [(1, cell.row), (2, cell.family), (3, cell.qualifier)];
    let len = parts.iter().map(|(_, part)| field_len(part.len())).sum::<usize>()
        + 1
        + varint_len(cell.timestamp)
        + 1
        + varint_len(u64::from(cell.kind.0))
        + field_len(cell.value.len())
        + field_len(cell.tags.len());
    put_varint(out, CELLS << 3 | 2);
    put_varint(out, len as u64);
    let start = out.len();
    for (number, part) in parts {
        put_part(out, number, part);
    }
    put_varint_field(out, 4, cell.timestamp);
    put_varint_field(out, 5, u64::from(cell.kind.0));
    put_part(out, 6, cell.value);
    put_part(out, 7, cell.tags);
    debug_assert_eq!(out.len() - start, len, "the length was computed wrong");
}

#[inline]
fn put_part(out: &mut Vec<u8>, number: u64, part: &[u8]) {
    if !part.is_empty() {
        put_bytes_field(out, number, part);
    }
}

/// A change as slices of its record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// Id of the source cluster.
    pub source: ClusterId,
    /// Table.
    pub table: &'a str,
    /// Encoded region name.
    pub encoded_region: &'a str,
    /// Sequence number; 0 in an event, whose own number stands in [`Event`].
    pub sequence: u64,
    /// Write time, ms since 1970.
    pub write_time_ms: u64,
    /// Clusters passed, the source last.
    pub cluster_ids: Vec<ClusterId>,
    /// Families and their scopes.
    pub scopes: Vec<(&'a [u8], u64)>,
    /// Group of the nonce.
    pub nonce_group: u64,
    /// Nonce.
    pub nonce: u64,
    /// Original sequence number.
    pub orig_sequence: u64,
    /// Extended attributes.
    pub attributes: Vec<(&'a [u8], &'a [u8])>,
    /// Cells.
    pub cells: Vec<Cell<'a>>,
    /// Place among the rows of the entry.
    pub row_part: Option<RowPart>,
    /// Bulk load or heartbeat.
    pub event: Option<Event<'a>>,
}

/// A change that is no write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// HFiles were loaded past the WAL.
    BulkLoad {
        /// HBase's `BulkLoadDescriptor`.
        descriptor: &'a [u8],
        /// `sourceBaseNamespaceDirPath`.
        base_namespace_dir: &'a str,
        /// `sourceHFileArchiveDirPath`.
        hfile_archive_dir: &'a str,
        /// Sequence number of the event's WAL entry; 0 in a record that was written
        /// before events had a number of their own.
        sequence: u64,
    },
    /// A region server's heartbeat. Read for older logs; not written any more.
    Heartbeat {
        /// The region server.
        server: &'a str,
        /// WAL file.
        wal: &'a str,
        /// Position in it.
        offset: u64,
    },
}

const WHAT: &str = "change";

/// Reads a change; fields of later versions are ignored.
///
/// # Errors
/// When it does not parse.
pub fn decode(record: &[u8]) -> Result<Change<'_>, WireError> {
    let mut change = Change {
        source: ClusterId { most: 0, least: 0 },
        table: "",
        encoded_region: "",
        sequence: 0,
        write_time_ms: 0,
        cluster_ids: Vec::new(),
        scopes: Vec::new(),
        nonce_group: 0,
        nonce: 0,
        orig_sequence: 0,
        attributes: Vec::new(),
        cells: Vec::new(),
        row_part: None,
        event: None,
    };
    let (mut row_index, mut row_count) = (0, 0);
    let mut cursor = Cursor::new(record);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => {
                let bytes: [u8; 16] = field
                    .bytes(WHAT)?
                    .try_into()
                    .map_err(|_| WireError::Undecodable { what: "source cluster" })?;
                change.source = ClusterId::from_u128(u128::from_be_bytes(bytes));
            }
            2 => change.table = field.text("table")?,
            3 => change.encoded_region = field.text("encoded region")?,
            4 => change.sequence = field.varint(WHAT)?,
            5 => change.write_time_ms = field.varint(WHAT)?,
            6 => {
                let (least, most) = pair(field.bytes(WHAT)?)?;
                change.cluster_ids.push(ClusterId { most, least });
            }
            7 => change.scopes.push(bytes_and_number(field.bytes(WHAT)?)?),
            8 => change.nonce_group = field.varint(WHAT)?,
            9 => change.nonce = field.varint(WHAT)?,
            10 => change.orig_sequence = field.varint(WHAT)?,
            11 => change.attributes.push(bytes_and_bytes(field.bytes(WHAT)?)?),
            CELLS => change.cells.push(decode_cell(field.bytes(WHAT)?)?),
            13 => row_index = small(field.varint(WHAT)?, "row part")?,
            14 => row_count = small(field.varint(WHAT)?, "row part count")?,
            BULK_LOAD => change.event = Some(decode_bulk_load(field.bytes(WHAT)?)?),
            HEARTBEAT => change.event = Some(decode_heartbeat(field.bytes(WHAT)?)?),
            _ => {}
        }
    }
    if row_count > 0 {
        change.row_part = Some(RowPart { index: row_index, count: row_count });
    }
    Ok(change)
}

/// A number that must fit a smaller type.
fn small<T: TryFrom<u64>>(number: u64, what: &'static str) -> Result<T, WireError> {
    T::try_from(number).map_err(|_| WireError::Value { what, value: number.cast_signed() })
}

fn decode_cell(message: &[u8]) -> Result<Cell<'_>, WireError> {
    let mut cell = Cell {
        row: &[],
        family: &[],
        qualifier: &[],
        timestamp: 0,
        kind: CellKind(0),
        value: &[],
        tags: &[],
    };
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("cell")? {
        match number {
            1 => cell.row = field.bytes("row")?,
            2 => cell.family = field.bytes("family")?,
            3 => cell.qualifier = field.bytes("qualifier")?,
            4 => cell.timestamp = field.varint("timestamp")?,
            5 => cell.kind = CellKind(small(field.varint("cell type")?, "cell type")?),
            6 => cell.value = field.bytes("value")?,
            7 => cell.tags = field.bytes("tags")?,
            _ => {}
        }
    }
    Ok(cell)
}

fn decode_bulk_load(message: &[u8]) -> Result<Event<'_>, WireError> {
    let (mut descriptor, mut base, mut archive, mut sequence) = (&[][..], "", "", 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("bulk load")? {
        match number {
            1 => descriptor = field.bytes("bulk load")?,
            2 => base = field.text("bulk load")?,
            3 => archive = field.text("bulk load")?,
            4 => sequence = field.varint("bulk load")?,
            _ => {}
        }
    }
    Ok(Event::BulkLoad { descriptor, base_namespace_dir: base, hfile_archive_dir: archive, sequence })
}

fn decode_heartbeat(message: &[u8]) -> Result<Event<'_>, WireError> {
    let (mut server, mut wal, mut offset) = ("", "", 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("heartbeat")? {
        match number {
            1 => server = field.text("heartbeat")?,
            2 => wal = field.text("heartbeat")?,
            3 => offset = field.varint("heartbeat")?,
            _ => {}
        }
    }
    Ok(Event::Heartbeat { server, wal, offset })
}

fn pair(message: &[u8]) -> Result<(u64, u64), WireError> {
    let (mut first, mut second) = (0, 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => first = field.varint(WHAT)?,
            2 => second = field.varint(WHAT)?,
            _ => {}
        }
    }
    Ok((first, second))
}

fn bytes_and_number(message: &[u8]) -> Result<(&[u8], u64), WireError> {
    let (mut bytes, mut value) = (&[][..], 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => bytes = field.bytes(WHAT)?,
            2 => value = field.varint(WHAT)?,
            _ => {}
        }
    }
    Ok((bytes, value))
}

fn bytes_and_bytes(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut first, mut second) = (&[][..], &[][..]);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => first = field.bytes(WHAT)?,
            2 => second = field.bytes(WHAT)?,
            _ => {}
        }
    }
    Ok((first, second))
}
