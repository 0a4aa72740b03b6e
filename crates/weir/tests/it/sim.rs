//! The real server, routing and assembly in the simulator: thousands of runs with faults, and no engine.
//!
//! `WEIR_SIM_SEEDS` says how many seeds, `WEIR_SIM_SEED` runs one and tells its story: `cargo x sim` sets them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::DuplexStream;
use weir::capture::{Parts, Running, start_unbound};
use weir::meter::Meter;
use weir_apps::capture::{KeyRule, Settings};
use weir_model::{ClusterId, TopicNaming};
use weir_runtime::budget::Budget;
use weir_runtime::log::LogWriter;
use weir_sim_kernel::{Judged, Seeds, campaign, fewest, seed_that_catches};
use weir_testkit::scale;
use weir_testkit::sim::book::{Breach, Counts, Promise};
use weir_testkit::sim::log::{MUTANTS, Mutant};
use weir_testkit::sim::plan::{KeyBy, Plan};
use weir_testkit::sim::script::{Fault, FaultKind, script};
use weir_testkit::sim::{Outcome, Rest, Site, run};

/// Seeds of one run of the tests.
const SEEDS_SHORT: u64 = 300;
const SEEDS_FULL: u64 = 20_000;

/// Real captures behind one peer.
struct Weirs {
    plan: Plan,
    mutant: Option<Mutant>,
    slots: Mutex<Vec<Option<(Running, Budget)>>>,
    /// Repeated calls whose first attempt still ran, of all processes that have ended.
    overlaps: AtomicU64,
}

impl Weirs {
    fn new(plan: &Plan, mutant: Option<Mutant>) -> Arc<Self> {
        let slots = (0..plan.processes).map(|_| None).collect();
        Arc::new(Self { plan: plan.clone(), mutant, slots: Mutex::new(slots), overlaps: AtomicU64::new(0) })
    }

    fn take(&self, process: usize) -> Option<(Running, Budget)> {
        let taken = self.slots.lock().unwrap()[process].take();
        let overlaps = taken.as_ref().map_or(0, |(running, _)| running.stats.snapshot().overlaps);
        self.overlaps.fetch_add(overlaps, Ordering::Relaxed);
        taken
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::everything(TopicNaming::new("hbase.", ".wal").unwrap());
        settings.headers = self.plan.has_headers;
        settings.key = match self.plan.key_by {
            KeyBy::Region => KeyRule::Region,
            KeyBy::Row => KeyRule::Row,
            KeyBy::RowLength(length) => KeyRule::RowLength(length),
            KeyBy::RowDelimiter(delimiter) => KeyRule::RowDelimiter(delimiter),
        };
        settings
    }
}

impl Site for Weirs {
    fn start(&self, process: usize, log: Arc<dyn LogWriter>) {
        let parts = Parts {
            name: "main".to_owned(),
            source: ClusterId { most: self.plan.seed, least: 0x5741_4c00 },
            peer_id: ClusterId { most: 1, least: 2 },
            settings: self.settings(),
            frame_bytes_max: 1 << 20,
            answer_margin_percent: if self.mutant == Some(Mutant::AnswersLate) { 0 } else { 25 },
            creator: None,
        };
        let budget = Budget::new(self.plan.budget_bytes);
        let address = SocketAddr::from(([127, 0, 0, 1], 16_120));
        let running = start_unbound(parts, address, log, budget.clone(), Meter::default(), Vec::new());
        self.slots.lock().unwrap()[process] = Some((running, budget));
    }

    fn kill(&self, process: usize) {
        drop(self.take(process));
    }

    fn drain(&self, process: usize) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        let (slot, is_late) = (self.take(process), self.mutant == Some(Mutant::EndsLate));
        Box::pin(async move {
            if let Some((running, _)) = slot {
                running.end().await;
            }
            if is_late {
                tokio::time::sleep(Duration::from_secs(11)).await;
            }
        })
    }

    fn serve(&self, process: usize, calls: DuplexStream, answers: DuplexStream, from: SocketAddr) {
        if let Some((running, _)) = &self.slots.lock().unwrap()[process] {
            running.serve(calls, answers, from);
        }
    }

    fn rest(&self, process: usize) -> Rest {
        let slots = self.slots.lock().unwrap();
        slots[process].as_ref().map_or_else(Rest::default, |(running, budget)| Rest {
            budget_bytes: budget.used_bytes(),
            calls_open: running.stats.calls_open(),
        })
    }
}

fn play(plan: &Plan, faults: &[Fault], mutant: Option<Mutant>) -> Outcome {
    run(plan, faults, mutant, Weirs::new(plan, mutant))
}

/// What a person needs to see of a run that broke a promise: the fewest faults that still break it.
fn story(plan: &Plan, breaches: &[Breach]) -> String {
    let promise = breaches[0].promise;
    let breaks =
        |faults: &[Fault]| play(plan, faults, None).breaches.iter().any(|breach| breach.promise == promise);
    let faults = fewest(script(plan), breaks);
    let last = play(plan, &faults, None);
    let seen: Vec<String> =
        last.breaches.iter().map(|breach| format!("  {:?}: {}", breach.promise, breach.seen)).collect();
    let faults: Vec<String> =
        faults.iter().map(|fault| format!("  {} ms {:?}", fault.at_ms, fault.kind)).collect();
    format!(
        "seed {} breaks a promise; again with: cargo x sim --seed {}\n{plan:#?}\nthe fewest faults:\n{}\nseen:\n{}",
        plan.seed,
        plan.seed,
        faults.join("\n"),
        seen.join("\n")
    )
}

/// Runs seeds; the counts of all, overlapping calls, and the stories of runs that broke a promise.
fn run_all(seeds: Seeds) -> (Counts, u64, Vec<String>) {
    let run = |seed| {
        let plan = Plan::of(seed);
        let weirs = Weirs::new(&plan, None);
        let outcome = run(&plan, &script(&plan), None, Arc::<Weirs>::clone(&weirs));
        let story = (!outcome.breaches.is_empty()).then(|| story(&plan, &outcome.breaches));
        Judged { counts: (outcome.counts, weirs.overlaps.load(Ordering::Relaxed)), story }
    };
    let add = |total: &mut (Counts, u64), more: (Counts, u64)| {
        add(&mut total.0, more.0);
        total.1 += more.1;
    };
    let ((counts, overlaps), stories) = campaign(seeds, run, add);
    (counts, overlaps, stories)
}

fn add(total: &mut Counts, more: Counts) {
    total.entries += more.entries;
    total.records += more.records;
    total.repeats += more.repeats;
    total.acknowledged += more.acknowledged;
    total.failed += more.failed;
    total.timed_out += more.timed_out;
}

#[test]
fn no_fault_breaks_a_promise_of_capture() {
    let started = Instant::now();
    let seeds = Seeds::from_environment(scale::pick(SEEDS_SHORT, SEEDS_FULL));
    let Seeds { first, count, is_one } = seeds;
    if is_one {
        let plan = Plan::of(first);
        println!("{plan:#?}\n{:#?}", script(&plan));
    }
    let (counts, overlaps, stories) = run_all(seeds);
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
    let took = started.elapsed();
    let rate = count as f64 * 60.0 / took.as_secs_f64();
    println!(
        "{count} seeds from {first} in {took:.1?} ({rate:.0} a minute): {counts:?}, {overlaps} overlaps seen"
    );
    if !is_one {
        // The faults must bite, else the campaign says nothing.
        assert!(
            counts.repeats > counts.entries / 100 && counts.failed > counts.acknowledged / 100,
            "{counts:?}"
        );
        assert!(counts.timed_out > 0 && overlaps > 0, "{counts:?}, {overlaps}");
    }
}

#[test]
fn a_connection_cut_at_any_byte_of_a_call_or_an_answer_loses_nothing() {
    let plan = Plan { entries: 6, span_ms: 50, servers: 1, processes: 1, ..Plan::of(11) };
    let calls = (0..900).map(|bytes| FaultKind::CutCalls { server: 0, bytes });
    let answers = (0..40).map(|bytes| FaultKind::CutAnswers { server: 0, bytes });
    let mut cut = 0;
    for kind in calls.chain(answers) {
        let outcome = play(&plan, &[Fault { at_ms: 0, kind }], None);
        assert_eq!(outcome.breaches, [], "{kind:?}");
        cut += u64::from(outcome.counts.failed > 0);
    }
    assert!(cut > 500, "only {cut} of the cuts were felt");
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 0..scale::pick(40, 1000) {
        let plan = Plan::of(seed);
        let [first, second] = [(); 2].map(|()| play(&plan, &script(&plan), None));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn each_planted_defect_is_caught() {
    const SEEDS_MAX: u64 = 60;
    for (mutant, promise) in MUTANTS {
        let seed = seed_that_catches(&format!("{mutant:?}"), SEEDS_MAX, |seed| {
            let plan = Plan::of(seed);
            let outcome = play(&plan, &script(&plan), Some(mutant));
            outcome.breaches.iter().any(|breach| breach.promise == promise)
        });
        println!("{mutant:?} breaks {promise:?} at seed {seed}");
    }
}

#[test]
fn a_failing_script_is_made_as_short_as_it_can_be() {
    // Without the others this defect shows just the same, so what is left must be needed.
    let plan = Plan::of(1);
    let fails = |faults: &[Fault]| {
        let outcome = play(&plan, faults, Some(Mutant::Reorders));
        outcome.breaches.iter().any(|breach| breach.promise == Promise::Order)
    };
    let all = script(&plan);
    assert!(fails(&all));
    let left = fewest(all.clone(), fails);
    assert!(fails(&left) && left.len() < all.len(), "{left:?}");
    for index in 0..left.len() {
        let mut fewer = left.clone();
        fewer.remove(index);
        assert!(!fails(&fewer), "{index} of {left:?} is not needed");
    }
}

#[test]
fn an_hour_of_the_simulator_takes_no_time() {
    let mut plan = Plan::of(3);
    plan.span_ms = 3_600_000;
    let started = Instant::now();
    let outcome = play(&plan, &[], None);
    assert_eq!(outcome.breaches, []);
    assert!(outcome.simulated >= Duration::from_secs(1800) && started.elapsed() < Duration::from_secs(20));
}
