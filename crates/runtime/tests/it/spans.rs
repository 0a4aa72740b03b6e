//! Spans of attempts, continued from the record's headers.

use crate::judge::until;
use bytes::Bytes;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::format::FmtSpan;
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::handler::Handler;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Header, Record};
use weir_runtime::spans;
use weir_runtime::testing::MemoryLog;
use weir_runtime::trace::{self, Parent};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Takes what this thread logs from now on, and a line when a span closes.
    fn follow() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_span_events(FmtSpan::CLOSE)
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        (lines, guard)
    }

    fn with(&self, message: &str) -> Vec<serde_json::Value> {
        let bytes = self.0.lock().unwrap().clone();
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_slice(line).unwrap());
        lines.filter(|line: &serde_json::Value| line["fields"]["message"] == message).collect()
    }
}

fn traced() -> Record {
    let header = |name: &str, value: &'static str| Header {
        name: name.into(),
        value: Some(Bytes::from_static(value.as_bytes())),
    };
    let headers = [header(trace::TRACEPARENT, TRACEPARENT), header(trace::TRACESTATE, "congo=t61rcWkgMzE")];
    Record::new("t", "v").with_key("k").with_headers(headers.into())
}

#[tokio::test(start_paused = true)]
async fn each_attempt_has_a_span_that_goes_on_with_the_records_trace_and_knows_its_outcome() {
    let (lines, _guard) = Lines::follow();
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-dead", 1);
    log.put("t", traced());
    log.put("t", Record::new("t", "v").with_key("k"));
    let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g");
    let running = Consumer::new(log.source("g", &["t"]))
        .spans(spans::plain)
        .dead_letters(letters)
        .start_in_task(|record: Record| {
            tracing::info!("before the future");
            async move {
                tracing::info!("at once");
                tokio::time::sleep(Duration::from_millis(1)).await;
                tracing::info!("later");
                match (record.offset, record.attempt) {
                    (0, 1) => Outcome::retry_with("less"),
                    // What was put in its place has the record's trace too.
                    (0, _) => Outcome::dead_letter(trace::parent(&record).unwrap().context.to_string()),
                    _ => Outcome::Done,
                }
            }
        })
        .unwrap();
    until("both are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 2)).await;
    running.stop(Duration::ZERO).await.unwrap();

    let ids = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];
    for message in ["before the future", "at once", "later"] {
        let logged = lines.with(message);
        assert_eq!(logged.len(), 3, "{message}");
        for line in &logged[..2] {
            let span = &line["span"];
            assert_eq!([&span["trace_id"], &span["parent_id"]], ids, "{line}");
        }
        assert_eq!(logged[2]["span"]["offset"], 1);
        assert!(logged[2]["span"].get("trace_id").is_none(), "{}", logged[2]);
    }
    let closed = lines.with("close");
    let outcomes: Vec<(&str, i64)> = closed
        .iter()
        .map(|line| {
            let span = &line["span"];
            (span["outcome"].as_str().unwrap(), span["attempt"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(outcomes, [("retry", 1), ("dead-letter", 2), ("done", 1)]);
    assert_eq!(closed[1]["span"]["otel.status_code"], "ERROR");
    assert_eq!(closed[1]["span"]["reason"], TRACEPARENT);

    let letter = log.records("t-dead").remove(0);
    assert_eq!(letter.header(trace::TRACEPARENT), Some(TRACEPARENT.as_bytes()));
    assert_eq!(trace::parent(&letter).unwrap().state, Some("congo=t61rcWkgMzE"));
}

#[tokio::test(start_paused = true)]
async fn a_service_makes_its_own_spans_and_an_attempt_that_panics_or_is_dropped_closes_its_own() {
    let (lines, _guard) = Lines::follow();
    let log = MemoryLog::with_topic("t", 1);
    log.put("t", traced());
    let seen: Arc<Mutex<Vec<Option<String>>>> = Arc::default();
    let running = Consumer::new(log.source("g", &["t"]))
        .spans({
            let seen = Arc::clone(&seen);
            move |record: &Record, parent: Option<Parent<'_>>| {
                seen.lock().unwrap().push(parent.map(|parent| parent.context.to_string()));
                tracing::info_span!("mail", attempt = record.attempt)
            }
        })
        .start_in_task(|record: Record| async move {
            assert!(record.attempt > 1, "the first time");
            tracing::info!("hangs");
            std::future::pending::<()>().await;
        })
        .unwrap();
    until("it hangs", || !lines.with("hangs").is_empty()).await;
    assert_eq!(running.counts().failed, 1);
    assert_eq!(lines.with("close").len(), 1);
    running.stop(Duration::ZERO).await.unwrap();
    let closed: Vec<i64> =
        lines.with("close").iter().map(|line| line["span"]["attempt"].as_i64().unwrap()).collect();
    assert_eq!(closed, [1, 2]);
    assert_eq!(*seen.lock().unwrap(), [Some(TRACEPARENT.to_owned()), Some(TRACEPARENT.to_owned())]);
}

/// Takes up to eight of a key at once, and does them all but the last.
struct InRuns;

impl Handler for InRuns {
    async fn handle(&self, _: Record) -> Outcome {
        Outcome::Done
    }

    fn run_max(&self) -> usize {
        8
    }

    async fn handle_run(&self, records: Vec<Record>) -> Vec<Outcome> {
        tracing::info!(count = records.len(), "a run");
        let mut outcomes = vec![Outcome::Done; records.len() - 1];
        outcomes.push(Outcome::failed("the last"));
        outcomes
    }
}

#[tokio::test(start_paused = true)]
async fn each_record_of_a_run_has_its_span_and_the_call_is_in_the_first() {
    let (lines, _guard) = Lines::follow();
    let log = MemoryLog::with_topic("t", 1);
    (0..3).for_each(|_| {
        log.put("t", traced());
    });
    let running = Consumer::new(log.source("g", &["t"])).spans(spans::plain).start_in_task(InRuns).unwrap();
    until("all are committed", || log.committed("g", "t", 0).is_some_and(|(offset, _)| offset == 3)).await;
    running.stop(Duration::ZERO).await.unwrap();
    let call = lines.with("a run").remove(0);
    assert_eq!((&call["fields"]["count"], &call["span"]["offset"]), (&3.into(), &0.into()), "{call}");
    let mut ends: Vec<(i64, i64, String)> = lines
        .with("close")
        .iter()
        .map(|line| {
            let number = |name: &str| line["span"][name].as_i64().unwrap();
            (number("offset"), number("attempt"), line["span"]["outcome"].as_str().unwrap().to_owned())
        })
        .collect();
    ends.sort();
    let expected = [(0, 1, "done"), (1, 1, "done"), (2, 1, "failed"), (2, 2, "done")];
    assert_eq!(ends, expected.map(|(offset, attempt, word)| (offset, attempt, word.to_owned())));
}
