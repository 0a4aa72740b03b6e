//! The table on the terminal, and the files: `runtime.json`, a list of rows, and `runtime.meta.json` about the machine.

use crate::drain::{LANES, THREADS_IDLE, THREADS_WAITING};
use crate::plan::{Cell, Plan};
use crate::weir_side::Failure;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use weir_runtime::consumer::BUDGET_BYTES_DEFAULT;
use weir_testkit::engine::{kafka, runtime_peer};

/// Values of one run by metric.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// All runs of a system in a cell.
pub(crate) struct Measured {
    pub(crate) system: &'static str,
    pub(crate) runs: Vec<Values>,
}

impl Measured {
    /// Median, minimum and maximum.
    fn of(&self, metric: &str) -> Option<[f64; 3]> {
        let mut values: Vec<f64> = self.runs.iter().filter_map(|run| run.get(metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        Some([values.get(values.len() / 2).copied()?, values.first().copied()?, values.last().copied()?])
    }
}

/// The unit of a metric, by its name.
fn unit(metric: &str) -> &'static str {
    match metric {
        _ if metric.starts_with("cpu_us") => "us",
        _ if metric.starts_with("rss_mib") => "MiB",
        _ if metric.contains("per_s") => "1/s",
        _ if metric.contains("_ms") => "ms",
        _ if metric.ends_with("_s") => "s",
        _ if metric.starts_with("percent") => "%",
        _ => "",
    }
}

/// The goals of the runtime on real Kafka.
mod goal {
    /// us of CPU per 100-byte record.
    pub(super) const CPU_US_IDLE: f64 = 1.5;
    pub(super) const CPU_US_10MS: f64 = 4.0;
    /// Records a second with a handler of 10 ms.
    pub(super) const RATE_10MS: f64 = 200_000.0;
    /// CPU at 1 KiB as a multiple of the bare loop's.
    pub(super) const TO_LOOP_1KIB: f64 = 1.15;
    /// ms beyond the handler's own latency, p99 at 80 % of capacity.
    pub(super) const P99_MS_MORE: f64 = 5.0;
    /// MiB with three partitions, and over the budget with 500 or with a stuck record.
    pub(super) const RSS_MIB: f64 = 128.0;
    pub(super) const RSS_MIB_OVER_BUDGET: f64 = 64.0;
}

pub(crate) struct Report {
    folder: PathBuf,
    rows: Vec<serde_json::Value>,
    notes: Vec<String>,
    verdicts: Vec<String>,
    load_before: String,
    started: Instant,
}

impl Report {
    pub(crate) fn new(folder: &str) -> Self {
        Self {
            folder: PathBuf::from(folder),
            rows: Vec::new(),
            notes: Vec::new(),
            verdicts: Vec::new(),
            load_before: load_average(),
            started: Instant::now(),
        }
    }

    /// Tells what is being done now.
    pub(crate) fn progress(&self, what: &str) {
        eprintln!("[{:4.0} s] {what}", self.started.elapsed().as_secs_f64());
    }

    /// Something that the reader of the figures must know.
    pub(crate) fn note(&mut self, what: String) {
        self.progress(&what);
        self.notes.push(what);
    }

    pub(crate) fn cell(&mut self, cell: &Cell, measured: &[Measured]) {
        println!(
            "\n{:10} {:18} {:24} {:>14} {:>14} {:>14}",
            "cell", "system", "metric", "median", "min", "max"
        );
        for one in measured {
            let metrics: Vec<&'static str> = one.runs.iter().flat_map(|run| run.keys().copied()).collect();
            let mut metrics = metrics;
            metrics.sort_unstable();
            metrics.dedup();
            for metric in metrics {
                let Some([median, min, max]) = one.of(metric) else { continue };
                println!(
                    "{:10} {:18} {metric:24} {median:>14.3} {min:>14.3} {max:>14.3}",
                    cell.name, one.system
                );
                self.rows.push(serde_json::json!({
                    "cell": cell.name, "system": one.system, "metric": metric, "unit": unit(metric),
                    "median": median, "min": min, "max": max, "runs": one.runs.len(),
                }));
            }
        }
        let of = |system: &str, metric: &str| {
            Some(measured.iter().find(|one| one.system == system)?.of(metric)?[0])
        };
        if let (Some(weir), true) = (of("weir", "cpu_us_per_record"), measured.len() > 1) {
            for one in measured.iter().filter(|one| one.system != "weir") {
                if let Some([other, ..]) = one.of("cpu_us_per_record") {
                    println!("{:10} {} = {:.2} x the CPU of weir", cell.name, one.system, other / weir);
                }
            }
        }
        for verdict in verdicts(cell, of) {
            println!("{verdict}");
            self.verdicts.push(verdict);
        }
    }

    /// Writes both files.
    pub(crate) fn write(&self, plan: &Plan, options: &[&str]) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.folder)?;
        std::fs::write(self.folder.join("runtime.json"), serde_json::to_string_pretty(&self.rows)?)?;
        let meta = serde_json::json!({
            "command": format!("cargo x bench runtime {}", options.join(" ")),
            "commit": output("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            "unix_time": SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
            "machine": {
                "cpu": first_field("/proc/cpuinfo", "model name"),
                "cores": std::thread::available_parallelism()?.get(),
                "memory": first_field("/proc/meminfo", "MemTotal"),
                "kernel": output("uname", &["-sr"]),
                "load_average_before": self.load_before,
                "load_average_after": load_average(),
            },
            "versions": {
                "weir": env!("CARGO_PKG_VERSION"),
                "librdkafka": rdkafka::util::get_rdkafka_version().1,
                "kafka": kafka::VERSION,
                "java-consumer": kafka::VERSION,
                "parallel-consumer": runtime_peer::PARALLEL_CONSUMER_VERSION,
                "ruststream-rdkafka": peer_version("ruststream-rdkafka"),
                "rdkafka": peer_version("rdkafka"),
                "java": output("java", &["--version"]).lines().next().unwrap_or_default(),
                "rustc": output("rustc", &["--version"]),
            },
            "load": {
                "brokers": 1, "runs": plan.runs, "quick": plan.is_quick,
                "java_heap_mib": runtime_peer::HEAP_MIB,
                "parallel_consumer": format!(
                    "KEY order; {THREADS_IDLE} threads with a handler of 0 ms, {THREADS_WAITING} otherwise"
                ),
                "ruststream": format!(
                    "Commit::Tracked; one at a time with a handler of 0 ms, {LANES} keyed lanes otherwise"
                ),
            },
            "method": "CPU: whole process, from the making of the measured consumer (a pass over the same records with \
                another group comes before, 1 s, on the JVM 6 s) to the last record; cpu_ms_before_first is the part \
                of it before the first record. Rate: first record to last; a pass ends after 10 s if there are \
                records left. RSS: peak of the process, warm-up included",
            "notes": self.notes,
            "goals": self.verdicts,
        });
        std::fs::write(self.folder.join("runtime.meta.json"), serde_json::to_string_pretty(&meta)?)?;
        Ok(())
    }

    /// The last words.
    pub(crate) fn end(&self) {
        println!();
        self.notes.iter().for_each(|note| println!("note: {note}"));
        self.verdicts.iter().for_each(|verdict| println!("{verdict}"));
        for file in ["runtime.json", "runtime.meta.json"] {
            println!("{}", self.folder.join(file).display());
        }
    }
}

/// Says for each goal of this cell whether the medians meet it.
fn verdicts(cell: &Cell, of: impl Fn(&str, &str) -> Option<f64>) -> Vec<String> {
    let mut said = Vec::new();
    let mut say = |what: &str, is_met: bool, value: f64, goal: f64| {
        let word = if is_met { "met" } else { "MISSED" };
        said.push(format!("{:10} goal {word}: {what} {value:.3}, goal {goal}", cell.name));
    };
    let mut at_most = |what: &str, value: Option<f64>, goal: f64| {
        if let Some(value) = value {
            say(what, value <= goal, value, goal);
        }
    };
    let cpu = of("weir", "cpu_us_per_record");
    let rss = of("weir", "rss_mib");
    let over_budget = BUDGET_BYTES_DEFAULT as f64 / 1_048_576.0 + goal::RSS_MIB_OVER_BUDGET;
    match cell.name {
        "100B-0ms" => at_most("us of CPU per record", cpu, goal::CPU_US_IDLE),
        "100B-10ms" => at_most("us of CPU per record", cpu, goal::CPU_US_10MS),
        "1KiB-0ms" => {
            let ratio = cpu.zip(of("rdkafka-batch", "cpu_us_per_record")).map(|(weir, bare)| weir / bare);
            at_most("CPU as a multiple of the bare loop's", ratio, goal::TO_LOOP_1KIB);
        }
        "F-80" => {
            let own = of("weir", "handler_ms_p99");
            let beyond = of("weir", "latency_ms_p99").zip(own).map(|(p99, own)| p99 - own);
            at_most("ms of p99 beyond the handler's own", beyond, goal::P99_MS_MORE);
        }
        "H" | "K" => {
            at_most("order violations", of("weir", "order_violations"), 0.0);
            at_most("records lost", of("weir", "lost"), 0.0);
        }
        "L" | "J" => at_most("MiB at most", rss, over_budget),
        _ => {}
    }
    if cell.name.contains('B') && cell.name.ends_with("ms") && !cell.name.starts_with('B') {
        at_most("MiB at most", rss, goal::RSS_MIB);
    }
    if let (true, Some(rate)) = (cell.name == "100B-10ms", of("weir", "records_per_s")) {
        say("records/s", rate >= goal::RATE_10MS, rate, goal::RATE_10MS);
    }
    said
}

/// The version of a package that `bench/peers` is built with.
fn peer_version(name: &str) -> String {
    let lock = include_str!("../../../../bench/peers/Cargo.lock");
    let after = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|(_, after)| after);
    after.and_then(|after| after.split('"').next()).unwrap_or("unknown").to_owned()
}

fn output(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    output.map_or_else(
        |_| "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

fn first_field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
