//! A group's coordinator that does not say what is committed, on librdkafka's mock cluster: nobody else waits for it.

use super::kill::committed_count;
use super::mock::{member, write};
use super::{numbered, until};
use rdkafka::types::RDKafkaApiKey;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::source::{KafkaSource, Protocol, SourceConfig};
use weir_model::TopicName;
use weir_runtime::consumer::NotCommitted;
use weir_runtime::source::{Event, LogSource as _};
use weir_runtime::testing::judge::Judge;
use weir_runtime::wake::Wake;

/// More answers than any test asks for.
const FOR_EVER: usize = 10_000;

fn log(partition_count: i32) -> EmbeddedLog {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), partition_count, 1).unwrap();
    log
}

/// Each question about the group's commits is answered with this from now on.
fn refuse_commits(log: &EmbeddedLog, code: Code) {
    log.cluster().request_errors(RDKafkaApiKey::OffsetFetch, &vec![code; FOR_EVER]);
}

fn answer_commits(log: &EmbeddedLog) {
    log.cluster().clear_request_errors(RDKafkaApiKey::OffsetFetch);
}

/// A source of this protocol that is never told what its group has committed is closed, and does so in time.
fn leaves_all_the_same(protocol: Protocol) {
    let log = log(2);
    refuse_commits(&log, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    let mut source =
        KafkaSource::new(SourceConfig { protocol, ..SourceConfig::new(&log.bootstrap(), "g", &["t"]) });
    let (ended, has_ended) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        source.start(Wake::default()).unwrap();
        let mut events = Vec::new();
        while !events.iter().any(|event| matches!(event, Event::Trouble(_))) {
            source.events(&mut events);
            std::thread::yield_now();
        }
        let closing = Instant::now();
        source.close();
        ended.send(closing.elapsed()).unwrap();
    });
    let took = has_ended.recv_timeout(Duration::from_secs(40)).expect("close() returns");
    assert!(took < Duration::from_secs(8), "{protocol:?}: it took {took:?} to leave the group");
}

#[test]
fn a_source_that_never_learned_what_is_committed_leaves_the_cooperative_group_all_the_same() {
    leaves_all_the_same(Protocol::Cooperative);
}

#[test]
fn a_source_that_never_learned_what_is_committed_leaves_the_eager_group_all_the_same() {
    leaves_all_the_same(Protocol::Eager);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_while_no_broker_answers_takes_no_longer_than_it_may_and_says_what_is_not_committed() {
    let log = log(2);
    let judge = Judge::default();
    let running = member(&log, &judge, Some(0)).await;
    write(&log, numbered(100, 100, 0)).await;
    until("all but the stuck ones are done", || judge.done_count() == 98).await;
    until("that is committed", || committed_count(&log.bootstrap(), "g", "t", 2) == 98).await;
    write(&log, numbered(100, 100, 0)).await;
    until("more is done", || judge.done_count() == 196).await;
    // Silent, not gone: a connection that fails would end all waiting.
    log.cluster().broker_round_trip_time(1, Duration::from_secs(3600)).unwrap();
    let stopping = Instant::now();
    let fault = running.stop(Duration::ZERO).await.unwrap_err();
    println!("stopped after {:?}: {fault}", stopping.elapsed());
    assert_eq!(NotCommitted::of(&fault).unwrap().places.len(), 2, "{fault}");
    // A quarter of a second for each try of the last commit, and for leaving the group.
    assert!(stopping.elapsed() < Duration::from_secs(3), "it took {:?}", stopping.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_whose_commits_cannot_be_read_hold_up_no_others() {
    let log = log(4);
    let judge = Judge::default();
    let first = member(&log, &judge, None).await;
    let second = member(&log, &judge, None).await;
    let owned = |health: weir_runtime::health::Health| health.partitions.len();
    until("two are each one's", || owned(first.health()) == 2 && owned(second.health()) == 2).await;
    write(&log, numbered(400, 40, 0)).await;
    until("all are done", || judge.done_count() == 400).await;

    // The second goes, and what it had comes to the first, which cannot learn what of it is committed.
    refuse_commits(&log, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS);
    second.stop(Duration::from_secs(5)).await.unwrap();
    let (commits, started) = (first.counts().commits, Instant::now());
    let mut written = 400;
    let mut longest = Duration::ZERO;
    while started.elapsed() < Duration::from_secs(12) {
        let (before, asked) = (judge.done_count(), Instant::now());
        write(&log, numbered(40, 40, 0)).await;
        written += 40;
        until("what came to the partitions that were there is done", || judge.done_count() > before).await;
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "records waited for {longest:?}");
    assert!(first.counts().commits > commits, "and nothing was committed");
    assert!(judge.done_count() < written && owned(first.health()) == 2, "all are there: nothing was refused");

    answer_commits(&log);
    until("the rest is done, too", || judge.done_count() == written).await;
    until("all four are the first's", || owned(first.health()) == 4).await;
    first.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((judge.wrong(), judge.repeated_count()), (Vec::new(), 0));
}

#[test]
fn a_group_whose_commits_may_not_be_read_is_refused_at_the_start_and_ends_by_name_later() {
    let log = log(1);
    refuse_commits(&log, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    let source = || KafkaSource::new(SourceConfig::new(&log.bootstrap(), "g", &["t"]));
    let fault = source().start(Wake::default()).unwrap_err();
    assert_eq!((fault.code(), fault.about()), ("W-KAFKA-DENIED", "g"));
    assert!(fault.chain().contains("allow this user Read on the group"), "{}", fault.chain());

    answer_commits(&log);
    let mut source = source();
    source.start(Wake::default()).unwrap();
    refuse_commits(&log, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED);
    let (started, mut events) = (Instant::now(), Vec::new());
    let fault = loop {
        source.events(&mut events);
        if let Some(Event::Ended(fault)) = events.iter().find(|event| matches!(event, Event::Ended(_))) {
            break fault;
        }
        assert!(started.elapsed() < Duration::from_secs(50), "{events:?}");
        std::thread::yield_now();
    };
    assert_eq!((fault.code(), fault.about()), ("W-KAFKA-DENIED", "g"));
}
