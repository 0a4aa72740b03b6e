//! Reading and checking the file: every error names the place, what is wrong with it, and how to fix it.

use super::{Config, Key};
use crate::diagnosis::{Finding, names};
use std::collections::BTreeMap;
use std::path::Path;
use weir_hbase::zookeeper::Login;
use weir_model::{Fault, FaultKind, TableName, TopicName, TopicNaming};

/// Code of every configuration fault.
pub const CODE: &str = "W-CONFIG";

/// The longest answer margin and message time-out that still end before a source's default time-out of 60 s.
const SOURCE_TIMEOUT_MS: u64 = weir_model::limits::CALL_TIMEOUT_MS_DEFAULT;

/// Reads and checks a file.
///
/// # Errors
/// A `Config` fault when the file cannot be read, does not parse, has an unknown key or a value out of range.
pub fn file(path: &Path) -> Result<Config, Fault> {
    let about = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::new(FaultKind::Config, CODE, "read the configuration", about.clone()).caused_by(error)
    })?;
    text_of(&text, &about)
}

/// Parses and checks a text; `about` names it in errors.
///
/// # Errors
/// As [`file()`].
pub fn text_of(text: &str, about: &str) -> Result<Config, Fault> {
    let config: Config = toml::from_str(text).map_err(|error| {
        let hint = suggestion(error.message()).map(|hint| format!("\n{hint}")).unwrap_or_default();
        let cause = format!("{}{hint}", error.to_string().trim_end());
        Fault::new(FaultKind::Config, CODE, "read the configuration", about.to_owned()).caused_by(cause)
    })?;
    config.validate().map_err(|wrong| {
        Fault::new(FaultKind::Config, CODE, "accept the configuration", about.to_owned()).caused_by(wrong)
    })?;
    Ok(config)
}

/// "did you mean": the nearest of the keys that the parser expected.
fn suggestion(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let given = quoted.next()?;
    message.starts_with("unknown field").then_some(())?;
    let nearest = quoted.min_by_key(|key| distance(given, key))?;
    (distance(given, nearest) <= 2 + given.len() / 3).then(|| format!("did you mean `{nearest}`?"))
}

/// Edit distance (Levenshtein) of two short words.
pub(super) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for column in 0..right.len() {
            let change = corner + usize::from(letter != right[column]);
            corner = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(corner + 1);
        }
    }
    row[right.len()]
}

impl Config {
    /// Checks what the types cannot. The text names the field and the fix.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), String> {
        self.validate_log()?;
        if self.limits.in_flight.get() < 1 << 20 {
            return Err("limits.in-flight: less than 1MiB cannot hold one ordinary call".to_owned());
        }
        if self.limits.frame.as_usize() > weir_model::limits::FRAME_BYTES_MAX {
            return Err(format!(
                "limits.frame: at most {} bytes, which is more than any source sends",
                weir_model::limits::FRAME_BYTES_MAX
            ));
        }
        address("console.listen", &self.console.listen)?;
        let mut listeners = BTreeMap::new();
        for (name, capture) in &self.capture {
            capture.validate(&format!("capture.{name}"), self.log.message_timeout.as_ms())?;
            if !capture.listen.ends_with(":0")
                && let Some(other) = listeners.insert(capture.listen.clone(), name)
            {
                return Err(format!(
                    "capture.{name}.listen: capture.{other} listens on {} too",
                    capture.listen
                ));
            }
        }
        self.validate_names()
    }

    /// Tables that the file names and whose topics Kafka would not create beside each other.
    fn validate_names(&self) -> Result<(), String> {
        let captures = crate::captured::all(self).map_err(|fault| fault.chain())?;
        let named = crate::captured::named(&captures);
        let places: Vec<_> = named.iter().map(|(capture, table)| capture.place(table)).collect();
        match names::collisions(&places, &[]).into_iter().next() {
            Some(finding) => Err(format!("{}; fix: {}", finding.what, finding.fix)),
            None => Ok(()),
        }
    }

    /// What is accepted and may not be meant: tables or captures that share a topic.
    ///
    /// # Errors
    /// When a section cannot be used, which [`Config::validate`] has excluded.
    pub fn doubts(&self) -> Result<Vec<Finding>, Fault> {
        let captures = crate::captured::all(self)?;
        let named = crate::captured::named(&captures);
        let places: Vec<_> = named.iter().map(|(capture, table)| capture.place(table)).collect();
        let patterns: Vec<names::Patterns<'_>> = captures.iter().map(|capture| capture.patterns()).collect();
        let mut found = names::shared(&places);
        found.extend(names::shared_patterns(&patterns));
        Ok(found)
    }

    fn validate_log(&self) -> Result<(), String> {
        if self.log.bootstrap.is_empty() {
            return Err("log.bootstrap: name at least one broker, such as [\"broker-1:9092\"]".to_owned());
        }
        for broker in &self.log.bootstrap {
            address("log.bootstrap", broker)?;
        }
        let part = self.log.part_size.get();
        if !(64 << 10..=900 << 20).contains(&part) {
            return Err("log.part-size: between 64KiB and 900MiB".to_owned());
        }
        for (key, value) in &self.log.properties {
            let secret = ["password", "secret", "passphrase"].iter().any(|word| key.contains(word))
                || key == "ssl.key.pem"
                || key == "sasl.oauthbearer.config";
            if secret && matches!(value, super::unit::Value::Plain(_)) {
                return Err(format!(
                    "log.properties.\"{key}\": a secret is not written here; use {{ file = \"...\" }} or {{ env = \"...\" }}"
                ));
            }
        }
        Ok(())
    }
}

impl super::Log {
    /// The further settings of librdkafka, with secrets read from where they are.
    ///
    /// # Errors
    /// When a file or an environment variable is not there.
    pub fn read_properties(&self) -> Result<BTreeMap<String, String>, Fault> {
        let read = |(key, value): (&String, &super::unit::Value)| {
            let text = value
                .read(&format!("log.properties.\"{key}\""))
                .map_err(|wrong| Fault::new(FaultKind::Config, CODE, "read a secret", "").caused_by(wrong))?;
            Ok((key.clone(), text))
        };
        self.properties.iter().map(read).collect()
    }
}

impl super::Capture {
    /// The login at ZooKeeper, read from where it is; `name` is that of the section.
    ///
    /// # Errors
    /// When it cannot be read, or is not `user:password`.
    pub fn login(&self, name: &str) -> Result<Option<Login>, Fault> {
        let Some(value) = &self.zookeeper_digest else { return Ok(None) };
        let key = format!("capture.{name}.zookeeper-digest");
        let login = value.read(&key).and_then(|text| {
            Login::digest(&text).ok_or_else(|| format!("{key}: what is there is not user:password"))
        });
        login
            .map(Some)
            .map_err(|wrong| Fault::new(FaultKind::Config, CODE, "read a secret", "").caused_by(wrong))
    }

    fn validate(&self, at: &str, message_timeout_ms: u64) -> Result<(), String> {
        if matches!(self.zookeeper_digest, Some(super::unit::Value::Plain(_))) {
            return Err(format!(
                "{at}.zookeeper-digest: a secret is not written here; use {{ file = \"...\" }} or {{ env = \"...\" }}"
            ));
        }
        for server in
            self.zookeeper.split(',').chain(self.peer_zookeeper.iter().flat_map(|text| text.split(',')))
        {
            if server.contains("://") {
                return Err(format!(
                    "{at}.zookeeper: {server:?}: TLS to ZooKeeper is not supported; write host:port of its plain port"
                ));
            }
            address(&format!("{at}.zookeeper"), server)?;
        }
        address(&format!("{at}.listen"), &self.listen)?;
        if self.peer.is_empty()
            || !self.peer.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        {
            return Err(format!(
                "{at}.peer: {:?} is no peer id; HBase takes letters, digits and '_'",
                self.peer
            ));
        }
        for (key, znode) in [("znode-parent", &self.znode_parent), ("base-znode", &self.base_znode())] {
            if !znode.starts_with('/') || znode.len() < 2 || znode.ends_with('/') || znode.contains("//") {
                return Err(format!("{at}.{key}: {znode:?} is no znode path; write it as \"/weir/main\""));
            }
        }
        if self.base_znode() == self.znode_parent {
            return Err(format!("{at}.base-znode: {} is the source cluster's own znode", self.znode_parent));
        }
        if !(1..=100).contains(&self.virtual_servers) {
            return Err(format!("{at}.virtual-servers: between 1 and 100; a source uses at most 10 at once"));
        }
        if !(5..=90).contains(&self.answer_margin_percent) {
            return Err(format!("{at}.answer-margin-percent: between 5 and 90"));
        }
        let answer_ms = SOURCE_TIMEOUT_MS * u64::from(100 - self.answer_margin_percent) / 100;
        if message_timeout_ms > answer_ms {
            return Err(format!(
                "log.message-timeout: {message_timeout_ms} ms is longer than a call of {at} may take ({answer_ms} ms: the source's 60 s less answer-margin-percent); a write must not outlive its call"
            ));
        }
        self.validate_topic(at)
    }

    fn validate_topic(&self, at: &str) -> Result<(), String> {
        let topic = &self.topic;
        TopicNaming::new(&topic.prefix, &topic.suffix).map_err(|error| format!("{at}.topic: {error}"))?;
        tables_once(&format!("{at}.topic.names"), topic.names.keys())?;
        for name in topic.names.values() {
            TopicName::new(name).map_err(|error| format!("{at}.topic.names: {error}"))?;
        }
        tables_once(&format!("{at}.families"), self.families.keys())?;
        for (key, patterns) in [("include", &self.tables.include), ("exclude", &self.tables.exclude)] {
            let wrong = patterns.iter().find(|pattern| !can_match(pattern));
            if let Some(wrong) = wrong {
                return Err(format!(
                    "{at}.tables.{key}: {wrong:?} can match no table; write \"table\", \"namespace:table\", or a pattern such as \"namespace:*\""
                ));
            }
        }
        match (topic.key, topic.key_length, topic.key_delimiter) {
            (Key::RowPrefix, Some(length), None) if length > 0 => Ok(()),
            (Key::RowPrefix, None, Some(delimiter)) if delimiter.is_ascii() => Ok(()),
            (Key::RowPrefix, ..) => Err(format!(
                "{at}.topic.key: \"row-prefix\" wants either key-length (1 or more) or key-delimiter (one ASCII character)"
            )),
            (Key::Region | Key::Row, None, None) => Ok(()),
            (Key::Region | Key::Row, ..) => {
                Err(format!("{at}.topic: key-length and key-delimiter belong to key = \"row-prefix\""))
            }
        }
    }
}

/// Checks names of tables, of which `t` and `default:t` are one.
fn tables_once<'a>(at: &str, names: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for name in names {
        let table = TableName::new(name).map_err(|error| format!("{at}: {error}"))?;
        if let Some(other) = seen.insert(table, name) {
            return Err(format!("{at}: {other:?} and {name:?} are the same table; keep one of them"));
        }
    }
    Ok(())
}

/// Whether there is a table name that this pattern matches.
fn can_match(pattern: &str) -> bool {
    // Any letters do for the stars.
    TableName::new(&pattern.replace('*', "x")).is_ok()
}

/// Checks `host:port`.
fn address(at: &str, text: &str) -> Result<(), String> {
    let good =
        text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if good { Ok(()) } else { Err(format!("{at}: {text:?} is no address; write host:port")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, expect: &[&str]) {
        let fault = text_of(text, "weir.toml").unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Config);
        let chain = fault.chain();
        for part in expect {
            assert!(chain.contains(part), "{part:?} is not in:\n{chain}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
        refused("[log]\nbootstap = [\"b:1\"]\n", &["line 2", "bootstap", "did you mean `bootstrap`?"]);
        refused("[capture.main]\nzookeper = \"z:1\"\n", &["line 2", "did you mean `zookeeper`?"]);
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_its_field_and_the_fix() {
        refused("[log]\nlinger = \"5\"\n", &["line 2", "\"100ms\""]);
        refused("[log]\nbootstrap = []\n", &["log.bootstrap", "at least one broker"]);
        refused("[capture.a]\npeer = \"a-b\"\n", &["capture.a.peer", "letters, digits"]);
        refused("[capture.a]\nlisten = \"16020\"\n", &["capture.a.listen", "host:port"]);
        refused("[capture.a]\nbase-znode = \"/hbase\"\n", &["capture.a.base-znode", "source cluster's own"]);
        refused("[log]\nmessage-timeout = \"60s\"\n[capture.a]\n", &["log.message-timeout", "45000 ms"]);
        refused("[capture.a]\ntopic.key = \"row-prefix\"\n", &["capture.a.topic.key", "key-length"]);
        refused("[capture.a]\ntopic.key-length = 4\n", &["key = \"row-prefix\""]);
        refused("[capture.a]\n[capture.b]\n", &["capture.b.listen", "capture.a listens"]);
        refused(
            "[log.properties]\n\"sasl.password\" = \"x\"\n",
            &["log.properties.\"sasl.password\"", "{ env ="],
        );
        refused("[capture.a]\nzookeeper-digest = \"u:p\"\n", &["capture.a.zookeeper-digest", "{ env ="]);
        refused("[capture.a]\nzookeeper = \"tcp+tls://z:2281\"\n", &["TLS to ZooKeeper is not supported"]);
        refused("[limits]\nin-flight = \"1KiB\"\n", &["limits.in-flight"]);
        refused(
            "[capture.a]\nfamilies = { t = [\"f\"], \"default:t\" = [\"g\"] }\n",
            &["capture.a.families", "same table"],
        );
        refused(
            "[capture.a]\ntopic.names = { t = \"x\", \"default:t\" = \"y\" }\n",
            &["capture.a.topic.names", "same table"],
        );
        for pattern in ["shop:", ":t", "a:b:*", "t/*"] {
            let text = format!("[capture.a]\ntables.exclude = [\"t*\", \"{pattern}\"]\n");
            refused(&text, &["capture.a.tables.exclude", pattern, "can match no table"]);
        }
    }

    #[test]
    fn tables_whose_topics_kafka_does_not_create_together_are_refused_with_a_name_for_one() {
        let two = "[capture.a]\ntables.include = [\"a.b\", \"a_b\"]\n";
        refused(
            two,
            &[
                "table a_b and table a.b",
                "fix: set capture.a.topic.names = { \"a_b\" = \"hbase.default--a-b.wal\" }",
            ],
        );
        text_of(&format!("{two}topic.names = {{ \"a_b\" = \"hbase.default--a-b.wal\" }}\n"), "x").unwrap();
        let apart = "[capture.a]\ntables.include = [\"a.b\"]\n[capture.b]\nlisten = \"h:1\"\ntables.include = [\"a_b\"]\n";
        refused(apart, &["capture.b: table a_b and table a.b of capture.a"]);
        let names = "[capture.a]\ntopic.names = { \"x\" = \"p.q\", \"y\" = \"p_q\" }\n";
        refused(
            names,
            &["table y and table x", "names = { \"x\" = \"p.q\", \"y\" = \"hbase.default--y.wal\" }"],
        );
    }

    #[test]
    fn tables_and_captures_that_share_a_topic_are_accepted_and_named() {
        let doubts = |text: &str| {
            let doubts = text_of(text, "x").unwrap().doubts().unwrap();
            doubts.into_iter().map(|doubt| format!("{}; fix: {}", doubt.what, doubt.fix)).collect::<Vec<_>>()
        };
        let found = doubts("[capture.a]\n[capture.b]\nlisten = \"h:1\"\n");
        assert!(
            found.len() == 1 && found[0].contains("capture.b") && found[0].contains("capture.a"),
            "{found:?}"
        );
        let found = doubts("[capture.a]\ntopic.names = { \"x\" = \"t\", \"y\" = \"t\" }\n");
        assert!(found.len() == 1 && found[0].contains("table y and table x"), "{found:?}");
        let apart = "[capture.a]\n[capture.b]\nlisten = \"h:1\"\ntopic.prefix = \"b.\"\n";
        assert_eq!(doubts(apart), Vec::<String>::new());
    }

    #[test]
    fn the_defaults_are_accepted() {
        text_of("", "x").unwrap();
        text_of("[capture.main]\n", "x").unwrap();
    }
}
