//! The table on the terminal, and the files: `capture.json`, a list of rows, and `capture.meta.json` about the machine.

use crate::measure::{METRICS, Plan, System, Values};
use crate::shape::{CONNECTIONS, ENTRIES_PER_CALL, PARTITIONS, REGIONS, SHAPES};
use crate::sink::Kind;
use std::path::PathBuf;
use std::process::Command;
use weir_model::limits::IN_FLIGHT_BYTES_DEFAULT;

/// What librdkafka's batch call alone costs for 100-byte records in the study of clients, us.
const STUDY_FLOOR_US: f64 = 0.45;

/// The goals of the capture path: us per 100-byte entry, ms, MiB over the budget.
const GOALS: (f64, f64, f64) = (1.0, 50.0, 128.0);

pub(crate) struct Report {
    folder: PathBuf,
    rows: Vec<serde_json::Value>,
    load_before: String,
}

impl Report {
    pub(crate) fn new(folder: &str) -> Self {
        Self { folder: PathBuf::from(folder), rows: Vec::new(), load_before: load_average() }
    }

    pub(crate) fn begin(&self, kind: Kind, plan: &Plan) {
        println!(
            "\nsink: {}; {} runs of {} s; {CONNECTIONS} region servers with {REGIONS} calls of \
             {ENTRIES_PER_CALL} entries in flight",
            kind.name(),
            plan.runs,
            plan.seconds
        );
        println!("{:8} {:22} {:24} {:>12} {:>12} {:>12}", "cell", "system", "metric", "median", "min", "max");
    }

    pub(crate) fn cell(&mut self, kind: Kind, shape: usize, plan: &Plan, measured: &[(System, Vec<Values>)]) {
        let cell = SHAPES[shape].name;
        let mut cpu = Vec::new();
        for (system, runs) in measured {
            for (metric, unit) in METRICS {
                let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(metric).copied()).collect();
                values.sort_by(f64::total_cmp);
                let (Some(min), Some(max)) = (values.first(), values.last()) else { continue };
                let median = values[values.len() / 2];
                println!("{cell:8} {:22} {metric:24} {median:>12.3} {min:>12.3} {max:>12.3}", system.name);
                if metric == "cpu_us_per_entry" {
                    cpu.push((system.name, median));
                }
                self.rows.push(serde_json::json!({
                    "cell": cell, "system": system.name, "metric": metric, "unit": unit, "median": median,
                    "min": min, "max": max, "runs": values.len(), "sink": kind.label(),
                }));
            }
        }
        let of = |name: &str| cpu.iter().find(|(system, _)| *system == name).map(|(_, cpu)| *cpu);
        if let (Some(weir), Some(floor)) = (of(System::WEIR.name), of(System::FLOOR.name)) {
            println!("{cell:8} weir = {:.2} x the floor of this run ({floor:.3} us)", weir / floor);
            if cell == "100B" {
                println!(
                    "{cell:8} weir = {:.2} x the study's floor ({STUDY_FLOOR_US} us)",
                    weir / STUDY_FLOOR_US
                );
            }
        }
        verdict(cell, plan, measured);
    }

    /// Writes both files.
    pub(crate) fn write(&self, plan: &Plan) {
        std::fs::create_dir_all(&self.folder).unwrap();
        let rows = self.folder.join("capture.json");
        std::fs::write(&rows, serde_json::to_string_pretty(&self.rows).unwrap()).unwrap();
        let meta = serde_json::json!({
            "command": format!("cargo x bench capture {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
            "commit": output("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
            "unix_time": std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
            "machine": {
                "cpu": first_field("/proc/cpuinfo", "model name"),
                "cores": std::thread::available_parallelism().unwrap().get(),
                "memory": first_field("/proc/meminfo", "MemTotal"),
                "kernel": output("uname", &["-sr"]),
                "load_average_before": self.load_before,
                "load_average_after": load_average(),
            },
            "versions": {
                "weir": env!("CARGO_PKG_VERSION"),
                "librdkafka": rdkafka::util::get_rdkafka_version().1,
                "kafka": weir_testkit::engine::kafka::VERSION,
                "rustc": output("rustc", &["--version"]),
            },
            "load": {
                "region_servers": CONNECTIONS, "calls_in_flight_each": REGIONS,
                "entries_per_call": ENTRIES_PER_CALL, "partitions": PARTITIONS,
                "seconds": plan.seconds, "runs": plan.runs,
            },
            "split": "cpu_us_route_encode and cpu_us_produce_call: thread CPU clock around the handler and the \
                append, once per call, in the measured run; cpu_us_produce_threads: threads rdk:* and weir-reports; \
                cpu_us_parse: the same frames parsed again after the run, each from a fresh copy; cpu_us_receive: \
                what tokio's workers spent beside these (socket reads, budget, answers, wake-ups); cpu_us_rest: \
                all other threads",
        });
        let file = self.folder.join("capture.meta.json");
        std::fs::write(&file, serde_json::to_string_pretty(&meta).unwrap()).unwrap();
        println!("\n{}\n{}", rows.display(), file.display());
    }
}

/// Says for each goal whether the medians meet it.
fn verdict(cell: &str, _plan: &Plan, measured: &[(System, Vec<Values>)]) {
    let Some((_, runs)) = measured.iter().find(|(system, _)| *system == System::WEIR) else { return };
    let median = |metric: &str| {
        let mut values: Vec<f64> = runs.iter().filter_map(|run| run.get(metric).copied()).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let say = |what: &str, value: f64, goal: f64| {
        let word = if value < goal { "met" } else { "MISSED" };
        println!("{cell:8} goal {word}: {what} {value:.3}, goal {goal}");
    };
    if cell == "100B" {
        say("us of CPU per entry", median("cpu_us_per_entry"), GOALS.0);
    }
    say("ms until p99 of the answers at half load", median("answer_ms_p99"), GOALS.1);
    let budget_mib = IN_FLIGHT_BYTES_DEFAULT as f64 / 1_048_576.0;
    say("MiB at most, with the log away", median("rss_mib_log_away"), budget_mib + GOALS.2);
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
