//! A key that bursts does not hurt the others: what is over its quota goes to a shaping topic, and is handled from there
//! at a rate of its own.
//!
//! `cargo x engines up kafka`, then `cargo run -p weir-kafka --example key_quota [BOOTSTRAP]`. One account sends 2,000
//! orders at once, and a hundred others send one each behind them. It prints when the hundred were done, how many orders
//! went to the shaping topic, and how long they took there.

mod broker;

use broker::{Broker, Failure};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::consumer::Consumer;
use weir_runtime::flow::Flow;
use weir_runtime::quota::{OverQuota, Quota};
use weir_runtime::record::Record;
use weir_runtime::shaping::{SUFFIX, Shaping};

const BURST: usize = 2000;
const OTHERS: usize = 100;

/// Takes 2 ms for an order; counts those of others.
async fn handle(record: Record, others: Arc<AtomicUsize>) {
    tokio::time::sleep(Duration::from_millis(2)).await;
    if record.text().0 != "reseller" {
        others.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let burst = (0..BURST).map(|number| ("reseller".to_owned(), format!("order {number}")));
    let others = (0..OTHERS).map(|number| (format!("account-{number}"), "order".to_owned()));
    let broker = Broker::prepare("orders", &[SUFFIX], burst.chain(others)).await?;
    let source = |topic: usize| {
        let topic = broker.topics[topic].as_str();
        KafkaSource::new(SourceConfig::new(&broker.bootstrap, &format!("shop-{topic}"), &[topic]))
    };
    let others_done = Arc::new(AtomicUsize::new(0));
    let handler = move |others: &Arc<AtomicUsize>| {
        let others = Arc::clone(others);
        move |record: Record| handle(record, Arc::clone(&others))
    };

    // Each account may have 20 orders a second, and two seconds' worth at once.
    let quota = Quota { burst: Duration::from_secs(2), ..Quota::new(20, OverQuota::Shape) };
    let started = Instant::now();
    let producer = Producer::start(ProducerConfig::new(&broker.bootstrap))?;
    let orders = Consumer::new(source(0))
        .shaping(Shaping::new(Arc::new(producer)))
        .flow(Flow { key_quota: Some(quota), ..Flow::default() })
        .start(handler(&others_done))
        .await?;
    // What was shaped is handled too, 1,000 a second; `Running::flow` or a `FlowFile` changes both at run time.
    let shaped = Consumer::new(source(1))
        .flow(Flow { rate_per_partition: Some(1000), ..Flow::default() })
        .start(handler(&others_done))
        .await?;

    let mut others_took = None;
    while (orders.counts().done + shaped.counts().done) as usize != BURST + OTHERS {
        if started.elapsed() > Duration::from_secs(60) {
            return Err(format!("not done after a minute: {:?}", orders.counts()).into());
        }
        if others_done.load(Ordering::Relaxed) == OTHERS {
            others_took.get_or_insert_with(|| started.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = started.elapsed();
    let (orders, shaped) =
        (orders.stop(Duration::from_secs(5)).await?, shaped.stop(Duration::from_secs(5)).await?);
    let others_took = others_took.unwrap_or(took).as_millis();
    println!("the orders of {OTHERS} accounts were done after {others_took} ms, behind a burst of {BURST}");
    println!(
        "{} of the burst were handled at once, {} went to {}",
        orders.done as usize - OTHERS,
        orders.shaped,
        broker.topics[1]
    );
    println!("the last of {} from there was done after {} ms", shaped.done, took.as_millis());
    Ok(())
}
