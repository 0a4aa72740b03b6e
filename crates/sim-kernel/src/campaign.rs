//! Campaigns: one simulated run for each seed, on two threads, and the stories of those that broke a promise.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Environment variable: runs this seed alone, and tells its story.
pub const SEED_VARIABLE: &str = "WEIR_SIM_SEED";

/// Environment variable: how many seeds a campaign runs.
pub const SEEDS_VARIABLE: &str = "WEIR_SIM_SEEDS";

/// A campaign ends early once this many seeds have failed: their stories are long, and the first is the one to read.
pub const STORIES_MAX: usize = 3;

/// Seeds of one campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// The first seed.
    pub first: u64,
    /// How many there are.
    pub count: u64,
    /// Whether a person asked for this one seed: its plan is printed, and no statistics are judged.
    pub is_one: bool,
}

impl Seeds {
    /// Returns the seeds that the environment asks for, else the first `default`.
    ///
    /// # Panics
    /// When a variable is set and is no number.
    #[must_use]
    pub fn from_environment(default: u64) -> Self {
        match number(SEED_VARIABLE) {
            Some(first) => Self { first, count: 1, is_one: true },
            None => Self { first: 0, count: number(SEEDS_VARIABLE).unwrap_or(default), is_one: false },
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is no number"));
    std::env::var(variable).ok().map(parse)
}

/// What one run came to.
pub struct Judged<C> {
    /// What is summed over all runs.
    pub counts: C,
    /// What a person needs to see, when the run broke a promise.
    pub story: Option<String>,
}

/// Runs each seed; returns the sum of the counts and the stories of the seeds that failed.
///
/// # Panics
/// As `run` does.
pub fn campaign<C: Default + Send>(
    seeds: Seeds,
    run: impl Fn(u64) -> Judged<C> + Sync,
    add: impl Fn(&mut C, C) + Sync,
) -> (C, Vec<String>) {
    let next = AtomicU64::new(seeds.first);
    let totals = Mutex::new((C::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let failed = totals.lock().expect("no panic under this lock").1.len();
            if seed >= seeds.first + seeds.count || failed >= STORIES_MAX {
                return;
            }
            let Judged { counts, story } = run(seed);
            let mut totals = totals.lock().expect("no panic under this lock");
            add(&mut totals.0, counts);
            totals.1.extend(story);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    totals.into_inner().expect("no panic under this lock")
}

/// Returns the first seed below `seeds_max` whose run sees a planted defect.
///
/// # Panics
/// When no seed sees it: then a check of the simulator is blind.
#[must_use]
pub fn seed_that_catches(defect: &str, seeds_max: u64, catches: impl Fn(u64) -> bool) -> u64 {
    let caught = (0..seeds_max).find(|seed| catches(*seed));
    caught.unwrap_or_else(|| panic!("the planted defect {defect} is not seen in {seeds_max} seeds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(count: u64) -> Seeds {
        Seeds { first: 10, count, is_one: false }
    }

    #[test]
    fn each_seed_runs_once_and_what_it_counts_is_summed() {
        let run = |seed| Judged { counts: seed, story: None };
        let (sum, stories) = campaign(all(100), run, |total: &mut u64, more| *total += more);
        assert_eq!((sum, stories.len()), ((10..110).sum::<u64>(), 0));
    }

    #[test]
    fn a_campaign_ends_early_when_seeds_fail() {
        let run = |seed: u64| Judged { counts: 1, story: Some(seed.to_string()) };
        let (runs, stories) = campaign(all(10_000), run, |total: &mut u64, more| *total += more);
        // Each of the two threads may have a run under way.
        assert!((STORIES_MAX..=STORIES_MAX + 1).contains(&stories.len()), "{stories:?}");
        assert_eq!(runs, stories.len() as u64);
    }

    #[test]
    #[should_panic(expected = "the planted defect Reorders is not seen in 3 seeds")]
    fn a_defect_that_no_seed_sees_is_a_failure() {
        let _ = seed_that_catches("Reorders", 3, |_| false);
    }
}
