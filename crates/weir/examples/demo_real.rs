//! `cargo x demo --real`: the same promise on real HBase 2.6 and real Kafka, with a real client writing.
//!
//! Starts both engines, `weir run` and the peer; a Java client writes every kind of mutation for a while; then the
//! table's raw scan must equal the log, cell by cell. The last line is one JSON object; exit code 1 when it does not.
//! `p99_ms` here is from the region server's WAL append to the record being read back.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a command for people, and errors end it")]

use std::collections::BTreeMap;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_kafka::reader::{Reader, Start};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::process::{Process, free_port};
use weir_testkit::table::{Replay, TableTool, replicated};

/// How long the rest may take to arrive after the last write.
const ARRIVE_WAIT: Duration = Duration::from_secs(120);

/// What may be said on the command line.
const USAGE: &str = "cargo x demo --real [--seconds N] [--seed N] [--headless]

  --seconds N   how long the client writes (default 60)
  --seed N      seed of what it writes (default 7)
  --headless    end after the comparison; else the console stays until Ctrl-C";

struct Arguments {
    seconds: u64,
    seed: u64,
    headless: bool,
}

fn arguments() -> Option<Arguments> {
    let mut arguments = Arguments { seconds: 60, seed: 7, headless: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seconds" => arguments.seconds = words.next()?.parse().ok()?,
            "--seed" => arguments.seed = words.next()?.parse().ok()?,
            "--headless" => arguments.headless = true,
            _ => return None,
        }
    }
    (1..=3600).contains(&arguments.seconds).then_some(arguments)
}

fn main() -> ExitCode {
    let Some(Arguments { seconds, seed, headless }) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("starting Kafka 4.3.1 and HBase 2.6.4 (the first time their jars are fetched)");
    let (kafka, hbase) = (Kafka::start(), HBase::start(Line::V2_6));
    let mut tool = TableTool::start(&hbase);
    tool.run("create message 4");
    let folder = tempfile::tempdir().unwrap();
    let console = free_port();
    let config = format!(
        "[log]\nbootstrap = [\"{}\"]\n[log.topics]\ncreate = true\npartitions = 4\nreplication = 1\n\
         min-insync-replicas = 1\n[capture.main]\nzookeeper = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
         [console]\nlisten = \"127.0.0.1:{console}\"\n",
        kafka.bootstrap(),
        hbase.zookeeper()
    );
    let file = folder.path().join("weir.toml").display().to_string();
    std::fs::write(&file, config).unwrap();
    let weir = std::env::current_exe().unwrap().parent().unwrap().with_file_name("weir");
    let run = ["run".to_owned(), "--config".to_owned(), file.clone()];
    let mut process =
        Process::start("weir", &weir.display().to_string(), &run, &folder.path().join("weir.log"));
    process.wait_for("ready");
    let added = Command::new(&weir)
        .args(["--config", &file, "peer", "add", "--table", "message:f"])
        .output()
        .unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    println!(
        "\nopen      http://127.0.0.1:{console}/\nlook at   one real region server, the table and its topic; a real \
         client writes for {seconds} s,\n          then the table's raw scan is compared with the log, cell by cell\n"
    );
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < Duration::from_secs(seconds) {
        tool.run(&format!("load message {} 2000 4", seed * 1000 + round));
        round += 1;
    }
    let expect = replicated(tool.raw_scan("message"));
    let topic = ["hbase.message.wal".to_owned()];
    let mut reader = Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &topic, Start::Beginning).unwrap();
    let mut replay = Replay::default();
    let asked = Instant::now();
    while replay.cells() != expect && asked.elapsed() < ARRIVE_WAIT {
        for record in reader.read_to_end(ARRIVE_WAIT).unwrap() {
            replay.take(&record.value);
        }
    }
    let cells = replay.cells();
    let lost = expect.iter().filter(|(key, value)| cells.get(*key) != Some(value)).count();
    let p99_ms = read_back_p99(&mut tool, &kafka);
    let outcome = serde_json::json!({
        "sent": expect.len(), "in_log": cells.len(), "counted": cells.len(), "lost": lost,
        "duplicates": replay.duplicates, "p99_ms": p99_ms,
    });
    println!("{outcome}");
    if !headless {
        println!("the console stays; Ctrl-C ends it");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = runtime.block_on(tokio::signal::ctrl_c());
    }
    drop(process);
    if cells == expect { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Writes some more with a reader at the end of the log: from WAL append to read back, 99th percentile, ms.
fn read_back_p99(tool: &mut TableTool, kafka: &Kafka) -> u64 {
    let topic = ["hbase.message.wal".to_owned()];
    let bootstrap = kafka.bootstrap();
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let reading = std::thread::spawn(move || {
        let mut reader = Reader::open(&bootstrap, &BTreeMap::new(), &topic, Start::End).unwrap();
        let mut waits = Vec::new();
        loop {
            match reader.next(Duration::from_millis(200)).unwrap() {
                Some(record) if record.header(weir_wire::identity::EVENT_HEADER).is_some() => {}
                Some(record) => {
                    let identity =
                        weir_wire::identity::parse(record.header("weir").unwrap().as_bytes()).unwrap();
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
                    waits.push(now.saturating_sub(identity.write_time_ms));
                }
                None if stopped.try_recv().is_ok() => return waits,
                None => {}
            }
        }
    });
    // A fixed load after the comparison, so that it counts for nothing else.
    tool.run("load message 999 4000 4");
    std::thread::sleep(Duration::from_secs(3));
    stop.send(()).unwrap();
    let mut waits = reading.join().unwrap();
    waits.sort_unstable();
    waits.get(waits.len() * 99 / 100).copied().unwrap_or_default()
}
