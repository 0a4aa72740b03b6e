//! Watches what a handler is given, and says what is wrong with it: two of a key at once, or a key out of order.

use crate::record::{Place, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Default)]
struct Seen {
    /// Keys with an attempt under way.
    open: BTreeSet<Vec<u8>>,
    /// The offset of the newest record that was done, by key and partition.
    newest: BTreeMap<(Vec<u8>, Place), i64>,
    done: BTreeSet<(Place, i64)>,
    attempts: BTreeMap<(Place, i64), u32>,
    repeated: usize,
    wrong: Vec<String>,
}

/// The judge. Clones share what was seen, also over several consumers of one group.
///
/// A record that is handled again after it was done is counted, not condemned: at least once allows it after a kill. A
/// record that is handled for the first time after a newer one of its key was done is out of order.
#[derive(Clone, Default)]
pub struct Judge {
    seen: Arc<Mutex<Seen>>,
}

/// One attempt under way. Dropped without [`Attempt::done`] it has failed, or was cancelled.
pub struct Attempt {
    judge: Judge,
    key: Option<Vec<u8>>,
    place: Place,
    offset: i64,
}

impl Judge {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no panic under this lock")
    }

    /// An attempt begins; first thing in a handler.
    #[must_use]
    pub fn begin(&self, record: &Record) -> Attempt {
        self.begin_as(record.key(), record)
    }

    /// As [`Judge::begin`], with the key told by whoever knows it better than the record does.
    #[must_use]
    pub fn begin_as(&self, key: Option<&[u8]>, record: &Record) -> Attempt {
        let place = Place { topic: record.topic, partition: record.partition };
        let of = (place.clone(), record.offset);
        let mut seen = self.seen();
        let is_repeated = seen.done.contains(&of);
        seen.repeated += usize::from(is_repeated);
        let key = key.map(<[u8]>::to_vec);
        if let Some(key) = &key {
            let name = String::from_utf8_lossy(key).into_owned();
            if !seen.open.insert(key.clone()) {
                seen.wrong.push(format!("two at once: key {name:?} at {place}/{}", record.offset));
            }
            let newest = seen.newest.get(&(key.clone(), place.clone())).copied();
            if let Some(newest) = newest.filter(|newest| *newest > record.offset && !is_repeated) {
                let text = format!("out of order: key {name:?} at {place}/{} after {newest}", record.offset);
                seen.wrong.push(text);
            }
        }
        *seen.attempts.entry(of).or_default() += 1;
        drop(seen);
        Attempt { judge: self.clone(), key, place, offset: record.offset }
    }

    /// What was wrong; empty is good.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        self.seen().wrong.clone()
    }

    /// Records that were done, each counted once.
    #[must_use]
    pub fn done_count(&self) -> usize {
        self.seen().done.len()
    }

    /// Whether a record was done.
    #[must_use]
    pub fn is_done(&self, place: &Place, offset: i64) -> bool {
        self.seen().done.contains(&(place.clone(), offset))
    }

    /// Attempts at records that had been done before.
    #[must_use]
    pub fn repeated_count(&self) -> usize {
        self.seen().repeated
    }

    /// Attempts at one record.
    #[must_use]
    pub fn attempts(&self, place: &Place, offset: i64) -> u32 {
        self.seen().attempts.get(&(place.clone(), offset)).copied().unwrap_or_default()
    }
}

impl Attempt {
    /// The record is done; last thing in a handler.
    pub fn done(self) {
        let mut seen = self.judge.seen();
        if let Some(key) = &self.key {
            let newest = seen.newest.entry((key.clone(), self.place.clone())).or_insert(self.offset);
            *newest = (*newest).max(self.offset);
        }
        seen.done.insert((self.place.clone(), self.offset));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.judge.seen().open.remove(key);
        }
    }
}
