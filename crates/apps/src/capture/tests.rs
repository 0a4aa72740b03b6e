//! The routing rules as tables: entries in, records and counters out.

use super::*;
use weir_model::{ClusterId, TopicNaming};
use weir_runtime::log::RecordBatch;
use weir_wire::change;
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::replication::{NewKey, ReplicateRequest, RequestBuilder};

const SOURCE: ClusterId = ClusterId { most: 1, least: 2 };

fn settings() -> Settings {
    Settings::everything(TopicNaming::new("p.", ".s").unwrap())
}

fn cell<'a>(row: &'a str, family: &'a str, qualifier: &'a str) -> Cell<'a> {
    Cell {
        row: row.as_bytes(),
        family: family.as_bytes(),
        qualifier: qualifier.as_bytes(),
        timestamp: 9,
        kind: CellKind::PUT,
        value: b"v",
        tags: &[],
    }
}

/// Routes entries of (table, sequence, cells) and shows each record as "topic key sequence cells headers".
fn route(settings: Settings, entries: &[(&str, u64, &[Cell<'_>])]) -> Result<(Vec<String>, Report), Refusal> {
    let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
    for (table, sequence, cells) in entries {
        let key = NewKey {
            encoded_region: b"r1",
            table: table.as_bytes(),
            sequence: *sequence,
            write_time_ms: 1000 + sequence,
            cluster_ids: &[SOURCE],
            families: &[],
        };
        builder.push(&key, cells.iter().copied());
    }
    let (param, block) = builder.finish();
    let request = ReplicateRequest::parse(&param, &block, Codec::KeyValueWithTags).unwrap();
    let mut batch = RecordBatch::default();
    let report = Capture::new(settings).route(SOURCE, &request, &mut batch)?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let records = batch.records.iter().map(|record| {
        let change = change::decode(batch.bytes(&record.value)).unwrap();
        let written = match change.event {
            Some(change::Event::BulkLoad { sequence, .. }) => sequence,
            Some(change::Event::Heartbeat { .. }) | None => change.sequence,
        };
        assert_eq!((change.source, change.write_time_ms), (SOURCE, 1000 + written));
        let cells: Vec<_> =
            change.cells.iter().map(|cell| text(cell.row) + "/" + &text(cell.qualifier)).collect();
        let headers = &batch.headers[record.headers.start as usize..record.headers.end as usize];
        let part = change.row_part.map(|part| format!(" {}/{}", part.index, part.count)).unwrap_or_default();
        let event = headers.iter().find(|header| header.name == "weir.event");
        let event =
            event.map(|header| " ".to_owned() + &text(batch.bytes(&header.value))).unwrap_or_default();
        let topic = &batch.topics[usize::from(record.topic)];
        let (key, sequence, count) = (text(batch.bytes(&record.key)), change.sequence, headers.len());
        format!("{topic} {key} {sequence} [{}] h{count}{part}{event}", cells.join(" "))
    });
    Ok((records.collect(), report))
}

#[test]
fn an_entry_keyed_by_region_stays_whole() {
    let cells = [cell("a", "f", "q"), cell("b", "f", "q")];
    let (records, report) = route(settings(), &[("t", 7, &cells), ("ns:u", 8, &cells[..1])]).unwrap();
    assert_eq!(records, ["p.t.s r1 7 [a/q b/q] h1", "p.ns--u.s r1 8 [a/q] h1"]);
    assert_eq!((report.entries(), report.tables[0].cells, report.tables[1].last_write_ms), (2, 2, 1008));
}

#[test]
fn an_entry_keyed_by_row_is_one_record_per_row_with_its_part() {
    let cells = [cell("u1:x", "f", "1"), cell("u2:y", "f", "2"), cell("u1:x", "f", "3")];
    let by = |key| Settings { key, headers: false, ..settings() };
    let (records, _) = route(by(KeyRule::Row), &[("t", 7, &cells)]).unwrap();
    assert_eq!(records, ["p.t.s u1:x 7 [u1:x/1 u1:x/3] h0 0/2", "p.t.s u2:y 7 [u2:y/2] h0 1/2"]);
    let (records, _) = route(by(KeyRule::RowDelimiter(b':')), &[("t", 7, &cells[..1])]).unwrap();
    assert_eq!(records, ["p.t.s u1 7 [u1:x/1] h0 0/1"]);
    let (records, _) = route(by(KeyRule::RowLength(1)), &[("t", 7, &cells[..1])]).unwrap();
    assert_eq!(records, ["p.t.s u 7 [u1:x/1] h0 0/1"]);
}

#[test]
fn what_is_left_out_is_counted_with_its_reason() {
    let mut settings = settings();
    settings.include = vec![NamePattern::new("t*"), NamePattern::new("ns:*")];
    settings.exclude = vec![NamePattern::new("*tmp")];
    settings.families.insert(weir_model::TableName::new("t").unwrap(), vec![b"f".to_vec()]);
    let one = [cell("a", "f", "q")];
    let mixed = [cell("a", "f", "q"), cell("a", "g", "q")];
    let entries: [(&str, u64, &[Cell<'_>]); 7] = [
        ("hbase:acl", 1, &one),
        ("other", 2, &one),
        ("t_tmp", 3, &one),
        ("t", 4, &mixed),
        ("t", 5, &mixed[1..]),
        ("ns:t", 6, &[]),
        ("ns:t", 7, &mixed),
    ];
    let (records, report) = route(settings, &entries).unwrap();
    assert_eq!(records, ["p.t.s r1 4 [a/q] h1", "p.ns--t.s r1 7 [a/q a/q] h1"]);
    let skipped = SKIP_REASONS.map(|(reason, label)| (label, report.skipped(reason)));
    assert_eq!(
        skipped,
        [
            ("system-table", 1),
            ("table-filter", 2),
            ("family-filter", 2),
            ("no-cells", 1),
            ("marker", 0),
            ("unknown-marker", 0),
            ("heartbeat", 0)
        ]
    );
}

/// A cell of HBase's own.
fn own<'a>(qualifier: &'a str, value: &'a [u8]) -> Cell<'a> {
    Cell { value, ..cell("r", "METAFAMILY", qualifier) }
}

const HEARTBEAT: &[u8] = b"\x0a\x02s1\x12\x01w\x18\x05";

/// A bulk load of one file into each of the families `f` and `g`.
const LOAD: &[u8] = b"\x1a\x09\x0a\x01f\x12\x01f\x1a\x01x\x1a\x09\x0a\x01g\x12\x01g\x1a\x01y";

#[test]
fn a_bulk_load_becomes_an_event_and_other_markers_are_counted() {
    let cells = [
        own("HBASE::REPLICATION_MARKER", HEARTBEAT),
        own("HBASE::BULK_LOAD", LOAD),
        own("HBASE::FLUSH", b""),
        own("HBASE::NEW", b""),
        own("HBASE::REPLICATION_MARKER", b"\x0a\xff"),
        cell("a", "f", "q"),
    ];
    let (records, report) = route(Settings { headers: false, ..settings() }, &[("t", 7, &cells)]).unwrap();
    assert_eq!(records, ["p.t.s r1 0 [] h2 bulk-load", "p.t.s r1 7 [a/q] h0"]);
    assert_eq!((report.entries(), report.tables[0].bulk_loads, report.tables[0].last_write_ms), (1, 1, 1007));
    assert_eq!(report.heartbeats, [Heartbeat { server: "s1".to_owned(), write_time_ms: 1007 }]);
    let skipped = [SkipReason::Marker, SkipReason::UnknownMarker, SkipReason::Heartbeat];
    assert_eq!(skipped.map(|reason| report.skipped(reason)), [1, 2, 1]);
}

#[test]
fn what_hbase_files_under_a_table_needs_neither_its_topic_nor_its_name() {
    let heartbeat = [own("HBASE::REPLICATION_MARKER", HEARTBEAT)];
    let mixed = [cell("a", "f", "q"), heartbeat[0]];
    let flush = [own("HBASE::FLUSH", b"")];
    let mut settings = settings();
    settings.exclude = vec![NamePattern::new("private")];
    settings.families.insert(weir_model::TableName::new("only").unwrap(), vec![b"f".to_vec()]);
    let other_family = [cell("a", "g", "q")];
    let entries: [(&str, u64, &[Cell<'_>]); 10] = [
        ("st", 1, &mixed[..1]),
        ("private", 2, &heartbeat),
        ("naïve", 3, &heartbeat),
        ("no name", 4, &heartbeat),
        ("hbase:meta", 5, &heartbeat),
        ("quiet", 6, &flush),
        ("empty", 7, &[]),
        ("no name", 8, &[]),
        ("only", 9, &other_family),
        ("private", 10, &mixed),
    ];
    let (records, report) = route(settings, &entries).unwrap();
    assert_eq!(records, ["p.st.s r1 1 [a/q] h1"]);
    assert_eq!(report.tables.iter().map(|table| table.topic.as_str()).collect::<Vec<_>>(), ["p.st.s"]);
    let skipped = SKIP_REASONS.map(|(reason, _)| report.skipped(reason));
    assert_eq!(skipped, [0, 1, 1, 2, 1, 0, 5]);
}

#[test]
fn a_bulk_load_goes_the_way_of_its_table() {
    let load = [own("HBASE::BULK_LOAD", LOAD)];
    let mut some = settings();
    some.exclude = vec![NamePattern::new("private")];
    let all: [(&str, u64, &[Cell<'_>]); 3] =
        [("t", 1, &load), ("private", 2, &load), ("hbase:acl", 3, &load)];
    let (records, report) = route(some, &all).unwrap();
    assert_eq!(records, ["p.t.s r1 0 [] h2 bulk-load"]);
    assert_eq!((report.skipped(SkipReason::Table), report.skipped(SkipReason::SystemTable)), (1, 1));
    assert!(matches!(route(settings(), &[("naïve", 1, &load)]), Err(Refusal::Topic { .. })));
    let broken = [own("HBASE::BULK_LOAD", b"\x1a\x09")];
    assert!(matches!(route(settings(), &[("t", 1, &broken)]), Err(Refusal::Marker { .. })));
}

#[test]
fn a_bulk_load_names_only_files_of_families_that_are_taken() {
    let load = [own("HBASE::BULK_LOAD", LOAD)];
    let of = |families: &[&str]| {
        let mut settings = settings();
        let families = families.iter().map(|family| family.as_bytes().to_vec()).collect();
        settings.families.insert(weir_model::TableName::new("t").unwrap(), families);
        settings
    };
    let (records, report) = route(of(&["h"]), &[("t", 1, &load)]).unwrap();
    assert_eq!((records.len(), report.skipped(SkipReason::Family), report.tables.len()), (0, 2, 0));
    let (records, report) = route(of(&["g"]), &[("t", 1, &load)]).unwrap();
    assert_eq!((records.len(), report.skipped(SkipReason::Family)), (1, 1));
}

#[test]
fn a_table_that_no_topic_can_be_named_after_fails_the_call() {
    let one = [cell("a", "f", "q")];
    assert!(matches!(route(settings(), &[("naïve", 1, &one)]), Err(Refusal::Topic { .. })));
    let table = weir_model::TableName::new("naïve").unwrap();
    let mut named = settings();
    named.topics.insert(table, weir_model::TopicName::new("naive").unwrap());
    assert_eq!(route(named, &[("naïve", 1, &one)]).unwrap().0, ["naive r1 1 [a/q] h1"]);
}

#[test]
fn patterns_match_as_written() {
    let table = |name| weir_model::TableName::new(name).unwrap();
    for (pattern, name, expect) in [
        ("*", "a", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*c", "abc", true),
        ("a*c", "abcd", false),
        ("a*b*c", "axbxc", true),
        ("ns:*", "ns:t", true),
        ("ns:*", "t", false),
        ("default:t", "t", true),
        ("*a*", "bab", true),
        ("ab*ba", "aba", false),
        ("default:*", "message", true),
        ("default:*", "shop:t", false),
        ("default:tmp*", "tmp_a", true),
        ("default:tmp*", "tmpspace:orders", false),
        ("default:t", "shop:t", false),
        ("*", "shop:t", true),
        ("tmp*", "tmpspace:orders", true),
        ("*:t", "t", true),
        ("*:t", "shop:t", true),
        ("*:t", "shop:tt", false),
        ("s*p:t*", "shop:orders", false),
        ("s*p:o*", "shop:orders", true),
        ("def*:t", "t", true),
        ("shop*", "shop", true),
    ] {
        assert_eq!(NamePattern::new(pattern).matches(&table(name)), expect, "{pattern} {name}");
    }
}
