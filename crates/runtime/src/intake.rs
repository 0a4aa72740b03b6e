//! Why a partition gives records or does not, and for how long: a stall always has a reason.

use std::fmt;
use std::time::Duration;
use tokio::time::Instant;

/// What a partition's intake does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// It takes what comes, and the last look found records.
    Flowing,
    /// It takes what comes, and nothing comes.
    #[default]
    Idle,
    /// [`Flow::is_paused`](crate::flow::Flow::is_paused).
    Paused,
    /// A rate of [`Flow`](crate::flow::Flow) is used up.
    Throttled,
    /// The window is full: the oldest record that is not done holds it.
    WindowFull,
    /// The byte budget has nothing left for it: the partition has used its part, and nobody has some to spare.
    BudgetSpent,
    /// It has a fault and gives no more records.
    Stopped,
    /// It is on its way to another owner.
    Leaving,
}

/// All of them, in their order.
const ALL: [Intake; 8] = [
    Intake::Flowing,
    Intake::Idle,
    Intake::Paused,
    Intake::Throttled,
    Intake::WindowFull,
    Intake::BudgetSpent,
    Intake::Stopped,
    Intake::Leaving,
];

impl Intake {
    /// Whether something keeps records back that may be there.
    #[must_use]
    pub const fn is_held(self) -> bool {
        !matches!(self, Self::Flowing | Self::Idle)
    }

    /// The word that metrics have for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Flowing => "flowing",
            Self::Idle => "idle",
            Self::Paused => "paused",
            Self::Throttled => "rate",
            Self::WindowFull => "window",
            Self::BudgetSpent => "budget",
            Self::Stopped => "stopped",
            Self::Leaving => "leaving",
        }
    }
}

impl fmt::Display for Intake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Flowing => "records flow",
            Self::Idle => "nothing comes",
            Self::Paused => "the flow is paused",
            Self::Throttled => "the rate is used up",
            Self::WindowFull => "its window is full",
            Self::BudgetSpent => "the byte budget has nothing left for it",
            Self::Stopped => "it is stopped",
            Self::Leaving => "it goes to another owner",
        })
    }
}

/// How long a partition's intake has done what, since the partition is ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntakeTimes([Duration; ALL.len()]);

impl IntakeTimes {
    /// The time of one.
    #[must_use]
    pub const fn of(&self, intake: Intake) -> Duration {
        self.0[intake as usize]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (Intake, Duration)> {
        ALL.into_iter().zip(self.0)
    }
}

/// The poller's account of one partition.
#[derive(Debug)]
pub(crate) struct IntakeClock {
    state: Intake,
    since: Instant,
    seen: Instant,
    times: IntakeTimes,
}

impl IntakeClock {
    pub(crate) fn new(now: Instant) -> Self {
        Self { state: Intake::default(), since: now, seen: now, times: IntakeTimes::default() }
    }

    /// From now on it does this; what it did until now is on its account.
    pub(crate) fn set(&mut self, state: Intake, now: Instant) {
        self.charge(now);
        if self.state != state {
            (self.state, self.since) = (state, now);
        }
    }

    fn charge(&mut self, now: Instant) {
        self.times.0[self.state as usize] += now.saturating_duration_since(self.seen);
        self.seen = now;
    }

    /// What it does, for how long, and the account up to now.
    pub(crate) fn read(&mut self, now: Instant) -> (Intake, Duration, IntakeTimes) {
        self.charge(now);
        (self.state, now.saturating_duration_since(self.since), self.times.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_is_on_the_account_of_what_was_done_then() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = IntakeClock::new(start);
        clock.set(Intake::Paused, at(2));
        clock.set(Intake::Paused, at(5));
        clock.set(Intake::Flowing, at(9));
        let (state, time, times) = clock.read(at(10));
        assert_eq!((state, time), (Intake::Flowing, Duration::from_secs(1)));
        let seconds: Vec<u64> = times.iter().map(|(_, time)| time.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 7, 0, 0, 0, 0, 0]);
        assert_eq!(times.of(Intake::Paused), Duration::from_secs(7));
        assert_eq!(ALL.map(|one| one as usize), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
