//! The producer against librdkafka's mock cluster, faults included.

use crate::batch::{DEADLINE, push};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::reader::{LogRecord, Reader, Start};
use weir_model::{FaultKind, TopicName, limits};
use weir_runtime::log::{LogWriter, RecordBatch};

fn start(log: &EmbeddedLog, change: impl FnOnce(&mut ProducerConfig)) -> (Producer, TopicName) {
    let topic = TopicName::new("t").unwrap();
    log.create_topic(&topic, 4, 1).unwrap();
    let mut config = ProducerConfig::new(&log.bootstrap());
    change(&mut config);
    (Producer::start(config).unwrap(), topic)
}

fn read(log: &EmbeddedLog) -> Vec<LogRecord> {
    let mut reader =
        Reader::open(&log.bootstrap(), &BTreeMap::new(), &["t".to_owned()], Start::Beginning).unwrap();
    reader.read_to_end(DEADLINE).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_keep_their_order_per_key_with_and_without_headers() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |_| {});
    let mut jobs = Vec::new();
    for call in 0..20u32 {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        for number in 0..100u32 {
            let key = format!("key-{}", number % 7);
            let value = (call * 100 + number).to_be_bytes();
            // Every third record has a header: both ways of handing over meet in one run.
            push(&mut batch, key.as_bytes(), &value, if number % 3 == 0 { "7" } else { "" });
        }
        jobs.push(producer.append(batch));
    }
    for job in jobs {
        job.await.unwrap();
    }
    let records = read(&log);
    assert_eq!(records.len(), 2000);
    let mut last: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for record in &records {
        let number = u32::from_be_bytes(record.value[..].try_into().unwrap());
        assert_eq!(record.partition, weir_kafka::partition::of_key(&record.key, 4));
        assert_eq!(record.header("weir.seq").is_some(), number % 100 % 3 == 0);
        if let Some(before) = last.insert(record.key.clone(), number) {
            assert!(before < number, "{before} came before {number}");
        }
    }
    assert_eq!(last.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_40_mib_comes_back_whole() {
    let log = EmbeddedLog::start(1).unwrap();
    // The mock keeps 5 MiB a partition, so the value is squeezed: it is 40 MiB and compresses well.
    let (producer, topic) = start(&log, |config| {
        (config.compression, config.part_bytes_max) = ("zstd".to_owned(), Some(limits::PART_BYTES_DEFAULT));
    });
    let value: Vec<u8> = (0..40u32 << 20).map(|place| (place >> 16) as u8).collect();
    let mut batch = RecordBatch { topics: vec![topic], ..RecordBatch::default() };
    push(&mut batch, b"before", b"1", "1");
    push(&mut batch, b"k", &value, "2");
    push(&mut batch, b"k", b"after", "3");
    producer.append(batch).await.unwrap();
    let records = read(&log);
    let of_key: Vec<_> = records.iter().filter(|record| record.key == b"k").collect();
    assert_eq!(of_key.len(), 2);
    assert!(of_key[0].value == value, "the large value was changed");
    assert_eq!((of_key[0].header("weir.seq"), of_key[1].value.as_slice()), (Some("2"), &b"after"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_is_a_named_fault_and_works_once_it_is_there() {
    let log = EmbeddedLog::start(1).unwrap();
    let mut config = ProducerConfig::new(&log.bootstrap());
    config.properties.insert("allow.auto.create.topics".to_owned(), "false".to_owned());
    let producer = Producer::start(config).unwrap();
    let topic = TopicName::new("t").unwrap();
    let batch = |topic: &TopicName| {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        push(&mut batch, b"k", b"v", "");
        batch
    };
    log.create_topic(&topic, 1, 1).unwrap();
    producer.append(batch(&topic)).await.unwrap();
    assert_eq!(read(&log).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_refused_is_a_fault_and_the_repeated_batch_arrives() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |_| {});
    let batch = || {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        push(&mut batch, b"k", b"v", "");
        batch
    };
    producer.append(batch()).await.unwrap();
    let refused = [Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED];
    log.cluster().request_errors(rdkafka::types::RDKafkaApiKey::Produce, &refused);
    let fault = producer.append(batch()).await.unwrap_err();
    assert_eq!((fault.kind(), fault.code()), (FaultKind::Denied, "W-KAFKA-DENIED"));
    // librdkafka remembers the refusal until its next look at the topic: the batch comes again until it is taken.
    tokio::time::timeout(DEADLINE, async {
        while producer.append(batch()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(read(&log).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_broker_a_write_fails_in_time_and_goes_through_later() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |config| config.message_timeout_ms = 1500);
    let batch = || {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        push(&mut batch, b"k", b"v", "");
        batch
    };
    producer.append(batch()).await.unwrap();
    log.cluster().broker_down(1).unwrap();
    let fault =
        tokio::time::timeout(Duration::from_secs(10), producer.append(batch())).await.unwrap().unwrap_err();
    assert_eq!((fault.kind(), fault.code()), (FaultKind::Transient, "W-KAFKA-UNREACHABLE"));
    log.cluster().broker_up(1).unwrap();
    tokio::time::timeout(DEADLINE, async { while producer.append(batch()).await.is_err() {} }).await.unwrap();
}

#[test]
fn settings_that_would_break_the_promise_are_refused() {
    let mut config = ProducerConfig::new("127.0.0.1:1");
    config.properties.insert("acks".to_owned(), "1".to_owned());
    let fault = Producer::start(config).unwrap_err();
    assert!(fault.chain().contains("properties.\"acks\": a batch is done only when"), "{}", fault.chain());
    let mut config = ProducerConfig::new("127.0.0.1:1");
    config.properties.insert("no.such.setting".to_owned(), "1".to_owned());
    let fault = Producer::start(config).unwrap_err();
    assert!(fault.chain().contains("no.such.setting"), "{}", fault.chain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_beyond_repair_is_replaced_and_the_repeated_batch_arrives() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |_| {});
    let batch = |value: &[u8]| {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        push(&mut batch, b"k", value, "");
        batch
    };
    producer.append(batch(b"1")).await.unwrap();
    // What a broker says when it has lost records in between: librdkafka then refuses to write ever again.
    let broken = [Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER];
    log.cluster().request_errors(rdkafka::types::RDKafkaApiKey::Produce, &broken);
    let mut failed = 0;
    for value in [b"2", b"3"] {
        // As a source does: the same batch until it is taken.
        tokio::time::timeout(DEADLINE, async {
            while producer.append(batch(value)).await.is_err() {
                failed += 1;
            }
        })
        .await
        .unwrap();
    }
    assert!(failed > 0, "the broker's answer was no error");
    assert_eq!(producer.stats().replaced.load(std::sync::atomic::Ordering::Relaxed), 1);
    let values: Vec<Vec<u8>> = read(&log).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
}

#[test]
fn the_build_knows_every_login_and_compression_that_the_manual_names() {
    let native = rdkafka::ClientConfig::new().create_native_config().unwrap();
    let features = native.get("builtin.features").unwrap();
    let features: Vec<&str> = features.trim_end_matches('\0').split(',').collect();
    for feature in [
        "ssl",
        "sasl",
        "sasl_plain",
        "sasl_scram",
        "sasl_gssapi",
        "sasl_oauthbearer",
        "oidc",
        "gzip",
        "snappy",
        "lz4",
        "zstd",
    ] {
        assert!(features.contains(&feature), "{feature} is not in {features:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_refused_record_in_its_partition_does_not_overtake_it() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |config| {
        config.properties.insert("message.max.bytes".to_owned(), "2000".to_owned());
    });
    let mut batch = RecordBatch { topics: vec![topic], ..RecordBatch::default() };
    push(&mut batch, b"key", b"first", "");
    push(&mut batch, b"key", &[0; 5000], "");
    push(&mut batch, b"key", b"third", "");
    let fault = producer.append(batch).await.unwrap_err();
    assert_eq!(fault.kind(), FaultKind::Rejected, "{fault:?}");
    let values: Vec<Vec<u8>> = read(&log).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [b"first"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_whose_records_time_out_is_replaced_and_what_waited_behind_them_fails_too() {
    let log = EmbeddedLog::start(1).unwrap();
    let (producer, topic) = start(&log, |config| config.message_timeout_ms = 1500);
    let batch = |value: &[u8]| {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        push(&mut batch, b"key", value, "");
        batch
    };
    producer.append(batch(b"1")).await.unwrap();
    log.cluster().broker_down(1).unwrap();
    let (second, third) = (producer.append(batch(b"2")), producer.append(batch(b"3")));
    assert_eq!(second.await.unwrap_err().kind(), FaultKind::Transient);
    assert_eq!(third.await.unwrap_err().kind(), FaultKind::Transient);
    log.cluster().broker_up(1).unwrap();
    for value in [b"2", b"3"] {
        let started = std::time::Instant::now();
        while producer.append(batch(value)).await.is_err() {
            assert!(started.elapsed() < DEADLINE, "{value:?} does not get through");
        }
    }
    assert!(producer.stats().replaced.load(std::sync::atomic::Ordering::Relaxed) > 0);
    let values: Vec<Vec<u8>> = read(&log).into_iter().map(|record| record.value).collect();
    assert_eq!(values, [b"1", b"2", b"3"]);
}
