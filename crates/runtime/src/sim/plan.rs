//! The fixed conditions of one run: how large the world is, how its consumers are set, and how each record fares.

use crate::batch::Full;
use crate::retry::{Exhausted, RetryPolicy};
use std::time::Duration;
use weir_sim_kernel::Rng;

/// How members share partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Only what moves is taken away.
    Cooperative,
    /// Everything is taken away and dealt anew.
    Eager,
}

/// What a handler does with a record. It follows from the record alone, so that a shorter script keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Done at once.
    Quick,
    /// Done after so many ms.
    Slow(u64),
    /// Fails so many times in this way, then done.
    Fails(u32, Way),
    /// Never works.
    Never,
    /// The handler calls it a dead letter.
    Poison,
    /// The handler skips it.
    Skipped,
    /// Completed from another task after so many ms.
    Deferred(u64),
    /// The token of its first attempt is dropped.
    Forgotten,
}

/// How an attempt fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// With an error, at once.
    Error,
    /// With an error, after so many ms.
    LateError(u64),
    /// With a panic.
    Panic,
    /// It asks for another attempt after so many ms.
    RetryAfter(u64),
    /// It asks for another attempt with another value.
    RetryWith,
}

/// Kinds of fates beside the quick one, to be left out one by one.
pub(super) const FATE_KINDS: u32 = 7;

/// The conditions.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// What everything comes from.
    pub(super) seed: u64,
    /// Members of the group.
    pub(super) members: usize,
    /// Partitions of the topic.
    pub(super) partitions: usize,
    /// Keys; one record in ten has none.
    pub(super) keys: u64,
    /// Records that come to the log.
    pub(super) records: u64,
    /// Time in which they come, and in which there is trouble, ms.
    pub(super) span_ms: u64,
    /// Troubles in that time.
    pub(super) troubles: u64,
    /// How partitions are shared.
    pub(super) protocol: Protocol,
    /// After so long a member that is silent is out of the group, ms.
    pub(super) session_ms: u64,
    /// Records of one fetch at most.
    pub(super) fetch_max: usize,
    /// Consumer settings.
    pub(super) shards: usize,
    pub(super) concurrency: usize,
    pub(super) window_records: usize,
    pub(super) budget_bytes: usize,
    pub(super) commit_every_ms: u64,
    pub(super) drain_max_ms: u64,
    pub(super) metadata_bytes_max: usize,
    pub(super) attempts_max: u32,
    pub(super) retry_first_ms: u64,
    pub(super) retry_longest_ms: u64,
    /// What happens to a record that used up its attempts: dead letter, or parked.
    pub(super) parks: bool,
    /// Records are handled in batches.
    pub(super) batch: Option<Full>,
    /// Records of one key in a batch at most.
    pub(super) run_max: usize,
    /// How long the log takes to answer a commit, ms at most.
    pub(super) answer_ms: u64,
    /// One bit a kind of fate that may occur.
    pub(super) fates: u32,
}

impl Plan {
    /// The conditions that a seed stands for.
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Rng::new(seed, "plan");
        let parks = dice.chance(10);
        let batch = dice.chance(20).then(|| Full {
            count: dice.between(2, 20) as usize,
            bytes: usize::MAX,
            linger: Duration::from_millis(dice.between(1, 30)),
        });
        Self {
            seed,
            members: 1 + dice.below(4),
            partitions: 1 + dice.below(8),
            keys: dice.between(1, 12),
            records: dice.between(10, 200),
            span_ms: dice.between(500, 20_000),
            troubles: dice.between(0, 14),
            protocol: if dice.chance(60) { Protocol::Cooperative } else { Protocol::Eager },
            session_ms: dice.between(300, 4000),
            fetch_max: if dice.chance(50) { 512 } else { dice.between(1, 30) as usize },
            shards: 1 + dice.below(3),
            // A parked record holds its window: it must have room for the rest.
            window_records: if parks || dice.chance(40) { 1024 } else { 64 },
            budget_bytes: if parks || dice.chance(60) {
                64 << 20
            } else {
                dice.between(4, 40) as usize * 1024
            },
            commit_every_ms: dice.between(20, 1000),
            drain_max_ms: dice.between(0, 1500),
            metadata_bytes_max: match dice.below(5) {
                0 => 0,
                1 => dice.between(8, 60) as usize,
                _ => 4000,
            },
            attempts_max: if dice.chance(70) { dice.between(1, 5) as u32 } else { 0 },
            retry_first_ms: dice.between(1, 200),
            retry_longest_ms: dice.between(200, 3000),
            parks,
            batch,
            run_max: if dice.chance(50) { 1 } else { dice.between(2, 6) as usize },
            answer_ms: dice.between(0, 40),
            concurrency: if dice.chance(50) { 64 } else { dice.between(1, 6) as usize },
            fates: u32::MAX,
        }
    }

    /// The policy of these conditions.
    pub(super) fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            first: Duration::from_millis(self.retry_first_ms),
            longest: Duration::from_millis(self.retry_longest_ms),
            attempts_max: self.attempts_max,
            exhausted: if self.parks { Exhausted::Park } else { Exhausted::DeadLetter },
            ..RetryPolicy::default()
        }
    }

    /// How the record of this number fares.
    pub(super) fn fate(&self, record: u64) -> Fate {
        let mut dice = Rng::new(self.seed ^ record.rotate_left(32), "fate");
        let kind = dice.below(20) as u32;
        let may = |bit: u32| self.fates >> bit & 1 == 1;
        // So often it fails without being given up.
        let fails_max = if self.attempts_max == 0 { 4 } else { u64::from(self.attempts_max) - 1 };
        let fate = match kind {
            0..=4 if may(0) => Fate::Slow(dice.between(1, 300)),
            5 if may(1) => Fate::Slow(dice.between(1000, 15_000)),
            6..=8 if may(2) && fails_max > 0 => {
                let way = match dice.below(5) {
                    0 => Way::Error,
                    1 => Way::LateError(dice.between(1, 100)),
                    2 => Way::Panic,
                    3 => Way::RetryAfter(dice.between(1, 500)),
                    _ => Way::RetryWith,
                };
                Fate::Fails(dice.between(1, fails_max) as u32, way)
            }
            9 if may(3) && self.attempts_max > 0 => Fate::Never,
            10 if may(4) => Fate::Poison,
            11 if may(5) => Fate::Skipped,
            12 if may(6) => Fate::Deferred(dice.between(0, 200)),
            13 if may(6) && fails_max > 0 => Fate::Forgotten,
            _ => Fate::Quick,
        };
        match fate {
            // Where records may be parked a test should end: rarely.
            Fate::Never | Fate::Poison if self.parks && dice.chance(70) => Fate::Quick,
            fate => fate,
        }
    }

    /// The key of the record of this number. Key 0 is the one that may be ignored.
    pub(super) fn key(&self, record: u64) -> Option<u64> {
        let mut dice = Rng::new(self.seed ^ record.rotate_left(32), "key");
        (!dice.chance(10)).then(|| dice.roll() % self.keys)
    }

    /// The partition of the record of this number: its key's.
    pub(super) fn partition(&self, record: u64) -> usize {
        let number = self.key(record).map_or(record, |key| key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32);
        (number % self.partitions as u64) as usize
    }
}
