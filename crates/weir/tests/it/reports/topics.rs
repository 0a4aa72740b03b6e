//! Topics that delete acknowledged records, that Kafka does not create, or whose settings nobody may read.

/// On real brokers.
mod real {
    use crate::weir::DEADLINE;
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use std::time::Instant;
    use weir::config::{Config, load};
    use weir::diagnosis::{Finding, Level};
    use weir::topic_creator::TopicCreator;
    use weir::topic_watch::look;
    use weir_model::TopicName;
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::engine::kafka_secured::{GUEST, KafkaSecured, PASSWORD};
    use weir_testkit::engine::kafka_tool::{allow, script};

    fn config(bootstrap: &str, tables: &str, log: &str) -> Config {
        let text = format!(
            "[log]\nbootstrap = [\"{bootstrap}\"]\n{log}\n[capture.main]\nzookeeper = \"127.0.0.1:1\"\n\
             tables.include = [{tables}]\n"
        );
        load::text_of(&text, "test").unwrap()
    }

    async fn create(bootstrap: &str, name: &str, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
        let mut new = NewTopic::new(name, 2, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        for result in admin.create_topics([&new], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
    }

    /// The finding about a topic or table with this text; panics when there is none.
    #[track_caller]
    fn one<'a>(found: &'a [Finding], subject: &str, text: &str) -> &'a Finding {
        let is_it = |one: &&Finding| one.what.contains(subject) && one.what.contains(text);
        found.iter().find(is_it).unwrap_or_else(|| panic!("{subject}, {text}: not in {found:#?}"))
    }

    /// Runs the first command of a fix on the cluster.
    #[track_caller]
    fn run(fix: &str) {
        if let Err(said) = script(fix) {
            panic!("Kafka refuses {fix}\n{said}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_deletes_acknowledged_records_is_named_with_a_command_that_kafka_accepts() {
        let kafka = Kafka::start_set(&["log.cleanup.policy=compact,delete", "log.retention.bytes=100000"]);
        let at = kafka.bootstrap();
        create(&at, "hbase.by-default.wal", &[]).await;
        create(&at, "hbase.set.wal", &[("cleanup.policy", "compact"), ("retention.bytes", "-1")]).await;
        let tables = "\"by-default\", \"set\", \"gone\", \"a_b\"";
        create(&at, "hbase.a.b.wal", &[("cleanup.policy", "delete")]).await;
        let config = config(&at, tables, "");
        let found = look(&config).await.unwrap();
        let defaults =
            one(&found, "hbase.by-default.wal", "cleanup.policy is compact,delete (the brokers' default)");
        assert_eq!(defaults.level, Level::Error);
        let size = one(&found, "hbase.by-default.wal", "retention.bytes is 100000 for each of 2 partitions");
        assert_eq!(size.level, Level::Warning);
        let set = one(&found, "hbase.set.wal", "cleanup.policy is compact: a key is a region");
        assert_eq!(set.level, Level::Error);
        let gone = one(&found, "table gone", "hbase.gone.wal is missing");
        // What is printed for a table whose topic Kafka would not create is a name that it takes.
        let collides = one(&found, "table a_b", "hbase.a_b.wal beside the topic hbase.a.b.wal");
        assert!(collides.fix.contains("\"a_b\" = \"hbase.default--a-b.wal\""), "{collides:?}");
        assert!(!found.iter().any(|one| one.fix.contains("--topic hbase.a_b.wal")), "{found:#?}");
        create(&at, "hbase.default--a-b.wal", &[("retention.bytes", "-1"), ("cleanup.policy", "delete")])
            .await;
        for fix in [&defaults.fix, &size.fix, &set.fix, &gone.fix] {
            run(fix);
        }
        let found = look(&config).await.unwrap();
        let left: Vec<_> = found.iter().filter(|one| !one.what.contains("1 replica")).collect();
        let is_of_a_b = |one: &&&Finding| one.what.contains("a_b") || one.what.contains("hbase.a.b.wal");
        assert!(left.iter().all(|one| is_of_a_b(&one)), "{left:#?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_topic_that_kafka_does_not_create_is_refused_in_the_brokers_words_and_one_that_it_does_is_sound()
     {
        let kafka = Kafka::start_set(&["log.cleanup.policy=compact", "log.retention.bytes=100000"]);
        let log = "[log.topics]\ncreate = true\nreplication = 1\nmin-insync-replicas = 1";
        let config = config(&kafka.bootstrap(), "\"*\"", log);
        let creator = TopicCreator::new(&config).unwrap().unwrap();
        let topic = |name: &str| TopicName::new(name).unwrap();
        creator.create(&[topic("hbase.a.b.wal")]).await.unwrap();
        let names = [topic("hbase.a_b.wal"), topic("hbase.innocent.wal")];
        let fault = creator.create(&names).await.unwrap_err();
        let said = fault.chain();
        for part in [
            "W-KAFKA-TOPIC",
            "Topic 'hbase.a_b.wal' collides with existing topic: hbase.a.b.wal",
            "table a_b and table a.b",
            "fix: set capture.main.topic.names = { \"a_b\" = \"hbase.default--a-b.wal\" }",
        ] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
        assert_eq!(
            creator.create(&names).await.unwrap_err().chain(),
            said,
            "it is remembered as it was said"
        );
        // The other table of that call has its topic all the same, and no default of the broker harms it.
        let started = Instant::now();
        let found = loop {
            let found = look(&config).await.unwrap();
            if found.iter().any(|one| one.what.contains("topic hbase.innocent.wal")) {
                break found;
            }
            assert!(started.elapsed() < DEADLINE, "{found:#?}");
        };
        assert!(found.iter().all(|one| one.what.contains("1 replica")), "{found:#?}");
        // Another refusal has its own words: two replicas on one broker.
        let two = load::text_of(
            &format!(
                "[log]\nbootstrap = [\"{}\"]\n[log.topics]\ncreate = true\n[capture.main]\n",
                kafka.bootstrap()
            ),
            "test",
        );
        let creator = TopicCreator::new(&two.unwrap()).unwrap().unwrap();
        let said = creator.create(&[topic("hbase.three.wal")]).await.unwrap_err().chain();
        assert!(said.contains("replication factor") || said.contains("replicas"), "{said}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn settings_that_the_user_may_not_read_are_unknown_and_not_fine() {
        let kafka = KafkaSecured::start();
        let open = kafka.open();
        create(&open, "hbase.hidden.wal", &[("cleanup.policy", "compact")]).await;
        allow(&open, GUEST, "TOPIC", "hbase.hidden.wal", "DESCRIBE");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), PASSWORD).unwrap();
        let log = format!(
            "[log.properties]\n\"security.protocol\" = \"sasl_plaintext\"\n\"sasl.mechanism\" = \"PLAIN\"\n\
             \"sasl.username\" = \"{GUEST}\"\n\"sasl.password\" = {{ file = \"{}\" }}",
            file.path().display()
        );
        let config = config(&kafka.sasl(), "\"hidden\"", &log);
        let found = look(&config).await.unwrap();
        let unknown = one(&found, "hbase.hidden.wal", "its settings are unknown");
        assert!(unknown.level == Level::Warning && unknown.what.contains("uthoriz"), "{unknown:?}");
        assert!(unknown.fix.contains("--operation DescribeConfigs"), "{unknown:?}");
        run(&unknown.fix.replace(&kafka.sasl(), &open));
        let found = look(&config).await.unwrap();
        one(&found, "hbase.hidden.wal", "cleanup.policy is compact");
    }
}
