//! Topics that Kafka or a consumer cannot tell apart.
//!
//! Kafka's metric names have `_` for `.`, so a broker refuses to create a topic that differs from another one in these
//! two characters only (`Topic.hasCollision`). Two tables on one topic work, but their consumers get both.

use super::Finding;
use std::collections::BTreeMap;
use weir_apps::capture::Settings;
use weir_model::{TableName, TopicName, limits};

/// The routing rules of one capture.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Name of its section.
    pub capture: &'a str,
    /// Its rules.
    pub settings: &'a Settings,
}

/// A table of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The capture.
    pub rules: Rules<'a>,
    /// The table.
    pub table: &'a TableName,
}

/// A capture with its patterns as they are written.
#[derive(Clone, Copy, Debug)]
pub struct Patterns<'a> {
    /// Its rules.
    pub rules: Rules<'a>,
    /// `tables.include`.
    pub include: &'a [String],
    /// `tables.exclude`.
    pub exclude: &'a [String],
}

/// A table with the topic that its capture gives it.
struct Named<'a> {
    place: Place<'a>,
    topic: TopicName,
}

/// Whether Kafka refuses one of these topics when the other exists.
#[must_use]
pub fn collide(left: &str, right: &str) -> bool {
    left != right && metric_name(left) == metric_name(right)
}

fn metric_name(topic: &str) -> String {
    topic.replace('.', "_")
}

fn named<'a>(places: &[Place<'a>]) -> Vec<Named<'a>> {
    let topic = |place: &Place<'a>| {
        let topic = place.rules.settings.topic(place.table).ok()?;
        Some(Named { place: *place, topic })
    };
    let mut named: Vec<Named<'a>> = places.iter().filter_map(topic).collect();
    named.sort_by_key(|one| (one.place.rules.capture, one.place.table));
    named.dedup_by_key(|one| (one.place.rules.capture, one.place.table));
    named
}

impl Named<'_> {
    fn subject(&self) -> String {
        format!("capture.{}: table {}", self.place.rules.capture, self.place.table)
    }

    fn other(&self, than: &Self) -> String {
        if self.place.rules.capture == than.place.rules.capture {
            format!("table {}", self.place.table)
        } else {
            format!("table {} of capture.{}", self.place.table, self.place.rules.capture)
        }
    }
}

/// Tables whose topics collide with each other or with a topic that exists: an error each, because one of the two
/// cannot be created.
#[must_use]
pub fn collisions(places: &[Place<'_>], existing: &[String]) -> Vec<Finding> {
    let all = named(places);
    let exists = |topic: &TopicName| existing.iter().any(|one| one == topic.as_str());
    let taken: Vec<&str> =
        all.iter().map(|one| one.topic.as_str()).chain(existing.iter().map(String::as_str)).collect();
    let mut found = Vec::new();
    for (index, one) in all.iter().enumerate() {
        // A topic that exists was not refused.
        if exists(&one.topic) {
            continue;
        }
        let fix = || rename(&one.place, &taken);
        // Of two that are both missing the later one is told to move.
        let other = all.iter().enumerate().find(|(at, other)| {
            collide(one.topic.as_str(), other.topic.as_str()) && (exists(&other.topic) || *at < index)
        });
        if let Some((_, other)) = other {
            let what = format!(
                "{} and {}: Kafka does not create both of their topics {} and {}, because '.' and '_' are the same \
                 in its metric names",
                one.subject(),
                other.other(one),
                one.topic,
                other.topic
            );
            found.push(Finding::error(what, fix()));
        } else if let Some(other) = existing.iter().find(|other| collide(one.topic.as_str(), other)) {
            let what = format!(
                "{}: Kafka does not create its topic {} beside the topic {other}, because '.' and '_' are the same \
                 in its metric names",
                one.subject(),
                one.topic
            );
            found.push(Finding::error(what, fix()));
        }
    }
    found
}

/// Tables that share a topic: a warning each, because their consumers get the records of both.
#[must_use]
pub fn shared(places: &[Place<'_>]) -> Vec<Finding> {
    let all = named(places);
    let taken: Vec<&str> = all.iter().map(|one| one.topic.as_str()).collect();
    let mut found = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let Some(other) = all[..index].iter().find(|other| other.topic == one.topic) else { continue };
        let what = format!(
            "{} and {} are both written to topic {}: a consumer gets the records of both",
            one.subject(),
            other.other(one),
            one.topic
        );
        found.push(Finding::warning(what, rename(&one.place, &taken)));
    }
    found
}

/// Captures whose patterns may take the same table into the same topic.
#[must_use]
pub fn shared_patterns(captures: &[Patterns<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, one) in captures.iter().enumerate() {
        for other in &captures[..index] {
            if one.rules.settings.naming != other.rules.settings.naming {
                continue;
            }
            let Some((pattern, other_pattern)) = meeting(one, other) else { continue };
            let (name, other) = (one.rules.capture, other.rules.capture);
            let what = format!(
                "capture.{name} (tables.include {pattern:?}) and capture.{other} (tables.include {other_pattern:?}) \
                 write tables of the same name to the same topic: a consumer gets the records of both"
            );
            let fix = format!(
                "set capture.{name}.topic.prefix to another one, such as \"{name}.\"; or capture.{name}.topic.names \
                 for single tables"
            );
            found.push(Finding::warning(what, fix));
        }
    }
    found
}

/// A pattern of each capture that some table may match both, and that neither leaves out. Two plain names are looked
/// at as tables, not here.
fn meeting<'a>(one: &Patterns<'a>, other: &Patterns<'a>) -> Option<(&'a str, &'a str)> {
    let is_left_out = |pattern: &str| {
        let mut out = one.exclude.iter().chain(other.exclude);
        out.any(|out| covers(out.as_bytes(), pattern.as_bytes()))
    };
    let taken = |patterns: &'a [String]| {
        patterns.iter().map(String::as_str).filter(|pattern| !is_left_out(pattern)).collect::<Vec<_>>()
    };
    let others = taken(other.include);
    taken(one.include).into_iter().find_map(|pattern| {
        let meets = |other: &&&str| {
            (pattern.contains('*') || other.contains('*')) && overlap(pattern.as_bytes(), other.as_bytes())
        };
        others.iter().find(meets).map(|other| (pattern, *other))
    })
}

/// Whether some name matches both patterns, in which `*` stands for any characters.
fn overlap(left: &[u8], right: &[u8]) -> bool {
    match (left.split_first(), right.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            overlap(rest, right) || right.split_first().is_some_and(|(_, after)| overlap(left, after))
        }
        (_, Some((b'*', _))) => overlap(right, left),
        (Some((one, left)), Some((other, right))) => one == other && overlap(left, right),
        _ => false,
    }
}

/// Whether every name that `inner` matches matches `outer` too: a `*` of `inner` needs one of `outer`.
fn covers(outer: &[u8], inner: &[u8]) -> bool {
    match (outer.split_first(), inner.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            covers(rest, inner) || inner.split_first().is_some_and(|(_, after)| covers(outer, after))
        }
        (Some((one, outer)), Some((other, inner))) => one == other && covers(outer, inner),
        _ => false,
    }
}

/// The setting that gives a table another topic: all names of its capture, so that it can replace the line there is.
#[must_use]
pub fn rename(place: &Place<'_>, taken: &[&str]) -> String {
    let settings = place.rules.settings;
    let mut names: BTreeMap<&str, &str> =
        settings.topics.iter().map(|(table, topic)| (table.as_str(), topic.as_str())).collect();
    let new = propose(place, taken);
    names.insert(place.table.as_str(), new.as_str());
    let names: Vec<String> =
        names.iter().map(|(table, topic)| format!("\"{table}\" = \"{topic}\"")).collect();
    format!(
        "set capture.{}.topic.names = {{ {} }} and restart weir run",
        place.rules.capture,
        names.join(", ")
    )
}

/// A topic name for a table that Kafka takes and that no other table has, now or later: the naming rule never writes
/// `default--` before a name without `--`.
#[must_use]
pub fn propose(place: &Place<'_>, taken: &[&str]) -> TopicName {
    let naming = &place.rules.settings.naming;
    let mut body = String::from("default--");
    let room = limits::TOPIC_NAME_BYTES_MAX.saturating_sub(naming.ends_bytes() + "-9999".len());
    for letter in place.table.as_str().chars() {
        let letter = if letter.is_ascii_alphanumeric() { letter } else { '-' };
        if body.len() < room && (letter != '-' || !body.ends_with('-')) {
            body.push(letter);
        }
    }
    let is_free = |topic: &TopicName| {
        let is_other = |other: &&str| *other == topic.as_str() || collide(topic.as_str(), other);
        !taken.iter().any(is_other) && naming.table(topic.as_str()).is_none()
    };
    let numbered = (2..10_000).map(|number| format!("{body}-{number}"));
    std::iter::once(body.clone())
        .chain(numbered)
        .filter_map(|body| naming.around(&body).ok())
        .find(is_free)
        .unwrap_or_else(|| naming.around("table").expect("a short name between two legal ends is legal"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::TopicNaming;

    fn settings(names: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::everything(TopicNaming::new("hbase.", ".wal").unwrap());
        for (table, topic) in names {
            settings.topics.insert(TableName::new(table).unwrap(), TopicName::new(topic).unwrap());
        }
        settings
    }

    /// Findings about these tables (`capture table`) and topics.
    fn look(
        names: &[(&str, &str)],
        tables: &[&str],
        find: impl Fn(&[Place<'_>]) -> Vec<Finding>,
    ) -> Vec<Finding> {
        let settings = settings(names);
        let tables: Vec<(&str, TableName)> = tables
            .iter()
            .map(|words| words.split_once(' ').unwrap_or(("main", words)))
            .map(|(capture, table)| (capture, TableName::new(table).unwrap()))
            .collect();
        let place = |(capture, table)| Place { rules: Rules { capture, settings: &settings }, table };
        find(&tables.iter().map(|(capture, table)| place((*capture, table))).collect::<Vec<_>>())
    }

    #[track_caller]
    fn says(found: &[Finding], expect: &[(&str, &str)]) {
        assert_eq!(found.len(), expect.len(), "{found:?}");
        for (finding, (what, fix)) in found.iter().zip(expect) {
            assert!(finding.what.contains(what) && finding.fix.contains(fix), "{finding:?}");
        }
    }

    #[test]
    fn tables_whose_topics_collide_are_named_with_the_name_that_kafka_takes() {
        let collides = |tables: &[&str], existing: &[&str]| {
            let existing: Vec<String> = existing.iter().map(|name| (*name).to_owned()).collect();
            look(&[("x", "y")], tables, |places| collisions(places, &existing))
        };
        let fix = "set capture.main.topic.names = { \"a_b\" = \"hbase.default--a-b.wal\", \"x\" = \"y\" }";
        says(&collides(&["a.b", "a_b"], &[]), &[("main: table a_b and table a.b: Kafka does not", fix)]);
        says(&collides(&["a.b", "a_b"], &["hbase.a.b.wal"]), &[("hbase.a_b.wal and hbase.a.b.wal", fix)]);
        let other = "names = { \"a.b\" = \"hbase.default--a-b.wal\"";
        says(&collides(&["a.b", "a_b"], &["hbase.a_b.wal"]), &[("table a.b and table a_b", other)]);
        let foreign = "topic hbase.a_b.wal beside the topic hbase_a.b.wal";
        says(&collides(&["a_b"], &["hbase_a.b.wal"]), &[(foreign, fix)]);
        // The name that comes to mind first is another table's.
        let next = "\"a_b\" = \"hbase.default--a-b-2.wal\"";
        says(
            &collides(&["a.b", "a_b"], &["hbase.default--a_b.wal", "hbase.default--a-b.wal"]),
            &[("table a_b", next)],
        );
        says(
            &collides(&["a.b", "other a_b"], &[]),
            &[("capture.other: table a_b and table a.b of capture.main", "")],
        );
        says(&collides(&["ab", "a_b", "a-b"], &["hbase.a_b.wal", "hbase.a.c.wal"]), &[]);
    }

    #[test]
    fn tables_that_share_a_topic_are_named() {
        let names = [("a", "x"), ("b", "x"), ("c", "hbase.d.wal")];
        let found = look(&names, &["a", "b", "c", "d", "e"], shared);
        says(
            &found,
            &[
                ("table b and table a are both written to topic x", "\"b\" = \"hbase.default--b.wal\""),
                ("table d and table c", ""),
            ],
        );
        let found = look(&[], &["main t", "other t"], shared);
        says(
            &found,
            &[("capture.other: table t and table t of capture.main", "set capture.other.topic.names")],
        );
    }

    #[test]
    fn captures_that_may_take_the_same_table_into_one_topic_are_named() {
        let (one, other) = (settings(&[]), Settings::everything(TopicNaming::new("o.", "").unwrap()));
        let count = |second: &Settings, left: [&[&str]; 2], right: [&[&str]; 2]| {
            let texts = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            let [include, exclude, other_include, other_exclude] =
                [left[0], left[1], right[0], right[1]].map(texts);
            let first = Rules { capture: "a", settings: &one };
            let second = Rules { capture: "b", settings: second };
            shared_patterns(&[
                Patterns { rules: first, include: &include, exclude: &exclude },
                Patterns { rules: second, include: &other_include, exclude: &other_exclude },
            ])
            .len()
        };
        assert_eq!(count(&one, [&["*"], &[]], [&["*"], &[]]), 1);
        assert_eq!(count(&other, [&["*"], &[]], [&["*"], &[]]), 0, "another prefix");
        assert_eq!(count(&one, [&["shop:*"], &[]], [&["*"], &["shop:*"]]), 0, "one leaves it out");
        assert_eq!(count(&one, [&["shop:*"], &[]], [&["*:orders"], &[]]), 1, "shop:orders");
        assert_eq!(count(&one, [&["a*"], &[]], [&["b*"], &[]]), 0);
        assert_eq!(count(&one, [&["t"], &[]], [&["t"], &[]]), 0, "names are looked at one by one");
    }

    #[test]
    fn a_proposed_name_is_one_that_kafka_takes() {
        let settings = settings(&[]);
        let rules = Rules { capture: "main", settings: &settings };
        let of =
            |table: &str| propose(&Place { rules, table: &TableName::new(table).unwrap() }, &[]).to_string();
        assert_eq!(of("naïve"), "hbase.default--na-ve.wal");
        assert_eq!(of("shop:a_b"), "hbase.default--shop-a-b.wal");
        assert!(of(&"x".repeat(400)).len() <= limits::TOPIC_NAME_BYTES_MAX);
    }
}
