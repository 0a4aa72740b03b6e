//! Random schedules under the judge, and two broken runtimes that prove that the judge sees.

use crate::judge::{Judge, until, verdict};
use proptest::prelude::*;
use std::time::Duration;
use weir_model::Fault;
use weir_runtime::budget::Budget;
use weir_runtime::consumer::{Consumer, NotCommitted, Running};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Body, Place, Record};
use weir_runtime::source::{Commit, Event, LogSource};
use weir_runtime::testing::{CommitFault, MemoryLog, MemorySource};
use weir_runtime::wake::Wake;

/// A source that tells the runtime, or the log, something wrong.
struct Mutant {
    inner: MemorySource,
    /// Adds to every commit: commits past a hole.
    commit_ahead: i64,
    /// Takes the keys away: what belongs to one lane goes to many.
    loses_keys: bool,
}

impl Mutant {
    fn lie(&self, commits: &[Commit]) -> Vec<Commit> {
        commits
            .iter()
            .map(|commit| Commit { offset: commit.offset + self.commit_ahead, ..commit.clone() })
            .collect()
    }
}

impl LogSource for Mutant {
    fn start(&mut self, wake: Wake) -> Result<(), Fault> {
        self.inner.start(wake)
    }
    fn events(&mut self, events: &mut Vec<Event>) {
        self.inner.events(events);
    }
    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>) {
        self.inner.fetch(place, count_max, budget, records);
        if self.loses_keys {
            for record in records {
                record.body = Body::of(None, record.value_bytes(), record.headers().to_vec());
            }
        }
    }
    fn commit(&mut self, commits: &[Commit]) {
        self.inner.commit(&self.lie(commits));
    }
    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault> {
        let commits = self.lie(commits);
        self.inner.commit_and_wait(&commits, wait_max)
    }
    fn release(&mut self, places: &[Place]) {
        self.inner.release(places);
    }
    fn close(&mut self) {
        self.inner.close();
    }
}

/// Stops a consumer: commits that the log refused are in the answer, and nothing else.
async fn stop(running: Running, limit: Duration) {
    if let Err(fault) = running.stop(limit).await {
        assert!(NotCommitted::of(&fault).is_some(), "{fault}");
    }
}

/// What happens to the group while records are handled.
#[derive(Clone, Copy, Debug)]
enum Act {
    Put(u8),
    Hole(u8),
    Move(u8),
    Lose(u8),
    FailCommit,
    Restart,
    Pass(u16),
}

const PARTITIONS: i32 = 3;

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any::<u8>().prop_map(Act::Put),
        1 => any::<u8>().prop_map(Act::Hole),
        1 => any::<u8>().prop_map(Act::Move),
        1 => any::<u8>().prop_map(Act::Lose),
        1 => Just(Act::FailCommit),
        1 => Just(Act::Restart),
        4 => (0u16..1500).prop_map(Act::Pass),
    ]
}

/// Times and outcomes of an attempt follow from the record and the seed alone.
fn handler(
    judge: &Judge,
    seed: u64,
) -> impl Fn(Record) -> std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>> + use<> {
    let judge = judge.clone();
    move |record: Record| {
        // By the value, so that a runtime that loses a key's order cannot hide it.
        let attempt = judge.begin_as(record.text().1.split(' ').next().map(str::as_bytes), &record);
        let mixed = seed ^ (record.offset.unsigned_abs() << 8) ^ u64::from(record.attempt);
        let mixed =
            mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let (time, kind) = (mixed % 40, mixed >> 32 & 15);
        Box::pin(async move {
            if time > 10 {
                tokio::time::sleep(Duration::from_millis(time)).await;
            }
            match kind {
                0 if record.attempt < 4 => Outcome::retry_after(Duration::from_millis(time * 7)),
                1 if record.attempt < 3 => Outcome::failed("by chance"),
                2 if record.attempt < 2 => panic!("by chance"),
                _ => {
                    attempt.done();
                    Outcome::Done
                }
            }
        })
    }
}

/// Runs a schedule; the judge's verdict.
async fn play(acts: &[Act], seed: u64, mutant: Option<(i64, bool)>) -> Vec<String> {
    let log = MemoryLog::with_topic("t", PARTITIONS);
    let judge = Judge::default();
    let start = || {
        let (commit_ahead, loses_keys) = mutant.unwrap_or_default();
        let source = Mutant { inner: log.source("g", &["t"]), commit_ahead, loses_keys };
        let consumer = Consumer::new(source).shards(2).window_records(64).seed(seed);
        consumer.commit_every(Duration::from_millis(50)).start_in_task(handler(&judge, seed)).unwrap()
    };
    let mut running = start();
    let mut put = 0;
    for act in acts {
        match act {
            Act::Put(key) => {
                for _ in 0..=key % 9 {
                    let key = format!("k{}", key % 11);
                    log.put("t", Record::new("t", format!("{key} {put}")).with_key(key));
                    put += 1;
                }
            }
            Act::Hole(partition) => log.put_hole("t", i32::from(*partition) % PARTITIONS),
            Act::Move(partition) | Act::Lose(partition) => {
                let place = Place::new("t", i32::from(*partition) % PARTITIONS);
                let places = std::slice::from_ref(&place);
                if matches!(act, Act::Move(_)) {
                    log.revoke("g", places)
                } else {
                    log.lose("g", places)
                }
                until("it is released", || !log.holds("g", &place)).await;
                log.assign("g", places);
            }
            Act::FailCommit => log.fail_commit(CommitFault::Refused),
            Act::Restart => {
                stop(running, Duration::from_millis(10)).await;
                running = start();
            }
            Act::Pass(ms) => tokio::time::sleep(Duration::from_millis(u64::from(*ms))).await,
        }
        let wrong = verdict(&judge, &log, PARTITIONS);
        if !wrong.is_empty() {
            return wrong;
        }
    }
    if mutant.is_none() {
        until("all are done", || judge.done_count() == put).await;
    }
    stop(running, Duration::from_secs(1)).await;
    verdict(&judge, &log, PARTITIONS)
}

fn played(acts: &[Act], seed: u64, mutant: Option<(i64, bool)>) -> Vec<String> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(play(acts, seed, mutant))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn whatever_happens_to_the_group_nothing_is_lost_and_no_key_is_out_of_order_or_twice_at_once(
        acts in prop::collection::vec(act(), 1..60),
        seed in any::<u64>(),
    ) {
        let wrong = played(&acts, seed, None);
        prop_assert!(wrong.is_empty(), "{wrong:?}");
    }
}

/// A schedule that keeps records pending over several commits.
fn plain() -> Vec<Act> {
    (0..40).flat_map(|number| [Act::Put(number), Act::Pass(20)]).collect()
}

#[test]
fn the_judge_sees_a_commit_past_a_hole() {
    let wrong = played(&plain(), 1, Some((1, false)));
    assert!(wrong.iter().any(|text| text.starts_with("committed and not done")), "{wrong:?}");
}

#[test]
fn the_judge_sees_two_of_a_key_at_once() {
    let wrong = played(&plain(), 1, Some((0, true)));
    assert!(wrong.iter().any(|text| text.starts_with("two at once")), "{wrong:?}");
}

#[test]
fn the_judge_has_nothing_to_say_about_the_same_schedule_without_a_lie() {
    assert_eq!(played(&plain(), 1, None), Vec::<String>::new());
}
