//! What the running process says of itself: calls that fail, region servers that it refuses.

use super::Finding;
use serde::Deserialize;

/// The part of `/board` that is judged. Unknown fields are passed over, missing ones are empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Board {
    /// When the picture was made, ms since 1970.
    pub now_ms: u64,
    /// The captures that run.
    pub captures: Vec<CaptureBoard>,
}

/// One capture.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CaptureBoard {
    /// Name of its section.
    pub name: String,
    /// Why region servers cannot find it.
    pub trouble: Option<String>,
    /// What fails now.
    pub failing: Vec<Failing>,
    /// Region servers whose connections are refused. Processes of an earlier version have counts by reason here.
    pub refused: serde_json::Value,
}

/// Calls that fail.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Failing {
    /// The fault's code.
    pub code: String,
    /// What the fault is about.
    pub about: String,
    /// Tables that wait for it.
    pub tables: Vec<String>,
    /// Number of calls.
    pub count: u64,
    /// When the first call failed, ms since 1970.
    pub first_ms: u64,
    /// What the last one said.
    pub text: String,
}

/// A region server whose connections are refused.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Refused {
    server: String,
    reason: String,
    fix: String,
    count: u64,
}

/// What is known about the subject of a failure, for its fix.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The table whose topic it is.
    pub table: Option<String>,
    /// Whether the source has that table; `None` when it was not asked.
    pub is_there: Option<bool>,
    /// The command that creates the topic.
    pub create: String,
    /// The setting that leaves the table out.
    pub exclude: String,
    /// The commands that give the user its rights on the topic.
    pub allow: String,
}

/// Judges one capture; `subject` tells what is known about a failure's subject.
#[must_use]
pub fn judge(board: &CaptureBoard, now_ms: u64, subject: impl Fn(&Failing) -> Subject) -> Vec<Finding> {
    let at = format!("capture.{}", board.name);
    let mut found = Vec::new();
    if let Some(trouble) = &board.trouble {
        found
            .push(Finding::error(trouble.clone(), "look at ZooKeeper; weir explain W-ZOOKEEPER-UNREACHABLE"));
    }
    found.extend(board.failing.iter().map(|one| failing(one, now_ms, &subject(one)).about(&at)));
    let refused: Vec<Refused> = serde_json::from_value(board.refused.clone()).unwrap_or_default();
    found.extend(refused.into_iter().map(|one| {
        let Refused { server, reason, fix, count } = one;
        let fix = if fix.is_empty() { "look at the log of weir run".to_owned() } else { fix };
        Finding::error(format!("region server {server} is refused, {count} times: {reason}"), fix).about(&at)
    }));
    found
}

fn failing(one: &Failing, now_ms: u64, subject: &Subject) -> Finding {
    let seconds = now_ms.saturating_sub(one.first_ms) / 1000;
    // A fault that knows its fix has it at its end.
    let (text, own_fix) = match one.text.split_once("; fix: ") {
        Some((text, fix)) => (text, Some(fix.to_owned())),
        None => (one.text.as_str(), None),
    };
    let who = match (&subject.table, subject.is_there) {
        (Some(table), Some(false)) => format!(" with table {table}, which the source has no more,"),
        (Some(table), _) => format!(" with table {table}"),
        (None, _) => String::new(),
    };
    let what = format!(
        "calls{who} fail now, {} in {seconds} s, and all that their region servers have written behind them waits, of \
         other tables too: {text}",
        one.count
    );
    let fix = own_fix.unwrap_or_else(|| match one.code.as_str() {
        "W-KAFKA-TOPIC" if subject.is_there == Some(false) => {
            format!("{}; or, to have what is left of it: {}", subject.exclude, subject.create)
        }
        "W-KAFKA-TOPIC" | "W-CAPTURE-TOPIC-NAME" if subject.table.is_some() => {
            format!("{}; or, to leave the table out: {}", subject.create, subject.exclude)
        }
        "W-KAFKA-DENIED" if !subject.allow.is_empty() => subject.allow.clone(),
        "W-KAFKA-UNREACHABLE" => {
            "start the brokers; or set log.bootstrap to where they are, and log.properties to what they want"
                .to_owned()
        }
        "W-KAFKA-REJECTED" => {
            "raise max.message.bytes of the topic, or lower log.part-size (weir explain W-KAFKA-REJECTED)"
                .to_owned()
        }
        code => format!("weir explain {code}"),
    });
    Finding::error(what, fix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Level;

    fn board(text: &str) -> CaptureBoard {
        serde_json::from_str(text).unwrap()
    }

    fn gone(_: &Failing) -> Subject {
        Subject {
            table: Some("gone".to_owned()),
            is_there: Some(false),
            create: "kafka-topics.sh --create".to_owned(),
            exclude: "set capture.main.tables.exclude".to_owned(),
            allow: "kafka-acls.sh".to_owned(),
        }
    }

    #[test]
    fn a_call_that_fails_is_an_error_with_the_fix_for_its_code() {
        let check = |code: &str, text: &str, fix: &str| {
            let failing =
                format!(r#"{{"code":"{code}","about":"x","count":7,"first_ms":1000,"text":"{text}"}}"#);
            let found = judge(&board(&format!(r#"{{"name":"main","failing":[{failing}]}}"#)), 6000, gone);
            assert_eq!((found.len(), found[0].level), (1, Level::Error));
            assert!(found[0].what.contains("7 in 5 s") && found[0].what.contains("no more"), "{found:?}");
            assert!(found[0].fix.starts_with(fix), "{found:?}");
        };
        check(
            "W-KAFKA-TOPIC",
            "missing",
            "set capture.main.tables.exclude; or, to have what is left of it: kafka-",
        );
        check("W-KAFKA-TOPIC", "collides; fix: set names", "set names");
        check("W-KAFKA-DENIED", "no", "kafka-acls.sh");
        check("W-KAFKA-UNREACHABLE", "away", "start the brokers");
        check("W-KAFKA-REJECTED", "large", "raise max.message.bytes");
        check("W-OTHER", "x", "weir explain W-OTHER");
    }

    #[test]
    fn a_refused_region_server_is_an_error_and_the_counts_of_an_earlier_version_are_not() {
        let text = r#"{"name":"main","refused":[{"server":"rs1","reason":"codec X","fix":"weir peer add --codec Y","count":3,"last_ms":9}]}"#;
        let found = judge(&board(text), 0, gone);
        let expect = Finding::error(
            "capture.main: region server rs1 is refused, 3 times: codec X",
            "weir peer add --codec Y",
        );
        assert_eq!(found, [expect]);
        assert_eq!(judge(&board(r#"{"name":"main","refused":{"header":3}}"#), 0, gone), []);
        assert_eq!(judge(&board(r#"{"name":"main"}"#), 0, gone), []);
    }

    #[test]
    fn a_capture_that_nobody_finds_is_an_error() {
        let found = judge(&board(r#"{"name":"main","trouble":"capture.main: not registered"}"#), 0, gone);
        assert_eq!((found.len(), found[0].level), (1, Level::Error));
    }
}
