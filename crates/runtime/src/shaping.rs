//! Records that are over their key's quota, on their way to another topic: the shaping topic, or the dead letters.
//!
//! A record is done here when its copy is durable. A copy that cannot be written keeps its record pending and is written
//! again, where Decaton completes it and so loses it; an answer that is lost makes two of one.

use crate::assignment::{Assignment, Trouble};
use crate::dead_letter::{self, DeadLetters, Told};
use crate::ending;
use crate::lane::LaneMap;
use crate::log::{HeaderSpan, Job, LogWriter, RecordBatch, RecordSpan};
use crate::mailbox::Work;
use crate::quota::{OverQuota, Quota};
use crate::record::Record;
use crate::retry::{Chance, RetryPolicy};
use crate::stats::Counts;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};
use weir_model::{Fault, FaultKind, TopicName, limits};

/// What is added to a topic's name, as Decaton has it.
pub const SUFFIX: &str = "-shaping";

/// Header: where it was, `topic/partition/offset`.
pub const PLACE: &str = "shaped.place";

/// Where records go that are over their key's quota.
#[derive(Clone)]
pub struct Shaping {
    writer: Arc<dyn LogWriter>,
    topic: Option<TopicName>,
}

impl fmt::Debug for Shaping {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Shaping").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Shaping {
    /// To the topic of each record's topic with `-shaping` behind its name, which must be there. Records of such topics
    /// themselves have no quota.
    #[must_use]
    pub fn new(writer: Arc<dyn LogWriter>) -> Self {
        Self { writer, topic: None }
    }

    /// To this topic. Records of that topic have no quota.
    #[must_use]
    pub fn to_topic(writer: Arc<dyn LogWriter>, topic: TopicName) -> Self {
        Self { writer, topic: Some(topic) }
    }

    pub(crate) fn writer(&self) -> &dyn LogWriter {
        &*self.writer
    }

    /// Where records of this topic go; `None` for those that have no quota.
    pub(crate) fn target(&self, topic: &str) -> Option<TopicName> {
        let target = match &self.topic {
            Some(chosen) => Ok(chosen.clone()),
            None if topic.ends_with(SUFFIX) => return None,
            None => TopicName::new(&format!("{topic}{SUFFIX}")),
        };
        match target {
            Ok(target) => (target.as_str() != topic).then_some(target),
            Err(error) => {
                tracing::error!(topic, %error, "a topic's records have no quota: their shaping topic has no name");
                None
            }
        }
    }
}

/// Where the records of one partition go.
pub(crate) enum Target {
    Topic(Arc<dyn LogWriter>, TopicName),
    Letters { letters: DeadLetters, cause: String },
}

impl Target {
    /// Where records of this topic go that are over this quota; `None` when they are handled all the same.
    pub(crate) fn of(
        quota: &Quota,
        topic: &str,
        shaping: Option<&Shaping>,
        letters: Option<&DeadLetters>,
    ) -> Option<Arc<Self>> {
        let target = match quota.action {
            OverQuota::SlowDown => return None,
            OverQuota::Shape => {
                let shaping = shaping?;
                Self::Topic(Arc::clone(&shaping.writer), shaping.target(topic)?)
            }
            OverQuota::DeadLetter => {
                let cause = format!("its key is over its quota of {} records a second", quota.rate);
                Self::Letters { letters: letters?.clone(), cause }
            }
        };
        Some(Arc::new(target))
    }

    fn write(&self, works: &[Work]) -> Job<'static, ()> {
        let records = works.iter().map(|work| &work.record);
        ending::guarded(|| match self {
            Self::Topic(writer, topic) => {
                let mut batch = RecordBatch { topics: vec![topic.clone()], ..RecordBatch::default() };
                records.for_each(|record| copy(record, &mut batch));
                writer.append(batch)
            }
            Self::Letters { letters, cause } => letters.write_all(records, cause, Told::All),
        })
    }

    const fn count<'a>(&self, counts: &'a mut Counts) -> (&'a mut u64, &'a mut u64) {
        match self {
            Self::Topic(..) => (&mut counts.shaped, &mut counts.shaping_failed),
            Self::Letters { .. } => (&mut counts.dead_letters, &mut counts.dead_letters_failed),
        }
    }
}

fn copy(record: &Record, batch: &mut RecordBatch) {
    let key = batch.put_optional(record.key());
    let value = batch.put_optional(record.value());
    let first = u32::try_from(batch.headers.len()).expect("fewer headers than 4 Gi");
    // One that comes round again says where it was last.
    for header in record.headers().iter().filter(|header| *header.name != *PLACE) {
        let value = batch.put_optional(header.value.as_deref());
        batch.headers.push(HeaderSpan { name: header.name.to_string().into(), value });
    }
    let place = batch.put(dead_letter::place(record).as_bytes());
    batch.headers.push(HeaderSpan { name: PLACE.into(), value: place });
    // The log gives an old record the time at which it is written.
    for (name, text) in [
        (dead_letter::ORIGIN, dead_letter::origin(record)),
        (dead_letter::TIMESTAMP, dead_letter::written_ms(record).to_string()),
    ] {
        if record.header(name).is_none() {
            let value = batch.put(text.as_bytes());
            batch.headers.push(HeaderSpan { name: name.into(), value });
        }
    }
    let headers = first..u32::try_from(batch.headers.len()).expect("fewer headers than 4 Gi");
    batch.records.push(RecordSpan { topic: 0, key, value, headers, timestamp_ms: record.timestamp_ms });
}

struct Batch {
    works: Vec<Work>,
    target: Arc<Target>,
}

enum Doing {
    Nothing,
    Write(Batch, Job<'static, ()>),
    /// The last write failed.
    Rest(Batch, Pin<Box<Sleep>>),
}

/// The records of one assignment on their way out, in order; one batch at a time, so that each key keeps its order.
struct Line {
    shared: Arc<Assignment>,
    queue: VecDeque<(Work, Arc<Target>)>,
    doing: Doing,
    tries: u32,
    since: Instant,
    is_revoked: bool,
    /// Records at the front that are written one by one, because a batch with them was refused for one of them.
    alone: usize,
}

/// The lines of one shard, by assignment.
#[derive(Default)]
pub(crate) struct Lines {
    lines: LaneMap<Line>,
}

impl Lines {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Sends a record there, behind those of its assignment that are on their way.
    pub(crate) fn add(&mut self, shared: &Arc<Assignment>, work: Work, target: Arc<Target>) {
        let line = self.lines.entry(shared.id).or_insert_with(|| Line {
            shared: Arc::clone(shared),
            queue: VecDeque::new(),
            doing: Doing::Nothing,
            tries: 0,
            since: Instant::now(),
            is_revoked: false,
            alone: 0,
        });
        line.queue.push_back((work, target));
    }

    /// Whether something of this assignment may be written any moment.
    pub(crate) fn is_busy(&self, id: u64) -> bool {
        self.lines.contains_key(&id)
    }

    /// Drops what is not being written.
    pub(crate) fn revoke(&mut self, id: u64) {
        let Some(line) = self.lines.get_mut(&id) else { return };
        line.is_revoked = true;
        line.queue.clear();
        if !matches!(line.doing, Doing::Write(..)) {
            self.lines.remove(&id);
        }
    }

    /// Drops all of it; whether something was being written.
    pub(crate) fn cancel(&mut self, id: u64) -> bool {
        self.lines.remove(&id).is_some_and(|line| matches!(line.doing, Doing::Write(..)))
    }

    /// Goes on with all lines; the assignments that have nothing on its way any more.
    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        counts: &mut Counts,
        chance: &mut Chance,
    ) -> Vec<u64> {
        let mut ended = Vec::new();
        self.lines.retain(|id, line| {
            let is_over = line.poll(context, counts, chance).is_ready();
            ended.extend(is_over.then_some(*id));
            !is_over
        });
        ended
    }
}

impl Line {
    fn poll(&mut self, context: &mut Context<'_>, counts: &mut Counts, chance: &mut Chance) -> Poll<()> {
        loop {
            match std::mem::replace(&mut self.doing, Doing::Nothing) {
                Doing::Nothing => {
                    let Some(batch) = self.batch() else { return Poll::Ready(()) };
                    let job = batch.target.write(&batch.works);
                    self.doing = Doing::Write(batch, job);
                }
                Doing::Rest(batch, mut sleep) => {
                    if sleep.as_mut().poll(context).is_pending() {
                        self.doing = Doing::Rest(batch, sleep);
                        return Poll::Pending;
                    }
                    let job = batch.target.write(&batch.works);
                    self.doing = Doing::Write(batch, job);
                }
                Doing::Write(batch, mut job) => {
                    let Poll::Ready(wrote) = job.as_mut().poll(context) else {
                        self.doing = Doing::Write(batch, job);
                        return Poll::Pending;
                    };
                    let (durable, failed) = batch.target.count(counts);
                    let count = batch.works.len() as u64;
                    match wrote {
                        Ok(()) => {
                            *durable += count;
                            self.durable(batch.works);
                        }
                        // It comes again to the next owner.
                        Err(_) if self.is_revoked => return Poll::Ready(()),
                        Err(fault) => {
                            *failed += count;
                            if fault.kind() == FaultKind::Rejected {
                                self.refused(batch, &fault, counts);
                            } else {
                                self.rest(batch, &fault, chance);
                            }
                        }
                    }
                }
            }
        }
    }

    /// The next records to one place, as many as go in one batch.
    fn batch(&mut self) -> Option<Batch> {
        let target = Arc::clone(&self.queue.front()?.1);
        let mut left = limits::SHAPED_BATCH_BYTES_MAX;
        let fits = |(work, to): &&(Work, Arc<Target>)| {
            let has_room = left > 0 && Arc::ptr_eq(to, &target);
            left = left.saturating_sub(work.record.byte_count());
            has_room
        };
        let most = if self.alone > 0 { 1 } else { limits::SHAPED_BATCH_RECORDS_MAX };
        self.alone = self.alone.saturating_sub(1);
        let count = self.queue.iter().take(most).take_while(fits).count();
        Some(Batch { works: self.queue.drain(..count).map(|(work, _)| work).collect(), target })
    }

    fn durable(&mut self, works: Vec<Work>) {
        for work in works {
            if self.tries > 0 {
                self.shared.trouble_is_over(work.record.offset);
            }
            work.slot.finish();
        }
        self.tries = 0;
    }

    /// No waiting heals this. Of several records each is tried alone; a single one is parked.
    fn refused(&mut self, batch: Batch, fault: &Fault, counts: &mut Counts) {
        let Batch { works, target } = batch;
        if works.len() > 1 {
            self.alone = works.len();
            works.into_iter().rev().for_each(|work| self.queue.push_front((work, Arc::clone(&target))));
            return;
        }
        for work in works {
            let reason =
                format!("it is over its key's quota and can never be written aside: {}", fault.chain());
            let place = dead_letter::place(&work.record);
            tracing::error!(%place, reason, "a record is parked: its commit waits for a restart");
            let since = if self.tries == 0 { Instant::now() } else { self.since };
            let trouble = Trouble { attempt: self.tries.saturating_add(1), since, reason, is_parked: true };
            self.shared.trouble(work.record.offset, trouble);
            counts.parked += 1;
            // Its slot is dropped unfinished: the record stays pending.
        }
        self.tries = 0;
    }

    fn rest(&mut self, batch: Batch, fault: &Fault, chance: &mut Chance) {
        let now = Instant::now();
        if self.tries == 0 {
            self.since = now;
        }
        self.tries = self.tries.saturating_add(1);
        let reason = format!("it is over its key's quota and not written aside yet: {}", fault.chain());
        tracing::warn!(
            error = %fault.chain(), records = batch.works.len(),
            "records over their quota are not written aside yet; they stay pending"
        );
        for work in &batch.works {
            let trouble =
                Trouble { attempt: self.tries, since: self.since, reason: reason.clone(), is_parked: false };
            self.shared.trouble(work.record.offset, trouble);
        }
        let wait = RetryPolicy::default().wait(self.tries, chance);
        self.doing = Doing::Rest(batch, Box::pin(tokio::time::sleep(wait)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Header;
    use crate::testing::MemoryLog;

    #[test]
    fn a_shaped_record_is_whole_and_says_where_it_was() {
        let mut record = Record::new("t", "v").with_key("k");
        (record.partition, record.offset, record.timestamp_ms) = (3, 77, 12);
        let header = |name: &str, value: Option<&'static str>| Header {
            name: name.into(),
            value: value.map(|value| bytes::Bytes::from_static(value.as_bytes())),
        };
        let headers = vec![header("trace", Some("1")), header("empty", None), header(PLACE, Some("old"))];
        record = record.with_headers(headers);
        let mut batch = RecordBatch::default();
        copy(&record, &mut batch);
        record = Record { offset: 78, ..record.with_value(None).with_headers(Vec::new()) };
        copy(&record, &mut batch);
        let headers = |index: usize| -> Vec<(&str, Option<&[u8]>)> {
            let range = &batch.records[index].headers;
            let spans = &batch.headers[range.start as usize..range.end as usize];
            spans.iter().map(|header| (&*header.name, batch.optional(&header.value))).collect()
        };
        let [first, second] = &batch.records[..] else { panic!("two records") };
        assert_eq!((batch.bytes(&first.key), batch.bytes(&first.value)), (&b"k"[..], &b"v"[..]));
        assert_eq!((first.timestamp_ms, batch.optional(&second.value)), (12, None));
        assert_eq!(
            headers(0)[..3],
            [("trace", Some(&b"1"[..])), ("empty", None), (PLACE, Some(&b"t/3/77"[..]))]
        );
        let (origin, timestamp) = (dead_letter::ORIGIN, dead_letter::TIMESTAMP);
        // It was shaped before, and says where it was first.
        assert_eq!(headers(0)[3..], [(origin, Some(&b"old"[..])), (timestamp, Some(&b"12"[..]))]);
        assert_eq!(
            headers(1),
            [(PLACE, Some(&b"t/3/78"[..])), (origin, Some(&b"t/3/78"[..])), (timestamp, Some(&b"12"[..]))]
        );
    }

    #[test]
    fn a_shaping_topic_has_no_quota_itself() {
        let writer: Arc<dyn LogWriter> = Arc::new(MemoryLog::new());
        let target = |shaping: &Shaping, topic: &str| shaping.target(topic).map(|name| name.to_string());
        let beside = Shaping::new(Arc::clone(&writer));
        assert_eq!(target(&beside, "orders").as_deref(), Some("orders-shaping"));
        assert_eq!(target(&beside, "orders-shaping"), None);
        assert_eq!(target(&beside, &"x".repeat(249)), None);
        let chosen = Shaping::to_topic(writer, TopicName::new("slow").unwrap());
        assert_eq!(target(&chosen, "orders").as_deref(), Some("slow"));
        assert_eq!(target(&chosen, "slow"), None);
    }
}
