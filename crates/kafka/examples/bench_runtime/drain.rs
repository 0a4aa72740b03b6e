//! Cells that read what is there already, as fast as it goes: all systems in turn.

use crate::child::{Child, status, value};
use crate::lap::Handler;
use crate::plan::{Cell, Keys, Kind, Plan, System};
use crate::report::{Measured, Report, Values};
use std::path::PathBuf;
use std::time::Duration;
use weir_testkit::engine::process::mortal;
use weir_testkit::engine::runtime_peer;

/// The longest measured pass. A system that is slower ends with fewer records than are there.
const TIME_MAX: Duration = Duration::from_secs(10);

/// The longest pass to warm up: a JVM compiles for seconds, the others only make connections and grow their heaps.
const WARM_TIME_MAX: Duration = Duration::from_secs(1);
const WARM_TIME_MAX_JAVA: Duration = Duration::from_secs(6);

/// Beyond both passes: to start, to join the group twice, to stop.
const SLACK: Duration = Duration::from_secs(40);

/// Threads of Parallel Consumer: its default where the handler only counts (more cost more), and where it sleeps the
/// number that kpipe's comparison gives it.
pub(crate) const THREADS_IDLE: u32 = 16;
pub(crate) const THREADS_WAITING: u32 = 100;

/// Keyed lanes of ruststream where the handler sleeps. A lane holds one record at a time, and one that is busy holds up
/// the reading.
pub(crate) const LANES: u32 = 1000;

/// The program of `bench/peers`: cargo puts it beside the folder of examples.
fn peers() -> Option<PathBuf> {
    let myself = std::env::current_exe().ok()?;
    let path = myself.parent()?.parent()?.join("weir-bench-peers");
    path.exists().then_some(path)
}

/// Says which peers are not there. No row is made for them.
pub(crate) fn leave_out_what_is_not_there(plan: &mut Plan, report: &mut Report) {
    let needs = |plan: &Plan, wanted: fn(System) -> bool| {
        plan.cells.iter().flat_map(|cell| plan.systems(cell)).any(wanted)
    };
    let mut left_out = Vec::new();
    let is_ours = |system| matches!(system, System::RdkafkaStream | System::Ruststream);
    if needs(plan, is_ours) && peers().is_none() {
        report.note(
            "rdkafka-stream and ruststream are not measured: bench/peers is not built (`cargo x bench runtime` builds \
             it)"
                .to_owned(),
        );
        left_out.extend([System::RdkafkaStream, System::Ruststream]);
    }
    if needs(plan, System::is_java) {
        report.progress("fetching the JVM peers");
        let fetched = std::panic::catch_unwind(|| {
            [System::JavaConsumer, System::ParallelConsumer].map(|system| runtime_peer::words(system.name()))
        });
        if fetched.is_err() {
            report.note(
                "java-consumer and parallel-consumer are not measured: the reason stands above".to_owned(),
            );
            left_out.extend([System::JavaConsumer, System::ParallelConsumer]);
        }
    }
    if !left_out.is_empty() {
        let wanted = plan.systems.clone().unwrap_or_else(|| System::ALL.to_vec());
        plan.systems = Some(wanted.into_iter().filter(|system| !left_out.contains(system)).collect());
    }
}

/// All runs of a cell: A B A B, so that a machine's good and bad minutes fall on all systems alike.
pub(crate) fn cell(
    plan: &Plan,
    cell: &Cell,
    systems: &[System],
    bootstrap: &str,
    report: &mut Report,
) -> Vec<Measured> {
    let mut measured: Vec<Measured> =
        systems.iter().map(|system| Measured { system: system.name(), runs: Vec::new() }).collect();
    for run in 1..=plan.runs {
        for (system, into) in systems.iter().zip(&mut measured) {
            report.progress(&format!("{} {} run {run} of {}", cell.name, system.name(), plan.runs));
            match one(plan, cell, *system, bootstrap) {
                Ok(values) => into.runs.push(values),
                Err(why) => {
                    report.note(format!("{} {} run {run} gave no figures: {why}", cell.name, system.name()));
                }
            }
        }
    }
    measured
}

fn one(plan: &Plan, cell: &Cell, system: System, bootstrap: &str) -> Result<Values, String> {
    let Kind::Drain { topic, handler, records } = cell.kind else {
        return Err("not a cell of records that are there".to_owned());
    };
    let all = plan.records(topic.records);
    let records = if records == 0 { all } else { plan.records(records).min(all) };
    let shorter = |time: Duration| if plan.is_quick { time / 3 } else { time };
    // Nothing is said of a record that did not end, so this one ends by itself.
    let time_max = if handler == Handler::FailSome { TIME_MAX * 6 } else { shorter(TIME_MAX) };
    let warm_time_max = shorter(if system.is_java() { WARM_TIME_MAX_JAVA } else { WARM_TIME_MAX });
    let words = [
        bootstrap.to_owned(),
        topic.name.to_owned(),
        records.to_string(),
        time_max.as_millis().to_string(),
        warm_time_max.as_millis().to_string(),
        handler.word(),
        concurrency(system, handler).to_string(),
    ];
    let mut child = start(system, &words)?;
    let line = child.line(time_max + warm_time_max + SLACK)?;
    let of = |name| value(&line, name);
    let (done, seconds) = (of("records")?, of("seconds")?);
    if done < 1.0 || seconds <= 0.0 {
        return Err(format!("no record was handled: {line}"));
    }
    let rate = done / seconds;
    let mut values = Values::from([
        ("cpu_us_per_record", of("cpu_seconds")? * 1e6 / done),
        ("cpu_ms_before_first", of("cpu_seconds_before_first")? * 1e3),
        ("records_per_s", rate),
        ("rss_mib", status(child.id(), "VmHWM")? / 1024.0),
        ("threads", of("threads")?),
        ("records", done),
    ]);
    match (topic.keys, handler) {
        (Keys::Even(keys), Handler::Sleep { times, each }) if cell.name.starts_with("D-") => {
            let ideal = keys as f64 / (each * times).as_secs_f64();
            values.insert("percent_of_ideal", rate / ideal * 100.0);
        }
        (_, Handler::Spin { each }) => {
            let cores = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
            values.insert("records_per_s_per_core", rate / cores);
            values.insert("percent_of_ideal", rate / cores * each.as_secs_f64() * 100.0);
        }
        (_, Handler::FailSome) => {
            values.insert("failed_attempts", of("failed_attempts")?);
            values.insert("order_violations", of("order_violations")?);
            values.insert("lost", records as f64 - done);
        }
        _ => {}
    }
    Ok(values)
}

/// Records at once; no word for those that need not be told.
fn concurrency(system: System, handler: Handler) -> u32 {
    match (system, handler) {
        (System::ParallelConsumer, Handler::Count) => THREADS_IDLE,
        (System::ParallelConsumer, _) => THREADS_WAITING,
        (System::Ruststream, Handler::Sleep { .. }) => LANES,
        _ => 1,
    }
}

fn start(system: System, words: &[String]) -> Result<Child, String> {
    match system {
        System::Weir | System::RdkafkaBatch => {
            let mut all = vec![system.name()];
            all.extend(words.iter().map(String::as_str));
            Child::myself(&all)
        }
        System::RdkafkaStream | System::Ruststream => {
            let peers = peers().ok_or("bench/peers is not built")?;
            let mut command = mortal(&peers.display().to_string());
            command.arg(system.name()).args(words);
            Child::start(command)
        }
        System::JavaConsumer | System::ParallelConsumer => {
            let mut command = mortal("java");
            command.args(runtime_peer::words(system.name())).args(words);
            Child::start(command)
        }
    }
}
