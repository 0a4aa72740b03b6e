//! Weir in its own process, asked while it runs: latency since records were due, members that come and go, a record
//! that is stuck.

use crate::checker::Checker;
use crate::weir_side::{Failure, STOP_MAX, Scraper, consumer};
use hdrhistogram::Histogram;
use std::io::BufRead as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_runtime::consumer::{Consumer, Running};
use weir_runtime::record::Record;

/// Latencies since records were due, us: of the hot key, of all others; and what the handler itself took.
pub(crate) struct Latencies([Mutex<Histogram<u64>>; 3]);

impl Latencies {
    pub(crate) fn new() -> Result<Self, Failure> {
        let empty = || Histogram::new_with_bounds(1, 600_000_000, 3).map(Mutex::new);
        Ok(Self([empty()?, empty()?, empty()?]))
    }

    fn at(&self, index: usize) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, is_hot: bool) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.at(usize::from(!is_hot))
    }

    pub(crate) fn forget(&self) {
        (0..self.0.len()).for_each(|index| self.at(index).reset());
    }

    /// A handler began this long ago.
    fn handled(&self, began: Instant) {
        self.at(2).saturating_record((began.elapsed().as_micros() as u64).max(1));
    }

    /// A record with this key and value is where it should be.
    pub(crate) fn record(&self, key: Option<&[u8]>, value: Option<&[u8]>) {
        let due = value.and_then(|value| value.first_chunk()).map(|due| u64::from_le_bytes(*due));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64;
        let is_hot = key == Some(b"0000000000000000");
        let late_us = now.saturating_sub(due.unwrap_or(now)).max(1);
        self.of(is_hot).saturating_record(late_us);
    }

    pub(crate) fn line(&self) -> String {
        let one = |name: &str, is_hot| {
            let all = self.of(is_hot);
            let ms = |us: u64| us as f64 / 1000.0;
            format!(
                "{name}count {} {name}p50 {} {name}p99 {} {name}p999 {} {name}max {}",
                all.len(),
                ms(all.value_at_quantile(0.5)),
                ms(all.value_at_quantile(0.99)),
                ms(all.value_at_quantile(0.999)),
                ms(all.max())
            )
        };
        let handler_us = self.at(2).value_at_quantile(0.99);
        format!("{} {} handler_p99 {}", one("", false), one("hot_", true), handler_us as f64 / 1000.0)
    }
}

struct Shared {
    latencies: Latencies,
    checker: Checker,
    each: Duration,
    /// The record of partition 0 that never ends.
    stuck: Option<i64>,
}

async fn start(consumer: Consumer, shared: &Arc<Shared>) -> Result<Running, Failure> {
    let shared = Arc::clone(shared);
    let handler = move |record: Record| {
        let shared = Arc::clone(&shared);
        async move {
            if record.partition == 0 && Some(record.offset) == shared.stuck {
                std::future::pending::<()>().await;
            }
            shared.checker.begun(&record);
            let began = Instant::now();
            if !shared.each.is_zero() {
                tokio::time::sleep(shared.each).await;
            }
            shared.latencies.handled(began);
            shared.latencies.record(record.key(), record.value());
            shared.checker.done(&record);
        }
    };
    Ok(consumer.start(handler).await?)
}

/// What a member is told when it starts.
pub(crate) struct Setting {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) each: Duration,
    pub(crate) stuck: Option<i64>,
    pub(crate) keeps_map: bool,
}

impl Setting {
    pub(crate) fn words(&self) -> [String; 6] {
        let stuck = self.stuck.map_or_else(|| "-".to_owned(), |offset| offset.to_string());
        let each = self.each.as_micros().to_string();
        [
            self.bootstrap.clone(),
            self.topic.clone(),
            self.group.clone(),
            each,
            stuck,
            self.keeps_map.to_string(),
        ]
    }

    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let [bootstrap, topic, group, each, stuck, keeps_map] = words else { return None };
        Some(Self {
            bootstrap: (*bootstrap).to_owned(),
            topic: (*topic).to_owned(),
            group: (*group).to_owned(),
            each: Duration::from_micros(each.parse().ok()?),
            stuck: stuck.parse().ok(),
            keeps_map: keeps_map.parse().ok()?,
        })
    }

    fn consumer(&self) -> Result<Consumer, Failure> {
        let consumer = consumer(&self.bootstrap, &self.topic, &self.group)?;
        Ok(if self.keeps_map { consumer } else { consumer.metadata_bytes_max(0) })
    }
}

/// The child. Orders: `counts`, `latencies`, `forget`, `join`, `leave`, `checks`.
pub(crate) async fn run(setting: Setting) -> Result<(), Failure> {
    let shared = Arc::new(Shared {
        latencies: Latencies::new()?,
        checker: Checker::default(),
        each: setting.each,
        stuck: setting.stuck,
    });
    let running = start(setting.consumer()?, &shared).await?;
    let mut scraper = Scraper::new(&running);
    let (order, mut orders) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).all(|line| order.blocking_send(line).is_ok())
    });
    let mut second = None;
    let mut left = 0;
    loop {
        let order = match tokio::time::timeout(Duration::from_secs(1), orders.recv()).await {
            Err(_) => {
                scraper.turn()?;
                continue;
            }
            Ok(None) => break,
            Ok(Some(order)) => order,
        };
        let done = |second: &Option<Running>| {
            running.counts().done + left + second.as_ref().map_or(0, |running| running.counts().done)
        };
        match order.as_str() {
            "counts" => println!("done {}", done(&second)),
            "latencies" => println!("{}", shared.latencies.line()),
            "forget" => {
                shared.latencies.forget();
                shared.checker.forget_pauses();
                println!("ok");
            }
            "join" => {
                second = Some(start(setting.consumer()?, &shared).await?);
                println!("ok");
            }
            "leave" => {
                if let Some(running) = second.take() {
                    left += running.stop(STOP_MAX).await?.done;
                }
                println!("ok");
            }
            "checks" => println!(
                "pause_ms_max {} duplicates {} order_violations {} distinct {}",
                shared.checker.pause_ms_max(),
                shared.checker.duplicates(),
                shared.checker.violations(),
                shared.checker.distinct()
            ),
            other => return Err(format!("not an order: {other}").into()),
        }
    }
    Ok(())
}
