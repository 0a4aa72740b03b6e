//! One run: world, faults by the clock, and the checks at rest.

use super::book::{Book, Breach, Counts, Promise};
use super::cluster::{Cluster, Sinks};
use super::link::{Connection, Pipes};
use super::log::{Log, Mutant, Producer};
use super::plan::Plan;
use super::script::{Fault, FaultKind};
use super::stranger;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep, sleep_until};
use weir_model::ClusterId;
use weir_runtime::log::LogWriter;
use weir_sim_kernel::Rng;

/// Bytes of a pipe: small enough that a call may fill it.
const PIPE_BYTES: usize = 16 * 1024;

/// A shut-down may take this long, all in all.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// After the last fault everything must have come within this time of the simulated clock.
const DRAINED_WITHIN: Duration = Duration::from_secs(4 * 3600);

/// What is left in a process when nothing happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// Bytes taken from the budget.
    pub budget_bytes: usize,
    /// Calls open.
    pub calls_open: u64,
}

/// The code under test: Weir processes, each of which serves connections and writes to a log.
pub trait Site: Send + Sync {
    /// Starts a process that writes through this.
    fn start(&self, process: usize, log: Arc<dyn LogWriter>);

    /// Drops a process at once.
    fn kill(&self, process: usize);

    /// Ends a process in order; its sinks are no longer registered.
    fn drain(&self, process: usize) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Serves a connection: calls come out of the first pipe, answers go into the second.
    fn serve(&self, process: usize, calls: DuplexStream, answers: DuplexStream, from: SocketAddr);

    /// What is left in it.
    fn rest(&self, process: usize) -> Rest;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Promises that were broken.
    pub breaches: Vec<Breach>,
    /// How much happened.
    pub counts: Counts,
    /// Equal for two runs of the same seed and script.
    pub trace: u64,
    /// How long it took by the simulated clock.
    pub simulated: Duration,
}

/// Runs a plan with these faults.
///
/// # Panics
/// When no runtime can be made.
#[must_use]
pub fn run(plan: &Plan, faults: &[Fault], mutant: Option<Mutant>, site: Arc<dyn Site>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the machine");
    runtime.block_on(play(plan.clone(), faults.to_vec(), mutant, site))
}

/// State of one process as the world sees it.
struct Process {
    is_listed: bool,
    is_up: bool,
    producer: Arc<Producer>,
    connections: Vec<Arc<Connection>>,
}

struct World {
    plan: Plan,
    site: Arc<dyn Site>,
    log: Arc<Log>,
    book: Arc<Book>,
    processes: Mutex<Vec<Process>>,
    hidden_until: Mutex<Instant>,
}

impl Sinks for World {
    fn list(&self) -> Vec<usize> {
        if Instant::now() < *self.hidden_until.lock().expect("no panic under this lock") {
            return Vec::new();
        }
        let processes = self.processes();
        let listed = processes.iter().enumerate().filter(|(_, process)| process.is_listed);
        listed.flat_map(|(index, _)| std::iter::repeat_n(index, self.plan.virtual_servers)).collect()
    }

    fn connect(&self, process: usize, server: usize) -> Option<Pipes> {
        if !self.processes()[process].is_up {
            return None;
        }
        let (calls, served_calls) = tokio::io::duplex(PIPE_BYTES);
        let (answers, served_answers) = tokio::io::duplex(PIPE_BYTES);
        let from = SocketAddr::from((Ipv4Addr::new(10, 0, 0, server as u8), 40_000));
        self.site.serve(process, served_calls, served_answers, from);
        Some(Pipes { calls, answers })
    }

    fn opened(&self, process: usize, connection: &Arc<Connection>) {
        self.processes()[process].connections.push(Arc::clone(connection));
    }
}

impl World {
    fn processes(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes.lock().expect("no panic under this lock")
    }

    fn start(&self, process: usize) {
        let producer = Producer::start(&self.log);
        self.site.start(process, Arc::<Producer>::clone(&producer));
        let slot = Process { is_listed: true, is_up: true, producer, connections: Vec::new() };
        let mut processes = self.processes();
        if process < processes.len() {
            processes[process] = slot;
        } else {
            processes.push(slot);
        }
    }

    /// Takes a process down at once.
    fn kill(&self, process: usize) {
        let connections = {
            let slot = &mut self.processes()[process];
            slot.is_up = false;
            slot.producer.kill();
            std::mem::take(&mut slot.connections)
        };
        connections.iter().for_each(|connection| connection.cut());
        self.site.kill(process);
    }

    /// Ends a process in order.
    async fn drain(&self, process: usize) {
        self.processes()[process].is_listed = false;
        let started = Instant::now();
        self.site.drain(process).await;
        if started.elapsed() > DRAIN_MAX {
            self.book.breach(Promise::DrainInTime, format!("a shut-down took {:?}", started.elapsed()));
        }
        self.kill(process);
    }

    fn is_up(&self, process: usize) -> bool {
        let processes = self.processes();
        processes[process].is_up && processes[process].is_listed
    }
}

async fn play(plan: Plan, faults: Vec<Fault>, mutant: Option<Mutant>, site: Arc<dyn Site>) -> Outcome {
    let started = Instant::now();
    let source = ClusterId { most: plan.seed, least: 0x5741_4c00 };
    let book = Arc::new(Book::new(source, plan.key_by, plan.has_headers));
    let log = Log::new(&plan, Arc::clone(&book), mutant);
    let world = Arc::new(World {
        plan: plan.clone(),
        site,
        log,
        book: Arc::clone(&book),
        processes: Mutex::default(),
        hidden_until: Mutex::new(started),
    });
    (0..plan.processes).for_each(|process| world.start(process));
    let cluster = Cluster::start(&plan, Arc::clone(&book), Arc::<World>::clone(&world));
    let client = tokio::spawn(write(Arc::clone(&cluster), plan.clone()));
    for (index, fault) in faults.iter().enumerate() {
        sleep_until(started + Duration::from_millis(fault.at_ms)).await;
        strike(&world, &cluster, fault.kind, Rng::new(plan.seed, &format!("fault {index}")));
    }
    let _ = client.await;
    settle(&world, &cluster).await;
    let (breaches, counts, trace) = book.close();
    Outcome { breaches, counts, trace, simulated: started.elapsed() }
}

/// The clients: entries at random moments of the span.
async fn write(cluster: Arc<Cluster>, plan: Plan) {
    let mut dice = Rng::new(plan.seed, "client");
    let pause_us = plan.span_ms * 1000 / plan.entries;
    let mut left = plan.entries;
    while left > 0 {
        // Clients come in bursts, so that batches are of any size.
        let burst = dice.between(1, 30).min(left);
        (0..burst).for_each(|_| cluster.put(&mut dice));
        left -= burst;
        sleep(Duration::from_micros(dice.between(0, pause_us * 2 * burst))).await;
    }
}

fn strike(world: &Arc<World>, cluster: &Arc<Cluster>, kind: FaultKind, dice: Rng) {
    let ms = Duration::from_millis;
    match kind {
        FaultKind::Log { trouble, for_ms } => world.log.trouble(trouble, ms(for_ms)),
        FaultKind::CutCalls { server, bytes } => cluster.road(server).cut_calls(bytes),
        FaultKind::CutAnswers { server, bytes } => cluster.road(server).cut_answers(bytes),
        FaultKind::Stall { server, bytes, for_ms } => cluster.road(server).stall(bytes, ms(for_ms)),
        FaultKind::LateAnswers { server, by_ms, for_ms } => {
            cluster.road(server).late(ms(by_ms), ms(for_ms));
        }
        FaultKind::Kill { process, down_ms } if world.is_up(process) => {
            world.kill(process);
            let world = Arc::clone(world);
            tokio::spawn(async move {
                sleep(ms(down_ms)).await;
                world.start(process);
            });
        }
        FaultKind::Drain { process, down_ms } if world.is_up(process) => {
            let world = Arc::clone(world);
            tokio::spawn(async move {
                world.drain(process).await;
                sleep(ms(down_ms)).await;
                world.start(process);
            });
        }
        // It is down already.
        FaultKind::Kill { .. } | FaultKind::Drain { .. } => {}
        FaultKind::NoSinks { for_ms } => {
            let mut hidden = world.hidden_until.lock().expect("no panic under this lock");
            *hidden = (*hidden).max(Instant::now() + ms(for_ms));
        }
        FaultKind::Crash { server, recovered_ms } => cluster.crash(server, ms(recovered_ms)),
        FaultKind::Move { region, server } => cluster.relocate(region, server),
        FaultKind::Stranger { process, garbage } => {
            if let Some(pipes) = world.connect(process, 250) {
                tokio::spawn(stranger::visit(pipes, garbage, dice));
            }
        }
    }
}

/// Waits until everything has come and nothing is held, then ends all processes in order.
async fn settle(world: &Arc<World>, cluster: &Arc<Cluster>) {
    const LOOK: Duration = Duration::from_millis(200);
    // Longer than a stranger stays and a batch may be under way.
    const REST_WITHIN: Duration = Duration::from_secs(200);
    let deadline = Instant::now() + DRAINED_WITHIN;
    while cluster.left() > 0 {
        if Instant::now() > deadline {
            let seen = format!("{} entries wait for ever", cluster.left());
            return world.book.breach(Promise::Progress, seen);
        }
        sleep(LOOK).await;
    }
    let deadline = Instant::now() + REST_WITHIN;
    let count = world.plan.processes;
    while !(0..count).all(|process| world.is_up(process)) {
        if Instant::now() > deadline {
            return world.book.breach(Promise::Progress, "a process does not come back".to_owned());
        }
        sleep(LOOK).await;
    }
    for process in 0..count {
        while world.site.rest(process) != Rest::default() {
            if Instant::now() > deadline {
                let seen = format!("process {process} at rest: {:?}", world.site.rest(process));
                return world.book.breach(Promise::NothingHeld, seen);
            }
            sleep(LOOK).await;
        }
    }
    for process in 0..count {
        world.drain(process).await;
    }
}
