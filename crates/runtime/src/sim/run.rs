//! One run: the script by the clock, and the checks at rest.

use super::book::{Breach, Counts, Promise};
use super::member::{self, Live};
use super::plan::{Fate, Plan};
use super::script::{Act, ActKind, FlowChange};
use super::world::World;
use crate::ending::NotCommitted;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use weir_sim_kernel::Rng;

/// After the last trouble everything must be done within this time.
const SETTLED_WITHIN: Duration = Duration::from_secs(1800);

/// Something must happen within this time until then: no attempt, no wait and no trouble is that long.
const MOVES_WITHIN: Duration = Duration::from_secs(30);

/// How long health may take to tell, beside a commit time.
const TOLD_WITHIN: Duration = Duration::from_millis(450);

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) breaches: Vec<Breach>,
    pub(super) counts: Counts,
    /// Equal for two runs of the same seed and script.
    pub(super) trace: u64,
    pub(super) simulated: Duration,
}

/// Runs a plan with these acts, on a clock that jumps.
pub(super) fn run(plan: &Plan, acts: &[Act]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without IO needs nothing of the machine");
    runtime.block_on(play(plan, acts))
}

/// The members, by their place in the plan; one that is down is none.
#[derive(Clone)]
struct Site {
    world: World,
    plan: Arc<Plan>,
    slots: Arc<Mutex<Vec<Option<Live>>>>,
}

impl Site {
    fn slots(&self) -> MutexGuard<'_, Vec<Option<Live>>> {
        self.slots.lock().expect("no panic under this lock")
    }

    fn start(&self, slot: usize) {
        let live = member::start(&self.world, &self.plan);
        self.slots()[slot] = Some(live);
    }

    fn start_later(&self, slot: usize, down: Duration) {
        let site = self.clone();
        tokio::spawn(async move {
            sleep(down).await;
            site.start(slot);
        });
    }

    /// Ends a member in order.
    async fn stop(&self, live: Live, drain: Duration) {
        self.world.state().stopping(live.member);
        let breach = |text| self.world.state().book.breach(Promise::Stops, text);
        let member = live.member;
        match timeout(drain + Duration::from_secs(60), live.running.stop(drain)).await {
            Err(_) => breach(format!("member {member} does not stop")),
            // The script refuses the last commit, and the answer says so.
            Ok(Err(fault)) if NotCommitted::of(&fault).is_some() => {}
            Ok(Err(fault)) => breach(format!("member {member} stopped with {}", fault.chain())),
            Ok(Ok(_)) => {
                let used = live.budget.used_bytes();
                if used > 0 {
                    let text = format!("{used} bytes of member {member} are not given back");
                    self.world.state().book.breach(Promise::NothingHeld, text);
                }
            }
        }
    }

    fn act(&self, kind: ActKind) {
        let ms = Duration::from_millis;
        let now = Instant::now();
        let slot_of = |member: usize| member % self.plan.members;
        let member_of = |member: usize| self.slots()[slot_of(member)].as_ref().map(|live| live.member);
        match kind {
            ActKind::Put { record } => self.world.state().put(record),
            ActKind::Hole { partition } => self.world.state().put_hole(partition),
            ActKind::Kill { member, down_ms } => {
                let slot = slot_of(member);
                let live = self.slots()[slot].take();
                if let Some(live) = live {
                    self.world.kill(live.member);
                    drop(live);
                    self.start_later(slot, ms(down_ms));
                }
            }
            ActKind::Stop { member, drain_ms, down_ms } => {
                let slot = slot_of(member);
                let live = self.slots()[slot].take();
                if let Some(live) = live {
                    let site = self.clone();
                    tokio::spawn(async move {
                        site.stop(live, ms(drain_ms)).await;
                        site.start_later(slot, ms(down_ms));
                    });
                }
            }
            ActKind::Freeze { member, for_ms } => {
                if let Some(member) = member_of(member) {
                    self.world.freeze(member, ms(for_ms));
                }
            }
            ActKind::Lose { member, heard_ms } => {
                if let Some(member) = member_of(member) {
                    self.world.lose(member, ms(heard_ms));
                }
            }
            ActKind::Deal => self.world.state().deal(),
            ActKind::Cut { for_ms } => {
                self.world.state().cut_until = Some(now + ms(for_ms));
                self.world.wake_later(ms(for_ms));
            }
            ActKind::Commits { trouble, for_ms } => {
                self.world.state().commits = Some((trouble, now + ms(for_ms)));
            }
            ActKind::Letters { trouble, for_ms } => {
                self.world.state().letters = Some((trouble, now + ms(for_ms)));
            }
            ActKind::Flow { change } => self.flow(change),
        }
    }

    fn flow(&self, change: FlowChange) {
        self.world.state().set_flow(change);
        for live in self.slots().iter().flatten() {
            live.running.flow(member::flow(change)).expect("the flow is right");
        }
    }

    /// Compares what health says with what each partition waits for.
    fn check_health(&self) {
        let told = Duration::from_millis(self.plan.commit_every_ms) + TOLD_WITHIN;
        for live in self.slots().iter().flatten() {
            let health = live.running.health();
            let mut state = self.world.state();
            let member = &state.members[live.member];
            if !member.is_awake_for(told) {
                continue;
            }
            let (mut wrong, mut named) = (Vec::new(), 0);
            for (partition, held) in &member.held {
                let watch = &state.book.watches[held.watch];
                let head = watch.head.filter(|(_, since)| since.elapsed() > told).map(|(head, _)| head);
                let has_waited = state.has_waited(*partition, held, told);
                if watch.is_leaving || (head.is_none() && !has_waited) {
                    continue;
                }
                named += 1;
                let Some(seen) =
                    health.partitions.iter().find(|one| one.place.partition as usize == *partition)
                else {
                    wrong.push(format!("partition {partition} of member {} is not in it", live.member));
                    continue;
                };
                let failed = |head| watch.tracks[&head].failed_at.filter(|at| at.elapsed() > told);
                let is_named = head.is_none_or(|head| {
                    let has_reason = seen.head_attempts_failed > 0 && seen.head_reason.is_some();
                    seen.head == Some(head) && (failed(head).is_none() || has_reason)
                });
                if !is_named || (has_waited && !seen.intake.is_held()) {
                    let waits = if has_waited { "records wait" } else { "no record waits" };
                    wrong.push(format!(
                        "partition {partition} stands at {head:?}, {waits}, and it says {seen:?}"
                    ));
                }
            }
            state.book.counts.heads_named += named;
            wrong.into_iter().for_each(|text| state.book.breach(Promise::Health, text));
        }
    }

    /// Ends all troubles and waits until nothing is left to do.
    async fn settle(&self) {
        {
            let mut state = self.world.state();
            (state.commits, state.letters, state.cut_until) = (None, None, None);
            state.members.iter_mut().for_each(super::world::Member::thaw_now);
            state.wake_all();
        }
        self.flow(FlowChange::Free);
        let started = Instant::now();
        while !self.is_settled() {
            let stands_for = self.world.state().book.moved_at.max(started).elapsed();
            if started.elapsed() > SETTLED_WITHIN || stands_for > MOVES_WITHIN {
                return self.is_stuck();
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The records of a partition that must be undone at the end: those that are parked, and those of their keys.
    fn held_up(&self, undone: &[(i64, u64)]) -> bool {
        let mut keys = std::collections::BTreeSet::new();
        undone.iter().all(|(_, record)| {
            let key = self.plan.key(*record);
            let is_parked = self.plan.parks && matches!(self.plan.fate(*record), Fate::Never | Fate::Poison);
            let is_behind = key.is_some_and(|key| keys.contains(&key));
            if is_parked {
                keys.extend(key);
            }
            is_parked || is_behind
        })
    }

    fn is_settled(&self) -> bool {
        let state = self.world.state();
        let is_up = self.slots().iter().all(Option::is_some);
        let is_done = self.plan.parks || state.book.finished.len() as u64 == state.book.counts.records;
        is_up
            && is_done
            && state.rest().iter().all(|(partition, first, is_committed)| {
                *is_committed && (first.is_none() || self.held_up(&state.undone(*partition)))
            })
    }

    fn is_stuck(&self) {
        let mut state = self.world.state();
        let mut text = Vec::new();
        for (partition, first, is_committed) in state.rest() {
            let undone = state.undone(partition);
            if !self.held_up(&undone) {
                text.push(format!(
                    "partition {partition} goes no further than {first:?}, {}",
                    state.owners(partition)
                ));
            } else if !is_committed {
                text.push(format!("partition {partition} is done up to {first:?} and not committed"));
            }
        }
        for live in self.slots().iter().flatten() {
            text.push(format!("member {}: {:?}", live.member, live.running.health().complaints(TOLD_WITHIN)));
        }
        state.book.breach(Promise::Progress, text.join("; "));
    }

    /// What must be so when all is over.
    fn check_rest(&self) {
        let mut state = self.world.state();
        for (at, record) in state.all() {
            let is_done = state.book.is_done(at);
            let fate = self.plan.fate(record);
            let is_given_up = matches!(fate, Fate::Never | Fate::Poison);
            let letters = state.book.letters.get(&at).copied().unwrap_or_default();
            if is_given_up && !is_done {
                state.book.counts.parked += 1;
            }
            let is_ignored = state.book.ignored.contains(&at);
            let is_right = if is_given_up && !self.plan.parks {
                letters > 0 || is_ignored || !is_done
            } else {
                letters == 0
            };
            if !is_right {
                let text = format!("{letters} letters of the record at {at:?}, whose fate was {fate:?}");
                state.book.breach(Promise::DeadLetters, text);
            }
        }
        for (partition, first, _) in state.rest() {
            let undone = state.undone(partition);
            if !self.held_up(&undone) {
                let text = format!("partition {partition}: {} records from {first:?} on", undone.len());
                state.book.breach(Promise::NothingLost, text);
            }
        }
    }
}

async fn play(plan: &Plan, acts: &[Act]) -> Outcome {
    let started = Instant::now();
    let world = World::new(plan);
    let slots = (0..plan.members).map(|_| None).collect();
    let site = Site { world, plan: Arc::new(plan.clone()), slots: Arc::new(Mutex::new(slots)) };
    let mut dice = Rng::new(plan.seed, "start");
    for slot in 0..plan.members {
        site.start_later(slot, Duration::from_millis(dice.between(0, 50)));
    }
    for act in acts {
        let at = started + Duration::from_millis(act.at_ms);
        if at > Instant::now() {
            sleep_until(at).await;
            site.check_health();
        }
        site.act(act.kind);
    }
    site.settle().await;
    // What is parked stays: there must be somebody who can be asked about it.
    sleep(Duration::from_millis(plan.commit_every_ms) + 2 * TOLD_WITHIN).await;
    site.check_health();
    let live: Vec<Live> = site.slots().iter_mut().filter_map(Option::take).collect();
    for live in live {
        site.stop(live, Duration::from_secs(1)).await;
    }
    site.check_rest();
    let mut state = site.world.state();
    let trace = state.book.trace();
    Outcome {
        breaches: std::mem::take(&mut state.book.breaches),
        counts: state.book.counts,
        trace,
        simulated: started.elapsed(),
    }
}
