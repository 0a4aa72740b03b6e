//! What can go wrong with one call.

use std::time::Duration;
use weir_wire::WireError;
use weir_wire::hbase::call::RemoteException;

/// Why a call has no answer, or an exception for one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// No connection could be made.
    #[error("no connection to {address}: {cause}")]
    Connect {
        /// Address of the server.
        address: String,
        /// Why.
        cause: String,
    },
    /// The connection ended before the answer came.
    #[error("the connection to {address} ended: {cause}")]
    Lost {
        /// Address of the server.
        address: String,
        /// Why.
        cause: String,
        /// Whether the call may have been sent.
        is_sent: bool,
    },
    /// The answer did not come in time.
    #[error("no answer from {address} to {method} in {waited:?}")]
    TimedOut {
        /// Address of the server.
        address: String,
        /// Method that was called.
        method: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// Whether the call may have been sent.
        is_sent: bool,
    },
    /// The server answered with an exception.
    #[error("{address} answered {}: {}", .exception.short_class(), first_line(&.exception.text))]
    Remote {
        /// Address of the server.
        address: String,
        /// The exception.
        exception: RemoteException,
    },
    /// The server's answer does not parse.
    #[error("the answer of {address} does not parse")]
    Corrupt {
        /// Address of the server.
        address: String,
        /// What is wrong with it.
        source: WireError,
    },
    /// The request is larger than servers take.
    #[error("a request of {len} bytes is larger than servers take: {max} bytes")]
    TooLarge {
        /// Bytes of the request.
        len: usize,
        /// Limit.
        max: usize,
    },
}

impl RpcError {
    /// Whether the server may have done what was asked, although the caller does not know it.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        match self {
            Self::Lost { is_sent, .. } | Self::TimedOut { is_sent, .. } => *is_sent,
            Self::Corrupt { .. } => true,
            Self::Connect { .. } | Self::Remote { .. } | Self::TooLarge { .. } => false,
        }
    }
}

/// The first line of an exception's text: the rest is its stack trace.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
