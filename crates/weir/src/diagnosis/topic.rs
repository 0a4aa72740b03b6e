//! Settings of a topic under which Kafka refuses a record, or deletes an acknowledged one before its time.
//!
//! Deliberately not looked at, because they delete nothing early: `segment.*` (retention goes by the newest record of
//! a segment), `delete.retention.ms` and `*.compaction.lag.ms` (they matter under compaction, which is an error by
//! itself), `local.retention.*` (with tiered storage the remote copy stays).

use super::{Finding, Level};
use std::collections::BTreeMap;
use weir_model::limits;

/// A day: with less retention a consumer that fails on a Friday evening loses records before Monday.
const RETENTION_MS_LOW: i64 = 86_400_000;

/// A bound on timestamps below this, in milliseconds, may refuse the present too: clocks differ, and a record waits for
/// its broker.
const TIMESTAMP_MS_LOW: i64 = 60_000;

/// Room that a record needs beside its value: batch and record headers, Weir's own headers, a key of ordinary length.
const RECORD_OVERHEAD_BYTES: i64 = 1024;

/// Replicas that a topic should have, when there are brokers for them.
const REPLICAS_GOOD: usize = 3;

/// What a record's key stands for, and so what compaction would delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOf {
    /// A region: thousands of rows.
    Region,
    /// A row, or rows of one prefix.
    Row,
}

/// The value of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Value.
    pub value: String,
    /// Whether the topic itself sets it; otherwise it is a default of the brokers or of Kafka.
    pub is_of_topic: bool,
}

/// A topic as the brokers tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Its name.
    pub name: &'a str,
    /// Partitions.
    pub partition_count: usize,
    /// Replicas of the partition that has the fewest.
    pub replica_count: usize,
    /// Its settings that are in force, or why they are not known.
    pub settings: Result<BTreeMap<String, Setting>, String>,
}

/// The cluster and the configuration that the topic is used with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use<'a> {
    /// `log.bootstrap`, for commands.
    pub bootstrap: &'a str,
    /// Ids of the brokers.
    pub brokers: &'a [i32],
    /// The Kafka user, when it is known.
    pub user: Option<&'a str>,
    /// `log.part-size`.
    pub part_bytes: usize,
    /// What a key stands for.
    pub key: KeyOf,
}

/// The largest `max.message.bytes` that parts of this size need.
#[must_use]
pub fn message_bytes_needed(part_bytes: usize) -> i64 {
    i64::try_from(part_bytes).unwrap_or(i64::MAX).saturating_add(RECORD_OVERHEAD_BYTES)
}

/// Looks at one topic.
#[must_use]
pub fn judge(topic: &Facts<'_>, used: &Use<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    if topic.replica_count < 2 {
        let what = format!("it has {} replica: a lost broker loses it", topic.replica_count);
        found.push(Finding::warning(what, more_replicas(topic, used)));
    }
    match &topic.settings {
        Ok(settings) => {
            let look = Look { topic, used, settings };
            let rules =
                [Look::cleanup, Look::age, Look::size, Look::in_sync, Look::leaders, Look::message_bytes];
            found.extend(rules.iter().filter_map(|rule| rule(&look)));
            found.extend(look.timestamps());
        }
        Err(reason) => found.push(unknown(topic, used, reason)),
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    found
}

/// Settings that may not be read are unknown, which is not the same as well.
fn unknown(topic: &Facts<'_>, used: &Use<'_>, reason: &str) -> Finding {
    Finding::warning(
        format!(
            "its settings are unknown, so nobody has looked whether Kafka deletes acknowledged records or refuses \
             new ones: {reason}"
        ),
        format!(
            "kafka-acls.sh --bootstrap-server {} --add --allow-principal User:{} --operation DescribeConfigs --topic {}",
            used.bootstrap,
            used.user.unwrap_or("NAME"),
            topic.name
        ),
    )
}

/// One look at the settings of one topic.
struct Look<'a> {
    topic: &'a Facts<'a>,
    used: &'a Use<'a>,
    settings: &'a BTreeMap<String, Setting>,
}

impl Look<'_> {
    fn number(&self, key: &str) -> Option<i64> {
        self.settings.get(key).and_then(|setting| setting.value.parse().ok())
    }

    /// Where the value comes from, when an operator who looks at the topic alone would not find it.
    fn origin(&self, key: &str) -> &'static str {
        if self.settings.get(key).is_some_and(|setting| !setting.is_of_topic) {
            " (the brokers' default)"
        } else {
            ""
        }
    }

    /// A topic with no policy keeps everything; one whose policy is not told is taken as Kafka's default.
    fn is_policy(&self, word: &str) -> bool {
        match self.settings.get("cleanup.policy") {
            Some(policy) => policy.value.split(',').any(|one| one.trim() == word),
            None => word == "delete",
        }
    }

    fn set(&self, key: &str, value: impl std::fmt::Display) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} --add-config {key}={value}",
            self.used.bootstrap, self.topic.name
        )
    }

    fn finding(&self, level: Level, what: String, key: &str, value: impl std::fmt::Display) -> Finding {
        Finding { level, what, fix: self.set(key, value) }
    }

    fn cleanup(&self) -> Option<Finding> {
        const KEY: &str = "cleanup.policy";
        let why = match self.used.key {
            KeyOf::Region => {
                "a key is a region, so Kafka deletes all acknowledged records of a region but the newest"
            }
            KeyOf::Row => {
                "a key is a row or its prefix, and a record holds only the cells of one write, so Kafka deletes \
                 acknowledged cells"
            }
        };
        self.is_policy("compact").then(|| {
            let value = &self.settings[KEY].value;
            let what = format!("{KEY} is {value}{}: {why}", self.origin(KEY));
            self.finding(Level::Error, what, KEY, "delete")
        })
    }

    fn age(&self) -> Option<Finding> {
        const KEY: &str = "retention.ms";
        let ms = self.number(KEY).filter(|ms| (0..RETENTION_MS_LOW).contains(ms))?;
        self.is_policy("delete").then(|| {
            let what = format!(
                "{KEY} is {ms}, less than a day{}: a consumer that stops overnight loses records",
                self.origin(KEY)
            );
            self.finding(Level::Warning, what, KEY, 7 * RETENTION_MS_LOW)
        })
    }

    fn size(&self) -> Option<Finding> {
        const KEY: &str = "retention.bytes";
        let bytes = self.number(KEY).filter(|bytes| *bytes >= 0)?;
        self.is_policy("delete").then(|| {
            let what = format!(
                "{KEY} is {bytes} for each of {} partitions{}: Kafka deletes the oldest records above it, read or \
                 not, however young they are",
                self.topic.partition_count,
                self.origin(KEY)
            );
            self.finding(Level::Warning, what, KEY, -1)
        })
    }

    fn in_sync(&self) -> Option<Finding> {
        const KEY: &str = "min.insync.replicas";
        let replicas = i64::try_from(self.topic.replica_count).unwrap_or(i64::MAX);
        let least = self.number(KEY)?;
        if least > replicas {
            // Kafka's manual says that such a write is refused; 4.3.1 was seen to take it.
            let what = format!(
                "{KEY} is {least}{}, but replicas are {replicas}: a broker refuses every write, or (seen with 4.3.1) \
                 keeps fewer copies than asked for",
                self.origin(KEY)
            );
            return Some(self.finding(Level::Error, what, KEY, replicas.max(1)));
        }
        (least < 2 && replicas > 1).then(|| {
            let what = format!(
                "{KEY} is {least}{}: an acknowledged write can be lost with one broker",
                self.origin(KEY)
            );
            self.finding(Level::Warning, what, KEY, 2)
        })
    }

    /// With one replica there is no other leader to choose.
    fn leaders(&self) -> Option<Finding> {
        const KEY: &str = "unclean.leader.election.enable";
        let is_on = self.settings.get(KEY).is_some_and(|setting| setting.value == "true");
        (is_on && self.topic.replica_count > 1).then(|| {
            let what = format!(
                "{KEY} is true{}: a replica that lacks acknowledged records may become the leader, and they are lost",
                self.origin(KEY)
            );
            self.finding(Level::Warning, what, KEY, false)
        })
    }

    /// Bounds on timestamps that are tighter than what a record may have.
    fn timestamps(&self) -> Vec<Finding> {
        const TYPE: &str = "message.timestamp.type";
        // The broker writes its own time then, and looks at no bound.
        if self.settings.get(TYPE).is_some_and(|setting| setting.value == "LogAppendTime") {
            let what = format!(
                "{TYPE} is LogAppendTime{}: a record's timestamp is when the broker took it, and the write time is in \
                 the header weir alone",
                self.origin(TYPE)
            );
            return vec![self.finding(Level::Warning, what, TYPE, "CreateTime")];
        }
        let bounds = [
            ("message.timestamp.before.max.ms", limits::RECORD_AGE_MS_MAX, "older"),
            ("message.timestamp.after.max.ms", limits::RECORD_AHEAD_MS_MAX, "further ahead"),
            // Kafka before 3.6.
            ("message.timestamp.difference.max.ms", limits::RECORD_AGE_MS_MAX, "further away"),
        ];
        let tight = bounds.into_iter().filter_map(|(key, needed, words)| {
            let most = self.number(key).filter(|most| *most < needed)?;
            let (level, then) = if most < TIMESTAMP_MS_LOW {
                (Level::Error, "a record that waits that long for the broker, or differs by its clock, is refused")
            } else {
                (Level::Warning, "they get the time of capture as their timestamp")
            };
            let what = format!(
                "{key} is {most}{}, less than {needed}: it refuses the write times of entries that are {words}, and {then}",
                self.origin(key)
            );
            Some(self.finding(level, what, key, needed))
        });
        tight.collect()
    }

    fn message_bytes(&self) -> Option<Finding> {
        const KEY: &str = "max.message.bytes";
        let needed = message_bytes_needed(self.used.part_bytes);
        let most = self.number(KEY).filter(|most| *most < needed)?;
        let what = format!(
            "{KEY} is {most}{}, less than log.part-size and its headers ({needed}): large records are refused",
            self.origin(KEY)
        );
        Some(self.finding(Level::Error, what, KEY, needed))
    }
}

/// The command that gives a topic more replicas, spread over the brokers.
fn more_replicas(topic: &Facts<'_>, used: &Use<'_>) -> String {
    let (brokers, bootstrap) = (used.brokers, used.bootstrap);
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

    const USE: Use<'_> =
        Use { bootstrap: "b:1", brokers: &[1, 2, 3], user: Some("me"), part_bytes: 900, key: KeyOf::Region };

    fn facts<'a>(replica_count: usize, settings: &[(&str, &str)]) -> Facts<'a> {
        let setting = |(key, value): &(&str, &str)| {
            // A name with a star is a default of the brokers.
            let value = Setting { value: (*value).to_owned(), is_of_topic: !key.ends_with('*') };
            (key.trim_end_matches('*').to_owned(), value)
        };
        let settings = Ok(settings.iter().map(setting).collect());
        Facts { name: "t", partition_count: 2, replica_count, settings }
    }

    /// Levels with a part of the text, and what the fix sets.
    #[track_caller]
    fn check(replica_count: usize, settings: &[(&str, &str)], expect: &[(Level, &str, &str)]) {
        let found = judge(&facts(replica_count, settings), &USE);
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (finding, (level, what, fix)) in found.iter().zip(expect) {
            assert_eq!(finding.level, *level, "{finding:?}");
            assert!(finding.what.contains(what) && finding.fix.ends_with(fix), "{finding:?}");
        }
    }

    #[test]
    fn a_topic_without_a_flaw_has_no_finding() {
        check(3, &[("min.insync.replicas", "2"), ("retention.ms", "-1"), ("max.message.bytes", "1924")], &[]);
        check(3, &[("cleanup.policy", "delete"), ("retention.bytes", "-1"), ("segment.ms", "1000")], &[]);
        check(3, &[("unclean.leader.election.enable", "false")], &[]);
        check(3, &[], &[]);
    }

    #[test]
    fn compaction_is_an_error_alone_and_with_deletion_on_the_topic_and_as_a_default() {
        let fix = "--add-config cleanup.policy=delete";
        check(3, &[("cleanup.policy", "compact")], &[(Level::Error, "a key is a region", fix)]);
        check(3, &[("cleanup.policy", "compact,delete")], &[(Level::Error, "is compact,delete: ", fix)]);
        check(3, &[("cleanup.policy", "delete, compact")], &[(Level::Error, "is delete, compact: ", fix)]);
        check(3, &[("cleanup.policy*", "compact")], &[(Level::Error, "(the brokers' default)", fix)]);
        let of_rows = judge(&facts(3, &[("cleanup.policy", "compact")]), &Use { key: KeyOf::Row, ..USE });
        assert!(
            of_rows[0].level == Level::Error && of_rows[0].what.contains("a key is a row"),
            "{of_rows:?}"
        );
    }

    #[test]
    fn what_deletes_by_age_or_size_is_a_warning_where_the_policy_deletes() {
        let size = (Level::Warning, "100000 for each of 2 partitions", "--add-config retention.bytes=-1");
        let age = (Level::Warning, "is 3600000, less than a day", "--add-config retention.ms=604800000");
        let both = [("retention.bytes", "100000"), ("retention.ms", "3600000")];
        check(3, &both, &[age, size]);
        check(3, &[("retention.bytes*", "0")], &[(Level::Warning, "(the brokers' default)", "bytes=-1")]);
        // Under compaction alone neither deletes anything.
        let compacted = [("cleanup.policy", "compact"), both[0], both[1]];
        check(3, &compacted, &[(Level::Error, "compact", "=delete")]);
        let three = [("cleanup.policy", "compact,delete"), both[0], both[1]];
        check(3, &three, &[(Level::Error, "compact", "=delete"), age, size]);
    }

    #[test]
    fn copies_that_can_be_lost_or_refuse_every_write_are_named() {
        let in_sync = |value: &'static str| [("min.insync.replicas", value)];
        check(2, &in_sync("3"), &[(Level::Error, "is 3, but replicas are 2", "min.insync.replicas=2")]);
        check(3, &in_sync("1"), &[(Level::Warning, "lost with one broker", "min.insync.replicas=2")]);
        check(1, &in_sync("1"), &[(Level::Warning, "it has 1 replica", "--execute")]);
        let unclean = [("unclean.leader.election.enable*", "true")];
        let said = (Level::Warning, "(the brokers' default)", "unclean.leader.election.enable=false");
        check(3, &unclean, &[said]);
        check(1, &unclean, &[(Level::Warning, "it has 1 replica", "--execute")]);
    }

    #[test]
    fn a_limit_below_a_part_is_an_error() {
        check(3, &[("max.message.bytes", "1923")], &[(Level::Error, "(1924)", "max.message.bytes=1924")]);
        let before = "message.timestamp.before.max.ms";
        let fix = "message.timestamp.before.max.ms=3600000";
        check(3, &[(before, "600000")], &[(Level::Warning, "get the time of capture", fix)]);
        check(3, &[(before, "5000")], &[(Level::Error, "is refused", fix)]);
        check(3, &[(before, "9223372036854775807"), ("message.timestamp.after.max.ms", "3600000")], &[]);
        let append = [("message.timestamp.type", "LogAppendTime"), (before, "600000")];
        check(3, &append, &[(Level::Warning, "is LogAppendTime", "message.timestamp.type=CreateTime")]);
    }

    #[test]
    fn settings_that_may_not_be_read_are_unknown_and_not_fine() {
        let facts = Facts { settings: Err("not authorized".to_owned()), ..facts(3, &[]) };
        let found = judge(&facts, &USE);
        assert_eq!((found.len(), found[0].level), (1, Level::Warning));
        assert!(found[0].what.contains("unknown") && found[0].what.contains("not authorized"), "{found:?}");
        assert!(found[0].fix.ends_with("User:me --operation DescribeConfigs --topic t"), "{found:?}");
    }

    #[test]
    fn more_replicas_are_spread_over_the_brokers() {
        let used = Use { brokers: &[1, 2, 5, 7], ..USE };
        let line = more_replicas(&facts(1, &[]), &used);
        assert!(line.contains("\"replicas\":[1,2,5]") && line.contains("\"replicas\":[2,5,7]"), "{line}");
        let one = Use { brokers: &[1], ..USE };
        assert!(more_replicas(&facts(1, &[]), &one).starts_with("add brokers"));
    }
}
