//! Single rows and batches.

use super::{World, all_cells};
use weir_hbase::client::{
    Action, Append, Cell, CellKind, Check, Compare, Delete, Error, Get, Increment, Put, RowMutations, Scan,
};
use weir_model::ClusterId;
use weir_testkit::table::ScannedCell;

fn cell(row: &str, qualifier: &str, timestamp: u64, kind: CellKind, value: &str) -> ScannedCell {
    ScannedCell {
        row: row.as_bytes().to_vec(),
        family: b"f".to_vec(),
        qualifier: qualifier.as_bytes().to_vec(),
        timestamp,
        kind: kind.0,
        value: value.as_bytes().to_vec(),
    }
}

/// Puts and the four kinds of deletes at fixed times, over all four regions, one by one and as a batch.
pub(super) async fn each_kind_of_mutation_is_as_java_reads_it(world: &mut World) {
    let table = world.cluster.table("rows").unwrap();
    let put = |row: &'static str| {
        Put::new(row).add_at("f", "a", 100, "1").add_at("f", "a", 200, "2").add_at("f", "b", 100, "3")
    };
    let rows = ["r0001", "r0300", "r0600", "r0900"];
    for row in rows {
        table.put(put(row)).await.unwrap();
        table.delete(Delete::new(row).version("f", "a", 100)).await.unwrap();
        table.delete(Delete::new(row).column_at("f", "b", 150)).await.unwrap();
        table.delete(Delete::new(row).family_version("f", 77)).await.unwrap();
        table.delete(Delete::new(row).family_at("f", 50)).await.unwrap();
    }
    let batch: Vec<Action> = rows
        .iter()
        .flat_map(|row| {
            let batched = format!("{row}-batch");
            let put = Put::new(batched.clone()).add_at("f", "a", 100, "1").add_at("f", "a", 200, "2");
            let delete = Delete::new(batched).version("f", "a", 100).column_at("f", "b", 150);
            [put.into(), delete.family_version("f", 77).family_at("f", 50).into()]
        })
        .collect();
    for outcome in table.batch(batch).await {
        assert!(outcome.unwrap().is_empty());
    }

    let mut expect = Vec::new();
    for row in rows {
        let batched = format!("{row}-batch");
        for (row, is_single) in [(row, true), (batched.as_str(), false)] {
            expect.extend([
                cell(row, "", 77, CellKind::DELETE_FAMILY_VERSION, ""),
                cell(row, "", 50, CellKind::DELETE_FAMILY, ""),
                cell(row, "a", 200, CellKind::PUT, "2"),
                cell(row, "a", 100, CellKind::DELETE, ""),
                cell(row, "a", 100, CellKind::PUT, "1"),
                cell(row, "b", 150, CellKind::DELETE_COLUMN, ""),
            ]);
            if is_single {
                expect.push(cell(row, "b", 100, CellKind::PUT, "3"));
            }
        }
    }
    let java = world.tool.raw_scan("rows");
    assert_eq!(sorted(&java), sorted(&expect));
    let rust = table.scan(Scan::new().raw().all_versions()).collect().await.unwrap();
    assert_eq!(all_cells(&rust), java, "the same cells in the same order as Java gives them");

    let row = table.get(Get::new("r0300")).await.unwrap();
    assert_eq!((row.len(), row.value(b"f", b"a"), row.value(b"f", b"b")), (1, Some(&b"2"[..]), None));
    assert!(table.get(Get::new("none")).await.unwrap().is_empty());
    assert!(table.exists(Get::new("r0300")).await.unwrap());
    assert!(!table.exists(Get::new("r0300").column("f", "z")).await.unwrap());
    let found = table.get_many(["r0900", "none", "r0001"].map(Get::new)).await.unwrap();
    assert_eq!(
        found.iter().map(|row| row.key().to_vec()).collect::<Vec<_>>(),
        [&b"r0900"[..], b"", b"r0001"]
    );
    let versions = Get::new("r0001-batch").column("f", "a").versions(5).time_range(150, 300);
    assert_eq!(table.get(versions).await.unwrap().len(), 1);

    whole_rows_and_attributes(world).await;
}

/// A delete of the whole row; a put with a time to live, tags and cluster ids; mutations of a row together.
async fn whole_rows_and_attributes(world: &mut World) {
    let table = world.cluster.table("rows").unwrap();
    table.put(Put::new("w1").add_at("f", "a", 100, "1").add_at("l", "b", 100, "2")).await.unwrap();
    table.delete(Delete::new("w1").up_to(150)).await.unwrap();
    let ttl = std::time::Duration::from_secs(3600);
    let ids = [ClusterId { most: 1, least: 2 }];
    let tagged = Cell {
        row: b"w2",
        family: b"f",
        qualifier: b"tags",
        timestamp: 5,
        kind: CellKind::PUT,
        value: b"v",
        tags: b"\x00\x04\x7fabc",
    };
    table.put(Put::new("w2").add("f", "a", "now").ttl(ttl).cluster_ids(&ids)).await.unwrap();
    table.put(Put::new("w2").add_cell(&tagged)).await.unwrap();
    let together = RowMutations::new("w3")
        .and(Put::new("w3").add_at("f", "a", 10, "1"))
        .and(Delete::new("w3").column_at("f", "b", 20));
    table.mutate_row(together).await.unwrap();

    let java = world.tool.raw_scan("rows");
    let of = |row: &str| java.iter().filter(|cell| cell.row == row.as_bytes()).cloned().collect::<Vec<_>>();
    let markers: Vec<_> = of("w1").into_iter().filter(|cell| cell.kind == 14).collect();
    assert_eq!(markers.len(), 2, "one marker for each family");
    assert!(markers.iter().all(|cell| cell.timestamp == 150));
    assert!(table.get(Get::new("w1")).await.unwrap().is_empty());
    let now = of("w2").into_iter().find(|cell| cell.qualifier == b"a").unwrap();
    assert!(now.timestamp > 1_600_000_000_000 && now.timestamp < 9_000_000_000_000, "{now:?}");
    assert_eq!(
        of("w3"),
        [cell("w3", "a", 10, CellKind::PUT, "1"), cell("w3", "b", 20, CellKind::DELETE_COLUMN, "")]
    );
}

/// One action of a batch that is refused leaves the others alone; a table that is missing is named at once.
pub(super) async fn what_is_refused_is_told_for_each_action(world: &mut World) {
    let table = world.cluster.table("rows").unwrap();
    let outcomes = table
        .batch([
            Action::from(Put::new("x1").add("f", "a", "1")),
            Put::new("x2").add("nosuch", "a", "1").into(),
            Put::new("x3").into(),
            Get::new("r0300").into(),
            Get::new("r0300").family("nosuch").into(),
            Delete::new("").into(),
            Put::new("r0001").add("f", "c", "1").into(),
        ])
        .await;
    let classes: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Ok(row) => format!("{} cells", row.len()),
            Err(Error::Invalid { what }) => (*what).to_owned(),
            Err(error) => error.exception().map_or(error.chain(), |one| one.short_class().to_owned()),
        })
        .collect();
    const NO_FAMILY: &str = "NoSuchColumnFamilyException";
    const EMPTY: &str = "the row key is empty";
    assert_eq!(
        classes,
        ["0 cells", NO_FAMILY, "there are no cells in it", "1 cells", NO_FAMILY, EMPTY, "0 cells"]
    );
    let error = table.put(Put::new("x2").add("nosuch", "a", "1")).await.unwrap_err();
    assert_eq!(error.exception().unwrap().short_class(), NO_FAMILY, "{error:?}");

    let start = std::time::Instant::now();
    let missing = world.cluster.table("nosuch").unwrap();
    let error = missing.get(Get::new("a")).await.unwrap_err();
    assert_eq!(error.to_string(), "table nosuch does not exist");
    let many = missing.batch((0..1000).map(|one| Get::new(format!("{one}")))).await;
    assert!(many.iter().all(|outcome| matches!(outcome, Err(Error::TableNotFound { .. }))));
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    // A name that stands between two tables in meta.
    let between = world.cluster.table("row").unwrap();
    assert!(matches!(between.get(Get::new("a")).await, Err(Error::TableNotFound { .. })));
    assert!(matches!(between.regions().await, Err(Error::TableNotFound { .. })));
}

/// Increments, appends and checked mutations, one by one and in a batch.
pub(super) async fn sums_and_checks_are_done_once(world: &mut World) {
    let table = world.cluster.table("rows").unwrap();
    let row = table.increment(Increment::new("s1").add("f", "n", 5).add("f", "m", -1)).await.unwrap();
    assert_eq!(row.value(b"f", b"n"), Some(&5i64.to_be_bytes()[..]));
    let adds = (0..20).map(|_| Increment::new("s1").add("f", "n", 1));
    let sums: Vec<_> = table
        .batch(adds)
        .await
        .into_iter()
        .map(|one| one.unwrap().value(b"f", b"n").unwrap().to_vec())
        .collect();
    assert_eq!(sums, (6..26).map(|sum: i64| sum.to_be_bytes().to_vec()).collect::<Vec<_>>());
    table.append(Append::new("s2").add("f", "t", "ab")).await.unwrap();
    let row = table.append(Append::new("s2").add("f", "t", "cd")).await.unwrap();
    assert_eq!(row.value(b"f", b"t"), Some(&b"abcd"[..]));

    let put = |value: &'static str| Put::new("s3").add("f", "a", value);
    let missing = || Check::missing("s3", "f", "a");
    assert!(table.check_and_mutate(missing(), put("1")).await.unwrap());
    assert!(!table.check_and_mutate(missing(), put("2")).await.unwrap());
    assert!(!table.check_and_mutate(Check::equals("s3", "f", "a", "9"), put("2")).await.unwrap());
    assert!(table.check_and_mutate(Check::equals("s3", "f", "a", "1"), put("2")).await.unwrap());
    let greater = Check::compare("s3", "f", "a", Compare::Greater, "5");
    assert!(table.check_and_mutate(greater, Delete::new("s3").column("f", "a")).await.unwrap());
    assert!(table.get(Get::new("s3")).await.unwrap().is_empty());
    let both = || RowMutations::new("s3").and(put("3")).and(Put::new("s3").add("f", "b", "4"));
    assert!(table.check_and_mutate_row(missing(), both()).await.unwrap());
    assert!(!table.check_and_mutate_row(missing(), both()).await.unwrap());
    assert_eq!(table.get(Get::new("s3")).await.unwrap().len(), 2);
    let bad = RowMutations::new("s4")
        .and(Put::new("s4").add("nosuch", "b", "4"))
        .and(Put::new("s4").add("f", "b", "4"));
    let error = table.mutate_row(bad).await.unwrap_err();
    assert_eq!(
        error.exception().map(|one| one.short_class()),
        Some("NoSuchColumnFamilyException"),
        "{error:?}"
    );
    assert!(table.get(Get::new("s4")).await.unwrap().is_empty());
}

fn sorted(cells: &[ScannedCell]) -> Vec<ScannedCell> {
    let mut cells = cells.to_vec();
    cells.sort();
    cells
}
