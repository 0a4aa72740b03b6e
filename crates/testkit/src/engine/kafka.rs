//! Real Apache Kafka 4.3.1: one node, KRaft, broker and controller in one process.

use super::maven::{Dependency, class_path, report};
use super::process::{Process, free_port, java};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The version that is run.
pub const VERSION: &str = "4.3.1";

/// What is on its class path.
pub const DEPENDENCIES: [Dependency; 3] = [
    Dependency { coordinates: "org.apache.kafka:kafka_2.13:4.3.1", without: &[] },
    Dependency {
        coordinates: "org.apache.kafka:kafka-tools:4.3.1",
        without: &[
            "org.apache.kafka:connect-api",
            "org.apache.kafka:connect-runtime",
            "org.apache.kafka:connect-json",
            "org.apache.kafka:connect-transforms",
        ],
    },
    Dependency { coordinates: "org.slf4j:slf4j-simple:1.7.36", without: &[] },
];

/// Its class path.
#[must_use]
pub fn jars() -> String {
    class_path("kafka-4.3.1", &DEPENDENCIES)
}

/// A running broker.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    port: u16,
    folder: TempDir,
    class_path: String,
    starts: u32,
    java_options: &'static [&'static str],
}

impl Kafka {
    /// Formats a folder and starts a broker on a free port.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same as brokers run: with all of the JVM's compilers, and 3 GiB of heap, most of it for what is short-lived.
    /// For what measures latencies: in 512 MiB its collector stops it so often that a p99 is the collector's.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    #[must_use]
    pub fn start_roomy() -> Self {
        Self::start_with(&["-Xms3g", "-Xmx3g", "-Xmn2500m", "-XX:+AlwaysPreTouch", "-XX:TieredStopAtLevel=4"])
    }

    /// The same with further lines of `server.properties`.
    ///
    /// # Panics
    /// As [`Kafka::start`].
    #[must_use]
    pub fn start_set(lines: &str) -> Self {
        Self::start_as(&[], lines)
    }

    fn start_with(java_options: &'static [&'static str]) -> Self {
        Self::start_as(java_options, "")
    }

    fn start_as(java_options: &'static [&'static str], lines: &str) -> Self {
        let class_path = jars();
        let folder = tempfile::Builder::new().prefix("weir-kafka-").tempdir().expect("a temporary folder");
        let (port, controller) = (free_port(), free_port());
        let data = folder.path().join("data");
        let settings = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             transaction.state.log.num.partitions=2\nshare.coordinator.state.topic.replication.factor=1\n\
             share.coordinator.state.topic.min.isr=1\nauto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\nlog.cleaner.dedupe.buffer.size=4194304\n\
             log.cleaner.backoff.ms=1000\n{lines}\n",
            data.display()
        );
        std::fs::write(folder.path().join("server.properties"), settings).expect("the folder is writable");
        let settings = folder.path().join("server.properties");
        format(&class_path, &settings, &[]);
        let process = launch(&class_path, &folder, 0, java_options);
        report(&format!("Apache Kafka {VERSION}"));
        Self { process, port, folder, class_path, starts: 0, java_options }
    }

    /// Its address.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGSTOP: it stays there and does not answer.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Undoes [`Kafka::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts it again on the same port and folder.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.starts += 1;
        self.process = launch(&self.class_path, &self.folder, self.starts, self.java_options);
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Formats the folder that the settings name; `more` are further words of `StorageTool format`.
pub(super) fn format(class_path: &str, settings: &Path, more: &[&str]) {
    let formatted = Command::new("java")
        .args(java(
            256,
            class_path,
            &["kafka.tools.StorageTool", "format", "-t", "d2Vpci10ZXN0LWtyYWZ0MQ", "-c"],
        ))
        .arg(settings)
        .args(more)
        .output()
        .expect("java is installed");
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
}

/// Java's later options win over its earlier ones.
pub(super) fn launch(class_path: &str, folder: &TempDir, starts: u32, java_options: &[&str]) -> Process {
    let log: PathBuf = folder.path().join(format!("kafka-{starts}.log"));
    let settings = folder.path().join("server.properties").display().to_string();
    let mut options = java(512, class_path, &["kafka.Kafka", &settings]);
    let last = options.iter().position(|option| option == "-cp").expect("java has a class path");
    options.splice(last..last, java_options.iter().map(|option| (*option).to_owned()));
    let mut process = Process::start("kafka", "java", &options, &log);
    process.wait_for("Kafka Server started");
    process
}
