//! ZooKeeper's clock: it stamps each znode that it makes (`Stat.ctime`).

use crate::zookeeper::{Right, fault};
use std::time::{SystemTime, UNIX_EPOCH};
use weir_model::Fault;
use zookeeper_client::{Acls, Client, CreateMode, Error};

/// The time of another clock, and the times of ours between which it was read. All in ms since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Ours, before the question.
    pub before_ms: i64,
    /// Theirs.
    pub theirs_ms: i64,
    /// Ours, after the answer.
    pub after_ms: i64,
}

/// Makes an ephemeral znode under `parent`, reads its time, and takes it away. `None` when there is no such parent.
///
/// # Errors
/// When ZooKeeper does not answer or refuses.
pub async fn of_zookeeper(client: &Client, parent: &str) -> Result<Option<Moment>, Fault> {
    let path = format!("{}/clock-{}", parent.trim_end_matches('/'), std::process::id());
    let failed = |right| move |error: Error| fault("read ZooKeeper's clock", parent, right, error);
    let ephemeral = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let before_ms = now_ms();
    match client.create(&path, &[], &ephemeral).await {
        Ok(_) => {}
        Err(Error::NoNode) => return Ok(None),
        Err(error) => return Err(failed(Right::Create)(error)),
    }
    let after_ms = now_ms();
    // The answer to a create has no times before ZooKeeper 3.5, so they are asked for.
    let stat = client.check_stat(&path).await.map_err(failed(Right::Read))?;
    client.delete(&path, None).await.map_err(failed(Right::Delete))?;
    Ok(stat.map(|stat| Moment { before_ms, theirs_ms: stat.ctime, after_ms }))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
