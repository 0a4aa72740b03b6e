//! Peer administration at a master of 2.x (`MasterService`, `Replication.proto`), as far as Weir calls it.

use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};

/// Method that adds a peer.
pub const ADD_PEER: &str = "AddReplicationPeer";
/// Method that removes a peer.
pub const REMOVE_PEER: &str = "RemoveReplicationPeer";
/// Method that enables a peer.
pub const ENABLE_PEER: &str = "EnableReplicationPeer";
/// Method that disables a peer.
pub const DISABLE_PEER: &str = "DisableReplicationPeer";
/// Method that changes the configuration of a peer.
pub const UPDATE_PEER: &str = "UpdateReplicationPeerConfig";
/// Method that asks how a procedure stands.
pub const PROCEDURE: &str = "getProcedureResult";

/// Parameter of [`ADD_PEER`]: an enabled peer with this `ReplicationPeer`.
#[must_use]
pub fn add_peer(id: &str, config: &[u8]) -> Vec<u8> {
    let mut out = update_peer(id, config);
    let mut state = Vec::new();
    put_varint_field(&mut state, 1, 0);
    put_bytes_field(&mut out, 3, &state);
    out
}

/// Parameter of [`UPDATE_PEER`].
#[must_use]
pub fn update_peer(id: &str, config: &[u8]) -> Vec<u8> {
    let mut out = peer_id(id);
    put_bytes_field(&mut out, 2, config);
    out
}

/// Parameter of the other peer methods.
#[must_use]
pub fn peer_id(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes_field(&mut out, 1, id.as_bytes());
    out
}

/// Parameter of [`PROCEDURE`].
#[must_use]
pub fn procedure(id: u64) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint_field(&mut out, 1, id);
    out
}

/// Field 1 of an answer: the procedure's id, or its state (0 not found, 1 running, 2 finished).
///
/// # Errors
/// When it does not parse.
pub fn first_number(message: &[u8]) -> Result<u64, WireError> {
    let mut cursor = Cursor::new(message);
    let mut number = 0;
    while let Some((field, value)) = cursor.field("answer of the master")? {
        if field == 1 {
            number = value.varint("answer of the master")?;
        }
    }
    Ok(number)
}

/// The text of the exception with which a procedure has failed (`ForeignExceptionMessage`); `None` when it has not.
///
/// # Errors
/// When it does not parse.
pub fn procedure_failure(message: &[u8]) -> Result<Option<String>, WireError> {
    const WHAT: &str = "procedure result";
    let mut cursor = Cursor::new(message);
    while let Some((field, value)) = cursor.field(WHAT)? {
        if field != 5 {
            continue;
        }
        let mut failure = Cursor::new(value.bytes(WHAT)?);
        while let Some((field, value)) = failure.field(WHAT)? {
            if field == 2 {
                let mut generic = Cursor::new(value.bytes(WHAT)?);
                let mut words = Vec::new();
                while let Some((field, value)) = generic.field(WHAT)? {
                    if field <= 2 {
                        words.push(value.text(WHAT)?.trim());
                    }
                }
                words.retain(|word| !word.is_empty());
                return Ok(Some(words.join(" ")));
            }
        }
        return Ok(Some("the master does not say why".to_owned()));
    }
    Ok(None)
}
