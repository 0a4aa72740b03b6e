//! From counters to rates: what grew in the last two seconds, and when it last grew.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// What a rate looks back on: long enough to be calm, short enough that a burst shows.
const SPAN: Duration = Duration::from_secs(2);

/// Looks closer together than this count as one, so that many who ask cannot grow what is kept.
const STEP: Duration = Duration::from_millis(100);

/// Rates of many counters, by name.
#[derive(Debug, Default)]
pub(super) struct Rates {
    seen: HashMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    samples: VecDeque<(Instant, u64)>,
    last_ms: u64,
}

impl Rates {
    /// Notes what a counter says now.
    pub(super) fn note(&mut self, name: String, value: u64, now: Instant, now_ms: u64) {
        let seen = self.seen.entry(name).or_default();
        if seen.samples.back().is_some_and(|(at, _)| now.duration_since(*at) < STEP) {
            return;
        }
        // What was there before the first look did not grow: its time is not known.
        if seen.samples.back().is_some_and(|(_, before)| *before < value) {
            seen.last_ms = now_ms;
        }
        seen.samples.push_back((now, value));
        while seen.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= SPAN) {
            seen.samples.pop_front();
        }
    }

    /// How much a counter grows in a second.
    pub(super) fn per_second(&self, name: &str) -> f64 {
        let ends = self.seen.get(name).and_then(|seen| seen.samples.front().zip(seen.samples.back()));
        let Some(((first_at, first), (last_at, last))) = ends else { return 0.0 };
        let seconds = last_at.duration_since(*first_at).as_secs_f64();
        if seconds > 0.0 { last.saturating_sub(*first) as f64 / seconds } else { 0.0 }
    }

    /// When a counter was last seen to grow, ms since 1970; 0 when never.
    pub(super) fn last_ms(&self, name: &str) -> u64 {
        self.seen.get(name).map_or(0, |seen| seen.last_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_looks_back_two_seconds_and_falls_to_zero() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        for step in 0..40u32 {
            let value = u64::from(step.min(20)) * 100;
            rates.note("entries".into(), value, start + Duration::from_millis(250) * step, u64::from(step));
            if step == 20 {
                assert!((rates.per_second("entries") - 400.0).abs() < 1.0);
            }
        }
        assert_eq!((rates.per_second("entries"), rates.last_ms("entries")), (0.0, 20));
        assert_eq!((rates.per_second("no such"), rates.last_ms("no such")), (0.0, 0));
    }
}
