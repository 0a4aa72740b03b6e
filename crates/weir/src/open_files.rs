//! The limit of open files: each region server is a connection, and the usual soft limit of 1024 is for shells.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this a large cluster's region servers do not all find a socket.
const LOW: u64 = 4096;

/// Raises the soft limit to the hard one. A refusal is no reason not to run.
pub(crate) fn raise() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    // `None` is no limit at all.
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < LOW => {
            tracing::warn!(
                limit,
                "few open files are allowed, and each region server takes one: raise ulimit -Hn"
            );
        }
        limit => tracing::debug!(?limit, "open files"),
    }
}
