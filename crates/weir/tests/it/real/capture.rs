//! Real HBase to real Kafka through the real binary: the table equals the log, cell by cell, whatever is killed.

use super::{check_order, config, create_topic};
use crate::watch::wait_until;
use crate::weir::{DEADLINE, Weir, wait_until_log_is};
use std::time::Duration;
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::table::{TableTool, replicated};

/// The whole path on one line: every kind of write, then Weir killed -9 under load, then Kafka, then an orderly stop.
fn the_log_is_the_table(line: Line) {
    let kafka = Kafka::start();
    let hbase = HBase::start(line);
    let mut tool = TableTool::start(&hbase);
    create_topic(&kafka, "hbase.t.wal");
    tool.run("create t 4");
    let mut weir = Weir::new(&config(&kafka, &hbase));
    weir.start();
    let (code, said) = weir.try_command(&["peer", "add", "--table", "t:f"]);
    if line == Line::V1_7 {
        // The master of 1.x has no such call: the line for the shell is printed, and done here by the Java client.
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("add_peer 'weir', CLUSTER_KEY => \"127.0.0.1:"), "{said}");
        tool.run(&format!("peer-add weir {}", hbase.cluster_key("/weir/weir")));
    } else {
        assert_eq!(code, Some(0), "{said}");
    }
    // 1.x takes a peer up after the call returns, and what is written before that never comes.
    let taken_up = weir.command(&["peer", "status", "--wait"]);
    assert!(taken_up.contains("\"wal_files\":1"), "{taken_up}");
    assert!(weir.command(&["peer", "list"]).contains("\"replication.source.ratio\":\"1.0\""));
    tool.run("load t 1 2000 2");
    tool.run("put t r0001 big 3000000");
    let expect = replicated(tool.raw_scan("t"));
    let records = wait_until_log_is(&kafka.bootstrap(), "hbase.t.wal", &expect);
    check_order(&records);
    let metrics = weir.get("/metrics");
    assert!(metrics.contains("weir_capture_entries_total{capture=\"main\",table=\"t\"}"), "{metrics}");

    let (code, report) = weir.check();
    assert_eq!(code, Some(0), "{report}");
    assert!(report.contains("peer weir is enabled") && report.contains("a lost broker loses it"), "{report}");
    let shown = weir.command(&[
        "log",
        "tail",
        "--table",
        "t",
        "--row-prefix",
        "r0001",
        "--last",
        "100000",
        "--no-follow",
    ]);
    assert!(
        shown
            .lines()
            .any(|line| line.contains("\"row\":\"r0001\"") && line.contains("\"qualifier\":\"big\""))
    );
    let topics = weir.command(&["log", "topics"]);
    assert!(
        topics.contains("\"topic\":\"hbase.t.wal\"") && topics.contains("a lost broker loses it"),
        "{topics}"
    );

    for round in 0..3 {
        weir.kill9();
        tool.run(&format!("load t {} 500 2", 10 + round));
        weir.start();
        tool.run(&format!("load t {} 500 2", 20 + round));
    }
    let expect = replicated(tool.raw_scan("t"));
    let records = wait_until_log_is(&kafka.bootstrap(), "hbase.t.wal", &expect);
    check_order(&records);

    if line != Line::V1_7 {
        weir.command(&["peer", "disable"]);
        let (code, report) = weir.check();
        assert!(code == Some(1) && report.contains("peer weir is disabled"), "{report}");
        tool.run("load t 30 200 2");
        weir.command(&["peer", "enable"]);
        let expect = replicated(tool.raw_scan("t"));
        wait_until_log_is(&kafka.bootstrap(), "hbase.t.wal", &expect);
        weir.command(&["peer", "remove"]);
        assert_eq!(weir.command(&["peer", "list"]), "");
    }

    let (code, took) = weir.stop();
    assert_eq!(code, Some(0), "an orderly stop ends with 0");
    assert!(took < Duration::from_secs(10), "it took {took:?}");
}

#[test]
fn the_log_is_the_table_on_hbase_2_6() {
    the_log_is_the_table(Line::V2_6);
}

#[test]
fn the_log_is_the_table_on_hbase_2_4() {
    the_log_is_the_table(Line::V2_4);
}

#[test]
fn the_log_is_the_table_on_hbase_1_7() {
    the_log_is_the_table(Line::V1_7);
}

/// Kafka is stopped under load for longer than a call may take; then a topic that nobody made.
#[test]
fn a_kafka_outage_and_a_missing_topic_cost_nothing() {
    let mut kafka = Kafka::start();
    let hbase = HBase::start(Line::V2_6);
    let mut tool = TableTool::start(&hbase);
    create_topic(&kafka, "hbase.t.wal");
    tool.run("create t 4");
    tool.run("create made 2");
    let create = "[log.topics]\ncreate = true\npartitions = 2\nreplication = 1\nmin-insync-replicas = 1\n[capture.main]";
    let text = config(&kafka, &hbase).replace("[capture.main]", create);
    let mut weir = Weir::new(&text.replace("[log]", "[log]\nmessage-timeout = \"4s\""));
    weir.start();
    tool.run(&format!("peer-add weir {}", hbase.cluster_key("/weir/weir")));
    tool.run("load t 1 1000 2");
    kafka.kill9();
    tool.run("load t 2 1000 2");
    // Calls fail in time: the first failed answer is there before the source's own time-out.
    weir.wait_for_metric("weir_source_again_total{capture=\"main\"}", 1);
    kafka.restart();
    tool.run("load t 3 500 2");
    tool.run("load made 4 500 2");
    for name in ["t", "made"] {
        let expect = replicated(tool.raw_scan(name));
        weir.wait_for_metric(&format!("weir_capture_entries_total{{capture=\"main\",table=\"{name}\"}}"), 1);
        let records = wait_until_log_is(&kafka.bootstrap(), &format!("hbase.{name}.wal"), &expect);
        check_order(&records);
    }
    wait_until("no bytes in flight", DEADLINE, || weir.sum("weir_in_flight_bytes") == 0);
}

#[test]
fn check_names_three_planted_mistakes() {
    let kafka = Kafka::start();
    let hbase = HBase::start(Line::V2_6);
    let mut tool = TableTool::start(&hbase);
    let planted = config(&kafka, &hbase).replace("peer = ", "tables.include = [\"orders\"]\npeer = ");
    let mut weir = Weir::new(&planted);
    weir.start();
    // The peer points elsewhere, it is disabled, and the topic of the one table is missing.
    tool.run(&format!("peer-add weir {}", hbase.cluster_key("/elsewhere")));
    tool.run("peer-disable weir");
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    let wrong: Vec<&str> = report.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(wrong.len(), 3, "{report}");
    for (line, words) in wrong.iter().zip(["not to /weir/weir", "is disabled", "no topic hbase.orders.wal"]) {
        assert!(line.contains(words), "{report}");
    }
    for fix in ["remove_peer 'weir'; add_peer", "enable_peer 'weir'", "--create --topic hbase.orders.wal"] {
        assert!(report.contains(fix), "{report}");
    }
}
