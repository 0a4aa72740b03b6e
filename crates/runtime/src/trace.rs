//! The trace that a record belongs to, from its headers `traceparent` and `tracestate`, as W3C Trace Context says
//! (level 2, `https://www.w3.org/TR/trace-context-2/`).
//!
//! Headers come from strangers: what does not follow the specification is no trace, and never an error.

use crate::record::Record;
use std::fmt;

/// Header: trace and parent, `00-<trace>-<parent>-<flags>`.
pub const TRACEPARENT: &str = "traceparent";
/// Header: what tracing systems add for themselves.
pub const TRACESTATE: &str = "tracestate";

/// Length of a `traceparent` of version 00, and of what every version has.
const PARENT_LEN: usize = 55;

/// Members of a `tracestate`, and bytes of a member's key or value.
const STATE_MEMBERS_MAX: usize = 32;
const STATE_PART_MAX: usize = 256;

/// A position in a trace: which trace, and which span of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    trace: u128,
    span: u64,
    flags: u8,
}

/// Where a record's trace goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent<'a> {
    /// The span that wrote the record.
    pub context: Context,
    /// Its `tracestate`, when that follows the specification too.
    pub state: Option<&'a str>,
}

impl Context {
    /// Flag: the caller may have recorded it.
    pub const SAMPLED: u8 = 1;
    /// Flag: the trace id is random (level 2).
    pub const RANDOM: u8 = 2;

    /// A context of these ids; `None` when one of them is zero, which the specification calls invalid.
    #[must_use]
    pub const fn new(trace: u128, span: u64, flags: u8) -> Option<Self> {
        if trace == 0 || span == 0 { None } else { Some(Self { trace, span, flags }) }
    }

    /// Reads the value of a `traceparent`; `None` when it is not one. Versions after 00 may be longer; what they add is
    /// not looked at.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (known, rest) = text.split_at_checked(PARENT_LEN)?;
        let [v0, v1, b'-', fields @ ..] = known else { return None };
        let version = hex(&[*v0, *v1])?;
        let is_longer_allowed = version > 0 && rest.first() == Some(&b'-');
        if version == 0xff || !(rest.is_empty() || is_longer_allowed) {
            return None;
        }
        let (trace, fields) = fields.split_at_checked(32)?;
        let (dash, fields) = fields.split_first()?;
        let (span, flags) = fields.split_at_checked(16)?;
        let (dash_again, flags) = flags.split_first()?;
        if *dash != b'-' || *dash_again != b'-' {
            return None;
        }
        Self::new(hex(trace)?, u64::try_from(hex(span)?).ok()?, u8::try_from(hex(flags)?).ok()?)
    }

    /// The trace's id.
    #[must_use]
    pub const fn trace(self) -> u128 {
        self.trace
    }

    /// The span's id.
    #[must_use]
    pub const fn span(self) -> u64 {
        self.span
    }

    /// All flags as they came; [`Context::SAMPLED`] and [`Context::RANDOM`] have a meaning.
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.flags
    }

    /// Whether the caller may have recorded it.
    #[must_use]
    pub const fn is_sampled(self) -> bool {
        self.flags & Self::SAMPLED != 0
    }
}

/// As a `traceparent` of version 00, for a record that goes on. Flags without a meaning are left out, as the
/// specification demands.
impl fmt::Display for Context {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.flags & (Self::SAMPLED | Self::RANDOM);
        write!(out, "00-{:032x}-{:016x}-{flags:02x}", self.trace, self.span)
    }
}

/// Digits and lower-case letters only.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0u128, |number, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some((number << 4) | u128::from(digit))
    })
}

/// The trace that a record goes on with. Of several headers the last one counts, as with Kafka's other libraries.
#[must_use]
pub fn parent(record: &Record) -> Option<Parent<'_>> {
    let context = Context::parse(record.header(TRACEPARENT)?)?;
    let state = record.header(TRACESTATE).and_then(|state| std::str::from_utf8(state).ok());
    Some(Parent { context, state: state.filter(|state| is_state(state)) })
}

/// Whether a text is a `tracestate`: at most 32 members, each key once.
fn is_state(text: &str) -> bool {
    let members = text.split(',').map(|member| member.trim_matches([' ', '\t']));
    let mut keys: Vec<&str> = Vec::new();
    for member in members.filter(|member| !member.is_empty()) {
        let Some((key, value)) = member.split_once('=') else { return false };
        if keys.len() == STATE_MEMBERS_MAX || keys.contains(&key) || !is_key(key) || !is_value(value) {
            return false;
        }
        keys.push(key);
    }
    !keys.is_empty()
}

fn is_key(key: &str) -> bool {
    let is_part = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    key.len() <= STATE_PART_MAX
        && key.as_bytes().first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(|byte| is_part(&byte))
}

fn is_value(value: &str) -> bool {
    (1..=STATE_PART_MAX).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=')
        && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;
    use bytes::Bytes;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[track_caller]
    fn check(text: &str, expect: Option<u8>) {
        let context = Context::parse(text.as_bytes());
        assert_eq!(context.map(Context::flags), expect, "{text}");
        if let Some(context) = context {
            assert_eq!(
                (context.trace(), context.span()),
                (0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0x00f0_67aa_0ba9_02b7)
            );
        }
    }

    /// The examples of the specification (sections 2.2 and 2.3), and what its test suite sends.
    #[test]
    fn a_traceparent_is_read_as_the_specification_says() {
        check(&format!("00-{TRACE}-{SPAN}-01"), Some(1));
        check(&format!("00-{TRACE}-{SPAN}-00"), Some(0));
        check(&format!("00-{TRACE}-{SPAN}-ff"), Some(0xff));
        // Versions: a later one may be longer, after a dash; ff is none.
        check(&format!("cc-{TRACE}-{SPAN}-01"), Some(1));
        check(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), Some(1));
        check(&format!("cc-{TRACE}-{SPAN}-01-"), Some(1));
        check(&format!("01-{TRACE}-{SPAN}-01.what"), None);
        check(&format!("00-{TRACE}-{SPAN}-01-what"), None);
        check(&format!("00-{TRACE}-{SPAN}-01-"), None);
        check(&format!("ff-{TRACE}-{SPAN}-01"), None);
        for version in ["", "0", ".0", "0.", "0X", "000", "FF", "Cc"] {
            check(&format!("{version}-{TRACE}-{SPAN}-01"), None);
        }
        // Ids: 32 and 16 lower-case digits that are not all zero.
        for trace in ["0".repeat(32), TRACE.to_uppercase(), TRACE[1..].to_owned(), format!("{TRACE}0")] {
            check(&format!("00-{trace}-{SPAN}-01"), None);
        }
        for span in ["0".repeat(16), SPAN.to_uppercase(), SPAN[1..].to_owned(), format!("{SPAN}0")] {
            check(&format!("00-{TRACE}-{span}-01"), None);
        }
        check(&format!("00-{}.-{SPAN}-01", &TRACE[1..]), None);
        check(&format!("00-{TRACE}-{}.-01", &SPAN[1..]), None);
        for flags in ["", "0", ".0", "0.", "0X", "000", "0A"] {
            check(&format!("00-{TRACE}-{SPAN}-{flags}"), None);
        }
        for text in [
            String::new(),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}-{SPAN}"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01 "),
            format!("é{TRACE}-{SPAN}-01000"),
        ] {
            check(&text, None);
        }
    }

    #[test]
    fn a_traceparent_that_goes_on_has_version_00_and_known_flags_only() {
        let text = format!("cc-{TRACE}-{SPAN}-fe-future");
        let context = Context::parse(text.as_bytes()).unwrap();
        assert_eq!(context.to_string(), format!("00-{TRACE}-{SPAN}-02"));
        let next = Context::new(context.trace(), 7, Context::SAMPLED).unwrap();
        assert_eq!(next.to_string(), format!("00-{TRACE}-0000000000000007-01"));
        assert!(next.is_sampled() && !context.is_sampled());
        assert_eq!((Context::new(0, 7, 0), Context::new(7, 0, 0)), (None, None));
    }

    #[test]
    fn a_tracestate_is_kept_when_it_follows_the_specification_and_left_out_when_not() {
        let long = |len: usize| "z".repeat(len);
        let many =
            |count: usize| (0..count).map(|one| format!("bar{one:02}=1")).collect::<Vec<_>>().join(",");
        for good in [
            "foo=1",
            "foo=1,bar=2",
            "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
            "foo=1 \t , \t bar=2, \t baz=3",
            "foo=1,,,bar=2",
            "foo= 1",
            "foo-_*/bar=bar4",
            "fw529a3039@dt=FfSAAAA",
            "0a=1",
            &format!("{}=1", long(256)),
            &format!("foo={}", long(256)),
            &many(32),
        ] {
            assert!(is_state(good), "{good}");
        }
        for bad in [
            "",
            " ,\t",
            "foo",
            "foo=",
            "=1",
            "foo=1,foo=2",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "@foo=1",
            "foo=bar=baz",
            "foo=b\u{7f}r",
            "foo=é",
            "foo=1\n",
            &format!("{}=1", long(257)),
            &format!("foo={}", long(257)),
            &many(33),
        ] {
            assert!(!is_state(bad), "{bad:?}");
        }
    }

    fn record(headers: &[(&str, Option<&'static str>)]) -> Record {
        let header = |(name, value): &(&str, Option<&'static str>)| Header {
            name: (*name).into(),
            value: value.map(|value| Bytes::from_static(value.as_bytes())),
        };
        Record::new("t", "v").with_headers(headers.iter().map(header).collect())
    }

    #[test]
    fn a_record_goes_on_with_its_last_traceparent_and_a_wrong_tracestate_costs_only_itself() {
        let first = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let second = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01";
        let of = |headers: &[(&str, Option<&'static str>)]| {
            parent(&record(headers))
                .map(|parent| (parent.context.span() & 0xff, parent.state.map(str::to_owned)))
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("tracestate", Some("a=1"))]), None);
        assert_eq!(of(&[("traceparent", None)]), None);
        assert_eq!(of(&[("traceparent", Some(first)), ("traceparent", Some(second))]), Some((0xb8, None)));
        assert_eq!(
            of(&[("traceparent", Some(first)), ("tracestate", Some("a=1"))]),
            Some((0xb7, Some("a=1".to_owned())))
        );
        assert_eq!(of(&[("traceparent", Some(first)), ("tracestate", Some("a"))]), Some((0xb7, None)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let context = Context::new(trace, span, flags).unwrap();
            prop_assert_eq!(Context::parse(context.to_string().as_bytes()), Some(context));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            at in 0usize..55,
            byte in any::<u8>(),
        ) {
            let _ = Context::parse(&bytes);
            let _ = is_state(&String::from_utf8_lossy(&bytes));
            let mut text = format!("00-{TRACE}-{SPAN}-01").into_bytes();
            text[at] = byte;
            if let Some(context) = Context::parse(&text) {
                prop_assert!(context.to_string().len() == PARENT_LEN);
            }
        }
    }
}
