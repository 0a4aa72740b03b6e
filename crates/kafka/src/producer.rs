//! Durable, ordered production: acks=all, idempotent, records grouped per partition, one promise per batch.
//!
//! A batch is queued whole before [`LogWriter::append`] returns. Its bytes are not copied: the arena stays until the
//! last delivery report.

use crate::ffi::{Flight, Handle, Message, Run, Served, Topic};
use crate::known_topics::KnownTopics;
use crate::reasons::Reasons;
use crate::topics::terms::terms;
use crate::{meaning, partition, parts};
use rdkafka::config::ClientConfig;
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

mod alone;
mod times;

use times::{Settled, Times};
use weir_model::{Fault, FaultKind, TopicName, limits};
use weir_runtime::log::{Job, LogWriter, RecordBatch, TopicTerms};

/// How often partition counts are looked up again (the Java client's `metadata.max.age.ms` is ten times that: here
/// several processes write one topic, and should not disagree for long).
const TOPIC_LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long a call may stay without its reports once librdkafka has said that a partition lost its leader.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// What librdkafka says then.
const LEADERLESS: (&str, &str) = ("METADATAUPDATE", "new leader-1 not found in cache");

/// How long a stopped producer waits for the reports of what it gave up.
const PURGE_WAIT: Duration = Duration::from_secs(5);

/// What librdkafka's own limit of a message (`message.max.bytes`) is above the size of a part: key and headers.
const MESSAGE_ROOM_BYTES: usize = 64 * 1024;

/// librdkafka's own limit when nothing is cut, which is the highest that it takes: whether a record is too large is the
/// broker's to say, by the topic's `max.message.bytes`.
const MESSAGE_BYTES_MAX: usize = 1_000_000_000;

/// Bytes that are sent to a partition at a time, unless one record has more.
const BATCH_BYTES: usize = 1_000_000;

/// What a batch of one part has beside it: batch and record headers, Weir's own headers, a key of ordinary length.
const BATCH_ROOM_BYTES: usize = 1024;

/// Settings of a producer.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Brokers, `host:port,host:port`.
    pub bootstrap: String,
    /// `none`, `lz4`, `zstd`.
    pub compression: String,
    /// How long a record waits for others, ms.
    pub linger_ms: u64,
    /// How long a record may stay unacknowledged, ms.
    pub message_timeout_ms: u64,
    /// Values longer than this are cut in parts of this many bytes ([`parts`]). `None`, the default, cuts nothing: a
    /// record that is larger than its topic takes is refused. Only readers that know the header `weir.part` put parts
    /// together: this library's source, its reader and its tools do, and other clients do not.
    pub part_bytes_max: Option<usize>,
    /// How often the partition counts of known topics are looked up again.
    pub topic_look_every: Duration,
    /// Further settings of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl ProducerConfig {
    /// Defaults for these brokers.
    #[must_use]
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            compression: "lz4".to_owned(),
            linger_ms: 5,
            message_timeout_ms: 40_000,
            part_bytes_max: None,
            topic_look_every: TOPIC_LOOK_EVERY,
            properties: BTreeMap::new(),
        }
    }

    /// The settings as librdkafka takes them.
    ///
    /// # Errors
    /// When a property is one that this library sets itself.
    pub fn client(&self) -> Result<ClientConfig, Fault> {
        const OURS: [(&str, &str); 7] = [
            ("bootstrap.servers", "set bootstrap"),
            ("metadata.broker.list", "set bootstrap"),
            ("acks", "a batch is done only when all in-sync replicas have it: acks is `all` always"),
            (
                "request.required.acks",
                "a batch is done only when all in-sync replicas have it: acks is `all` always",
            ),
            ("enable.idempotence", "order and single writes within a producer rest on it: it is on always"),
            ("message.timeout.ms", "set message_timeout_ms"),
            ("partitioner", "the partition is murmur2 of the key, as the Java client has it"),
        ];
        let mut client = ClientConfig::new();
        for (key, value) in &self.properties {
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == key) {
                let about = format!("properties.\"{key}\"");
                return Err(Fault::new(
                    FaultKind::Config,
                    "W-CONFIG",
                    "take a setting that is not yours to set",
                    about,
                )
                .caused_by(*why));
            }
            client.set(key, value);
        }
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("acks", "all")
            // A missing topic is a fault with a name, not something a broker makes up with its own defaults.
            .set("allow.auto.create.topics", "false")
            .set("enable.idempotence", "true")
            .set("log.queue", "true")
            .set("compression.codec", &self.compression)
            .set("linger.ms", self.linger_ms.to_string())
            .set("message.timeout.ms", self.message_timeout_ms.to_string())
            // Bounded by the byte budget of the calls, not here: a full queue would cut a batch in two.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647");
        let (message_bytes_max, batch_bytes) = match self.part_bytes_max {
            None => (MESSAGE_BYTES_MAX, BATCH_BYTES),
            // Whoever asks for smaller parts has topics that take no larger batches.
            Some(part) => {
                ((part + MESSAGE_ROOM_BYTES).max(BATCH_BYTES), (part + BATCH_ROOM_BYTES).min(BATCH_BYTES))
            }
        };
        let (message_bytes_max, batch_bytes) = (message_bytes_max.to_string(), batch_bytes.to_string());
        for (key, value) in [
            ("batch.size", batch_bytes.as_str()),
            ("batch.num.messages", "100000"),
            ("reconnect.backoff.max.ms", "2000"),
            ("message.max.bytes", &message_bytes_max),
        ] {
            if !self.properties.contains_key(key) {
                client.set(key, value);
            }
        }
        Ok(client)
    }
}

/// Counters of a producer.
#[derive(Debug, Default)]
pub struct ProducerStats {
    /// Records queued, parts counted singly.
    pub records: AtomicU64,
    /// Value bytes queued.
    pub bytes: AtomicU64,
    /// Batches whose every record became durable.
    pub batches_done: AtomicU64,
    /// Batches that failed.
    pub batches_failed: AtomicU64,
    /// Clients of librdkafka replaced, after a fatal error or because records got stuck.
    pub replaced: AtomicU64,
}

/// A producer. Clones share it.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: ProducerConfig,
    client: RwLock<Arc<Client>>,
    /// Writes each record alone; started when a batch was refused for one of its records.
    alone: Mutex<Option<Arc<Client>>>,
    /// What was learned of the timestamps that topics take.
    times: Times,
    stats: Arc<ProducerStats>,
}

/// One librdkafka producer with the threads that serve it.
#[derive(Debug)]
struct Client {
    // Before the handle: fields drop in this order, and librdkafka wants its topics back first.
    topics: KnownTopics,
    handle: Arc<Handle>,
    state: Arc<State>,
    server: Option<std::thread::JoinHandle<()>>,
}

/// What the report thread and the writers tell each other.
#[derive(Debug)]
struct State {
    fatal: AtomicBool,
    stop: AtomicBool,
    /// Why brokers are not reached. librdkafka says "timed out" to whoever waits for a topic or a report meanwhile.
    reasons: Reasons,
    is_leaderless: AtomicBool,
    /// When each batch was queued that is not done, by its number: the first is the oldest.
    open: Mutex<BTreeMap<u64, Instant>>,
    opened: AtomicU64,
}

impl State {
    fn new(bootstrap: &str) -> Self {
        Self {
            fatal: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            reasons: Reasons::new(bootstrap),
            is_leaderless: AtomicBool::new(false),
            open: Mutex::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// A batch is queued from here on; its number.
    fn open(&self) -> u64 {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.open.lock().expect("no panic under this lock").insert(number, Instant::now());
        number
    }

    fn landed(&self, number: u64) {
        self.open.lock().expect("no panic under this lock").remove(&number);
    }

    /// Whether it looks as if librdkafka had lost a partition.
    ///
    /// librdkafka (issue 5430; 2.12.1 to 2.14.1 at least) may not find back to a partition whose leader was away for
    /// seconds: its records time out one after another although all brokers are well. A new client finds it.
    fn is_stuck(&self) -> bool {
        self.is_leaderless.load(Ordering::Acquire) && {
            let open = self.open.lock().expect("no panic under this lock");
            open.first_key_value().is_some_and(|(_, queued)| queued.elapsed() > STUCK_AFTER)
        }
    }

    /// This client is given up and replaced: a record stayed unacknowledged for its whole time, or longer than it
    /// should, and what is queued behind it in its partition must not be written before it comes again.
    fn give_up(&self) {
        if !self.fatal.swap(true, Ordering::AcqRel) {
            tracing::warn!("records were not acknowledged in time: the kafka producer is replaced");
        }
    }

    /// A line of librdkafka's log.
    fn hear(&self, level: i32, facility: &str, text: &str) {
        self.reasons.line(facility, text);
        match level {
            ..=4 => tracing::warn!(facility, text, "librdkafka"),
            5 | 6 => tracing::info!(facility, text, "librdkafka"),
            _ => tracing::debug!(facility, text, "librdkafka"),
        }
        if facility == LEADERLESS.0 && text.contains(LEADERLESS.1) {
            self.is_leaderless.store(true, Ordering::Release);
        }
    }

    /// What an error means, given what was heard from the brokers lately.
    fn fault_of(&self, code: Code, topic: &str) -> Fault {
        self.reasons.explain(fault_of(code, topic), Some(code.into()), topic)
    }
}

impl Client {
    fn start(config: &ProducerConfig) -> Result<Self, Fault> {
        let wrong = |text: String| {
            Fault::new(
                FaultKind::Config,
                "W-CONFIG",
                "configure the Kafka producer",
                config.bootstrap.clone(),
            )
            .caused_by(text)
        };
        let handle = Arc::new(Handle::new(&config.client()?).map_err(wrong)?);
        let state = Arc::new(State::new(&config.bootstrap));
        let server = std::thread::Builder::new()
            .name("weir-reports".to_owned())
            .spawn({
                let (handle, state) = (Arc::clone(&handle), Arc::clone(&state));
                move || serve(&handle, &state)
            })
            .map_err(|error| wrong(error.to_string()))?;
        let topics = KnownTopics::start(Arc::clone(&handle), config.topic_look_every)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self { topics, handle, state, server: Some(server) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Release);
        if let Some(server) = self.server.take() {
            // The thread may drop the last reference itself; it must not wait for itself.
            if server.thread().id() != std::thread::current().id() {
                let _ = server.join();
            }
        }
    }
}

/// The life of the report thread. On stop everything still queued is given up and reported, so that no promise hangs.
fn serve(handle: &Handle, state: &State) {
    let mut is_given_up = false;
    while !state.stop.load(Ordering::Acquire) {
        if state.is_stuck() {
            state.give_up();
        }
        if state.fatal.load(Ordering::Acquire) && !is_given_up {
            is_given_up = true;
            handle.purge();
        }
        match handle.serve(100) {
            Served::Nothing | Served::Reports => {}
            Served::Log(level, facility, text) => state.hear(level, &facility, &text),
            Served::Error(code, text) => {
                tracing::warn!(error = %text, "kafka reports an error");
                state.reasons.event(code.into(), &text);
            }
            Served::Fatal(text) => {
                tracing::error!(error = %text, "the kafka producer is beyond repair and is replaced");
                state.fatal.store(true, Ordering::Release);
            }
        }
    }
    handle.purge();
    // By the clock: reports come in an event for each partition, so turns would not say how much has come.
    let deadline = Instant::now() + PURGE_WAIT;
    while Instant::now() < deadline {
        if handle.queued() == 0 {
            return;
        }
        handle.serve(100);
    }
    tracing::warn!(queued = handle.queued(), "records were given up without a report");
}

impl Producer {
    /// Starts a producer. Brokers are not reached yet.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn start(config: ProducerConfig) -> Result<Self, Fault> {
        let client = RwLock::new(Arc::new(Client::start(&config)?));
        let (alone, times) = (Mutex::default(), Times::default());
        let shared = Shared { config, client, alone, times, stats: Arc::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Counters.
    #[must_use]
    pub fn stats(&self) -> &Arc<ProducerStats> {
        &self.shared.stats
    }

    /// Waits until everything queued is acknowledged or failed, at most so long.
    pub fn flush(&self, wait_max: Duration) {
        let client = Arc::clone(&self.shared.client.read().expect("no panic under this lock"));
        client.handle.flush(i32::try_from(wait_max.as_millis()).unwrap_or(i32::MAX));
    }

    /// The client in use; replaced when it has met a fatal error.
    fn client(&self) -> Result<Arc<Client>, Fault> {
        let client = Arc::clone(&self.shared.client.read().expect("no panic under this lock"));
        if !client.state.fatal.load(Ordering::Acquire) {
            return Ok(client);
        }
        let mut slot = self.shared.client.write().expect("no panic under this lock");
        if slot.state.fatal.load(Ordering::Acquire) {
            let old = std::mem::replace(&mut *slot, Arc::new(Client::start(&self.shared.config)?));
            self.shared.stats.replaced.fetch_add(1, Ordering::Relaxed);
            // Its end waits for reports: not under the lock, and not on a thread that serves others.
            std::thread::spawn(move || drop((client, old)));
        }
        Ok(Arc::clone(&slot))
    }

    /// Queues a batch; with `is_present` all its records get the time of now.
    fn queue(
        &self,
        client: &Client,
        batch: RecordBatch,
        is_present: bool,
    ) -> Result<oneshot::Receiver<Answer>, Fault> {
        let mut topics = Vec::with_capacity(batch.topics.len());
        for name in &batch.topics {
            let state = &client.state;
            let topic = client.topics.get(name, || state.reasons.is_final(name.as_str()).is_some());
            topics.push(topic.map_err(|code| state.fault_of(code, name.as_str()))?);
        }
        let present = self.shared.times.present(&batch.topics, is_present);
        let part_bytes_max = self.shared.config.part_bytes_max.unwrap_or(usize::MAX);
        let placed = place(&batch, &topics);
        let count_of = |len: usize| if len > part_bytes_max { len.div_ceil(part_bytes_max) } else { 1 };
        let count: usize = batch.records.iter().map(|record| count_of(record.value.len())).sum();
        let bytes: u64 = batch.records.iter().map(|record| record.value.len() as u64).sum();
        self.shared.stats.records.fetch_add(count as u64, Ordering::Relaxed);
        self.shared.stats.bytes.fetch_add(bytes, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        if count == 0 {
            let _ = sender.send(Answer { failed: None, batch: None });
            return Ok(receiver);
        }
        // One message more than there are: ours, so that the flight outlives this function.
        let (state, number) = (Arc::clone(&client.state), client.state.open());
        let flight = Flight::new(batch, count + 1, move |failed, batch| {
            state.landed(number);
            let is_kept = |code: &Code| alone::is_about_records(*code) || times::may_be_meant(*code);
            let batch = failed.filter(is_kept).map(|_| batch);
            let _ = sender.send(Answer { failed, batch });
        });
        launch(&client.handle, flight, &placed, (&topics, &present), part_bytes_max);
        Ok(receiver)
    }

    /// Waits for what becomes of a batch.
    async fn settle(&self, queued: Queued, topic: &str) -> Result<(), Fault> {
        let Queued { answer, state, since } = queued;
        match answer.await {
            Ok(Answer { failed: None, .. }) => Ok(()),
            Ok(Answer { failed: Some(code), batch: Some(batch) }) => {
                match self.append_at_present(code, batch, since, topic).await {
                    Settled::Done => Ok(()),
                    Settled::Failed(fault) => Err(fault),
                    Settled::Refused(code, batch) if alone::is_about_records(code) => {
                        self.append_alone(code, batch, topic).await
                    }
                    Settled::Refused(code, _) => Err(self.failed(code, &state, topic)),
                }
            }
            Ok(Answer { failed: Some(code), batch: None }) => Err(self.failed(code, &state, topic)),
            Err(_) => Err(stopped(topic)),
        }
    }

    /// What a batch failed for.
    fn failed(&self, code: Code, state: &State, topic: &str) -> Fault {
        if code == Code::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT {
            state.give_up();
        }
        let client = Arc::clone(&self.shared.client.read().expect("no panic under this lock"));
        let fault = client.state.fault_of(code, topic);
        if fault.code() == "W-KAFKA-TOPIC" {
            // Deleted and made again, perhaps with other partitions: look it up anew.
            client.topics.forget();
        }
        fault
    }
}

/// What became of a batch.
struct Answer {
    failed: Option<Code>,
    /// The batch, when it may have failed for its timestamps or for what one of its records is.
    batch: Option<RecordBatch>,
}

/// A batch on its way.
struct Queued {
    answer: oneshot::Receiver<Answer>,
    state: Arc<State>,
    since: Instant,
}

fn stopped(topic: &str) -> Fault {
    Fault::new(FaultKind::Transient, "W-KAFKA-UNREACHABLE", "write to Kafka", topic)
        .caused_by("the producer was stopped")
}

/// ms since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The timestamp that a record gets: when it was written, unless Kafka would delete or refuse it for that.
const fn timestamp(written_ms: i64, now_ms: i64) -> i64 {
    let is_old = written_ms < now_ms.saturating_sub(limits::RECORD_AGE_MS_MAX);
    let is_ahead = written_ms > now_ms.saturating_add(limits::RECORD_AHEAD_MS_MAX);
    if is_old || is_ahead { now_ms } else { written_ms }
}

/// Topic index, partition and record index, grouped by the first two, order kept within.
type Placed = Vec<(u16, i32, u32)>;

fn place(batch: &RecordBatch, topics: &[Arc<Topic>]) -> Placed {
    let mut placed = Placed::with_capacity(batch.records.len());
    let (mut last_key, mut last_topic, mut last_partition) = (&[][..], u16::MAX, -1);
    let mut sorted = true;
    for (record, index) in batch.records.iter().zip(0u32..) {
        // Without a key there is no order to keep; all of them go the way of the empty key.
        let key = batch.optional(&record.key).unwrap_or_default();
        if record.topic != last_topic || key != last_key {
            let partition_count =
                topics.get(usize::from(record.topic)).map_or(1, |topic| topic.partition_count);
            let partition = partition::of_key(key, partition_count);
            sorted &= placed
                .last()
                .is_none_or(|last: &(u16, i32, u32)| (last.0, last.1) <= (record.topic, partition));
            (last_key, last_topic, last_partition) = (key, record.topic, partition);
        }
        placed.push((record.topic, last_partition, index));
    }
    if !sorted {
        placed.sort_by_key(|(topic, partition, _)| (*topic, *partition));
    }
    placed
}

fn launch(
    handle: &Handle,
    flight: Box<Flight>,
    placed: &Placed,
    (topics, present): (&[Arc<Topic>], &[bool]),
    part_bytes_max: usize,
) {
    crate::ffi::with_flight(flight, |pointer, batch| {
        let mut run = Run::new(handle, pointer);
        let now_ms = now_ms();
        for (topic_index, partition, index) in placed {
            let record = &batch.records[*index as usize];
            let topic = &topics[usize::from(*topic_index)];
            let (key, value) = (batch.optional(&record.key), batch.optional(&record.value));
            let is_present = present.get(usize::from(*topic_index)).is_some_and(|present| *present);
            let timestamp_ms = if is_present { now_ms } else { timestamp(record.timestamp_ms, now_ms) };
            let message = |value| Message { partition: *partition, key, value, timestamp_ms };
            let headers = batch.headers[record.headers.start as usize..record.headers.end as usize]
                .iter()
                .map(|header| (&*header.name, batch.optional(&header.value)));
            let Some(whole) = value.filter(|value| value.len() > part_bytes_max) else {
                run.hand_over(topic, &message(value), headers);
                continue;
            };
            for (part, bytes) in parts::cut(whole, part_bytes_max) {
                let text = part.header();
                let mut all: Vec<(&str, Option<&[u8]>)> = headers.clone().collect();
                all.push((parts::HEADER, Some(text.as_bytes())));
                run.hand_over(topic, &message(Some(bytes)), all.into_iter());
            }
        }
    });
}

impl LogWriter for Producer {
    fn terms(&self, topic: &TopicName) -> Option<TopicTerms> {
        let config = &self.shared.config;
        let mut terms = terms(&config.bootstrap, &config.properties, topic.as_str())?;
        if config.part_bytes_max.is_some() {
            // What is larger is cut.
            terms.record_bytes_max = None;
        }
        Some(terms)
    }

    fn append(&self, batch: RecordBatch) -> Job<'static, ()> {
        let topic = batch.topics.first().map(ToString::to_string).unwrap_or_default();
        let queued = self.client().and_then(|client| {
            let answer = self.queue(&client, batch, false)?;
            Ok(Queued { answer, state: Arc::clone(&client.state), since: Instant::now() })
        });
        let queued = match queued {
            Err(fault) => {
                self.shared.stats.batches_failed.fetch_add(1, Ordering::Relaxed);
                return Box::pin(std::future::ready(Err(fault)));
            }
            Ok(queued) => queued,
        };
        let this = self.clone();
        Box::pin(async move {
            let ended = this.settle(queued, &topic).await;
            let stats = &this.shared.stats;
            let count = if ended.is_ok() { &stats.batches_done } else { &stats.batches_failed };
            count.fetch_add(1, Ordering::Relaxed);
            ended
        })
    }
}

/// What an error of librdkafka means to us.
pub(crate) fn fault_of(code: Code, topic: &str) -> Fault {
    meaning::fault(code.into(), "write to Kafka", topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_its_write_time_unless_that_is_old_or_ahead() {
        let now_ms = 1_800_000_000_000;
        for (written_ms, expect) in [
            (now_ms, now_ms),
            (now_ms - 3_600_000, now_ms - 3_600_000),
            (now_ms - 3_600_001, now_ms),
            (0, now_ms),
            (i64::MIN, now_ms),
            (now_ms + 60_000, now_ms + 60_000),
            (now_ms + 60_001, now_ms),
            (i64::MAX, now_ms),
        ] {
            assert_eq!(timestamp(written_ms, now_ms), expect, "{written_ms}");
        }
    }
}
