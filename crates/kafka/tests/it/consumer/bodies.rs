//! What a record says, whether it is lent from the fetch response or copied out of it, and how long that lives.

/// On a real broker.
mod real {
    use crate::consumer::{create, until};
    use rdkafka::config::ClientConfig;
    use rdkafka::message::{Header as Told, OwnedHeaders};
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    use std::collections::BTreeMap;
    use std::ops::Range;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, Instant};
    use weir_kafka::source::{KafkaSource, SourceConfig};
    use weir_runtime::consumer::{Consumer, Running};
    use weir_runtime::outcome::Outcome;
    use weir_runtime::record::Record;
    use weir_testkit::engine::kafka::Kafka;

    const RECORDS: usize = 3_000;
    const PART: usize = 300;

    /// Key, value and headers.
    type Body = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    /// What was handled, by offset, and whether it was lent.
    type Seen = Arc<Mutex<BTreeMap<i64, (Body, Option<bool>)>>>;

    /// Nothing, something empty, and more, in all combinations.
    fn body(number: usize) -> Body {
        let part = |kind: usize, text: String| match kind {
            0 => None,
            1 => Some(Vec::new()),
            _ => Some(text.into_bytes()),
        };
        let key = part(number % 3, format!("k{number}"));
        let value = part(number / 3 % 4, format!("v{number}").repeat(1 + number % 40));
        let header = |name: &str, kind| (name.to_owned(), part(kind, format!("h{number}")));
        let headers = match number / 12 % 4 {
            0 => vec![header("one", 2)],
            1 => vec![header("twice", 2), header("twice", 0), header("", 1)],
            _ => Vec::new(),
        };
        (key, value, headers)
    }

    fn body_of(record: &Record) -> Body {
        let headers = record.headers().iter();
        let headers =
            headers.map(|header| (header.name.to_string(), header.value.as_ref().map(|it| it.to_vec())));
        (record.key().map(<[u8]>::to_vec), record.value().map(<[u8]>::to_vec), headers.collect())
    }

    fn write(kafka: &Kafka, topic: &str, compression: &str, numbers: Range<usize>) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", kafka.bootstrap())
            .set("compression.type", compression)
            .set("linger.ms", "20")
            .create()
            .unwrap();
        for number in numbers {
            let (key, value, headers) = body(number);
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(0);
            (record.key, record.payload) = (key.as_deref(), value.as_deref());
            let told = headers.iter().fold(OwnedHeaders::new(), |told, (key, value)| {
                told.insert(Told { key, value: value.as_deref() })
            });
            record.headers = (!headers.is_empty()).then_some(told);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    /// Whether it is still in the fetch response: there a length stands between key and value, in an arena nothing.
    /// Unknown without both.
    fn is_lent(record: &Record) -> Option<bool> {
        let full = |part: Option<&[u8]>| part.filter(|bytes| !bytes.is_empty()).map(<[u8]>::as_ptr_range);
        Some(full(record.key())?.end != full(record.value())?.start)
    }

    /// Reads all of a topic, which `more` writes in parts; how many records were lent and how many copied. `waits` is
    /// whether the handler does.
    async fn read(
        kafka: &Kafka,
        (topic, group): (&str, &str),
        waits: bool,
        more: impl Fn(Range<usize>),
    ) -> [usize; 2] {
        let seen = Seen::default();
        let handler = {
            let seen = Arc::clone(&seen);
            move |record: Record| {
                let seen = Arc::clone(&seen);
                async move {
                    if waits {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    // Clones on other threads may ask at the same time: the headers are read once.
                    let others = || {
                        std::thread::scope(|scope| {
                            let asked = [record.clone(), record.clone()]
                                .map(|one| scope.spawn(move || body_of(&one)));
                            asked.map(|asked| asked.join().unwrap())
                        })
                    };
                    if record.offset % 100 < 12 {
                        let [one, other] = others();
                        assert_eq!(one, other);
                    }
                    seen.lock().unwrap().insert(record.offset, (body_of(&record), is_lent(&record)));
                }
            }
        };
        let source = KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), group, &[topic]));
        let running = Consumer::new(source).start(handler).await.unwrap();
        for start in (0..RECORDS).step_by(PART) {
            more(start..start + PART);
            until("the part is handled", || running.counts().done >= (start + PART) as u64).await;
        }
        running.stop(Duration::from_secs(5)).await.unwrap();
        let seen = seen.lock().unwrap();
        for (number, (offset, (found, _))) in seen.iter().enumerate() {
            assert_eq!((*offset, found), (number as i64, &body(number)), "{topic}");
        }
        [true, false].map(|lent| seen.values().filter(|one| one.1 == Some(lent)).count())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_says_the_same_lent_and_copied_under_each_compression() {
        let kafka = Kafka::start();
        for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
            create(&kafka, compression, 1).await;
            let more = |numbers| write(&kafka, compression, compression, numbers);
            let [lent, copied] = read(&kafka, (compression, "at-once"), false, more).await;
            println!("{compression}: handlers that end at once: {lent} lent, {copied} copied");
            assert!(lent > copied, "{compression}");
            let [lent, copied] = read(&kafka, (compression, "wait"), true, |_| {}).await;
            println!("{compression}: handlers that wait: {lent} lent, {copied} copied");
            assert!(copied > lent, "{compression}");
        }
    }

    /// Threads of this process by this name; the test has the process for itself.
    fn threads(name: &str) -> usize {
        let all = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = all.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|comm| comm.starts_with(name)).count()
    }

    async fn keeping(kafka: &Kafka, kept: &Arc<Mutex<Vec<Record>>>) -> Running {
        let kept = Arc::clone(kept);
        let handler = move |record: Record| {
            kept.lock().unwrap().push(record);
            async { Outcome::Done }
        };
        let source = KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "keep", &["keep"]));
        Consumer::new(source).start(handler).await.unwrap()
    }

    /// The group is left in order all the same, and the client ends with the record.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_record_that_a_service_keeps_outlives_its_consumer() {
        let kafka = Kafka::start();
        create(&kafka, "keep", 1).await;
        write(&kafka, "keep", "none", 0..RECORDS);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let running = keeping(&kafka, &kept).await;
        until("all are handled", || running.counts().done == RECORDS as u64).await;
        running.stop(Duration::from_secs(5)).await.unwrap();
        kept.lock().unwrap().sort_by_key(|record| record.offset);
        let value = kept.lock().unwrap().iter().find_map(Record::value_bytes).unwrap();
        assert!(kept.lock().unwrap().iter().any(|record| is_lent(record) == Some(true)));
        assert!(threads("rdk:") > 0, "the client lives as long as what it lent");

        // The next member need not wait for a session to end.
        write(&kafka, "keep", "none", 0..RECORDS);
        let (others, began) = (Arc::default(), Instant::now());
        let next = keeping(&kafka, &others).await;
        until("the next member has it", || next.counts().done == RECORDS as u64).await;
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}: the session is 45 s", began.elapsed());
        next.stop(Duration::from_secs(5)).await.unwrap();
        others.lock().unwrap().clear();

        for record in &*kept.lock().unwrap() {
            assert_eq!(body_of(record), body(record.offset as usize), "{}", record.offset);
        }
        let first = (0..RECORDS).find_map(|number| body(number).1).unwrap();
        kept.lock().unwrap().clear();
        assert_eq!(value, first, "a value alone keeps it, too");
        drop(value);
        until("the clients are gone", || threads("rdk:") == 0 && threads("weir-leave") == 0).await;
    }
}
