//! What Parallel Consumer leaves in a commit's metadata: which offsets past the committed one are done already.
//!
//! Text = base64 of a letter and a body; the forms are those of its `OffsetEncoding` (0.5.3.3, and its source at
//! f54e0d59). Bit sets are a count (16 or 32 bits, big-endian) and one bit an offset, lowest bit first; run lengths are
//! numbers of 16 or 32 bits, big-endian, pending and done in turn; either may be packed with zstd. All of it is bounded:
//! what is past a bound is repeated, and nothing is lost.

use crate::offset_map::{MapError, SPAN_MAX};
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ruzstd::decoding::StreamingDecoder;
use std::io::Read as _;
use std::ops::Range;

/// Characters that are read: Kafka's protocol has no longer ones.
const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// Bytes of an unpacked body: eight million offsets as bits. Its own limit is 4096 characters of packed text.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What zstd may keep while it unpacks: its writer, zstd-jni at level 3, says 2 MiB.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Ranges that are kept of one map, 2 MiB of memory.
pub const RANGES_MAX: usize = 1 << 17;

/// The Java decoder insists on padding; we have no reason to.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone, Copy)]
enum Form {
    Bits { wide: bool },
    Runs { wide: bool },
}

/// Reads the metadata of a commit of `base`: ranges of offsets that are done, in order. Empty text says nothing.
///
/// # Errors
/// When it is not Parallel Consumer's, or damaged.
pub fn decode(base: i64, text: &str) -> Result<Vec<Range<i64>>, MapError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(MapError::Damaged("it is longer than any commit's"));
    }
    let bytes = BASE64.decode(text).map_err(|_| MapError::Foreign(UNKNOWN))?;
    if bytes.is_empty() { Ok(Vec::new()) } else { decode_bytes(base, &bytes) }
}

const UNKNOWN: &str = "of an unknown writer";

/// As [`decode`], without the base64.
///
/// # Errors
/// As [`decode`].
pub fn decode_bytes(base: i64, bytes: &[u8]) -> Result<Vec<Range<i64>>, MapError> {
    let (letter, body) = bytes.split_first().ok_or(MapError::Damaged("it has no form"))?;
    let (form, is_packed) = form(*letter).ok_or_else(|| MapError::Foreign(writer(bytes)))?;
    let unpacked;
    let body = if is_packed {
        unpacked = unpack(body)?;
        &unpacked
    } else {
        body
    };
    match form {
        Form::Bits { wide } => bits(base, body, wide),
        Form::Runs { wide } => runs(base, body, wide),
    }
}

/// Who wrote metadata that is not ours, as far as its looks tell.
pub(crate) fn writer_of(text: &str) -> &'static str {
    BASE64.decode(text.get(..text.len().min(TEXT_BYTES_MAX)).unwrap_or_default()).map_or(UNKNOWN, |bytes| {
        if bytes.first().is_some_and(|letter| form(*letter).is_some()) {
            "maybe Parallel Consumer's; a consumer with after_parallel_consumer() reads that"
        } else {
            writer(&bytes)
        }
    })
}

fn writer(bytes: &[u8]) -> &'static str {
    match bytes {
        // A version, a partition time of eight bytes, and from version 2 on more.
        [1, rest @ ..] if rest.len() == 8 => "Kafka Streams'",
        [2, rest @ ..] if rest.len() >= 8 => "Kafka Streams'",
        [b'L' | 0xee, ..] => {
            "Parallel Consumer's in the form of bytes, which no release of it has written or read"
        }
        _ => UNKNOWN,
    }
}

const fn form(letter: u8) -> Option<(Form, bool)> {
    Some(match letter {
        b'l' => (Form::Bits { wide: false }, false),
        b'a' => (Form::Bits { wide: false }, true),
        b'o' => (Form::Bits { wide: true }, false),
        b's' => (Form::Bits { wide: true }, true),
        b'n' => (Form::Runs { wide: false }, false),
        b'J' => (Form::Runs { wide: false }, true),
        b'e' => (Form::Runs { wide: true }, false),
        b'p' => (Form::Runs { wide: true }, true),
        _ => return None,
    })
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, MapError> {
    let decoder = StreamingDecoder::new_with_max_window_size(body, ZSTD_WINDOW_BYTES_MAX);
    let decoder = decoder.map_err(|_| MapError::Damaged("its zstd frame"))?;
    let mut unpacked = Vec::new();
    let read = decoder.take(BODY_BYTES_MAX as u64 + 1).read_to_end(&mut unpacked);
    read.map_err(|_| MapError::Damaged("its zstd frame"))?;
    if unpacked.len() > BODY_BYTES_MAX {
        return Err(MapError::Damaged("it unpacks to more than a megabyte"));
    }
    Ok(unpacked)
}

/// A signed number of 16 or 32 bits that must not be negative.
fn take_number(body: &mut &[u8], wide: bool) -> Result<i64, MapError> {
    const SHORT: MapError = MapError::Damaged("it ends within a number");
    let number = if wide {
        let (bytes, rest) = body.split_first_chunk().ok_or(SHORT)?;
        *body = rest;
        i64::from(i32::from_be_bytes(*bytes))
    } else {
        let (bytes, rest) = body.split_first_chunk().ok_or(SHORT)?;
        *body = rest;
        i64::from(i16::from_be_bytes(*bytes))
    };
    if number < 0 { Err(MapError::Damaged("a negative count")) } else { Ok(number) }
}

fn bits(base: i64, mut body: &[u8], wide: bool) -> Result<Vec<Range<i64>>, MapError> {
    let count = take_number(&mut body, wide)?;
    if base.checked_add(count).is_none() {
        return Err(MapError::Damaged("a bit set past the last offset"));
    }
    // Its writer adds one byte more than the count needs.
    if body.len() as i64 > count.div_euclid(8) + 2 {
        return Err(MapError::Damaged("a bit set longer than its count"));
    }
    let mut ranges = Vec::new();
    for (index, byte) in (0..).zip(body) {
        for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
            let distance = index * 8 + bit;
            if distance >= count {
                return Err(MapError::Damaged("a bit set longer than its count"));
            }
            if !push(&mut ranges, base + distance..base + distance + 1) {
                return Ok(ranges);
            }
        }
    }
    Ok(ranges)
}

fn runs(base: i64, mut body: &[u8], wide: bool) -> Result<Vec<Range<i64>>, MapError> {
    let (mut ranges, mut at, mut is_done) = (Vec::new(), base, false);
    while !body.is_empty() {
        let run = take_number(&mut body, wide)?;
        let end = at.checked_add(run).filter(|end| end - base <= SPAN_MAX);
        let end = end.ok_or(MapError::Damaged("a run that is too long"))?;
        if is_done && run > 0 && !push(&mut ranges, at..end) {
            return Ok(ranges);
        }
        (at, is_done) = (end, !is_done);
    }
    Ok(ranges)
}

/// Adds a range that begins at or past the end of the last one; false when there are too many.
fn push(ranges: &mut Vec<Range<i64>>, range: Range<i64>) -> bool {
    let is_full = ranges.len() == RANGES_MAX;
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ if is_full => return false,
        _ => ranges.push(range),
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(text: &str) -> Vec<Range<i64>> {
        let range = |pair: &str| {
            let (from, to) = pair.split_once('-').unwrap();
            from.parse().unwrap()..to.parse().unwrap()
        };
        if text == "none" { Vec::new() } else { text.split(',').map(range).collect() }
    }

    #[test]
    fn what_parallel_consumer_itself_wrote_is_read_as_it_reads_it() {
        let golden = include_str!("../golden/parallel-consumer-0.5.3.3.txt");
        let mut letters = std::collections::BTreeSet::new();
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let [_, base, text, done] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("a line of four words: {line}");
            };
            letters.insert(BASE64.decode(text).unwrap()[0]);
            assert_eq!(decode(base.parse().unwrap(), text), Ok(ranges(done)), "{line}");
        }
        assert_eq!(letters.into_iter().collect::<Vec<u8>>(), *b"Jaelnops", "every form is there");
    }

    /// A text body after a letter, in base64.
    fn text(letter: u8, body: &[u8]) -> String {
        BASE64.encode([&[letter], body].concat())
    }

    #[test]
    fn damaged_and_foreign_metadata_is_named() {
        let damaged = [
            text(b'l', &[0]),
            text(b'l', &[0x80, 0]),
            text(b'l', &[0, 3, 0xf8]),
            text(b'l', &[0, 3, 1, 0, 0, 0]),
            text(b'o', &[0, 0, 0]),
            text(b'n', &[0, 1, 0]),
            text(b'n', &[0, 1, 0xff, 0xff]),
            text(b'e', &[0, 0, 0, 1, 0xff, 0, 0, 0]),
            text(b'e', &[0x7f; 40]),
            text(b'a', b"not zstd"),
            text(b'p', &[]),
            "A".repeat(40_000),
        ];
        for text in damaged {
            assert!(matches!(decode(7, &text), Err(MapError::Damaged(_))), "{text:.60}");
        }
        for (text, whose) in [("consumer-17", UNKNOWN), ("AQAAAAAAAAAA", "Kafka Streams'")] {
            assert_eq!(decode(7, text), Err(MapError::Foreign(whose)), "{text}");
            assert_eq!(writer_of(text), whose, "{text}");
        }
        assert_eq!(decode(7, ""), Ok(Vec::new()));
        assert!(writer_of("bgABAAo=").contains("after_parallel_consumer"));
    }

    /// Texts of at most 1,700 characters that unpack to 37 MiB, ask for a window of terabytes, or list two million
    /// ranges.
    #[test]
    fn a_small_text_cannot_ask_for_much_memory() {
        // A zstd frame of blocks that repeat one byte 128 KiB long: run-length blocks are four bytes each.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
        for _ in 0..300 {
            frame.extend_from_slice(&[0x02, 0x00, 0x10, 0x55]);
        }
        frame.extend_from_slice(&[0x03, 0x00, 0x00, 0x55]);
        let bomb = decode(0, &text(b's', &frame));
        assert_eq!(bomb, Err(MapError::Damaged("it unpacks to more than a megabyte")));
        // A window of 3.75 TiB.
        let bomb = decode(0, &text(b's', &[0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x03, 0x00, 0x00, 0x55]));
        assert_eq!(bomb, Err(MapError::Damaged("its zstd frame")));
        let runs = [0, 0, 0, 1].repeat(4);
        assert_eq!(decode(0, &text(b'e', &runs)), Ok(vec![1..2, 3..4]));
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58, 0x28, 0x00, 0x00, 0, 8, 0, 0, 0x55];
        // 512 KiB of every second offset: two million ranges.
        for _ in 0..4 {
            frame.extend_from_slice(&[0x02, 0x00, 0x10, 0x55]);
        }
        frame.extend_from_slice(&[0x03, 0x00, 0x00, 0x55]);
        frame[9..14].copy_from_slice(&[0, 0x7f, 0xff, 0xff, 0x55]);
        let done = decode(0, &text(b's', &frame)).unwrap();
        assert_eq!((done.len(), done[0].clone()), (RANGES_MAX, 0..1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_what_is_read_is_in_order(
            base in prop::sample::select(vec![0, 5, i64::MAX - 9]),
            letter in prop::sample::select(b"lonexJasp".to_vec()),
            body in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            if let Ok(ranges) = decode_bytes(base, &[&[letter], &body[..]].concat()) {
                prop_assert!(ranges.iter().all(|range| range.start < range.end && range.start >= base));
                prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
