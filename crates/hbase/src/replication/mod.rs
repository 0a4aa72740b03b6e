//! The replication server: what a source's region servers take for the region servers of a peer cluster.
//!
//! It reads calls, checks them, hands them to a [`Handler`] in the order of each connection, and answers when the
//! handler's promise resolves, or with a retriable exception before the source's own time-out.

mod connection;
mod refusals;
mod server;
mod stats;

pub use refusals::Refusal;
pub use server::{Server, ServerConfig};
pub use stats::{Refused, Snapshot, SourceSnapshot, Stats};

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;
use weir_wire::hbase::call::RemoteException;
use weir_wire::hbase::replication::ReplicateRequest;

/// The class of an answer after which a source tries the same entries again.
pub const RETRY_CLASS: &str = "java.io.IOException";

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its address.
    pub address: SocketAddr,
    /// User that it says it is.
    pub user: String,
    /// Its HBase version, when it says so.
    pub version: String,
}

/// One checked call.
#[derive(Clone, Copy, Debug)]
pub struct ReplicateCall<'a> {
    /// Who called.
    pub source: &'a Source,
    /// Entries and cells.
    pub request: &'a ReplicateRequest<'a>,
    /// Bytes of the frame.
    pub frame_bytes: usize,
    /// When the answer is due at the latest.
    pub deadline: Instant,
    /// What the call weighs in memory until its promise resolves.
    pub weight: &'a Weight,
}

/// Memory of a call in flight. It is the frame's bytes unless the handler knows better.
#[derive(Debug)]
pub struct Weight {
    bytes: AtomicUsize,
}

impl Weight {
    fn new(frame_bytes: usize) -> Self {
        Self { bytes: AtomicUsize::new(frame_bytes) }
    }

    /// Says what the call weighs; the budget is charged with it.
    pub fn set(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Everything of it is durable.
    Done,
    /// It must come again.
    Again(RemoteException),
}

/// Boxed promise of an answer.
pub type Promise = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Takes calls.
pub trait Handler: Send + Sync {
    /// Takes one call. Called in order of arrival within a connection, and one at a time: whatever must keep that
    /// order happens before this returns. The promise resolves when the call's entries are durable.
    fn replicate(&self, call: ReplicateCall<'_>) -> Promise;
}
