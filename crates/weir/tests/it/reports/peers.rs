//! The peer: what is said of it is so, and what is refused, denied or standing still is told.

mod real {
    use crate::watch::wait_until;
    use crate::weir::{DEADLINE, Weir, wait_until_log_is};
    use serde_json::Value;
    use std::io::Write as _;
    use std::net::TcpStream;
    use weir_hbase::{registration, zookeeper};
    use weir_kafka::topics::{NewSettings, Topics};
    use weir_model::TopicName;
    use weir_testkit::engine::hbase::{HBase, Line};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::engine::zookeeper::ZooKeeper;
    use weir_testkit::table::{TableTool, replicated};
    use weir_wire::change;
    use zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(future)
    }

    fn create_topic(kafka: &Kafka, table: &str) {
        let topics = Topics::new(&kafka.bootstrap(), &Default::default()).unwrap();
        let settings =
            NewSettings { partitions: 2, replication: 1, min_insync_replicas: 1, retention_ms: 86_400_000 };
        let name = TopicName::new(&format!("hbase.{table}.wal")).unwrap();
        block_on(topics.create(&name, &settings)).unwrap();
    }

    fn config(bootstrap: &str, zookeeper: &str, more: &str) -> String {
        format!(
            "[log]\nbootstrap = [\"{bootstrap}\"]\n[capture.main]\nzookeeper = \"{zookeeper}\"\nlisten = \"127.0.0.1:0\"\n\
             {more}\n[console]\nlisten = \"127.0.0.1:CONSOLE\"\n"
        )
    }

    #[track_caller]
    fn assert_said((code, said): (Option<i32>, String), expect: i32, has: &[&str], has_not: &[&str]) {
        assert_eq!(code, Some(expect), "{said}");
        for words in has {
            assert!(said.contains(words), "{words:?} is not in:\n{said}");
        }
        for words in has_not {
            assert!(!said.contains(words), "{words:?} is in:\n{said}");
        }
    }

    /// The peer anew, because a region server keeps the settings with which it has first seen a peer. It begins with the
    /// open WAL files, so what waited comes.
    fn peer_anew(hbase: &HBase, tool: &mut TableTool, settings: &str) {
        tool.run("peer-remove weir");
        tool.run(format!("peer-add-with weir {} {settings}", hbase.cluster_key("/weir/weir")).trim_end());
    }

    fn refused(weir: &Weir) -> Vec<Value> {
        let answer = weir.get("/board");
        let (from, to) = (answer.find('{').unwrap(), answer.rfind('}').unwrap());
        let board: Value = serde_json::from_str(&answer[from..=to]).unwrap();
        board["captures"][0]["refused"].as_array().unwrap().clone()
    }

    fn entries(weir: &Weir, table: &str) -> u64 {
        weir.metric(&format!("weir_capture_entries_total{{capture=\"main\",table=\"{table}\"}}"))
    }

    /// Writes a row, which comes.
    #[track_caller]
    fn put_comes(weir: &Weir, tool: &mut TableTool, table: &str, row: &str) {
        let before = entries(weir, table);
        tool.run(&format!("put {table} {row} q 10"));
        wait_until(&format!("{row} of {table} comes"), DEADLINE, || entries(weir, table) > before);
    }

    /// Row 12: the peer is sent only `x`, and `y` is asked for.
    fn what_the_filter_keeps_is_not_called_replicated(weir: &Weir, tool: &mut TableTool) {
        let add = |words: &[&str]| weir.try_command(&[&["peer", "add"], words].concat());
        let kept = "peer weir is not sent y, families f, g: its own filter keeps them, it is sent only x";
        let fix = "weir peer add --table y --widen";
        assert_said(add(&["--table", "y", "--dry-run"]), 1, &[kept, fix, "would run: alter 'y'"], &[]);
        assert_said(add(&["--table", "y"]), 1, &[kept, fix], &["replicated now", "replicated already"]);
        assert_said(add(&["--table", "y"]), 1, &[kept, fix], &["replicated now", "replicated already"]);
        assert_said(weir.check(), 0, &[kept, fix], &[]);
        let sends = || weir.command(&["peer", "list"]);
        assert_said(
            add(&["--table", "y:g", "--widen", "--dry-run"]),
            0,
            &["would change peer weir", "which is sent only x, y:g"],
            &[],
        );
        assert!(sends().contains("\"only x\""), "a dry run changes nothing: {}", sends());
        assert_said(
            add(&["--table", "y", "--widen"]),
            0,
            &["peer weir is changed", "y is replicated already"],
            &[],
        );
        assert!(sends().contains("only x, y"), "{}", sends());
        put_comes(weir, tool, "y", "widened");

        // The same of the other filters, of a disabled peer, and of what the capture itself leaves out.
        assert_said(add(&["--except-namespace", "default"]), 0, &["peer weir is changed"], &[]);
        let namespace = "remove_peer_exclude_namespaces 'weir', ['default']";
        assert_said(
            add(&["--table", "y"]),
            1,
            &["all but namespace default", namespace],
            &["replicated already"],
        );
        assert_said(add(&["--table", "y", "--widen"]), 3, &[namespace], &[]);
        assert_said(
            add(&["--table", "y", "--except-table", "y:g"]),
            1,
            &["peer weir is not sent y, families g", fix],
            &["replicated already"],
        );
        assert_said(add(&["--table", "y", "--widen"]), 0, &["y is replicated already"], &[]);
        assert!(sends().contains("\"sends\":\"all\""), "{}", sends());
        assert_said(
            add(&["--table", "left"]),
            1,
            &["left is not captured: capture.main.tables leaves it out"],
            &["left is replicated"],
        );
        weir.command(&["peer", "disable"]);
        assert_said(
            add(&["--table", "y"]),
            1,
            &["peer weir is disabled and ships nothing; fix: weir peer enable"],
            &["there and right", "y is replicated"],
        );
        weir.command(&["peer", "enable"]);
        assert_said(add(&["--table", "y"]), 0, &["there and right", "y is replicated already"], &[]);
    }

    /// Row 6: what can be read is read.
    fn every_codec_and_compressor_that_is_offered_comes_whole(
        kafka: &Kafka,
        hbase: &HBase,
        weir: &Weir,
        tool: &mut TableTool,
    ) {
        let (codec, compressor) = ("hbase.replication.rpc.codec", "hbase.client.rpc.compressor");
        let (cell, gzip) =
            ("org.apache.hadoop.hbase.codec.CellCodec", "org.apache.hadoop.io.compress.GzipCodec");
        for (index, settings) in
            [format!("{codec}={cell}"), format!("{codec}={cell}WithTags {compressor}={gzip}")]
                .iter()
                .enumerate()
        {
            peer_anew(hbase, tool, settings);
            put_comes(weir, tool, "t", &format!("codec-{index}"));
        }
        // One of these has a tag, its time to live.
        tool.run("golden-write t");
        let mut expect = replicated(tool.raw_scan("t"));
        // Its time is over already, for a scan.
        let row = (b"r8".to_vec(), b"f".to_vec(), b"q".to_vec(), 1500, 4);
        expect.insert(row, b"brief".to_vec());
        let records = wait_until_log_is(&kafka.bootstrap(), "hbase.t.wal", &expect);
        let has_tags = records.iter().any(|record| {
            change::decode(&record.value).unwrap().cells.iter().any(|cell| !cell.tags.is_empty())
        });
        assert!(has_tags, "CellCodecWithTags keeps tags");
    }

    /// Row 6: what cannot be read is refused, told everywhere, and taken away by what is told.
    fn what_is_refused_is_told(hbase: &HBase, weir: &Weir, tool: &mut TableTool) {
        for (setting, class, reason, add) in [
            (
                "hbase.client.rpc.compressor",
                "org.apache.hadoop.io.compress.BZip2Codec",
                "compressor",
                ["--compressor", "none"],
            ),
            (
                "hbase.replication.rpc.codec",
                "org.apache.hadoop.hbase.codec.MessageCodec",
                "codec",
                ["--codec", "KeyValueCodecWithTags"],
            ),
        ] {
            peer_anew(hbase, tool, &format!("{setting}={class}"));
            let before = entries(weir, "y");
            tool.run(&format!("put y refused-{reason} q 10"));
            wait_until("a refused region server", DEADLINE, || !refused(weir).is_empty());
            let one = refused(weir).remove(0);
            assert_eq!(one["server"], "127.0.0.1", "{one}");
            assert!(one["reason"].as_str().unwrap().contains(class), "{one}");
            assert!(one["count"].as_u64() > Some(0) && one["last_ms"].as_u64() > Some(0), "{one}");
            let fix = format!("weir peer add {}", add.join(" "));
            assert!(one["fix"].as_str().unwrap().starts_with(&fix), "{one}");
            let ready = weir.get("/readyz");
            assert!(
                ready.starts_with("HTTP/1.1 200") && ready.contains(class) && ready.contains(&fix),
                "{ready}"
            );
            wait_until("the page says so", DEADLINE, || {
                let page = weir.get("/");
                page.contains("Sources are refused") && page.contains("W-SOURCE-REFUSED")
            });
            assert!(weir.sum_of("weir_source_refused_total", &format!("reason=\"{reason}\"")) > 0);
            assert_eq!(weir.sum("weir_source_hosts_refused"), 1);
            assert_said(weir.check(), 1, &[&format!("{setting} of peer weir is {class}"), &fix], &[]);
            assert_said(
                weir.try_command(&["peer", "add", "--table", "y"]),
                1,
                &[&format!("{setting} of peer weir is {class}"), &fix],
                &["there and right", "y is replicated"],
            );
            assert_eq!(entries(weir, "y"), before);
            assert_said(
                weir.try_command(&["peer", "add", add[0], add[1]]),
                0,
                &["peer weir is changed", "go on with the old CONFIG", "fix: restart the region servers"],
                &[],
            );
            peer_anew(hbase, tool, "");
            wait_until("what waited comes", DEADLINE, || entries(weir, "y") > before);
            wait_until("nobody is refused", DEADLINE, || refused(weir).is_empty());
            assert_eq!(weir.sum("weir_source_hosts_refused"), 0);
        }
        let mut kerberos = TcpStream::connect(weir.port_of("main")).unwrap();
        kerberos.write_all(b"HBas\x00\x51").unwrap();
        wait_until("a refused login", DEADLINE, || !refused(weir).is_empty());
        let ready = weir.get("/readyz");
        assert!(ready.contains("login is not supported: Kerberos"), "{ready}");
        put_comes(weir, tool, "y", "after");
    }

    /// Row 11: of three WAL groups one has a table without a topic, and stands.
    fn a_wal_group_that_stands_is_seen(kafka: &Kafka, weir: &Weir, tool: &mut TableTool) {
        let queue = || -> Value {
            let (_, said) = weir.try_command(&["peer", "status"]);
            let line = said.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("{said}"));
            serde_json::from_str(line).unwrap()
        };
        // What earlier steps have left behind in closed files is shipped.
        tool.run("roll");
        put_comes(weir, tool, "y", "rolled");
        wait_until("nothing waits", DEADLINE, || queue()["oldest_rolled_age_ms"].is_null());
        tool.run("scope gone f 1");
        tool.run("put gone row q 10");
        wait_until("calls fail", DEADLINE, || weir.sum("weir_capture_failed_total") > 0);
        tool.run("roll");
        wait_until("the other groups are shipped, one stands", DEADLINE, || {
            let queue = queue();
            queue["wal_files"].as_u64() == Some(4) && queue["oldest_rolled_age_ms"].as_u64() > Some(0)
        });
        let stuck = queue();
        assert_eq!(stuck["wal_groups"].as_u64(), Some(3), "{stuck}");
        let human = weir.command(&["peer", "status", "--human"]);
        assert!(human.contains("GROUPS") && human.contains("OLDEST ROLLED"), "{human}");
        create_topic(kafka, "gone");
        wait_until("nothing waits", DEADLINE, || queue()["oldest_rolled_age_ms"].is_null());
        assert!(entries(weir, "gone") > 0);
    }

    #[test]
    fn what_is_said_of_a_peer_is_so_and_what_it_keeps_refuses_or_holds_up_is_told() {
        let kafka = Kafka::start();
        let settings = [("hbase.wal.provider", "multiwal"), ("hbase.wal.regiongrouping.numgroups", "3")];
        let hbase = HBase::start_with(Line::V2_6, &settings);
        let mut tool = TableTool::start(&hbase);
        for table in ["x", "y", "gone", "left", "a", "b"] {
            tool.run(&format!("create-plain {table}"));
        }
        tool.run("create t 1");
        for table in ["x", "y", "t"] {
            create_topic(&kafka, table);
        }
        tool.run("scope x f 1");
        let more = "tables.exclude = [\"left\"]";
        let mut weir = Weir::new(&config(&kafka.bootstrap(), &hbase.zookeeper(), more));
        weir.start();
        tool.run(&format!("peer-add-with weir {} tables=x", hbase.cluster_key("/weir/weir")));
        what_the_filter_keeps_is_not_called_replicated(&weir, &mut tool);
        a_wal_group_that_stands_is_seen(&kafka, &weir, &mut tool);
        every_codec_and_compressor_that_is_offered_comes_whole(&kafka, &hbase, &weir, &mut tool);
        what_is_refused_is_told(&hbase, &weir, &mut tool);
    }

    /// Row 13: a ZooKeeper that answers and forbids.
    #[test]
    fn a_zookeeper_that_forbids_is_told_as_denied_with_the_znode_and_the_right() {
        let (kafka, ensemble) = (Kafka::start(), ZooKeeper::start());
        let owner = "owner:secret";
        let login = zookeeper::Login::digest(owner);
        let address = ensemble.address();
        let connect = || zookeeper::connect(&address, login.as_ref());
        // Its log says that it has started a little before it takes sessions.
        wait_until("ZooKeeper takes sessions", DEADLINE, || block_on(connect()).is_ok());
        block_on(async {
            let client = connect().await.unwrap();
            let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
            let locked = [Acl::new(Permission::ALL, AuthId::authed())];
            let locked = CreateMode::Persistent.with_acls(Acls::new(&locked));
            client.mkdir("/hbase/rs", &open).await.unwrap();
            let id = b"0f0e0d0c-0b0a-0908-0706-050403020100";
            client.create("/hbase/hbaseid", id, &open).await.unwrap();
            client.create("/hbase/replication", &[], &locked).await.unwrap();
            client.create("/hbase/replication/peers", &[], &locked).await.unwrap();
            client.create("/weir", &[], &locked).await.unwrap();
        });
        let mut weir =
            Weir::new(&config(&kafka.bootstrap(), &ensemble.address(), "advertise = \"127.0.0.1\""));
        let peers = "W-ZOOKEEPER-DENIED";
        assert_said(
            weir.check(),
            1,
            &[
                peers,
                "/weir: not authorized: this client lacks the right CREATE (c)",
                "give world:anyone the rights c and r of /weir",
                "/hbase/replication/peers: not authorized: this client lacks the right READ (r)",
                "give world:anyone the rights r of /hbase/replication/peers",
                "capture.main.zookeeper-digest",
            ],
            &["W-ZOOKEEPER-UNREACHABLE", "weir run", "start ZooKeeper"],
        );
        assert_said(
            weir.try_command(&["peer", "list"]),
            4,
            &[peers, "/hbase/replication/peers", "READ (r)"],
            &["UNREACHABLE"],
        );
        weir.start_unready();
        wait_until("it is denied", DEADLINE, || weir.get("/readyz").contains(peers));
        let ready = weir.get("/readyz");
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("/weir: not authorized"), "{ready}");
        let page = weir.get("/");
        assert!(page.contains("/explain/W-ZOOKEEPER-DENIED"), "{page}");
        weir.stop();

        let secret = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(secret.path(), owner).unwrap();
        let digest = format!(
            "advertise = \"127.0.0.1\"\nzookeeper-digest = {{ file = \"{}\" }}",
            secret.path().display()
        );
        let mut weir = Weir::new(&config(&kafka.bootstrap(), &ensemble.address(), &digest));
        weir.start();
        assert_said(
            weir.check(),
            1,
            &["10 virtual servers are registered at /weir/weir", "has no peer \"weir\""],
            &["W-ZOOKEEPER"],
        );
        assert_eq!(weir.command(&["peer", "list"]), "");
        // Sources, who have no such login, may read what is there; nobody else may change it.
        block_on(async {
            let client = registration::connect(&ensemble.address()).await.unwrap();
            assert_eq!(registration::servers(&client, "/weir/weir").await.unwrap().len(), 10);
            let denied = client.delete("/weir/weir/hbaseid", None).await.unwrap_err();
            assert_eq!(denied, zookeeper_client::Error::NoAuth);
        });
    }
}
