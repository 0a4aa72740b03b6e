//! Scans over several regions.

use super::{LEASE_MS, World, all_cells, keys};
use std::time::Duration;
use weir_hbase::client::{Compare, Filter, Put, Row, Scan, Table};

const ROWS: usize = 200;

async fn filled(world: &World) -> (Table, Vec<String>) {
    let table = world.cluster.table("rows").unwrap();
    let names: Vec<String> = (0..ROWS).map(|one| format!("r{:04}-scan", one * 5)).collect();
    let puts = names.iter().map(|name| {
        let name = name.clone();
        let put =
            Put::new(name).add_at("f", "q1", 10, vec![b'x'; 300]).add_at("f", "q1", 20, vec![b'y'; 300]);
        put.add_at("f", "q2", 30, "v2").add_at("l", "q3", 40, "v3")
    });
    table.mutate_many(puts).await.unwrap();
    (table, names)
}

/// Forwards, backwards, bounds, limits, small answers, parts of rows, versions, times, columns, filters.
pub(super) async fn rows_come_in_order_whatever_is_asked(world: &mut World) {
    let (table, names) = filled(world).await;
    let only = |scan: Scan| scan.filter(Filter::qualifier(Compare::Equal, "q2"));
    let all = only(Scan::new());
    let run = |scan: Scan| {
        let table = table.clone();
        async move { table.scan(scan).collect().await.unwrap() }
    };
    let forward = run(all.clone()).await;
    assert_eq!(keys(&forward), names);
    for small in [all.clone().rows_per_call(7), all.clone().bytes_per_call(100)] {
        assert_eq!(run(small).await, forward);
    }
    let mut down = names.clone();
    down.reverse();
    for scan in [all.clone().reversed(), all.clone().reversed().rows_per_call(3)] {
        assert_eq!(keys(&run(scan).await), down);
    }

    // r0250 and r0500 are where regions start.
    for limit in [1, 49, 50, 51, 199, 200, 1000] {
        let count = usize::try_from(limit).unwrap().min(ROWS);
        assert_eq!(keys(&run(all.clone().limit(limit)).await), names[..count], "limit {limit}");
        assert_eq!(keys(&run(all.clone().reversed().limit(limit).rows_per_call(4)).await), down[..count]);
    }
    assert!(run(all.clone().limit(0)).await.is_empty());
    let (from, to) = (names[40].clone(), names[120].clone());
    let between = |from_in: bool, to_in: bool, scan: Scan| {
        let scan =
            if from_in { scan.from_inclusive(from.clone()) } else { scan.from_exclusive(from.clone()) };
        if to_in { scan.to_inclusive(to.clone()) } else { scan.to_exclusive(to.clone()) }
    };
    assert_eq!(keys(&run(between(true, false, all.clone())).await), names[40..120]);
    assert_eq!(keys(&run(between(false, true, all.clone())).await), names[41..=120]);
    let downwards = all.clone().reversed().from_inclusive(to.clone()).to_exclusive(from.clone());
    let mut expect = names[41..=120].to_vec();
    expect.reverse();
    assert_eq!(keys(&run(downwards).await), expect);
    let downwards = all.clone().reversed().from_exclusive(to.clone()).to_inclusive(from.clone());
    let mut expect = names[40..120].to_vec();
    expect.reverse();
    assert_eq!(keys(&run(downwards).await), expect);
    assert_eq!(run(all.clone().row_prefix("r025")).await.len(), 2);

    what_of_each_row(&table, &names).await;
    parts_of_rows(&table, &names).await;
    dropped_futures(&table, &names).await;
    leases(&table, &names).await;
}

/// A caller that loses patience again and again, and asks again, gets each row once.
async fn dropped_futures(table: &Table, names: &[String]) {
    let all = Scan::new().filter(Filter::qualifier(Compare::Equal, "q2")).rows_per_call(2);
    let (mut rows, mut seen, mut dropped) = (table.scan(all), Vec::new(), 0);
    let mut patience = Duration::from_micros(300);
    loop {
        match tokio::time::timeout(patience, rows.next()).await {
            Ok(Ok(Some(row))) => seen.push(String::from_utf8(row.key().to_vec()).unwrap()),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error:?}"),
            Err(_) => {
                dropped += 1;
                patience += Duration::from_micros(if dropped < 50 { 50 } else { 5000 });
            }
        }
    }
    assert_eq!(seen, names);
    assert!(dropped > 0, "nothing was dropped: the test says nothing");
}

async fn what_of_each_row(table: &Table, names: &[String]) {
    let one = |scan: Scan| {
        let (table, name) = (table.clone(), names[77].clone());
        async move {
            let rows =
                table.scan(scan.from_inclusive(name.clone()).to_inclusive(name)).collect().await.unwrap();
            assert_eq!(rows.len(), 1);
            rows[0].clone()
        }
    };
    assert_eq!(one(Scan::new()).await.len(), 3);
    assert_eq!(one(Scan::new().all_versions()).await.len(), 4);
    assert_eq!(one(Scan::new().family("l")).await.len(), 1);
    let both = one(Scan::new().column("f", "q2").column("f", "q1").column("l", "q3")).await;
    assert_eq!(both.len(), 3);
    assert_eq!(
        one(Scan::new().column("f", "q1").time_range(5, 15)).await.value(b"f", b"q1"),
        Some(&[b'x'; 300][..])
    );
    let keys_only =
        one(Scan::new().filter(Filter::all(&[Filter::key_only(), Filter::column_prefix("q1")]))).await;
    assert_eq!((keys_only.len(), keys_only.value(b"f", b"q1")), (1, Some(&b""[..])));
    let by_value = Filter::column_value("f", "q2", Compare::Equal, "v2");
    assert_eq!(one(Scan::new().filter(by_value)).await.len(), 3);
}

/// Answers of one cell's size cut rows in parts: put together again, or given as they are.
async fn parts_of_rows(table: &Table, names: &[String]) {
    let all = Scan::new().all_versions().from_inclusive(names[45].clone()).to_exclusive(names[55].clone());
    let whole = table.scan(all.clone()).collect().await.unwrap();
    assert_eq!((whole.len(), whole[0].len()), (10, 4));
    let tiny = table.scan(all.clone().bytes_per_call(1)).collect().await.unwrap();
    assert_eq!(tiny, whole);
    let check = |parts: Vec<Row>| {
        assert!(parts.len() > 10, "{} parts", parts.len());
        assert_eq!(all_cells(&parts), all_cells(&whole));
    };
    check(table.scan(all.clone().bytes_per_call(1).partial_rows()).collect().await.unwrap());
    check(table.scan(all.clone().cells_per_part(1)).collect().await.unwrap());
    let limited = table.scan(all.clone().cells_per_part(3).limit(2)).collect().await.unwrap();
    assert_eq!(all_cells(&limited), all_cells(&whole[..2]));
    let up = table.scan(all.clone()).collect().await.unwrap();
    let down =
        all.reversed().from_inclusive(names[54].clone()).to_inclusive(names[45].clone()).bytes_per_call(1);
    let mut down = table.scan(down).collect().await.unwrap();
    down.reverse();
    assert_eq!(down, up);
}

/// A scanner that is not asked for two leases is still the same: a row that was written since is not in its view.
async fn leases(table: &Table, names: &[String]) {
    let scan = Scan::new().from_inclusive(names[10].clone()).to_exclusive(names[14].clone()).rows_per_call(1);
    let mut rows = table.scan(scan.clone());
    assert_eq!(rows.next().await.unwrap().unwrap().key(), names[10].as_bytes());
    let later = format!("{}-later", names[11]);
    table.put(Put::new(later.clone()).add("f", "q2", "late")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(LEASE_MS * 2)).await;
    let mut seen = Vec::new();
    while let Some(row) = rows.next().await.unwrap() {
        seen.push(String::from_utf8(row.key().to_vec()).unwrap());
    }
    assert_eq!(seen, names[11..14], "the scanner was opened a second time: its lease has expired");
    let now = keys(&table.scan(scan).collect().await.unwrap());
    assert!(now.contains(&later), "{now:?}");
}
