//! Bytes captured from real engines by `cargo x golden`: each is read, compared with what was written, and written
//! again to equal meaning.

use std::path::{Path, PathBuf};
use weir_testkit::fuzz;
use weir_wire::hbase::call::{Call, ConnectionHeader, parse_answer, parse_call};
use weir_wire::hbase::cell_block::{CellKind, Codec, Compressor, decompress, write_cell};
use weir_wire::hbase::peer_config::PeerConfig;
use weir_wire::hbase::preamble::{self, AuthMethod, Preamble};
use weir_wire::hbase::replication::{METHOD, ReplicateRequest};
use weir_wire::hbase::{master, zk};

/// Versions of which bytes are kept. Older ones stay when the fixtures move on.
const VERSIONS: [&str; 3] = ["1.7.2", "2.4.18", "2.6.4"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn read(what: &str, version: &str) -> Vec<u8> {
    let file = golden().join(format!("{what}-hbase-{version}.bin"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Row, qualifier, timestamp (0: the server's own), type, value; all of family `f`.
type Expect = (Vec<u8>, Vec<u8>, u64, CellKind, Vec<u8>);

/// Tag of a time to live of 60 s.
const TTL: &[u8] = &[0, 9, 8, 0, 0, 0, 0, 0, 0, 0xea, 0x60];

/// The entries of `TableTool golden-write`.
fn written() -> Vec<Vec<Expect>> {
    let cell = |row: &str, qualifier: &str, timestamp, kind, value: &str| {
        (row.as_bytes().to_vec(), qualifier.as_bytes().to_vec(), timestamp, kind, value.as_bytes().to_vec())
    };
    let put = |row: &str, timestamp, value: &str| cell(row, "q", timestamp, CellKind::PUT, value);
    let all: Vec<u8> = (0..=255).collect();
    vec![
        vec![put("r1", 1001, "v1")],
        vec![put("r2", 1001, "v1001"), put("r2", 1002, "v1002"), put("r2", 1003, "v1003")],
        vec![put("r3", 1010, "list"), put("r4", 1010, "list"), put("r5", 1010, "list")],
        vec![cell("r2", "q", 1002, CellKind::DELETE, "")],
        vec![cell("r2", "", 1003, CellKind::DELETE_FAMILY_VERSION, "")],
        vec![cell("r3", "q", 1100, CellKind::DELETE_COLUMN, "")],
        vec![cell("r4", "", 1200, CellKind::DELETE_FAMILY, "")],
        vec![cell("r5", "", 1300, CellKind::DELETE_FAMILY, "")],
        vec![cell("r6", "counter", 0, CellKind::PUT, "\0\0\0\0\0\0\0\x05")],
        vec![cell("r6", "text", 0, CellKind::PUT, "x")],
        vec![put("r7", 1400, "both"), cell("r7", "other", 1400, CellKind::DELETE_COLUMN, "")],
        vec![put("r8", 1500, "brief")],
        vec![
            (all.clone(), Vec::new(), 1600, CellKind::PUT, Vec::new()),
            (all.clone(), all.clone(), 1600, CellKind::PUT, all),
        ],
        vec![put("r9", 1700, &"z".repeat(2000))],
    ]
}

/// The frames of a connection, without their lengths.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<4>() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*len) as usize);
        frames.push(frame);
        bytes = rest;
    }
    frames
}

/// Reads the connection of a source, and compares each entry with what was written.
#[track_caller]
fn check(name: &str, version: &str, codec: Codec, compressor: Option<Compressor>) {
    let bytes = read(&format!("source-{name}"), version);
    let (hello, rest) = bytes.split_first_chunk().unwrap();
    assert_eq!(preamble::parse(*hello), Ok(Preamble::Rpc(AuthMethod::Simple)));
    let frames = frames(rest);
    let (header, calls) = frames.split_first().unwrap();
    fuzz::connection_header(header);
    let header = ConnectionHeader::parse(header).unwrap();
    assert_eq!((header.service.as_str(), header.codec.as_deref()), ("AdminService", Some(codec.class())));
    assert_eq!(header.compressor.as_deref().and_then(Compressor::of_class), compressor);
    assert_eq!(header.user.as_deref(), Some("root"));
    assert!(header.version.as_deref().is_some_and(|said| said.starts_with(version)), "{:?}", header.version);
    let mut left = written().into_iter();
    let mut last_sequence = 0;
    for frame in calls {
        fuzz::call(frame);
        // The first byte tells the body which codec and compressor; see there.
        let choice = u8::from(!codec.has_tags())
            | if matches!(codec, Codec::Cell | Codec::CellWithTags) { 8 } else { 0 }
            | match compressor {
                None => 0,
                Some(Compressor::Zlib) => 2,
                Some(Compressor::Snappy) => 4,
                Some(Compressor::Gzip) => 6,
            };
        fuzz::replicate(&[&[choice], *frame].concat());
        let call = parse_call(frame).unwrap();
        assert_eq!((call.header.method, call.header.timeout_ms), (METHOD, Some(60_000)));
        last_sequence = compare(&call, codec, compressor, &mut left, last_sequence);
    }
    assert_eq!(left.next(), None, "a write did not come");
}

/// Compares the entries of one call; the newest sequence number.
fn compare(
    call: &Call<'_>,
    codec: Codec,
    compressor: Option<Compressor>,
    left: &mut impl Iterator<Item = Vec<Expect>>,
    mut last_sequence: u64,
) -> u64 {
    let block = decompress(compressor, call.cell_block, 1 << 20).unwrap();
    let request = ReplicateRequest::parse(call.param, &block, codec).unwrap();
    let mut again = Vec::new();
    for entry in request.entries() {
        let key = entry.key;
        assert_eq!((key.table, key.encoded_region.len()), (&b"g"[..], 32));
        assert!(key.sequence > last_sequence && key.write_time_ms > 1_700_000_000_000);
        last_sequence = key.sequence;
        assert_eq!(key.cluster_ids().count(), 1, "the source's own id");
        assert!(key.scopes().all(|(family, scope)| (family, scope) == (b"f", 1)));
        let expect = left.next().expect("an entry that was not written");
        for (cell, (row, qualifier, timestamp, kind, value)) in entry.cells.zip(&expect) {
            assert_eq!((cell.row, cell.family, cell.qualifier), (&row[..], &b"f"[..], &qualifier[..]));
            assert_eq!((cell.kind, cell.value), (*kind, &value[..]));
            assert!(cell.timestamp == *timestamp || (*timestamp == 0 && cell.timestamp > 1_700_000_000_000));
            let has_tag = codec.has_tags() && row == b"r8";
            assert_eq!(cell.tags, if has_tag { TTL } else { &[] });
        }
        assert_eq!(entry.cells.len(), expect.len());
        entry.cells.for_each(|cell| write_cell(&mut again, &cell, codec));
    }
    assert_eq!(again, *block, "cells are written as HBase wrote them, byte for byte");
    last_sequence
}

#[test]
fn every_kind_of_write_is_read_from_a_real_source_as_it_was_written() {
    for version in VERSIONS {
        check("tags", version, Codec::KeyValueWithTags, None);
        check("plain", version, Codec::KeyValue, None);
        check("zlib", version, Codec::KeyValueWithTags, Some(Compressor::Zlib));
    }
    // The Hadoop 2 of the older lines wants a native library for Snappy; such a source sends nothing at all.
    check("snappy", "2.6.4", Codec::KeyValueWithTags, Some(Compressor::Snappy));
}

#[test]
fn znodes_of_real_clusters_are_read() {
    for version in VERSIONS {
        for what in ["hbaseid", "master", "peer", "peer-state"] {
            fuzz::znode(&read(&format!("znode-{what}"), version));
        }
        zk::cluster_id(&read("znode-hbaseid", version)).unwrap();
        assert_eq!(zk::master(&read("znode-master", version)).unwrap().host, "localhost");
        let peer = PeerConfig::parse(zk::message(&read("znode-peer", version)).unwrap()).unwrap();
        assert!(peer.cluster_key.ends_with(":/golden-zlib"), "{peer:?}");
        assert_eq!(peer.setting("replication.source.ratio"), Some("1.0"));
        assert_eq!(
            peer.setting("hbase.client.rpc.compressor"),
            Some("org.apache.hadoop.io.compress.DefaultCodec")
        );
        assert_eq!(zk::is_peer_enabled(&read("znode-peer-state", version)), Ok(true));
    }
}

#[test]
fn answers_of_real_masters_are_read() {
    for version in VERSIONS {
        let answer = |what: &str| {
            let bytes = read(&format!("master-{what}"), version);
            fuzz::answer(&bytes);
            let answer = parse_answer(&bytes).unwrap();
            answer.result.map(|(message, _)| message.to_vec())
        };
        let unknown = answer("unknown-method").unwrap_err();
        assert!(unknown.text.contains("NoSuchMethod"), "{unknown:?}");
        if version == "1.7.2" {
            let lacking = answer("add-peer").unwrap_err();
            assert!(
                lacking.text.contains("UnsupportedOperationException: AddReplicationPeer"),
                "{lacking:?}"
            );
            continue;
        }
        assert!(master::first_number(&answer("add-peer").unwrap()).unwrap() > 0);
        let finished = answer("procedure").unwrap();
        assert_eq!(master::first_number(&finished), Ok(2));
        assert_eq!(master::procedure_failure(&finished), Ok(None));
        let again = answer("add-peer-again").unwrap_err();
        assert!(
            again.text.contains("Replication peer late already exists") && again.do_not_retry,
            "{again:?}"
        );
    }
}
