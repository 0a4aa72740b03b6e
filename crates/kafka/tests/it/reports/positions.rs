//! Where a group begins, how far it has come, and of which topic that is.

/// One broker for all.
mod real {
    use crate::consumer::kill::committed;
    use crate::consumer::logs::real::{admin, create_with, cut, delete};
    use crate::consumer::{create, until};
    use rdkafka::TopicPartitionList;
    use rdkafka::admin::{AdminOptions, NewPartitions};
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::topic_partition_list::Offset;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use weir_kafka::lag;
    use weir_kafka::source::{KafkaSource, Protocol, SourceConfig, StartAt};
    use weir_runtime::consumer::{Consumer, Running};
    use weir_runtime::record::Record;
    use weir_testkit::engine::kafka::Kafka;

    /// Values that were handled, and how often.
    type Seen = Arc<Mutex<BTreeMap<String, usize>>>;

    fn producer(kafka: &Kafka, properties: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.bootstrap());
        properties.iter().for_each(|(name, value)| {
            config.set(*name, *value);
        });
        config.create().unwrap()
    }

    fn send(producer: &BaseProducer, topic: &str, partition: i32, values: impl IntoIterator<Item = String>) {
        for value in values {
            producer.send(BaseRecord::to(topic).partition(partition).key(&value).payload(&value)).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn numbered(name: &str, count: usize) -> impl Iterator<Item = String> {
        (0..count).map(move |number| format!("{name} {number}"))
    }

    async fn start(config: &SourceConfig, commit_every: Duration, seen: &Seen) -> Running {
        let seen = Arc::clone(seen);
        let handler = move |record: Record| {
            *seen.lock().unwrap().entry(record.text().1).or_default() += 1;
            async {}
        };
        Consumer::new(KafkaSource::new(config.clone()))
            .commit_every(commit_every)
            .start(handler)
            .await
            .unwrap()
    }

    async fn seeing(config: &SourceConfig, seen: &Seen) -> Running {
        start(config, Duration::from_millis(200), seen).await
    }

    fn handled(seen: &Seen, name: &str) -> usize {
        seen.lock().unwrap().keys().filter(|value| value.starts_with(name)).count()
    }

    fn faults(running: &Running) -> Vec<String> {
        running.health().partitions.into_iter().filter_map(|one| one.fault).collect()
    }

    fn offset(kafka: &Kafka, group: &str, topic: &str) -> Option<i64> {
        committed(kafka, group, topic, 0).map(|(offset, _)| offset)
    }

    fn latest(kafka: &Kafka, group: &str, topic: &str) -> SourceConfig {
        SourceConfig { start_at: StartAt::Latest, ..SourceConfig::new(&kafka.bootstrap(), group, &[topic]) }
    }

    async fn scenario(name: &str, run: impl Future<Output = ()>) {
        println!("{name} ...");
        let started = Instant::now();
        run.await;
        println!("{:6.1} s  {name}", started.elapsed().as_secs_f64());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_groups_position_is_the_logs_own_is_kept_from_its_first_moment_and_holds_for_its_topic_alone() {
        let kafka = Kafka::start();
        scenario("transactions at the end", transactions(&kafka)).await;
        scenario("a position is kept before a record came", idle(&kafka)).await;
        scenario("partitions that are added", added(&kafka)).await;
        scenario("from a time on", timed(&kafka)).await;
        for protocol in [Protocol::Cooperative, Protocol::Eager, Protocol::Consumer] {
            scenario("a topic created again while it is read", recreated(&kafka, protocol)).await;
        }
        scenario("a topic created again while nobody reads it", recreated_meanwhile(&kafka)).await;
    }

    async fn transactions(kafka: &Kafka) {
        create(kafka, "tx", 1).await;
        let config = SourceConfig::new(&kafka.bootstrap(), "tx", &["tx"]);
        let seen = Seen::default();
        let running = seeing(&config, &seen).await;
        let producer = producer(kafka, &[("transactional.id", "tx")]);
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        producer.begin_transaction().unwrap();
        send(&producer, "tx", 0, numbered("good", 3));
        producer.commit_transaction(Duration::from_secs(20)).unwrap();
        until("the marker of a commit is committed", || offset(kafka, "tx", "tx") == Some(4)).await;
        producer.begin_transaction().unwrap();
        send(&producer, "tx", 0, numbered("bad", 3));
        producer.abort_transaction(Duration::from_secs(20)).unwrap();
        until("so is an aborted transaction", || offset(kafka, "tx", "tx") == Some(8)).await;
        let lags = lag::of_group(&kafka.bootstrap(), &BTreeMap::new(), &["tx".to_owned()], "tx").unwrap();
        assert_eq!((lags[0].end, lags[0].behind()), (8, 0));
        // One that stays behind a marker, as other clients do, has nothing left to read either.
        commit(kafka, "other", "tx", 7, "");
        let lags = lag::of_group(&kafka.bootstrap(), &BTreeMap::new(), &["tx".to_owned()], "other").unwrap();
        assert_eq!(lags[0].behind(), 0, "{lags:?}");
        running.stop(Duration::from_secs(5)).await.unwrap();
        // Retention takes all that was handled, and a new record comes.
        cut(kafka, "tx", 8).await;
        producer.begin_transaction().unwrap();
        send(&producer, "tx", 0, numbered("new", 1));
        producer.commit_transaction(Duration::from_secs(20)).unwrap();
        let running = seeing(&config, &seen).await;
        until("the new one is committed with its marker", || offset(kafka, "tx", "tx") == Some(10)).await;
        assert_eq!(faults(&running), Vec::<String>::new());
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((handled(&seen, ""), handled(&seen, "bad")), (4, 0));
    }

    /// Commits in a group's name.
    fn commit(kafka: &Kafka, group: &str, topic: &str, offset: i64, metadata: &str) {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", group)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, 0);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        client.commit(&list, CommitMode::Sync).unwrap();
    }

    async fn idle(kafka: &Kafka) {
        create(kafka, "idle", 2).await;
        let (seen, producer, config) = (Seen::default(), producer(kafka, &[]), latest(kafka, "idle", "idle"));
        send(&producer, "idle", 0, numbered("before", 3));
        // It never comes to a commit of its own.
        let running = start(&config, Duration::from_secs(60), &seen).await;
        send(&producer, "idle", 1, numbered("at once", 5));
        until("what is written once it has started is handled", || handled(&seen, "at once") == 5).await;
        assert_eq!(running.assigned().await.unwrap().len(), 2);
        assert_eq!(offset(kafka, "idle", "idle"), Some(3));
        send(&producer, "idle", 0, numbered("after", 5));
        until("what is written once it is assigned is handled", || handled(&seen, "after") == 5).await;
        // As one that is killed: nothing more is committed.
        running.stop(Duration::ZERO).await.unwrap();
        commit(kafka, "idle", "idle", 3, "");
        let running = start(&config, Duration::from_secs(60), &seen).await;
        running.assigned().await.unwrap();
        running.stop(Duration::ZERO).await.unwrap();
        send(&producer, "idle", 1, numbered("between", 3));
        let running = seeing(&config, &seen).await;
        until("what is written between two members is handled", || handled(&seen, "between") == 3).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(handled(&seen, "before"), 0, "{seen:?}");
    }

    async fn added(kafka: &Kafka) {
        create(kafka, "added", 1).await;
        let (seen, producer, config) =
            (Seen::default(), producer(kafka, &[]), latest(kafka, "added", "added"));
        send(&producer, "added", 0, numbered("before", 3));
        let running = seeing(&config, &seen).await;
        running.assigned().await.unwrap();
        grow(kafka, "added", 2).await;
        send(&producer_again(kafka), "added", 1, numbered("second", 4));
        let started = Instant::now();
        until("an added partition is read from its beginning", || handled(&seen, "second") == 4).await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(30), "found after {took:?}");
        running.stop(Duration::from_secs(5)).await.unwrap();
        grow(kafka, "added", 3).await;
        send(&producer_again(kafka), "added", 2, numbered("third", 4));
        let running = seeing(&config, &seen).await;
        until("also if it was added while nobody read", || handled(&seen, "third") == 4).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        // Members that begin side by side see each other's positions, which are of the same age.
        let config = SourceConfig { group: "side".to_owned(), ..config };
        let seen = Seen::default();
        let (first, second) = tokio::join!(seeing(&config, &seen), seeing(&config, &seen));
        let both = || first.health().partitions.len() + second.health().partitions.len() == 3;
        until("all three have an owner", both).await;
        send(&producer_again(kafka), "added", 2, numbered("fourth", 1));
        until("what is new is handled", || handled(&seen, "fourth") == 1).await;
        assert_eq!(handled(&seen, ""), 1, "{seen:?}");
        first.stop(Duration::from_secs(5)).await.unwrap();
        second.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// A producer that has not seen an older state of a topic.
    fn producer_again(kafka: &Kafka) -> BaseProducer {
        producer(kafka, &[])
    }

    async fn grow(kafka: &Kafka, topic: &str, count: usize) {
        let more = [NewPartitions::new(topic, count)];
        let grown = admin(kafka).create_partitions(&more, &AdminOptions::new()).await.unwrap();
        assert!(grown.iter().all(Result::is_ok), "{grown:?}");
    }

    async fn timed(kafka: &Kafka) {
        create_with(kafka, "timed", &[("message.timestamp.type", "CreateTime")]).await;
        let producer = producer(kafka, &[]);
        for (value, timestamp_ms) in
            [("a", 1_700_000_000_000), ("b", 1_700_000_001_000), ("c", 1_700_000_002_000)]
        {
            producer.send(BaseRecord::to("timed").key(value).payload(value).timestamp(timestamp_ms)).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
        let mut config = SourceConfig::new(&kafka.bootstrap(), "timed", &["timed"]);
        config.start_at = StartAt::Time(1_700_000_000_500);
        let seen = Seen::default();
        let running = seeing(&config, &seen).await;
        until("the rest is committed", || offset(kafka, "timed", "timed") == Some(3)).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(seen.lock().unwrap().keys().collect::<Vec<_>>(), ["b", "c"]);
        (config.start_at, config.group) = (StartAt::Time(1_800_000_000_000), "timed-later".to_owned());
        let running = seeing(&config, &seen).await;
        running.assigned().await.unwrap();
        assert_eq!(offset(kafka, "timed-later", "timed"), Some(3), "the end, where nothing is that late");
        running.stop(Duration::from_secs(5)).await.unwrap();
    }

    async fn recreated(kafka: &Kafka, protocol: Protocol) {
        let topic = match protocol {
            Protocol::Cooperative => "anew-cooperative",
            Protocol::Eager => "anew-eager",
            Protocol::Consumer => "anew-consumer",
        };
        create(kafka, topic, 1).await;
        send(&producer(kafka, &[]), topic, 0, numbered("old", 5));
        let config = SourceConfig { protocol, ..SourceConfig::new(&kafka.bootstrap(), topic, &[topic]) };
        let seen = Seen::default();
        let running = seeing(&config, &seen).await;
        until("the old ones are committed", || offset(kafka, topic, topic) == Some(5)).await;
        delete(kafka, topic).await;
        create(kafka, topic, 1).await;
        send(&producer_again(kafka), topic, 0, numbered("new", 10));
        until("all new ones are handled", || handled(&seen, "new") == 10).await;
        until("and committed", || offset(kafka, topic, topic) == Some(10)).await;
        assert_eq!(faults(&running), Vec::<String>::new());
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(handled(&seen, ""), 15);
    }

    /// The commit is of the old topic, and there is such an offset in the new one.
    async fn recreated_meanwhile(kafka: &Kafka) {
        const TOPIC: &str = "meanwhile";
        create(kafka, TOPIC, 1).await;
        send(&producer(kafka, &[]), TOPIC, 0, numbered("old", 5));
        let (config, seen) = (SourceConfig::new(&kafka.bootstrap(), TOPIC, &[TOPIC]), Seen::default());
        let running = seeing(&config, &seen).await;
        until("the old ones are committed", || offset(kafka, TOPIC, TOPIC) == Some(5)).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        let noted = metadata(kafka, TOPIC);
        delete(kafka, TOPIC).await;
        create(kafka, TOPIC, 1).await;
        send(&producer_again(kafka), TOPIC, 0, numbered("new", 10));
        // A late commit of a member of before; the broker has forgotten the others with the topic.
        commit(kafka, TOPIC, TOPIC, 5, &noted);
        let running = seeing(&config, &seen).await;
        until("all new ones are handled", || handled(&seen, "new") == 10).await;
        until("and committed", || offset(kafka, TOPIC, TOPIC) == Some(10)).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        // What an administrator sets has no note, and is taken as it is.
        commit(kafka, TOPIC, TOPIC, 8, "");
        let again = Seen::default();
        let running = seeing(&config, &again).await;
        until("it goes on from there", || offset(kafka, TOPIC, TOPIC) == Some(10)).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((handled(&seen, ""), handled(&again, "")), (15, 2));
    }

    fn metadata(kafka: &Kafka, topic: &str) -> String {
        let client: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", topic)
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        let list = client.committed_offsets(list, Duration::from_secs(20)).unwrap();
        list.find_partition(topic, 0).unwrap().metadata().to_owned()
    }
}
