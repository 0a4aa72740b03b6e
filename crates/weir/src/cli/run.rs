//! `weir run`: captures until it is told to stop.

use crate::capture::{self, DRAIN_WAIT};
use crate::config::{Config, load};
use crate::exit::Exit;
use crate::meter::Meter;
use crate::topic_creator::TopicCreator;
use crate::{console, telemetry, topic_watch};
use prometheus_client::registry::Registry;
use std::path::Path;
use std::sync::Arc;
use weir_kafka::producer::{Producer, ProducerConfig};
use weir_model::{Fault, FaultKind};
use weir_runtime::budget::Budget;
use weir_runtime::drain::Drain;

/// Captures: takes every write in the WAL of the replicated tables and writes it to Kafka, until SIGTERM or SIGINT.
///
/// It keeps no state: kill it and start it again at will. What was not acknowledged stays in HBase's own
/// replication queue and comes again.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Run only this capture section; may be given more than once.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    let mut config = load::file(file)?;
    telemetry::start(&config.telemetry)?;
    for name in &arguments.only {
        if !config.capture.contains_key(name) {
            let about = format!("there is no [capture.{name}]");
            return Err(Fault::new(FaultKind::Config, load::CODE, "run only what was asked for", about));
        }
    }
    if !arguments.only.is_empty() {
        config.capture.retain(|name, _| arguments.only.contains(name));
    }
    if config.capture.is_empty() {
        let about = format!("{} has no [capture.NAME] section", file.display());
        return Err(Fault::new(FaultKind::Config, load::CODE, "find something to run", about));
    }
    for doubt in config.doubts()? {
        tracing::warn!(fix = %doubt.fix, "{}", doubt.what);
    }
    crate::open_files::raise();
    super::runtime()?.block_on(capture_all(config))
}

/// The producer's settings, secrets read.
pub(super) fn producer_config(config: &Config) -> Result<ProducerConfig, Fault> {
    Ok(ProducerConfig {
        compression: config.log.compression.name().to_owned(),
        linger_ms: config.log.linger.as_ms(),
        message_timeout_ms: config.log.message_timeout.as_ms(),
        part_bytes_max: Some(config.log.part_size.as_usize()),
        properties: config.log.read_properties()?,
        ..ProducerConfig::new(&config.log.bootstrap.join(","))
    })
}

/// A setting that the library refuses, by the names that it has in `weir.toml`.
fn as_in_the_file(fault: Fault) -> Fault {
    let (Some(key), Some(cause)) = (fault.about().strip_prefix("properties."), fault.cause()) else {
        return fault;
    };
    let why = cause.to_string();
    let why = why.replace("set message_timeout_ms", "set log.message-timeout");
    let why = why.replace("set bootstrap", "set log.bootstrap");
    Fault::new(fault.kind(), fault.code(), fault.doing(), format!("log.properties.{key}")).caused_by(why)
}

async fn capture_all(config: Config) -> Result<Exit, Fault> {
    let mut registry = Registry::default();
    let meter = Meter::register(&mut registry);
    let budget = Budget::new(config.limits.in_flight.as_usize());
    let producer = Producer::start(producer_config(&config)?).map_err(as_in_the_file)?;
    weir_kafka::meter::register(producer.stats(), &mut registry);
    let log: Arc<dyn weir_runtime::log::LogWriter> = Arc::new(producer.clone());
    let creator = TopicCreator::new(&config)?;
    let topics = tokio::spawn(topic_watch::watch(config.clone()));
    let mut running = Vec::new();
    for (name, section) in &config.capture {
        let one = capture::start(
            name,
            section,
            &config.limits,
            creator.clone(),
            Arc::clone(&log),
            budget.clone(),
            meter.clone(),
        )
        .await?;
        tracing::info!(capture = %name, address = %one.address, peer = %section.peer, znode = %section.base_znode(), "capturing");
        running.push(one);
    }
    let running = Arc::new(running);
    let (drain, stop) = Drain::new();
    let source = console::Source::new(&running, budget, registry, meter.write_times);
    let address = console::serve(&config.console.listen, source, stop).await?;
    tracing::info!(console = %format!("http://{address}/"), "ready");
    super::asked_to_stop().await;
    tracing::info!("stopping: no new calls, open ones may finish");
    topics.abort();
    drain.stop();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), drain.ended()).await;
    if let Ok(running) = Arc::try_unwrap(running) {
        let ends = futures::future::join_all(running.into_iter().map(capture::Running::end));
        let _ = tokio::time::timeout(DRAIN_WAIT, ends).await;
    }
    tracing::info!("stopped");
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_property_has_the_names_of_the_file() {
        let check = |key: &str, expect: &str| {
            let mut config = ProducerConfig::new("127.0.0.1:1");
            config.properties.insert(key.to_owned(), "1".to_owned());
            let text = as_in_the_file(config.client().map(drop).unwrap_err()).to_string();
            assert!(text.contains(expect), "{text}");
        };
        check("acks", "log.properties.\"acks\": a batch is done only when");
        check("message.timeout.ms", "log.properties.\"message.timeout.ms\": set log.message-timeout");
        check("bootstrap.servers", "log.properties.\"bootstrap.servers\": set log.bootstrap");
    }
}
