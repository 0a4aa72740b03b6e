//! Entries per 100 ms of their own write time, for the last minutes: what the console's chart draws.
//!
//! A ring of fixed size, so that neither age nor odd clocks of a source can grow it. What is older or later than the
//! ring spans is counted apart.

use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of one bucket.
pub const BUCKET_MS: u64 = 100;

/// Buckets that are kept: five minutes.
pub const BUCKETS_MAX: usize = 3000;

/// How far ahead of our clock a source's clock may be, in buckets (five seconds), and still be drawn.
const AHEAD_MAX: u64 = 50;

/// Entries by 100 ms of write time.
#[derive(Debug)]
pub struct Timeline {
    ring: Mutex<Ring>,
}

#[derive(Debug)]
struct Ring {
    slots: Vec<Slot>,
    version: u64,
    outside: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    bucket: u64,
    count: u64,
    version: u64,
}

/// What has changed in a timeline since a version of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The version that this leads to.
    pub version: u64,
    /// Start of a bucket in ms since 1970, and its entries; in order.
    pub buckets: Vec<(u64, u64)>,
}

impl Default for Timeline {
    fn default() -> Self {
        let ring = Ring { slots: vec![Slot::default(); BUCKETS_MAX], version: 0, outside: 0 };
        Self { ring: Mutex::new(ring) }
    }
}

impl Timeline {
    /// Adds entries, `(bucket, count)` with the bucket's number since 1970.
    pub fn add(&self, counts: &[(u64, u64)], now_ms: u64) {
        let now = now_ms / BUCKET_MS;
        let span = now.saturating_sub(BUCKETS_MAX as u64 - AHEAD_MAX - 1)..=now + AHEAD_MAX;
        let mut ring = self.ring.lock().expect("no panic under this lock");
        ring.version += 1;
        let version = ring.version;
        for (bucket, count) in counts.iter().copied() {
            if !span.contains(&bucket) {
                ring.outside += count;
                continue;
            }
            let slot = &mut ring.slots[(bucket % BUCKETS_MAX as u64) as usize];
            if slot.bucket != bucket {
                *slot = Slot { bucket, ..Slot::default() };
            }
            slot.count += count;
            slot.version = version;
        }
    }

    /// Buckets that have changed since this version; 0 for all that are kept.
    #[must_use]
    pub fn since(&self, version: u64, now_ms: u64) -> Changes {
        let oldest = (now_ms / BUCKET_MS).saturating_sub(BUCKETS_MAX as u64);
        let ring = self.ring.lock().expect("no panic under this lock");
        let changed = ring.slots.iter().filter(|slot| slot.version > version && slot.bucket > oldest);
        let mut buckets: Vec<(u64, u64)> =
            changed.map(|slot| (slot.bucket * BUCKET_MS, slot.count)).collect();
        buckets.sort_unstable();
        Changes { version: ring.version, buckets }
    }

    /// Entries whose write time was outside of what is kept: a backlog, or a source with a wrong clock.
    #[must_use]
    pub fn outside(&self) -> u64 {
        self.ring.lock().expect("no panic under this lock").outside
    }
}

/// Counts write times (ms since 1970) by bucket. Neighbours mostly share one, so this stays short.
#[must_use]
pub fn tally(write_times_ms: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let mut counts: Vec<(u64, u64)> = Vec::new();
    for write_time_ms in write_times_ms {
        let bucket = write_time_ms / BUCKET_MS;
        match counts.last_mut() {
            Some((last, count)) if *last == bucket => *count += 1,
            _ => counts.push((bucket, 1)),
        }
    }
    counts
}

/// Now, in ms since 1970.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn a_reader_gets_all_at_first_and_then_only_what_has_changed() {
        let timeline = Timeline::default();
        timeline.add(&tally([NOW - 250, NOW - 240, NOW - 100].into_iter()), NOW);
        let all = timeline.since(0, NOW);
        assert_eq!(all.buckets, [(NOW - 300, 2), (NOW - 100, 1)]);
        assert_eq!(timeline.since(all.version, NOW).buckets, []);
        timeline.add(&tally([NOW - 100, NOW - 99].into_iter()), NOW);
        assert_eq!(timeline.since(all.version, NOW).buckets, [(NOW - 100, 3)]);
    }

    #[test]
    fn what_is_too_old_or_in_the_future_is_counted_apart_and_takes_no_place() {
        let timeline = Timeline::default();
        let minute = 60_000;
        timeline.add(&tally([0, NOW - 10 * minute, NOW + minute, NOW].into_iter()), NOW);
        assert_eq!((timeline.since(0, NOW).buckets, timeline.outside()), (vec![(NOW, 1)], 3));
    }

    #[test]
    fn the_ring_forgets_what_is_older_than_five_minutes() {
        let timeline = Timeline::default();
        timeline.add(&[(NOW / BUCKET_MS, 7)], NOW);
        let later = NOW + BUCKETS_MAX as u64 * BUCKET_MS;
        assert_eq!(timeline.since(0, later).buckets, []);
        timeline.add(&[(later / BUCKET_MS, 1)], later);
        assert_eq!(timeline.since(0, later).buckets, [(later, 1)]);
    }
}
