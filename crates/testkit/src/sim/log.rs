//! A log in memory that misbehaves by script: what a producer of a real log may see, without the real log.
//!
//! It keeps the port's promise of order: records of one producer stand in a partition in the order of their `append`,
//! and when a batch fails in part, a first part of it is there. All the rest may go wrong.

use super::book::{Book, Promise, Record};
use super::plan::Plan;
use super::script::LogTrouble;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use weir_model::{Fault, FaultKind};
use weir_runtime::log::{Job, LogWriter, RecordBatch};
use weir_sim_kernel::Rng;

/// A defect planted on purpose: the checks must catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A batch is called durable as soon as it is queued.
    OkBeforeDurable,
    /// Now and then a record is left out.
    Drops,
    /// Now and then two records of one region change places.
    Reorders,
    /// Now and then a byte of a record is another.
    Garbles,
    /// Now and then a batch is durable and its promise never resolves.
    ForgetsPromise,
    /// Nothing is ever taken.
    RefusesAlways,
    /// The margin of answers is nothing: calls are answered when the source has given up. The site plants it.
    AnswersLate,
    /// A shut-down takes too long. The site plants it.
    EndsLate,
}

/// Mutants with a promise that each breaks; every promise is there.
pub const MUTANTS: [(Mutant, Promise); 9] = [
    (Mutant::OkBeforeDurable, Promise::DurableBeforeOk),
    (Mutant::Drops, Promise::DurableBeforeOk),
    (Mutant::Drops, Promise::NothingLost),
    (Mutant::Reorders, Promise::Order),
    (Mutant::Garbles, Promise::NothingInvented),
    (Mutant::ForgetsPromise, Promise::NothingHeld),
    (Mutant::RefusesAlways, Promise::Progress),
    (Mutant::AnswersLate, Promise::AnswerInTime),
    (Mutant::EndsLate, Promise::DrainInTime),
];

/// Batches waiting in one lane: far more than calls can be open.
const LANE_MAX: usize = 4096;

/// The log of one run.
#[derive(Debug)]
pub struct Log {
    book: Arc<Book>,
    partitions: usize,
    delivery: Duration,
    seed: u64,
    mutant: Option<Mutant>,
    /// Troubles with the time at which they end.
    troubles: Mutex<Vec<(LogTrouble, Instant)>>,
    producers: AtomicU64,
}

impl Log {
    /// An empty log.
    #[must_use]
    pub fn new(plan: &Plan, book: Arc<Book>, mutant: Option<Mutant>) -> Arc<Self> {
        Arc::new(Self {
            book,
            partitions: plan.partitions,
            delivery: Duration::from_millis(plan.delivery_ms),
            seed: plan.seed,
            mutant,
            troubles: Mutex::default(),
            producers: AtomicU64::new(0),
        })
    }

    /// Trouble begins, and ends after a while.
    pub fn trouble(&self, trouble: LogTrouble, during: Duration) {
        self.troubles.lock().expect("no panic under this lock").push((trouble, Instant::now() + during));
    }

    /// The first trouble now that this takes.
    fn now<T>(&self, take: impl Fn(LogTrouble, Instant) -> Option<T>) -> Option<T> {
        let now = Instant::now();
        let troubles = self.troubles.lock().expect("no panic under this lock");
        troubles.iter().filter(|(_, end)| *end > now).find_map(|(trouble, end)| take(*trouble, *end))
    }

    fn is_in(&self, trouble: LogTrouble) -> bool {
        self.now(|now, _| (now == trouble).then_some(())).is_some()
    }

    fn held_until(&self) -> Option<Instant> {
        self.now(|now, end| (now == LogTrouble::Held).then_some(end))
    }

    fn slow(&self) -> Duration {
        let ms = self.now(|now, _| match now {
            LogTrouble::Slow(ms) => Some(ms),
            LogTrouble::Refuses | LogTrouble::Partly | LogTrouble::AnswerLost | LogTrouble::Held => None,
        });
        Duration::from_millis(ms.unwrap_or_default())
    }

    fn fault(text: &'static str) -> Fault {
        Fault::new(FaultKind::Transient, "W-KAFKA-UNREACHABLE", "write to the scripted log", text)
    }
}

/// Records of one batch for one partition.
struct Chunk {
    records: Vec<Record>,
    due: Instant,
    done: oneshot::Sender<Result<(), Fault>>,
}

/// What one Weir process writes through.
#[derive(Debug)]
pub struct Producer {
    log: Arc<Log>,
    lanes: Vec<mpsc::Sender<Chunk>>,
    is_alive: Arc<AtomicBool>,
    dice: Mutex<Rng>,
}

impl Producer {
    /// A new one; its lanes run until it is killed or dropped.
    #[must_use]
    pub fn start(log: &Arc<Log>) -> Arc<Self> {
        let number = log.producers.fetch_add(1, Ordering::Relaxed);
        let is_alive = Arc::new(AtomicBool::new(true));
        let lanes = (0..log.partitions).map(|partition| {
            let (sender, chunks) = mpsc::channel(LANE_MAX);
            let dice = Rng::new(log.seed, &format!("lane {number} {partition}"));
            tokio::spawn(lane(Arc::clone(log), partition, chunks, Arc::clone(&is_alive), dice));
            sender
        });
        Arc::new(Self {
            log: Arc::clone(log),
            lanes: lanes.collect(),
            is_alive,
            dice: Mutex::new(Rng::new(log.seed, &format!("producer {number}"))),
        })
    }

    /// kill -9: what is queued is gone; a first part of what is under way may still become durable.
    pub fn kill(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
    }

    /// Plants the defects that change records.
    fn spoil(&self, records: &mut Vec<Record>) {
        let mut dice = self.dice.lock().expect("no panic under this lock");
        let is_struck = dice.chance(20);
        match self.log.mutant {
            Some(Mutant::Drops) if is_struck => {
                let index = dice.below(records.len());
                records.remove(index);
            }
            Some(Mutant::Reorders) if records.len() > 1 => {
                let index = dice.below(records.len() - 1);
                records.swap(index, index + 1);
            }
            Some(Mutant::Garbles) if is_struck => {
                let index = dice.below(records.len());
                let place = dice.below(records[index].value.len());
                records[index].value[place] ^= 1;
            }
            Some(
                Mutant::OkBeforeDurable
                | Mutant::Drops
                | Mutant::Reorders
                | Mutant::Garbles
                | Mutant::ForgetsPromise
                | Mutant::RefusesAlways
                | Mutant::AnswersLate
                | Mutant::EndsLate,
            )
            | None => {}
        }
    }
}

impl LogWriter for Producer {
    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        if !self.is_alive.load(Ordering::Relaxed) {
            // A process that was killed computes on in the simulator only.
            return Box::pin(std::future::pending());
        }
        let mut records: Vec<Record> = batch.records.iter().map(|span| record(&batch, span)).collect();
        self.spoil(&mut records);
        let is_refused =
            self.log.is_in(LogTrouble::Refuses) || self.log.mutant == Some(Mutant::RefusesAlways);
        if is_refused {
            let kept = self.dice.lock().expect("no panic under this lock").below(records.len() + 1);
            records.truncate(kept / 2);
        }
        let mut chunks: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for record in records {
            chunks.entry(partition(&record, self.log.partitions)).or_default().push(record);
        }
        let due = Instant::now() + self.log.delivery;
        let mut promises = Vec::new();
        for (partition, records) in chunks {
            let (done, promise) = oneshot::channel();
            if self.lanes[partition].try_send(Chunk { records, due, done }).is_ok() {
                promises.push(promise);
            }
        }
        let is_early = self.log.mutant == Some(Mutant::OkBeforeDurable);
        let is_forgotten = self.log.mutant == Some(Mutant::ForgetsPromise)
            && self.dice.lock().expect("no panic under this lock").chance(20);
        Box::pin(async move {
            if is_forgotten {
                std::future::pending::<()>().await;
            }
            if is_early {
                return Ok(());
            }
            let mut result = if is_refused { Err(Log::fault("refused")) } else { Ok(()) };
            for promise in promises {
                match promise.await {
                    Ok(Ok(())) => {}
                    Ok(Err(fault)) => result = Err(fault),
                    // Its process was killed.
                    Err(_) => std::future::pending().await,
                }
            }
            result
        })
    }
}

fn record(batch: &RecordBatch, span: &weir_runtime::log::RecordSpan) -> Record {
    let headers = &batch.headers[span.headers.start as usize..span.headers.end as usize];
    Record {
        topic: batch.topics[usize::from(span.topic)].as_str().to_owned(),
        key: batch.bytes(&span.key).to_vec(),
        value: batch.bytes(&span.value).to_vec(),
        header: headers
            .iter()
            .find(|header| header.name == weir_wire::identity::HEADER)
            .map(|header| batch.bytes(&header.value).to_vec()),
    }
}

/// Any function of the key will do; tables share partitions here.
fn partition(record: &Record, count: usize) -> usize {
    record.key.iter().fold(7usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte)))
        % count
}

/// One partition as one producer sees it: first come, first durable.
async fn lane(
    log: Arc<Log>,
    partition: usize,
    mut chunks: mpsc::Receiver<Chunk>,
    is_alive: Arc<AtomicBool>,
    mut dice: Rng,
) {
    while let Some(Chunk { records, due, done }) = chunks.recv().await {
        let latency = Duration::from_micros(dice.between(200, 30_000)) + log.slow();
        let moved = settle(&log, latency, due).await;
        let mut count = records.len();
        let result = if !is_alive.load(Ordering::Relaxed) {
            count = dice.below(count + 1);
            None
        } else if !moved {
            count = 0;
            Some(Err(Log::fault("not durable in time")))
        } else if log.is_in(LogTrouble::Partly) {
            count = dice.below(count);
            Some(Err(Log::fault("durable in part")))
        } else if log.is_in(LogTrouble::AnswerLost) {
            Some(Err(Log::fault("the answer was lost")))
        } else {
            Some(Ok(()))
        };
        records.iter().take(count).for_each(|record| log.book.append(partition, record));
        match result {
            Some(result) => drop(done.send(result)),
            None => return,
        }
    }
}

/// Waits until a chunk is written; false when it was not before it was due.
async fn settle(log: &Log, latency: Duration, due: Instant) -> bool {
    while let Some(until) = log.held_until() {
        sleep_until(until.min(due)).await;
        if until > due {
            return false;
        }
    }
    if Instant::now() + latency > due {
        sleep_until(due).await;
        return false;
    }
    sleep(latency).await;
    true
}
