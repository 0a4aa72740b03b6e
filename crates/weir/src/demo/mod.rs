//! `weir demo`: the New Year burst through the real capture path, in one process.
//!
//! Simulated region servers speak the real replication RPC over TCP to the real server; the log is librdkafka's mock
//! cluster; a reader counts SEND_MESSAGE per 100 ms of event time. Only HBase and the brokers' disks are missing.

mod burst;
mod counter;
mod region_server;

use crate::capture::{Parts, Running, start_server};
use crate::console;
use crate::meter::Meter;
use counter::Counter;
use hdrhistogram::Histogram;
use prometheus_client::registry::Registry;
use region_server::{RegionServer, Sent};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use weir_apps::capture::Settings;
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::reader::{Reader, Start};
use weir_model::{ClusterId, Fault, FaultKind, TopicName, TopicNaming, limits};
use weir_runtime::budget::Budget;
use weir_runtime::drain::Drain;

/// Simulated region servers.
const SERVERS: u64 = 4;

/// Partitions of the topic.
const PARTITIONS: i32 = 16;

/// Cells in the log that the counter has not read: past this the sources wait, because the embedded log forgets
/// (5 MiB a partition; a record has about 250 bytes).
const BEHIND_MAX: u64 = 100_000;

/// Scale of the burst that two cores carry smoothly: 1,200,000 cells and more in 30 s.
pub const RATE_DEFAULT: f64 = 0.5;

/// The moment that the demonstration plays: 2026-01-01 00:00:00 UTC, ms since 1970.
const MIDNIGHT_MS: u64 = 1_767_225_600_000;

/// How the demonstration runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Scale of the burst; 1 is that of the talk.
    pub rate: f64,
    /// Length of one play, in seconds; midnight is in the middle.
    pub seconds: u64,
    /// Seed of rows and regions.
    pub seed: u64,
    /// Where the console listens; none without a console.
    pub console: Option<String>,
}

/// What a play came to; the last line of `weir demo --headless`.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// Cells written at the source.
    pub sent: u64,
    /// Distinct cells read back from the log.
    pub in_log: u64,
    /// Sum of the 100 ms buckets.
    pub counted: u64,
    /// Cells that are not in the log.
    pub lost: u64,
    /// Extra copies in the log.
    pub duplicates: u64,
    /// Write at the source to durable in the log, 99th percentile, ms.
    pub p99_ms: f64,
}

/// What source side and reader share.
struct Shared {
    sent: Arc<Sent>,
    read: AtomicU64,
    latency_us: Mutex<Histogram<u64>>,
    is_over: AtomicBool,
}

/// Plays the burst once. With a console it goes on playing until interrupted, and the outcome is the first play's.
///
/// # Errors
/// When loopback cannot be listened on, or the embedded log fails.
pub async fn play(options: Options, say: impl Fn(&str)) -> Result<Outcome, Fault> {
    let log = EmbeddedLog::start(1)?;
    let naming = TopicNaming::new("hbase.", ".wal").expect("the demonstration's topics are legal");
    let topic = TopicName::new("hbase.operation.wal").expect("the demonstration's topics are legal");
    log.create_topic(&topic, PARTITIONS, 1)?;
    let producer = Producer::start(ProducerConfig::new(&log.bootstrap()))?;
    let mut registry = Registry::default();
    let meter = Meter::register(&mut registry);
    let budget = Budget::new(limits::IN_FLIGHT_BYTES_DEFAULT);
    let source = ClusterId::name_based(u128::from(options.seed) | 1 << 100);
    let parts = Parts {
        name: "demo".to_owned(),
        source,
        peer_id: crate::capture::peer_id(source, "demo"),
        settings: Settings::everything(naming),
        frame_bytes_max: limits::FRAME_BYTES_MAX,
        answer_margin_percent: 25,
        creator: None,
    };
    let unusable = |error: std::io::Error| {
        Fault::new(FaultKind::Config, "W-LISTEN", "listen on loopback", "127.0.0.1").caused_by(error)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(unusable)?;
    let running = start_server(parts, listener, Arc::new(producer), budget.clone(), meter, Vec::new())
        .map_err(unusable)?;
    let address = running.address;
    let running = Arc::new(vec![running]);
    let (drain, stop) = Drain::new();
    if let Some(listen) = &options.console {
        let source = console::Source::new(Arc::clone(&running), budget, registry);
        let console = console::serve(listen, source, stop).await?;
        say(&format!("console   http://{console}/"));
        say(
            "look at   the chart: a quiet evening, midnight in one bright second, then four times as much that fades",
        );
        say(
            "          region servers, tables and topics below it are the real capture path at work; ctrl-c ends it",
        );
    }
    let shared = Arc::new(Shared {
        sent: Arc::default(),
        read: AtomicU64::new(0),
        latency_us: Mutex::new(Histogram::new(3).expect("three digits are allowed")),
        is_over: AtomicBool::new(false),
    });
    let bootstrap = log.bootstrap();
    let reading = tokio::task::spawn_blocking({
        let (shared, topic) = (Arc::clone(&shared), topic.to_string());
        move || read(&bootstrap, topic, &shared)
    });
    let mut servers: Vec<RegionServer> = (0..SERVERS)
        .map(|index| RegionServer::new(index, options.seed, source, address, Arc::clone(&shared.sent)))
        .collect();
    loop {
        let plays = servers
            .into_iter()
            .map(|server| tokio::spawn(drive(server, options.clone(), Arc::clone(&shared))));
        servers = futures::future::join_all(plays)
            .await
            .into_iter()
            .map(|play| play.expect("a play does not panic"))
            .collect();
        if options.console.is_none() {
            break;
        }
    }
    shared.is_over.store(true, Ordering::Release);
    let counter = reading.await.expect("the reader does not panic")?;
    drain.stop();
    if let Ok(running) = Arc::try_unwrap(running) {
        futures::future::join_all(running.into_iter().map(Running::end)).await;
    }
    let sent = shared.sent.cells.load(Ordering::Acquire);
    let latency = shared.latency_us.lock().expect("no panic under this lock");
    Ok(Outcome {
        sent,
        in_log: counter.in_log,
        counted: counter.counted(),
        lost: sent.saturating_sub(counter.in_log),
        duplicates: counter.duplicates,
        p99_ms: (latency.value_at_quantile(0.99) as f64 / 1000.0 * 10.0).round() / 10.0,
    })
}

/// One server plays the burst in real time: a batch per bucket, its share of the messages.
async fn drive(mut server: RegionServer, options: Options, shared: Arc<Shared>) -> RegionServer {
    let bucket = Duration::from_millis(burst::BUCKET_MS);
    let mut clock = tokio::time::interval(bucket);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let half_ms = (options.seconds * 500).cast_signed();
    for index in 0..options.seconds * 1000 / burst::BUCKET_MS {
        clock.tick().await;
        while shared.sent.cells.load(Ordering::Relaxed).saturating_sub(shared.read.load(Ordering::Relaxed))
            > BEHIND_MAX
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let since_midnight_ms = (index * burst::BUCKET_MS).cast_signed() - half_ms;
        let count = burst::messages(since_midnight_ms, options.rate) / SERVERS;
        let took = server.send(count, MIDNIGHT_MS.saturating_add_signed(since_midnight_ms)).await;
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        shared
            .latency_us
            .lock()
            .expect("no panic under this lock")
            .record(took_us)
            .expect("an auto-resizing histogram takes any value");
    }
    server
}

/// Reads until everything that was sent was read, or nothing more comes.
fn read(bootstrap: &str, topic: String, shared: &Shared) -> Result<Counter, Fault> {
    let mut reader = Reader::open(bootstrap, &BTreeMap::new(), &[topic], Start::Beginning)?;
    let mut counter = Counter::default();
    loop {
        match reader.next(Duration::from_millis(100))? {
            Some(record) => {
                counter.take(&record)?;
                shared.read.store(counter.in_log, Ordering::Relaxed);
            }
            None if shared.is_over.load(Ordering::Acquire) => {
                reader.ask_ends()?;
                if reader.is_at_end() {
                    return Ok(counter);
                }
            }
            None => {}
        }
    }
}

/// Messages that a play of these options sends.
#[must_use]
pub fn expected(options: &Options) -> u64 {
    burst::total(options.seconds, options.rate)
}
