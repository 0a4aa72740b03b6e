//! What a commit's metadata says: which offsets past the committed one are done already.
//!
//! Text = `w1` + form + base64 (no padding). Form `r`: run lengths as varints, pending and done in turn, counted from
//! the committed offset. Form `b`: one bit an offset from the committed one on, lowest bit first. The shorter is
//! written. What does not fit into the limit is left out from the end: a successor then repeats more, and loses nothing.
//!
//! After the map, or alone, a dot and a note of the source may follow ([`LogSource::metadata`]); the map ends there.
//!
//! [`LogSource::metadata`]: crate::source::LogSource::metadata

use crate::parallel_consumer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::ops::Range;

/// Characters that a broker takes as metadata, unless told otherwise (`offset.metadata.max.bytes` is 4096).
pub const TEXT_BYTES_MAX: usize = 4000;

const MAGIC: &str = "w1";

/// Offsets that a map may span; more is a lie or a mistake.
pub(crate) const SPAN_MAX: i64 = 1 << 32;

/// Why a commit's metadata says nothing to us. The group works all the same: what it would have said is repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// Written by something else, or by a later version; by what, if its looks tell.
    #[error("the metadata is not ours, it is {0}")]
    Foreign(&'static str),
    /// Ours, and damaged.
    #[error("the metadata is damaged: {0}")]
    Damaged(&'static str),
}

/// The metadata for a commit of `base`; empty when there is nothing to say. `done` is sorted, disjoint and past `base`.
#[must_use]
pub fn encode(base: i64, done: &[Range<i64>], text_bytes_max: usize) -> String {
    let body_max = text_bytes_max.saturating_sub(MAGIC.len() + 1) / 4 * 3;
    // What no reader would take is left out, or it would take the rest with it.
    let end = base.saturating_add(SPAN_MAX);
    let within = &done[..done.partition_point(|range| range.end <= end)];
    let (runs, runs_count) = runs(base, within, body_max);
    let (bits, bits_count) = bits(base, within, body_max);
    // The one that says more, then the shorter one.
    let (form, body, count) = if (runs_count, bits.len()) >= (bits_count, runs.len()) {
        ('r', runs, runs_count)
    } else {
        ('b', bits, bits_count)
    };
    if count == 0 { String::new() } else { format!("{MAGIC}{form}{}", STANDARD_NO_PAD.encode(body)) }
}

/// Reads the metadata of a commit of `base`: ranges of offsets that are done, in order. Empty text says nothing.
///
/// # Errors
/// When it is not ours, or damaged.
pub fn decode(base: i64, text: &str) -> Result<Vec<Range<i64>>, MapError> {
    // Neither the letters of a map nor base64 have a dot.
    let map = match text.split_once('.') {
        Some((map, _)) if map.is_empty() || map.starts_with(MAGIC) => map,
        _ => text,
    };
    if map.is_empty() {
        return Ok(Vec::new());
    }
    let rest =
        map.strip_prefix(MAGIC).ok_or_else(|| MapError::Foreign(parallel_consumer::writer_of(text)))?;
    let form = rest.chars().next().ok_or(MapError::Damaged("it has no form"))?;
    let body = STANDARD_NO_PAD
        .decode(rest.get(form.len_utf8()..).unwrap_or_default())
        .map_err(|_| MapError::Damaged("its base64"))?;
    match form {
        'r' => read_runs(base, &body),
        'b' => read_bits(base, &body),
        _ => Err(MapError::Foreign("of a later version")),
    }
}

/// As [`decode`], for a group that Parallel Consumer may have left: reads its metadata, too.
///
/// # Errors
/// When it is neither's, or damaged.
pub fn decode_either(base: i64, text: &str) -> Result<Vec<Range<i64>>, MapError> {
    // None of its texts begins like ours: its first byte is a letter, which base64 does not begin with a `w`.
    if text.starts_with(MAGIC) { decode(base, text) } else { parallel_consumer::decode(base, text) }
}

/// Run lengths within the limit, and how many offsets they cover as done.
fn runs(base: i64, done: &[Range<i64>], body_max: usize) -> (Vec<u8>, i64) {
    let (mut body, mut at, mut count) = (Vec::new(), base, 0);
    for range in done {
        let before = body.len();
        put_varint(&mut body, (range.start - at).unsigned_abs());
        put_varint(&mut body, (range.end - range.start).unsigned_abs());
        if body.len() > body_max {
            body.truncate(before);
            break;
        }
        at = range.end;
        count += range.end - range.start;
    }
    (body, count)
}

/// A bitmap within the limit, and how many offsets it covers as done.
fn bits(base: i64, done: &[Range<i64>], body_max: usize) -> (Vec<u8>, i64) {
    let (mut body, mut count) = (Vec::new(), 0);
    for range in done {
        for offset in range.clone() {
            let distance = usize::try_from(offset - base).unwrap_or(usize::MAX);
            if distance / 8 >= body_max {
                return (body, count);
            }
            if body.len() <= distance / 8 {
                body.resize(distance / 8 + 1, 0);
            }
            body[distance / 8] |= 1 << (distance % 8);
            count += 1;
        }
    }
    (body, count)
}

fn read_runs(base: i64, mut body: &[u8]) -> Result<Vec<Range<i64>>, MapError> {
    const LONG: MapError = MapError::Damaged("a run that is too long");
    let (mut ranges, mut at) = (Vec::new(), base);
    while !body.is_empty() {
        let pending = take_varint(&mut body)?;
        let done = take_varint(&mut body)?;
        let start = at.checked_add_unsigned(pending).ok_or(LONG)?;
        let end = start.checked_add_unsigned(done).ok_or(LONG)?;
        if end.checked_sub(base).is_none_or(|span| span > SPAN_MAX) {
            return Err(LONG);
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

fn read_bits(base: i64, body: &[u8]) -> Result<Vec<Range<i64>>, MapError> {
    if base.checked_add_unsigned(body.len() as u64 * 8 + 8).is_none() {
        return Err(MapError::Damaged("a bitmap past the last offset"));
    }
    let mut ranges: Vec<Range<i64>> = Vec::new();
    for (byte, first) in body.iter().zip((base..).step_by(8)) {
        for offset in (0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| first + bit) {
            match ranges.last_mut() {
                Some(range) if range.end == offset => range.end += 1,
                _ => ranges.push(offset..offset + 1),
            }
        }
    }
    Ok(ranges)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(body: &mut &[u8]) -> Result<u64, MapError> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = body.split_first().ok_or(MapError::Damaged("a run that ends early"))?;
        *body = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(MapError::Damaged("a run that is too long"))
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "one range of offsets is meant")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_stuck_record_before_fifty_thousand_done_ones_is_a_few_letters() {
        let text = encode(1000, &[1001..51_001], TEXT_BYTES_MAX);
        assert_eq!(text, "w1rAdCGAw");
        assert_eq!(decode(1000, &text), Ok(vec![1001..51_001]));
    }

    #[test]
    fn every_second_one_done_is_a_bitmap() {
        let done: Vec<Range<i64>> = (0..4000).map(|index| index * 2 + 1..index * 2 + 2).collect();
        let text = encode(0, &done, TEXT_BYTES_MAX);
        assert!(text.starts_with("w1b") && text.len() < 1400, "{} letters", text.len());
        assert_eq!(decode(0, &text), Ok(done));
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let done: Vec<Range<i64>> = (0..4000).map(|index| index * 2 + 1..index * 2 + 2).collect();
        let text = encode(0, &done, 100);
        assert!(text.len() <= 100);
        let kept = decode(0, &text).unwrap();
        assert!(kept.len() > 250 && done.starts_with(&kept), "{} ranges", kept.len());
        assert_eq!(encode(0, &done, 3), "");
    }

    #[test]
    fn a_record_far_beyond_the_others_takes_no_mark_with_it() {
        let done = [12..14, 1 << 40..(1 << 40) + 1, i64::MAX - 1..i64::MAX];
        assert_eq!(decode(10, &encode(10, &done, TEXT_BYTES_MAX)), Ok(vec![12..14]));
    }

    #[test]
    fn foreign_and_damaged_metadata_is_named() {
        assert_eq!(decode(0, ""), Ok(Vec::new()));
        for foreign in ["bAAA", "AQ==", "w2rAA", "w1x", "consumer-17"] {
            assert!(matches!(decode(0, foreign), Err(MapError::Foreign(_))), "{foreign}");
        }
        for damaged in ["w1", "w1r?", "w1rgA", "w1rAA", "w1r////////////////"] {
            assert!(matches!(decode(0, damaged), Err(MapError::Damaged(_))), "{damaged}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(base in 0i64..1 << 40, runs in prop::collection::vec((1i64..300, 1i64..300), 0..60)) {
            let (mut at, mut done) = (base, Vec::new());
            for (pending, length) in runs {
                done.push(at + pending..at + pending + length);
                at += pending + length;
            }
            prop_assert_eq!(decode(base, &encode(base, &done, TEXT_BYTES_MAX)), Ok(done));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", letters in "w1[rb][A-Za-z0-9+/]{0,40}") {
            let _ = decode(7, &text);
            let _ = decode(i64::MAX - 5, &letters);
            let _ = decode(i64::MIN, &letters);
        }
    }
}
