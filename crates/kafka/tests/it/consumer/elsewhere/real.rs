//! On a real broker.

use crate::consumer::kill::committed;
use crate::consumer::real::{judged, member};
use crate::consumer::{DEADLINE, create, numbered, until, write};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::consumer::Consumer;
use weir_runtime::decaton::{HEADER, TaskMetadata};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::RetryPolicy;
use weir_runtime::retry_topic::RetryTopic;
use weir_runtime::testing::judge::Judge;
use weir_testkit::engine::kafka::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_goes_through_the_retry_topic_with_the_header_that_decaton_reads() {
    let kafka = Kafka::start();
    create(&kafka, "tasks", 3).await;
    create(&kafka, "tasks-retry", 3).await;
    write(&kafka, "tasks", numbered(200, 20, 0)).await;
    let producer = Arc::new(Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap());
    let config = SourceConfig::new(&kafka.bootstrap(), "g", &["tasks", "tasks-retry"]);
    let wait = Duration::from_millis(300);
    let running = Consumer::new(KafkaSource::new(config))
        .retry(RetryPolicy { first: wait, longest: wait, jitter: 0.0, ..RetryPolicy::default() })
        .retry_topic(RetryTopic::new(producer))
        .start(|record: Record| async move {
            // One in ten fails twice.
            let must_fail = record.text().1.contains("0 0") && record.attempt < 3;
            if must_fail { Outcome::failed("not now") } else { Outcome::Done }
        })
        .await
        .unwrap();
    until("all are done", || running.counts().done == 200).await;
    let counts = running.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((counts.failed, counts.requeued, counts.received), (40, 40, 240));

    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", "reader")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    reader.subscribe(&["tasks-retry"]).unwrap();
    let mut retries = [0; 2];
    let started = Instant::now();
    while retries.iter().sum::<usize>() < 40 {
        assert!(started.elapsed() < DEADLINE, "{retries:?} retries are in the topic, not 20 and 20");
        // None comes before its time, too: at a rebalance.
        let Some(message) = reader.poll(Duration::from_secs(1)) else { continue };
        let message = message.unwrap();
        let headers = message.headers().expect("it has headers");
        let last = headers.get(headers.count() - 1);
        assert_eq!(last.key, HEADER);
        let metadata = TaskMetadata::decode(last.value.unwrap()).unwrap();
        let written = message.timestamp().to_millis().unwrap();
        assert!((1..=written).contains(&metadata.timestamp_ms), "the time of the task itself");
        let ahead = metadata.scheduled_ms - written;
        assert!((-10_000..=300).contains(&ahead), "scheduled {ahead} ms after it was written");
        retries[usize::try_from(metadata.retry_count).unwrap() - 1] += 1;
    }
    assert_eq!(retries, [20, 20]);
    for (topic, expect) in [("tasks", 200), ("tasks-retry", 40)] {
        let end: i64 = (0..3).filter_map(|one| committed(&kafka, "g", topic, one)).map(|one| one.0).sum();
        assert_eq!(end, expect, "{topic}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_parallel_consumer_left_goes_on_without_what_it_had_done() {
    let kafka = Kafka::start();
    create(&kafka, "left", 1).await;
    write(&kafka, "left", numbered(50, 50, 0)).await;
    // Written by parallel-consumer-core 0.5.3.3 for a commit of 5: done are 5, 6, 8 and 9.
    let theirs = "bgAAAAIAAQAC";
    for (group, is_told, expect) in [("told", true, 41), ("not-told", false, 45)] {
        let leaver: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition("left", 0);
        element.set_offset(Offset::Offset(5)).unwrap();
        element.set_metadata(theirs);
        leaver.commit(&list, CommitMode::Sync).unwrap();
        drop(leaver);
        let config = SourceConfig::new(&kafka.bootstrap(), group, &["left"]);
        let judge = Judge::default();
        let running = if is_told {
            let consumer = Consumer::new(KafkaSource::new(config)).after_parallel_consumer();
            consumer.start(judged(&judge)).await.unwrap()
        } else {
            member(&config, &judge).await
        };
        until("the rest is done", || judge.done_count() == expect).await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((counts.received, counts.spared), (45, 45 - expect as u64), "{group}");
        assert_eq!(committed(&kafka, group, "left", 0), Some((50, Vec::new())), "{group}");
    }
}
