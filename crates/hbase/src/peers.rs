//! Replication peers and their queues, as a source cluster of 1.x or 2.x keeps them in ZooKeeper. Reads only.

use crate::zookeeper::{Right, corrupt, fault};
use weir_model::Fault;
use weir_wire::hbase::peer_config::PeerConfig;
use weir_wire::hbase::wal_name::{self, WalFiles};
use weir_wire::hbase::zk;
use zookeeper_client::{Client, Error};

/// A peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub config: PeerConfig,
    /// The message of its configuration as it stands in ZooKeeper.
    pub raw: Vec<u8>,
    /// Whether it ships.
    pub is_enabled: bool,
}

/// The queue of one region server for one peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// The region server that ships it.
    pub server: String,
    /// Whether that server lives. The queue of a dead one waits until another takes it over, which may be never.
    pub is_alive: bool,
    /// Its name: the peer, then the dead servers that it came from.
    pub name: String,
    /// The dead servers that it was taken over from, the last one last.
    pub recovered_from: Vec<String>,
    /// WAL files in it, the open ones too: one for each group is no lag worth speaking of.
    pub wals: WalFiles,
}

/// A region server and whether it has taken a peer up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpTake {
    /// The region server.
    pub server: String,
    /// Whether it has a queue of its own for the peer.
    pub has_queue: bool,
}

/// Reading under the source's own znodes takes the right to read, and no other.
fn trouble(path: String) -> impl FnOnce(Error) -> Fault {
    move |error| fault("read the source's replication state", path, Right::Read, error)
}

async fn children(client: &Client, path: &str) -> Result<Vec<String>, Fault> {
    match client.list_children(path).await {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(Error::NoNode) => Ok(Vec::new()),
        Err(error) => Err(trouble(path.to_owned())(error)),
    }
}

/// All peers of a source cluster; `parent` is its `zookeeper.znode.parent`.
///
/// # Errors
/// When ZooKeeper does not answer, or a peer does not parse.
pub async fn list(client: &Client, parent: &str) -> Result<Vec<Peer>, Fault> {
    let mut peers = Vec::new();
    let corrupt = |error, path: &str| corrupt("read a replication peer", path, error);
    for id in children(client, &format!("{parent}/replication/peers")).await? {
        let path = format!("{parent}/replication/peers/{id}");
        let (value, _) = client.get_data(&path).await.map_err(trouble(path.clone()))?;
        let raw = zk::message(&value).map_err(|error| corrupt(error, &path))?.to_vec();
        let config = PeerConfig::parse(&raw).map_err(|error| corrupt(error, &path))?;
        let state = format!("{path}/peer-state");
        let is_enabled = match client.get_data(&state).await {
            Ok((value, _)) => zk::is_peer_enabled(&value).map_err(|error| corrupt(error, &state))?,
            Err(Error::NoNode) => true,
            Err(error) => return Err(trouble(state)(error)),
        };
        peers.push(Peer { id, config, raw, is_enabled });
    }
    Ok(peers)
}

/// The queues of a peer, recovered ones too.
///
/// # Errors
/// When ZooKeeper does not answer.
pub async fn queues(client: &Client, parent: &str, peer: &str) -> Result<Vec<Queue>, Fault> {
    let mut queues = Vec::new();
    let alive = region_servers(client, parent).await?;
    let root = format!("{parent}/replication/rs");
    for server in children(client, &root).await? {
        for name in children(client, &format!("{root}/{server}")).await? {
            let Some(recovered_from) = recovered_from(&name, peer) else { continue };
            let files = children(client, &format!("{root}/{server}/{name}")).await?;
            let wals = wal_name::look(files.iter().map(String::as_str));
            let is_alive = alive.contains(&server);
            queues.push(Queue { server: server.clone(), is_alive, name, recovered_from, wals });
        }
    }
    Ok(queues)
}

/// A queue is named `PEER`, or `PEER-deadserver[-deadserver]`, where server names may hold `-` (`ReplicationQueueInfo`).
fn recovered_from(queue: &str, peer: &str) -> Option<Vec<String>> {
    let rest = queue.strip_prefix(peer)?;
    if rest.is_empty() {
        return Some(Vec::new());
    }
    // Names are host,port,startcode: a new one begins after the hyphen that follows a start code.
    let mut servers = Vec::new();
    let mut name = String::new();
    for word in rest.strip_prefix('-')?.split('-') {
        if !name.is_empty() {
            name.push('-');
        }
        name.push_str(word);
        if zk::ServerName::parse(&name).is_some() {
            servers.push(std::mem::take(&mut name));
        }
    }
    Some(servers)
}

/// Whether the region servers announce bulk loads to a peer: those that do (`hbase.replication.bulkload.enabled`) make
/// a znode for it, all of one name.
///
/// # Errors
/// When ZooKeeper does not answer.
pub async fn announces_bulk_loads(client: &Client, parent: &str, peer: &str) -> Result<bool, Fault> {
    let path = format!("{parent}/replication/hfile-refs/{peer}");
    client.check_stat(&path).await.map(|stat| stat.is_some()).map_err(trouble(path))
}

/// Names of the live region servers.
///
/// # Errors
/// When ZooKeeper does not answer.
pub async fn region_servers(client: &Client, parent: &str) -> Result<Vec<String>, Fault> {
    children(client, &format!("{parent}/rs")).await
}

/// Which region servers have taken a peer up. On 1.x, what a server writes before that never reaches the peer.
///
/// # Errors
/// When ZooKeeper does not answer.
pub async fn up_take(client: &Client, parent: &str, peer: &str) -> Result<Vec<UpTake>, Fault> {
    let queues = queues(client, parent, peer).await?;
    let servers = region_servers(client, parent).await?;
    let has_queue = |server: &String| {
        queues.iter().any(|queue| queue.server == *server && queue.recovered_from.is_empty())
    };
    Ok(servers.into_iter().map(|server| UpTake { has_queue: has_queue(&server), server }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_name_tells_the_dead_servers_it_came_from() {
        let check = |queue: &str, expect: Option<Vec<&str>>| {
            let got = recovered_from(queue, "weir");
            assert_eq!(
                got.as_ref().map(|names| names.iter().map(String::as_str).collect()),
                expect,
                "{queue}"
            );
        };
        check("weir", Some(vec![]));
        check("weir-rs-1.example.com,16020,1700", Some(vec!["rs-1.example.com,16020,1700"]));
        check("weir-a,1,2-rs-b,3,4", Some(vec!["a,1,2", "rs-b,3,4"]));
        check("weir2", None);
        check("other", None);
    }
}
