//! Byte strings as HBase writes them, and as hex dumps have them.

/// HBase's own notation of bytes (`Bytes.toStringBinary`): printable ASCII as it is, the rest as `\xHH`.
pub(super) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5C"),
            0x20..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02X}")),
        }
    }
    text
}

/// The other way (`Bytes.toBytesBinary`); `None` when an escape is broken.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.strip_prefix(b"x")?.split_first_chunk::<2>()?;
        bytes.push(digit(digits[0])? << 4 | digit(digits[1])?);
        rest = after;
    }
    Some(bytes)
}

/// Bytes of a hex dump: white space between digits, `0x` before them and `\x` before pairs are passed over. `None` when
/// anything else is in it, or half a byte.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let words = text.split_whitespace().map(|word| word.strip_prefix("0x").unwrap_or(word));
    let digits: Vec<u8> = words.flat_map(|word| word.split("\\x")).flat_map(str::bytes).collect();
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_hbase_writes_them_and_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = escape(&bytes);
        assert!(text.starts_with("\\x00\\x01") && text.contains("[\\x5C]^"), "{text}");
        assert_eq!(unescape(&text), Some(bytes));
        assert_eq!((unescape("a\\x"), unescape("a\\q00"), unescape("\\xZZ")), (None, None, None));
        assert_eq!(unescape("\\x+1"), None, "a sign is no digit");
    }

    #[test]
    fn a_hex_dump_is_read_in_the_forms_that_tools_print() {
        for text in ["0aff10", "0A FF\n10\n", "0x0aff10", "\\x0a\\xff\\x10", ""] {
            let expect: &[u8] = if text.is_empty() { &[] } else { &[0x0a, 0xff, 0x10] };
            assert_eq!(unhex(text).as_deref(), Some(expect), "{text}");
        }
        assert_eq!((unhex("0af"), unhex("0g")), (None, None));
    }
}
