//! Every bound of Weir, with its reason. A queue that is not bounded by one of these is a bug.

/// Largest HBase RPC frame that is accepted, in bytes.
///
/// A source cuts its batches at 0.95 x `hbase.ipc.max.request.size` (256 MiB); the rest is room for headers.
pub const FRAME_BYTES_MAX: usize = 272 * 1024 * 1024;

/// Memory of calls in flight per process, unless the configuration says otherwise.
pub const IN_FLIGHT_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// Memory of a record in flight beside its bytes: its span, and librdkafka's message (READ: 208 bytes and the
/// allocator's rounding).
pub const RECORD_OVERHEAD_BYTES: usize = 288;

/// Memory of a record header in flight beside its bytes: its span, and librdkafka's list and header (READ: three
/// allocations).
pub const HEADER_OVERHEAD_BYTES: usize = 208;

/// Memory that a frame is expected to take while it is in flight, as a multiple of its own bytes, before a connection
/// has seen one. Small entries weigh the most: 100-byte entries with a header take 3.8 times their frame.
pub const FRAME_WEIGHT_FIRST: usize = 4;

/// The largest multiple that a connection expects of its next frame because of the last one.
pub const FRAME_WEIGHT_MAX: usize = 16;

/// Time in which a started frame must arrive whole, in milliseconds: a stalled peer must not hold the budget.
pub const FRAME_WAIT_MS_MAX: u64 = 60_000;

/// Calls of one connection in flight. A source has at most 10 per peer and region server; the rest is for others.
pub const CALLS_PER_CONNECTION_MAX: usize = 64;

/// Connections of one server process: a thousand region servers with several peers each.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How long a connection may say nothing before the kernel asks whether the other side still lives, in seconds.
///
/// Linux asks after two hours unless told; a dead source would keep its connection and what it holds for so long.
pub const KEEP_ALIVE_IDLE_S: u64 = 60;

/// How often the kernel asks again, in seconds; after nine questions (Linux) without an answer the connection ends.
pub const KEEP_ALIVE_EVERY_S: u64 = 15;

/// The source's call time-out when its request header names none (`hbase.rpc.timeout`), in milliseconds.
pub const CALL_TIMEOUT_MS_DEFAULT: u64 = 60_000;

/// Virtual region servers registered per process; `hbase.replication.source.maxthreads` is 10, so more is useless.
pub const VIRTUAL_SERVERS_DEFAULT: u32 = 10;

/// Largest answer that is taken from a master, in bytes: a cluster's status names every region, about 100 bytes each,
/// and a large cluster has a million.
pub const MASTER_ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Calls of an HBase client to one server in flight: a region server queues ten times its handlers, 300 by default.
pub const CLIENT_CALLS_PER_SERVER_MAX: usize = 100;

/// Frames of an HBase client that wait to be written to one connection; a caller waits when there are more.
pub const CLIENT_FRAMES_QUEUED_MAX: usize = 64;

/// Bytes of one request of many actions, about. Large enough to make the call cheap, small enough to share a connection.
pub const CLIENT_BATCH_BYTES_MAX: usize = 2 << 20;

/// Actions of one request: each has an outcome in the answer, and holds a row's lock while the server runs the batch.
pub const CLIENT_BATCH_ACTIONS_MAX: usize = 5_000;

/// Largest request of an HBase client in bytes: servers refuse more (`hbase.ipc.max.request.size`).
pub const CLIENT_REQUEST_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Largest HBase row key in bytes (`HConstants.MAX_ROW_LENGTH`).
pub const ROW_BYTES_MAX: usize = i16::MAX as usize;

/// Longest Kafka topic name (`org.apache.kafka.common.internals.Topic`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Write times up to this old are the timestamps of their records, in milliseconds; older ones get the present.
///
/// Kafka counts retention from the record's timestamp: a source that catches up after a week would have its
/// acknowledged records deleted at once. With this, retention is at most an hour shorter than it says.
pub const RECORD_AGE_MS_MAX: i64 = 3_600_000;

/// Write times up to this far ahead of our clock are kept too, in milliseconds. A broker refuses more than an hour
/// (`message.timestamp.after.max.ms`), and a region server whose clock is wrong must not stop the stream.
pub const RECORD_AHEAD_MS_MAX: i64 = 60_000;

/// Largest record body handed to the broker in one piece, in bytes: the broker's default
/// `message.max.bytes` is 1 MiB + 12 including batch and record headers and the key.
pub const PART_BYTES_DEFAULT: usize = 900 * 1024;

/// Record bytes that one call may become: eight times the largest frame. Records of rows repeat the head of their entry.
pub const CALL_ARENA_BYTES_MAX: usize = 2 << 30;

/// Parts of one entry: 272 MiB of frame in parts of 64 KiB (the smallest setting) stay below this.
pub const PARTS_MAX: u32 = 8192;

/// Bytes of unfinished parted entries that a reader keeps while it puts parts together.
pub const PARTS_PENDING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Records of one partition in flight, unless told otherwise: rate x latency, 80,000 records/s of 200 ms each. The
/// window takes 130 KiB, and the names of its records at most 256 KiB.
pub const WINDOW_RECORDS_DEFAULT: usize = 16_384;

/// Attempts of one consumer under way at once, unless told otherwise. Handlers often share a connection pool of ten; with
/// 64 of them an attempt waits for six others before it, and no pool's time-out (30 s) is near.
pub const CONCURRENCY_DEFAULT: usize = 64;

/// Largest window of one partition, in records: its offsets and bits take 136 MiB.
pub const WINDOW_RECORDS_MAX: usize = 1 << 24;

/// Most shards of a consumer: each is a task with its own lanes, and no machine has more cores.
pub const SHARDS_MAX: usize = 1024;

/// Longest time between two commits, in ms: what a kill repeats.
pub const COMMIT_EVERY_MS_MAX: u64 = 3_600_000;

/// Longest drain of a partition that is taken away, in ms: the whole group waits for it.
pub const DRAIN_MS_MAX: u64 = 3_600_000;

/// Longest wait between two attempts, in ms: a week, as long as a topic keeps its records by default.
pub const RETRY_WAIT_MS_MAX: u64 = 7 * 24 * 3_600_000;

/// Records that are taken from a partition at a time: enough to make a hand-over cheap, few enough to be fair.
pub const FETCH_RECORDS_MAX: usize = 1024;

/// Records over their key's quota that are written aside at a time: an answer of the log for that many.
pub const SHAPED_BATCH_RECORDS_MAX: usize = 500;

/// Bytes of keys and values of such records, passed by at most one of them: they are in memory twice until the log has
/// answered.
pub const SHAPED_BATCH_BYTES_MAX: usize = 1 << 20;

/// Refusals that a replication server remembers, one for each machine and reason: more than the region servers that an
/// operator looks at, and 100 KiB at most whoever connects.
pub const REFUSALS_MAX: usize = 256;

/// Bytes of what a refused machine asked for that are kept: the class of a codec, an error in one line.
pub const REFUSAL_DETAIL_BYTES_MAX: usize = 300;

const _: () = assert!(FRAME_BYTES_MAX / (64 * 1024) < PARTS_MAX as usize);
