//! Assembly of one capture: replication server -> routing -> log, with its counters and its ZooKeeper side.

use crate::config;
use crate::failures::{Failure, Failures};
use crate::meter::{EventLabel, Meter, Reason, ReasonLabel, ServerLabel, TableLabel};
use crate::timeline::{now_ms, tally};
use crate::topic_creator::TopicCreator;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use weir_apps::capture::{Capture, KeyRule, NamePattern, Refusal, Report, SKIP_REASONS, Settings};
use weir_hbase::registration::{self, Registered, Registration};
use weir_hbase::replication::{
    Answer, Handler, Promise, RETRY_CLASS, ReplicateCall, Server, ServerConfig, Stats,
};
use weir_hbase::zookeeper;
use weir_model::{ClusterId, Fault, FaultKind, TableName, TopicName, TopicNaming};
use weir_runtime::budget::Budget;
use weir_runtime::log::{LogWriter, RecordBatch};
use weir_wire::hbase::call::RemoteException;
use weir_wire::hbase::zk::ServerName;

/// Time that a shut-down may take, all in all.
pub const DRAIN_WAIT: Duration = Duration::from_secs(8);

/// Bytes of a record that are not in its entry's frame: the header `weir`, the source's id.
const RECORD_EXTRA_BYTES: usize = 128;

/// A picture of what one table has brought to the log, for the console.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableBoard {
    /// Its topic.
    pub topic: String,
    /// Entries in the log.
    pub entries: u64,
    /// Cells in them.
    pub cells: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Newest write time, ms since 1970; at most the time when it came.
    pub last_write_ms: u64,
}

/// What a capture has done so far, beside the server's own counters.
#[derive(Debug, Default)]
pub struct Board {
    tables: Mutex<BTreeMap<String, TableBoard>>,
    faults: Mutex<BTreeMap<&'static str, FaultBoard>>,
    failures: Failures,
}

/// A picture of one kind of fault.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FaultBoard {
    /// How many calls it has failed.
    pub count: u64,
    /// When the last one was, ms since 1970.
    pub last_ms: u64,
    /// What the last one said.
    pub text: String,
}

impl Board {
    /// Tables by name.
    #[must_use]
    pub fn tables(&self) -> BTreeMap<String, TableBoard> {
        self.tables.lock().expect("no panic under this lock").clone()
    }

    /// What fails now.
    #[must_use]
    pub fn failing(&self, now_ms: u64) -> Vec<Failure> {
        self.failures.present(now_ms)
    }

    /// Faults by code.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<&'static str, FaultBoard> {
        self.faults.lock().expect("no panic under this lock").clone()
    }
}

/// The meeting of server, routing and log.
struct Path {
    source: ClusterId,
    capture: Capture,
    log: Arc<dyn LogWriter>,
    creator: Option<Arc<TopicCreator>>,
    counts: Arc<Counts>,
}

/// Where a capture counts what it has done.
struct Counts {
    name: String,
    meter: Meter,
    board: Arc<Board>,
}

impl Counts {
    /// Counts what a call brought, once all of it is durable: a call that comes again is counted once.
    fn count(&self, report: &Report) {
        let now_ms = now_ms();
        let mut tables = self.board.tables.lock().expect("no panic under this lock");
        for table in &report.tables {
            let label = TableLabel { capture: self.name.clone(), table: table.table.to_string() };
            self.meter.entries.get_or_create(&label).inc_by(table.entries);
            self.meter.cells.get_or_create(&label).inc_by(table.cells);
            self.meter.bytes.get_or_create(&label).inc_by(table.bytes);
            if table.bulk_loads > 0 {
                let label = EventLabel {
                    capture: self.name.clone(),
                    table: table.table.to_string(),
                    event: Reason(weir_wire::identity::BULK_LOAD),
                };
                self.meter.events.get_or_create(&label).inc_by(table.bulk_loads);
            }
            let board = tables.entry(label.table.clone()).or_default();
            table.topic.as_str().clone_into(&mut board.topic);
            board.entries += table.entries;
            board.cells += table.cells;
            board.bytes += table.bytes;
            // It never falls: calls of several region servers come in any order. A source's clock that is ahead must
            // not hide that nothing comes any more.
            board.last_write_ms = board.last_write_ms.max(table.last_write_ms.min(now_ms));
            self.meter.last_write_ms.get_or_create(&label).set(as_gauge(board.last_write_ms));
        }
        drop(tables);
        for heartbeat in &report.heartbeats {
            let label = ServerLabel {
                capture: self.name.clone(),
                server: without_start_code(&heartbeat.server).to_owned(),
            };
            let gauge = self.meter.heartbeat_ms.get_or_create(&label);
            gauge.set(gauge.get().max(as_gauge(heartbeat.write_time_ms.min(now_ms))));
        }
        for (reason, label) in SKIP_REASONS {
            let count = report.skipped(reason);
            if count > 0 {
                let label = ReasonLabel { capture: self.name.clone(), reason: Reason(label) };
                self.meter.skipped.get_or_create(&label).inc_by(count);
            }
        }
    }

    /// Counts the fault of a call with these tables and logs it when it is news: the first about its subject, and each
    /// thousandth of its code.
    fn fail(&self, fault: &Fault, tables: &[TableName]) -> Answer {
        let is_new = self.board.failures.note(fault, tables.iter().map(ToString::to_string), now_ms());
        let label = ReasonLabel { capture: self.name.clone(), reason: Reason(fault.kind().label()) };
        self.meter.failed.get_or_create(&label).inc();
        let mut faults = self.board.faults.lock().expect("no panic under this lock");
        let seen = faults.entry(fault.code()).or_default();
        seen.count += 1;
        seen.last_ms = now_ms();
        seen.text = fault.chain();
        if is_new || seen.count % 1000 == 1 {
            tracing::error!(capture = %self.name, code = fault.code(), count = seen.count, error = %seen.text, "calls fail and will come again");
        }
        Answer::Again(RemoteException::retriable(RETRY_CLASS, fault.chain()))
    }
}

fn as_gauge(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

/// `host,port` of a region server's name: with the start code each restart would be a server more.
fn without_start_code(server: &str) -> &str {
    server.rsplit_once(',').map_or(server, |(place, _)| place)
}

/// What a refused routing means, and the table that it is about.
fn refusal(error: &Refusal) -> (Fault, Option<TableName>) {
    let (kind, code, table) = match error {
        Refusal::Topic { table, .. } => (FaultKind::Config, "W-CAPTURE-TOPIC-NAME", Some(table)),
        Refusal::Table(_) => (FaultKind::Config, "W-CAPTURE-TOPIC-NAME", None),
        Refusal::Marker { table, .. } => (FaultKind::Corrupt, "W-CAPTURE-CORRUPT", Some(table)),
        Refusal::TooLarge => (FaultKind::Rejected, "W-KAFKA-REJECTED", None),
    };
    let about = table.map(ToString::to_string).unwrap_or_default();
    (Fault::new(kind, code, "route a call", about).caused_by(error.clone()), table.cloned())
}

impl Handler for Path {
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise {
        let mut batch = RecordBatch::default();
        // Room for what a record has and its entry has not; a guess too low costs a copy of all.
        batch.arena.reserve(call.frame_bytes + call.request.entry_count() * RECORD_EXTRA_BYTES);
        batch.records.reserve(call.request.entry_count());
        batch.headers.reserve(call.request.entry_count());
        let report = match self.capture.route(self.source, call.request, &mut batch) {
            Ok(report) => report,
            Err(error) => {
                let (fault, table) = refusal(&error);
                let answer = self.counts.fail(&fault, table.as_slice());
                return Box::pin(std::future::ready(answer));
            }
        };
        let write_times = tally(call.request.entries().map(|entry| entry.key.write_time_ms));
        if batch.records.is_empty() {
            self.counts.count(&report);
            self.counts.meter.write_times.add(&write_times, now_ms());
            return Box::pin(std::future::ready(Answer::Done));
        }
        call.weight.set(batch.in_flight_bytes());
        let durable = self.log.append(batch);
        let (counts, creator) = (Arc::clone(&self.counts), self.creator.clone());
        Box::pin(async move {
            let Err(fault) = durable.await else {
                let board = &counts.board;
                board.failures.succeeded(report.tables.iter().map(|table| table.table.as_str()));
                counts.count(&report);
                counts.meter.write_times.add(&write_times, now_ms());
                return Answer::Done;
            };
            let mut fault = fault;
            if let Some(creator) = creator.filter(|_| fault.code() == "W-KAFKA-TOPIC") {
                let names: Vec<TopicName> = report.tables.iter().map(|table| table.topic.clone()).collect();
                match creator.create(&names).await {
                    Ok(true) => {
                        // What was asked for with `log.topics.create` is no fault; the source sends the call again.
                        let text = "a topic of the call was created just now; send it again";
                        return Answer::Again(RemoteException::retriable(RETRY_CLASS, text));
                    }
                    Ok(false) => {}
                    // Why a topic cannot be created says more than that it is missing.
                    Err(refused) => fault = refused,
                }
            }
            let tables: Vec<TableName> = report.tables.into_iter().map(|table| table.table).collect();
            counts.fail(&fault, &tables)
        })
    }
}

/// A running capture.
pub struct Running {
    /// Name of its section.
    pub name: String,
    /// The picture of its tables and faults.
    pub board: Arc<Board>,
    /// Counters of its server.
    pub stats: Arc<Stats>,
    /// Where it listens.
    pub address: SocketAddr,
    meter: Meter,
    server: Server,
    pub(crate) registered: Option<Registered>,
}

impl Running {
    /// Whether sources can find it: `None` when it is, else why not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let state = self.registered.as_ref()?.state();
        (!state.is_registered).then(|| {
            let error = state.error.unwrap_or_else(|| "no session yet".to_owned());
            format!("capture.{}: not registered in ZooKeeper: {error}", self.name)
        })
    }

    /// Code of the fault behind [`Running::trouble`].
    #[must_use]
    pub fn trouble_code(&self) -> Option<&'static str> {
        self.registered.as_ref()?.state().code
    }

    /// Entries and cells that were not sent, by reason.
    #[must_use]
    pub fn skipped(&self) -> BTreeMap<&'static str, u64> {
        let count = |reason| {
            let label = ReasonLabel { capture: self.name.clone(), reason: Reason(reason) };
            self.meter.skipped.get(&label).map_or(0, |counter| counter.get())
        };
        SKIP_REASONS.into_iter().map(|(_, reason)| (reason, count(reason))).collect()
    }

    /// Serves one connection that came another way than by a listener.
    pub fn serve<R, W>(&self, reader: R, writer: W, address: SocketAddr)
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        self.server.serve(reader, writer, address);
    }

    /// Deregisters, refuses new calls, lets open ones finish, and ends.
    pub async fn end(self) {
        if let Some(registered) = self.registered {
            registered.withdraw().await;
        }
        let open = self.server.drain(DRAIN_WAIT - Duration::from_secs(3)).await;
        if open > 0 {
            tracing::warn!(capture = %self.name, open, "calls were answered unfinished; their source sends them again");
        }
    }
}

/// The parts of a capture that do not come from ZooKeeper.
pub struct Parts {
    /// Name of its section.
    pub name: String,
    /// Id of the source cluster.
    pub source: ClusterId,
    /// Id of the fake peer cluster.
    pub peer_id: ClusterId,
    /// What is captured.
    pub settings: Settings,
    /// Largest frame.
    pub frame_bytes_max: usize,
    /// Margin of answers, percent.
    pub answer_margin_percent: u32,
    /// Creates missing topics.
    pub creator: Option<Arc<TopicCreator>>,
}

/// Routing and log as what a server hands its calls to, and the picture of what came.
pub fn handler(parts: &Parts, log: Arc<dyn LogWriter>, meter: Meter) -> (Arc<dyn Handler>, Arc<Board>) {
    let board = Arc::new(Board::default());
    let counts = Counts { name: parts.name.clone(), meter, board: Arc::clone(&board) };
    let path = Path {
        source: parts.source,
        capture: Capture::new(parts.settings.clone()),
        log,
        creator: parts.creator.clone(),
        counts: Arc::new(counts),
    };
    (Arc::new(path), board)
}

/// Starts the server of a capture on a listener, without ZooKeeper.
///
/// # Errors
/// When the listener has no address.
pub fn start_server(
    parts: Parts,
    listener: TcpListener,
    log: Arc<dyn LogWriter>,
    budget: Budget,
    meter: Meter,
    servers: Vec<ServerName>,
) -> std::io::Result<Running> {
    assemble(parts, log, meter, servers, |config, path| Server::start(listener, config, path, budget))
}

/// A capture without listener and ZooKeeper, for the simulator: connections come by [`Running::serve`] only.
///
/// # Panics
/// Never: nothing in it can fail.
#[must_use]
pub fn start_unbound(
    parts: Parts,
    address: SocketAddr,
    log: Arc<dyn LogWriter>,
    budget: Budget,
    meter: Meter,
    servers: Vec<ServerName>,
) -> Running {
    assemble(parts, log, meter, servers, |config, path| Ok(Server::unbound(address, config, path, budget)))
        .expect("without a listener nothing can fail")
}

fn assemble(
    parts: Parts,
    log: Arc<dyn LogWriter>,
    meter: Meter,
    servers: Vec<ServerName>,
    start: impl FnOnce(ServerConfig, Arc<dyn Handler>) -> std::io::Result<Server>,
) -> std::io::Result<Running> {
    let (handler, board) = handler(&parts, log, meter.clone());
    let config = ServerConfig {
        frame_bytes_max: parts.frame_bytes_max,
        answer_margin_percent: parts.answer_margin_percent,
        servers,
        ..ServerConfig::new(parts.peer_id)
    };
    let server = start(config, handler)?;
    Ok(Running {
        name: parts.name,
        board,
        stats: server.stats(),
        address: server.local_address(),
        meter,
        server,
        registered: None,
    })
}

/// Id of the fake peer cluster: the same for every process of one peer, another for each source and peer.
#[must_use]
pub fn peer_id(source: ClusterId, peer: &str) -> ClusterId {
    // FNV-1a with 128 bits: a name, not a secret.
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for byte in source.to_string().bytes().chain(*b"/weir/").chain(peer.bytes()) {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0100_0000_0000_0000_013b);
    }
    ClusterId::name_based(hash)
}

/// Starts a capture as configured: reads the source's id, listens, registers.
///
/// # Errors
/// When ZooKeeper does not answer at the start, or the address cannot be listened on.
pub async fn start(
    name: &str,
    section: &config::Capture,
    limits: &config::Limits,
    creator: Option<Arc<TopicCreator>>,
    log: Arc<dyn LogWriter>,
    budget: Budget,
    meter: Meter,
) -> Result<Running, Fault> {
    let login = section.login(name)?;
    let client = zookeeper::connect(&section.zookeeper, login.as_ref()).await?;
    let source = registration::read_cluster_id(&client, &section.znode_parent).await?;
    drop(client);
    let unusable = |error: std::io::Error| {
        Fault::new(FaultKind::Config, "W-LISTEN", "listen", section.listen.clone()).caused_by(error)
    };
    let listener = TcpListener::bind(&section.listen).await.map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let host = match &section.advertise {
        Some(host) => host.clone(),
        None => host_name(address),
    };
    let started_ms = now_ms();
    let server = |index: u32| ServerName {
        host: host.clone(),
        port: address.port(),
        start_code: started_ms + u64::from(index),
    };
    let servers: Vec<ServerName> = (0..section.virtual_servers).map(server).collect();
    let parts = Parts {
        name: name.to_owned(),
        source,
        peer_id: peer_id(source, &section.peer),
        settings: settings(section)?,
        frame_bytes_max: limits.frame.as_usize(),
        answer_margin_percent: section.answer_margin_percent,
        creator,
    };
    let cluster_id = parts.peer_id;
    let mut running = start_server(parts, listener, log, budget, meter, servers.clone()).map_err(unusable)?;
    let registration = Registration {
        quorum: section.peer_zookeeper().to_owned(),
        base: section.base_znode(),
        cluster_id,
        servers,
        login,
    };
    running.registered = Some(registration.start().await);
    Ok(running)
}

/// The name that region servers connect to.
pub(crate) fn host_name(address: SocketAddr) -> String {
    if !address.ip().is_unspecified() {
        return address.ip().to_string();
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

/// The settings of the routing, from a section that was validated.
pub(crate) fn settings(section: &config::Capture) -> Result<Settings, Fault> {
    let wrong =
        |text: String| Fault::new(FaultKind::Config, config::load::CODE, "use a capture section", text);
    let table = |name: &str| TableName::new(name).map_err(|error| wrong(error.to_string()));
    let topic = &section.topic;
    let key = match (topic.key, topic.key_length, topic.key_delimiter) {
        (config::Key::Region, ..) => KeyRule::Region,
        (config::Key::Row, ..) => KeyRule::Row,
        (config::Key::RowPrefix, Some(length), _) => KeyRule::RowLength(usize::from(length)),
        (config::Key::RowPrefix, None, delimiter) => {
            KeyRule::RowDelimiter(u8::try_from(delimiter.unwrap_or(':')).unwrap_or(b':'))
        }
    };
    let patterns = |names: &[String]| names.iter().map(|name| NamePattern::new(name)).collect();
    let mut settings = Settings {
        include: patterns(&section.tables.include),
        exclude: patterns(&section.tables.exclude),
        naming: TopicNaming::new(&topic.prefix, &topic.suffix).map_err(|error| wrong(error.to_string()))?,
        key,
        headers: topic.headers,
        families: BTreeMap::new(),
        topics: BTreeMap::new(),
    };
    for (name, families) in &section.families {
        let families = families.iter().map(|family| family.clone().into_bytes()).collect();
        settings.families.insert(table(name)?, families);
    }
    for (name, topic) in &topic.names {
        let topic = TopicName::new(topic).map_err(|error| wrong(error.to_string()))?;
        settings.topics.insert(table(name)?, topic);
    }
    Ok(settings)
}
