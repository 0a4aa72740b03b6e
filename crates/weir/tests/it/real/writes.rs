//! What is written arrives as it was written: every operation, every form on the wire, every filter.

use super::rig::{Rig, Settled, capture, topic};
use super::{check_order, create_topic};
use crate::watch::wait_until;
use crate::weir::{DEADLINE, wait_until_log_is};
use std::collections::BTreeMap;
use weir_kafka::reader::{LogRecord, Reader, Start};
use weir_model::ClusterId;
use weir_testkit::engine::hbase::Line;
use weir_testkit::table::replicated;
use weir_wire::change;

const PUT: u8 = 4;
const DELETE: u8 = 8;
const DELETE_FAMILY_VERSION: u8 = 10;
const DELETE_COLUMN: u8 = 12;
const DELETE_FAMILY: u8 = 14;

pub(super) fn run(rig: &mut Rig) {
    rig.scenario("A1 a peer comes, ships and goes", a_peer_comes_ships_and_goes);
    rig.scenario("A2 every operation arrives whole", every_operation_arrives_whole);
    rig.scenario("A3 every form of hbaseid is accepted", every_form_of_hbaseid_is_accepted);
    rig.scenario("A4 codecs and compressors of a peer", codecs_and_compressors);
    rig.scenario("A14 what went through us does not come back", loop_prevention);
    rig.scenario("A17 table-cfs and namespaces of a peer", filters_of_a_peer);
    rig.scenario("forty MiB in one entry", forty_mib_in_one_entry);
}

fn a_peer_comes_ships_and_goes(rig: &mut Rig) {
    rig.table("a1", 2);
    let weir = rig.config("a1").capture("tables.include = [\"a1\"]").started();
    rig.add_peer(&weir, "a1", "");
    rig.tool.run("put-each a1 1 10");
    assert_eq!(rig.settle("a1").cells, 1);
    assert!(weir.sum("weir_source_connections") > 0);
    rig.tool.run("peer-disable a1");
    rig.tool.run("put-each a1 50 10");
    rig.tool.run("peer-enable a1");
    rig.settle("a1");
    rig.remove_peer("a1");
    wait_until("no connection is open", DEADLINE, || weir.sum("weir_source_connections") == 0);
    wait_until("no call is open and no bytes are in flight", DEADLINE, || {
        weir.sum("weir_source_calls_open") + weir.sum("weir_in_flight_bytes") == 0
    });
}

/// Family, qualifier, timestamp (`None`: the server's clock), type, value, tags.
type Expected = (&'static str, Option<u64>, u8, &'static [u8], &'static [u8]);

/// What `operations` of the table tool has to bring, by row. Family `f` alone is replicated.
fn expected() -> BTreeMap<&'static str, Vec<Vec<Expected>>> {
    const TTL: &[u8] = b"\x00\x09\x08\x00\x00\x00\x00\x00\x00\xea\x60";
    let v = b"v".as_slice();
    let one = |cell: Expected| vec![vec![cell]];
    BTreeMap::from([
        ("put-both", one(("q", None, PUT, v, b""))),
        ("put-list-0", one(("q", None, PUT, v, b""))),
        ("put-list-1", one(("q", None, PUT, v, b""))),
        ("put-list-2", one(("q", None, PUT, v, b""))),
        ("put-list-3", one(("q", None, PUT, v, b""))),
        ("put-list-4", one(("q", None, PUT, v, b""))),
        ("delete-column", one(("q", Some(1500), DELETE_COLUMN, b"", b""))),
        ("delete-family", one(("", Some(1500), DELETE_FAMILY, b"", b""))),
        ("delete-family-version", one(("", Some(1500), DELETE_FAMILY_VERSION, b"", b""))),
        ("delete-version", one(("q", Some(1500), DELETE, b"", b""))),
        (
            "delete-latest",
            vec![vec![("q", Some(1234), PUT, v, b"")], vec![("q", Some(1234), DELETE, b"", b"")]],
        ),
        ("delete-row", one(("", Some(1500), DELETE_FAMILY, b"", b""))),
        (
            "increment",
            vec![
                vec![("q", None, PUT, &[0, 0, 0, 0, 0, 0, 0, 5], b"")],
                vec![("q", None, PUT, &[0, 0, 0, 0, 0, 0, 0, 7], b"")],
            ],
        ),
        ("append", vec![vec![("q", None, PUT, b"x", b"")], vec![("q", None, PUT, b"xy", b"")]]),
        ("check-and-put", one(("q", None, PUT, v, b""))),
        (
            "row-mutations",
            vec![vec![
                ("q", Some(1000), PUT, v, b""),
                ("other", Some(1001), DELETE_COLUMN, b"", b""),
                ("last", Some(1002), PUT, v, b""),
            ]],
        ),
        ("ttl", vec![vec![("q", None, PUT, v, TTL), ("r", None, PUT, v, TTL)]]),
        ("timestamp", one(("q", Some(1234), PUT, v, b""))),
        (
            "versions",
            vec![vec![
                // The WAL keeps the client's order, not that of the store (newest first).
                ("q", Some(1), PUT, b"a", b""),
                ("q", Some(2), PUT, b"b", b""),
                ("q", Some(3), PUT, b"c", b""),
            ]],
        ),
        ("empty", one(("", Some(1234), PUT, b"", b""))),
    ])
}

fn every_operation_arrives_whole(rig: &mut Rig) {
    rig.table("a2", 1);
    let weir = rig.config("a2").capture("tables.include = [\"a2\"]").started();
    rig.add_peer(&weir, "a2", "");
    rig.tool.run("operations a2");
    let Settled { records, .. } = rig.settle("a2");
    let changes: Vec<_> = records.iter().map(|record| change::decode(&record.value).unwrap()).collect();
    let mut got: BTreeMap<Vec<u8>, Vec<Vec<change_cell::Owned>>> = BTreeMap::new();
    let (mut list_entries, mut nonces) = (0, 0);
    let mut seen = std::collections::HashSet::new();
    for change in &changes {
        assert_eq!(change.scopes, [(b"f".as_slice(), 1)], "sequence {}", change.sequence);
        if !seen.insert(change.sequence) {
            continue;
        }
        nonces += usize::from(change.nonce != 0);
        let mut rows: BTreeMap<Vec<u8>, Vec<change_cell::Owned>> = BTreeMap::new();
        for cell in &change.cells {
            assert_eq!(cell.family, b"f");
            rows.entry(cell.row.to_vec()).or_default().push(change_cell::owned(cell));
        }
        list_entries += usize::from(rows.keys().any(|row| row.starts_with(b"put-list")));
        for (row, cells) in rows {
            got.entry(row).or_default().push(cells);
        }
    }
    assert_eq!(list_entries, 1, "a list of puts to one region is one entry");
    assert!(nonces >= 4, "two increments and two appends carry nonces, {nonces} did");
    for (row, entries) in expected() {
        let found = got.remove(row.as_bytes()).unwrap_or_default();
        change_cell::check(row, &found, &entries);
    }
    let all: Vec<u8> = (0..=255).collect();
    let cells = got.remove(&all).unwrap().concat();
    assert!(cells.len() == 1 && cells[0].qualifier == all && cells[0].value == all, "bytes are bytes");
    let longest = vec![b'z'; 32767];
    assert_eq!(got.remove(&longest).unwrap().concat().len(), 1);
    assert!(got.is_empty(), "unexpected rows: {:?}", got.keys().collect::<Vec<_>>());
    // A flush writes markers to the WAL, and none of them comes: after it there is one more entry, the put.
    wait_until("no call is open", DEADLINE, || weir.sum("weir_source_calls_open") == 0);
    let skipped = weir.sum("weir_capture_skipped_total");
    let now = || weir.sum_of("weir_capture_entries_total", "table=\"a2\"");
    let before = now();
    rig.tool.run("flush a2");
    rig.tool.run("put-each a2 1 1");
    wait_until("the put has come", DEADLINE, || now() > before);
    assert_eq!(now(), before + 1, "{}", weir.get("/metrics"));
    assert_eq!(weir.sum("weir_capture_skipped_total"), skipped);
    rig.remove_peer("a2");
}

/// Cells of a record that outlive it, and their comparison with what was expected.
mod change_cell {
    use super::Expected;
    use weir_wire::hbase::cell_block::Cell;

    #[derive(Clone, Debug, PartialEq, Eq)]
    pub(super) struct Owned {
        pub(super) qualifier: Vec<u8>,
        pub(super) timestamp: u64,
        pub(super) kind: u8,
        pub(super) value: Vec<u8>,
        pub(super) tags: Vec<u8>,
    }

    pub(super) fn owned(cell: &Cell<'_>) -> Owned {
        Owned {
            qualifier: cell.qualifier.to_vec(),
            timestamp: cell.timestamp,
            kind: cell.kind.0,
            value: cell.value.to_vec(),
            tags: cell.tags.to_vec(),
        }
    }

    #[track_caller]
    pub(super) fn check(row: &str, found: &[Vec<Owned>], expect: &[Vec<Expected>]) {
        let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        let sizes = |entries: &[usize]| format!("{entries:?}");
        assert_eq!(
            sizes(&found.iter().map(Vec::len).collect::<Vec<_>>()),
            sizes(&expect.iter().map(Vec::len).collect::<Vec<_>>()),
            "cells by entry of {row}: {found:?}"
        );
        for (cell, wanted) in found.iter().flatten().zip(expect.iter().flatten()) {
            let (qualifier, timestamp, kind, value, tags) = *wanted;
            assert_eq!(
                (cell.qualifier.as_slice(), cell.kind, cell.value.as_slice(), cell.tags.as_slice()),
                (qualifier.as_bytes(), kind, value, tags),
                "{row}"
            );
            match timestamp {
                Some(timestamp) => assert_eq!(cell.timestamp, timestamp, "{row}"),
                None => assert!(now_ms - cell.timestamp < 600_000, "{row}: {}", cell.timestamp),
            }
        }
    }
}

/// The source's own id is read as its HBase wrote it; ours is served in the forms that HBase has ever had.
fn every_form_of_hbaseid_is_accepted(rig: &mut Rig) {
    let source = ClusterId::parse(&rig.tool.run("cluster-id")[0]).unwrap();
    let prefix = b"\xff\0\0\0\x0emaster:1234567";
    let forms: [(&str, &[u8], bool); 3] =
        [("a3_text", b"", false), ("a3_pbuf", b"", true), ("a3_prefix", prefix, true)];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut config = rig.config("a3_text").capture("tables.include = [\"a3\"]\ntopic.prefix = \"a3_text.\"");
    for (peer, prefix, has_magic) in &forms {
        let mut value = prefix.to_vec();
        let id = weir::capture::peer_id(source, peer).to_string();
        if *has_magic {
            value.extend_from_slice(b"PBUF\x0a\x24");
        }
        value.extend_from_slice(id.as_bytes());
        runtime.block_on(rig_znode(&rig.hbase.zookeeper(), peer, &value));
        create_topic(&rig.kafka, &format!("{peer}.a3.wal"));
        if *peer != "a3_text" {
            let section = capture(&rig.hbase.zookeeper(), peer);
            config = config.and(format!("{section}tables.include = [\"a3\"]\ntopic.prefix = \"{peer}.\"\n"));
        }
    }
    rig.table("a3", 1);
    let weir = config.started();
    for (peer, ..) in &forms {
        rig.add_peer(&weir, peer, "");
    }
    rig.tool.run("put-each a3 20 10");
    let expect = replicated(rig.tool.raw_scan("a3"));
    for (peer, _, _) in &forms {
        let records = wait_until_log_is(&rig.kafka.bootstrap(), &format!("{peer}.a3.wal"), &expect);
        let source_of = |record: &LogRecord| change::decode(&record.value).unwrap().source;
        assert!(records.iter().all(|record| source_of(record) == source), "{peer}");
        rig.remove_peer(peer);
    }
}

/// Puts an `hbaseid` where a Weir will look for its own.
async fn rig_znode(quorum: &str, peer: &str, value: &[u8]) {
    use zookeeper_client::{Acls, CreateMode};
    let client = weir_hbase::registration::connect(quorum).await.unwrap();
    let persistent = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.mkdir(&format!("/weir/{peer}"), &persistent).await.unwrap();
    client.create(&format!("/weir/{peer}/hbaseid"), value, &persistent).await.unwrap();
}

fn codecs_and_compressors(rig: &mut Rig) {
    const CODEC: &str = "hbase.replication.rpc.codec=org.apache.hadoop.hbase.codec.KeyValueCodec";
    const ZLIB: &str = "hbase.client.rpc.compressor=org.apache.hadoop.io.compress.DefaultCodec";
    const SNAPPY: &str = "hbase.client.rpc.compressor=org.apache.hadoop.io.compress.SnappyCodec";
    let mut peers = vec![("a4_tags", ""), ("a4_plain", CODEC), ("a4_zlib", ZLIB)];
    if rig.line == Line::V2_6 {
        // Hadoop 2, under 1.7 and 2.4, has Snappy only with its native library, which no registry holds.
        peers.push(("a4_snappy", SNAPPY));
    }
    rig.table("a4", 1);
    let keys = |peer: &str| format!("tables.include = [\"a4\"]\ntopic.prefix = \"{peer}.\"\n");
    let mut config = rig.config("a4_tags").capture(&keys("a4_tags"));
    for (peer, _) in &peers {
        create_topic(&rig.kafka, &format!("{peer}.a4.wal"));
        if *peer != "a4_tags" {
            config = config.and(capture(&rig.hbase.zookeeper(), peer) + &keys(peer));
        }
    }
    let weir = config.started();
    rig.tool.run("roll");
    for (peer, settings) in &peers {
        rig.add_peer(&weir, peer, settings);
    }
    rig.tool.run("operations a4");
    rig.tool.run("put-each a4 20 50000");
    let expect = replicated(rig.tool.raw_scan("a4"));
    for (peer, settings) in &peers {
        let records = wait_until_log_is(&rig.kafka.bootstrap(), &format!("{peer}.a4.wal"), &expect);
        check_order(&records);
        let changes = records.iter().map(|record| change::decode(&record.value).unwrap());
        let tagged: usize =
            changes.map(|change| change.cells.iter().filter(|cell| !cell.tags.is_empty()).count()).sum();
        assert_eq!(tagged > 0, *settings != CODEC, "{peer}: {tagged} cells have tags");
        // A MB of zeros is a few KB when the cell block is compressed.
        let bytes = weir.sum_of("weir_source_bytes_total", &format!("\"{peer}\""));
        assert_eq!(bytes < 500_000, settings.contains("compressor"), "{peer}: {bytes} frame bytes");
        rig.remove_peer(peer);
    }
}

fn loop_prevention(rig: &mut Rig) {
    let source = ClusterId::parse(&rig.tool.run("cluster-id")[0]).unwrap();
    let ours = weir::capture::peer_id(source, "a14");
    let foreign = ClusterId { most: 0x1234_5678_1234_4abc, least: 0x8123_4567_89ab_cdef };
    rig.table("a14", 1);
    let weir = rig.config("a14").capture("tables.include = [\"a14\"]").started();
    rig.add_peer(&weir, "a14", "");
    rig.tool.run(&format!("put-from a14 ours {ours}"));
    rig.tool.run(&format!("put-from a14 foreign {foreign}"));
    rig.tool.run("put-each a14 1 1");
    let mut expect = replicated(rig.tool.raw_scan("a14"));
    assert_eq!(expect.len(), 3);
    expect.retain(|key, _| key.0 != b"ours");
    let records = wait_until_log_is(&rig.kafka.bootstrap(), &topic("a14"), &expect);
    for record in &records {
        let change = change::decode(&record.value).unwrap();
        let is_foreign = change.cells[0].row == b"foreign";
        let passed = if is_foreign { vec![foreign, source] } else { vec![source] };
        assert_eq!(sorted(change.cluster_ids), sorted(passed));
    }
    rig.remove_peer("a14");
}

/// HBase keeps the ids in a set: their order says nothing.
fn sorted(mut ids: Vec<ClusterId>) -> Vec<ClusterId> {
    ids.sort_by_key(|id| id.as_u128());
    ids
}

/// The filters are the source's; what passes them is taken, and nothing else comes.
fn filters_of_a_peer(rig: &mut Rig) {
    rig.tool.run("namespace n17");
    for table in ["a17", "a17other", "n17:t"] {
        rig.tool.run(&format!("create {table} 1"));
    }
    let keys = |peer: &str| {
        format!("tables.include = [\"a17\", \"a17other\", \"n17:t\"]\ntopic.prefix = \"{peer}.\"\n")
    };
    let mut config = rig.config("a17_tables").capture(&keys("a17_tables"));
    let mut peers = vec![("a17_tables", "tables=a17/f", "a17", "a17_tables.a17.wal")];
    if rig.line != Line::V1_7 {
        // Peers of 1.7 have no namespaces.
        config = config.and(capture(&rig.hbase.zookeeper(), "a17_spaces") + &keys("a17_spaces"));
        peers.push(("a17_spaces", "namespaces=n17", "n17:t", "a17_spaces.n17--t.wal"));
    }
    for (.., topic) in &peers {
        create_topic(&rig.kafka, topic);
    }
    let weir = config.started();
    for (peer, settings, ..) in &peers {
        rig.add_peer(&weir, peer, settings);
    }
    for table in ["a17other", "n17:t", "a17"] {
        rig.tool.run(&format!("put-each {table} 30 10"));
    }
    for (peer, _, table, topic) in peers {
        let expect = replicated(rig.tool.raw_scan(table));
        check_order(&wait_until_log_is(&rig.kafka.bootstrap(), topic, &expect));
        // A table that should not come has no topic: its calls would have failed.
        let label = format!("\"{peer}\"");
        assert_eq!(weir.sum_of("weir_capture_failed_total", &label), 0, "{}", weir.get("/metrics"));
        assert_eq!(weir.sum_of("weir_source_again_total", &label), 0);
        rig.remove_peer(peer);
    }
}

/// Parts cross a broker that takes a MiB at a time, and are one entry again.
fn forty_mib_in_one_entry(rig: &mut Rig) {
    rig.table("wide", 1);
    let weir = rig.config("wide").capture("tables.include = [\"wide\"]").started();
    rig.tool.run("roll");
    rig.add_peer(&weir, "wide", "");
    rig.tool.run("put-wide wide r0500 5 8388608");
    rig.tool.run("put-each wide 10 10");
    let Settled { records, .. } = rig.settle("wide");
    let largest = records.iter().map(|record| record.value.len()).max().unwrap();
    assert!(largest > 40 << 20, "{largest}");
    let mut raw =
        Reader::open(&rig.kafka.bootstrap(), &BTreeMap::new(), &[topic("wide")], Start::Beginning).unwrap();
    raw.ask_ends().unwrap();
    assert!(raw.behind() > 40, "it came in parts: {} records", raw.behind());
    rig.remove_peer("wide");
}
