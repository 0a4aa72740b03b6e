//! Apps: effects are durable before their record is done, and happen only for a record that is.

use crate::judge::until;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_model::{Fault, FaultKind, TopicName};
use weir_runtime::app::{App, Deciding, Output, Rim, ToLog};
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::testing::{AppendFault, MemoryLog};

/// Greets whom a record names, in a topic by language, and tells a second one how many were greeted.
struct Greeter {
    greetings: TopicName,
    audit: TopicName,
}

impl Greeter {
    fn new() -> Self {
        let topic = |name: &str| TopicName::new(name).unwrap();
        Self { greetings: topic("greetings"), audit: topic("audit") }
    }
}

impl App<Output> for Greeter {
    fn on_record(&self, record: &Record, effects: &mut Vec<Output>) -> Outcome {
        let (key, name) = record.text();
        effects.push(Output::of(record, &self.greetings, format!("hello {name}")));
        match name.as_str() {
            "nobody" => Outcome::dead_letter("nobody is greeted"),
            "later" if record.attempt == 1 => Outcome::retry(),
            _ => {
                effects.push(Output::of(record, &self.audit, name).with_key(format!("by {key}")));
                Outcome::Done
            }
        }
    }
}

fn log(names: &[&str]) -> MemoryLog {
    let log = MemoryLog::with_topic("t", 1);
    ["greetings", "audit", "t-dead"].iter().for_each(|topic| log.create_topic(topic, 1));
    for name in names {
        log.put("t", Record::new("t", (*name).to_owned()).with_key("k"));
    }
    log
}

fn start<R: Rim<E>, E: Send + 'static>(log: &MemoryLog, app: impl App<E>, rim: R) -> Running {
    Consumer::new(log.source("g", &["t"]))
        .dead_letters(DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g"))
        .start_in_task(Deciding::new(app, rim))
        .unwrap()
}

fn to(log: &MemoryLog) -> ToLog {
    ToLog::new(Arc::new(log.clone()))
}

fn values(log: &MemoryLog, topic: &str) -> Vec<String> {
    log.records(topic).iter().map(|record| record.text().1).collect()
}

/// No consumer, no log and no clock: a decision is a value.
#[test]
fn an_app_is_tested_by_a_table() {
    let app = Greeter::new();
    for (name, outcome, effect_count) in [
        ("anna", Outcome::Done, 2),
        ("later", Outcome::retry(), 1),
        ("nobody", Outcome::dead_letter("nobody is greeted"), 1),
    ] {
        let mut effects = Vec::new();
        let record = Record::new("t", name).with_key("k");
        assert_eq!(app.on_record(&record, &mut effects), outcome);
        assert_eq!(effects.len(), effect_count);
    }
}

#[tokio::test(start_paused = true)]
async fn effects_are_in_order_and_of_records_that_are_done_only() {
    let log = log(&["anna", "later", "nobody", "ben"]);
    let running = start(&log, Greeter::new(), to(&log));
    until("all are over", || running.counts().done + running.counts().dead_letters == 4).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(values(&log, "greetings"), ["hello anna", "hello later", "hello ben"]);
    assert_eq!(log.records("audit")[2].text(), ("by k".to_owned(), "ben".to_owned()));
    assert_eq!(values(&log, "t-dead"), ["nobody"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_not_done_before_its_effects_are_durable() {
    let log = log(&["anna"]);
    log.fail_append(AppendFault::Hangs);
    let running = start(&log, Greeter::new(), to(&log));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((running.counts().done, log.committed("g", "t", 0).map(|one| one.0)), (0, Some(0)));
    running.stop(Duration::ZERO).await.unwrap();
    log.fail_append(AppendFault::AnswerLost);
    log.fail_append(AppendFault::Refused(FaultKind::Transient));
    let running = start(&log, Greeter::new(), to(&log));
    until("it is done", || running.counts().done == 1).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    // What was done with its answer lost is done again.
    assert_eq!((counts.failed, values(&log, "greetings")), (2, vec!["hello anna".to_owned(); 2]));
}

#[tokio::test(start_paused = true)]
async fn effects_that_are_rejected_make_their_record_a_dead_letter() {
    let log = log(&["anna", "ben"]);
    log.fail_append(AppendFault::Refused(FaultKind::Rejected));
    let running = start(&log, Greeter::new(), to(&log));
    until("all are over", || running.counts().done + running.counts().dead_letters == 2).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(
        (values(&log, "t-dead"), values(&log, "greetings")),
        (vec!["anna".to_owned()], vec!["hello ben".to_owned()])
    );
}

/// A rim of one's own, and an app that is a closure.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<Vec<u64>>>);

impl Rim<u64> for Counts {
    async fn act(&self, effects: Vec<u64>) -> Result<(), Fault> {
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.0.lock().unwrap().extend(effects);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_an_app_and_effects_may_be_anything() {
    let log = log(&["3", "x", "4"]);
    let counts = Counts::default();
    let app = |record: &Record, effects: &mut Vec<u64>| match record.text().1.parse() {
        Ok(count) => {
            effects.push(count);
            Outcome::Done
        }
        Err(_) => Outcome::skip("not a number"),
    };
    let running = start(&log, app, counts.clone());
    until("all are done", || running.counts().done + running.counts().skipped == 3).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(*counts.0.lock().unwrap(), [3, 4]);
}
