//! `cargo x golden`: records what real HBase sends, for the golden bytes of `crates/wire/golden`.
//!
//! For each line: one peer per codec and compressor, each with a sink of its own whose incoming bytes are kept as they
//! came; the ZooKeeper values that we read; a master's answers to the calls that we make, and a region server's.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a command for people, and errors end it")]

mod client;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use weir_hbase::peers;
use weir_hbase::registration::{Registered, Registration, connect};
use weir_hbase::replication::{Answer, Handler, Promise, ReplicateCall, Server, ServerConfig};
use weir_model::ClusterId;
use weir_runtime::budget::Budget;
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::table::TableTool;
use weir_wire::hbase::call::{ConnectionHeader, encode_call, parse_answer};
use weir_wire::hbase::peer_config::{Wish, fulfil};
use weir_wire::hbase::zk::{self, ServerName};
use weir_wire::hbase::{master, preamble};

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Peers with their settings.
const PEERS: [(&str, &[&str]); 4] = [
    ("tags", &[]),
    ("plain", &["hbase.replication.rpc.codec=org.apache.hadoop.hbase.codec.KeyValueCodec"]),
    ("zlib", &["hbase.client.rpc.compressor=org.apache.hadoop.io.compress.DefaultCodec"]),
    ("snappy", &["hbase.client.rpc.compressor=org.apache.hadoop.io.compress.SnappyCodec"]),
];

/// Entries that `golden-write` makes.
const ENTRIES: u64 = 14;

/// Bytes of one connection.
type Kept = Arc<Mutex<Vec<u8>>>;

/// A reader that keeps what went through it.
struct Tap<R> {
    inner: R,
    kept: Kept,
}

impl<R: AsyncRead + Unpin> AsyncRead for Tap<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = out.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(task, out);
        self.kept.lock().unwrap().extend_from_slice(&out.filled()[before..]);
        polled
    }
}

/// Says yes to everything.
struct Yes;

impl Handler for Yes {
    fn replicate(&self, _: ReplicateCall<'_>) -> Promise {
        Box::pin(std::future::ready(Answer::Done))
    }
}

/// One sink: its server, and the bytes of each connection.
struct Sink {
    name: &'static str,
    server: Arc<Server>,
    connections: Arc<Mutex<Vec<Kept>>>,
    _registered: Registered,
}

impl Sink {
    async fn start(name: &'static str, zookeeper: &str, index: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cluster_id = ClusterId { most: 0x676f_6c64_0000 + index, least: 1 };
        let budget = Budget::new(64 << 20);
        let server = Arc::new(Server::unbound(address, ServerConfig::new(cluster_id), Arc::new(Yes), budget));
        let connections: Arc<Mutex<Vec<Kept>>> = Arc::default();
        let registration = Registration {
            quorum: zookeeper.to_owned(),
            base: format!("/golden-{name}"),
            cluster_id,
            servers: vec![ServerName { host: "127.0.0.1".to_owned(), port: address.port(), start_code: 1 }],
            login: None,
        };
        let registered = registration.start().await;
        let (serving, taps) = (Arc::clone(&server), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, from)) = listener.accept().await {
                let (inner, writer) = socket.into_split();
                let kept = Kept::default();
                taps.lock().unwrap().push(Arc::clone(&kept));
                serving.serve(Tap { inner, kept }, writer, from);
            }
        });
        Self { name, server, connections, _registered: registered }
    }

    fn entries(&self) -> u64 {
        self.server.stats().snapshot().entries
    }
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let started = Instant::now();
    while !is_so().await {
        if started.elapsed() > DEADLINE {
            println!("  {what}: not within {DEADLINE:?}");
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

fn keep(folder: &Path, what: &str, line: Line, bytes: &[u8]) {
    let file = folder.join(format!("{what}-hbase-{}.bin", line.version().trim_end_matches("-hadoop3")));
    std::fs::write(&file, bytes).unwrap();
    println!("  {} bytes in {}", bytes.len(), file.display());
}

async fn record(line: Line, folder: &Path) {
    println!("HBase {}", line.version());
    let hbase = HBase::start(line);
    let mut tool = TableTool::start(&hbase);
    tool.run("create g 1");
    let zookeeper = hbase.zookeeper();
    let client = connect(&zookeeper).await.unwrap();
    tool.run("create-plain c");
    for (what, bytes) in client::answers(&zookeeper).await {
        keep(folder, what, line, &bytes);
    }
    let mut sinks = Vec::new();
    for ((name, settings), index) in PEERS.into_iter().zip(0..) {
        sinks.push(Sink::start(name, &zookeeper, index).await);
        let key = hbase.cluster_key(&format!("/golden-{name}"));
        tool.run(&format!("peer-add-with {name} {key} {}", settings.join(" ")));
        let taken_up = async || {
            peers::up_take(&client, "/hbase", name)
                .await
                .is_ok_and(|servers| !servers.is_empty() && servers.iter().all(|server| server.has_queue))
        };
        assert!(until(name, taken_up).await, "the peer {name} is not taken up");
    }
    tool.run("golden-write g");
    for sink in &sinks {
        if until(sink.name, async || sink.entries() >= ENTRIES).await {
            let taps: Vec<Kept> = sink.connections.lock().unwrap().clone();
            let longest = taps.iter().max_by_key(|kept| kept.lock().unwrap().len()).unwrap();
            keep(folder, &format!("source-{}", sink.name), line, &longest.lock().unwrap());
        } else {
            println!("  {} has sent {} entries: not kept", sink.name, sink.entries());
        }
    }
    for (what, path) in [
        ("znode-hbaseid", "/hbase/hbaseid"),
        ("znode-master", "/hbase/master"),
        ("znode-peer", "/hbase/replication/peers/zlib"),
        ("znode-peer-state", "/hbase/replication/peers/zlib/peer-state"),
    ] {
        let (value, _) = client.get_data(path).await.unwrap();
        keep(folder, what, line, &value);
    }
    let (value, _) = client.get_data("/hbase/master").await.unwrap();
    let name = zk::master(&value).unwrap();
    ask_master(&format!("{}:{}", name.host, name.port), line, folder, &hbase.cluster_key("/golden-tags"))
        .await;
}

/// The calls of `weir peer add`, and one that no master knows.
async fn ask_master(address: &str, line: Line, folder: &Path, cluster_key: &str) {
    let mut calls = Master::connect(address).await;
    let wish = Wish {
        cluster_key: cluster_key.to_owned(),
        settings: vec![("a".to_owned(), "b".to_owned())],
        ..Wish::default()
    };
    let peer = master::add_peer("late", &fulfil(&[], &wish).unwrap());
    let answer = calls.ask(master::ADD_PEER, &peer).await;
    keep(folder, "master-add-peer", line, &answer);
    if line != Line::V1_7 {
        let number = |answer: &[u8]| {
            let parsed = parse_answer(answer).unwrap();
            master::first_number(parsed.result.unwrap().0).unwrap()
        };
        let procedure = number(&answer);
        let mut last = Vec::new();
        let is_over = async || {
            last = calls.ask(master::PROCEDURE, &master::procedure(procedure)).await;
            number(&last) == 2
        };
        assert!(until("the procedure", is_over).await);
        keep(folder, "master-procedure", line, &last);
        let again = calls.ask(master::ADD_PEER, &peer).await;
        keep(folder, "master-add-peer-again", line, &again);
    }
    let unknown = calls.ask("NoSuchMethod", &[]).await;
    keep(folder, "master-unknown-method", line, &unknown);
}

/// A raw client of a master: its answers as they come.
struct Master {
    socket: TcpStream,
    call_id: u32,
}

impl Master {
    async fn connect(address: &str) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut hello = preamble::simple().to_vec();
        let header = ConnectionHeader {
            user: Some("root".to_owned()),
            service: "MasterService".to_owned(),
            ..ConnectionHeader::default()
        };
        header.encode(&mut hello);
        socket.write_all(&hello).await.unwrap();
        Self { socket, call_id: 0 }
    }

    /// The frame of the answer, without its length.
    async fn ask(&mut self, method: &str, param: &[u8]) -> Vec<u8> {
        self.call_id += 1;
        let mut frame = Vec::new();
        encode_call(&mut frame, self.call_id, method, None, param, &[]);
        self.socket.write_all(&frame).await.unwrap();
        let mut answer = vec![0; self.socket.read_u32().await.unwrap() as usize];
        self.socket.read_exact(&mut answer).await.unwrap();
        answer
    }
}

fn main() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = crates.join("wire/golden");
    let folder: PathBuf = std::env::args().nth(1).map_or(folder, PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for line in Line::ALL {
        runtime.block_on(record(line, &folder));
    }
}
