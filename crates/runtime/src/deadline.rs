//! A time ahead, whatever the wait: one that is longer than a clock can count is thirty years.

use std::time::Duration;
use tokio::time::Instant;

/// As far ahead as tokio's own timers go when a wait is too long to add.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// So long after `now`.
pub(crate) fn after(now: Instant, wait: Duration) -> Instant {
    now.checked_add(wait).unwrap_or_else(|| now + FAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_no_clock_can_count_ends_far_ahead() {
        let now = Instant::now();
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        assert_eq!(after(now, Duration::MAX), now + FAR);
    }
}
