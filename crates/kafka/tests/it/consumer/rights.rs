//! What a consumer may not do, and what cannot be: refused at the start, with the field and what mends it.

/// On real brokers.
mod real {
    use crate::consumer::kill::{committed, committed_at};
    use crate::consumer::{create, create_at, numbered, until, until_some, write, write_with};
    use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::reader::{Reader, Start};
    use weir_kafka::source::{KafkaSource, SourceConfig};
    use weir_model::{Fault, FaultKind, TopicName};
    use weir_runtime::consumer::Consumer;
    use weir_runtime::dead_letter::DeadLetters;
    use weir_runtime::outcome::Outcome;
    use weir_runtime::record::Record;
    use weir_runtime::retry::RetryPolicy;
    use weir_runtime::source::{LogSource as _, Retention};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::engine::kafka_secured::{GUEST, KafkaSecured, PASSWORD};
    use weir_testkit::engine::kafka_tool::allow;

    async fn refused(config: SourceConfig) -> Fault {
        Consumer::new(KafkaSource::new(config)).start(|_: Record| async {}).await.unwrap_err()
    }

    fn login() -> BTreeMap<String, String> {
        [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", GUEST),
            ("sasl.password", PASSWORD),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_setting_that_cannot_be_is_refused_at_the_start_with_the_field_and_the_mend() {
        let kafka = Kafka::start();
        create(&kafka, "t", 1).await;
        let with = |key: &str, value: &str| {
            let mut config = SourceConfig::new(&kafka.bootstrap(), "g", &["t"]);
            config.properties.insert(key.to_owned(), value.to_owned());
            config
        };
        let topic = SourceConfig::new(&kafka.bootstrap(), "g", &["t", "no-such-topic"]);
        let group = SourceConfig::new(&kafka.bootstrap(), "", &["t"]);
        for (config, code, about, mend) in [
            (topic, "W-KAFKA-TOPIC", "no-such-topic", "create it"),
            (with("fetch.wait.max", "7"), "W-CONFIG", "properties.\"fetch.wait.max\"", "CONFIGURATION.md"),
            (
                with("fetch.wait.max.ms", "no"),
                "W-CONFIG",
                "properties.\"fetch.wait.max.ms\"",
                "CONFIGURATION.md",
            ),
            (
                with("enable.auto.commit", "true"),
                "W-CONFIG",
                "properties.\"enable.auto.commit\"",
                "only what is done is committed",
            ),
            (group, "W-CONFIG", "group", "give it a name"),
        ] {
            let fault = refused(config).await;
            println!("{}", fault.chain());
            assert_eq!((fault.kind(), fault.code(), fault.about()), (FaultKind::Config, code, about));
            assert!(fault.chain().contains(mend), "{}", fault.chain());
        }
        // And nothing was made by asking.
        let names = ["no-such-topic".to_owned()];
        assert!(Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &names, Start::Beginning).is_err());

        // The topic that keeps its records for the shortest time, as the broker says.
        create(&kafka, "short", 1).await;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let short = AlterConfig::new(ResourceSpecifier::Topic("short")).set("retention.ms", "60000");
        admin.alter_configs(&[short], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let source = || KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "g", &["t", "short"]));
        let expect = Retention { topic: "short".to_owned(), kept_for: Duration::from_secs(60) };
        assert_eq!(source().retention(), Some(expect));
        let patient = RetryPolicy { age_max: Some(Duration::from_secs(120)), ..RetryPolicy::default() };
        let started = Consumer::new(source()).retry(patient).start(|_: Record| async {}).await;
        let fault = started.unwrap_err();
        println!("{}", fault.chain());
        assert_eq!((fault.code(), fault.about()), ("W-CONFIG", "retry.age_max"));
        assert!(fault.chain().contains("short keeps its records for 60s"), "{}", fault.chain());

        // What can be starts.
        write(&kafka, "t", numbered(1, 1, 0)).await;
        let config = with("fetch.wait.max.ms", "7");
        let running = Consumer::new(KafkaSource::new(config)).start(|_: Record| async {}).await.unwrap();
        until("its record is committed", || committed(&kafka, "g", "t", 0) == Some((1, Vec::new()))).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// A user is given one right after the other, and each that is missing is named.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_or_a_group_without_rights_is_refused_by_name_and_so_is_a_dead_letter() {
        let kafka = KafkaSecured::start();
        let open = kafka.open();
        create_at(&open, "t", 1, 1, 1).await;
        create_at(&open, "dead", 1, 1, 1).await;
        let config = || SourceConfig { properties: login(), ..SourceConfig::new(&kafka.sasl(), "g", &["t"]) };
        let fault = refused(config()).await;
        println!("{}", fault.chain());
        assert_eq!((fault.kind(), fault.code(), fault.about()), (FaultKind::Denied, "W-KAFKA-DENIED", "t"));
        assert!(fault.chain().contains("Read and Describe on the topic"), "{}", fault.chain());

        allow(&open, GUEST, "TOPIC", "t", "READ");
        let fault = refused(config()).await;
        println!("{}", fault.chain());
        assert_eq!((fault.kind(), fault.code(), fault.about()), (FaultKind::Denied, "W-KAFKA-DENIED", "g"));
        assert!(fault.chain().contains("Read on the group"), "{}", fault.chain());

        allow(&open, GUEST, "GROUP", "g", "READ");
        write_with(&Producer::start(ProducerConfig::new(&open)).unwrap(), "t", numbered(1, 1, 0)).await;
        // It may not write dead letters: the record stays pending, and health says why.
        let producer = ProducerConfig { properties: login(), ..ProducerConfig::new(&kafka.sasl()) };
        let writer = Arc::new(Producer::start(producer).unwrap());
        let letters = DeadLetters::new(writer, TopicName::new("dead").unwrap(), "g");
        let running = Consumer::new(KafkaSource::new(config()))
            .dead_letters(letters)
            .start(|_: Record| async { Outcome::dead_letter("poison") })
            .await
            .unwrap();
        let complaint = until_some("health says that the letter is refused", || {
            let complaint = running.health().complaints(Duration::ZERO).concat();
            complaint.contains("W-KAFKA-DENIED").then_some(complaint)
        })
        .await;
        println!("{complaint}");
        assert!(complaint.contains("its dead letter is not written"), "{complaint}");
        assert!(committed_at(&open, "g", "t", 0).is_none_or(|(offset, _)| offset == 0));
        allow(&open, GUEST, "TOPIC", "dead", "WRITE");
        until("the letter is written", || running.counts().dead_letters == 1).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(committed_at(&open, "g", "t", 0), Some((1, Vec::new())));
    }
}
