//! The record header `weir`: what a record is, readable without decoding it.
//!
//! `1/CLUSTER/REGION/SEQUENCE/WRITE_TIME_MS`: format version, UUID of the source cluster, encoded region name, sequence
//! number, WAL write time in ms since 1970. One header and not five, because each costs librdkafka two allocations.
//!
//! An event is no change, and its header cannot be read as the identity of one:
//! `event/KIND/CLUSTER/REGION/SEQUENCE/WRITE_TIME_MS`.

use crate::cursor::WireError;
use weir_model::ClusterId;

/// Name of the header.
pub const HEADER: &str = "weir";

/// Name of the header of a record that is an event and no change; its value is the kind of the event.
pub const EVENT_HEADER: &str = "weir.event";

/// First word of the header `weir` of an event, where a change has the version.
const EVENT_WORD: &str = "event";

/// Kind of the event that HFiles were loaded past the WAL.
pub const BULK_LOAD: &str = "bulk-load";

/// Version of the header and of the record.
pub const VERSION: u8 = 1;

/// What the header of a change says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Id of the source cluster.
    pub source: ClusterId,
    /// Encoded region name.
    pub encoded_region: &'a str,
    /// Sequence number.
    pub sequence: u64,
    /// WAL write time, ms since 1970.
    pub write_time_ms: u64,
}

/// Appends the header's value; `source` is the UUID as text.
pub fn encode(out: &mut Vec<u8>, source: &str, encoded_region: &[u8], sequence: u64, write_time_ms: u64) {
    Stamp::new(source).put(out, encoded_region, sequence, write_time_ms);
}

/// What the header of an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventIdentity<'a> {
    /// Kind of the event: [`BULK_LOAD`], or one of a later version.
    pub kind: &'a str,
    /// Id of the source cluster.
    pub source: ClusterId,
    /// Encoded region name.
    pub encoded_region: &'a str,
    /// Sequence number of the event's WAL entry. Not a change's: see `change.proto`.
    pub sequence: u64,
    /// WAL write time, ms since 1970.
    pub write_time_ms: u64,
}

/// Appends the value of an event's header.
pub fn encode_event(out: &mut Vec<u8>, event: &EventIdentity<'_>) {
    let EventIdentity { kind, source, encoded_region, sequence, write_time_ms } = event;
    let text = format!("{EVENT_WORD}/{kind}/{source}/{encoded_region}/{sequence}/{write_time_ms}");
    out.extend_from_slice(text.as_bytes());
}

/// Writes headers of one source; what those of one region share is made once.
#[derive(Debug)]
pub struct Stamp<'k> {
    front: Vec<u8>,
    source_len: usize,
    region: &'k [u8],
}

/// Two numbers of at most twenty digits, and what stands between them.
const NUMBERS_BYTES_MAX: usize = 20 + 1 + 20;

impl<'k> Stamp<'k> {
    /// Headers of the source with this UUID as text.
    #[must_use]
    pub fn new(source: &str) -> Self {
        let front = format!("{VERSION}/{source}/").into_bytes();
        let source_len = front.len();
        Self { front, source_len, region: &[] }
    }

    /// Appends a header's value.
    pub fn put(&mut self, out: &mut Vec<u8>, encoded_region: &'k [u8], sequence: u64, write_time_ms: u64) {
        if self.region != encoded_region || self.front.len() == self.source_len {
            self.front.truncate(self.source_len);
            self.front.extend_from_slice(encoded_region);
            self.front.push(b'/');
            self.region = encoded_region;
        }
        // From the back, so that all of it is one copy.
        let mut numbers = [b'/'; NUMBERS_BYTES_MAX];
        let start = put_decimal(&mut numbers, NUMBERS_BYTES_MAX, write_time_ms);
        let start = put_decimal(&mut numbers, start - 1, sequence);
        out.extend_from_slice(&self.front);
        out.extend_from_slice(numbers.get(start..).unwrap_or_default());
    }
}

/// Writes a number so that it ends before `end`; where it starts.
#[inline]
fn put_decimal(out: &mut [u8; NUMBERS_BYTES_MAX], end: usize, mut number: u64) -> usize {
    /// `00` to `99`: half as many divisions.
    const PAIRS: [[u8; 2]; 100] = {
        let mut pairs = [[0; 2]; 100];
        let mut pair = 0;
        while pair < 100 {
            pairs[pair] = [b'0' + (pair / 10) as u8, b'0' + (pair % 10) as u8];
            pair += 1;
        }
        pairs
    };
    let mut start = end;
    while number >= 10 {
        start -= 2;
        out[start..start + 2].copy_from_slice(&PAIRS[(number % 100) as usize]);
        number /= 100;
    }
    if number > 0 || start == end {
        start -= 1;
        out[start] = b'0' + number as u8;
    }
    start
}

const WHAT: &str = "header weir";
const WRONG: WireError = WireError::Undecodable { what: WHAT };

/// Reads the header's value of a change.
///
/// # Errors
/// When it has another version or form, among them the form of an event.
pub fn parse(value: &[u8]) -> Result<Identity<'_>, WireError> {
    let mut words = std::str::from_utf8(value).map_err(|_| WRONG)?.split('/');
    let version: i64 = words.next().and_then(|word| word.parse().ok()).ok_or(WRONG)?;
    if version != i64::from(VERSION) {
        return Err(WireError::Value { what: "version of the header weir", value: version });
    }
    rest(words)
}

/// Reads the header's value of an event.
///
/// # Errors
/// When it has another form, among them the form of a change.
pub fn parse_event(value: &[u8]) -> Result<EventIdentity<'_>, WireError> {
    let mut words = std::str::from_utf8(value).map_err(|_| WRONG)?.split('/');
    if words.next() != Some(EVENT_WORD) {
        return Err(WRONG);
    }
    let kind = words.next().filter(|kind| !kind.is_empty()).ok_or(WRONG)?;
    let Identity { source, encoded_region, sequence, write_time_ms } = rest(words)?;
    Ok(EventIdentity { kind, source, encoded_region, sequence, write_time_ms })
}

/// Reads the words that changes and events share.
fn rest<'a>(mut words: std::str::Split<'a, char>) -> Result<Identity<'a>, WireError> {
    let source = words.next().and_then(ClusterId::parse).ok_or(WRONG)?;
    let encoded_region = words.next().ok_or(WRONG)?;
    let sequence = words.next().and_then(|word| word.parse().ok()).ok_or(WRONG)?;
    let write_time_ms = words.next().and_then(|word| word.parse().ok()).ok_or(WRONG)?;
    if words.next().is_some() {
        return Err(WRONG);
    }
    Ok(Identity { source, encoded_region, sequence, write_time_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_reads_what_it_writes() {
        let source = ClusterId { most: 1, least: 2 };
        for (sequence, write_time_ms) in
            [(0, 9), (10, 1_767_225_600_000), (99, 100), (101, 999), (1000, 20_005), (u64::MAX, u64::MAX)]
        {
            let mut out = Vec::new();
            encode(&mut out, &source.to_string(), b"0123abcd", sequence, write_time_ms);
            let text = format!("1/{source}/0123abcd/{sequence}/{write_time_ms}");
            assert_eq!(String::from_utf8_lossy(&out), text);
            let expect = Identity { source, encoded_region: "0123abcd", sequence, write_time_ms };
            assert_eq!(parse(&out), Ok(expect), "{}", String::from_utf8_lossy(&out));
        }
        assert!(matches!(parse(b"2/x"), Err(WireError::Value { value: 2, .. })));
        for wrong in
            [&b""[..], b"1", b"1/x/r/1/2", b"1/00000000-0000-0001-0000-000000000002/r/1/2/3", b"\xff"]
        {
            assert!(parse(wrong).is_err());
        }
    }

    #[test]
    fn the_header_of_an_event_is_never_the_header_of_a_change() {
        let source = ClusterId { most: 1, least: 2 };
        let event =
            EventIdentity { kind: BULK_LOAD, source, encoded_region: "r", sequence: 6, write_time_ms: 9 };
        let mut out = Vec::new();
        encode_event(&mut out, &event);
        assert_eq!(String::from_utf8_lossy(&out), format!("event/bulk-load/{source}/r/6/9"));
        assert_eq!(parse_event(&out), Ok(event));
        assert_eq!(parse(&out), Err(WRONG));
        let mut change = Vec::new();
        encode(&mut change, &source.to_string(), b"r", 6, 9);
        assert_eq!(parse_event(&change), Err(WRONG));
        for wrong in ["event", "event//", "event/bulk-load/x/r/6/9", "events/bulk-load/r/6/9"] {
            assert!(parse_event(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
