//! What a running Weir shows of itself from outside: metrics, the console's picture, memory, its port.

use crate::weir::Weir;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until the condition holds, at most so long; panics with what was waited for.
#[track_caller]
pub(crate) fn wait_until(what: &str, wait_max: Duration, mut is_so: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < wait_max, "after {wait_max:?} still not: {what}");
        std::thread::sleep(LOOK);
    }
    started.elapsed()
}

impl Weir {
    /// Sum of all series of a metric.
    pub(crate) fn sum(&self, name: &str) -> u64 {
        self.sum_of(name, "")
    }

    /// Sum of the series of a metric whose labels hold this text.
    pub(crate) fn sum_of(&self, name: &str, label: &str) -> u64 {
        let metrics = self.get("/metrics");
        let series = metrics.lines().filter_map(|line| line.strip_prefix(name));
        series
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Where a capture listens for region servers.
    pub(crate) fn port_of(&self, capture: &str) -> SocketAddr {
        let answer = self.get("/board");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        // The console may answer in chunks: the object is what is between the outer braces.
        let object = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        let board: serde_json::Value = serde_json::from_str(object).unwrap();
        let captures = board["captures"].as_array().unwrap();
        let found = captures.iter().find(|one| one["name"] == capture).unwrap();
        found["address"].as_str().unwrap().parse().unwrap()
    }

    /// Resident memory in MiB.
    pub(crate) fn rss_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process().id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}
