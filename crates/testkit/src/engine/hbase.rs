//! Real Apache HBase, stand-alone: ZooKeeper, master and region server in one JVM.

use super::maven::{Dependency, class_path, compile, report};
use super::process::{Process, free_port, java};
use super::site;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A line of HBase, with the exact version that the registries have whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// 1.2.5, with Hadoop 2. It loses edits at kill -9 on a local file system: never kill it stand-alone.
    V1_2,
    /// 1.7.2, with Hadoop 2.
    V1_7,
    /// 2.4.18.
    V2_4,
    /// 2.5.13-hadoop3.
    V2_5,
    /// 2.6.4-hadoop3.
    V2_6,
    /// 3.0.0-alpha-4: the newest 3.0 that is whole. Its sources still find their peer by ZooKeeper.
    V3_0,
}

impl Line {
    /// All lines that run in every test.
    pub const ALL: [Self; 3] = [Self::V1_7, Self::V2_4, Self::V2_6];

    /// The lines that only the long form runs, on the plain path.
    pub const MATRIX: [Self; 3] = [Self::V1_2, Self::V2_5, Self::V3_0];

    /// The exact version.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V1_2 => "1.2.5",
            Self::V1_7 => "1.7.2",
            Self::V2_4 => "2.4.18",
            Self::V2_5 => "2.5.13-hadoop3",
            Self::V2_6 => "2.6.4-hadoop3",
            Self::V3_0 => "3.0.0-alpha-4",
        }
    }

    /// Whether it is HBase 1: its master has no calls for peers, and it must be told which Java it runs on.
    #[must_use]
    pub const fn is_first(self) -> bool {
        matches!(self, Self::V1_2 | Self::V1_7)
    }

    /// What is on its class path.
    #[must_use]
    pub const fn dependencies(self) -> &'static [Dependency] {
        const WITHOUT: &[&str] = &["jdk.tools:jdk.tools"];
        const fn server(coordinates: &'static str) -> [Dependency; 1] {
            [Dependency { coordinates, without: WITHOUT }]
        }
        match self {
            Self::V1_2 => const { &server("org.apache.hbase:hbase-server:1.2.5") },
            Self::V1_7 => const { &server("org.apache.hbase:hbase-server:1.7.2") },
            Self::V2_4 => const { &server("org.apache.hbase:hbase-server:2.4.18") },
            Self::V2_5 => const { &server("org.apache.hbase:hbase-server:2.5.13-hadoop3") },
            Self::V2_6 => const { &server("org.apache.hbase:hbase-server:2.6.4-hadoop3") },
            Self::V3_0 => const { &server("org.apache.hbase:hbase-server:3.0.0-alpha-4") },
        }
    }

    /// Its class path.
    #[must_use]
    pub fn class_path(self) -> String {
        class_path(&self.jars_name(), self.dependencies())
    }

    /// The name of its cache folder.
    #[must_use]
    pub fn jars_name(self) -> String {
        format!("hbase-{}", self.version())
    }

    /// The class path with these folders in front, and the words that run a main class on it.
    pub(crate) fn run<'a>(self, folders: &str, main: &[&'a str]) -> (String, Vec<&'a str>) {
        let jars = self.class_path();
        if self.is_first() {
            let wrapper = compile("old-java", "OldJava.java", OLD_JAVA, "");
            (format!("{folders}:{}:{jars}", wrapper.display()), [&["OldJava"], main].concat())
        } else {
            (format!("{folders}:{jars}"), main.to_vec())
        }
    }
}

/// A running HBase of any form, as its clients see it.
pub trait Cluster {
    /// Its line.
    fn line(&self) -> Line;

    /// Address of its ZooKeeper.
    fn zookeeper(&self) -> String;
}

/// 1.x does not know how to read the version of a Java after 8, so it is told one.
const OLD_JAVA: &str = "public class OldJava {
  public static void main(String[] words) throws Exception {
    System.setProperty(\"java.version\", \"1.8.0_1\");
    Class.forName(words[0]).getMethod(\"main\", String[].class)
        .invoke(null, (Object) java.util.Arrays.copyOfRange(words, 1, words.length));
  }
}
";

pub(super) const MASTER: &str = "org.apache.hadoop.hbase.master.HMaster";
pub(super) const MASTER_READY: &str = "Master has completed initialization";

/// A running HBase.
#[derive(Debug)]
pub struct HBase {
    line: Line,
    process: Process,
    zookeeper_port: u16,
    folder: TempDir,
    starts: u32,
}

impl HBase {
    /// Starts one with fresh folders and waits until its master is ready.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start(line: Line) -> Self {
        Self::start_with(line, &[])
    }

    /// The same, with further settings of `hbase-site.xml`, such as `hbase.regionservers`.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start_with(line: Line, more: &[(&'static str, &str)]) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-hbase-").tempdir().expect("a temporary folder");
        let zookeeper_port = free_port();
        configure(folder.path(), zookeeper_port, more);
        let process = launch(line, folder.path(), 0);
        report(&format!("Apache HBase {}", line.version()));
        Self { line, process, zookeeper_port, folder, starts: 0 }
    }

    /// Address of its ZooKeeper.
    #[must_use]
    pub fn zookeeper(&self) -> String {
        format!("127.0.0.1:{}", self.zookeeper_port)
    }

    /// Its line.
    #[must_use]
    pub const fn line(&self) -> Line {
        self.line
    }

    /// The key under which a peer at this base znode is added, when its ZooKeeper is this one.
    #[must_use]
    pub fn cluster_key(&self, base: &str) -> String {
        format!("127.0.0.1:{}:{base}", self.zookeeper_port)
    }

    /// What its log says since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_file(self.folder.path(), self.starts)).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// kill -9.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same folders.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.starts += 1;
        self.process = launch(self.line, self.folder.path(), self.starts);
    }
}

impl Cluster for HBase {
    fn line(&self) -> Line {
        self.line
    }

    fn zookeeper(&self) -> String {
        self.zookeeper()
    }
}

fn configure(folder: &Path, zookeeper_port: u16, more: &[(&'static str, &str)]) {
    let here = folder.display();
    let mut settings = settings(folder, zookeeper_port);
    settings.extend([
        ("hbase.cluster.distributed", "false".to_owned()),
        ("hbase.rootdir", format!("file://{here}/root")),
        ("hbase.zookeeper.property.dataDir", format!("{here}/zookeeper")),
        ("hbase.master.port", free_port().to_string()),
        ("hbase.regionserver.port", free_port().to_string()),
    ]);
    for (name, value) in more {
        settings.retain(|(known, _)| known != name);
        settings.push((name, (*value).to_owned()));
    }
    let conf = folder.join("conf");
    site::write(&conf, "hbase-site.xml", &settings);
    site::write_logging(&conf);
}

/// What every HBase process is set to.
pub(super) fn settings(folder: &Path, zookeeper_port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("hbase.tmp.dir", format!("{}/tmp", folder.display())),
        ("hbase.zookeeper.quorum", "127.0.0.1".to_owned()),
        ("hbase.zookeeper.property.clientPort", zookeeper_port.to_string()),
        ("hbase.localcluster.assign.random.ports", "false".to_owned()),
        ("hbase.master.hostname", "localhost".to_owned()),
        ("hbase.regionserver.hostname", "localhost".to_owned()),
        ("hbase.master.ipc.address", "127.0.0.1".to_owned()),
        ("hbase.regionserver.ipc.address", "127.0.0.1".to_owned()),
        ("hbase.master.info.port", "-1".to_owned()),
        ("hbase.regionserver.info.port", "-1".to_owned()),
        ("hbase.unsafe.stream.capability.enforce", "false".to_owned()),
        ("hbase.wal.provider", "filesystem".to_owned()),
        ("hbase.regionserver.handler.count", "10".to_owned()),
        ("replication.source.sleepforretries", "300".to_owned()),
        // Hadoop's usual local file system keeps the last 512 bytes of an open file to itself, for its checksum. A
        // source of 1.x then meets half an entry at the end of the WAL and backs off, so that a table which is
        // written to all the time is hardly read at all.
        ("fs.file.impl", "org.apache.hadoop.fs.RawLocalFileSystem".to_owned()),
        // 2.x: a peer cannot set it, and a minute is long for a test of late answers.
        ("replication.source.shipedits.timeout", "12000".to_owned()),
        // No compaction drops a delete marker, whatever its timestamp: raw scans are compared with all that was written.
        ("hbase.hstore.time.to.purge.deletes", "9000000000000000".to_owned()),
    ]
}

/// For the scenario with a put of 40 MiB: 2.6.4 was seen to write that put out as text besides
/// (`MutateRequest.toString`), and to abort itself in 512 MiB.
const HEAP_MIB: u32 = 1536;

fn launch(line: Line, folder: &Path, starts: u32) -> Process {
    let (path, main) = line.run(&folder.join("conf").display().to_string(), &[MASTER, "start"]);
    let log = log_file(folder, starts);
    let mut process =
        Process::start(&format!("hbase {}", line.version()), "java", &java(HEAP_MIB, &path, &main), &log);
    process.wait_for(MASTER_READY);
    process
}

fn log_file(folder: &Path, starts: u32) -> PathBuf {
    folder.join(format!("hbase-{starts}.log"))
}
