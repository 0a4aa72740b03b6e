//! Connection headers, calls and answers (`RPC.proto`, `IPCUtil`, `ServerCall`).
//!
//! A frame is an `int32` length and that many bytes; parsers here take the bytes after the length, encoders append
//! whole frames.

use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint, put_varint_field, varint_len};
use std::borrow::Cow;

/// What a client says of itself right after the preamble (`ConnectionHeader`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionHeader {
    /// Effective user.
    pub user: Option<String>,
    /// `AdminService`, `ClientService`, `MasterService`, ...
    pub service: String,
    /// Java class of the cell block codec.
    pub codec: Option<String>,
    /// Java class of the cell block compressor.
    pub compressor: Option<String>,
    /// HBase version of the client, when it says so.
    pub version: Option<String>,
}

impl ConnectionHeader {
    /// Reads the message; unknown fields are ignored.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse(message: &[u8]) -> Result<Self, WireError> {
        const WHAT: &str = "connection header";
        let mut header = Self::default();
        let mut cursor = Cursor::new(message);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => header.user = first_text(field.bytes(WHAT)?, WHAT)?,
                2 => header.service = field.text(WHAT)?.to_owned(),
                3 => header.codec = Some(field.text(WHAT)?.to_owned()),
                4 => header.compressor = Some(field.text(WHAT)?.to_owned()),
                5 => header.version = first_text(field.bytes(WHAT)?, WHAT)?,
                _ => {}
            }
        }
        Ok(header)
    }

    /// Appends the frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut message = Vec::with_capacity(128);
        if let Some(user) = &self.user {
            let mut info = Vec::new();
            put_bytes_field(&mut info, 1, user.as_bytes());
            put_bytes_field(&mut message, 1, &info);
        }
        put_bytes_field(&mut message, 2, self.service.as_bytes());
        if let Some(codec) = &self.codec {
            put_bytes_field(&mut message, 3, codec.as_bytes());
        }
        if let Some(compressor) = &self.compressor {
            put_bytes_field(&mut message, 4, compressor.as_bytes());
        }
        put_frame_len(out, message.len());
        out.extend_from_slice(&message);
    }
}

/// Field 1 of a message, as text.
fn first_text(message: &[u8], what: &'static str) -> Result<Option<String>, WireError> {
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(what)? {
        if number == 1 {
            return Ok(Some(field.text(what)?.to_owned()));
        }
    }
    Ok(None)
}

/// Head of a call (`RequestHeader`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Opaque; the answer echoes it.
    pub call_id: u32,
    /// Name of the method.
    pub method: &'a str,
    /// Time-out of the caller in ms, when it says so.
    pub timeout_ms: Option<u32>,
    /// Priority, when it says so.
    pub priority: Option<u32>,
    /// Whether a parameter message follows.
    pub has_param: bool,
    /// Bytes of cell block.
    pub cell_block_len: usize,
}

/// One call: slices of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// Head.
    pub header: RequestHeader<'a>,
    /// Parameter message; empty when there is none.
    pub param: &'a [u8],
    /// Cell block as it came, maybe compressed.
    pub cell_block: &'a [u8],
}

/// Reads a call from the bytes after the frame's length.
///
/// # Errors
/// When a length lies or a field does not parse.
pub fn parse_call(frame: &[u8]) -> Result<Call<'_>, WireError> {
    const WHAT: &str = "request header";
    let mut cursor = Cursor::new(frame);
    let mut fields = Cursor::new(cursor.delimited(WHAT)?);
    let mut header = RequestHeader::default();
    while let Some((number, field)) = fields.field(WHAT)? {
        match number {
            1 => header.call_id = field.varint(WHAT)? as u32,
            3 => header.method = field.text(WHAT)?,
            4 => header.has_param = field.varint(WHAT)? != 0,
            5 => header.cell_block_len = cell_block_len(field.bytes(WHAT)?)?,
            6 => header.priority = Some(field.varint(WHAT)? as u32),
            7 => header.timeout_ms = Some(field.varint(WHAT)? as u32),
            _ => {}
        }
    }
    let param = if header.has_param { cursor.delimited("request parameter")? } else { &[] };
    let cell_block = cursor.take(header.cell_block_len, "cell block")?;
    cursor.end("cell block")?;
    Ok(Call { header, param, cell_block })
}

fn cell_block_len(meta: &[u8]) -> Result<usize, WireError> {
    const WHAT: &str = "cell block meta";
    let mut cursor = Cursor::new(meta);
    let mut len = 0;
    while let Some((number, field)) = cursor.field(WHAT)? {
        if number == 1 {
            len = usize::try_from(field.varint(WHAT)?).unwrap_or(usize::MAX);
        }
    }
    Ok(len)
}

/// Appends the frame of a call.
pub fn encode_call(
    out: &mut Vec<u8>,
    call_id: u32,
    method: &str,
    timeout_ms: Option<u32>,
    param: &[u8],
    cell_block: &[u8],
) {
    let mut header = Vec::with_capacity(48);
    put_varint_field(&mut header, 1, u64::from(call_id));
    put_bytes_field(&mut header, 3, method.as_bytes());
    put_varint_field(&mut header, 4, 1);
    if !cell_block.is_empty() {
        let mut meta = Vec::with_capacity(6);
        put_varint_field(&mut meta, 1, cell_block.len() as u64);
        put_bytes_field(&mut header, 5, &meta);
    }
    if let Some(timeout_ms) = timeout_ms {
        put_varint_field(&mut header, 7, u64::from(timeout_ms));
    }
    put_parts(out, &header, Some(param), cell_block);
}

/// An exception as it travels (`ExceptionResponse`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteException {
    /// Java class.
    pub class: Cow<'static, str>,
    /// Text or stack trace.
    pub text: String,
    /// Whether the caller must not try again.
    pub do_not_retry: bool,
    /// Whether the server says that it is overloaded (2.5 and later).
    pub is_overloaded: bool,
}

impl RemoteException {
    /// One that ends the connection or must not be tried again.
    #[must_use]
    pub fn fatal(class: &'static str, text: impl Into<String>) -> Self {
        Self { class: Cow::Borrowed(class), text: text.into(), do_not_retry: true, is_overloaded: false }
    }

    /// One after which the caller tries again.
    #[must_use]
    pub fn retriable(class: &'static str, text: impl Into<String>) -> Self {
        Self { class: Cow::Borrowed(class), text: text.into(), do_not_retry: false, is_overloaded: false }
    }

    /// The class without its package.
    #[must_use]
    pub fn short_class(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or_default()
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.class.len() + self.text.len() + 12);
        put_bytes_field(&mut out, 1, self.class.as_bytes());
        put_bytes_field(&mut out, 2, self.text.as_bytes());
        put_varint_field(&mut out, 5, u64::from(self.do_not_retry));
        if self.is_overloaded {
            put_varint_field(&mut out, 6, 1);
        }
        out
    }

    fn parse(message: &[u8]) -> Result<Self, WireError> {
        const WHAT: &str = "exception";
        let mut out = Self::retriable("", "");
        let mut cursor = Cursor::new(message);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => out.class = Cow::Owned(field.text(WHAT)?.to_owned()),
                2 => out.text = String::from_utf8_lossy(field.bytes(WHAT)?).into_owned(),
                5 => out.do_not_retry = field.varint(WHAT)? != 0,
                6 => out.is_overloaded = field.varint(WHAT)? != 0,
                _ => {}
            }
        }
        Ok(out)
    }
}

/// Appends the frame of a good answer.
pub fn encode_answer_ok(out: &mut Vec<u8>, call_id: u32, message: &[u8]) {
    let mut header = Vec::with_capacity(8);
    put_varint_field(&mut header, 1, u64::from(call_id));
    put_parts(out, &header, Some(message), &[]);
}

/// Appends the frame of an answer with an exception.
pub fn encode_answer_exception(out: &mut Vec<u8>, call_id: u32, exception: &RemoteException) {
    let exception = exception.encode();
    let mut header = Vec::with_capacity(exception.len() + 16);
    put_varint_field(&mut header, 1, u64::from(call_id));
    put_bytes_field(&mut header, 2, &exception);
    put_parts(out, &header, None, &[]);
}

/// Appends a fatal frame: call id -1 as a 32-bit varint, after which the server closes.
pub fn encode_fatal(out: &mut Vec<u8>, exception: &RemoteException) {
    encode_answer_exception(out, u32::MAX, exception);
}

/// One answer: slices of its frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// Of the call; `u32::MAX` in a fatal frame.
    pub call_id: u32,
    /// Message and cell block, or the exception.
    pub result: Result<(&'a [u8], &'a [u8]), RemoteException>,
}

/// Reads an answer from the bytes after the frame's length.
///
/// # Errors
/// When a length lies or a field does not parse.
pub fn parse_answer(frame: &[u8]) -> Result<Answer<'_>, WireError> {
    const WHAT: &str = "response header";
    let mut cursor = Cursor::new(frame);
    let mut fields = Cursor::new(cursor.delimited(WHAT)?);
    let (mut call_id, mut exception, mut block_len) = (0, None, 0);
    while let Some((number, field)) = fields.field(WHAT)? {
        match number {
            1 => call_id = field.varint(WHAT)? as u32,
            2 => exception = Some(RemoteException::parse(field.bytes(WHAT)?)?),
            3 => block_len = cell_block_len(field.bytes(WHAT)?)?,
            _ => {}
        }
    }
    if let Some(exception) = exception {
        return Ok(Answer { call_id, result: Err(exception) });
    }
    let message = cursor.delimited("response message")?;
    let block = cursor.take(block_len, "cell block")?;
    Ok(Answer { call_id, result: Ok((message, block)) })
}

fn put_frame_len(out: &mut Vec<u8>, len: usize) {
    let len = u32::try_from(len).expect("frames are cut far below 4 GiB");
    out.extend_from_slice(&len.to_be_bytes());
}

fn put_parts(out: &mut Vec<u8>, header: &[u8], message: Option<&[u8]>, cell_block: &[u8]) {
    let delimited = |bytes: &[u8]| varint_len(bytes.len() as u64) + bytes.len();
    put_frame_len(out, delimited(header) + message.map_or(0, delimited) + cell_block.len());
    put_varint(out, header.len() as u64);
    out.extend_from_slice(header);
    if let Some(message) = message {
        put_varint(out, message.len() as u64);
        out.extend_from_slice(message);
    }
    out.extend_from_slice(cell_block);
}
