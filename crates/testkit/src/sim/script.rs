//! What goes wrong in a run, as a list: made from the seed, printed, and made shorter while the run still fails.

use super::plan::Plan;
use weir_sim_kernel::Rng;

/// One fault at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When, ms after the start.
    pub at_ms: u64,
    /// What.
    pub kind: FaultKind,
}

/// How the log misbehaves during a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTrouble {
    /// It takes nothing, or takes the first records and refuses the rest.
    Refuses,
    /// The first records of a partition become durable, then it fails.
    Partly,
    /// Everything becomes durable, and it says that it failed.
    AnswerLost,
    /// Nothing moves.
    Held,
    /// Everything takes so many ms longer.
    Slow(u64),
}

/// What a stranger sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbage {
    /// Random bytes.
    Noise,
    /// An HTTP request.
    Http,
    /// A TLS client hello.
    Tls,
    /// A right hello, then random bytes as a frame.
    BadFrame,
    /// A right hello, then a frame of 2 GiB.
    Giant,
    /// A right hello, then half a frame and silence.
    Half,
    /// A right hello, then a call whose cells are cut off.
    ShortCells,
}

const GARBAGE: [Garbage; 7] = [
    Garbage::Noise,
    Garbage::Http,
    Garbage::Tls,
    Garbage::BadFrame,
    Garbage::Giant,
    Garbage::Half,
    Garbage::ShortCells,
];

/// Every fault there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The log is in trouble for a while.
    Log {
        /// How.
        trouble: LogTrouble,
        /// How long, ms.
        for_ms: u64,
    },
    /// The connections of a region server are cut after so many more bytes of calls.
    CutCalls {
        /// Whose.
        server: usize,
        /// After how many bytes.
        bytes: usize,
    },
    /// The connections of a region server are cut after so many more bytes of answers: an answer is lost.
    CutAnswers {
        /// Whose.
        server: usize,
        /// After how many bytes.
        bytes: usize,
    },
    /// Bytes of calls stop on their way, in the middle of a frame.
    Stall {
        /// Whose.
        server: usize,
        /// How many bytes still pass.
        bytes: usize,
        /// How long, ms.
        for_ms: u64,
    },
    /// Answers arrive late, maybe after the source's time-out.
    LateAnswers {
        /// Whose.
        server: usize,
        /// By how much, ms.
        by_ms: u64,
        /// For how long, ms.
        for_ms: u64,
    },
    /// A Weir process is killed, and comes back.
    Kill {
        /// Which.
        process: usize,
        /// How long it is away, ms.
        down_ms: u64,
    },
    /// A Weir process ends in order, and comes back.
    Drain {
        /// Which.
        process: usize,
        /// How long it is away, ms.
        down_ms: u64,
    },
    /// Sources see no sinks: the ZooKeeper session was lost and the children are made again.
    NoSinks {
        /// How long, ms.
        for_ms: u64,
    },
    /// A region server dies: its regions move, its queue is recovered by another.
    Crash {
        /// Which.
        server: usize,
        /// When another one takes the queue up, ms later (`replication.sleep.before.failover`).
        recovered_ms: u64,
    },
    /// A region moves.
    Move {
        /// Which.
        region: usize,
        /// Where to.
        server: usize,
    },
    /// A stranger connects.
    Stranger {
        /// To which process.
        process: usize,
        /// And sends this.
        garbage: Garbage,
    },
}

/// The faults of a seed.
#[must_use]
pub fn script(plan: &Plan) -> Vec<Fault> {
    let mut dice = Rng::new(plan.seed, "script");
    let count = dice.below(9);
    let mut faults: Vec<Fault> = (0..count)
        .map(|_| Fault { at_ms: dice.between(0, plan.span_ms), kind: fault(plan, &mut dice) })
        .collect();
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

fn fault(plan: &Plan, dice: &mut Rng) -> FaultKind {
    let server = dice.below(plan.servers);
    let process = dice.below(plan.processes);
    match dice.below(14) {
        0..=3 => {
            let trouble = match dice.below(5) {
                0 => LogTrouble::Refuses,
                1 => LogTrouble::Partly,
                2 => LogTrouble::AnswerLost,
                3 => LogTrouble::Held,
                _ => LogTrouble::Slow(dice.between(100, 70_000)),
            };
            FaultKind::Log { trouble, for_ms: dice.between(500, 100_000) }
        }
        4 => FaultKind::CutCalls { server, bytes: dice.below(6000) },
        5 => FaultKind::CutAnswers { server, bytes: dice.below(60) },
        6 => FaultKind::Stall { server, bytes: dice.below(3000), for_ms: dice.between(100, 90_000) },
        7 => FaultKind::LateAnswers {
            server,
            by_ms: dice.between(100, 90_000),
            for_ms: dice.between(1000, 30_000),
        },
        8 => FaultKind::Kill { process, down_ms: dice.between(100, 20_000) },
        9 => FaultKind::Drain { process, down_ms: dice.between(100, 20_000) },
        10 => FaultKind::NoSinks { for_ms: dice.between(500, 30_000) },
        11 => FaultKind::Crash { server, recovered_ms: dice.between(500, 30_000) },
        12 => FaultKind::Move { region: dice.below(plan.regions), server },
        _ => FaultKind::Stranger { process, garbage: GARBAGE[dice.below(GARBAGE.len())] },
    }
}
