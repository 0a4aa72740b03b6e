//! A simulated region server: a source that speaks the real replication RPC over TCP.
//!
//! It does what `HBaseInterClusterReplicationEndpoint` does: a batch is split by region into calls that go out at once,
//! and the next batch waits until all are answered; a call that failed comes again whole.

use crate::timeline::now_ms;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use weir_model::ClusterId;
use weir_sim_kernel::Rng;
use weir_wire::hbase::call::{ConnectionHeader, encode_call, parse_answer};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};

/// Regions of one server.
const REGIONS: usize = 4;

/// How long it waits before it sends a failed batch again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// What all servers count together.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// Cells that were written at the source, acknowledged or not.
    pub(crate) cells: AtomicU64,
    /// Calls that had to come again.
    pub(crate) again: AtomicU64,
}

/// One simulated server.
pub(crate) struct RegionServer {
    index: u64,
    source: ClusterId,
    address: SocketAddr,
    regions: Vec<[u8; 32]>,
    sequences: [u64; REGIONS],
    rng: Rng,
    sent: Arc<Sent>,
    socket: Option<TcpStream>,
    call_id: u32,
}

impl RegionServer {
    /// The server with this number; its regions' names and its rows come from the seed.
    pub(crate) fn new(
        index: u64,
        seed: u64,
        source: ClusterId,
        address: SocketAddr,
        sent: Arc<Sent>,
    ) -> Self {
        let mut rng = Rng::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(index + 1));
        let mut name = || {
            let text = format!("{:016x}{:016x}", rng.roll(), rng.roll());
            <[u8; 32]>::try_from(text.as_bytes()).expect("sixteen and sixteen digits")
        };
        let regions = (0..REGIONS).map(|_| name()).collect();
        Self { index, source, address, regions, sequences: [0; REGIONS], rng, sent, socket: None, call_id: 0 }
    }

    /// Sends so many messages with this event time, and returns when all are acknowledged: after how long. The event
    /// time is the cells' timestamp; the write time is now, as a region server would have it.
    pub(crate) async fn send(&mut self, count: u64, at_ms: u64) -> Duration {
        let frames = self.build(count, at_ms);
        self.sent.cells.fetch_add(count, Ordering::Relaxed);
        let started = Instant::now();
        while self.try_send(&frames).await.is_err() {
            self.socket = None;
            self.sent.again.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        started.elapsed()
    }

    /// One call per region, as frames.
    fn build(&mut self, count: u64, at_ms: u64) -> Vec<Vec<u8>> {
        let mut frames = Vec::with_capacity(REGIONS);
        let write_time_ms = now_ms();
        for region in 0..REGIONS {
            let share = count / REGIONS as u64 + u64::from((region as u64) < count % REGIONS as u64);
            if share == 0 {
                continue;
            }
            let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
            for _ in 0..share {
                self.sequences[region] += 1;
                let user = self.rng.roll() % 5_000_000;
                let row = format!("u{user:08}-{:02}{:012x}", self.index, self.sequences[region]);
                let cell = Cell {
                    row: row.as_bytes(),
                    family: b"op",
                    qualifier: b"SEND_MESSAGE",
                    timestamp: at_ms,
                    kind: CellKind::PUT,
                    value: b"to=u00000042;type=text;length=17;client=app/14.2;lang=ja",
                    tags: &[],
                };
                let key = NewKey {
                    encoded_region: &self.regions[region],
                    table: b"operation",
                    sequence: self.sequences[region],
                    write_time_ms,
                    cluster_ids: &[self.source],
                    families: &[b"op"],
                };
                builder.push(&key, [cell]);
            }
            let (param, block) = builder.finish();
            let mut frame = Vec::with_capacity(param.len() + block.len() + 64);
            self.call_id = self.call_id.wrapping_add(1) & 0x7fff_ffff;
            encode_call(&mut frame, self.call_id, METHOD, Some(60_000), &param, &block);
            frames.push(frame);
        }
        frames
    }

    async fn try_send(&mut self, frames: &[Vec<u8>]) -> std::io::Result<()> {
        if self.socket.is_none() {
            self.socket = Some(connect(self.index, self.address).await?);
        }
        let socket = self.socket.as_mut().expect("connected above");
        let (mut reader, mut writer) = socket.split();
        let write = async {
            for frame in frames {
                writer.write_all(frame).await?;
            }
            Ok::<(), std::io::Error>(())
        };
        let read = async {
            let mut answer = Vec::new();
            for _ in frames {
                let len = reader.read_u32().await?;
                answer.resize(len.min(1 << 20) as usize, 0);
                reader.read_exact(&mut answer).await?;
                let parsed = parse_answer(&answer).map_err(std::io::Error::other)?;
                if let Err(exception) = parsed.result {
                    return Err(std::io::Error::other(exception.text));
                }
            }
            Ok(())
        };
        tokio::try_join!(write, read).map(|_| ())
    }
}

/// Connects from a loopback address of its own where the system has them (Linux), so that each server is seen apart.
async fn connect(index: u64, address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let own = Ipv4Addr::new(127, 0, 1, u8::try_from(index + 1).unwrap_or(1));
    let mut socket = match socket.bind((own, 0).into()) {
        Ok(()) => socket.connect(address).await?,
        Err(_) => TcpStream::connect(address).await?,
    };
    socket.set_nodelay(true)?;
    let mut hello = preamble::simple().to_vec();
    let header = ConnectionHeader {
        user: Some("hbase".to_owned()),
        service: "AdminService".to_owned(),
        codec: Some(Codec::KeyValueWithTags.class().to_owned()),
        compressor: None,
        version: None,
    };
    header.encode(&mut hello);
    socket.write_all(&hello).await?;
    Ok(socket)
}
