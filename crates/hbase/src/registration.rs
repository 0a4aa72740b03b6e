//! The ZooKeeper side of a fake peer cluster: base znode, `hbaseid`, and the virtual region servers.
//!
//! A task keeps the ephemeral children there: after a lost session it makes a new one and creates them again, because
//! without children every source stops with "No replication sinks are available".

use crate::zookeeper::{Login, Right, corrupt, exists, fault, lowest_existing};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_model::{ClusterId, Fault, FaultKind};
use weir_runtime::drain::{Drain, Stop};
use weir_wire::hbase::zk::{self, ServerName};
use zookeeper_client as zookeeper;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Permission, SessionState};

/// How often a master's znode that has gone is made again.
const MASTER_EVERY: Duration = Duration::from_secs(5);

/// How long between tries when the quorum does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

const REGISTER: &str = "register in ZooKeeper";

/// All rights for the login that made a znode, and the right to read for everybody: sources only read.
static OURS: LazyLock<[Acl; 2]> = LazyLock::new(|| {
    [Acl::new(Permission::ALL, AuthId::authed()), Acl::new(Permission::READ, AuthId::anyone())]
});

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
    /// Login at that ZooKeeper.
    pub login: Option<Login>,
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
    /// Code of that fault.
    pub code: Option<&'static str>,
}

/// Opens a session without a login.
///
/// # Errors
/// `Transient` when the quorum does not answer.
pub async fn connect(quorum: &str) -> Result<Client, Fault> {
    crate::zookeeper::connect(quorum, None).await
}

/// The id of a source cluster, from `hbaseid` under its parent znode.
///
/// # Errors
/// `Transient` when ZooKeeper does not answer, `Denied` when it lets us read nothing, `Config` when there is no cluster
/// under that znode.
pub async fn read_cluster_id(client: &Client, parent: &str) -> Result<ClusterId, Fault> {
    const DOING: &str = "read the cluster id";
    let path = format!("{parent}/hbaseid");
    match client.get_data(&path).await {
        Ok((value, _)) => zk::cluster_id(&value).map_err(|error| corrupt(DOING, path, error)),
        Err(zookeeper::Error::NoNode) => {
            Err(Fault::new(FaultKind::Config, "W-CONFIG", "find an HBase cluster in ZooKeeper", path)
                .caused_by("there is no such znode; is znode-parent right?"))
        }
        Err(error) => Err(fault(DOING, path, Right::Read, error)),
    }
}

/// The virtual region servers that are registered under the base znode of a fake cluster; none when there is no such
/// znode.
///
/// # Errors
/// `Transient` when ZooKeeper does not answer, `Denied` when it does not let us look.
pub async fn servers(client: &Client, base: &str) -> Result<Vec<ServerName>, Fault> {
    let path = format!("{base}/rs");
    match client.list_children(&path).await {
        Ok(names) => Ok(names.iter().filter_map(|name| ServerName::parse(name)).collect()),
        Err(zookeeper::Error::NoNode) => Ok(Vec::new()),
        Err(error) => Err(fault("read what is registered", path, Right::Read, error)),
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

    /// The rights of what is made: with a login everything is ours and others may read, else anybody may do anything.
    fn acls(&self) -> Acls<'static> {
        if self.login.is_some() { Acls::new(&*OURS) } else { Acls::anyone_all() }
    }

    async fn create(&self, client: &Client) -> Result<(), Fault> {
        let persistent = CreateMode::Persistent.with_acls(self.acls());
        let id_path = format!("{}/hbaseid", self.base);
        let servers = format!("{}/rs", self.base);
        match client.mkdir(&servers, &persistent).await {
            Ok(()) => {}
            // Without the right to make it, it may be there all the same: an administrator has made it.
            Err(zookeeper::Error::NoAuth) if exists(client, &servers).await? => {}
            Err(error) => {
                let lowest = lowest_existing(client, &servers).await?;
                return Err(fault("make the znodes of the fake cluster", lowest, Right::Create, error));
            }
        }
        let id = self.cluster_id.to_string().into_bytes();
        match client.create(&id_path, &id, &persistent).await {
            Ok(_) => {}
            Err(error @ (zookeeper::Error::NodeExists | zookeeper::Error::NoAuth)) => {
                if error == zookeeper::Error::NoAuth && !exists(client, &id_path).await? {
                    return Err(fault(REGISTER, self.base.clone(), Right::Create, error));
                }
                self.correct_id(client, &id_path, &id).await?;
            }
            Err(error) => return Err(fault(REGISTER, id_path, Right::Create, error)),
        }
        let ephemeral = CreateMode::Ephemeral.with_acls(self.acls());
        for server in &self.servers {
            let path = format!("{servers}/{server}");
            let failed = |error| fault(REGISTER, servers.clone(), Right::Create, error);
            match client.create(&path, &[], &ephemeral).await {
                Ok(_) => {}
                Err(zookeeper::Error::NodeExists) => {
                    // Left by an old session of ours that has not ended yet: it would vanish later.
                    match client.delete(&path, None).await {
                        Ok(()) | Err(zookeeper::Error::NoNode) => {}
                        Err(error) => return Err(fault(REGISTER, servers, Right::Delete, error)),
                    }
                    client.create(&path, &[], &ephemeral).await.map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.be_master(client).await
    }

    /// Another process of the same peer wrote the same id; an older one would loop writes or stop sources.
    async fn correct_id(&self, client: &Client, path: &str, id: &[u8]) -> Result<(), Fault> {
        let failed = |right| move |error| fault("read the id of the fake cluster", path, right, error);
        let (value, _) = client.get_data(path).await.map_err(failed(Right::Read))?;
        if zk::cluster_id(&value) != Ok(self.cluster_id) {
            client.set_data(path, id, None).await.map_err(failed(Right::Write))?;
            tracing::warn!(znode = %path, "the fake cluster had another id; sources must be restarted by disable and enable of the peer");
        }
        Ok(())
    }

    /// Several processes serve one peer, and any of them is a master to a 3.0 source. The one that is there may be
    /// another's, or left by our own last session: it goes with its owner, and then it is our turn.
    async fn be_master(&self, client: &Client) -> Result<(), Fault> {
        let Some(server) = self.servers.first() else { return Ok(()) };
        let ephemeral = CreateMode::Ephemeral.with_acls(self.acls());
        let path = format!("{}/master", self.base);
        match client.create(&path, &zk::encode_master(server), &ephemeral).await {
            Ok(_) | Err(zookeeper::Error::NodeExists) => Ok(()),
            Err(zookeeper::Error::NoAuth) if exists(client, &path).await? => Ok(()),
            Err(error) => Err(fault(REGISTER, self.base.clone(), Right::Create, error)),
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
        let Err(fault) = failed else { return };
        let error = fault.chain();
        tracing::warn!(base = %registration.base, %error, "not registered in ZooKeeper; trying again");
        state.send_modify(|state| {
            state.is_registered = false;
            state.error = Some(error);
            state.code = Some(fault.code());
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
) -> Result<(), Fault> {
    let client = tokio::select! {
        client = crate::zookeeper::connect(&registration.quorum, registration.login.as_ref()) => client?,
        () = stop.stopped() => return Ok(()),
    };
    // Before the first step: a session that ends from here on is seen.
    let mut sessions = client.state_watcher();
    registration.create(&client).await?;
    tracing::info!(base = %registration.base, servers = registration.servers.len(), "registered in ZooKeeper");
    state.send_modify(|state| {
        *state = State { is_registered: true, sessions: state.sessions + 1, ..State::default() }
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
                    return Err(session_ended(changed, &registration.quorum));
                }
            }
            () = stop.stopped() => {
                registration.remove(&client).await;
                return Ok(());
            }
        }
    }
}

/// Why a session ended; an ensemble that refuses the login is not one that is away.
fn session_ended(state: SessionState, quorum: &str) -> Fault {
    let error = match state {
        SessionState::AuthFailed => zookeeper::Error::AuthFailed,
        _ => zookeeper::Error::SessionExpired,
    };
    fault("keep the session with ZooKeeper", quorum, Right::Read, error)
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
