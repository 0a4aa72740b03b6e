//! Schema, sample file and the manual of one key, all made from the doc comments of the configuration's types.

use super::Config;
use super::load::distance;
use serde_json::{Map, Value};
use std::fmt::Write as _;

/// Name of the capture section in the sample and in `weir config explain`.
const SAMPLE_CAPTURE: &str = "main";

/// The JSON schema of `weir.toml`, for editors.
#[must_use]
pub fn schema() -> Value {
    schemars::schema_for!(Config).to_value()
}

/// One key of the file: its place, what it is for, its default.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Dotted path, such as `capture.main.topic.prefix`.
    pub path: String,
    /// The manual text.
    pub about: String,
    /// The default as TOML; `None` when the key is absent unless set.
    pub default: Option<String>,
    /// What a value looks like when there is no default.
    pub placeholder: &'static str,
    /// Whether it is a table of further keys.
    pub is_section: bool,
    /// The words that it accepts, when it is a choice.
    pub choices: Vec<String>,
}

/// All keys in the order of the file.
///
/// # Panics
/// Never: the default configuration is always writable as JSON.
#[must_use]
pub fn entries() -> Vec<Entry> {
    let schema = schema();
    let mut sample = Config::default();
    sample.capture.insert(SAMPLE_CAPTURE.to_owned(), super::Capture::default());
    let defaults = serde_json::to_value(&sample).expect("a configuration is writable as JSON");
    let mut out = Vec::new();
    walk(&schema, &schema, &defaults, "", &mut out);
    out
}

/// The entries at or below a path; `capture.ANYTHING.x` means `capture.main.x`. A path that begins in the middle, such
/// as `topic.key` or `zookeeper`, means every key that ends so.
#[must_use]
pub fn explain(path: &str) -> Vec<Entry> {
    let mut words: Vec<&str> = path.split('.').collect();
    if let ["capture", name, ..] = &mut words[..] {
        *name = SAMPLE_CAPTURE;
    }
    let path = words.join(".");
    // `capture` alone is the section of which there are several.
    let path = if path == "capture" { format!("capture.{SAMPLE_CAPTURE}") } else { path };
    let (below, end) = (format!("{path}."), format!(".{path}"));
    let entries = entries();
    let found = |is_meant: &dyn Fn(&Entry) -> bool| -> Vec<Entry> {
        entries.iter().filter(|entry| is_meant(entry)).cloned().collect()
    };
    let exact = found(&|entry| entry.path == path || entry.path.starts_with(&below));
    if exact.is_empty() { found(&|entry| entry.path.ends_with(&end)) } else { exact }
}

/// The key that somebody may have meant, when there is one like it.
#[must_use]
pub fn nearest(path: &str) -> Option<String> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let given = last(path);
    let entries = entries().into_iter().map(|entry| entry.path);
    let nearest = entries.min_by_key(|key| (distance(&given, &last(key)), distance(path, key)))?;
    (distance(&given, &last(&nearest)) <= 2 + given.len() / 3).then_some(nearest)
}

/// A file with every key, its manual as comments, and the defaults.
#[must_use]
pub fn sample() -> String {
    let mut out = String::from(
        "# weir.toml: every key with its default. Made by `weir config sample`; keys after `#` are not set unless you do.\n",
    );
    for entry in entries() {
        out.push('\n');
        for line in entry.about.lines() {
            let _ = writeln!(out, "{}", format!("# {line}").trim_end());
        }
        if !entry.choices.is_empty() {
            let _ = writeln!(out, "# One of: {}.", entry.choices.join(", "));
        }
        if entry.is_section {
            let _ = writeln!(out, "[{}]", entry.path);
            continue;
        }
        let key = entry.path.rsplit('.').next().unwrap_or_default();
        match entry.default {
            Some(default) => {
                let _ = writeln!(out, "{key} = {default}");
            }
            None => {
                let _ = writeln!(out, "# {key} = {}", entry.placeholder);
            }
        }
    }
    out
}

fn walk(root: &Value, node: &Value, default: &Value, path: &str, out: &mut Vec<Entry>) {
    let Some(properties) = resolve(root, node).get("properties").and_then(Value::as_object) else { return };
    let at = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    // Plain keys first: in TOML they must stand before the sub-sections.
    let (sections, plain): (Vec<_>, Vec<_>) =
        properties.iter().partition(|(key, node)| is_section(root, node, default.get(key.as_str())));
    for (key, node) in plain {
        out.push(Entry {
            path: at(key),
            about: about(root, node),
            default: default.get(key).filter(|value| !value.is_null()).map(toml_of),
            placeholder: placeholder(root, node),
            is_section: false,
            choices: choices(root, node),
        });
    }
    for (key, node) in sections {
        let value = default.get(key).unwrap_or(&Value::Null);
        let resolved = resolve(root, node);
        if resolved.get("properties").is_some() {
            out.push(section(at(key), about(root, node)));
            walk(root, node, value, &at(key), out);
        } else if let Some(of_each) = resolved.get("additionalProperties") {
            let path = at(&format!("{key}.{SAMPLE_CAPTURE}"));
            out.push(section(path.clone(), about(root, node)));
            walk(root, of_each, value.get(SAMPLE_CAPTURE).unwrap_or(&Value::Null), &path, out);
        }
    }
}

fn section(path: String, about: String) -> Entry {
    Entry { path, about, default: None, placeholder: "{}", is_section: true, choices: Vec::new() }
}

/// A table with keys of its own, or a map of such tables.
fn is_section(root: &Value, node: &Value, default: Option<&Value>) -> bool {
    let node = resolve(root, node);
    let of_tables =
        node.get("additionalProperties").is_some_and(|each| resolve(root, each).get("properties").is_some());
    default.is_some() && (node.get("properties").is_some() || of_tables)
}

fn resolve<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let reference = node.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(node)
}

fn about(root: &Value, node: &Value) -> String {
    let own = node.get("description").or_else(|| resolve(root, node).get("description"));
    own.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `type` is one word, or a list of which one is `null` when the key may be absent.
fn placeholder(root: &Value, node: &Value) -> &'static str {
    let kind = resolve(root, node).get("type");
    let is = |word: &str| match kind {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == word),
        Some(kind) => kind == word,
        None => false,
    };
    if is("integer") { "0" } else { "\"...\"" }
}

fn choices(root: &Value, node: &Value) -> Vec<String> {
    let variants = resolve(root, node).get("oneOf").and_then(Value::as_array);
    let word = |variant: &Value| {
        let word = variant.get("const").and_then(Value::as_str)?;
        let about = variant.get("description").and_then(Value::as_str).unwrap_or_default();
        Some(format!("\"{word}\" ({})", about.trim_end_matches('.')))
    };
    variants.into_iter().flatten().filter_map(word).collect()
}

/// A JSON value as TOML.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => inline(map),
        Value::Array(items) => format!("[{}]", items.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn inline(map: &Map<String, Value>) -> String {
    let pairs = map.iter().map(|(key, value)| format!("{} = {}", Value::from(key.as_str()), toml_of(value)));
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_configuration_that_says_the_defaults() {
        let mut expect = Config::default();
        expect.capture.insert(SAMPLE_CAPTURE.to_owned(), super::super::Capture::default());
        assert_eq!(super::super::load::text_of(&sample(), "sample").unwrap(), expect);
    }

    #[test]
    fn keys_that_are_not_set_are_written_so_that_they_can_be() {
        let sample = sample();
        for line in ["# advertise = \"...\"", "# key-length = 0", "# key-delimiter = \"...\""] {
            assert!(sample.lines().any(|found| found == line), "{line} is not in\n{sample}");
        }
    }

    #[test]
    fn every_key_has_a_manual() {
        let entries = entries();
        assert!(entries.len() > 30, "{}", entries.len());
        for entry in entries {
            assert!(entry.about.len() > 5, "{} has no manual", entry.path);
        }
    }

    #[test]
    fn keys_stand_in_the_order_in_which_they_are_needed() {
        let sample = sample();
        let place = |key: &str| sample.find(&format!("\n{key}")).unwrap_or_else(|| panic!("{key}"));
        let order = [
            "[log]",
            "bootstrap",
            "[capture.main]",
            "zookeeper",
            "peer",
            "listen",
            "[limits]",
            "[telemetry]",
        ];
        let places: Vec<usize> = order.iter().map(|key| place(key)).collect();
        assert!(places.is_sorted(), "{places:?}");
    }

    #[test]
    fn a_key_is_found_by_its_end_and_a_wrong_one_by_its_likeness() {
        let check = |path: &str, expect: &[&str]| {
            let found = explain(path);
            assert_eq!(found.iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), expect, "{path}");
        };
        check("zookeeper", &["capture.main.zookeeper"]);
        check("listen", &["capture.main.listen", "console.listen"]);
        check("topic.key", &["capture.main.topic.key"]);
        check("nothing-like-it", &[]);
        assert_eq!(nearest("log.botstrap").as_deref(), Some("log.bootstrap"));
        assert_eq!(nearest("capture.x.topic.prefx").as_deref(), Some("capture.main.topic.prefix"));
        assert_eq!(nearest("completely-different"), None);
    }

    #[test]
    fn a_key_is_explained_under_any_capture_name() {
        let found = explain("capture.orders.topic.key");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].choices.iter().any(|choice| choice.starts_with("\"row-prefix\"")));
    }
}
