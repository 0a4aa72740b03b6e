//! Where `hbase:meta` is, from ZooKeeper.
//!
//! A session lasts as long as one look: a client asks again only after `hbase:meta` has moved.

use super::Error;
use crate::registration;
use tokio::time::{Instant, timeout_at};
use weir_wire::hbase::client::meta_location;
use weir_wire::hbase::zk::ServerName;

/// ZooKeeper of one cluster.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) quorum: String,
    /// `zookeeper.znode.parent`.
    pub(super) parent: String,
}

impl Registry {
    /// The server that has `hbase:meta`.
    pub(super) async fn meta(&self, deadline: Instant) -> Result<ServerName, Error> {
        let wrong = |cause: String| Error::Registry { quorum: self.quorum.clone(), cause };
        let path = format!("{}/meta-region-server", self.parent);
        let look = async {
            let client = registration::connect(&self.quorum).await.map_err(|fault| wrong(fault.chain()))?;
            let (value, _) = client
                .get_data(&path)
                .await
                .map_err(|error| wrong(format!("{path}: {error} (is the parent znode right?)")))?;
            meta_location(&value).map_err(|error| wrong(format!("{path}: {error}")))
        };
        let found = timeout_at(deadline, look).await.map_err(|_| wrong("no answer in time".to_owned()))??;
        found.ok_or_else(|| wrong("hbase:meta is not open on any server".to_owned()))
    }
}
