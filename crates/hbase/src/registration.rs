//! The ZooKeeper side of a fake peer cluster: base znode, `hbaseid`, and the virtual region servers.
//!
//! A task keeps the ephemeral children there: after a lost session it makes a new one and creates them again, because
//! without children every source stops with "No replication sinks are available".

use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_model::{ClusterId, Fault, FaultKind};
use weir_runtime::drain::{Drain, Stop};
use weir_wire::hbase::zk::{self, ServerName};
use zookeeper_client as zookeeper;
use zookeeper_client::{Acls, Client, CreateMode};

/// Session time-out: short enough that a dead Weir leaves the list soon, long enough for a pause.
const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a master's znode that has gone is made again.
const MASTER_EVERY: Duration = Duration::from_secs(5);

/// How long between tries when the quorum does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is registered where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// ZooKeeper quorum, `host:port,host:port`.
    pub quorum: String,
    /// Base znode of the fake cluster.
    pub base: String,
    /// Id of the fake cluster.
    pub cluster_id: ClusterId,
    /// Virtual region servers: one address, several start codes.
    pub servers: Vec<ServerName>,
}

/// Keeps a registration alive until withdrawn.
#[derive(Debug)]
pub struct Registered {
    drain: Drain,
    state: watch::Receiver<State>,
    task: JoinHandle<()>,
}

/// How a registration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whether the children are there now.
    pub is_registered: bool,
    /// Sessions made so far.
    pub sessions: u64,
    /// What was wrong at the last try.
    pub error: Option<String>,
}

/// Opens a session. 3.4 semantics are used throughout, because HBase 1.x brings a ZooKeeper of that line.
///
/// # Errors
/// `Transient` when the quorum does not answer.
pub async fn connect(quorum: &str) -> Result<Client, Fault> {
    let connecting = Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_server_version(3, 4, 14)
        .with_fail_eagerly()
        .connect(quorum);
    let unreachable = |cause: String| {
        Fault::new(FaultKind::Transient, "W-ZOOKEEPER-UNREACHABLE", "reach ZooKeeper", quorum)
            .caused_by(cause)
    };
    match tokio::time::timeout(SESSION_TIMEOUT, connecting).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable("no answer".to_owned())),
    }
}

/// The id of a source cluster, from `hbaseid` under its parent znode.
///
/// # Errors
/// `Transient` when ZooKeeper does not answer, `Config` when there is no cluster under that znode.
pub async fn read_cluster_id(client: &Client, parent: &str) -> Result<ClusterId, Fault> {
    let path = format!("{parent}/hbaseid");
    match client.get_data(&path).await {
        Ok((value, _)) => zk::cluster_id(&value).map_err(|error| {
            Fault::new(FaultKind::Corrupt, "W-ZOOKEEPER-UNREACHABLE", "read the cluster id", path)
                .caused_by(error)
        }),
        Err(zookeeper::Error::NoNode) => {
            Err(Fault::new(FaultKind::Config, "W-CONFIG", "find an HBase cluster in ZooKeeper", path)
                .caused_by("there is no such znode; is znode-parent right?"))
        }
        Err(error) => {
            Err(Fault::new(FaultKind::Transient, "W-ZOOKEEPER-UNREACHABLE", "read the cluster id", path)
                .caused_by(error))
        }
    }
}

/// The virtual region servers that are registered under the base znode of a fake cluster; none when there is no such
/// znode.
///
/// # Errors
/// `Transient` when ZooKeeper does not answer.
pub async fn servers(client: &Client, base: &str) -> Result<Vec<ServerName>, Fault> {
    let path = format!("{base}/rs");
    match client.list_children(&path).await {
        Ok(names) => Ok(names.iter().filter_map(|name| ServerName::parse(name)).collect()),
        Err(zookeeper::Error::NoNode) => Ok(Vec::new()),
        Err(error) => {
            Err(Fault::new(FaultKind::Transient, "W-ZOOKEEPER-UNREACHABLE", "read what is registered", path)
                .caused_by(error))
        }
    }
}

impl Registration {
    /// Registers, and keeps it so. Returns once the first try has ended, well or not; see [`Registered::state`].
    pub async fn start(self) -> Registered {
        let (drain, stop) = Drain::new();
        let (sender, mut state) = watch::channel(State::default());
        let task = tokio::spawn(keep(self, sender, stop));
        let _ = state.wait_for(|state| state.is_registered || state.error.is_some()).await;
        Registered { drain, state, task }
    }

    async fn create(&self, client: &Client) -> Result<(), zookeeper::Error> {
        let everyone = Acls::anyone_all();
        let persistent = CreateMode::Persistent.with_acls(everyone);
        let id_path = format!("{}/hbaseid", self.base);
        client.mkdir(&format!("{}/rs", self.base), &persistent).await?;
        let id = self.cluster_id.to_string().into_bytes();
        match client.create(&id_path, &id, &persistent).await {
            Ok(_) => {}
            Err(zookeeper::Error::NodeExists) => {
                // Another process of the same peer wrote the same; an older id would loop writes or stop sources.
                let (value, _) = client.get_data(&id_path).await?;
                if zk::cluster_id(&value) != Ok(self.cluster_id) {
                    client.set_data(&id_path, &id, None).await?;
                    tracing::warn!(znode = %id_path, "the fake cluster had another id; sources must be restarted by disable and enable of the peer");
                }
            }
            Err(error) => return Err(error),
        }
        let ephemeral = CreateMode::Ephemeral.with_acls(everyone);
        for server in &self.servers {
            let path = format!("{}/rs/{server}", self.base);
            match client.create(&path, &[], &ephemeral).await {
                Ok(_) => {}
                Err(zookeeper::Error::NodeExists) => {
                    // Left by an old session of ours that has not ended yet: it would vanish later.
                    match client.delete(&path, None).await {
                        Ok(()) | Err(zookeeper::Error::NoNode) => {}
                        Err(error) => return Err(error),
                    }
                    client.create(&path, &[], &ephemeral).await?;
                }
                Err(error) => return Err(error),
            }
        }
        self.be_master(client).await
    }

    /// Several processes serve one peer, and any of them is a master to a 3.0 source. The one that is there may be
    /// another's, or left by our own last session: it goes with its owner, and then it is our turn.
    async fn be_master(&self, client: &Client) -> Result<(), zookeeper::Error> {
        let Some(server) = self.servers.first() else { return Ok(()) };
        let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
        let path = format!("{}/master", self.base);
        match client.create(&path, &zk::encode_master(server), &ephemeral).await {
            Ok(_) | Err(zookeeper::Error::NodeExists) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn remove(&self, client: &Client) {
        for server in &self.servers {
            let path = format!("{}/rs/{server}", self.base);
            if let Err(error) = client.delete(&path, None).await {
                tracing::warn!(znode = %path, %error, "cannot deregister; the znode goes with the session");
            }
        }
    }
}

async fn keep(registration: Registration, state: watch::Sender<State>, mut stop: Stop) {
    loop {
        let failed = hold(&registration, &state, stop.clone()).await;
        let Err(error) = failed else { return };
        tracing::warn!(base = %registration.base, error = %error, "not registered in ZooKeeper; trying again");
        state.send_modify(|state| {
            state.is_registered = false;
            state.error = Some(error);
        });
        tokio::select! {
            () = tokio::time::sleep(AGAIN_AFTER) => {}
            () = stop.stopped() => return,
        }
    }
}

/// Registers and holds one session. Ends well when stopped (withdrawn), with an error when the session is lost.
async fn hold(
    registration: &Registration,
    state: &watch::Sender<State>,
    mut stop: Stop,
) -> Result<(), String> {
    let client = tokio::select! {
        client = connect(&registration.quorum) => client.map_err(|fault| fault.chain())?,
        () = stop.stopped() => return Ok(()),
    };
    // Before the first step: a session that ends from here on is seen.
    let mut sessions = client.state_watcher();
    registration.create(&client).await.map_err(|error| error.to_string())?;
    tracing::info!(base = %registration.base, servers = registration.servers.len(), "registered in ZooKeeper");
    state.send_modify(|state| {
        *state = State { is_registered: true, sessions: state.sessions + 1, error: None }
    });
    let mut look = tokio::time::interval(MASTER_EVERY);
    loop {
        tokio::select! {
            _ = look.tick() => {
                // A failure is the connection's, and the session's state says what becomes of it.
                let _ = registration.be_master(&client).await;
            }
            changed = sessions.changed() => {
                if changed.is_terminated() {
                    return Err(format!("the session ended: {changed:?}"));
                }
            }
            () = stop.stopped() => {
                registration.remove(&client).await;
                return Ok(());
            }
        }
    }
}

impl Registered {
    /// How it stands now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Removes the children, so that sources turn away, and ends the session.
    pub async fn withdraw(self) {
        self.drain.stop();
        let _ = tokio::time::timeout(Duration::from_secs(3), self.task).await;
    }
}
