//! The child that is the region servers: one connection each, calls in flight, answers awaited.
//!
//! `full SECONDS`: each region sends its next call as soon as the last one is answered. `paced SECONDS CALLS_PER_S`: an
//! open loop; a call is due at its time whatever became of those before it, and its latency counts from then.
//! `flood SECONDS`: as many calls as fit, answered or not; for the memory of a Weir whose log is away.

use crate::shape::{CODEC, CONNECTIONS, ENTRIES_PER_CALL, Frame, REGIONS, frame};
use hdrhistogram::Histogram;
use std::io::BufRead as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};
use weir_wire::hbase::call::{ConnectionHeader, parse_answer};
use weir_wire::hbase::preamble;

/// Connections of a flood: its calls must be more bytes than the budget.
const FLOOD_CONNECTIONS: usize = 32;

/// What a run came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) entries: f64,
    pub(crate) failed_calls: f64,
    pub(crate) seconds: f64,
    /// p50, p99, p99.9 of the answers, ms.
    pub(crate) answer_ms: [f64; 3],
}

impl Outcome {
    fn line(&self) -> String {
        let [p50, p99, p999] = self.answer_ms;
        format!("{} {} {} {p50} {p99} {p999}", self.entries, self.failed_calls, self.seconds)
    }

    pub(crate) fn parse(line: &str) -> Self {
        let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [entries, failed_calls, seconds, p50, p99, p999] = numbers[..] else {
            panic!("not an outcome: {line}")
        };
        Self { entries, failed_calls, seconds, answer_ms: [p50, p99, p999] }
    }
}

pub(crate) fn run(words: &[&str]) {
    let (port, shape, table): (u16, usize, &str) =
        (words[0].parse().unwrap(), words[1].parse().unwrap(), words[2]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let wanted = Duration::from_secs(words[1].parse().unwrap());
        let outcome = match words[0] {
            "full" => runtime.block_on(load(port, shape, table, wanted, Pace::Full)),
            "paced" => {
                let calls_per_s: f64 = words[2].parse().unwrap();
                let every = Duration::from_secs_f64(CONNECTIONS as f64 / calls_per_s);
                runtime.block_on(load(port, shape, table, wanted, Pace::Every(every)))
            }
            "flood" => {
                runtime.block_on(flood(port, shape, table, wanted));
                Outcome::default()
            }
            other => panic!("no such load: {other}"),
        };
        println!("{}", outcome.line());
    }
}

#[derive(Clone, Copy)]
enum Pace {
    Full,
    Every(Duration),
}

/// Calls of one connection: when each was due, until it is answered.
struct Calls {
    due: Mutex<Vec<Instant>>,
    slots: Semaphore,
}

async fn load(port: u16, shape: usize, table: &str, wanted: Duration, pace: Pace) -> Outcome {
    // A little later, so that all connections are there and in phase.
    let started = Instant::now() + Duration::from_millis(200);
    let connections = (0..CONNECTIONS).map(|server| async move {
        let (reader, mut writer) = connect(port).await;
        let mut frames: Vec<Frame> =
            (0..REGIONS).map(|region| frame(shape, table, server * REGIONS + region)).collect();
        let slots = if matches!(pace, Pace::Full) { REGIONS } else { 0 };
        let calls = Arc::new(Calls { due: Mutex::default(), slots: Semaphore::new(slots) });
        let reading = tokio::spawn(read(reader, Arc::clone(&calls)));
        let mut number = 0;
        loop {
            let due = match pace {
                Pace::Full => {
                    calls.slots.acquire().await.unwrap().forget();
                    Instant::now().max(started)
                }
                Pace::Every(every) => {
                    let phase = every * server as u32 / CONNECTIONS as u32;
                    started + phase + every.mul_f64(number as f64)
                }
            };
            if due > started + wanted {
                break;
            }
            sleep_until(due).await;
            let next = &mut frames[number % REGIONS];
            next.renumber(number as u64);
            calls.due.lock().unwrap().push(due);
            writer.write_all(&next.bytes).await.unwrap();
            number += 1;
        }
        // Closing our half makes the other side close once it has answered.
        writer.shutdown().await.unwrap();
        let (done, waits) = timeout(Duration::from_secs(90), reading).await.unwrap().unwrap();
        let ended = started.elapsed().as_secs_f64();
        assert!(done.0 + done.1 == number as u64, "{number} calls, {done:?} answers");
        (done, waits, ended)
    });
    let mut outcome = Outcome::default();
    let mut waits = histogram();
    for (done, own, ended) in futures::future::join_all(connections).await {
        outcome.entries += (done.0 * ENTRIES_PER_CALL as u64) as f64;
        outcome.failed_calls += done.1 as f64;
        outcome.seconds = f64::max(outcome.seconds, ended);
        waits.add(&own).unwrap();
    }
    outcome.answer_ms = [0.5, 0.99, 0.999].map(|share| waits.value_at_quantile(share) as f64 / 1000.0);
    outcome
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000, 3).unwrap()
}

/// Reads answers to the end: how many were OK and how many were exceptions, and how long each took (us).
async fn read(reader: OwnedReadHalf, calls: Arc<Calls>) -> ((u64, u64), Histogram<u64>) {
    let mut reader = BufReader::new(reader);
    let (mut done, mut waits, mut answer) = ((0, 0), histogram(), Vec::new());
    while let Ok(len) = reader.read_u32().await {
        answer.resize(len as usize, 0);
        reader.read_exact(&mut answer).await.unwrap();
        let parsed = parse_answer(&answer).unwrap();
        let due = calls.due.lock().unwrap()[Frame::number_of(parsed.call_id) as usize];
        waits.saturating_record((due.elapsed().as_micros() as u64).max(1));
        match parsed.result {
            Ok(_) => done.0 += 1,
            Err(exception) => {
                eprintln!("an answer is an exception: {}", exception.text);
                done.1 += 1;
            }
        }
        calls.slots.add_permits(1);
    }
    (done, waits)
}

/// Writes calls on many connections and reads no answer, until the time is over.
async fn flood(port: u16, shape: usize, table: &str, wanted: Duration) {
    let connections = (0..FLOOD_CONNECTIONS).map(|server| async move {
        let (_reader, mut writer) = connect(port).await;
        let mut next = frame(shape, table, server);
        let mut number = 0;
        let _ = timeout(wanted, async {
            loop {
                next.renumber(number);
                writer.write_all(&next.bytes).await.unwrap();
                number += 1;
            }
        })
        .await;
    });
    futures::future::join_all(connections).await;
}

async fn connect(port: u16) -> (OwnedReadHalf, OwnedWriteHalf) {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let (reader, mut writer) = socket.into_split();
    let mut hello = preamble::simple().to_vec();
    let codec = Some(CODEC.class().to_owned());
    ConnectionHeader { service: "AdminService".to_owned(), codec, ..ConnectionHeader::default() }
        .encode(&mut hello);
    writer.write_all(&hello).await.unwrap();
    (reader, writer)
}
