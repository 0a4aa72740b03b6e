//! The fixed conditions of one run: how large the world is, what its sources are set to, how capture is configured.

use weir_sim_kernel::Rng;
use weir_wire::hbase::cell_block::Codec;

/// The record key that capture is configured for, as the simulator itself understands it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyBy {
    /// The encoded region.
    Region,
    /// The row.
    Row,
    /// So many bytes of the row.
    RowLength(usize),
    /// The row up to this byte.
    RowDelimiter(u8),
}

impl KeyBy {
    /// The key that a record must have; written a second time on purpose, as the check of the first.
    #[must_use]
    pub fn key<'a>(self, region: &'a [u8], row: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Region => region,
            Self::Row => row,
            Self::RowLength(length) => row.get(..length).unwrap_or(row),
            Self::RowDelimiter(delimiter) => row.split(|byte| *byte == delimiter).next().unwrap_or(row),
        }
    }
}

/// The conditions.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What everything comes from.
    pub seed: u64,
    /// Weir processes behind the one peer.
    pub processes: usize,
    /// Virtual region servers of each process.
    pub virtual_servers: usize,
    /// Region servers of the source.
    pub servers: usize,
    /// Regions of the source.
    pub regions: usize,
    /// Entries that clients write.
    pub entries: u64,
    /// Time in which they write them and faults happen, ms.
    pub span_ms: u64,
    /// Entries of one batch at most (`replication.source.nb.capacity`).
    pub batch_max: usize,
    /// Entries for which a batch is split once more (100 in HBase).
    pub split_by: usize,
    /// The source's time-out of a call, ms.
    pub call_timeout_ms: u64,
    /// Whether the request header says so.
    pub says_timeout: bool,
    /// `replication.source.sleepforretries`, ms.
    pub retry_ms: u64,
    /// Cell codec of the peer.
    pub codec: Codec,
    /// The key of records.
    pub key_by: KeyBy,
    /// Whether records carry headers.
    pub has_headers: bool,
    /// Partitions of the log.
    pub partitions: usize,
    /// Weir's byte budget.
    pub budget_bytes: usize,
    /// After how long the log fails what it could not make durable, ms.
    pub delivery_ms: u64,
}

/// A budget that no run fills.
const BUDGET_LARGE: usize = 64 << 20;

impl Plan {
    /// The conditions that a seed stands for.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut dice = Rng::new(seed, "plan");
        let has_default_timeout = dice.chance(70);
        let call_timeout_ms = if has_default_timeout { 60_000 } else { dice.between(4, 30) * 1000 };
        let key_by = match dice.below(5) {
            0 => KeyBy::Row,
            1 => KeyBy::RowLength(3),
            2 => KeyBy::RowDelimiter(b':'),
            _ => KeyBy::Region,
        };
        Self {
            seed,
            processes: 1 + dice.below(3),
            virtual_servers: 1 + dice.below(10),
            servers: 1 + dice.below(3),
            regions: 1 + dice.below(8),
            entries: dice.between(20, 240),
            span_ms: dice.between(3, 90) * 1000,
            batch_max: 1 + dice.below(60),
            split_by: 1 + dice.below(20),
            call_timeout_ms,
            says_timeout: !has_default_timeout || dice.chance(70),
            retry_ms: dice.between(100, 1000),
            codec: if dice.chance(70) { Codec::KeyValueWithTags } else { Codec::KeyValue },
            key_by,
            has_headers: dice.chance(80),
            partitions: 1 + dice.below(5),
            budget_bytes: if dice.chance(85) { BUDGET_LARGE } else { dice.between(4, 32) as usize * 1024 },
            delivery_ms: 40_000,
        }
    }

    /// Whether calls may be held up because the budget is spent: then Weir does not read them, and cannot answer.
    #[must_use]
    pub const fn has_tight_budget(&self) -> bool {
        self.budget_bytes < BUDGET_LARGE
    }
}
