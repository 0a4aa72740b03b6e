//! A record that failed is listed, put back, and handled; by two operators at once, too, and after retention.

use super::create_topic;
use crate::weir::{DEADLINE, Weir};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir_kafka::aside::{Aside, Letter};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_testkit::engine::kafka::Kafka;

/// Six orders of two bytes each: key and value are the same.
async fn write(producer: &Producer) {
    let mut batch = RecordBatch { topics: vec![TopicName::new("orders").unwrap()], ..RecordBatch::default() };
    for number in 0..6u32 {
        batch.arena.extend_from_slice(format!("o{number}").as_bytes());
        let at = number * 2..number * 2 + 2;
        batch.records.push(RecordSpan {
            topic: 0,
            key: at.clone(),
            value: at,
            headers: 0..0,
            timestamp_ms: 7,
        });
    }
    producer.append(batch).await.unwrap();
}

/// A service that cannot do even numbers until it is mended.
async fn start(kafka: &Kafka, is_mended: &Arc<AtomicBool>, done: &Arc<AtomicUsize>) -> Running {
    let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();
    let letters = DeadLetters::new(Arc::new(producer), TopicName::new("orders-dead").unwrap(), "shop");
    Consumer::new(KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "shop", &["orders"])))
        .dead_letters(letters)
        .start({
            let (is_mended, done) = (Arc::clone(is_mended), Arc::clone(done));
            move |record: Record| {
                let is_even = record.text().1.ends_with(['0', '2', '4']);
                let outcome = if is_even && !is_mended.load(Ordering::Relaxed) {
                    Outcome::dead_letter("even")
                } else {
                    done.fetch_add(1, Ordering::Relaxed);
                    Outcome::Done
                };
                async move { outcome }
            }
        })
        .await
        .unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{DEADLINE:?} have passed without: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The names and records of the letters that are listed.
fn listed(weir: &Weir) -> Vec<(String, String)> {
    let text = weir.command(&["log", "aside", "list", "--topic", "orders-dead"]);
    let letters = text.lines().map(|line| {
        let letter: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((letter["cause"].as_str(), letter["group"].as_str()), (Some("even"), Some("shop")));
        assert!(letter["from"].as_str().unwrap().starts_with("orders/"));
        (letter["letter"].as_str().unwrap().to_owned(), letter["value"].as_str().unwrap().to_owned())
    });
    let mut letters: Vec<_> = letters.collect();
    letters.sort_by(|left, right| left.1.cmp(&right.1));
    letters
}

#[test]
fn a_record_that_failed_is_listed_and_replay_puts_it_back_and_it_is_handled() {
    let kafka = Kafka::start();
    create_topic(&kafka, "orders");
    create_topic(&kafka, "orders-dead");
    let weir = Weir::new(&format!("[log]\nbootstrap = [\"{}\"]\n", kafka.bootstrap()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (is_mended, done) = (Arc::default(), Arc::default());
    let running = runtime.block_on(async {
        let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();
        write(&producer).await;
        let running = start(&kafka, &is_mended, &done).await;
        until("three letters are written", || running.counts().dead_letters == 3).await;
        running
    });
    let letters = listed(&weir);
    let values: Vec<&str> = letters.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["o0", "o2", "o4"]);
    let shown = weir.command(&["log", "aside", "show", "--topic", "orders-dead", &letters[1].0]);
    assert!(shown.contains("\"value\":\"o2\"") && shown.lines().count() == 1, "{shown}");

    // One is dropped, one is put back by name, the last with all the rest.
    let dropped = weir.command(&["log", "aside", "drop", "--topic", "orders-dead", &letters[0].0]);
    assert_eq!(dropped.trim(), "{\"dropped\":1}");
    assert_eq!(listed(&weir), letters[1..]);
    is_mended.store(true, Ordering::Relaxed);
    let replayed = weir.command(&["log", "aside", "replay", "--topic", "orders-dead", &letters[2].0]);
    assert_eq!(replayed.trim(), "{\"replayed\":1}");
    assert_eq!(listed(&weir), letters[1..2]);
    let replayed = weir.command(&["log", "aside", "replay", "--topic", "orders-dead", "--all"]);
    assert_eq!(replayed.trim(), "{\"replayed\":1}");
    assert_eq!(listed(&weir), []);
    let (code, said) = weir.try_command(&["log", "aside", "replay", "--topic", "orders-dead", &letters[2].0]);
    assert!(code != Some(0) && said.contains("was dealt with"), "{said}");
    runtime.block_on(async {
        // Three odd ones, and two that came back.
        until("what was put back is handled", || done.load(Ordering::Relaxed) == 5).await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((counts.done, counts.dead_letters), (5, 3));
    });
}

fn letters(aside: &mut Aside) -> Vec<Letter> {
    let mut letters = Vec::new();
    aside
        .for_each(|_, letter| {
            letters.push(letter);
            Ok(())
        })
        .unwrap();
    letters
}

#[test]
fn of_two_operators_the_later_one_deals_with_letters_and_marks_that_retention_passes_are_no_obstacle() {
    let kafka = Kafka::start();
    create_topic(&kafka, "orders");
    let weir = Weir::new(&format!("[log]\nbootstrap = [\"{}\"]\n", kafka.bootstrap()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (is_mended, done) = (Arc::default(), Arc::default());
    let running = runtime.block_on(async {
        let topics = Topics::new(&kafka.bootstrap(), &BTreeMap::new()).unwrap();
        let one =
            NewSettings { partitions: 1, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
        topics.create(&TopicName::new("orders-dead").unwrap(), &one).await.unwrap();
        write(&Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap()).await;
        let running = start(&kafka, &is_mended, &done).await;
        until("three letters are written", || running.counts().dead_letters == 3).await;
        running
    });
    is_mended.store(true, Ordering::Relaxed);
    let open = || Aside::open_to_deal(&kafka.bootstrap(), &BTreeMap::new(), "orders-dead").unwrap();
    let (mut first, mut second) = (open(), open());
    let all = letters(&mut first);
    assert_eq!(all.len(), 3);
    let fault = first.replay(&all).unwrap_err();
    assert!(fault.chain().contains("somebody else has begun to deal"), "{}", fault.chain());
    assert_eq!(letters(&mut second), all, "and nothing of it is marked");
    second.replay(&all[1..2]).unwrap();
    assert_eq!(listed(&weir).len(), 2);
    let fault = first.drop_letters(&all).unwrap_err();
    assert!(fault.chain().contains("somebody else has begun to deal"), "{}", fault.chain());
    drop((first, second));

    // Retention takes the oldest, and passes the mark.
    runtime.block_on(async {
        let admin: AdminClient<DefaultClientContext> =
            rdkafka::ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let mut gone = TopicPartitionList::new();
        gone.add_partition_offset("orders-dead", 0, Offset::Offset(2)).unwrap();
        admin.delete_records(&gone, &AdminOptions::new()).await.unwrap();
    });
    assert_eq!(listed(&weir).len(), 1);
    let replayed = weir.command(&["log", "aside", "replay", "--topic", "orders-dead", "--all"]);
    assert_eq!(replayed.trim(), "{\"replayed\":1}");
    assert_eq!(listed(&weir), []);
    runtime.block_on(async {
        // Three odd ones, and two that came back: nothing of what was refused.
        until("what was put back is handled", || done.load(Ordering::Relaxed) == 5).await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((counts.done, counts.received), (5, 8));
    });
}
