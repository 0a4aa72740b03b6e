//! Messages of one partition made to records: a few batches lent from the fetch response as they are, the others copied
//! out of it.
//!
//! A lent batch costs no copy, and its headers are read only when somebody asks for them. But it keeps the whole response
//! for as long as one of its records lives. So few are out at a time, and only while handlers end at once, which need no
//! more. When they do not, what follows is copied, some records together, so that one that is stuck keeps an arena and not
//! a response.
//!
//! Values in parts are put together, and are one record each.

use super::messages::{Message, QueueError};
use crate::parts::{self, Part};
use crate::reasons::is_damage;
use crate::source::whole::{Met, Wholes};
use bytes::Bytes;
use rdkafka_sys as sys;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;
use weir_runtime::budget::{Budget, Taken};
use weir_runtime::record::{Body, Header, Payload, Place, Record};

/// Batches of a client that may be out as they are. Each keeps one response, which librdkafka bounds by what it may
/// fetch ahead for one partition (2 MiB by the defaults), and by 1 MiB for each partition in it.
const LENT_MAX: usize = 16;

/// How long nothing is lent after a record was held up.
const REST: Duration = Duration::from_secs(1);

/// Bytes of an arena, unless one record has more. An allocator has what is below 128 KiB at hand again; above that it
/// asks the system for fresh pages, which costs more than the copy.
const ARENA_BYTES: usize = 64 << 10;

/// Which batches of a client are out as they are: it must outlive them.
#[derive(Clone, Default)]
pub(crate) struct Lender {
    shared: Arc<(Mutex<Lending>, Condvar)>,
}

struct Lending {
    out: usize,
    /// Those of them with a record that was held up.
    held: usize,
    /// How many others may be out: one until it has come back and nothing of it was held up.
    max: usize,
    /// Nothing is lent before.
    rests_until: Option<Instant>,
}

impl Default for Lending {
    fn default() -> Self {
        Self { out: 0, held: 0, max: 1, rests_until: None }
    }
}

impl Lending {
    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }

    fn lend(&mut self, now: Instant) -> bool {
        let may = self.out < LENT_MAX.min(self.held + self.max) && !self.rests(now);
        self.out += usize::from(may);
        may
    }

    fn held(&mut self, now: Instant) {
        self.held += 1;
        (self.max, self.rests_until) = (1, Some(now + REST));
    }

    fn take_back(&mut self, is_held: bool, now: Instant) {
        self.out -= 1;
        if is_held {
            self.held -= 1;
        } else if !self.rests(now) {
            self.max = LENT_MAX;
        }
    }
}

/// Leave to lend one batch.
struct Lent {
    lender: Lender,
    is_held: AtomicBool,
}

impl Lender {
    fn lending(&self) -> MutexGuard<'_, Lending> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self) -> Option<Lent> {
        let may = self.lending().lend(Instant::now());
        may.then(|| Lent { lender: self.clone(), is_held: AtomicBool::new(false) })
    }

    /// Whether something is out.
    pub(crate) fn is_out(&self) -> bool {
        self.lending().out > 0
    }

    /// Waits until nothing is out any more.
    pub(crate) fn wait(&self) {
        let all_back = self.shared.1.wait_while(self.lending(), |lending| lending.out > 0);
        drop(all_back.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.lender.lending().take_back(*self.is_held.get_mut(), Instant::now());
        self.lender.shared.1.notify_all();
    }
}

/// The headers of one record, once somebody has asked for them.
type Headers = OnceLock<Box<[Header]>>;

/// A batch as it is. Fields drop in this order: the client may end when the last of them is gone.
struct Loan {
    messages: Box<[Message]>,
    /// One for each message, once somebody has asked for one.
    headers: OnceLock<Box<[Headers]>>,
    _taken: Taken,
    lent: Lent,
}

impl Payload for Loan {
    fn key(&self, index: usize) -> Option<&[u8]> {
        self.messages[index].key()
    }

    fn value(&self, index: usize) -> Option<&[u8]> {
        self.messages[index].value()
    }

    fn headers(&self, index: usize) -> &[Header] {
        let all = self.headers.get_or_init(|| self.messages.iter().map(|_| Headers::new()).collect());
        // SAFETY: the cell calls this once, on one thread, and nobody else asks this message.
        all[index].get_or_init(|| unsafe { self.messages[index].headers() })
    }

    fn held(&self) {
        if !self.lent.is_held.swap(true, Ordering::Relaxed) {
            self.lent.lender.lending().held(Instant::now());
        }
    }
}

/// Copies of records, in one arena.
struct Copies {
    arena: Vec<u8>,
    records: Vec<Copy>,
    _taken: Taken,
}

struct Copy {
    key: Option<Range<u32>>,
    value: Option<Range<u32>>,
    headers: Box<[Header]>,
}

impl Copies {
    fn of(messages: &[Message], budget: &Budget) -> Self {
        let mut arena = Vec::with_capacity(messages.iter().map(Message::byte_count).sum());
        let mut put = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| {
                let end = |arena: &Vec<u8>| u32::try_from(arena.len()).expect("an arena is below 4 GiB");
                let start = end(&arena);
                arena.extend_from_slice(bytes);
                start..end(&arena)
            })
        };
        let copy = |message: &Message| Copy {
            key: put(message.key()),
            value: put(message.value()),
            // SAFETY: nobody else has the message.
            headers: unsafe { message.headers() },
        };
        let records: Vec<Copy> = messages.iter().map(copy).collect();
        let of_headers = records.iter().flat_map(|record| &record.headers);
        let header_bytes: usize = of_headers
            .map(|header| header.name.len() + header.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum();
        let _taken = budget.take_at_once(arena.len() + header_bytes);
        Self { arena, records, _taken }
    }

    fn bytes(&self, range: Option<&Range<u32>>) -> Option<&[u8]> {
        range.map(|range| &self.arena[range.start as usize..range.end as usize])
    }
}

impl Payload for Copies {
    fn key(&self, index: usize) -> Option<&[u8]> {
        self.bytes(self.records[index].key.as_ref())
    }

    fn value(&self, index: usize) -> Option<&[u8]> {
        self.bytes(self.records[index].value.as_ref())
    }

    fn headers(&self, index: usize) -> &[Header] {
        &self.records[index].headers
    }
}

/// A value that came in parts.
struct Whole {
    key: Option<Bytes>,
    value: Bytes,
    headers: Box<[Header]>,
    _taken: Taken,
}

impl Payload for Whole {
    fn key(&self, _: usize) -> Option<&[u8]> {
        self.key.as_deref()
    }

    fn value(&self, _: usize) -> Option<&[u8]> {
        Some(&self.value)
    }

    fn headers(&self, _: usize) -> &[Header] {
        &self.headers
    }
}

/// Which part of a value a message is; `None` for a record that was not cut.
fn part_of(message: &Message) -> Option<Part> {
    // SAFETY: called before a message is handed on; nobody else has it.
    Part::parse(unsafe { message.header(parts::HEADER_C) }?)
}

/// Appends what is a record to `records`, and what is an error to `errors`. What is a part of a value goes to `wholes`.
pub(super) fn to_records(
    mut messages: Vec<Message>,
    place: &Place,
    lender: &Lender,
    budget: &Budget,
    wholes: &mut Wholes,
    records: &mut Vec<Record>,
    errors: &mut Vec<QueueError>,
) {
    let mut is_damaged = false;
    messages.retain(|message| {
        let error = message.error();
        // librdkafka goes on behind a damaged batch: what follows it would be committed over it.
        if is_damaged {
            return false;
        }
        is_damaged = error.as_ref().is_some_and(|error| is_damage(error.code.into()));
        let is_record = error.is_none();
        errors.extend(error.filter(|error| error.code != Code::RD_KAFKA_RESP_ERR__PARTITION_EOF));
        is_record
    });
    if messages.iter().all(|message| part_of(message).is_none()) {
        return plain(messages, place, lender, budget, wholes, records);
    }
    let mut before = Vec::new();
    for message in messages {
        let Some(part) = part_of(&message) else {
            before.push(message);
            continue;
        };
        plain(std::mem::take(&mut before), place, lender, budget, wholes, records);
        let offset = message.offset();
        let (key, bytes) = (message.key().unwrap_or_default(), message.value().unwrap_or_default());
        match wholes.add(offset, key, part, bytes, budget) {
            Met::Part => {}
            Met::Orphan => {
                tracing::debug!(%place, offset, "a part of a value without its beginning is passed over");
            }
            Met::Whole(value) => records.push(whole(&message, place, value, budget)),
            Met::Damaged => errors.push(QueueError {
                code: Code::RD_KAFKA_RESP_ERR__BAD_MSG,
                text: format!(
                    "the parts of the value that ends at offset {offset} do not match its checksum"
                ),
            }),
        }
    }
    plain(before, place, lender, budget, wholes, records);
}

/// The record of a value that is whole with this message.
fn whole(message: &Message, place: &Place, value: Bytes, budget: &Budget) -> Record {
    let key = message.key().map(Bytes::copy_from_slice);
    // SAFETY: nobody else has the message.
    let headers = unsafe { message.headers() }.into_vec();
    let headers: Box<[Header]> =
        headers.into_iter().filter(|header| &*header.name != parts::HEADER).collect();
    let _taken = budget.take_at_once(value.len());
    Record {
        topic: place.topic,
        partition: place.partition,
        attempt: 1,
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        body: Body::new(Arc::new(Whole { key, value, headers, _taken }), 0),
    }
}

/// Appends messages that are whole records.
fn plain(
    messages: Vec<Message>,
    place: &Place,
    lender: &Lender,
    budget: &Budget,
    wholes: &mut Wholes,
    records: &mut Vec<Record>,
) {
    let Some(last) = messages.last() else { return };
    if !wholes.is_empty() {
        wholes.passed(messages.len(), last.offset());
    }
    if let Some(lent) = lender.lend() {
        let bytes = messages.iter().map(Message::byte_count).sum();
        let loan = Arc::new(Loan {
            messages: messages.into(),
            headers: OnceLock::new(),
            _taken: budget.take_at_once(bytes),
            lent,
        });
        append(records, place, &loan.messages, &(Arc::clone(&loan) as Arc<dyn Payload>));
        return;
    }
    let mut rest = &messages[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|message| {
            bytes += message.byte_count();
            bytes <= ARENA_BYTES
        });
        let (some, others) = rest.split_at(fit.count().max(1));
        append(records, place, some, &(Arc::new(Copies::of(some, budget)) as Arc<dyn Payload>));
        rest = others;
    }
}

fn append(records: &mut Vec<Record>, place: &Place, messages: &[Message], payload: &Arc<dyn Payload>) {
    let Place { topic, partition } = *place;
    records.extend(messages.iter().zip(0..).map(|(message, index)| Record {
        topic,
        partition,
        attempt: 1,
        offset: message.offset(),
        timestamp_ms: message.timestamp_ms(),
        body: Body::new(Arc::clone(payload), index),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many it lends at a moment.
    fn lends(lending: &mut Lending, now: Instant) -> usize {
        (0..LENT_MAX * 2).filter(|_| lending.lend(now)).count()
    }

    #[test]
    fn one_batch_is_lent_until_it_is_back_then_a_few_at_a_time() {
        let (mut lending, now) = (Lending::default(), Instant::now());
        assert_eq!(lends(&mut lending, now), 1, "how handlers are is not known yet");
        lending.take_back(false, now);
        assert_eq!(lends(&mut lending, now), LENT_MAX);
        lending.take_back(false, now);
        assert_eq!(lends(&mut lending, now), 1);
    }

    #[test]
    fn nothing_is_lent_for_a_while_after_a_record_was_held_up_and_then_one() {
        let (mut lending, now) = (Lending::default(), Instant::now());
        lending.lend(now);
        lending.take_back(false, now);
        assert_eq!((lending.lend(now), lending.lend(now)), (true, true));
        lending.held(now);
        lending.take_back(false, now);
        let before = now + REST - Duration::from_millis(1);
        assert_eq!(lends(&mut lending, before), 0);
        assert_eq!(lends(&mut lending, now + REST), 1, "beside the one with the record that was held up");
        lending.take_back(false, now + REST);
        assert_eq!(lends(&mut lending, now + REST), LENT_MAX - 1);
        lending.take_back(true, now + REST);
        assert_eq!(lends(&mut lending, now + REST), 1);
    }

    #[test]
    fn records_that_are_stuck_keep_so_many_responses_and_no_more() {
        let (mut lending, mut now) = (Lending::default(), Instant::now());
        for _ in 0..LENT_MAX {
            assert_eq!(lends(&mut lending, now), 1);
            lending.held(now);
            now += REST;
        }
        assert_eq!(lends(&mut lending, now), 0);
        (0..LENT_MAX).for_each(|_| lending.take_back(true, now));
        assert_eq!((lending.out, lending.held, lends(&mut lending, now)), (0, 0, 1));
    }

    #[test]
    fn a_client_waits_for_what_is_out_and_a_batch_tells_once_that_it_is_held_up() {
        let lender = Lender::default();
        let lent = lender.lend().unwrap();
        assert!(lender.is_out() && lender.lend().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lender.wait());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiting.is_finished());
            drop(lent);
            waiting.join().unwrap();
        });
        assert!(!lender.is_out());
        assert!(lender.lend().is_some());
    }
}
