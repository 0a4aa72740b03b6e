//! What is written is what is read.

use proptest::collection::vec;
use proptest::prelude::*;
use weir_model::ClusterId;
use weir_wire::change::{self, Encoder, RowPart};
use weir_wire::cursor::{Cursor, put_bytes_field, put_varint, put_varint_field, varint_len};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec, Compressor, decompress};
use weir_wire::hbase::replication::{NewKey, ReplicateRequest, RequestBuilder};

#[derive(Clone, Debug)]
struct OwnedCell {
    row: Vec<u8>,
    family: Vec<u8>,
    qualifier: Vec<u8>,
    timestamp: u64,
    kind: u8,
    value: Vec<u8>,
    tags: Vec<u8>,
}

impl OwnedCell {
    fn view(&self) -> Cell<'_> {
        Cell {
            row: &self.row,
            family: &self.family,
            qualifier: &self.qualifier,
            timestamp: self.timestamp,
            kind: CellKind(self.kind),
            value: &self.value,
            tags: &self.tags,
        }
    }
}

prop_compose! {
    fn any_cell()(
        row in vec(any::<u8>(), 1..40),
        family in vec(any::<u8>(), 0..10),
        qualifier in vec(any::<u8>(), 0..30),
        timestamp in any::<u64>(),
        kind in prop::sample::select(vec![4u8, 8, 10, 12, 14, 99]),
        value in vec(any::<u8>(), 0..200),
        tags in vec(any::<u8>(), 0..20),
    ) -> OwnedCell {
        OwnedCell { row, family, qualifier, timestamp, kind, value, tags }
    }
}

/// An entry without cells whose key has one of a few regions, tables and tails, in HBase's order of fields or not.
fn entry_message((region, table, tail, sequence, is_in_order): (usize, usize, usize, u64, bool)) -> Vec<u8> {
    let mut fields: Vec<Vec<u8>> = Vec::new();
    let mut bytes_field = |number, bytes: &[u8]| {
        let mut field = Vec::new();
        put_bytes_field(&mut field, number, bytes);
        fields.push(field);
    };
    bytes_field(1, [&b"r1"[..], b"r22", b"r3"][region]);
    bytes_field(2, [&b"t"[..], b"ns:t", b"t3"][table]);
    let mut field = Vec::new();
    put_varint_field(&mut field, 3, sequence);
    put_varint_field(&mut field, 4, sequence / 2);
    fields.push(field);
    let mut field = Vec::new();
    match tail {
        0 => {}
        1 => put_bytes_field(&mut field, 6, &[10, 1, b'f', 16, 1]),
        2 => {
            put_bytes_field(&mut field, 6, &[10, 1, b'f', 16, 1]);
            put_bytes_field(&mut field, 8, &[8, 1, 16, 2]);
            put_varint_field(&mut field, 9, 77);
            put_varint_field(&mut field, 10, 78);
        }
        // A field of the first four again: the last one counts.
        _ => {
            put_varint_field(&mut field, 11, 5);
            put_varint_field(&mut field, 3, 4711);
        }
    }
    fields.push(field);
    if !is_in_order {
        fields.rotate_right(1);
    }
    let (mut entry, mut message) = (Vec::new(), Vec::new());
    put_bytes_field(&mut entry, 1, &fields.concat());
    put_bytes_field(&mut message, 1, &entry);
    message
}

proptest! {
    #[test]
    fn entries_survive_the_wire_and_the_log(
        entries in vec((any::<u64>(), any::<u64>(), vec(any_cell(), 0..5)), 0..6),
        id in any::<u128>(),
    ) {
        let source = ClusterId::from_u128(id);
        let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
        for (sequence, time, cells) in &entries {
            let key = NewKey {
                encoded_region: b"0123456789abcdef",
                table: b"ns:t",
                sequence: *sequence,
                write_time_ms: *time,
                cluster_ids: &[ClusterId { most: 1, least: 2 }, source],
                families: &[b"f", b"g"],
            };
            builder.push(&key, cells.iter().map(OwnedCell::view));
        }
        let (param, block) = builder.finish();
        let request = ReplicateRequest::parse(&param, &block, Codec::KeyValueWithTags).unwrap();
        prop_assert_eq!(request.entry_count(), entries.len());
        let mut encoder = Encoder::new(source);
        for (entry, (sequence, time, cells)) in request.entries().zip(&entries) {
            let mut record = Vec::new();
            let part = RowPart { index: 0, count: 3 };
            encoder.change(&mut record, &entry.key, Some(part), entry.cells);
            let back = change::decode(&record).unwrap();
            prop_assert_eq!((back.sequence, back.write_time_ms, back.table), (*sequence, *time, "ns:t"));
            prop_assert_eq!(back.cluster_ids, vec![ClusterId { most: 1, least: 2 }, source]);
            prop_assert_eq!(back.scopes, vec![(&b"f"[..], 1), (&b"g"[..], 1)]);
            prop_assert_eq!((back.source, back.row_part), (source, Some(part)));
            prop_assert_eq!(back.cells, cells.iter().map(OwnedCell::view).collect::<Vec<_>>());
        }
    }

    /// Keys and heads are kept from one entry to the next where they are equal; that must not show.
    #[test]
    fn an_entry_is_read_and_written_the_same_whatever_came_before(
        kinds in vec((0..3usize, 0..3usize, 0..4usize, any::<u64>(), any::<bool>()), 1..12),
    ) {
        let source = ClusterId { most: 5, least: 6 };
        let messages: Vec<Vec<u8>> = kinds.iter().map(|kind| entry_message(*kind)).collect();
        let all = messages.concat();
        let together = ReplicateRequest::parse(&all, &[], Codec::KeyValue).unwrap();
        let mut encoder = Encoder::new(source);
        for (entry, message) in together.entries().zip(&messages) {
            let alone = ReplicateRequest::parse(message, &[], Codec::KeyValue).unwrap();
            let alone = alone.entries().next().unwrap();
            let (mut here, mut there) = (Vec::new(), Vec::new());
            encoder.change(&mut here, &entry.key, None, entry.cells);
            change::encode(&mut there, source, &alone.key, None, alone.cells);
            prop_assert_eq!(entry.key, alone.key);
            prop_assert_eq!(here, there);
        }
    }

    #[test]
    fn varints_are_as_long_as_said(value in any::<u64>()) {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        prop_assert_eq!(out.len(), varint_len(value));
        prop_assert_eq!(Cursor::new(&out).varint("x"), Ok(value));
    }

    #[test]
    fn compressed_blocks_come_out_as_they_went_in(plain in vec(any::<u8>(), 1..5000)) {
        use std::io::Write as _;
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        zlib.write_all(&plain).unwrap();
        let zlib = zlib.finish().unwrap();
        prop_assert_eq!(&*decompress(Some(Compressor::Zlib), &zlib, plain.len()).unwrap(), &plain[..]);
        prop_assert!(decompress(Some(Compressor::Zlib), &zlib, plain.len() - 1).is_err());

        let mut snappy = (plain.len() as u32).to_be_bytes().to_vec();
        for chunk in plain.chunks(1000) {
            let packed = snap::raw::Encoder::new().compress_vec(chunk).unwrap();
            snappy.extend_from_slice(&(packed.len() as u32).to_be_bytes());
            snappy.extend_from_slice(&packed);
        }
        prop_assert_eq!(&*decompress(Some(Compressor::Snappy), &snappy, plain.len()).unwrap(), &plain[..]);
        prop_assert!(decompress(Some(Compressor::Snappy), &snappy, plain.len() - 1).is_err());
    }
}
