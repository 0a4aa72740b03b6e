//! Metric names of the capture, and the counters behind them; the only file that knows the names.

use crate::timeline::Timeline;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// Label of everything that is counted per table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabel {
    /// Name of the capture section.
    pub capture: String,
    /// The table.
    pub table: String,
}

/// Label of what is skipped or failed, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// Name of the capture section.
    pub capture: String,
    /// The reason; a closed list.
    pub reason: Reason,
}

/// A reason out of a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reason(pub &'static str);

impl EncodeLabelValue for Reason {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0, encoder)
    }
}

/// Counters of all captures of a process.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// Entries routed to the log.
    pub entries: Family<TableLabel, Counter>,
    /// Cells routed to the log.
    pub cells: Family<TableLabel, Counter>,
    /// Value bytes handed to the log.
    pub bytes: Family<TableLabel, Counter>,
    /// Newest write time seen, in ms since 1970.
    pub last_write_ms: Family<TableLabel, Gauge>,
    /// Entries or cells that were not sent, by reason.
    pub skipped: Family<ReasonLabel, Counter>,
    /// Calls that were answered with an error, by reason.
    pub failed: Family<ReasonLabel, Counter>,
    /// Durable entries by the 100 ms of their write time; for the console, not a metric.
    pub write_times: Arc<Timeline>,
}

impl Meter {
    /// Counters, registered under their names.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let meter = Self::default();
        let mut add = |name: &str, help: &str, family: &Family<TableLabel, Counter>| {
            registry.register(name, help, family.clone());
        };
        add("weir_capture_entries", "WAL entries routed to the log", &meter.entries);
        add("weir_capture_cells", "Cells routed to the log", &meter.cells);
        add("weir_capture_bytes", "Record bytes handed to the log", &meter.bytes);
        registry.register(
            "weir_capture_last_write_ms",
            "Newest write time of an entry, in ms since 1970",
            meter.last_write_ms.clone(),
        );
        registry.register(
            "weir_capture_skipped",
            "Entries or cells that were not sent, by reason",
            meter.skipped.clone(),
        );
        registry.register(
            "weir_capture_failed",
            "Calls answered with a retriable error, by reason",
            meter.failed.clone(),
        );
        meter
    }
}
