//! Questions and administration by RPC at the master of a source cluster: peers (2.x), tables, replication load.

use crate::zookeeper::{Right, fault};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use weir_model::limits::MASTER_ANSWER_BYTES_MAX;
use weir_model::{Fault, FaultKind, TableName};
use weir_wire::WireError;
use weir_wire::hbase::call::{ConnectionHeader, RemoteException, encode_call, parse_answer};
use weir_wire::hbase::load::{self, ClusterStatus};
use weir_wire::hbase::schema::{self, Schema};
use weir_wire::hbase::{master, preamble, zk};
use zookeeper_client::Client;

/// How long one call may take.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// How long a procedure may take: every region server has to take the peer up.
const PROCEDURE_WAIT: Duration = Duration::from_secs(120);

const CODE: &str = "W-HBASE-MASTER";

/// A connection to the active master.
#[derive(Debug)]
pub struct Master {
    socket: TcpStream,
    address: String,
    call_id: u32,
}

/// What is done to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAct {
    /// Ship again.
    Enable,
    /// Stop shipping; WAL files are kept.
    Disable,
    /// Forget the peer and its queues.
    Remove,
}

impl Master {
    /// Connects to the master that ZooKeeper names; `parent` is the source's `zookeeper.znode.parent`.
    ///
    /// # Errors
    /// When there is no master, or it does not answer.
    pub async fn connect(client: &Client, parent: &str) -> Result<Self, Fault> {
        let path = format!("{parent}/master");
        let unreachable = |about: &str, cause: String| {
            Fault::new(FaultKind::Transient, CODE, "reach the master", about).caused_by(cause)
        };
        let (value, _) = match client.get_data(&path).await {
            Ok(found) => found,
            Err(zookeeper_client::Error::NoNode) => {
                return Err(unreachable(&path, "there is no such znode: no master runs".to_owned()));
            }
            Err(error) => return Err(fault("find the master", path, Right::Read, error)),
        };
        let name = zk::master(&value)
            .map_err(|error| crate::zookeeper::corrupt("find the master", path.clone(), error))?;
        let address = weir_model::address::join(&name.host, name.port);
        let hello = async {
            let mut socket = TcpStream::connect(&address).await?;
            let mut hello = preamble::simple().to_vec();
            let user = std::env::var("HADOOP_USER_NAME")
                .or_else(|_| std::env::var("USER"))
                .unwrap_or_else(|_| "weir".to_owned());
            let header = ConnectionHeader {
                user: Some(user),
                service: "MasterService".to_owned(),
                ..ConnectionHeader::default()
            };
            header.encode(&mut hello);
            socket.write_all(&hello).await?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket = timeout(CALL_WAIT, hello)
            .await
            .map_err(|_| unreachable(&address, "no answer".to_owned()))?
            .map_err(|error| unreachable(&address, error.to_string()))?;
        Ok(Self { socket, address, call_id: 0 })
    }

    async fn call(
        &mut self,
        method: &'static str,
        param: &[u8],
    ) -> Result<Result<Vec<u8>, RemoteException>, Fault> {
        self.call_id += 1;
        let mut frame = Vec::new();
        encode_call(&mut frame, self.call_id, method, None, param, &[]);
        let talk = async {
            self.socket.write_all(&frame).await?;
            let len = self.socket.read_u32().await? as usize;
            if len > MASTER_ANSWER_BYTES_MAX {
                return Err(std::io::Error::other(format!("an answer of {len} bytes")));
            }
            let mut answer = vec![0; len];
            self.socket.read_exact(&mut answer).await?;
            Ok(answer)
        };
        let broken = |cause: String| {
            Fault::new(
                FaultKind::Transient,
                CODE,
                "talk to the master",
                format!("{method} at {}", self.address),
            )
            .caused_by(cause)
        };
        let answer = match timeout(CALL_WAIT, talk).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(broken(error.to_string())),
            Err(_) => return Err(broken("no answer".to_owned())),
        };
        let answer = parse_answer(&answer).map_err(|error| broken(error.to_string()))?;
        Ok(answer.result.map(|(message, _)| message.to_vec()))
    }

    /// Runs a method that starts a procedure, and waits for its end. `false` when this master, of 1.x, lacks it.
    async fn run(&mut self, method: &'static str, param: &[u8]) -> Result<bool, Fault> {
        let corrupt = |error: WireError| corrupt(method, error);
        let refused = |exception: RemoteException| refused(method, &exception);
        let started = match self.call(method, param).await? {
            Ok(message) => master::first_number(&message).map_err(corrupt)?,
            // 1.7.2 wraps it: DoNotRetryIOException "... UnsupportedOperationException: AddReplicationPeer".
            Err(exception) if lacks(&exception, method) => return Ok(false),
            Err(exception) => return Err(refused(exception)),
        };
        let deadline = Instant::now() + PROCEDURE_WAIT;
        loop {
            let state = self.call(master::PROCEDURE, &master::procedure(started)).await?.map_err(refused)?;
            if let Some(text) = master::procedure_failure(&state).map_err(corrupt)? {
                return Err(
                    Fault::new(FaultKind::Config, CODE, "have the master do it", method).caused_by(text)
                );
            }
            const RUNNING: u64 = 1;
            if master::first_number(&state).map_err(corrupt)? != RUNNING {
                return Ok(true);
            }
            if Instant::now() > deadline {
                let about = format!("procedure {started} still runs after {PROCEDURE_WAIT:?}");
                return Err(Fault::new(FaultKind::Transient, CODE, "see the end of it", about));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks a question that every line answers.
    async fn ask<T>(
        &mut self,
        method: &'static str,
        param: &[u8],
        read: impl FnOnce(&[u8]) -> Result<T, WireError>,
    ) -> Result<T, Fault> {
        let message = self.call(method, param).await?.map_err(|exception| refused(method, &exception))?;
        read(&message).map_err(|error| corrupt(method, error))
    }

    /// Its version, and what its region servers have reported of their replication.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn status(&mut self) -> Result<ClusterStatus, Fault> {
        self.ask(load::METHOD, &load::request(), load::parse).await
    }

    /// Descriptors of these tables, or of all user tables when none is named. Missing tables are left out.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn tables(&mut self, names: &[TableName]) -> Result<Vec<Schema>, Fault> {
        self.ask(schema::GET, &schema::get(names), schema::parse_answer).await
    }

    /// Changes a table, and returns when its regions have the change. 2.x only: 1.x answers before it is through.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn modify_table(&mut self, schema: &Schema) -> Result<(), Fault> {
        self.run(schema::MODIFY, &schema::modify(schema)).await.map(|_| ())
    }

    /// Adds an enabled peer with this `ReplicationPeer` and returns when every region server has taken it up. `false`
    /// on 1.x, which has no such call: there it is the shell's job.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn add_peer(&mut self, id: &str, config: &[u8]) -> Result<bool, Fault> {
        self.run(master::ADD_PEER, &master::add_peer(id, config)).await
    }

    /// Changes the configuration of a peer, and returns when every region server has it. `false` on 1.x.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn update_peer(&mut self, id: &str, config: &[u8]) -> Result<bool, Fault> {
        self.run(master::UPDATE_PEER, &master::update_peer(id, config)).await
    }

    /// Enables, disables or removes a peer. `false` on 1.x.
    ///
    /// # Errors
    /// When the master refuses or does not answer.
    pub async fn act(&mut self, act: PeerAct, id: &str) -> Result<bool, Fault> {
        let method = match act {
            PeerAct::Enable => master::ENABLE_PEER,
            PeerAct::Disable => master::DISABLE_PEER,
            PeerAct::Remove => master::REMOVE_PEER,
        };
        self.run(method, &master::peer_id(id)).await
    }
}

fn refused(method: &'static str, exception: &RemoteException) -> Fault {
    let text = exception.text.lines().next().unwrap_or_default();
    let kind = if exception.class.contains("AccessDenied") { FaultKind::Denied } else { FaultKind::Config };
    Fault::new(kind, CODE, "have the master do it", method)
        .caused_by(format!("{}: {text}", exception.short_class()))
}

fn corrupt(method: &'static str, error: WireError) -> Fault {
    Fault::new(FaultKind::Corrupt, CODE, "read the master's answer", method).caused_by(error)
}

/// Whether the server does not know the method.
fn lacks(exception: &RemoteException, method: &str) -> bool {
    exception.short_class() == "UnsupportedOperationException"
        || exception.text.contains(&format!("UnsupportedOperationException: {method}"))
}
