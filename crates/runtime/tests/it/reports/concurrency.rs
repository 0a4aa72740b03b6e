//! The limit of attempts under way: by default it does not flood a connection pool, and it costs no order, no retry and
//! no shard.

use crate::judge::{Judge, fill, until, verdict};
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use weir_model::TopicName;
use weir_runtime::app::{App, Deciding, Output, ToLog};
use weir_runtime::batch::{Batching, Full};
use weir_runtime::blocking::Blocking;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::handler::Handler;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::retry::RetryPolicy;
use weir_runtime::testing::{AppendFault, MemoryLog};

/// How many attempts are under way, and the most there were.
#[derive(Clone, Default)]
struct UnderWay(Arc<Mutex<(usize, usize)>>);

struct One(UnderWay);

impl UnderWay {
    fn begin(&self) -> One {
        let mut counts = self.0.lock().unwrap();
        counts.0 += 1;
        counts.1 = counts.1.max(counts.0);
        One(self.clone())
    }

    fn most(&self) -> usize {
        self.0.lock().unwrap().1
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().0 -= 1;
    }
}

fn consumer(log: &MemoryLog) -> Consumer {
    Consumer::new(log.source("g", &["t"]))
}

/// Takes 10 ms a record, and fails each tenth one twice.
fn handler(judge: &Judge, under_way: &UnderWay) -> impl Handler + use<> {
    let (judge, under_way) = (judge.clone(), under_way.clone());
    move |record: Record| {
        let (attempt, one) = (judge.begin(&record), under_way.begin());
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(one);
            if record.offset % 10 == 0 && record.attempt < 3 {
                return Outcome::retry_after(Duration::from_millis(7));
            }
            attempt.done();
            Outcome::Done
        }
    }
}

async fn all_done(running: Running, judge: &Judge, log: &MemoryLog, count: usize) {
    until("all are done", || judge.done_count() == count).await;
    let counts = running.stop(Duration::from_secs(1)).await.unwrap();
    assert_eq!((counts.done, counts.cancelled), (count as u64, 0));
    assert_eq!(verdict(judge, log, 2), Vec::<String>::new());
}

/// Reported with two partitions and the default settings: up to 32,768 handlers were under way at once.
#[tokio::test(start_paused = true)]
async fn by_default_no_more_than_64_attempts_are_under_way_and_all_of_them_are_used() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 5000, 5000);
    let (judge, under_way) = (Judge::default(), UnderWay::default());
    let running = consumer(&log).start_in_task(handler(&judge, &under_way)).unwrap();
    all_done(running, &judge, &log, 5000).await;
    assert_eq!(under_way.most(), 64);
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_over_all_shards_and_keeps_the_order_of_each_key_with_retries() {
    for concurrency in [1, 2, 3, 10] {
        let log = MemoryLog::with_topic("t", 2);
        fill(&log, 400, 30);
        let (judge, under_way) = (Judge::default(), UnderWay::default());
        let consumer = consumer(&log).shards(4).concurrency(concurrency);
        let running = consumer.start_in_task(handler(&judge, &under_way)).unwrap();
        all_done(running, &judge, &log, 400).await;
        assert_eq!(under_way.most(), concurrency);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_with_endless_work_leaves_the_others_their_part_of_the_limit() {
    let log = MemoryLog::with_topic("t", 1);
    // Without a key a record belongs to any shard: both have work until the end.
    (0..400).for_each(|_| {
        log.put("t", Record::new("t", "v"));
    });
    let times: Arc<Mutex<Vec<(i64, Duration)>>> = Arc::default();
    let began = Instant::now();
    let running = consumer(&log)
        .shards(2)
        .concurrency(1)
        .start_in_task({
            let times = Arc::clone(&times);
            move |record: Record| {
                let times = Arc::clone(&times);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    times.lock().unwrap().push((record.offset, began.elapsed()));
                }
            }
        })
        .unwrap();
    until("all are done", || times.lock().unwrap().len() == 400).await;
    running.stop(Duration::ZERO).await.unwrap();
    // Were one shard served first, a low offset of the other one would come after half of all.
    let times = times.lock().unwrap();
    let late = times.iter().position(|(offset, _)| *offset < 20 && times[0].0 != *offset);
    let last_low = times.iter().rposition(|(offset, _)| *offset < 20).unwrap();
    assert!(late.is_some() && last_low < 80, "one of the first 20 was number {last_low}");
    assert!(times[399].1 < Duration::from_millis(400 * 10 + 500), "{:?}", times[399].1);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_end_at_once_wait_between_retries_or_write_dead_letters_need_no_permit() {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-dead", 1);
    fill(&log, 300, 300);
    for _ in 0..2 {
        log.fail_append(AppendFault::Hangs);
    }
    let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g");
    let running = consumer(&log)
        .concurrency(1)
        .dead_letters(letters)
        .start_in_task(|record: Record| async move {
            match record.offset {
                // Their dead letters are never answered.
                0 | 1 => Outcome::dead_letter("poison"),
                // They wait for an hour.
                2..50 => Outcome::retry_after(Duration::from_secs(3600)),
                _ => Outcome::Done,
            }
        })
        .unwrap();
    until("the others are done", || running.counts().done == 250).await;
    assert_eq!(running.counts().retried, 48);
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_away_takes_what_waits_for_a_permit_with_it_and_gives_its_permits_back() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 200, 200);
    let hung: Arc<Mutex<BTreeSet<i32>>> = Arc::default();
    let running = consumer(&log)
        .shards(2)
        .concurrency(2)
        .drain_max(Duration::from_millis(100))
        .start_in_task({
            let hung = Arc::clone(&hung);
            move |record: Record| {
                let hangs = hung.lock().unwrap().len() < 2 && hung.lock().unwrap().insert(record.partition);
                async move {
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        })
        .unwrap();
    // One attempt of each partition hangs, and they have both permits.
    until("both hang", || hung.lock().unwrap().len() == 2).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = running.counts().done;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(running.counts().done, before, "nothing begins without a permit");
    let place = Place::new("t", 0);
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    let of_other = log.records("t").iter().filter(|record| record.partition == 1).count() as u64;
    until("the other one goes on", || running.counts().done >= of_other - 1).await;
    log.assign("g", &[place]);
    until("all but the one that hangs are done", || running.counts().done == 199).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(counts.cancelled, 2);
}

/// A batch of 500 would never fill behind a limit of 64 records.
#[tokio::test(start_paused = true)]
async fn batches_have_a_limit_of_calls_and_none_of_records() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 2000, 2000);
    let (under_way, sizes) = (UnderWay::default(), Arc::new(Mutex::new(Vec::new())));
    let full = Full { count: 100, bytes: usize::MAX, linger: Duration::from_millis(50) };
    let batching = Batching::new(full, {
        let (under_way, sizes) = (under_way.clone(), Arc::clone(&sizes));
        move |records: Vec<Record>| {
            sizes.lock().unwrap().push(records.len());
            let one = under_way.begin();
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(one);
                vec![Outcome::Done; records.len()]
            }
        }
    });
    let running = consumer(&log).concurrency(1).start_in_task(batching.calls_max(3)).unwrap();
    until("all are done", || running.counts().done == 2000).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(under_way.most(), 3);
    let full = sizes.lock().unwrap().iter().filter(|size| **size == 100).count();
    assert!(full >= 19, "{:?}", sizes.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_run_of_one_key_is_one_attempt() {
    struct InRuns(UnderWay);
    impl Handler for InRuns {
        async fn handle(&self, record: Record) -> Outcome {
            self.handle_run(vec![record]).await.remove(0)
        }
        fn run_max(&self) -> usize {
            10
        }
        async fn handle_run(&self, records: Vec<Record>) -> Vec<Outcome> {
            let _one = self.0.begin();
            tokio::time::sleep(Duration::from_millis(10)).await;
            vec![Outcome::Done; records.len()]
        }
    }
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 1000, 20);
    let under_way = UnderWay::default();
    let began = Instant::now();
    let running = consumer(&log).concurrency(4).start_in_task(InRuns(under_way.clone())).unwrap();
    until("all are done", || running.counts().done == 1000).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(under_way.most(), 4);
    // 100 runs of ten, four at a time, and some shorter ones at the start.
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
}

/// What computes on threads, and what a log's client takes, is bounded there.
#[tokio::test]
async fn handlers_with_a_limit_of_their_own_are_not_counted() {
    struct PassOn(TopicName);
    impl App<Output> for PassOn {
        fn on_record(&self, record: &Record, effects: &mut Vec<Output>) -> Outcome {
            effects.push(Output::of(record, &self.0, "v"));
            Outcome::Done
        }
    }
    let log = MemoryLog::new();
    let app = PassOn(TopicName::new("out").unwrap());
    assert!(Deciding::new(app, ToLog::new(Arc::new(log))).has_own_limit());
    assert!(Blocking::on_threads(NonZeroUsize::MIN, |_: Record| ()).has_own_limit());
    assert!(!(|_: Record| async {}).has_own_limit());
}

/// In real time and on several threads, where shards hand permits to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn on_several_threads_the_limit_holds_and_every_record_is_done() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20_000, 3000);
    let (judge, under_way) = (Judge::default(), UnderWay::default());
    let retry = RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default() };
    let consumer = consumer(&log).shards(4).concurrency(3).retry(retry);
    let running = consumer
        .start({
            let (judge, under_way) = (judge.clone(), under_way.clone());
            move |record: Record| {
                let (attempt, one) = (judge.begin(&record), under_way.begin());
                async move {
                    // Some end at once, some do not, some fail.
                    if record.offset % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    drop(one);
                    if record.offset % 50 == 0 && record.attempt == 1 {
                        return Err("not now");
                    }
                    attempt.done();
                    Ok(())
                }
            }
        })
        .await
        .unwrap();
    let started = std::time::Instant::now();
    while judge.done_count() < 20_000 {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", running.counts());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = running.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((counts.done, verdict(&judge, &log, 2)), (20_000, Vec::new()));
    assert!((1..=3).contains(&under_way.most()), "{}", under_way.most());
}
