//! Several HBase clusters, of different lines, behind one Weir process (A17).

use super::rig::capture;
use super::{check_order, create_topic};
use crate::weir::{Weir, wait_until_log_is};
use std::collections::HashSet;
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::table::{TableTool, replicated};
use weir_wire::change;

#[test]
fn three_clusters_of_three_lines_share_one_process() {
    let kafka = Kafka::start();
    let mut clusters: Vec<(&str, HBase, TableTool)> =
        [("c17", Line::V1_7), ("c24", Line::V2_4), ("c26", Line::V2_6)]
            .into_iter()
            .map(|(name, line)| {
                let hbase = HBase::start(line);
                let tool = TableTool::start(&hbase);
                (name, hbase, tool)
            })
            .collect();
    let mut config = format!(
        "[log]\nbootstrap = [\"{}\"]\n[console]\nlisten = \"127.0.0.1:CONSOLE\"\n",
        kafka.bootstrap()
    );
    for (name, hbase, tool) in &mut clusters {
        create_topic(&kafka, &format!("{name}.t.wal"));
        tool.run("create t 4");
        config += &capture(&hbase.zookeeper(), name);
        config += &format!("topic.prefix = \"{name}.\"\n");
    }
    let mut weir = Weir::new(&config);
    weir.start();
    for (seed, (name, hbase, tool)) in clusters.iter_mut().enumerate() {
        let key = hbase.cluster_key(&format!("/weir/{name}"));
        tool.run(&format!("peer-add-with {name} {key}"));
        weir.command(&["peer", "--capture", name, "status", "--wait"]);
        tool.run(&format!("load-start t {seed} 2 100"));
    }
    // One of them is killed with everything in flight: the three sources come again.
    weir.wait_for_metric("weir_source_done_total{capture=\"c26\"}", 2);
    weir.kill9();
    weir.start();
    weir.wait_for_metric("weir_source_done_total{capture=\"c17\"}", 2);
    let mut sources = HashSet::new();
    for (name, _, tool) in &mut clusters {
        tool.run("load-stop");
        let expect = replicated(tool.raw_scan("t"));
        let records = wait_until_log_is(&kafka.bootstrap(), &format!("{name}.t.wal"), &expect);
        check_order(&records);
        let of_record: HashSet<_> =
            records.iter().map(|record| change::decode(&record.value).unwrap().source).collect();
        assert_eq!(of_record.len(), 1, "{name}");
        sources.extend(of_record);
    }
    assert_eq!(sources.len(), 3, "each cluster has an id of its own");
}
