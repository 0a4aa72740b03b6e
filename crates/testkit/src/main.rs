//! `weir-engines`: real engines for hand work. `cargo x engines up kafka hbase-2.6` leaves them running.
//!
//! A holder process in the background owns the engines; they end with it.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use weir_testkit::engine::hbase::{Cluster as _, HBase, Line};
use weir_testkit::engine::hbase_cluster::HBaseCluster;
use weir_testkit::engine::hdfs::Hdfs;
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::kafka_cluster::KafkaCluster;
use weir_testkit::engine::maven::{cache, resolve};
use weir_testkit::engine::sums;
use weir_testkit::engine::zookeeper::ZooKeeper;

const HELP: &str = "cargo x engines COMMAND

  up ENGINE...   starts engines and leaves them running; prints their addresses
  list           what runs, and where
  down           stops them
  lock           fetches the jars of all engines and writes their sums to crates/testkit/engines.lock

Engines: kafka, kafka-3 (three nodes), zookeeper, hdfs,
hbase-1.2, hbase-1.7, hbase-2.4, hbase-2.5, hbase-2.6, hbase-3.0 (one process each),
hbase-1.7-cluster, hbase-2.4-cluster, hbase-2.6-cluster (ZooKeeper, HDFS, a master and two region servers).
The first start of each fetches its jars.";

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
        ["lock"] => lock(),
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

/// An engine that is held until the holder ends.
enum Held {
    Kafka(Kafka),
    KafkaCluster(KafkaCluster),
    ZooKeeper(ZooKeeper),
    Hdfs(Hdfs),
    HBase(HBase),
    HBaseCluster(Box<HBaseCluster>),
}

/// What a name on the command line means.
#[derive(Clone, Copy)]
enum Wanted {
    Kafka,
    KafkaCluster,
    ZooKeeper,
    Hdfs,
    HBase(Line),
    HBaseCluster(Line),
}

impl Wanted {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "kafka" => Self::Kafka,
            "kafka-3" => Self::KafkaCluster,
            "zookeeper" => Self::ZooKeeper,
            "hdfs" => Self::Hdfs,
            "hbase-1.2" => Self::HBase(Line::V1_2),
            "hbase-1.7" => Self::HBase(Line::V1_7),
            "hbase-2.4" => Self::HBase(Line::V2_4),
            "hbase-2.5" => Self::HBase(Line::V2_5),
            "hbase-2.6" => Self::HBase(Line::V2_6),
            "hbase-3.0" => Self::HBase(Line::V3_0),
            "hbase-1.7-cluster" => Self::HBaseCluster(Line::V1_7),
            "hbase-2.4-cluster" => Self::HBaseCluster(Line::V2_4),
            "hbase-2.6-cluster" => Self::HBaseCluster(Line::V2_6),
            _ => return None,
        })
    }

    fn start(self) -> Held {
        match self {
            Self::Kafka => Held::Kafka(Kafka::start()),
            Self::KafkaCluster => Held::KafkaCluster(KafkaCluster::start()),
            Self::ZooKeeper => Held::ZooKeeper(ZooKeeper::start()),
            Self::Hdfs => Held::Hdfs(Hdfs::start()),
            Self::HBase(line) => Held::HBase(HBase::start(line)),
            Self::HBaseCluster(line) => Held::HBaseCluster(Box::new(HBaseCluster::start(line))),
        }
    }
}

impl Held {
    /// Where it is, and the processes that may be killed by hand.
    fn address(&mut self) -> String {
        match self {
            Self::Kafka(kafka) => format!("{} (process {})", kafka.bootstrap(), kafka.id()),
            Self::KafkaCluster(kafka) => {
                let ids: Vec<String> = (1..=3).map(|id| kafka.node(id).id().to_string()).collect();
                format!("{} (processes {})", kafka.bootstrap(), ids.join(", "))
            }
            Self::ZooKeeper(zookeeper) => {
                format!("{} (process {})", zookeeper.address(), zookeeper.node.id())
            }
            Self::Hdfs(hdfs) => format!(
                "{} (processes: name node {}, data node {})",
                hdfs.url(),
                hdfs.name_node.id(),
                hdfs.data_node.id()
            ),
            Self::HBase(hbase) => format!("ZooKeeper {}, znode parent /hbase", hbase.zookeeper()),
            Self::HBaseCluster(hbase) => format!(
                "ZooKeeper {}, znode parent /hbase (processes: ZooKeeper {}, name node {}, data node {}, master {}, \
                 region servers {} and {})",
                hbase.zookeeper(),
                hbase.zookeeper.node.id(),
                hbase.hdfs.name_node.id(),
                hbase.hdfs.data_node.id(),
                hbase.master.id(),
                hbase.region_servers[0].id(),
                hbase.region_servers[1].id()
            ),
        }
    }
}

fn up(engines: &[&str]) -> Result<(), String> {
    if let Some(wrong) = engines.iter().find(|engine| Wanted::parse(engine).is_none()) {
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
    let mut held = Vec::new();
    for engine in engines {
        let wanted = Wanted::parse(engine).ok_or_else(|| HELP.to_owned())?;
        let mut started = wanted.start();
        lines.push(format!("{engine}: {}", started.address()));
        held.push(started);
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

/// Writes the sums of all jars of all engines.
fn lock() -> Result<(), String> {
    let mut sums = sums::Sums::new();
    for (name, dependencies) in sums::all() {
        println!("{name}");
        sums.extend(sums::of(&resolve(&name, dependencies).0));
    }
    fs::write(sums::FILE, sums::write(&sums)).map_err(|error| format!("{}: {error}", sums::FILE))?;
    println!("{} jars in {}", sums.len(), sums::FILE);
    Ok(())
}
