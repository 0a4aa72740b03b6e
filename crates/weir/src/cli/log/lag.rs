//! `weir log lag`: how far a consumer group is behind; without a group, how old the newest records are.

use crate::captured;
use crate::cli::{human, say};
use crate::config::Config;
use crate::exit::Exit;
use serde_json::json;
use std::collections::BTreeMap;
use weir_kafka::lag::{self, PartitionLag};
use weir_kafka::topics::Topics;
use weir_model::{Fault, FaultKind};

#[derive(clap::Args)]
pub(super) struct Lag {
    /// The consumer group. Without it: the age of the newest record of each partition.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Only this topic; may be given more than once. Otherwise all topics of captured tables.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only topics of this capture section.
    #[arg(long, value_name = "NAME", conflicts_with = "topic")]
    capture: Option<String>,
    /// A table for reading instead of JSON lines.
    #[arg(long)]
    human: bool,
}

impl Lag {
    pub(super) fn run(&self, config: &Config) -> Result<Exit, Fault> {
        let bootstrap = config.log.bootstrap.join(",");
        let properties = config.log.read_properties()?;
        let topics = self.topics(config, &bootstrap, &properties)?;
        let partitions = match &self.group {
            Some(group) => lag::of_group(&bootstrap, &properties, &topics, group)?,
            None => lag::newest(&bootstrap, &properties, &topics)?,
        };
        let now_ms = human::now_ms();
        if self.human {
            self.show(&partitions, now_ms);
        } else {
            for of_topic in by_topic(&partitions).values() {
                of_topic.iter().for_each(|lag| say(&self.partition(lag, now_ms).to_string()));
                say(&self.topic(of_topic, now_ms).to_string());
            }
        }
        if let Some(group) = &self.group
            && partitions.iter().all(|lag| lag.committed.is_none())
        {
            eprintln!("weir: group {group} has committed nothing on these topics; is that its name?");
            return Ok(Exit::Found);
        }
        Ok(Exit::Done)
    }

    fn topics(
        &self,
        config: &Config,
        bootstrap: &str,
        properties: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, Fault> {
        if !self.topic.is_empty() {
            return Ok(self.topic.clone());
        }
        let captures = captured::chosen(config, self.capture.as_deref())?;
        let mut topics: Vec<String> =
            Topics::new(bootstrap, properties)?.list()?.into_iter().map(|topic| topic.name).collect();
        topics.retain(|topic| !captured::of_topic(&captures, topic).is_empty());
        if topics.is_empty() {
            let cause = "no topic of a captured table is there; `weir check` says which are missing, --topic takes any";
            return Err(
                Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "find the topics", bootstrap).caused_by(cause)
            );
        }
        Ok(topics)
    }

    fn partition(&self, lag: &PartitionLag, now_ms: i64) -> serde_json::Value {
        let age_ms = lag.timestamp_ms.map(|at| now_ms - at);
        if self.group.is_none() {
            return json!({
                "topic": lag.topic, "partition": lag.partition, "low": lag.low, "end": lag.end,
                "newest_ms": lag.timestamp_ms, "newest_age_ms": age_ms,
            });
        }
        json!({
            "topic": lag.topic, "partition": lag.partition, "group": self.group, "low": lag.low, "end": lag.end,
            "committed": lag.committed, "behind": lag.behind(), "expired": lag.expired(),
            "oldest_unread_ms": lag.timestamp_ms, "oldest_unread_age_ms": age_ms,
        })
    }

    /// The sum of a topic: records add up, and the worst age counts.
    fn topic(&self, partitions: &[&PartitionLag], now_ms: i64) -> serde_json::Value {
        let name = partitions.first().map_or("", |lag| lag.topic.as_str());
        let times = partitions.iter().filter_map(|lag| lag.timestamp_ms);
        if self.group.is_none() {
            let newest = times.max();
            return json!({
                "topic": name, "partitions": partitions.len(), "newest_ms": newest,
                "newest_age_ms": newest.map(|at| now_ms - at),
            });
        }
        let oldest = times.min();
        let sum = |of: fn(&PartitionLag) -> i64| partitions.iter().map(|lag| of(lag)).sum::<i64>();
        json!({
            "topic": name, "partitions": partitions.len(), "group": self.group, "behind": sum(PartitionLag::behind),
            "expired": sum(PartitionLag::expired), "oldest_unread_ms": oldest,
            "oldest_unread_age_ms": oldest.map(|at| now_ms - at),
        })
    }

    fn show(&self, partitions: &[PartitionLag], now_ms: i64) {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let age = |lag: &PartitionLag| lag.timestamp_ms.map_or("-".to_owned(), |at| human::span(now_ms - at));
        let mut table = Vec::new();
        if self.group.is_none() {
            table.push(words(&["TOPIC", "PARTITION", "END", "NEWEST RECORD'S AGE"]));
            for lag in partitions {
                table.push(vec![lag.topic.clone(), lag.partition.to_string(), lag.end.to_string(), age(lag)]);
            }
        } else {
            table.push(words(&[
                "TOPIC",
                "PARTITION",
                "COMMITTED",
                "END",
                "BEHIND",
                "OLDEST UNREAD'S AGE",
                "NOTE",
            ]));
            for lag in partitions {
                let note = match lag.expired() {
                    0 => String::new(),
                    count => format!("{count} records were deleted unread"),
                };
                table.push(vec![
                    lag.topic.clone(),
                    lag.partition.to_string(),
                    lag.committed.map_or("-".to_owned(), |offset| offset.to_string()),
                    lag.end.to_string(),
                    lag.behind().to_string(),
                    age(lag),
                    note,
                ]);
            }
        }
        human::table(&table).iter().for_each(|line| say(line));
    }
}

fn by_topic(partitions: &[PartitionLag]) -> BTreeMap<&str, Vec<&PartitionLag>> {
    let mut topics: BTreeMap<&str, Vec<&PartitionLag>> = BTreeMap::new();
    partitions.iter().for_each(|lag| topics.entry(&lag.topic).or_default().push(lag));
    topics
}
