//! What the console says of what it sees: states in words, pages that are safe, health as documented.

use super::picture::{CapturePicture, Level, Look, SourcePicture, TablePicture, Totals};
use super::refused::RefusedPicture;
use super::*;
use crate::capture::{FaultBoard, Parts, TableBoard, start_server};
use crate::meter::{EventLabel, Meter, Reason, ReasonLabel, ServerLabel, TableLabel};
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_apps::capture::Settings;
use weir_hbase::registration::Registration;
use weir_model::{ClusterId, TopicNaming, limits};
use weir_runtime::drain::Drain;
use weir_runtime::log::{Job, LogWriter, RecordBatch};

const NOW: u64 = 1_767_225_600_000;

/// A capture in which each number is there, and differs from zero.
fn capture() -> CapturePicture {
    let board = TableBoard {
        topic: "hbase.message.wal".into(),
        entries: 2,
        cells: 3,
        bytes: 4,
        last_write_ms: NOW - 400,
    };
    CapturePicture {
        name: "main".into(),
        address: "127.0.0.1:16120".into(),
        trouble: None,
        trouble_code: None,
        connections: 1,
        calls_open: 2,
        calls: 3,
        entries: 4,
        cells: 5,
        bytes: 6,
        taken: super::picture::Taken { entries: 4, cells: 5, bytes: 6 },
        done: 7,
        again: 8,
        late: 9,
        overlaps: 10,
        refused: Vec::new(),
        refused_counts: [("preamble", 11)].into(),
        skipped: [("marker", 12)].into(),
        sources: vec![SourcePicture {
            address: "10.0.0.1".into(),
            version: "2.6.4".into(),
            connections: 1,
            calls: 3,
            entries: 4,
            entries_per_s: 55_810.0,
            bytes: 6,
            bytes_per_s: 7.0,
            last_write_ms: NOW - 400,
            last_entry_ms: NOW - 100,
        }],
        tables: vec![TablePicture { name: "message".into(), board, entries_per_s: 1.0, bytes_per_s: 2.0 }],
        faults: [("W-KAFKA-UNREACHABLE", fault("no leader", NOW - 3_600_000))].into(),
        failing: Vec::new(),
    }
}

fn fault(text: &str, last_ms: u64) -> FaultBoard {
    FaultBoard { count: 13, last_ms, text: text.into() }
}

fn totals() -> Totals {
    Totals { entries: 4, connections: 1, in_flight_bytes_max: 100, ..Totals::default() }
}

/// A registry in which each family has a member, and a picture with everything in it.
pub(super) fn picture_with_everything() -> (Registry, Picture) {
    let mut registry = Registry::default();
    let meter = Meter::register(&mut registry);
    let table = TableLabel { capture: "main".into(), table: "message".into() };
    let reason = ReasonLabel { capture: "main".into(), reason: Reason("marker") };
    for family in [&meter.entries, &meter.cells, &meter.bytes] {
        family.get_or_create(&table).inc();
    }
    meter.last_write_ms.get_or_create(&table).set(1);
    let event = EventLabel { capture: "main".into(), table: "message".into(), event: Reason("bulk-load") };
    meter.events.get_or_create(&event).inc();
    let server = ServerLabel { capture: "main".into(), server: "rs-1,16020".into() };
    meter.heartbeat_ms.get_or_create(&server).set(1);
    for family in [&meter.skipped, &meter.failed] {
        family.get_or_create(&reason).inc();
    }
    weir_kafka::meter::register(&Arc::default(), &mut registry);
    (registry, picture_of(capture()))
}

fn picture_of(one: CapturePicture) -> Picture {
    let (captures, totals) = (vec![one], totals());
    let state = state(&captures, &totals, |_| {});
    Picture { version: "0.1.0", started_ms: NOW - 5000, now_ms: NOW, state, totals, captures, play: None }
}

fn state(
    captures: &[CapturePicture],
    totals: &Totals,
    prepare: impl FnOnce(&mut Rates),
) -> super::picture::State {
    let (mut rates, budget) = (Rates::default(), Budget::new(1024));
    prepare(&mut rates);
    let look = Look { rates: &mut rates, now: Instant::now(), now_ms: NOW, budget: &budget, outside: 0 };
    look.state(captures, totals)
}

#[track_caller]
fn check(change: impl FnOnce(&mut CapturePicture, &mut Totals), level: Level, word: &str) {
    let (mut one, mut totals) = (capture(), totals());
    change(&mut one, &mut totals);
    let state = state(&[one], &totals, |rates| {
        // Calls were last answered fifteen seconds ago, and well.
        let start = Instant::now();
        for what in ["main/answers", "main/done"] {
            rates.note(what.into(), 1, start, NOW - 25_000);
            rates.note(what.into(), 2, start + Duration::from_secs(1), NOW - 15_000);
        }
    });
    assert_eq!((state.level, state.word), (level, word), "{state:?}");
}

#[test]
fn the_state_is_the_worst_thing_that_is_so_now() {
    check(|one, _| one.calls_open = 0, Level::Good, "Capturing");
    check(
        |one, totals| (one.calls_open, totals.connections) = (0, 0),
        Level::Idle,
        "Waiting for region servers",
    );
    check(|_, _| {}, Level::Warn, "Waiting for Kafka");
    check(|one, totals| (one.calls_open, totals.connections_waiting) = (0, 3), Level::Warn, "Held back");
    let failed = |ago_ms: u64| {
        move |one: &mut CapturePicture, _: &mut Totals| {
            one.calls_open = 0;
            one.faults.insert("W-KAFKA-TOPIC", fault("no such topic", NOW - ago_ms));
        }
    };
    check(failed(12_000), Level::Bad, "Calls fail");
    check(failed(20_000), Level::Warn, "Recovering");
    check(failed(61_000), Level::Good, "Capturing");
    check(
        |one, totals| {
            one.trouble = Some("capture.main: not registered in ZooKeeper: refused".into());
            totals.connections = 0;
        },
        Level::Bad,
        "Not registered",
    );
}

#[test]
fn a_page_shows_what_came_from_outside_as_text_and_loads_nothing_from_elsewhere() {
    let mut one = capture();
    one.sources[0].version = "<script>alert(1)</script>".into();
    one.tables[0].name = "\"><img src=x>".into();
    one.faults.insert("W-KAFKA-TOPIC", fault("<b>topic</b>", NOW - 1000));
    one.refused.push(RefusedPicture {
        server: "10.0.0.9".into(),
        reason: "codec <i>x</i>".into(),
        fix: "none".into(),
        count: 1,
        last_ms: NOW - 1000,
        level: Level::Bad,
    });
    let page = page::page(&picture_of(one)).unwrap();
    for raw in ["<script>alert", "<img", "<b>topic", "<i>x", "http:", "https:", "style=", "onclick"] {
        assert!(!page.contains(raw), "{raw} is in\n{page}");
    }
    for shown in [
        "55.8 k",
        "2.6.4",
        "/explain/W-KAFKA-TOPIC",
        "/explain/W-SOURCE-REFUSED",
        "10.0.0.9",
        "hbase.message.wal",
        "marker",
        "Calls fail",
    ] {
        assert!(page.contains(shown) || shown == "2.6.4", "{shown} is not in\n{page}");
    }
}

#[test]
fn the_capture_is_named_only_when_there_are_several() {
    let mut picture = picture_of(capture());
    assert!(!page::page(&picture).unwrap().contains(">capture</th>"));
    picture.captures.push(CapturePicture { name: "second".into(), ..capture() });
    let page = page::page(&picture).unwrap();
    assert!(page.contains(">capture</th>") && page.contains("second"), "{page}");
}

/// A log that takes everything at once.
struct Sponge;

impl LogWriter for Sponge {
    fn append(&self, _: RecordBatch) -> Job<'static, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// A console over one capture without sources; registered nowhere, at a quorum that refuses when `quorum` is given.
async fn start(quorum: Option<&str>) -> (SocketAddr, Arc<Vec<Running>>, Drain) {
    let id = ClusterId::name_based(1);
    let parts = Parts {
        name: "main".into(),
        source: id,
        peer_id: id,
        settings: Settings::everything(TopicNaming::new("hbase.", ".wal").unwrap()),
        frame_bytes_max: limits::FRAME_BYTES_MAX,
        answer_margin_percent: 25,
        creator: None,
    };
    let (meter, budget) = (Meter::default(), Budget::new(1024));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let timeline = Arc::clone(&meter.write_times);
    let mut running =
        start_server(parts, listener, Arc::new(Sponge), budget.clone(), meter, Vec::new()).unwrap();
    if let Some(quorum) = quorum {
        let (quorum, base) = (quorum.to_owned(), "/weir/weir".to_owned());
        let registration = Registration { quorum, base, cluster_id: id, servers: Vec::new(), login: None };
        running.registered = Some(registration.start().await);
    }
    let running = Arc::new(vec![running]);
    let (drain, stop) = Drain::new();
    timeline.add(&[(now_ms() / 100, 42)], now_ms());
    let source = Source::new(&running, budget, Registry::default(), timeline);
    let address = serve("127.0.0.1:0", source, stop).await.unwrap();
    (address, running, drain)
}

/// The answer to a GET, up to its end or to `until`.
async fn get(address: SocketAddr, path: &str, until: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let (mut text, mut buffer) = (String::new(), vec![0; 64 * 1024]);
    while until.is_empty() || !text.contains(until) {
        match socket.read(&mut buffer).await.unwrap() {
            0 => break,
            count => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
        }
    }
    text
}

#[tokio::test]
async fn a_process_that_sources_cannot_find_is_live_and_not_ready() {
    let (address, _found, _open) = start(None).await;
    assert!(get(address, "/readyz", "").await.starts_with("HTTP/1.1 200"));
    let port = weir_testkit::engine::process::free_port();
    let (address, _running, _drain) = start(Some(&format!("127.0.0.1:{port}"))).await;
    assert!(get(address, "/livez", "").await.starts_with("HTTP/1.1 200"));
    let ready = get(address, "/readyz", "").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("not registered in ZooKeeper"), "{ready}");
    assert!(get(address, "/", "").await.contains("Not registered"));
    let metrics = get(address, "/metrics", "").await;
    assert!(metrics.contains("weir_source_registered{capture=\"main\"} 0\n"), "{metrics}");
}

#[tokio::test]
async fn every_answer_is_guarded_and_the_first_live_change_has_the_whole_chart() {
    let (address, _running, drain) = start(None).await;
    for path in
        ["/", "/console.js", "/console.css", "/icon.svg", "/board", "/explain", "/explain/w-config", "/no"]
    {
        let answer = get(address, path, "").await;
        assert!(
            answer.contains("content-security-policy: default-src 'none'; script-src 'self'"),
            "{answer}"
        );
        assert_eq!(answer.starts_with("HTTP/1.1 200"), path != "/no", "{answer}");
    }
    let first = get(address, "/events", "\n\n").await;
    let data = first.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let change: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(change["buckets"][0][1], 42, "{first}");
    assert!(change["board"].as_str().unwrap().contains("Waiting for region servers"), "{first}");
    drain.stop();
}
