//! The topics that a producer writes to: looked up once, and their partition counts again from time to time.
//!
//! Partitions may be added to a topic at any time. The Java client notices, so we do: else a restarted process would
//! map the same key to another partition than one that has run for long.

use crate::ffi::{Handle, Topic};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weir_model::TopicName;

/// How long a look-up may take, and how long its failure is remembered.
const LOOK_WAIT_MS: i32 = 3000;

type Topics = RwLock<HashMap<TopicName, Arc<Topic>>>;

/// Look-ups that failed of late.
#[derive(Debug, Default)]
struct Missing {
    topics: HashMap<TopicName, (Code, Instant)>,
    /// The brokers did not answer at all: no use in asking for the next topic yet.
    away: Option<(Code, Instant)>,
}

impl Missing {
    /// Why there is no use in asking for this topic now.
    fn of(&self, name: &TopicName) -> Option<Code> {
        let memory = Duration::from_millis(LOOK_WAIT_MS.unsigned_abs().into());
        let lately = |(code, at): &(Code, Instant)| (at.elapsed() < memory).then_some(*code);
        self.away.as_ref().and_then(lately).or_else(|| self.topics.get(name).and_then(lately))
    }
}

/// The known topics of one librdkafka client, with the thread that looks them up again.
#[derive(Debug)]
pub(crate) struct KnownTopics {
    handle: Arc<Handle>,
    topics: Arc<Topics>,
    missing: Mutex<Missing>,
    stop: Arc<AtomicBool>,
    looker: Option<JoinHandle<()>>,
}

impl KnownTopics {
    /// None yet; those to come are looked up again every so often.
    pub(crate) fn start(handle: Arc<Handle>, look_every: Duration) -> std::io::Result<Self> {
        let (topics, stop) = (Arc::<Topics>::default(), Arc::new(AtomicBool::new(false)));
        let looker = std::thread::Builder::new().name("weir-topics".to_owned()).spawn({
            let (handle, topics, stop) = (Arc::clone(&handle), Arc::clone(&topics), Arc::clone(&stop));
            move || {
                let mut next = Instant::now() + look_every;
                while !stop.load(Ordering::Acquire) {
                    let now = Instant::now();
                    if now < next {
                        std::thread::park_timeout(next - now);
                        continue;
                    }
                    look_again(&handle, &topics, &stop);
                    next = Instant::now() + look_every;
                }
            }
        })?;
        Ok(Self { handle, topics, missing: Mutex::default(), stop, looker: Some(looker) })
    }

    /// The topic's handle. The first look-up of a topic waits for the brokers, off the async threads' books; a
    /// failure is remembered for a while, so that calls of a missing topic fail at once.
    /// The brokers are not waited for once `is_hopeless` says that no waiting heals what stands in the way.
    pub(crate) fn get(&self, name: &TopicName, is_hopeless: impl Fn() -> bool) -> Result<Arc<Topic>, Code> {
        match self.known(name) {
            Some(topic) => Ok(topic),
            None => off_the_books(|| self.look_up(name, is_hopeless)),
        }
    }

    fn known(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.topics.read().expect("no panic under this lock").get(name).map(Arc::clone)
    }

    fn look_up(&self, name: &TopicName, is_hopeless: impl Fn() -> bool) -> Result<Arc<Topic>, Code> {
        // Held throughout: many calls of one new topic are one question.
        let mut missing = self.missing.lock().expect("no panic under this lock");
        if let Some(topic) = self.known(name) {
            return Ok(topic);
        }
        if let Some(code) = missing.of(name) {
            return Err(code);
        }
        match self.ask(name, is_hopeless) {
            Ok(topic) => {
                let topic = Arc::new(topic);
                missing.topics.remove(name);
                missing.away = None;
                let mut topics = self.topics.write().expect("no panic under this lock");
                topics.insert(name.clone(), Arc::clone(&topic));
                Ok(topic)
            }
            Err(code) => {
                if is_away(code) {
                    missing.away = Some((code, Instant::now()));
                } else {
                    missing.topics.insert(name.clone(), (code, Instant::now()));
                }
                Err(code)
            }
        }
    }

    /// Asks in ever longer tries, so that a reason that is final ends the waiting.
    fn ask(&self, name: &TopicName, is_hopeless: impl Fn() -> bool) -> Result<Topic, Code> {
        let (began, mut wait_ms) = (Instant::now(), LOOK_WAIT_MS / 12);
        loop {
            let tried = Instant::now();
            let spent_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(LOOK_WAIT_MS);
            let left_ms = LOOK_WAIT_MS - spent_ms;
            match self.handle.topic(name.as_str(), wait_ms.min(left_ms).max(1)) {
                Err(code) if is_away(code) && left_ms > wait_ms && !is_hopeless() => {
                    // It does not wait when it knows of no broker.
                    let rest = Duration::from_millis(100).saturating_sub(tried.elapsed());
                    std::thread::sleep(rest);
                    wait_ms *= 2;
                }
                answer => return answer,
            }
        }
    }

    /// Forgets all: the next call looks them up anew.
    pub(crate) fn forget(&self) {
        self.topics.write().expect("no panic under this lock").clear();
    }
}

const fn is_away(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__TIMED_OUT
            | Code::RD_KAFKA_RESP_ERR__TRANSPORT
            | Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
    )
}

/// A blocking call from an async worker: its other tasks go to another thread meanwhile.
fn off_the_books<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle as Runtime, RuntimeFlavor};
    match Runtime::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Asks for each topic's partition count, and takes over what has changed. A failed question changes nothing.
fn look_again(handle: &Handle, topics: &Topics, stop: &AtomicBool) {
    let known: Vec<(TopicName, i32)> = topics
        .read()
        .expect("no panic under this lock")
        .iter()
        .map(|(name, topic)| (name.clone(), topic.partition_count))
        .collect();
    for (name, partition_count) in known {
        if stop.load(Ordering::Acquire) {
            return;
        }
        let Ok(topic) = handle.topic(name.as_str(), LOOK_WAIT_MS) else { continue };
        if topic.partition_count == partition_count {
            continue;
        }
        tracing::warn!(topic = %name, before = partition_count, now = topic.partition_count, "the topic's partitions have changed: keys move to other partitions from here on");
        let mut topics = topics.write().expect("no panic under this lock");
        if let Some(slot) = topics.get_mut(&name) {
            *slot = Arc::new(topic);
        }
    }
}

impl Drop for KnownTopics {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(looker) = self.looker.take() {
            looker.thread().unpark();
            let _ = looker.join();
        }
    }
}
