//! Retries in place and dead letters: one record fails twice, one always, one can never succeed.
//!
//! `cargo x engines up kafka`, then `cargo run -p weir-kafka --example retries [BOOTSTRAP]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_kafka::aside::Aside;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::{CAUSE, DeadLetters, PLACE};
use weir_runtime::handler::Handler;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::{Exhausted, RetryPolicy};

type Failure = Box<dyn std::error::Error>;

/// A service as a struct.
struct Bank;

impl Handler for Bank {
    async fn handle(&self, record: Record) -> Outcome {
        let (account, text) = record.text();
        let Ok(amount) = text.parse::<u32>() else {
            println!("{account} {text}: can never succeed");
            return Outcome::dead_letter("the amount is not a number");
        };
        // Stands for a call to somebody else that fails now and then.
        if amount == 13 && record.attempt <= 2 || amount == 666 {
            println!("{account} {text}: attempt {} fails", record.attempt);
            return Outcome::failed("the ledger is locked");
        }
        println!("{account} {text}: done at attempt {}", record.attempt);
        Outcome::Done
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let bootstrap = std::env::args().nth(1).map_or_else(engine, Ok)?;
    // Topics of their own for each run.
    let topic = TopicName::new(&format!("bank-{}", std::process::id()))?;
    let dead = TopicName::new(&format!("{topic}-dead"))?;
    let topics = Topics::new(&bootstrap, &BTreeMap::new())?;
    for topic in [&topic, &dead] {
        let settings =
            NewSettings { partitions: 1, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
        topics.create(topic, &settings).await?;
    }
    let producer = Producer::start(ProducerConfig::new(&bootstrap))?;
    producer.append(orders(&topic)).await?;

    let letters = DeadLetters::new(Arc::new(producer), dead.clone(), "bank");
    let running = Consumer::new(KafkaSource::new(SourceConfig::new(&bootstrap, "bank", &[topic.as_str()])))
        .retry(RetryPolicy {
            first: Duration::from_millis(200),
            attempts_max: 3,
            exhausted: Exhausted::DeadLetter,
            ..RetryPolicy::default()
        })
        .dead_letters(letters)
        .start(Bank)
        .await?;
    let started = Instant::now();
    while running.counts().done + running.counts().dead_letters < 6 {
        if started.elapsed() > Duration::from_secs(60) {
            return Err(format!("not done after a minute: {:?}", running.counts()).into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let counts = running.stop(Duration::from_secs(5)).await?;
    println!(
        "\n{} done, {} further attempts, {} dead letters:",
        counts.done, counts.retried, counts.dead_letters
    );
    Aside::open(&bootstrap, &BTreeMap::new(), dead.as_str())?.for_each(|_, letter| {
        println!("  {}: {}", letter.header(PLACE), letter.header(CAUSE));
        Ok(())
    })?;
    println!("\n`weir log aside replay --topic {dead} --all` puts them back.");
    Ok(())
}

/// Six amounts of two accounts.
fn orders(topic: &TopicName) -> RecordBatch {
    let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
    for (key, value) in
        [("anna", "1"), ("ben", "13"), ("anna", "much"), ("ben", "2"), ("anna", "666"), ("anna", "3")]
    {
        let mut put = |text: &str| {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(text.as_bytes());
            start..batch.arena.len() as u32
        };
        let (key, value) = (put(key), put(value));
        batch.records.push(RecordSpan {
            topic: 0,
            key,
            value,
            headers: 0..0,
            timestamp_ms: 1_700_000_000_000,
        });
    }
    batch
}

/// The broker of `cargo x engines up kafka`.
fn engine() -> Result<String, Failure> {
    let text =
        std::fs::read_to_string(weir_testkit::engine::maven::cache().join("running.txt")).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix("kafka: "));
    Ok(found.ok_or("no broker: run `cargo x engines up kafka`, or name one")?.to_owned())
}
