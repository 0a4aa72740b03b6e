//! Real Apache HBase, stand-alone: ZooKeeper, master and region server in one JVM.

use super::maven::{Dependency, class_path, compile, report};
use super::process::{Process, free_port, java};
use std::fmt::Write as _;
use std::path::Path;
use tempfile::TempDir;

/// A line of HBase, with the exact version that the registries have whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// 1.7.2, with Hadoop 2.
    V1_7,
    /// 2.4.18.
    V2_4,
    /// 2.6.4-hadoop3.
    V2_6,
}

impl Line {
    /// All lines that run in every test.
    pub const ALL: [Self; 3] = [Self::V1_7, Self::V2_4, Self::V2_6];

    /// The exact version.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::V1_7 => "1.7.2",
            Self::V2_4 => "2.4.18",
            Self::V2_6 => "2.6.4-hadoop3",
        }
    }

    const fn dependencies(self) -> &'static [Dependency] {
        const WITHOUT: &[&str] = &["jdk.tools:jdk.tools"];
        match self {
            Self::V1_7 => {
                &[Dependency { coordinates: "org.apache.hbase:hbase-server:1.7.2", without: WITHOUT }]
            }
            Self::V2_4 => {
                &[Dependency { coordinates: "org.apache.hbase:hbase-server:2.4.18", without: WITHOUT }]
            }
            Self::V2_6 => {
                &[Dependency { coordinates: "org.apache.hbase:hbase-server:2.6.4-hadoop3", without: WITHOUT }]
            }
        }
    }

    /// Its class path.
    #[must_use]
    pub fn class_path(self) -> String {
        class_path(&format!("hbase-{}", self.version()), self.dependencies())
    }
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

const LOG4J: &str = "log4j.rootLogger=INFO,console\nlog4j.appender.console=org.apache.log4j.ConsoleAppender\n\
log4j.appender.console.layout=org.apache.log4j.PatternLayout\nlog4j.appender.console.layout.ConversionPattern=%d %p %c{1} %m%n\n";

const LOG4J2: &str = "status=warn\nappender.console.type=Console\nappender.console.name=console\n\
appender.console.layout.type=PatternLayout\nappender.console.layout.pattern=%d %p %c{1} %m%n\n\
rootLogger.level=info\nrootLogger.appenderRef.console.ref=console\n";

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
        let folder = tempfile::Builder::new().prefix("weir-hbase-").tempdir().expect("a temporary folder");
        let zookeeper_port = free_port();
        configure(folder.path(), zookeeper_port);
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

fn configure(folder: &Path, zookeeper_port: u16) {
    let conf = folder.join("conf");
    std::fs::create_dir_all(&conf).expect("the folder is writable");
    let here = folder.display();
    let settings = [
        ("hbase.cluster.distributed", "false".to_owned()),
        ("hbase.rootdir", format!("file://{here}/root")),
        ("hbase.tmp.dir", format!("{here}/tmp")),
        ("hbase.zookeeper.quorum", "127.0.0.1".to_owned()),
        ("hbase.zookeeper.property.clientPort", zookeeper_port.to_string()),
        ("hbase.zookeeper.property.dataDir", format!("{here}/zookeeper")),
        ("hbase.master.port", free_port().to_string()),
        ("hbase.regionserver.port", free_port().to_string()),
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
    ];
    let mut site = String::from("<configuration>\n");
    for (name, value) in settings {
        let _ = writeln!(site, "<property><name>{name}</name><value>{value}</value></property>");
    }
    site.push_str("</configuration>\n");
    for (name, text) in
        [("hbase-site.xml", site.as_str()), ("log4j.properties", LOG4J), ("log4j2.properties", LOG4J2)]
    {
        std::fs::write(conf.join(name), text).expect("the folder is writable");
    }
}

fn launch(line: Line, folder: &Path, starts: u32) -> Process {
    const MASTER: &str = "org.apache.hadoop.hbase.master.HMaster";
    let jars = line.class_path();
    let conf = folder.join("conf").display().to_string();
    let (path, main) = if line == Line::V1_7 {
        let wrapper = compile("old-java", "OldJava.java", OLD_JAVA, "");
        (format!("{conf}:{}:{jars}", wrapper.display()), vec!["OldJava", MASTER, "start"])
    } else {
        (format!("{conf}:{jars}"), vec![MASTER, "start"])
    };
    let log = folder.join(format!("hbase-{starts}.log"));
    let mut process =
        Process::start(&format!("hbase {}", line.version()), "java", &java(512, &path, &main), &log);
    process.wait_for("Master has completed initialization");
    process
}
