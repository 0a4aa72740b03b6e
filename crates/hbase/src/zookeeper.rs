//! Sessions with ZooKeeper, and what its errors mean: away, denied, or an answer that nobody expected.
//!
//! Every error of ZooKeeper that leaves this crate goes through `fault`, so that a lack of rights is never told as an
//! ensemble that does not answer.

use std::fmt;
use std::time::Duration;
use weir_model::{Fault, FaultKind};
use zookeeper_client::{Client, Error};

/// Code of a fault when no server of the ensemble answers.
pub const UNREACHABLE: &str = "W-ZOOKEEPER-UNREACHABLE";

/// Code of a fault when ZooKeeper answers that this client has no right, or no login.
pub const DENIED: &str = "W-ZOOKEEPER-DENIED";

/// Code of a fault when ZooKeeper answers, and the answer or the content of a znode is not what it must be.
pub const ANSWER: &str = "W-ZOOKEEPER-ANSWER";

/// Session time-out: short enough that a dead Weir leaves the list soon, long enough for a pause.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(15);

/// `SESSIONCLOSEDREQUIRESASLAUTH`: the server wants a login (`enforce.auth.enabled`), and ends sessions without one.
const LOGIN_REQUIRED: i32 = -124;

/// A right of a znode (`ZooDefs.Perms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// `r`: read its content and the names of its children.
    Read,
    /// `w`: change its content.
    Write,
    /// `c`: make a child.
    Create,
    /// `d`: delete a child.
    Delete,
}

impl Right {
    /// The name and the letter that `setAcl` takes.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Read => "READ (r)",
            Self::Write => "WRITE (w)",
            Self::Create => "CREATE (c)",
            Self::Delete => "DELETE (d)",
        }
    }
}

/// A login by ZooKeeper's `digest` scheme. `Debug` shows neither name nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login(String);

impl Login {
    /// A login from `user:password`; `None` when it is no such text.
    #[must_use]
    pub fn digest(text: &str) -> Option<Self> {
        let (user, password) = text.split_once(':')?;
        (!user.is_empty() && !password.is_empty()).then(|| Self(text.to_owned()))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("<login>")
    }
}

/// Opens a session. 3.4 semantics are used throughout, because HBase 1.x brings a ZooKeeper of that line.
///
/// # Errors
/// `Transient` when the quorum does not answer, `Denied` when it refuses the login.
pub async fn connect(quorum: &str, login: Option<&Login>) -> Result<Client, Fault> {
    const DOING: &str = "reach ZooKeeper";
    let mut connector = Client::connector()
        .with_session_timeout(SESSION_TIMEOUT)
        .with_server_version(3, 4, 14)
        .with_fail_eagerly();
    if let Some(Login(text)) = login {
        connector = connector.with_auth("digest", text.as_bytes());
    }
    match tokio::time::timeout(SESSION_TIMEOUT, connector.connect(quorum)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(fault(DOING, quorum, Right::Read, error)),
        Err(_) => Err(Fault::new(FaultKind::Transient, UNREACHABLE, DOING, quorum).caused_by("no answer")),
    }
}

/// What an error of ZooKeeper means. `about` is the znode, or the quorum; `right` is what the request takes.
pub(crate) fn fault(doing: &'static str, about: impl Into<String>, right: Right, error: Error) -> Fault {
    let (kind, code, cause) = match &error {
        Error::NoAuth => {
            let cause = format!("{error}: this client lacks the right {} of that znode", right.words());
            (FaultKind::Denied, DENIED, Some(cause))
        }
        Error::AuthFailed => {
            (FaultKind::Denied, DENIED, Some(format!("{error}: ZooKeeper does not take the login")))
        }
        Error::UnexpectedErrorCode(LOGIN_REQUIRED) => {
            let cause = "ZooKeeper ends sessions without a login (its enforce.auth.enabled)";
            (FaultKind::Denied, DENIED, Some(cause.to_owned()))
        }
        Error::NotReadOnly => {
            let cause = format!("{error}: the ensemble has lost its quorum");
            (FaultKind::Transient, UNREACHABLE, Some(cause))
        }
        Error::NoHosts
        | Error::Timeout
        | Error::ConnectionLoss
        | Error::SessionExpired
        | Error::SessionMoved
        | Error::ClientClosed
        | Error::Throttled => (FaultKind::Transient, UNREACHABLE, None),
        Error::UnmarshalError { .. } | Error::MarshallingError => (FaultKind::Corrupt, ANSWER, None),
        _ => (FaultKind::Config, ANSWER, None),
    };
    let fault = Fault::new(kind, code, doing, about);
    match cause {
        Some(cause) => fault.caused_by(cause),
        None => fault.caused_by(error),
    }
}

/// A znode whose content does not parse.
pub(crate) fn corrupt(doing: &'static str, path: impl Into<String>, error: weir_wire::WireError) -> Fault {
    Fault::new(FaultKind::Corrupt, ANSWER, doing, path).caused_by(error)
}

/// Whether a znode exists. Servers of 3.8.3 and later answer that only to those who may read it (ZOOKEEPER-2590): what
/// may not be read is there.
pub(crate) async fn exists(client: &Client, path: &str) -> Result<bool, Fault> {
    match client.check_stat(path).await {
        Ok(stat) => Ok(stat.is_some()),
        Err(Error::NoAuth) => Ok(true),
        Err(error) => Err(fault("look for a znode", path, Right::Read, error)),
    }
}

/// The longest part of a path that exists: the znode whose `CREATE` right decides whether the rest can be made.
///
/// # Errors
/// When ZooKeeper does not answer.
pub async fn lowest_existing(client: &Client, path: &str) -> Result<String, Fault> {
    let mut rest = path;
    while !rest.is_empty() {
        if exists(client, rest).await? {
            return Ok(rest.to_owned());
        }
        rest = rest.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    Ok("/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_silence_is_told_as_silence() {
        let check = |error: Error, kind: FaultKind, code: &str, words: &str| {
            let fault = fault("read a znode", "/hbase/replication", Right::Read, error);
            assert_eq!((fault.kind(), fault.code()), (kind, code));
            let chain = fault.chain();
            assert!(chain.contains("/hbase/replication") && chain.contains(words), "{chain}");
        };
        check(Error::NoAuth, FaultKind::Denied, DENIED, "lacks the right READ (r)");
        check(Error::AuthFailed, FaultKind::Denied, DENIED, "does not take the login");
        check(Error::UnexpectedErrorCode(-124), FaultKind::Denied, DENIED, "enforce.auth.enabled");
        check(Error::NotReadOnly, FaultKind::Transient, UNREACHABLE, "lost its quorum");
        for error in [Error::NoHosts, Error::Timeout, Error::ConnectionLoss, Error::SessionExpired] {
            check(error.clone(), FaultKind::Transient, UNREACHABLE, &error.to_string());
        }
        for error in [Error::NoNode, Error::NodeExists, Error::BadVersion, Error::QuotaExceeded] {
            check(error.clone(), FaultKind::Config, ANSWER, &error.to_string());
        }
    }

    #[test]
    fn a_login_is_a_name_and_a_password_and_shows_neither() {
        assert_eq!(format!("{:?}", Login::digest("weir:s3cret").unwrap()), "<login>");
        for wrong in ["", "weir", ":x", "weir:"] {
            assert!(Login::digest(wrong).is_none(), "{wrong:?}");
        }
    }
}
