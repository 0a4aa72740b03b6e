//! What consumers of other libraries have and users asked for, on a real broker: lag, topics by pattern, a handler for each
//! topic, hooks, and a default that does not flood a pool.

mod real {
    use crate::consumer::kill::committed_count;
    use crate::consumer::{create, numbered, until, write};
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::source::{KafkaSource, SourceConfig};
    use weir_model::TopicName;
    use weir_runtime::by_topic::ByTopic;
    use weir_runtime::consumer::Consumer;
    use weir_runtime::dead_letter::DeadLetters;
    use weir_runtime::flow::Flow;
    use weir_runtime::handler::Handler;
    use weir_runtime::hooks::Change;
    use weir_runtime::record::Record;
    use weir_testkit::engine::kafka::Kafka;

    type Calls = Arc<Mutex<BTreeMap<String, usize>>>;

    fn counting(name: &'static str, calls: &Calls) -> impl Handler + use<> {
        let calls = Arc::clone(calls);
        move |record: Record| {
            *calls.lock().unwrap().entry(format!("{name} {}", record.topic)).or_default() += 1;
            async {}
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn topics_by_pattern_their_handlers_hooks_lag_and_the_limit_work_as_told() {
        let kafka = Kafka::start();
        for topic in ["orders.eu", "orders.us", "other"] {
            create(&kafka, topic, 2).await;
            write(&kafka, topic, numbered(100, 10, 0)).await;
        }
        a_pattern_that_is_none_or_takes_the_dead_letters_in_is_refused(&kafka).await;
        topics_that_match_are_read_also_those_that_come_later(&kafka).await;
        the_lag_is_told_while_nothing_is_taken(&kafka).await;
        by_default_two_partitions_have_64_attempts_under_way(&kafka).await;
    }

    async fn a_pattern_that_is_none_or_takes_the_dead_letters_in_is_refused(kafka: &Kafka) {
        let source = |topic: &str| KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "wrong", &[topic]));
        let fault = Consumer::new(source("^(")).start(|_: Record| async {}).await.unwrap_err();
        assert_eq!((fault.code(), fault.about()), ("W-CONFIG", "topics"));
        let writer = Arc::new(Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap());
        let letters = DeadLetters::new(writer, TopicName::new("orders.dead").unwrap(), "wrong");
        let consumer = Consumer::new(source("^orders[.]")).dead_letters(letters);
        let fault = consumer.start(|_: Record| async {}).await.unwrap_err();
        assert_eq!((fault.code(), fault.about()), ("W-CONFIG", "dead_letters"));
    }

    async fn topics_that_match_are_read_also_those_that_come_later(kafka: &Kafka) {
        let calls = Calls::default();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let handler = ByTopic::otherwise(counting("rest", &calls)).on("orders.eu", counting("eu", &calls));
        let mut config = SourceConfig::new(&kafka.bootstrap(), "by-pattern", &["^orders[.](eu|us|asia)$"]);
        config.properties.insert("topic.metadata.refresh.interval.ms".to_owned(), "1000".to_owned());
        let running = Consumer::new(KafkaSource::new(config))
            .on_change({
                let changes = Arc::clone(&changes);
                move |change| {
                    let (word, places) = match change {
                        Change::Assigned(places) => ("assigned", places),
                        Change::Revoked(places) => ("revoked", places),
                        Change::Lost(places) => ("lost", places),
                    };
                    let mut changes = changes.lock().unwrap();
                    changes.extend(places.iter().map(|place| format!("{word} {place}")));
                }
            })
            .start(handler)
            .await
            .unwrap();
        until("both are read", || running.counts().done == 200).await;
        create(kafka, "orders.asia", 1).await;
        write(kafka, "orders.asia", numbered(100, 10, 0)).await;
        until("the new one is read", || running.counts().done == 300).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        let expect = [("eu orders.eu", 100), ("rest orders.asia", 100), ("rest orders.us", 100)];
        let expect: BTreeMap<String, usize> =
            expect.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
        assert_eq!(*calls.lock().unwrap(), expect);
        let changes = changes.lock().unwrap();
        for place in ["orders.eu/0", "orders.eu/1", "orders.us/0", "orders.us/1", "orders.asia/0"] {
            let of_place: Vec<&String> = changes.iter().filter(|change| change.ends_with(place)).collect();
            // Whatever the group dealt meanwhile, each that was assigned was revoked.
            assert!(of_place.len() >= 2 && of_place.len().is_multiple_of(2), "{place}: {changes:?}");
            let words = of_place.chunks(2).map(|pair| (pair[0].split(' ').next(), pair[1].split(' ').next()));
            assert!(words.into_iter().all(|pair| pair == (Some("assigned"), Some("revoked"))), "{changes:?}");
        }
    }

    async fn the_lag_is_told_while_nothing_is_taken(kafka: &Kafka) {
        let config = SourceConfig::new(&kafka.bootstrap(), "lag", &["other"]);
        let running = Consumer::new(KafkaSource::new(config)).start(|_: Record| async {}).await.unwrap();
        let lag = || {
            let lags = running.health().partitions.into_iter().map(|one| one.lag).collect::<Option<Vec<_>>>();
            lags.filter(|lags| lags.len() == 2).map(|lags| lags.iter().sum::<u64>())
        };
        until("all is taken", || running.counts().done == 100 && lag() == Some(0)).await;
        running.flow(Flow { is_paused: true, ..Flow::default() }).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        write(kafka, "other", numbered(70, 10, 0)).await;
        until("what waits is told", || lag() == Some(70)).await;
        running.flow(Flow::default()).unwrap();
        until("nothing waits", || running.counts().done == 170 && lag() == Some(0)).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(committed_count(&kafka.bootstrap(), "lag", "other", 2), 170);
    }

    async fn by_default_two_partitions_have_64_attempts_under_way(kafka: &Kafka) {
        create(kafka, "many", 2).await;
        write(kafka, "many", numbered(3000, 3000, 0)).await;
        let (open, is_open) = tokio::sync::watch::channel(false);
        let under_way = Arc::new(Mutex::new(0));
        let config = SourceConfig::new(&kafka.bootstrap(), "limit", &["many"]);
        let running = Consumer::new(KafkaSource::new(config))
            .start({
                let under_way = Arc::clone(&under_way);
                move |_: Record| {
                    let (mut is_open, under_way) = (is_open.clone(), Arc::clone(&under_way));
                    async move {
                        *under_way.lock().unwrap() += 1;
                        is_open.wait_for(|is_open| *is_open).await.unwrap();
                    }
                }
            })
            .await
            .unwrap();
        // All of them are with the shards, and none ends: what began is what is under way.
        until("all are taken", || running.counts().received == 3000).await;
        until("the limit is used", || *under_way.lock().unwrap() == 64).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*under_way.lock().unwrap(), 64);
        open.send(true).unwrap();
        until("all are done", || running.counts().done == 3000).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(committed_count(&kafka.bootstrap(), "limit", "many", 2), 3000);
    }
}
