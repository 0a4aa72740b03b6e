//! What an operator does, on real engines: peers and scopes by RPC, lag of queues and consumers, planted mistakes.

use super::{config, create_topic};
use crate::weir::{DEADLINE, Weir, wait_until_log_is};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use weir_hbase::master::Master;
use weir_hbase::{peers, registration};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::engine::process::free_port;
use weir_testkit::table::{TableTool, replicated};
use weir_wire::hbase::peer_config::{Wish, fulfil};

/// Runs until the condition holds; panics with what was last seen.
#[track_caller]
fn wait_until(what: &str, mut seen: impl FnMut() -> (bool, String)) {
    let started = Instant::now();
    loop {
        let (holds, text) = seen();
        if holds {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "{what} does not come true:\n{text}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[track_caller]
fn assert_has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in:\n{text}");
    }
}

/// The figures of the one queue of a stand-alone cluster.
fn queue(weir: &Weir) -> Value {
    let (_, said) = weir.try_command(&["peer", "status"]);
    let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{said}"));
    serde_json::from_str(line).unwrap()
}

/// The figures once the region server has reported twice more, so that they are about what was done before.
fn queue_after_two_reports(weir: &Weir) -> Value {
    let mut reports = vec![queue(weir)["reported_at_ms"].as_u64()];
    let mut last = Value::Null;
    wait_until("two more reports", || {
        last = queue(weir);
        let at = last["reported_at_ms"].as_u64();
        if reports.last() != Some(&at) {
            reports.push(at);
        }
        (reports.len() > 2, last.to_string())
    });
    last
}

/// Weir is killed, writes wait, and the lag says for how long; it is back, and the lag is gone. `disable` and `enable`
/// are done by the shell's own calls, because 1.7 has no others.
fn the_lag_of_a_queue_is_told(weir: &mut Weir, hbase: &HBase, tool: &mut TableTool, table: &str) {
    weir.kill9();
    tool.run(&format!("put {table} before q 10"));
    let first = queue_after_two_reports(weir);
    eprintln!("killed before: {first}");
    // 1.7 shows no lag as long as nothing was ever shipped; later lines do.
    assert_eq!(first["lag_ms"].as_i64() > Some(0), hbase.line() != Line::V1_7, "{first}");
    weir.start();
    wait_until("a shipped entry", || {
        let seen = queue(weir);
        (seen["last_shipped_at_ms"].as_u64() > first["last_shipped_at_ms"].as_u64(), seen.to_string())
    });
    weir.kill9();
    tool.run(&format!("put {table} waiting q 10"));
    wait_until("a lag of 3 s", || {
        let seen = queue(weir);
        (seen["lag_ms"].as_i64() > Some(3000), seen.to_string())
    });
    let stuck = queue(weir);
    eprintln!("stuck: {stuck}");
    assert_eq!((stuck["alive"].as_bool(), stuck["wal_files"].as_u64()), (Some(true), Some(1)), "{stuck}");
    assert_eq!(stuck["recovered_from"].as_array().map(Vec::len), Some(0), "{stuck}");
    weir.start();
    wait_until("no lag", || {
        let seen = queue(weir);
        let shipped = seen["last_shipped_at_ms"].as_u64() > stuck["last_shipped_at_ms"].as_u64();
        (shipped && seen["lag_ms"].as_i64() == Some(0), seen.to_string())
    });
    eprintln!("drained: {}", queue(weir));
    let human = weir.command(&["peer", "status", "--human"]);
    assert_has(&human, &["REGION SERVER", "0 ms", "localhost,"]);

    tool.run("peer-disable weir");
    tool.run(&format!("put {table} disabled q 10"));
    let disabled = queue_after_two_reports(weir);
    eprintln!("disabled: {disabled}");
    // No line shows a lag then, though an entry waits.
    assert_eq!(
        (disabled["enabled"].as_bool(), disabled["lag_ms"].as_i64()),
        (Some(false), Some(0)),
        "{disabled}"
    );
    tool.run("peer-enable weir");
}

fn alter_topic(kafka: &Kafka, topic: &str, settings: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
    let entries: HashMap<&str, &str> = settings.iter().copied().collect();
    let change = AlterConfig { specifier: ResourceSpecifier::Topic(topic), entries };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(admin.alter_configs([&change], &AdminOptions::new())).unwrap();
    results.into_iter().for_each(|result| {
        result.unwrap();
    });
}

/// Changes the peer behind our back.
fn plant_in_peer(hbase: &HBase, settings: &[(&str, &str)]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = registration::connect(&hbase.zookeeper()).await.unwrap();
        let peer = peers::list(&client, "/hbase").await.unwrap().remove(0);
        let settings =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let wish = Wish { settings, ..Wish::default() };
        let mut master = Master::connect(&client, "/hbase").await.unwrap();
        assert!(master.update_peer(&peer.id, &fulfil(&peer.raw, &wish).unwrap()).await.unwrap());
    });
}

/// Before anything runs, each command says what comes first.
fn nothing_works_before_weir_runs(weir: &Weir) {
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    assert_has(
        &report,
        &[
            "nothing is registered at /weir/weir",
            "fix: weir run",
            "has no peer \"weir\"",
            "fix: weir peer add",
        ],
    );
    let (code, said) = weir.try_command(&["peer", "add"]);
    assert!(code == Some(1) && said.contains("start `weir run` first"), "{said}");
    let (code, said) = weir.try_command(&["peer", "status"]);
    assert!(code == Some(1) && said.contains("no such peer"), "{said}");
}

/// The peer and the scopes come by one command, which can be run again.
fn peer_add_makes_it_right(weir: &Weir, tool: &mut TableTool) {
    let plain = tool.run("describe p").concat();
    assert_has(&plain, &["team x", "REPLICATION_SCOPE => '0'", "hbase.hstore.compaction.max"]);
    let words = ["peer", "add", "--table", "p:f", "--table", "shop:orders"];
    let dry = weir.command(&[&words[..], &["--dry-run"]].concat());
    assert_has(
        &dry,
        &[
            "would add peer weir to 127.0.0.1:",
            "would run: alter 'p', { NAME => 'f', REPLICATION_SCOPE => 1 }",
        ],
    );
    assert_has(
        &dry,
        &["would run: alter 'shop:orders', { NAME => 'f', REPLICATION_SCOPE => 1 }, { NAME => 'g'"],
    );
    assert_eq!(weir.command(&["peer", "list"]), "", "a dry run adds nothing");
    assert_eq!(tool.run("describe p").concat(), plain, "a dry run changes nothing");

    let said = weir.command(&words);
    assert_has(
        &said,
        &["peer weir is added", "p is replicated now: f", "shop:orders is replicated now: f, g"],
    );
    // The next write comes: the change was through when the command returned.
    tool.run("put p first q 10");
    let place = plain.find("NAME => 'f'").unwrap();
    let (head, tail) = plain.split_at(place);
    let expect =
        format!("{head}{}", tail.replacen("REPLICATION_SCOPE => '0'", "REPLICATION_SCOPE => '1'", 1));
    assert_eq!(tool.run("describe p").concat(), expect, "only the scope has changed");
    let again = weir.command(&words);
    assert_has(&again, &["peer weir is there and right", "p is replicated already"]);
    let (code, said) = weir.try_command(&["peer", "add", "--table", "p:nothing"]);
    assert!(code == Some(3) && said.contains("no family \"nothing\"; it has f, g"), "{said}");

    let said = weir.command(&[
        "peer",
        "add",
        "--codec",
        "KeyValueCodecWithTags",
        "--compressor",
        "DefaultCodec",
        "--serial",
        "--except-table",
        "p:g",
    ]);
    assert_has(&said, &["peer weir is changed"]);
    let listed = weir.command(&["peer", "list"]);
    assert_has(
        &listed,
        &["\"serial\":true", "codec.KeyValueCodecWithTags", "compress.DefaultCodec", "\"1.0\""],
    );
}

/// A mistake in topics, peer or scopes is named, with the command that mends it.
fn planted_mistakes_are_named(weir: &Weir, kafka: &Kafka, hbase: &HBase, tool: &mut TableTool) {
    let (code, report) = weir.check();
    assert_eq!(code, Some(0), "{report}");
    assert_has(
        &report,
        &[
            "2 tables are replicated: p, shop:orders",
            "10 virtual servers are registered",
            "ZooKeeper's agree",
        ],
    );
    assert_has(&report, &["1 region servers agree", "takes connections", "bulk loads are not announced"]);

    weir.command(&["peer", "add", "--except-table", "p:f"]);
    assert_has(&weir.command(&["peer", "list"]), &["\"sends\":\"all but p:f\""]);
    let (code, report) = weir.check();
    assert_eq!(code, Some(0), "{report}");
    assert_has(
        &report,
        &[
            "peer weir is not sent p, families f: its own filter keeps them",
            "weir peer add --table p --widen",
        ],
    );
    weir.command(&["peer", "add", "--except-table", "p:g"]);

    alter_topic(
        kafka,
        "hbase.p.wal",
        &[("retention.ms", "3600000"), ("max.message.bytes", "100000"), ("min.insync.replicas", "2")],
    );
    plant_in_peer(
        hbase,
        &[
            ("replication.source.ratio", "0.3"),
            ("hbase.replication.rpc.codec", "org.apache.hadoop.hbase.codec.KeyValueCodec"),
        ],
    );
    tool.run("create-plain silent");
    tool.run("scope shop:orders f 0");
    tool.run("scope shop:orders g 0");
    weir.command(&["peer", "disable"]);
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    assert_has(
        &report,
        &[
            "min.insync.replicas is 2, but replicas are 1",
            "--entity-name hbase.p.wal --add-config min.insync.replicas=1",
            "max.message.bytes is 100000, less than log.part-size",
            "--add-config max.message.bytes=922624",
            "retention.ms is 3600000, less than a day",
            "--add-config retention.ms=604800000",
            "replication.source.ratio of peer weir is 0.3",
            "drops the tags",
            "--codec KeyValueCodecWithTags",
            "peer weir is disabled",
            "nothing comes of 2 tables that tables.include matches, because REPLICATION_SCOPE is 0: shop:orders, silent",
            "weir peer add --table shop:orders",
        ],
    );
    let wrong: Vec<&str> = report.lines().filter(|line| line.starts_with("error")).collect();
    assert_eq!(wrong.len(), 4, "{report}");

    // What is said to mend it does.
    let (code, said) =
        weir.try_command(&["peer", "add", "--codec", "KeyValueCodecWithTags", "--table", "shop:orders"]);
    assert!(code == Some(1) && said.contains("disabled") && said.contains("weir peer enable"), "{said}");
    weir.command(&["peer", "enable"]);
    alter_topic(kafka, "hbase.p.wal", &[]);
    let (code, report) = weir.check();
    assert_eq!(code, Some(0), "{report}");
}

/// Mistakes of the configuration: another file over the same engines.
fn wrong_configurations_are_named(kafka: &Kafka, hbase: &HBase, tool: &mut TableTool) {
    let good = config(kafka, hbase);
    let check = |text: &str, words: &[&str]| {
        let (code, report) = Weir::new(text).check();
        assert_eq!(code, Some(1), "{report}");
        assert_has(&report, words);
    };
    let nowhere = format!("127.0.0.1:{}", free_port());
    check(
        &good.replace(&hbase.zookeeper(), &nowhere),
        &["W-ZOOKEEPER-UNREACHABLE", "set capture.main.zookeeper"],
    );
    check(&good.replace(&kafka.bootstrap(), &nowhere), &["W-KAFKA-UNREACHABLE", "set log.bootstrap"]);
    check(
        &good.replace("peer = ", "znode-parent = \"/hbase-2\"\npeer = "),
        &["set capture.main.znode-parent"],
    );
    // A label of 64 letters can be no name, so that nobody is asked.
    let name = "a".repeat(64);
    let text = good.replace("peer = \"weir\"", &format!("peer = \"second\"\nadvertise = \"{name}\""));
    check(&text, &["does not resolve here", "set capture.main.advertise"]);
    let text = good.replace("peer = ", "tables.include = [\"silent\", \"nowhere\", \"missing-*\"]\npeer = ");
    check(
        &text,
        &[
            "nothing comes of silent, families f, g: REPLICATION_SCOPE is 0",
            "weir peer add --table silent:f,g",
            "alter 'silent', { NAME => 'f', REPLICATION_SCOPE => 1 }",
            "the source has no table nowhere",
            "table silent has no topic hbase.silent.wal",
            "--replication-factor 1 --config min.insync.replicas=1",
        ],
    );

    tool.run(&format!("peer-add taken {}", hbase.cluster_key("/elsewhere")));
    let taken = Weir::new(&good.replace("peer = \"weir\"", "peer = \"taken\"\nbase-znode = \"/weir/weir\""));
    let (code, said) = taken.try_command(&["peer", "add"]);
    assert_eq!(code, Some(3), "{said}");
    assert_has(&said, &["W-PEER-ELSEWHERE", ":/elsewhere", "weir peer remove"]);
    let (_, report) = taken.check();
    assert_has(
        &report,
        &["peer taken points to", "not to /weir/weir", "remove_peer 'taken'; add_peer 'taken'"],
    );
    tool.run("peer-remove taken");
}

/// Commits the group at so many records before the end of a partition that has any; the sum that stays unread.
fn commit_group(kafka: &Kafka, group: &str, topic: &str, unread: i64) -> i64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    let mut sum = 0;
    for partition in 0..4 {
        let (low, high) = consumer.fetch_watermarks(topic, partition, DEADLINE).unwrap();
        let left = unread.min(high - low);
        sum += left;
        list.add_partition_offset(topic, partition, Offset::Offset(high - left)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
    sum
}

fn delete_all_but_the_newest(kafka: &Kafka, topic: &str) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", kafka.bootstrap()).set("group.id", "deleter");
    let consumer: BaseConsumer = client.create().unwrap();
    let admin: AdminClient<DefaultClientContext> = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..4 {
        let (low, high) = consumer.fetch_watermarks(topic, partition, DEADLINE).unwrap();
        list.add_partition_offset(topic, partition, Offset::Offset((high - 1).max(low))).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
}

/// HBase dies with entries unsent: its queue waits under the dead server's name, then another takes it over.
fn a_recovered_queue_is_named(weir: &mut Weir, hbase: &mut HBase, tool: &mut TableTool) {
    weir.kill9();
    tool.run("put p unsent q 10");
    let before = queue(weir)["region_server"].clone();
    hbase.kill9();
    hbase.restart();
    wait_until("a recovered queue", || {
        let (_, said) = weir.try_command(&["peer", "status"]);
        let is_its = |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap_or_default();
            row["recovered_from"][0] == before && row["alive"] == true && row["lag_ms"].is_number()
        };
        (said.lines().any(is_its), said)
    });
    let (_, human) = weir.try_command(&["peer", "status", "--human"]);
    assert_has(&human, &[&format!("recovered from {}", before.as_str().unwrap())]);
    weir.start();
    wait_until("only its own queue", || {
        let said = weir.command(&["peer", "status", "--wait"]);
        (lines(&said).len() == 1 && said.contains("\"recovered_from\":[]"), said)
    });
}

/// Consumers of the log: how far behind, in records and in time.
fn the_lag_of_a_group_is_told(weir: &Weir, kafka: &Kafka) {
    let unread = commit_group(kafka, "team", "hbase.p.wal", 2);
    assert!(unread > 0);
    let said = lines(&weir.command(&["log", "lag", "--group", "team", "--topic", "hbase.p.wal"]));
    let (topic, partitions) = said.split_last().unwrap();
    assert_eq!((partitions.len(), topic["partitions"].as_u64()), (4, Some(4)), "{topic}");
    assert_eq!(topic["behind"].as_i64(), Some(unread), "{topic}");
    assert_eq!(topic["expired"].as_i64(), Some(0));
    let age = topic["oldest_unread_age_ms"].as_i64().unwrap();
    assert!((1..DEADLINE.as_millis() as i64 * 10).contains(&age), "{topic}");
    for partition in partitions {
        let (behind, end) = (partition["behind"].as_i64().unwrap(), partition["end"].as_i64().unwrap());
        assert_eq!(partition["committed"].as_i64(), Some(end - behind), "{partition}");
        assert_eq!(partition["oldest_unread_ms"].is_null(), behind == 0, "{partition}");
    }
    // The broker deletes all but the newest record: what the group had not read of the rest is gone, and is told.
    delete_all_but_the_newest(kafka, "hbase.p.wal");
    let said = lines(&weir.command(&["log", "lag", "--group", "team", "--topic", "hbase.p.wal"]));
    let topic = said.last().unwrap();
    let expired = partitions.iter().filter(|partition| partition["behind"] == 2).count() as i64;
    assert!(expired > 0, "a partition has two unread records");
    assert_eq!(topic["expired"].as_i64(), Some(expired), "{topic}");
    assert_eq!(topic["behind"].as_i64(), Some(unread - expired), "{topic}");
    commit_group(kafka, "team", "hbase.p.wal", 0);
    let said = weir.command(&["log", "lag", "--group", "team", "--topic", "hbase.p.wal", "--human"]);
    assert_has(&said, &["COMMITTED", "hbase.p.wal"]);
    let said = lines(&weir.command(&["log", "lag"]));
    let of_p = said.iter().find(|line| line["topic"] == "hbase.p.wal" && line["partitions"] == 4).unwrap();
    assert!(of_p["newest_age_ms"].as_i64() > Some(0), "{of_p}");
    assert!(
        said.iter().any(|line| line["topic"] == "hbase.shop--orders.wal"),
        "all captured topics are told"
    );
    let (code, text) = weir.try_command(&["log", "lag", "--group", "nobody"]);
    assert!(code == Some(1) && text.contains("committed nothing"), "{text}");
    let (code, text) = weir.try_command(&["log", "lag", "--topic", "nothing"]);
    assert!(code == Some(3) && text.contains("W-KAFKA-TOPIC"), "{text}");
}

/// Reading along: by row and time, for people, until Ctrl-C; and one record from a hex dump.
fn records_are_shown(weir: &Weir, kafka: &Kafka, tool: &mut TableTool) {
    tool.run("put p a\\row q 3");
    let expect = replicated(tool.raw_scan("p"));
    let records = wait_until_log_is(&kafka.bootstrap(), "hbase.p.wal", &expect);
    let tail = ["log", "tail", "--table", "p", "--since", "1h", "--no-follow"];
    let all = lines(&weir.command(&tail));
    assert_eq!(all.len(), records.len());
    let some = weir.command(&[&tail[..], &["--row-prefix", "fir", "--human"]].concat());
    assert!(some.contains("first  f:q  ") && !some.contains("waiting"), "{some}");
    let some = lines(&weir.command(&[&tail[..], &["--row-prefix", "a\\x5C"]].concat()));
    assert_eq!(some[0]["cells"][0]["row"], "a\\x5Crow", "bytes are written as HBase writes them");
    assert!(weir.command(&["log", "tail", "--table", "p", "--since", "0ms", "--no-follow"]).is_empty());
    let (code, text) = weir.try_command(&["log", "tail", "--table", "p", "--row-prefix", "\\xZZ"]);
    assert!(code == Some(3) && text.contains("write bytes as \\x00"), "{text}");

    let hex: String = records[0].value.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), hex).unwrap();
    let path = file.path().to_str().unwrap();
    let decoded = lines(&weir.command(&["log", "decode", "--hex", path])).remove(0);
    assert_eq!((decoded["table"].as_str(), decoded["cells"][0]["family"].as_str()), (Some("p"), Some("f")));

    let (code, text) = weir.interrupt(&["log", "tail", "--table", "p"], "\"table\":\"p\"");
    assert_eq!(code, Some(0), "Ctrl-C is the end that was asked for: {text}");
}

#[test]
fn an_operator_sets_up_and_looks_after_hbase_2_6() {
    let kafka = Kafka::start();
    let mut hbase = HBase::start(Line::V2_6);
    let mut tool = TableTool::start(&hbase);
    tool.run("create-plain p");
    tool.run("create-plain shop:orders");
    let mut weir = Weir::new(&config(&kafka, &hbase));
    nothing_works_before_weir_runs(&weir);
    weir.start();
    create_topic(&kafka, "hbase.p.wal");
    create_topic(&kafka, "hbase.shop--orders.wal");
    peer_add_makes_it_right(&weir, &mut tool);
    planted_mistakes_are_named(&weir, &kafka, &hbase, &mut tool);
    wrong_configurations_are_named(&kafka, &hbase, &mut tool);
    the_lag_of_a_queue_is_told(&mut weir, &hbase, &mut tool, "p");
    records_are_shown(&weir, &kafka, &mut tool);
    the_lag_of_a_group_is_told(&weir, &kafka);
    a_recovered_queue_is_named(&mut weir, &mut hbase, &mut tool);
}

#[test]
fn the_lag_of_a_queue_is_told_on_hbase_2_4() {
    let kafka = Kafka::start();
    let hbase = HBase::start(Line::V2_4);
    let mut tool = TableTool::start(&hbase);
    tool.run("create-plain p");
    create_topic(&kafka, "hbase.p.wal");
    let mut weir = Weir::new(&config(&kafka, &hbase));
    weir.start();
    weir.command(&["peer", "add", "--table", "p"]);
    the_lag_of_a_queue_is_told(&mut weir, &hbase, &mut tool, "p");
}

#[test]
fn an_operator_of_hbase_1_7_gets_the_lines_for_its_shell() {
    let kafka = Kafka::start();
    let hbase = HBase::start(Line::V1_7);
    let mut tool = TableTool::start(&hbase);
    tool.run("create-plain p");
    create_topic(&kafka, "hbase.p.wal");
    let mut weir = Weir::new(&config(&kafka, &hbase));
    weir.start();
    let key = hbase.cluster_key("/weir/weir");
    let words = ["peer", "add", "--table", "p:f", "--only-table", "p"];
    let (code, said) = weir.try_command(&words);
    assert_eq!(code, Some(1), "{said}");
    let add =
        format!("add_peer 'weir', CLUSTER_KEY => \"{key}\", TABLE_CFS => {{ \"p\" => [] }}, CONFIG => {{");
    assert_has(&said, &[&add, "\nalter 'p', { NAME => 'f', REPLICATION_SCOPE => 1 }"]);
    let (code, said) = weir.try_command(&["peer", "add", "--serial"]);
    assert!(code == Some(3) && said.contains("came with 2.1"), "{said}");
    tool.run(&format!("peer-add weir {key}"));
    weir.command(&["peer", "status", "--wait"]);
    let (_, report) = weir.check();
    assert_has(
        &report,
        &["nothing comes of 1 tables", "hbase shell> alter 'p', { NAME => 'f'", "1 region servers agree"],
    );
    tool.run("scope p f 1");
    assert_has(
        &weir.command(&["peer", "add", "--table", "p:f"]),
        &["peer weir is right, and so are the scopes"],
    );
    let (code, report) = weir.check();
    assert!(code == Some(0) && report.contains("1 tables are replicated: p"), "{report}");
    the_lag_of_a_queue_is_told(&mut weir, &hbase, &mut tool, "p");
}
