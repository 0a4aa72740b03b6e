//! Table descriptors (`TableSchema` of `HBase.proto`), as far as replication needs them.
//!
//! A changed descriptor keeps every field and setting that is not about replication as its bytes came, known or not.

use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use weir_model::TableName;

/// Method that asks for descriptors.
pub const GET: &str = "GetTableDescriptors";
/// Method that changes a table by a procedure.
pub const MODIFY: &str = "ModifyTable";

const SCOPE: &[u8] = b"REPLICATION_SCOPE";
/// Name and value are upper case: HBase writes and reads them by `Durability.name()`, on 1.x and 2.x alike.
const DURABILITY: &[u8] = b"DURABILITY";
const SKIP_WAL: &[u8] = b"SKIP_WAL";
const WHAT: &str = "table descriptor";

/// A column family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: Vec<u8>,
    /// `REPLICATION_SCOPE`: 0 stays at home, 1 is replicated.
    pub scope: u32,
}

/// A table with its families, and its descriptor as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The table.
    pub table: TableName,
    /// Its families, in the order of the descriptor.
    pub families: Vec<Family>,
    /// Whether its `DURABILITY` is `SKIP_WAL`: its writes are in no WAL, unless a mutation asks for more, so nothing of
    /// it can be replicated.
    pub skips_wal: bool,
    raw: Vec<u8>,
}

/// Parameter of [`GET`]: of these tables, or of all user tables when none is named.
#[must_use]
pub fn get(tables: &[TableName]) -> Vec<u8> {
    let mut out = Vec::new();
    for table in tables {
        put_bytes_field(&mut out, 1, &table_name(table));
    }
    put_varint_field(&mut out, 3, 0);
    out
}

/// Parameter of [`MODIFY`]; no nonce, because it is not tried again by itself.
#[must_use]
pub fn modify(schema: &Schema) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, 1, &table_name(&schema.table));
    put_bytes_field(&mut out, 2, &schema.raw);
    out
}

/// The message `TableName`.
#[must_use]
pub fn table_name(table: &TableName) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, 1, table.namespace().as_bytes());
    put_bytes_field(&mut out, 2, table.qualifier().as_bytes());
    out
}

/// Reads the message `TableName`.
///
/// # Errors
/// When it does not parse, or is no name.
pub fn parse_table_name(message: &[u8]) -> Result<TableName, WireError> {
    const WHAT: &str = "table name";
    let (mut namespace, mut qualifier) = ("", "");
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => namespace = field.text(WHAT)?,
            2 => qualifier = field.text(WHAT)?,
            _ => {}
        }
    }
    TableName::new(&format!("{namespace}:{qualifier}")).map_err(|_| WireError::Undecodable { what: WHAT })
}

/// Reads the answer to [`GET`].
///
/// # Errors
/// When it does not parse.
pub fn parse_answer(message: &[u8]) -> Result<Vec<Schema>, WireError> {
    let mut schemas = Vec::new();
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        if number == 1 {
            schemas.push(Schema::parse(field.bytes(WHAT)?)?);
        }
    }
    Ok(schemas)
}

impl Schema {
    /// Reads a `TableSchema`.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        let (mut table, mut families, mut skips_wal) = (None, Vec::new(), false);
        let mut cursor = Cursor::new(message);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => table = Some(parse_table_name(field.bytes(WHAT)?)?),
                2 => {
                    let (name, value) = pair(field.bytes(WHAT)?)?;
                    if name == DURABILITY {
                        skips_wal = value == SKIP_WAL;
                    }
                }
                3 => families.push(family(field.bytes(WHAT)?)?),
                _ => {}
            }
        }
        let table = table.ok_or(WireError::Missing { what: "table name" })?;
        Ok(Self { table, families, skips_wal, raw: message.to_vec() })
    }

    /// The descriptor's bytes.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// A family of this name.
    #[must_use]
    pub fn family(&self, name: &[u8]) -> Option<&Family> {
        self.families.iter().find(|family| family.name == name)
    }

    /// The same descriptor with scope 1 for the named families, whatever else it holds.
    ///
    /// # Errors
    /// When it does not parse, which [`Schema::parse`] has excluded.
    pub fn with_scope(&self, names: &[&[u8]]) -> Result<Self, WireError> {
        let mut raw = Vec::with_capacity(self.raw.len() + 32 * names.len());
        let mut cursor = Cursor::new(&self.raw);
        while let Some(field) = cursor.raw_field(WHAT)? {
            let message = if field.number == 3 { Some(field.value.bytes(WHAT)?) } else { None };
            match message {
                Some(message) if names.contains(&family(message)?.name.as_slice()) => {
                    put_bytes_field(&mut raw, 3, &scoped(message)?);
                }
                _ => raw.extend_from_slice(field.raw),
            }
        }
        Self::parse(&raw)
    }
}

fn family(message: &[u8]) -> Result<Family, WireError> {
    let mut family = Family { name: Vec::new(), scope: 0 };
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => family.name = field.bytes(WHAT)?.to_vec(),
            2 => {
                let (name, value) = pair(field.bytes(WHAT)?)?;
                if name == SCOPE {
                    // Numbers are kept as text (`ColumnFamilyDescriptorBuilder.setScope`).
                    let text = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    family.scope = text.ok_or(WireError::Undecodable { what: "replication scope" })?;
                }
            }
            _ => {}
        }
    }
    Ok(family)
}

/// A `ColumnFamilySchema` with scope 1: the attribute takes the place of the old one, or stands at the end.
fn scoped(message: &[u8]) -> Result<Vec<u8>, WireError> {
    let mut attribute = Vec::new();
    put_bytes_field(&mut attribute, 1, SCOPE);
    put_bytes_field(&mut attribute, 2, b"1");
    let mut out = Vec::with_capacity(message.len() + attribute.len() + 2);
    let mut is_set = false;
    let mut cursor = Cursor::new(message);
    while let Some(field) = cursor.raw_field(WHAT)? {
        if field.number == 2 && pair(field.value.bytes(WHAT)?)?.0 == SCOPE {
            put_bytes_field(&mut out, 2, &attribute);
            is_set = true;
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    if !is_set {
        put_bytes_field(&mut out, 2, &attribute);
    }
    Ok(out)
}

fn pair(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut pair = Vec::new();
        put_bytes_field(&mut pair, 1, name);
        put_bytes_field(&mut pair, 2, value);
        pair
    }

    /// A family with these attributes and, at its end, fields of a later version.
    fn a_family(name: &[u8], attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, name);
        attributes.iter().for_each(|pair| put_bytes_field(&mut out, 2, pair));
        put_bytes_field(&mut out, 3, &attribute(b"hbase.x", b"y"));
        put_varint_field(&mut out, 99, 7);
        out
    }

    fn a_table(families: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, &table_name(&TableName::new("shop:orders").unwrap()));
        put_bytes_field(&mut out, 2, &attribute(b"IS_META", b"false"));
        families.iter().for_each(|family| put_bytes_field(&mut out, 3, family));
        put_bytes_field(&mut out, 77, b"of a later version");
        out
    }

    #[test]
    fn a_scope_is_set_and_every_other_byte_stays() {
        let (bloom, ttl) = (attribute(b"BLOOMFILTER", b"ROW"), attribute(b"TTL", b"86400"));
        let scope = |value: &[u8]| attribute(SCOPE, value);
        let before = a_table(&[
            a_family(b"a", &[bloom.clone(), scope(b"0"), ttl.clone()]),
            a_family(b"b", &[scope(b"0")]),
            a_family(b"c", std::slice::from_ref(&ttl)),
        ]);
        let mut without = Vec::new();
        put_bytes_field(&mut without, 1, b"c");
        let schema = Schema::parse(&before).unwrap();
        assert_eq!(schema.table.as_str(), "shop:orders");
        assert_eq!(schema.families.iter().map(|family| family.scope).collect::<Vec<_>>(), [0, 0, 0]);
        let after = schema.with_scope(&[b"a"]).unwrap();
        assert_eq!(
            after.raw(),
            a_table(&[
                a_family(b"a", &[bloom, scope(b"1"), ttl.clone()]),
                a_family(b"b", &[scope(b"0")]),
                a_family(b"c", &[ttl]),
            ])
        );
        assert_eq!(after.family(b"a").unwrap().scope, 1);
        assert_eq!(after.with_scope(&[b"a"]).unwrap(), after, "setting it again changes nothing");
        let all = after.with_scope(&[b"a", b"b", b"c"]).unwrap();
        assert_eq!(all.families.iter().map(|family| family.scope).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(schema.with_scope(&[]).unwrap(), schema);
    }

    #[test]
    fn a_table_that_skips_the_wal_is_told_from_others() {
        for (value, expect) in [("SKIP_WAL", true), ("USE_DEFAULT", false), ("ASYNC_WAL", false)] {
            let mut message = a_table(&[]);
            put_bytes_field(&mut message, 2, &attribute(b"DURABILITY", value.as_bytes()));
            assert_eq!(Schema::parse(&message).unwrap().skips_wal, expect, "{value}");
        }
        assert!(!Schema::parse(&a_table(&[])).unwrap().skips_wal);
    }

    #[test]
    fn a_scope_that_is_no_number_is_refused() {
        let wrong = a_table(&[a_family(b"a", &[attribute(SCOPE, b"x")])]);
        assert!(matches!(Schema::parse(&wrong), Err(WireError::Undecodable { what: "replication scope" })));
    }
}
