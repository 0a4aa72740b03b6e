//! Timestamps that a topic refuses, and refusals that no waiting heals.

mod real {
    use crate::batch::{DEADLINE, push, written_ms};
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use std::collections::BTreeMap;
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::reader::{Reader, Start};
    use weir_model::{Fault, FaultKind, TopicName};
    use weir_runtime::log::{LogWriter as _, RecordBatch};
    use weir_testkit::engine::kafka::Kafka;

    const MINUTE_MS: i64 = 60_000;

    /// A topic of one partition with these settings.
    async fn create(kafka: &Kafka, topic: &str, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// A batch with one record for each age, in minutes; its value says the age.
    fn batch(topic: &str, ages_min: &[i64]) -> RecordBatch {
        let mut batch =
            RecordBatch { topics: vec![TopicName::new(topic).unwrap()], ..RecordBatch::default() };
        for age_min in ages_min {
            push(&mut batch, b"k", age_min.to_string().as_bytes(), "");
            batch.records.last_mut().unwrap().timestamp_ms = written_ms() - age_min * MINUTE_MS;
        }
        batch
    }

    async fn append(producer: &Producer, batch: RecordBatch) -> Result<(), Fault> {
        tokio::time::timeout(DEADLINE, producer.append(batch)).await.unwrap()
    }

    /// Age that the value says, and whether the timestamp is that of the write; of the first copy of each, in order.
    fn read(kafka: &Kafka, topic: &str) -> Vec<(i64, bool)> {
        let topics = [topic.to_owned()];
        let mut reader =
            Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &topics, Start::Beginning).unwrap();
        let mut found: Vec<(i64, bool)> = Vec::new();
        for record in reader.read_to_end(DEADLINE).unwrap() {
            let age_min: i64 = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
            let is_written = record.timestamp_ms == written_ms() - age_min * MINUTE_MS;
            assert!(is_written || record.timestamp_ms >= written_ms(), "{}", record.timestamp_ms);
            if found.iter().all(|(other, _)| *other != age_min) {
                found.push((age_min, is_written));
            }
        }
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_whose_write_time_its_topic_refuses_gets_the_time_of_capture_at_once() {
        let kafka = Kafka::start();
        let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();

        create(&kafka, "ten", &[("message.timestamp.before.max.ms", "600000")]).await;
        for age_min in [5, 20, 59, 61] {
            append(&producer, batch("ten", &[age_min])).await.unwrap();
        }
        assert_eq!(read(&kafka, "ten"), [(5, true), (20, false), (59, false), (61, false)]);

        // One batch with several records that are refused, with one that is not, and with another topic.
        create(&kafka, "mixed", &[("message.timestamp.before.max.ms", "600000")]).await;
        append(&producer, batch("mixed", &[20, 5, 30, 40])).await.unwrap();
        assert_eq!(read(&kafka, "mixed").iter().map(|(age, _)| *age).collect::<Vec<_>>(), [20, 5, 30, 40]);

        create(&kafka, "ahead", &[("message.timestamp.after.max.ms", "1000")]).await;
        let mut ahead = batch("ahead", &[0]);
        ahead.records[0].timestamp_ms =
            i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap() + MINUTE_MS / 2;
        append(&producer, ahead).await.unwrap();

        create(&kafka, "append", &[("message.timestamp.type", "LogAppendTime")]).await;
        append(&producer, batch("append", &[59])).await.unwrap();
        assert_eq!(read(&kafka, "append"), [(59, false)]);

        // A topic that takes write times gets them, whatever was learned of others.
        create(&kafka, "free", &[]).await;
        append(&producer, batch("free", &[59])).await.unwrap();
        assert_eq!(read(&kafka, "free"), [(59, true)]);

        // Not the time: no second try makes it right, and it is not called unreachable.
        create(&kafka, "compact", &[("cleanup.policy", "compact")]).await;
        let mut keyless = batch("compact", &[30]);
        keyless.records[0].key = RecordBatch::NONE;
        let fault = append(&producer, keyless).await.unwrap_err();
        assert_eq!((fault.kind(), fault.code()), (FaultKind::Rejected, "W-KAFKA-REJECTED"), "{fault:?}");
        let text = fault.chain();
        assert!(text.contains("has no key") && text.contains("cleanup.policy=delete for compact"), "{text}");
    }
}
