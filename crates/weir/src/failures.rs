//! What fails now: failures of calls that no later success has answered.
//!
//! A call fails whole, and its source tries again after up to five minutes, while calls of other region servers go
//! well. So a failure is present until calls with its tables have succeeded, however long that takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use weir_model::Fault;

/// A failure after which nobody has tried again for this long is over: its source is gone. HBase's longest pause
/// between two tries is five minutes (`sleepforretries` times `maxretriesmultiplier`).
const FORGET_AFTER_MS: u64 = 900_000;

/// How many are kept; the oldest gives way.
const FAILURES_MAX: usize = 64;

/// One failure that is present.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// The fault's code.
    pub code: &'static str,
    /// What the fault is about: mostly a topic.
    pub about: String,
    /// Tables of the calls that failed and of which no call has succeeded since.
    pub tables: BTreeSet<String>,
    /// Number of calls.
    pub count: u64,
    /// When the first call failed, ms since 1970.
    pub first_ms: u64,
    /// When the last call failed, ms since 1970.
    pub last_ms: u64,
    /// What the last one said.
    pub text: String,
}

/// The failures of a capture.
#[derive(Debug, Default)]
pub struct Failures {
    open: Mutex<BTreeMap<(&'static str, String), Failure>>,
}

impl Failures {
    /// Notes that a call with these tables failed. True when nothing of the kind was open.
    pub fn note(&self, fault: &Fault, tables: impl Iterator<Item = String>, now_ms: u64) -> bool {
        let mut open = self.open.lock().expect("no panic under this lock");
        open.retain(|_, failure| now_ms < failure.last_ms.saturating_add(FORGET_AFTER_MS));
        let key = (fault.code(), fault.about().to_owned());
        let is_new = !open.contains_key(&key);
        if is_new && open.len() >= FAILURES_MAX {
            let oldest = open.iter().min_by_key(|(_, failure)| failure.last_ms).map(|(key, _)| key.clone());
            oldest.and_then(|key| open.remove(&key));
        }
        let failure = open.entry(key).or_default();
        if is_new {
            failure.code = fault.code();
            fault.about().clone_into(&mut failure.about);
            failure.first_ms = now_ms;
        }
        failure.tables.extend(tables);
        failure.count += 1;
        failure.last_ms = now_ms;
        failure.text = fault.chain();
        is_new
    }

    /// Notes that a call with these tables succeeded.
    pub fn succeeded<'a>(&self, tables: impl Iterator<Item = &'a str> + Clone) {
        let mut open = self.open.lock().expect("no panic under this lock");
        if open.is_empty() {
            return;
        }
        open.retain(|_, failure| {
            let had_tables = !failure.tables.is_empty();
            for table in tables.clone() {
                failure.tables.remove(table);
            }
            !(had_tables && failure.tables.is_empty())
        });
    }

    /// The failures that are present, by code.
    #[must_use]
    pub fn present(&self, now_ms: u64) -> Vec<Failure> {
        let open = self.open.lock().expect("no panic under this lock");
        let is_present = |failure: &&Failure| now_ms < failure.last_ms.saturating_add(FORGET_AFTER_MS);
        open.values().filter(is_present).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::FaultKind;

    fn fault(about: &str) -> Fault {
        Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "write to Kafka", about)
    }

    fn tables(names: &[&str]) -> impl Iterator<Item = String> {
        names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_failure_is_present_until_its_own_table_has_succeeded() {
        let failures = Failures::default();
        assert!(failures.note(&fault("gone.wal"), tables(&["gone", "innocent"]), 1000));
        assert!(!failures.note(&fault("gone.wal"), tables(&["gone", "innocent"]), 2000), "it is known");
        // Calls of another region server go well: they do not hold the table that fails.
        failures.succeeded(["innocent", "other"].into_iter());
        let present = failures.present(300_000);
        assert_eq!((present.len(), present[0].count, present[0].first_ms), (1, 2, 1000));
        assert_eq!(present[0].tables, BTreeSet::from(["gone".to_owned()]));
        failures.succeeded(["gone"].into_iter());
        assert_eq!(failures.present(300_000), []);
    }

    #[test]
    fn a_failure_that_nobody_repeats_is_forgotten_and_their_number_is_bounded() {
        let failures = Failures::default();
        failures.note(&fault("a"), tables(&["a"]), 1000);
        assert_eq!(failures.present(1000 + FORGET_AFTER_MS), []);
        for number in 0..FAILURES_MAX as u64 + 5 {
            failures.note(&fault(&number.to_string()), tables(&["x"]), 2000 + number);
        }
        let present = failures.present(3000);
        assert_eq!(present.len(), FAILURES_MAX);
        assert!(present.iter().all(|failure| failure.last_ms >= 2005), "the oldest gave way");
    }
}
