//! Reading one row (`Get`).

use super::{
    Block, Filter, OutsideRegion, RegionInfo, Row, add_column, parse_result, put_attributes, put_columns,
    put_time_range,
};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use bytes::Bytes;

/// Reads one row: all of it, unless families or columns are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    row: Bytes,
    columns: Vec<(Bytes, Vec<Bytes>)>,
    time_range: Option<(u64, u64)>,
    versions_max: u32,
    filter: Option<Filter>,
    attributes: Vec<(String, Bytes)>,
    is_existence_only: bool,
}

impl Get {
    /// Reads the newest version of every column of this row.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self {
            row: row.into(),
            columns: Vec::new(),
            time_range: None,
            versions_max: 1,
            filter: None,
            attributes: Vec::new(),
            is_existence_only: false,
        }
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

    /// Reads up to so many versions of each column.
    #[must_use]
    pub const fn versions(mut self, versions_max: u32) -> Self {
        self.versions_max = versions_max;
        self
    }

    /// Reads cells with a timestamp from the first and below the second.
    #[must_use]
    pub const fn time_range(mut self, from_ms: u64, below_ms: u64) -> Self {
        self.time_range = Some((from_ms, below_ms));
        self
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

    /// Asks only whether the row exists: see [`Row::exists`].
    #[must_use]
    pub const fn existence_only(mut self) -> Self {
        self.is_existence_only = true;
        self
    }

    /// The row.
    #[must_use]
    pub const fn row(&self) -> &Bytes {
        &self.row
    }

    /// Bytes it takes in a request, about.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let columns = self.columns.iter().flat_map(|(family, qualifiers)| {
            std::iter::once(family.len() + 8).chain(qualifiers.iter().map(|qualifier| qualifier.len() + 4))
        });
        self.row.len() + columns.sum::<usize>() + 32
    }

    /// The message `Get`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.byte_len());
        put_bytes_field(&mut out, 1, &self.row);
        put_columns(&mut out, 2, &self.columns);
        put_attributes(&mut out, 3, &self.attributes);
        if let Some(filter) = &self.filter {
            put_bytes_field(&mut out, 4, &filter.encode());
        }
        put_time_range(&mut out, 5, self.time_range);
        put_varint_field(&mut out, 6, u64::from(self.versions_max));
        if self.is_existence_only {
            put_varint_field(&mut out, 10, 1);
        }
        out
    }
}

/// Parameter of `Get`.
///
/// # Errors
/// When the region does not hold the row.
pub fn get_request(region: &RegionInfo, get: &Get) -> Result<Vec<u8>, OutsideRegion> {
    region.check(&get.row)?;
    let mut out = Vec::with_capacity(get.byte_len() + region.name.len() + 16);
    put_bytes_field(&mut out, 1, &region.specifier());
    put_bytes_field(&mut out, 2, &get.encode());
    Ok(out)
}

/// Reads `GetResponse`; the row is empty when it was not found.
///
/// # Errors
/// When it does not parse.
pub fn parse_get(message: &[u8], block: Bytes) -> Result<Row, WireError> {
    const WHAT: &str = "get response";
    let (mut row, mut block) = (Row::default(), Block::new(block));
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        if number == 1 {
            row = parse_result(field.bytes(WHAT)?, &mut block)?;
        }
    }
    Ok(row)
}
