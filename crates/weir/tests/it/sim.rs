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
use weir_testkit::scale;
use weir_testkit::sim::book::{Breach, Counts, Promise};
use weir_testkit::sim::log::{MUTANTS, Mutant};
use weir_testkit::sim::plan::{KeyBy, Plan};
use weir_testkit::sim::script::{Fault, FaultKind, script, shrink};
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
    let fewest = shrink(script(plan), breaks);
    let last = play(plan, &fewest, None);
    let seen: Vec<String> =
        last.breaches.iter().map(|breach| format!("  {:?}: {}", breach.promise, breach.seen)).collect();
    let faults: Vec<String> =
        fewest.iter().map(|fault| format!("  {} ms {:?}", fault.at_ms, fault.kind)).collect();
    format!(
        "seed {} breaks a promise; again with: cargo x sim --seed {}\n{plan:#?}\nthe fewest faults:\n{}\nseen:\n{}",
        plan.seed,
        plan.seed,
        faults.join("\n"),
        seen.join("\n")
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

/// Runs seeds on two threads; the counts of all, overlapping calls, and the stories of runs that broke a promise.
fn campaign(first: u64, count: u64) -> (Counts, u64, Vec<String>) {
    const STORIES_MAX: usize = 3;
    let (next, overlaps) = (AtomicU64::new(first), AtomicU64::new(0));
    let totals = Mutex::new((Counts::default(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || totals.lock().unwrap().1.len() >= STORIES_MAX {
                        return;
                    }
                    let plan = Plan::of(seed);
                    let weirs = Weirs::new(&plan, None);
                    let outcome = run(&plan, &script(&plan), None, Arc::<Weirs>::clone(&weirs));
                    let told = (!outcome.breaches.is_empty()).then(|| story(&plan, &outcome.breaches));
                    overlaps.fetch_add(weirs.overlaps.load(Ordering::Relaxed), Ordering::Relaxed);
                    let mut totals = totals.lock().unwrap();
                    add(&mut totals.0, outcome.counts);
                    totals.1.extend(told);
                }
            });
        }
    });
    let (counts, stories) = totals.into_inner().unwrap();
    (counts, overlaps.into_inner(), stories)
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
    let one = number("WEIR_SIM_SEED");
    let count = number("WEIR_SIM_SEEDS").unwrap_or_else(|| scale::pick(SEEDS_SHORT, SEEDS_FULL));
    let (first, count) = one.map_or((0, count), |seed| (seed, 1));
    if one.is_some() {
        let plan = Plan::of(first);
        println!("{plan:#?}\n{:#?}", script(&plan));
    }
    let (counts, overlaps, stories) = campaign(first, count);
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
    let took = started.elapsed();
    let rate = count as f64 * 60.0 / took.as_secs_f64();
    println!(
        "{count} seeds from {first} in {took:.1?} ({rate:.0} a minute): {counts:?}, {overlaps} overlaps seen"
    );
    if one.is_none() {
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
        let caught = (0..SEEDS_MAX).find(|seed| {
            let plan = Plan::of(*seed);
            let outcome = play(&plan, &script(&plan), Some(mutant));
            outcome.breaches.iter().any(|breach| breach.promise == promise)
        });
        let seed =
            caught.unwrap_or_else(|| panic!("{mutant:?} does not break {promise:?} in {SEEDS_MAX} seeds"));
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
    let fewest = shrink(all.clone(), fails);
    assert!(fails(&fewest) && fewest.len() < all.len(), "{fewest:?}");
    for index in 0..fewest.len() {
        let mut fewer = fewest.clone();
        fewer.remove(index);
        assert!(!fails(&fewer), "{index} of {fewest:?} is not needed");
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
