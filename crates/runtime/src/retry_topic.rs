//! Retries through a topic, as Decaton has them: what failed is written to `<topic>-retry` with the time of its next
//! attempt, and its offset is done when that is durable. In place is the default, because this gives up the order of a
//! key; it frees the partition's window, and a Decaton consumer may be on either side.
//!
//! A record that comes with a time waits for it on a timer: no worker is held and other keys go on.

use crate::dead_letter;
use crate::decaton::{HEADER, TaskMetadata, TaskRequest};
use crate::log::{HeaderSpan, Job, LogWriter, RecordBatch, RecordSpan};
use crate::record::{Header, Record};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use weir_model::{Fault, FaultKind, TopicName};

/// What a retry topic's name ends with, unless it is named.
pub const SUFFIX: &str = "-retry";

/// Header: when the record failed first, ms since 1970; what `RetryPolicy::age_max` counts from. Decaton keeps it.
pub const SINCE: &str = "retry.since";

/// The longest wait for a record's time; beyond what timers can do, and nobody means it.
const WAIT_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Retries through a topic. The consumer's source must read that topic, too, or another consumer does.
#[derive(Clone)]
pub struct RetryTopic {
    writer: Option<Arc<dyn LogWriter>>,
    topic: Option<TopicName>,
    reads_requests: bool,
    clock: WallClock,
}

impl fmt::Debug for RetryTopic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = out.debug_struct("RetryTopic");
        out.field("writes", &self.writer.is_some()).field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// What a record's own metadata says about its handling.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Opened {
    /// Until its time comes.
    pub(crate) wait: Duration,
    /// Since its first failure, when it is known.
    pub(crate) age: Option<Duration>,
}

impl RetryTopic {
    /// What fails goes to the topic of the record's own name and `-retry`; what fails there comes there again.
    #[must_use]
    pub fn new(writer: Arc<dyn LogWriter>) -> Self {
        Self { writer: Some(writer), topic: None, reads_requests: false, clock: WallClock::new() }
    }

    /// Writes nothing: minds the times and attempts that records come with, and tries what fails again in place. For
    /// what is left in a retry topic.
    #[must_use]
    pub fn reading() -> Self {
        Self { writer: None, topic: None, reads_requests: false, clock: WallClock::new() }
    }

    /// What fails goes to this topic.
    #[must_use]
    pub fn topic(mut self, topic: TopicName) -> Self {
        self.topic = Some(topic);
        self
    }

    /// A record without the header `dt_meta` is metadata and task in one, as Decaton up to 8.x writes it: the handler is
    /// given the task. Only for topics that hold nothing else, because other bytes may look the same.
    #[must_use]
    pub const fn reads_requests(mut self) -> Self {
        self.reads_requests = true;
        self
    }

    /// Whether a topic is one that holds retries.
    pub(crate) fn is(&self, topic: &str) -> bool {
        self.topic.as_ref().map_or_else(|| topic.ends_with(SUFFIX), |chosen| chosen.as_str() == topic)
    }

    /// The topics that records of these topics are retried through, and who writes there; none when nothing is written.
    pub(crate) fn targets(&self, topics: &[String]) -> Option<(&dyn LogWriter, Vec<TopicName>)> {
        let writer = self.writer.as_deref()?;
        let beside = |topic: &String| TopicName::new(&format!("{topic}{SUFFIX}")).ok();
        let targets = match &self.topic {
            Some(topic) => vec![topic.clone()],
            None => topics.iter().filter(|topic| !topic.ends_with(SUFFIX)).filter_map(beside).collect(),
        };
        Some((writer, targets))
    }

    pub(crate) const fn writes(&self) -> bool {
        self.writer.is_some()
    }

    /// Reads what the record comes with, sets its attempt, and unwraps it if it is a request.
    ///
    /// # Errors
    /// With the reason when it cannot be read: the record must not be handled as if it said nothing.
    pub(crate) fn open(&self, record: &mut Record) -> Result<Opened, String> {
        let damaged = |what: &str, error| format!("{what} cannot be read: {error}");
        let metadata = match TaskMetadata::of(record).map_err(|error| damaged("the header dt_meta", error))? {
            Some(metadata) => metadata,
            None if self.reads_requests => {
                let value = record.value_bytes().unwrap_or_default();
                let request =
                    TaskRequest::decode(&value).map_err(|error| damaged("the task request", error))?;
                let header = Header { name: HEADER.into(), value: Some(request.metadata.encode().into()) };
                let headers = record.headers().iter().cloned().chain([header]).collect();
                *record = record.clone().with_value(Some(request.task)).with_headers(headers);
                request.metadata
            }
            None => return Ok(Opened::default()),
        };
        record.attempt = u32::try_from(metadata.retry_count.max(0)).unwrap_or(u32::MAX).saturating_add(1);
        let now_ms = self.clock.now_ms();
        let from_now = |ms: i64| u64::try_from(ms.saturating_sub(now_ms)).unwrap_or(0);
        let since_ms =
            record.header(SINCE).and_then(|value| std::str::from_utf8(value).ok()?.parse::<i64>().ok());
        Ok(Opened {
            wait: Duration::from_millis(from_now(metadata.scheduled_ms)).min(WAIT_MAX),
            age: since_ms
                .map(|since| Duration::from_millis(u64::try_from(now_ms.saturating_sub(since)).unwrap_or(0))),
        })
    }

    /// A time that far from now, ms since 1970.
    pub(crate) fn due_ms(&self, wait: Duration) -> i64 {
        self.clock.now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    /// Writes a record for another attempt at that time, after one that failed; `age` is the time since the first.
    pub(crate) fn write(&self, record: &Record, due_ms: i64, age: Duration) -> Job<'static, ()> {
        let Some(writer) = &self.writer else { unreachable!("only what writes is given a record") };
        match self.batch(record, due_ms, age) {
            Ok(batch) => writer.append(batch),
            Err(fault) => Box::pin(std::future::ready(Err(fault))),
        }
    }

    fn batch(&self, record: &Record, due_ms: i64, age: Duration) -> Result<RecordBatch, Fault> {
        let topic = match &self.topic {
            Some(topic) => topic.clone(),
            None if record.topic.ends_with(SUFFIX) => named(&record.topic)?,
            None => named(&format!("{}{SUFFIX}", record.topic))?,
        };
        // A header that cannot be read never comes here; a record without one is as Decaton sees it: of its own time.
        let before = TaskMetadata::of(record).ok().flatten();
        let before = before
            .unwrap_or_else(|| TaskMetadata { timestamp_ms: record.timestamp_ms, ..TaskMetadata::default() });
        let metadata =
            TaskMetadata { retry_count: i64::from(record.attempt), scheduled_ms: due_ms, ..before };
        let mut batch = RecordBatch { topics: vec![topic], ..RecordBatch::default() };
        let key = batch.put_optional(record.key());
        let value = batch.put_optional(record.value());
        for header in record.headers().iter().filter(|header| &*header.name != HEADER) {
            let value = batch.put_optional(header.value.as_deref());
            batch.headers.push(HeaderSpan { name: header.name.to_string().into(), value });
        }
        let now_ms = self.clock.now_ms();
        if record.header(SINCE).is_none() {
            let since_ms = now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
            let value = batch.put(since_ms.to_string().as_bytes());
            batch.headers.push(HeaderSpan { name: SINCE.into(), value });
        }
        // A dead letter at the end of the way says where and when the record was written first.
        for (name, text) in [
            (dead_letter::ORIGIN, dead_letter::origin(record)),
            (dead_letter::TIMESTAMP, dead_letter::written_ms(record).to_string()),
        ] {
            if record.header(name).is_none() {
                let value = batch.put(text.as_bytes());
                batch.headers.push(HeaderSpan { name: name.into(), value });
            }
        }
        let value_of_header = batch.put(&metadata.encode());
        batch.headers.push(HeaderSpan { name: HEADER.into(), value: value_of_header });
        let headers = 0..u32::try_from(batch.headers.len()).expect("fewer headers than 4 Gi");
        // Its own time is in the metadata; this one keeps it from the topic's retention.
        batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms: now_ms });
        Ok(batch)
    }
}

fn named(topic: &str) -> Result<TopicName, Fault> {
    TopicName::new(topic).map_err(|error| {
        Fault::new(FaultKind::Config, "W-CONFIG", "name a retry topic", topic).caused_by(error)
    })
}

/// The time of day, which other programs must agree on, so that it is the system's; and tokio's where a test moves that.
#[derive(Clone, Copy)]
struct WallClock {
    real: std::time::Instant,
    tokio: Instant,
}

impl WallClock {
    fn new() -> Self {
        Self { real: std::time::Instant::now(), tokio: Instant::now() }
    }

    /// ms since 1970.
    fn now_ms(self) -> i64 {
        let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // What a test let pass without waiting for it; nothing otherwise.
        let jumped = self.tokio.elapsed().saturating_sub(self.real.elapsed());
        i64::try_from((today + jumped).as_millis()).unwrap_or(i64::MAX)
    }
}
