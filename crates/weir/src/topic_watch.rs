//! A look at the topics when `weir run` starts: what is missing or unwise is logged with the command that fixes it.
//!
//! It holds nothing up: Kafka may be away at the start, and a missing topic fails its own calls only.

use crate::captured::{self, Captured};
use crate::config::Config;
use crate::diagnosis::{Finding, Level, names};
use crate::topics::{self, create_line};
use std::time::Duration;
use weir_kafka::topics::{Topic, Topics};
use weir_model::Fault;

/// Time between two looks while Kafka does not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Looks until Kafka has answered once, and logs what it found.
pub async fn watch(config: Config) {
    loop {
        match look(&config).await {
            Ok(findings) => {
                for Finding { level, what, fix } in &findings {
                    if *level == Level::Error {
                        tracing::error!(fix = %fix, "{what}");
                    } else {
                        tracing::warn!(fix = %fix, "{what}");
                    }
                }
                tracing::info!(findings = findings.len(), "topics are checked; `weir check` says more");
                return;
            }
            Err(fault) => tracing::warn!(error = %fault.chain(), "topics are not checked yet"),
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Looks once.
///
/// # Errors
/// When Kafka does not answer.
pub async fn look(config: &Config) -> Result<Vec<Finding>, Fault> {
    let bootstrap = config.log.bootstrap.join(",");
    let properties = config.log.read_properties()?;
    let captures = captured::all(config)?;
    let at = bootstrap.clone();
    // Listing blocks, and creating the client reads files.
    let listing = tokio::task::spawn_blocking(move || {
        let client = Topics::new(&at, &properties)?;
        let (existing, brokers) = (client.list()?, client.brokers()?);
        Ok::<_, Fault>((client, existing, brokers))
    });
    let (client, existing, brokers) = listing.await.expect("listing does not panic")?;
    let mut findings = missing(config, &captures, &existing, brokers.len());
    for judged in topics::judged(config, &client, &existing, &brokers, &captures).await {
        let subject = judged.subject();
        findings.extend(judged.findings.into_iter().map(|one| one.about(&subject)));
    }
    Ok(findings)
}

/// Topics that tables need which the configuration names, and that are missing or cannot be created.
fn missing(
    config: &Config,
    captures: &[Captured<'_>],
    existing: &[Topic],
    broker_count: usize,
) -> Vec<Finding> {
    let existing: Vec<String> = existing.iter().map(|topic| topic.name.clone()).collect();
    let named = captured::named(captures);
    let places: Vec<_> = named.iter().map(|(capture, table)| capture.place(table)).collect();
    let mut findings = names::collisions(&places, &existing);
    for (capture, table) in &named {
        let Ok(topic) = capture.settings.topic(table) else { continue };
        let topic = topic.as_str();
        let is_refused = existing.iter().any(|other| names::collide(topic, other));
        if config.log.topics.create || is_refused || existing.iter().any(|found| found == topic) {
            continue;
        }
        let what = format!(
            "capture.{}: table {table}: its topic {topic} is missing, so its calls fail, and what a region server has \
             written after an entry of it waits too",
            capture.name
        );
        findings.push(Finding::error(what, create_line(config, topic, broker_count)));
    }
    findings
}
