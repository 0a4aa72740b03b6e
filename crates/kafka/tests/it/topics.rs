//! Topics that change under a running producer.

/// On a real broker: the mock cluster cannot add partitions.
mod real {
    use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::{Duration, Instant};
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::reader::{Reader, Start};
    use weir_kafka::topics::{NewSettings, Topics};
    use weir_model::TopicName;
    use weir_runtime::log::{LogWriter as _, RecordBatch, RecordSpan};
    use weir_testkit::engine::kafka::Kafka;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A hundred records, keys `0` to `99`.
    fn hundred(topic: &TopicName) -> RecordBatch {
        let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
        for number in 0..100 {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(number.to_string().as_bytes());
            let key = start..batch.arena.len() as u32;
            batch.records.push(RecordSpan {
                topic: 0,
                value: key.clone(),
                key,
                headers: 0..0,
                timestamp_ms: 1_700_000_000_000,
            });
        }
        batch
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn partitions_that_are_added_are_used_soon() {
        let kafka = Kafka::start();
        let topic = TopicName::new("grows").unwrap();
        let settings =
            NewSettings { partitions: 2, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
        let topics = Topics::new(&kafka.bootstrap(), &BTreeMap::new()).unwrap();
        topics.create(&topic, &settings).await.unwrap();
        let producer = Producer::start(ProducerConfig {
            topic_look_every: Duration::from_millis(300),
            ..ProducerConfig::new(&kafka.bootstrap())
        })
        .unwrap();
        producer.append(hundred(&topic)).await.unwrap();
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let more = admin.create_partitions(&[NewPartitions::new("grows", 5)], &AdminOptions::new()).await;
        more.unwrap().into_iter().for_each(|result| {
            result.unwrap();
        });
        let started = Instant::now();
        let names = ["grows".to_owned()];
        // The new partitions may become known one after the other.
        loop {
            producer.append(hundred(&topic)).await.unwrap();
            let mut reader =
                Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &names, Start::Beginning).unwrap();
            let records = reader.read_to_end(DEADLINE).unwrap();
            let used: BTreeSet<i32> = records.iter().map(|record| record.partition).collect();
            if used == BTreeSet::from([0, 1, 2, 3, 4]) {
                break;
            }
            assert!(started.elapsed() < DEADLINE, "only {used:?} are used");
        }
    }
}
