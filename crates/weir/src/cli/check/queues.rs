//! The queues of HBase's replication: whether one stands still.

use super::findings::Findings;
use crate::config;
use crate::diagnosis::queues::{LAG_MS_HIGH, Queue, judge};
use std::time::Duration;
use tokio::time::Instant;
use weir_hbase::master::Master;
use weir_hbase::{peers, registration};
use weir_model::Fault;
use zookeeper_client::Client;

/// A region server reports every three seconds (`hbase.regionserver.msginterval`).
const REPORT_WAIT: Duration = Duration::from_secs(10);

/// Between two questions for the next report.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the lag of the peer's queues, and at their next report when one is behind. Who cannot be asked is named by
/// others.
pub(super) async fn check(name: &str, section: &config::Capture, findings: &mut Findings) {
    let Ok(client) = registration::connect(&section.zookeeper).await else { return };
    let Ok(earlier) = look(&client, section).await else { return };
    let most = earlier.iter().map(|queue| queue.lag_ms).max().unwrap_or(0);
    if most <= LAG_MS_HIGH {
        if !earlier.is_empty() {
            let seconds = most.max(0) / 1000;
            findings.ok(&format!("capture.{name}: {} queues, the largest lag is {seconds} s", earlier.len()));
        }
        return;
    }
    let started = Instant::now();
    let later = loop {
        tokio::time::sleep(ASK_EVERY).await;
        let Ok(later) = look(&client, section).await else { return };
        let is_new = |queue: &Queue| {
            let before = earlier.iter().find(|one| one.server == queue.server && one.name == queue.name);
            before.is_none_or(|before| queue.reported_at_ms > before.reported_at_ms)
        };
        if later.iter().all(is_new) || started.elapsed() > REPORT_WAIT {
            break later;
        }
    };
    for finding in judge(&earlier, &later) {
        findings.add(&finding.about(&format!("capture.{name}")));
    }
}

/// The queues of live region servers with what these last told the master.
async fn look(client: &Client, section: &config::Capture) -> Result<Vec<Queue>, Fault> {
    let (parent, id) = (section.znode_parent.as_str(), section.peer.as_str());
    let queues = peers::queues(client, parent, id).await?;
    let status = Master::connect(client, parent).await?.status().await?;
    let with_load = |queue: peers::Queue| {
        let server = status.servers.iter().find(|server| server.server.to_string() == queue.server)?;
        // 2.3 and later name the queue; before, one figure stands for all queues of the peer on that server.
        let load = server.sources.iter().find(|load| match &load.queue {
            Some(name) => *name == queue.name,
            None => load.peer == id,
        })?;
        Some(Queue {
            server: queue.server,
            name: queue.name,
            wal_count: queue.wals.file_count,
            lag_ms: load.lag_ms,
            last_shipped_at_ms: load.last_shipped_at_ms,
            next_at_ms: load.next_at_ms,
            operations_shipped: load.operations_shipped,
            reported_at_ms: server.reported_at_ms,
        })
    };
    Ok(queues.into_iter().filter_map(with_load).collect())
}
