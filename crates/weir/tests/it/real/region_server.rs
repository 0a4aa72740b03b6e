//! What happens inside a real HBase under load: a region server is killed, regions move, split and merge.
//!
//! Two peers ship to one Weir. The plain peer must lose nothing, and how often it breaks the order of a row is measured
//! (`docs/reliability.md`). The serial peer (HBase 2.1 and later) must keep the order of every row too.

use super::load::Load;
use super::{config_of, create_topic_at};
use crate::order::{self, Order};
use crate::weir::{DEADLINE, Weir, wait_until_log_is};
use std::time::{Duration, Instant};
use weir_testkit::engine::hbase::{Cluster as _, Line};
use weir_testkit::engine::hbase_cluster::HBaseCluster;
use weir_testkit::engine::kafka::Kafka;
use weir_testkit::scale;
use weir_testkit::table::{TableTool, replicated};

/// How many entries have come before anything is done to the cluster, and come again after it.
const ENTRIES_BEFORE: u64 = 2000;

/// Everything that a run needs.
struct Scene {
    line: Line,
    kafka: Kafka,
    cluster: HBaseCluster,
    tool: TableTool,
    weir: Weir,
}

impl Scene {
    /// Starts the engines and Weir, and adds the peers. `key` is that of the plain peer's topics.
    fn start(line: Line, key: &str) -> Self {
        let (kafka, cluster) = std::thread::scope(|scope| {
            let kafka = scope.spawn(Kafka::start);
            let cluster = HBaseCluster::start(line);
            (kafka.join().unwrap(), cluster)
        });
        let mut tool = TableTool::start(&cluster);
        let plain = config_of(&kafka.bootstrap(), &cluster.zookeeper());
        let serial = format!(
            "[capture.main.topic]\nkey = \"{key}\"\n[capture.serial]\nzookeeper = \"{}\"\npeer = \"serial\"\n\
             listen = \"127.0.0.1:0\"\n[capture.serial.topic]\nprefix = \"serial.\"\nkey = \"row\"\n",
            cluster.zookeeper()
        );
        let mut weir = Weir::new(&(plain + &serial));
        weir.start();
        tool.run(&format!("peer-add weir {}", cluster.cluster_key("/weir/weir")));
        if !line.is_first() {
            tool.run(&format!("peer-add-serial serial {}", cluster.cluster_key("/weir/serial")));
        }
        let scene = Self { line, kafka, cluster, tool, weir };
        scene.wait_for_peers();
        scene
    }

    fn captures(&self) -> &'static [&'static str] {
        if self.line.is_first() { &["main"] } else { &["main", "serial"] }
    }

    /// Waits until every region server ships to both peers: 1.x loses what is written before.
    fn wait_for_peers(&self) {
        for capture in self.captures() {
            self.weir.command(&["peer", "--capture", capture, "status", "--wait"]);
        }
    }

    fn create(&mut self, table: &str, regions: usize) {
        for prefix in ["hbase", "serial"] {
            create_topic_at(&self.kafka.bootstrap(), &format!("{prefix}.{table}.wal"), 1, 1);
        }
        self.tool.run(&format!("create {table} {regions}"));
    }

    /// The regions of a table in the order of their rows: encoded name, server.
    fn regions(&mut self, table: &str) -> Vec<(String, String)> {
        let lines = self.tool.run(&format!("regions {table}"));
        let region = |line: &String| {
            let mut words = line.split('\t');
            (words.next().unwrap().to_owned(), words.nth(1).unwrap().to_owned())
        };
        lines.iter().map(region).collect()
    }

    /// Waits until the regions of a table are as they should be.
    #[track_caller]
    fn wait_for_regions(&mut self, table: &str, what: &str, are: impl Fn(&[(String, String)]) -> bool) {
        let started = Instant::now();
        loop {
            let regions = self.regions(table);
            if are(&regions) {
                return;
            }
            assert!(started.elapsed() < DEADLINE, "{what}: not in {DEADLINE:?}, {regions:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn entries(&self, table: &str) -> String {
        format!("weir_capture_entries_total{{capture=\"main\",table=\"{table}\"}}")
    }

    /// Runs `act` while a client writes to the table without a pause.
    fn under_load(&mut self, table: &str, seed: u64, act: impl FnOnce(&mut Self)) {
        let client = TableTool::start(&self.cluster);
        Load { table, seed, count: 800, threads: 8 }.during(client, || {
            self.weir.wait_for_metric(&self.entries(table), ENTRIES_BEFORE);
            act(self);
        });
    }

    /// A region moves to the other server and back, one splits, two merge.
    fn move_split_and_merge(&mut self, table: &str) {
        let regions = self.regions(table);
        let home = &regions[0].1;
        let away = regions.iter().map(|(_, server)| server).find(|server| *server != home).unwrap();
        for server in [away, home] {
            self.tool.run(&format!("move {} {server}", regions[0].0));
            self.wait_for_regions(table, "a region has moved", |now| {
                now.iter().any(|(name, at)| *name == regions[0].0 && at == server)
            });
        }
        // The second of the four regions is r0250 to r0500.
        self.tool.run(&format!("split {table} r0375"));
        self.wait_for_regions(table, "a region has split", |now| {
            now.len() == 5 && now.iter().all(|(name, _)| *name != regions[1].0)
        });
        self.tool.run(&format!("merge {} {}", regions[2].0, regions[3].0));
        self.wait_for_regions(table, "two regions have merged", |now| {
            now.len() == 4 && now.iter().all(|(name, _)| *name != regions[2].0 && *name != regions[3].0)
        });
    }

    /// Every peer's log is the table; their orders, main first.
    fn compare(&mut self, table: &str) -> Vec<Order> {
        let expect = replicated(self.tool.raw_scan(table));
        let prefixes =
            self.captures().iter().map(|capture| if *capture == "main" { "hbase" } else { capture });
        prefixes
            .map(|prefix| {
                let topic = format!("{prefix}.{table}.wal");
                order::of_rows(&wait_until_log_is(&self.kafka.bootstrap(), &topic, &expect))
            })
            .collect()
    }

    /// Prints the orders, and holds the serial peer to its promise.
    #[track_caller]
    fn judge(&self, what: &str, took: Duration, orders: &[Order]) {
        for (capture, order) in self.captures().iter().zip(orders) {
            println!(
                "HBase {}, {what}, peer {capture}: {order}; all there after {:.1} s",
                self.line.version(),
                took.as_secs_f64()
            );
        }
        assert!(orders.iter().all(|order| order.writes > 1000), "it was under load: {orders:?}");
        if let [_, serial] = orders {
            assert_eq!(serial.late, 0, "a serial peer keeps the order of every row: {serial}");
        }
    }
}

/// kill -9 of a region server that has regions of the table, while they are written to.
fn a_killed_region_server_costs_nothing(line: Line) {
    let mut scene = Scene::start(line, "region");
    for round in 0..scale::pick(1, 5) {
        let table = format!("t{round}");
        scene.create(&table, 8);
        let mut killed = None;
        scene.under_load(&table, round, |scene| {
            let regions = scene.regions(&table);
            let victim = scene.cluster.index_of(&regions[0].1).unwrap();
            let dead = &regions[0].1;
            scene.cluster.region_servers[victim].kill9();
            killed = Some((victim, Instant::now()));
            scene.wait_for_regions(&table, "its regions are open elsewhere", |regions| {
                regions.iter().all(|(_, server)| server != dead)
            });
            let before = scene.weir.metric(&scene.entries(&table));
            scene.weir.wait_for_metric(&scene.entries(&table), before + ENTRIES_BEFORE);
        });
        let (victim, killed) = killed.unwrap();
        scene.cluster.region_servers[1 - victim].wait_for("Atomically moved");
        let orders = scene.compare(&table);
        scene.judge("a region server killed -9", killed.elapsed(), &orders);
        if round + 1 < scale::pick(1, 5) {
            scene.cluster.region_servers[victim].restart();
            scene.wait_for_peers();
        }
    }
}

#[test]
fn a_killed_region_server_costs_nothing_on_hbase_2_6() {
    a_killed_region_server_costs_nothing(Line::V2_6);
}

#[test]
fn a_killed_region_server_costs_nothing_on_hbase_2_4() {
    a_killed_region_server_costs_nothing(Line::V2_4);
}

#[test]
fn a_killed_region_server_costs_nothing_on_hbase_1_7() {
    a_killed_region_server_costs_nothing(Line::V1_7);
}

/// A region moves there and back, one splits, two merge, while they are written to: first with Weir there, then with
/// Weir killed before and started after, so that every server involved has a backlog, and all ship at once.
fn moves_splits_and_merges_cost_nothing(line: Line) {
    // Records by row: a row stays in one partition when its region is another.
    let mut scene = Scene::start(line, "row");
    for round in 0..scale::pick(2, 8) {
        let table = format!("t{round}");
        let is_behind = round % 2 == 1;
        scene.create(&table, 4);
        let mut done = None;
        scene.under_load(&table, round, |scene| {
            if is_behind {
                scene.weir.kill9();
            }
            scene.move_split_and_merge(&table);
            if is_behind {
                scene.weir.start();
            }
            done = Some(Instant::now());
        });
        let orders = scene.compare(&table);
        let what = "regions moved, split and merged";
        let what = if is_behind { format!("{what} while weir was dead") } else { what.to_owned() };
        scene.judge(&what, done.unwrap().elapsed(), &orders);
    }
}

#[test]
fn moves_splits_and_merges_cost_nothing_on_hbase_2_6() {
    moves_splits_and_merges_cost_nothing(Line::V2_6);
}

#[test]
fn moves_splits_and_merges_cost_nothing_on_hbase_2_4() {
    moves_splits_and_merges_cost_nothing(Line::V2_4);
}

#[test]
fn moves_splits_and_merges_cost_nothing_on_hbase_1_7() {
    moves_splits_and_merges_cost_nothing(Line::V1_7);
}

/// The flow goes on without a master, and when ZooKeeper comes back before the sessions end.
fn the_master_and_zookeeper_may_be_killed(line: Line) {
    let mut scene = Scene::start(line, "region");
    let table = "t";
    scene.create(table, 4);
    let mut done = None;
    scene.under_load(table, 1, |scene| {
        let wait_for_more = |scene: &Scene| {
            let before = scene.weir.metric(&scene.entries(table));
            scene.weir.wait_for_metric(&scene.entries(table), before + ENTRIES_BEFORE);
        };
        scene.cluster.master.kill9();
        wait_for_more(scene);
        scene.cluster.zookeeper.node.kill9();
        scene.cluster.zookeeper.node.restart();
        wait_for_more(scene);
        scene.cluster.master.restart();
        done = Some(Instant::now());
    });
    let orders = scene.compare(table);
    scene.judge("master and ZooKeeper killed -9", done.unwrap().elapsed(), &orders);
}

#[test]
fn the_master_and_zookeeper_may_be_killed_under_load() {
    scale::pick(&[Line::V2_6][..], &Line::ALL[..])
        .iter()
        .for_each(|line| the_master_and_zookeeper_may_be_killed(*line));
}
