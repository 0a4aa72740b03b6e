//! The client on real HBase with two region servers; what it wrote is read by the Java client, and the other way round.
//!
//! One started HBase of each line is shared by all scenarios.

mod moving;
mod rows;
mod scans;

use std::time::{Duration, Instant};
use weir_hbase::client::{Cell, Cluster, Options, Row};
use weir_testkit::engine::hbase::{HBase, Line};
use weir_testkit::table::{ScannedCell, TableTool};

/// The client, and Java's beside it.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) tool: TableTool,
    pub(crate) hbase: HBase,
}

/// Lease of scanners in this HBase, in ms.
const LEASE_MS: u64 = 1000;

fn on(line: Line) {
    let lease = LEASE_MS.to_string();
    let hbase = HBase::start_with(
        line,
        &[
            ("hbase.regionservers", "2"),
            ("hbase.regionserver.port", "0"),
            ("hbase.client.scanner.timeout.period", &lease),
        ],
    );
    let mut tool = TableTool::start(&hbase);
    tool.run("create rows 4");
    tool.run("create moving 2");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let options = Options::default().operation_timeout(Duration::from_secs(40));
        let cluster = Cluster::connect_with(&hbase.zookeeper(), options).await.unwrap();
        let mut world = World { cluster, tool, hbase };
        timed("rows", rows::each_kind_of_mutation_is_as_java_reads_it(&mut world)).await;
        timed("refused", rows::what_is_refused_is_told_for_each_action(&mut world)).await;
        timed("sums", rows::sums_and_checks_are_done_once(&mut world)).await;
        timed("scans", scans::rows_come_in_order_whatever_is_asked(&mut world)).await;
        timed("moving", moving::nothing_is_lost_while_regions_move_and_split(&mut world)).await;
    });
}

async fn timed(name: &str, scenario: impl Future<Output = ()>) {
    let start = Instant::now();
    scenario.await;
    println!("{name}: {:?}", start.elapsed());
}

#[test]
fn tables_of_hbase_2_6_are_read_and_written() {
    on(Line::V2_6);
}

#[test]
fn tables_of_hbase_2_4_are_read_and_written() {
    on(Line::V2_4);
}

#[test]
fn tables_of_hbase_1_7_are_read_and_written() {
    on(Line::V1_7);
}

/// A cell as the Java client's raw scan gives it.
pub(crate) fn scanned(cell: &Cell<'_>) -> ScannedCell {
    ScannedCell {
        row: cell.row.to_vec(),
        family: cell.family.to_vec(),
        qualifier: cell.qualifier.to_vec(),
        timestamp: cell.timestamp,
        kind: cell.kind.0,
        value: cell.value.to_vec(),
    }
}

pub(crate) fn all_cells(rows: &[Row]) -> Vec<ScannedCell> {
    rows.iter().flat_map(|row| row.cells().map(|cell| scanned(&cell)).collect::<Vec<_>>()).collect()
}

pub(crate) fn keys(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| String::from_utf8(row.key().to_vec()).unwrap()).collect()
}
