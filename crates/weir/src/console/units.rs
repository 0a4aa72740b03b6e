//! Numbers as a person reads them: few digits, a unit, times in UTC.

/// A count with all its digits: `1,234,567`.
pub(super) fn whole(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of what: `1 call`, `1,234 calls`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", whole(count), if count == 1 { "" } else { "s" })
}

/// A count with three digits: `9,999`, `55.8 k`, `1.23 M`.
pub(super) fn count(count: f64) -> String {
    scaled(count, 1000.0, &["", " k", " M", " G", " T"])
}

/// A count with three digits, of a counter.
pub(super) fn count_of(value: u64) -> String {
    count(value as f64)
}

/// Bytes with three digits: `640 B`, `11.1 MiB`.
pub(super) fn bytes(bytes: f64) -> String {
    scaled(bytes, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// Bytes with three digits, of a counter.
pub(super) fn bytes_of(value: u64) -> String {
    bytes(value as f64)
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value.max(0.0), 0);
    // Four digits are short enough to be read whole.
    if value.round() < 10_000.0 && step < 1024.0 {
        return whole(value.round() as u64) + units[0];
    }
    while value >= step * 0.9995 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

/// How long ago: `0.4 s`, `3 m 20 s`, `2 h 5 m`, `12 d 3 h`; a dash for never.
pub(super) fn ago(at_ms: u64, now_ms: u64) -> String {
    if at_ms == 0 {
        return "–".to_owned();
    }
    // A source's clock may be a little ahead of ours.
    span(now_ms.saturating_sub(at_ms))
}

/// A span of time.
pub(super) fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=9 => format!("{:.1} s", ms as f64 / 1000.0),
        10..=59 => format!("{seconds} s"),
        60..=3599 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Time of day, UTC: `23:59:45`.
pub(super) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_few_digits_and_a_unit() {
        let counts = [0.0, 999.4, 9_999.0, 55_810.0, 999_999.0, 1_234_567.0, 2e12];
        let expect = ["0", "999", "9,999", "55.8 k", "1.00 M", "1.23 M", "2.00 T"];
        assert_eq!(counts.map(count), expect);
        let sizes = [0.0, 640.0, 2048.0, 11.1 * 1048576.0, 268_435_456.0];
        assert_eq!(sizes.map(bytes), ["0 B", "640 B", "2.00 KiB", "11.1 MiB", "256 MiB"]);
        assert_eq!([0, 1, 1234].map(|calls| counted(calls, "call")), ["0 calls", "1 call", "1,234 calls"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(whole), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn times_say_how_long_ago_and_when() {
        let now = 1_767_225_600_000;
        let at = [now + 500, now - 400, now - 59_999, now - 200_000, now - 7_500_000, now - 90_000_000];
        assert_eq!(at.map(|at| ago(at, now)), ["0.0 s", "0.4 s", "59 s", "3 m 20 s", "2 h 5 m", "1 d 1 h"]);
        assert_eq!(ago(0, now), "–");
        assert_eq!([now - 1, now].map(clock), ["23:59:59", "00:00:00"]);
    }
}
