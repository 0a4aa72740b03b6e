//! Regions and where they are: rows of `hbase:meta`, and the znode that says where `hbase:meta` itself is.

use super::row::Row;
use super::scan::{Scan, ScanLimits, open_request};
use super::{Block, OutsideRegion};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use crate::hbase::schema::parse_table_name;
use crate::hbase::zk::{self, ServerName};
use bytes::Bytes;
use weir_model::TableName;

/// A region of a table: a range of rows, and the name under which a server knows the region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionInfo {
    /// Name, `TABLE,START,ID.ENCODED.`.
    pub name: Bytes,
    /// Table; `hbase:meta` for the catalogue itself.
    pub table: String,
    /// Id, the time of creation: of two regions with the same rows the one with the larger id is newer.
    pub id: u64,
    /// First row; empty at the start of the table.
    pub start: Bytes,
    /// Row after the last; empty at the end of the table.
    pub end: Bytes,
    /// Whether the region is out of service, such as the parent of a split.
    pub is_offline: bool,
    /// Whether the region was split.
    pub is_split: bool,
    /// Replica; 0 is the one that takes writes.
    pub replica: u32,
}

impl RegionInfo {
    /// The only region of `hbase:meta`.
    #[must_use]
    pub fn meta() -> Self {
        Self {
            name: Bytes::from_static(b"hbase:meta,,1"),
            table: META_TABLE.to_owned(),
            id: 1,
            start: Bytes::new(),
            end: Bytes::new(),
            is_offline: false,
            is_split: false,
            replica: 0,
        }
    }

    /// Whether the row is in the region's range.
    #[must_use]
    pub fn holds(&self, row: &[u8]) -> bool {
        self.start.as_ref() <= row && (self.end.is_empty() || row < self.end.as_ref())
    }

    /// Whether the two ranges have a row in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let ends_after = |one: &Self, start: &[u8]| one.end.is_empty() || one.end.as_ref() > start;
        ends_after(self, &other.start) && ends_after(other, &self.start)
    }

    /// The encoded name: the 32 hexadecimal digits at the end of the name.
    #[must_use]
    pub fn encoded_name(&self) -> &[u8] {
        let name = self.name.strip_suffix(b".").unwrap_or(&self.name);
        name.rsplit(|byte| *byte == b'.').next().unwrap_or_default()
    }

    /// The message `RegionSpecifier`.
    pub(super) fn specifier(&self) -> Vec<u8> {
        const REGION_NAME: u64 = 1;
        let mut out = Vec::with_capacity(self.name.len() + 6);
        put_varint_field(&mut out, 1, REGION_NAME);
        put_bytes_field(&mut out, 2, &self.name);
        out
    }

    /// Checks that the region holds the row.
    pub(super) fn check(&self, row: &[u8]) -> Result<(), OutsideRegion> {
        if self.holds(row) {
            return Ok(());
        }
        Err(OutsideRegion { region: self.name.escape_ascii().to_string() })
    }

    /// Reads the value of `info:regioninfo`; `name` is the row it stands in.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse(name: Bytes, value: &[u8]) -> Result<Self, WireError> {
        const WHAT: &str = "region info";
        let message = value.strip_prefix(b"PBUF").ok_or(WireError::Missing { what: "PBUF magic" })?;
        let mut table = None;
        let mut region = Self { name, table: String::new(), ..Self::meta() };
        let mut cursor = Cursor::new(message);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => region.id = field.varint(WHAT)?,
                2 => table = Some(parse_table_name(field.bytes(WHAT)?)?),
                3 => region.start = Bytes::copy_from_slice(field.bytes(WHAT)?),
                4 => region.end = Bytes::copy_from_slice(field.bytes(WHAT)?),
                5 => region.is_offline = field.varint(WHAT)? != 0,
                6 => region.is_split = field.varint(WHAT)? != 0,
                7 => region.replica = u32::try_from(field.varint(WHAT)?).unwrap_or(u32::MAX),
                _ => {}
            }
        }
        let table = table.ok_or(WireError::Missing { what: "table of a region" })?;
        region.table = table.as_str().to_owned();
        Ok(region)
    }
}

const META_TABLE: &str = "hbase:meta";
const INFO: &[u8] = b"info";

/// A region as `hbase:meta` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaRow {
    /// The region.
    pub region: RegionInfo,
    /// The server that has it; `None` while the region is not assigned.
    pub server: Option<ServerName>,
    /// Sequence number of the region when it was opened there: larger with each opening. 0 when it is not known.
    pub open_sequence: u64,
}

/// Reads a row of `hbase:meta`; `None` when it is no region's, such as that of a table's state.
///
/// # Errors
/// When a column does not parse.
pub fn parse_meta_row(row: &Row) -> Result<Option<MetaRow>, WireError> {
    const WHAT: &str = "server of a region";
    let Some(info) = row.value(INFO, b"regioninfo") else { return Ok(None) };
    let region = RegionInfo::parse(Bytes::copy_from_slice(row.key()), info)?;
    let number = |qualifier: &[u8], what| match row.value(INFO, qualifier) {
        Some(value) => Cursor::new(value).u64(what),
        None => Ok(0),
    };
    let open_sequence = number(b"seqnumDuringOpen", "open sequence number")?;
    let Some(address) = row.value(INFO, b"server").filter(|address| !address.is_empty()) else {
        return Ok(Some(MetaRow { region, server: None, open_sequence }));
    };
    let text = std::str::from_utf8(address).map_err(|_| WireError::Undecodable { what: WHAT })?;
    let (host, port) = text.rsplit_once(':').ok_or(WireError::Undecodable { what: WHAT })?;
    let port = port.parse().map_err(|_| WireError::Undecodable { what: WHAT })?;
    let start_code = number(b"serverstartcode", "start code")?;
    let server = Some(ServerName { host: host.to_owned(), port, start_code });
    Ok(Some(MetaRow { region, server, open_sequence }))
}

/// Which region of a table is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The region that holds this row.
    Holding(&'a [u8]),
    /// The region of the rows right before this one; the last of the table when the row is empty.
    Before(&'a [u8]),
}

impl Lookup<'_> {
    /// Whether the region is the one that is looked up.
    #[must_use]
    pub fn fits(self, region: &RegionInfo) -> bool {
        match self {
            Self::Holding(row) => region.holds(row),
            Self::Before([]) => region.end.is_empty(),
            Self::Before(row) => {
                region.start.as_ref() < row && (region.end.is_empty() || row <= region.end.as_ref())
            }
        }
    }

    /// Scan of `hbase:meta`, backwards from the last region that may fit.
    ///
    /// 1.x and 2.x compare the three parts of a region's name by themselves, so that a comma in a row does no harm.
    #[must_use]
    pub fn request(self, table: &TableName) -> Vec<u8> {
        let mut from = format!("{table},").into_bytes();
        match self {
            // ':' is after all digits, so it is past every id.
            Self::Holding(row) => {
                from.extend_from_slice(row);
                from.extend_from_slice(b",:");
            }
            Self::Before([]) => from = past(table),
            Self::Before(row) => {
                from.extend_from_slice(row);
                from.push(b',');
            }
        }
        let scan = Scan::new()
            .family(INFO)
            .from_inclusive(from)
            .to_exclusive(format!("{table},,").into_bytes())
            .reversed();
        let limits = ScanLimits { rows: 1, closes: true, ..ScanLimits::default() };
        open_request(&RegionInfo::meta(), &scan, &limits)
    }

    /// Scan of `hbase:meta` over all regions of a table.
    #[must_use]
    pub fn all(table: &TableName) -> Scan {
        Scan::new().family(INFO).from_inclusive(format!("{table},,").into_bytes()).to_exclusive(past(table))
    }
}

/// A row of meta after all regions of the table and before every other table: no name has a space (`MetaTableAccessor`).
fn past(table: &TableName) -> Vec<u8> {
    let mut row = table.as_str().as_bytes().to_vec();
    row.extend_from_slice(b" ,,");
    row
}

/// Reads the znode `meta-region-server`: where `hbase:meta` is. `None` while it is not open there.
///
/// # Errors
/// When the value does not parse.
pub fn meta_location(value: &[u8]) -> Result<Option<ServerName>, WireError> {
    const WHAT: &str = "location of meta";
    const OPEN: u64 = 3;
    let mut cursor = Cursor::new(zk::message(value)?);
    let (mut server, mut state) = (None, OPEN);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => server = Some(ServerName::parse_message(field.bytes(WHAT)?)?),
            3 => state = field.varint(WHAT)?,
            _ => {}
        }
    }
    let server = server.ok_or(WireError::Missing { what: "server of meta" })?;
    Ok((state == OPEN).then_some(server))
}

impl MetaRow {
    /// Reads the answer to [`Lookup::request`]; `None` when there was no row.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse_answer(message: &[u8], block: Bytes) -> Result<Option<Self>, WireError> {
        let answer = super::parse_scan(message, &mut Block::new(block))?;
        answer.rows.first().map_or(Ok(None), parse_meta_row)
    }
}
