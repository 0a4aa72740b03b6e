//! What is measured: systems, cells, and the topics that they read.

use crate::lap::Handler;
use std::time::Duration;

/// What is measured. Each run of one is a process of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Weir,
    ParallelConsumer,
    JavaConsumer,
    RdkafkaBatch,
    RdkafkaStream,
    Ruststream,
}

impl System {
    pub(crate) const ALL: [Self; 6] = [
        Self::Weir,
        Self::RdkafkaBatch,
        Self::RdkafkaStream,
        Self::Ruststream,
        Self::JavaConsumer,
        Self::ParallelConsumer,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::ParallelConsumer => "parallel-consumer",
            Self::JavaConsumer => "java-consumer",
            Self::RdkafkaBatch => "rdkafka-batch",
            Self::RdkafkaStream => "rdkafka-stream",
            Self::Ruststream => "ruststream",
        }
    }

    pub(crate) const fn is_java(self) -> bool {
        matches!(self, Self::ParallelConsumer | Self::JavaConsumer)
    }

    /// One record after the other: a handler that sleeps would measure the sleep.
    const fn is_loop(self) -> bool {
        matches!(self, Self::JavaConsumer | Self::RdkafkaBatch | Self::RdkafkaStream)
    }

    /// Whether it can do this, and it says something.
    pub(crate) fn can(self, handler: Handler) -> bool {
        let is_idle = matches!(handler, Handler::Count);
        match handler {
            _ if self == Self::Weir => true,
            _ if self.is_loop() => is_idle,
            Handler::Count | Handler::Sleep { .. } => true,
            Handler::Spin { .. } => self == Self::ParallelConsumer,
            Handler::Json { .. } | Handler::FailSome => false,
        }
    }
}

/// How many keys there are, and how often each comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Null,
    Even(u64),
    /// The n-th of a million keys comes 1/n as often as the first.
    Zipf,
}

/// A topic with its records, written before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    pub(crate) value: Value,
    pub(crate) keys: Keys,
    /// All records in partition 0.
    pub(crate) is_one_busy: bool,
}

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(usize),
    /// A task of Decaton's benchmark: `{"producedTime":...,"processLatency":...}`.
    Task,
}

const fn topic(name: &'static str, records: u64, value: Value, keys: Keys) -> Topic {
    Topic { name, partitions: 3, records, value, keys, is_one_busy: false }
}

const SMALL: Topic = topic("b100", 2_000_000, Value::Bytes(100), Keys::Even(10_000));
const LARGE: Topic = topic("b1024", 1_000_000, Value::Bytes(1024), Keys::Even(10_000));
const TASKS: Topic = topic("tasks", 1_000_000, Value::Task, Keys::Null);
const EIGHT: Topic = Topic { partitions: 8, records: 200_000, name: "eight", ..SMALL };
const MANY: Topic = Topic { partitions: 500, records: 1_000_000, name: "many", is_one_busy: true, ..SMALL };

const fn keyed(name: &'static str, keys: Keys) -> Topic {
    topic(name, 2_000_000, Value::Bytes(100), keys)
}

/// How a cell is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Records that are there already, as fast as it goes. `records` 0: all of the topic.
    Drain {
        topic: Topic,
        handler: Handler,
        records: u64,
    },
    /// A rate that does not follow the consumer, at this share of its capacity.
    Paced {
        share: f64,
    },
    HotKey,
    Rebalance,
    Kill {
        keeps_map: bool,
    },
    Stuck,
    Window,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

const fn sleep(times: u32, each: Duration) -> Handler {
    Handler::Sleep { times, each }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn drain(name: &'static str, topic: Topic, handler: Handler) -> Cell {
    Cell { name, kind: Kind::Drain { topic, handler, records: 0 } }
}

const fn json(name: &'static str, records: u64, times: u32, each: Duration) -> Cell {
    Cell { name, kind: Kind::Drain { topic: TASKS, handler: Handler::Json { times, each }, records } }
}

const fn spin(name: &'static str, us: u64) -> Cell {
    drain(name, SMALL, Handler::Spin { each: Duration::from_micros(us) })
}

const fn kind(name: &'static str, kind: Kind) -> Cell {
    Cell { name, kind }
}

/// How many of them are the side-by-side cells.
pub(crate) const SIDE_BY_SIDE: usize = 5;

/// The side-by-side cells, then those of the study by their letters.
pub(crate) const CELLS: [Cell; 42] = [
    drain("100B-0ms", SMALL, Handler::Count),
    drain("100B-1ms", SMALL, sleep(1, ms(1))),
    drain("100B-10ms", SMALL, sleep(1, ms(10))),
    drain("1KiB-0ms", LARGE, Handler::Count),
    drain("1KiB-10ms", LARGE, sleep(1, ms(10))),
    // Decaton's dashboard. A1 and A2 differ in Decaton's threads only, so they are one here.
    json("A1-A2", 1_000_000, 0, ms(0)),
    json("A3", 100_000, 1, ms(10)),
    json("A4", 100_000, 5, ms(4)),
    // Decaton's documentation: five sleeps that come to this together.
    drain("B-0ms", SMALL, Handler::Count),
    drain("B-10ms", SMALL, sleep(5, ms(2))),
    drain("B-30ms", SMALL, sleep(5, ms(6))),
    drain("B-50ms", SMALL, sleep(5, ms(10))),
    drain("B-100ms", SMALL, sleep(5, ms(20))),
    drain("B-150ms", SMALL, sleep(5, ms(30))),
    drain("B-200ms", SMALL, sleep(5, ms(40))),
    // kpipe's: 25,000 records in each of 8 partitions.
    drain("C-0ms", EIGHT, Handler::Count),
    drain("C-100us", EIGHT, sleep(1, Duration::from_micros(100))),
    drain("C-1ms", EIGHT, sleep(1, ms(1))),
    drain("C-10ms", EIGHT, sleep(1, ms(10))),
    drain("C-35ms", EIGHT, sleep(1, ms(35))),
    drain("C-50ms", EIGHT, sleep(1, ms(50))),
    drain("C-100ms", EIGHT, sleep(1, ms(100))),
    // Keys; 10 ms.
    drain("D-null", keyed("null-keys", Keys::Null), sleep(1, ms(10))),
    drain("D-1", keyed("keys-1", Keys::Even(1)), sleep(1, ms(10))),
    drain("D-10", keyed("keys-10", Keys::Even(10)), sleep(1, ms(10))),
    drain("D-100", keyed("keys-100", Keys::Even(100)), sleep(1, ms(10))),
    drain("D-10k", SMALL, sleep(1, ms(10))),
    drain("D-1M", keyed("keys-1m", Keys::Even(1_000_000)), sleep(1, ms(10))),
    drain("D-zipf", keyed("keys-zipf", Keys::Zipf), sleep(1, ms(10))),
    // Computing.
    spin("E-1us", 1),
    spin("E-10us", 10),
    spin("E-100us", 100),
    kind("F-50", Kind::Paced { share: 0.5 }),
    kind("F-80", Kind::Paced { share: 0.8 }),
    kind("G", Kind::HotKey),
    kind("H", Kind::Rebalance),
    kind("I", Kind::Kill { keeps_map: true }),
    kind("I-no-map", Kind::Kill { keeps_map: false }),
    kind("J", Kind::Stuck),
    drain("K", SMALL, Handler::FailSome),
    drain("L", MANY, Handler::Count),
    kind("M", Kind::Window),
];

impl Handler {
    /// The word that says it to a child.
    pub(crate) fn word(self) -> String {
        match self {
            Self::Count => "count".to_owned(),
            Self::Sleep { times, each } => format!("sleep:{times}:{}", each.as_micros()),
            Self::Json { times, each } => format!("json:{times}:{}", each.as_micros()),
            Self::Spin { each } => format!("spin:1:{}", each.as_micros()),
            Self::FailSome => "fail-some".to_owned(),
        }
    }
}

/// What the command line asks for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<Cell>,
    /// None: all for the side-by-side cells, Weir alone for the others.
    pub(crate) systems: Option<Vec<System>>,
    pub(crate) runs: usize,
    pub(crate) is_quick: bool,
    /// How long the record of cell J is stuck.
    pub(crate) stuck: Duration,
}

impl Plan {
    /// The systems of a cell.
    pub(crate) fn systems(&self, cell: &Cell) -> Vec<System> {
        let is_side_by_side = CELLS[..SIDE_BY_SIDE].iter().any(|one| one.name == cell.name);
        let wanted = match &self.systems {
            Some(systems) => systems.clone(),
            None if is_side_by_side => System::ALL.to_vec(),
            None => vec![System::Weir],
        };
        wanted.into_iter().filter(|system| cell.can(*system)).collect()
    }

    /// Records of a topic: a tenth when it is only to be seen that all of it works.
    pub(crate) const fn records(&self, records: u64) -> u64 {
        if self.is_quick { records / 10 } else { records }
    }
}

impl Cell {
    fn can(&self, system: System) -> bool {
        match self.kind {
            Kind::Drain { handler, .. } => system.can(handler),
            Kind::Paced { .. }
            | Kind::HotKey
            | Kind::Rebalance
            | Kind::Kill { .. }
            | Kind::Stuck
            | Kind::Window => system == System::Weir,
        }
    }
}
