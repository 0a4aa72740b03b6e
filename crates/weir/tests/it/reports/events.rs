//! What HBase sends beside changes of tables: heartbeats and bulk loads, in calls of their own and mixed with puts.

mod real {
    use super::super::raw::{Entry, RegionServer, own, put};
    use crate::watch::wait_until;
    use crate::weir::{DEADLINE, Weir, wait_until_log_is};
    use std::collections::{BTreeMap, BTreeSet};
    use weir_kafka::reader::{LogRecord, Reader, Start};
    use weir_kafka::topics::Topics;
    use weir_testkit::engine::hbase::{HBase, Line};
    use weir_testkit::engine::kafka::Kafka;
    use weir_testkit::table::{TableTool, replicated};
    use weir_wire::change::{self, Event};
    use weir_wire::identity;

    const HEARTBEAT: &[u8] = b"\x0a\x0drs,16020,1700\x12\x01w\x18\x05";

    /// A bulk load of one file into each of the families `f` and `g`.
    const LOAD: &[u8] = b"\x1a\x09\x0a\x01f\x12\x01f\x1a\x01x\x1a\x09\x0a\x01g\x12\x01g\x1a\x01y";

    /// Write times of raw entries: 2026-01-01 and later.
    const WRITTEN_MS: u64 = 1_767_225_600_000;

    fn topics(kafka: &Kafka) -> BTreeSet<String> {
        let topics = Topics::new(&kafka.bootstrap(), &BTreeMap::new()).unwrap().list().unwrap();
        topics.into_iter().map(|topic| topic.name).filter(|name| name.starts_with("hbase.")).collect()
    }

    fn read(kafka: &Kafka, table: &str) -> Vec<LogRecord> {
        let topic = format!("hbase.{}.wal", table.replace(':', "--"));
        let mut reader =
            Reader::open(&kafka.bootstrap(), &BTreeMap::new(), &[topic], Start::Beginning).unwrap();
        reader.read_to_end(DEADLINE).unwrap()
    }

    /// As a consumer that drops what is not above the highest sequence number of its region.
    fn kept_by_the_highest(records: &[LogRecord]) -> Vec<u64> {
        let (mut highest, mut kept) = (BTreeMap::<String, u64>::new(), Vec::new());
        for record in records {
            let Ok(said) = identity::parse(record.header("weir").unwrap().as_bytes()) else { continue };
            let highest = highest.entry(said.encoded_region.to_owned()).or_default();
            if said.sequence > *highest {
                *highest = said.sequence;
                kept.push(said.sequence);
            }
        }
        kept
    }

    fn entry<'a>(
        table: &'a str,
        sequence: u64,
        cells: Vec<weir_wire::hbase::cell_block::Cell<'a>>,
    ) -> Entry<'a> {
        Entry { table, sequence, write_time_ms: WRITTEN_MS + sequence, cells }
    }

    /// On real HBase 2.6.4: the heartbeats are filed under whichever region comes first, captured or not.
    fn heartbeats_stop_nothing_and_cost_no_put(weir: &Weir, kafka: &Kafka, tool: &mut TableTool) {
        tool.run("create-plain private");
        tool.run("create st 1");
        let (code, said) = weir.try_command(&["peer", "add", "--table", "st"]);
        assert_eq!(code, Some(0), "{said}");
        let heartbeats = || weir.sum_of("weir_capture_skipped_total", "reason=\"heartbeat\"");
        for round in 0..5 {
            tool.run(&format!("put st row{round} v 10"));
            let before = heartbeats();
            wait_until("a heartbeat comes", DEADLINE, || heartbeats() > before);
        }
        let records = wait_until_log_is(&kafka.bootstrap(), "hbase.st.wal", &replicated(tool.raw_scan("st")));
        assert_eq!(records.len(), 5);
        assert_eq!(kept_by_the_highest(&records).len(), 5);
        assert_eq!(topics(kafka), ["hbase.st.wal".to_owned()].into());
        assert_eq!(weir.sum("weir_capture_failed_total"), 0, "{}", weir.get("/metrics"));
        assert_eq!(weir.sum_of("weir_capture_entries_total", "table=\"st\""), 5);
        let newest = weir.sum("weir_capture_heartbeat_ms");
        assert!(newest > WRITTEN_MS, "{}", weir.get("/metrics"));
    }

    /// Byte by byte, what a real server cannot be made to file under these names.
    fn markers_need_no_topic_whatever_they_are_filed_under(kafka: &Kafka, source: &mut RegionServer) {
        let before = topics(kafka);
        let heartbeat = || vec![own("HBASE::REPLICATION_MARKER", HEARTBEAT)];
        let mut entries = vec![entry("st", 1001, vec![put("a"), heartbeat()[0]])];
        for table in ["private", "naïve", "no name", "hbase:meta", "tmp_out", "shop:none"] {
            entries.push(entry(table, 1002, heartbeat()));
            entries.push(entry(table, 1003, vec![own("HBASE::FLUSH", b"")]));
            entries.push(entry(table, 1004, vec![own("HBASE::NEW", b"")]));
        }
        assert_eq!(source.replicate(60_000, &entries), Ok(()));
        assert_eq!(topics(kafka), before);
        let sequences: Vec<u64> =
            read(kafka, "st").iter().map(|record| change::decode(&record.value).unwrap().sequence).collect();
        assert_eq!(sequences.last(), Some(&1001));
    }

    fn a_bulk_load_is_never_taken_for_a_change(weir: &Weir, kafka: &Kafka, source: &mut RegionServer) {
        let load = || vec![own("HBASE::BULK_LOAD", LOAD)];
        source.replicate_until_done(&[entry("loaded", 4, vec![put("a")])]);
        let gauge = || weir.sum_of("weir_capture_last_write_ms", "table=\"loaded\"");
        assert_eq!(gauge(), WRITTEN_MS + 4);
        // An event of a higher sequence than the puts that follow, and one in the middle of an entry.
        let entries = [entry("loaded", 8, load()), entry("loaded", 5, vec![put("b"), load()[0]])];
        assert_eq!(source.replicate(60_000, &entries), Ok(()));
        assert_eq!(source.replicate(60_000, &[entry("loaded", 6, vec![put("c")])]), Ok(()));
        assert_eq!(gauge(), WRITTEN_MS + 8);
        // Neither a heartbeat alone, nor an older event, nor an older put sets it back.
        for older in [vec![own("HBASE::REPLICATION_MARKER", HEARTBEAT)], load(), vec![put("d")]] {
            assert_eq!(source.replicate(60_000, &[entry("loaded", 2, older)]), Ok(()));
            assert_eq!(gauge(), WRITTEN_MS + 8);
        }
        let records = read(kafka, "loaded");
        assert_eq!(kept_by_the_highest(&records), [4, 5, 6]);
        let mut events = Vec::new();
        for record in records.iter().filter(|record| record.header("weir.event").is_some()) {
            let header = record.header("weir").unwrap().as_bytes();
            let said = identity::parse_event(header).unwrap();
            let change = change::decode(&record.value).unwrap();
            let Some(Event::BulkLoad { sequence, descriptor, .. }) = change.event else {
                panic!("{change:?}")
            };
            assert_eq!((change.sequence, sequence, descriptor), (0, said.sequence, LOAD));
            assert_eq!((said.kind, change.encoded_region), ("bulk-load", said.encoded_region));
            assert_eq!(record.key, said.encoded_region.as_bytes());
            events.push(sequence);
        }
        assert_eq!(events, [8, 5, 2]);
        assert_eq!(weir.sum_of("weir_capture_events_total", "table=\"loaded\",event=\"bulk-load\""), 3);
        assert_eq!(weir.sum_of("weir_capture_entries_total", "table=\"loaded\""), 4);
        let shown =
            weir.command(&["log", "tail", "--table", "default:loaded", "--no-follow", "--last", "99"]);
        let region = "0123456789abcdef0123456789abcdef";
        assert!(shown.contains(&format!("default/loaded/{region}/f/x")), "{shown}");
        let human =
            weir.command(&["log", "tail", "--table", "loaded", "--no-follow", "--last", "99", "--human"]);
        assert!(human.contains(&format!("g  default/loaded/{region}/g/y")), "{human}");
    }

    fn default_means_the_default_namespace_alone(weir: &Weir, kafka: &Kafka, source: &mut RegionServer) {
        let before = topics(kafka);
        let skipped = || weir.sum_of("weir_capture_skipped_total", "reason=\"table-filter\"");
        let at_first = skipped();
        let out = [entry("shop:t", 1, vec![put("a")]), entry("tmp_a", 1, vec![put("a")])];
        assert_eq!(source.replicate(60_000, &out), Ok(()));
        assert_eq!((skipped() - at_first, topics(kafka)), (2, before));
        source.replicate_until_done(&[entry("tmpspace:orders", 1, vec![put("a")])]);
        assert_eq!(read(kafka, "tmpspace:orders").len(), 1);
    }

    fn a_short_call_is_told_of_its_own_time_out(source: &mut RegionServer) {
        let refused = source.replicate(1, &[entry("st", 2000, vec![put("a")])]).unwrap_err();
        assert!(refused.text.contains("time-out of 1 ms"), "{refused:?}");
        assert!(!refused.text.contains("byte budget"), "{refused:?}");
    }

    #[test]
    fn what_hbase_files_under_a_table_is_not_a_change_of_it() {
        let kafka = Kafka::start();
        let markers = [
            ("hbase.regionserver.replication.marker.enabled", "true"),
            ("hbase.regionserver.replication.marker.chore.duration", "500"),
        ];
        let hbase = HBase::start_with(Line::V2_6, &markers);
        let mut tool = TableTool::start(&hbase);
        let mut weir = Weir::new(&format!(
            "[log]\nbootstrap = [\"{}\"]\ntopics = {{ create = true, partitions = 2, replication = 1, min-insync-replicas = 1 }}\n\
             [capture.main]\nzookeeper = \"{}\"\nlisten = \"127.0.0.1:0\"\n\
             tables = {{ include = [\"default:*\", \"tmpspace:*\"], exclude = [\"default:tmp*\"] }}\n\
             [console]\nlisten = \"127.0.0.1:CONSOLE\"\n",
            kafka.bootstrap(),
            hbase.zookeeper()
        ));
        weir.start();
        heartbeats_stop_nothing_and_cost_no_put(&weir, &kafka, &mut tool);
        let mut source = RegionServer::connect(weir.port_of("main"));
        markers_need_no_topic_whatever_they_are_filed_under(&kafka, &mut source);
        a_bulk_load_is_never_taken_for_a_change(&weir, &kafka, &mut source);
        default_means_the_default_namespace_alone(&weir, &kafka, &mut source);
        a_short_call_is_told_of_its_own_time_out(&mut source);
        // Three topics were made on the way, as was asked for: no fault is counted for that.
        assert_eq!(weir.sum("weir_capture_failed_total"), 0, "{}", weir.get("/metrics"));
    }
}
