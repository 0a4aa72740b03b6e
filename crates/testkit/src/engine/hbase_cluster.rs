//! Real HBase as separate processes: ZooKeeper, HDFS, a master and two region servers, each killable alone.

use super::hbase::{Cluster, Line, MASTER, MASTER_READY, settings};
use super::hdfs::{self, Hdfs};
use super::maven::report;
use super::node::Node;
use super::process::free_port;
use super::site;
use super::zookeeper::{self, ZooKeeper};
use std::path::Path;
use tempfile::TempDir;

const REGION_SERVER: &str = "org.apache.hadoop.hbase.regionserver.HRegionServer";
const REGION_SERVER_READY: &str = "Serving as localhost,";

/// A running cluster. Its WAL is on HDFS, so that it survives any kill.
#[derive(Debug)]
pub struct HBaseCluster {
    /// The master.
    pub master: Node,
    /// The region servers.
    pub region_servers: [Node; 2],
    ports: [u16; 2],
    /// What it keeps its files in.
    pub hdfs: Hdfs,
    /// What it finds itself by.
    pub zookeeper: ZooKeeper,
    line: Line,
    _folder: TempDir,
}

impl HBaseCluster {
    /// Starts all six processes with fresh folders and waits until the master and both region servers are ready.
    ///
    /// # Panics
    /// When one does not get ready; with the end of its log.
    #[must_use]
    pub fn start(line: Line) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-hbase-2-").tempdir().expect("a temporary folder");
        let here = folder.path();
        let logs = here.join("logs");
        let mut zookeeper = ZooKeeper::launch(&here.join("zookeeper"), &logs);
        let mut hdfs = Hdfs::launch(&here.join("hdfs"), &logs);
        let ports = [free_port(), free_port()];
        zookeeper.node.wait_ready();
        let (root, zookeeper_port) = (hdfs.url(), zookeeper.port());
        let launch = |name: &str, port: u16, class, ready| {
            let conf = here.join(name).join("conf");
            configure(&here.join(name), &conf, zookeeper_port, &root, port);
            let (path, main) = line.run(&conf.display().to_string(), &[class, "start"]);
            Node::launch(&name.replace('-', " "), &logs, 512, &path, &main, ready)
        };
        // Region servers wait for a master, so they may load their classes while HDFS still starts.
        let [first, second] = [0, 1].map(|index: usize| {
            launch(&format!("region-server-{}", index + 1), ports[index], REGION_SERVER, REGION_SERVER_READY)
        });
        let master_port = free_port();
        hdfs.wait_ready();
        let mut master = launch("master", master_port, MASTER, MASTER_READY);
        master.wait_ready();
        let mut region_servers = [first, second];
        region_servers.iter_mut().for_each(Node::wait_ready);
        report(&format!(
            "Apache HBase {} (ZooKeeper {}, HDFS {}, master, 2 region servers)",
            line.version(),
            zookeeper::VERSION,
            hdfs::VERSION
        ));
        Self { master, region_servers, ports, hdfs, zookeeper, line, _folder: folder }
    }

    /// Which of the region servers this server name means (`localhost,PORT,START`).
    #[must_use]
    pub fn index_of(&self, server_name: &str) -> Option<usize> {
        let port: u16 = server_name.split(',').nth(1)?.parse().ok()?;
        self.ports.iter().position(|one| *one == port)
    }

    /// The key under which a peer at this base znode is added, when its ZooKeeper is this one.
    #[must_use]
    pub fn cluster_key(&self, base: &str) -> String {
        format!("{}:{base}", self.zookeeper.address())
    }
}

impl Cluster for HBaseCluster {
    fn line(&self) -> Line {
        self.line
    }

    fn zookeeper(&self) -> String {
        self.zookeeper.address()
    }
}

fn configure(folder: &Path, conf: &Path, zookeeper_port: u16, root: &str, port: u16) {
    let mut settings = settings(folder, zookeeper_port);
    settings.extend([
        ("hbase.cluster.distributed", "true".to_owned()),
        ("hbase.rootdir", format!("{root}/hbase")),
        // The process of this folder is one of the two; the other port is never used.
        ("hbase.master.port", port.to_string()),
        ("hbase.regionserver.port", port.to_string()),
        ("hbase.master.wait.on.regionservers.mintostart", "2".to_owned()),
        // 1.x rolls its WAL again and again unless it knows that one replica is all there is.
        ("dfs.replication", "1".to_owned()),
        ("zookeeper.session.timeout", "6000".to_owned()),
        // How long it waits before it asks again whether a dead server's WAL is closed; 4 s unless set.
        ("hbase.lease.recovery.first.pause", "1000".to_owned()),
        // How long the survivor waits before it takes a dead server's queue; 30 s unless set.
        ("replication.sleep.before.failover", "1000".to_owned()),
    ]);
    site::write(conf, "hbase-site.xml", &settings);
    site::write_logging(conf);
}
