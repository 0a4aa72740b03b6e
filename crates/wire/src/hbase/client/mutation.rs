//! What changes a row: put, delete, increment, append (`MutationProto`), with the cells in a cell block.

use super::condition::Check;
use super::{Block, OutsideRegion, RegionInfo, Row, parse_result, put_attributes, put_time_range};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use crate::hbase::cell_block::{Cell, CellKind, Codec, write_cell};
use bytes::Bytes;
use std::marker::PhantomData;
use std::time::Duration;
use weir_model::ClusterId;
use weir_model::limits::ROW_BYTES_MAX;

/// Longest name of a family (`Byte.MAX_VALUE`).
const FAMILY_BYTES_MAX: usize = i8::MAX as usize;

/// Attribute that names the clusters which a mutation has been on (`Mutation.CONSUMED_CLUSTER_IDS`).
const CLUSTER_IDS: &str = "_cs.id";

/// Attribute that holds the time to live in ms (`Mutation.OP_ATTRIBUTE_TTL`).
const TTL: &str = "_ttl";

/// The timestamp that stands for the server's clock when it takes the mutation (`HConstants.LATEST_TIMESTAMP`).
pub const LATEST_TIMESTAMP: u64 = i64::MAX as u64;

/// How durable a mutation is before the server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What the table says.
    #[default]
    UseDefault,
    /// Not in the write-ahead log.
    SkipWal,
    /// In the write-ahead log soon.
    AsyncWal,
    /// Written to the write-ahead log's file system.
    SyncWal,
    /// Forced to disk.
    FsyncWal,
}

impl Durability {
    const fn number(self) -> u64 {
        match self {
            Self::UseDefault => 0,
            Self::SkipWal => 1,
            Self::AsyncWal => 2,
            Self::SyncWal => 3,
            Self::FsyncWal => 4,
        }
    }
}

/// Kind of a mutation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MutationKind {
    /// Adds to the end of values.
    Append,
    /// Adds to numbers.
    Increment,
    /// Writes cells.
    Put,
    /// Writes delete markers.
    Delete,
}

impl MutationKind {
    const fn number(self) -> u64 {
        match self {
            Self::Append => 0,
            Self::Increment => 1,
            Self::Put => 2,
            Self::Delete => 3,
        }
    }

    /// Whether doing it twice gives another result than once, unless the server knows its nonce.
    #[must_use]
    pub const fn needs_nonce(self) -> bool {
        matches!(self, Self::Append | Self::Increment)
    }
}

/// A change of one row, of any kind. Made from a [`Put`], [`Delete`], [`Increment`] or [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    kind: MutationKind,
    row: Bytes,
    block: Vec<u8>,
    cell_count: usize,
    timestamp: Option<u64>,
    attributes: Vec<(String, Bytes)>,
    durability: Durability,
    time_range: Option<(u64, u64)>,
    /// What is wrong with it; kept until it is sent, so that builders need not fail.
    wrong: Option<&'static str>,
}

impl Mutation {
    fn new(kind: MutationKind, row: Bytes) -> Self {
        let wrong = match row.len() {
            0 => Some("the row key is empty"),
            len if len > ROW_BYTES_MAX => Some("the row key is longer than 32767 bytes"),
            _ => None,
        };
        Self {
            kind,
            row,
            block: Vec::new(),
            cell_count: 0,
            timestamp: None,
            attributes: Vec::new(),
            durability: Durability::UseDefault,
            time_range: None,
            wrong,
        }
    }

    fn push(&mut self, kind: CellKind, cell: (&[u8], &[u8], u64, &[u8], &[u8])) {
        let (family, qualifier, timestamp, value, tags) = cell;
        if family.is_empty() || family.len() > FAMILY_BYTES_MAX {
            self.wrong.get_or_insert("a family's name is empty or longer than 127 bytes");
        }
        if tags.len() > u16::MAX as usize || value.len().max(qualifier.len()) > i32::MAX as usize / 4 {
            self.wrong.get_or_insert("a part of a cell is longer than the protocol allows");
        }
        if timestamp > LATEST_TIMESTAMP {
            self.wrong.get_or_insert("a timestamp is above 9223372036854775807");
        }
        if self.wrong.is_some() {
            return;
        }
        let cell = Cell { row: &self.row, family, qualifier, timestamp, kind, value, tags };
        write_cell(&mut self.block, &cell, Codec::KeyValueWithTags);
        self.cell_count += 1;
    }

    /// What is wrong with it, in words that name no value: such a mutation is never sent.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        let has_no_cells = self.cell_count == 0 && self.kind != MutationKind::Delete;
        self.wrong.or_else(|| has_no_cells.then_some("there are no cells in it"))
    }

    /// Kind.
    #[must_use]
    pub const fn kind(&self) -> MutationKind {
        self.kind
    }

    /// Row.
    #[must_use]
    pub const fn row(&self) -> &Bytes {
        &self.row
    }

    /// Its cells as a cell block.
    #[must_use]
    pub fn block(&self) -> &[u8] {
        &self.block
    }

    /// How many cells it has.
    #[must_use]
    pub const fn cell_count(&self) -> usize {
        self.cell_count
    }

    /// The clusters it has been on, as the attribute holds them.
    pub(super) fn cluster_ids(&self) -> Option<&Bytes> {
        self.attributes.iter().find(|(name, _)| name == CLUSTER_IDS).map(|(_, value)| value)
    }

    /// Bytes it takes in a request, about.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let attributes: usize =
            self.attributes.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.row.len() + self.block.len() + attributes + 32
    }

    /// Appends the message `MutationProto`, without the cells.
    pub(super) fn encode(&self, nonce: Option<u64>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.row.len() + 24);
        put_bytes_field(&mut out, 1, &self.row);
        put_varint_field(&mut out, 2, self.kind.number());
        if let Some(timestamp) = self.timestamp {
            put_varint_field(&mut out, 4, timestamp);
        }
        put_attributes(&mut out, 5, &self.attributes);
        if self.durability != Durability::UseDefault {
            put_varint_field(&mut out, 6, self.durability.number());
        }
        put_time_range(&mut out, 7, self.time_range);
        put_varint_field(&mut out, 8, self.cell_count as u64);
        if let Some(nonce) = nonce {
            put_varint_field(&mut out, 9, nonce);
        }
        out
    }
}

/// The kinds of [`Mutate`], as types.
pub mod kind {
    /// Writes cells.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Put {}
    /// Writes delete markers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Delete {}
    /// Adds to numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Increment {}
    /// Adds to the end of values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Append {}
}

/// A mutation of one kind while it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutate<K> {
    inner: Mutation,
    kind: PhantomData<K>,
}

/// Writes cells of one row.
pub type Put = Mutate<kind::Put>;
/// Deletes cells of one row: some, or all.
pub type Delete = Mutate<kind::Delete>;
/// Adds to 64-bit numbers in one row, and answers with the sums.
pub type Increment = Mutate<kind::Increment>;
/// Adds bytes to the end of values in one row, and answers with the whole values.
pub type Append = Mutate<kind::Append>;

impl<K> Mutate<K> {
    fn of(kind: MutationKind, row: Bytes) -> Self {
        Self { inner: Mutation::new(kind, row), kind: PhantomData }
    }

    /// Sets an attribute, which travels with the mutation.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.inner.attributes.retain(|(other, _)| other != name);
        self.inner.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// Lets the written cells expire after this time.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64);
        self.attribute(TTL, ms.to_be_bytes().to_vec())
    }

    /// Sets how durable it must be before the server answers.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.inner.durability = durability;
        self
    }

    /// Names the clusters that this change has been on already: HBase's replication does not send it there again.
    #[must_use]
    pub fn cluster_ids(self, ids: &[ClusterId]) -> Self {
        let mut value = Vec::with_capacity(4 + 16 * ids.len());
        value.extend_from_slice(&u32::try_from(ids.len()).unwrap_or(u32::MAX).to_be_bytes());
        for id in ids {
            value.extend_from_slice(&id.most.to_be_bytes());
            value.extend_from_slice(&id.least.to_be_bytes());
        }
        self.attribute(CLUSTER_IDS, value)
    }

    fn with(mut self, kind: CellKind, family: &[u8], qualifier: &[u8], at: u64, value: &[u8]) -> Self {
        self.inner.push(kind, (family, qualifier, at, value, &[]));
        self
    }
}

impl Put {
    /// Starts a put without cells.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self::of(MutationKind::Put, row.into())
    }

    /// Writes a value with the server's time.
    #[must_use]
    pub fn add(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.add_at(family, qualifier, LATEST_TIMESTAMP, value)
    }

    /// Writes a value with this timestamp.
    #[must_use]
    pub fn add_at(
        self,
        family: impl AsRef<[u8]>,
        qualifier: impl AsRef<[u8]>,
        timestamp: u64,
        value: impl AsRef<[u8]>,
    ) -> Self {
        self.with(CellKind::PUT, family.as_ref(), qualifier.as_ref(), timestamp, value.as_ref())
    }

    /// Writes a cell with its own timestamp and tags. Its row and type are not looked at.
    #[must_use]
    pub fn add_cell(mut self, cell: &Cell<'_>) -> Self {
        let at = cell.timestamp;
        self.inner.push(CellKind::PUT, (cell.family, cell.qualifier, at, cell.value, cell.tags));
        self
    }
}

impl Delete {
    /// Deletes the whole row, unless parts of it are named.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self::of(MutationKind::Delete, row.into())
    }

    /// Of the whole row, deletes what is not newer than this.
    #[must_use]
    pub fn up_to(mut self, timestamp: u64) -> Self {
        self.inner.timestamp = Some(timestamp);
        self
    }

    /// Deletes all columns of a family.
    #[must_use]
    pub fn family(self, family: impl AsRef<[u8]>) -> Self {
        self.family_at(family, LATEST_TIMESTAMP)
    }

    /// Deletes all columns of a family that are not newer than this.
    #[must_use]
    pub fn family_at(self, family: impl AsRef<[u8]>, timestamp: u64) -> Self {
        self.with(CellKind::DELETE_FAMILY, family.as_ref(), &[], timestamp, &[])
    }

    /// Deletes the cells of a family that have exactly this timestamp.
    #[must_use]
    pub fn family_version(self, family: impl AsRef<[u8]>, timestamp: u64) -> Self {
        self.with(CellKind::DELETE_FAMILY_VERSION, family.as_ref(), &[], timestamp, &[])
    }

    /// Deletes all versions of a column.
    #[must_use]
    pub fn column(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>) -> Self {
        self.column_at(family, qualifier, LATEST_TIMESTAMP)
    }

    /// Deletes all versions of a column that are not newer than this.
    #[must_use]
    pub fn column_at(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>, timestamp: u64) -> Self {
        let (family, qualifier) = (family.as_ref(), qualifier.as_ref());
        self.with(CellKind::DELETE_COLUMN, family, qualifier, timestamp, &[])
    }

    /// Deletes one version of a column: that with exactly this timestamp, or with [`LATEST_TIMESTAMP`] the newest.
    #[must_use]
    pub fn version(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>, timestamp: u64) -> Self {
        self.with(CellKind::DELETE, family.as_ref(), qualifier.as_ref(), timestamp, &[])
    }

    /// Writes a delete marker with its own type, timestamp and tags, as replication does.
    #[must_use]
    pub fn add_cell(mut self, cell: &Cell<'_>) -> Self {
        const MARKERS: [CellKind; 4] = [
            CellKind::DELETE,
            CellKind::DELETE_FAMILY_VERSION,
            CellKind::DELETE_COLUMN,
            CellKind::DELETE_FAMILY,
        ];
        if !MARKERS.contains(&cell.kind) {
            self.inner.wrong.get_or_insert("a cell of a delete is no delete marker");
        }
        let at = cell.timestamp;
        self.inner.push(cell.kind, (cell.family, cell.qualifier, at, &[], cell.tags));
        self
    }
}

impl Increment {
    /// Starts an increment without columns.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self::of(MutationKind::Increment, row.into())
    }

    /// Adds this to the number in a column; a column that is not there counts as 0.
    #[must_use]
    pub fn add(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>, amount: i64) -> Self {
        let (family, qualifier) = (family.as_ref(), qualifier.as_ref());
        self.with(CellKind::PUT, family, qualifier, LATEST_TIMESTAMP, &amount.to_be_bytes())
    }
}

impl Append {
    /// Starts an append without columns.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self::of(MutationKind::Append, row.into())
    }

    /// Adds these bytes to the end of the value in a column.
    #[must_use]
    pub fn add(self, family: impl AsRef<[u8]>, qualifier: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let (family, qualifier) = (family.as_ref(), qualifier.as_ref());
        self.with(CellKind::PUT, family, qualifier, LATEST_TIMESTAMP, value.as_ref())
    }
}

impl<K> From<Mutate<K>> for Mutation {
    fn from(mutate: Mutate<K>) -> Self {
        mutate.inner
    }
}

/// Parameter of `Mutate`; the cell block is [`Mutation::block`]. With a check the mutation is done only if that holds.
///
/// # Errors
/// When the region does not hold the row.
pub fn mutate_request(
    region: &RegionInfo,
    mutation: &Mutation,
    check: Option<&Check>,
    nonce: Option<(u64, u64)>,
) -> Result<Vec<u8>, OutsideRegion> {
    region.check(&mutation.row)?;
    let mut out = Vec::with_capacity(64 + region.name.len() + mutation.row.len());
    put_bytes_field(&mut out, 1, &region.specifier());
    put_bytes_field(&mut out, 2, &mutation.encode(nonce.map(|(_, nonce)| nonce)));
    if let Some(check) = check {
        put_bytes_field(&mut out, 3, &check.encode());
    }
    if let Some((group, _)) = nonce {
        put_varint_field(&mut out, 4, group);
    }
    Ok(out)
}

/// Reads `MutateResponse`: the row, if there is one to give, and whether a checked mutation was done.
///
/// # Errors
/// When it does not parse.
pub fn parse_mutate(message: &[u8], block: Bytes) -> Result<(Row, Option<bool>), WireError> {
    const WHAT: &str = "mutate response";
    let (mut row, mut is_processed) = (Row::default(), None);
    let (mut cursor, mut block) = (Cursor::new(message), Block::new(block));
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => row = parse_result(field.bytes(WHAT)?, &mut block)?,
            2 => is_processed = Some(field.varint(WHAT)? != 0),
            _ => {}
        }
    }
    Ok((row, is_processed))
}
