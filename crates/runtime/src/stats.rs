//! Counters of a consumer: counted apart by each shard, added up once a turn.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start of a consumer, as a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that came from the log.
    pub received: u64,
    /// Records that a predecessor had done, by the commit's metadata: not handled again.
    pub spared: u64,
    /// Records of ignored keys.
    pub ignored: u64,
    /// Records that a handler called done.
    pub done: u64,
    /// Records that a handler skipped.
    pub skipped: u64,
    /// Attempts that failed: an error, a panic, `Outcome::Failed`.
    pub failed: u64,
    /// Further attempts that were begun or wait for their time.
    pub retried: u64,
    /// Dead letters that are durable.
    pub dead_letters: u64,
    /// Dead letters that could not be written yet.
    pub dead_letters_failed: u64,
    /// Records that are durable in the retry topic.
    pub requeued: u64,
    /// Records that could not be written to the retry topic yet.
    pub requeues_failed: u64,
    /// Records that were given up and are held.
    pub parked: u64,
    /// Attempts that were dropped because their partition went away and they took too long.
    pub cancelled: u64,
    /// Commits that the log answered with yes, counted by partition.
    pub commits: u64,
    /// Commits that failed, counted by partition.
    pub commits_failed: u64,
    /// Records over their key's quota that are durable in the shaping topic.
    pub shaped: u64,
    /// Records over their key's quota that could not be written there yet, by try.
    pub shaping_failed: u64,
    /// Records over their key's quota whose key had to wait.
    pub slowed: u64,
    /// Records that were handled in one call behind one of their key that failed, and so come again.
    pub repeated: u64,
}

/// The counters themselves.
#[derive(Debug, Default)]
pub struct Stats {
    counters: [AtomicU64; 19],
}

impl Counts {
    const fn list(self) -> [u64; 19] {
        [
            self.received,
            self.spared,
            self.ignored,
            self.done,
            self.skipped,
            self.failed,
            self.retried,
            self.dead_letters,
            self.dead_letters_failed,
            self.requeued,
            self.requeues_failed,
            self.parked,
            self.cancelled,
            self.commits,
            self.commits_failed,
            self.shaped,
            self.shaping_failed,
            self.slowed,
            self.repeated,
        ]
    }
}

impl Stats {
    /// Adds what was counted apart, and empties it.
    pub(crate) fn add(&self, counts: &mut Counts) {
        for (counter, count) in self.counters.iter().zip(std::mem::take(counts).list()) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The counters as they are now; each is exact, together they may be of slightly different moments.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let [
            received,
            spared,
            ignored,
            done,
            skipped,
            failed,
            retried,
            dead_letters,
            dead_letters_failed,
            requeued,
            requeues_failed,
            parked,
            cancelled,
            commits,
            commits_failed,
            shaped,
            shaping_failed,
            slowed,
            repeated,
        ] = std::array::from_fn(|index| self.counters[index].load(Ordering::Relaxed));
        Counts {
            received,
            spared,
            ignored,
            done,
            skipped,
            failed,
            retried,
            dead_letters,
            dead_letters_failed,
            requeued,
            requeues_failed,
            parked,
            cancelled,
            commits,
            commits_failed,
            shaped,
            shaping_failed,
            slowed,
            repeated,
        }
    }
}
