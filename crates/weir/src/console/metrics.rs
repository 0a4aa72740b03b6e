//! `/metrics`: everything that Prometheus scrapes. `docs/metrics.md` lists each name; a test holds the two together.

use super::picture::{CapturePicture, Picture};
use prometheus_client::registry::Registry;
use std::fmt::Write as _;

/// Content type of OpenMetrics text.
pub(super) const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A number of each capture, under its name.
struct Each {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&CapturePicture) -> u64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&CapturePicture) -> u64) -> Each {
    Each { name, kind: "counter", help, value }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&CapturePicture) -> u64) -> Each {
    Each { name, kind: "gauge", help, value }
}

const OF_CAPTURES: [Each; 13] = [
    gauge("weir_source_registered", "1 when region servers can find this process, else 0", |one| {
        u64::from(one.trouble.is_none())
    }),
    gauge("weir_source_hosts", "Addresses of region servers seen since the start", |one| {
        one.sources.len() as u64
    }),
    gauge("weir_source_hosts_refused", "Addresses whose connections or calls are refused now", |one| {
        let mut hosts: Vec<&str> = one.refused.iter().map(|refused| refused.server.as_str()).collect();
        hosts.sort_unstable();
        hosts.dedup();
        hosts.len() as u64
    }),
    gauge("weir_source_connections", "Connections open", |one| one.connections),
    gauge("weir_source_calls_open", "Calls not answered yet", |one| one.calls_open),
    counter("weir_source_calls", "Calls taken", |one| one.calls),
    counter("weir_source_entries", "WAL entries taken", |one| one.taken.entries),
    counter("weir_source_cells", "Cells taken", |one| one.taken.cells),
    counter("weir_source_bytes", "Frame bytes taken", |one| one.taken.bytes),
    counter("weir_source_done", "Calls answered OK", |one| one.done),
    counter("weir_source_again", "Calls answered with a retriable error", |one| one.again),
    counter("weir_source_late", "Calls given up before the source's time-out", |one| one.late),
    counter("weir_source_overlaps", "Retries that overlapped their first attempt", |one| one.overlaps),
];

/// The whole text.
pub(super) fn text(registry: &Registry, picture: &Picture) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, registry);
    let mut out = Out { text: text.trim_end().trim_end_matches("# EOF").trim_end().to_owned() };
    out.text.push('\n');
    for each in &OF_CAPTURES {
        out.head(each.name, each.kind, each.help);
        for one in &picture.captures {
            out.value(each.name, each.kind, &[("capture", &one.name)], (each.value)(one) as f64);
        }
    }
    let refused = ("weir_source_refused", "counter");
    out.head(refused.0, refused.1, "Connections and calls refused, by reason");
    for one in &picture.captures {
        for (reason, count) in &one.refused_counts {
            out.value(refused.0, refused.1, &[("capture", &one.name), ("reason", reason)], *count as f64);
        }
    }
    let faults = ("weir_capture_faults", "counter");
    out.head(faults.0, faults.1, "Calls failed, by fault code");
    for one in &picture.captures {
        for (code, fault) in &one.faults {
            out.value(faults.0, faults.1, &[("capture", &one.name), ("code", code)], fault.count as f64);
        }
    }
    process(&mut out, picture);
    out.text.push_str("# EOF\n");
    out.text
}

/// What is said of the process as a whole.
fn process(out: &mut Out, picture: &Picture) {
    let totals = &picture.totals;
    let mut one = |name: &str, kind: &str, help: &str, value: f64| {
        out.head(name, kind, help);
        out.value(name, kind, &[], value);
    };
    one("weir_in_flight_bytes", "gauge", "Bytes of calls in flight", totals.in_flight_bytes as f64);
    one("weir_in_flight_bytes_max", "gauge", "The budget", totals.in_flight_bytes_max as f64);
    one(
        "weir_in_flight_waiting",
        "gauge",
        "Connections that wait for the budget",
        totals.connections_waiting as f64,
    );
    let started = picture.started_ms as f64 / 1000.0;
    one("process_start_time_seconds", "gauge", "Start of the process, in s since 1970", started);
    if let Some(bytes) = resident_bytes() {
        one("process_resident_memory_bytes", "gauge", "Memory of the process", bytes as f64);
    }
    if let Some(seconds) = cpu_seconds() {
        one("process_cpu_seconds", "counter", "CPU time of the process", seconds);
    }
    out.head("weir_build_info", "gauge", "Always 1; the version is its label");
    out.value("weir_build_info", "gauge", &[("version", picture.version)], 1.0);
}

/// OpenMetrics text, line by line.
struct Out {
    text: String,
}

impl Out {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, kind: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        if kind == "counter" {
            self.text.push_str("_total");
        }
        for (index, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if index == 0 { "{" } else { "," });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }
}

/// Resident memory, where `/proc` says it.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// CPU time, where `/proc` says it: fields 14 and 15, in ticks of 10 ms on every Linux that we know.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::picture_with_everything;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_documented_metrics_are_those_that_are_exported() {
        let (registry, picture) = picture_with_everything();
        let text = text(&registry, &picture);
        let exported: BTreeMap<String, (String, String)> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| {
                let name = format!("{name}{}", if kind == "counter" { "_total" } else { "" });
                let labels = labels(&text, &name);
                (name, (kind.to_owned(), labels))
            })
            .collect();
        let documented: BTreeMap<String, (String, String)> = include_str!("../../../../docs/metrics.md")
            .lines()
            .filter_map(|line| {
                let line = line.strip_prefix("| `").filter(|line| !line.starts_with('/'))?;
                let mut cells = line.split('|').map(|cell| cell.trim().trim_end_matches('`').to_owned());
                Some((cells.next()?, (cells.next()?, cells.next()?)))
            })
            .collect();
        assert_eq!(documented, exported, "docs/metrics.md on the left\n{text}");
    }

    /// Names of the labels of a metric's first value, as the document writes them.
    #[track_caller]
    fn labels(text: &str, name: &str) -> String {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let value = value.unwrap_or_else(|| panic!("{name} has no value\n{text}"));
        let Some((labels, _)) = value.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return String::new();
        };
        let names: Vec<&str> = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).collect();
        names.join(", ")
    }

    #[test]
    fn each_line_is_openmetrics() {
        let (registry, picture) = picture_with_everything();
        let text = text(&registry, &picture);
        assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok() && !name.contains(' '), "{line}");
        }
    }
}
