//! `weir check`: what is wrong, and the command that mends it. A doctor, not a test of the code.

use super::peer::{add, shell};
use super::{runtime, say};
use crate::config::{self, Config, load};
use crate::exit::Exit;
use std::path::Path;
use weir_hbase::{peers, registration};
use weir_kafka::topics::{Topic, Topics};
use weir_model::{Fault, TableName, TopicNaming};
use weir_wire::hbase::cluster_key::ClusterKey;

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
    let add = shell::add_peer(id, &add::plain_wish(section));
    let found = peers::list(client, &section.znode_parent).await?.into_iter().find(|peer| peer.id == *id);
    let Some(peer) = found else {
        findings.wrong(&format!("{at}: the source has no peer {id:?}"), &format!("hbase shell> {add}"));
        return Ok(());
    };
    let key = add::cluster_key(section);
    if ClusterKey::parse(&peer.config.cluster_key).is_some_and(|now| now.is_same_place(&key)) {
        findings.ok(&format!("{at}: peer {id} points to {}", peer.config.cluster_key));
    } else {
        let mend = format!("hbase shell> remove_peer '{id}'; {add}");
        findings.wrong(
            &format!("{at}: peer {id} points to {:?}, not to {base} on {quorum}", peer.config.cluster_key),
            &mend,
        );
    }
    if peer.is_enabled {
        findings.ok(&format!("{at}: peer {id} is enabled"));
    } else {
        findings.wrong(&format!("{at}: peer {id} is disabled"), &format!("hbase shell> enable_peer '{id}'"));
    }
    match peer.config.setting(add::RATIO) {
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
            for warning in warnings {
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
