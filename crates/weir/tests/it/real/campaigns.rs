//! Campaigns: the same failure again and again under load, in a short form on every run and in the full form of
//! `cargo x soak`. Each reports its figures.
//!
//! `kill` and `outage` in a test's name are what `cargo x soak kill` and `cargo x soak outage` choose by.

use super::rig::Rig;
use crate::watch::wait_until;
use crate::weir::{DEADLINE, Weir};
use std::time::{Duration, Instant};
use weir_testkit::campaign::{self, Report};
use weir_testkit::engine::hbase::Line;
use weir_testkit::scale::pick;

/// Operations a second of the background load.
const LOAD_PER_SECOND: u32 = 300;

/// Bytes in flight that Weir may hold in the outage: small, so that the bound is met.
const BUDGET_MIB: u64 = 16;

/// What a process may need beside its budget.
const RSS_BESIDE_BUDGET_MIB: u64 = 128;

fn campaigns(line: Line) {
    let mut rig = Rig::start(line);
    rig.scenario("A13 every process behind a peer gets traffic", every_process_gets_traffic);
    rig.scenario("A8 kill one process", |rig| kill_under_load(rig, 1));
    rig.scenario("A8 kill among three processes", |rig| kill_under_load(rig, 3));
    rig.scenario("A16 outage of Kafka", outage_of_kafka);
    rig.end();
}

#[test]
fn nothing_is_lost_by_kill_or_outage_on_hbase_1_7() {
    campaigns(Line::V1_7);
}

#[test]
fn nothing_is_lost_by_kill_or_outage_on_hbase_2_4() {
    campaigns(Line::V2_4);
}

#[test]
fn nothing_is_lost_by_kill_or_outage_on_hbase_2_6() {
    campaigns(Line::V2_6);
}

/// A free port outside the range that the kernel gives to others, so that a process finds it again after its death.
fn lasting_port() -> u16 {
    (20_000 + std::process::id() as u16 % 10_000..32_000)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

/// So many processes with one configuration, started.
fn processes(rig: &Rig, peer: &str, count: usize) -> Vec<Weir> {
    // Records that wait a little longer for others: more of the kills meet a call that is not durable yet.
    let config = || {
        let tables = format!("tables.include = [\"{peer}\"]");
        rig.config(peer).log("linger = \"100ms\"").capture(&tables)
    };
    // As in production, where a restarted process answers at the address that its dead session still announces.
    (0..count).map(|_| config().port(lasting_port()).started()).collect()
}

fn done(weirs: &[Weir]) -> Vec<u64> {
    weirs.iter().map(|weir| weir.sum("weir_source_done_total")).collect()
}

fn every_process_gets_traffic(rig: &mut Rig) {
    rig.table("a13", 8);
    let mut weirs = processes(rig, "a13", 2);
    rig.add_peer(&weirs[0], "a13", "");
    rig.tool.run(&format!("load-start a13 13 2 {LOAD_PER_SECOND}"));
    wait_until("both get calls", DEADLINE, || done(&weirs).iter().all(|done| *done > 3));
    weirs.extend(processes(rig, "a13", 1));
    wait_until("the third gets calls too", DEADLINE, || done(&weirs)[2] > 3);
    rig.tool.run("load-stop");
    rig.settle("a13");
    println!("          calls by process: {:?}", done(&weirs));
    if rig.line == Line::V2_6 {
        another_is_the_master(rig, &mut weirs[0]);
    }
    rig.remove_peer("a13");
}

/// The process that came first is the cluster's master to sources of 3.0; when it dies another one is.
fn another_is_the_master(rig: &Rig, first: &mut Weir) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (quorum, path) = (rig.hbase.zookeeper(), "/weir/a13/master");
    let client = runtime.block_on(weir_hbase::registration::connect(&quorum)).unwrap();
    let master = || {
        let (value, _) = runtime.block_on(client.get_data(path)).ok()?;
        weir_wire::hbase::zk::master(&value).ok()
    };
    let before = master().unwrap();
    first.kill9();
    wait_until("another is the master", DEADLINE, || master().is_some_and(|now| now != before));
}

/// kill -9 at random moments while clients write; each time the process comes back.
fn kill_under_load(rig: &mut Rig, process_count: usize) {
    let kills = pick(3, 20);
    let mut rng = campaign::rng(8 + process_count as u64);
    let peer = format!("a8x{process_count}");
    rig.table(&peer, 8);
    let mut weirs = processes(rig, &peer, process_count);
    rig.add_peer(&weirs[0], &peer, "");
    let started = Instant::now();
    rig.tool.run(&format!("load-start {peer} 8 4 {LOAD_PER_SECOND}"));
    let (mut outage_max, mut with_calls_open) = (Duration::ZERO, 0);
    for _ in 0..kills {
        // Not a wait for anything: the moment of the kill is what is random.
        std::thread::sleep(Duration::from_millis(rng.between(200, pick(3000, 6000))));
        let index = rng.below(process_count);
        let open = weirs[index].sum("weir_source_calls_open");
        weirs[index].kill9();
        with_calls_open += u32::from(open > 0);
        let killed = Instant::now();
        let before = done(&weirs);
        weirs[index].start();
        // The new process counts from nothing; any call that ends, anywhere, is the end of the outage.
        let before = [&before[..index], &[0], &before[index + 1..]].concat();
        wait_until("calls end again", DEADLINE, || {
            done(&weirs).iter().zip(&before).any(|(now, before)| now > before)
        });
        outage_max = outage_max.max(killed.elapsed());
    }
    let operations = rig.tool.run("load-stop").pop().unwrap();
    let settled = rig.settle(&peer);
    let entries = settled.records.len() - settled.again;
    Report::new(&format!(
        "kill -9 of Weir under load, {process_count} process(es), HBase {}",
        rig.line.version()
    ))
    .figure("kills", kills)
    .figure("kills just after a look that saw calls open", with_calls_open)
    .figure("operations", operations)
    .figure("entries", entries)
    .figure("cells", settled.cells)
    .figure("lost", settled.lost)
    .figure("entries that came again", settled.again)
    .figure("longest outage in s", format!("{:.1}", outage_max.as_secs_f64()))
    .figure("duration in s", started.elapsed().as_secs())
    .publish();
    rig.remove_peer(&peer);
}

/// WAL files that wait at the source, by `weir peer status`.
fn wal_files(weir: &Weir) -> u64 {
    let status = weir.command(&["peer", "status"]);
    let queues = status.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    queues.map(|queue| queue["wal_files"].as_u64().unwrap()).sum()
}

/// Kafka is gone for a while. Weir's memory stays flat, its calls fail in time, the source's queue grows and drains.
fn outage_of_kafka(rig: &mut Rig) {
    let outage = Duration::from_secs(pick(60, 600));
    rig.table("a16", 8);
    // A call may take 45 s by default, and a minute shall show some of them: here it may take 8 s.
    let weir = rig
        .config("a16")
        .log("message-timeout = \"6s\"")
        .capture("tables.include = [\"a16\"]")
        .rest(&format!("[limits]\nin-flight = \"{BUDGET_MIB}MiB\""))
        .started();
    rig.add_peer(&weir, "a16", "");
    rig.tool.run("load a16 1 500 2");
    rig.settle("a16");
    let (rss_before, queue_before) = (weir.rss_mib(), wal_files(&weir));
    rig.tool.run(&format!("load-start a16 16 4 {LOAD_PER_SECOND}"));
    rig.kafka.kill9();
    let down = Instant::now();
    let (mut rss_max, mut rolled) = (rss_before, Instant::now());
    let failed = || weir.sum("weir_source_again_total") + weir.sum("weir_source_late_total");
    wait_until("the outage is over", outage + DEADLINE, || {
        rss_max = rss_max.max(weir.rss_mib());
        if rolled.elapsed() > outage / 6 {
            rig.tool.run("roll");
            rolled = Instant::now();
        }
        down.elapsed() > outage
    });
    let (failed_calls, queue_max) = (failed(), wal_files(&weir));
    assert!(failed_calls > 0, "calls hang instead of failing: {}", weir.get("/metrics"));
    assert!(queue_max > queue_before + 2, "{queue_before} WAL files before, {queue_max} after");
    assert!(weir.get("/livez").contains("live") && weir.get("/readyz").starts_with("HTTP/1.1 200"));
    assert!(rss_max < BUDGET_MIB + RSS_BESIDE_BUDGET_MIB, "{rss_max} MiB, {rss_before} before");
    rig.kafka.restart();
    let back = Instant::now();
    let operations = rig.tool.run("load-stop").pop().unwrap();
    let settled = rig.settle_within("a16", Duration::from_secs(pick(120, 600)));
    let drained = back.elapsed();
    // HBase drops a finished WAL from the queue with the first acknowledgement after it.
    wait_until("the queue drains", DEADLINE, || wal_files(&weir) <= queue_before);
    rss_max = rss_max.max(weir.rss_mib());
    assert!(rss_max < BUDGET_MIB + RSS_BESIDE_BUDGET_MIB, "{rss_max} MiB, {rss_before} before");
    wait_until("no bytes in flight", DEADLINE, || weir.sum("weir_in_flight_bytes") == 0);
    Report::new(&format!("outage of Kafka under load, HBase {}", rig.line.version()))
        .figure("outage in s", outage.as_secs())
        .figure("operations", operations)
        .figure("entries", settled.records.len() - settled.again)
        .figure("cells", settled.cells)
        .figure("lost", settled.lost)
        .figure("entries that came again", settled.again)
        .figure("calls that failed in time", failed_calls)
        .figure("WAL files at most", queue_max)
        .figure("drained after s", format!("{:.1}", drained.as_secs_f64()))
        .figure("RSS before in MiB", rss_before)
        .figure("RSS at most in MiB", rss_max)
        .figure("budget in MiB", BUDGET_MIB)
        .publish();
    rig.remove_peer("a16");
}
