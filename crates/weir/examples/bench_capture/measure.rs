//! One cell: runs of all systems in turn, and what each came to.

use crate::child::Child;
use crate::shape::SHAPES;
use crate::sink::{Sink, Target};
use crate::source::Outcome;
use crate::stages::Clocks;
use crate::usage::{Cpu, peak_mib};
use std::collections::BTreeMap;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) name: &'static str,
    role: &'static str,
    variant: Variant,
}

impl System {
    /// Weir with its defaults, and the floor with the same.
    pub(crate) const WEIR: Self = Self { name: "weir", role: "weir", variant: Variant::Default };
    pub(crate) const FLOOR: Self = Self { name: "rdkafka-produce", role: "floor", variant: Variant::Default };

    /// Both again without compression, and without compression and headers.
    pub(crate) const BARER: [Self; 4] = [
        Self { name: "weir-plain", role: "weir", variant: Variant::Plain },
        Self { name: "rdkafka-produce-plain", role: "floor", variant: Variant::Plain },
        Self { name: "weir-bare", role: "weir", variant: Variant::Bare },
        Self { name: "rdkafka-produce-bare", role: "floor", variant: Variant::Bare },
    ];

    fn start(self, target: &Target<'_>, shape: usize) -> (Child, String) {
        let shape = shape.to_string();
        let mut child =
            Child::start(&[self.role, &target.bootstrap, self.variant.word(), &shape, &target.topic]);
        let line = child.line();
        (child, line)
    }
}

/// How Weir and the floor are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// As Weir is when nothing is said: LZ4, one header.
    Default,
    /// One header, no compression.
    Plain,
    /// Neither.
    Bare,
}

impl Variant {
    const fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Plain => "plain",
            Self::Bare => "bare",
        }
    }

    /// Reads the word.
    pub(crate) fn of(word: &str) -> Self {
        let all = [Self::Default, Self::Plain, Self::Bare];
        all.into_iter().find(|variant| variant.word() == word).expect("one of three words")
    }
}

pub(crate) struct Plan {
    pub(crate) systems: Vec<System>,
    pub(crate) shapes: Vec<usize>,
    pub(crate) seconds: u64,
    pub(crate) runs: u64,
}

/// Metrics in the order in which they are printed, with their units.
pub(crate) const METRICS: [(&str, &str); 13] = [
    ("cpu_us_per_entry", "us"),
    ("cpu_us_receive", "us"),
    ("cpu_us_parse", "us"),
    ("cpu_us_route_encode", "us"),
    ("cpu_us_produce_call", "us"),
    ("cpu_us_produce_threads", "us"),
    ("cpu_us_rest", "us"),
    ("entries_per_s", "1/s"),
    ("rss_mib", "MiB"),
    ("rss_mib_log_away", "MiB"),
    ("answer_ms_p50", "ms"),
    ("answer_ms_p99", "ms"),
    ("answer_ms_p999", "ms"),
];

/// Values of one run by metric.
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// Seconds of load before the measured ones: topics are looked up, connections are made, heaps have their size.
const WARM_SECONDS: u64 = 1;

/// Seconds that a source pushes calls at a Weir whose log does not answer; the budget is full after two.
const FLOOD_SECONDS: u64 = 6;

/// All runs of a cell: A B A B, so that a machine's good and bad minutes fall on all systems alike.
pub(crate) fn cell(plan: &Plan, sink: &Sink, shape: usize) -> Vec<(System, Vec<Values>)> {
    let mut measured: Vec<(System, Vec<Values>)> =
        plan.systems.iter().map(|system| (*system, Vec::new())).collect();
    for run in 0..plan.runs {
        for (system, runs) in &mut measured {
            let topic = format!("{}-{}-{run}", system.name, SHAPES[shape].name);
            let target = sink.target(&topic);
            runs.push(if system.role == "weir" {
                weir(*system, plan, &target, shape)
            } else {
                floor(*system, plan, &target, shape)
            });
        }
    }
    measured
}

fn floor(system: System, plan: &Plan, target: &Target<'_>, shape: usize) -> Values {
    let (mut child, _) = system.start(target, shape);
    let mut produce = |seconds: u64| {
        let line = child.ask(&format!("run {seconds}"));
        let (entries, seconds) = line.split_once(' ').unwrap();
        (entries.parse::<f64>().unwrap(), seconds.parse::<f64>().unwrap(), Cpu::of(child.id()))
    };
    let (warm, _, before) = produce(WARM_SECONDS);
    let (entries, seconds, after) = produce(plan.seconds);
    assert_eq!(target.record_count(), (warm + entries) as i64, "the log has what was reported durable");
    Values::from([
        ("cpu_us_per_entry", after.since(&before, |_| true) * 1e6 / entries),
        ("entries_per_s", entries / seconds),
        ("rss_mib", peak_mib(child.id())),
    ])
}

fn weir(system: System, plan: &Plan, target: &Target<'_>, shape: usize) -> Values {
    let (mut child, port) = system.start(target, shape);
    let mut source = Child::start(&["source", &port, &shape.to_string(), &target.topic]);
    source.line();
    let warm = Outcome::parse(&source.ask(&format!("full {WARM_SECONDS}")));
    let (clocks, before) = (Clocks::parse(&child.ask("stages")), Cpu::of(child.id()));
    let full = Outcome::parse(&source.ask(&format!("full {}", plan.seconds)));
    let (clocks_after, after) = (Clocks::parse(&child.ask("stages")), Cpu::of(child.id()));
    let calls_per_s = full.entries / full.seconds / crate::shape::ENTRIES_PER_CALL as f64;
    let half = Outcome::parse(&source.ask(&format!("paced {} {}", plan.seconds, calls_per_s / 2.0)));
    let sent = warm.entries + full.entries + half.entries;
    assert_eq!(warm.failed_calls + full.failed_calls + half.failed_calls, 0.0, "calls failed");
    assert_eq!(target.record_count(), sent as i64, "each acknowledged entry is in the log, once");
    let rss_mib = peak_mib(child.id());

    let per_entry = |seconds: f64| seconds * 1e6 / full.entries;
    let threads = |wants: fn(&str) -> bool| per_entry(after.since(&before, wants));
    let is_producer = |name: &str| name.starts_with("rdk:") || name == "weir-reports";
    let is_worker = |name: &str| name.starts_with("tokio-");
    let (handle, append) = (per_entry(clocks_after.0 - clocks.0), per_entry(clocks_after.1 - clocks.1));
    let parse: f64 = child.ask(&format!("parse {shape}")).parse().unwrap();
    let mut values = Values::from([
        ("cpu_us_per_entry", threads(|_| true)),
        ("cpu_us_receive", threads(is_worker) - handle - parse),
        ("cpu_us_parse", parse),
        ("cpu_us_route_encode", handle - append),
        ("cpu_us_produce_call", append),
        ("cpu_us_produce_threads", threads(is_producer)),
        ("cpu_us_rest", threads(|_| true) - threads(is_worker) - threads(is_producer)),
        ("entries_per_s", full.entries / full.seconds),
        ("rss_mib", rss_mib),
        ("answer_ms_p50", half.answer_ms[0]),
        ("answer_ms_p99", half.answer_ms[1]),
        ("answer_ms_p999", half.answer_ms[2]),
    ]);
    target.stall();
    source.ask(&format!("flood {FLOOD_SECONDS}"));
    values.insert("rss_mib_log_away", peak_mib(child.id()));
    values
}
