//! ruststream over Kafka: tracked commits; one record after the other where the handler only counts, which is its
//! fastest way that keeps order, and as many keyed lanes as it is told where it waits.

use crate::Failure;
use crate::lap::{Handler, Lap, Order};
use ruststream_rdkafka::prelude::*;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Both are set before a pass. A process measures one system in one way.
static SLEEPS: AtomicU64 = AtomicU64::new(0);
static SLEEP_US: AtomicU64 = AtomicU64::new(0);

static HANDLED: AtomicU64 = AtomicU64::new(0);

/// The record's bytes as they are.
#[derive(Deserialized)]
struct Frame<'a>(&'a [u8]);

/// The third word of the command line.
fn topic() -> String {
    std::env::args().nth(3).unwrap_or_default()
}

#[subscriber(
    KafkaTopic::new(topic())
        .commit(Commit::Tracked)
        .start(StartOffset::Earliest)
        .lane_key(LaneKey::RecordKey)
        .config("fetch.queue.backoff.ms", "5")
)]
async fn count(frame: &Frame<'_>) -> HandlerOutcome {
    black_box(frame.0);
    HANDLED.fetch_add(1, Ordering::Relaxed);
    HandlerOutcome::ack()
}

#[subscriber(
    KafkaTopic::new(topic())
        .commit(Commit::Tracked)
        .start(StartOffset::Earliest)
        .lane_key(LaneKey::RecordKey)
        .config("fetch.queue.backoff.ms", "5")
)]
async fn wait(frame: &Frame<'_>) -> HandlerOutcome {
    black_box(frame.0);
    for _ in 0..SLEEPS.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_micros(SLEEP_US.load(Ordering::Relaxed))).await;
    }
    HANDLED.fetch_add(1, Ordering::Relaxed);
    HandlerOutcome::ack()
}

/// One pass with a service of its own.
pub(crate) async fn pass(
    order: &Order,
    lanes: NonZeroUsize,
    (group, records, time_max): &(String, u64, Duration),
) -> Result<String, Failure> {
    HANDLED.store(0, Ordering::Relaxed);
    let mut lap = Lap::begin();
    let broker = KafkaBroker::new([order.bootstrap.clone()]).default_group(group.clone());
    let service = RustStream::new(AppInfo::new("bench", "0.0.0"));
    let service = match order.handler {
        Handler::Count => service.with_broker(broker, |scope| {
            scope.include(count);
        }),
        Handler::Sleep { times, each } => {
            SLEEPS.store(times.into(), Ordering::Relaxed);
            SLEEP_US.store(u64::try_from(each.as_micros())?, Ordering::Relaxed);
            service.with_broker(broker, |scope| {
                scope.include(wait.workers_by_key(lanes));
            })
        }
        other => return Err(format!("ruststream has no handler for {other:?}").into()),
    };
    let running = service.start().await?;
    let started = Instant::now();
    let mut handled = 0;
    while handled < *records && started.elapsed() < *time_max {
        tokio::time::sleep(Duration::from_millis(1)).await;
        handled = HANDLED.load(Ordering::Relaxed);
        if handled > 0 {
            lap.first();
        }
    }
    let line = lap.end(handled);
    running.shutdown().await?;
    Ok(line)
}
