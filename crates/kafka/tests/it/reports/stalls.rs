//! Stalls have a reason that is told, brokers that are not reached say why, and a stop keeps its word.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::record::Record;

const DEADLINE: Duration = Duration::from_secs(60);

/// Values that were handled, as `topic/partition value`.
type Done = Arc<Mutex<Vec<String>>>;

async fn create(bootstrap: &str, topic: &str, partitions: i32) {
    let settings =
        NewSettings { partitions, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
    let topics = Topics::new(bootstrap, &BTreeMap::new()).unwrap();
    topics.create(&TopicName::new(topic).unwrap(), &settings).await.unwrap();
}

async fn start(config: &SourceConfig, done: &Done) -> Running {
    let done = Arc::clone(done);
    let handler = move |record: Record| {
        let done = Arc::clone(&done);
        async move {
            let value = record.text().1.to_owned();
            done.lock().unwrap().push(format!("{}/{} {value}", record.topic, record.partition));
        }
    };
    let consumer = Consumer::new(KafkaSource::new(config.clone()));
    consumer.commit_every(Duration::from_millis(200)).start(handler).await.unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < DEADLINE, "{DEADLINE:?} have passed without: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for a complaint with all of these words; the others are in the failure.
async fn complains(running: &Running, since: Duration, words: &[&str]) {
    let started = Instant::now();
    loop {
        let complaints = running.health().complaints(since);
        if complaints.iter().any(|one| words.iter().all(|word| one.contains(word))) {
            return;
        }
        assert!(
            started.elapsed() < DEADLINE,
            "no complaint has {words:?}: {complaints:?}\n{}",
            running.health()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Settings that would be overruled without a word are refused, with the field to set.
#[test]
fn a_property_with_a_field_of_its_own_is_refused_by_name() {
    let check = |key: &str, field: &str| {
        let properties = BTreeMap::from([(key.to_owned(), "x".to_owned())]);
        let mut config = SourceConfig::new("127.0.0.1:1", "g", &["t"]);
        config.properties = properties;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let started = Instant::now();
        let consumer = Consumer::new(KafkaSource::new(config));
        let fault = runtime.block_on(consumer.start(async |_: Record| ())).unwrap_err().to_string();
        assert!(fault.contains(&format!("properties.\"{key}\": set {field}")), "{fault}");
        assert!(started.elapsed() < Duration::from_secs(2), "the brokers were asked first");
    };
    check("group.id", "group");
    check("bootstrap.servers", "bootstrap");
    check("metadata.broker.list", "bootstrap");
    let properties = BTreeMap::from([("bootstrap.servers".to_owned(), "x".to_owned())]);
    let fault = Topics::new("127.0.0.1:1", &properties).map(drop).unwrap_err().to_string();
    assert!(fault.contains("set bootstrap"), "{fault}");
}

/// On a real broker.
mod real {
    use super::*;
    use crate::consumer::kill::committed;
    use rdkafka::ClientConfig;
    use rdkafka::admin::{AdminClient, AdminOptions};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use std::os::unix::fs::FileExt as _;
    use weir_kafka::lag;
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::reader::{Reader, Start};
    use weir_model::FaultKind;
    use weir_runtime::consumer::NotCommitted;
    use weir_runtime::log::{LogWriter as _, RecordBatch};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::engine::kafka_secured::{KafkaSecured, PASSWORD, USER};

    const WAIT: Duration = Duration::from_secs(30);

    /// Writes each value as a batch of its own.
    fn write(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
        for value in values {
            producer.send(BaseRecord::to(topic).key("k").payload(*value).partition(partition)).unwrap();
            producer.flush(WAIT).unwrap();
        }
    }

    fn producer(kafka: &Kafka, more: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.bootstrap()).set("linger.ms", "0");
        more.iter().for_each(|(key, value)| _ = config.set(*key, *value));
        config.create().unwrap()
    }

    /// Changes one byte of a batch in a segment: `at` is counted from the batch's start, or from its end below zero.
    fn damage(kafka: &Kafka, topic: &str, partition: i32, batch: usize, at: i64) {
        let path = kafka.segments(topic, partition).join("00000000000000000000.log");
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut start = 0;
        let mut bytes = [0; 4];
        let mut length = |start: u64| {
            file.read_exact_at(&mut bytes, start + 8).unwrap();
            u64::from(u32::from_be_bytes(bytes)) + 12
        };
        for _ in 0..batch {
            start += length(start);
        }
        let end = start + length(start);
        let place = if at < 0 { end.checked_add_signed(at) } else { start.checked_add_signed(at) }.unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, place).unwrap();
        file.write_all_at(&[byte[0] ^ 0x55], place).unwrap();
    }

    fn has(done: &Done, place: &str, value: &str) -> bool {
        done.lock().unwrap().contains(&format!("{place} {value}"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_keeps_records_back_is_told_with_what_to_do() {
        let kafka = Kafka::start();
        let plain = producer(&kafka, &[]);
        a_clean_stop_logs_no_error_and_debug_is_honoured(&kafka, &plain).await;
        a_damaged_batch_stops_its_partition_and_no_other(&kafka, &plain).await;
        an_open_transaction_is_named(&kafka, &plain).await;
        a_topic_that_was_deleted_is_named(&kafka, &plain).await;
        another_assignor_in_the_group_is_named(&kafka).await;
    }

    /// Lines of our own log, and those of librdkafka's wrapper, which has another one.
    #[derive(Clone, Debug, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl log::Log for Lines {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() == log::Level::Error
        }

        fn log(&self, line: &log::Record<'_>) {
            if self.enabled(line.metadata()) {
                let text = format!("ERROR {}: {}\n", line.target(), line.args());
                self.0.lock().unwrap().extend_from_slice(text.as_bytes());
            }
        }

        fn flush(&self) {}
    }

    impl Lines {
        fn follow() -> Self {
            let lines = Self::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::DEBUG);
            let subscriber = subscriber.with_writer(move || writer.clone()).finish();
            tracing::subscriber::set_global_default(subscriber).unwrap();
            log::set_logger(Box::leak(Box::new(lines.clone()))).unwrap();
            log::set_max_level(log::LevelFilter::Error);
            lines
        }

        fn with(&self, words: &[&str]) -> Vec<String> {
            let all = String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned();
            let fits = |line: &&str| words.iter().all(|word| line.contains(word));
            all.lines().filter(fits).map(ToOwned::to_owned).collect()
        }
    }

    async fn a_clean_stop_logs_no_error_and_debug_is_honoured(kafka: &Kafka, plain: &BaseProducer) {
        let lines = Lines::follow();
        create(&kafka.bootstrap(), "clean", 2).await;
        write(plain, "clean", 0, &["a"]);
        let mut config = SourceConfig::new(&kafka.bootstrap(), "clean", &["clean"]);
        for debug in ["", "cgrp"] {
            if !debug.is_empty() {
                config.properties.insert("debug".to_owned(), debug.to_owned());
            }
            let done = Done::default();
            // One run keeps a record beyond its consumer's end: librdkafka's client lives on for it.
            let kept = Arc::new(Mutex::new(None));
            let keep = Arc::clone(&kept);
            let handler = move |record: Record| {
                *keep.lock().unwrap() = Some(record);
                async {}
            };
            let keeping = Consumer::new(KafkaSource::new(SourceConfig {
                group: "keeping".to_owned(),
                ..config.clone()
            }));
            let keeping = keeping.start(handler).await.unwrap();
            let running = start(&config, &done).await;
            if debug.is_empty() {
                until("the record is done", || has(&done, "clean/0", "a") && keeping.counts().done == 1)
                    .await;
            }
            running.stop(Duration::from_secs(5)).await.unwrap();
            keeping.stop(Duration::from_secs(5)).await.unwrap();
            let heard = lines.with(&["DEBUG librdkafka", "facility=\"CGRP"]);
            assert_eq!(heard.is_empty(), debug.is_empty(), "{heard:?}");
            drop(kept.lock().unwrap().take());
        }
        // Clients that were waiting for the kept records end now; nothing else says when.
        until("no client is left", || client_threads() == 0).await;
        assert_eq!(lines.with(&["ERROR"]), Vec::<String>::new());
    }

    /// Threads that wait to end a client.
    fn client_threads() -> usize {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            threads.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim() == "weir-leave").count()
    }

    async fn a_damaged_batch_stops_its_partition_and_no_other(kafka: &Kafka, plain: &BaseProducer) {
        create(&kafka.bootstrap(), "damaged", 3).await;
        for partition in 0..3 {
            write(plain, "damaged", partition, &["a", "b", "bad", "after"]);
        }
        // A byte of the record, and the version of the batch, which librdkafka steps over.
        damage(kafka, "damaged", 0, 2, -3);
        damage(kafka, "damaged", 1, 2, 16);
        let done = Done::default();
        let config = SourceConfig::new(&kafka.bootstrap(), "damaged", &["damaged"]);
        let running = start(&config, &done).await;
        for place in ["damaged/0", "damaged/1"] {
            complains(&running, DEADLINE, &[place, "is stopped", "W-KAFKA-DAMAGED", "fix:"]).await;
        }
        until("the others go on", || has(&done, "damaged/2", "after")).await;
        write(plain, "damaged", 2, &["later"]);
        until("and go on", || has(&done, "damaged/2", "later")).await;
        let counts = running.stop(Duration::from_secs(5)).await.unwrap();
        assert_eq!(counts.received, 2 + 2 + 5, "{:?}", done.lock().unwrap());
        assert!(!has(&done, "damaged/0", "after") && !has(&done, "damaged/1", "after"));
        for (partition, expect) in [(0, 2), (1, 2), (2, 5)] {
            let found = committed(kafka, "damaged", "damaged", partition).map(|(offset, _)| offset);
            assert_eq!(found, Some(expect), "nothing behind the damage of {partition} is committed");
        }
        let mut reader =
            Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &["damaged".to_owned()], Start::Beginning)
                .unwrap();
        let fault = reader.read_to_end(DEADLINE).unwrap_err();
        assert_eq!((fault.kind(), fault.code()), (FaultKind::Corrupt, "W-KAFKA-DAMAGED"), "{fault}");
    }

    async fn an_open_transaction_is_named(kafka: &Kafka, plain: &BaseProducer) {
        create(&kafka.bootstrap(), "open", 1).await;
        write(plain, "open", 0, &["before"]);
        let transaction = producer(kafka, &[("transactional.id", "x")]);
        transaction.init_transactions(WAIT).unwrap();
        transaction.begin_transaction().unwrap();
        write(&transaction, "open", 0, &["in", "in too"]);
        write(plain, "open", 0, &["behind"]);
        let done = Done::default();
        let running = start(&SourceConfig::new(&kafka.bootstrap(), "open", &["open"]), &done).await;
        let words = ["open/0", "a transaction is open since offset 1", "fix:", "read_uncommitted"];
        complains(&running, Duration::from_secs(2), &words).await;
        assert!(!has(&done, "open/0", "behind"));
        transaction.commit_transaction(WAIT).unwrap();
        until("what waited is done", || has(&done, "open/0", "behind")).await;
        until("nothing is complained of", || running.health().complaints(Duration::ZERO).is_empty()).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
    }

    async fn a_topic_that_was_deleted_is_named(kafka: &Kafka, plain: &BaseProducer) {
        create(&kafka.bootstrap(), "gone", 1).await;
        create(&kafka.bootstrap(), "stays", 1).await;
        write(plain, "gone", 0, &["a"]);
        let done = Done::default();
        let running = start(&SourceConfig::new(&kafka.bootstrap(), "gone", &["gone", "stays"]), &done).await;
        until("it is read", || has(&done, "gone/0", "a")).await;
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        for result in admin.delete_topics(&["gone"], &AdminOptions::new()).await.unwrap() {
            result.unwrap();
        }
        complains(&running, DEADLINE, &["topic `gone` is not there any more", "fix:"]).await;
        write(plain, "stays", 0, &["b"]);
        until("the other goes on", || has(&done, "stays/0", "b")).await;
        // The commit of a topic that is gone is refused, if there was one to make.
        if let Err(fault) = running.stop(Duration::from_secs(5)).await {
            let places = &NotCommitted::of(&fault).unwrap().places;
            assert!(places.iter().any(|(place, _)| *place.topic == *"gone"), "{fault}");
        }
    }

    async fn another_assignor_in_the_group_is_named(kafka: &Kafka) {
        create(&kafka.bootstrap(), "dealt", 1).await;
        let other: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", "dealt")
            .set("partition.assignment.strategy", "range")
            .create()
            .unwrap();
        other.subscribe(&["dealt"]).unwrap();
        until("the other is in the group", || {
            drop(other.poll(Duration::from_millis(10)));
            other.assignment().is_ok_and(|list| list.count() == 1)
        })
        .await;
        let done = Done::default();
        let running = start(&SourceConfig::new(&kafka.bootstrap(), "dealt", &["dealt"]), &done).await;
        let poll = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_secs(4);
            while Instant::now() < until {
                drop(other.poll(Duration::from_millis(50)));
            }
        });
        complains(&running, DEADLINE, &["dealt", "another assignor or protocol", "`Eager`"]).await;
        poll.join().unwrap();
        running.stop(Duration::from_secs(5)).await.unwrap();
    }

    /// The session is 6 s as in the report; the broker sleeps for twice that.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_member_is_back_within_a_session_after_its_broker_slept_and_a_stop_beside_a_silent_one_keeps_its_time()
     {
        let kafka = Kafka::start();
        let bootstrap = kafka.bootstrap();
        create(&bootstrap, "slept", 2).await;
        let plain = producer(&kafka, &[]);
        let done = Done::default();
        let mut config = SourceConfig::new(&bootstrap, "slept", &["slept"]);
        config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
        let running = start(&config, &done).await;
        write(&plain, "slept", 0, &["before"]);
        until("it is at work", || has(&done, "slept/0", "before")).await;
        kafka.pause();
        let slept = Instant::now();
        complains(&running, Duration::from_secs(4), &["has not", "for"]).await;
        until("it has slept for two sessions", || slept.elapsed() > Duration::from_secs(12)).await;
        kafka.resume();
        write(&plain, "slept", 0, &["after"]);
        let woken = Instant::now();
        until("it is back", || has(&done, "slept/0", "after")).await;
        println!("back after {:?}", woken.elapsed());
        assert!(woken.elapsed() < Duration::from_secs(25), "{:?}", woken.elapsed());
        until("it is committed", || {
            running.health().partitions.iter().any(|one| one.place.partition == 0 && one.committed == Some(2))
        })
        .await;
        kafka.pause();
        let stopping = Instant::now();
        // Nothing new is done: all that there was to commit was committed.
        let quiet = start_and_stop_in_silence(running, stopping).await;
        quiet.unwrap();
        kafka.resume();
        not_committed_is_in_the_answer(&kafka, &plain, &config).await;
    }

    async fn start_and_stop_in_silence(
        running: Running,
        stopping: Instant,
    ) -> Result<weir_runtime::stats::Counts, weir_model::Fault> {
        let end = running.stop(Duration::from_secs(2)).await;
        assert!(stopping.elapsed() < Duration::from_millis(2600), "{:?}", stopping.elapsed());
        end
    }

    async fn not_committed_is_in_the_answer(kafka: &Kafka, plain: &BaseProducer, config: &SourceConfig) {
        let consumer = Consumer::new(KafkaSource::new(config.clone())).commit_every(Duration::from_secs(60));
        let running = consumer.start(async |_: Record| ()).await.unwrap();
        write(plain, "slept", 1, &["one", "two"]);
        until("they are done", || running.counts().done == 2).await;
        kafka.pause();
        let fault = start_and_stop_in_silence(running, Instant::now()).await.unwrap_err();
        kafka.resume();
        assert_eq!(fault.code(), "W-RUNTIME-NOT-COMMITTED", "{fault}");
        let places = &NotCommitted::of(&fault).unwrap().places;
        assert!(places.iter().any(|(place, offset)| place.partition == 1 && *offset == 2), "{fault}");
    }

    /// Each way to Kafka, with these settings: what it says, and how long that takes.
    async fn refused(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        check: impl Fn(&str, Duration, &str),
    ) {
        let topics = ["t".to_owned()];
        let began = Instant::now();
        let mut config = SourceConfig::new(bootstrap, "g", &["t"]);
        config.properties = properties.clone();
        let started = Consumer::new(KafkaSource::new(config)).start(async |_: Record| ()).await;
        check("source", began.elapsed(), &started.unwrap_err().to_string());
        let began = Instant::now();
        let mut config = ProducerConfig::new(bootstrap);
        config.properties = properties.clone();
        let producer = Producer::start(config).unwrap();
        let batch = RecordBatch { topics: vec![TopicName::new("t").unwrap()], ..RecordBatch::default() };
        let fault = producer.append(batch).await.unwrap_err();
        check("producer", began.elapsed(), &fault.to_string());
        let (asked, with) = (bootstrap.to_owned(), properties.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let mut all = vec![("reader", Reader::open(&asked, &with, &topics, Start::End).map(drop))];
            all.push(("lag", lag::of_group(&asked, &with, &topics, "g").map(drop)));
            all.push(("list", Topics::new(&asked, &with).unwrap().list().map(drop)));
            (began.elapsed(), all)
        });
        let (took, all) = asked.await.unwrap();
        for (what, answer) in all {
            check(what, took / 3, &answer.unwrap_err().to_string());
        }
        let began = Instant::now();
        let settings = Topics::new(bootstrap, properties).unwrap().settings("t").await;
        check("settings", began.elapsed(), &settings.unwrap_err().to_string());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn brokers_that_are_not_reached_say_why_and_at_once_when_it_is_final() {
        let kafka = KafkaSecured::start();
        let of = |all: &[(&str, &str)]| -> BTreeMap<String, String> {
            all.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let soon = |words: &'static [&'static str]| {
            move |what: &str, took: Duration, text: &str| {
                assert!(words.iter().all(|word| text.contains(word)), "{what}: {text}");
                assert!(took < Duration::from_secs(5), "{what} after {took:?}: {text}");
            }
        };
        let wrong = format!("not-{PASSWORD}");
        let login = of(&[
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", USER),
            ("sasl.password", &wrong),
        ]);
        let words = &["W-KAFKA-DENIED", "uthentication failed", "fix:", "sasl.password"];
        refused(&kafka.sasl(), &login, soon(words)).await;
        let tls = of(&[("security.protocol", "SSL")]);
        refused(
            &kafka.open(),
            &tls,
            soon(&["W-KAFKA-DENIED", "SSL handshake failed", "fix:", "security.protocol"]),
        )
        .await;
        let words =
            &["W-KAFKA-UNREACHABLE", "Failed to resolve 'no-such-host.invalid:9092'", "fix:", "bootstrap"];
        refused("no-such-host.invalid:9092", &of(&[]), soon(words)).await;
        // Nobody listens: that heals when somebody does, so it is waited for.
        let (began, consumer) =
            (Instant::now(), Consumer::new(KafkaSource::new(SourceConfig::new("127.0.0.1:1", "g", &["t"]))));
        let text = consumer.start(async |_: Record| ()).await.unwrap_err().to_string();
        assert!(text.contains("Connection refused") && text.contains("fix: start the brokers"), "{text}");
        assert!(began.elapsed() < Duration::from_secs(13), "after {:?}", began.elapsed());
    }
}
