//! Values of znodes (`ZKMetadata`, `ProtobufUtil.prependPBMagic`, `ClusterId`, `Master`).

use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use weir_model::ClusterId;

const MAGIC: &[u8] = b"PBUF";

/// Skips the metadata prefix `ff | int32 n | n bytes`, when it is there.
///
/// # Errors
/// When its length lies.
pub fn strip_metadata(value: &[u8]) -> Result<&[u8], WireError> {
    let mut cursor = Cursor::new(value);
    if value.first() != Some(&0xff) {
        return Ok(value);
    }
    cursor.u8("metadata mark")?;
    let len = cursor.len32("metadata length")?;
    cursor.take(len, "metadata")?;
    Ok(cursor.rest())
}

/// The protobuf message behind metadata prefix and magic.
///
/// # Errors
/// When the magic is not there.
pub fn message(value: &[u8]) -> Result<&[u8], WireError> {
    let value = strip_metadata(value)?;
    value.strip_prefix(MAGIC).ok_or(WireError::Missing { what: "PBUF magic" })
}

/// Reads `hbaseid` in both forms: plain text, or `PBUF` and `ClusterId { 1: text }`.
///
/// # Errors
/// When it is neither.
pub fn cluster_id(value: &[u8]) -> Result<ClusterId, WireError> {
    const WHAT: &str = "cluster id";
    let value = strip_metadata(value)?;
    let text = match value.strip_prefix(MAGIC) {
        None => value,
        Some(message) => {
            let mut cursor = Cursor::new(message);
            let mut text = None;
            while let Some((number, field)) = cursor.field(WHAT)? {
                if number == 1 {
                    text = Some(field.bytes(WHAT)?);
                }
            }
            text.ok_or(WireError::Missing { what: WHAT })?
        }
    };
    let text = std::str::from_utf8(text).map_err(|_| WireError::Undecodable { what: WHAT })?;
    ClusterId::parse(text).ok_or(WireError::Undecodable { what: WHAT })
}

/// The value of `hbaseid` that HBase itself writes.
#[must_use]
pub fn encode_cluster_id(id: ClusterId) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_bytes_field(&mut out, 1, id.to_string().as_bytes());
    out
}

/// Address of a server and the time it started (`ServerName`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName {
    /// Host.
    pub host: String,
    /// RPC port.
    pub port: u16,
    /// Start code: ms since 1970, as a rule.
    pub start_code: u64,
}

impl std::fmt::Display for ServerName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{},{},{}", self.host, self.port, self.start_code)
    }
}

impl ServerName {
    /// Reads `host,port,startcode`; `None` when it is not that.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let host = parts.next().filter(|host| !host.is_empty())?.to_owned();
        let port = parts.next()?.parse().ok()?;
        let start_code = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { host, port, start_code })
    }

    /// Reads the protobuf message.
    ///
    /// # Errors
    /// When it does not parse.
    pub fn parse_message(message: &[u8]) -> Result<Self, WireError> {
        const WHAT: &str = "server name";
        let mut name = Self { host: String::new(), port: 0, start_code: 0 };
        let mut cursor = Cursor::new(message);
        while let Some((number, field)) = cursor.field(WHAT)? {
            match number {
                1 => field.text(WHAT)?.clone_into(&mut name.host),
                2 => {
                    let port = field.varint(WHAT)?;
                    name.port = u16::try_from(port)
                        .map_err(|_| WireError::Value { what: "port", value: port.cast_signed() })?;
                }
                3 => name.start_code = field.varint(WHAT)?,
                _ => {}
            }
        }
        if name.host.is_empty() { Err(WireError::Missing { what: "host" }) } else { Ok(name) }
    }

    /// Writes the protobuf message.
    #[must_use]
    pub fn encode_message(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, self.host.as_bytes());
        put_varint_field(&mut out, 2, u64::from(self.port));
        put_varint_field(&mut out, 3, self.start_code);
        out
    }
}

/// Reads the `master` znode.
///
/// # Errors
/// When it does not parse.
pub fn master(value: &[u8]) -> Result<ServerName, WireError> {
    let mut cursor = Cursor::new(message(value)?);
    while let Some((number, field)) = cursor.field("master")? {
        if number == 1 {
            return ServerName::parse_message(field.bytes("master")?);
        }
    }
    Err(WireError::Missing { what: "master address" })
}

/// The value of a `master` znode, which 3.0 sources read.
#[must_use]
pub fn encode_master(name: &ServerName) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    put_bytes_field(&mut out, 1, &name.encode_message());
    put_varint_field(&mut out, 2, 0);
    put_varint_field(&mut out, 3, 0);
    out
}

/// Reads the znode `replication/peers/ID/peer-state`: whether the peer is enabled (`ReplicationState`).
///
/// # Errors
/// When it does not parse.
pub fn is_peer_enabled(value: &[u8]) -> Result<bool, WireError> {
    let mut cursor = Cursor::new(message(value)?);
    let mut is_enabled = true;
    while let Some((number, field)) = cursor.field("peer state")? {
        if number == 1 {
            is_enabled = field.varint("peer state")? == 0;
        }
    }
    Ok(is_enabled)
}
