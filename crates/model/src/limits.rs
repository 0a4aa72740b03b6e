//! Every bound of Weir, with its reason. A queue that is not bounded by one of these is a bug.

/// Largest HBase RPC frame that is accepted, in bytes.
///
/// A source cuts its batches at 0.95 x `hbase.ipc.max.request.size` (256 MiB); the rest is room for headers.
pub const FRAME_BYTES_MAX: usize = 272 * 1024 * 1024;

/// Bytes of calls in flight per process, unless the configuration says otherwise.
pub const IN_FLIGHT_BYTES_DEFAULT: usize = 256 * 1024 * 1024;

/// Time in which a started frame must arrive whole, in milliseconds: a stalled peer must not hold the budget.
pub const FRAME_WAIT_MS_MAX: u64 = 60_000;

/// Calls of one connection in flight. A source has at most 10 per peer and region server; the rest is for others.
pub const CALLS_PER_CONNECTION_MAX: usize = 64;

/// Connections of one server process: a thousand region servers with several peers each.
pub const CONNECTIONS_MAX: usize = 16_384;

/// The source's call time-out when its request header names none (`hbase.rpc.timeout`), in milliseconds.
pub const CALL_TIMEOUT_MS_DEFAULT: u64 = 60_000;

/// Virtual region servers registered per process; `hbase.replication.source.maxthreads` is 10, so more is useless.
pub const VIRTUAL_SERVERS_DEFAULT: u32 = 10;

/// Largest HBase row key in bytes (`HConstants.MAX_ROW_LENGTH`).
pub const ROW_BYTES_MAX: usize = i16::MAX as usize;

/// Longest Kafka topic name (`org.apache.kafka.common.internals.Topic`).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Largest record body handed to the broker in one piece, in bytes: the broker's default
/// `message.max.bytes` is 1 MiB + 12 including batch and record headers and the key.
pub const PART_BYTES_DEFAULT: usize = 900 * 1024;

/// Parts of one entry: 272 MiB of frame in parts of 64 KiB (the smallest setting) stay below this.
pub const PARTS_MAX: u32 = 8192;

/// Bytes of unfinished parted entries that a reader keeps while it puts parts together.
pub const PARTS_PENDING_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Records of one partition in flight, unless told otherwise: rate x latency, 80,000 records/s of 200 ms each. The
/// window takes 130 KiB, and the names of its records at most 256 KiB.
pub const WINDOW_RECORDS_DEFAULT: usize = 16_384;

/// Records that are taken from a partition at a time: enough to make a hand-over cheap, few enough to be fair.
pub const FETCH_RECORDS_MAX: usize = 512;

const _: () = assert!(FRAME_BYTES_MAX / (64 * 1024) < PARTS_MAX as usize);
