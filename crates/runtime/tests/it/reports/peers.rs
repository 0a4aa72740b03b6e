//! What consumers of other libraries have and users asked for: a lag, a handler for each topic, hooks, shared handlers.

use crate::judge::{fill, until};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_runtime::batch::{Batching, Full};
use weir_runtime::by_topic::ByTopic;
use weir_runtime::consumer::Consumer;
use weir_runtime::flow::Flow;
use weir_runtime::handler::Handler;
use weir_runtime::hooks::Change;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::MemoryLog;

/// What was told, in order.
type Told = Arc<Mutex<Vec<String>>>;

fn told(told: &Told) -> Vec<String> {
    told.lock().unwrap().clone()
}

/// Tells the value of each record.
fn teller(name: &'static str, told: &Told) -> impl Handler + use<> {
    let told = Arc::clone(told);
    move |record: Record| {
        told.lock().unwrap().push(format!("{name} {}", record.text().1));
        async {}
    }
}

#[tokio::test(start_paused = true)]
async fn each_topic_has_its_handler_and_one_without_says_so() {
    let log = MemoryLog::with_topic("orders", 1);
    for topic in ["payments", "refunds"] {
        log.create_topic(topic, 1);
    }
    for topic in ["orders", "payments", "refunds"] {
        log.put(topic, Record::new(topic, topic).with_key("k"));
    }
    let calls = Told::default();
    let handler = ByTopic::new().on("orders", teller("A", &calls)).on("payments", teller("B", &calls));
    let source = || log.source("g", &["orders", "payments", "refunds"]);
    let running = Consumer::new(source()).start_in_task(handler).unwrap();
    until("two are done", || running.counts().done == 2).await;
    let reason = || {
        let health = running.health();
        health.partitions.iter().find_map(|one| one.head_reason.clone()).unwrap_or_default()
    };
    until("the third is named", || !reason().is_empty()).await;
    assert_eq!(reason(), "no handler for topic refunds; fix: ByTopic::on(\"refunds\", ..)");
    running.stop(Duration::ZERO).await.unwrap();

    let handler = ByTopic::otherwise(teller("C", &calls)).on("orders", teller("A", &calls));
    let running = Consumer::new(source()).start_in_task(handler).unwrap();
    until("the third is done too", || running.counts().done == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    let mut calls = told(&calls);
    calls.sort();
    assert_eq!(calls, ["A orders", "B payments", "C refunds"]);
}

/// Takes runs of up to `run_max`, and fails the record `3` once.
struct InRuns {
    run_max: usize,
    sizes: Arc<Mutex<Vec<usize>>>,
}

impl Handler for InRuns {
    async fn handle(&self, record: Record) -> Outcome {
        self.handle_run(vec![record]).await.remove(0)
    }

    fn run_max(&self) -> usize {
        self.run_max
    }

    async fn handle_run(&self, records: Vec<Record>) -> Vec<Outcome> {
        self.sizes.lock().unwrap().push(records.len());
        tokio::time::sleep(Duration::from_millis(10)).await;
        let one = |record: &Record| {
            if record.offset == 3 && record.attempt == 1 { Outcome::failed("once") } else { Outcome::Done }
        };
        records.iter().map(one).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn handlers_of_several_topics_get_runs_and_batches_of_their_own_sizes() {
    let log = MemoryLog::with_topic("runs", 1);
    for topic in ["one", "batches"] {
        log.create_topic(topic, 1);
    }
    for topic in ["runs", "one", "batches"] {
        (0..16).for_each(|number| {
            log.put(topic, Record::new(topic, format!("k {number}")).with_key("k"));
        });
    }
    let (few, one, batches) = (Arc::default(), Arc::default(), Arc::new(Mutex::new(Vec::new())));
    let full = Full { count: 100, bytes: usize::MAX, linger: Duration::from_millis(5) };
    let batching = Batching::new(full, {
        let batches = Arc::clone(&batches);
        move |records: Vec<Record>| {
            batches.lock().unwrap().push(records.len());
            async move { vec![Outcome::Done; records.len()] }
        }
    });
    let handler = ByTopic::new()
        .on("runs", InRuns { run_max: 4, sizes: Arc::clone(&few) })
        .on("one", InRuns { run_max: 1, sizes: Arc::clone(&one) })
        .on("batches", batching.runs_of(100));
    assert!(!handler.has_own_limit() && handler.run_max() == 100);
    let running = Consumer::new(log.source("g", &["runs", "one", "batches"])).start_in_task(handler).unwrap();
    until("all are done", || running.counts().done == 3 * 16).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(counts.failed, 2);
    assert!(few.lock().unwrap().iter().all(|size| *size <= 4) && few.lock().unwrap().contains(&4));
    assert!(one.lock().unwrap().iter().all(|size| *size == 1), "{one:?}");
    assert_eq!(*batches.lock().unwrap(), [16]);
}

#[tokio::test(start_paused = true)]
async fn hooks_run_before_the_first_record_and_after_the_last_commit() {
    let log = MemoryLog::with_topic("t", 2);
    fill(&log, 20, 20);
    let events = Told::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .on_change({
            let (events, log) = (Arc::clone(&events), log.clone());
            move |change| {
                let committed = |place: &Place| log.committed("g", "t", place.partition).map(|one| one.0);
                let text = match change {
                    Change::Assigned(places) => format!("assigned {}", places[0]),
                    Change::Revoked(places) => {
                        let all: Vec<String> =
                            places.iter().map(|place| format!("{place} {:?}", committed(place))).collect();
                        format!("revoked {}", all.join(", "))
                    }
                    Change::Lost(places) => format!("lost {}", places[0]),
                };
                events.lock().unwrap().push(text);
            }
        })
        .start_in_task({
            let events = Arc::clone(&events);
            move |record: Record| {
                let events = Arc::clone(&events);
                async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    events.lock().unwrap().push(format!("handled {}", record.partition));
                }
            }
        })
        .unwrap();
    until("all are done", || running.counts().done == 20).await;
    let first = |text: &str| told(&events).iter().position(|one| one == text);
    for partition in [0, 1] {
        let assigned = first(&format!("assigned t/{partition}")).unwrap();
        assert!(assigned < first(&format!("handled {partition}")).unwrap(), "{:?}", told(&events));
    }
    let of_partition = |one: i32| log.records("t").iter().filter(|record| record.partition == one).count();
    let place = Place::new("t", 0);
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    assert_eq!(*told(&events).last().unwrap(), format!("revoked t/0 Some({})", of_partition(0)));
    log.assign("g", std::slice::from_ref(&place));
    until("it is back", || *told(&events).last().unwrap() == "assigned t/0").await;
    log.lose("g", std::slice::from_ref(&place));
    until("it is lost", || *told(&events).last().unwrap() == "lost t/0").await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(*told(&events).last().unwrap(), format!("revoked t/1 Some({})", of_partition(1)));
}

#[tokio::test(start_paused = true)]
async fn the_lag_is_what_was_not_taken_yet_also_while_nothing_is_taken() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 100, 10);
    let paused = Flow { is_paused: true, ..Flow::default() };
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(|_: Record| async {}).unwrap();
    let lag = || running.health().partitions.first().and_then(|one| one.lag);
    until("all is taken", || running.counts().done == 100 && lag() == Some(0)).await;
    running.flow(paused).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    fill(&log, 30, 10);
    until("thirty wait", || lag() == Some(30)).await;
    let mut registry = prometheus_client::registry::Registry::default();
    running.register(&mut registry, "orders");
    let values = crate::seeing::scrape(&registry);
    let name = "consumer_partition_lag{subscription=\"orders\",topic=\"t\",partition=\"0\"}";
    assert_eq!(values.get(name), Some(&30.0), "{values:#?}");
    assert!(running.health().to_string().contains(", 30 behind"), "{}", running.health());
    running.flow(Flow::default()).unwrap();
    until("none waits", || lag() == Some(0)).await;
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shared_handler_is_a_handler_with_its_runs_and_limits() {
    let log = MemoryLog::with_topic("t", 1);
    fill(&log, 16, 1);
    let handler = Arc::new(InRuns { run_max: 8, sizes: Arc::default() });
    let running = Consumer::new(log.source("g", &["t"])).start_in_task(Arc::clone(&handler)).unwrap();
    until("all are done", || running.counts().done == 16).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert!(handler.sizes.lock().unwrap().contains(&8), "{:?}", handler.sizes);
}
