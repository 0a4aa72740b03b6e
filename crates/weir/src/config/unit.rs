//! Values with units as people write them: `"100ms"`, `"64MiB"`; and secrets, which are never written at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A span of time: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[0-9]+(ms|s|m|h|d)$"))]
pub struct Span(Duration);

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// As the standard library has it.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }

    /// In whole milliseconds.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = split_unit(&text);
        let ms = SPAN_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ms)| *ms);
        match (number.parse::<u64>(), ms) {
            (Ok(number), Some(ms)) => number
                .checked_mul(ms)
                .map(Self::from_ms)
                .ok_or_else(|| format!("{text:?} is too long a time")),
            _ => Err(format!(
                "{text:?} is no time: write a whole number and a unit, such as \"100ms\", \"5s\", \"10m\", \"2h\" or \"7d\""
            )),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.as_ms();
        let (unit, size) = SPAN_UNITS
            .into_iter()
            .rev()
            .find(|(_, size)| ms > 0 && ms.is_multiple_of(*size))
            .unwrap_or(SPAN_UNITS[0]);
        write!(out, "{}{unit}", ms / size)
    }
}

/// A size in bytes: a whole number and one of `B`, `KiB`, `MiB`, `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = r"^[0-9]+(B|KiB|MiB|GiB)$"))]
pub struct Bytes(u64);

const BYTE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl Bytes {
    /// So many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as a size in memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl TryFrom<String> for Bytes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (number, unit) = split_unit(&text);
        let size = BYTE_UNITS.iter().find(|(name, _)| *name == unit).map(|(_, size)| *size);
        match (number.parse::<u64>(), size) {
            (Ok(number), Some(size)) => {
                number.checked_mul(size).map(Self).ok_or_else(|| format!("{text:?} is too large a size"))
            }
            _ => Err(format!(
                "{text:?} is no size: write a whole number and a unit, such as \"900KiB\", \"256MiB\" or \"1GiB\""
            )),
        }
    }
}

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        bytes.to_string()
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) = BYTE_UNITS
            .into_iter()
            .rev()
            .find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size))
            .unwrap_or(BYTE_UNITS[0]);
        write!(out, "{}{unit}", self.0 / size)
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// A value that may be a secret: a plain text, or where to read it.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Value {
    /// A text as it is. Refused for keys that hold secrets.
    Plain(String),
    /// The content of a file, without the line end.
    File {
        /// Path of the file.
        file: PathBuf,
    },
    /// The value of an environment variable.
    Env {
        /// Name of the variable.
        env: String,
    },
}

impl Value {
    /// Reads the value. `key` names it in the error.
    ///
    /// # Errors
    /// When the file or the variable is not there.
    pub fn read(&self, key: &str) -> Result<String, String> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::File { file } => std::fs::read_to_string(file)
                .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                .map_err(|error| format!("{key}: cannot read {}: {error}", file.display())),
            Self::Env { env } => {
                std::env::var(env).map_err(|_| format!("{key}: the environment variable {env} is not set"))
            }
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => out.write_str("<value>"),
            Self::File { file } => write!(out, "<file {}>", file.display()),
            Self::Env { env } => write!(out, "<env {env}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_print_what_they_read() {
        for text in ["100ms", "5s", "10m", "2h", "7d", "0ms"] {
            assert_eq!(Span::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["0B", "900KiB", "256MiB", "1GiB", "1500B"] {
            assert_eq!(Bytes::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for wrong in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615d"] {
            assert!(Span::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
        assert!(Bytes::try_from("5MB".to_owned()).unwrap_err().contains("MiB"));
    }

    #[test]
    fn a_secret_does_not_show_in_debug() {
        assert_eq!(format!("{:?}", Value::Plain("hunter2".into())), "<value>");
        assert!(
            Value::Env { env: "WEIR_NOT_SET_ANYWHERE".into() }
                .read("log.x")
                .unwrap_err()
                .starts_with("log.x: ")
        );
    }
}
