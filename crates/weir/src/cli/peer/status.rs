//! `weir peer status`: what waits in each queue of the peer, by files and by time.
//!
//! Queues and files come from ZooKeeper, ages from what region servers last told their master. `docs/peer.md` says
//! what each line of HBase means by its figures.

use crate::cli::human;
use crate::cli::say;
use crate::config::Capture;
use crate::exit::Exit;
use std::time::{Duration, Instant};
use weir_hbase::master::Master;
use weir_hbase::peers::{self, Queue};
use weir_model::Fault;
use weir_wire::hbase::load::{ClusterStatus, ServerLoad, SourceLoad};

/// How long `--wait` waits.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// A dead server's queue whose newest WAL file is older than this was not taken over: files are rolled each hour, and
/// a queue is taken over in minutes.
const ORPHAN_AGE_MS: u64 = 2 * 3_600_000;

#[derive(clap::Args)]
pub(super) struct Status {
    /// Wait until every region server has taken the peer up (HBase 1.x: before that, writes are not sent).
    #[arg(long)]
    wait: bool,
    /// A table for reading instead of JSON lines.
    #[arg(long)]
    human: bool,
}

pub(super) async fn run(
    client: &zookeeper_client::Client,
    section: &Capture,
    arguments: &Status,
) -> Result<Exit, Fault> {
    let (parent, id) = (section.znode_parent.as_str(), section.peer.as_str());
    let started = Instant::now();
    let missing = loop {
        let up_take = peers::up_take(client, parent, id).await?;
        let missing: Vec<String> =
            up_take.iter().filter(|one| !one.has_queue).map(|one| one.server.clone()).collect();
        let is_done = missing.is_empty() && !up_take.is_empty();
        if is_done || !arguments.wait || started.elapsed() > WAIT_MAX {
            break if up_take.is_empty() { vec!["any region server".to_owned()] } else { missing };
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let queues = peers::queues(client, parent, id).await?;
    // A secured master refuses us, and the files are worth showing without the ages.
    let status = match Master::connect(client, parent).await {
        Ok(mut master) => master.status().await,
        Err(fault) => Err(fault),
    };
    let status = status.unwrap_or_else(|fault| {
        eprintln!("weir: no ages, because the master does not tell: {}", fault.chain());
        ClusterStatus::default()
    });
    let peer = peers::list(client, parent).await?.into_iter().find(|peer| peer.id == *id);
    let is_enabled = peer.as_ref().is_some_and(|peer| peer.is_enabled);
    let now_ms = u64::try_from(human::now_ms()).unwrap_or_default();
    let rows: Vec<Row<'_>> =
        queues.iter().map(|queue| Row::new(id, is_enabled, queue, &status, now_ms)).collect();
    if arguments.human {
        show(&rows);
    } else {
        rows.iter().for_each(|row| say(&row.json().to_string()));
    }
    if peer.is_some() && !is_enabled {
        eprintln!(
            "weir: peer {id} is disabled: writes wait, and HBase shows no lag for them; fix: weir peer enable"
        );
    }
    if missing.is_empty() {
        return Ok(Exit::Done);
    }
    eprintln!("weir: peer {id} is not taken up by: {}", missing.join(" "));
    if peer.is_none() {
        eprintln!("weir: the source has no such peer; fix: weir peer add");
    }
    Ok(Exit::Found)
}

/// A queue with the figures that are about it.
struct Row<'a> {
    is_enabled: bool,
    queue: &'a Queue,
    load: Option<(&'a ServerLoad, &'a SourceLoad)>,
    now_ms: u64,
}

impl<'a> Row<'a> {
    fn new(peer: &str, is_enabled: bool, queue: &'a Queue, status: &'a ClusterStatus, now_ms: u64) -> Self {
        let server = status.servers.iter().find(|server| server.server.to_string() == queue.server);
        // 2.3 and later name the queue; before, one figure stands for all queues of the peer on that server.
        let is_its = |load: &&SourceLoad| match &load.queue {
            Some(name) => *name == queue.name,
            None => load.peer == peer,
        };
        let load = server.and_then(|server| Some((server, server.sources.iter().find(is_its)?)));
        Self { is_enabled, queue, load, now_ms }
    }

    /// Age of the oldest WAL file that is closed and not shipped to its end.
    fn oldest_rolled_age_ms(&self) -> Option<u64> {
        self.queue.wals.oldest_rolled_ms.map(|at| self.now_ms.saturating_sub(at))
    }

    /// What becomes of the queue of a dead server. A live one takes it over within minutes; what is older than that was
    /// missed. Up to 2.4 a region server looks for such queues at its start (`adoptAbandonedQueues`, which 2.6.4 has no
    /// more), later lines have a procedure of the master do it once, when the server dies.
    fn dead(&self) -> String {
        let Some(newest) = self.queue.wals.newest_ms else {
            return format!("the server is dead; its queue has {} WAL files", self.queue.wals.file_count);
        };
        if self.now_ms.saturating_sub(newest) < ORPHAN_AGE_MS {
            return "the server is dead; a live region server should take the queue over within minutes"
                .to_owned();
        }
        format!(
            "the server is dead, its newest WAL file was begun at {}, and no region server has taken the queue over; fix: \
             hbck2 scheduleRecoveries {} (HBase up to 2.4: restart a region server), or delete the queue if nobody needs it",
            human::instant(newest),
            self.queue.server
        )
    }

    /// Since when the source has nothing better to say: 0 stands for "none since its start".
    fn last_shipped_at(&self) -> Option<u64> {
        self.load.map(|(_, load)| load.last_shipped_at_ms).filter(|at| *at > 0)
    }

    fn json(&self) -> serde_json::Value {
        let load = self.load.map(|(_, load)| load);
        serde_json::json!({
            "region_server": self.queue.server,
            "alive": self.queue.is_alive,
            "enabled": self.is_enabled,
            "queue": self.queue.name,
            "recovered_from": self.queue.recovered_from,
            "wal_files": self.queue.wals.file_count,
            "wal_groups": self.queue.wals.group_count,
            "oldest_rolled_age_ms": self.oldest_rolled_age_ms(),
            "newest_wal_at_ms": self.queue.wals.newest_ms,
            "lag_ms": load.map(|load| load.lag_ms),
            "age_of_last_shipped_ms": load.map(|load| load.age_of_last_shipped_ms),
            "last_shipped_at_ms": self.last_shipped_at(),
            "next_at_ms": load.and_then(|load| load.next_at_ms).filter(|at| *at > 0),
            "log_queue": load.map(|load| load.log_queue),
            "running": load.and_then(|load| load.is_running),
            "operations_shipped": load.and_then(|load| load.operations_shipped),
            "figures_of": load.map(|load| if load.queue.is_some() { "queue" } else { "all queues of the peer on this server" }),
            "reported_at_ms": self.load.map(|(server, _)| server.reported_at_ms),
        })
    }

    fn note(&self) -> String {
        let mut notes = Vec::new();
        if !self.is_enabled {
            notes.push("the peer is disabled: no lag is shown for what waits".to_owned());
        }
        if !self.queue.is_alive {
            notes.push(self.dead());
        }
        if let Some(from) = self.queue.recovered_from.last() {
            notes.push(format!("recovered from {from}"));
        }
        if self.load.is_some_and(|(_, load)| load.is_running == Some(false)) {
            notes.push("its source does not run".to_owned());
        }
        notes.join("; ")
    }
}

fn show(rows: &[Row<'_>]) {
    let head = [
        "REGION SERVER",
        "LAG",
        "WAL FILES",
        "GROUPS",
        "OLDEST ROLLED",
        "LAST SHIPPED WAS WRITTEN AT",
        "NOTE",
    ];
    let mut table = vec![head.map(ToOwned::to_owned).to_vec()];
    for row in rows {
        table.push(vec![
            row.queue.server.clone(),
            row.load.map_or_else(|| "?".to_owned(), |(_, load)| human::span(load.lag_ms)),
            row.queue.wals.file_count.to_string(),
            row.queue.wals.group_count.to_string(),
            row.oldest_rolled_age_ms()
                .map_or_else(|| "-".to_owned(), |age| human::span(i64::try_from(age).unwrap_or(i64::MAX))),
            row.last_shipped_at().map_or_else(|| "-".to_owned(), human::instant),
            row.note(),
        ]);
    }
    human::table(&table).iter().for_each(|line| say(line));
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_wire::hbase::wal_name::WalFiles;
    use weir_wire::hbase::zk::ServerName;

    #[test]
    fn of_a_dead_servers_queue_only_what_is_known_is_said() {
        let note = |newest_ms: Option<u64>| {
            let queue = Queue {
                server: "rs,1,2".to_owned(),
                is_alive: false,
                name: "weir".to_owned(),
                recovered_from: vec![],
                wals: WalFiles { file_count: 1, group_count: 1, oldest_rolled_ms: None, newest_ms },
            };
            Row::new("weir", true, &queue, &ClusterStatus::default(), 1_700_000_000_000).note()
        };
        assert!(note(Some(1_699_999_999_000)).contains("should take the queue over within minutes"));
        let orphan = note(Some(1_600_000_000_000));
        assert!(orphan.contains("2020-09-13") && orphan.contains("no region server has taken"), "{orphan}");
        assert!(note(None).contains("its queue has 1 WAL files"));
    }

    #[test]
    fn a_queue_gets_the_figures_that_are_about_it() {
        let queue = |name: &str| Queue {
            server: "rs,1,2".to_owned(),
            is_alive: true,
            name: name.to_owned(),
            recovered_from: vec![],
            wals: WalFiles { file_count: 1, group_count: 1, ..WalFiles::default() },
        };
        let status = |names: &[Option<&str>]| {
            let source = |(index, name): (usize, &Option<&str>)| SourceLoad {
                peer: "weir".to_owned(),
                queue: name.map(ToOwned::to_owned),
                lag_ms: index as i64,
                ..SourceLoad::default()
            };
            let sources = names.iter().enumerate().map(source).collect();
            let server = ServerName { host: "rs".to_owned(), port: 1, start_code: 2 };
            ClusterStatus {
                version: String::new(),
                servers: vec![ServerLoad { server, reported_at_ms: 0, sources }],
            }
        };
        let check = |name: &str, names: &[Option<&str>], expect: Option<i64>| {
            let (queue, status) = (queue(name), status(names));
            let got = Row::new("weir", true, &queue, &status, 0).load.map(|(_, load)| load.lag_ms);
            assert_eq!(got, expect, "{name}");
        };
        let of_2_x = [Some("weir"), Some("weir-dead,1,1"), Some("other")];
        check("weir", &of_2_x, Some(0));
        check("weir-dead,1,1", &of_2_x, Some(1));
        check("weir-gone,1,1", &of_2_x, None);
        check("weir-dead,1,1", &[None], Some(0));
    }
}
