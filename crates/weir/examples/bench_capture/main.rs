//! `cargo x bench capture`: what one entry costs the real capture path, and the floor beside it.
//!
//! Four processes: this one drives and holds the mock cluster; a child is the system that is measured (Weir, or the
//! floor: a bare loop that hands the same record bytes to librdkafka); another child is the simulated region servers;
//! real Kafka is a JVM of its own. Runs of the systems alternate, so that their ratio holds on a noisy machine.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench: its output is for people, and errors end it"
)]

mod child;
mod floor;
mod measure;
mod report;
mod shape;
mod sink;
mod source;
mod stages;
mod usage;
mod weir_side;

use measure::{Plan, System};
use report::Report;
use sink::{Kind, Sink};

const HELP: &str = "cargo x bench capture [OPTIONS]

  --sink mock|kafka|both   where the records go: librdkafka's mock cluster, real Kafka 4.3.1, or both (default)
  --out DIR                where capture.json and capture.meta.json go (default target/bench)
  --seconds N              of each saturating run, and of each run at half load (default 6)
  --runs N                 of each system and cell (default 3)
  --cell NAME              only this cell: 100B, 5x100B, 1KiB
  --also-bare              both systems also without compression, and without compression and headers
  --only-weir              no floor: for profiling
";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["child", "weir", rest @ ..] => weir_side::run(rest),
        ["child", "floor", rest @ ..] => floor::run(rest),
        ["child", "source", rest @ ..] => source::run(rest),
        ["--help" | "-h" | "help"] => println!("{HELP}"),
        options => drive(options),
    }
}

fn drive(options: &[&str]) {
    let after = |name: &str| options.iter().position(|word| *word == name).and_then(|at| options.get(at + 1));
    let number = |name: &str, default| after(name).map_or(default, |text| text.parse::<u64>().expect(name));
    let kinds = match after("--sink").copied().unwrap_or("both") {
        "mock" => vec![Kind::Mock],
        "kafka" => vec![Kind::Kafka],
        "both" => vec![Kind::Mock, Kind::Kafka],
        other => panic!("--sink {other}: one of mock, kafka, both"),
    };
    let mut systems = vec![System::WEIR];
    if !options.contains(&"--only-weir") {
        systems.push(System::FLOOR);
    }
    if options.contains(&"--also-bare") {
        systems.extend(System::BARER);
    }
    let shapes: Vec<usize> = (0..shape::SHAPES.len())
        .filter(|shape| after("--cell").is_none_or(|name| *name == shape::SHAPES[*shape].name))
        .collect();
    assert!(!shapes.is_empty(), "--cell: one of 100B, 5x100B, 1KiB");
    let plan = Plan { systems, shapes, seconds: number("--seconds", 6), runs: number("--runs", 3) };
    let mut report = Report::new(after("--out").unwrap_or(&"target/bench"));
    for kind in kinds {
        let sink = Sink::start(kind);
        report.begin(kind, &plan);
        for shape in &plan.shapes {
            let measured = measure::cell(&plan, &sink, *shape);
            report.cell(kind, *shape, &plan, &measured);
        }
        // Written after each sink, so that an ended run leaves what it has.
        report.write(&plan);
    }
}
