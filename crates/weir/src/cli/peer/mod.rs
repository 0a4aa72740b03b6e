//! `weir peer`: the replication peer at the source cluster.

pub(super) mod add;
mod plan;
pub(super) mod shell;
mod status;
pub(super) mod verdict;

use super::{runtime, say};
use crate::config::{Capture, load};
use crate::exit::Exit;
use std::path::Path;
use weir_hbase::master::{Master, PeerAct};
use weir_hbase::{peers, registration, zookeeper};
use weir_model::{Fault, FaultKind};

/// Adds, shows and changes the replication peer at the source cluster: by RPC on HBase 2.x, by the exact shell lines on 1.x.
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
    /// Adds the peer, turns replication on for tables, and returns when every region server has both.
    ///
    /// Run it again at will: what is right stays, what is not is changed, and a peer of the same id that points
    /// elsewhere is an error. On HBase 1.x it prints the lines for HBase's shell instead.
    Add(add::Add),
    /// Lists all peers of the source cluster, one JSON object a line.
    List,
    /// Ships again.
    Enable,
    /// Stops shipping. HBase keeps the WAL files, so watch its disk.
    Disable,
    /// Removes the peer. What was not shipped never will be.
    Remove,
    /// Shows what waits in each region server's queue for the peer, by WAL files and by time.
    ///
    /// One JSON object a line; `docs/peer.md` says what each figure means. Exit code 1 when a region server has not
    /// taken the peer up.
    Status(status::Status),
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    let config = load::file(file)?;
    let found = match (&arguments.capture, config.capture.len()) {
        (Some(name), _) => config.capture.get_key_value(name),
        (None, 1) => config.capture.iter().next(),
        (None, _) => None,
    };
    let Some((name, section)) = found else {
        let names: Vec<&str> = config.capture.keys().map(String::as_str).collect();
        let about = format!("say --capture NAME; there are: {}", names.join(", "));
        return Err(Fault::new(FaultKind::Config, load::CODE, "choose a capture", about));
    };
    runtime()?.block_on(act(name, section, &arguments.command))
}

async fn act(name: &str, section: &Capture, command: &Command) -> Result<Exit, Fault> {
    let client = zookeeper::connect(&section.zookeeper, section.login(name)?.as_ref()).await?;
    registration::read_cluster_id(&client, &section.znode_parent).await?;
    let parent = section.znode_parent.as_str();
    let by_shell = |line: &str| {
        eprintln!("weir: this master (HBase 1.x) has no such call; run this in its shell:");
        say(line);
        Ok(Exit::Found)
    };
    match command {
        Command::Add(arguments) => add::run(&client, (name, section), arguments).await,
        Command::List => {
            for peer in peers::list(&client, parent).await? {
                let peers::Peer { id, config, is_enabled, .. } = peer;
                let settings: std::collections::BTreeMap<_, _> = config.settings.into_iter().collect();
                say(&serde_json::json!({ "peer": id, "cluster_key": config.cluster_key, "enabled": is_enabled, "serial": config.is_serial, "sends": add::sends(&config.filter), "config": settings }).to_string());
            }
            Ok(Exit::Done)
        }
        Command::Enable => change(&client, section, PeerAct::Enable, "enable_peer", by_shell).await,
        Command::Disable => change(&client, section, PeerAct::Disable, "disable_peer", by_shell).await,
        Command::Remove => change(&client, section, PeerAct::Remove, "remove_peer", by_shell).await,
        Command::Status(arguments) => status::run(&client, section, arguments).await,
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
        let peers = peers::list(client, &section.znode_parent).await?;
        let now = peers.iter().find(|peer| peer.id == section.peer).map(|peer| peer.is_enabled);
        let wanted = match act {
            PeerAct::Enable => Some(true),
            PeerAct::Disable => Some(false),
            PeerAct::Remove => None,
        };
        if now == wanted {
            say(&format!("{word} {}: done", section.peer));
            return Ok(Exit::Done);
        }
        let state = match now {
            None => "not there",
            Some(true) => "enabled",
            Some(false) => "disabled",
        };
        eprintln!(
            "weir: the master has done {word}, and peer {} is {state}; fix: look at the master's log, and run it again",
            section.peer
        );
        return Ok(Exit::Found);
    }
    by_shell(&format!("{word} '{}'", section.peer))
}

/// Whether a Weir is registered under the base znode. A ZooKeeper that does not tell is a fault, not a "no".
async fn is_served(name: &str, section: &Capture) -> Result<bool, Fault> {
    let client = zookeeper::connect(section.peer_zookeeper(), section.login(name)?.as_ref()).await?;
    Ok(!registration::servers(&client, &section.base_znode()).await?.is_empty())
}
