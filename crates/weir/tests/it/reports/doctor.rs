//! `weir check` as a doctor: it looks at what happens, not at the settings alone, and each finding has its fix.

/// On real engines.
mod real {
    use crate::watch::wait_until;
    use crate::weir::{DEADLINE, Weir, wait_until_log_is};
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    use rdkafka::client::DefaultClientContext;
    use rdkafka::config::ClientConfig;
    use std::net::SocketAddr;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpSocket, TcpStream};
    use weir_testkit::engine::hbase::{HBase, Line};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::engine::process::free_port;
    use weir_testkit::table::{TableTool, replicated};

    fn create_topics(kafka: &Kafka, topics: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).create().unwrap();
        let new: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|(name, policy)| {
                NewTopic::new(name, 2, TopicReplication::Fixed(1)).set("cleanup.policy", policy)
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for result in runtime.block_on(admin.create_topics(&new, &AdminOptions::new())).unwrap() {
            result.unwrap();
        }
    }

    /// Begins as a region server that logs in by Kerberos does, from another machine than HBase's.
    fn kerberos_login(sink: SocketAddr) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut stream = socket.connect(sink).await.unwrap();
            stream.write_all(b"HBas\x00\x51").await.unwrap();
            stream
        })
    }

    /// The finding with all of these words, as its line and its fix; panics with the report when there is none.
    #[track_caller]
    fn finding(report: &str, words: &[&str]) -> (String, String) {
        let lines: Vec<&str> = report.lines().collect();
        let place = lines.iter().position(|line| words.iter().all(|word| line.contains(word)));
        let place = place.unwrap_or_else(|| panic!("{words:?} is not in:\n{report}"));
        let fix = lines.get(place + 1).and_then(|line| line.trim().strip_prefix("fix: ")).unwrap_or_default();
        (lines[place].to_owned(), fix.to_owned())
    }

    /// A finding of this level with these words, whose fix begins so.
    #[track_caller]
    fn check(report: &str, level: &str, words: &[&str], fix: &str) {
        let found = finding(report, words);
        assert!(found.0.starts_with(level) && found.1.starts_with(fix), "{found:?}");
    }

    #[test]
    fn what_stands_still_and_what_is_lost_is_named_with_its_fix_and_the_fix_works() {
        let kafka = Kafka::start();
        let hbase = HBase::start(Line::V2_6);
        let mut tool = TableTool::start(&hbase);
        let console = free_port();
        let config = |more: &str| {
            format!(
                "[log]\nbootstrap = [\"{}\"]\n[capture.main]\nzookeeper = \"{}\"\npeer = \"weir\"\n\
                 listen = \"127.0.0.1:0\"\n{more}[console]\nlisten = \"127.0.0.1:{console}\"\n",
                kafka.bootstrap(),
                hbase.zookeeper()
            )
        };
        for table in ["p", "compacted", "gone", "a.b", "a_b", "skips", "kept"] {
            tool.run(&format!("create {table} 1"));
        }
        tool.run("durability skips SKIP_WAL");
        let policies = [("hbase.compacted.wal", "compact,delete"), ("hbase.p.wal", "delete")];
        create_topics(&kafka, &policies);
        create_topics(
            &kafka,
            &["hbase.a.b.wal", "hbase.skips.wal", "hbase.kept.wal"].map(|topic| (topic, "delete")),
        );
        let mut weir = Weir::new(&config(""));
        weir.start();
        let (code, said) = weir.try_command(&[
            "peer",
            "add",
            "--table",
            "p:f",
            "--table",
            "skips:f",
            "--except-table",
            "kept",
        ]);
        assert_eq!(code, Some(1), "{said}");
        assert!(
            said.contains("table skips has DURABILITY => SKIP_WAL") && !said.contains("table p has"),
            "{said}"
        );

        // What a region server writes after an entry of a table without a topic waits behind it.
        weir.stop();
        tool.run("put gone row q 3");
        tool.run("put p row q 3");
        tool.run("drop gone");
        let (code, report) = weir.check();
        assert_eq!(code, Some(1), "{report}");
        check(&report, "warning", &["no weir run answers there"], "weir run");
        weir.start();
        wait_until("the call fails", DEADLINE, || weir.get("/board").contains("hbase.gone.wal"));
        let _kerberos = kerberos_login(weir.port_of("main"));
        wait_until("it is refused", DEADLINE, || weir.get("/board").contains("login is not supported"));
        let (code, report) = weir.check();
        assert_eq!(code, Some(1), "{report}");
        let exclude = "set capture.main.tables.exclude = [\"gone\"] and restart weir run";
        let stands = [
            "calls with table gone, which the source has no more,",
            "fail now",
            "waits, of other tables too",
        ];
        check(&report, "error", &stands, exclude);
        let deletes = ["topic hbase.compacted.wal: cleanup.policy is compact,delete: a key is a region"];
        let policy = format!("kafka-configs.sh --bootstrap-server {} --alter", kafka.bootstrap());
        check(&report, "error", &deletes, &policy);
        let collide = ["table a_b and table a.b: Kafka does not create both of their topics"];
        check(
            &report,
            "error",
            &collide,
            "set capture.main.topic.names = { \"a_b\" = \"hbase.default--a-b.wal\" }",
        );
        let never = ["table skips has DURABILITY => SKIP_WAL"];
        check(&report, "warning", &never, "hbase shell> alter 'skips', DURABILITY => 'USE_DEFAULT'");
        let refused = ["region server 127.0.0.2 is refused", "login is not supported: Kerberos"];
        check(&report, "error", &refused, "");
        let kept = ["peer weir is not sent kept, families f: its own filter keeps them"];
        check(&report, "warning", &kept, "weir peer add --table kept --widen");
        assert!(!report.contains("--topic hbase.a_b.wal"), "Kafka would refuse it:\n{report}");

        // What it says to do does it.
        drop(weir);
        let fixed = "tables.exclude = [\"gone\"]\ntopic.names = { \"a_b\" = \"hbase.default--a-b.wal\" }\n";
        create_topics(&kafka, &[("hbase.default--a-b.wal", "delete")]);
        tool.run("durability skips USE_DEFAULT");
        let mut weir = Weir::new(&config(fixed));
        weir.start();
        tool.run("put a_b row q 3");
        let table = replicated(tool.raw_scan("p"));
        wait_until_log_is(&kafka.bootstrap(), "hbase.p.wal", &table);
        let table = replicated(tool.raw_scan("a_b"));
        wait_until_log_is(&kafka.bootstrap(), "hbase.default--a-b.wal", &table);
        let (code, report) = weir.check();
        assert_eq!(code, Some(1), "the compacted topic is still there:\n{report}");
        assert!(report.contains("no call fails now"), "{report}");
        let errors = report.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 1, "{report}");
    }
}
