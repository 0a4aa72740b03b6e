//! `weir check`: what is wrong, and the command that fixes it. A doctor, not a test of the code.

mod clock;
mod findings;
mod log;
mod queues;
mod running;
mod scopes;
mod source;
mod zookeeper;

use super::runtime;
use crate::config::load;
use crate::exit::Exit;
use findings::Findings;
use std::path::Path;
use weir_model::Fault;

/// Looks at ZooKeeper, the peer, scopes, queues, clocks, Kafka and topics, and asks the running process what fails now:
/// says what is wrong and the command that fixes it.
///
/// Each line starts with `ok`, `info` (nothing to do), `warning` (it works, and one day may not) or `error` (it does not
/// work, or acknowledged records are lost by it). It changes nothing, but for a znode that it makes and takes away to read ZooKeeper's clock. Exit code 1 when
/// there is an error.
#[derive(clap::Args)]
pub(super) struct Arguments {}

pub(super) fn run(file: &Path, _: &Arguments) -> Result<Exit, Fault> {
    let config = load::file(file)?;
    let mut findings = Findings::default();
    findings.ok(&format!("configuration {}", file.display()));
    config.doubts()?.iter().for_each(|doubt| findings.add(doubt));
    runtime()?.block_on(async {
        let mut sources = Vec::new();
        for (name, section) in &config.capture {
            sources.push(source::check(name, section, &mut findings).await?);
            queues::check(name, section, &mut findings).await;
        }
        if config.capture.is_empty() {
            findings.error("there is no [capture.NAME] section", "weir config sample > weir.toml");
        }
        log::check(&config, &sources, &mut findings).await?;
        // Last, so that what fails now stands at the end of a long report.
        running::check(&config, &sources, &mut findings).await
    })?;
    Ok(if findings.error_count() == 0 { Exit::Done } else { Exit::Found })
}
