//! Reading rows in order (`Scan`): the scan as a program states it, and the requests that open, go on, renew and close.

use super::{
    Block, Filter, RegionInfo, Row, add_column, parse_result, put_attributes, put_columns, put_time_range,
};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use bytes::Bytes;

/// Reads the rows of a range: all families of the whole table unless something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    pub(super) columns: Vec<(Bytes, Vec<Bytes>)>,
    start: Bytes,
    is_start_included: bool,
    stop: Bytes,
    is_stop_included: bool,
    time_range: Option<(u64, u64)>,
    versions_max: u32,
    filter: Option<Filter>,
    attributes: Vec<(String, Bytes)>,
    is_reversed: bool,
    is_raw: bool,
    fills_block_cache: bool,
    cells_per_part: u32,
    takes_partial_rows: bool,
    row_limit: Option<u64>,
    rows_per_call: u32,
    bytes_per_call: u64,
    snapshot: u64,
}

impl Default for Scan {
    fn default() -> Self {
        Self::new()
    }
}

impl Scan {
    /// Rows that one call asks for at most, unless told otherwise. Bytes are what bounds a call as a rule.
    pub const ROWS_PER_CALL: u32 = 10_000;

    /// Bytes that one call asks for, about, unless told otherwise (`hbase.client.scanner.max.result.size`).
    pub const BYTES_PER_CALL: u64 = 2 << 20;

    /// Reads the newest version of every column of every row.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            columns: Vec::new(),
            start: Bytes::new(),
            is_start_included: true,
            stop: Bytes::new(),
            is_stop_included: false,
            time_range: None,
            versions_max: 1,
            filter: None,
            attributes: Vec::new(),
            is_reversed: false,
            is_raw: false,
            fills_block_cache: true,
            cells_per_part: 0,
            takes_partial_rows: false,
            row_limit: None,
            rows_per_call: Self::ROWS_PER_CALL,
            bytes_per_call: Self::BYTES_PER_CALL,
            snapshot: 0,
        }
    }

    /// Starts at this row. A reversed scan starts at its largest row.
    #[must_use]
    pub fn from_inclusive(mut self, row: impl Into<Bytes>) -> Self {
        (self.start, self.is_start_included) = (row.into(), true);
        self
    }

    /// Starts at the first row after this one (before this one when reversed).
    #[must_use]
    pub fn from_exclusive(mut self, row: impl Into<Bytes>) -> Self {
        (self.start, self.is_start_included) = (row.into(), false);
        self
    }

    /// Ends before this row.
    #[must_use]
    pub fn to_exclusive(mut self, row: impl Into<Bytes>) -> Self {
        (self.stop, self.is_stop_included) = (row.into(), false);
        self
    }

    /// Ends with this row.
    #[must_use]
    pub fn to_inclusive(mut self, row: impl Into<Bytes>) -> Self {
        (self.stop, self.is_stop_included) = (row.into(), true);
        self
    }

    /// Reads the rows whose key starts with this.
    #[must_use]
    pub fn row_prefix(self, prefix: impl Into<Bytes>) -> Self {
        let prefix: Bytes = prefix.into();
        let mut after = prefix.to_vec();
        while after.last() == Some(&0xff) {
            after.pop();
        }
        if let Some(last) = after.last_mut() {
            *last += 1;
        }
        self.from_inclusive(prefix).to_exclusive(after)
    }

    /// Reads this family; may be said several times.
    #[must_use]
    pub fn family(mut self, family: impl Into<Bytes>) -> Self {
        add_column(&mut self.columns, family.into(), None);
        self
    }

    /// Reads this column; may be said several times.
    #[must_use]
    pub fn column(mut self, family: impl Into<Bytes>, qualifier: impl Into<Bytes>) -> Self {
        add_column(&mut self.columns, family.into(), Some(qualifier.into()));
        self
    }

    /// Reads cells with a timestamp from the first and below the second.
    #[must_use]
    pub const fn time_range(mut self, from_ms: u64, below_ms: u64) -> Self {
        self.time_range = Some((from_ms, below_ms));
        self
    }

    /// Reads up to so many versions of each column.
    #[must_use]
    pub const fn versions(mut self, versions_max: u32) -> Self {
        self.versions_max = versions_max;
        self
    }

    /// Reads all versions of each column.
    #[must_use]
    pub const fn all_versions(self) -> Self {
        self.versions(i32::MAX as u32)
    }

    /// Lets the server filter.
    #[must_use]
    pub fn filter(mut self, filter: Filter) -> Self {
        self.filter = Some(filter);
        self
    }

    /// Sets an attribute, which travels with the request.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: impl Into<Bytes>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    /// Reads from the largest row down.
    #[must_use]
    pub const fn reversed(mut self) -> Self {
        self.is_reversed = true;
        self
    }

    /// Reads delete markers and what they hide, too.
    #[must_use]
    pub const fn raw(mut self) -> Self {
        self.is_raw = true;
        self
    }

    /// Leaves what it reads out of the servers' block caches: right for scans of whole tables.
    #[must_use]
    pub const fn without_block_cache(mut self) -> Self {
        self.fills_block_cache = false;
        self
    }

    /// Gives rows in parts of so many cells at most, so that a row need not fit in memory. See [`Row::is_partial`].
    #[must_use]
    pub const fn cells_per_part(mut self, cell_count: u32) -> Self {
        self.cells_per_part = cell_count;
        self
    }

    /// Gives rows in the parts in which servers send them, so that a row need not fit in memory.
    #[must_use]
    pub const fn partial_rows(mut self) -> Self {
        self.takes_partial_rows = true;
        self
    }

    /// Ends after so many rows.
    #[must_use]
    pub const fn limit(mut self, row_count: u64) -> Self {
        self.row_limit = Some(row_count);
        self
    }

    /// Asks for so many rows in one call at most.
    #[must_use]
    pub const fn rows_per_call(mut self, row_count: u32) -> Self {
        self.rows_per_call = row_count;
        self
    }

    /// Asks for about so many bytes in one call.
    #[must_use]
    pub const fn bytes_per_call(mut self, byte_count: u64) -> Self {
        self.bytes_per_call = byte_count;
        self
    }

    /// Reads as of this point of the region's history, which an earlier answer has named.
    #[must_use]
    pub const fn at_snapshot(mut self, read_point: u64) -> Self {
        self.snapshot = read_point;
        self
    }

    /// First row, and whether it is read itself.
    #[must_use]
    pub const fn start(&self) -> (&Bytes, bool) {
        (&self.start, self.is_start_included)
    }

    /// Last row, and whether it is read itself.
    #[must_use]
    pub const fn stop(&self) -> (&Bytes, bool) {
        (&self.stop, self.is_stop_included)
    }

    /// Whether it reads down.
    #[must_use]
    pub const fn is_reversed(&self) -> bool {
        self.is_reversed
    }

    /// Whether rows may come in parts.
    #[must_use]
    pub const fn gives_parts(&self) -> bool {
        self.takes_partial_rows || self.cells_per_part > 0
    }

    /// Most rows that are read.
    #[must_use]
    pub const fn row_limit(&self) -> Option<u64> {
        self.row_limit
    }

    /// Rows of one call.
    #[must_use]
    pub const fn call_rows(&self) -> u32 {
        self.rows_per_call
    }

    /// The message `Scan`.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.start.len() + self.stop.len());
        put_columns(&mut out, 1, &self.columns);
        put_attributes(&mut out, 2, &self.attributes);
        if self.is_raw {
            // `Scan.RAW_ATTR`, a Java boolean.
            put_attributes(&mut out, 2, &[("_raw_".to_owned(), Bytes::from_static(&[0xff]))]);
        }
        put_bytes_field(&mut out, 3, &self.start);
        put_bytes_field(&mut out, 4, &self.stop);
        if let Some(filter) = &self.filter {
            put_bytes_field(&mut out, 5, &filter.encode());
        }
        put_time_range(&mut out, 6, self.time_range);
        put_varint_field(&mut out, 7, u64::from(self.versions_max));
        put_varint_field(&mut out, 8, u64::from(self.fills_block_cache));
        if self.cells_per_part > 0 {
            put_varint_field(&mut out, 9, u64::from(self.cells_per_part));
        }
        put_varint_field(&mut out, 10, self.bytes_per_call);
        if self.is_reversed {
            put_varint_field(&mut out, 15, 1);
        }
        put_varint_field(&mut out, 17, u64::from(self.rows_per_call));
        if self.snapshot > 0 {
            put_varint_field(&mut out, 20, self.snapshot);
        }
        if !self.is_start_included {
            put_varint_field(&mut out, 21, 0);
        }
        if self.is_stop_included {
            put_varint_field(&mut out, 22, 1);
        }
        out
    }
}

/// How much one call of a scan may give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanLimits {
    /// Rows of this call.
    pub rows: u32,
    /// Rows after which the server closes the scanner by itself; 0 when it does not. Not known to 1.x before 1.4.
    pub rows_left: u32,
    /// Whether the scanner is closed after this call.
    pub closes: bool,
}

fn put_limits(out: &mut Vec<u8>, limits: &ScanLimits) {
    put_varint_field(out, 4, u64::from(limits.rows));
    put_varint_field(out, 5, u64::from(limits.closes));
    // Partial results and heartbeats are understood.
    put_varint_field(out, 7, 1);
    put_varint_field(out, 8, 1);
    if limits.rows_left > 0 {
        put_varint_field(out, 11, u64::from(limits.rows_left));
    }
}

/// Parameter of `Scan` that opens a scanner on a region and reads the first rows.
#[must_use]
pub fn open_request(region: &RegionInfo, scan: &Scan, limits: &ScanLimits) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_bytes_field(&mut out, 1, &region.specifier());
    put_bytes_field(&mut out, 2, &scan.encode());
    put_limits(&mut out, limits);
    out
}

/// Parameter of `Scan` that reads on.
///
/// Without a call sequence number: after a failed call the scanner is opened anew, never asked a second time.
#[must_use]
pub fn next_request(scanner: u64, limits: &ScanLimits) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    put_varint_field(&mut out, 3, scanner);
    put_limits(&mut out, limits);
    out
}

/// Parameter of `Scan` that renews the lease of a scanner and reads nothing.
#[must_use]
pub fn renew_request(scanner: u64) -> Vec<u8> {
    let mut out = next_request(scanner, &ScanLimits::default());
    put_varint_field(&mut out, 10, 1);
    out
}

/// Parameter of `Scan` that closes a scanner.
#[must_use]
pub fn close_request(scanner: u64) -> Vec<u8> {
    next_request(scanner, &ScanLimits { closes: true, ..ScanLimits::default() })
}

/// What a server answers to `Scan`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanAnswer {
    /// Rows and parts of rows, in order.
    pub rows: Vec<Row>,
    /// The scanner, to read on with.
    pub scanner: Option<u64>,
    /// `false` when the whole scan has ended.
    pub has_more: Option<bool>,
    /// `false` when this region has no more.
    pub has_more_in_region: Option<bool>,
    /// Lease of the scanner in ms.
    pub lease_ms: Option<u32>,
    /// Whether the server answers only to say that it still reads.
    pub is_heartbeat: bool,
    /// The point of the region's history at which it is read; 0 when the server does not say it.
    pub read_point: u64,
}

/// Reads `ScanResponse`.
///
/// # Errors
/// When it does not parse, or the block lacks its cells.
pub fn parse_scan(message: &[u8], block: &mut Block) -> Result<ScanAnswer, WireError> {
    const WHAT: &str = "scan response";
    let mut answer = ScanAnswer::default();
    let mut partial_flags = Vec::new();
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => each_number(field, |count| {
                answer.rows.push(block.take_row(usize::try_from(count).unwrap_or(usize::MAX))?);
                Ok(())
            })?,
            2 => answer.scanner = Some(field.varint(WHAT)?),
            3 => answer.has_more = Some(field.varint(WHAT)? != 0),
            4 => answer.lease_ms = u32::try_from(field.varint(WHAT)?).ok(),
            5 => answer.rows.push(parse_result(field.bytes(WHAT)?, block)?),
            7 => each_number(field, |flag| {
                partial_flags.push(flag != 0);
                Ok(())
            })?,
            8 => answer.has_more_in_region = Some(field.varint(WHAT)? != 0),
            9 => answer.is_heartbeat = field.varint(WHAT)? != 0,
            11 => answer.read_point = field.varint(WHAT)?,
            _ => {}
        }
    }
    for (row, is_partial) in answer.rows.iter_mut().zip(partial_flags) {
        *row = std::mem::take(row).with_partial(is_partial);
    }
    Ok(answer)
}

/// A repeated number, packed or not.
fn each_number(
    field: crate::cursor::Field<'_>,
    mut take: impl FnMut(u64) -> Result<(), WireError>,
) -> Result<(), WireError> {
    const WHAT: &str = "scan response";
    let Ok(packed) = field.bytes(WHAT) else { return take(field.varint(WHAT)?) };
    let mut cursor = Cursor::new(packed);
    while !cursor.is_empty() {
        take(cursor.varint(WHAT)?)?;
    }
    Ok(())
}
