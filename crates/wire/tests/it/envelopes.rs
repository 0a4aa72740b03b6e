//! What is written is what is read: everything around entries and cells, which `round_trip` has.

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use weir_model::ClusterId;
use weir_wire::cursor::{Cursor, put_bytes_field, put_varint_field};
use weir_wire::hbase::call::{
    ConnectionHeader, RemoteException, encode_answer_exception, encode_answer_ok, encode_call, encode_fatal,
    parse_answer, parse_call,
};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec, read_cell, write_cell};
use weir_wire::hbase::markers::{self, Marker};
use weir_wire::hbase::peer_config::{PeerConfig, Wish, fulfil};
use weir_wire::hbase::zk::{self, ServerName};
use weir_wire::hbase::{master, preamble};
use weir_wire::identity;

fn any_text() -> impl Strategy<Value = String> {
    "\\PC{1,40}"
}

/// The frame without its length, which must be right.
#[track_caller]
fn body(frame: &[u8]) -> &[u8] {
    let (len, body) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*len) as usize, body.len());
    body
}

proptest! {
    #[test]
    fn a_connection_header_comes_back(
        user in option::of(any_text()),
        service in any_text(),
        codec in option::of(any_text()),
        compressor in option::of(any_text()),
    ) {
        let header = ConnectionHeader { user, service, codec, compressor, version: None };
        let mut frame = Vec::new();
        header.encode(&mut frame);
        prop_assert_eq!(ConnectionHeader::parse(body(&frame)), Ok(header));
    }

    #[test]
    fn a_call_comes_back(
        call_id in any::<u32>(),
        method in any_text(),
        timeout_ms in option::of(any::<u32>()),
        param in vec(any::<u8>(), 0..300),
        block in vec(any::<u8>(), 0..300),
    ) {
        let mut frame = Vec::new();
        encode_call(&mut frame, call_id, &method, timeout_ms, &param, &block);
        let call = parse_call(body(&frame)).unwrap();
        prop_assert_eq!((call.header.call_id, call.header.method), (call_id, method.as_str()));
        prop_assert_eq!(call.header.timeout_ms, timeout_ms);
        prop_assert_eq!((call.param, call.cell_block), (&param[..], &block[..]));
    }

    #[test]
    fn answers_come_back(call_id in any::<u32>(), message in vec(any::<u8>(), 0..300), text in any_text()) {
        let mut frame = Vec::new();
        encode_answer_ok(&mut frame, call_id, &message);
        let answer = parse_answer(body(&frame)).unwrap();
        prop_assert_eq!((answer.call_id, answer.result), (call_id, Ok((&message[..], &[][..]))));
        for exception in [
            RemoteException::fatal("a.b.FatalException", text.clone()),
            RemoteException::retriable("java.io.IOException", text),
        ] {
            frame.clear();
            encode_answer_exception(&mut frame, call_id, &exception);
            let answer = parse_answer(body(&frame)).unwrap();
            prop_assert_eq!((answer.call_id, answer.result), (call_id, Err(exception.clone())));
            frame.clear();
            encode_fatal(&mut frame, &exception);
            prop_assert_eq!(parse_answer(body(&frame)).unwrap().call_id, u32::MAX);
        }
    }

    #[test]
    fn one_cell_comes_back_in_every_codec(
        row in vec(any::<u8>(), 0..300),
        family in vec(any::<u8>(), 0..255),
        qualifier in vec(any::<u8>(), 0..300),
        timestamp in any::<u64>(),
        kind in any::<u8>(),
        value in vec(any::<u8>(), 0..300),
        tags in vec(any::<u8>(), 0..300),
    ) {
        let (row, family, qualifier, value) = (&row[..], &family[..], &qualifier[..], &value[..]);
        let cell = Cell { row, family, qualifier, timestamp, kind: CellKind(kind), value, tags: &tags };
        for codec in Codec::ALL {
            let kept = if codec.has_tags() { &tags[..] } else { &[] };
            let mut out = Vec::new();
            write_cell(&mut out, &cell, codec);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(read_cell(&mut cursor, codec), Ok(Cell { tags: kept, ..cell }));
            prop_assert!(cursor.is_empty());
        }
    }

    #[test]
    fn the_record_header_comes_back(
        id in any::<u128>(),
        region in "[0-9a-f]{1,32}",
        sequence in any::<u64>(),
        write_time_ms in any::<u64>(),
    ) {
        let source = ClusterId::from_u128(id);
        let mut out = Vec::new();
        identity::encode(&mut out, &source.to_string(), region.as_bytes(), sequence, write_time_ms);
        let expect = identity::Identity { source, encoded_region: &region, sequence, write_time_ms };
        prop_assert_eq!(identity::parse(&out), Ok(expect));
    }

    #[test]
    fn znodes_come_back(id in any::<u128>(), host in "[a-z.0-9-]{1,40}", port in any::<u16>(), start_code in any::<u64>()) {
        let id = ClusterId::from_u128(id);
        prop_assert_eq!(zk::cluster_id(&zk::encode_cluster_id(id)), Ok(id));
        let name = ServerName { host, port, start_code };
        prop_assert_eq!(ServerName::parse(&name.to_string()), Some(name.clone()));
        prop_assert_eq!(ServerName::parse_message(&name.encode_message()), Ok(name.clone()));
        prop_assert_eq!(zk::master(&zk::encode_master(&name)), Ok(name));
    }

    /// The master writes the configuration of the call into the znode as it is.
    #[test]
    fn the_peer_that_is_added_is_the_peer_that_is_read(
        key in any_text(),
        settings in btree_map(any_text(), any_text(), 0..4),
    ) {
        let settings: Vec<(String, String)> = settings.into_iter().collect();
        let wish = Wish { cluster_key: key.clone(), settings: settings.clone(), ..Wish::default() };
        let call = master::add_peer("weir", &fulfil(&[], &wish).unwrap());
        let mut fields = Cursor::new(&call);
        let mut config = Vec::new();
        while let Some((number, field)) = fields.field("peer").unwrap() {
            if number == 2 {
                config.extend_from_slice(field.bytes("peer").unwrap());
            }
        }
        let read = PeerConfig::parse(&config).unwrap();
        prop_assert_eq!((read.cluster_key, read.settings), (key, settings));
    }

    #[test]
    fn a_heartbeat_comes_back(server in any_text(), wal in any_text(), offset in any::<u64>()) {
        let mut value = Vec::new();
        put_bytes_field(&mut value, 1, server.as_bytes());
        put_bytes_field(&mut value, 2, wal.as_bytes());
        put_varint_field(&mut value, 3, offset);
        let cell = Cell {
            row: b"r",
            family: markers::FAMILY,
            qualifier: b"HBASE::REPLICATION_MARKER",
            timestamp: 1,
            kind: CellKind::PUT,
            value: &value,
            tags: &[],
        };
        prop_assert_eq!(markers::parse(&cell), Ok(Marker::Replication { server: &server, wal: &wal, offset }));
    }

    #[test]
    fn what_a_master_says_is_read(number in any::<u64>(), class in "[a-zA-Z.]{1,30}", text in "[a-zA-Z ]{1,30}") {
        let mut generic = Vec::new();
        put_bytes_field(&mut generic, 1, class.as_bytes());
        put_bytes_field(&mut generic, 2, text.as_bytes());
        let (mut failure, mut answer) = (Vec::new(), Vec::new());
        put_bytes_field(&mut failure, 2, &generic);
        put_varint_field(&mut answer, 1, number);
        prop_assert_eq!(master::first_number(&answer), Ok(number));
        prop_assert_eq!(master::procedure_failure(&answer), Ok(None));
        put_bytes_field(&mut answer, 5, &failure);
        let said = master::procedure_failure(&answer).unwrap().unwrap();
        prop_assert_eq!(said, format!("{class} {}", text.trim()).trim().to_owned());
    }

    #[test]
    fn any_six_bytes_are_a_preamble_or_an_exception_with_a_class(bytes in any::<[u8; preamble::LEN]>()) {
        if let Err(exception) = preamble::parse(bytes) {
            prop_assert!(exception.do_not_retry && exception.class.starts_with("org.apache.hadoop.hbase.ipc."));
        }
    }
}
