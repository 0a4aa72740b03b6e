//! `weir peer`: the replication peer at the source cluster.

use super::{runtime, say};
use crate::config::{Capture, load};
use crate::exit::Exit;
use std::path::Path;
use std::time::{Duration, Instant};
use weir_hbase::master::{Master, PeerAct};
use weir_hbase::{peers, registration};
use weir_model::{Fault, FaultKind};

/// Manages the replication peer at the source cluster: by RPC on HBase 2.x, by the exact shell line on 1.x.
///
/// Start `weir run` first: what a peer cannot find, it cannot ship to.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The capture section; needed when there is more than one.
    #[arg(long, global = true, value_name = "NAME")]
    capture: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Adds the peer, enabled, and returns when every region server has taken it up.
    ///
    /// Prints the line for HBase's shell that turns replication on for a family.
    Add {
        /// Tables that you want captured; only named in what is printed.
        #[arg(long)]
        table: Vec<String>,
    },
    /// Lists all peers of the source cluster, one JSON object a line.
    List,
    /// Ships again.
    Enable,
    /// Stops shipping. HBase keeps the WAL files, so watch its disk.
    Disable,
    /// Removes the peer. What was not shipped never will be.
    Remove,
    /// Shows each region server's queue for the peer, one JSON object a line.
    Status {
        /// Wait until every region server has taken the peer up (HBase 1.x: before that, writes are not sent).
        #[arg(long)]
        wait: bool,
    },
}

/// How long `status --wait` waits.
const WAIT_MAX: Duration = Duration::from_secs(300);

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    let config = load::file(file)?;
    let section = match (&arguments.capture, config.capture.len()) {
        (Some(name), _) => config.capture.get(name),
        (None, 1) => config.capture.values().next(),
        (None, _) => None,
    };
    let Some(section) = section else {
        let names: Vec<&str> = config.capture.keys().map(String::as_str).collect();
        let about = format!("say --capture NAME; there are: {}", names.join(", "));
        return Err(Fault::new(FaultKind::Config, load::CODE, "choose a capture", about));
    };
    runtime()?.block_on(act(section, &arguments.command))
}

async fn act(section: &Capture, command: &Command) -> Result<Exit, Fault> {
    let client = registration::connect(&section.zookeeper).await?;
    registration::read_cluster_id(&client, &section.znode_parent).await?;
    let (parent, id) = (section.znode_parent.as_str(), section.peer.as_str());
    let by_shell = |line: &str| {
        eprintln!(
            "weir: this master (HBase 1.x) has no such call; run this in its shell, then `weir peer status --wait`:"
        );
        say(line);
        Ok(Exit::Found)
    };
    match command {
        Command::Add { table } => {
            let line = super::check::add_peer_line(section);
            if !is_served(section).await {
                eprintln!(
                    "weir: nothing is registered at {} yet: start `weir run` first",
                    section.base_znode()
                );
                return Ok(Exit::Found);
            }
            let settings = [("replication.source.ratio", "1.0")];
            let mut master = Master::connect(&client, parent).await?;
            if !master.add_peer(id, &super::check::cluster_key(section), &settings).await? {
                return by_shell(&line);
            }
            say(&format!("peer {id} is added; every region server has taken it up"));
            for table in table {
                say(&format!(
                    "for each family of {table}: hbase shell> alter '{table}', {{ NAME => 'FAMILY', REPLICATION_SCOPE => 1 }}"
                ));
            }
            Ok(Exit::Done)
        }
        Command::List => {
            for peer in peers::list(&client, parent).await? {
                let configuration: std::collections::BTreeMap<_, _> =
                    peer.configuration.into_iter().collect();
                say(&serde_json::json!({ "peer": peer.id, "cluster_key": peer.cluster_key, "enabled": peer.is_enabled, "config": configuration }).to_string());
            }
            Ok(Exit::Done)
        }
        Command::Enable => change(&client, section, PeerAct::Enable, "enable_peer", by_shell).await,
        Command::Disable => change(&client, section, PeerAct::Disable, "disable_peer", by_shell).await,
        Command::Remove => change(&client, section, PeerAct::Remove, "remove_peer", by_shell).await,
        Command::Status { wait } => status(&client, section, *wait).await,
    }
}

async fn change(
    client: &zookeeper_client::Client,
    section: &Capture,
    act: PeerAct,
    word: &str,
    by_shell: impl FnOnce(&str) -> Result<Exit, Fault>,
) -> Result<Exit, Fault> {
    let mut master = Master::connect(client, &section.znode_parent).await?;
    if master.act(act, &section.peer).await? {
        say(&format!("{word} {}: done", section.peer));
        return Ok(Exit::Done);
    }
    by_shell(&format!("{word} '{}'", section.peer))
}

/// Whether a Weir is registered under the base znode.
async fn is_served(section: &Capture) -> bool {
    let Ok(client) = registration::connect(section.peer_zookeeper()).await else { return false };
    let path = format!("{}/rs", section.base_znode());
    client.list_children(&path).await.is_ok_and(|servers| !servers.is_empty())
}

async fn status(client: &zookeeper_client::Client, section: &Capture, wait: bool) -> Result<Exit, Fault> {
    let (parent, id) = (section.znode_parent.as_str(), section.peer.as_str());
    let started = Instant::now();
    loop {
        let up_take = peers::up_take(client, parent, id).await?;
        let missing: Vec<&str> =
            up_take.iter().filter(|one| !one.has_queue).map(|one| one.server.as_str()).collect();
        if missing.is_empty() && !up_take.is_empty() {
            break;
        }
        if !wait || started.elapsed() > WAIT_MAX {
            eprintln!(
                "weir: not taken up by: {}",
                if up_take.is_empty() { "any region server".to_owned() } else { missing.join(" ") }
            );
            show(client, parent, id).await?;
            return Ok(Exit::Found);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    show(client, parent, id).await?;
    Ok(Exit::Done)
}

async fn show(client: &zookeeper_client::Client, parent: &str, id: &str) -> Result<(), Fault> {
    for queue in peers::queues(client, parent, id).await? {
        say(&serde_json::json!({ "region_server": queue.server, "recovered_from": queue.recovered_from, "wal_files": queue.wal_count }).to_string());
    }
    Ok(())
}
