//! `AdminService.ReplicateWALEntry` (`Admin.proto`, `WAL.proto`): entries as slices of the frame.
//!
//! [`ReplicateRequest::parse`] checks every length once; after it, walking entries and cells cannot fail and
//! allocates nothing.

use super::cell_block::{Cell, Codec, read_cell, write_cell};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use weir_model::ClusterId;

/// Name of the method.
pub const METHOD: &str = "ReplicateWALEntry";

/// A whole, checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicateRequest<'a> {
    entries: Vec<EntrySpan<'a>>,
    codec: Codec,
    /// Cells of all entries.
    pub cell_count: u64,
    /// `replicationClusterId`: id of the source, for bulk loads.
    pub replication_cluster_id: &'a [u8],
    /// `sourceBaseNamespaceDirPath`, for bulk loads.
    pub base_namespace_dir: &'a [u8],
    /// `sourceHFileArchiveDirPath`, for bulk loads.
    pub hfile_archive_dir: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct EntrySpan<'a> {
    key: WalKey<'a>,
    cells: &'a [u8],
    cell_count: u32,
}

/// Key of an entry (`WALKey`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalKey<'a> {
    /// Encoded region name.
    pub encoded_region: &'a [u8],
    /// Table, `t` or `ns:t`.
    pub table: &'a [u8],
    /// Sequence number: grows within one region name, with gaps.
    pub sequence: u64,
    /// When the entry was appended to the WAL, ms since 1970 by the server's clock.
    pub write_time_ms: u64,
    /// Number of the nonce's group, 0 when there is none.
    pub nonce_group: u64,
    /// Nonce of an Increment or Append, 0 when there is none.
    pub nonce: u64,
    /// `orig_sequence_number`, 0 when there is none.
    pub orig_sequence: u64,
    /// The whole message: repeated fields are walked on demand.
    pub raw: &'a [u8],
    /// What stands behind region, table, sequence and time when these come first and in order, as HBase writes them;
    /// else empty. It holds none of the four, and keys with the same tail say the same in it.
    pub tail: &'a [u8],
}

const KEY: &str = "WAL key";

impl<'a> WalKey<'a> {
    /// `before` is the key of the entry before: entries of one region mostly differ in sequence and time alone.
    fn parse(raw: &'a [u8], before: &Self) -> Result<Self, WireError> {
        let mut key = Self::in_order(raw).unwrap_or(Self { raw, ..Self::default() });
        if !key.tail.is_empty() && key.tail == before.tail {
            (key.nonce_group, key.nonce) = (before.nonce_group, before.nonce);
            key.orig_sequence = before.orig_sequence;
        } else {
            key.read_fields()?;
        }
        if key.encoded_region.is_empty() {
            return Err(WireError::Missing { what: "encoded region name" });
        }
        // HBase has hex digits here. The record says it as text, and its header sets it between slashes.
        let is_word = |all, byte: &u8| all & byte.is_ascii_graphic() & (*byte != b'/');
        if !key.encoded_region.iter().fold(true, is_word) {
            return Err(WireError::Undecodable { what: "encoded region name" });
        }
        if key.table.is_empty() {
            return Err(WireError::Missing { what: "table name" });
        }
        Ok(key)
    }

    /// A key whose first four fields are the first four, with the rest as its tail.
    #[inline]
    fn in_order(raw: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(raw);
        let mut next = |wanted| cursor.field(KEY).ok()?.filter(|(number, _)| *number == wanted);
        let encoded_region = next(1)?.1.bytes(KEY).ok()?;
        let table = next(2)?.1.bytes(KEY).ok()?;
        let sequence = next(3)?.1.varint(KEY).ok()?;
        let write_time_ms = next(4)?.1.varint(KEY).ok()?;
        let tail = cursor.rest();
        Some(Self { encoded_region, table, sequence, write_time_ms, raw, tail, ..Self::default() })
    }

    /// Reads the tail, or all when there is none.
    fn read_fields(&mut self) -> Result<(), WireError> {
        let mut cursor = Cursor::new(if self.tail.is_empty() { self.raw } else { self.tail });
        while let Some((number, field)) = cursor.field(KEY)? {
            if number <= 4 {
                // Written twice: the last one counts, and the tail is not what it promises.
                self.tail = &[];
            }
            match number {
                1 => self.encoded_region = field.bytes(KEY)?,
                2 => self.table = field.bytes(KEY)?,
                3 => self.sequence = field.varint(KEY)?,
                4 => self.write_time_ms = field.varint(KEY)?,
                5 | 8 => {
                    parse_uuid(field.bytes(KEY)?)?;
                }
                6 => {
                    parse_scope(field.bytes(KEY)?)?;
                }
                9 => self.nonce_group = field.varint(KEY)?,
                10 => self.nonce = field.varint(KEY)?,
                11 => self.orig_sequence = field.varint(KEY)?,
                12 => {
                    parse_attribute(field.bytes(KEY)?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Ids of the clusters that the entry has passed, the source's own last.
    pub fn cluster_ids(&self) -> impl Iterator<Item = ClusterId> + use<'a> {
        self.repeated(&[5, 8]).filter_map(|bytes| parse_uuid(bytes).ok())
    }

    /// Replicated families and their scopes (1 global, 2 serial).
    pub fn scopes(&self) -> impl Iterator<Item = (&'a [u8], u64)> + use<'a> {
        self.repeated(&[6]).filter_map(|bytes| parse_scope(bytes).ok())
    }

    /// Extended attributes of late 2.x.
    pub fn attributes(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.repeated(&[12]).filter_map(|bytes| parse_attribute(bytes).ok())
    }

    fn repeated(&self, numbers: &'static [u64]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut cursor = Cursor::new(self.raw);
        std::iter::from_fn(move || {
            while let Ok(Some((number, field))) = cursor.field(KEY) {
                if numbers.contains(&number) {
                    return field.bytes(KEY).ok();
                }
            }
            None
        })
    }
}

fn parse_uuid(message: &[u8]) -> Result<ClusterId, WireError> {
    let mut id = ClusterId { most: 0, least: 0 };
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("cluster id")? {
        match number {
            1 => id.least = field.varint("cluster id")?,
            2 => id.most = field.varint("cluster id")?,
            _ => {}
        }
    }
    Ok(id)
}

fn parse_scope(message: &[u8]) -> Result<(&[u8], u64), WireError> {
    let (mut family, mut scope) = (&[][..], 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("family scope")? {
        match number {
            1 => family = field.bytes("family scope")?,
            2 => scope = field.varint("family scope")?,
            _ => {}
        }
    }
    Ok((family, scope))
}

fn parse_attribute(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field("extended attribute")? {
        match number {
            1 => name = field.text("extended attribute")?.as_bytes(),
            2 => value = field.bytes("extended attribute")?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// One entry of a request.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its key.
    pub key: WalKey<'a>,
    /// Its cells.
    pub cells: Cells<'a>,
}

/// Cells that were checked: walking them cannot fail.
#[derive(Clone, Copy, Debug)]
pub struct Cells<'a> {
    cursor: Cursor<'a>,
    left: u32,
    codec: Codec,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    #[inline]
    fn next(&mut self) -> Option<Cell<'a>> {
        self.left = self.left.checked_sub(1)?;
        read_cell(&mut self.cursor, self.codec).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Cells<'_> {}

impl<'a> ReplicateRequest<'a> {
    /// Reads parameter message and (uncompressed) cell block, and checks all of both.
    ///
    /// # Errors
    /// When a length lies, a field does not parse, cells are missing or bytes are left over.
    pub fn parse(param: &'a [u8], cell_block: &'a [u8], codec: Codec) -> Result<Self, WireError> {
        const WHAT: &str = "ReplicateWALEntryRequest";
        let mut out = Self {
            entries: Vec::new(),
            codec,
            cell_count: 0,
            replication_cluster_id: &[],
            base_namespace_dir: &[],
            hfile_archive_dir: &[],
        };
        let mut cells = Cursor::new(cell_block);
        let mut cursor = Cursor::new(param);
        let mut before = WalKey::default();
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => {
                    let (key, cell_count) = parse_entry(field.bytes(WHAT)?, &before)?;
                    before = key;
                    let start = cells.rest();
                    for _ in 0..cell_count {
                        read_cell(&mut cells, codec)?;
                    }
                    let len = start.len() - cells.rest().len();
                    out.cell_count += u64::from(cell_count);
                    out.entries.push(EntrySpan {
                        key,
                        cells: start.get(..len).unwrap_or_default(),
                        cell_count,
                    });
                }
                2 => out.replication_cluster_id = field.bytes(WHAT)?,
                3 => out.base_namespace_dir = field.text(WHAT)?.as_bytes(),
                4 => out.hfile_archive_dir = field.text(WHAT)?.as_bytes(),
                _ => {}
            }
        }
        cells.end("the cells of the last entry")?;
        Ok(out)
    }

    /// The entries in order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + '_ {
        self.entries.iter().map(|span| Entry {
            key: span.key,
            cells: Cells { cursor: Cursor::new(span.cells), left: span.cell_count, codec: self.codec },
        })
    }

    /// How many entries.
    #[must_use]
    pub const fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

fn parse_entry<'a>(message: &'a [u8], before: &WalKey<'a>) -> Result<(WalKey<'a>, u32), WireError> {
    const WHAT: &str = "WAL entry";
    let (mut key, mut cell_count) = (None, 0);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => key = Some(WalKey::parse(field.bytes(WHAT)?, before)?),
            // The old form with cells inside the message is never used with a codec; losing it would lose a write.
            2 => return Err(WireError::Value { what: "key_value_bytes", value: 1 }),
            3 => {
                let count = field.varint(WHAT)?;
                cell_count = u32::try_from(count).map_err(|_| WireError::Value {
                    what: "associated cell count",
                    value: count.cast_signed(),
                })?;
            }
            _ => {}
        }
    }
    Ok((key.ok_or(WireError::Missing { what: KEY })?, cell_count))
}

/// Builds a request, as a source does: for the simulator, tests and benches.
#[derive(Debug)]
pub struct RequestBuilder {
    param: Vec<u8>,
    cell_block: Vec<u8>,
    codec: Codec,
    entry: Vec<u8>,
    key: Vec<u8>,
}

/// What goes into the key of a built entry.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    /// Encoded region name.
    pub encoded_region: &'a [u8],
    /// Table.
    pub table: &'a [u8],
    /// Sequence number.
    pub sequence: u64,
    /// Write time, ms since 1970.
    pub write_time_ms: u64,
    /// Clusters passed.
    pub cluster_ids: &'a [ClusterId],
    /// Replicated families.
    pub families: &'a [&'a [u8]],
}

impl RequestBuilder {
    /// An empty request.
    #[must_use]
    pub const fn new(codec: Codec) -> Self {
        Self { param: Vec::new(), cell_block: Vec::new(), codec, entry: Vec::new(), key: Vec::new() }
    }

    /// Adds an entry with its cells.
    pub fn push<'a>(&mut self, key: &NewKey<'_>, cells: impl IntoIterator<Item = Cell<'a>>) {
        let Self { param, cell_block, codec, entry, key: message } = self;
        message.clear();
        put_bytes_field(message, 1, key.encoded_region);
        put_bytes_field(message, 2, key.table);
        put_varint_field(message, 3, key.sequence);
        put_varint_field(message, 4, key.write_time_ms);
        for family in key.families {
            entry.clear();
            put_bytes_field(entry, 1, family);
            put_varint_field(entry, 2, 1);
            put_bytes_field(message, 6, entry);
        }
        for id in key.cluster_ids {
            entry.clear();
            put_varint_field(entry, 1, id.least);
            put_varint_field(entry, 2, id.most);
            put_bytes_field(message, 8, entry);
        }
        let mut count = 0;
        for cell in cells {
            write_cell(cell_block, &cell, *codec);
            count += 1;
        }
        entry.clear();
        put_bytes_field(entry, 1, message);
        put_varint_field(entry, 3, count);
        put_bytes_field(param, 1, entry);
    }

    /// Parameter message and cell block.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Vec<u8>) {
        (self.param, self.cell_block)
    }
}
