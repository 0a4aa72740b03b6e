//! Writes three rows, reads them back and deletes them: `rows ZOOKEEPER TABLE FAMILY`.
#![expect(clippy::print_stdout, reason = "a command for people")]

use weir_hbase::client::{Cluster, Delete, Get, Put, Scan};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [zookeeper, table, family] = words.as_slice() else {
        return Err("usage: rows ZOOKEEPER TABLE FAMILY, such as: rows 127.0.0.1:2181 orders f".into());
    };
    let cluster = Cluster::connect(zookeeper).await?;
    let table = cluster.table(table)?;

    let names = ["example-1", "example-2", "example-3"];
    let puts = names.map(|name| Put::new(name).add(family, "state", "open"));
    for (name, outcome) in names.iter().zip(table.batch(puts).await) {
        match outcome {
            Ok(_) => println!("{name}: written"),
            Err(error) => println!("{name}: {}", error.chain()),
        }
    }

    let row = table.get(Get::new("example-1")).await?;
    println!("example-1 has {} cells", row.len());

    let mut rows = table.scan(Scan::new().row_prefix("example-"));
    while let Some(row) = rows.next().await? {
        for cell in row.cells() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            println!(
                "{} {}:{} at {} = {}",
                text(cell.row),
                text(cell.family),
                text(cell.qualifier),
                cell.timestamp,
                text(cell.value)
            );
        }
    }

    table.mutate_many(names.map(Delete::new)).await?;
    Ok(())
}
