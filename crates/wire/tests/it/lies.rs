//! Bytes that lie: each gets an error, none panics, none makes us allocate what it claims.

use crate::golden::hex;
use proptest::collection::vec;
use proptest::prelude::*;
use weir_wire::WireError;
use weir_wire::change;
use weir_wire::cursor::Cursor;
use weir_wire::hbase::call::{ConnectionHeader, parse_answer, parse_call};
use weir_wire::hbase::cell_block::{Codec, Compressor, decompress, read_cell};
use weir_wire::hbase::replication::ReplicateRequest;
use weir_wire::hbase::{cluster_key, load, peer_config, schema, zk};

const CELL: &str = "0000001900000010000000010002723101667100000000000000010476";

#[track_caller]
fn check(place: usize, byte: u8) {
    let mut bytes = hex(CELL);
    bytes[place] = byte;
    assert!(
        read_cell(&mut Cursor::new(&bytes), Codec::KeyValueWithTags).is_err(),
        "byte {place} = {byte:#x}"
    );
}

#[test]
fn a_cell_whose_lengths_lie_is_refused() {
    check(0, 0x7f);
    check(0, 0xff);
    check(3, 0x18);
    check(4, 0x7f);
    check(7, 0x30);
    check(7, 0x0b);
    check(8, 0x80);
    check(11, 0x02);
    check(12, 0x7f);
    check(13, 0x10);
    check(16, 0xff);
}

#[test]
fn cells_that_are_missing_or_left_over_are_refused() {
    let call = hex(
        "0a3b0a370a203031323334353637383961626364656630313233343536373839616263646566120174180720e80732050a01661001420408011000180a",
    );
    let call = {
        let mut call = call;
        call.truncate(61);
        call
    };
    let mut one = call.clone();
    *one.last_mut().unwrap() = 1;
    let cell = hex(CELL);
    assert!(ReplicateRequest::parse(&one, &cell, Codec::KeyValue).is_ok());
    assert!(matches!(ReplicateRequest::parse(&one, &[], Codec::KeyValue), Err(WireError::Short { .. })));
    let two = [cell.clone(), cell].concat();
    assert!(matches!(ReplicateRequest::parse(&one, &two, Codec::KeyValue), Err(WireError::Trailing { .. })));
}

#[test]
fn a_snappy_bomb_is_refused_before_it_is_unpacked() {
    // Claims 1 GiB inside a chunk of six bytes.
    let block =
        [&(1u32 << 30).to_be_bytes()[..], &6u32.to_be_bytes(), &[0x80, 0x80, 0x80, 0x80, 0x04, 0]].concat();
    assert!(matches!(decompress(Some(Compressor::Snappy), &block, 1 << 20), Err(WireError::TooLong { .. })));
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = parse_call(&bytes);
        let _ = parse_answer(&bytes);
        let _ = ConnectionHeader::parse(&bytes);
        let _ = change::decode(&bytes);
        let _ = zk::cluster_id(&bytes);
        let _ = zk::master(&bytes);
        let _ = load::parse(&bytes);
        let _ = peer_config::fulfil(&bytes, &peer_config::Wish::default());
        let _ = schema::Schema::parse(&bytes).map(|schema| schema.with_scope(&[b"f"]));
        let _ = cluster_key::ClusterKey::parse(&String::from_utf8_lossy(&bytes));
        let _ = ReplicateRequest::parse(&bytes, &bytes, Codec::KeyValueWithTags);
        for compressor in [Compressor::Zlib, Compressor::Snappy] {
            let _ = decompress(Some(compressor), &bytes, 1 << 16);
        }
    }

    #[test]
    fn a_call_with_one_wrong_byte_never_panics(place in 4usize..123, byte in any::<u8>()) {
        let mut frame = hex("000000771b08051a115265706c696361746557414c456e74727920012a02081d3d0a3b0a370a203031323334353637383961626364656630313233343536373839616263646566120174180720e80732050a0166100142040801100018010000001900000010000000010002723101667100000000000000010476");
        frame[place] = byte;
        if let Ok(call) = parse_call(&frame[4..]) {
            let _ = ReplicateRequest::parse(call.param, call.cell_block, Codec::KeyValue).map(|request| {
                request.entries().map(|entry| entry.cells.count()).sum::<usize>()
            });
        }
    }
}
