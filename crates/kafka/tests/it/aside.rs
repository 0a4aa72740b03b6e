//! Dead letters that are dealt with, on librdkafka's mock cluster; it fences nobody, so that two operators at once are a
//! matter for real Kafka.

use std::collections::BTreeMap;
use std::time::Duration;
use weir_kafka::aside::{Aside, Letter, MARKS};
use weir_kafka::embedded::EmbeddedLog;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::reader::{Reader, Start};
use weir_model::TopicName;
use weir_runtime::dead_letter::PLACE;
use weir_runtime::log::{HeaderSpan, LogWriter as _, RecordBatch, RecordSpan};

/// Letters of records of `home`, one for each value.
async fn write(log: &EmbeddedLog, values: &[&str]) {
    let mut batch = RecordBatch { topics: vec![TopicName::new("dead").unwrap()], ..RecordBatch::default() };
    for (value, number) in values.iter().zip(0..) {
        let mut put = |text: &str| {
            let start = batch.arena.len() as u32;
            batch.arena.extend_from_slice(text.as_bytes());
            start..batch.arena.len() as u32
        };
        let (value, place) = (put(value), put(&format!("home/0/{number}")));
        batch.headers.push(HeaderSpan { name: PLACE.into(), value: place });
        batch.records.push(RecordSpan {
            topic: 0,
            key: value.clone(),
            value,
            headers: number..number + 1,
            timestamp_ms: 1_700_000_000_000,
        });
    }
    Producer::start(ProducerConfig::new(&log.bootstrap())).unwrap().append(batch).await.unwrap();
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

#[test]
fn what_was_put_back_or_dropped_is_known_to_whoever_looks_next() {
    let log = EmbeddedLog::start(1).unwrap();
    for topic in ["dead", "home", MARKS] {
        log.create_topic(&TopicName::new(topic).unwrap(), 1, 1).unwrap();
    }
    tokio::runtime::Runtime::new().unwrap().block_on(write(&log, &["a", "b", "c", "d"]));
    let (bootstrap, none) = (log.bootstrap(), BTreeMap::new());
    let mut operator = Aside::open_to_deal(&bootstrap, &none, "dead").unwrap();
    let all = letters(&mut operator);
    assert_eq!(all.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [0, 1, 2, 3]);
    operator.replay(&all[1..2]).unwrap();
    operator.drop_letters(&all[..1]).unwrap();
    operator.replay(&all[3..]).unwrap();
    assert_eq!(letters(&mut Aside::open(&bootstrap, &none, "dead").unwrap()), all[2..3]);
    let mut next = Aside::open_to_deal(&bootstrap, &none, "dead").unwrap();
    assert_eq!(letters(&mut next), all[2..3]);
    next.replay(&all[2..3]).unwrap();
    assert_eq!(letters(&mut Aside::open(&bootstrap, &none, "dead").unwrap()), []);

    let mut home = Reader::open(&bootstrap, &none, &["home".to_owned()], Start::Beginning).unwrap();
    let back = home.read_to_end(Duration::from_secs(20)).unwrap();
    let back: Vec<_> = back.into_iter().map(|record| (record.value, record.headers)).collect();
    assert_eq!(back, ["b", "d", "c"].map(|value| (value.as_bytes().to_vec(), Vec::new())));
}
