//! Weir in its own process, with all of it on: metrics registered and read once a second, retries that end in a
//! dead-letter topic, the offset map in the commits.

use crate::checker::Checker;
use crate::lap::{Handler, Lap, Order, answer_and_stay};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_model::TopicName;
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::dead_letter::DeadLetters;
use weir_runtime::outcome::Outcome;
use weir_runtime::record::Record;
use weir_runtime::retry::{Exhausted, RetryPolicy};

/// A task of Decaton's benchmark.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "it is read and thrown away")]
struct Task {
    produced_time: u64,
    process_latency: u64,
}

/// The topic of dead letters; there before a child starts.
pub(crate) const DEAD: &str = "bench-dead";

pub(crate) type Failure = Box<dyn std::error::Error>;

/// How often the waiting loop looks at the counters.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a consumer may take to end.
pub(crate) const STOP_MAX: Duration = Duration::from_secs(5);

/// A consumer with everything set.
pub(crate) fn consumer(bootstrap: &str, topic: &str, group: &str) -> Result<Consumer, Failure> {
    let writer = Arc::new(Producer::start(ProducerConfig::new(bootstrap))?);
    let policy = RetryPolicy {
        first: Duration::from_millis(10),
        attempts_max: 10,
        exhausted: Exhausted::DeadLetter,
        ..RetryPolicy::default()
    };
    let mut config = SourceConfig::new(bootstrap, group, &[topic]);
    // Cell I waits for the session of a killed member.
    config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
    // The cells measure the runtime: the windows alone bound what is under way.
    let consumer = Consumer::new(KafkaSource::new(config)).concurrency(1 << 20);
    Ok(consumer.retry(policy).dead_letters(DeadLetters::new(writer, TopicName::new(DEAD)?, group)))
}

/// Metrics of a running consumer, as a service has them.
pub(crate) struct Scraper {
    registry: Registry,
    last: Instant,
    text: String,
}

impl Scraper {
    pub(crate) fn new(running: &Running) -> Self {
        let mut registry = Registry::default();
        running.register(&mut registry, "bench");
        Self { registry, last: Instant::now(), text: String::new() }
    }

    /// Reads all metrics when a second has passed.
    pub(crate) fn turn(&mut self) -> Result<(), Failure> {
        if self.last.elapsed() >= Duration::from_secs(1) {
            self.last = Instant::now();
            self.text.clear();
            encode(&mut self.text, &self.registry)?;
            black_box(&self.text);
        }
        Ok(())
    }
}

pub(crate) async fn run(order: &Order) -> Result<(), Failure> {
    let [warm, measured] = order.passes();
    pass(order, warm).await?;
    let (line, running, checker) = pass_running(order, measured).await?;
    // Everything that was begun ends before the checker's word counts.
    let counts = running.stop(STOP_MAX).await?;
    answer_and_stay(&format!(
        "{line} failed_attempts {} dead_letters {} order_violations {}",
        counts.failed,
        counts.dead_letters,
        checker.map_or(0, |checker| checker.violations())
    ));
    Ok(())
}

async fn pass(order: &Order, limits: (String, u64, Duration)) -> Result<(), Failure> {
    let (_, running, _) = pass_running(order, limits).await?;
    running.stop(STOP_MAX).await?;
    Ok(())
}

async fn pass_running(
    order: &Order,
    (group, records, time_max): (String, u64, Duration),
) -> Result<(String, Running, Option<Arc<Checker>>), Failure> {
    let mut lap = Lap::begin();
    let consumer = consumer(&order.bootstrap, &order.topic, &group)?;
    let (running, checker) = start(consumer, order.handler).await?;
    let mut scraper = Scraper::new(&running);
    let started = Instant::now();
    let mut done = 0;
    while done < records && started.elapsed() < time_max {
        tokio::time::sleep(LOOK_EVERY).await;
        let counts = running.counts();
        if counts.received > 0 {
            lap.first();
        }
        done = counts.done;
        scraper.turn()?;
    }
    Ok((lap.end(done), running, checker))
}

/// A closure for each kind, so that none pays for another. Only records that fail are watched: the checker has memory
/// of its own.
async fn start(consumer: Consumer, handler: Handler) -> Result<(Running, Option<Arc<Checker>>), Failure> {
    let mut watched = None;
    let running = match handler {
        Handler::Count => consumer.start(async |record: Record| drop(black_box(record))).await,
        Handler::Sleep { times, each } => {
            consumer
                .start(move |_: Record| async move {
                    for _ in 0..times {
                        tokio::time::sleep(each).await;
                    }
                })
                .await
        }
        Handler::Json { times, each } => {
            consumer
                .start(move |record: Record| async move {
                    let value = record.value().unwrap_or_default();
                    let Ok(task) = serde_json::from_slice::<Task>(value) else {
                        return Outcome::dead_letter("not a task");
                    };
                    black_box(task);
                    for _ in 0..times {
                        tokio::time::sleep(each).await;
                    }
                    Outcome::Done
                })
                .await
        }
        Handler::Spin { each } => {
            consumer
                .start(move |_: Record| async move {
                    let started = Instant::now();
                    while started.elapsed() < each {
                        spin_loop();
                    }
                })
                .await
        }
        Handler::FailSome => {
            let checker = Arc::new(Checker::default());
            watched = Some(Arc::clone(&checker));
            consumer
                .start(move |record: Record| {
                    let checker = Arc::clone(&checker);
                    async move {
                        checker.begun(&record);
                        // The offset is as good as chance here, and a later attempt at it is at the same record.
                        if record.offset % 100 == 7 && record.attempt <= 3 {
                            checker.failed(&record);
                            return Outcome::failed("one in a hundred");
                        }
                        checker.done(&record);
                        Outcome::Done
                    }
                })
                .await
        }
    };
    Ok((running?, watched))
}
