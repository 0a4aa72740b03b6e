//! How often and how long a failed record is tried again, and what happens then.

use std::time::Duration;

/// The shortest wait before another attempt, whatever was asked for: a record that fails at once must leave room for
/// others. Timers are no finer.
pub const WAIT_MIN: Duration = Duration::from_millis(1);

/// When a record has used up its attempts or its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exhausted {
    /// To the dead letters; without a place for them the consumer does not start.
    DeadLetter,
    /// It stays pending and holds its key (and, in the end, its partition's window) until the next restart.
    Park,
    /// The consumer stops, with the record's place in the fault.
    Stop,
}

/// Retries in place: the key waits on a timer, no worker is held, other keys go on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The first wait; doubled for each further attempt.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// How much of each wait is left to chance, from 0 (none) to 1 (all of it), so that what failed together does not
    /// come back together.
    pub jitter: f64,
    /// Attempts in all; 0 is no limit.
    pub attempts_max: u32,
    /// Time since the first failure after which no further attempt is made; `None` is no limit.
    pub age_max: Option<Duration>,
    /// What happens then.
    pub exhausted: Exhausted,
}

impl Default for RetryPolicy {
    /// From 100 ms to a minute, without end: nothing is given up that nobody said may be given up.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(60),
            jitter: 0.5,
            attempts_max: 0,
            age_max: None,
            exhausted: Exhausted::Park,
        }
    }
}

impl RetryPolicy {
    /// The wait after the attempt of this number failed.
    pub(crate) fn wait(&self, attempt: u32, chance: &mut Chance) -> Duration {
        let doubled = 2f64.powi(i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX).min(62));
        let full = (self.first.as_secs_f64() * doubled).min(self.longest.as_secs_f64());
        let wait = full * (1.0 - self.jitter.clamp(0.0, 1.0) * chance.next());
        Duration::try_from_secs_f64(wait).unwrap_or(self.longest)
    }

    /// Whether a record that failed so often, for so long, is given up.
    pub(crate) fn is_exhausted(&self, attempt: u32, age: Duration) -> bool {
        (self.attempts_max > 0 && attempt >= self.attempts_max) || self.age_max.is_some_and(|max| age >= max)
    }
}

/// Chance that a seed repeats (`SplitMix64`); for spreading waits, not for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to, but not, 1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_chance_takes_at_most_its_share() {
        let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let waits =
            [1, 2, 3, 10, 11, 200].map(|attempt| policy.wait(attempt, &mut Chance::new(1)).as_millis());
        assert_eq!(waits, [100, 200, 400, 51_200, 60_000, 60_000]);
        let endless = RetryPolicy { longest: Duration::MAX, jitter: f64::NAN, ..policy };
        assert_eq!(endless.wait(u32::MAX, &mut Chance::new(1)), Duration::MAX);
        let policy = RetryPolicy { jitter: 0.5, ..policy };
        let mut chance = Chance::new(7);
        let waits: Vec<u128> = (0..1000).map(|_| policy.wait(1, &mut chance).as_millis()).collect();
        assert!(waits.iter().all(|wait| (50..=100).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 60) && waits.iter().any(|wait| *wait > 90));
    }

    #[test]
    fn attempts_and_age_end_the_patience_whichever_comes_first() {
        let policy =
            RetryPolicy { attempts_max: 3, age_max: Some(Duration::from_secs(9)), ..RetryPolicy::default() };
        assert!(!policy.is_exhausted(2, Duration::from_secs(8)));
        assert!(policy.is_exhausted(3, Duration::ZERO));
        assert!(policy.is_exhausted(1, Duration::from_secs(9)));
        assert!(!RetryPolicy::default().is_exhausted(u32::MAX, Duration::MAX));
    }
}
