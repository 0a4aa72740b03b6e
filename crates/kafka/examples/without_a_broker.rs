//! Testing a handler without a broker: a log in memory, faults by script, and a clock that jumps.
//!
//! `cargo run -p weir-kafka --example without_a_broker`. In a test it is `#[tokio::test(start_paused = true)]`.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use weir_model::{FaultKind, TopicName};
use weir_runtime::consumer::Consumer;
use weir_runtime::dead_letter::{self, DeadLetters};
use weir_runtime::handler::Handler;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::{Exhausted, RetryPolicy};
use weir_runtime::testing::judge::Judge;
use weir_runtime::testing::{AppendFault, MemoryLog};

/// What is tested: a service as a struct.
struct Stock {
    judge: Judge,
}

impl Handler for Stock {
    async fn handle(&self, record: Record) -> Outcome {
        let attempt = self.judge.begin(&record);
        let Ok(count) = record.text().1.parse::<u32>() else {
            return Outcome::dead_letter("not a number");
        };
        if count == 13 && record.attempt < 5 {
            return Outcome::retry_after(Duration::from_secs(600));
        }
        attempt.done();
        Outcome::Done
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tokio::time::pause();
    let log = MemoryLog::with_topic("stock", 4);
    log.create_topic("stock-dead", 1);
    for (key, value) in [("apple", "1"), ("pear", "13"), ("apple", "many"), ("pear", "2"), ("apple", "3")] {
        log.put("stock", Record::new("stock", value).with_key(key));
    }
    // The first dead letter is refused; its record must wait for it.
    log.fail_append(AppendFault::Refused(FaultKind::Transient));

    let judge = Judge::default();
    let started = Instant::now();
    let running = Consumer::new(log.source("shop", &["stock"]))
        .retry(RetryPolicy { attempts_max: 10, exhausted: Exhausted::DeadLetter, ..RetryPolicy::default() })
        .dead_letters(DeadLetters::new(Arc::new(log.clone()), TopicName::new("stock-dead")?, "shop"))
        .start_in_task(Stock { judge: judge.clone() })?;
    while running.counts().done + running.counts().dead_letters < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let counts = running.stop(Duration::from_secs(1)).await?;

    println!(
        "{} done, {} retries, in {:?} of a clock that jumps",
        counts.done,
        counts.retried,
        started.elapsed()
    );
    for letter in log.records("stock-dead") {
        let cause = letter.header(dead_letter::CAUSE).map(String::from_utf8_lossy).unwrap_or_default();
        println!("dead letter {:?}: {cause}, after {} refusals", letter.text(), counts.dead_letters_failed);
    }
    println!("out of order or twice at once: {:?}", judge.wrong());
    Ok(())
}
