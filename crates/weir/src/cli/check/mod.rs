//! `weir check`: what is wrong, and the command that mends it. A doctor, not a test of the code.

mod clock;
mod findings;
mod log;
mod scopes;
mod source;
mod zookeeper;

use super::runtime;
use crate::config::load;
use crate::exit::Exit;
use findings::Findings;
use std::path::Path;
use weir_model::Fault;

/// Looks at ZooKeeper, the peer, scopes, clocks, Kafka and topics: says what is wrong and the command that mends it.
///
/// Each line starts with `ok`, `note` (nothing to do), `warn` (it works, and one day may not) or `WRONG` (it does not
/// work). It changes nothing, but for a znode that it makes and takes away to read ZooKeeper's clock. Exit code 1 when
/// anything is wrong.
#[derive(clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(file: &Path, _: &Arguments) -> Result<Exit, Fault> {
    let config = load::file(file)?;
    let mut findings = Findings::default();
    findings.ok(&format!("configuration {}", file.display()));
    runtime()?.block_on(async {
        let mut tables = Vec::new();
        for (name, section) in &config.capture {
            tables.push((name.as_str(), source::check(name, section, &mut findings).await?));
        }
        if config.capture.is_empty() {
            findings.wrong("there is no [capture.NAME] section", "weir config sample > weir.toml");
        }
        log::check(&config, &tables, &mut findings).await
    })?;
    Ok(if findings.wrong_count() == 0 { Exit::Done } else { Exit::Found })
}
