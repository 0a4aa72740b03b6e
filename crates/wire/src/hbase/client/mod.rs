//! The client protocol of HBase 0.96 and later (`Client.proto`): what a program asks of region servers, and the answers.
//!
//! Requests are plain values with a builder's methods; cells travel in cell blocks in both directions. A request for a
//! row is only made for a region that holds the row ([`OutsideRegion`] otherwise): a server may fail badly on others.

mod condition;
mod exception;
mod filter;
mod get;
mod multi;
mod mutation;
mod region;
mod row;
mod scan;

pub use condition::{Check, Compare};
pub use exception::{moved_to, name_bytes_exception};
pub use filter::Filter;
pub use get::{Get, get_request, parse_get};
pub use multi::{Action, MultiAnswer, MultiRequest, Outcome, RowMutations, parse_multi};
pub use mutation::{
    Append, Delete, Durability, Increment, LATEST_TIMESTAMP, Mutate, Mutation, MutationKind, Put, kind,
    mutate_request, parse_mutate,
};
pub use region::{Lookup, MetaRow, RegionInfo, meta_location, parse_meta_row};
pub use row::{Block, Row, parse_result};
pub use scan::{
    Scan, ScanAnswer, ScanLimits, close_request, next_request, open_request, parse_scan, renew_request,
};

use crate::cursor::{put_bytes_field, put_varint_field};
use bytes::Bytes;

/// Name of the service that region servers offer to clients.
pub const SERVICE: &str = "ClientService";

/// A row was about to be asked of a region whose range does not hold it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row is outside of the region {region}")]
pub struct OutsideRegion {
    /// Name of the region, printable.
    pub region: String,
}

/// Appends `NameBytesPair` fields, as attributes of operations.
fn put_attributes(out: &mut Vec<u8>, number: u64, attributes: &[(String, Bytes)]) {
    for (name, value) in attributes {
        let mut pair = Vec::with_capacity(name.len() + value.len() + 8);
        put_bytes_field(&mut pair, 1, name.as_bytes());
        put_bytes_field(&mut pair, 2, value);
        put_bytes_field(out, number, &pair);
    }
}

/// Appends `Column` fields.
fn put_columns(out: &mut Vec<u8>, number: u64, columns: &[(Bytes, Vec<Bytes>)]) {
    for (family, qualifiers) in columns {
        let mut column = Vec::new();
        put_bytes_field(&mut column, 1, family);
        qualifiers.iter().for_each(|qualifier| put_bytes_field(&mut column, 2, qualifier));
        put_bytes_field(out, number, &column);
    }
}

/// Adds a family, or one more qualifier of a family that is already there.
fn add_column(columns: &mut Vec<(Bytes, Vec<Bytes>)>, family: Bytes, qualifier: Option<Bytes>) {
    match columns.iter_mut().find(|(name, _)| *name == family) {
        // A family that was asked for whole stays whole.
        Some((_, qualifiers)) => match qualifier {
            Some(qualifier) if !qualifiers.is_empty() => qualifiers.push(qualifier),
            Some(_) => {}
            None => qualifiers.clear(),
        },
        None => columns.push((family, qualifier.into_iter().collect())),
    }
}

/// Appends a `TimeRange` field: from the first, below the second.
fn put_time_range(out: &mut Vec<u8>, number: u64, range: Option<(u64, u64)>) {
    if let Some((from, to)) = range {
        let mut message = Vec::with_capacity(22);
        put_varint_field(&mut message, 1, from);
        put_varint_field(&mut message, 2, to);
        put_bytes_field(out, number, &message);
    }
}
