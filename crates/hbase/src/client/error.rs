//! What a caller learns when an operation does not succeed.

use crate::rpc::RpcError;
use std::time::Duration;
use weir_model::TableName;
use weir_wire::hbase::call::RemoteException;

/// Why an operation did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can never be sent.
    #[error("the request is not valid: {what}")]
    Invalid {
        /// What is wrong with it.
        what: &'static str,
    },
    /// The name is no name of a table.
    #[error("{name:?} is not the name of a table")]
    TableName {
        /// Name as given.
        name: String,
        /// What is wrong with it.
        source: weir_model::names::TableNameError,
    },
    /// There is no such table.
    #[error("table {table} does not exist")]
    TableNotFound {
        /// Table.
        table: TableName,
    },
    /// A region could not be found, or has no server at the moment.
    #[error("a region of table {table} is not available: {why}")]
    NoRegion {
        /// Table.
        table: TableName,
        /// What `hbase:meta` says.
        why: &'static str,
    },
    /// ZooKeeper does not answer, or does not know the cluster.
    #[error("ZooKeeper at {quorum} gives no location of hbase:meta: {cause}")]
    Registry {
        /// Quorum.
        quorum: String,
        /// Why.
        cause: String,
    },
    /// A call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The operation was not done by its deadline.
    #[error("{doing} on table {table} was not done in {waited:?} and {attempts} attempts")]
    DeadlineExceeded {
        /// Operation.
        doing: &'static str,
        /// Table.
        table: TableName,
        /// Time since the operation started.
        waited: Duration,
        /// How often it was tried.
        attempts: u32,
        /// What was wrong the last time.
        #[source]
        last: Box<Self>,
    },
    /// The answer was lost, and doing it once more would not be the same as once: the caller must look.
    #[error("{doing} on table {table} may or may not have been done")]
    Uncertain {
        /// Operation.
        doing: &'static str,
        /// Table.
        table: TableName,
        /// What was wrong.
        source: Box<Self>,
    },
}

impl Error {
    /// The exception of the server, if it answered one.
    #[must_use]
    pub fn exception(&self) -> Option<&RemoteException> {
        match self {
            Self::Rpc(RpcError::Remote { exception, .. }) => Some(exception),
            Self::DeadlineExceeded { last, .. } => last.exception(),
            Self::Uncertain { source, .. } => source.exception(),
            Self::Invalid { .. }
            | Self::TableName { .. }
            | Self::TableNotFound { .. }
            | Self::NoRegion { .. }
            | Self::Registry { .. }
            | Self::Rpc(_) => None,
        }
    }

    /// Whether the server may have done what was asked, although the caller does not know it.
    #[must_use]
    pub(super) const fn may_be_done(&self) -> bool {
        match self {
            Self::Rpc(error) => error.may_be_done(),
            _ => false,
        }
    }

    /// The error and its causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }
}
