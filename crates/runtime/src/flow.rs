//! How much is taken from the log: all of it can be changed at run time, without draining anything.

use crate::quota::{OverQuota, Quota};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::time::Instant;
use weir_model::{Fault, FaultKind};

/// What may be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Takes nothing. What was taken goes on, commits go on, and the group's partitions stay.
    pub is_paused: bool,
    /// Records a second of each partition; `None` is no limit. Up to a second's worth may come at once.
    pub rate_per_partition: Option<u32>,
    /// Records a second of all partitions of this consumer together.
    pub rate: Option<u32>,
    /// Keys whose records are finished without being handled, and counted.
    pub ignored_keys: Arc<HashSet<Bytes>>,
    /// What one key may take; `None` is no limit. A change opens new accounts: what waited for its quota goes on at once.
    pub key_quota: Option<Quota>,
}

/// Where a consumer can put records aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) has_shaping: bool,
    pub(crate) has_dead_letters: bool,
}

impl Flow {
    /// Whether this may hold for a consumer with these means.
    pub(crate) fn check(&self, means: Means) -> Result<(), Fault> {
        let wrong = |field: &str, why: &'static str| {
            Err(Fault::new(FaultKind::Config, "W-CONFIG", "set the flow", field).caused_by(why))
        };
        let Some(quota) = &self.key_quota else { return Ok(()) };
        if quota.rate == 0 {
            return wrong("key-quota", "0 would hold every key for ever; leave it out for no limit");
        }
        match quota.action {
            OverQuota::Shape if !means.has_shaping => wrong(
                "key-quota-action",
                "there is no way to the shaping topic; say which with shaping() when the consumer starts",
            ),
            OverQuota::DeadLetter if !means.has_dead_letters => wrong(
                "key-quota-action",
                "there is no place for dead letters; say where with dead_letters() when the consumer starts",
            ),
            OverQuota::Shape | OverQuota::DeadLetter | OverQuota::SlowDown => Ok(()),
        }
    }

    pub(crate) fn ignores(&self, key: Option<&[u8]>) -> bool {
        !self.ignored_keys.is_empty() && key.is_some_and(|key| self.ignored_keys.contains(key))
    }
}

/// A bucket that fills with time. Full at first.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Option<u32>,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { rate: None, tokens: 0.0, at: now }
    }

    /// How many may be taken now, at this rate.
    pub(crate) fn left(&mut self, rate: Option<u32>, now: Instant) -> usize {
        let Some(per_second) = rate else {
            self.rate = None;
            return usize::MAX;
        };
        let full = f64::from(per_second);
        if self.rate == rate {
            let passed = now.saturating_duration_since(self.at).as_secs_f64();
            self.tokens = (self.tokens + passed * full).min(full);
        } else {
            (self.rate, self.tokens) = (rate, full);
        }
        self.at = now;
        self.tokens as usize
    }

    pub(crate) fn take(&mut self, count: usize) {
        self.tokens -= count as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_gives_its_rate_and_at_most_a_seconds_worth_at_once() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.left(None, start), usize::MAX);
        assert_eq!(bucket.left(Some(100), start), 100);
        bucket.take(100);
        assert_eq!(bucket.left(Some(100), start), 0);
        assert_eq!(bucket.left(Some(100), start + Duration::from_millis(250)), 25);
        assert_eq!(bucket.left(Some(100), start + Duration::from_secs(900)), 100);
        assert_eq!(bucket.left(Some(0), start + Duration::from_secs(901)), 0);
    }
}
