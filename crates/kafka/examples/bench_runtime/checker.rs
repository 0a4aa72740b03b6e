//! Watches what a handler is given: each record once, in order and one at a time per key; and how long a partition
//! stands still.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Instant;
use weir_runtime::record::Record;

/// Keys are the numbers below this.
const KEYS: usize = 10_000;

/// Partitions and offsets of one that are watched; the cells that use this stay below both.
const PARTITIONS: usize = 8;
const OFFSETS: usize = 1 << 22;

struct Key {
    /// Offset of the last record that was done.
    last: AtomicI64,
    is_busy: AtomicBool,
}

struct Partition {
    done: Box<[AtomicU64]>,
    /// When a record of it was done last, us since the start; 0: none yet.
    last_us: AtomicU64,
    pause_us_max: AtomicU64,
}

pub(crate) struct Checker {
    started: Instant,
    keys: Box<[Key]>,
    partitions: Box<[Partition]>,
    violations: AtomicU64,
    duplicates: AtomicU64,
}

impl Default for Checker {
    fn default() -> Self {
        let partition = || Partition {
            done: (0..OFFSETS / 64).map(|_| AtomicU64::new(0)).collect(),
            last_us: AtomicU64::new(0),
            pause_us_max: AtomicU64::new(0),
        };
        Self {
            started: Instant::now(),
            keys: (0..KEYS)
                .map(|_| Key { last: AtomicI64::new(-1), is_busy: AtomicBool::new(false) })
                .collect(),
            partitions: (0..PARTITIONS).map(|_| partition()).collect(),
            violations: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        }
    }
}

impl Checker {
    /// An attempt begins.
    pub(crate) fn begun(&self, record: &Record) {
        let key = self.key(record);
        if key.is_busy.swap(true, Ordering::AcqRel) {
            self.violations.fetch_add(1, Ordering::Relaxed);
        }
        let is_again = self.bit(record).is_some_and(|(word, bit)| word.load(Ordering::Acquire) & bit != 0);
        if is_again {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
        } else if key.last.load(Ordering::Acquire) > record.offset {
            self.violations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It failed: the key is free until the next attempt.
    pub(crate) fn failed(&self, record: &Record) {
        self.key(record).is_busy.store(false, Ordering::Release);
    }

    /// The record is done.
    pub(crate) fn done(&self, record: &Record) {
        if let Some((word, bit)) = self.bit(record) {
            word.fetch_or(bit, Ordering::AcqRel);
        }
        let partition = &self.partitions[record.partition.unsigned_abs() as usize % PARTITIONS];
        let now_us = self.started.elapsed().as_micros() as u64;
        let last_us = partition.last_us.swap(now_us, Ordering::AcqRel);
        if last_us > 0 {
            partition.pause_us_max.fetch_max(now_us.saturating_sub(last_us), Ordering::Relaxed);
        }
        let key = self.key(record);
        key.last.fetch_max(record.offset, Ordering::AcqRel);
        key.is_busy.store(false, Ordering::Release);
    }

    /// Forgets how long partitions stood still.
    pub(crate) fn forget_pauses(&self) {
        for partition in &self.partitions {
            partition.last_us.store(0, Ordering::Release);
            partition.pause_us_max.store(0, Ordering::Release);
        }
    }

    /// Records that came out of order, or beside another one of their key.
    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    /// Records that came again after they were done.
    pub(crate) fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// The longest time, in ms, in which a partition had nothing done.
    pub(crate) fn pause_ms_max(&self) -> f64 {
        let pauses = self.partitions.iter().map(|one| one.pause_us_max.load(Ordering::Relaxed));
        pauses.max().unwrap_or_default() as f64 / 1000.0
    }

    /// Records that were done, each counted once.
    pub(crate) fn distinct(&self) -> u64 {
        let words = self.partitions.iter().flat_map(|partition| &partition.done);
        words.map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    fn key(&self, record: &Record) -> &Key {
        let digits = record.key().unwrap_or_default();
        let number =
            digits.iter().fold(0usize, |number, digit| number.wrapping_mul(10) + usize::from(digit & 0xf));
        &self.keys[number % KEYS]
    }

    fn bit(&self, record: &Record) -> Option<(&AtomicU64, u64)> {
        let partition = self.partitions.get(usize::try_from(record.partition).ok()?)?;
        let offset = usize::try_from(record.offset).ok()?;
        Some((partition.done.get(offset / 64)?, 1 << (offset % 64)))
    }
}
