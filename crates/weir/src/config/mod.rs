//! `weir.toml`: one file per site. The doc comments here are the manual; schema and sample are made from them.
//!
//! Unknown keys are refused with the line and a suggestion; [`Config::validate`] names the field and the fix.

pub mod load;
pub mod manual;
pub mod unit;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use unit::{Bytes, Span, Value};
use weir_model::limits;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// The Kafka cluster that receives the change streams.
    pub log: Log,
    /// One section per HBase cluster whose changes are captured: `[capture.NAME]`.
    pub capture: BTreeMap<String, Capture>,
    /// Bounds of this process.
    pub limits: Limits,
    /// The console, health and metrics listener.
    pub console: Console,
    /// What this process says, and how.
    pub telemetry: Telemetry,
}

/// The Kafka cluster that receives the change streams.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Log {
    /// Addresses of some brokers, `host:port`.
    pub bootstrap: Vec<String>,
    /// Compression of record batches.
    pub compression: Compression,
    /// How long a record waits for others of its partition before it is sent.
    pub linger: Span,
    /// How long a record may stay unacknowledged before its call fails. Must end before the source's own time-out
    /// (60 s) less a quarter, so that no write goes on after its call was given up.
    pub message_timeout: Span,
    /// Largest piece of an entry that is sent as one record. Larger entries are cut into numbered parts. The
    /// broker's `message.max.bytes` (default 1 MiB) must be larger by some KiB.
    pub part_size: Bytes,
    /// Further settings of librdkafka, as they are: TLS, SASL (PLAIN, SCRAM, OAUTHBEARER, GSSAPI), buffers.
    /// Keys that hold secrets want `{ file = "..." }` or `{ env = "..." }`.
    pub properties: BTreeMap<String, Value>,
    /// What happens when a topic is missing.
    pub topics: Topics,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            bootstrap: vec!["127.0.0.1:9092".to_owned()],
            compression: Compression::Lz4,
            linger: Span::from_ms(5),
            message_timeout: Span::from_ms(40_000),
            part_size: Bytes::new(limits::PART_BYTES_DEFAULT as u64),
            properties: BTreeMap::new(),
            topics: Topics::default(),
        }
    }
}

/// Compression of record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// None.
    None,
    /// LZ4: cheap.
    Lz4,
    /// Zstandard: smaller, costs more CPU.
    Zstd,
}

impl Compression {
    /// The name that librdkafka knows.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What happens when a topic is missing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Topics {
    /// Whether Weir creates missing topics. Otherwise a missing topic is a fault, and the source waits.
    pub create: bool,
    /// Partitions of a created topic.
    pub partitions: u32,
    /// Replicas of a created topic.
    pub replication: u32,
    /// `min.insync.replicas` of a created topic.
    pub min_insync_replicas: u32,
    /// `retention.ms` of a created topic.
    pub retention: Span,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            create: false,
            partitions: 12,
            replication: 3,
            min_insync_replicas: 2,
            retention: Span::from_ms(7 * 86_400_000),
        }
    }
}

/// One HBase cluster whose changes are captured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Capture {
    /// ZooKeeper quorum of the source cluster, `host:port,host:port`.
    pub zookeeper: String,
    /// Login at ZooKeeper by its `digest` scheme, as `user:password`: `{ file = "..." }` or `{ env = "..." }`. Znodes
    /// that Weir makes then belong to this login, and everybody may read them. It is used for `peer-zookeeper` too.
    /// SASL and TLS to ZooKeeper are not supported.
    pub zookeeper_digest: Option<Value>,
    /// `zookeeper.znode.parent` of the source cluster.
    pub znode_parent: String,
    /// Id of the replication peer at the source. Letters, digits and `_`; HBase refuses `-`.
    pub peer: String,
    /// ZooKeeper quorum that holds the fake peer cluster; the source's own unless given.
    pub peer_zookeeper: Option<String>,
    /// Base znode of the fake peer cluster; `/weir/PEER` unless given.
    pub base_znode: Option<String>,
    /// Address that the region servers connect to: `host:port` to listen on. Port 0 takes a free one.
    pub listen: String,
    /// Host name written into ZooKeeper, which every region server must resolve; this machine's own name unless given.
    pub advertise: Option<String>,
    /// Virtual region servers registered by this process. A source has at most as many calls open at once as there
    /// are servers, and at most 10.
    pub virtual_servers: u32,
    /// Part of the source's time-out that is kept as a margin, in percent: calls are answered before it ends.
    pub answer_margin_percent: u32,
    /// Tables that are captured: names, or patterns with `*`.
    pub tables: Tables,
    /// Column families that are captured, by table; a table that is not listed sends all its replicated families.
    pub families: BTreeMap<String, Vec<String>>,
    /// How a table becomes a topic and an entry a record.
    pub topic: Topic,
}

impl Default for Capture {
    fn default() -> Self {
        Self {
            zookeeper: "127.0.0.1:2181".to_owned(),
            zookeeper_digest: None,
            znode_parent: "/hbase".to_owned(),
            peer: "weir".to_owned(),
            peer_zookeeper: None,
            base_znode: None,
            listen: "0.0.0.0:16120".to_owned(),
            advertise: None,
            virtual_servers: limits::VIRTUAL_SERVERS_DEFAULT,
            answer_margin_percent: 25,
            tables: Tables::default(),
            families: BTreeMap::new(),
            topic: Topic::default(),
        }
    }
}

impl Capture {
    /// The base znode of the fake peer cluster.
    #[must_use]
    pub fn base_znode(&self) -> String {
        self.base_znode.clone().unwrap_or_else(|| format!("/weir/{}", self.peer))
    }

    /// The quorum that holds the fake peer cluster.
    #[must_use]
    pub fn peer_zookeeper(&self) -> &str {
        self.peer_zookeeper.as_deref().unwrap_or(&self.zookeeper)
    }
}

/// Tables that are captured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Tables {
    /// Taken when one of these matches: `table`, `namespace:table`, `*` stands for any characters. With a colon the two
    /// parts are compared one by one: `shop:*` is all of that namespace, `default:*` all of the default namespace and
    /// nothing else. Without a colon the whole name is compared and `*` stands for a colon too: `*` is every table,
    /// and `tmp*` is `tmp_a` and `tmpspace:orders`; write `default:tmp*` for the first alone.
    pub include: Vec<String>,
    /// Left out when one of these matches, even if included. Patterns as in `include`.
    pub exclude: Vec<String>,
}

impl Default for Tables {
    fn default() -> Self {
        Self { include: vec!["*".to_owned()], exclude: Vec::new() }
    }
}

/// How a table becomes a topic and an entry a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Topic {
    /// Written before the table's name.
    pub prefix: String,
    /// Written after the table's name.
    pub suffix: String,
    /// Topics of tables whose names the rule cannot map: `"table" = "topic"`.
    pub names: BTreeMap<String, String>,
    /// The record key, which decides the partition and so the order.
    pub key: Key,
    /// Length in bytes of the key when `key = "row-prefix"`.
    pub key_length: Option<u16>,
    /// Delimiter (one ASCII character) before which the key ends when `key = "row-prefix"`.
    pub key_delimiter: Option<char>,
    /// Whether each record carries the header `weir` (1/cluster/region/sequence/write time), so that tools need not
    /// decode it. `docs/benchmarks.md` says what it costs.
    pub headers: bool,
}

impl Default for Topic {
    fn default() -> Self {
        Self {
            prefix: "hbase.".to_owned(),
            suffix: ".wal".to_owned(),
            names: BTreeMap::new(),
            key: Key::Region,
            key_length: None,
            key_delimiter: None,
            headers: true,
        }
    }
}

/// The record key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// Encoded region name: an entry stays whole, order as HBase has it.
    Region,
    /// Row key: one record per row of an entry, order per row survives region moves.
    Row,
    /// The first bytes of the row key, by length or up to a delimiter.
    RowPrefix,
}

/// Bounds of this process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Memory of calls in flight, over all captures: their records, and what librdkafka keeps beside them. Past it
    /// Weir stops reading sockets, and the sources wait. The process takes at most 128 MiB more than this.
    pub in_flight: Bytes,
    /// Largest frame that is accepted from a region server.
    pub frame: Bytes,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: Bytes::new(limits::IN_FLIGHT_BYTES_DEFAULT as u64),
            frame: Bytes::new(limits::FRAME_BYTES_MAX as u64),
        }
    }
}

/// The console, health and metrics listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Console {
    /// Address of console, `/metrics`, `/livez` and `/readyz`. It has no login: keep it on loopback or behind a proxy.
    pub listen: String,
}

impl Default for Console {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8640".to_owned() }
    }
}

/// What this process says, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Telemetry {
    /// Form of log lines.
    pub format: LogFormat,
    /// Level, or a filter such as `info,weir_hbase=debug`.
    pub level: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}
