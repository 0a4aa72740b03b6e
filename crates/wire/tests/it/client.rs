//! The client protocol: golden bytes of real servers and clients, and what is read again as it was written.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use weir_model::{ClusterId, TableName};
use weir_wire::cursor::{Cursor, put_bytes_field, put_varint_field};
use weir_wire::hbase::call::encode_call;
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec, read_cell};
use weir_wire::hbase::client::{
    Action, Block, Check, Delete, Get, Lookup, MetaRow, MultiRequest, Mutation, Put, RegionInfo, Row,
    RowMutations, get_request, meta_location, mutate_request, parse_get, parse_multi, parse_scan,
};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

fn region(start: &str, end: &str) -> RegionInfo {
    RegionInfo {
        name: Bytes::from("t1,,1400000000000.00112233445566778899aabbccddeeff."),
        table: "t1".to_owned(),
        id: 1_400_000_000_000,
        start: Bytes::copy_from_slice(start.as_bytes()),
        end: Bytes::copy_from_slice(end.as_bytes()),
        ..RegionInfo::meta()
    }
}

/// A real 1.2.5 took these bytes: two actions that name one cluster, with their cells in the block.
#[test]
fn a_multi_is_the_one_that_a_real_server_took() {
    let golden = hex(
        "000000e30f08021a054d756c746920012a02083998010a95010a370801123374312c2c313430303030303030303030302e30303131323233\
         333434353536363737383839396161626263636464656566662e1a2c080012280a02723110022a1e0a065f63732e6964121400000001000000\
         0000000001000000000000000240011a2c080112280a02723210032a1e0a065f63732e696412140000000100000000000000010000000000000\
         00240010000001900000010000000010002723101667100000000000000010476000000180000001000000000000272320166710000000000000\
         0020c",
    );
    let ids = [ClusterId { most: 1, least: 2 }];
    let mut request = MultiRequest::new();
    let all = region("", "");
    let put = Action::from(Put::new("r1").add_at("f", "q", 1, "v").cluster_ids(&ids));
    let delete = Action::from(Delete::new("r2").column_at("f", "q", 2).cluster_ids(&ids));
    assert_eq!(request.push(&all, 0, &put, None), Ok(0));
    assert_eq!(request.push(&all, 1, &delete, None), Ok(0));
    let (mut param, block) = request.finish(0);
    // The nonce group was not there.
    assert_eq!(param.split_off(param.len() - 2), [0x10, 0]);
    let mut frame = Vec::new();
    encode_call(&mut frame, 2, "Multi", None, &param, &block);
    assert_eq!(frame, golden);
    assert_eq!(all.encoded_name(), b"00112233445566778899aabbccddeeff");
}

/// `_cs.id` of the first mutation counts for a region's action: others go in one of their own.
#[test]
fn mutations_of_different_clusters_do_not_share_a_region_action() {
    let all = region("", "");
    let of = |row: &'static str, id: u64| {
        Action::from(Put::new(row).add("f", "q", "v").cluster_ids(&[ClusterId { most: id, least: id }]))
    };
    let plain = Action::from(Put::new("r").add("f", "q", "v"));
    let mut request = MultiRequest::new();
    let actions = [of("a", 1), of("b", 1), Get::new("b").into(), of("c", 2), plain, of("d", 2)];
    let places: Vec<_> =
        (0..).zip(&actions).map(|(index, one)| request.push(&all, index, one, None).unwrap()).collect();
    assert_eq!(places, [0, 0, 0, 1, 2, 3]);
    let other = RegionInfo { name: Bytes::from_static(b"other"), ..region("", "") };
    assert_eq!(request.push(&other, 9, &actions[0], None), Ok(4));
}

#[test]
fn no_request_is_made_for_a_row_outside_of_the_region() {
    let middle = region("b", "m");
    for row in ["b", "b\0", "lzz"] {
        assert!(get_request(&middle, &Get::new(row)).is_ok(), "{row}");
    }
    for row in ["", "a", "azz", "m", "m\0", "z"] {
        let put = || Put::new(row).add("f", "q", "v");
        assert!(get_request(&middle, &Get::new(row)).is_err(), "{row}");
        assert!(mutate_request(&middle, &Mutation::from(put()), None, None).is_err());
        assert!(MultiRequest::new().push(&middle, 0, &put().into(), None).is_err());
        let check = Check::missing(row, "f", "q");
        let error =
            MultiRequest::atomic(&middle, &RowMutations::new(row).and(put()), Some(&check)).unwrap_err();
        assert!(error.to_string().ends_with("ccddeeff."), "{error}");
    }
}

#[test]
fn what_can_never_be_sent_is_known_before() {
    let wrong = |mutation: Mutation| mutation.wrong().unwrap_or_default();
    assert_eq!(wrong(Put::new("").add("f", "q", "v").into()), "the row key is empty");
    assert_eq!(
        wrong(Put::new(vec![b'r'; 32_768]).add("f", "q", "v").into()),
        "the row key is longer than 32767 bytes"
    );
    assert_eq!(wrong(Put::new("r").into()), "there are no cells in it");
    let long = vec![b'f'; 128];
    assert!(wrong(Put::new("r").add(long, "q", "v").into()).starts_with("a family's name"));
    assert!(wrong(Put::new("r").add_at("f", "q", u64::MAX, "v").into()).starts_with("a timestamp"));
    assert_eq!(Mutation::from(Delete::new("r")).wrong(), None, "a delete of the whole row");
    let unknown = Cell {
        row: b"r",
        family: b"f",
        qualifier: b"q",
        timestamp: 1,
        kind: CellKind(9),
        value: b"",
        tags: b"",
    };
    assert!(wrong(Delete::new("r").add_cell(&unknown).into()).contains("no delete marker"));
    assert_eq!(RowMutations::new("r").and(Delete::new("s")).wrong(), Some("a mutation is of another row"));
}

#[test]
fn the_place_of_meta_is_read_from_a_real_znode() {
    let golden = hex("ff0000001a726567696f6e7365727665723a323630323005fb433b5af5174850425546\
         0a160a096c6f63616c686f737410a4cb0118c8bcf3b3a03410001803");
    let server = meta_location(&golden).unwrap().unwrap();
    assert_eq!((server.host.as_str(), server.port), ("localhost", 26020));
    let mut opening = golden.clone();
    *opening.last_mut().unwrap() = 2;
    assert_eq!(meta_location(&opening), Ok(None));
}

#[test]
fn outcomes_of_a_real_multi_are_read_in_order() {
    let golden = hex("0a180a04080012000a04080112000a04080212000a0408031200");
    let answer = parse_multi(&golden, Bytes::new()).unwrap();
    assert_eq!(answer.regions, [Ok((0..4).map(|index| (index, Ok(Row::default()))).collect())]);
}

#[test]
fn a_look_up_fits_only_the_region_that_was_looked_for() {
    for (lookup, start, end, expect) in [
        (Lookup::Holding(b"b"), "b", "m", true),
        (Lookup::Holding(b"m"), "b", "m", false),
        (Lookup::Before(b"m"), "b", "m", true),
        (Lookup::Before(b"b"), "b", "m", false),
        (Lookup::Before(b"c"), "b", "m", true),
        (Lookup::Before(b""), "b", "m", false),
        (Lookup::Before(b""), "b", "", true),
    ] {
        assert_eq!(lookup.fits(&region(start, end)), expect, "{lookup:?} {start} {end}");
    }
    let table = TableName::new("default:t1").unwrap();
    let request = Lookup::Holding(b"m5").request(&table);
    assert!(request.windows(7).any(|bytes| bytes == b"t1,m5,:"));
}

proptest! {
    /// The cells of a mutation are in its block as they were given.
    #[test]
    fn cells_are_sent_as_they_were_given(
        row in vec(any::<u8>(), 1..40),
        cells in vec(("[a-z]{1,5}", vec(any::<u8>(), 0..9), 0..=i64::MAX as u64, vec(any::<u8>(), 0..50)), 1..9),
    ) {
        let mut put = Put::new(row.clone());
        for (family, qualifier, timestamp, value) in &cells {
            put = put.add_at(family, qualifier, *timestamp, value);
        }
        let mutation = Mutation::from(put);
        prop_assert_eq!(mutation.cell_count(), cells.len());
        let mut cursor = Cursor::new(mutation.block());
        for (family, qualifier, timestamp, value) in &cells {
            let cell = read_cell(&mut cursor, Codec::KeyValueWithTags).unwrap();
            prop_assert_eq!((cell.row, cell.family, cell.qualifier), (&row[..], family.as_bytes(), &qualifier[..]));
            prop_assert_eq!((cell.timestamp, cell.kind, cell.value), (*timestamp, CellKind::PUT, &value[..]));
        }
        prop_assert!(cursor.is_empty());
    }

    /// Rows of a scan come out as their cells went in, however many cells each has.
    #[test]
    fn rows_of_a_scan_are_cut_where_the_server_says(counts in vec((1..6usize, any::<bool>()), 0..8)) {
        let (mut message, mut block) = (Vec::new(), Vec::new());
        for (number, (count, is_partial)) in counts.iter().enumerate() {
            put_varint_field(&mut message, 1, *count as u64);
            put_varint_field(&mut message, 7, u64::from(*is_partial));
            let mut put = Put::new(format!("row {number}"));
            for cell in 0..*count {
                put = put.add_at("f", format!("{cell}"), 1, "v");
            }
            block.extend_from_slice(Mutation::from(put).block());
        }
        put_varint_field(&mut message, 2, 7);
        put_bytes_field(&mut message, 99, b"of a later version");
        let mut block = Block::new(block.into());
        let answer = parse_scan(&message, &mut block).unwrap();
        prop_assert!(block.is_empty());
        prop_assert_eq!(answer.scanner, Some(7));
        for (number, (row, (count, is_partial))) in answer.rows.iter().zip(&counts).enumerate() {
            let key = format!("row {number}");
            prop_assert_eq!(row.key(), key.as_bytes());
            prop_assert_eq!((row.len(), row.cells().count(), row.is_partial()), (*count, *count, *is_partial));
        }
    }
}

/// An answer that `cargo x golden` has kept: message and cell block.
fn kept(what: &str, version: &str) -> (Vec<u8>, Bytes) {
    let file = format!("{}/golden/client-{what}-hbase-{version}.bin", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
    weir_testkit::fuzz::client_answer(&bytes);
    let (head, rest) = bytes.split_first_chunk::<3>().unwrap();
    let (message, block) = rest.split_at(usize::from(u16::from_be_bytes([head[1], head[2]])));
    (message.to_vec(), Bytes::copy_from_slice(block))
}

/// What real servers of each line have answered to the requests of the example `golden`.
#[test]
fn answers_of_real_servers_are_read() {
    for version in ["1.7.2", "2.4.18", "2.6.4"] {
        let values = |row: &Row| {
            row.cells().map(|cell| String::from_utf8(cell.value.to_vec()).unwrap()).collect::<Vec<_>>()
        };
        let (message, block) = kept("get", version);
        let row = parse_get(&message, block).unwrap();
        assert_eq!(
            (row.key(), values(&row)),
            (&b"r1"[..], vec!["1".to_owned(), "2".to_owned()]),
            "{version}"
        );

        let (message, block) = kept("scan", version);
        let answer = parse_scan(&message, &mut Block::new(block)).unwrap();
        assert_eq!(answer.rows.iter().map(Row::key).collect::<Vec<_>>(), [b"r1", b"r2", b"r3"], "{version}");
        assert!(answer.scanner.is_some() && answer.lease_ms == Some(60_000), "{version}: {answer:?}");
        assert_eq!((answer.has_more_in_region, answer.is_heartbeat), (Some(false), false), "{version}");

        let (message, block) = kept("multi", version);
        let answer = parse_multi(&message, block).unwrap();
        let [Ok(here), Err(elsewhere)] = answer.regions.as_slice() else { panic!("{version}: {answer:?}") };
        assert_eq!(elsewhere.short_class(), "NotServingRegionException", "{version}");
        let mut outcomes: Vec<_> = here
            .iter()
            .map(|(index, outcome)| match outcome {
                Ok(row) => (*index, row.len().to_string()),
                Err(exception) => (*index, exception.short_class().to_owned()),
            })
            .collect();
        outcomes.sort();
        let expect = ["0", "NoSuchColumnFamilyException", "2"].map(str::to_owned);
        assert_eq!(outcomes, (0..).zip(expect).collect::<Vec<_>>(), "{version}");

        let (message, block) = kept("meta", version);
        let found = MetaRow::parse_answer(&message, block).unwrap().unwrap();
        assert_eq!((found.region.table.as_str(), found.region.encoded_name().len()), ("c", 32), "{version}");
        assert!(found.region.start.is_empty() && found.region.end.is_empty());
        assert_eq!(found.server.map(|server| server.host).as_deref(), Some("localhost"), "{version}");
        assert!(found.open_sequence > 0, "{version}");
    }
}
