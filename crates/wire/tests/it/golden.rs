//! Bytes that real engines sent or accepted.

use weir_model::ClusterId;
use weir_wire::WireError;
use weir_wire::cursor::Cursor;
use weir_wire::hbase::call::{
    ConnectionHeader, RemoteException, encode_answer_exception, encode_answer_ok, parse_answer, parse_call,
};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec, Compressor, decompress, read_cell, write_cell};
use weir_wire::hbase::replication::{METHOD, ReplicateRequest};
use weir_wire::hbase::zk;

/// Hello of a 1.2.5 source to a sink.
const HELLO: &str = "484261730050000000440a070a056862617365120c41646d696e536572766963651a2b6f72672e6170616368652e6861646f6f702e68626173652e636f6465632e4b657956616c7565436f646563";
const CELL: &str = "0000001900000010000000010002723101667100000000000000010476";
const CELL_WITH_TTL: &str =
    "0000002600000010000000010002723101667100000000000000010476000b000908000000000000ea60";
/// The first cell as `CellCodec` writes it: a length before each part, and the MVCC number at the end.
const CELL_IN_PARTS: &str = "000000027231000000016600000001710000000000000001040000000176000000000000002a";
/// The first cell in a gzip stream.
const CELL_IN_GZIP: &str =
    "1f8b0800000000000203636060906460601000624606a62243c6b442060860642903002de4a9b31d000000";
const REPLICATE: &str = "000000771b08051a115265706c696361746557414c456e74727920012a02081d3d0a3b0a370a203031323334353637383961626364656630313233343536373839616263646566120174180720e80732050a0166100142040801100018010000001900000010000000010002723101667100000000000000010476";
const OK: &str = "0000000402080500";
const META_REGION_SERVER: &str = "ff0000001a726567696f6e7365727665723a323630323005fb433b5af5174850425546";

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().map(|digit| char::from(digit).to_digit(16).unwrap() as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn cell(tags: &[u8]) -> Cell<'_> {
    Cell { row: b"r1", family: b"f", qualifier: b"q", timestamp: 1, kind: CellKind::PUT, value: b"v", tags }
}

#[test]
fn the_hello_of_a_source_is_read_and_written() {
    let hello = hex(HELLO);
    let header = ConnectionHeader::parse(&hello[10..]).unwrap();
    assert_eq!((header.user.as_deref(), header.service.as_str()), (Some("hbase"), "AdminService"));
    assert_eq!(Codec::of_class(header.codec.as_deref().unwrap()), Some(Codec::KeyValue));
    let mut out = Vec::new();
    header.encode(&mut out);
    assert_eq!(out, &hello[6..]);
}

#[test]
fn cells_are_written_as_hbase_writes_them() {
    let mut out = Vec::new();
    write_cell(&mut out, &cell(&[]), Codec::KeyValueWithTags);
    assert_eq!(out, hex(CELL));
    out.clear();
    let ttl = hex("000908000000000000ea60");
    write_cell(&mut out, &cell(&ttl), Codec::KeyValueWithTags);
    assert_eq!(out, hex(CELL_WITH_TTL));
}

#[test]
fn a_cell_of_cell_codec_is_read_and_its_lengths_may_not_lie() {
    let bytes = hex(CELL_IN_PARTS);
    let mut cursor = Cursor::new(&bytes);
    assert_eq!(read_cell(&mut cursor, Codec::Cell), Ok(cell(&[])));
    assert!(cursor.is_empty());
    for length in [0, 6, 11, 25] {
        for lie in [0x7f, 0xff] {
            let mut bytes = bytes.clone();
            bytes[length] = lie;
            assert!(read_cell(&mut Cursor::new(&bytes), Codec::Cell).is_err(), "byte {length} = {lie:#x}");
        }
    }
    for len in 0..bytes.len() {
        assert!(read_cell(&mut Cursor::new(&bytes[..len]), Codec::Cell).is_err(), "cut at {len}");
    }
}

#[test]
fn a_gzip_stream_is_read_to_its_end_and_no_further_than_the_limit() {
    let (packed, plain) = (hex(CELL_IN_GZIP), hex(CELL));
    let gzip = Some(Compressor::Gzip);
    assert_eq!(decompress(gzip, &packed, 1 << 20).unwrap(), plain);
    // Hadoop may write several members one after another.
    assert_eq!(decompress(gzip, &packed.repeat(2), 1 << 20).unwrap(), plain.repeat(2));
    assert!(matches!(decompress(gzip, &packed, plain.len() - 1), Err(WireError::TooLong { .. })));
    assert!(decompress(gzip, &packed[..packed.len() - 9], 1 << 20).is_err());
    assert!(decompress(gzip, &plain, 1 << 20).is_err());
}

#[test]
fn a_replication_call_is_read_whole() {
    let frame = hex(REPLICATE);
    let call = parse_call(&frame[4..]).unwrap();
    assert_eq!((call.header.call_id, call.header.method), (5, METHOD));
    let request = ReplicateRequest::parse(call.param, call.cell_block, Codec::KeyValue).unwrap();
    let entry = request.entries().next().unwrap();
    assert_eq!(entry.key.encoded_region, b"0123456789abcdef0123456789abcdef");
    assert_eq!((entry.key.table, entry.key.sequence, entry.key.write_time_ms), (&b"t"[..], 7, 1000));
    assert_eq!(entry.key.cluster_ids().collect::<Vec<_>>(), [ClusterId { most: 0, least: 1 }]);
    assert_eq!(entry.key.scopes().collect::<Vec<_>>(), [(&b"f"[..], 1)]);
    assert_eq!(entry.cells.collect::<Vec<_>>(), [cell(&[])]);
}

#[test]
fn answers_are_what_a_real_source_takes() {
    let mut out = Vec::new();
    encode_answer_ok(&mut out, 5, &[]);
    assert_eq!(out, hex(OK));
    out.clear();
    encode_answer_exception(&mut out, 5, &RemoteException::retriable("java.io.IOException", "kafka"));
    assert_eq!(out, hex("00000023220805121e0a136a6176612e696f2e494f457863657074696f6e12056b61666b612800"));
    assert_eq!(parse_answer(&out[4..]).unwrap().result.unwrap_err().short_class(), "IOException");
}

#[test]
fn both_forms_of_hbaseid_are_read_with_and_without_metadata() {
    let id = ClusterId::parse("0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0").unwrap();
    let plain = id.to_string().into_bytes();
    let message = zk::encode_cluster_id(id);
    assert_eq!(&message[..6], &hex("504255460a24")[..]);
    for value in [plain, message] {
        assert_eq!(zk::cluster_id(&value), Ok(id));
        let mut prefixed = hex(META_REGION_SERVER);
        prefixed.truncate(prefixed.len() - 4);
        prefixed.extend_from_slice(&value);
        assert_eq!(zk::cluster_id(&prefixed), Ok(id));
    }
}
