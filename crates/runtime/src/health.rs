//! How a consumer is doing, and which record holds it up.

use crate::record::Place;
use std::time::Duration;

/// A consumer's partitions, as of the last commit time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The partitions that are ours.
    pub partitions: Vec<PartitionHealth>,
    /// Why the consumer has ended, when it has by itself.
    pub ended: Option<String>,
}

/// One partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionHealth {
    /// The partition.
    pub place: Place,
    /// The offset that is committed, if any.
    pub committed: Option<i64>,
    /// The oldest record that is not done.
    pub head: Option<i64>,
    /// How long it has been that, to the nearest commit time.
    pub head_for: Duration,
    /// How many attempts at it have failed.
    pub head_attempts_failed: u32,
    /// The hash of its key, which is the number of its lane.
    pub head_lane: Option<u64>,
    /// Why its last attempt failed.
    pub head_reason: Option<String>,
    /// Records from the head to the newest one that was started.
    pub pending: usize,
    /// Records that have failed and are not done yet.
    pub failing: usize,
    /// Why the partition gives no more records, when it does not.
    pub fault: Option<String>,
    /// How long the partition has been ours.
    pub ours_for: Duration,
}

impl Health {
    /// What needs somebody's eyes: a consumer that has ended by itself, partitions that stopped, and those whose head
    /// has been the same for so long. One sentence each.
    #[must_use]
    pub fn complaints(&self, head_for_max: Duration) -> Vec<String> {
        let ended = self.ended.iter().map(|reason| format!("the consumer has ended: {reason}"));
        ended.chain(self.partitions.iter().filter_map(|one| one.complaint(head_for_max))).collect()
    }
}

impl PartitionHealth {
    fn complaint(&self, head_for_max: Duration) -> Option<String> {
        let place = &self.place;
        if let Some(fault) = &self.fault {
            return Some(format!("{place} is stopped: {fault}"));
        }
        let head = self.head.filter(|_| self.head_for >= head_for_max)?;
        let mut text = format!("{place} has waited for offset {head} for {} s", self.head_for.as_secs());
        if let Some(lane) = self.head_lane {
            text.push_str(&format!(", key hash {lane:016x}"));
        }
        text.push_str(&format!(", {} attempts failed", self.head_attempts_failed));
        if let Some(reason) = &self.head_reason {
            text.push_str(&format!(": {reason}"));
        }
        Some(text)
    }
}
