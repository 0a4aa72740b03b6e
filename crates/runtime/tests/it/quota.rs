//! Keys that burst: slowed down, shaped or set aside, and nobody else is hurt.

use crate::judge::{Judge, fill, until, verdict};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{FaultKind, TopicName};
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::flow::Flow;
use weir_runtime::quota::{OverQuota, Quota};
use weir_runtime::record::{Place, Record};
use weir_runtime::retry::RetryPolicy;
use weir_runtime::retry_topic::RetryTopic;
use weir_runtime::shaping::{self, Shaping};
use weir_runtime::testing::{AppendFault, MemoryLog};

/// When each record of each key was handled.
type Times = Arc<Mutex<BTreeMap<String, Vec<Duration>>>>;

fn flow(rate: u32, burst: Duration, action: OverQuota) -> Flow {
    Flow { key_quota: Some(Quota { burst, ..Quota::new(rate, action) }), ..Flow::default() }
}

fn log() -> MemoryLog {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-shaping", 2);
    log.create_topic("t-dead", 1);
    log
}

/// A consumer whose handler takes 10 ms.
fn start(log: &MemoryLog, judge: &Judge, times: &Times, flow: Flow) -> Running {
    let (judge, times, began) = (judge.clone(), Arc::clone(times), Instant::now());
    Consumer::new(log.source("g", &["t"]))
        .shards(2)
        .shaping(Shaping::new(Arc::new(log.clone())))
        .dead_letters(DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g"))
        .flow(flow)
        .start_in_task(move |record: Record| {
            let attempt = judge.begin(&record);
            times.lock().unwrap().entry(record.text().0).or_default().push(began.elapsed());
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                attempt.done();
            }
        })
        .unwrap()
}

fn put(log: &MemoryLog, key: &str, count: usize) {
    for number in 0..count {
        log.put("t", Record::new("t", format!("{key} {number}")).with_key(key.to_owned()));
    }
}

/// So many records are fetched before their size is known; the next come together.
const FIRST: usize = 16;

/// Records without a key, which have no quota, are handled first.
async fn calm(log: &MemoryLog, judge: &Judge) {
    for _ in 0..FIRST {
        log.put("t", Record::new("t", "calm"));
    }
    until("the first are done", || judge.done_count() == FIRST).await;
}

fn committed(log: &MemoryLog) -> i64 {
    log.committed("g", "t", 0).map_or(0, |(offset, _)| offset)
}

/// The values of a topic's records, by key.
fn values(log: &MemoryLog, topic: &str) -> BTreeMap<String, Vec<String>> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for record in log.records(topic) {
        let (key, value) = record.text();
        values.entry(key).or_default().push(value);
    }
    values
}

#[tokio::test(start_paused = true)]
async fn a_slowed_key_gets_its_rate_in_order_while_other_keys_flow() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    put(&log, "burst", 300);
    fill(&log, 100, 20);
    let running = start(&log, &judge, &times, flow(20, Duration::from_secs(1), OverQuota::SlowDown));
    until("the others are done", || judge.done_count() >= 100 + 20).await;
    let others = times.lock().unwrap().iter().map(|(key, at)| (key.clone(), at.clone())).collect::<Vec<_>>();
    // Five of each key: fifty milliseconds, whatever the burst before them.
    for (key, at) in others.iter().filter(|(key, _)| key != "burst") {
        assert!(at.len() == 5 && at[4] < Duration::from_millis(60), "{key}: {at:?}");
    }
    until("all are done", || judge.done_count() == 400).await;
    let burst = times.lock().unwrap()["burst"].clone();
    // A second's worth as fast as the handler is, while that pays a part of itself; then twenty a second.
    let took = burst[299].as_millis();
    assert!((13_900..=14_010).contains(&took), "{took} ms for 300, where 20 + 20 a second may pass");
    assert_eq!(running.stop(Duration::ZERO).await.unwrap().slowed, 300 - 20 - 4);
    assert_eq!(verdict(&judge, &log, 1), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_shaped_record_is_whole_in_the_shaping_topic_in_its_keys_order_and_done_when_that_is_durable() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    put(&log, "burst", 2000);
    fill(&log, 10, 10);
    let running = start(&log, &judge, &times, flow(5, Duration::from_secs(2), OverQuota::Shape));
    until("all are committed", || committed(&log) == 2010).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.shaped, counts.done, counts.shaping_failed), (1990, 20, 0));
    let expect: Vec<String> = (10..2000).map(|number| format!("burst {number}")).collect();
    assert_eq!(values(&log, "t-shaping"), BTreeMap::from([("burst".to_owned(), expect)]));
    let shaped = log.records("t-shaping");
    assert_eq!(shaped[0].header(shaping::PLACE), Some(&b"t/0/10"[..]));
    // The key's lane is free for the handler at once: ten took a hundred milliseconds.
    assert!(times.lock().unwrap()["burst"][9] < Duration::from_millis(110));
}

/// Decaton completes, and so loses, a record whose way to the shaping topic fails.
#[tokio::test(start_paused = true)]
async fn a_shaped_record_that_is_not_written_stays_pending_is_written_again_and_is_not_lost() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    for _ in 0..3 {
        log.fail_append(AppendFault::Refused(FaultKind::Transient));
        log.fail_append(AppendFault::Refused(FaultKind::Denied));
    }
    log.fail_append(AppendFault::AnswerLost);
    let running = start(&log, &judge, &times, flow(10, Duration::from_secs(1), OverQuota::Shape));
    calm(&log, &judge).await;
    put(&log, "burst", 100);
    until("the first ten are done", || judge.done_count() == FIRST + 10).await;
    until("it has failed twice", || running.counts().shaping_failed >= 180).await;
    until("that is seen", || running.health().partitions.iter().any(|one| one.head == Some(26))).await;
    let health = running.health().partitions[0].clone();
    assert_eq!((health.failing, committed(&log)), (90, 26));
    let reason = health.head_reason.unwrap();
    assert!(reason.contains("over its key's quota and not written aside yet"), "{reason}");
    until("all are committed", || committed(&log) == 116).await;
    until("the trouble is over", || running.health().partitions[0].failing == 0).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.shaped, counts.shaping_failed), (90, 7 * 90));
    let written: BTreeSet<String> = values(&log, "t-shaping").remove("burst").unwrap().into_iter().collect();
    assert_eq!(written, (10..100).map(|number| format!("burst {number}")).collect());
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_away_waits_for_what_is_being_written_and_leaves_the_rest_to_the_next_owner() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    put(&log, "burst", 1200);
    log.fail_append(AppendFault::Hangs);
    let running = start(&log, &judge, &times, flow(1, Duration::ZERO, OverQuota::Shape));
    until("the first is done", || judge.done_count() == 1).await;
    let place = Place::new("t", 0);
    let began = Instant::now();
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    let took = began.elapsed();
    assert!((1000..1020).contains(&took.as_millis()), "{took:?}: the drain limit is a second");
    assert_eq!((committed(&log), running.counts().cancelled, log.records("t-shaping").len()), (1, 1, 0));
    log.assign("g", &[place]);
    until("all are committed", || committed(&log) == 1200).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.done, counts.shaped), (2, 1198));
}

#[tokio::test(start_paused = true)]
async fn a_record_over_its_quota_is_a_dead_letter_and_its_key_does_not_wait_for_it() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    log.fail_append(AppendFault::Refused(FaultKind::Transient));
    let running = start(&log, &judge, &times, flow(10, Duration::from_secs(1), OverQuota::DeadLetter));
    calm(&log, &judge).await;
    put(&log, "burst", 30);
    until("all are committed", || committed(&log) == 46).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.dead_letters, counts.dead_letters_failed, counts.done), (20, 20, 26));
    let letters = log.records("t-dead");
    assert_eq!((letters.len(), letters[0].header(dead_letter::PLACE)), (20, Some(&b"t/0/26"[..])));
    let cause = letters[19].header(dead_letter::CAUSE).unwrap();
    assert_eq!(cause, b"its key is over its quota of 10 records a second");
}

#[tokio::test(start_paused = true)]
async fn records_without_a_key_and_records_of_a_shaping_topic_have_no_quota() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    for action in [OverQuota::SlowDown, OverQuota::Shape, OverQuota::DeadLetter] {
        let before = judge.done_count();
        (0..500).for_each(|_| {
            log.put("t", Record::new("t", "no key"));
        });
        let running = start(&log, &judge, &times, flow(1, Duration::ZERO, action));
        until("all are done", || judge.done_count() == before + 500).await;
        let counts = running.stop(Duration::from_secs(1)).await.unwrap();
        assert_eq!((counts.slowed, counts.shaped, counts.dead_letters), (0, 0, 0));
    }
    let log = MemoryLog::with_topic("t-shaping", 1);
    (0..500).for_each(|_| {
        log.put("t-shaping", Record::new("", "again").with_key("burst"));
    });
    let running = Consumer::new(log.source("g", &["t-shaping"]))
        .shaping(Shaping::new(Arc::new(log.clone())))
        .flow(flow(1, Duration::ZERO, OverQuota::Shape))
        .start_in_task(|_: Record| async {})
        .unwrap();
    until("all are done", || running.counts().done == 500).await;
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_quota_that_changes_holds_at_once_also_for_what_waits() {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    put(&log, "burst", 400);
    let running = start(&log, &judge, &times, flow(1, Duration::ZERO, OverQuota::SlowDown));
    until("it goes one a second", || judge.done_count() == 10).await;
    running.flow(flow(1000, Duration::ZERO, OverQuota::SlowDown)).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = judge.done_count();
    assert!((105..=111).contains(&after), "{after}: the handler takes 10 ms");
    running.flow(flow(1, Duration::ZERO, OverQuota::Shape)).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(running.counts().shaped, 0, "what was taken before is handled here");
    put(&log, "burst", 100);
    until("what comes now is shaped", || running.counts().shaped == 99).await;
    running.flow(Flow::default()).unwrap();
    put(&log, "burst", 100);
    until("all are done", || judge.done_count() == 400 + 1 + 100).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(judge.wrong(), Vec::<String>::new());
}

/// Further attempts at a record are not further records of its key.
#[tokio::test(start_paused = true)]
async fn retries_do_not_count_to_the_quota() {
    let log = log();
    put(&log, "a", 10);
    let running = Consumer::new(log.source("g", &["t"]))
        .shaping(Shaping::new(Arc::new(log.clone())))
        .flow(flow(10, Duration::from_secs(1), OverQuota::Shape))
        .start_in_task(
            |record: Record| async move { if record.attempt < 5 { Err("not now") } else { Ok(()) } },
        )
        .unwrap();
    until("all are done", || running.counts().done == 10).await;
    assert_eq!(running.stop(Duration::ZERO).await.unwrap().shaped, 0);
}

/// Decaton has it so, too: what is in the retry topic was counted before it failed.
#[tokio::test(start_paused = true)]
async fn retries_through_a_topic_do_not_count_either_and_are_not_shaped() {
    for action in [OverQuota::SlowDown, OverQuota::Shape] {
        let log = log();
        log.create_topic("t-retry", 1);
        put(&log, "a", 50);
        let running = Consumer::new(log.source("g", &["t", "t-retry"]))
            .retry(RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default() })
            .retry_topic(RetryTopic::new(Arc::new(log.clone())))
            .shaping(Shaping::new(Arc::new(log.clone())))
            .flow(flow(50, Duration::from_secs(1), action))
            .start_in_task(|record: Record| async move {
                if record.attempt < 5 { Err("not now") } else { Ok(()) }
            })
            .unwrap();
        let began = Instant::now();
        until("all are done", || running.counts().done == 50).await;
        // Two hundred further attempts would take four seconds.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let counts = running.stop(Duration::ZERO).await.unwrap();
        assert_eq!((counts.shaped, counts.slowed), (0, 0));
    }
}

/// Steady keys beside a key that bursts, by a seed. What was handled of each, and when.
async fn traffic(seed: u64, rate: u32, action: OverQuota) -> (BTreeMap<String, Vec<Duration>>, Vec<String>) {
    let (log, judge, times) = (log(), Judge::default(), Times::default());
    let running = start(&log, &judge, &times, flow(rate, Duration::from_millis(500), action));
    let mut put_count = 0;
    let mut chance = seed;
    // Five seconds: every steady key at half its quota, the other one far over its own in the first of them.
    let step = Duration::from_secs(2) / rate;
    for number in 0..5 * rate / 2 {
        chance = chance.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        for key in 0..5 {
            put(&log, &format!("steady-{key}"), 1);
            put_count += 1;
        }
        let count = (chance >> 33) as usize % (4 * rate as usize);
        if number < rate / 2 {
            put(&log, "burst", count);
            put_count += count;
        }
        tokio::time::sleep(step).await;
    }
    let is_over = || {
        let counts = running.counts();
        (counts.done + counts.shaped + counts.dead_letters) as usize == put_count
    };
    until("all have gone some way", is_over).await;
    running.stop(Duration::ZERO).await.unwrap();
    let wrong = verdict(&judge, &log, 1);
    let wrong =
        wrong.into_iter().filter(|text| action == OverQuota::SlowDown || !text.starts_with("committed"));
    let times = times.lock().unwrap().clone();
    (times, wrong.collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]
    #[test]
    fn a_bursting_key_has_no_more_than_its_quota_and_does_not_slow_the_others(
        seed in any::<u64>(),
        rate in 4u32..20,
        action in prop_oneof![Just(OverQuota::SlowDown), Just(OverQuota::Shape), Just(OverQuota::DeadLetter)],
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let (times, wrong) = runtime.block_on(traffic(seed, rate, action));
        prop_assert!(wrong.is_empty(), "{wrong:?}");
        let step = Duration::from_secs(2) / rate;
        for (key, at) in &times {
            if key != "burst" {
                prop_assert_eq!(at.len() as u32, 5 * rate / 2, "a steady key has all that it has");
                for (number, at) in at.iter().enumerate() {
                    // The clock of tests goes by whole milliseconds, once a step.
                    let put_by = (step + Duration::from_millis(1)) * number as u32 + Duration::from_millis(15);
                    prop_assert!(*at <= put_by, "{key}: number {number} at {at:?}, after {put_by:?}");
                }
            }
            // The handler is given to it ten milliseconds apart: any stretch that is longer must be within the quota.
            let burst = (f64::from(rate) * 0.5).max(1.0);
            for first in 0..at.len() {
                for last in first..at.len() {
                    let span = (at[last] - at[first]).as_secs_f64() + 0.011;
                    let may = f64::from(rate) * span + burst + 1e-6;
                    prop_assert!((last - first + 1) as f64 <= may.max(1.0) , "{key}: {} in {span} s", last - first + 1);
                }
            }
        }
    }
}
