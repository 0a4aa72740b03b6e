//! Whole pipelines on real engines: started one at a time, nothing mocked.
//!
//! Each file is one subject; what they share is here.

mod aside;
mod brokers;
mod campaigns;
mod capture;
mod clusters;
mod lines;
mod load;
mod mistakes;
mod operator;
mod region_server;
mod rig;
mod sink;
mod topics;
mod trouble;
mod writes;

use std::collections::HashMap;
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_testkit::engine::hbase::HBase;
use weir_testkit::engine::kafka::Kafka;

fn config(kafka: &Kafka, hbase: &HBase) -> String {
    config_of(&kafka.bootstrap(), &hbase.zookeeper())
}

/// The same for engines of any form, by their addresses.
fn config_of(bootstrap: &str, zookeeper: &str) -> String {
    format!(
        "[log]\nbootstrap = [\"{bootstrap}\"]\n[capture.main]\nzookeeper = \"{zookeeper}\"\npeer = \"weir\"\nlisten = \"127.0.0.1:0\"\n\
         [console]\nlisten = \"127.0.0.1:CONSOLE\"\n"
    )
}

fn create_topic(kafka: &Kafka, topic: &str) {
    create_topic_at(&kafka.bootstrap(), topic, 1, 1);
}

/// A topic of four partitions with so many replicas.
fn create_topic_at(bootstrap: &str, topic: &str, replication: i32, min_insync_replicas: u32) {
    let topics = Topics::new(bootstrap, &Default::default()).unwrap();
    let settings = NewSettings { partitions: 4, replication, min_insync_replicas, retention_ms: 86_400_000 };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(topics.create(&TopicName::new(topic).unwrap(), &settings)).unwrap();
}

/// Sequence numbers of one region never fall, but for entries that come again.
#[track_caller]
fn check_order(records: &[weir_kafka::reader::LogRecord]) -> usize {
    let mut seen: HashMap<String, Vec<u64>> = HashMap::new();
    let mut again = 0;
    for record in records.iter().filter(|record| record.header(weir_wire::identity::EVENT_HEADER).is_none()) {
        let identity = weir_wire::identity::parse(record.header("weir").unwrap().as_bytes()).unwrap();
        let sequence = identity.sequence;
        let change = weir_wire::change::decode(&record.value).unwrap();
        assert_eq!((change.sequence, change.encoded_region), (sequence, identity.encoded_region));
        assert_eq!((change.source, change.write_time_ms), (identity.source, identity.write_time_ms));
        let of_region = seen.entry(identity.encoded_region.to_owned()).or_default();
        match of_region.binary_search(&sequence) {
            Ok(_) => again += 1,
            Err(place) => {
                assert_eq!(place, of_region.len(), "a new entry came before an older one of its region");
                of_region.push(sequence);
            }
        }
    }
    again
}
