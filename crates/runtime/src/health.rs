//! How a consumer is doing, which record holds it up, and why nothing moves when nothing does.

use crate::intake::{Intake, IntakeTimes};
use crate::record::Place;
use crate::source::Obstacle;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// A consumer's partitions, as of the last commit time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The partitions that are ours.
    pub partitions: Vec<PartitionHealth>,
    /// What keeps records back, as the source knows it: the group, brokers, topics, transactions.
    pub obstacles: Vec<Obstacle>,
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
    /// Whether it is given up and held, with its key and the partition's commit, until a restart.
    pub head_is_parked: bool,
    /// The hash of its key, which is the number of its lane.
    pub head_lane: Option<u64>,
    /// Why its last attempt failed.
    pub head_reason: Option<String>,
    /// Records from the head to the newest one that was started.
    pub pending: usize,
    /// Records that may be pending.
    pub window_records: usize,
    /// How long the commit on its way has had no answer, when there is one.
    pub commit_unanswered_for: Option<Duration>,
    /// Bytes of the last commit's metadata: what is done past the head.
    pub map_bytes: usize,
    /// Records of the log that were not taken yet: the log's end as last heard, less the position. Unknown before the
    /// first answer to a fetch.
    pub lag: Option<u64>,
    /// The newest record that came.
    pub newest: Option<i64>,
    /// Records that came since the partition is ours.
    pub received: u64,
    /// Those of them before the head: all of these are done.
    pub finished: u64,
    /// Attempts that failed since the partition is ours.
    pub attempts_failed: u64,
    /// Records that have failed and are not done yet.
    pub failing: usize,
    /// Why the partition gives no more records, when it does not.
    pub fault: Option<String>,
    /// What its intake does.
    pub intake: Intake,
    /// For how long.
    pub intake_for: Duration,
    /// How long it did what, since the partition is ours.
    pub intake_times: IntakeTimes,
    /// How long the partition has been ours.
    pub ours_for: Duration,
}

impl Health {
    /// What needs attention, one sentence each: a consumer that has ended by itself; what keeps the source from records
    /// for `since_max` or finally; and each partition that is stopped, or whose oldest record is parked, or that for
    /// `since_max` has had the same oldest record, has been kept from taking records, or has had no answer to its commit.
    #[must_use]
    pub fn complaints(&self, since_max: Duration) -> Vec<String> {
        let ended = self.ended.iter().map(|reason| format!("the consumer has ended: {reason}"));
        let is_due = |obstacle: &&Obstacle| obstacle.is_final || obstacle.lasts >= since_max;
        let obstacles = self.obstacles.iter().filter(is_due).map(|obstacle| obstacle.text.clone());
        let partitions = self.partitions.iter().filter_map(|one| one.complaint(since_max));
        ended.chain(obstacles).chain(partitions).collect()
    }
}

/// A line for each partition, as a person reads it.
impl fmt::Display for Health {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.ended {
            return write!(out, "the consumer has ended: {reason}");
        }
        if self.partitions.is_empty() {
            out.write_str("no partition is ours")?;
        }
        for (index, partition) in self.partitions.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(out, "{end}{partition}")?;
        }
        for obstacle in &self.obstacles {
            write!(out, "\n{}", obstacle.text)?;
        }
        Ok(())
    }
}

impl PartitionHealth {
    fn complaint(&self, head_for_max: Duration) -> Option<String> {
        let place = &self.place;
        if let Some(fault) = &self.fault {
            return Some(format!("{place} is stopped: {fault}"));
        }
        let is_held = self.intake.is_held() && self.intake_for >= head_for_max;
        let is_stuck = self.head_is_parked || self.head_for >= head_for_max;
        let Some(head) = self.head.filter(|_| is_stuck) else {
            if is_held {
                let seconds = self.intake_for.as_secs();
                return Some(format!("{place} has taken nothing for {seconds} s: {}", self.intake));
            }
            let unanswered = self.commit_unanswered_for.filter(|unanswered| *unanswered >= head_for_max)?;
            let seconds = unanswered.as_secs();
            return Some(format!(
                "{place} has had no answer to its commit for {seconds} s: what is done since then would come again"
            ));
        };
        let seconds = self.head_for.as_secs();
        let mut text = if self.head_is_parked {
            format!("{place} is held by offset {head}, which is parked until a restart, for {seconds} s")
        } else {
            format!("{place} has waited for offset {head} for {seconds} s")
        };
        if is_held {
            let _ = write!(text, " and takes nothing because {}", self.intake);
        }
        self.describe_head(&mut text);
        Some(text)
    }

    /// Key hash, attempts and reason of the head.
    fn describe_head(&self, text: &mut String) {
        // Writing to a string does not fail.
        if let Some(lane) = self.head_lane {
            let _ = write!(text, ", key hash {lane:016x}");
        }
        let _ = write!(text, ", {} attempts failed", self.head_attempts_failed);
        if let Some(reason) = &self.head_reason {
            let _ = write!(text, ": {reason}");
        }
    }
}

impl fmt::Display for PartitionHealth {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} for {} s", self.place, self.intake, self.intake_for.as_secs())?;
        if let Some(fault) = &self.fault {
            write!(out, " ({fault})")?;
        }
        match self.committed {
            Some(committed) => write!(out, "; committed {committed}")?,
            None => out.write_str("; nothing committed")?,
        }
        write!(out, ", {} of {} pending", self.pending, self.window_records)?;
        if let Some(lag) = self.lag {
            write!(out, ", {lag} behind")?;
        }
        if self.failing > 0 {
            write!(out, ", {} failing", self.failing)?;
        }
        if let Some(head) = self.head {
            let parked = if self.head_is_parked { ", parked" } else { "" };
            let mut text = format!("; offset {head} is the oldest{parked} for {} s", self.head_for.as_secs());
            self.describe_head(&mut text);
            out.write_str(&text)?;
        }
        Ok(())
    }
}
