//! Logs that are not one record after the other: made anew, compacted, cut, with a giant in them.

/// On a real broker, one for all: starting it costs more than each of these.
pub(crate) mod real {
    use crate::consumer::kill::committed;
    use crate::consumer::real::member;
    use crate::consumer::{DEADLINE, create, numbered, until, write};
    use rdkafka::TopicPartitionList;
    use rdkafka::admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    };
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::topic_partition_list::Offset;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use weir_kafka::reader::{LogRecord, Reader, Start};
    use weir_kafka::source::{KafkaSource, OutOfRange, SourceConfig};
    use weir_kafka::topics::Topics;
    use weir_runtime::consumer::{Consumer, Running};
    use weir_runtime::record::{Place, Record};
    use weir_runtime::testing::judge::Judge;
    use weir_testkit::engine::kafka::Kafka;

    /// Values that were handled, and how often.
    type Seen = Arc<Mutex<BTreeMap<Vec<u8>, usize>>>;

    pub(crate) fn admin(kafka: &Kafka) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap()
    }

    /// A topic of one partition with these settings.
    pub(crate) async fn create_with(kafka: &Kafka, topic: &str, settings: &[(&str, &str)]) {
        let mut new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
        for (key, value) in settings {
            new = new.set(key, value);
        }
        let made = admin(kafka).create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    pub(crate) async fn delete(kafka: &Kafka, topic: &str) {
        let gone = admin(kafka).delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
        let topics = Topics::new(&kafka.bootstrap(), &BTreeMap::new()).unwrap();
        until("the topic is gone", || topics.list().unwrap().iter().all(|one| one.name != topic)).await;
    }

    /// Removes what is before an offset, as retention does.
    pub(crate) async fn cut(kafka: &Kafka, topic: &str, before: i64) {
        let mut gone = TopicPartitionList::new();
        gone.add_partition_offset(topic, 0, Offset::Offset(before)).unwrap();
        admin(kafka).delete_records(&gone, &AdminOptions::new()).await.unwrap();
    }

    async fn seeing(config: &SourceConfig, seen: &Seen) -> Running {
        let seen = Arc::clone(seen);
        let handler = move |record: Record| {
            *seen.lock().unwrap().entry(record.value().unwrap().to_vec()).or_default() += 1;
            async {}
        };
        Consumer::new(KafkaSource::new(config.clone())).start(handler).await.unwrap()
    }

    fn faults(running: &Running) -> Vec<String> {
        running.health().partitions.into_iter().filter_map(|one| one.fault).collect()
    }

    /// All records that a topic of one partition has, up to its end as the broker says it now.
    fn records(kafka: &Kafka, topic: &str) -> Vec<LogRecord> {
        let names = [topic.to_owned()];
        let mut reader =
            Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &names, Start::Beginning).unwrap();
        reader.read_to_end(Duration::from_secs(60)).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_log_made_anew_compacted_overtaken_or_with_a_giant_in_it_loses_nothing_in_silence() {
        let kafka = Kafka::start();
        scenario("a topic made anew", made_anew(&kafka, OutOfRange::Stop)).await;
        scenario("a topic made anew, read on from its start", made_anew(&kafka, OutOfRange::Earliest)).await;
        scenario("a compacted topic", compacted(&kafka)).await;
        scenario("retention overtakes a running consumer", overtaken(&kafka)).await;
        scenario("a record of 10 MiB", giant(&kafka)).await;
    }

    async fn scenario(name: &str, run: impl Future<Output = ()>) {
        println!("{name} ...");
        let started = Instant::now();
        run.await;
        println!("{:6.1} s  {name}", started.elapsed().as_secs_f64());
    }

    /// The commit is past the end of the new log. The consumer either stops by name or is given the topic anew; after a
    /// restart all that is new is handled, once.
    async fn made_anew(kafka: &Kafka, out_of_range: OutOfRange) {
        let topic = if out_of_range == OutOfRange::Stop { "anew" } else { "anew-earliest" };
        let named = |count: usize, name: &'static str| {
            (0..count).map(move |number| (format!("k{}", number % 10), format!("{name} {number}")))
        };
        create(kafka, topic, 1).await;
        write(kafka, topic, named(100, "old")).await;
        let config = SourceConfig { out_of_range, ..SourceConfig::new(&kafka.bootstrap(), "g", &[topic]) };
        let seen = Seen::default();
        let mut running = seeing(&config, &seen).await;
        until("the old ones are committed", || {
            committed(kafka, "g", topic, 0).is_some_and(|(offset, _)| offset == 100)
        })
        .await;
        delete(kafka, topic).await;
        create(kafka, topic, 1).await;
        write(kafka, topic, named(30, "new")).await;
        let new = || seen.lock().unwrap().keys().filter(|value| value.starts_with(b"new ")).count();
        until("it stops by name, or handles what is new", || new() == 30 || !faults(&running).is_empty())
            .await;
        println!("{} of 30 new ones handled, stopped: {:?}", new(), faults(&running));
        if out_of_range == OutOfRange::Stop {
            assert!(faults(&running).iter().all(|fault| fault.starts_with("[W-RUNTIME-OUT-OF-RANGE]")));
            running.stop(Duration::from_secs(5)).await.unwrap();
            running = seeing(&config, &seen).await;
        }
        until("all that is new is handled", || new() == 30).await;
        until("and committed", || committed(kafka, "g", topic, 0) == Some((30, Vec::new()))).await;
        assert_eq!(faults(&running), Vec::<String>::new());
        running.stop(Duration::from_secs(5)).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.len() == 130 && seen.values().all(|count| *count == 1), "{seen:?}");
    }

    /// Most offsets are holes. One record is stuck; after a restart that one alone comes again.
    async fn compacted(kafka: &Kafka) {
        const WRITTEN: usize = 2000;
        let settings =
            [("cleanup.policy", "compact"), ("segment.ms", "500"), ("min.cleanable.dirty.ratio", "0.01")];
        create_with(kafka, "compact", &settings).await;
        for part in numbered(WRITTEN, 50, 0).collect::<Vec<_>>().chunks(WRITTEN / 10) {
            write(kafka, "compact", part.to_vec()).await;
        }
        let mut left = records(kafka, "compact");
        let mut extra = 0;
        let started = Instant::now();
        // The newest of each key, and a few of those that close segments.
        while left.len() > 60 {
            assert!(started.elapsed() < Duration::from_secs(90), "{} records are left", left.len());
            // A segment is closed by the first record after its time, and only closed ones are compacted.
            write(kafka, "compact", [("extra".to_owned(), format!("extra {extra} 0"))]).await;
            extra += 1;
            left = records(kafka, "compact");
        }
        // What is left stays.
        let kept = AlterConfig::new(ResourceSpecifier::Topic("compact"));
        let kept = kept.set("cleanup.policy", "delete").set("retention.ms", "-1");
        let altered = admin(kafka).alter_configs(&[kept], &AdminOptions::new()).await.unwrap();
        assert!(altered.iter().all(Result::is_ok), "{altered:?}");
        let records = records(kafka, "compact");
        let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
        let (stuck, last) = (offsets[0], offsets[offsets.len() - 1]);
        // The records of the stuck record's key wait for it.
        let waiting = records.iter().filter(|record| record.key == records[0].key).count();
        println!("{} of {last} offsets are left, from {stuck} on, {waiting} of its key", offsets.len());
        let place = Place::new("compact", 0);
        let (config, judge) = (SourceConfig::new(&kafka.bootstrap(), "g", &["compact"]), Judge::default());
        let running = Consumer::new(KafkaSource::new(config.clone()))
            .start({
                let judge = judge.clone();
                move |record: Record| {
                    let attempt = judge.begin(&record);
                    async move {
                        if record.offset == stuck {
                            std::future::pending::<()>().await;
                        }
                        attempt.done();
                    }
                }
            })
            .await
            .unwrap();
        let done = || offsets.iter().filter(|offset| judge.is_done(&place, **offset)).count();
        let others = offsets.len() - waiting;
        until("all but the stuck key's are done", || done() == others).await;
        until("and the commit calls each of them done", || {
            committed(kafka, "g", "compact", 0).is_some_and(|(offset, beyond)| {
                let is_named = |one: &&i64| beyond.iter().any(|range| range.contains(*one));
                offset == stuck && offsets.iter().filter(is_named).count() == others
            })
        })
        .await;
        running.stop(Duration::ZERO).await.unwrap();
        let running = member(&config, &judge).await;
        until("all are done", || done() == offsets.len()).await;
        until("and committed", || {
            committed(kafka, "g", "compact", 0).is_some_and(|(offset, _)| offset > last)
        })
        .await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!((counts.spared, judge.repeated_count()), (others as u64, 0));
        assert_eq!(judge.wrong(), Vec::<String>::new());
    }

    /// A consumer that is too slow: what it has fetched is handled, then it stops by name, with nothing committed over
    /// the hole.
    async fn overtaken(kafka: &Kafka) {
        const WRITTEN: i64 = 1000;
        create(kafka, "cut", 1).await;
        // Far more than is fetched ahead, and not compressed.
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        for (key, value) in numbered(WRITTEN as usize, 20, 0) {
            let value = format!("{value} {}", "x".repeat(10_000));
            producer.send(BaseRecord::to("cut").key(&key).payload(&value)).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        let mut config = SourceConfig::new(&kafka.bootstrap(), "g", &["cut"]);
        config.prefetch_bytes = Some(0);
        config.properties.insert("fetch.message.max.bytes".to_owned(), "65536".to_owned());
        let (open, is_open) = tokio::sync::watch::channel(false);
        let judge = Judge::default();
        let running = Consumer::new(KafkaSource::new(config.clone()))
            .window_records(16)
            .start({
                let judge = judge.clone();
                move |record: Record| {
                    let (attempt, mut is_open) = (judge.begin(&record), is_open.clone());
                    async move {
                        is_open.wait_for(|is_open| *is_open).await.unwrap();
                        attempt.done();
                    }
                }
            })
            .await
            .unwrap();
        until("it is at work", || running.counts().received > 0).await;
        cut(kafka, "cut", WRITTEN - 10).await;
        open.send(true).unwrap();
        until("it stops by name", || !faults(&running).is_empty()).await;
        let faults = faults(&running);
        assert!(faults[0].starts_with("[W-RUNTIME-OUT-OF-RANGE]"), "{faults:?}");
        let complaints = running.health().complaints(Duration::MAX);
        assert!(complaints[0].starts_with("cut/0 is stopped"), "{complaints:?}");
        // The fault may be known before the last record that was fetched is done.
        let counts = running.stop(DEADLINE).await.unwrap();
        let done = judge.done_count() as i64;
        println!("{done} of {WRITTEN} done, then: {faults:?}");
        assert_eq!((counts.cancelled, counts.received), (0, done as u64));
        assert!(0 < done && done < WRITTEN - 10, "{done}");
        assert_eq!(committed(kafka, "g", "cut", 0), Some((done, Vec::new())));
        assert_eq!(judge.wrong(), Vec::<String>::new());
    }

    /// Ten times what a fetch asks for, between two small ones.
    async fn giant(kafka: &Kafka) {
        const BYTES: usize = 10 << 20;
        create_with(kafka, "giant", &[("max.message.bytes", "16777216")]).await;
        let giant: Vec<u8> = (0..BYTES).map(|index| (index % 251) as u8).collect();
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("message.max.bytes", "16777216")
            .create()
            .unwrap();
        for value in [&b"before"[..], &giant, b"after"] {
            producer.send(BaseRecord::to("giant").key("k").payload(value)).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        let seen = Seen::default();
        let running = seeing(&SourceConfig::new(&kafka.bootstrap(), "g", &["giant"]), &seen).await;
        until("all three are committed", || committed(kafka, "g", "giant", 0) == Some((3, Vec::new()))).await;
        until("their bytes are given back", || running.bytes_in_flight() == 0).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        let seen = seen.lock().unwrap();
        assert!(seen.len() == 3 && seen.contains_key(&giant), "{:?}", seen.keys().map(Vec::len));
    }
}
