//! What a commit's metadata says beside the runtime's map: which topic the offset is of, and how many partitions that had
//! when the group came to it.
//!
//! An offset alone does not say either. A topic that was deleted and created again takes the same offsets, and a partition
//! that was added later looks like one that the group has not read yet.
//!
//! Text = `.` + base64 (no padding) of the upper 8 bytes of the topic's id and of the count as a varint. It follows the
//! map, or stands alone.

use crate::ffi::topic_ids::TopicFacts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Letters of the longest note.
pub(super) const TEXT_BYTES_MAX: usize = 1 + (8 + 5usize).div_ceil(3) * 4;

/// The note of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    /// The upper half of the topic's id.
    pub(super) id: [u8; 8],
    /// Partitions from this number on are newer than the group. 0 for a topic that was created again while the group
    /// read it.
    pub(super) known_count: u32,
}

impl Note {
    pub(super) fn of(facts: TopicFacts, known_count: i32) -> Self {
        Self { id: facts.id, known_count: known_count.unsigned_abs() }
    }

    /// The text behind a map.
    pub(super) fn text(self) -> String {
        let mut body = self.id.to_vec();
        let mut rest = self.known_count;
        while rest >= 0x80 {
            body.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        format!(".{}", STANDARD_NO_PAD.encode(body))
    }

    fn read(text: &str) -> Option<Self> {
        let body = STANDARD_NO_PAD.decode(text).ok()?;
        let (id, count) = body.split_first_chunk::<8>()?;
        let (last, more) = count.split_last()?;
        // Seven bits a byte, the lowest first; only the last byte has no mark that another follows.
        if more.len() > 4 || last & 0x80 != 0 || more.iter().any(|byte| byte & 0x80 == 0) {
            return None;
        }
        let known_count = count.iter().rev().fold(0u64, |all, byte| all << 7 | u64::from(byte & 0x7f));
        Some(Self { id: *id, known_count: u32::try_from(known_count).ok()? })
    }
}

/// Whether a note may follow this map.
pub(super) fn may_follow(map: &str) -> bool {
    map.is_empty() || map.starts_with("w1")
}

/// Takes metadata apart: the runtime's map, and the note if there is one.
pub(super) fn split(metadata: &str) -> (&str, Option<Note>) {
    let Some((map, text)) = metadata.rsplit_once('.') else { return (metadata, None) };
    match Note::read(text).filter(|_| text.len() < TEXT_BYTES_MAX && may_follow(map)) {
        Some(note) => (map, Some(note)),
        None => (metadata, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_runtime::offset_map;

    const NOTE: Note = Note { id: [1, 2, 3, 4, 5, 6, 7, 250], known_count: 16 };

    #[test]
    fn a_note_is_read_as_it_was_written_and_leaves_the_map_as_it_was() {
        assert_eq!(NOTE.text(), ".AQIDBAUGB/oQ");
        for known_count in [0, 1, 127, 128, 300_000, u32::MAX] {
            let note = Note { known_count, ..NOTE };
            assert!(note.text().len() <= TEXT_BYTES_MAX, "{}", note.text());
            assert_eq!(split(&note.text()), ("", Some(note)));
            let both = format!("w1rAdCGAw{}", note.text());
            assert_eq!(split(&both), ("w1rAdCGAw", Some(note)));
            assert_eq!(offset_map::decode(1000, &both).unwrap(), vec![1001..51_001]);
            assert_eq!(offset_map::decode(1000, &note.text()), Ok(Vec::new()));
        }
    }

    #[test]
    fn metadata_of_others_stays_as_it_is() {
        for other in [
            "",
            "w1rAdCGAw",
            "AQ==",
            "bAAA",
            "host.AQIDBAUGB/oQ",
            ".",
            ".AQID",
            "w1r.",
            ".AQIDBAUGB/oQQQQQ",
            "a.b",
        ] {
            assert_eq!(split(other), (other, None), "{other}");
        }
    }
}
