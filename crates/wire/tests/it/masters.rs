//! What masters of real HBase 1.7.2, 2.4.18 and 2.6.4 answered about their cluster, a table and a peer, byte for byte.
//!
//! Captured by the test of `weir peer` on these engines: table `p` with families `f` and `g`, peer `weir`.

use weir_model::TableName;
use weir_wire::hbase::peer_config::{Filter, Names, PeerConfig, Wish, fulfil};
use weir_wire::hbase::{load, schema, zk};

struct Golden {
    version: &'static str,
    status: &'static [u8],
    tables: &'static [u8],
    peer: &'static [u8],
}

macro_rules! golden {
    ($version:literal) => {
        Golden {
            version: $version,
            status: include_bytes!(concat!("../../golden/operator-cluster-status-hbase-", $version, ".bin")),
            tables: include_bytes!(concat!(
                "../../golden/operator-table-descriptors-hbase-",
                $version,
                ".bin"
            )),
            peer: include_bytes!(concat!("../../golden/operator-peer-hbase-", $version, ".bin")),
        }
    };
}

const ALL: [Golden; 3] = [golden!("1.7.2"), golden!("2.4.18"), golden!("2.6.4")];

#[test]
fn the_load_of_a_source_is_what_each_line_tells() {
    for Golden { version, status, .. } in ALL {
        let status = load::parse(status).unwrap();
        assert!(status.version.starts_with(version), "{}", status.version);
        let [server] = status.servers.as_slice() else { panic!("{version}: {:?}", status.servers) };
        let [source] = server.sources.as_slice() else { panic!("{version}: {:?}", server.sources) };
        assert_eq!((server.server.host.as_str(), source.peer.as_str()), ("localhost", "weir"), "{version}");
        assert!(server.reported_at_ms > server.server.start_code, "{version}");
        assert!(source.last_shipped_at_ms > server.server.start_code, "{version}");
        assert_eq!(source.log_queue, 1, "{version}");
        let is_1_x = version.starts_with('1');
        assert_eq!(source.queue.as_deref(), (!is_1_x).then_some("weir"), "{version}");
        assert_eq!((source.is_running, source.next_at_ms.is_some()), ((!is_1_x).then_some(true), !is_1_x));
    }
}

#[test]
fn a_descriptor_of_each_line_gets_a_scope_and_loses_nothing() {
    for Golden { version, tables, .. } in ALL {
        let schemas = schema::parse_answer(tables).unwrap();
        let schema = schemas.iter().find(|schema| schema.table == TableName::new("p").unwrap()).unwrap();
        let names: Vec<&[u8]> = schema.families.iter().map(|family| family.name.as_slice()).collect();
        assert_eq!(names, [b"f", b"g"], "{version}");
        assert_eq!(schema.family(b"g").unwrap().scope, 0, "{version}");
        let after = schema.with_scope(&[b"g"]).unwrap();
        assert_eq!(after.family(b"g").unwrap().scope, 1, "{version}");
        // One byte of all has changed: the digit of the scope.
        assert_eq!(after.raw().len(), schema.raw().len(), "{version}");
        let changed: Vec<_> = after.raw().iter().zip(schema.raw()).filter(|(new, old)| new != old).collect();
        assert_eq!(changed, [(&b'1', &b'0')], "{version}");
        let request = schema::modify(&after);
        assert!(request.windows(after.raw().len()).any(|window| window == after.raw()), "{version}");
    }
}

#[test]
fn a_peer_of_each_line_is_read_and_left_as_it_is() {
    for Golden { version, peer, .. } in ALL {
        let raw = zk::message(peer).unwrap();
        let config = PeerConfig::parse(raw).unwrap();
        assert!(config.cluster_key.ends_with(":/weir/weir"), "{version}");
        assert_eq!(config.setting("replication.source.ratio"), Some("1.0"), "{version}");
        assert_eq!(
            (&config.filter, config.is_serial),
            (&Filter::AllBut(Names::default()), false),
            "{version}"
        );
        let wish = Wish {
            cluster_key: config.cluster_key.clone(),
            settings: vec![("replication.source.ratio".to_owned(), "1.0".to_owned())],
            ..Wish::default()
        };
        assert_eq!(fulfil(raw, &wish).unwrap(), raw, "{version}");
    }
}
