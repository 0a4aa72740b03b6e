//! Exceptions of single actions and regions, and what their texts tell.

use crate::cursor::{Cursor, WireError};
use crate::hbase::call::RemoteException;
use crate::hbase::zk::ServerName;
use std::borrow::Cow;

/// Reads an exception that came as `NameBytesPair`: class, and the text with its stack trace.
///
/// # Errors
/// When it does not parse.
pub fn name_bytes_exception(message: &[u8]) -> Result<RemoteException, WireError> {
    const WHAT: &str = "exception of an action";
    let (mut class, mut text) = (String::new(), String::new());
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => field.text(WHAT)?.clone_into(&mut class),
            2 => text = String::from_utf8_lossy(field.bytes(WHAT)?).into_owned(),
            _ => {}
        }
    }
    Ok(RemoteException { class: Cow::Owned(class), text, do_not_retry: false, is_overloaded: false })
}

/// Where a region has gone, and the sequence number with which it was opened there, from the text of `RegionMovedException`:
/// `Region moved to: hostname=H port=P startCode=S. As of locationSeqNum=N.`
#[must_use]
pub fn moved_to(text: &str) -> Option<(ServerName, u64)> {
    let after = |key: &str| {
        let (_, rest) = text.split_once(key)?;
        rest.split([' ', '\n', ',']).next()
    };
    let host = after("hostname=").filter(|host| !host.is_empty())?.to_owned();
    let port = after("port=")?.parse().ok()?;
    let start_code = after("startCode=")?.trim_end_matches('.').parse().ok()?;
    let sequence = after("locationSeqNum=")?.trim_end_matches('.').parse().ok()?;
    Some((ServerName { host, port, start_code }, sequence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_place_of_a_moved_region_is_read_from_the_text() {
        let text = "Region moved to: hostname=rs-2.example.com port=16020 startCode=1795407040183. \
                    As of locationSeqNum=42.\n\tat org.apache.hadoop.hbase.regionserver.HRegionServer";
        let (server, sequence) = moved_to(text).unwrap();
        assert_eq!(sequence, 42);
        assert_eq!(server.to_string(), "rs-2.example.com,16020,1795407040183");
        for wrong in ["", "Region moved to: hostname=", "hostname=a port=x startCode=1."] {
            assert_eq!(moved_to(wrong), None, "{wrong}");
        }
    }
}
