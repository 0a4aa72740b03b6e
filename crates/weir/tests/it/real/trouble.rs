//! What goes wrong between a source and Weir, and costs nothing: error answers, late answers, hostile neighbours on
//! the same port, a lost ZooKeeper session.

use super::create_topic;
use super::rig::{Rig, topic};
use crate::watch::wait_until;
use crate::weir::{DEADLINE, Weir};
use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use weir_model::ClusterId;
use weir_testkit::engine::hbase::Line;
use weir_testkit::proxy::Proxy;
use weir_testkit::scale::pick;
use weir_wire::change;
use weir_wire::hbase::call::{ConnectionHeader, encode_call, parse_answer};
use weir_wire::hbase::cell_block::{Cell, CellKind, Codec};
use weir_wire::hbase::preamble;
use weir_wire::hbase::replication::{METHOD, NewKey, RequestBuilder};

/// ZooKeeper forgets a session after 15 s; it looks every two seconds or so.
const SESSION_GONE: Duration = Duration::from_secs(40);

pub(super) fn run(rig: &mut Rig) {
    rig.scenario("A5 error answers bring the same entries again, ever more slowly", error_answers);
    rig.scenario("A6 answers later than the time-out overlap and lose nothing", late_answers);
    rig.scenario("A7 broken connections beside real load", broken_connections);
    rig.scenario(
        "A9 lost ZooKeeper sessions, of a Weir that slept and of one that was cut off",
        lost_sessions,
    );
    rig.scenario("A12 calls open at once", calls_open_at_once);
}

/// A topic that is missing: the calls fail until somebody makes it.
fn error_answers(rig: &mut Rig) {
    rig.tool.run("create a5 4");
    let weir = rig.config("a5").capture("tables.include = [\"a5\"]").started();
    rig.add_peer(&weir, "a5", "");
    rig.tool.run("load a5 1 300 2");
    let failed = || weir.sum("weir_source_again_total");
    // Times at which failures were counted: between them is the source's back-off, which grows by 300 ms a try.
    let mut at = Vec::new();
    let mut known = 0;
    wait_until("eight rounds of failures", DEADLINE, || {
        let now = failed();
        if now > known {
            // Calls of one round come together.
            if at.last().is_none_or(|last: &Instant| last.elapsed() > Duration::from_millis(200)) {
                at.push(Instant::now());
            }
            known = now;
        }
        at.len() >= 9
    });
    let gaps: Vec<Duration> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let sum = |gaps: &[Duration]| gaps.iter().sum::<Duration>();
    assert!(sum(&gaps[5..]) > sum(&gaps[..3]), "the back-off does not grow: {gaps:?}");
    let (code, report) = weir.check();
    assert_eq!(code, Some(1), "{report}");
    assert!(report.contains("no topic hbase.a5.wal") && report.contains("--create --topic hbase.a5.wal"));
    let board = weir.get("/board");
    assert!(board.contains("W-KAFKA-TOPIC") && board.contains("hbase.a5.wal"), "{board}");
    create_topic(&rig.kafka, &topic("a5"));
    rig.settle("a5");
    rig.remove_peer("a5");
}

/// Kafka stands still for longer than a call may take, so the source tries again while the first try still runs.
///
/// The time-out is 1.7's RPC time-out, which a peer may set, and on 2.x the region server's own for shipping, which a
/// peer may not: the fixture sets it to 12 s.
fn late_answers(rig: &mut Rig) {
    let settings = if rig.line == Line::V1_7 { "hbase.rpc.timeout=4000" } else { "" };
    rig.table("a6", 4);
    let weir = rig.config("a6").capture("tables.include = [\"a6\"]").started();
    rig.add_peer(&weir, "a6", settings);
    rig.tool.run("load a6 1 200 2");
    rig.settle("a6");
    rig.kafka.pause();
    rig.tool.run("load a6 2 400 2");
    weir.wait_for_metric("weir_source_overlaps_total{capture=\"a6\"}", 1);
    wait_until("a late answer is counted", DEADLINE, || weir.sum("weir_source_late_total") > 0);
    rig.kafka.resume();
    let back = Instant::now();
    let settled = rig.settle("a6");
    let replaced = weir.sum("producer_replaced_total");
    println!("          settled after {:.1} s, clients replaced: {replaced}", back.elapsed().as_secs_f64());
    assert!(settled.again > 0, "the first tries were written too");
    // One entry, one identity: whatever came twice says the same twice.
    let mut entries = std::collections::HashMap::new();
    for record in &settled.records {
        let change = change::decode(&record.value).unwrap();
        let identity = (change.encoded_region.to_owned(), change.sequence);
        let first = entries.entry(identity).or_insert(&record.value);
        assert_eq!(**first, record.value);
    }
    wait_until("no bytes in flight", DEADLINE, || weir.sum("weir_in_flight_bytes") == 0);
    rig.remove_peer("a6");
}

/// All bytes of a well-formed source: preamble, connection header, one call.
fn hello_and_call() -> (Vec<u8>, Vec<u8>) {
    let mut hello = preamble::simple().to_vec();
    let header = ConnectionHeader {
        user: Some("hbase".to_owned()),
        service: "AdminService".to_owned(),
        codec: Some(Codec::KeyValueWithTags.class().to_owned()),
        ..ConnectionHeader::default()
    };
    header.encode(&mut hello);
    let mut builder = RequestBuilder::new(Codec::KeyValueWithTags);
    let key = NewKey {
        encoded_region: b"0123456789abcdef0123456789abcdef",
        table: b"a7",
        sequence: 1,
        write_time_ms: 1000,
        cluster_ids: &[ClusterId { most: 1, least: 2 }],
        families: &[b"f"],
    };
    let cell = Cell {
        row: b"never",
        family: b"f",
        qualifier: b"q",
        timestamp: 1,
        kind: CellKind::PUT,
        value: b"v",
        tags: &[],
    };
    builder.push(&key, [cell]);
    let (param, block) = builder.finish();
    let mut frame = Vec::new();
    encode_call(&mut frame, 0, METHOD, Some(60_000), &param, &block);
    (hello, frame)
}

fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(bytes).unwrap();
    socket
}

/// Class of the exception in the first answer.
fn refusal(socket: &mut TcpStream) -> String {
    let mut len = [0; 4];
    socket.read_exact(&mut len).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(len) as usize];
    socket.read_exact(&mut frame).unwrap();
    parse_answer(&frame).unwrap().result.unwrap_err().short_class().to_owned()
}

fn broken_connections(rig: &mut Rig) {
    rig.table("a7", 4);
    let weir = rig.config("a7").capture("tables.include = [\"a7\"]").started();
    rig.add_peer(&weir, "a7", "");
    rig.tool.run("load-start a7 7 2 200");
    let address = weir.port_of("a7");
    let (hello, frame) = hello_and_call();
    let whole = [hello.as_slice(), &frame].concat();
    // Closed at each position, by an orderly end and by a reset in turn. The whole call never arrives.
    for cut in 0..whole.len() {
        let socket = connect(address, &whole[..cut]);
        let _ = socket.shutdown(if cut % 2 == 0 { Shutdown::Write } else { Shutdown::Both });
    }
    // Half frames that stay: the connection waits, the others do not.
    let halves: Vec<TcpStream> =
        [5, hello.len() + 3, whole.len() - 1].iter().map(|cut| connect(address, &whole[..*cut])).collect();
    let hello_and = |bytes: &[u8]| [hello.as_slice(), bytes].concat();
    for (bytes, class) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "FatalConnectionException"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "FatalConnectionException"),
        (b"HBas\x01\x50".to_vec(), "WrongVersionException"),
        (b"HBas\x00\x63".to_vec(), "BadAuthException"),
        (hello_and(b"\x7f\xff\xff\xff"), "DoNotRetryIOException"),
        (hello_and(b"\x80\x00\x00\x00"), "DoNotRetryIOException"),
        (hello_and(b"\x00\x00\x00\x04\xff\xff\xff\xff"), "DoNotRetryIOException"),
    ] {
        assert_eq!(refusal(&mut connect(address, &bytes)), class, "{bytes:?}");
    }
    // A ping (-1) is no error: what comes after it is read, here a method that no sink has.
    let mut unknown = hello_and(&(-1i32).to_be_bytes());
    encode_call(&mut unknown, 1, "GetRegionInfo", None, &[], &[]);
    assert_eq!(refusal(&mut connect(address, &unknown)), "UnsupportedOperationException");

    let before = weir.sum("weir_source_done_total");
    wait_until("the source goes on", DEADLINE, || weir.sum("weir_source_done_total") > before + 3);
    rig.tool.run("load-stop");
    let settled = rig.settle("a7");
    assert_eq!(settled.again, 0, "the real source was made to repeat");
    assert_eq!(weir.sum("weir_source_again_total") + weir.sum("weir_source_late_total"), 0);
    drop(halves);
    rig.remove_peer("a7");
    wait_until("all connections are gone", DEADLINE, || weir.sum("weir_source_connections") == 0);
    wait_until("no bytes in flight", DEADLINE, || weir.sum("weir_in_flight_bytes") == 0);
}

/// Names of the virtual servers in ZooKeeper.
fn registered(rig: &Rig, peer: &str) -> HashSet<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = weir_hbase::registration::connect(&rig.hbase.zookeeper()).await.unwrap();
        client.list_children(&format!("/weir/{peer}/rs")).await.unwrap().into_iter().collect()
    })
}

/// It registers again, is ready, and everything written in between comes.
fn check_back(rig: &mut Rig, weir: &Weir, peer: &str) {
    wait_until("registered again", DEADLINE, || registered(rig, peer).len() == 10);
    wait_until("ready again", DEADLINE, || weir.get("/readyz").starts_with("HTTP/1.1 200"));
    rig.tool.run(&format!("load {peer} 3 200 2"));
    rig.settle(peer);
    rig.remove_peer(peer);
}

/// One Weir sleeps past its session: the source's calls time out meanwhile, and what it finds in its sockets when it
/// wakes has been sent again already. Another one's connection to ZooKeeper is cut. Both at once, because a session
/// takes its time to die.
fn lost_sessions(rig: &mut Rig) {
    for table in ["a9slept", "a9cut"] {
        rig.table(table, 4);
    }
    let network = Proxy::start(&rig.hbase.zookeeper());
    let slept = rig.config("a9slept").capture("tables.include = [\"a9slept\"]").started();
    let address = network.address();
    let cut = rig
        .config("a9cut")
        .capture(&format!("tables.include = [\"a9cut\"]\npeer-zookeeper = \"{address}\""))
        .started();
    for (weir, name) in [(&slept, "a9slept"), (&cut, "a9cut")] {
        rig.add_peer(weir, name, "");
        rig.tool.run(&format!("load {name} 1 200 2"));
        rig.settle(name);
    }
    slept.process().pause();
    network.cut();
    for name in ["a9slept", "a9cut"] {
        wait_until("the session is gone", SESSION_GONE, || registered(rig, name).is_empty());
        rig.tool.run(&format!("load {name} 2 200 2"));
    }
    wait_until("it says so", DEADLINE, || cut.get("/readyz").contains("not registered in ZooKeeper"));
    slept.process().resume();
    network.mend();
    check_back(rig, &slept, "a9slept");
    check_back(rig, &cut, "a9cut");
}

/// min(10, entries/100 + 1, virtual servers), while Kafka stands still and so no call ends.
fn calls_open_at_once(rig: &mut Rig) {
    const REGIONS: u32 = 32;
    rig.table("a12", REGIONS);
    let mut widest = 0;
    // The bound is each of the three in turn.
    let cases = pick(vec![(10, 250), (10, 1500)], vec![(1, 1500), (10, 250), (10, 1500)]);
    for (servers, entries) in [vec![(4, 1500)], cases].concat() {
        let peer = format!("a12_{servers}_{entries}");
        let config =
            rig.config(&peer).capture(&format!("tables.include = [\"a12\"]\nvirtual-servers = {servers}"));
        let weir = config.started();
        rig.tool.run("roll");
        rig.add_peer(&weir, &peer, "");
        rig.tool.run("put-each a12 1 1");
        wait_until("the path is warm", DEADLINE, || weir.sum("weir_source_done_total") > 0);
        rig.tool.run(&format!("peer-disable {peer}"));
        rig.tool.run(&format!("put-each a12 {entries} 1"));
        rig.kafka.pause();
        rig.tool.run(&format!("peer-enable {peer}"));
        let bound = 10.min(entries / 100 + 1).min(servers);
        let mut peak = 0;
        let mut last_change = Instant::now();
        wait_until("calls that hang", DEADLINE, || {
            let open = weir.sum("weir_source_calls_open");
            if open > peak {
                (peak, last_change) = (open, Instant::now());
            }
            // The bound has time to be passed; a peak below what is expected gets more time to grow.
            let is_expected = peak >= bound.min(4) && peak + 4 > bound;
            last_change.elapsed() > Duration::from_secs(if is_expected { 3 } else { 20 })
        });
        rig.kafka.resume();
        assert!(peak <= bound, "{peak} calls open at once, over {bound}");
        // Regions are dealt by hash: with 32 of them a small bound is reached, and a large one nearly.
        assert!(peak >= bound.min(4) && peak + 4 > bound, "{peak} calls open at once of {bound}");
        println!("          {servers} servers, {entries} entries: {peak} calls open at once, bound {bound}");
        widest = widest.max(peak);
        wait_until("they end", DEADLINE, || weir.sum("weir_source_calls_open") == 0);
        rig.remove_peer(&peer);
    }
    assert!(widest > 4, "{widest}");
    rig.settle("a12");
}
