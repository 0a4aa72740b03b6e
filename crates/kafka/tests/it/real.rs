//! The producer against real Kafka, and Kafka's own Java client as the judge.

use crate::batch::{DEADLINE, push, written_ms};
use std::collections::BTreeMap;
use std::time::Duration;
use weir_kafka::partition::of_key;
use weir_kafka::parts::HEADER as PART_HEADER;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::reader::{Reader, Start};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::{Fault, FaultKind, TopicName, limits};
use weir_runtime::log::{LogWriter as _, RecordBatch};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::kafka_secured::{KafkaSecured, PASSWORD, USER};
use weir_testkit::engine::kafka_tool::{self, JavaRecord};

const PARTITIONS: i32 = 5;

async fn create(bootstrap: &str, names: &[&str]) {
    let topics = Topics::new(bootstrap, &BTreeMap::new()).unwrap();
    let settings = NewSettings {
        partitions: PARTITIONS,
        replication: 1,
        min_insync_replicas: 1,
        retention_ms: 86_400_000,
    };
    for name in names {
        topics.create(&TopicName::new(name).unwrap(), &settings).await.unwrap();
    }
}

fn batch(topic: &str, records: &[(&[u8], &[u8], &str)]) -> RecordBatch {
    let mut batch = RecordBatch { topics: vec![TopicName::new(topic).unwrap()], ..RecordBatch::default() };
    for (key, value, header) in records {
        push(&mut batch, key, value, header);
    }
    batch
}

async fn write(config: ProducerConfig, batch: RecordBatch) -> Result<(), Fault> {
    let producer = Producer::start(config).unwrap();
    tokio::time::timeout(DEADLINE, producer.append(batch)).await.unwrap()
}

/// What the Java client reads must be these records, in order within each partition.
#[track_caller]
fn check_java(found: &[JavaRecord], expect: &[(&[u8], &[u8], &str)]) {
    let mut wanted: BTreeMap<i32, Vec<JavaRecord>> = BTreeMap::new();
    for (key, value, header) in expect {
        let partition = of_key(key, PARTITIONS);
        let headers = match *header {
            "" => Vec::new(),
            text => vec![("weir.seq".to_owned(), text.as_bytes().to_vec())],
        };
        wanted.entry(partition).or_default().push(JavaRecord {
            partition,
            timestamp_ms: written_ms(),
            key: key.to_vec(),
            value: value.to_vec(),
            headers,
        });
    }
    let mut got: BTreeMap<i32, Vec<JavaRecord>> = BTreeMap::new();
    for record in found {
        got.entry(record.partition).or_default().push(record.clone());
    }
    assert!(got == wanted, "the Java client read other records than were written");
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_own_client_agrees_on_partitions_compression_and_large_values() {
    let kafka = Kafka::start();
    let bootstrap = kafka.bootstrap();
    create(&bootstrap, &["keys", "none", "lz4", "zstd", "large"]).await;
    partitions_are_those_of_the_java_client(&bootstrap);
    for compression in ["none", "lz4", "zstd"] {
        the_java_client_reads_what_was_compressed(&bootstrap, compression).await;
    }
    a_value_of_40_mib_passes_a_broker_with_default_limits(&bootstrap).await;
    a_source_that_catches_up_or_runs_ahead_is_neither_deleted_nor_refused(&bootstrap).await;
}

/// Kafka counts retention from the record's timestamp, and refuses what is more than an hour ahead.
async fn a_source_that_catches_up_or_runs_ahead_is_neither_deleted_nor_refused(bootstrap: &str) {
    const DAY_MS: i64 = 86_400_000;
    create(bootstrap, &["late"]).await;
    let mut late = batch("late", &[(b"k", b"last month", ""), (b"k", b"tomorrow", ""), (b"k", b"now", "1")]);
    late.records[0].timestamp_ms -= 30 * DAY_MS;
    late.records[1].timestamp_ms += DAY_MS;
    write(ProducerConfig::new(bootstrap), late).await.unwrap();
    let stamps: Vec<i64> =
        kafka_tool::read(bootstrap, "late").iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(stamps.len(), 3);
    for stamp in &stamps[..2] {
        assert!((0..600_000).contains(&(stamp - written_ms())), "{stamp} is not the time of writing");
    }
    assert_eq!(stamps[2], written_ms());
}

fn partitions_are_those_of_the_java_client(bootstrap: &str) {
    let keys: Vec<Vec<u8>> = (0..200u32)
        .map(|number| number.wrapping_mul(0x9e37_79b9).to_be_bytes().repeat(number as usize % 12 + 1))
        .map(|key| key[..key.len() - key.len() % 7].to_vec())
        .filter(|key| !key.is_empty())
        .chain((0..100).map(|number| format!("{number:032x}").into_bytes()))
        .collect();
    assert!(keys.iter().any(|key| key.len() % 4 != 0), "tails of all lengths are hashed");
    let java = kafka_tool::partitions(bootstrap, "keys", &keys);
    let ours: Vec<i32> = keys.iter().map(|key| of_key(key, PARTITIONS)).collect();
    assert_eq!(java, ours);
}

async fn the_java_client_reads_what_was_compressed(bootstrap: &str, compression: &str) {
    let values: Vec<Vec<u8>> = (0..500).map(|number| format!("{number} ").repeat(50).into_bytes()).collect();
    let keys: Vec<Vec<u8>> = (0..500).map(|number| format!("key-{}", number % 11).into_bytes()).collect();
    let records: Vec<(&[u8], &[u8], &str)> = keys
        .iter()
        .zip(&values)
        .zip(0..)
        .map(|((key, value), number)| (&key[..], &value[..], if number % 3 == 0 { "7" } else { "" }))
        .collect();
    let config = ProducerConfig { compression: compression.to_owned(), ..ProducerConfig::new(bootstrap) };
    write(config, batch(compression, &records)).await.unwrap();
    check_java(&kafka_tool::read(bootstrap, compression), &records);
}

async fn a_value_of_40_mib_passes_a_broker_with_default_limits(bootstrap: &str) {
    // Bytes that no compression shrinks below the limit.
    let mut dice = 7u64;
    let large: Vec<u8> = (0..5 << 20)
        .flat_map(|_| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice ^ (dice >> 29)).to_be_bytes()
        })
        .collect();
    let records: [(&[u8], &[u8], &str); 3] =
        [(b"k", b"before", "1"), (b"k", &large, "2"), (b"k", b"after", "")];
    let config =
        ProducerConfig { part_bytes_max: Some(limits::PART_BYTES_DEFAULT), ..ProducerConfig::new(bootstrap) };
    write(config, batch("large", &records)).await.unwrap();
    // The Java client sees the parts: each below the broker's limit, numbered, with the record's own headers.
    let java = kafka_tool::read(bootstrap, "large");
    let parts: Vec<&JavaRecord> =
        java.iter().filter(|record| record.headers.iter().any(|(name, _)| name == PART_HEADER)).collect();
    assert!(parts.len() > 40 && parts.iter().all(|part| part.value.len() < 1 << 20));
    assert_eq!(parts.iter().map(|part| part.value.len()).sum::<usize>(), large.len());
    assert!(parts.iter().all(|part| part.headers[0] == ("weir.seq".to_owned(), b"2".to_vec())));
    // Our reader puts them together.
    let topic = ["large".to_owned()];
    let mut reader = Reader::open(bootstrap, &BTreeMap::new(), &topic, Start::Beginning).unwrap();
    let read = reader.read_to_end(DEADLINE).unwrap();
    let values: Vec<&[u8]> = read.iter().map(|record| &record.value[..]).collect();
    assert!(values == [&b"before"[..], &large, b"after"], "the large value was changed or moved");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_plain_and_scram_pass_through_and_a_wrong_password_says_so() {
    let kafka = KafkaSecured::start();
    create(&kafka.open(), &["t"]).await;
    let authority = kafka.authority().display().to_string();
    let login = |mechanism: &'static str, password: &'static str| {
        [("sasl.mechanism", mechanism), ("sasl.username", USER), ("sasl.password", password)]
    };
    let config = |bootstrap: &str, protocol: &str, more: &[(&str, &str)]| {
        let mut config = ProducerConfig::new(bootstrap);
        config.properties.insert("security.protocol".to_owned(), protocol.to_owned());
        for (key, value) in more {
            config.properties.insert((*key).to_owned(), (*value).to_owned());
        }
        config
    };
    let trust = ("ssl.ca.location", authority.as_str());
    let (plain, scram) = (login("PLAIN", PASSWORD), login("SCRAM-SHA-512", PASSWORD));
    let ways = [
        config(&kafka.tls(), "ssl", &[trust]),
        config(&kafka.sasl(), "sasl_plaintext", &plain),
        config(&kafka.sasl(), "sasl_plaintext", &scram),
        config(&kafka.sasl_tls(), "sasl_ssl", &[&plain[..], &[trust]].concat()),
        config(&kafka.sasl_tls(), "sasl_ssl", &[&scram[..], &[trust]].concat()),
    ];
    let count = ways.len();
    for (way, index) in ways.into_iter().zip(0..) {
        write(way, batch("t", &[(b"k", format!("{index}").as_bytes(), "1")])).await.unwrap();
    }
    let values: Vec<Vec<u8>> =
        kafka_tool::read(&kafka.open(), "t").into_iter().map(|record| record.value).collect();
    assert_eq!(values, (0..count).map(|index| index.to_string().into_bytes()).collect::<Vec<_>>());

    let wrong = [
        config(&kafka.sasl(), "sasl_plaintext", &login("PLAIN", "wrong")),
        config(&kafka.sasl(), "sasl_plaintext", &login("SCRAM-SHA-512", "wrong")),
        // A certificate that nobody vouches for.
        config(&kafka.tls(), "ssl", &[]),
    ];
    for (config, text) in
        wrong.into_iter().zip(["uthentication", "uthentication", "certificate verify failed"])
    {
        let asked = Topics::new(&config.bootstrap, &config.properties).unwrap();
        let written = write(config, batch("t", &[(b"k", b"never", "")])).await.unwrap_err();
        assert!(written.chain().contains(text), "{}", written.chain());
        let listed = tokio::task::block_in_place(|| asked.list()).unwrap_err();
        for fault in [written, listed] {
            let said = fault.chain();
            assert_eq!((fault.kind(), fault.code()), (FaultKind::Denied, "W-KAFKA-DENIED"), "{said}");
            assert!(!said.contains("wrong"), "the password is in the text: {said}");
        }
    }
    assert_eq!(kafka_tool::read(&kafka.open(), "t").len(), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_is_a_named_fault_and_a_new_one_with_more_partitions_is_taken_up() {
    let kafka = Kafka::start();
    create(&kafka.bootstrap(), &["other"]).await;
    let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();
    let append = |key: &'static [u8]| producer.append(batch("t", &[(key, b"v", "")]));
    let fault = append(b"k").await.unwrap_err();
    assert_eq!((fault.kind(), fault.code()), (FaultKind::Config, "W-KAFKA-TOPIC"), "{}", fault.chain());
    create(&kafka.bootstrap(), &["t"]).await;
    // The producer remembers for a while that the topic was missing; calls come again anyway.
    tokio::time::timeout(DEADLINE, async {
        while append(b"k").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(kafka_tool::read(&kafka.bootstrap(), "t").len(), 1);
}
