//! `weir-engines`: real engines for hand work. `cargo x engines up kafka hbase-2.6` leaves them running.
//!
//! A holder process in the background owns the engines; they end with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::maven::cache;

const HELP: &str = "cargo x engines COMMAND

  up ENGINE...   starts engines and leaves them running; prints their addresses
  list           what runs, and where
  down           stops them

Engines: kafka, hbase-1.7, hbase-2.4, hbase-2.6. The first start of each fetches its jars.";

/// How long the engines may take together, first fetch included.
const UP_WAIT: Duration = Duration::from_secs(900);

fn state() -> PathBuf {
    cache().join("running.txt")
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["up", engines @ ..] if !engines.is_empty() => up(engines),
        ["hold", engines @ ..] => hold(engines),
        ["list"] => {
            list();
            Ok(())
        }
        ["down"] => down(),
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn line_of(engine: &str) -> Option<Line> {
    match engine {
        "hbase-1.7" => Some(Line::V1_7),
        "hbase-2.4" => Some(Line::V2_4),
        "hbase-2.6" => Some(Line::V2_6),
        _ => None,
    }
}

fn up(engines: &[&str]) -> Result<(), String> {
    if let Some(wrong) = engines.iter().find(|engine| **engine != "kafka" && line_of(engine).is_none()) {
        return Err(format!("there is no engine {wrong:?}\n\n{HELP}"));
    }
    if holder().is_some() {
        return Err(
            "engines are up already (`cargo x engines list`); `cargo x engines down` first".to_owned()
        );
    }
    fs::create_dir_all(cache()).map_err(|error| error.to_string())?;
    let log = cache().join("engines.log");
    let output = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    // A session of its own, so that ctrl-c at the terminal does not reach the engines.
    let mut child = Command::new("setsid")
        .arg(myself)
        .arg("hold")
        .args(engines)
        .stdin(Stdio::null())
        .stdout(output.try_clone().map_err(|error| error.to_string())?)
        .stderr(output)
        .spawn()
        .map_err(|error| format!("setsid: {error}"))?;
    println!("starting {}", engines.join(", "));
    let started = Instant::now();
    while holder().is_none() {
        if let Ok(Some(ended)) = child.try_wait() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the engines ended ({ended}):\n{text}"));
        }
        if started.elapsed() > UP_WAIT {
            return Err(format!("not up after {UP_WAIT:?}; see {}", log.display()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    list();
    Ok(())
}

/// Owns the engines until it is killed; they die with it.
fn hold(engines: &[&str]) -> Result<(), String> {
    let mut lines = vec![format!("pid {}", std::process::id())];
    let mut kafka = None;
    let mut hbases = Vec::new();
    for engine in engines {
        if let Some(line) = line_of(engine) {
            let hbase = HBase::start(line);
            lines.push(format!("{engine}: ZooKeeper {}, znode parent /hbase", hbase.zookeeper()));
            hbases.push(hbase);
        } else {
            let broker = kafka.insert(Kafka::start());
            lines.push(format!("kafka: {}", broker.bootstrap()));
        }
    }
    fs::write(state(), lines.join("\n") + "\n").map_err(|error| error.to_string())?;
    loop {
        std::thread::park();
    }
}

/// Process id of a living holder.
fn holder() -> Option<u32> {
    let text = fs::read_to_string(state()).ok()?;
    let id = text.lines().next()?.strip_prefix("pid ")?.parse().ok()?;
    let words = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
    words.contains("hold").then_some(id)
}

fn list() {
    if holder().is_none() {
        println!("nothing runs");
        return;
    }
    let text = fs::read_to_string(state()).unwrap_or_default();
    text.lines().skip(1).for_each(|line| println!("{line}"));
}

fn down() -> Result<(), String> {
    let Some(id) = holder() else {
        println!("nothing runs");
        return Ok(());
    };
    let killed = Command::new("kill").arg(id.to_string()).status().map_err(|error| error.to_string())?;
    fs::remove_file(state()).map_err(|error| error.to_string())?;
    if killed.success() { Ok(()) } else { Err(format!("process {id} could not be stopped")) }
}
