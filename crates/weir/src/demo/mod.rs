//! `weir demo`: the New Year burst through the real capture path, in one process.
//!
//! Simulated region servers speak the real replication RPC over TCP to the real server; the log is librdkafka's mock
//! cluster; a reader counts SEND_MESSAGE per 100 ms of event time. Only HBase and the brokers' disks are missing.

mod burst;
mod counter;
mod region_server;

use crate::capture::{Parts, Running, start_server};
use crate::console::{self, Account, Play};
use crate::meter::Meter;
use counter::Counter;
use hdrhistogram::Histogram;
use prometheus_client::registry::Registry;
use region_server::{RegionServer, Sent};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use weir_apps::capture::Settings;
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::reader::{Reader, Start};
use weir_model::{ClusterId, Fault, FaultKind, TopicName, TopicNaming, limits};
use weir_runtime::budget::Budget;
use weir_runtime::drain::{Drain, Stop};

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

/// In place of the number of verified plays, when there will be no more.
const READER_ENDED: u64 = u64::MAX;

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
    play: Arc<Play>,
    /// Plays that have ended at the sources.
    ended: AtomicU64,
    /// Plays whose log was read to its end after they had ended.
    verified: watch::Sender<u64>,
    is_interrupted: AtomicBool,
    is_over: AtomicBool,
}

impl Shared {
    fn new() -> Self {
        Self {
            sent: Arc::default(),
            read: AtomicU64::new(0),
            latency_us: Mutex::new(Histogram::new(3).expect("three digits are allowed")),
            play: Arc::default(),
            ended: AtomicU64::new(0),
            verified: watch::Sender::new(0),
            is_interrupted: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        }
    }

    /// Whether the sources must wait for the reader. One that has ended is waited for no more.
    fn is_behind(&self) -> bool {
        let (sent, read) = (self.sent.cells.load(Ordering::Relaxed), self.read.load(Ordering::Relaxed));
        sent.saturating_sub(read) > BEHIND_MAX && *self.verified.borrow() != READER_ENDED
    }

    fn outcome(&self) -> Outcome {
        let account = self.play.account();
        let latency = self.latency_us.lock().expect("no panic under this lock");
        Outcome {
            sent: account.sent,
            in_log: account.in_log,
            counted: account.counted,
            lost: account.sent.saturating_sub(account.in_log),
            duplicates: account.duplicates,
            p99_ms: (latency.value_at_quantile(0.99) as f64 / 1000.0 * 10.0).round() / 10.0,
        }
    }
}

/// Plays the burst: once without a console, with one again and again until interrupted. The outcome is of all plays.
///
/// # Errors
/// When loopback cannot be listened on, or the embedded log fails.
pub async fn play(
    options: Options,
    say: impl Fn(&str),
    interrupted: impl Future<Output = ()> + Send + 'static,
) -> Result<Outcome, Fault> {
    let log = EmbeddedLog::start(1)?;
    let topic = TopicName::new("hbase.operation.wal").expect("the demonstration's topics are legal");
    log.create_topic(&topic, PARTITIONS, 1)?;
    let shared = Arc::new(Shared::new());
    let source = ClusterId::name_based(u128::from(options.seed) | 1 << 100);
    let (drain, stop) = Drain::new();
    let (running, console) = capture(&log, source, &options, &shared, stop).await?;
    if let Some(console) = console {
        say(&welcome(console, &options));
    }
    tokio::spawn({
        let shared = Arc::clone(&shared);
        async move {
            interrupted.await;
            shared.is_interrupted.store(true, Ordering::Release);
        }
    });
    let bootstrap = log.bootstrap();
    let reading = tokio::task::spawn_blocking({
        let (shared, topic) = (Arc::clone(&shared), topic.to_string());
        move || {
            let done = read(&bootstrap, topic, &shared);
            // Nobody must wait for a reader that has ended.
            shared.verified.send_replace(READER_ENDED);
            done
        }
    });
    let address = running[0].address;
    let mut servers: Vec<RegionServer> = (0..SERVERS)
        .map(|index| RegionServer::new(index, options.seed, source, address, Arc::clone(&shared.sent)))
        .collect();
    while !shared.is_interrupted.load(Ordering::Acquire) {
        let (first_ms, bucket_count) = frame(&options);
        shared.play.begin(first_ms, MIDNIGHT_MS, burst::BUCKET_MS, bucket_count);
        let plays = servers
            .into_iter()
            .map(|server| tokio::spawn(drive(server, options.clone(), Arc::clone(&shared))));
        servers = futures::future::join_all(plays)
            .await
            .into_iter()
            .map(|play| play.expect("a play does not panic"))
            .collect();
        // The account is closed: everything was acknowledged, so the log read to its end must hold it.
        let ended = shared.ended.fetch_add(1, Ordering::AcqRel) + 1;
        let mut verified = shared.verified.subscribe();
        let is_reading =
            verified.wait_for(|verified| *verified >= ended).await.is_ok_and(|now| *now == ended);
        if options.console.is_none() || !is_reading {
            break;
        }
    }
    shared.is_over.store(true, Ordering::Release);
    reading.await.expect("the reader does not panic")?;
    drain.stop();
    if let Ok(running) = Arc::try_unwrap(running) {
        futures::future::join_all(running.into_iter().map(Running::end)).await;
    }
    Ok(shared.outcome())
}

/// The capture path over the embedded log, and the console when it is wanted.
async fn capture(
    log: &EmbeddedLog,
    source: ClusterId,
    options: &Options,
    shared: &Shared,
    stop: Stop,
) -> Result<(Arc<Vec<Running>>, Option<SocketAddr>), Fault> {
    let naming = TopicNaming::new("hbase.", ".wal").expect("the demonstration's topics are legal");
    let mut registry = Registry::default();
    let meter = Meter::register(&mut registry);
    let budget = Budget::new(limits::IN_FLIGHT_BYTES_DEFAULT);
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
    // The embedded log goes first at the end: that is no news.
    let quiet = [("log.connection.close".to_owned(), "false".to_owned())].into();
    let producer = Producer::start(ProducerConfig {
        part_bytes_max: Some(limits::PART_BYTES_DEFAULT),
        properties: quiet,
        ..ProducerConfig::new(&log.bootstrap())
    })?;
    weir_kafka::meter::register(producer.stats(), &mut registry);
    let running =
        start_server(parts, listener, Arc::new(producer), budget.clone(), meter.clone(), Vec::new())
            .map_err(unusable)?;
    let running = Arc::new(vec![running]);
    let Some(listen) = &options.console else { return Ok((running, None)) };
    let console = console::Source::new(&running, budget, registry, meter.write_times)
        .with_play(Arc::clone(&shared.play));
    let address = console::serve(listen, console, stop).await?;
    Ok((running, Some(address)))
}

/// What a person reads first.
fn welcome(console: SocketAddr, options: &Options) -> String {
    format!(
        "weir demo: {SERVERS} simulated region servers, {} messages in {} s around New Year, again and again\n\n\
         open      http://{console}/\n\
         look at   the first chart: a quiet evening, midnight in one bright second, then a burst that fades;\n          \
         sent, in the log and counted agree at the end of each play, and lost is 0\n          \
         below it the real capture path at work: region servers, tables, calls, bytes in flight\n\
         stop      Ctrl-C prints the account\n",
        expected(options),
        options.seconds
    )
}

/// Event time of the first bucket, and how many buckets a play has.
fn frame(options: &Options) -> (u64, usize) {
    let count = options.seconds * 1000 / burst::BUCKET_MS;
    (MIDNIGHT_MS - options.seconds * 500, usize::try_from(count).expect("an hour has few buckets"))
}

/// One server plays the burst in real time: a batch per bucket, its share of the messages.
async fn drive(mut server: RegionServer, options: Options, shared: Arc<Shared>) -> RegionServer {
    let bucket = Duration::from_millis(burst::BUCKET_MS);
    let mut clock = tokio::time::interval(bucket);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (first_ms, bucket_count) = frame(&options);
    for index in 0..bucket_count {
        clock.tick().await;
        while shared.is_behind() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if shared.is_interrupted.load(Ordering::Acquire) {
            break;
        }
        let event_ms = first_ms + index as u64 * burst::BUCKET_MS;
        let since_midnight_ms = event_ms.cast_signed() - MIDNIGHT_MS.cast_signed();
        let count = burst::messages(since_midnight_ms, options.rate) / SERVERS;
        shared.play.change(|account| {
            account.sent += count;
            account.sent_by_bucket[index] += count;
        });
        let took = server.send(count, event_ms).await;
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

/// Reads what comes; closes the account of each play that has ended once the log is read to its end.
fn read(bootstrap: &str, topic: String, shared: &Shared) -> Result<(), Fault> {
    let mut reader = Reader::open(bootstrap, &BTreeMap::new(), &[topic], Start::Beginning)?;
    let (mut counter, mut verified) = (Counter::default(), 0);
    loop {
        if let Some(record) = reader.next(Duration::from_millis(100))? {
            let in_log = shared.play.change(|account| {
                counter.take(&record, account)?;
                Ok(account.in_log)
            })?;
            shared.read.store(in_log, Ordering::Relaxed);
            continue;
        }
        let ended = shared.ended.load(Ordering::Acquire);
        if ended > verified {
            reader.ask_ends()?;
            if reader.is_at_end() {
                verified = ended;
                shared.play.change(Account::close);
                shared.verified.send_replace(verified);
            }
        } else if shared.is_over.load(Ordering::Acquire) {
            return Ok(());
        }
    }
}

/// Messages that a play of these options sends.
#[must_use]
pub fn expected(options: &Options) -> u64 {
    burst::total(options.seconds, options.rate)
}
