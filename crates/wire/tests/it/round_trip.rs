//! What is written is what is read.

use proptest::collection::vec;
use proptest::prelude::*;
use weir_model::ClusterId;
use weir_wire::change::{self, RowPart};
use weir_wire::cursor::{Cursor, put_varint, varint_len};
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
        for (entry, (sequence, time, cells)) in request.entries().zip(&entries) {
            let mut record = Vec::new();
            let part = RowPart { index: 0, count: 3 };
            change::encode(&mut record, source, &entry.key, Some(part), entry.cells);
            let back = change::decode(&record).unwrap();
            prop_assert_eq!((back.sequence, back.write_time_ms, back.table), (*sequence, *time, "ns:t"));
            prop_assert_eq!(back.cluster_ids, vec![ClusterId { most: 1, least: 2 }, source]);
            prop_assert_eq!(back.scopes, vec![(&b"f"[..], 1), (&b"g"[..], 1)]);
            prop_assert_eq!((back.source, back.row_part), (source, Some(part)));
            prop_assert_eq!(back.cells, cells.iter().map(OwnedCell::view).collect::<Vec<_>>());
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
