//! The timestamp that a dead letter gets when it is put back: the record's own where the topic keeps it, and the present
//! otherwise.

use std::collections::BTreeMap;

/// What must be left of the topic's retention: a record that is deleted at once was put back for nobody.
const LEFT_MS_MIN: i64 = 86_400_000;

/// Whether a topic with these settings takes a record of that time, and keeps it for a while.
pub(super) fn is_kept(settings: &BTreeMap<String, String>, written_ms: i64, now_ms: i64) -> bool {
    let number = |key: &str| settings.get(key).and_then(|value| value.parse::<i64>().ok());
    let (age_ms, ahead_ms) = (now_ms.saturating_sub(written_ms), written_ms.saturating_sub(now_ms));
    let is_taken = number("message.timestamp.before.max.ms").is_none_or(|most| age_ms <= most)
        && number("message.timestamp.after.max.ms").is_none_or(|most| ahead_ms <= most);
    let deletes = settings.get("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    // Below zero is for ever.
    let kept_ms = number("retention.ms").filter(|kept_ms| deletes && *kept_ms >= 0);
    let lasts = kept_ms.is_none_or(|kept_ms| age_ms <= kept_ms - LEFT_MS_MIN.min(kept_ms / 2));
    written_ms >= 0 && is_taken && lasts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_takes_what_it_allows_and_keeps() {
        const HOUR_MS: i64 = 3_600_000;
        let check = |settings: &[(&str, &str)], hours: &[i64], expect: &[bool]| {
            let settings =
                settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let now_ms = 1_800_000_000_000;
            let got: Vec<bool> =
                hours.iter().map(|hours| is_kept(&settings, now_ms - hours * HOUR_MS, now_ms)).collect();
            assert_eq!(got, expect, "{settings:?}");
        };
        check(&[("retention.ms", "604800000")], &[0, 100, 144, 145], &[true, true, true, false]);
        check(&[("retention.ms", "36000000")], &[5, 6], &[true, false]);
        check(&[("retention.ms", "-1")], &[100_000], &[true]);
        check(&[("retention.ms", "36000000"), ("cleanup.policy", "compact")], &[100_000], &[true]);
        check(&[("message.timestamp.before.max.ms", "7200000")], &[2, 3], &[true, false]);
        check(&[("message.timestamp.after.max.ms", "3600000")], &[-1, -2], &[true, false]);
        assert!(!is_kept(&BTreeMap::new(), -1, 0));
    }
}
