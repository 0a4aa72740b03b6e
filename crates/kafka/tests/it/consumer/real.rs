//! Tests on a real broker.

use super::kill::{Member, Told, committed};
use super::{create, numbered, until, write};
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::Offset;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, OutOfRange, Protocol, SourceConfig, StartAt};
use weir_model::TopicName;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::handler::Handler;
use weir_runtime::log::{HeaderSpan, LogWriter as _, RecordBatch, RecordSpan};
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::testing::judge::Judge;
use weir_testkit::engine::kafka::Kafka;

/// A handler that tells the judge, and takes the time that the value says.
pub(super) fn judged(judge: &Judge) -> impl Handler + use<> {
    let judge = judge.clone();
    move |record: Record| {
        let attempt = judge.begin(&record);
        async move {
            let ms = record.text().1.split(' ').nth(2).and_then(|ms| ms.parse().ok()).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            attempt.done();
        }
    }
}

pub(super) async fn member(config: &SourceConfig, judge: &Judge) -> Running {
    Consumer::new(KafkaSource::new(config.clone())).start(judged(judge)).await.unwrap()
}

/// Decaton's own suite, on each of the three protocols: three members, eight partitions, 10,000 records over 100 keys,
/// members restarted one by one while records come.
#[tokio::test(flavor = "multi_thread")]
async fn three_members_restarted_one_by_one_lose_nothing_and_keep_each_keys_order() {
    let kafka = Kafka::start();
    for (name, protocol) in
        [("cooperative", Protocol::Cooperative), ("eager", Protocol::Eager), ("consumer", Protocol::Consumer)]
    {
        create(&kafka, name, 8).await;
        let config = SourceConfig { protocol, ..SourceConfig::new(&kafka.bootstrap(), name, &[name]) };
        let judge = Judge::default();
        let mut members = Vec::new();
        for _ in 0..3 {
            members.push(member(&config, &judge).await);
        }
        let records: Vec<(String, String)> = numbered(10_000, 100, 2).collect();
        let (first, rest) = records.split_at(2500);
        write(&kafka, name, first.to_vec()).await;
        for (index, part) in rest.chunks(2500).enumerate() {
            let before = judge.done_count();
            write(&kafka, name, part.to_vec()).await;
            until("some records are done", || judge.done_count() > before).await;
            let stopped = members.remove(0).stop(Duration::from_secs(5)).await.unwrap();
            assert_eq!(stopped.cancelled, 0, "member {index}");
            members.push(member(&config, &judge).await);
        }
        until(&format!("all are done with {name}"), || judge.done_count() == 10_000).await;
        let mut refused = 0;
        for member in members {
            refused += member.stop(Duration::from_secs(5)).await.unwrap().commits_failed;
        }
        println!("{name}: {} records repeated, {refused} commits refused", judge.repeated_count());
        assert_eq!(judge.wrong(), Vec::<String>::new(), "{name}");
        let end: i64 =
            (0..8).filter_map(|partition| committed(&kafka, name, name, partition)).map(|one| one.0).sum();
        assert_eq!(end, 10_000, "{name}");
    }
}

/// What a process told, checked: per key no offset is done twice or out of order, and none is begun before the one
/// before it is done.
pub(super) fn check_order(told: &[Told]) {
    let mut open: BTreeMap<&str, i64> = BTreeMap::new();
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    for (what, key, partition, offset) in told {
        let place = format!("{key} {partition}/{offset}");
        if what == "begin" {
            assert_eq!(open.insert(key, *offset), None, "two at once: {place}");
        } else {
            assert_eq!(open.remove(key.as_str()), Some(*offset), "{place}");
            let before = last.insert(key, *offset);
            assert!(before.is_none_or(|before| before < *offset), "out of order: {place} after {before:?}");
        }
    }
}

pub(super) fn done(told: &[Told]) -> BTreeSet<(i32, i64)> {
    told.iter().filter(|told| told.0 == "done").map(|told| (told.2, told.3)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_killed_under_load_loses_nothing_and_repeats_at_most_what_it_did_since_its_last_commit() {
    let kafka = Kafka::start();
    create(&kafka, "load", 8).await;
    // 60 records a key of 100 ms each: six seconds of work, and a commit each second of it.
    write(&kafka, "load", numbered(6000, 100, 100)).await;
    let first = Member::start(&kafka, "g", "load", None);
    until("half is done", || first.count("done") > 3000).await;
    let commits: BTreeMap<i32, _> = (0..8)
        .filter_map(|partition| Some((partition, committed(&kafka, "g", "load", partition)?)))
        .collect();
    let first = first.kill9();
    check_order(&first);
    let second = Member::start(&kafka, "g", "load", None);
    let before = done(&first);
    until("all are done", || before.union(&done(&second.told())).count() == 6000).await;
    let (second, received, spared) = second.stop();
    check_order(&second);
    let repeated = done(&second).intersection(&before).count();
    println!(
        "{} done before the kill, {repeated} repeated; {received} received, {spared} spared",
        before.len()
    );
    let is_saved = |partition: i32, offset: i64| {
        commits.get(&partition).is_some_and(|(base, beyond)| {
            offset < *base || beyond.iter().any(|range| range.contains(&offset))
        })
    };
    let saved = before.iter().filter(|(partition, offset)| is_saved(*partition, *offset)).count();
    assert!(saved > 500, "only {saved} were committed");
    let again: Vec<&Told> = second.iter().filter(|told| is_saved(told.2, told.3)).collect();
    assert_eq!(again, Vec::<&Told>::new(), "what was committed as done is handled again");
    let end: i64 =
        (0..8).filter_map(|partition| committed(&kafka, "g", "load", partition)).map(|one| one.0).sum();
    assert_eq!(end, 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_only_the_record_that_was_stuck_is_handled_again() {
    let kafka = Kafka::start();
    create(&kafka, "stuck", 1).await;
    let one = ("stuck".to_owned(), "stuck 0 0".to_owned());
    write(&kafka, "stuck", std::iter::once(one).chain(numbered(2000, 100, 0))).await;
    let first = Member::start(&kafka, "g", "stuck", Some("stuck"));
    until("the commit says that all but the first are done", || {
        committed(&kafka, "g", "stuck", 0)
            .is_some_and(|(offset, beyond)| offset == 0 && is_one(&beyond, 1..2001))
    })
    .await;
    let first = first.kill9();
    assert_eq!(done(&first).len(), 2000);
    let second = Member::start(&kafka, "g", "stuck", None);
    until("the stuck record is done", || second.count("done") == 1).await;
    until("all is committed", || committed(&kafka, "g", "stuck", 0) == Some((2001, Vec::new()))).await;
    let (second, received, spared) = second.stop();
    assert_eq!(second.iter().map(|told| told.3).collect::<Vec<_>>(), [0, 0]);
    assert_eq!((received, spared), (2001, 2000));
}

/// Whether the ranges are this one alone.
fn is_one(ranges: &[Range<i64>], range: Range<i64>) -> bool {
    matches!(ranges, [one] if *one == range)
}

/// A record with and without key, value and header value: null and empty are two things.
fn poison(topic: &TopicName) -> RecordBatch {
    let mut batch = RecordBatch {
        topics: vec![topic.clone()],
        arena: b"keyvaluetrace".to_vec(),
        ..RecordBatch::default()
    };
    batch.headers.push(HeaderSpan { name: "trace".into(), value: 8..13 });
    batch.headers.push(HeaderSpan { name: "null".into(), value: RecordBatch::NONE });
    for (key, value) in [(0..3, 3..8), (0..3, RecordBatch::NONE), (RecordBatch::NONE, 3..8), (0..0, 0..0)] {
        batch.records.push(RecordSpan {
            topic: 0,
            key,
            value,
            headers: 0..2,
            timestamp_ms: 1_700_000_000_000,
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_records_come_again_in_place_and_then_go_whole_to_the_dead_letters() {
    let kafka = Kafka::start();
    create(&kafka, "t", 1).await;
    let topic = TopicName::new("t").unwrap();
    let producer = Producer::start(ProducerConfig::new(&kafka.bootstrap())).unwrap();
    producer.append(poison(&topic)).await.unwrap();
    write(&kafka, "t", numbered(200, 10, 0)).await;
    create(&kafka, "t-dead", 1).await;
    let letters = DeadLetters::new(Arc::new(producer.clone()), TopicName::new("t-dead").unwrap(), "g");
    let policy = RetryPolicy {
        first: Duration::from_millis(20),
        attempts_max: 3,
        exhausted: Exhausted::DeadLetter,
        ..RetryPolicy::default()
    };
    let (judge, is_gone) = (Judge::default(), Arc::new(AtomicBool::new(false)));
    // What was written long ago has the time of writing to Kafka.
    let times: Arc<std::sync::Mutex<std::collections::BTreeMap<i64, i64>>> = Arc::default();
    let running = Consumer::new(KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "g", &["t"])))
        .retry(policy)
        .dead_letters(letters)
        .start({
            let (judge, is_gone, times) = (judge.clone(), Arc::clone(&is_gone), Arc::clone(&times));
            move |record: Record| {
                times.lock().unwrap().insert(record.offset, record.timestamp_ms);
                let (attempt, is_gone) = (judge.begin(&record), Arc::clone(&is_gone));
                async move {
                    match (record.offset, record.attempt) {
                        (0..4, _) => {
                            while !is_gone.load(Ordering::Relaxed) {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                            return Outcome::failed("it never works");
                        }
                        // One in ten fails twice.
                        (offset, 1 | 2) if offset % 10 == 0 => return Outcome::retry(),
                        _ => attempt.done(),
                    }
                    Outcome::Done
                }
            }
        })
        .await
        .unwrap();
    until("the others are done", || judge.done_count() == 200).await;
    // The topic for dead letters is deleted under way: the records stay pending, and nothing else waits.
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    admin.delete_topics(&["t-dead"], &AdminOptions::new()).await.unwrap();
    is_gone.store(true, Ordering::Relaxed);
    until("a dead letter was refused", || running.counts().dead_letters_failed > 0).await;
    until("the commit waits for the first", || {
        committed(&kafka, "g", "t", 0).is_some_and(|(offset, beyond)| offset == 0 && is_one(&beyond, 4..204))
    })
    .await;
    create(&kafka, "t-dead", 1).await;
    until("all is committed", || committed(&kafka, "g", "t", 0) == Some((204, Vec::new()))).await;
    let counts = running.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!((counts.done, counts.dead_letters), (200, 4));
    assert_eq!(judge.wrong(), Vec::<String>::new());

    // Read back by the runtime itself, which tells null from empty.
    let seen: Arc<std::sync::Mutex<Vec<Record>>> = Arc::default();
    let running = Consumer::new(KafkaSource::new(SourceConfig::new(&kafka.bootstrap(), "look", &["t-dead"])))
        .start({
            let seen = Arc::clone(&seen);
            move |record: Record| {
                seen.lock().unwrap().push(record);
                async {}
            }
        })
        .await
        .unwrap();
    until("four letters are read", || seen.lock().unwrap().len() == 4).await;
    running.stop(Duration::from_secs(5)).await.unwrap();
    let mut letters = seen.lock().unwrap().clone();
    let place = |record: &Record| record.header(dead_letter::PLACE).map(<[u8]>::to_vec);
    letters.sort_by_key(place);
    let told = letters.iter().map(|letter| (letter.key(), letter.value()));
    let told: Vec<_> = told.collect();
    let (key, value) = (Some(&b"key"[..]), Some(&b"value"[..]));
    assert_eq!(told, [(key, value), (key, None), (None, value), (Some(&b""[..]), Some(&b""[..]))]);
    for (letter, offset) in letters.iter().zip(0..) {
        assert_eq!(place(letter), Some(format!("t/0/{offset}").into_bytes()));
        assert_eq!(letter.header(dead_letter::ATTEMPTS), Some(&b"3"[..]));
        assert_eq!(letter.header(dead_letter::CAUSE), Some(&b"it never works"[..]));
        assert_eq!((letter.header("trace"), letter.header("null")), (Some(&b"trace"[..]), None));
        assert_eq!(letter.header(dead_letter::ORIGIN), place(letter).as_deref());
        assert_eq!(
            letter.header(dead_letter::TIMESTAMP),
            Some(times.lock().unwrap()[&offset].to_string().as_bytes())
        );
        assert_eq!(letter.headers().len(), 8);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_gone_stops_its_partition_by_name_unless_the_policy_says_otherwise() {
    let kafka = Kafka::start();
    create(&kafka, "short", 1).await;
    write(&kafka, "short", numbered(100, 10, 0)).await;
    let judge = Judge::default();
    let config = SourceConfig::new(&kafka.bootstrap(), "g", &["short"]);
    let running = member(&config, &judge).await;
    until("all are committed", || committed(&kafka, "g", "short", 0).is_some_and(|one| one.0 == 100)).await;
    running.stop(Duration::from_secs(5)).await.unwrap();
    write(&kafka, "short", numbered(100, 10, 0)).await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset("short", 0, Offset::Offset(150)).unwrap();
    admin.delete_records(&gone, &AdminOptions::new()).await.unwrap();

    let running = member(&config, &judge).await;
    until("the partition is stopped", || running.health().partitions.iter().any(|one| one.fault.is_some()))
        .await;
    let complaints = running.health().complaints(Duration::MAX);
    assert!(complaints[0].starts_with("short/0 is stopped: [W-RUNTIME-OUT-OF-RANGE]"), "{complaints:?}");
    running.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(judge.done_count(), 100);
    assert_eq!(committed(&kafka, "g", "short", 0), Some((100, Vec::new())));

    let earliest = SourceConfig { out_of_range: OutOfRange::Earliest, ..config.clone() };
    let running = member(&earliest, &judge).await;
    until("what is left is done", || judge.done_count() == 150).await;
    running.stop(Duration::from_secs(5)).await.unwrap();
    assert_eq!(committed(&kafka, "g", "short", 0), Some((200, Vec::new())));

    // A new group that starts at the end sees what comes from then on.
    let latest = SourceConfig { group: "late".to_owned(), start_at: StartAt::Latest, ..config };
    let late = Judge::default();
    let running = member(&latest, &late).await;
    until("the partition is ours", || !running.health().partitions.is_empty()).await;
    let mut wave = 0;
    until("a record written later is done", || {
        // Assigned is not yet positioned at the end: each wave is later than the last.
        wave += 1;
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(write(&kafka, "short", numbered(1, 1, 0)));
        });
        late.done_count() > 0
    })
    .await;
    running.stop(Duration::from_secs(5)).await.unwrap();
    assert!(late.done_count() <= wave);
}
