//! Retries through a topic, with a Decaton consumer on the other side or without one.

use crate::judge::until;
use bytes::Bytes;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use weir_model::{FaultKind, TopicName};
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::decaton::{HEADER, TaskMetadata, TaskRequest};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::{Header, Place, Record};
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::retry_topic::{RetryTopic, SINCE};
use weir_runtime::testing::{AppendFault, MemoryLog};

/// What a handler was given: value, topic, attempt, seconds since the start.
type Seen = Arc<Mutex<Vec<(String, String, u32, u64)>>>;

/// Times are rounded.
const HALF_A_SECOND: Duration = Duration::from_millis(500);

/// A log with a topic, its retry topic and its dead letters, of one partition each.
fn log() -> MemoryLog {
    let log = MemoryLog::with_topic("t", 1);
    log.create_topic("t-retry", 1);
    log.create_topic("t-dead", 1);
    log
}

/// As Decaton has it: the same wait each time, here ten seconds; three attempts, then a dead letter.
fn policy() -> RetryPolicy {
    let wait = Duration::from_secs(10);
    RetryPolicy {
        first: wait,
        longest: wait,
        jitter: 0.0,
        attempts_max: 3,
        exhausted: Exhausted::DeadLetter,
        ..RetryPolicy::default()
    }
}

fn start(
    log: &MemoryLog,
    topic: RetryTopic,
    policy: RetryPolicy,
    handler: impl Fn(&Record) -> Outcome + Send + Sync + 'static,
) -> (Running, Seen) {
    let (seen, started) = (Seen::default(), Instant::now());
    let letters = DeadLetters::new(Arc::new(log.clone()), TopicName::new("t-dead").unwrap(), "g");
    let consumer = Consumer::new(log.source("g", &["t", "t-retry"])).shards(1).retry(policy);
    let running = consumer.dead_letters(letters).retry_topic(topic).start_in_task({
        let seen = Arc::clone(&seen);
        move |record: Record| {
            let one = (
                record.text().1,
                record.topic.to_string(),
                record.attempt,
                (started.elapsed() + HALF_A_SECOND).as_secs(),
            );
            seen.lock().unwrap().push(one);
            std::future::ready(handler(&record))
        }
    });
    (running.unwrap(), seen)
}

fn writing(log: &MemoryLog) -> RetryTopic {
    RetryTopic::new(Arc::new(log.clone()))
}

/// Fails records whose value is `bad`.
fn bad_fails(record: &Record) -> Outcome {
    if record.text().1 == "bad" { Outcome::failed("not now") } else { Outcome::Done }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn with_headers(value: &str, headers: &[(&str, Vec<u8>)]) -> Record {
    let headers = headers
        .iter()
        .map(|(name, value)| Header { name: (*name).into(), value: Some(Bytes::from(value.clone())) })
        .collect();
    Record::new("t", value.to_owned()).with_key("k").with_headers(headers)
}

fn metadata(record: &Record) -> TaskMetadata {
    TaskMetadata::of(record).unwrap().expect("it has the header")
}

#[tokio::test(start_paused = true)]
async fn what_fails_comes_again_through_the_topic_and_frees_its_offset_and_its_key() {
    let log = log();
    let bad = Record { timestamp_ms: 1234, ..Record::new("t", "bad").with_key("k") };
    log.put("t", bad);
    log.put("t", Record::new("t", "good").with_key("k"));
    let (running, seen) = start(&log, writing(&log), policy(), |record| {
        if record.text().1 == "bad" && record.attempt < 3 {
            Outcome::failed("not now")
        } else {
            Outcome::Done
        }
    });
    until("both are done", || running.counts().done == 2).await;
    let said = |value: &str, topic: &str, attempt, at| (value.to_owned(), topic.to_owned(), attempt, at);
    let expect = [
        said("bad", "t", 1, 0),
        said("good", "t", 1, 0),
        said("bad", "t-retry", 2, 10),
        said("bad", "t-retry", 3, 20),
    ];
    assert_eq!(*seen.lock().unwrap(), expect);
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.failed, counts.requeued, counts.retried, counts.dead_letters), (2, 2, 0, 0));
    assert_eq!(log.committed("g", "t", 0), Some((2, String::new())));
    assert_eq!(log.committed("g", "t-retry", 0), Some((2, String::new())));
    let [first, second] = &log.records("t-retry")[..] else { panic!("two records were requeued") };
    assert_eq!((first.key(), first.value()), (Some(&b"k"[..]), Some(&b"bad"[..])));
    assert_eq!(metadata(first).retry_count, 1);
    // Without metadata of its own a task has the time of its record, as in Decaton's `DefaultTaskExtractor`.
    assert_eq!(metadata(second).timestamp_ms, 1234);
    assert_eq!((metadata(second).retry_count, second.headers().len()), (2, 4));
    let origin = first.header(dead_letter::ORIGIN).unwrap();
    assert!(origin.starts_with(b"t/0/") && second.header(dead_letter::ORIGIN) == Some(origin));
    assert_eq!(second.header(dead_letter::TIMESTAMP), Some(&b"1234"[..]));
    assert_eq!(first.header(SINCE), second.header(SINCE));
    // The clock of the test is two clocks, read one after the other.
    let apart = metadata(second).scheduled_ms - metadata(first).scheduled_ms;
    assert!((9_000..=11_000).contains(&apart), "{apart} ms apart");
}

/// In Decaton a task whose time has not come sleeps in its thread and holds what is behind it.
#[tokio::test(start_paused = true)]
async fn a_record_that_waits_for_its_time_holds_nothing_but_its_key() {
    let log = log();
    let later = TaskMetadata { scheduled_ms: now_ms() + 3_600_000, ..TaskMetadata::default() };
    log.put("t-retry", with_headers("later", &[(HEADER, later.encode())]));
    log.put("t-retry", Record::new("t", "same key").with_key("k"));
    log.put("t-retry", Record::new("t", "other key").with_key("l"));
    let (running, seen) = start(&log, writing(&log), policy(), bad_fails);
    until("the other key is done", || running.counts().done == 1).await;
    assert_eq!(seen.lock().unwrap().last().unwrap().0, "other key");
    tokio::time::sleep(Duration::from_secs(3590)).await;
    assert_eq!(running.counts().done, 1);
    until("all are done", || running.counts().done == 3).await;
    let seen = seen.lock().unwrap().clone();
    assert_eq!((seen[1].0.as_str(), seen[2].0.as_str()), ("later", "same key"));
    assert!((3599..=3601).contains(&seen[1].3), "after {} s", seen[1].3);
    running.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_with_a_time_that_never_comes_is_held_and_stops_with_its_consumer() {
    let log = log();
    for scheduled_ms in [i64::MAX, i64::MIN] {
        let metadata = TaskMetadata { scheduled_ms, retry_count: scheduled_ms, ..TaskMetadata::default() };
        log.put("t-retry", with_headers("strange", &[(HEADER, metadata.encode())]));
    }
    log.put("t", Record::new("t", "good").with_key("l"));
    let (running, seen) = start(&log, writing(&log), policy(), bad_fails);
    until("the good one is done", || running.counts().done == 1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(seen.lock().unwrap().len(), 1);
    running.stop(Duration::ZERO).await.unwrap();
}

/// Decaton completes a task whether it could be queued or not.
#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_to_the_topic_stays_pending_and_is_written_again() {
    let log = log();
    log.put("t", Record::new("t", "bad").with_key("k"));
    // Six waits are longer than the commit time, at which health is told.
    for _ in 0..3 {
        log.fail_append(AppendFault::Refused(FaultKind::Transient));
        log.fail_append(AppendFault::Refused(FaultKind::Denied));
    }
    let (running, _) = start(&log, writing(&log), policy(), bad_fails);
    until("one try failed", || running.counts().requeues_failed == 1).await;
    until("health says so", || {
        running.health().partitions.iter().any(|one| {
            one.head_reason.as_ref().is_some_and(|reason| reason.contains("its next attempt is not written"))
        })
    })
    .await;
    until("it is written", || running.counts().requeued == 1).await;
    until("it is a dead letter in the end", || running.counts().dead_letters == 1).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.requeues_failed, counts.requeued, log.records("t-retry").len()), (6, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_not_done_before_its_retry_is_durable() {
    let log = log();
    log.put("t", Record::new("t", "bad").with_key("k"));
    log.fail_append(AppendFault::Hangs);
    let (running, seen) = start(&log, writing(&log), policy(), bad_fails);
    until("it failed", || running.counts().failed == 1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(log.committed("g", "t", 0).map_or(0, |(offset, _)| offset), 0);
    running.stop(Duration::ZERO).await.unwrap();
    let (again, seen_again) = start(&log, writing(&log), policy(), bad_fails);
    until("it is written", || again.counts().requeued == 1).await;
    again.stop(Duration::ZERO).await.unwrap();
    assert_eq!((seen.lock().unwrap().len(), seen_again.lock().unwrap().len()), (1, 1));
    assert_eq!(log.committed("g", "t", 0).map(|(offset, _)| offset), Some(1));
}

#[tokio::test(start_paused = true)]
async fn after_its_last_attempt_a_record_of_the_topic_is_a_dead_letter_that_says_how_many() {
    let log = log();
    log.put("t", Record::new("t", "bad").with_key("k"));
    let (running, seen) = start(&log, writing(&log), policy(), bad_fails);
    until("it is a dead letter", || running.counts().dead_letters == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
    let letter = &log.records("t-dead")[0];
    assert_eq!(letter.header(dead_letter::ATTEMPTS), Some(&b"3"[..]));
    assert_eq!(letter.header(dead_letter::PLACE), Some(&b"t-retry/0/1"[..]));
    assert_eq!(log.committed("g", "t-retry", 0), Some((2, String::new())));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_record_counts_from_its_first_failure_through_all_its_retries() {
    let log = log();
    log.put("t", Record::new("t", "bad").with_key("k"));
    let policy = RetryPolicy { attempts_max: 0, age_max: Some(Duration::from_secs(35)), ..policy() };
    let (running, seen) = start(&log, writing(&log), policy, bad_fails);
    until("it is a dead letter", || running.counts().dead_letters == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    let attempts: Vec<(u32, u64)> = seen.lock().unwrap().iter().map(|one| (one.2, one.3)).collect();
    assert_eq!(attempts, [(1, 0), (2, 10), (3, 20), (4, 30), (5, 40)]);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_decaton_queued_goes_on_where_decaton_left_it_and_back() {
    let log = log();
    let theirs = TaskMetadata {
        timestamp_ms: 1_767_571_200_000,
        source_application: "mailer".to_owned(),
        source_instance: "host-1-7".to_owned(),
        retry_count: 7,
        scheduled_ms: now_ms() - 5,
    };
    let stale = TaskMetadata { retry_count: 99, ..TaskMetadata::default() };
    let headers = [(HEADER, stale.encode()), ("trace", b"1".to_vec()), (HEADER, theirs.encode())];
    log.put("t-retry", with_headers("bad", &headers));
    let policy = RetryPolicy { attempts_max: 9, ..policy() };
    let (running, seen) = start(&log, writing(&log), policy, bad_fails);
    until("it is requeued", || running.counts().requeued == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(seen.lock().unwrap()[0].2, 8, "the attempt after seven retries");
    let ours = &log.records("t-retry")[1];
    let names: Vec<&str> = ours.headers().iter().map(|header| &*header.name).collect();
    let (origin, timestamp) = (dead_letter::ORIGIN, dead_letter::TIMESTAMP);
    assert_eq!(
        names,
        ["trace", SINCE, origin, timestamp, HEADER],
        "their old header is gone, ours is the last"
    );
    let scheduled_ms = metadata(ours).scheduled_ms;
    assert_eq!(metadata(ours), TaskMetadata { retry_count: 8, scheduled_ms, ..theirs });
    assert!((now_ms()..now_ms() + 11_000).contains(&scheduled_ms), "ten seconds from now");
}

#[tokio::test(start_paused = true)]
async fn tasks_of_decaton_8_are_unwrapped_by_option_and_requeued_in_the_form_of_9() {
    let log = log();
    let metadata_8 =
        TaskMetadata { retry_count: 1, source_application: "old".to_owned(), ..TaskMetadata::default() };
    let request = TaskRequest { metadata: metadata_8.clone(), task: Bytes::from_static(b"bad") };
    log.put("t", Record::new("t", request.encode()).with_key("k"));
    let policy = RetryPolicy { attempts_max: 9, ..policy() };
    let (running, seen) = start(&log, writing(&log).reads_requests(), policy, bad_fails);
    until("it is requeued", || running.counts().requeued == 2).await;
    running.stop(Duration::ZERO).await.unwrap();
    let attempts: Vec<(String, u32)> =
        seen.lock().unwrap().iter().map(|one| (one.0.clone(), one.2)).collect();
    assert_eq!(attempts, [("bad".to_owned(), 2), ("bad".to_owned(), 3)]);
    let requeued = &log.records("t-retry")[0];
    assert_eq!(requeued.value(), Some(&b"bad"[..]));
    let scheduled_ms = metadata(requeued).scheduled_ms;
    assert_eq!(metadata(requeued), TaskMetadata { retry_count: 2, scheduled_ms, ..metadata_8 });
}

/// Decaton discards, and so loses, what it cannot read.
#[tokio::test(start_paused = true)]
async fn a_task_whose_metadata_cannot_be_read_is_a_dead_letter_and_not_handled() {
    let log = log();
    log.put("t", with_headers("damaged header", &[(HEADER, vec![0x08])]));
    log.put("t", Record::new("t", "no request").with_key("k"));
    log.put("t", Record::new("t", TaskRequest::default().encode()).with_key("k"));
    let (running, seen) = start(&log, writing(&log).reads_requests(), policy(), bad_fails);
    until("both are dead letters", || running.counts().dead_letters == 2 && running.counts().done == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    let causes: Vec<String> = log
        .records("t-dead")
        .iter()
        .map(|letter| String::from_utf8(letter.header(dead_letter::CAUSE).unwrap().to_vec()).unwrap())
        .collect();
    assert!(causes[0].starts_with("the header dt_meta cannot be read"), "{causes:?}");
    assert!(causes[1].starts_with("the task request cannot be read"), "{causes:?}");
    assert_eq!(log.records("t-dead")[0].value(), Some(&b"damaged header"[..]));
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_only_reads_the_topic_tries_again_in_place() {
    let log = log();
    let queued = TaskMetadata { retry_count: 1, ..TaskMetadata::default() };
    log.put("t-retry", with_headers("bad", &[(HEADER, queued.encode())]));
    let (running, seen) = start(&log, RetryTopic::reading(), policy(), bad_fails);
    until("it is a dead letter", || running.counts().dead_letters == 1).await;
    let counts = running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.requeued, counts.retried, log.records("t-retry").len()), (0, 1, 1));
    assert_eq!(seen.lock().unwrap().iter().map(|one| one.2).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_goes_away_takes_what_waits_with_it_and_brings_it_back() {
    let log = log();
    let later = TaskMetadata { scheduled_ms: now_ms() + 60_000, ..TaskMetadata::default() };
    log.put("t-retry", with_headers("later", &[(HEADER, later.encode())]));
    let (running, seen) = start(&log, writing(&log), policy(), bad_fails);
    let place = Place::new("t-retry", 0);
    until("it is there", || running.counts().received == 1).await;
    log.revoke("g", std::slice::from_ref(&place));
    until("it is released", || !log.holds("g", &place)).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(seen.lock().unwrap().len(), 0);
    log.assign("g", &[place]);
    until("it is done", || running.counts().done == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_of_another_name_may_be_told() {
    let log = log();
    log.create_topic("again", 1);
    log.put("t", Record::new("t", "bad").with_key("k"));
    let topic = writing(&log).topic(TopicName::new("again").unwrap());
    let (running, _) = start(&log, topic, policy(), bad_fails);
    until("it is requeued", || running.counts().requeued == 1).await;
    running.stop(Duration::ZERO).await.unwrap();
    assert_eq!((log.records("again").len(), log.records("t-retry").len()), (1, 0));
}
