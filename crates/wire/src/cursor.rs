//! Reading bytes from outside: every read is checked and says what was being read.
//!
//! Nothing here allocates, and no length is used before it was compared with what is left.

/// What is wrong with bytes from outside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends too early.
    #[error("{what} needs {wanted} bytes, {left} left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// How many bytes it needs.
        wanted: usize,
        /// How many are there.
        left: usize,
    },
    /// A value that the protocol does not allow.
    #[error("{what} cannot be {value}")]
    Value {
        /// What was being read.
        what: &'static str,
        /// What it was.
        value: i64,
    },
    /// A length over our limit.
    #[error("{what} of {len} bytes is over the limit of {max}")]
    TooLong {
        /// What was being read.
        what: &'static str,
        /// The length it claims.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Bytes after the end.
    #[error("{left} bytes are left after {what}")]
    Trailing {
        /// What had been read.
        what: &'static str,
        /// How many bytes are left.
        left: usize,
    },
    /// A field that must be there.
    #[error("{what} is missing")]
    Missing {
        /// The field.
        what: &'static str,
    },
    /// Bytes that a compressor or text decoder refuses.
    #[error("{what} does not decode")]
    Undecodable {
        /// What was being read.
        what: &'static str,
    },
}

/// A position in a slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

/// One protobuf field: its number and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2.
    Bytes(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// A field and the bytes that it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawField<'a> {
    /// Number.
    pub number: u64,
    /// Value.
    pub value: Field<'a>,
    /// Tag and value as they stand in the message.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    /// The bytes of a length-delimited field.
    ///
    /// # Errors
    /// When the field has another wire type.
    pub const fn bytes(self, what: &'static str) -> Result<&'a [u8], WireError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => {
                Err(WireError::Value { what, value: -1 })
            }
        }
    }

    /// The value of a varint field.
    ///
    /// # Errors
    /// When the field has another wire type.
    pub const fn varint(self, what: &'static str) -> Result<u64, WireError> {
        match self {
            Self::Varint(value) => Ok(value),
            Self::Bytes(_) | Self::Fixed64(_) | Self::Fixed32(_) => Err(WireError::Value { what, value: -1 }),
        }
    }

    /// The text of a length-delimited field.
    ///
    /// # Errors
    /// When the field has another wire type or is not UTF-8.
    pub fn text(self, what: &'static str) -> Result<&'a str, WireError> {
        std::str::from_utf8(self.bytes(what)?).map_err(|_| WireError::Undecodable { what })
    }
}

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether nothing is left.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `len` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(WireError::Short { what, wanted: len, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(head)
    }

    /// Takes an array.
    ///
    /// # Errors
    /// When fewer bytes are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(WireError::Short { what, wanted: N, left: self.rest.len() });
        };
        self.rest = rest;
        Ok(*head)
    }

    /// Takes one byte.
    ///
    /// # Errors
    /// When nothing is left.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    /// Takes a big-endian `u16`.
    ///
    /// # Errors
    /// When fewer bytes are left.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        self.array(what).map(u16::from_be_bytes)
    }

    /// Takes a big-endian `i32`.
    ///
    /// # Errors
    /// When fewer bytes are left.
    #[inline]
    pub fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// Takes a big-endian `u64`.
    ///
    /// # Errors
    /// When fewer bytes are left.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        self.array(what).map(u64::from_be_bytes)
    }

    /// Takes a big-endian `i32` length that must not be negative.
    ///
    /// # Errors
    /// When it is negative or fewer bytes are left.
    #[inline]
    pub fn len32(&mut self, what: &'static str) -> Result<usize, WireError> {
        let len = self.i32(what)?;
        usize::try_from(len).map_err(|_| WireError::Value { what, value: i64::from(len) })
    }

    /// Takes a protobuf varint.
    ///
    /// # Errors
    /// When it does not end within ten bytes or the input.
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        // Tags and most lengths are one byte.
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint(what)
    }

    fn long_varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (place, byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(place + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        if self.rest.len() < 10 {
            return Err(WireError::Short { what, wanted: self.rest.len() + 1, left: self.rest.len() });
        }
        Err(WireError::Value { what, value: -1 })
    }

    /// Takes bytes that a varint length stands before.
    ///
    /// # Errors
    /// When the length lies.
    #[inline]
    pub fn delimited(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.varint(what)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX), what)
    }

    /// Takes the next protobuf field of a message; `None` at its end. Groups are refused.
    ///
    /// # Errors
    /// When the field does not parse.
    #[inline]
    pub fn field(&mut self, what: &'static str) -> Result<Option<(u64, Field<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint(what)?;
        let value = match tag & 7 {
            0 => Field::Varint(self.varint(what)?),
            1 => Field::Fixed64(u64::from_le_bytes(self.array(what)?)),
            2 => Field::Bytes(self.delimited(what)?),
            5 => Field::Fixed32(u32::from_le_bytes(self.array(what)?)),
            wrong => return Err(WireError::Value { what, value: wrong.cast_signed() }),
        };
        Ok(Some((tag >> 3, value)))
    }

    /// Takes the next field together with its own bytes, tag included: for messages that are handed on unchanged.
    ///
    /// # Errors
    /// As [`Cursor::field`].
    pub fn raw_field(&mut self, what: &'static str) -> Result<Option<RawField<'a>>, WireError> {
        let before = self.rest;
        let Some((number, value)) = self.field(what)? else { return Ok(None) };
        let raw = before.get(..before.len() - self.rest.len()).unwrap_or_default();
        Ok(Some(RawField { number, value, raw }))
    }

    /// Ends: nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub const fn end(self, what: &'static str) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing { what, left: self.rest.len() }) }
    }
}

/// Appends a protobuf varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a protobuf varint.
#[inline]
#[must_use]
pub const fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a protobuf field of bytes.
#[inline]
pub fn put_bytes_field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a protobuf varint field.
#[inline]
pub fn put_varint_field(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}
