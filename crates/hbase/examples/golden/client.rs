//! What region servers answer to a client: a get, a batch in part refused, a scan, a row of `hbase:meta`.
//!
//! Each file is what the fuzz target `client_answer` takes: a byte for the method, an `int16` length, message, cell block.

use std::time::Duration;
use tokio::time::Instant;
use weir_hbase::client::{Action, Cluster, Get, Put, RegionInfo, Scan, Table};
use weir_hbase::rpc::{Connection, Hello};
use weir_model::TableName;
use weir_wire::hbase::client::{Lookup, MultiRequest, ScanLimits, get_request, open_request};

/// Names and bytes of the answers; of a plain table `c` with the families f and g.
pub(crate) async fn answers(zookeeper: &str) -> Vec<(&'static str, Vec<u8>)> {
    let cluster = Cluster::connect(zookeeper).await.unwrap();
    let table = cluster.table("c").unwrap();
    let put = |row: &'static str| Put::new(row).add("f", "a", "1").add("f", "b", "2");
    table.mutate_many(["r1", "r2"].map(put)).await.unwrap();
    let region = table.locate(b"r1").await.unwrap().region;

    let get = get_request(&region, &Get::new("r1")).unwrap();
    let scan = open_request(&region, &Scan::new(), &ScanLimits { rows: 10, ..ScanLimits::default() });
    let mut multi = MultiRequest::new();
    let elsewhere = RegionInfo { name: "c,,1.00112233445566778899aabbccddeeff.".into(), ..region.clone() };
    let actions: [(&RegionInfo, Action); 4] = [
        (&region, put("r3").into()),
        (&region, Put::new("r4").add("nosuch", "a", "1").into()),
        (&region, Get::new("r2").into()),
        (&elsewhere, put("r5").into()),
    ];
    for ((region, action), index) in actions.iter().zip(0..) {
        multi.push(region, index, action, None).unwrap();
    }
    let (multi, cells) = multi.finish(1);
    let meta = cluster.table("hbase:meta").unwrap();
    let lookup = Lookup::Holding(b"r1").request(&TableName::new("c").unwrap());
    vec![
        ("client-get", ask(&table, 0, "Get", &get, &[]).await),
        ("client-multi", ask(&table, 2, "Multi", &multi, &cells).await),
        ("client-scan", ask(&table, 3, "Scan", &scan, &[]).await),
        ("client-meta", ask(&meta, 4, "Scan", &lookup, &[]).await),
    ]
}

async fn ask(table: &Table, number: u8, method: &'static str, param: &[u8], block: &[u8]) -> Vec<u8> {
    let server = table.locate(b"r1").await.unwrap().server;
    let hello = Hello { user: "golden".to_owned(), service: "ClientService" };
    let deadline = Instant::now() + Duration::from_secs(30);
    let address = format!("{}:{}", server.host, server.port);
    let connection = Connection::open(&address, &hello, deadline).await.unwrap();
    let answer = connection.call(method, param, block, deadline).await.unwrap();
    let len = u16::try_from(answer.message.len()).unwrap().to_be_bytes();
    [&[number][..], &len, &answer.message, &answer.block].concat()
}
