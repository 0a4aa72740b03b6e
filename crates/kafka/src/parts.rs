//! Values over the broker's limit: cut into numbered parts by the producer, put together by the reader.
//!
//! All parts carry the record's key, so they share a partition, and one more header:
//! `weir.part` = `index/count/total bytes/crc32c of the whole`. Parts that come twice are harmless.

use std::collections::HashMap;
use weir_model::limits::{PARTS_MAX, PARTS_PENDING_BYTES_MAX};

/// Name of the header.
pub const HEADER: &str = "weir.part";

/// The same as librdkafka takes it.
pub(crate) const HEADER_C: &std::ffi::CStr = c"weir.part";

/// What the header of one part says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Counts from 0.
    pub index: u32,
    /// Parts of the value.
    pub count: u32,
    /// Bytes of the whole value.
    pub total_bytes: u64,
    /// CRC-32C of the whole value.
    pub crc: u32,
}

impl Part {
    /// The header's value.
    #[must_use]
    pub fn header(&self) -> String {
        format!("{}/{}/{}/{:08x}", self.index, self.count, self.total_bytes, self.crc)
    }

    /// Reads the header's value; `None` when it is not one.
    #[must_use]
    pub fn parse(header: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(header).ok()?.split('/');
        let index = words.next()?.parse().ok()?;
        let count = words.next()?.parse().ok()?;
        let total_bytes = words.next()?.parse().ok()?;
        let crc = u32::from_str_radix(words.next()?, 16).ok()?;
        let sound = index < count && count <= PARTS_MAX && words.next().is_none();
        sound.then_some(Self { index, count, total_bytes, crc })
    }
}

/// The parts of a value: each with its bytes.
pub fn cut(value: &[u8], part_bytes_max: usize) -> impl Iterator<Item = (Part, &[u8])> {
    let chunks = value.chunks(part_bytes_max.max(1));
    let count = u32::try_from(chunks.len()).expect("a value is a frame at most");
    let (total_bytes, crc) = (value.len() as u64, crc32c::crc32c(value));
    chunks.zip(0..).map(move |(chunk, index)| (Part { index, count, total_bytes, crc }, chunk))
}

/// Why parts could not be put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartsError {
    /// The parts do not make the value that was cut.
    #[error("the parts of a value of {total_bytes} bytes do not match their checksum")]
    Checksum {
        /// Bytes of the whole.
        total_bytes: u64,
    },
    /// Too many bytes of unfinished values.
    #[error("unfinished parts hold more than {max} bytes")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// Key, part count, total bytes and checksum: what the parts of one value share.
type Identity = (Vec<u8>, u32, u64, u32);

/// Puts the parts of one partition together.
#[derive(Debug, Default)]
pub struct Assembler {
    pending: HashMap<Identity, Vec<Option<Vec<u8>>>>,
    bytes: usize,
}

impl Assembler {
    /// Takes a part; the whole value when it was the last one missing. `key` is the record's key.
    ///
    /// # Errors
    /// When the whole does not match its checksum, or too much is pending.
    pub fn add(&mut self, key: &[u8], part: Part, bytes: &[u8]) -> Result<Option<Vec<u8>>, PartsError> {
        let identity = (key.to_vec(), part.count, part.total_bytes, part.crc);
        let slots = self.pending.entry(identity.clone()).or_insert_with(|| vec![None; part.count as usize]);
        if let Some(slot) = slots.get_mut(part.index as usize)
            && slot.is_none()
        {
            self.bytes += bytes.len();
            *slot = Some(bytes.to_vec());
        }
        if self.bytes > PARTS_PENDING_BYTES_MAX {
            return Err(PartsError::TooMany { max: PARTS_PENDING_BYTES_MAX });
        }
        if slots.iter().any(Option::is_none) {
            return Ok(None);
        }
        let slots = self.pending.remove(&identity).unwrap_or_default();
        let value: Vec<u8> = slots.into_iter().flatten().flatten().collect();
        self.bytes -= value.len();
        if value.len() as u64 == part.total_bytes && crc32c::crc32c(&value) == part.crc {
            Ok(Some(value))
        } else {
            Err(PartsError::Checksum { total_bytes: part.total_bytes })
        }
    }

    /// Values that are not whole yet.
    #[must_use]
    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_comes_back_whole_from_parts_in_any_order_even_twice(
            value in proptest::collection::vec(any::<u8>(), 1..2000),
            part_bytes in 1usize..300,
            order in any::<prop::sample::Index>(),
        ) {
            let mut parts: Vec<_> = cut(&value, part_bytes).collect();
            let turn = order.index(parts.len());
            parts.rotate_left(turn);
            let mut assembler = Assembler::default();
            // The first attempt broke off after some parts; the second brings all.
            let tried = parts[..turn].to_vec();
            let mut whole = None;
            for (part, bytes) in tried.into_iter().chain(parts) {
                let part = Part::parse(part.header().as_bytes()).unwrap();
                whole = assembler.add(b"k", part, bytes).unwrap().or(whole);
            }
            prop_assert_eq!(whole, Some(value));
        }
    }

    #[test]
    fn a_part_that_was_changed_is_noticed() {
        let mut assembler = Assembler::default();
        let parts: Vec<_> = cut(b"hello world", 6).collect();
        assert_eq!(assembler.add(b"k", parts[0].0, parts[0].1), Ok(None));
        assert_eq!(assembler.pending_count(), 1);
        assert!(matches!(assembler.add(b"k", parts[1].0, b"WORLD"), Err(PartsError::Checksum { .. })));
        assert_eq!(Part::parse(b"3/3/9/00000000"), None);
        assert_eq!(Part::parse(b"0/1/9"), None);
    }
}
