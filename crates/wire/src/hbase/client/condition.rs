//! Conditions of checked mutations (`Condition`).

use super::filter::comparator;
use crate::cursor::{put_bytes_field, put_varint_field};
use bytes::Bytes;

/// How a stored value is compared with the given one: `LESS` means that the given value is less than the stored one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Greater or equal.
    GreaterOrEqual,
    /// Greater.
    Greater,
}

impl Compare {
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Less => 0,
            Self::LessOrEqual => 1,
            Self::Equal => 2,
            Self::NotEqual => 3,
            Self::GreaterOrEqual => 4,
            Self::Greater => 5,
        }
    }
}

/// A condition on one column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    row: Bytes,
    family: Bytes,
    qualifier: Bytes,
    compare: Compare,
    value: Bytes,
}

impl Check {
    /// Holds when the newest value of the column is this one. HBase takes an empty value for "there is no such column".
    #[must_use]
    pub fn equals(
        row: impl Into<Bytes>,
        family: impl Into<Bytes>,
        qualifier: impl Into<Bytes>,
        value: impl Into<Bytes>,
    ) -> Self {
        Self::compare(row, family, qualifier, Compare::Equal, value)
    }

    /// Holds when the column has no value.
    #[must_use]
    pub fn missing(row: impl Into<Bytes>, family: impl Into<Bytes>, qualifier: impl Into<Bytes>) -> Self {
        Self::compare(row, family, qualifier, Compare::Equal, Bytes::new())
    }

    /// Holds when the given value compares so with the newest value of the column.
    #[must_use]
    pub fn compare(
        row: impl Into<Bytes>,
        family: impl Into<Bytes>,
        qualifier: impl Into<Bytes>,
        compare: Compare,
        value: impl Into<Bytes>,
    ) -> Self {
        Self {
            row: row.into(),
            family: family.into(),
            qualifier: qualifier.into(),
            compare,
            value: value.into(),
        }
    }

    /// The row.
    #[must_use]
    pub const fn row(&self) -> &Bytes {
        &self.row
    }

    /// The message `Condition`.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, &self.row);
        put_bytes_field(&mut out, 2, &self.family);
        put_bytes_field(&mut out, 3, &self.qualifier);
        put_varint_field(&mut out, 4, self.compare.number());
        put_bytes_field(&mut out, 5, &comparator(&self.value));
        out
    }
}
