//! Regions that move and split under load.

use super::World;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_hbase::client::{Get, Put, Scan, Table};
use weir_testkit::engine::hbase::Line;
use weir_testkit::table::TableTool;

const WRITERS: u64 = 4;

/// Batches, single puts and scans go on while both regions move (there and back on 2.6) and one is split; what was answered is
/// there, and no row was sent to a region that does not hold it: a server would have refused the row.
pub(super) async fn nothing_is_lost_while_regions_move_and_split(world: &mut World) {
    let table = world.cluster.table("moving").unwrap();
    let (stop, round) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(table.clone(), writer, stop.clone(), round.clone())))
        .collect();
    let reader = tokio::spawn(read(table.clone(), stop.clone()));
    wait_rounds(&round, 5);
    // There and back on one line: gate time is dear.
    let times = if world.hbase.line() == Line::V2_6 { 2 } else { 1 };
    for _ in 0..times {
        for (region, server) in regions(world) {
            let other = servers(world).into_iter().find(|other| *other != server).unwrap();
            world.tool.run(&format!("move {region} {other}"));
            wait_rounds(&round, 2);
        }
    }
    world.tool.run("split moving r0700");
    wait_for(|| regions(world).len() == 3);
    wait_rounds(&round, 3);
    stop.store(true, Ordering::Relaxed);
    let mut written = BTreeSet::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    reader.await.unwrap();
    println!("{} rows in {} rounds", written.len(), round.load(Ordering::Relaxed));

    // A new one: Java's client of 2.6.4 was seen to go to and fro for a minute between two servers that each remember to
    // have given the split region to the other, and then to give up.
    world.tool = TableTool::start(&world.hbase);
    let java: BTreeSet<_> = world.tool.raw_scan("moving").into_iter().map(|cell| cell.row).collect();
    assert_eq!(java, written);
    let rows = table.scan(Scan::new().rows_per_call(1000)).collect().await.unwrap();
    assert_eq!(rows.iter().map(|row| row.key().to_vec()).collect::<BTreeSet<_>>(), written);
    let regions = table.regions().await.unwrap();
    assert_eq!(regions.len(), 3);
    for location in &regions {
        assert_eq!(table.locate(&location.region.start).await.unwrap(), *location);
    }
}

/// Writes rows all over the table until told to stop; what was answered.
async fn write(table: Table, writer: u64, stop: Arc<AtomicBool>, round: Arc<AtomicU64>) -> Vec<Vec<u8>> {
    let mut written = Vec::new();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let names: Vec<Vec<u8>> = (0..40)
            .map(|one| format!("r{:04}-{writer}-{number}", one * 25 + number % 25).into_bytes())
            .collect();
        let put = |name: &Vec<u8>| Put::new(name.clone()).add_at("f", "q", 1, "v");
        for outcome in table.batch(names.iter().map(put)).await {
            assert!(outcome.unwrap().is_empty());
        }
        let single = format!("r{:04}-{writer}-{number}-single", number * 37 % 1000).into_bytes();
        table.put(put(&single)).await.unwrap();
        assert_eq!(table.get(Get::new(single.clone())).await.unwrap().len(), 1);
        written.extend(names);
        written.push(single);
        number += 1;
        round.fetch_add(1, Ordering::Relaxed);
    }
    written
}

/// Scans give their rows in order and each once, and never lose one that was there before.
async fn read(table: Table, stop: Arc<AtomicBool>) {
    let mut before = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        let (mut rows, mut now) = (table.scan(Scan::new().rows_per_call(50)), BTreeSet::new());
        let mut last = Vec::new();
        while let Some(row) = rows.next().await.unwrap() {
            assert!(row.key() > &last[..], "rows out of order");
            last = row.key().to_vec();
            now.insert(last.clone());
        }
        assert!(before.is_subset(&now), "{} rows, then {}", before.len(), now.len());
        before = now;
    }
}

/// Regions with their servers, as Java has them.
fn regions(world: &mut World) -> Vec<(String, String)> {
    let lines = world.tool.run("regions moving");
    lines
        .iter()
        .map(|line| {
            let words: Vec<_> = line.split('\t').collect();
            (words[0].to_owned(), words[2].to_owned())
        })
        .collect()
}

fn servers(world: &mut World) -> BTreeSet<String> {
    let lines = [world.tool.run("regions moving"), world.tool.run("regions rows")].concat();
    lines.iter().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect()
}

fn wait_rounds(round: &AtomicU64, count: u64) {
    let goal = round.load(Ordering::Relaxed) + count * WRITERS;
    wait_for(|| round.load(Ordering::Relaxed) >= goal);
}

fn wait_for(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "it did not come to that in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
