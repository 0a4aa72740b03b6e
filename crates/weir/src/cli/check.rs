//! `weir check`: what is wrong, and the command that mends it. A doctor, not a test of the code.

use super::{runtime, say};
use crate::config::{self, Config, load};
use crate::exit::Exit;
use std::path::Path;
use weir_hbase::{peers, registration};
use weir_kafka::topics::{Topic, Topics};
use weir_model::{Fault, TableName, TopicNaming};

/// Looks at ZooKeeper, the peer, Kafka and the topics, and says what is wrong and which command mends it.
///
/// Each line starts with `ok`, `warn` or `WRONG`. Exit code 1 when anything is wrong.
#[derive(clap::Args)]
pub(super) struct Arguments {}

/// What was found so far.
#[derive(Default)]
struct Findings {
    wrong: usize,
}

impl Findings {
    fn ok(&self, what: &str) {
        say(&format!("ok     {what}"));
    }

    fn warn(&self, what: &str, mend: &str) {
        say(&format!("warn   {what}\n         mend: {mend}"));
    }

    fn wrong(&mut self, what: &str, mend: &str) {
        self.wrong += 1;
        say(&format!("WRONG  {what}\n         mend: {mend}"));
    }
}

pub(super) fn run(file: &Path, _: &Arguments) -> Result<Exit, Fault> {
    let config = load::file(file)?;
    let mut findings = Findings::default();
    findings.ok(&format!("configuration {}", file.display()));
    let runtime = runtime()?;
    for (name, section) in &config.capture {
        runtime.block_on(source(name, section, &mut findings));
    }
    if config.capture.is_empty() {
        findings.wrong("there is no [capture.NAME] section", "weir config sample > weir.toml");
    }
    kafka(&config, &runtime, &mut findings)?;
    Ok(if findings.wrong == 0 { Exit::Done } else { Exit::Found })
}

async fn source(name: &str, section: &config::Capture, findings: &mut Findings) {
    let at = format!("capture.{name}");
    let client = match registration::connect(&section.zookeeper).await {
        Ok(client) => client,
        Err(fault) => {
            return findings.wrong(
                &format!("{at}: {}", fault.chain()),
                &format!("set {at}.zookeeper to the quorum of the source"),
            );
        }
    };
    match registration::read_cluster_id(&client, &section.znode_parent).await {
        Ok(id) => findings.ok(&format!("{at}: HBase cluster {id} at {}", section.zookeeper)),
        Err(fault) => {
            return findings.wrong(
                &format!("{at}: {}", fault.chain()),
                &format!("set {at}.znode-parent to zookeeper.znode.parent of the source"),
            );
        }
    }
    if let Err(fault) = peer(&at, section, &client, findings).await {
        findings.wrong(&format!("{at}: {}", fault.chain()), "look at ZooKeeper");
    }
}

async fn peer(
    at: &str,
    section: &config::Capture,
    client: &zookeeper_client::Client,
    findings: &mut Findings,
) -> Result<(), Fault> {
    let (id, base) = (&section.peer, section.base_znode());
    let quorum = section.peer_zookeeper();
    let add = add_peer_line(section);
    let found = peers::list(client, &section.znode_parent).await?.into_iter().find(|peer| peer.id == *id);
    let Some(peer) = found else {
        findings.wrong(&format!("{at}: the source has no peer {id:?}"), &format!("hbase shell> {add}"));
        return Ok(());
    };
    if peer.cluster_key.trim_end_matches('/').ends_with(&format!(":{base}"))
        || peer.cluster_key.ends_with(&base)
    {
        findings.ok(&format!("{at}: peer {id} points to {}", peer.cluster_key));
    } else {
        // HBase cannot change where a peer points, and removing one throws its queue away.
        let there = peer.cluster_key.rsplit(':').next().unwrap_or_default();
        let mend = format!(
            "set {at}.base-znode = \"{there}\" (what waits at the source comes then), or give up what waits: hbase shell> remove_peer '{id}'; {add}"
        );
        findings.wrong(
            &format!("{at}: peer {id} points to {:?}, not to {base} on {quorum}", peer.cluster_key),
            &mend,
        );
    }
    if peer.is_enabled {
        findings.ok(&format!("{at}: peer {id} is enabled"));
    } else {
        findings.wrong(&format!("{at}: peer {id} is disabled"), &format!("hbase shell> enable_peer '{id}'"));
    }
    match peer.setting("replication.source.ratio") {
        Some("1.0" | "1") => findings.ok(&format!("{at}: sources use all virtual servers")),
        other => findings.wrong(
            &format!("{at}: replication.source.ratio of peer {id} is {}: a source uses only a part of the virtual servers", other.unwrap_or("not set")),
            &format!("hbase shell> update_peer_config '{id}', CONFIG => {{ \"replication.source.ratio\" => \"1.0\" }}"),
        ),
    }
    for server in peers::up_take(client, &section.znode_parent, id)
        .await?
        .into_iter()
        .filter(|server| !server.has_queue)
    {
        findings.warn(
            &format!(
                "{at}: {} has not taken peer {id} up yet; on HBase 1.x what it writes now never comes",
                server.server
            ),
            "wait; if it stays so, look at that server's log",
        );
    }
    Ok(())
}

/// The key under which the source finds the fake cluster.
pub(super) fn cluster_key(section: &config::Capture) -> String {
    let servers: Vec<&str> = section.peer_zookeeper().split(',').collect();
    let port = servers.first().and_then(|server| server.rsplit_once(':')).map_or("2181", |(_, port)| port);
    let hosts: Vec<&str> =
        servers.iter().map(|server| server.rsplit_once(':').map_or(*server, |(host, _)| host)).collect();
    format!("{}:{port}:{}", hosts.join(","), section.base_znode())
}

/// The line for HBase's shell that adds the peer.
pub(super) fn add_peer_line(section: &config::Capture) -> String {
    format!(
        "add_peer '{}', CLUSTER_KEY => \"{}\", CONFIG => {{ \"replication.source.ratio\" => \"1.0\" }}",
        section.peer,
        cluster_key(section)
    )
}

fn kafka(config: &Config, runtime: &tokio::runtime::Runtime, findings: &mut Findings) -> Result<(), Fault> {
    let bootstrap = config.log.bootstrap.join(",");
    let client = Topics::new(&bootstrap, &config.log.read_properties()?)?;
    let topics = match client.list() {
        Ok(topics) => topics,
        Err(fault) => {
            findings.wrong(
                &format!("log: {}", fault.chain()),
                "set log.bootstrap to the brokers, and log.properties to what they want",
            );
            return Ok(());
        }
    };
    findings.ok(&format!("log: Kafka at {bootstrap} answers"));
    for (name, section) in &config.capture {
        let rule = TopicNaming::new(&section.topic.prefix, &section.topic.suffix);
        let Ok(rule) = rule else { continue };
        for table in section.tables.include.iter().filter(|table| !table.contains('*')) {
            let Ok(topic) =
                TableName::new(table).map_err(|_| ()).and_then(|table| rule.topic(&table).map_err(|_| ()))
            else {
                continue;
            };
            if !topics.iter().any(|found| found.name == topic.as_str()) && !config.log.topics.create {
                let settings = &config.log.topics;
                findings.wrong(
                    &format!("capture.{name}: table {table} has no topic {topic}"),
                    &format!(
                        "kafka-topics.sh --bootstrap-server {bootstrap} --create --topic {topic} --partitions {} --replication-factor {} --config min.insync.replicas={}",
                        settings.partitions, settings.replication, settings.min_insync_replicas
                    ),
                );
            }
        }
        for topic in topics.iter().filter(|topic| rule.table(&topic.name).is_some()) {
            let mut topic: Topic = topic.clone();
            topic.settings = runtime.block_on(client.settings(&topic.name))?;
            let warnings = topic.warnings();
            if warnings.is_empty() {
                findings.ok(&format!(
                    "capture.{name}: topic {} with {} partitions",
                    topic.name, topic.partition_count
                ));
            }
            let contradiction = topic.contradiction();
            if let Some(contradiction) = &contradiction {
                findings.wrong(
                    &format!("capture.{name}: topic {}: {contradiction}", topic.name),
                    &format!(
                        "kafka-configs.sh --bootstrap-server {bootstrap} --alter --topic {} --add-config min.insync.replicas={} (or give it more replicas: kafka-reassign-partitions.sh)",
                        topic.name, topic.replica_count
                    ),
                );
            }
            for warning in warnings.into_iter().filter(|warning| contradiction.as_ref() != Some(warning)) {
                findings.warn(
                    &format!("capture.{name}: topic {}: {warning}", topic.name),
                    &format!(
                        "kafka-configs.sh --bootstrap-server {bootstrap} --alter --topic {} --add-config ...",
                        topic.name
                    ),
                );
            }
        }
    }
    Ok(())
}
