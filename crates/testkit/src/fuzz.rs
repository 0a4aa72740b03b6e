//! What each parser of `wire` and `runtime` promises of any bytes: the body of its fuzz target, and of the replay of its corpus.
//!
//! A body panics when a promise is broken. Beside "never panics, never allocates what a length claims" each says what
//! can be said of bytes that were accepted: mostly that writing and reading them again gives the same.

use std::ops::Range;
use weir_model::ClusterId;
use weir_runtime::decaton::{TaskMetadata, TaskRequest};
use weir_runtime::{offset_map, parallel_consumer};
use weir_wire::WireError;
use weir_wire::change::{self, Event};
use weir_wire::cursor::Cursor;
use weir_wire::hbase::bulk_load;
use weir_wire::hbase::call::{
    ConnectionHeader, encode_answer_exception, encode_answer_ok, encode_call, parse_answer, parse_call,
};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec, Compressor, decompress, read_cell, write_cell};
use weir_wire::hbase::client::{
    Block, MetaRow, Row, meta_location, moved_to, parse_get, parse_meta_row, parse_multi, parse_mutate,
    parse_scan,
};
use weir_wire::hbase::markers::{self, Marker};
use weir_wire::hbase::peer_config::{PeerConfig, Wish, fulfil};
use weir_wire::hbase::replication::{Entry, ReplicateRequest};
use weir_wire::hbase::zk::{self, ServerName};
use weir_wire::hbase::{load, master, preamble, schema};
use weir_wire::identity;

/// A target: the name of its corpus folder and its body.
pub type Target = (&'static str, fn(&[u8]));

/// The cluster that records are of.
const SOURCE: ClusterId = ClusterId { most: 3, least: 4 };

/// All targets of `wire`.
pub const TARGETS: [Target; 15] = [
    ("preamble", preamble),
    ("connection_header", connection_header),
    ("call", call),
    ("answer", answer),
    ("cells", cells),
    ("cells_with_tags", cells_with_tags),
    ("zlib", zlib),
    ("snappy", snappy),
    ("replicate", replicate),
    ("marker", marker),
    ("znode", znode),
    ("change", change),
    ("identity", identity),
    ("master_answer", master_answer),
    ("client_answer", client_answer),
];

/// All targets of `runtime`.
pub const RUNTIME_TARGETS: [Target; 3] =
    [("offset_map", offset_map), ("parallel_consumer", parallel_consumer), ("dt_meta", dt_meta)];

/// Bytes that a compressed block may make here.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// Replays every file of a target's corpus below this folder; how many.
///
/// # Panics
/// When a folder cannot be read or is empty, or a body panics: the file's name is printed before.
pub fn replay(corpus: &std::path::Path, (name, body): Target) -> usize {
    let folder = corpus.join(name);
    let read = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for file in read {
        let path = file.expect("a folder that can be listed").path();
        let bytes = std::fs::read(&path).expect("a corpus file can be read");
        println!("{}", path.display());
        body(&bytes);
        count += 1;
    }
    assert!(count > 0, "{} is empty", folder.display());
    count
}

/// What is read settles: written and read again it is the same. `rewrite` reads and writes; `None` when refused.
///
/// # Panics
/// When it is not.
pub fn settles(bytes: &[u8], rewrite: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    if let Some(once) = rewrite(bytes) {
        assert_eq!(rewrite(&once).as_ref(), Some(&once), "what was written reads as something else");
    }
}

/// First six bytes of a connection.
pub fn preamble(bytes: &[u8]) {
    if let Some(first) = bytes.first_chunk() {
        let _ = preamble::parse(*first);
    }
}

/// `ConnectionHeader`.
pub fn connection_header(bytes: &[u8]) {
    let Ok(header) = ConnectionHeader::parse(bytes) else { return };
    let mut frame = Vec::new();
    header.encode(&mut frame);
    // Our own header never says a version.
    let expect = ConnectionHeader { version: None, ..header };
    assert_eq!(ConnectionHeader::parse(&frame[4..]), Ok(expect));
}

/// A call without the length of its frame.
pub fn call(bytes: &[u8]) {
    let Ok(call) = parse_call(bytes) else { return };
    let mut frame = Vec::new();
    let header = call.header;
    encode_call(&mut frame, header.call_id, header.method, header.timeout_ms, call.param, call.cell_block);
    let again = parse_call(&frame[4..]).expect("our own call parses");
    assert_eq!((again.header.call_id, again.header.method), (header.call_id, header.method));
    assert_eq!(again.header.timeout_ms, header.timeout_ms);
    assert_eq!((again.param, again.cell_block), (call.param, call.cell_block));
}

/// An answer without the length of its frame.
pub fn answer(bytes: &[u8]) {
    let Ok(answer) = parse_answer(bytes) else { return };
    let mut frame = Vec::new();
    match &answer.result {
        Ok((message, _)) => encode_answer_ok(&mut frame, answer.call_id, message),
        Err(exception) => encode_answer_exception(&mut frame, answer.call_id, exception),
    }
    let again = parse_answer(&frame[4..]).expect("our own answer parses");
    assert_eq!(again.call_id, answer.call_id);
    assert_eq!(again.result.map(|(message, _)| message), answer.result.map(|(message, _)| message));
}

/// A cell block of `KeyValueCodec`, or of `CellCodec`.
pub fn cells(bytes: &[u8]) {
    cell_block(bytes, Codec::KeyValue);
    cell_block(bytes, Codec::Cell);
}

/// A cell block of `KeyValueCodecWithTags`, or of `CellCodecWithTags`.
pub fn cells_with_tags(bytes: &[u8]) {
    cell_block(bytes, Codec::KeyValueWithTags);
    cell_block(bytes, Codec::CellWithTags);
}

fn cell_block(bytes: &[u8], codec: Codec) {
    let mut cursor = Cursor::new(bytes);
    while !cursor.is_empty() {
        let Ok(cell) = read_cell(&mut cursor, codec) else { return };
        let mut out = Vec::new();
        write_cell(&mut out, &cell, codec);
        assert_eq!(read_cell(&mut Cursor::new(&out), codec), Ok(cell));
    }
}

/// A block of `DefaultCodec`, or of `GzipCodec`.
pub fn zlib(bytes: &[u8]) {
    unpack(bytes, Compressor::Zlib);
    unpack(bytes, Compressor::Gzip);
}

/// A block of `SnappyCodec`.
pub fn snappy(bytes: &[u8]) {
    unpack(bytes, Compressor::Snappy);
}

fn unpack(bytes: &[u8], compressor: Compressor) {
    let full = decompress(Some(compressor), bytes, BLOCK_BYTES_MAX);
    let Ok(plain) = full else { return };
    assert!(plain.len() <= BLOCK_BYTES_MAX);
    if let Some(less) = plain.len().checked_sub(1).filter(|_| !bytes.is_empty()) {
        let refused = decompress(Some(compressor), bytes, less);
        assert!(matches!(refused, Err(WireError::TooLong { .. })), "{refused:?} with one byte less");
    }
}

/// A whole replication call, as the server takes it; the first byte chooses codec and compressor. Whatever is accepted
/// must come out of the log as it came in.
pub fn replicate(bytes: &[u8]) {
    let Some((choice, frame)) = bytes.split_first() else { return };
    let codec = match (choice & 1, choice & 8) {
        (0, 0) => Codec::KeyValueWithTags,
        (_, 0) => Codec::KeyValue,
        (0, _) => Codec::CellWithTags,
        (..) => Codec::Cell,
    };
    let compressor = [None, Some(Compressor::Zlib), Some(Compressor::Snappy), Some(Compressor::Gzip)]
        [usize::from(choice >> 1) & 3];
    let Ok(call) = parse_call(frame) else { return };
    let Ok(block) = decompress(compressor, call.cell_block, BLOCK_BYTES_MAX) else { return };
    let Ok(request) = ReplicateRequest::parse(call.param, &block, codec) else { return };
    let mut cell_count = 0;
    // One for all, as in production: what it keeps from the entry before must not leak into the next.
    let mut encoder = change::Encoder::new(SOURCE);
    for entry in request.entries() {
        cell_count += entry.cells.len() as u64;
        logged(&mut encoder, &entry);
        for cell in entry.cells.filter(markers::is_marker) {
            event(&entry, &cell, &request);
        }
    }
    assert_eq!(cell_count, request.cell_count);
}

/// An entry through the log.
fn logged<'k>(encoder: &mut change::Encoder<'k>, entry: &Entry<'k>) {
    let source = SOURCE;
    let cells: Vec<Cell<'_>> = entry.cells.collect();
    assert_eq!(cells.len(), entry.cells.len(), "checked cells end too early");
    let mut record = Vec::new();
    encoder.change(&mut record, &entry.key, None, entry.cells);
    let Ok(table) = std::str::from_utf8(entry.key.table) else {
        // Routing refuses such a table.
        return;
    };
    let back = change::decode(&record).expect("what was accepted comes out of the log");
    let key = entry.key;
    assert_eq!((back.table, back.encoded_region.as_bytes()), (table, key.encoded_region));
    assert_eq!((back.sequence, back.write_time_ms), (key.sequence, key.write_time_ms));
    assert_eq!(
        (back.nonce_group, back.nonce, back.orig_sequence),
        (key.nonce_group, key.nonce, key.orig_sequence)
    );
    assert_eq!(back.cluster_ids, key.cluster_ids().collect::<Vec<_>>());
    assert_eq!(back.scopes, key.scopes().collect::<Vec<_>>());
    assert_eq!(back.attributes, key.attributes().collect::<Vec<_>>());
    assert_eq!((back.source, back.cells), (source, cells));
    let mut header = Vec::new();
    identity::encode(&mut header, &source.to_string(), key.encoded_region, key.sequence, key.write_time_ms);
    let said = identity::parse(&header).expect("the header of what was accepted is read");
    assert_eq!((said.encoded_region, said.sequence), (back.encoded_region, back.sequence));
}

/// A marker through the log.
fn event(entry: &Entry<'_>, cell: &Cell<'_>, request: &ReplicateRequest<'_>) {
    let mut encoder = change::Encoder::new(SOURCE);
    let mut record = Vec::new();
    match markers::parse(cell) {
        Ok(Marker::BulkLoad(descriptor)) => {
            let (base, archive) = (request.base_namespace_dir, request.hfile_archive_dir);
            encoder.bulk_load(&mut record, &entry.key, descriptor, base, archive);
        }
        Ok(Marker::Replication { .. } | Marker::Internal | Marker::Unknown) | Err(_) => return,
    }
    if std::str::from_utf8(entry.key.table).is_ok() {
        let back = change::decode(&record).expect("an event that was accepted comes out of the log");
        let Some(Event::BulkLoad { sequence, .. }) = back.event else { panic!("{back:?} is no bulk load") };
        assert_eq!((back.sequence, sequence), (0, entry.key.sequence));
    }
}

/// Value of a marker cell; the first byte chooses the qualifier.
pub fn marker(bytes: &[u8]) {
    const QUALIFIERS: [&[u8]; 3] = [b"HBASE::BULK_LOAD", b"HBASE::REPLICATION_MARKER", b"HBASE::FLUSH"];
    let Some((choice, value)) = bytes.split_first() else { return };
    let cell = Cell {
        row: b"r",
        family: markers::FAMILY,
        qualifier: QUALIFIERS[usize::from(*choice) % QUALIFIERS.len()],
        timestamp: 1,
        kind: CellKind::PUT,
        value,
        tags: &[],
    };
    let _ = markers::parse(&cell);
    let Ok(stores) = bulk_load::stores(value) else { return };
    let all = bulk_load::filter(value, |_| true).expect("what was read is read again");
    assert_eq!((all.descriptor.as_slice(), all.kept), (value, stores.len() as u64));
    let none = bulk_load::filter(value, |_| false).expect("as above");
    assert_eq!((none.kept, none.left_out), (0, all.kept));
    assert_eq!(bulk_load::stores(&none.descriptor), Ok(Vec::new()));
}

/// Values of znodes.
pub fn znode(bytes: &[u8]) {
    let _ = zk::is_peer_enabled(bytes);
    if let Ok(message) = zk::message(bytes) {
        peer_config_message(message);
    }
    if let Ok(id) = zk::cluster_id(bytes) {
        assert_eq!(zk::cluster_id(&zk::encode_cluster_id(id)), Ok(id));
    }
    if let Ok(name) = zk::master(bytes) {
        assert_eq!(zk::master(&zk::encode_master(&name)), Ok(name));
    }
    if let Some(name) = std::str::from_utf8(bytes).ok().and_then(ServerName::parse) {
        assert_eq!(ServerName::parse(&name.to_string()), Some(name));
    }
}

/// A change record.
pub fn change(bytes: &[u8]) {
    let Ok(change) = change::decode(bytes) else { return };
    if let Some(Event::BulkLoad { descriptor, .. }) = change.event {
        assert!(descriptor.len() <= bytes.len());
    }
    if let Some(part) = change.row_part {
        assert!(part.count > 0);
    }
}

/// The header `weir`.
pub fn identity(bytes: &[u8]) {
    settles(bytes, |bytes| {
        let said = identity::parse(bytes).ok()?;
        let mut out = Vec::new();
        let source = said.source.to_string();
        identity::encode(
            &mut out,
            &source,
            said.encoded_region.as_bytes(),
            said.sequence,
            said.write_time_ms,
        );
        Some(out)
    });
    settles(bytes, |bytes| {
        let said = identity::parse_event(bytes).ok()?;
        assert!(identity::parse(bytes).is_err(), "an event was taken for a change");
        let mut out = Vec::new();
        identity::encode_event(&mut out, &said);
        Some(out)
    });
}

/// Answers of a master.
pub fn master_answer(bytes: &[u8]) {
    let _ = (master::first_number(bytes), master::procedure_failure(bytes), load::parse(bytes));
    peer_config_message(bytes);
    if let Ok(schemas) = schema::parse_answer(bytes) {
        for one in schemas {
            let names: Vec<&[u8]> = one.families.iter().map(|family| family.name.as_slice()).collect();
            let changed = one.with_scope(&names).expect("what was read can be changed");
            assert!(changed.families.iter().all(|family| family.scope == 1), "a scope was not set");
        }
    }
}

/// Answers of a region server to a client: the method, an `int16` length of the message, the message, the cell block.
pub fn client_answer(bytes: &[u8]) {
    let Some(([method, high, low], rest)) = bytes.split_first_chunk() else { return };
    let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
    let (message, block) = rest.split_at(len);
    let block = || block.to_vec().into();
    match method % 6 {
        0 => parse_get(message, block()).iter().for_each(whole_row),
        1 => parse_mutate(message, block()).iter().for_each(|(row, _)| whole_row(row)),
        2 => {
            let Ok(answer) = parse_multi(message, block()) else { return };
            let outcomes = answer.regions.iter().flatten().flatten();
            outcomes.filter_map(|(_, outcome)| outcome.as_ref().ok()).for_each(whole_row);
        }
        3 => {
            let Ok(answer) = parse_scan(message, &mut Block::new(block())) else { return };
            answer.rows.iter().for_each(whole_row);
        }
        4 => {
            if let Ok(Some(found)) = MetaRow::parse_answer(message, block()) {
                let region = &found.region;
                assert!(
                    region.end.is_empty() || !region.holds(&region.end),
                    "a region's end is outside of it"
                );
            }
        }
        _ => {
            let _ = (meta_location(message), std::str::from_utf8(message).ok().and_then(moved_to));
        }
    }
}

/// A row that was read: as many cells as it says, all of one key, and its parts make the same.
fn whole_row(row: &Row) {
    assert_eq!(row.cells().count(), row.len());
    assert!(row.cells().all(|cell| cell.row == row.key()));
    let _ = parse_meta_row(row);
    let joined = Row::join(&[row.clone(), row.clone()]);
    assert_eq!((joined.len(), joined.byte_len()), (2 * row.len(), 2 * row.byte_len()));
    let mut left = row.len() / 2;
    let rest = row.clone().without_first(|_| {
        let is_known = left > 0;
        left = left.saturating_sub(1);
        is_known
    });
    assert_eq!(rest.cells().count(), row.len() - row.len() / 2);
}

/// A peer's configuration: what it is made to be, it is then.
fn peer_config_message(message: &[u8]) {
    if PeerConfig::parse(message).is_err() {
        return;
    }
    let wish = Wish { settings: vec![("a".to_owned(), "b".to_owned())], ..Wish::default() };
    let Ok(changed) = fulfil(message, &wish) else { return };
    let read = PeerConfig::parse(&changed).expect("what we write is read");
    assert_eq!(read.setting("a"), Some("b"));
    assert_eq!(fulfil(&changed, &wish), Ok(changed), "what is so already stays byte for byte");
}

/// A commit's metadata: eight bytes of the committed offset, then the text, ours or Parallel Consumer's.
pub fn offset_map(bytes: &[u8]) {
    let Some((base, text)) = bytes.split_first_chunk() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let base = i64::from_be_bytes(*base) & i64::MAX;
    if let Ok(done) = offset_map::decode(base, text) {
        rewritten(base, &done);
    }
    if let Ok(done) = offset_map::decode_either(base, text) {
        rewritten(base, &done);
    }
}

/// Metadata of Parallel Consumer without its base64: eight bytes of the committed offset, the letter, the body.
pub fn parallel_consumer(bytes: &[u8]) {
    let Some((base, bytes)) = bytes.split_first_chunk() else { return };
    let base = i64::from_be_bytes(*base) & i64::MAX;
    let Ok(done) = parallel_consumer::decode_bytes(base, bytes) else { return };
    assert!(done.len() <= parallel_consumer::RANGES_MAX);
    assert!(done.windows(2).all(|pair| pair[0].end < pair[1].start), "ranges touch or are out of order");
    rewritten(base, &done);
}

/// What a successor reads of our own commit is a beginning of what was known.
fn rewritten(base: i64, done: &[Range<i64>]) {
    let mut at = base;
    for range in done {
        assert!(range.start >= at && range.end >= range.start, "{range:?} after {at}");
        at = range.end;
    }
    let text = offset_map::encode(base, done, offset_map::TEXT_BYTES_MAX);
    assert!(text.len() <= offset_map::TEXT_BYTES_MAX);
    let again = offset_map::decode(base, &text).expect("our own metadata is read");
    let has = |offset: i64| done.iter().any(|range| range.contains(&offset));
    for range in again.iter().filter(|range| !range.is_empty()).take(64) {
        assert!(has(range.start) && has(range.end - 1), "{range:?} was not done");
    }
}

/// A task of Decaton: the header `dt_meta`, and the value of a record up to 8.x.
pub fn dt_meta(bytes: &[u8]) {
    settles(bytes, |bytes| Some(TaskMetadata::decode(bytes).ok()?.encode()));
    settles(bytes, |bytes| Some(TaskRequest::decode(&bytes.to_vec().into()).ok()?.encode()));
}
