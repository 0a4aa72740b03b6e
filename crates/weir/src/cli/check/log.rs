//! Kafka and the topics, existing and missing.

use super::findings::Findings;
use super::source::Source;
use crate::captured::{self, Captured};
use crate::config::Config;
use crate::diagnosis::names::{self, Place};
use crate::topics::{self, create_line};
use weir_kafka::topics::{Presence, Topic, Topics};
use weir_model::Fault;

/// Looks at the brokers and at the topics of these tables, by capture, and of all tables that have one already.
pub(super) async fn check(
    config: &Config,
    sources: &[Source<'_>],
    findings: &mut Findings,
) -> Result<(), Fault> {
    let bootstrap = config.log.bootstrap.join(",");
    let client = Topics::new(&bootstrap, &config.log.read_properties()?)?;
    let (existing, brokers) = match client.list().and_then(|topics| Ok((topics, client.brokers()?))) {
        Ok(both) => both,
        Err(fault) => {
            findings.error(
                &format!("log: {}", fault.chain()),
                "start the brokers; or set log.bootstrap to where they are, and log.properties to what they want",
            );
            return Ok(());
        }
    };
    findings.ok(&format!("log: Kafka at {bootstrap} answers, {} brokers", brokers.len()));
    let wanted = config.log.topics.replication as usize;
    if config.log.topics.create && wanted > brokers.len() {
        findings.error(
            &format!("log.topics: a missing topic would be created with {wanted} replicas, and there are {} brokers", brokers.len()),
            &format!("set log.topics.replication = {} and log.topics.min-insync-replicas to at most that", brokers.len()),
        );
    }
    let captures = captured::all(config)?;
    let look = Look { config, client: &client, existing: &existing, brokers: &brokers, captures: &captures };
    look.names(sources, findings)?;
    look.settings(findings).await;
    Ok(())
}

/// The cluster and the configuration.
struct Look<'a> {
    config: &'a Config,
    client: &'a Topics,
    existing: &'a [Topic],
    brokers: &'a [i32],
    captures: &'a [Captured<'a>],
}

impl Look<'_> {
    /// Tables without a topic, and why not.
    fn names(&self, sources: &[Source<'_>], findings: &mut Findings) -> Result<(), Fault> {
        let existing: Vec<String> = self.existing.iter().map(|topic| topic.name.clone()).collect();
        let of = |name: &str| self.captures.iter().find(|capture| capture.name == name);
        let places: Vec<Place<'_>> = sources
            .iter()
            .filter_map(|source| Some((of(source.name)?.rules(), &source.tables)))
            .flat_map(|(rules, tables)| tables.iter().map(move |table| Place { rules, table }))
            .collect();
        names::collisions(&places, &existing).iter().for_each(|finding| findings.add(finding));
        for place in &places {
            let (capture, table) = (place.rules.capture, place.table);
            let Ok(topic) = place.rules.settings.topic(table) else {
                let taken: Vec<&str> = existing.iter().map(String::as_str).collect();
                let what = format!("capture.{capture}: the name of table {table} makes no topic");
                findings.error(&what, &names::rename(place, &taken));
                continue;
            };
            let topic = topic.as_str();
            let is_refused = existing.iter().any(|other| names::collide(topic, other));
            if self.config.log.topics.create || is_refused || existing.iter().any(|found| found == topic) {
                continue;
            }
            // The list leaves out what this user may not describe.
            match self.client.presence(topic)? {
                Presence::There => {}
                Presence::Missing => findings.error(
                    &format!("capture.{capture}: table {table} has no topic {topic}"),
                    &create_line(self.config, topic, self.brokers.len()),
                ),
                Presence::Unknown(fault) => findings.warning(
                    &format!("capture.{capture}: whether table {table} has its topic {topic} is unknown: {}", fault.chain()),
                    &format!(
                        "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{} --operation Describe --topic {topic}",
                        self.config.log.bootstrap.join(","),
                        topics::user(self.config).unwrap_or("NAME")
                    ),
                ),
            }
        }
        Ok(())
    }

    /// The settings of all topics that captures write to.
    async fn settings(&self, findings: &mut Findings) {
        let judged = topics::judged(self.config, self.client, self.existing, self.brokers, self.captures);
        for judged in judged.await {
            let subject = judged.subject();
            if judged.findings.is_empty() {
                findings.ok(&format!("{subject} with {} partitions", judged.topic.partition_count));
            }
            judged.findings.into_iter().for_each(|one| findings.add(&one.about(&subject)));
        }
    }
}
