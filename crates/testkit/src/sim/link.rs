//! A connection from a simulated region server to a sink: the real bytes through two pipes, with faults on the way.
//!
//! Calls are multiplexed as HBase's client does it: answers find their call by its id, a call that has timed out is
//! forgotten and its late answer ignored, and when the connection ends all its calls fail.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};
use weir_sim_kernel::Rng;
use weir_wire::hbase::call::{RemoteException, parse_answer};

/// Calls of one connection that wait to be written.
const CALLS_MAX: usize = 1024;

/// Largest answer that a source takes.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Our ends of the two pipes of a connection.
#[derive(Debug)]
pub struct Pipes {
    /// Calls go in here.
    pub calls: DuplexStream,
    /// Answers come out here.
    pub answers: DuplexStream,
}

/// The faults that lie on the way of one region server.
#[derive(Debug, Default)]
pub struct Road {
    state: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    cut_calls: Option<usize>,
    cut_answers: Option<usize>,
    stall: Option<(usize, Duration)>,
    late: Option<(Instant, Duration)>,
    disturbed: Option<Instant>,
}

/// What happens to the next bytes of calls.
enum Step {
    Pass(usize),
    Cut(usize),
    Stall(usize, Duration),
}

impl Road {
    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.state.lock().expect("no panic under this lock")
    }

    /// Cuts after so many more bytes of calls.
    pub fn cut_calls(&self, bytes: usize) {
        self.troubles().cut_calls = Some(bytes);
    }

    /// Cuts after so many more bytes of answers.
    pub fn cut_answers(&self, bytes: usize) {
        self.troubles().cut_answers = Some(bytes);
    }

    /// Stops after so many more bytes of calls, for a while.
    pub fn stall(&self, bytes: usize, during: Duration) {
        self.troubles().stall = Some((bytes, during));
    }

    /// Makes answers late for a while.
    pub fn late(&self, by: Duration, during: Duration) {
        self.troubles().late = Some((Instant::now() + during, by));
    }

    /// Whether bytes were held on their way at or after this time: then an answer may be late, and it is not Weir's doing.
    #[must_use]
    pub fn was_disturbed_since(&self, time: Instant) -> bool {
        self.troubles().disturbed.is_some_and(|disturbed| disturbed >= time)
    }

    fn step(&self, bytes: usize) -> Step {
        let mut troubles = self.troubles();
        if let Some(left) = troubles.cut_calls {
            if left < bytes {
                troubles.cut_calls = None;
                return Step::Cut(left);
            }
            troubles.cut_calls = Some(left - bytes);
        }
        if let Some((left, during)) = troubles.stall {
            if left < bytes {
                troubles.stall = None;
                troubles.disturbed = troubles.disturbed.max(Some(Instant::now() + during));
                return Step::Stall(left, during);
            }
            troubles.stall = Some((left - bytes, during));
        }
        Step::Pass(bytes)
    }

    /// Whether an answer of so many bytes gets through, and how late.
    fn answer(&self, bytes: usize) -> Option<Duration> {
        let mut troubles = self.troubles();
        if let Some(left) = troubles.cut_answers {
            if left < bytes {
                troubles.cut_answers = None;
                return None;
            }
            troubles.cut_answers = Some(left - bytes);
        }
        let now = Instant::now();
        let by = troubles.late.filter(|(end, _)| *end > now).map(|(_, by)| by);
        if let Some(by) = by {
            troubles.disturbed = troubles.disturbed.max(Some(now + by));
        }
        Some(by.unwrap_or_default())
    }
}

/// What a call came to at the source.
pub type Answered = Result<(), Option<RemoteException>>;

/// One connection.
#[derive(Debug)]
pub struct Connection {
    calls: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<Option<HashMap<u32, oneshot::Sender<Answered>>>>,
    tasks: OnceLock<[AbortHandle; 2]>,
}

impl Connection {
    /// Says hello and begins to carry calls.
    #[must_use]
    pub fn open(pipes: Pipes, hello: Vec<u8>, road: &Arc<Road>, dice: Rng) -> Arc<Self> {
        let (calls, inbox) = mpsc::channel(CALLS_MAX);
        let connection =
            Arc::new(Self { calls, waiting: Mutex::new(Some(HashMap::new())), tasks: OnceLock::new() });
        let _ = connection.calls.try_send(hello);
        let writing =
            tokio::spawn(write(pipes.calls, inbox, Arc::clone(road), Arc::clone(&connection), dice));
        let reading = tokio::spawn(read(pipes.answers, Arc::clone(road), Arc::clone(&connection)));
        let tasks = [writing.abort_handle(), reading.abort_handle()];
        connection.tasks.set(tasks).expect("set once, here");
        connection
    }

    /// Whether it carries calls.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.waiting.lock().expect("no panic under this lock").is_some()
    }

    /// Ends at once: both pipes are dropped, all calls fail.
    pub fn cut(&self) {
        self.waiting.lock().expect("no panic under this lock").take();
        self.tasks.get().into_iter().flatten().for_each(AbortHandle::abort);
    }

    /// Sends a call. The promise resolves with its answer; it is broken when the connection ends.
    pub fn send(&self, call_id: u32, frame: Vec<u8>) -> oneshot::Receiver<Answered> {
        let (done, promise) = oneshot::channel();
        if let Some(waiting) = self.waiting.lock().expect("no panic under this lock").as_mut() {
            waiting.insert(call_id, done);
            if self.calls.try_send(frame).is_err() {
                waiting.remove(&call_id);
            }
        }
        promise
    }

    /// Forgets a call: its answer will be ignored.
    pub fn forget(&self, call_id: u32) {
        if let Some(waiting) = self.waiting.lock().expect("no panic under this lock").as_mut() {
            waiting.remove(&call_id);
        }
    }
}

async fn write(
    mut pipe: DuplexStream,
    mut inbox: mpsc::Receiver<Vec<u8>>,
    road: Arc<Road>,
    connection: Arc<Connection>,
    mut dice: Rng,
) {
    while let Some(frame) = inbox.recv().await {
        let mut rest = frame.as_slice();
        while !rest.is_empty() {
            // Packets end anywhere.
            let packet = if dice.chance(20) { 1 + dice.below(rest.len()) } else { rest.len() };
            let (len, after) = match road.step(packet) {
                Step::Pass(len) => (len, None),
                Step::Stall(len, during) => (len, Some(during)),
                Step::Cut(len) => {
                    let _ = pipe.write_all(rest.get(..len).unwrap_or(rest)).await;
                    return connection.cut();
                }
            };
            let (now, later) = rest.split_at(len);
            if pipe.write_all(now).await.is_err() {
                return connection.cut();
            }
            rest = later;
            match after {
                Some(during) => sleep(during).await,
                None => tokio::task::yield_now().await,
            }
        }
    }
}

async fn read(mut pipe: DuplexStream, road: Arc<Road>, connection: Arc<Connection>) {
    let mut frame = Vec::new();
    while let Ok(len) = pipe.read_u32().await {
        let len = len as usize;
        if len > ANSWER_BYTES_MAX {
            break;
        }
        frame.resize(len, 0);
        if pipe.read_exact(&mut frame).await.is_err() {
            break;
        }
        let Some(late) = road.answer(len + 4) else { break };
        if !late.is_zero() {
            sleep_until(Instant::now() + late).await;
        }
        let Ok(answer) = parse_answer(&frame) else { break };
        let done = connection
            .waiting
            .lock()
            .expect("no panic under this lock")
            .as_mut()
            .and_then(|waiting| waiting.remove(&answer.call_id));
        if let Some(done) = done {
            let _ = done.send(answer.result.map(|_| ()).map_err(Some));
        }
    }
    connection.cut();
}
