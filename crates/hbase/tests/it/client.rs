//! A client that says exactly what a test wants, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_model::ClusterId;
use weir_wire::hbase::call::{ConnectionHeader, RemoteException, encode_call, parse_answer};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};

/// How long an answer may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
}

/// Frame of a replication call: one entry with this sequence number, one cell.
pub(crate) fn call(call_id: u32, sequence: u64, timeout_ms: u32) -> Vec<u8> {
    let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
    let key = NewKey {
        encoded_region: b"0123456789abcdef0123456789abcdef",
        table: b"t",
        sequence,
        write_time_ms: 1000,
        cluster_ids: &[ClusterId { most: 1, least: 2 }],
        families: &[b"f"],
    };
    let cell = Cell {
        row: b"r",
        family: b"f",
        qualifier: b"q",
        timestamp: 1,
        kind: CellKind::PUT,
        value: b"v",
        tags: &[],
    };
    builder.push(&key, [cell]);
    let (param, block) = builder.finish();
    let mut frame = Vec::new();
    encode_call(&mut frame, call_id, METHOD, Some(timeout_ms), &param, &block);
    frame
}

impl Client {
    pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        Self { socket }
    }

    /// A source that has said hello.
    pub(crate) async fn source(address: SocketAddr) -> Self {
        Self::of_service(address, "AdminService", Codec::KeyValueWithTags.class(), None).await
    }

    pub(crate) async fn of_service(
        address: SocketAddr,
        service: &str,
        codec: &str,
        compressor: Option<&str>,
    ) -> Self {
        let mut hello = preamble::simple().to_vec();
        let header = ConnectionHeader {
            user: Some("hbase".to_owned()),
            service: service.to_owned(),
            codec: Some(codec.to_owned()),
            compressor: compressor.map(str::to_owned),
            version: None,
        };
        header.encode(&mut hello);
        Self::raw(address, &hello).await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
    }

    /// The next answer: its call id, and the message or the exception. `None` when the server has closed.
    pub(crate) async fn answer(&mut self) -> Option<(u32, Result<Vec<u8>, RemoteException>)> {
        let read = async {
            let len = self.socket.read_u32().await.ok()?;
            let mut frame = vec![0; len as usize];
            self.socket.read_exact(&mut frame).await.ok()?;
            let answer = parse_answer(&frame).unwrap();
            Some((answer.call_id, answer.result.map(|(message, _)| message.to_vec())))
        };
        tokio::time::timeout(DEADLINE, read).await.unwrap()
    }

    /// Expects a fatal frame of this class, then the end.
    pub(crate) async fn expect_fatal(mut self, class: &'static str) {
        let (call_id, result) = self.answer().await.unwrap();
        assert_eq!((call_id, result.unwrap_err().short_class()), (u32::MAX, class));
        assert!(self.answer().await.is_none());
    }
}
