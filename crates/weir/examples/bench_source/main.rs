//! `cargo x bench source`: what a real region server can send, and what Weir costs while it does.
//!
//! A real HBase 2.4.18 with a disabled peer is filled, then the peer is enabled and the time is taken until all has
//! come. `weir` is the real binary into real Kafka; `acknowledge-only` is the same server with a log that forgets at
//! once: what the source does when nothing holds it up. Runs of the two alternate.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: its output is for people, and errors end it"
)]

#[path = "../bench_capture/usage.rs"]
#[expect(dead_code, reason = "the clock of one thread is for the other bench")]
mod usage;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use usage::{Cpu, peak_mib};
use weir::config::{Capture, Limits, Tables};
use weir::meter::Meter;
use weir_model::limits::IN_FLIGHT_BYTES_DEFAULT;
use weir_runtime::budget::Budget;
use weir_runtime::log::{Job, LogWriter, RecordBatch};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::process::{Process, free_port};
use weir_testkit::table::TableTool;

const HELP: &str = "cargo x bench source [OPTIONS]

  --cells N    cells of 100 bytes that are sent in each run (default 300000)
  --runs N     of each system (default 3)
  --out DIR    where source.json goes (default target/bench)";

const LINE: Line = Line::V2_4;
const VALUE_BYTES: usize = 100;
const REGIONS: usize = 8;
const WRITERS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(600);

/// Both systems.
const SYSTEMS: [&str; 2] = ["weir", "acknowledge-only"];

/// Metric and unit of each figure, in the order of a run's values.
const METRICS: [(&str, &str); 4] = [
    ("cells_per_s", "1/s"),
    ("cpu_s_per_million_cells", "s"),
    ("source_cpu_s_per_million_cells", "s"),
    ("rss_mib", "MiB"),
];

/// A log that forgets at once.
struct Forgetful;

impl LogWriter for Forgetful {
    fn append(&self, _: RecordBatch) -> Job<'static, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Rig {
    kafka: Kafka,
    hbase: HBase,
    tool: TableTool,
    cells: u64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| matches!(word.as_str(), "--help" | "-h")) {
        println!("{HELP}");
        return;
    }
    let after = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    let number = |name: &str, default| after(name).map_or(default, |text| text.parse::<u64>().expect(name));
    let (cells, runs) = (number("--cells", 300_000), number("--runs", 3));
    println!("starting Kafka 4.3.1 and HBase {}", LINE.version());
    let (kafka, hbase) = (Kafka::start(), HBase::start(LINE));
    let tool = TableTool::start(&hbase);
    let mut rig = Rig { kafka, hbase, tool, cells };
    let mut measured: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for run in 0..runs {
        for system in SYSTEMS {
            let values = rig.run(system, run);
            println!("{system:18} run {run}: {}", say(&values));
            for ((metric, _), value) in METRICS.into_iter().zip(values) {
                measured.entry((system, metric)).or_default().push(value);
            }
        }
    }
    let mut rows = Vec::new();
    println!("\n{:18} {:32} {:>12} {:>12} {:>12}", "system", "metric", "median", "min", "max");
    for system in SYSTEMS {
        for (metric, unit) in METRICS {
            let mut values = measured.remove(&(system, metric)).unwrap();
            values.sort_by(f64::total_cmp);
            let (min, median, max) = (values[0], values[values.len() / 2], values[values.len() - 1]);
            println!("{system:18} {metric:32} {median:>12.2} {min:>12.2} {max:>12.2}");
            rows.push(serde_json::json!({
                "cell": format!("hbase-{}", LINE.version()), "system": system, "metric": metric, "unit": unit,
                "median": median, "min": min, "max": max, "runs": values.len(),
            }));
        }
    }
    let folder = after("--out").map_or("target/bench", String::as_str);
    std::fs::create_dir_all(folder).unwrap();
    let file = format!("{folder}/source.json");
    std::fs::write(&file, serde_json::to_string_pretty(&rows).unwrap()).unwrap();
    println!("{file}");
}

fn say(values: &[f64; 4]) -> String {
    let words =
        METRICS.iter().zip(values).map(|((metric, unit), value)| format!("{metric} {value:.2} {unit}"));
    words.collect::<Vec<_>>().join(", ")
}

impl Rig {
    fn run(&mut self, system: &str, run: u64) -> [f64; 4] {
        // A peer's name may hold letters, digits and `_` only.
        let name = format!("{}{run}", if system == "weir" { "weir" } else { "ack" });
        self.tool.run(&format!("create {name} {REGIONS}"));
        if system == "weir" { self.captured(&name) } else { self.acknowledged(&name) }
    }

    fn section(&self, name: &str) -> Capture {
        Capture {
            zookeeper: self.hbase.zookeeper(),
            peer: name.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            tables: Tables { include: vec![name.to_owned()], exclude: Vec::new() },
            ..Capture::default()
        }
    }

    /// Fills the table behind a disabled peer, enables it, and waits until `arrived` says that all has come.
    fn measure(&mut self, name: &str, process: u32, arrived: impl Fn() -> u64) -> [f64; 4] {
        let key = self.hbase.cluster_key(&format!("/weir/{name}"));
        self.tool.run(&format!("peer-add {name} {key}"));
        self.tool.run(&format!("peer-disable {name}"));
        self.tool.run(&format!("put-lists {name} {} {VALUE_BYTES} {WRITERS}", self.cells));
        let first = arrived();
        let (before, source_before) = (Cpu::of(process), Cpu::of(self.hbase.id()));
        let started = Instant::now();
        self.tool.run(&format!("peer-enable {name}"));
        while arrived() - first < self.cells {
            assert!(started.elapsed() < DEADLINE, "{} of {} cells came", arrived() - first, self.cells);
            std::thread::sleep(Duration::from_millis(20));
        }
        let seconds = started.elapsed().as_secs_f64();
        let millions = self.cells as f64 / 1e6;
        let cpu = Cpu::of(process).since(&before, |_| true) / millions;
        let source_cpu = Cpu::of(self.hbase.id()).since(&source_before, |_| true) / millions;
        self.tool.run(&format!("peer-remove {name}"));
        [self.cells as f64 / seconds, cpu, source_cpu, peak_mib(process)]
    }

    fn captured(&mut self, name: &str) -> [f64; 4] {
        let folder = tempfile::tempdir().unwrap();
        let console = free_port();
        let config = format!(
            "[log]\nbootstrap = [\"{}\"]\n[log.topics]\ncreate = true\npartitions = {REGIONS}\nreplication = 1\n\
             min-insync-replicas = 1\n[capture.main]\nzookeeper = \"{}\"\npeer = \"{name}\"\n\
             listen = \"127.0.0.1:0\"\ntables.include = [\"{name}\"]\n[console]\nlisten = \"127.0.0.1:{console}\"\n",
            self.kafka.bootstrap(),
            self.hbase.zookeeper()
        );
        let file = folder.path().join("weir.toml").display().to_string();
        std::fs::write(&file, config).unwrap();
        let weir = std::env::current_exe().unwrap().parent().unwrap().with_file_name("weir");
        let words = ["run".to_owned(), "--config".to_owned(), file];
        let log = folder.path().join("weir.log");
        let mut process = Process::start("weir", &weir.display().to_string(), &words, &log);
        process.wait_for("ready");
        let id = process.id();
        self.measure(name, id, || cells_done(console))
    }

    fn acknowledged(&mut self, name: &str) -> [f64; 4] {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (section, limits) = (self.section(name), Limits::default());
        let budget = Budget::new(IN_FLIGHT_BYTES_DEFAULT);
        let started = weir::capture::start(
            name,
            &section,
            &limits,
            None,
            Arc::new(Forgetful),
            budget,
            Meter::default(),
        );
        let running = runtime.block_on(started).unwrap();
        let stats = Arc::clone(&running.stats);
        let values = self.measure(name, std::process::id(), || stats.snapshot().cells);
        runtime.block_on(running.end());
        values
    }
}

/// Cells of calls that were answered OK: what the counters say once nothing is open.
fn cells_done(console: u16) -> u64 {
    let mut text = String::new();
    let asked = TcpStream::connect(("127.0.0.1", console)).and_then(|mut socket| {
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        socket.read_to_string(&mut text)
    });
    asked.unwrap();
    let sum = |name: &str| -> u64 {
        let values = text.lines().filter(|line| line.starts_with(name));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    // What is open is not durable yet.
    if sum("weir_source_calls_open{") > 0 { 0 } else { sum("weir_capture_cells_total{") }
}
