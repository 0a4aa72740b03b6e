//! A pair of running engines, and what scenarios do with them: tables, peers, Weirs, and the whole comparison.
//!
//! Starting a JVM costs more than most scenarios do, so the scenarios of one line run one after another on one pair.
//! Each has its own table, peer and base znode; one that fails does not hide the next.

use super::{check_order, create_topic};
use crate::weir::{Weir, wait_until_log_is_within};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};
use weir_kafka::reader::LogRecord;
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::table::{Replay, TableTool, replicated};

/// Environment variable with words; only scenarios with one of them in their name run. For work on one of them.
const ONLY: &str = "WEIR_SCENARIOS";

/// How long a log may take to become equal to its table.
pub(super) const SETTLE: Duration = Duration::from_secs(120);

/// One HBase, one Kafka, and a client.
pub(super) struct Rig {
    pub(super) line: Line,
    pub(super) kafka: Kafka,
    pub(super) hbase: HBase,
    pub(super) tool: TableTool,
    failed: Vec<String>,
    ran: usize,
}

/// What came to the log of a table that settled.
pub(super) struct Settled {
    pub(super) records: Vec<LogRecord>,
    pub(super) again: usize,
    pub(super) cells: usize,
    /// Cells of the table that the log lacks or has otherwise, counted by themselves beside the whole comparison.
    pub(super) lost: usize,
}

impl Rig {
    pub(super) fn start(line: Line) -> Self {
        let started = Instant::now();
        let kafka = Kafka::start();
        let hbase = HBase::start(line);
        let tool = TableTool::start(&hbase);
        println!("{:6.1} s  engines, HBase {}", started.elapsed().as_secs_f64(), line.version());
        Self { line, kafka, hbase, tool, failed: Vec::new(), ran: 0 }
    }

    /// Runs one scenario and prints its name, how it went, and how long it took.
    pub(super) fn scenario(&mut self, name: &str, run: impl FnOnce(&mut Self)) {
        let only = std::env::var(ONLY).unwrap_or_default();
        if !only.is_empty() && !only.split(',').any(|word| name.contains(word)) {
            return;
        }
        self.ran += 1;
        let started = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| run(self)));
        // What a failed scenario left behind must not fail the next.
        self.kafka.resume();
        let how = if ended.is_ok() { "ok" } else { "FAILED" };
        println!("{:6.1} s  {name}, HBase {}: {how}", started.elapsed().as_secs_f64(), self.line.version());
        if ended.is_err() {
            self.failed.push(name.to_owned());
            if self.tool.is_lost() {
                self.tool = TableTool::start(&self.hbase);
            } else {
                let _ = catch_unwind(AssertUnwindSafe(|| self.tool.run("load-stop")));
            }
        }
    }

    /// Fails when a scenario failed.
    pub(super) fn end(self) {
        assert!(self.ran > 0, "{ONLY} names no scenario");
        if !self.failed.is_empty() {
            resume_unwind(Box::new(format!("failed on {}: {}", self.line.version(), self.failed.join(", "))));
        }
    }

    /// A configuration with one capture section, and what it lacks.
    pub(super) fn config(&self, peer: &str) -> Config {
        Config {
            log: format!("bootstrap = [\"{}\"]\n", self.kafka.bootstrap()),
            captures: vec![capture(&self.hbase.zookeeper(), peer)],
            rest: String::new(),
        }
    }

    /// A table with its topic.
    pub(super) fn table(&mut self, name: &str, regions: u32) {
        create_topic(&self.kafka, &topic(name));
        self.tool.run(&format!("create {name} {regions}"));
    }

    /// Adds a peer that ships to `/weir/PEER`, with further settings, and waits until it is taken up.
    pub(super) fn add_peer(&mut self, weir: &Weir, peer: &str, settings: &str) {
        let key = self.hbase.cluster_key(&format!("/weir/{peer}"));
        self.tool.run(format!("peer-add-with {peer} {key} {settings}").trim_end());
        weir.command(&["peer", "--capture", peer, "status", "--wait"]);
    }

    pub(super) fn remove_peer(&mut self, peer: &str) {
        self.tool.run(&format!("peer-remove {peer}"));
    }

    /// Waits until the log of a table is the table, cell by cell, and the order within each region is right.
    pub(super) fn settle(&mut self, table: &str) -> Settled {
        self.settle_within(table, SETTLE)
    }

    pub(super) fn settle_within(&mut self, table: &str, wait_max: Duration) -> Settled {
        let expect = replicated(self.tool.raw_scan(table));
        let records = wait_until_log_is_within(&self.kafka.bootstrap(), &topic(table), &expect, wait_max);
        let again = check_order(&records);
        let mut replay = Replay::default();
        records.iter().for_each(|record| replay.take(&record.value));
        let logged = replay.cells();
        let lost = expect.iter().filter(|(key, value)| logged.get(*key) != Some(value)).count();
        Settled { records, again, cells: expect.len(), lost }
    }
}

/// Topic of a table under the default rule.
pub(super) fn topic(table: &str) -> String {
    format!("hbase.{}.wal", table.replace(':', "--"))
}

/// A configuration in the making.
pub(super) struct Config {
    log: String,
    captures: Vec<String>,
    rest: String,
}

/// The section of a capture that is named after its peer.
pub(super) fn capture(zookeeper: &str, peer: &str) -> String {
    format!("[capture.{peer}]\nzookeeper = \"{zookeeper}\"\npeer = \"{peer}\"\nlisten = \"127.0.0.1:0\"\n")
}

impl Config {
    /// Keys of `[log]`.
    pub(super) fn log(mut self, keys: &str) -> Self {
        let _ = writeln!(self.log, "{keys}");
        self
    }

    /// Keys of the newest capture section.
    pub(super) fn capture(mut self, keys: &str) -> Self {
        let _ = writeln!(self.captures.last_mut().unwrap(), "{keys}");
        self
    }

    /// A port of its own for the newest capture section, so that it is the same after a restart.
    pub(super) fn port(mut self, port: u16) -> Self {
        let section = self.captures.last_mut().unwrap();
        *section = section.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
        self
    }

    /// One more capture section.
    pub(super) fn and(mut self, section: String) -> Self {
        self.captures.push(section);
        self
    }

    /// Whole further sections.
    pub(super) fn rest(mut self, sections: &str) -> Self {
        let _ = writeln!(self.rest, "{sections}");
        self
    }

    /// A Weir with this configuration, not started.
    pub(super) fn weir(&self) -> Weir {
        Weir::new(&format!(
            "[log]\n{}{}[console]\nlisten = \"127.0.0.1:CONSOLE\"\n{}",
            self.log,
            self.captures.concat(),
            self.rest
        ))
    }

    /// The same, started.
    pub(super) fn started(&self) -> Weir {
        let mut weir = self.weir();
        weir.start();
        weir
    }
}
