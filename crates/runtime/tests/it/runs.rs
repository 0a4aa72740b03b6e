//! Runs: several records of one key in one call, and what happens when one of them fails.

use crate::judge::{fill, until};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::TopicName;
use weir_runtime::batch::{Batching, Full};
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::flow::Flow;
use weir_runtime::handler::Handler;
use weir_runtime::offset_map;
use weir_runtime::outcome::Outcome;
use weir_runtime::quota::{OverQuota, Quota};
use weir_runtime::record::{Place, Record};
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::stats::Counts;
use weir_runtime::testing::MemoryLog;

/// What a handler of batches was given, and what was wrong with it.
#[derive(Default)]
struct Seen {
    /// The values of each key in the order in which they were handled.
    handled: BTreeMap<String, Vec<String>>,
    sizes: Vec<usize>,
    /// The longest run of one key.
    run_longest: usize,
    under_way: BTreeSet<String>,
    wrong: Vec<String>,
}

type Shared = Arc<Mutex<Seen>>;

impl Seen {
    /// A batch begins: its keys.
    fn begin(&mut self, records: &[Record]) -> BTreeSet<String> {
        self.sizes.push(records.len());
        let mut keys = BTreeSet::new();
        for run in
            records.chunk_by(|left, right| left.key() == right.key() && left.partition == right.partition)
        {
            let key = run[0].text().0;
            self.run_longest = self.run_longest.max(run.len());
            if !keys.insert(key.clone()) {
                self.wrong.push(format!("two runs of {key} in one batch"));
            }
            if !self.under_way.insert(key.clone()) {
                self.wrong.push(format!("two batches with {key} at once"));
            }
            if !run.is_sorted_by(|left, right| left.offset < right.offset) {
                self.wrong.push(format!("a run of {key} out of order"));
            }
            self.handled.entry(key).or_default().extend(run.iter().map(|record| record.text().1));
        }
        keys
    }

    fn end(&mut self, keys: &BTreeSet<String>) {
        self.under_way.retain(|key| !keys.contains(key));
    }
}

/// A handler that takes 10 ms a batch; what becomes of each record is said by `of`.
fn handler(
    seen: &Shared,
    full: Full,
    run_max: usize,
    of: impl Fn(&Record) -> Outcome + Send + Sync + Clone + 'static,
) -> impl Handler {
    let seen = Arc::clone(seen);
    let inner = move |records: Vec<Record>| {
        let keys = seen.lock().unwrap().begin(&records);
        let (seen, of) = (Arc::clone(&seen), of.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            seen.lock().unwrap().end(&keys);
            records.iter().map(&of).collect::<Vec<_>>()
        }
    };
    Batching::new(full, inner).runs_of(run_max)
}

fn full(count: usize) -> Full {
    Full { count, bytes: usize::MAX, linger: Duration::from_millis(5) }
}

fn start(log: &MemoryLog, handler: impl Handler) -> Running {
    Consumer::new(log.source("g", &["t"]))
        .retry(RetryPolicy { exhausted: Exhausted::DeadLetter, attempts_max: 3, ..RetryPolicy::default() })
        .dead_letters(DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g"))
        .start_in_task(handler)
        .unwrap()
}

fn log(partitions: i32) -> MemoryLog {
    let log = MemoryLog::with_topic("t", partitions);
    log.create_topic("t-dead", 1);
    log
}

/// Handles `count` records over `key_count` keys.
async fn run(
    count: usize,
    key_count: usize,
    run_max: usize,
    full: Full,
    of: impl Fn(&Record) -> Outcome + Send + Sync + Clone + 'static,
) -> (Arc<Mutex<Seen>>, Counts, MemoryLog) {
    let log = log(2);
    fill(&log, count, key_count);
    let seen = Shared::default();
    let running = start(&log, handler(&seen, full, run_max, of));
    let is_over = || running.counts().done + running.counts().dead_letters == count as u64;
    until("all have come to their end", is_over).await;
    let counts = running.stop(Duration::from_secs(1)).await.unwrap();
    let committed: i64 =
        (0..2).map(|part| log.committed("g", "t", part).map_or(0, |(offset, _)| offset)).sum();
    assert_eq!(committed, count as i64);
    assert_eq!(seen.lock().unwrap().wrong, Vec::<String>::new());
    (seen, counts, log)
}

#[tokio::test(start_paused = true)]
async fn runs_bring_a_keys_waiting_records_in_one_batch_in_order_and_no_more_of_them_than_allowed() {
    let (seen, counts, _) = run(400, 2, 100, full(1000), |_| Outcome::Done).await;
    let seen = seen.lock().unwrap();
    // Two keys of 200 records: a few batches (the first fetch is a small one), where one of each key at a time would
    // take 200.
    assert!(seen.sizes.len() < 6, "{:?}", seen.sizes);
    assert_eq!((seen.run_longest, counts.repeated), (100, 0));
    for (key, values) in &seen.handled {
        let number = key[1..].parse::<usize>().unwrap();
        let expect: Vec<String> = (0..200).map(|index| format!("{key} {}", index * 2 + number)).collect();
        assert_eq!(*values, expect);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_runs_is_full_at_exactly_its_count_and_what_does_not_fit_comes_with_the_next() {
    let (seen, counts, _) = run(300, 1, 100, full(40), |_| Outcome::Done).await;
    let seen = seen.lock().unwrap();
    // The first fetch is a small one.
    assert_eq!(seen.sizes, [16, 40, 40, 40, 40, 40, 40, 40, 4]);
    assert_eq!((seen.handled["k0"].len(), counts.repeated, counts.retried), (300, 0, 0));
}

/// The first failure of a run ends what counts of it: what is behind comes again, so that nothing of a key is done
/// before what is in front of it.
#[tokio::test(start_paused = true)]
async fn what_is_behind_a_record_that_fails_comes_again_after_it_and_is_not_done_before() {
    let fails = |record: &Record| {
        if record.offset == 3 && record.attempt < 3 { Outcome::failed("not now") } else { Outcome::Done }
    };
    let (seen, counts, _) = run(8, 1, 100, full(100), fails).await;
    let handled = seen.lock().unwrap().handled["k0"].clone();
    let numbers: Vec<&str> = handled.iter().map(|value| value.rsplit(' ').next().unwrap()).collect();
    // All eight; the fourth alone, twice; then those behind it.
    assert_eq!(numbers, ["0", "1", "2", "3", "4", "5", "6", "7", "3", "3", "4", "5", "6", "7"]);
    assert_eq!((counts.done, counts.failed, counts.retried, counts.repeated), (8, 2, 2, 4));
}

#[tokio::test(start_paused = true)]
async fn nothing_behind_a_failed_record_is_committed_even_if_the_handler_called_it_done() {
    let log = log(1);
    fill(&log, 8, 1);
    let seen = Shared::default();
    let of = |record: &Record| {
        if record.offset == 3 { Outcome::retry_after(Duration::from_secs(60)) } else { Outcome::Done }
    };
    let running = start(&log, handler(&seen, full(100), 100, of));
    until("the rest of the run waits", || running.counts().repeated == 4).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    // The metadata of the commit names nothing past it.
    let (offset, metadata) = log.committed("g", "t", 0).unwrap();
    let beyond = offset_map::decode(offset, &metadata).unwrap();
    assert_eq!((offset, beyond, running.counts().done), (3, Vec::new(), 3));
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_of_a_run_is_durable_before_what_is_behind_it_is_done() {
    let of = |record: &Record| match record.offset {
        2 => Outcome::dead_letter("never"),
        5 => Outcome::failed("never"),
        _ => Outcome::Done,
    };
    let (_, counts, log) = run(8, 1, 100, full(100), of).await;
    assert_eq!((counts.done, counts.dead_letters), (6, 2));
    let letters: Vec<String> = log.records("t-dead").iter().map(|letter| letter.text().1).collect();
    assert_eq!(letters, ["k0 2", "k0 5"]);
    // Those behind the first come again, and those behind the second; their attempts are not used up by that.
    assert_eq!(counts.repeated, 5 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_panics_fails_the_first_of_each_run_and_the_others_wait_behind_it() {
    let panics = |record: &Record| {
        assert!(record.offset != 0 || record.attempt > 1, "by chance");
        Outcome::Done
    };
    let (_, counts, _) = run(10, 1, 100, full(100), panics).await;
    assert_eq!((counts.done, counts.failed, counts.retried), (10, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_done_of_a_run_counts_when_its_partition_goes_away_meanwhile() {
    let log = log(1);
    fill(&log, 10, 1);
    let seen = Shared::default();
    let of = |record: &Record| if record.offset == 6 { Outcome::failed("not now") } else { Outcome::Done };
    let running = start(&log, handler(&seen, full(10), 100, of));
    until("the batch is under way", || !seen.lock().unwrap().sizes.is_empty()).await;
    let place = Place::new("t", 0);
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    assert_eq!((log.committed("g", "t", 0).unwrap().0, running.counts().failed), (6, 0));
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_is_no_longer_than_its_keys_quota() {
    let log = log(1);
    fill(&log, 60, 1);
    let seen = Shared::default();
    let quota = Quota { burst: Duration::from_secs(1), ..Quota::new(10, OverQuota::SlowDown) };
    let flow = Flow { key_quota: Some(quota), ..Flow::default() };
    let running = Consumer::new(log.source("g", &["t"]))
        .flow(flow)
        .start_in_task(handler(&seen, full(100), 100, |_| Outcome::Done))
        .unwrap();
    let began = Instant::now();
    until("all are done", || running.counts().done == 60).await;
    let took = began.elapsed().as_millis();
    assert!((4_900..5_100).contains(&took), "{took} ms for 10 at once and 50 at 10 a second");
    assert_eq!(seen.lock().unwrap().sizes[0], 10);
    running.stop(Duration::ZERO).await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn whatever_fails_in_runs_each_key_is_done_in_order_and_nothing_is_lost(
        seed in any::<u64>(),
        key_count in 1usize..12,
        run_max in 2usize..30,
        count in 1usize..40,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let of = move |record: &Record| {
            let mixed = seed ^ (record.offset.unsigned_abs() << 8) ^ u64::from(record.attempt);
            let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            match mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 60 {
                0 => Outcome::failed("by chance"),
                1 => Outcome::retry_after(Duration::from_millis(7)),
                2 => Outcome::dead_letter("by chance"),
                _ => Outcome::Done,
            }
        };
        let (seen, ..) = runtime.block_on(run(200, key_count, run_max, full(count), of));
        // The last time that each record was handled is in order: what counts of it was decided then.
        for (key, values) in &seen.lock().unwrap().handled {
            let numbers: Vec<usize> =
                values.iter().map(|value| value.rsplit(' ').next().unwrap().parse().unwrap()).collect();
            let last = |number: usize| numbers.iter().rposition(|one| *one == number).unwrap();
            let all: BTreeSet<usize> = numbers.iter().copied().collect();
            let places: Vec<usize> = all.iter().map(|number| last(*number)).collect();
            prop_assert!(places.is_sorted(), "{key}: {numbers:?}");
        }
    }
}
