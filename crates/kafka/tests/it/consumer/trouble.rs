//! What goes wrong around a consumer: a member that sleeps, a broker that dies, topics that change, transactions.

/// On a real broker.
mod real {
    use crate::consumer::kill::{Member, committed};
    use crate::consumer::real::{check_order, done, member};
    use crate::consumer::{DEADLINE, create, numbered, until, write};
    use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use std::time::Duration;
    use weir_kafka::source::SourceConfig;
    use weir_runtime::testing::judge::Judge;
    use weir_testkit::engine::kafka::Kafka;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_member_that_sleeps_past_its_session_loses_its_partitions_and_no_record() {
        let kafka = Kafka::start();
        create(&kafka, "t", 4).await;
        let sleeper = Member::start(&kafka, "g", "t", None);
        let other = Member::start(&kafka, "g", "t", None);
        write(&kafka, "t", numbered(200, 100, 1)).await;
        until("both are at work", || {
            // Whoever came first may have done all: a few more until both have some.
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(write(&kafka, "t", numbered(100, 100, 1)));
            });
            sleeper.count("done") > 0 && other.count("done") > 0
        })
        .await;
        let written = || (0..4).map(|partition| end(&kafka, "t", partition)).sum::<i64>();
        write(&kafka, "t", numbered(3000, 100, 50)).await;
        let before = sleeper.count("done");
        until("the sleeper is in the middle", || sleeper.count("done") > before + 100).await;
        sleeper.signal("STOP");
        let all = usize::try_from(written()).unwrap();
        let everything = || {
            let mut both = done(&sleeper.told());
            both.extend(done(&other.told()));
            both.len()
        };
        until("the other has done the rest", || everything() == all).await;
        sleeper.signal("CONT");
        // The sleeper finds out, comes back, and both are given work again.
        let before = (sleeper.count("done"), other.count("done"));
        until("both are at work again", || {
            tokio::task::block_in_place(|| {
                tokio::runtime::Handle::current().block_on(write(&kafka, "t", numbered(100, 100, 1)));
            });
            sleeper.count("done") > before.0 + 100 && other.count("done") > before.1
        })
        .await;
        let all = usize::try_from(written()).unwrap();
        until("all are done", || everything() == all).await;
        sleeper.stop();
        check_order(&other.stop().0);
        let committed: i64 =
            (0..4).filter_map(|partition| committed(&kafka, "g", "t", partition)).map(|one| one.0).sum();
        assert_eq!(committed, i64::try_from(all).unwrap());
    }

    /// The end of a partition.
    fn end(kafka: &Kafka, topic: &str, partition: i32) -> i64 {
        use rdkafka::consumer::{BaseConsumer, Consumer as _};
        let asker: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        asker.fetch_watermarks(topic, partition, DEADLINE).unwrap().1
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_broker_that_is_killed_and_comes_back_costs_no_record_and_no_order() {
        let mut kafka = Kafka::start();
        create(&kafka, "t", 4).await;
        write(&kafka, "t", numbered(4000, 100, 50)).await;
        let judge = Judge::default();
        let running = member(&SourceConfig::new(&kafka.bootstrap(), "g", &["t"]), &judge).await;
        until("some are done", || judge.done_count() > 500).await;
        kafka.kill9();
        kafka.restart();
        until("all are done", || judge.done_count() == 4000).await;
        until("all is committed", || {
            (0..4)
                .filter_map(|partition| committed(&kafka, "g", "t", partition))
                .map(|one| one.0)
                .sum::<i64>()
                == 4000
        })
        .await;
        write(&kafka, "t", numbered(100, 100, 0)).await;
        until("what came later is done", || judge.done_count() == 4100).await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        println!("{} repeated, {} commits failed", judge.repeated_count(), counts.commits_failed);
        assert_eq!(judge.wrong(), Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn aborted_records_never_come_added_partitions_do_and_markers_are_committed_over() {
        let kafka = Kafka::start();
        create(&kafka, "t", 1).await;
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("transactional.id", "x")
            .create()
            .unwrap();
        let wait = Duration::from_secs(30);
        producer.init_transactions(wait).unwrap();
        for transaction in 0..10 {
            producer.begin_transaction().unwrap();
            for number in 0..10 {
                let value = format!("k{number} {transaction} 0");
                let record = BaseRecord::to("t").key("k").payload(&value).partition(0);
                producer.send(record).unwrap();
            }
            producer.flush(wait).unwrap();
            if transaction % 2 == 0 {
                producer.commit_transaction(wait)
            } else {
                producer.abort_transaction(wait)
            }
            .unwrap();
        }
        let judge = Judge::default();
        let mut config = SourceConfig::new(&kafka.bootstrap(), "g", &["t"]);
        config.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
        let running = member(&config, &judge).await;
        until("the committed ones are done", || judge.done_count() == 50).await;
        // Ten transactions of ten records and a marker each; the last record of a committed one is at 97.
        until("the commit is past the last marker", || {
            committed(&kafka, "g", "t", 0).is_some_and(|(offset, _)| offset == 110)
        })
        .await;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let more = admin.create_partitions(&[NewPartitions::new("t", 4)], &AdminOptions::new()).await;
        more.unwrap().into_iter().for_each(|result| {
            result.unwrap();
        });
        until("the new partitions are ours", || running.health().partitions.len() == 4).await;
        write(&kafka, "t", numbered(200, 100, 0)).await;
        until("what came to them is done", || judge.done_count() == 250).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((judge.wrong(), judge.repeated_count()), (Vec::new(), 0));
    }
}
