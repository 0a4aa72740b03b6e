//! `cargo x bench runtime`: what a record costs the keyed runtime, and its peers beside it on the same records.
//!
//! One real Kafka for all; this process fills topics and drives; every system that is measured is a process of its own.
//! The systems of a cell take turns, so that their ratio holds on a noisy machine. `crates/weir`'s `bench_capture` is
//! its sibling.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench: its output is for people")]

mod arrivals;
mod batch_loop;
mod checker;
mod child;
mod drain;
mod lap;
mod member;
mod plan;
mod report;
mod source;
mod trouble;
mod weir_side;

use lap::Order;
use member::Setting;
use plan::{CELLS, Cell, Kind, Plan, SIDE_BY_SIDE, System};
use report::Report;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;
use weir_side::Failure;
use weir_testkit::engine::kafka::Kafka;

const HELP: &str = "cargo x bench runtime [OPTIONS]

  --cell NAME       only these cells; also a letter (D: all that begin with D-), `all`, or several with commas. Without
                    it: the side-by-side cells 100B-0ms, 100B-1ms, 100B-10ms, 1KiB-0ms, 1KiB-10ms
  --system NAME     only these: weir, rdkafka-batch, rdkafka-stream, ruststream, java-consumer, parallel-consumer.
                    Without it: all for the side-by-side cells, weir for the others
  --runs N          of each system and cell (default 3)
  --quick           a tenth of the records and a third of the time: to see that all of it works
  --stuck-seconds N how long the record of cell J is stuck (default 60; the study's cell has 600)
  --out DIR         where runtime.json and runtime.meta.json go (default target/bench)
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["child", rest @ ..] => child(rest),
        ["--help" | "-h" | "help"] => {
            println!("{HELP}");
            Ok(())
        }
        options => drive(options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

fn child(words: &[&str]) -> Result<(), Failure> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let order = |rest: &[&str]| Order::parse(rest).ok_or("a child needs its six words");
    match words {
        ["weir", rest @ ..] => runtime()?.block_on(weir_side::run(&order(rest)?)),
        ["rdkafka-batch", rest @ ..] => Ok(batch_loop::run(&order(rest)?)?),
        ["source", bootstrap, topic] => source::run(bootstrap, topic),
        ["arrivals", bootstrap, topic] => arrivals::run(bootstrap, topic),
        ["member", rest @ ..] => {
            runtime()?.block_on(member::run(Setting::parse(rest).ok_or("a member needs its six words")?))
        }
        _ => Err("not a child's role".into()),
    }
}

/// All values of an option, those with commas taken apart.
fn all_after<'a>(options: &[&'a str], name: &str) -> Vec<&'a str> {
    let pairs = options.windows(2).filter(|pair| pair[0] == name);
    pairs.flat_map(|pair| pair[1].split(',')).collect()
}

fn plan(options: &[&str]) -> Result<Plan, String> {
    const WITH_VALUE: [&str; 5] = ["--cell", "--system", "--runs", "--stuck-seconds", "--out"];
    let mut words = options.iter();
    while let Some(word) = words.next() {
        if WITH_VALUE.contains(word) {
            words.next().ok_or_else(|| format!("{word} needs a value\n\n{HELP}"))?;
        } else if *word != "--quick" {
            return Err(format!("there is no option {word}\n\n{HELP}"));
        }
    }
    let number = |name: &str, default: u64| {
        let text = all_after(options, name).pop();
        text.map_or(Ok(default), |text| {
            text.parse::<u64>().map_err(|error| format!("{name} {text}: {error}"))
        })
    };
    let mut cells: Vec<Cell> = Vec::new();
    for name in all_after(options, "--cell") {
        let is_meant = |cell: &&Cell| {
            name == "all"
                || cell.name == name
                || cell.name.split('-').next() == Some(name)
                || name == "A" && cell.name.starts_with('A')
        };
        let found: Vec<Cell> = CELLS.iter().filter(is_meant).copied().collect();
        if found.is_empty() {
            let names: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
            return Err(format!("--cell {name}: one of all, {}", names.join(", ")));
        }
        cells.extend(found.into_iter().filter(|cell| !cells.contains(cell)).collect::<Vec<_>>());
    }
    if cells.is_empty() {
        cells = CELLS[..SIDE_BY_SIDE].to_vec();
    }
    let mut systems = Vec::new();
    for name in all_after(options, "--system") {
        let found = System::ALL.into_iter().find(|system| system.name() == name);
        systems.push(found.ok_or_else(|| format!("--system {name}: there is none of this name\n\n{HELP}"))?);
    }
    Ok(Plan {
        cells,
        systems: (!systems.is_empty()).then_some(systems),
        runs: usize::try_from(number("--runs", 3)?.max(1)).map_err(|error| error.to_string())?,
        is_quick: options.contains(&"--quick"),
        stuck: Duration::from_secs(number("--stuck-seconds", 60)?),
    })
}

fn drive(options: &[&str]) -> Result<(), Failure> {
    let mut plan = plan(options)?;
    let mut report = Report::new(all_after(options, "--out").pop().unwrap_or("target/bench"));
    drain::leave_out_what_is_not_there(&mut plan, &mut report);
    let kafka = Kafka::start_roomy();
    let bootstrap = kafka.bootstrap();
    source::create(&bootstrap, weir_side::DEAD, 1)?;
    let mut filled = BTreeSet::new();
    for (index, cell) in plan.cells.iter().enumerate() {
        let systems = plan.systems(cell);
        if systems.is_empty() {
            report.note(format!("{}: no system that was asked for can do it", cell.name));
            continue;
        }
        if let Kind::Drain { topic, .. } = cell.kind
            && filled.insert(topic.name)
        {
            let records = plan.records(topic.records);
            report.progress(&format!("filling {} with {records} records", topic.name));
            source::fill(&bootstrap, &topic, records)?;
        }
        let measured = match cell.kind {
            Kind::Drain { .. } => drain::cell(&plan, cell, &systems, &bootstrap, &mut report),
            _ => trouble::cell(&plan, cell, &bootstrap, &mut report),
        };
        report.cell(cell, &measured);
        // Written after each cell, so that an ended run leaves what it has.
        report.write(&plan, options)?;
        if let Kind::Drain { topic, .. } = cell.kind {
            let is_read_again = plan.cells[index + 1..].iter().any(
                |cell| matches!(cell.kind, Kind::Drain { topic: other, .. } if other.name == topic.name),
            );
            if !is_read_again {
                source::delete(&bootstrap, topic.name)?;
            }
        }
    }
    report.end();
    Ok(())
}
