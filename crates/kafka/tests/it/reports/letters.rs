//! Records on their way aside and back: retries, dead letters, replay, values in parts.

/// On a real broker.
mod real {
    use crate::consumer::kill::committed;
    use crate::consumer::until;
    use rdkafka::admin::{
        AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
    };
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::{Headers as _, Message as _};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;
    use weir_kafka::aside::{Aside, Letter};
    use weir_kafka::parts;
    use weir_kafka::producer::{Producer, ProducerConfig};
    use weir_kafka::source::{KafkaSource, SourceConfig};
    use weir_model::{FaultKind, TopicName, limits};
    use weir_runtime::consumer::{Consumer, Running};
    use weir_runtime::dead_letter::{CAUSE, DeadLetters, ORIGIN, PLACE, TIMESTAMP};
    use weir_runtime::log::{HeaderSpan, LogWriter as _, RecordBatch, RecordSpan};
    use weir_runtime::outcome::Outcome;
    use weir_runtime::record::Record;
    use weir_runtime::retry::{Exhausted, RetryPolicy};
    use weir_runtime::retry_topic::RetryTopic;
    use weir_testkit::engine::kafka::Kafka;

    const STOP_WAIT: Duration = Duration::from_secs(5);

    /// Makes topics of one partition with these settings.
    async fn create(kafka: &Kafka, topics: &[&str], settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        for topic in topics {
            let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
            let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
            let made = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
            made.into_iter().for_each(|one| {
                one.unwrap();
            });
        }
    }

    fn producer(kafka: &Kafka) -> Producer {
        Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap()
    }

    /// Bytes that no compression makes smaller.
    fn noise(count: usize, seed: u64) -> Vec<u8> {
        let mut dice = seed;
        let mut bytes: Vec<u8> = (0..count / 8 + 1)
            .flat_map(|_| {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (dice ^ (dice >> 29)).to_be_bytes()
            })
            .collect();
        bytes.truncate(count);
        bytes
    }

    /// Key, value and headers.
    type Written<'a> = (Option<&'a [u8]>, &'a [u8], &'a [(&'a str, &'a [u8])]);

    /// A batch of records.
    fn batch(topic: &str, records: &[Written<'_>]) -> RecordBatch {
        let mut batch =
            RecordBatch { topics: vec![TopicName::new(topic).unwrap()], ..RecordBatch::default() };
        for (key, value, headers) in records {
            let (key, value) = (batch.put_optional(*key), batch.put(value));
            let first = batch.headers.len() as u32;
            for (name, value) in *headers {
                let value = batch.put(value);
                batch.headers.push(HeaderSpan { name: (*name).to_owned().into(), value });
            }
            let headers = first..batch.headers.len() as u32;
            let timestamp_ms = std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as i64);
            batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms });
        }
        batch
    }

    /// One record as any client sees it.
    #[derive(Debug, PartialEq, Eq)]
    struct Plain {
        key: Option<Vec<u8>>,
        value: Option<Vec<u8>>,
        headers: Vec<String>,
        timestamp_ms: i64,
    }

    /// All records of a topic with one partition, as a client reads them that knows nothing of this library.
    fn read(kafka: &Kafka, topic: &str) -> Vec<Plain> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("group.id", "plain")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
        consumer.assign(&list).unwrap();
        let mut records = Vec::new();
        loop {
            match consumer.poll(Duration::from_secs(30)).expect("the topic is read within 30 s") {
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => return records,
                Err(error) => panic!("{error}"),
                Ok(message) => records.push(Plain {
                    key: message.key().map(<[u8]>::to_vec),
                    value: message.payload().map(<[u8]>::to_vec),
                    headers: message
                        .headers()
                        .map(|all| all.iter().map(|header| header.key.to_owned()).collect())
                        .unwrap_or_default(),
                    timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
                }),
            }
        }
    }

    fn letters(aside: &mut Aside) -> Vec<Letter> {
        let mut letters = Vec::new();
        aside
            .for_each(|_, letter| {
                letters.push(letter);
                Ok(())
            })
            .unwrap();
        letters
    }

    fn open(kafka: &Kafka, topic: &str) -> Aside {
        Aside::open_to_deal(&kafka.bootstrap(), &BTreeMap::new(), topic).unwrap()
    }

    fn source(kafka: &Kafka, group: &str, topics: &[&str]) -> KafkaSource {
        KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), group, topics))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_record_stays_one_record_on_its_way_through_retries_dead_letters_and_replay() {
        let kafka = Kafka::start();
        a_value_that_was_cut_before_is_retried_whole(&kafka).await;
        a_dead_letter_of_two_million_bytes_is_put_back_as_it_was(&kafka).await;
        a_record_that_is_too_large_is_refused_by_name_and_its_neighbours_are_not(&kafka).await;
        a_consumer_of_a_topic_with_parts_gets_whole_values_and_commits_only_whole_ones(&kafka).await;
        dead_letters_that_were_written_in_parts_are_one_letter_each(&kafka).await;
    }

    /// Records over 100 keys. With one of them stuck, the metadata lists some thirty gaps: about 120 bytes.
    #[tokio::test(flavor = "multi_thread")]
    async fn metadata_that_the_broker_refuses_is_shortened_and_the_offset_is_committed() {
        let kafka = Kafka::start_set(&["offset.metadata.max.bytes=64"]);
        create(&kafka, &["t"], &[]).await;
        let keys: Vec<String> = (0..3000).map(|number| format!("k{}", number % 100)).collect();
        let records: Vec<_> = keys.iter().map(|key| (Some(key.as_bytes()), &b"v"[..], &[][..])).collect();
        producer(&kafka).append(batch("t", &records)).await.unwrap();
        let is_stuck = Arc::new(AtomicBool::new(true));
        let start = |commit_every| {
            let (is_stuck, kafka) = (Arc::clone(&is_stuck), &kafka);
            async move {
                Consumer::new(source(kafka, "g", &["t"]))
                    .commit_every(commit_every)
                    .start(move |record: Record| {
                        let waits = record.text().0 == "k4" && record.offset >= 104;
                        let is_stuck = waits && is_stuck.load(Ordering::Relaxed);
                        async move {
                            match is_stuck {
                                true => Outcome::retry_after(Duration::from_millis(50)),
                                false => Outcome::Done,
                            }
                        }
                    })
                    .await
                    .unwrap()
            }
        };
        // Nothing is committed until the end: the last commit meets the limit first.
        let running = start(Duration::from_secs(3600)).await;
        until("all but one key are done", || running.counts().done == 2971).await;
        let counts = running.stop(STOP_WAIT).await.unwrap();
        assert_eq!(counts.commits_failed, 0);
        let (offset, done) = committed(&kafka, "g", "t", 0).unwrap();
        assert_eq!((offset, done.first()), (104, Some(&(105..204))));
        // The next owner meets it with its own commits, and remembers what it has learned.
        let running = start(Duration::from_millis(100)).await;
        let spared = running.counts().spared;
        until("all but one key are done again", || {
            let counts = running.counts();
            counts.done + counts.spared == 2971 - 104
        })
        .await;
        until("it is committed", || running.counts().commits > 0).await;
        assert!(spared <= running.counts().spared);
        is_stuck.store(false, Ordering::Relaxed);
        until("all is committed", || committed(&kafka, "g", "t", 0) == Some((3000, Vec::new()))).await;
        let counts = running.stop(STOP_WAIT).await.unwrap();
        assert_eq!(counts.commits_failed, 0);
        assert!(counts.spared >= 99, "the shorter map counts: {}", counts.spared);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_can_never_be_written_is_seen_at_the_start_or_parked_with_its_reason() {
        let kafka = Kafka::start();
        dead_letters_take_what_the_source_took_also_with_large_keys_and_headers(&kafka).await;
        topics_to_write_to_are_looked_at_before_the_first_record(&kafka).await;
        a_record_that_no_waiting_helps_is_parked_and_another_key_goes_on(&kafka).await;
        a_record_that_the_retry_topic_does_not_take_is_tried_in_place(&kafka).await;
        the_first_origin_and_time_of_a_record_outlive_retries_and_replay(&kafka).await;
    }

    async fn dead_letters_take_what_the_source_took_also_with_large_keys_and_headers(kafka: &Kafka) {
        create(kafka, &["keys", "keys-dead"], &[]).await;
        let writer = producer(kafka);
        let (key, header) = (noise(700_000, 7), noise(300_000, 8));
        writer.append(batch("keys", &[(Some(&key), b"v", &[("h", &header)])])).await.unwrap();
        // As large as the topic takes: no header of ours has room.
        let (mut fits, mut over) = (1_000_000, 1_048_588);
        while over - fits > 1 {
            let middle = usize::midpoint(fits, over);
            match writer.append(batch("keys-dead", &[(Some(b"k"), &noise(middle, 9), &[])])).await {
                Ok(()) => fits = middle,
                Err(fault) => {
                    assert_eq!(fault.kind(), FaultKind::Rejected);
                    over = middle;
                }
            }
        }
        let already = read(kafka, "keys-dead").len();
        let full = noise(fits, 9);
        writer.append(batch("keys", &[(Some(b"k"), &full, &[])])).await.unwrap();
        let running = gives_up(kafka, "keys", "keys", "keys-dead", writer).await;
        until("both dead letters are written", || running.counts().dead_letters == 2).await;
        assert_eq!(running.stop(STOP_WAIT).await.unwrap().parked, 0);
        let all = read(kafka, "keys-dead");
        let [first, second] = &all[already..] else { panic!("two dead letters") };
        let of = |one: &Plain, key: &[u8], value: &[u8]| {
            one.key.as_deref() == Some(key) && one.value.as_deref() == Some(value)
        };
        let (large, full) = if of(first, b"k", &full) { (second, first) } else { (first, second) };
        assert!(of(large, &key, b"v") && of(full, b"k", &noise(fits, 9)));
        assert_eq!(large.headers[..2], ["h".to_owned(), CAUSE.to_owned()]);
        assert_eq!(full.headers, Vec::<String>::new());
    }

    async fn topics_to_write_to_are_looked_at_before_the_first_record(kafka: &Kafka) {
        create(kafka, &["in", "in-dead"], &[]).await;
        create(kafka, &["in-small"], &[("max.message.bytes", "1000")]).await;
        create(kafka, &["in-compact"], &[("cleanup.policy", "compact")]).await;
        let start = async |dead: Option<&str>, retry: Option<&str>, topics: &[&str]| {
            let mut consumer = Consumer::new(source(kafka, "in", topics));
            if let Some(dead) = dead {
                let topic = TopicName::new(dead).unwrap();
                consumer = consumer.dead_letters(DeadLetters::new(Arc::new(producer(kafka)), topic, "in"));
            }
            if let Some(retry) = retry {
                let topic = RetryTopic::new(Arc::new(producer(kafka))).topic(TopicName::new(retry).unwrap());
                consumer = consumer.retry_topic(topic);
            }
            match consumer.start(async |_: Record| {}).await {
                Ok(running) => {
                    let warnings = running.warnings().to_vec();
                    running.stop(STOP_WAIT).await.unwrap();
                    Ok(warnings.join(
                        "
",
                    ))
                }
                Err(fault) => Err(fault.chain()),
            }
        };
        let missing = start(Some("nowhere"), None, &["in"]).await.unwrap_err();
        assert!(
            missing.contains("dead_letters: the topic nowhere is not there; fix: create it"),
            "{missing}"
        );
        let missing = start(None, Some("nowhere"), &["in"]).await.unwrap_err();
        assert!(missing.contains("retry_topic: the topic nowhere is not there"), "{missing}");
        let compacted = start(Some("in-compact"), None, &["in"]).await.unwrap_err();
        assert!(compacted.contains("set cleanup.policy=delete for in-compact"), "{compacted}");
        let small = start(Some("in-small"), None, &["in"]).await.unwrap();
        assert!(small.contains("set max.message.bytes=1048588 for in-small"), "{small}");
        let unread = start(None, Some("in-dead"), &["in"]).await.unwrap();
        assert!(unread.contains("in-dead is not read by this consumer"), "{unread}");
        assert_eq!(start(Some("in-dead"), Some("in-small"), &["in-small"]).await.unwrap(), "");
    }

    async fn set(kafka: &Kafka, topic: &str, key: &str, value: &str) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
        for one in admin.alter_configs(&[config], &AdminOptions::new()).await.unwrap() {
            one.unwrap();
        }
    }

    async fn a_record_that_no_waiting_helps_is_parked_and_another_key_goes_on(kafka: &Kafka) {
        create(kafka, &["p", "p-dead"], &[]).await;
        let writer = producer(kafka);
        let running = gives_up(kafka, "p", "p", "p-dead", producer(kafka)).await;
        until("it has a partition", || !running.health().partitions.is_empty()).await;
        // Under way, so that the start had nothing to say.
        set(kafka, "p-dead", "cleanup.policy", "compact").await;
        writer.append(batch("p", &[(None, b"no key", &[]), (Some(b"k"), b"v", &[])])).await.unwrap();
        until("one is written and one parked", || {
            (running.counts().dead_letters, running.counts().parked) == (1, 1)
        })
        .await;
        until("health says why", || {
            let complaints = running.health().complaints(Duration::MAX).join(
                "
",
            );
            complaints.contains("parked until a restart")
                && complaints.contains("set cleanup.policy=delete for p-dead")
        })
        .await;
        assert_eq!(committed(kafka, "p", "p", 0).map(|one| one.0), Some(0));
        running.stop(STOP_WAIT).await.unwrap();
        set(kafka, "p-dead", "cleanup.policy", "delete").await;
        let running = gives_up(kafka, "p", "p", "p-dead", producer(kafka)).await;
        until("the parked one is written after a restart", || running.counts().dead_letters == 1).await;
        running.stop(STOP_WAIT).await.unwrap();
        assert_eq!(committed(kafka, "p", "p", 0), Some((2, Vec::new())));
    }

    async fn a_record_that_the_retry_topic_does_not_take_is_tried_in_place(kafka: &Kafka) {
        create(kafka, &["r"], &[]).await;
        create(kafka, &["r-retry"], &[("max.message.bytes", "10000")]).await;
        let writer = producer(kafka);
        writer.append(batch("r", &[(Some(b"k"), &noise(50_000, 10), &[])])).await.unwrap();
        let running = Consumer::new(source(kafka, "r", &["r", "r-retry"]))
            .retry(RetryPolicy { first: Duration::from_millis(10), ..RetryPolicy::default() })
            .retry_topic(RetryTopic::new(Arc::new(writer)))
            .start(async |record: Record| match record.attempt {
                1 | 2 => Outcome::failed("not yet"),
                _ => Outcome::Done,
            })
            .await
            .unwrap();
        until("it is done", || running.counts().done == 1).await;
        let counts = running.stop(STOP_WAIT).await.unwrap();
        assert_eq!((counts.received, counts.requeued, counts.requeues_failed, counts.parked), (1, 0, 2, 0));
    }

    async fn the_first_origin_and_time_of_a_record_outlive_retries_and_replay(kafka: &Kafka) {
        const DAY_MS: i64 = 86_400_000;
        create(kafka, &["o", "o-retry", "o-dead"], &[]).await;
        let old_ms = read(kafka, "p")[0].timestamp_ms - 2 * DAY_MS;
        // As another client writes it, which keeps the time.
        let old: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        old.send(BaseRecord::to("o").key("first").payload("1").timestamp(old_ms - DAY_MS)).unwrap();
        old.send(BaseRecord::to("o").key("k").payload("v").timestamp(old_ms)).unwrap();
        old.flush(Duration::from_secs(20)).unwrap();
        let letters_of =
            |topic: &str| DeadLetters::new(Arc::new(producer(kafka)), TopicName::new(topic).unwrap(), "o");
        let running = Consumer::new(source(kafka, "o", &["o", "o-retry"]))
            .retry(RetryPolicy {
                first: Duration::from_millis(10),
                attempts_max: 3,
                exhausted: Exhausted::DeadLetter,
                ..RetryPolicy::default()
            })
            .retry_topic(RetryTopic::new(Arc::new(producer(kafka))))
            .dead_letters(letters_of("o-dead"))
            .start(async |record: Record| match record.text().1.as_str() {
                "1" => Outcome::dead_letter("the first"),
                _ => Outcome::failed("never"),
            })
            .await
            .unwrap();
        until("both dead letters are written", || running.counts().dead_letters == 2).await;
        running.stop(STOP_WAIT).await.unwrap();
        tokio::task::block_in_place(|| {
            let mut aside = open(kafka, "o-dead");
            let all = letters(&mut aside);
            let told: Vec<_> = all
                .iter()
                .map(|one| (one.header(PLACE), one.header(ORIGIN), one.header(TIMESTAMP), one.written_ms()))
                .collect();
            let (first_ms, place) = (old_ms - DAY_MS, |text: &str| text.to_owned());
            assert_eq!(told[0], (place("o/0/0"), place("o/0/0"), first_ms.to_string(), first_ms));
            assert_eq!(told[1], (place("o-retry/0/1"), place("o/0/1"), old_ms.to_string(), old_ms));
            // It has the time of the log: it is to stay for as long as its topic keeps letters.
            assert!(all.iter().all(|one| one.timestamp_ms > old_ms + DAY_MS));
            aside.replay(&all).unwrap();
        });
        let (back, again) = (read(kafka, "o"), read(kafka, "o-retry"));
        assert_eq!((back.len(), again.len()), (3, 3));
        // The first is as it was; the other goes to its retry topic, and keeps what it knows.
        assert!(back[2] == back[0], "{:?}", back[2]);
        assert!(
            again[2].headers.iter().any(|name| name == ORIGIN) && again[2].timestamp_ms > old_ms + DAY_MS
        );
    }

    async fn a_value_that_was_cut_before_is_retried_whole(kafka: &Kafka) {
        create(kafka, &["t", "t-retry"], &[]).await;
        let writer = producer(kafka);
        let value = noise(921_601, 1);
        writer.append(batch("t", &[(Some(b"k"), &value, &[])])).await.unwrap();
        let policy = RetryPolicy { first: Duration::from_millis(10), ..RetryPolicy::default() };
        let running = Consumer::new(source(kafka, "retries", &["t", "t-retry"]))
            .retry(policy)
            .retry_topic(RetryTopic::new(Arc::new(writer)))
            .start(move |record: Record| {
                let is_whole = record.value() == Some(&value[..]);
                let outcome = match record.attempt {
                    _ if !is_whole => Outcome::dead_letter("not the value that was written"),
                    1 => Outcome::failed("the first attempt"),
                    _ => Outcome::Done,
                };
                async move { outcome }
            })
            .await
            .unwrap();
        until("the record is done", || running.counts().done > 0).await;
        let counts = running.stop(STOP_WAIT).await.unwrap();
        assert_eq!((counts.received, counts.requeued, counts.done, counts.parked), (2, 1, 1, 0));
        assert_eq!((read(kafka, "t").len(), read(kafka, "t-retry").len()), (1, 1));
    }

    /// A consumer that gives all records up.
    async fn gives_up(kafka: &Kafka, group: &str, topic: &str, dead: &str, writer: Producer) -> Running {
        let letters = DeadLetters::new(Arc::new(writer), TopicName::new(dead).unwrap(), group);
        Consumer::new(source(kafka, group, &[topic]))
            .dead_letters(letters)
            .start(async |_: Record| Outcome::dead_letter("no such column"))
            .await
            .unwrap()
    }

    async fn a_dead_letter_of_two_million_bytes_is_put_back_as_it_was(kafka: &Kafka) {
        create(kafka, &["big", "big-dead"], &[("max.message.bytes", "4000000")]).await;
        let value = noise(2_000_000, 2);
        producer(kafka).append(batch("big", &[(Some(b"k"), &value, &[("own", b"1")])])).await.unwrap();
        let running = gives_up(kafka, "big", "big", "big-dead", producer(kafka)).await;
        until("the dead letter is written", || running.counts().dead_letters > 0).await;
        running.stop(STOP_WAIT).await.unwrap();
        tokio::task::block_in_place(|| {
            let mut aside = open(kafka, "big-dead");
            let all = letters(&mut aside);
            assert_eq!(all.len(), 1);
            aside.replay(&all).unwrap();
        });
        let all = read(kafka, "big");
        assert_eq!(all.len(), 2);
        assert!(all[0] == all[1], "the record changed on its way");
    }

    async fn a_record_that_is_too_large_is_refused_by_name_and_its_neighbours_are_not(kafka: &Kafka) {
        create(kafka, &["small"], &[("max.message.bytes", "100000")]).await;
        let writer = producer(kafka);
        let (large, fits) = (noise(150_000, 3), noise(60_000, 4));
        // All of them are in one batch of librdkafka's.
        let before = writer.append(batch("small", &[(Some(b"a"), &fits, &[])]));
        let refused = writer.append(batch("small", &[(Some(b"k"), &large, &[])]));
        let after = writer.append(batch("small", &[(Some(b"b"), &fits, &[])]));
        let (before, refused, after) = tokio::join!(before, refused, after);
        before.unwrap();
        after.unwrap();
        let fault = refused.unwrap_err();
        assert_eq!((fault.kind(), fault.code()), (FaultKind::Rejected, "W-KAFKA-REJECTED"));
        for word in ["150001 bytes", "max.message.bytes of small", "message.max.bytes"] {
            assert!(fault.chain().contains(word), "{}", fault.chain());
        }
        let all = read(kafka, "small");
        assert!(all.len() == 2 && all.iter().all(|one| one.value.as_deref() == Some(&fits[..])));
    }

    /// Writes some parts of a value under a key of its own, as a capture does that is stopped in the middle.
    async fn write_parts(writer: &Producer, topic: &str, value: &[u8], indexes: std::ops::Range<usize>) {
        for (part, bytes) in parts::cut(value, limits::PART_BYTES_DEFAULT)
            .enumerate()
            .filter(|(index, _)| indexes.contains(index))
            .map(|(_, one)| one)
        {
            let header = part.header();
            let headers = [("weir.seq", &b"7"[..]), (parts::HEADER, header.as_bytes())];
            writer.append(batch(topic, &[(Some(&value[..8]), bytes, &headers)])).await.unwrap();
        }
    }

    async fn a_consumer_of_a_topic_with_parts_gets_whole_values_and_commits_only_whole_ones(kafka: &Kafka) {
        create(kafka, &["changes"], &[]).await;
        let writer = producer(kafka);
        let (value, other) = (noise(2_500_000, 5), noise(2_000_000, 6));
        let small = |text: &'static [u8]| batch("changes", &[(Some(b"s"), text, &[])]);
        write_parts(&writer, "changes", &value, 1..3).await; // 0, 1: the end of a value that retention cut off
        writer.append(small(b"first")).await.unwrap(); // 2
        write_parts(&writer, "changes", &value, 0..2).await; // 3, 4: an attempt that broke off
        writer.append(small(b"between")).await.unwrap(); // 5
        write_parts(&writer, "changes", &other, 0..1).await; // 6
        write_parts(&writer, "changes", &value, 0..3).await; // 7, 8, 9: whole with its last part
        write_parts(&writer, "changes", &other, 1..3).await; // 10, 11: as many bytes again
        writer.append(small(b"last")).await.unwrap();
        let is_stuck = Arc::new(AtomicBool::new(true));
        let seen: Arc<Mutex<Vec<(i64, usize, bool)>>> = Arc::default();
        let start = async |budget_bytes: usize| {
            let (is_stuck, seen, value) = (Arc::clone(&is_stuck), Arc::clone(&seen), value.clone());
            Consumer::new(source(kafka, "changes", &["changes"]))
                .budget(weir_runtime::budget::Budget::new(budget_bytes))
                .commit_every(Duration::from_millis(50))
                .start(move |record: Record| {
                    let is_value = record.value() == Some(&value[..]);
                    let is_cut = record.header(parts::HEADER).is_some();
                    seen.lock().unwrap().push((record.offset, record.value().map_or(0, <[u8]>::len), is_cut));
                    let is_stuck = Arc::clone(&is_stuck);
                    async move {
                        match is_value && is_stuck.load(Ordering::Relaxed) {
                            true => Outcome::retry_after(Duration::from_millis(20)),
                            false => Outcome::Done,
                        }
                    }
                })
                .await
                .unwrap()
        };
        let running = start(64 << 20).await;
        until("all but one are done", || running.counts().done == 4).await;
        // The first part of the value is at 3 and its last at 9. Nothing else is left before that, and 11 and 12 are done.
        until("nothing is committed after its first part", || {
            committed(kafka, "changes", "changes", 0)
                .is_some_and(|(offset, done)| offset == 3 && done == [4..9, 11..13])
        })
        .await;
        running.stop(STOP_WAIT).await.unwrap();
        let mut of_first: Vec<i64> =
            seen.lock().unwrap().iter().map(|one| one.0).filter(|one| *one != 9).collect();
        // Keys are handled side by side.
        of_first.sort_unstable();
        assert_eq!(of_first, [2, 5, 11, 12]);
        seen.lock().unwrap().clear();
        is_stuck.store(false, Ordering::Relaxed);
        // A budget of less than the value: parts do not stop their own partition.
        let running = start(1 << 20).await;
        until("the value is done", || running.counts().done > 0).await;
        until("all is committed", || {
            committed(kafka, "changes", "changes", 0).is_some_and(|one| one.0 == 13)
        })
        .await;
        let counts = running.stop(STOP_WAIT).await.unwrap();
        assert_eq!(*seen.lock().unwrap(), [(9, value.len(), false)]);
        assert_eq!((counts.done, counts.spared), (1, 3));
    }

    async fn dead_letters_that_were_written_in_parts_are_one_letter_each(kafka: &Kafka) {
        create(kafka, &["wide-dead"], &[]).await;
        // They go back in parts, because the topic takes them in no other way.
        let config = ProducerConfig {
            part_bytes_max: Some(limits::PART_BYTES_DEFAULT),
            ..ProducerConfig::new(&kafka.bootstrap())
        };
        let running = gives_up(kafka, "wide", "changes", "wide-dead", Producer::start(config).unwrap()).await;
        until("the dead letters are written", || running.counts().dead_letters == 5).await;
        running.stop(STOP_WAIT).await.unwrap();
        tokio::task::block_in_place(|| {
            let mut aside = open(kafka, "wide-dead");
            let all = letters(&mut aside);
            let mut sizes: Vec<usize> = all.iter().map(|one| one.value.as_ref().unwrap().len()).collect();
            sizes.sort_unstable();
            assert_eq!(sizes, [4, 5, 7, 2_000_000, 2_500_000]);
            aside.replay(&all).unwrap();
            assert_eq!(letters(&mut open(kafka, "wide-dead")), []);
        });
        let seen: Arc<Mutex<Vec<usize>>> = Arc::default();
        let running = Consumer::new(source(kafka, "again", &["changes"]))
            .start({
                let seen = Arc::clone(&seen);
                move |record: Record| {
                    seen.lock().unwrap().push(record.value().map_or(0, <[u8]>::len));
                    async {}
                }
            })
            .await
            .unwrap();
        until("all records are there twice", || seen.lock().unwrap().len() == 10).await;
        running.stop(STOP_WAIT).await.unwrap();
    }
}
