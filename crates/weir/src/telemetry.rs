//! Log lines: human or JSON, on standard error, so that standard output stays for results.

use crate::config::{LogFormat, Telemetry};
use tracing_subscriber::EnvFilter;
use weir_model::{Fault, FaultKind};

/// Starts logging as configured; `WEIR_LOG` overrides the level.
///
/// # Errors
/// When the level is no filter.
pub(crate) fn start(telemetry: &Telemetry) -> Result<(), Fault> {
    let level = std::env::var("WEIR_LOG").unwrap_or_else(|_| telemetry.level.clone());
    let filter = EnvFilter::try_new(&level).map_err(|error| {
        Fault::new(FaultKind::Config, crate::config::load::CODE, "use telemetry.level", level.clone())
            .caused_by(error)
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    // A second start in one process (tests) keeps the first.
    let _ = match telemetry.format {
        LogFormat::Human => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}
