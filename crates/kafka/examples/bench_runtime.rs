//! What a record costs: the keyed runtime beside a bare librdkafka loop, on the same records.
//!
//! `bench_runtime fill BOOTSTRAP TOPIC RECORDS BYTES KEYS` writes records into a new topic of three partitions;
//! `bench_runtime SYSTEM BOOTSTRAP TOPIC RECORDS MS` reads them: SYSTEM is `weir` (a handler that takes MS) or
//! `rdkafka-poll` (a bare `BaseConsumer` loop that counts). One line of JSON each: CPU of the whole process from its start, the rate from the first record on.

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::consumer::Consumer;
use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::record::Record;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match words.as_slice() {
        ["fill", bootstrap, topic, records, bytes, keys] => {
            runtime.block_on(fill(bootstrap, topic, records.parse()?, bytes.parse()?, keys.parse()?))
        }
        ["weir", bootstrap, topic, records, ms] => {
            runtime.block_on(weir(bootstrap, topic, records.parse()?, ms.parse()?))
        }
        ["rdkafka-poll", bootstrap, topic, records, _] => rdkafka(bootstrap, topic, records.parse()?),
        _ => Err("bench_runtime fill BOOTSTRAP TOPIC RECORDS BYTES KEYS | SYSTEM BOOTSTRAP TOPIC RECORDS MS"
            .into()),
    }
}

async fn fill(bootstrap: &str, topic: &str, records: u64, bytes: usize, keys: u64) -> Result<(), Failure> {
    let name = TopicName::new(topic)?;
    let settings =
        NewSettings { partitions: 3, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
    Topics::new(bootstrap, &BTreeMap::new())?.create(&name, &settings).await?;
    let mut config = ProducerConfig::new(bootstrap);
    config.compression = "none".to_owned();
    let producer = Producer::start(config)?;
    let value = vec![b'v'; bytes];
    for first in (0..records).step_by(10_000) {
        let mut batch = RecordBatch { topics: vec![name.clone()], ..RecordBatch::default() };
        batch.arena.extend_from_slice(&value);
        for number in first..(first + 10_000).min(records) {
            let start = batch.arena.len() as u32;
            // A key has 16 bytes; which key a record has looks like chance.
            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
            batch.arena.extend_from_slice(format!("{:016}", key % keys).as_bytes());
            let key = start..batch.arena.len() as u32;
            let record = RecordSpan { topic: 0, key, value: 0..bytes as u32, headers: 0..0, timestamp_ms: 1 };
            batch.records.push(record);
        }
        producer.append(batch).await?;
    }
    Ok(())
}

/// When the first record came.
struct Clock {
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now() }
    }

    fn report(&self, system: &str, records: u64) {
        // CPU since the process began: what librdkafka fetched before the first record was handled is part of the cost.
        let (took, used) = (self.started.elapsed(), cpu());
        println!(
            "{{\"system\":\"{system}\",\"records\":{records},\"records_per_s\":{:.0},\"cpu_us_per_record\":{:.3},\"rss_mib\":{}}}",
            records as f64 / took.as_secs_f64(),
            used.as_secs_f64() * 1e6 / records as f64,
            rss_mib()
        );
    }
}

async fn weir(bootstrap: &str, topic: &str, records: u64, ms: u64) -> Result<(), Failure> {
    let group = format!("bench-{}", std::process::id());
    let done = Arc::new(AtomicU64::new(0));
    let source = KafkaSource::new(SourceConfig::new(bootstrap, &group, &[topic]));
    let running = Consumer::new(source)
        .start({
            let done = Arc::clone(&done);
            move |_: Record| {
                let done = Arc::clone(&done);
                async move {
                    if ms > 0 {
                        tokio::time::sleep(Duration::from_millis(ms)).await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
        .await?;
    while done.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let clock = Clock::start();
    while done.load(Ordering::Relaxed) < records {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    clock.report("weir", records);
    running.stop(Duration::from_secs(5)).await?;
    Ok(())
}

fn rdkafka(bootstrap: &str, topic: &str, records: u64) -> Result<(), Failure> {
    let group = format!("bench-{}", std::process::id());
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    consumer.subscribe(&[topic])?;
    let mut count = 0;
    let mut clock = None;
    while count < records {
        if let Some(polled) = consumer.poll(Duration::from_millis(100)) {
            polled?;
            count += 1;
            clock.get_or_insert_with(Clock::start);
        }
    }
    if let Some(clock) = clock {
        clock.report("rdkafka-poll", records);
    }
    Ok(())
}

/// CPU time of this process, all threads.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    // utime and stime, in hundredths of a second on every Linux.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}

/// Most memory that was resident.
fn rss_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}
