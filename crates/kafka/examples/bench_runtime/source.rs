//! Where the records come from: topics that are filled beforehand, and a child process that sends at a given rate.

use crate::child::Child;
use crate::plan::{Keys, Topic, Value};
use crate::weir_side::Failure;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::BufRead as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weir_sim_kernel::Rng;

const ASK_WAIT: Duration = Duration::from_secs(30);

/// How long all that was handed over may take to be acknowledged.
const FLUSH_WAIT: Duration = Duration::from_secs(60);

/// Keys of the zipf topic.
const ZIPF_KEYS: usize = 1_000_000;

/// Makes a topic with so many partitions, if it is not there.
pub(crate) fn create(bootstrap: &str, name: &str, partitions: i32) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.create_topics([&new], &AdminOptions::new()))? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(format!("topic {topic}: {code}").into()),
        }
    }
    Ok(())
}

/// Deletes a topic: nobody reads it again, and its files take room.
pub(crate) fn delete(bootstrap: &str, name: &str) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.delete_topics(&[name], &AdminOptions::new()))? {
        result.map_err(|(topic, code)| format!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Records in a topic, by its offsets.
fn record_count(bootstrap: &str, topic: &Topic) -> Result<u64, Failure> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let mut count = 0;
    for partition in 0..topic.partitions {
        let started = Instant::now();
        let (low, high) = loop {
            // A partition that was made just now may have no leader yet.
            match consumer.fetch_watermarks(topic.name, partition, ASK_WAIT) {
                Ok(offsets) => break offsets,
                Err(error) if started.elapsed() > ASK_WAIT => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        count += u64::try_from(high - low)?;
    }
    Ok(count)
}

/// Makes a topic and fills it, without compression.
pub(crate) fn fill(bootstrap: &str, topic: &Topic, records: u64) -> Result<(), Failure> {
    create(bootstrap, topic.name, topic.partitions)?;
    let producer = producer(bootstrap, "10")?;
    let (mut chance, zipf) = (Rng::from_seed(7), Zipf::new(topic.keys));
    let bytes = match topic.value {
        Value::Bytes(bytes) => vec![b'v'; bytes],
        Value::Task => br#"{"producedTime":1767225600000,"processLatency":0}"#.to_vec(),
    };
    for number in 0..records {
        let key = match topic.keys {
            Keys::Null => None,
            Keys::Even(keys) => Some(chance.roll() % keys),
            Keys::Zipf => Some(zipf.key(&mut chance)),
        };
        let key = key.map(|key| format!("{key:016}"));
        let mut record = BaseRecord::<String, [u8]>::to(topic.name).payload(&bytes);
        if let Some(key) = &key {
            record = record.key(key);
        } else {
            record = record.partition((number % topic.partitions.unsigned_abs() as u64) as i32);
        }
        if topic.is_one_busy {
            record = record.partition(0);
        }
        send(&producer, record)?;
    }
    producer.flush(FLUSH_WAIT)?;
    let found = record_count(bootstrap, topic)?;
    if found != records {
        return Err(format!("topic {} has {found} records, not {records}", topic.name).into());
    }
    Ok(())
}

fn producer(bootstrap: &str, linger_ms: &str) -> Result<BaseProducer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", linger_ms)
        // As the Java client deals them out.
        .set("partitioner", "murmur2_random")
        .set("queue.buffering.max.messages", "200000")
        .create()
}

fn send(producer: &BaseProducer, mut record: BaseRecord<'_, String, [u8]>) -> Result<(), KafkaError> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// The n-th key comes 1/n as often as the first.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: Keys) -> Self {
        let count = if keys == Keys::Zipf { ZIPF_KEYS } else { 0 };
        let mut sum = 0.0;
        Self(
            (1..=count)
                .map(|rank| {
                    sum += 1.0 / rank as f64;
                    sum
                })
                .collect(),
        )
    }

    fn key(&self, chance: &mut Rng) -> u64 {
        let all = self.0.last().copied().unwrap_or_default();
        let at = chance.roll() as f64 / u64::MAX as f64 * all;
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// What a sending child did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) records: f64,
    pub(crate) seconds: f64,
}

/// A child process that sends 100-byte records, each with the time when it was due.
pub(crate) struct Source(Child);

impl Source {
    pub(crate) fn start(bootstrap: &str, topic: &str) -> Result<Self, String> {
        Ok(Self(Child::myself(&["source", bootstrap, topic])?))
    }

    /// As fast as it goes.
    pub(crate) fn full(&mut self, seconds: f64) -> Result<Sent, String> {
        self.run("full", seconds, 0.0)
    }

    /// At this rate, whatever the consumer does.
    pub(crate) fn paced(&mut self, seconds: f64, rate: f64) -> Result<Sent, String> {
        self.run("paced", seconds, rate)
    }

    /// The same; every second record has the key 0.
    pub(crate) fn hot(&mut self, seconds: f64, rate: f64) -> Result<Sent, String> {
        self.run("hot", seconds, rate)
    }

    /// The same; no two records have the same key.
    pub(crate) fn distinct(&mut self, seconds: f64, rate: f64) -> Result<Sent, String> {
        self.run("distinct", seconds, rate)
    }

    fn run(&mut self, how: &str, seconds: f64, rate: f64) -> Result<Sent, String> {
        let wait_max = Duration::from_secs_f64(seconds) + FLUSH_WAIT;
        let line = self.0.ask(&format!("{how} {seconds} {rate}"), wait_max)?;
        let of = |name| crate::child::value(&line, name);
        Ok(Sent { records: of("records")?, seconds: of("seconds")? })
    }
}

/// The child: `full|paced|hot|distinct SECONDS RATE` lines, answered when all of it is acknowledged.
pub(crate) fn run(bootstrap: &str, topic: &str) -> Result<(), Failure> {
    let producer = producer(bootstrap, "1")?;
    let mut chance = Rng::from_seed(11);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [how, seconds, rate] = words.as_slice() else {
            return Err(format!("not an order: {line}").into());
        };
        let (seconds, rate) = (Duration::from_secs_f64(seconds.parse()?), rate.parse::<f64>()?);
        let started = Instant::now();
        let mut sent = 0u64;
        let mut value = [b'v'; 100];
        while started.elapsed() < seconds {
            let due_count =
                if *how == "full" { sent + 1000 } else { (started.elapsed().as_secs_f64() * rate) as u64 };
            if due_count <= sent {
                // Half a millisecond is the most by which a record goes out late on a free machine.
                std::thread::sleep(Duration::from_micros(500));
            }
            let base = SystemTime::now().duration_since(UNIX_EPOCH)? - started.elapsed();
            while sent < due_count {
                let key = match *how {
                    "hot" if sent.is_multiple_of(2) => 0,
                    "distinct" => 1 + sent,
                    _ => 1 + chance.roll() % 9_999,
                };
                let after = if *how == "full" {
                    started.elapsed()
                } else {
                    Duration::from_secs_f64(sent as f64 / rate)
                };
                value[..8].copy_from_slice(&((base + after).as_micros() as u64).to_le_bytes());
                let key = format!("{key:016}");
                send(&producer, BaseRecord::to(topic).key(&key).payload(&value))?;
                sent += 1;
            }
            producer.poll(Duration::ZERO);
        }
        let took = started.elapsed();
        producer.flush(FLUSH_WAIT)?;
        println!("records {sent} seconds {:.6}", took.as_secs_f64());
    }
    Ok(())
}
