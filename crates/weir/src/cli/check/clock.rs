//! Clocks against each other: write times come from region servers, ages are taken by whoever asks.
//!
//! ZooKeeper tells its time with each znode that it makes, region servers tell theirs with each report to the master.
//! Kafka tells its own only to one who writes a record, so it is not asked.

use super::findings::Findings;
use crate::cli::human;
use weir_hbase::clock::Moment;
use weir_wire::hbase::load::ServerLoad;

/// More than this is worth a word: lags in seconds are compared with it in mind.
const SKEW_MS_MAX: i64 = 5000;

/// A region server reports every three seconds, and its report may lie at the master for that long.
const REPORT_AGE_MS_MAX: i64 = 3000;

/// How far another clock is ahead of ours, at least; 0 when both may be right. It showed `theirs` at some moment of
/// ours between `before` and `after`.
const fn ahead_ms(theirs: i64, before: i64, after: i64) -> i64 {
    if theirs > after {
        theirs - after
    } else if theirs < before {
        theirs - before
    } else {
        0
    }
}

/// ZooKeeper's clock.
pub(super) fn zookeeper(at: &str, moment: Moment, findings: &mut Findings) {
    let ahead = ahead_ms(moment.theirs_ms, moment.before_ms, moment.after_ms);
    if ahead.abs() <= SKEW_MS_MAX {
        findings.ok(&format!("{at}: this clock and ZooKeeper's agree within {}", human::span(SKEW_MS_MAX)));
    } else {
        say_skew(&format!("{at}: the clock of ZooKeeper"), ahead, findings);
    }
}

/// The clocks of region servers, from the times of their last reports.
pub(super) fn region_servers(at: &str, servers: &[ServerLoad], now_ms: i64, findings: &mut Findings) {
    let mut is_well = !servers.is_empty();
    for server in servers {
        let theirs = i64::try_from(server.reported_at_ms).unwrap_or(i64::MAX);
        // The report was made at most one interval before the question, or the server has stopped reporting.
        let ahead = ahead_ms(theirs, now_ms - REPORT_AGE_MS_MAX, now_ms);
        if ahead.abs() > SKEW_MS_MAX {
            is_well = false;
            say_skew(&format!("{at}: the clock of region server {}", server.server), ahead, findings);
        }
    }
    if is_well {
        findings.ok(&format!(
            "{at}: this clock and those of {} region servers agree within {}",
            servers.len(),
            human::span(SKEW_MS_MAX)
        ));
    }
}

fn say_skew(whose: &str, ahead: i64, findings: &mut Findings) {
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    findings.warning(
        &format!(
            "{whose} is at least {} {side} this one: ages and lags are wrong by as much",
            human::span(ahead.abs())
        ),
        "timedatectl set-ntp true    (on the machine whose clock is wrong)",
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skew_is_what_cannot_be_the_time_of_the_question() {
        assert_eq!(ahead_ms(105, 100, 110), 0);
        assert_eq!(ahead_ms(100, 100, 110), 0);
        assert_eq!(ahead_ms(130, 100, 110), 20);
        assert_eq!(ahead_ms(70, 100, 110), -30);
    }
}
