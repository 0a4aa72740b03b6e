//! What happens in a run, as a list: made from the seed, printed, and made shorter while the run still fails.

use super::plan::{FATE_KINDS, Plan, Protocol};
use weir_sim_kernel::{Rng, fewest_in_pieces};

/// One act at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Act {
    /// When, ms after the start.
    pub(super) at_ms: u64,
    /// What.
    pub(super) kind: ActKind,
}

/// How commits fare during a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitTrouble {
    /// They are refused.
    Refused,
    /// They are taken, and the answer is a fault all the same.
    AnswerLost,
    /// They are taken, and the answer comes so many ms later.
    Late(u64),
}

/// How dead letters fare during a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetterTrouble {
    /// They are refused.
    Refused,
    /// They are written, and the answer is a fault all the same.
    AnswerLost,
    /// They are neither written nor answered until the trouble is over, and then refused.
    Hangs,
    /// They are written so many ms later.
    Slow(u64),
    /// The writer panics, at once or when it is waited for.
    Panics,
}

/// How much members take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowChange {
    /// All.
    Free,
    /// Nothing.
    Paused,
    /// So many records a second of each partition.
    PartitionRate(u32),
    /// So many records a second of all.
    Rate(u32),
    /// Of each key so many records a second; the rest of its records waits.
    KeyQuota(u32),
    /// All but the records of key 0, which are finished without a handler.
    Ignoring,
}

/// Every act there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ActKind {
    /// A record comes to the log.
    Put { record: u64 },
    /// An offset without a record, as compaction and transactions leave.
    Hole { partition: usize },
    /// A member is gone at once, without a word, and starts again later.
    Kill { member: usize, down_ms: u64 },
    /// A member stops in order, and starts again later.
    Stop { member: usize, drain_ms: u64, down_ms: u64 },
    /// A member stands still, also past its session.
    Freeze { member: usize, for_ms: u64 },
    /// A member is put out of the group, and hears of it later.
    Lose { member: usize, heard_ms: u64 },
    /// Partitions are dealt anew.
    Deal,
    /// Nothing comes from the log and commits are not answered.
    Cut { for_ms: u64 },
    /// Commits are in trouble.
    Commits { trouble: CommitTrouble, for_ms: u64 },
    /// Dead letters are in trouble.
    Letters { trouble: LetterTrouble, for_ms: u64 },
    /// Members take more or less.
    Flow { change: FlowChange },
}

/// The script that a plan's seed stands for, in order of time.
pub(super) fn script(plan: &Plan) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut dice = Rng::new(plan.seed, "records");
    let mut at_ms = 0;
    let mut record = 0;
    while record < plan.records {
        // They come in bursts, so that fetches are of any size.
        for _ in 0..dice.between(1, 20).min(plan.records - record) {
            acts.push(Act { at_ms, kind: ActKind::Put { record } });
            record += 1;
            if dice.chance(8) {
                acts.push(Act { at_ms, kind: ActKind::Hole { partition: dice.below(plan.partitions) } });
            }
        }
        at_ms += dice.between(0, plan.span_ms * 20 / plan.records);
    }
    let mut dice = Rng::new(plan.seed, "troubles");
    for _ in 0..plan.troubles {
        acts.push(Act { at_ms: dice.between(0, plan.span_ms), kind: trouble(plan, &mut dice) });
    }
    acts.sort_by_key(|act| act.at_ms);
    acts
}

fn trouble(plan: &Plan, dice: &mut Rng) -> ActKind {
    let member = dice.below(plan.members);
    let for_ms = dice.between(50, 6000);
    match dice.below(17) {
        0 | 1 => ActKind::Kill { member, down_ms: dice.between(1, 5000) },
        2 | 3 => ActKind::Stop { member, drain_ms: dice.between(0, 2000), down_ms: dice.between(1, 5000) },
        4 => ActKind::Freeze { member, for_ms },
        5 | 6 => ActKind::Lose { member, heard_ms: dice.between(0, 2000) },
        7..=9 => ActKind::Deal,
        10 => ActKind::Cut { for_ms },
        11 | 12 => {
            let trouble = match dice.below(3) {
                0 => CommitTrouble::Refused,
                1 => CommitTrouble::AnswerLost,
                _ => CommitTrouble::Late(dice.between(100, 3000)),
            };
            ActKind::Commits { trouble, for_ms }
        }
        13 | 14 => {
            let trouble = match dice.below(5) {
                0 => LetterTrouble::Refused,
                1 => LetterTrouble::AnswerLost,
                2 => LetterTrouble::Hangs,
                3 => LetterTrouble::Panics,
                _ => LetterTrouble::Slow(dice.between(10, 2000)),
            };
            ActKind::Letters { trouble, for_ms }
        }
        _ => {
            let change = match dice.below(7) {
                0 => FlowChange::Paused,
                1 => FlowChange::PartitionRate(dice.between(0, 50) as u32),
                2 => FlowChange::Rate(dice.between(0, 100) as u32),
                // One that is parked at one member, and ignored at the next, is of two minds.
                3 if !plan.parks => FlowChange::Ignoring,
                4 => FlowChange::KeyQuota(dice.between(1, 20) as u32),
                _ => FlowChange::Free,
            };
            ActKind::Flow { change }
        }
    }
}

/// Runs that shrinking may take.
const TRIALS_MAX: usize = 2000;

/// The smallest conditions and script that were found to fail still: acts are left out in ever smaller pieces, then the
/// conditions are made plainer, as long as anything helps.
pub(super) fn shrink(
    mut plan: Plan,
    mut acts: Vec<Act>,
    fails: impl Fn(&Plan, &[Act]) -> bool,
) -> (Plan, Vec<Act>) {
    // A run that stands still takes long.
    let left = std::cell::Cell::new(TRIALS_MAX);
    let fails = |plan: &Plan, acts: &[Act]| {
        left.set(left.get().saturating_sub(1));
        left.get() > 0 && fails(plan, acts)
    };
    loop {
        let before = (plan.clone(), acts.len());
        acts = fewest_in_pieces(acts, |acts| fails(&plan, acts));
        for plainer in plainer(&plan) {
            if plainer != plan && fails(&plainer, &acts) {
                plan = plainer;
                break;
            }
        }
        if before == (plan.clone(), acts.len()) {
            return (plan, acts);
        }
    }
}

/// Conditions that are a little plainer than these, each in one way.
fn plainer(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Plan)| {
        let mut plainer = plan.clone();
        change(&mut plainer);
        all.push(plainer);
    };
    add(&|plan| plan.members = 1);
    add(&|plan| plan.members = (plan.members - 1).max(1));
    add(&|plan| plan.partitions = 1);
    add(&|plan| plan.partitions = (plan.partitions - 1).max(1));
    add(&|plan| plan.shards = 1);
    add(&|plan| plan.keys = 1);
    add(&|plan| plan.batch = None);
    add(&|plan| plan.run_max = 1);
    add(&|plan| plan.protocol = Protocol::Cooperative);
    add(&|plan| plan.window_records = 1024);
    add(&|plan| plan.budget_bytes = 64 << 20);
    add(&|plan| plan.fetch_max = 512);
    add(&|plan| plan.metadata_bytes_max = 4000);
    add(&|plan| plan.answer_ms = 0);
    add(&|plan| plan.drain_max_ms = 1000);
    add(&|plan| plan.commit_every_ms = 1000);
    (0..FATE_KINDS).for_each(|kind| add(&|plan| plan.fates &= !(1 << kind)));
    all
}
