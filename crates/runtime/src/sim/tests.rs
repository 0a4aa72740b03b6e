//! Seeds, planted defects, and the shrinking of what fails.
//!
//! `WEIR_SIM_SEEDS` says how many seeds, `WEIR_SIM_SEED` runs one and tells its story: `cargo x sim` sets them.

use super::book::{Breach, Counts, Promise};
use super::plan::Plan;
use super::run::{Outcome, run};
use super::script::{Act, script, shrink};
use crate::mutant::{Mutant, plant};
use std::time::{Duration, Instant};
use weir_sim_kernel::{Judged, Seeds, campaign, seed_that_catches};

/// Seeds of a run in the gate.
const SEEDS: u64 = 400;

/// Each defect, and the promise that it must be seen to break.
const MUTANTS: [(Mutant, Promise); 18] = [
    (Mutant::CommitsPastAHole, Promise::OnlyDoneIsCommitted),
    (Mutant::MapClaimsMore, Promise::OnlyDoneIsCommitted),
    (Mutant::ForgetsTheMap, Promise::NotRepeated),
    (Mutant::WindowOutlivesItsAssignment, Promise::OnlyDoneIsCommitted),
    (Mutant::TwoOfAKeyAtOnce, Promise::OneAtATime),
    (Mutant::OvertakesARetry, Promise::Order),
    (Mutant::ErrorIsDone, Promise::OnlyDoneIsCommitted),
    (Mutant::LetterIsNotDurable, Promise::OnlyDoneIsCommitted),
    (Mutant::ForgetsATimer, Promise::Progress),
    (Mutant::ComesEarly, Promise::Attempts),
    (Mutant::SaysNothing, Promise::Health),
    (Mutant::CancelsOthers, Promise::NotCancelled),
    (Mutant::IgnoresThePause, Promise::Paused),
    (Mutant::IgnoresConcurrency, Promise::Concurrency),
    (Mutant::DrainsTooLong, Promise::DrainInTime),
    (Mutant::LeavesWithoutADrain, Promise::QuietAfterRelease),
    (Mutant::LeavesWithoutACommit, Promise::CompleteHandover),
    (Mutant::CommitsWhatIsLost, Promise::LostCommitsNothing),
];

fn play(plan: &Plan, acts: &[Act], mutant: Option<Mutant>) -> Outcome {
    plant(mutant);
    let outcome = run(plan, acts);
    plant(None);
    outcome
}

fn breaks(outcome: &Outcome, promise: Promise) -> bool {
    outcome.breaches.iter().any(|breach| breach.promise == promise)
}

/// What a person needs to see of a run that broke a promise: the smallest schedule that still breaks it.
fn story(plan: &Plan, breaches: &[Breach], mutant: Option<Mutant>) -> String {
    let promise = breaches[0].promise;
    let (small, acts) =
        shrink(plan.clone(), script(plan), |plan, acts| breaks(&play(plan, acts, mutant), promise));
    let last = play(&small, &acts, mutant);
    let seen: Vec<String> =
        last.breaches.iter().map(|breach| format!("  {:?}: {}", breach.promise, breach.seen)).collect();
    let told: Vec<String> = acts.iter().map(|act| tell(&small, act)).collect();
    format!(
        "seed {} breaks a promise; again with: cargo x sim runtime --seed {}\n{small:#?}\nthe smallest schedule:\n{}\nseen:\n{}",
        plan.seed,
        plan.seed,
        told.join("\n"),
        seen.join("\n")
    )
}

/// One line of a schedule; a record with its place, key and fate.
fn tell(plan: &Plan, act: &Act) -> String {
    let text = format!("  {} ms {:?}", act.at_ms, act.kind);
    match act.kind {
        super::script::ActKind::Put { record } => {
            let (key, partition) = (plan.key(record), plan.partition(record));
            format!("{text}: key {key:?}, partition {partition}, {:?}", plan.fate(record))
        }
        _ => text,
    }
}

/// Runs seeds; the counts of all, the time on their clocks, and the stories of those that broke a promise.
fn run_all(seeds: Seeds) -> (Counts, Duration, Vec<String>) {
    let run = |seed| {
        let plan = Plan::of(seed);
        let outcome = play(&plan, &script(&plan), None);
        let story = (!outcome.breaches.is_empty()).then(|| {
            println!("seed {seed} breaks {:?}; shrinking it", outcome.breaches[0]);
            story(&plan, &outcome.breaches, None)
        });
        Judged { counts: (outcome.counts, outcome.simulated), story }
    };
    let add = |total: &mut (Counts, Duration), more: (Counts, Duration)| {
        total.0.add(&more.0);
        total.1 += more.1;
    };
    let ((counts, simulated), stories) = campaign(seeds, run, add);
    (counts, simulated, stories)
}

#[test]
fn no_trouble_breaks_a_promise_of_the_runtime() {
    let started = Instant::now();
    let seeds = Seeds::from_environment(SEEDS);
    let Seeds { first, count, is_one } = seeds;
    if is_one {
        let plan = Plan::of(first);
        let told: Vec<String> = script(&plan).iter().map(|act| tell(&plan, act)).collect();
        println!("{plan:#?}\n{}", told.join("\n"));
    }
    let (counts, simulated, stories) = run_all(seeds);
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
    let took = started.elapsed();
    let rate = count as f64 * 60.0 / took.as_secs_f64();
    println!(
        "runtime: {count} seeds from {first} in {took:.1?} ({rate:.0} a minute), {} s on their clocks: {counts:?}",
        simulated.as_secs()
    );
    if count >= 100 {
        // The troubles must bite, else the campaign says nothing.
        let Counts { attempts, failed, cancelled, repeated, spared, letters, letters_repeated, .. } = counts;
        let Counts { lost, commits_failed, parked, heads_named, .. } = counts;
        assert!(failed > attempts / 100 && repeated > attempts / 200, "{counts:?}");
        let rare = [cancelled, spared, letters, letters_repeated, lost, commits_failed, parked, heads_named];
        assert!(rare.iter().all(|count| *count > 0), "{counts:?}");
    }
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..40 {
        let plan = Plan::of(seed);
        let [first, second] = [(); 2].map(|()| play(&plan, &script(&plan), None));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn each_planted_defect_is_caught() {
    const SEEDS_MAX: u64 = 200;
    for (mutant, promise) in MUTANTS {
        let seed = seed_that_catches(&format!("{mutant:?}"), SEEDS_MAX, |seed| {
            let plan = Plan::of(seed);
            breaks(&play(&plan, &script(&plan), Some(mutant)), promise)
        });
        println!("{mutant:?} breaks {promise:?} at seed {seed}");
    }
}

#[test]
fn a_failing_schedule_is_made_as_small_as_it_can_be() {
    let (plan, mutant, promise) = (0..100)
        .find_map(|seed| {
            let (plan, mutant, promise) = (Plan::of(seed), Mutant::TwoOfAKeyAtOnce, Promise::OneAtATime);
            breaks(&play(&plan, &script(&plan), Some(mutant)), promise).then_some((plan, mutant, promise))
        })
        .unwrap();
    let fails = |plan: &Plan, acts: &[Act]| breaks(&play(plan, acts, Some(mutant)), promise);
    let (small, fewest) = shrink(plan.clone(), script(&plan), fails);
    // Two records of one key, the first of which takes a while.
    assert_eq!((small.members, small.partitions, fewest.len()), (1, 1, 2), "{fewest:?}");
    for index in 0..fewest.len() {
        let mut fewer = fewest.clone();
        fewer.remove(index);
        assert!(!fails(&small, &fewer), "{index} of {fewest:?} is not needed");
    }
    let outcome = play(&plan, &script(&plan), Some(mutant));
    let told = story(&plan, &outcome.breaches, Some(mutant));
    assert!(told.contains(&format!("cargo x sim runtime --seed {}", plan.seed)), "{told}");
}
