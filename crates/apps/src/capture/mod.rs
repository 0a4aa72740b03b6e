//! Capture: what of a replication call goes to which topic, under which key; what is skipped, and why.
//!
//! Pure: a call in, a batch of records and a report out. Nothing is dropped without a counter that names the reason.

mod route;
mod settings;
#[cfg(test)]
mod tests;

pub use route::{Heartbeat, Refusal, Report, SKIP_REASONS, SkipReason, TableReport};
pub use settings::{KeyRule, NamePattern, Settings};

/// The capture of one source cluster. Immutable: connections share it.
#[derive(Debug)]
pub struct Capture {
    settings: Settings,
}

impl Capture {
    /// A capture by these settings.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self { settings }
    }
}
