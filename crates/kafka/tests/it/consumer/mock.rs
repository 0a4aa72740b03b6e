//! The same on librdkafka's mock cluster: no JVM, so it runs with every check.

use super::kill::committed_count;
use super::{numbered, until};
use rdkafka::types::RDKafkaApiKey;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::time::Duration;
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_model::TopicName;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::record::{Place, Record};
use weir_runtime::testing::judge::Judge;

pub(super) async fn write(log: &EmbeddedLog, records: impl IntoIterator<Item = (String, String)>) {
    let producer = Producer::start(ProducerConfig::new(&log.bootstrap())).unwrap();
    let mut batch = RecordBatch { topics: vec![TopicName::new("t").unwrap()], ..RecordBatch::default() };
    for (key, value) in records {
        let start = batch.arena.len() as u32;
        batch.arena.extend_from_slice(key.as_bytes());
        let middle = batch.arena.len() as u32;
        batch.arena.extend_from_slice(value.as_bytes());
        let (key, value) = (start..middle, middle..batch.arena.len() as u32);
        batch.records.push(RecordSpan {
            topic: 0,
            key,
            value,
            headers: 0..0,
            timestamp_ms: 1_700_000_000_000,
        });
    }
    producer.append(batch).await.unwrap();
}

pub(super) async fn member(log: &EmbeddedLog, judge: &Judge, hang: Option<i64>) -> Running {
    let mut config = SourceConfig::new(&log.bootstrap(), "g", &["t"]);
    config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
    let judge = judge.clone();
    Consumer::new(KafkaSource::new(config))
        .drain_max(Duration::from_millis(200))
        .start(move |record: Record| {
            let attempt = judge.begin(&record);
            async move {
                if hang == Some(record.offset) {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                attempt.done();
            }
        })
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_the_partitions_and_one_leaves() {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), 4, 1).unwrap();
    let judge = Judge::default();
    let first = member(&log, &judge, None).await;
    write(&log, numbered(2000, 50, 0)).await;
    until("the first is at work", || judge.done_count() > 0).await;
    let second = member(&log, &judge, None).await;
    until("the second has partitions", || !second.health().partitions.is_empty()).await;
    write(&log, numbered(2000, 50, 0)).await;
    until("all are done", || judge.done_count() == 4000).await;
    let left = first.stop(Duration::from_secs(5)).await.unwrap();
    write(&log, numbered(100, 50, 0)).await;
    until("what came later is done by the one that is left", || judge.done_count() == 4100).await;
    let counts = second.stop(Duration::from_secs(5)).await.unwrap();
    println!("{} repeated, {} + {} commits", judge.repeated_count(), left.commits, counts.commits);
    assert_eq!(judge.wrong(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_go_on_past_a_stuck_record_and_a_restart_repeats_that_one_alone() {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), 1, 1).unwrap();
    let judge = Judge::default();
    let first = member(&log, &judge, Some(0)).await;
    for wave in 1..=3 {
        write(&log, numbered(200, 200, 0)).await;
        // The key of the stuck record waits, wave after wave; each wave is committed when it is done.
        until("the rest is done", || judge.done_count() == wave * 199).await;
        let done = i64::try_from(wave * 199).unwrap();
        until("that is committed", || committed_count(&log.bootstrap(), "g", "t", 1) == done).await;
    }
    let counts = first.stop(Duration::ZERO).await.unwrap();
    assert_eq!((counts.commits_failed, counts.cancelled), (0, 1));
    let second = member(&log, &judge, None).await;
    until("the rest is done", || judge.done_count() == 600).await;
    let counts = second.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((counts.spared, counts.done, judge.repeated_count()), (597, 3, 0));
    assert_eq!(judge.attempts(&Place::new("t", 0), 0), 2);
    assert_eq!(judge.wrong(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_rights_ends_the_consumer_by_name() {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), 1, 1).unwrap();
    let refused = [Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 3];
    log.cluster().request_errors(RDKafkaApiKey::JoinGroup, &refused);
    let mut running = member(&log, &Judge::default(), None).await;
    let ended = tokio::time::timeout(Duration::from_secs(60), running.ended()).await.unwrap();
    let fault = ended.unwrap_err();
    assert_eq!((fault.code(), fault.about()), ("W-KAFKA-DENIED", "g"));
}
