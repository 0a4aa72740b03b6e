//! `cargo x bench capture`: what one entry costs the real capture path, and the floor beside it.
//!
//! Three processes: this one drives (prebuilt replication calls over TCP, and librdkafka's mock cluster as sink), one
//! child is Weir (server, routing, producer), another is the floor (the same record bytes handed to librdkafka in
//! batches by a bare loop). CPU and memory are those of the child, from `/proc`.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: bare librdkafka calls, and errors end it"
)]

use rdkafka_sys as sys;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use weir::capture::{Parts, start_server};
use weir::meter::Meter;
use weir_apps::capture::{Capture, Settings};
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_model::{ClusterId, TopicName, TopicNaming, limits};
use weir_runtime::budget::Budget;
use weir_runtime::log::RecordBatch;
use weir_wire::hbase::call::{ConnectionHeader, encode_call, parse_call};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, ReplicateRequest, RequestBuilder};

const SOURCE: ClusterId = ClusterId { most: 1, least: 2 };
const PARTITIONS: i32 = 8;
const CONNECTIONS: usize = 4;
const CALLS_AT_ONCE: usize = 4;
const ENTRIES_PER_CALL: usize = 1000;
const RUN: Duration = Duration::from_secs(6);
const RUNS: usize = 3;

/// (name, cells per entry, value bytes)
const SHAPES: [(&str, usize, usize); 3] = [("100B", 1, 100), ("5x100B", 5, 100), ("1KiB", 1, 1024)];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sink", bootstrap, headers] => sink(bootstrap, *headers == "headers"),
        ["floor", bootstrap, shape] => floor(bootstrap, shape.parse().unwrap()),
        _ => drive(
            words
                .iter()
                .position(|word| *word == "--out")
                .and_then(|at| words.get(at + 1))
                .unwrap_or(&"target/bench"),
        ),
    }
}

/// The frame of one call of a region.
fn frame(shape: usize, region: usize) -> Vec<u8> {
    let (_, cells, bytes) = SHAPES[shape];
    let value = vec![b'v'; bytes];
    let name = format!("{region:032x}");
    let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
    for entry in 0..ENTRIES_PER_CALL as u64 {
        let key = NewKey {
            encoded_region: name.as_bytes(),
            table: b"t",
            sequence: 1_000_000 + entry,
            write_time_ms: 1_767_225_600_000,
            cluster_ids: &[SOURCE],
            families: &[b"f"],
        };
        let row = format!("row-{entry:012}");
        let cell = Cell {
            row: row.as_bytes(),
            family: b"f",
            qualifier: b"q",
            timestamp: 1_767_225_600_000,
            kind: CellKind::PUT,
            value: &value,
            tags: &[],
        };
        builder.push(&key, std::iter::repeat_n(cell, cells));
    }
    let (param, block) = builder.finish();
    let mut frame = Vec::new();
    encode_call(&mut frame, 1, METHOD, Some(60_000), &param, &block);
    frame
}

fn settings(headers: bool) -> Settings {
    Settings { headers, ..Settings::everything(TopicNaming::new("", "").unwrap()) }
}

/// Weir: prints its port, serves until killed.
fn sink(bootstrap: &str, headers: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let config = ProducerConfig { compression: "none".to_owned(), ..ProducerConfig::new(bootstrap) };
        let producer = Producer::start(config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let parts = Parts {
            name: "bench".to_owned(),
            source: SOURCE,
            peer_id: SOURCE,
            settings: settings(headers),
            frame_bytes_max: limits::FRAME_BYTES_MAX,
            answer_margin_percent: 25,
            creator: None,
        };
        let budget = Budget::new(limits::IN_FLIGHT_BYTES_DEFAULT);
        let running =
            start_server(parts, listener, Arc::new(producer), budget, Meter::default(), Vec::new()).unwrap();
        println!("{}", running.address.port());
        std::future::pending::<()>().await;
    });
}

/// The floor: one call's records, routed and encoded once, handed over again and again; prints entries done at the end.
fn floor(bootstrap: &str, shape: usize) {
    let frames: Vec<Vec<u8>> = (0..CONNECTIONS * CALLS_AT_ONCE).map(|region| frame(shape, region)).collect();
    let capture = Capture::new(settings(false));
    let batches: Vec<RecordBatch> = frames
        .iter()
        .map(|frame| {
            let call = parse_call(&frame[4..]).unwrap();
            let request =
                ReplicateRequest::parse(call.param, call.cell_block, Codec::KeyValueWithTags).unwrap();
            let mut batch = RecordBatch::default();
            capture.route(SOURCE, &request, &mut batch).unwrap();
            batch
        })
        .collect();
    let mut config = rdkafka::ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "2147483647");
    println!("0");
    let mut done = 0u64;
    // SAFETY: plain use of librdkafka as its header says; keys and values live until the process ends.
    unsafe {
        let native = config.create_native_config().unwrap();
        let conf = sys::rd_kafka_conf_dup(native.ptr());
        let client =
            sys::rd_kafka_new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf, std::ptr::null_mut(), 0);
        let topic = sys::rd_kafka_topic_new(client, c"t".as_ptr(), std::ptr::null_mut());
        let empty: sys::rd_kafka_message_t = std::mem::zeroed();
        let started = Instant::now();
        'all: loop {
            for batch in &batches {
                let partition = weir_kafka::partition::of_key(batch.bytes(&batch.records[0].key), PARTITIONS);
                let mut messages: Vec<sys::rd_kafka_message_t> = batch
                    .records
                    .iter()
                    .map(|record| sys::rd_kafka_message_t {
                        payload: batch.bytes(&record.value).as_ptr().cast_mut().cast(),
                        len: record.value.len(),
                        key: batch.bytes(&record.key).as_ptr().cast_mut().cast(),
                        key_len: record.key.len(),
                        ..empty
                    })
                    .collect();
                while sys::rd_kafka_outq_len(client) > 100_000 {
                    sys::rd_kafka_poll(client, 1);
                }
                let taken = sys::rd_kafka_produce_batch(
                    topic,
                    partition,
                    0,
                    messages.as_mut_ptr(),
                    messages.len() as i32,
                );
                done += taken as u64;
                sys::rd_kafka_poll(client, 0);
                if started.elapsed() > RUN {
                    break 'all;
                }
            }
        }
        sys::rd_kafka_flush(client, 60_000);
        println!("{done} {}", started.elapsed().as_secs_f64());
    }
    std::thread::sleep(Duration::from_secs(3600));
}

/// A child and the first line that it printed.
fn child(words: &[&str]) -> (Child, BufReader<std::process::ChildStdout>, String) {
    let mut child =
        Command::new(std::env::current_exe().unwrap()).args(words).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (child, out, line.trim().to_owned())
}

/// CPU seconds and peak MiB of a process.
fn usage(id: u32) -> (f64, f64) {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    (ticks / 100.0, peak.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0)
}

/// What one run came to.
struct Measured {
    cpu_us: f64,
    per_s: f64,
    rss_mib: f64,
    p99_ms: Option<f64>,
}

fn drive(out: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lines = Vec::new();
    println!("{:8} {:22} {:18} {:>9} {:>9} {:>9}", "cell", "system", "metric", "median", "min", "max");
    for (shape, (cell, _, _)) in SHAPES.iter().enumerate() {
        for system in ["weir", "weir-without-headers", "rdkafka-produce"] {
            let runs: Vec<Measured> = (0..RUNS).map(|_| runtime.block_on(measure(shape, system))).collect();
            let metric = |name: &str,
                          unit: &str,
                          value: &dyn Fn(&Measured) -> Option<f64>,
                          lines: &mut Vec<serde_json::Value>| {
                let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
                if values.is_empty() {
                    return;
                }
                values.sort_by(f64::total_cmp);
                let (min, median, max) = (values[0], values[values.len() / 2], values[values.len() - 1]);
                println!("{cell:8} {system:22} {name:18} {median:>9.2} {min:>9.2} {max:>9.2}");
                lines.push(serde_json::json!({"cell": cell, "system": system, "metric": name, "unit": unit, "median": median, "min": min, "max": max, "runs": values.len()}));
            };
            metric("cpu_us_per_entry", "us", &|run| Some(run.cpu_us), &mut lines);
            metric("entries_per_s", "1/s", &|run| Some(run.per_s), &mut lines);
            metric("rss_mib", "MiB", &|run| Some(run.rss_mib), &mut lines);
            metric("answer_ms_p99", "ms", &|run| run.p99_ms, &mut lines);
        }
    }
    std::fs::create_dir_all(out).unwrap();
    let file = format!("{out}/capture.json");
    std::fs::write(&file, serde_json::to_string_pretty(&lines).unwrap()).unwrap();
    println!("{file}");
}

async fn measure(shape: usize, system: &str) -> Measured {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), PARTITIONS, 1).unwrap();
    if system == "rdkafka-produce" {
        let (mut process, mut lines, _) = child(&["floor", &log.bootstrap(), &shape.to_string()]);
        let before = usage(process.id()).0;
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let (cpu, rss_mib) = usage(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        let (entries, seconds) = line.trim().split_once(' ').unwrap();
        let (entries, seconds) = (entries.parse::<f64>().unwrap(), seconds.parse::<f64>().unwrap());
        return Measured {
            cpu_us: (cpu - before) * 1e6 / entries,
            per_s: entries / seconds,
            rss_mib,
            p99_ms: None,
        };
    }
    let headers = if system == "weir" { "headers" } else { "plain" };
    let (mut process, _lines, port) = child(&["sink", &log.bootstrap(), headers]);
    let port: u16 = port.parse().unwrap();
    let before = usage(process.id()).0;
    let started = Instant::now();
    let (calls, _) = load(port, shape, None).await;
    let seconds = started.elapsed().as_secs_f64();
    let (cpu, rss_mib) = usage(process.id());
    let entries = (calls * ENTRIES_PER_CALL) as f64;
    // Half of that, at an even pace: how long a source waits for its answer.
    let pace = Duration::from_secs_f64(2.0 * (CONNECTIONS * CALLS_AT_ONCE) as f64 * seconds / calls as f64);
    let (_, mut latencies) = load(port, shape, Some(pace)).await;
    latencies.sort_unstable();
    let p99_ms = latencies[latencies.len() * 99 / 100].as_secs_f64() * 1000.0;
    process.kill().unwrap();
    process.wait().unwrap();
    Measured {
        cpu_us: (cpu - before) * 1e6 / entries,
        per_s: entries / seconds,
        rss_mib,
        p99_ms: Some(p99_ms),
    }
}

/// Sends batches of calls over all connections for a while; calls done and how long each batch waited.
async fn load(port: u16, shape: usize, pace: Option<Duration>) -> (usize, Vec<Duration>) {
    let connections = (0..CONNECTIONS).map(|connection| async move {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut hello = preamble::simple().to_vec();
        let codec = Some(Codec::KeyValueWithTags.class().to_owned());
        ConnectionHeader { service: "AdminService".to_owned(), codec, ..ConnectionHeader::default() }
            .encode(&mut hello);
        socket.write_all(&hello).await.unwrap();
        let frames: Vec<u8> =
            (0..CALLS_AT_ONCE).flat_map(|call| frame(shape, connection * CALLS_AT_ONCE + call)).collect();
        let (started, mut calls, mut waits) = (Instant::now(), 0, Vec::new());
        let mut clock = tokio::time::interval(pace.unwrap_or(Duration::from_millis(1)));
        while started.elapsed() < RUN {
            if pace.is_some() {
                clock.tick().await;
            }
            let sent = Instant::now();
            let (mut reader, mut writer) = socket.split();
            let read = async {
                let mut answer = [0; 256];
                for _ in 0..CALLS_AT_ONCE {
                    let len = reader.read_u32().await.unwrap() as usize;
                    reader.read_exact(&mut answer[..len]).await.unwrap();
                    assert!(len < 16, "an exception came back");
                }
            };
            let (written, ()) = tokio::join!(writer.write_all(&frames), read);
            written.unwrap();
            waits.push(sent.elapsed());
            calls += CALLS_AT_ONCE;
        }
        (calls, waits)
    });
    let all = futures::future::join_all(connections).await;
    let calls = all.iter().map(|(calls, _)| calls).sum();
    (calls, all.into_iter().flat_map(|(_, waits)| waits).collect())
}
