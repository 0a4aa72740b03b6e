//! Settings of the source, and what they make of librdkafka's.

use super::checks::wrong;
use crate::reader::{RESPONSE_BYTES_MAX, log_level};
use rdkafka::config::ClientConfig;
use std::collections::BTreeMap;
use weir_model::Fault;
use weir_runtime::consumer::BUDGET_BYTES_DEFAULT;

/// Where a partition without a commit is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// The oldest record there is: nothing is missed.
    Earliest,
    /// What is written once the consumer has started. A partition that was added after the group came to its topic is
    /// read from its beginning all the same.
    Latest,
    /// The first record whose timestamp is not before this time, in ms since 1970; the end where there is none yet.
    Time(i64),
}

/// What happens when the committed position is not in the log any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfRange {
    /// The partition stops with a fault that says so: records were lost, and somebody must know.
    Stop,
    /// Goes on with the oldest record there is.
    Earliest,
    /// Goes on with what comes from now on.
    Latest,
}

/// How members of the group share its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Only what moves is taken away (`cooperative-sticky`).
    Cooperative,
    /// Everything is taken away and dealt anew (`range`): for groups whose other members know nothing else.
    Eager,
    /// The broker decides (KIP-848, brokers from 4.0 on).
    Consumer,
}

/// Settings of a source.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Brokers, `host:port,host:port`.
    pub bootstrap: String,
    /// The consumer group.
    pub group: String,
    /// Topics. One that begins with `^` is a regular expression (`^orders[.].*`): all topics that match are read, also
    /// those that are created later, which are found within `topic.metadata.refresh.interval.ms`.
    pub topics: Vec<String>,
    /// Where a partition without a commit is read from.
    pub start_at: StartAt,
    /// What happens when a position is not in the log any more.
    pub out_of_range: OutOfRange,
    /// How members share partitions.
    pub protocol: Protocol,
    /// A name that this member keeps over restarts (`group.instance.id`): a quick restart moves nothing.
    pub instance: Option<String>,
    /// Bytes that librdkafka may fetch ahead, over all partitions. They are part of the consumer's budget; `None` is half
    /// of it.
    pub prefetch_bytes: Option<usize>,
    /// Partitions that one member may have: what is fetched ahead is shared among so many.
    pub partitions_expected: usize,
    /// Further settings of librdkafka.
    pub properties: BTreeMap<String, String>,
}

impl SourceConfig {
    /// Defaults for these topics.
    #[must_use]
    pub fn new(bootstrap: &str, group: &str, topics: &[&str]) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            group: group.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            start_at: StartAt::Earliest,
            out_of_range: OutOfRange::Stop,
            protocol: Protocol::Cooperative,
            instance: None,
            prefetch_bytes: None,
            partitions_expected: 16,
            properties: BTreeMap::new(),
        }
    }

    pub(super) fn client(&self) -> Result<ClientConfig, Fault> {
        const OURS: [(&str, &str); 9] = [
            ("bootstrap.servers", "set bootstrap"),
            ("metadata.broker.list", "set bootstrap"),
            ("group.id", "set group"),
            ("enable.partition.eof", "the end of a partition is what holes before it are committed by"),
            ("enable.auto.commit", "only what is done is committed"),
            ("enable.auto.offset.store", "only what is done is committed"),
            ("auto.offset.reset", "set out_of_range and start_at"),
            ("group.protocol", "set protocol"),
            ("partition.assignment.strategy", "set protocol"),
        ];
        if self.topics.is_empty() {
            return Err(wrong("topics", "there is nothing to read; name one topic at least"));
        }
        if self.group.is_empty() {
            return Err(wrong("group", "without a group nothing can be committed; give it a name"));
        }
        let ahead = self.prefetch_bytes.unwrap_or(BUDGET_BYTES_DEFAULT / 2);
        let per_partition = ahead / self.partitions_expected.max(1);
        let mut client = ClientConfig::new();
        // `fetch.max.bytes` follows from `queued.max.messages.kbytes` and `message.max.bytes` by itself. Were it set here,
        // librdkafka would refuse a larger `message.max.bytes` of `properties`.
        // The default of a second stalls a reader that keeps up with its queue (librdkafka issue 3662).
        client.set("fetch.queue.backoff.ms", "5");
        client.set(
            "queued.max.messages.kbytes",
            per_partition.clamp(256 << 10, 8 << 20).div_euclid(1024).to_string(),
        );
        // librdkafka has some 300 bytes beside each record, which it does not count: small ones have a bound by number.
        client.set("queued.min.messages", (per_partition / 128).clamp(2048, 100_000).to_string());
        client.set("fetch.wait.max.ms", "100");
        // How long an added partition may stay unseen. librdkafka's default is 5 minutes. One request for the topics that
        // are read in 10 s is less than one fetch session asks for in a second.
        client.set("topic.metadata.refresh.interval.ms", "10000");
        // The checksum of a batch is all that tells damage on a broker's disk from a record.
        client.set("check.crcs", "true");
        // Health knows from them what keeps records back.
        client.set("statistics.interval.ms", "1000");
        // A bound of what a broker may answer, and no memory by itself: its default of 100 MB would end the connection
        // again and again when one record is larger.
        client.set("receive.message.max.bytes", RESPONSE_BYTES_MAX);
        if self.protocol != Protocol::Consumer {
            // A member learns of a rebalance by its heartbeat; until then what moves stands still. KIP-848 has the
            // broker say how often.
            client.set("heartbeat.interval.ms", "1000");
        }
        for (key, value) in &self.properties {
            if let Some((_, why)) = OURS.iter().find(|(ours, _)| ours == key) {
                return Err(wrong(format!("properties.\"{key}\""), *why));
            }
            client.set(key, value);
        }
        client
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set(
                "auto.offset.reset",
                match self.out_of_range {
                    OutOfRange::Stop => "error",
                    OutOfRange::Earliest => "earliest",
                    OutOfRange::Latest => "latest",
                },
            );
        if let Some(instance) = &self.instance {
            client.set("group.instance.id", instance);
        }
        match self.protocol {
            Protocol::Cooperative => client.set("partition.assignment.strategy", "cooperative-sticky"),
            Protocol::Eager => client.set("partition.assignment.strategy", "range,roundrobin"),
            Protocol::Consumer => client.set("group.protocol", "consumer"),
        };
        client.set_log_level(log_level(&self.properties));
        Ok(client)
    }
}
