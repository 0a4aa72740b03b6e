//! Three nodes of real Apache Kafka, each broker and controller, so that any one can be killed alone.

use super::kafka::{VERSION, jars};
use super::maven::report;
use super::node::Node;
use super::process::{free_port, java};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// How many nodes there are: the fewest of which one can be lost.
pub const NODES: usize = 3;

/// A running cluster. Internal topics have three replicas, of which two must be in sync.
#[derive(Debug)]
pub struct KafkaCluster {
    nodes: Vec<Node>,
    ports: Vec<u16>,
    _folder: TempDir,
}

impl KafkaCluster {
    /// Formats three folders and starts three nodes side by side.
    ///
    /// # Panics
    /// When one does not get ready; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("weir-kafka-3-").tempdir().expect("a temporary folder");
        let ports: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let controllers: Vec<u16> = (0..NODES).map(|_| free_port()).collect();
        let jars = jars();
        let formats: Vec<(PathBuf, Child)> = (0..NODES)
            .map(|index| {
                let file = configure(folder.path(), index, &ports, &controllers);
                let words = ["kafka.tools.StorageTool", "format", "-t", "d2Vpci10ZXN0LWtyYWZ0Mw", "-c"];
                let mut format = Command::new("java");
                format.args(java(256, &jars, &words)).arg(&file);
                format.stdout(Stdio::piped()).stderr(Stdio::piped());
                (file, format.spawn().expect("java is installed"))
            })
            .collect();
        let mut nodes = Vec::new();
        for (index, (file, format)) in formats.into_iter().enumerate() {
            let formatted = format.wait_with_output().expect("the child is ours");
            assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
            let name = format!("kafka-{}", index + 1);
            let main = ["kafka.Kafka", &file.display().to_string()];
            nodes.push(Node::launch(&name, folder.path(), 384, &jars, &main, "Kafka Server started"));
        }
        nodes.iter_mut().for_each(Node::wait_ready);
        report(&format!("Apache Kafka {VERSION} (3 nodes)"));
        Self { nodes, ports, _folder: folder }
    }

    /// Addresses of all nodes.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    /// The node with this broker id: 1, 2 or 3.
    ///
    /// # Panics
    /// When there is none.
    pub fn node(&mut self, id: i32) -> &mut Node {
        let index = usize::try_from(id - 1).expect("broker ids count from 1");
        self.nodes.get_mut(index).expect("there are three brokers")
    }
}

/// Writes the properties of one node; the file.
fn configure(folder: &Path, index: usize, ports: &[u16], controllers: &[u16]) -> PathBuf {
    let id = index + 1;
    let voters: Vec<String> =
        controllers.iter().enumerate().map(|(at, port)| format!("{}@127.0.0.1:{port}", at + 1)).collect();
    // A dead broker is fenced after the session time-out (9 s unless set), and its partitions get another leader.
    let settings = format!(
        "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={data}\n\
         default.replication.factor=3\nmin.insync.replicas=2\n\
         offsets.topic.replication.factor=3\noffsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=3\ntransaction.state.log.min.isr=2\n\
         transaction.state.log.num.partitions=2\nshare.coordinator.state.topic.replication.factor=3\n\
         share.coordinator.state.topic.min.isr=2\nauto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\nlog.cleaner.dedupe.buffer.size=4194304\n\
         broker.session.timeout.ms=4000\nbroker.heartbeat.interval.ms=500\n",
        voters = voters.join(","),
        port = ports[index],
        controller = controllers[index],
        data = folder.join(format!("data-{id}")).display(),
    );
    let file = folder.join(format!("server-{id}.properties"));
    std::fs::write(&file, settings).expect("the folder is writable");
    file
}
