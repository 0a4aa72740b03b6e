//! A region server that sends exactly what a test wants, over a real socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use weir_model::ClusterId;
use weir_wire::hbase::call::{ConnectionHeader, RemoteException, encode_call, parse_answer};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};

const CODEC: Codec = Codec::KeyValueWithTags;

/// One WAL entry, as it is filed.
pub(super) struct Entry<'a> {
    pub(super) table: &'a str,
    pub(super) sequence: u64,
    pub(super) write_time_ms: u64,
    pub(super) cells: Vec<Cell<'a>>,
}

/// A put of one cell.
pub(super) fn put(row: &str) -> Cell<'_> {
    Cell {
        row: row.as_bytes(),
        family: b"f",
        qualifier: b"q",
        timestamp: 1,
        kind: CellKind::PUT,
        value: b"v",
        tags: &[],
    }
}

/// A cell of HBase's own.
pub(super) fn own<'a>(qualifier: &'a str, value: &'a [u8]) -> Cell<'a> {
    Cell { family: b"METAFAMILY", qualifier: qualifier.as_bytes(), value, ..put("r") }
}

/// A connection that has said hello.
pub(super) struct RegionServer {
    socket: TcpStream,
    calls: u32,
}

impl RegionServer {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut hello = preamble::simple().to_vec();
        let header = ConnectionHeader {
            user: Some("hbase".to_owned()),
            service: "AdminService".to_owned(),
            codec: Some(CODEC.class().to_owned()),
            compressor: None,
            version: None,
        };
        header.encode(&mut hello);
        socket.write_all(&hello).unwrap();
        Self { socket, calls: 0 }
    }

    /// Sends one call and waits for its answer.
    pub(super) fn replicate(
        &mut self,
        timeout_ms: u32,
        entries: &[Entry<'_>],
    ) -> Result<(), RemoteException> {
        let mut builder = RequestBuilder::new(CODEC);
        for entry in entries {
            let key = NewKey {
                encoded_region: b"0123456789abcdef0123456789abcdef",
                table: entry.table.as_bytes(),
                sequence: entry.sequence,
                write_time_ms: entry.write_time_ms,
                cluster_ids: &[ClusterId { most: 1, least: 2 }],
                families: &[b"f"],
            };
            builder.push(&key, entry.cells.iter().copied());
        }
        let (param, block) = builder.finish();
        let mut frame = Vec::new();
        self.calls += 1;
        encode_call(&mut frame, self.calls, METHOD, Some(timeout_ms), &param, &block);
        self.socket.write_all(&frame).unwrap();
        let mut len = [0; 4];
        self.socket.read_exact(&mut len).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(len) as usize];
        self.socket.read_exact(&mut answer).unwrap();
        let answer = parse_answer(&answer).unwrap();
        assert_eq!(answer.call_id, self.calls);
        answer.result.map(|_| ())
    }

    /// Sends a call again until it is answered OK, as a source does; how often it was sent.
    pub(super) fn replicate_until_done(&mut self, entries: &[Entry<'_>]) -> u32 {
        for attempt in 1..=100 {
            match self.replicate(60_000, entries) {
                Ok(()) => return attempt,
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        panic!("the call is never answered OK");
    }
}
