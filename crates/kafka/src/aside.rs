//! Dead letters of a topic: which are there, back to where they came from, or out of sight.
//!
//! What was dealt with is kept in a topic of its own, written in one transaction with what is put back. So a letter is
//! put back once, whoever does it and whatever ends it, and nothing is deleted before the topic's retention.

mod deal;
mod marks;
mod stamp;
mod together;

use crate::reader::{Asker, RESPONSE_BYTES_MAX, client_config, create, partitions, unreachable};
use deal::Dealer;
use marks::Dealt;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use together::Together;
use weir_model::{Fault, FaultKind, TopicName};
use weir_runtime::dead_letter;

/// The topic that keeps what was dealt with, and the transactional id of whoever deals with letters.
pub const MARKS: &str = "weir-aside";

const ASK_WAIT: Duration = Duration::from_secs(10);

/// How long reading a topic to its end may take without a single record.
const READ_WAIT: Duration = Duration::from_secs(30);

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Partition of the dead letters' topic.
    pub partition: i32,
    /// Offset there; of the last part, when it was written in parts.
    pub offset: i64,
    /// The letter's timestamp, ms since 1970; [`Letter::written_ms`] is the record's own.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
    /// All headers, those of the dead letter among them.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Offsets of all of its parts; empty when it was written whole.
    pub parts: Vec<i64>,
    /// Bytes of its largest part; 0 when it was written whole.
    pub part_bytes: usize,
}

impl Letter {
    /// The text of a header; empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().rev().find(|(header, _)| header == name);
        let value = found.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    }

    /// When its record was written first, ms since 1970.
    #[must_use]
    pub fn written_ms(&self) -> i64 {
        self.header(dead_letter::TIMESTAMP).parse().unwrap_or(self.timestamp_ms)
    }

    /// The topic that it came from.
    ///
    /// # Errors
    /// When its header does not say so: it is no dead letter of ours.
    pub fn home(&self) -> Result<TopicName, Fault> {
        let place = self.header(dead_letter::PLACE);
        let topic = place.rsplitn(3, '/').nth(2).and_then(|topic| TopicName::new(topic).ok());
        topic.ok_or_else(|| {
            let about = format!("{}/{}", self.partition, self.offset);
            Fault::new(
                FaultKind::Corrupt,
                "W-KAFKA-REJECTED",
                "find out where a dead letter came from",
                about,
            )
            .caused_by(format!("its header {} is {place:?}", dead_letter::PLACE))
        })
    }
}

/// The dead letters of one topic.
pub struct Aside {
    bootstrap: String,
    properties: BTreeMap<String, String>,
    topic: String,
    consumer: Asker,
    dealt: BTreeMap<i32, Dealt>,
    ends: BTreeMap<i32, i64>,
    dealer: Option<Dealer>,
}

impl Aside {
    /// Opens a topic of dead letters, to look at them.
    ///
    /// # Errors
    /// When the brokers cannot be reached, or the topic does not exist.
    pub fn open(bootstrap: &str, properties: &BTreeMap<String, String>, topic: &str) -> Result<Self, Fault> {
        let mut client = client_config(bootstrap, properties)?;
        client.set("auto.offset.reset", "earliest").set("receive.message.max.bytes", RESPONSE_BYTES_MAX);
        let consumer = create(&client, bootstrap)?;
        let mut aside = Self {
            bootstrap: bootstrap.to_owned(),
            properties: properties.clone(),
            topic: topic.to_owned(),
            consumer,
            dealt: BTreeMap::new(),
            ends: BTreeMap::new(),
            dealer: None,
        };
        aside.look()?;
        Ok(aside)
    }

    /// Opens a topic of dead letters, to deal with them: takes over from whoever does so now.
    ///
    /// # Errors
    /// As [`Aside::open`], and when the brokers do not allow it.
    pub fn open_to_deal(
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
        topic: &str,
    ) -> Result<Self, Fault> {
        // That the topic is there, before anything is made.
        let mut aside = Self::open(bootstrap, properties, topic)?;
        aside.dealer = Some(Dealer::begin(bootstrap, properties, topic)?);
        // From here on nobody else changes it.
        aside.look()?;
        Ok(aside)
    }

    /// Reads what was dealt with. Nothing is fetched yet: librdkafka 2.12.1 may end the process with an assertion when
    /// partitions that it has just been told to fetch are taken back at once.
    fn look(&mut self) -> Result<(), Fault> {
        let failed = |error| unreachable(&error, &self.topic);
        let mut kept = marks::read(&self.bootstrap, &self.properties, MARKS, &self.topic)?;
        for partition in partitions(&self.consumer, &self.topic)? {
            let (low, high) =
                self.consumer.fetch_watermarks(&self.topic, partition, ASK_WAIT).map_err(failed)?;
            let dealt = kept.remove(&partition).unwrap_or_default().fit(low, high);
            self.ends.insert(partition, high);
            self.dealt.insert(partition, dealt);
        }
        Ok(())
    }

    /// Begins to fetch what was not dealt with; the next place to read of each partition.
    fn begin(&self) -> Result<BTreeMap<i32, i64>, Fault> {
        let failed = |error| unreachable(&error, &self.topic);
        let mut start = TopicPartitionList::new();
        for (partition, dealt) in &self.dealt {
            start
                .add_partition_offset(&self.topic, *partition, Offset::Offset(dealt.base))
                .map_err(failed)?;
        }
        self.consumer.assign(&start).map_err(failed)?;
        Ok(self.dealt.iter().map(|(partition, dealt)| (*partition, dealt.base)).collect())
    }

    /// Gives each letter that was not dealt with to `act`, up to the end as of the opening. Once.
    ///
    /// # Errors
    /// When the brokers refuse, or with the fault of `act`.
    pub fn for_each(
        &mut self,
        mut act: impl FnMut(&mut Self, Letter) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.ends.iter().all(|(partition, end)| self.dealt[partition].base >= *end) {
            return Ok(());
        }
        let mut next = self.begin()?;
        let (mut last, mut together) = (Instant::now(), Together::default());
        while self.ends.iter().any(|(partition, end)| next[partition] < *end) {
            let letter = match self.consumer.poll(Duration::from_millis(100)) {
                Some(polled) => letter(
                    &polled.map_err(|error| self.consumer.context().reasons.fault(&error, &self.topic))?,
                ),
                None if last.elapsed() < READ_WAIT => {
                    // A marker of a transaction is an offset without a record: the position passes it.
                    self.positions(&mut next)?;
                    continue;
                }
                None => {
                    return Err(Fault::new(
                        FaultKind::Transient,
                        "W-KAFKA-UNREACHABLE",
                        "read dead letters to their end",
                        &self.topic,
                    ));
                }
            };
            last = Instant::now();
            next.insert(letter.partition, letter.offset + 1);
            let is_new = letter.offset < self.ends[&letter.partition];
            if is_new
                && !self.dealt[&letter.partition].has(letter.offset)
                && let Some(letter) = together.add(letter)?
            {
                act(self, letter)?;
            }
        }
        Ok(())
    }

    fn positions(&self, next: &mut BTreeMap<i32, i64>) -> Result<(), Fault> {
        let positions = self.consumer.position().map_err(|error| unreachable(&error, &self.topic))?;
        for element in positions.elements() {
            if let Offset::Offset(offset) = element.offset() {
                next.entry(element.partition()).and_modify(|next| *next = (*next).max(offset));
            }
        }
        Ok(())
    }

    /// Puts letters back at the end of the topics that they came from, and marks them as dealt with: both, or neither.
    ///
    /// # Errors
    /// When a letter does not say where it came from, the brokers refuse, or somebody else has begun to deal with
    /// letters since.
    ///
    /// # Panics
    /// When this was opened to look only.
    pub fn replay(&mut self, letters: &[Letter]) -> Result<(), Fault> {
        self.deal(letters, letters)
    }

    /// Marks letters as dealt with.
    ///
    /// # Errors
    /// As [`Aside::replay`].
    ///
    /// # Panics
    /// When this was opened to look only.
    pub fn drop_letters(&mut self, letters: &[Letter]) -> Result<(), Fault> {
        self.deal(letters, &[])
    }

    fn deal(&mut self, letters: &[Letter], back: &[Letter]) -> Result<(), Fault> {
        let mut changed: BTreeMap<i32, Dealt> = BTreeMap::new();
        for letter in letters {
            let before = || self.dealt.get(&letter.partition).cloned().unwrap_or_default();
            let dealt = changed.entry(letter.partition).or_insert_with(before);
            dealt.add(letter.offset);
            letter.parts.iter().for_each(|offset| dealt.add(*offset));
        }
        let dealer = self.dealer.as_mut().expect("opened to deal with letters");
        dealer.replay(&self.topic, back, &changed)?;
        self.dealt.append(&mut changed);
        Ok(())
    }
}

fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let headers = message.headers().map(|list| {
        list.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Letter {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        parts: Vec::new(),
        part_bytes: 0,
    }
}
