//! Cell blocks: `KeyValueCodec`, `CellCodec`, both with and without tags, and the Hadoop compressors around them.

use crate::cursor::{Cursor, WireError};
use std::borrow::Cow;
use std::io::Read as _;

/// How cells are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// `org.apache.hadoop.hbase.codec.KeyValueCodec`: the sender drops tags.
    KeyValue,
    /// `org.apache.hadoop.hbase.codec.KeyValueCodecWithTags`.
    KeyValueWithTags,
    /// `org.apache.hadoop.hbase.codec.CellCodec`: a length before each part; the sender drops tags.
    Cell,
    /// `org.apache.hadoop.hbase.codec.CellCodecWithTags`.
    CellWithTags,
}

impl Codec {
    /// Every codec that is read.
    pub const ALL: [Self; 4] = [Self::KeyValue, Self::KeyValueWithTags, Self::Cell, Self::CellWithTags];

    /// The codec of a Java class; `None` when we do not speak it.
    #[must_use]
    pub fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.class() == class)
    }

    /// Whether tags of cells are sent.
    #[must_use]
    pub const fn has_tags(self) -> bool {
        matches!(self, Self::KeyValueWithTags | Self::CellWithTags)
    }

    /// The Java class.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::KeyValue => "org.apache.hadoop.hbase.codec.KeyValueCodec",
            Self::KeyValueWithTags => "org.apache.hadoop.hbase.codec.KeyValueCodecWithTags",
            Self::Cell => "org.apache.hadoop.hbase.codec.CellCodec",
            Self::CellWithTags => "org.apache.hadoop.hbase.codec.CellCodecWithTags",
        }
    }
}

/// How a whole cell block is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// `DefaultCodec`: one zlib stream.
    Zlib,
    /// `SnappyCodec`: Hadoop's block stream of raw snappy chunks.
    Snappy,
    /// `GzipCodec`: one gzip stream.
    Gzip,
}

impl Compressor {
    /// Every compressor that is read.
    pub const ALL: [Self; 3] = [Self::Zlib, Self::Snappy, Self::Gzip];

    /// The compressor of a Java class; `None` when we do not speak it.
    #[must_use]
    pub fn of_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compressor| compressor.class() == class)
    }

    /// The Java class.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Zlib => "org.apache.hadoop.io.compress.DefaultCodec",
            Self::Snappy => "org.apache.hadoop.io.compress.SnappyCodec",
            Self::Gzip => "org.apache.hadoop.io.compress.GzipCodec",
        }
    }
}

/// Undoes a compressor; `bytes_max` bounds what comes out.
///
/// # Errors
/// When the bytes do not decode, or make more than `bytes_max`.
pub fn decompress(
    compressor: Option<Compressor>,
    block: &[u8],
    bytes_max: usize,
) -> Result<Cow<'_, [u8]>, WireError> {
    match compressor {
        None => Ok(Cow::Borrowed(block)),
        Some(_) if block.is_empty() => Ok(Cow::Borrowed(block)),
        Some(Compressor::Zlib) => {
            inflate(flate2::read::ZlibDecoder::new(block), block.len(), bytes_max).map(Cow::Owned)
        }
        Some(Compressor::Gzip) => {
            inflate(flate2::read::MultiGzDecoder::new(block), block.len(), bytes_max).map(Cow::Owned)
        }
        Some(Compressor::Snappy) => unsnappy(block, bytes_max).map(Cow::Owned),
    }
}

/// Reads a deflated stream of `block_len` bytes to its end.
fn inflate(stream: impl std::io::Read, block_len: usize, bytes_max: usize) -> Result<Vec<u8>, WireError> {
    const WHAT: &str = "compressed cell block";
    let mut out = Vec::with_capacity(block_len.saturating_mul(3).min(bytes_max));
    stream
        .take(bytes_max as u64 + 1)
        .read_to_end(&mut out)
        .map_err(|_| WireError::Undecodable { what: WHAT })?;
    if out.len() > bytes_max {
        return Err(WireError::TooLong { what: WHAT, len: out.len(), max: bytes_max });
    }
    Ok(out)
}

/// Hadoop's `BlockDecompressorStream`: blocks of { int32 raw length, chunks of { int32 length, snappy bytes } }.
fn unsnappy(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, WireError> {
    const WHAT: &str = "snappy cell block";
    let mut out = Vec::new();
    let mut cursor = Cursor::new(block);
    while !cursor.is_empty() {
        let raw_len = cursor.len32(WHAT)?;
        let end = out.len().saturating_add(raw_len);
        if end > bytes_max {
            return Err(WireError::TooLong { what: WHAT, len: end, max: bytes_max });
        }
        while out.len() < end {
            let len = cursor.len32(WHAT)?;
            let chunk = cursor.take(len, WHAT)?;
            let plain_len =
                snap::raw::decompress_len(chunk).map_err(|_| WireError::Undecodable { what: WHAT })?;
            // No snappy element makes more than 64 bytes of 3: what claims more lies, and is not allocated for.
            let is_lie = plain_len / 22 > chunk.len();
            if plain_len == 0 || plain_len > end - out.len() || is_lie {
                return Err(WireError::Undecodable { what: WHAT });
            }
            let plain = snap::raw::Decoder::new()
                .decompress_vec(chunk)
                .map_err(|_| WireError::Undecodable { what: WHAT })?;
            out.extend_from_slice(&plain);
        }
    }
    Ok(out)
}

/// Type of a cell (`KeyValue.Type`), as its byte on the wire: an unknown one is kept, not lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CellKind(pub u8);

impl CellKind {
    /// A value.
    pub const PUT: Self = Self(4);
    /// Deletes one version.
    pub const DELETE: Self = Self(8);
    /// Deletes all columns of a family at exactly this timestamp.
    pub const DELETE_FAMILY_VERSION: Self = Self(10);
    /// Deletes all versions of a column up to this timestamp.
    pub const DELETE_COLUMN: Self = Self(12);
    /// Deletes all columns of a family up to this timestamp.
    pub const DELETE_FAMILY: Self = Self(14);

    /// The name that HBase prints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            4 => "Put",
            8 => "Delete",
            10 => "DeleteFamilyVersion",
            12 => "DeleteColumn",
            14 => "DeleteFamily",
            _ => "Unknown",
        }
    }
}

/// One cell: slices of its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell<'a> {
    /// Row key.
    pub row: &'a [u8],
    /// Column family.
    pub family: &'a [u8],
    /// Column qualifier.
    pub qualifier: &'a [u8],
    /// Milliseconds since 1970, or whatever the application wrote.
    pub timestamp: u64,
    /// Type.
    pub kind: CellKind,
    /// Value.
    pub value: &'a [u8],
    /// Tags as they stand in the cell: { int16 length, int8 type, data }*.
    pub tags: &'a [u8],
}

/// Fixed bytes of a key besides row, family and qualifier: two lengths, timestamp, type.
const KEY_FIXED: usize = 2 + 1 + 8 + 1;

/// Reads one cell.
///
/// # Errors
/// When any of its lengths lies.
#[inline]
pub fn read_cell<'a>(cursor: &mut Cursor<'a>, codec: Codec) -> Result<Cell<'a>, WireError> {
    match codec {
        Codec::KeyValue | Codec::KeyValueWithTags => read_key_value(cursor, codec),
        Codec::Cell | Codec::CellWithTags => read_parts(cursor, codec),
    }
}

#[inline]
fn read_key_value<'a>(cursor: &mut Cursor<'a>, codec: Codec) -> Result<Cell<'a>, WireError> {
    let len = cursor.len32("cell length")?;
    let mut cell = Cursor::new(cursor.take(len, "cell")?);
    let key_len = cell.len32("key length")?;
    let value_len = cell.len32("value length")?;
    let mut key = Cursor::new(cell.take(key_len, "cell key")?);
    let row_len = key.u16("row length")?;
    if row_len > i16::MAX as u16 {
        return Err(WireError::Value { what: "row length", value: i64::from(row_len.cast_signed()) });
    }
    let row = key.take(usize::from(row_len), "row")?;
    let family_len = key.u8("family length")?;
    let family = key.take(usize::from(family_len), "family")?;
    let fixed = KEY_FIXED + row.len() + family.len();
    let qualifier_len = key_len.checked_sub(fixed).ok_or(WireError::Short {
        what: "cell key",
        wanted: fixed,
        left: key_len,
    })?;
    let qualifier = key.take(qualifier_len, "qualifier")?;
    let timestamp = key.u64("timestamp")?;
    let kind = CellKind(key.u8("cell type")?);
    let value = cell.take(value_len, "value")?;
    let tags = if cell.is_empty() {
        cell.rest()
    } else {
        if codec == Codec::KeyValue {
            return Err(WireError::Trailing { what: "value", left: cell.rest().len() });
        }
        let tags_len = cell.u16("tags length")?;
        let tags = cell.take(usize::from(tags_len), "tags")?;
        cell.end("tags")?;
        tags
    };
    Ok(Cell { row, family, qualifier, timestamp, kind, value, tags })
}

/// A cell of `CellCodec`: { int32 length, bytes } for row, family, qualifier, then timestamp and type, then value, tags
/// if the codec has them, and the sender's MVCC number, which nobody else needs.
fn read_parts<'a>(cursor: &mut Cursor<'a>, codec: Codec) -> Result<Cell<'a>, WireError> {
    let part = |cursor: &mut Cursor<'a>, what: &'static str, max: usize| {
        let len = cursor.len32(what)?;
        if len > max {
            return Err(WireError::TooLong { what, len, max });
        }
        cursor.take(len, what)
    };
    let row = part(cursor, "row", i16::MAX as usize)?;
    let family = part(cursor, "family", usize::from(u8::MAX))?;
    let qualifier = part(cursor, "qualifier", usize::MAX)?;
    let timestamp = cursor.u64("timestamp")?;
    let kind = CellKind(cursor.u8("cell type")?);
    let value = part(cursor, "value", usize::MAX)?;
    let tags = if codec.has_tags() {
        part(cursor, "tags", usize::from(u16::MAX))?
    } else {
        cursor.take(0, "tags")?
    };
    cursor.u64("MVCC number")?;
    Ok(Cell { row, family, qualifier, timestamp, kind, value, tags })
}

fn write_parts(out: &mut Vec<u8>, cell: &Cell<'_>, codec: Codec) {
    let part = |out: &mut Vec<u8>, bytes: &[u8]| {
        let len = u32::try_from(bytes.len()).expect("cells are far below 4 GiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(bytes);
    };
    [cell.row, cell.family, cell.qualifier].into_iter().for_each(|bytes| part(out, bytes));
    out.extend_from_slice(&cell.timestamp.to_be_bytes());
    out.push(cell.kind.0);
    part(out, cell.value);
    if codec.has_tags() {
        part(out, cell.tags);
    }
    out.extend_from_slice(&0u64.to_be_bytes());
}

/// Appends one cell.
///
/// # Panics
/// When a part is longer than its length field, which only our own bug can do.
pub fn write_cell(out: &mut Vec<u8>, cell: &Cell<'_>, codec: Codec) {
    if matches!(codec, Codec::Cell | Codec::CellWithTags) {
        return write_parts(out, cell, codec);
    }
    let key_len = KEY_FIXED + cell.row.len() + cell.family.len() + cell.qualifier.len();
    let tags = if codec == Codec::KeyValue { &[] } else { cell.tags };
    let tags_len = if tags.is_empty() { 0 } else { 2 + tags.len() };
    let int = |len: usize| u32::try_from(len).expect("cells are far below 4 GiB").to_be_bytes();
    out.extend_from_slice(&int(8 + key_len + cell.value.len() + tags_len));
    out.extend_from_slice(&int(key_len));
    out.extend_from_slice(&int(cell.value.len()));
    out.extend_from_slice(
        &u16::try_from(cell.row.len()).expect("a row is at most 32767 bytes").to_be_bytes(),
    );
    out.extend_from_slice(cell.row);
    out.push(u8::try_from(cell.family.len()).expect("a family is at most 127 bytes"));
    out.extend_from_slice(cell.family);
    out.extend_from_slice(cell.qualifier);
    out.extend_from_slice(&cell.timestamp.to_be_bytes());
    out.push(cell.kind.0);
    out.extend_from_slice(cell.value);
    if !tags.is_empty() {
        out.extend_from_slice(&u16::try_from(tags.len()).expect("tags are below 64 KiB").to_be_bytes());
        out.extend_from_slice(tags);
    }
}
