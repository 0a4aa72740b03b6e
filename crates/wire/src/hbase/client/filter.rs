//! The common filters that servers run (`Filter.proto`, `Comparator.proto`).

use super::Compare;
use crate::cursor::{put_bytes_field, put_varint_field};
use bytes::Bytes;

const PACKAGE: &str = "org.apache.hadoop.hbase.filter";

/// A filter that a server runs on the cells of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    class: String,
    message: Vec<u8>,
}

impl Filter {
    /// A filter by its Java class and the message that its `parseFrom` takes.
    #[must_use]
    pub fn of_class(class: impl Into<String>, message: impl Into<Vec<u8>>) -> Self {
        Self { class: class.into(), message: message.into() }
    }

    fn built_in(name: &str, message: Vec<u8>) -> Self {
        Self { class: format!("{PACKAGE}.{name}"), message }
    }

    /// Rows whose key starts with this.
    #[must_use]
    pub fn row_prefix(prefix: impl Into<Bytes>) -> Self {
        Self::built_in("PrefixFilter", bytes(1, &prefix.into()))
    }

    /// Columns whose qualifier starts with this.
    #[must_use]
    pub fn column_prefix(prefix: impl Into<Bytes>) -> Self {
        Self::built_in("ColumnPrefixFilter", bytes(1, &prefix.into()))
    }

    /// Cells without their values.
    #[must_use]
    pub fn key_only() -> Self {
        Self::built_in("KeyOnlyFilter", number(1, 0))
    }

    /// The first cell of each row: enough to count rows.
    #[must_use]
    pub fn first_key_only() -> Self {
        Self::built_in("FirstKeyOnlyFilter", Vec::new())
    }

    /// So many rows of each region at most.
    #[must_use]
    pub fn page(row_count: u64) -> Self {
        Self::built_in("PageFilter", number(1, row_count))
    }

    /// Cells whose value compares so with this one.
    #[must_use]
    pub fn value(compare: Compare, value: impl Into<Bytes>) -> Self {
        Self::built_in("ValueFilter", bytes(1, &compared(compare, &value.into())))
    }

    /// Cells whose qualifier compares so with this one.
    #[must_use]
    pub fn qualifier(compare: Compare, qualifier: impl Into<Bytes>) -> Self {
        Self::built_in("QualifierFilter", bytes(1, &compared(compare, &qualifier.into())))
    }

    /// Rows whose key compares so with this one.
    #[must_use]
    pub fn row(compare: Compare, row: impl Into<Bytes>) -> Self {
        Self::built_in("RowFilter", bytes(1, &compared(compare, &row.into())))
    }

    /// Rows in which the newest value of a column compares so with this one; rows without the column are left out.
    #[must_use]
    pub fn column_value(
        family: impl Into<Bytes>,
        qualifier: impl Into<Bytes>,
        compare: Compare,
        value: impl Into<Bytes>,
    ) -> Self {
        let mut message = bytes(1, &family.into());
        put_bytes_field(&mut message, 2, &qualifier.into());
        put_varint_field(&mut message, 3, compare.number());
        put_bytes_field(&mut message, 4, &comparator(&value.into()));
        put_varint_field(&mut message, 5, 1);
        put_varint_field(&mut message, 6, 1);
        Self::built_in("SingleColumnValueFilter", message)
    }

    /// What passes all of these.
    #[must_use]
    pub fn all(filters: &[Self]) -> Self {
        const MUST_PASS_ALL: u64 = 1;
        Self::list(MUST_PASS_ALL, filters)
    }

    /// What passes at least one of these.
    #[must_use]
    pub fn any(filters: &[Self]) -> Self {
        const MUST_PASS_ONE: u64 = 2;
        Self::list(MUST_PASS_ONE, filters)
    }

    fn list(operator: u64, filters: &[Self]) -> Self {
        let mut message = number(1, operator);
        filters.iter().for_each(|filter| put_bytes_field(&mut message, 2, &filter.encode()));
        Self::built_in("FilterList", message)
    }

    /// The message `Filter`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = bytes(1, self.class.as_bytes());
        put_bytes_field(&mut out, 2, &self.message);
        out
    }
}

/// The message `Comparator` of a `BinaryComparator`.
pub(super) fn comparator(value: &[u8]) -> Vec<u8> {
    let mut out = bytes(1, format!("{PACKAGE}.BinaryComparator").as_bytes());
    put_bytes_field(&mut out, 2, &bytes(1, &bytes(1, value)));
    out
}

/// The message `CompareFilter`.
fn compared(compare: Compare, value: &[u8]) -> Vec<u8> {
    let mut out = number(1, compare.number());
    put_bytes_field(&mut out, 2, &comparator(value));
    out
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + 6);
    put_bytes_field(&mut out, field, value);
    out
}

fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    put_varint_field(&mut out, field, value);
    out
}
