//! One source cluster: its ZooKeeper, what is registered for it, the peer, the tables, the clocks.

use super::findings::Findings;
use super::{clock, scopes, zookeeper};
use crate::cli::human;
use crate::cli::peer::verdict::{self, Obstacle};
use crate::cli::peer::{add, shell};
use crate::config;
use std::collections::BTreeSet;
use std::time::Duration;
use weir_hbase::master::Master;
use weir_hbase::peers::{self, Peer};
use weir_hbase::registration;
use weir_hbase::zookeeper::Login;
use weir_model::{Fault, TableName, address};
use weir_wire::hbase::cell_block::Codec;
use weir_wire::hbase::cluster_key::ClusterKey;
use zookeeper_client::Client;

/// How long a name or a connection may take.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// A source, as far as it could be looked at.
pub(super) struct Source<'a> {
    /// Name of the capture section.
    pub(super) name: &'a str,
    /// Tables whose topics are needed.
    pub(super) tables: BTreeSet<TableName>,
    /// All tables that the source has; `None` when its master does not tell.
    pub(super) existing: Option<BTreeSet<TableName>>,
}

/// Looks at a source.
pub(super) async fn check<'a>(
    name: &'a str,
    section: &config::Capture,
    findings: &mut Findings,
) -> Result<Source<'a>, Fault> {
    let at = format!("capture.{name}");
    let settings = crate::capture::settings(section)?;
    let named = section.tables.include.iter().filter(|table| !table.contains('*'));
    let tables: BTreeSet<TableName> = named.filter_map(|table| TableName::new(table).ok()).collect();
    let mut source = Source { name, tables, existing: None };
    let login = section.login(name)?;
    let fix = |fault: &Fault, other: &str| zookeeper::fix(&at, section, "zookeeper", fault, other);
    let client = match weir_hbase::zookeeper::connect(&section.zookeeper, login.as_ref()).await {
        Ok(client) => client,
        Err(fault) => {
            findings.error(&format!("{at}: {}", fault.chain()), &fix(&fault, "look at the log of ZooKeeper"));
            return Ok(source);
        }
    };
    match registration::read_cluster_id(&client, &section.znode_parent).await {
        Ok(id) => findings.ok(&format!("{at}: HBase cluster {id} at {}", section.zookeeper)),
        Err(fault) => {
            let other = format!("set {at}.znode-parent to zookeeper.znode.parent of the source");
            findings.error(&format!("{at}: {}", fault.chain()), &fix(&fault, &other));
            return Ok(source);
        }
    }
    let other = "look at that znode, and at the log of ZooKeeper";
    if let Err(fault) = registered(&at, section, &client, login.as_ref(), findings).await {
        findings.error(&format!("{at}: {}", fault.chain()), &fix(&fault, other));
    }
    let peer = match peer(&at, section, &client, findings).await {
        Ok(peer) => peer,
        Err(fault) => {
            findings.error(&format!("{at}: {}", fault.chain()), &fix(&fault, other));
            None
        }
    };
    match ask_master(&client, section).await {
        Ok((status, schemas)) => {
            let config = peer.as_ref().map(|peer| &peer.config);
            source.existing = Some(schemas.iter().map(|schema| schema.table.clone()).collect());
            source.tables.extend(scopes::check(&at, section, &settings, &schemas, config, findings));
            clock::region_servers(&at, &status.servers, human::now_ms(), findings);
        }
        Err(fault) => findings.warning(
            &format!("{at}: scopes and clocks of region servers are not checked: {}", fault.chain()),
            &fix(&fault, "start the master; on a secure cluster look in HBase's shell: describe 'TABLE'"),
        ),
    }
    Ok(source)
}

async fn ask_master(
    client: &Client,
    section: &config::Capture,
) -> Result<(weir_wire::hbase::load::ClusterStatus, Vec<weir_wire::hbase::schema::Schema>), Fault> {
    let mut master = Master::connect(client, &section.znode_parent).await?;
    Ok((master.status().await?, master.tables(&[]).await?))
}

/// What sources will find under the base znode, and whether this machine can follow it.
async fn registered(
    at: &str,
    section: &config::Capture,
    source: &Client,
    login: Option<&Login>,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let base = section.base_znode();
    let quorum = section.peer_zookeeper();
    let other = match &section.peer_zookeeper {
        None => None,
        Some(quorum) => match weir_hbase::zookeeper::connect(quorum, login).await {
            Ok(client) => Some(client),
            Err(fault) => {
                let fix =
                    zookeeper::fix(at, section, "peer-zookeeper", &fault, "look at the log of ZooKeeper");
                findings.error(&format!("{at}: {}", fault.chain()), &fix);
                return Ok(());
            }
        },
    };
    let client = other.as_ref().unwrap_or(source);
    let servers = registration::servers(client, &base).await?;
    let mut addresses: BTreeSet<(String, u16)> =
        servers.iter().map(|server| (server.host.clone(), server.port)).collect();
    if servers.is_empty() {
        // A `weir run` that may not make its znodes registers nothing either: the right is tried where it is needed.
        let lowest = weir_hbase::zookeeper::lowest_existing(client, &base).await?;
        weir_hbase::clock::of_zookeeper(client, &lowest).await?;
        findings.error(
            &format!(
                "{at}: nothing is registered at {base} on {quorum}: region servers find nobody to send to"
            ),
            "weir run    (start it first, and keep it running)",
        );
        if let (Some(host), Some((_, port))) = (&section.advertise, section.listen.rsplit_once(':')) {
            addresses.insert((host.clone(), port.parse().unwrap_or(0)));
        }
    } else {
        findings.ok(&format!("{at}: {} virtual servers are registered at {base}", servers.len()));
        match weir_hbase::clock::of_zookeeper(client, &base).await {
            Ok(Some(moment)) => clock::zookeeper(at, moment, findings),
            Ok(None) => {}
            // What is registered was made with rights that this user lacks: only the comparison is not possible.
            Err(fault) if fault.code() == weir_hbase::zookeeper::DENIED => {
                findings.info(&format!("{at}: the clock of ZooKeeper is not compared: {}", fault.chain()));
            }
            Err(fault) => return Err(fault),
        }
    }
    let region_servers = peers::region_servers(source, &section.znode_parent).await?;
    for (host, port) in addresses {
        reach(at, &host, port, !servers.is_empty(), &region_servers, findings).await;
    }
    Ok(())
}

/// Whether an advertised address resolves and answers.
async fn reach(
    at: &str,
    host: &str,
    port: u16,
    is_registered: bool,
    region_servers: &[String],
    findings: &mut Findings,
) {
    let looked_up = tokio::time::timeout(CONNECT_WAIT, tokio::net::lookup_host((host, port))).await;
    let found: Vec<_> =
        looked_up.map_or_else(|_| Vec::new(), |found| found.map(Iterator::collect).unwrap_or_default());
    let fix =
        format!("set {at}.advertise to a name or address of this machine that every region server resolves");
    if found.is_empty() {
        findings.error(&format!("{at}: the advertised name {host:?} does not resolve here"), &fix);
        return;
    }
    let is_here =
        |name: &str| name.starts_with("127.") || name == "localhost" || name.starts_with("localhost,");
    if found.iter().all(|address| address.ip().is_loopback())
        && let Some(away) = region_servers.iter().find(|name| !is_here(name))
    {
        findings.warning(
            &format!("{at}: the advertised name {host:?} is this machine's loopback address; region server {away} would connect to itself"),
            &fix,
        );
    }
    if is_registered {
        let place = address::join(host, port);
        let connected =
            tokio::time::timeout(CONNECT_WAIT, tokio::net::TcpStream::connect((host, port))).await;
        match connected {
            Ok(Ok(_)) => findings.ok(&format!("{at}: {place} takes connections")),
            _ => findings.warning(
                &format!("{at}: {place} is registered and takes no connection from here"),
                "open that port in the firewall; or start `weir run` there again",
            ),
        }
    }
}

/// The peer itself, when it is one of ours.
async fn peer(
    at: &str,
    section: &config::Capture,
    client: &Client,
    findings: &mut Findings,
) -> Result<Option<Peer>, Fault> {
    let id = &section.peer;
    let add = shell::add_peer(id, &add::plain_wish(section));
    let found = peers::list(client, &section.znode_parent).await?.into_iter().find(|peer| peer.id == *id);
    let Some(peer) = found else {
        findings.error(
            &format!("{at}: the source has no peer {id:?}"),
            &format!("weir peer add    (HBase 1.x: hbase shell> {add})"),
        );
        return Ok(None);
    };
    let key = add::cluster_key(section);
    let is_ours = ClusterKey::parse(&peer.config.cluster_key).is_some_and(|now| now.is_same_place(&key));
    if is_ours {
        findings.ok(&format!("{at}: peer {id} points to {}", peer.config.cluster_key));
    } else {
        // HBase cannot change where a peer points, and removing one throws its queue away.
        let there = peer.config.cluster_key.rsplit(':').next().unwrap_or_default();
        findings.error(
            &format!(
                "{at}: peer {id} points to {:?}, not to {} on {}",
                peer.config.cluster_key,
                section.base_znode(),
                section.peer_zookeeper()
            ),
            &format!(
                "set {at}.base-znode = \"{there}\" (what waits at the source comes then), or give up what waits: \
                 hbase shell> remove_peer '{id}'; {add}    (see weir explain W-PEER-ELSEWHERE first)"
            ),
        );
    }
    if peer.is_enabled {
        findings.ok(&format!("{at}: peer {id} is enabled"));
    } else {
        findings.error(
            &format!("{at}: peer {id} is disabled"),
            &format!("weir peer enable    (HBase 1.x: hbase shell> enable_peer '{id}')"),
        );
    }
    settings(at, &peer, findings);
    for server in peers::up_take(client, &section.znode_parent, id)
        .await?
        .into_iter()
        .filter(|server| !server.has_queue)
    {
        findings.warning(
            &format!(
                "{at}: {} has not taken peer {id} up yet; on HBase 1.x what it writes now never comes",
                server.server
            ),
            "weir peer status --wait    (if it stays so, look at that server's log)",
        );
    }
    if peers::announces_bulk_loads(client, &section.znode_parent, id).await? {
        findings.ok(&format!("{at}: bulk loads are announced to peer {id}"));
    } else {
        findings.info(&format!(
            "{at}: bulk loads are not announced: region servers have hbase.replication.bulkload.enabled off, or had it off when they took peer {id} up"
        ));
    }
    Ok(is_ours.then_some(peer))
}

/// Settings of the peer that decide how much comes, and how whole.
fn settings(at: &str, peer: &Peer, findings: &mut Findings) {
    let id = &peer.id;
    match peer.config.setting(add::RATIO) {
        Some("1.0" | "1") => findings.ok(&format!("{at}: sources use all virtual servers")),
        other => findings.error(
            &format!("{at}: replication.source.ratio of peer {id} is {}: a source uses only a part of the virtual servers", other.unwrap_or("not set")),
            &format!("hbase shell> update_peer_config '{id}', CONFIG => {{ \"replication.source.ratio\" => \"1.0\" }}"),
        ),
    }
    for Obstacle { what, fix } in verdict::refused_settings(id, &peer.config) {
        findings.error(&format!("{at}: {what}"), &fix);
    }
    if let Some(class) = peer.config.setting(add::CODEC)
        && Codec::of_class(class).is_some_and(|codec| !codec.has_tags())
    {
        findings.warning(
            &format!(
                "{at}: peer {id} has the codec {class}, which drops the tags of cells (TTL, visibility, ACL)"
            ),
            "weir peer add --codec KeyValueCodecWithTags    (HBase 1.x: hbase shell> update_peer_config)",
        );
    }
}
