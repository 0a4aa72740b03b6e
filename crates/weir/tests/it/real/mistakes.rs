//! Mistakes of an operator: each is named with its code and what mends it, and loses nothing.

use super::rig::{Rig, topic};
use crate::watch::wait_until;
use crate::weir::DEADLINE;
use weir_kafka::topics::{NewSettings, Topics};
use weir_model::TopicName;
use weir_testkit::engine::hbase::Line;
use weir_testkit::engine::process::free_port;

#[test]
fn an_operators_mistakes_are_named_and_lose_nothing() {
    let mut rig = Rig::start(Line::V2_6);
    rig.scenario("a peer that points elsewhere", a_peer_that_points_elsewhere);
    rig.scenario("ZooKeeper cannot be reached", no_zookeeper);
    rig.scenario("Kafka cannot be reached at start", no_kafka_at_start);
    rig.scenario("a topic with too few replicas", too_few_replicas);
    rig.end();
}

/// Kafka 4.3.1 takes the writes and keeps fewer copies than asked for, where its manual has it refuse them. Either way
/// it is named before anybody relies on it.
fn too_few_replicas(rig: &mut Rig) {
    let name = topic("few");
    let settings =
        NewSettings { partitions: 2, replication: 1, min_insync_replicas: 2, retention_ms: 86_400_000 };
    let topics = Topics::new(&rig.kafka.bootstrap(), &Default::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(topics.create(&TopicName::new(&name).unwrap(), &settings)).unwrap();
    rig.tool.run("create few 2");
    let weir = rig.config("few").capture("tables.include = [\"few\"]").started();
    rig.add_peer(&weir, "few", "");
    rig.tool.run("load few 1 200 2");
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    let wrong = report.lines().find(|line| line.starts_with("error") && line.contains(&name)).unwrap();
    assert!(wrong.contains("min.insync.replicas is 2, but replicas are 1"), "{report}");
    assert!(report.contains("--add-config min.insync.replicas=1"), "{report}");
    rig.settle("few");
    rig.remove_peer("few");
}

/// Nobody serves where the peer points: the source waits. Weir is told to serve there, and all of it comes.
fn a_peer_that_points_elsewhere(rig: &mut Rig) {
    rig.table("else", 2);
    let mut weir = rig.config("elsewhere").capture("tables.include = [\"else\"]").started();
    let key = rig.hbase.cluster_key("/old/place");
    rig.tool.run(&format!("peer-add-with elsewhere {key}"));
    rig.tool.run("load else 1 200 2");
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("not to /weir/elsewhere"), "{report}");
    assert!(report.contains("set capture.elsewhere.base-znode = \"/old/place\""), "{report}");
    weir.stop();
    let config = rig.config("elsewhere").capture("tables.include = [\"else\"]\nbase-znode = \"/old/place\"");
    let weir = config.started();
    rig.settle("else");
    let (code, report) = weir.check();
    assert_eq!(code, Some(0), "{report}");
    rig.remove_peer("elsewhere");
}

fn no_zookeeper(rig: &mut Rig) {
    let nobody = format!("127.0.0.1:{}", free_port());
    let good = rig.hbase.zookeeper();
    for (section, code, words, fix) in [
        (
            format!("zookeeper = \"{nobody}\""),
            5,
            "W-ZOOKEEPER-UNREACHABLE",
            "fix: start ZooKeeper; or set capture.main.zookeeper",
        ),
        (
            format!("zookeeper = \"{good}\"\nznode-parent = \"/nothing\""),
            3,
            "is znode-parent right?",
            "fix: set capture.main.znode-parent",
        ),
    ] {
        let text = format!(
            "[log]\nbootstrap = [\"{}\"]\n[capture.main]\n{section}\nlisten = \"127.0.0.1:0\"\n[console]\nlisten = \"127.0.0.1:CONSOLE\"\n",
            rig.kafka.bootstrap()
        );
        let weir = crate::weir::Weir::new(&text);
        for command in [&["run"][..], &["peer", "list"], &["peer", "status"]] {
            let (got, said) = weir.try_command(command);
            assert_eq!(got, Some(code), "{command:?}: {said}");
            assert!(said.contains(words) && said.contains("weir explain"), "{command:?}: {said}");
        }
        let (got, report) = weir.check();
        assert!(
            got == Some(1) && report.contains("error    capture.main") && report.contains(fix),
            "{report}"
        );
    }
}

fn no_kafka_at_start(rig: &mut Rig) {
    rig.table("late", 2);
    let config = rig.config("late").log("message-timeout = \"4s\"").capture("tables.include = [\"late\"]");
    rig.kafka.kill9();
    let weir = config.started();
    rig.add_peer(&weir, "late", "");
    rig.tool.run("load late 1 200 2");
    wait_until("calls fail", DEADLINE, || weir.sum("weir_capture_failed_total") > 0);
    wait_until("the console says why", DEADLINE, || weir.get("/board").contains("W-KAFKA-UNREACHABLE"));
    let (code, report) = weir.check();
    assert!(
        code == Some(1)
            && report.contains("error    log:")
            && report.contains("fix: start the brokers; or set log.bootstrap"),
        "{report}"
    );
    rig.kafka.restart();
    rig.settle("late");
    rig.remove_peer("late");
}
