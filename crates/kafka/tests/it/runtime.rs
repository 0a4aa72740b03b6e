//! A broker that does not answer must not hold the threads that everything else runs on.

use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_model::TopicName;
use weir_runtime::log::{LogWriter, RecordBatch, RecordSpan};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_up_topics_while_no_broker_answers_leaves_the_runtime_to_others() {
    // A listener that never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bootstrap = silent.local_addr().unwrap().to_string();
    let producer = Producer::start(ProducerConfig::new(&bootstrap)).unwrap();
    let mut writers = Vec::new();
    for number in 0..4 {
        let producer = producer.clone();
        writers.push(tokio::spawn(async move {
            let mut batch = RecordBatch {
                topics: vec![TopicName::new(&format!("topic-{number}")).unwrap()],
                ..RecordBatch::default()
            };
            batch.arena.extend_from_slice(b"kv");
            batch.records.push(RecordSpan {
                topic: 0,
                key: 0..1,
                value: 1..2,
                headers: 0..0,
                timestamp_ms: 1,
            });
            producer.append(batch).await.unwrap_err().code()
        }));
    }
    let ticks = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        while writers.iter().any(|writer| !writer.is_finished()) {
            let before = Instant::now();
            tokio::time::sleep(Duration::from_millis(20)).await;
            longest = longest.max(before.elapsed());
        }
        (longest, writers)
    });
    let (longest, writers) = ticks.await.unwrap();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), "W-KAFKA-UNREACHABLE");
    }
    assert!(longest < Duration::from_secs(1), "everything else stood still for {longest:?}");
}
