//! The New Year burst as a function of event time: how many messages are sent in each 100 ms.
//!
//! Baseline, four times the baseline from midnight on, one second with a peak of its own, then decay. At the rates of
//! the talk the peak second holds about 400,000 messages; `scale` brings that down to what a machine can carry.

/// Milliseconds of one bucket.
pub(crate) const BUCKET_MS: u64 = 100;

/// Messages in a second of baseline, at full scale.
pub(crate) const BASELINE_PER_S: f64 = 60_000.0;

/// Messages in the second of midnight, at full scale.
pub(crate) const PEAK_PER_S: f64 = 400_000.0;

/// Factor of the minutes after midnight.
pub(crate) const AFTER_FACTOR: f64 = 4.0;

/// Time in which the burst falls to a third.
const DECAY_MS: f64 = 8_000.0;

/// Messages a second at a time relative to midnight, at full scale.
pub(crate) fn rate_at(since_midnight_ms: i64) -> f64 {
    if since_midnight_ms < 0 {
        return BASELINE_PER_S;
    }
    if since_midnight_ms < 1000 {
        return PEAK_PER_S;
    }
    let decay = (-(since_midnight_ms as f64 - 1000.0) / DECAY_MS).exp();
    BASELINE_PER_S * (1.0 + (AFTER_FACTOR - 1.0) * decay)
}

/// Messages of one bucket at a scale.
pub(crate) fn messages(since_midnight_ms: i64, scale: f64) -> u64 {
    (rate_at(since_midnight_ms) * scale * BUCKET_MS as f64 / 1000.0).round() as u64
}

/// Messages of a whole run of `seconds`, with midnight in its middle.
pub(crate) fn total(seconds: u64, scale: f64) -> u64 {
    let half_ms = (seconds * 500).cast_signed();
    let buckets = seconds * 1000 / BUCKET_MS;
    (0..buckets).map(|bucket| messages((bucket * BUCKET_MS).cast_signed() - half_ms, scale)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_of_midnight_holds_four_hundred_thousand_messages() {
        let peak: u64 = (0..10).map(|bucket| messages(bucket * 100, 1.0)).sum();
        assert_eq!(peak, 400_000);
    }

    #[test]
    fn after_midnight_it_is_four_times_the_baseline_and_falls() {
        assert_eq!(messages(-1, 1.0), 6_000);
        assert_eq!(messages(1000, 1.0), 24_000);
        assert!(messages(9_000, 1.0) < 14_000);
        assert!(messages(60_000, 1.0) < 6_100);
    }

    #[test]
    fn a_scale_scales_the_whole() {
        let (full, half) = (total(30, 1.0), total(30, 0.5));
        assert!(full.abs_diff(half * 2) < 1000, "{full} {half}");
        assert!(total(30, 0.5) > 1_000_000);
    }
}
