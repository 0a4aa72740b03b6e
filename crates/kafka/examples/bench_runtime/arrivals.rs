//! The floor of cell F: a bare loop that does nothing but look when each record has arrived. What a record's latency
//! has beyond this and its handler is the runtime's.

use crate::member::Latencies;
use crate::weir_side::Failure;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use std::io::BufRead as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The child: reads what comes from now on. Orders: `counts`, `latencies`, `forget`.
pub(crate) fn run(bootstrap: &str, topic: &str) -> Result<(), Failure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", format!("{topic}-arrivals"))
        .set("auto.offset.reset", "latest")
        // As Weir's source has them.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.wait.max.ms", "100")
        .create()?;
    consumer.subscribe(&[topic])?;
    let (latencies, count) = (Arc::new(Latencies::new()?), Arc::new(AtomicU64::new(0)));
    std::thread::spawn({
        let (latencies, count) = (Arc::clone(&latencies), Arc::clone(&count));
        move || {
            loop {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    latencies.record(message.key(), message.payload());
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    });
    for order in std::io::stdin().lock().lines() {
        match order?.as_str() {
            "counts" => println!("done {}", count.load(Ordering::Relaxed)),
            "latencies" => println!("{}", latencies.line()),
            "forget" => {
                latencies.forget();
                println!("ok");
            }
            other => return Err(format!("not an order: {other}").into()),
        }
    }
    Ok(())
}
