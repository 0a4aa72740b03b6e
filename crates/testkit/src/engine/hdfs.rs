//! Real HDFS: a name node and a data node as processes of their own, so that both survive kill -9 and come back.

use super::maven::{Dependency, class_path, report};
use super::node::Node;
use super::process::{free_port, java};
use super::site;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The version that is run.
pub const VERSION: &str = "3.4.2";

/// The jars of [`Hdfs`], under the name of their cache folder.
pub const JARS: (&str, &[Dependency]) = (
    "hdfs-3.4.2",
    &[
        Dependency { coordinates: "org.apache.hadoop:hadoop-common:3.4.2", without: &[] },
        Dependency { coordinates: "org.apache.hadoop:hadoop-hdfs:3.4.2", without: &[] },
        Dependency { coordinates: "org.apache.hadoop:hadoop-hdfs-client:3.4.2", without: &[] },
    ],
);

/// A running file system.
#[derive(Debug)]
pub struct Hdfs {
    /// Holds the names.
    pub name_node: Node,
    /// Holds the blocks.
    ///
    /// It is the only one: killed under living region servers it leaves their open WAL without a readable length, and
    /// the source hangs on it for an hour. Kill it together with them.
    pub data_node: Node,
    port: u16,
    _folder: Option<TempDir>,
}

impl Hdfs {
    /// Formats and starts one with fresh folders, and waits until it takes blocks.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("weir-hdfs-").tempdir().expect("a temporary folder");
        let mut started = Self::launch(folder.path(), folder.path());
        started.wait_ready();
        report(&format!("Apache Hadoop HDFS {VERSION}"));
        started._folder = Some(folder);
        started
    }

    /// Formats and starts one in a folder of somebody else's, without waiting.
    pub(super) fn launch(folder: &Path, logs: &Path) -> Self {
        let port = free_port();
        let conf = folder.join("conf");
        // The jars lack these two, and both nodes end without them.
        for webapp in ["hdfs", "datanode"] {
            std::fs::create_dir_all(conf.join("webapps").join(webapp)).expect("the folder is writable");
        }
        let here = folder.display();
        let core = [("fs.defaultFS", format!("hdfs://127.0.0.1:{port}"))];
        let anywhere = || "127.0.0.1:0".to_owned();
        let hdfs = [
            ("dfs.namenode.name.dir", format!("file://{here}/name")),
            ("dfs.datanode.data.dir", format!("file://{here}/data")),
            ("dfs.namenode.http-address", anywhere()),
            ("dfs.datanode.address", anywhere()),
            ("dfs.datanode.http.address", anywhere()),
            ("dfs.datanode.ipc.address", anywhere()),
            ("dfs.replication", "1".to_owned()),
            ("dfs.permissions.enabled", "false".to_owned()),
            ("dfs.namenode.safemode.extension", "0".to_owned()),
            ("dfs.namenode.datanode.registration.ip-hostname-check", "false".to_owned()),
            ("dfs.datanode.hostname", "localhost".to_owned()),
        ];
        site::write(&conf, "core-site.xml", &core);
        site::write(&conf, "hdfs-site.xml", &hdfs);
        site::write_logging(&conf);
        let jars = format!("{}:{}", conf.display(), class_path(JARS.0, JARS.1));
        let name_node = "org.apache.hadoop.hdfs.server.namenode.NameNode";
        let formatted = Command::new("java")
            .args(java(256, &jars, &[name_node, "-format", "-nonInteractive"]))
            .output()
            .expect("java is installed");
        let said = String::from_utf8_lossy(&formatted.stdout);
        assert!(formatted.status.success(), "{said}{}", String::from_utf8_lossy(&formatted.stderr));
        let data_node = "org.apache.hadoop.hdfs.server.datanode.DataNode";
        Self {
            name_node: Node::launch("name node", logs, 256, &jars, &[name_node], "NameNode RPC up at"),
            data_node: Node::launch(
                "data node",
                logs,
                256,
                &jars,
                &[data_node],
                "successfully registered with NN",
            ),
            port,
            _folder: None,
        }
    }

    /// Waits until it takes blocks.
    pub(super) fn wait_ready(&mut self) {
        self.name_node.wait_ready();
        self.data_node.wait_ready();
    }

    /// Its `fs.defaultFS`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("hdfs://127.0.0.1:{}", self.port)
    }
}
