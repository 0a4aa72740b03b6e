//! The life of librdkafka's client: made, served, given up when it is stuck, and left.

use super::committed::GroupCommits;
use super::complaints::Complaints;
use super::{
    Context, KafkaSource, LEAVE_WAIT, Protocol, Told, Unread, checks, denied, is_denied, leave_group,
    patterns, trouble,
};
use crate::ffi::consumer::{CommitQueue, end_left, waiting};
use crate::reader::EVENTS_MAX;
use crate::reasons::Reasons;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::source::{Event, Obstacle};

impl KafkaSource {
    /// Makes a client that has not joined yet.
    pub(super) fn make(&self) -> Result<Arc<BaseConsumer<Context>>, Fault> {
        let context = Context {
            is_incremental: self.config.protocol != Protocol::Eager,
            noted: Mutex::default(),
            is_closing: AtomicBool::new(false),
            reasons: Reasons::new(&self.config.bootstrap),
            told: Mutex::default(),
        };
        let made = self.config.client()?.create_with_context(context);
        let mut consumer: BaseConsumer<Context> =
            made.map_err(|error| checks::refused(error, &self.config.bootstrap))?;
        consumer.set_nonempty_callback({
            let wake = self.wake.clone();
            move || wake.wake()
        });
        Ok(Arc::new(consumer))
    }

    /// Starts the thread that asks the brokers for a client.
    pub(super) fn ask(&self, consumer: &Arc<BaseConsumer<Context>>) -> Result<GroupCommits, Fault> {
        // A topic that only a pattern matches is looked at when the group assigns it.
        let named = self.config.topics.iter().filter(|topic| !patterns::is_pattern(topic));
        let topics: Vec<String> = named.cloned().collect();
        GroupCommits::start(Arc::clone(consumer), &self.wake, &topics, self.config.start_at).map_err(
            |error| {
                Fault::new(FaultKind::Transient, "W-RUNTIME-ENDED", "start a thread", "").caused_by(error)
            },
        )
    }

    /// Joins the group with this client.
    pub(super) fn join(
        &mut self,
        consumer: Arc<BaseConsumer<Context>>,
        committed: GroupCommits,
    ) -> Result<(), Fault> {
        let topics: Vec<&str> = self.config.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| checks::refused(error, &self.config.bootstrap))?;
        let client = consumer.client().native_ptr();
        (self.commits, self.committed) = (Some(CommitQueue::new(client, &self.wake)), Some(committed));
        self.positions = Some(CommitQueue::new(client, &self.wake));
        self.consumer = Some(consumer);
        Ok(())
    }

    /// Serves librdkafka's events until there are no more; a call of `poll` serves one.
    pub(super) fn serve(&mut self, consumer: &BaseConsumer<Context>, events: &mut Vec<Event>) {
        let client = consumer.client().native_ptr();
        for _ in 0..EVENTS_MAX {
            match consumer.poll(Duration::ZERO) {
                None if waiting(client) == 0 => return,
                None => {}
                Some(polled) => self.on_polled(polled, events),
            }
        }
        self.wake.wake();
    }

    fn on_polled(&self, polled: Result<BorrowedMessage<'_>, KafkaError>, events: &mut Vec<Event>) {
        events.push(match polled {
            Err(KafkaError::MessageConsumptionFatal(code)) => {
                let fault = Fault::new(
                    FaultKind::Config,
                    "W-KAFKA-REJECTED",
                    "stay in the group",
                    &self.config.group,
                );
                Event::Ended(fault.caused_by(code.to_string()))
            }
            Err(KafkaError::MessageConsumption(code)) if is_denied(code) => {
                Event::Ended(denied(&self.config.group, code))
            }
            Err(error) => Event::Trouble(trouble(&error, "consume")),
            Ok(message) => {
                let about = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
                let fault =
                    Fault::new(FaultKind::Corrupt, "W-RUNTIME-ENDED", "read a partition's own queue", about);
                Event::Ended(fault.caused_by("a record went astray into the group's queue"))
            }
        });
    }

    /// Takes what librdkafka told of itself, and gives the client up when it is stuck.
    pub(super) fn watch(&mut self, consumer: &BaseConsumer<Context>, events: &mut Vec<Event>) {
        let told =
            std::mem::take(&mut *consumer.context().told.lock().unwrap_or_else(PoisonError::into_inner));
        let Told { errors, statistics } = told;
        let now = Instant::now();
        errors.iter().for_each(|(code, text)| self.complaints.hear(*code, text, now));
        let Some(statistics) = statistics else { return };
        let own =
            self.own.iter().filter(|(_, own)| !own.is_damaged).map(|(place, _)| place.clone()).collect();
        self.complaints.see(&statistics, &own, self.config.protocol != Protocol::Consumer, now);
        let sick = self.complaints.sick(self.doctor.patience(), now);
        if sick.is_none() && !self.own.is_empty() {
            self.doctor.works();
        }
        let is_stuck = self.doctor.is_stuck(sick, now);
        for (topic, why) in self.doctor.missing() {
            self.complaints.is_missing(topic, why);
        }
        if is_stuck {
            self.give_up(events);
        }
    }

    /// What keeps records back.
    pub(super) fn told_obstacles(&self) -> Vec<Obstacle> {
        let reason = self.consumer.as_ref().and_then(|consumer| consumer.context().reasons.last());
        let mut all = self.complaints.all(&self.config.group, reason.as_deref(), Instant::now());
        if self.is_replacing {
            let text = "the Kafka client is stuck though the brokers answer; it is being replaced".to_owned();
            all.push(Obstacle { place: None, text, lasts: Duration::ZERO, is_final: true });
        }
        all
    }

    /// Leaves a client to itself. What it had is lost, and a new client begins when the runtime has released that.
    fn give_up(&mut self, events: &mut Vec<Event>) {
        let all = self.complaints.all(&self.config.group, None, Instant::now());
        let why: Vec<String> = all.into_iter().map(|one| one.text).collect();
        tracing::warn!(
            group = self.config.group,
            why = why.join("; "),
            "the Kafka client is stuck though the brokers answer: it is replaced"
        );
        self.orphans = self.own.keys().cloned().chain(std::mem::take(&mut self.unread.places)).collect();
        if !self.orphans.is_empty() {
            events.push(Event::Lost(self.orphans.iter().cloned().collect()));
        }
        // Nobody waits for its end: it may take a minute, or for ever.
        drop(self.leave());
        self.is_replacing = true;
    }

    /// Begins with a new client.
    pub(super) fn come_back(&mut self, events: &mut Vec<Event>) {
        if !self.orphans.is_empty() {
            return;
        }
        self.is_replacing = false;
        self.complaints = Complaints::default();
        let joined = self.make().and_then(|consumer| {
            let committed = self.ask(&consumer)?;
            self.join(consumer, committed)
        });
        if let Err(fault) = joined {
            // What was made once is refused only when the machine has no thread left.
            events.push(Event::Ended(fault));
        }
    }

    /// Has the client leave the group, on a thread of its own: what is told when it has left.
    fn leave(&mut self) -> Option<Receiver<()>> {
        self.own.clear();
        self.errors.clear();
        self.refused.clear();
        self.unread = Unread::default();
        self.misplaced.clear();
        self.maps.forget_sent();
        self.is_asking = false;
        (self.commits, self.positions) = (None, None);
        let committed = self.committed.take().map(GroupCommits::end);
        let consumer = self.consumer.take()?;
        consumer.context().is_closing.store(true, Ordering::Release);
        let (left, has_left) = mpsc::sync_channel(1);
        // A lender of its own for the next client: what is lent belongs to this one.
        let lender = std::mem::take(&mut self.lender);
        let lent = lender.clone();
        // Taken by the thread, or by us when there is none to be had.
        let handed = Arc::new(Mutex::new(Some(consumer)));
        let hand = Arc::clone(&handed);
        let take = |hand: &Mutex<Option<_>>| hand.lock().unwrap_or_else(PoisonError::into_inner).take();
        let leave = move || {
            let Some(consumer) = take(&hand) else { return };
            // It may have a question under way, and holds on to the consumer meanwhile.
            let _ = committed.map(std::thread::JoinHandle::join);
            if lender.is_out() {
                // Somebody keeps a record: the group is left now, the rest ends with that record.
                leave_group(&consumer);
                let _ = left.send(());
                lender.wait();
                end_left(consumer);
                return;
            }
            // Leaves the group, and waits for its answer.
            drop(consumer);
            // Nobody may wait for it any more.
            let _ = left.send(());
        };
        let spawned = std::thread::Builder::new().name("weir-leave".to_owned()).spawn(leave);
        if let Err(error) = spawned {
            tracing::warn!(%error, "the group is left on the caller's own thread");
            if let Some(consumer) = take(&handed)
                && lent.is_out()
            {
                leave_group(&consumer);
                // Nobody is there to wait for it, and what is lent must not lose its client.
                std::mem::forget(consumer);
            }
            return None;
        }
        Some(has_left)
    }

    /// Leaves the group and waits for its answer.
    pub(super) fn leave_within(&mut self, wait_max: Duration) {
        self.is_replacing = false;
        let Some(has_left) = self.leave() else { return };
        if has_left.recv_timeout(wait_max.min(LEAVE_WAIT)).is_err() {
            tracing::warn!(
                group = self.config.group,
                "the group does not answer; it is left when it does, or when the session ends"
            );
        }
    }
}
