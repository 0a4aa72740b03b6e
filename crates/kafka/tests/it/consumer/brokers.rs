//! Three brokers, of which one dies: the one that coordinates the group.

/// On real brokers.
mod real {
    use crate::consumer::kill::committed_at;
    use crate::consumer::real::{judged, member};
    use crate::consumer::{create_at, numbered, until, until_some, write_with};
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::source::{KafkaSource, SourceConfig};
    use weir_model::TopicName;
    use weir_runtime::consumer::{Consumer, Running};
    use weir_runtime::dead_letter::DeadLetters;
    use weir_runtime::outcome::Outcome;
    use weir_runtime::record::Record;
    use weir_runtime::testing::judge::Judge;
    use weir_testkit::engine::kafka_cluster::KafkaCluster;

    /// Partitions of `__consumer_offsets` in the fixture.
    const OFFSETS_PARTITIONS: i32 = 4;

    /// The partition of `__consumer_offsets` that keeps a group: Kafka takes Java's hash of its name.
    fn offsets_partition(group: &str) -> i32 {
        let hash = group.bytes().fold(0i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
        (hash & i32::MAX) % OFFSETS_PARTITIONS
    }

    /// The broker that leads a partition; none while nobody does.
    fn leader(bootstrap: &str, topic: &str, partition: i32) -> Option<i32> {
        let asker: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().unwrap();
        let metadata = asker.fetch_metadata(Some(topic), Duration::from_secs(5)).ok()?;
        let found = metadata.topics()[0].partitions().iter().find(|one| one.id() == partition)?;
        (found.error().is_none() && found.leader() > 0).then(|| found.leader())
    }

    /// A consumer that gives up every record, with a topic for dead letters that wants all three replicas.
    async fn giving_up(bootstrap: &str) -> Running {
        let writer = ProducerConfig { message_timeout_ms: 5000, ..ProducerConfig::new(bootstrap) };
        let writer = Arc::new(Producer::start(writer).unwrap());
        let letters = DeadLetters::new(writer, TopicName::new("dead").unwrap(), "gives-up");
        Consumer::new(KafkaSource::new(SourceConfig::new(bootstrap, "gives-up", &["poison"])))
            .dead_letters(letters)
            .start(|_: Record| async { Outcome::dead_letter("poison") })
            .await
            .unwrap()
    }

    /// Three members, eight partitions, 10,000 records over 100 keys; members are replaced one by one, and the broker
    /// that coordinates the group, and leads some of the partitions, is killed and comes back. Beside them a consumer
    /// whose dead letters cannot be written for want of replicas.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_coordinator_killed_among_three_brokers_loses_no_record_and_no_keys_order() {
        const RECORDS: usize = 10_000;
        let mut kafka = KafkaCluster::start();
        let bootstrap = kafka.bootstrap();
        create_at(&bootstrap, "t", 8, 3, 2).await;
        create_at(&bootstrap, "poison", 1, 3, 2).await;
        create_at(&bootstrap, "dead", 1, 3, 3).await;
        let producer = Producer::start(ProducerConfig::new(&bootstrap)).unwrap();
        let config = SourceConfig::new(&bootstrap, "g", &["t"]);
        let judge = Judge::default();
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(member(&config, &judge).await);
        }
        let records: Vec<(String, String)> = numbered(RECORDS, 100, 20).collect();
        let mut parts = records.chunks(RECORDS / 4).map(<[_]>::to_vec);
        write_with(&producer, "t", parts.next().unwrap()).await;
        until("the three are at work", || judge.done_count() > 300).await;

        let (partition, offsets) = (offsets_partition("g"), "__consumer_offsets");
        let coordinator = leader(&bootstrap, offsets, partition).unwrap();
        kafka.node(coordinator).kill9();
        let killed = Instant::now();
        until("the group has another coordinator", || {
            leader(&bootstrap, offsets, partition).is_some_and(|leader| leader != coordinator)
        })
        .await;
        println!("broker {coordinator} killed, another coordinator after {:?}", killed.elapsed());
        write_with(&producer, "t", parts.next().unwrap()).await;
        let stopped = members.remove(0).stop(Duration::from_secs(5)).await.unwrap();
        println!("a member left after the move: {} commits failed", stopped.commits_failed);
        members.push(Consumer::new(KafkaSource::new(config.clone())).start(judged(&judge)).await.unwrap());
        until("what was written until now is done", || judge.done_count() == RECORDS / 2).await;

        // Two replicas are not three: the letter is refused, its record stays pending, and health says why.
        let gives_up = giving_up(&bootstrap).await;
        write_with(&producer, "poison", numbered(1, 1, 0)).await;
        let complaint = until_some("health says that the letter is refused", || {
            let complaint = gives_up.health().complaints(Duration::ZERO).concat();
            complaint.contains("its dead letter is not written").then_some(complaint)
        })
        .await;
        println!("{complaint}");
        assert!(complaint.starts_with("poison/0 has waited for offset 0"), "{complaint}");
        until("it is counted", || gives_up.counts().dead_letters_failed > 0).await;
        assert!(committed_at(&bootstrap, "gives-up", "poison", 0).is_none_or(|(offset, _)| offset == 0));

        kafka.node(coordinator).restart();
        for part in parts {
            write_with(&producer, "t", part).await;
            members.remove(0).stop(Duration::from_secs(5)).await.unwrap();
            members.push(member(&config, &judge).await);
        }
        until("all are done", || judge.done_count() == RECORDS).await;
        until("the letter is written", || gives_up.counts().dead_letters == 1).await;
        gives_up.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(committed_at(&bootstrap, "gives-up", "poison", 0), Some((1, Vec::new())));
        let mut refused = stopped.commits_failed;
        for member in members {
            refused += member.stop(Duration::from_secs(5)).await.unwrap().commits_failed;
        }
        println!("{} of {RECORDS} records repeated, {refused} commits refused", judge.repeated_count());
        assert_eq!(judge.wrong(), Vec::<String>::new());
        let end: i64 = (0..8)
            .filter_map(|partition| committed_at(&bootstrap, "g", "t", partition))
            .map(|one| one.0)
            .sum();
        assert_eq!(end, i64::try_from(RECORDS).unwrap());
    }
}
