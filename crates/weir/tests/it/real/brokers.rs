//! Three real Kafka brokers under load: a partition's leader is killed, and two of three brokers are.

use super::load::Load;
use super::{check_order, config_of, create_topic_at};
use crate::watch::wait_until;
use crate::weir::{DEADLINE, Weir, wait_until_log_is};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::time::{Duration, Instant};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka_cluster::KafkaCluster;
use weir_testkit::scale;
use weir_testkit::table::{TableTool, replicated};

const TOPIC: &str = "hbase.t.wal";
const ENTRIES: &str = "weir_capture_entries_total{capture=\"main\",table=\"t\"}";
const AGAIN: &str = "weir_source_again_total{capture=\"main\"}";

/// A source gives a call up after this long, unless the call says otherwise.
const SOURCE_WAIT: Duration = Duration::from_secs(60);

struct Scene {
    kafka: KafkaCluster,
    hbase: HBase,
    tool: TableTool,
    weir: Weir,
}

impl Scene {
    /// Three brokers, a topic with three replicas of which two must be in sync, and a peer that ships.
    fn start(log_settings: &str) -> Self {
        let (kafka, hbase) = std::thread::scope(|scope| {
            let kafka = scope.spawn(KafkaCluster::start);
            let hbase = HBase::start(Line::V2_6);
            (kafka.join().unwrap(), hbase)
        });
        let mut tool = TableTool::start(&hbase);
        create_topic_at(&kafka.bootstrap(), TOPIC, 3, 2);
        tool.run("create t 8");
        let config = config_of(&kafka.bootstrap(), &hbase.zookeeper());
        let mut weir = Weir::new(&config.replace("[log]", &format!("[log]\n{log_settings}")));
        weir.start();
        tool.run(&format!("peer-add weir {}", hbase.cluster_key("/weir/weir")));
        Self { kafka, hbase, tool, weir }
    }

    /// The leader of a partition: its broker's id.
    fn leader(&self, partition: i32) -> Option<i32> {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", self.kafka.bootstrap());
        let consumer: BaseConsumer = config.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(TOPIC), Duration::from_secs(5)).ok()?;
        let found = metadata.topics()[0].partitions().iter().find(|one| one.id() == partition)?;
        (found.error().is_none() && found.leader() > 0).then(|| found.leader())
    }

    /// Waits until a partition has a leader other than this; how long it took.
    fn wait_for_leader(&self, partition: i32, other_than: i32) -> Duration {
        let started = Instant::now();
        while self.leader(partition).is_none_or(|leader| leader == other_than) {
            assert!(started.elapsed() < DEADLINE, "partition {partition} gets no other leader");
            std::thread::sleep(Duration::from_millis(100));
        }
        started.elapsed()
    }

    /// Runs `act` while a client writes without a pause.
    fn under_load(&mut self, seed: u64, act: impl FnOnce(&mut Self)) {
        let before = self.weir.metric(ENTRIES);
        let client = TableTool::start(&self.hbase);
        Load { table: "t", seed, count: 200, threads: 2 }.during(client, || {
            self.weir.wait_for_metric(ENTRIES, before + 500);
            act(self);
        });
    }

    /// The log is the table, and each region's order is kept.
    #[track_caller]
    fn compare(&mut self) {
        let expect = replicated(self.tool.raw_scan("t"));
        let records = wait_until_log_is(&self.kafka.bootstrap(), TOPIC, &expect);
        let again = check_order(&records);
        println!("{} records, {again} of them came again", records.len());
        // The log may have the last record before its call is answered.
        wait_until("no bytes in flight", DEADLINE, || self.weir.sum("weir_in_flight_bytes") == 0);
    }
}

#[test]
fn a_partition_leader_killed_under_load_costs_nothing() {
    let mut scene = Scene::start("");
    for round in 0..scale::pick(1, 4) {
        scene.under_load(10 + round, |scene| {
            let partition = i32::try_from(round).unwrap();
            let leader = scene.leader(partition).unwrap();
            scene.kafka.node(leader).kill9();
            let took = scene.wait_for_leader(partition, leader);
            println!("broker {leader} killed, partition {partition} has another leader after {took:?}");
            let before = scene.weir.metric(ENTRIES);
            scene.weir.wait_for_metric(ENTRIES, before + 500);
            scene.kafka.node(leader).restart();
        });
        scene.compare();
    }
}

/// Two of three brokers are gone: min.insync.replicas = 2 cannot be met, and the controllers have no majority either.
#[test]
fn calls_fail_in_time_while_too_few_replicas_are_in_sync() {
    let mut scene = Scene::start("message-timeout = \"8s\"");
    scene.under_load(1, |scene| {
        for broker in [1, 2] {
            scene.kafka.node(broker).kill9();
        }
        let killed = Instant::now();
        scene.weir.wait_for_metric(AGAIN, 1);
        let took = killed.elapsed();
        println!("the first call failed {took:?} after the kill");
        // The source itself has understood it, and tries again.
        while !scene.hbase.log().contains("W-KAFKA-UNREACHABLE") {
            assert!(killed.elapsed() < SOURCE_WAIT, "the source logs the answer");
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(took < SOURCE_WAIT, "calls fail before their source gives them up: {took:?}");
        for broker in [1, 2] {
            scene.kafka.node(broker).relaunch();
        }
        for broker in [1, 2] {
            scene.kafka.node(broker).wait_ready();
        }
        let before = scene.weir.metric(ENTRIES);
        scene.weir.wait_for_metric(ENTRIES, before + 500);
    });
    scene.compare();
}
