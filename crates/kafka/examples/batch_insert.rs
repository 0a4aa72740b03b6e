//! Many records in one insert: batches that are full by count or after a linger, with runs of one key in them.
//!
//! `cargo x engines up kafka`, then `cargo run -p weir-kafka --example batch_insert [BOOTSTRAP]`. The table is in memory,
//! takes 5 ms an insert and refuses one of them. It prints how many inserts 5,000 rows took, and that the last value of
//! each key is the one that stands.

mod broker;

use broker::{Broker, Failure};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::batch::{Batching, Full};
use weir_runtime::consumer::Consumer;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;

const RECORDS: usize = 5000;
const KEYS: usize = 50;

/// Stands for a database.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, String>,
    inserts: usize,
}

type Shared = Arc<Mutex<Table>>;

/// One statement for all rows, in their order.
async fn insert(table: &Shared, rows: impl Iterator<Item = (String, String)>) -> Result<(), &'static str> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut table = table.lock().map_err(|_| "the table is broken")?;
    table.inserts += 1;
    if table.inserts == 3 {
        return Err("a deadlock was found: try again");
    }
    table.rows.extend(rows);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let records = (0..RECORDS).map(|number| (format!("account-{}", number % KEYS), number.to_string()));
    let broker = Broker::prepare("batch-insert", &[], records).await?;
    let table = Shared::default();
    let handler = {
        let table = Arc::clone(&table);
        move |records: Vec<Record>| {
            let table = Arc::clone(&table);
            async move {
                let inserted = insert(&table, records.iter().map(Record::text)).await;
                // One outcome a record. Here all of them fare alike.
                records.iter().map(|_| Outcome::from(inserted)).collect()
            }
        }
    };
    // At most 500 rows an insert, 20 of them of one account, and none waits longer than 10 ms for others.
    let full = Full { count: 500, linger: Duration::from_millis(10), ..Full::default() };
    let config = SourceConfig::new(&broker.bootstrap, "inserter", &[broker.topics[0].as_str()]);
    let running =
        Consumer::new(KafkaSource::new(config)).start(Batching::new(full, handler).runs_of(20)).await?;
    // Joining the group takes its time; what counts begins with the first record.
    while running.counts().received == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let started = Instant::now();
    while (running.counts().done as usize) < RECORDS && started.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    let counts = running.stop(Duration::from_secs(5)).await?;
    let table = table.lock().map_err(|_| "the table is broken")?;
    let newest = (RECORDS - KEYS..RECORDS)
        .filter(|number| table.rows.get(&format!("account-{}", number % KEYS)) == Some(&number.to_string()))
        .count();
    println!(
        "{} rows in {} inserts and {} ms; {} came again after the one that was refused",
        counts.done,
        table.inserts,
        took.as_millis(),
        counts.retried + counts.repeated
    );
    println!("{newest} of {KEYS} accounts have their newest value");
    Ok(())
}
