//! A simulated source cluster: regions, WALs, replication queues and the sources that ship them.
//!
//! A source does what `ReplicationSourceShipper` and `HBaseInterClusterReplicationEndpoint` do: a batch from its queue
//! is split by region into calls that go out at once to random sinks, only failed calls are sent again after a pause
//! that grows, and the position moves when all are answered OK. When a server dies, another ships the rest of its
//! queue from the last position.

use super::book::{Book, Entry, OwnedCell, Promise};
use super::link::{Answered, Connection, Pipes, Road};
use super::plan::Plan;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use weir_sim_kernel::Rng;
use weir_wire::hbase::call::{ConnectionHeader, encode_call};
use weir_wire::hbase::cell_block::CellKind;
use weir_wire::hbase::markers;
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};
use weir_wire::hbase::service;

/// Calls of one batch at most (`hbase.replication.source.maxthreads`).
const CALLS_MAX: usize = 10;

/// The pause before the next attempt grows up to so many times.
const RETRIES_GROW: u32 = 10;

/// 2026-01-01, where the clocks of the simulated servers start, ms since 1970.
const START_MS: u64 = 1_767_225_600_000;

/// Where sources find sinks.
pub trait Sinks: Send + Sync {
    /// The process behind each virtual region server that is registered now.
    fn list(&self) -> Vec<usize>;

    /// Connects to a process; `None` when nothing listens.
    fn connect(&self, process: usize, server: usize) -> Option<Pipes>;

    /// Hands over what must be cut when the process dies.
    fn opened(&self, process: usize, connection: &Arc<Connection>);
}

/// One replication queue: the WAL of one server's life.
#[derive(Debug)]
struct Queue {
    number: usize,
    entries: Mutex<Vec<Arc<Entry>>>,
    position: AtomicUsize,
    is_closed: std::sync::atomic::AtomicBool,
    news: Notify,
}

impl Queue {
    fn new(number: usize) -> Arc<Self> {
        Arc::new(Self {
            number,
            entries: Mutex::default(),
            position: AtomicUsize::new(0),
            is_closed: false.into(),
            news: Notify::new(),
        })
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Arc<Entry>>> {
        self.entries.lock().expect("no panic under this lock")
    }

    fn left(&self) -> usize {
        self.entries().len() - self.position.load(Ordering::Relaxed)
    }

    /// The next batch; `None` when the queue is closed and empty.
    async fn next(&self, batch_max: usize) -> Option<Vec<Arc<Entry>>> {
        loop {
            let position = self.position.load(Ordering::Relaxed);
            let batch: Vec<_> = self.entries().iter().skip(position).take(batch_max).cloned().collect();
            if !batch.is_empty() {
                return Some(batch);
            }
            if self.is_closed.load(Ordering::Relaxed) {
                return None;
            }
            self.news.notified().await;
        }
    }
}

#[derive(Debug)]
struct Region {
    name: Arc<str>,
    table: &'static str,
    server: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Server {
    queue: Arc<Queue>,
    road: Arc<Road>,
    /// Queues that this server ships, its own and those it recovered.
    sources: Vec<(Arc<Queue>, AbortHandle)>,
    connections: Vec<Arc<Connection>>,
}

#[derive(Debug, Default)]
struct State {
    regions: Vec<Region>,
    servers: Vec<Server>,
    queues: Vec<Arc<Queue>>,
}

/// The cluster.
pub struct Cluster {
    plan: Plan,
    book: Arc<Book>,
    sinks: Arc<dyn Sinks>,
    state: Mutex<State>,
    call_ids: AtomicU32,
    sources: AtomicU32,
    started: Instant,
}

impl Cluster {
    /// Starts all servers.
    #[must_use]
    pub fn start(plan: &Plan, book: Arc<Book>, sinks: Arc<dyn Sinks>) -> Arc<Self> {
        let mut dice = Rng::new(plan.seed, "cluster");
        let cluster = Arc::new(Self {
            plan: plan.clone(),
            book,
            sinks,
            state: Mutex::default(),
            call_ids: AtomicU32::new(0),
            sources: AtomicU32::new(0),
            started: Instant::now(),
        });
        for index in 0..plan.servers {
            let queue = cluster.new_queue();
            let server = Server {
                queue: Arc::clone(&queue),
                road: Arc::default(),
                sources: Vec::new(),
                connections: Vec::new(),
            };
            cluster.state().servers.push(server);
            cluster.ship(queue, index);
        }
        for index in 0..plan.regions {
            let name = format!("{:016x}{:016x}", dice.roll(), dice.roll());
            let region = Region {
                name: name.into(),
                table: if index % 2 == 0 { "t" } else { "ns:u" },
                server: dice.below(plan.servers),
                sequence: 0,
            };
            cluster.state().regions.push(region);
        }
        cluster
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic under this lock")
    }

    fn new_queue(&self) -> Arc<Queue> {
        let mut state = self.state();
        let queue = Queue::new(state.queues.len());
        state.queues.push(Arc::clone(&queue));
        queue
    }

    /// A client writes one entry.
    pub fn put(&self, dice: &mut Rng) {
        let mut state = self.state();
        let index = dice.below(state.regions.len());
        let State { regions, servers, .. } = &mut *state;
        let region = &mut regions[index];
        region.sequence += dice.between(1, 3);
        let queue = &servers[region.server].queue;
        let (cells, table, is_wanted) = content(region.table, &self.plan, dice);
        let now_ms = START_MS + self.started.elapsed().as_millis() as u64;
        let entry = Arc::new(Entry {
            region: Arc::clone(&region.name),
            sequence: region.sequence,
            queue: queue.number,
            table,
            write_time_ms: now_ms,
            cells,
            is_wanted,
        });
        self.book.write(&entry);
        queue.entries().push(entry);
        queue.news.notify_one();
    }

    /// Entries that are not acknowledged yet.
    #[must_use]
    pub fn left(&self) -> usize {
        self.state().queues.iter().map(|queue| queue.left()).sum()
    }

    /// The road of a server's connections, on which faults lie.
    #[must_use]
    pub fn road(&self, server: usize) -> Arc<Road> {
        Arc::clone(&self.state().servers[server].road)
    }

    /// A region moves: later entries go to another WAL, and may overtake those that wait in the old one.
    pub fn relocate(&self, region: usize, server: usize) {
        self.state().regions[region].server = server;
    }

    /// A server dies and comes back empty; its queues wait, then another server ships them.
    pub fn crash(self: &Arc<Self>, server: usize, recovered_after: Duration) {
        let fresh = self.new_queue();
        let (orphans, heir) = {
            let mut state = self.state();
            let count = state.servers.len();
            let heir = (server + 1) % count;
            state.regions.iter_mut().filter(|region| region.server == server).for_each(|region| {
                region.server = heir;
            });
            let dead = &mut state.servers[server];
            dead.connections.drain(..).for_each(|connection| connection.cut());
            let orphans: Vec<Arc<Queue>> = dead
                .sources
                .drain(..)
                .map(|(queue, source)| {
                    source.abort();
                    queue.is_closed.store(true, Ordering::Relaxed);
                    queue
                })
                .filter(|queue| queue.left() > 0)
                .collect();
            dead.queue = Arc::clone(&fresh);
            (orphans, heir)
        };
        self.ship(fresh, server);
        let cluster = Arc::clone(self);
        tokio::spawn(async move {
            sleep(recovered_after).await;
            orphans.into_iter().for_each(|queue| cluster.ship(queue, heir));
        });
    }

    /// Starts the source of a queue on a server.
    fn ship(self: &Arc<Self>, queue: Arc<Queue>, server: usize) {
        let number = self.sources.fetch_add(1, Ordering::Relaxed);
        let dice = Rng::new(self.plan.seed, &format!("source {number}"));
        let source = Source {
            cluster: Arc::clone(self),
            server,
            road: self.road(server),
            dice,
            connections: HashMap::new(),
        };
        let task = tokio::spawn(source.run(Arc::clone(&queue))).abort_handle();
        self.state().servers[server].sources.push((queue, task));
    }
}

/// What a client writes.
fn content(table: &'static str, plan: &Plan, dice: &mut Rng) -> (Vec<OwnedCell>, &'static str, bool) {
    if dice.chance(6) {
        return match dice.below(3) {
            0 => (Vec::new(), table, false),
            1 => (vec![cell(b"HBASE::FLUSH", markers::FAMILY, plan, dice)], table, false),
            _ => (vec![cell(b"q", b"l", plan, dice)], "hbase:acl", false),
        };
    }
    let count = if dice.chance(70) { 1 } else { 1 + dice.below(5) };
    ((0..count).map(|index| cell(&[b'q', index as u8], b"f", plan, dice)).collect(), table, true)
}

fn cell(qualifier: &[u8], family: &'static [u8], plan: &Plan, dice: &mut Rng) -> OwnedCell {
    const KINDS: [CellKind; 5] = [
        CellKind::PUT,
        CellKind::DELETE,
        CellKind::DELETE_FAMILY_VERSION,
        CellKind::DELETE_COLUMN,
        CellKind::DELETE_FAMILY,
    ];
    let kind = if dice.chance(80) { CellKind::PUT } else { KINDS[dice.below(KINDS.len())] };
    let len = if dice.chance(95) { dice.below(200) } else { dice.below(4000) };
    let value = if kind == CellKind::PUT { dice.bytes(len) } else { Vec::new() };
    let has_tags = plan.codec == weir_wire::hbase::cell_block::Codec::KeyValueWithTags && dice.chance(10);
    OwnedCell {
        row: format!("u{}:{}", dice.below(40), dice.below(9)).into_bytes(),
        family,
        qualifier: qualifier.to_vec(),
        timestamp: dice.roll() >> 1,
        kind,
        value,
        tags: if has_tags { vec![0, 9, 8, 0, 0, 0, 0, 0, 0, 0xea, 0x60] } else { Vec::new() },
    }
}

/// The source of one queue.
struct Source {
    cluster: Arc<Cluster>,
    server: usize,
    road: Arc<Road>,
    dice: Rng,
    connections: HashMap<usize, Arc<Connection>>,
}

impl Source {
    async fn run(mut self, queue: Arc<Queue>) {
        while let Some(batch) = queue.next(self.cluster.plan.batch_max).await {
            let count = batch.len();
            self.replicate(batch).await;
            queue.position.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Sends a batch until all of it is acknowledged.
    async fn replicate(&mut self, batch: Vec<Arc<Entry>>) {
        let mut attempts = 0;
        let mut left: Option<Vec<Vec<Arc<Entry>>>> = None;
        loop {
            let sinks = self.cluster.sinks.list();
            if !sinks.is_empty() {
                let calls = left.take().unwrap_or_else(|| self.split(&batch, sinks.len()));
                let failed = self.attempt(calls, &sinks).await;
                if failed.is_empty() {
                    return;
                }
                left = Some(failed);
            }
            attempts = (attempts + 1).min(RETRIES_GROW);
            sleep(Duration::from_millis(self.cluster.plan.retry_ms) * attempts).await;
        }
    }

    /// One region is in one call only.
    fn split(&self, batch: &[Arc<Entry>], sinks: usize) -> Vec<Vec<Arc<Entry>>> {
        let count = CALLS_MAX.min(batch.len() / self.cluster.plan.split_by + 1).min(sinks);
        let mut calls = vec![Vec::new(); count];
        for entry in batch {
            let hash = entry.region.bytes().fold(0usize, |hash, byte| hash * 31 % 65_521 + usize::from(byte));
            calls[hash % count].push(Arc::clone(entry));
        }
        calls.retain(|call| !call.is_empty());
        calls
    }

    /// Sends calls at once, each to a random sink; those that failed.
    async fn attempt(&mut self, calls: Vec<Vec<Arc<Entry>>>, sinks: &[usize]) -> Vec<Vec<Arc<Entry>>> {
        let mut running = JoinSet::new();
        for (index, entries) in calls.into_iter().enumerate() {
            let process = sinks[self.dice.below(sinks.len())];
            let connection = self.connection(process);
            let (cluster, road) = (Arc::clone(&self.cluster), Arc::clone(&self.road));
            running.spawn(async move {
                let is_done = cluster.call(connection, &road, &entries).await;
                (index, (!is_done).then_some(entries))
            });
        }
        let mut failed = Vec::new();
        while let Some(Ok((index, entries))) = running.join_next().await {
            failed.extend(entries.map(|entries| (index, entries)));
        }
        failed.sort_by_key(|(index, _)| *index);
        failed.into_iter().map(|(_, entries)| entries).collect()
    }

    fn connection(&mut self, process: usize) -> Option<Arc<Connection>> {
        if let Some(connection) = self.connections.get(&process).filter(|connection| connection.is_open()) {
            return Some(Arc::clone(connection));
        }
        let pipes = self.cluster.sinks.connect(process, self.server)?;
        let mut hello = preamble::simple().to_vec();
        let header = ConnectionHeader {
            user: Some("hbase".to_owned()),
            service: service::ADMIN.to_owned(),
            codec: Some(self.cluster.plan.codec.class().to_owned()),
            compressor: None,
            version: None,
        };
        header.encode(&mut hello);
        let number = self.dice.roll();
        let connection = Connection::open(pipes, hello, &self.road, Rng::new(number, "packets"));
        self.cluster.sinks.opened(process, &connection);
        self.cluster.state().servers[self.server].connections.push(Arc::clone(&connection));
        self.connections.insert(process, Arc::clone(&connection));
        Some(connection)
    }
}

impl Cluster {
    /// One call; whether it was acknowledged before the source's time-out.
    async fn call(&self, connection: Option<Arc<Connection>>, road: &Road, entries: &[Arc<Entry>]) -> bool {
        let Some(connection) = connection else {
            self.book.fail(false);
            return false;
        };
        let call_id = self.call_ids.fetch_add(1, Ordering::Relaxed);
        let sent = Instant::now();
        let promise = connection.send(call_id, self.frame(call_id, entries));
        let answer: Answered = match timeout(Duration::from_millis(self.plan.call_timeout_ms), promise).await
        {
            Ok(answer) => answer.unwrap_or(Err(None)),
            Err(_) => {
                connection.forget(call_id);
                self.book.fail(true);
                if !self.plan.has_tight_budget() && !road.was_disturbed_since(sent) {
                    let seen = format!("call {call_id} of {} entries has no answer", entries.len());
                    self.book.breach(Promise::AnswerInTime, seen);
                }
                return false;
            }
        };
        match answer {
            Ok(()) => self.book.acknowledge(entries),
            Err(exception) => {
                self.book.fail(false);
                if let Some(exception) = exception.as_ref().filter(|exception| exception.do_not_retry) {
                    self.book.breach(
                        Promise::Progress,
                        format!("call {call_id} is refused for good: {exception:?}"),
                    );
                }
                return false;
            }
        }
        true
    }

    fn frame(&self, call_id: u32, entries: &[Arc<Entry>]) -> Vec<u8> {
        let mut builder = RequestBuilder::new(self.plan.codec);
        for entry in entries {
            let key = NewKey {
                encoded_region: entry.region.as_bytes(),
                table: entry.table.as_bytes(),
                sequence: entry.sequence,
                write_time_ms: entry.write_time_ms,
                cluster_ids: &[self.book.source()],
                families: &[b"f"],
            };
            builder.push(&key, entry.cells.iter().map(OwnedCell::view));
        }
        let (param, block) = builder.finish();
        let mut frame = Vec::with_capacity(param.len() + block.len() + 64);
        let timeout_ms = self.plan.says_timeout.then_some(self.plan.call_timeout_ms as u32);
        encode_call(&mut frame, call_id, METHOD, timeout_ms, &param, &block);
        frame
    }
}
