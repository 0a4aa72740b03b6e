//! Dead letters that were written in parts: one letter each, at the offset of the last part.

use super::Letter;
use crate::parts::{Assembler, HEADER, Part};
use std::collections::HashMap;
use weir_model::{Fault, FaultKind};

/// Partition, key, part count, total bytes and checksum: what the parts of one value share.
type Identity = (i32, Option<Vec<u8>>, u32, u64, u32);

/// Puts letters together. Parts whose rest is not there are no letter yet.
#[derive(Default)]
pub(super) struct Together {
    values: HashMap<i32, Assembler>,
    /// Offsets of the parts that came, and the size of the largest.
    seen: HashMap<Identity, (Vec<i64>, usize)>,
}

impl Together {
    /// The letter that is whole with this record.
    pub(super) fn add(&mut self, mut letter: Letter) -> Result<Option<Letter>, Fault> {
        let header = letter.headers.iter().rev().find(|(name, _)| name == HEADER);
        let Some(part) = header.and_then(|(_, value)| Part::parse(value.as_deref()?)) else {
            return Ok(Some(letter));
        };
        let identity = (letter.partition, letter.key.clone(), part.count, part.total_bytes, part.crc);
        let bytes = letter.value.take().unwrap_or_default();
        let (offsets, part_bytes) = self.seen.entry(identity.clone()).or_default();
        offsets.push(letter.offset);
        *part_bytes = bytes.len().max(*part_bytes);
        let assembler = self.values.entry(letter.partition).or_default();
        let whole = assembler.add(letter.key.as_deref().unwrap_or_default(), part, &bytes);
        let whole = whole.map_err(|error| {
            let about = format!("{}/{}", letter.partition, letter.offset);
            Fault::new(
                FaultKind::Corrupt,
                "W-KAFKA-REJECTED",
                "put the parts of a dead letter together",
                about,
            )
            .caused_by(error)
        })?;
        let Some(value) = whole else { return Ok(None) };
        let (offsets, part_bytes) = self.seen.remove(&identity).unwrap_or_default();
        letter.headers.retain(|(name, _)| name != HEADER);
        Ok(Some(Letter { value: Some(value), parts: offsets, part_bytes, ..letter }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::cut;

    #[test]
    fn a_letter_in_parts_is_one_letter_that_knows_all_of_its_offsets() {
        let plain = |offset: i64, value: &[u8], part: Option<Part>| Letter {
            partition: 0,
            offset,
            timestamp_ms: 1,
            key: Some(b"k".to_vec()),
            value: Some(value.to_vec()),
            headers: part
                .map(|part| (HEADER.to_owned(), Some(part.header().into_bytes())))
                .into_iter()
                .chain([("own".to_owned(), None)])
                .collect(),
            parts: Vec::new(),
            part_bytes: 0,
        };
        let mut together = Together::default();
        let parts: Vec<_> = cut(b"hello world", 4).collect();
        let part = |index: usize, offset| plain(offset, parts[index].1, Some(parts[index].0));
        assert_eq!(together.add(part(0, 5)).unwrap(), None);
        assert_eq!(together.add(plain(6, b"x", None)).unwrap(), Some(plain(6, b"x", None)));
        assert_eq!(together.add(part(1, 7)).unwrap(), None);
        let whole = together.add(part(2, 8)).unwrap().unwrap();
        let expect = Letter { parts: vec![5, 7, 8], part_bytes: 4, ..plain(8, b"hello world", None) };
        assert_eq!(whole, expect);
    }
}
