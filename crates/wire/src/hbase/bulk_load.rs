//! The descriptor of a bulk load (`BulkLoadDescriptor` of `WAL.proto`): which HFiles were loaded into which family.
//!
//! A change of the descriptor keeps every field that is not left out as its bytes came, known or not.

use crate::cursor::{Cursor, WireError};

const WHAT: &str = "bulk load descriptor";
const STORES: u64 = 3;

/// The files that were loaded into one family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Store<'a> {
    /// The family.
    pub family: &'a [u8],
    /// Folder of the family's files, relative to its region's.
    pub home: &'a str,
    /// Names of the files.
    pub files: Vec<&'a str>,
}

/// Reads the files of a descriptor, by family.
///
/// # Errors
/// When it does not parse.
pub fn stores(descriptor: &[u8]) -> Result<Vec<Store<'_>>, WireError> {
    let mut stores = Vec::new();
    let mut cursor = Cursor::new(descriptor);
    while let Some((number, field)) = cursor.field(WHAT)? {
        if number == STORES {
            stores.push(store(field.bytes(WHAT)?)?);
        }
    }
    Ok(stores)
}

/// A descriptor without the stores of some families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filtered {
    /// The descriptor.
    pub descriptor: Vec<u8>,
    /// Stores that it still has.
    pub kept: u64,
    /// Stores that were left out.
    pub left_out: u64,
}

/// Leaves out the stores of families that `takes` does not name.
///
/// # Errors
/// When the descriptor does not parse.
pub fn filter(descriptor: &[u8], takes: impl Fn(&[u8]) -> bool) -> Result<Filtered, WireError> {
    let mut filtered = Filtered { descriptor: Vec::with_capacity(descriptor.len()), ..Filtered::default() };
    let mut cursor = Cursor::new(descriptor);
    while let Some(field) = cursor.raw_field(WHAT)? {
        if field.number == STORES {
            if !takes(store(field.value.bytes(WHAT)?)?.family) {
                filtered.left_out += 1;
                continue;
            }
            filtered.kept += 1;
        }
        filtered.descriptor.extend_from_slice(field.raw);
    }
    Ok(filtered)
}

fn store(message: &[u8]) -> Result<Store<'_>, WireError> {
    let mut store = Store::default();
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => store.family = field.bytes(WHAT)?,
            2 => store.home = field.text(WHAT)?,
            3 => store.files.push(field.text(WHAT)?),
            _ => {}
        }
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursor::{put_bytes_field, put_varint_field};

    fn descriptor(families: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 2, b"region");
        for family in families {
            let mut store = Vec::new();
            put_bytes_field(&mut store, 1, family.as_bytes());
            put_bytes_field(&mut store, 2, family.as_bytes());
            put_bytes_field(&mut store, 3, b"file1");
            put_bytes_field(&mut store, 3, b"file2");
            put_bytes_field(&mut out, STORES, &store);
        }
        put_varint_field(&mut out, 4, 7);
        put_bytes_field(&mut out, 99, b"of a later version");
        out
    }

    #[test]
    fn a_descriptor_names_its_files_and_loses_only_the_families_that_are_left_out() {
        let both = descriptor(&["f", "g"]);
        let files = vec!["file1", "file2"];
        let of =
            |family: &'static str| Store { family: family.as_bytes(), home: family, files: files.clone() };
        assert_eq!(stores(&both).unwrap(), [of("f"), of("g")]);
        let filtered = filter(&both, |family| family == b"g").unwrap();
        assert_eq!((filtered.kept, filtered.left_out), (1, 1));
        assert_eq!(filtered.descriptor, descriptor(&["g"]));
        assert_eq!(filter(&both, |_| true).unwrap().descriptor, both);
        assert_eq!(filter(&both, |_| false).unwrap().kept, 0);
        assert!(stores(&both[..both.len() - 1]).is_err());
        assert!(filter(b"\x1a\x02\x0a", |_| true).is_err());
    }
}
