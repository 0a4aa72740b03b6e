//! Real Apache ZooKeeper alone: one server on a free port.

use super::maven::{Dependency, class_path, report};
use super::node::Node;
use super::process::free_port;
use std::path::Path;
use tempfile::TempDir;

/// The version that is run.
pub const VERSION: &str = "3.8.4";

/// The jars of [`ZooKeeper`], under the name of their cache folder.
pub const JARS: (&str, &[Dependency]) = (
    "zookeeper-3.8.4",
    &[
        Dependency { coordinates: "org.apache.zookeeper:zookeeper:3.8.4", without: &[] },
        // Left out of ZooKeeper's own list, but its server does not start without them.
        Dependency { coordinates: "io.dropwizard.metrics:metrics-core:4.1.12.1", without: &[] },
        Dependency { coordinates: "org.xerial.snappy:snappy-java:1.1.10.5", without: &[] },
    ],
);

/// Without it logback writes every packet.
const LOGBACK: &str = "<configuration><appender name=\"console\" class=\"ch.qos.logback.core.ConsoleAppender\"><encoder>\
<pattern>%d %p %logger{0} %m%n</pattern></encoder></appender><root level=\"INFO\"><appender-ref ref=\"console\"/></root></configuration>";

/// A running server.
#[derive(Debug)]
pub struct ZooKeeper {
    /// Its process.
    pub node: Node,
    port: u16,
    _folder: Option<TempDir>,
}

impl ZooKeeper {
    /// Starts one with fresh folders and waits until it serves.
    ///
    /// # Panics
    /// When it does not get ready; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let folder =
            tempfile::Builder::new().prefix("weir-zookeeper-").tempdir().expect("a temporary folder");
        let mut started = Self::launch(folder.path(), folder.path());
        started.node.wait_ready();
        report(&format!("Apache ZooKeeper {VERSION}"));
        started._folder = Some(folder);
        started
    }

    /// Starts one in a folder of somebody else's, without waiting.
    pub(super) fn launch(folder: &Path, logs: &Path) -> Self {
        let port = free_port();
        let conf = folder.join("conf");
        std::fs::create_dir_all(&conf).expect("the folder is writable");
        let settings = format!(
            "tickTime=1000\ndataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=0\n\
             admin.enableServer=false\n",
            folder.join("data").display()
        );
        let file = conf.join("zoo.cfg");
        std::fs::write(&file, settings).expect("the folder is writable");
        std::fs::write(conf.join("logback.xml"), LOGBACK).expect("the folder is writable");
        let jars = format!("{}:{}", conf.display(), class_path(JARS.0, JARS.1));
        let main = ["org.apache.zookeeper.server.quorum.QuorumPeerMain", &file.display().to_string()];
        let node = Node::launch("zookeeper", logs, 256, &jars, &main, "PrepRequestProcessor (sid:0) started");
        Self { node, port, _folder: None }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}
