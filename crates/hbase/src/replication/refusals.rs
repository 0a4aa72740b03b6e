//! Which machines are refused now, and why: what the counters by reason cannot tell.
//!
//! A refusal stays until the machine gets as far as it did not get before, or until it is the oldest of too many.

use super::stats::Refused;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use weir_model::limits::{REFUSAL_DETAIL_BYTES_MAX, REFUSALS_MAX};

/// A machine that is refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The machine.
    pub address: IpAddr,
    /// Why.
    pub why: Refused,
    /// What it asked for: the class of a codec, the login, the text of an error. Cut where it is long.
    pub detail: String,
    /// How often since it was last accepted.
    pub count: u64,
    /// When it was refused last, ms since 1970.
    pub last_ms: u64,
}

/// The refusals of one server.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    open: Mutex<BTreeMap<(IpAddr, &'static str), Refusal>>,
    /// As many as there are in `open`: a good call does not take the lock when there is none.
    count: AtomicUsize,
}

impl Refusals {
    /// Notes a refusal. Stops of our own are none.
    pub(super) fn note(&self, address: IpAddr, why: Refused, detail: &str) {
        if why == Refused::Draining {
            return;
        }
        self.note_at(address, why, detail, now_ms());
    }

    fn note_at(&self, address: IpAddr, why: Refused, detail: &str, now_ms: u64) {
        let mut open = self.open.lock().expect("no panic under this lock");
        let key = (address, why.label());
        if !open.contains_key(&key)
            && open.len() >= REFUSALS_MAX
            && let Some(oldest) = open.iter().min_by_key(|(_, one)| one.last_ms).map(|(key, _)| *key)
        {
            open.remove(&oldest);
        }
        let one = open.entry(key).or_insert_with(|| Refusal {
            address,
            why,
            detail: String::new(),
            count: 0,
            last_ms: 0,
        });
        one.count += 1;
        one.last_ms = now_ms;
        one.detail.clear();
        one.detail.push_str(&detail[..detail.floor_char_boundary(REFUSAL_DETAIL_BYTES_MAX)]);
        self.count.store(open.len(), Ordering::Relaxed);
    }

    /// A machine's connection was accepted: what was refused before that point is over.
    pub(super) fn connected(&self, address: IpAddr) {
        self.forget(address, Refused::is_of_connection);
    }

    /// A machine's call was accepted.
    pub(super) fn called(&self, address: IpAddr) {
        self.forget(address, |_| true);
    }

    fn forget(&self, address: IpAddr, is_over: impl Fn(Refused) -> bool) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut open = self.open.lock().expect("no panic under this lock");
        open.retain(|_, one| one.address != address || !is_over(one.why));
        self.count.store(open.len(), Ordering::Relaxed);
    }

    /// All of them, by machine.
    pub(super) fn snapshot(&self) -> Vec<Refusal> {
        self.open.lock().expect("no panic under this lock").values().cloned().collect()
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn a_refusal_stays_until_its_machine_gets_further() {
        let refusals = Refusals::default();
        let left = |refusals: &Refusals| -> Vec<(IpAddr, Refused, u64)> {
            refusals.snapshot().iter().map(|one| (one.address, one.why, one.count)).collect()
        };
        refusals.note_at(machine(1), Refused::Compressor, "Lz4Codec", 5);
        refusals.note_at(machine(1), Refused::Compressor, "Lz4Codec", 6);
        refusals.note_at(machine(1), Refused::Malformed, "short", 7);
        refusals.note_at(machine(2), Refused::Compressor, "Lz4Codec", 8);
        refusals.note(machine(2), Refused::Draining, "");
        refusals.connected(machine(1));
        assert_eq!(
            left(&refusals),
            [(machine(1), Refused::Malformed, 1), (machine(2), Refused::Compressor, 1)]
        );
        refusals.called(machine(1));
        assert_eq!(left(&refusals), [(machine(2), Refused::Compressor, 1)]);
    }

    #[test]
    fn strangers_without_end_take_a_bounded_room() {
        let refusals = Refusals::default();
        let long = "ä".repeat(10_000);
        for number in 0..3 * u32::try_from(REFUSALS_MAX).unwrap() {
            refusals.note_at(machine(number), Refused::Preamble, &long, u64::from(number));
        }
        let kept = refusals.snapshot();
        assert_eq!(kept.len(), REFUSALS_MAX);
        assert!(kept.iter().all(|one| one.detail.len() <= REFUSAL_DETAIL_BYTES_MAX));
        assert!(kept.iter().all(|one| one.last_ms >= 2 * REFUSALS_MAX as u64), "the newest are kept");
    }
}
