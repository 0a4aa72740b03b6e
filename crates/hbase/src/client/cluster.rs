//! The handle of a cluster: everything that its tables share.

use super::locate::Locator;
use super::registry::Registry;
use super::{Error, Table};
use crate::rpc::{Hello, Servers};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::TableName;
use weir_model::limits::CLIENT_CALLS_PER_SERVER_MAX;
use weir_wire::hbase::client::SERVICE;

/// How a client behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// `zookeeper.znode.parent` of the cluster. `/hbase` unless set.
    pub znode_parent: String,
    /// User that operations are done as. `HADOOP_USER_NAME`, else the user of the process, unless set.
    pub user: String,
    /// Time in which an operation is done or fails, with all its retries. Two minutes unless set.
    pub operation_timeout: Duration,
    /// Time in which one call must be answered. Half a minute unless set.
    pub rpc_timeout: Duration,
    /// Calls in flight to one server at most; fewer while a server says that it is overloaded. 100 unless set.
    pub calls_per_server_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        let user = std::env::var("HADOOP_USER_NAME").or_else(|_| std::env::var("USER"));
        Self {
            znode_parent: "/hbase".to_owned(),
            user: user.unwrap_or_else(|_| "hbase".to_owned()),
            operation_timeout: Duration::from_secs(120),
            rpc_timeout: Duration::from_secs(30),
            calls_per_server_max: CLIENT_CALLS_PER_SERVER_MAX,
        }
    }
}

impl Options {
    /// Sets `zookeeper.znode.parent` of the cluster.
    #[must_use]
    pub fn znode_parent(mut self, path: impl Into<String>) -> Self {
        self.znode_parent = path.into();
        self
    }

    /// Sets the user that operations are done as.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Sets the time in which an operation is done or fails, with all its retries.
    #[must_use]
    pub const fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.operation_timeout = timeout;
        self
    }

    /// Sets the time in which one call must be answered.
    #[must_use]
    pub const fn rpc_timeout(mut self, timeout: Duration) -> Self {
        self.rpc_timeout = timeout;
        self
    }

    /// Sets how many calls to one server may be in flight.
    #[must_use]
    pub const fn calls_per_server_max(mut self, count: usize) -> Self {
        self.calls_per_server_max = count;
        self
    }
}

/// A cluster: its connections, and what is known of its regions. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) locator: Locator,
    /// Names this client to servers, which remember the nonces of increments and appends by it.
    pub(super) nonce_group: u64,
    nonce: AtomicU64,
}

impl Inner {
    pub(super) fn nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }
}

impl Cluster {
    /// Finds the cluster in ZooKeeper (`host:port,host:port`) under `/hbase`.
    ///
    /// # Errors
    /// When ZooKeeper does not answer, or does not know where `hbase:meta` is.
    pub async fn connect(quorum: &str) -> Result<Self, Error> {
        Self::connect_with(quorum, Options::default()).await
    }

    /// Finds the cluster in ZooKeeper.
    ///
    /// # Errors
    /// When ZooKeeper does not answer, or does not know where `hbase:meta` is.
    pub async fn connect_with(quorum: &str, options: Options) -> Result<Self, Error> {
        let registry = Registry { quorum: quorum.to_owned(), parent: options.znode_parent.clone() };
        let deadline = Instant::now() + options.operation_timeout;
        registry.meta(deadline).await?;
        let hello = Hello { user: options.user.clone(), service: SERVICE };
        let servers = Servers::new(hello, options.calls_per_server_max);
        let random = RandomState::new();
        let inner = Inner {
            locator: Locator::new(registry, servers, options),
            // 0 stands for "no nonce".
            nonce_group: random.hash_one(1u8) | 1,
            nonce: AtomicU64::new(random.hash_one(2u8) >> 1 | 1),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A table by its name, `table` or `namespace:table`. Whether the table exists is seen at the first operation.
    ///
    /// # Errors
    /// When it is no name of a table.
    pub fn table(&self, name: &str) -> Result<Table, Error> {
        let table =
            TableName::new(name).map_err(|source| Error::TableName { name: name.to_owned(), source })?;
        Ok(Table::new(self.inner.clone(), table))
    }
}
