//! What `weir run` says of its topics when it starts.

use super::create_topic;
use weir::config::load;
use weir::topic_watch::look;
use weir_testkit::engine::kafka::Kafka;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_topic_and_one_that_may_lose_records_are_named_at_the_start() {
    let kafka = Kafka::start();
    let at = kafka.bootstrap();
    create_topic_elsewhere(&kafka, "hbase.there.wal");
    let config = |tables: &str, create: bool| {
        let text = format!(
            "[log]\nbootstrap = [\"{at}\"]\n[log.topics]\ncreate = {create}\n[capture.main]\n\
             zookeeper = \"127.0.0.1:1\"\n[capture.main.tables]\ninclude = [{tables}]\n"
        );
        load::text_of(&text, "test").unwrap()
    };
    let found = look(&config("\"there\", \"gone\"", false)).await.unwrap();
    let said = |topic: &str, words: &str| {
        assert!(
            found
                .iter()
                .any(|one| one.what.contains(topic) && (one.what.contains(words) || one.fix.contains(words))),
            "{topic}: {words} is not in {found:?}"
        );
    };
    said("hbase.gone.wal", "--create --topic hbase.gone.wal --partitions 12");
    said("hbase.there.wal", "1 replica");
    let missing = |tables, create| async move {
        let found = look(&config(tables, create)).await.unwrap();
        found.iter().filter(|finding| finding.what.contains("missing")).count()
    };
    assert_eq!(missing("\"gone\"", true).await, 0, "Weir creates it itself");
    assert_eq!(missing("\"*\"", false).await, 0, "nobody said that it is needed");
}

/// The fixture's own way of creating a topic has a runtime of its own, which may not start inside another.
fn create_topic_elsewhere(kafka: &Kafka, topic: &str) {
    std::thread::scope(|scope| {
        scope.spawn(|| create_topic(kafka, topic));
    });
}
