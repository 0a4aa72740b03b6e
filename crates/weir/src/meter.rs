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

/// Label of events of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EventLabel {
    /// Name of the capture section.
    pub capture: String,
    /// The table.
    pub table: String,
    /// Kind of the event; a closed list.
    pub event: Reason,
}

/// Label of what region servers say of themselves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ServerLabel {
    /// Name of the capture section.
    pub capture: String,
    /// The region server, `host,port`.
    pub server: String,
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
    /// Entries in the log.
    pub entries: Family<TableLabel, Counter>,
    /// Cells in them.
    pub cells: Family<TableLabel, Counter>,
    /// Bytes of their records' values.
    pub bytes: Family<TableLabel, Counter>,
    /// Events in the log.
    pub events: Family<EventLabel, Counter>,
    /// Newest write time in the log, in ms since 1970. Never set back.
    pub last_write_ms: Family<TableLabel, Gauge>,
    /// Write time of each region server's newest heartbeat, in ms since 1970. Never set back.
    pub heartbeat_ms: Family<ServerLabel, Gauge>,
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
        add("weir_capture_entries", "WAL entries in the log", &meter.entries);
        add("weir_capture_cells", "Cells in them", &meter.cells);
        add("weir_capture_bytes", "Bytes of their records, before compression", &meter.bytes);
        registry.register("weir_capture_events", "Events in the log, by kind", meter.events.clone());
        registry.register(
            "weir_capture_last_write_ms",
            "Newest write time of an entry or event in the log, in ms since 1970",
            meter.last_write_ms.clone(),
        );
        registry.register(
            "weir_capture_heartbeat_ms",
            "Write time of the newest heartbeat of a region server, in ms since 1970",
            meter.heartbeat_ms.clone(),
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
