//! What poller and shards share about one partition for as long as it is ours. Nothing outlives it.

use crate::record::Place;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::time::Instant;

/// A record that has failed and is not done yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) attempt: u32,
    pub(crate) since: Instant,
    pub(crate) reason: String,
    /// Given up, and held until a restart.
    pub(crate) is_parked: bool,
}

/// One partition, from its assignment to its release.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) id: u64,
    pub(crate) place: Place,
    /// Revoked or lost: what has not begun yet does not begin any more.
    is_leaving: AtomicBool,
    /// Shards that have nothing more of it, once it is revoked.
    quiet_count: AtomicUsize,
    /// By offset. Touched by failures only.
    troubles: Mutex<BTreeMap<i64, Trouble>>,
    /// Attempts that failed.
    failed: AtomicU64,
}

impl Assignment {
    pub(crate) fn new(id: u64, place: Place) -> Self {
        Self {
            id,
            place,
            is_leaving: AtomicBool::new(false),
            quiet_count: AtomicUsize::new(0),
            troubles: Mutex::new(BTreeMap::new()),
            failed: AtomicU64::new(0),
        }
    }

    /// Tells the shards before they come to the message that says so: records may stand in line before it.
    pub(crate) fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Relaxed)
    }

    /// A shard says that nothing of this assignment runs on it any more.
    pub(crate) fn quiet(&self) {
        self.quiet_count.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn quiet_count(&self) -> usize {
        self.quiet_count.load(Ordering::Acquire)
    }

    pub(crate) fn attempt_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failed_count(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn trouble(&self, offset: i64, trouble: Trouble) {
        self.troubles.lock().expect("no panic under this lock").insert(offset, trouble);
    }

    pub(crate) fn trouble_is_over(&self, offset: i64) {
        self.troubles.lock().expect("no panic under this lock").remove(&offset);
    }

    pub(crate) fn trouble_at(&self, offset: i64) -> Option<Trouble> {
        self.troubles.lock().expect("no panic under this lock").get(&offset).cloned()
    }

    pub(crate) fn trouble_count(&self) -> usize {
        self.troubles.lock().expect("no panic under this lock").len()
    }
}
