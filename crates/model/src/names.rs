//! Names of HBase things, checked once at the border.

use std::fmt;

/// Name of an HBase table as replication writes it: `table` (default namespace) or `namespace:table`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct TableName(String);

/// Why a name is no table name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableNameError {
    /// Nothing, or nothing on one side of the colon.
    #[error("table name is empty")]
    Empty,
    /// HBase table names are UTF-8.
    #[error("table name is not UTF-8")]
    NotUtf8,
    /// A character that `TableName.isLegalTableQualifierName` refuses.
    #[error(
        "table name {name:?} has the character {wrong:?}; HBase allows letters, digits, '_', '-' and '.'"
    )]
    Character {
        /// The name as given.
        name: String,
        /// The first wrong character.
        wrong: char,
    },
}

impl TableName {
    /// Checks a name, following HBase's `TableName.valueOf`.
    ///
    /// # Errors
    /// When the name is empty or has characters that HBase refuses.
    pub fn new(name: &str) -> Result<Self, TableNameError> {
        let (namespace, qualifier) = match name.split_once(':') {
            Some((namespace, qualifier)) => (Some(namespace), qualifier),
            None => (None, name),
        };
        if qualifier.is_empty() || namespace.is_some_and(str::is_empty) {
            return Err(TableNameError::Empty);
        }
        let legal = |letter: char| letter.is_alphanumeric() || letter == '_';
        let wrong =
            namespace.unwrap_or_default().chars().find(|letter| !legal(*letter)).or_else(|| {
                qualifier.chars().find(|letter| !legal(*letter) && *letter != '-' && *letter != '.')
            });
        match wrong {
            Some(wrong) => Err(TableNameError::Character { name: name.to_owned(), wrong }),
            None if namespace == Some("default") => Ok(Self(qualifier.to_owned())),
            None => Ok(Self(name.to_owned())),
        }
    }

    /// The same, from bytes of the wire.
    ///
    /// # Errors
    /// When the bytes are not UTF-8, or as [`TableName::new`].
    pub fn from_bytes(name: &[u8]) -> Result<Self, TableNameError> {
        Self::new(std::str::from_utf8(name).map_err(|_| TableNameError::NotUtf8)?)
    }

    /// The whole name: `table` or `namespace:table`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace, `default` when none is written.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or("default", |(namespace, _)| namespace)
    }

    /// The part after the namespace.
    #[must_use]
    pub fn qualifier(&self) -> &str {
        self.0.split_once(':').map_or(self.0.as_str(), |(_, qualifier)| qualifier)
    }

    /// Whether it is one of HBase's own tables (namespace `hbase`), which never leave the cluster.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.namespace() == "hbase"
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The UUID of an HBase cluster (znode `hbaseid`, `ClusterId`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId {
    /// The most significant 64 bits, as `java.util.UUID` has them.
    pub most: u64,
    /// The least significant 64 bits.
    pub least: u64,
}

impl ClusterId {
    /// From 16 bytes in network order.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self { most: (bits >> 64) as u64, least: bits as u64 }
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        ((self.most as u128) << 64) | self.least as u128
    }

    /// Reads the text form `8-4-4-4-12`; `None` when it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits: u128 = 0;
        let mut digits = 0;
        for (place, letter) in text.chars().enumerate() {
            if matches!(place, 8 | 13 | 18 | 23) {
                if letter != '-' {
                    return None;
                }
                continue;
            }
            bits = (bits << 4) | u128::from(letter.to_digit(16)?);
            digits += 1;
        }
        (digits == 32 && text.len() == 36).then_some(Self::from_u128(bits))
    }

    /// A name-based id (the bits of `hash`, marked as version 8 of RFC 9562): the same input gives the same id.
    #[must_use]
    pub const fn name_based(hash: u128) -> Self {
        let versioned = (hash & !(0xf << 76)) | (0x8 << 76);
        Self::from_u128((versioned & !(0x3 << 62)) | (0x2 << 62))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.as_u128();
        write!(
            out,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            bits >> 96,
            (bits >> 80) & 0xffff,
            (bits >> 64) & 0xffff,
            (bits >> 48) & 0xffff,
            bits & 0xffff_ffff_ffff
        )
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_knows_its_namespace() {
        let name = TableName::new("shop:orders.v2").unwrap();
        assert_eq!((name.namespace(), name.qualifier()), ("shop", "orders.v2"));
        assert_eq!(TableName::new("default:t").unwrap(), TableName::new("t").unwrap());
        assert!(TableName::new("hbase:meta").unwrap().is_system());
        assert_eq!(TableName::new("a b").unwrap_err().to_string().find("' '"), Some(35));
        assert_eq!(TableName::new("ns:"), Err(TableNameError::Empty));
    }

    #[test]
    fn a_cluster_id_reads_what_it_prints() {
        let text = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
        assert_eq!(ClusterId::parse(text).unwrap().to_string(), text);
        for wrong in [
            "",
            "0f1e2d3c4b5a-6978-8796-a5b4c3d2e1f0",
            "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f",
            "zf1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
        ] {
            assert_eq!(ClusterId::parse(wrong), None, "{wrong}");
        }
        let named = ClusterId::name_based(u128::MAX).to_string();
        assert_eq!((&named[14..15], &named[19..20]), ("8", "b"));
    }
}
