//! Peers of the keyed runtime in Rust, each as a process of its own: `SYSTEM BOOTSTRAP TOPIC RECORDS MS WARM_MS
//! HANDLER CONCURRENCY`. `cargo x bench runtime` builds and starts it; lap.rs says what it answers.

#[path = "../../../crates/kafka/examples/bench_runtime/lap.rs"]
mod lap;
mod ruststream_side;

use lap::{Lap, Order, answer_and_stay};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", words.first().unwrap_or(&"peers"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<(), Failure> {
    let (system, rest) = words.split_first().ok_or("which system?")?;
    let order = Order::parse(rest).ok_or("a peer needs its eight words")?;
    let [warm, measured] = order.passes();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let line = runtime.block_on(async {
        match *system {
            "rdkafka-stream" => {
                stream(&order, &warm).await?;
                stream(&order, &measured).await
            }
            "ruststream" => {
                let lanes = rest.last().ok_or("how many lanes?")?.parse()?;
                ruststream_side::pass(&order, lanes, &warm).await?;
                ruststream_side::pass(&order, lanes, &measured).await
            }
            other => Err(format!("there is no system {other}").into()),
        }
    })?;
    answer_and_stay(&line);
    Ok(())
}

/// A plain loop over `StreamConsumer`: one record after the other, commits by timer.
async fn stream(
    order: &Order,
    (group, records, time_max): &(String, u64, Duration),
) -> Result<String, Failure> {
    let mut lap = Lap::begin();
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &order.bootstrap)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    consumer.subscribe(&[&order.topic])?;
    let mut count = 0;
    let all = async {
        while count < *records {
            consumer.recv().await?;
            lap.first();
            count += 1;
        }
        Ok::<_, rdkafka::error::KafkaError>(())
    };
    // Time that is over is an end like another.
    if let Ok(done) = tokio::time::timeout(*time_max, all).await {
        done?;
    }
    Ok(lap.end(count))
}
