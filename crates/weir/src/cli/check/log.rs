//! Kafka and the topics, existing and missing.

use super::findings::Findings;
use crate::cli::captured;
use crate::config::Config;
use crate::topic_watch::create_line;
use std::collections::BTreeSet;
use weir_kafka::topics::{Topic, Topics};
use weir_model::{Fault, TableName};

/// Replicas that a topic should have, when there are brokers for them.
const REPLICAS_GOOD: usize = 3;

/// Looks at the brokers and at the topics of these tables, by capture, and of all tables that have one already.
pub(super) async fn check(
    config: &Config,
    tables: &[(&str, BTreeSet<TableName>)],
    findings: &mut Findings,
) -> Result<(), Fault> {
    let bootstrap = config.log.bootstrap.join(",");
    let client = Topics::new(&bootstrap, &config.log.read_properties()?)?;
    let (topics, brokers) = match client.list().and_then(|topics| Ok((topics, client.brokers()?))) {
        Ok(both) => both,
        Err(fault) => {
            findings.wrong(
                &format!("log: {}", fault.chain()),
                "start the brokers; or set log.bootstrap to where they are, and log.properties to what they want",
            );
            return Ok(());
        }
    };
    findings.ok(&format!("log: Kafka at {bootstrap} answers, {} brokers", brokers.len()));
    let wanted = config.log.topics.replication as usize;
    if config.log.topics.create && wanted > brokers.len() {
        findings.wrong(
            &format!("log.topics: a missing topic would be created with {wanted} replicas, and there are {} brokers", brokers.len()),
            &format!("set log.topics.replication = {} and log.topics.min-insync-replicas to at most that", brokers.len()),
        );
    }
    let captures = captured::all(config)?;
    for (name, tables) in tables {
        let Some(capture) = captures.iter().find(|capture| capture.name == *name) else { continue };
        for table in tables {
            let Ok(topic) = capture.settings.topic(table) else {
                findings.wrong(
                    &format!("capture.{name}: the name of table {table} makes no topic"),
                    &format!("[capture.{name}.topic] names = {{ \"{table}\" = \"TOPIC\" }}"),
                );
                continue;
            };
            if !config.log.topics.create && !topics.iter().any(|found| found.name == topic.as_str()) {
                findings.wrong(
                    &format!("capture.{name}: table {table} has no topic {topic}"),
                    &create_line(config, topic.as_str(), u32::try_from(brokers.len()).unwrap_or(u32::MAX)),
                );
            }
        }
    }
    for mut topic in topics {
        let Some((name, _)) = captured::of_topic(&captures, &topic.name) else { continue };
        topic.settings = client.settings(&topic.name).await?;
        one(name, &topic, config, &bootstrap, &brokers, findings);
    }
    Ok(())
}

fn one(
    capture: &str,
    topic: &Topic,
    config: &Config,
    bootstrap: &str,
    brokers: &[i32],
    findings: &mut Findings,
) {
    let complaints = topic.complaints(config.log.part_size.as_usize());
    if complaints.is_empty() {
        findings.ok(&format!(
            "capture.{capture}: topic {} with {} partitions",
            topic.name, topic.partition_count
        ));
    }
    for complaint in complaints {
        let what = format!("capture.{capture}: topic {}: {}", topic.name, complaint.text);
        let mend = match complaint.setting {
            Some((key, value)) => format!(
                "kafka-configs.sh --bootstrap-server {bootstrap} --alter --entity-type topics --entity-name {} --add-config {key}={value}",
                topic.name
            ),
            None => more_replicas(topic, bootstrap, brokers),
        };
        if complaint.is_wrong {
            findings.wrong(&what, &mend);
        } else {
            findings.warn(&what, &mend);
        }
    }
}

/// The command that gives a topic more replicas, spread over the brokers.
fn more_replicas(topic: &Topic, bootstrap: &str, brokers: &[i32]) -> String {
    if brokers.len() < 2 {
        return "add brokers: this cluster has one".to_owned();
    }
    let replicas = |partition: usize| {
        let ids =
            (0..REPLICAS_GOOD.min(brokers.len())).map(|next| brokers[(partition + next) % brokers.len()]);
        serde_json::json!({ "topic": topic.name, "partition": partition, "replicas": ids.collect::<Vec<_>>() })
    };
    let partitions: Vec<_> = (0..topic.partition_count).map(replicas).collect();
    let plan = serde_json::json!({ "version": 1, "partitions": partitions });
    format!(
        "echo '{plan}' > replicas.json; kafka-reassign-partitions.sh --bootstrap-server {bootstrap} --reassignment-json-file replicas.json --execute"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_replicas_are_spread_over_the_brokers() {
        let topic = |partition_count| Topic {
            name: "t".to_owned(),
            partition_count,
            replica_count: 1,
            settings: std::collections::BTreeMap::new(),
        };
        let line = more_replicas(&topic(2), "b:1", &[1, 2, 5, 7]);
        assert!(line.contains("\"replicas\":[1,2,5]") && line.contains("\"replicas\":[2,5,7]"), "{line}");
        assert!(more_replicas(&topic(1), "b:1", &[1]).starts_with("add brokers"));
    }
}
