//! `weir log`: what is on the log, as JSON lines or for reading.

mod bytes;
mod lag;

use super::{human, runtime, say};
use crate::captured;
use crate::config::{Config, load};
use crate::diagnosis::Finding;
use crate::exit::Exit;
use crate::topics;
use bytes::{escape, unescape, unhex};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weir_kafka::reader::{LogRecord, Reader, Start};
use weir_kafka::topics::Topics;
use weir_model::{Fault, FaultKind, TableName, TopicName};
use weir_wire::change::{self, Change, Event};
use weir_wire::hbase::bulk_load;

/// Looks at what was captured: topics, records, one record decoded, and how far a consumer is behind.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists the topics of captured tables, with what is wrong or unwise about their settings and the command that fixes it.
    Topics,
    /// Prints records of a table as they come; Ctrl-C ends it.
    Tail(Tail),
    /// Says how far a consumer group is behind, in records and in time; without a group, how old the newest records are.
    ///
    /// One JSON object a partition, then one for the topic.
    Lag(lag::Lag),
    /// Decodes one record's value from a file, or from standard input.
    Decode {
        /// File with the bytes of the value; `-` is standard input.
        #[arg(default_value = "-")]
        file: String,
        /// The input is hex text, such as a hex dump, and not the bytes themselves.
        #[arg(long)]
        hex: bool,
        #[command(flatten)]
        form: Form,
    },
    Aside(super::aside::Arguments),
}

#[derive(clap::Args)]
struct Tail {
    /// The table: `message` or `namespace:message`.
    #[arg(long)]
    table: String,
    /// Only what this capture section writes. Otherwise the topics of all captures that take the table.
    #[arg(long, value_name = "NAME")]
    capture: Option<String>,
    /// Only cells of rows that start so, in HBase's escaped notation (`\x00` for a byte).
    #[arg(long, value_name = "ROW")]
    row_prefix: Option<String>,
    /// Start this long ago: `10m`, `2h`, `1d`. Otherwise with the last --last records.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Start so many records before the end of each partition.
    #[arg(long, default_value_t = 10)]
    last: u32,
    /// Stop at the end as of now instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(clap::Args, Clone, Copy)]
struct Form {
    /// For reading instead of JSON lines.
    #[arg(long)]
    human: bool,
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    match &arguments.command {
        Command::Topics => list_topics(&load::file(file)?),
        Command::Tail(tail) => tail.run(&load::file(file)?),
        Command::Lag(lag) => lag.run(&load::file(file)?),
        Command::Decode { file, hex, form } => decode(file, *hex, *form),
        Command::Aside(arguments) => super::aside::run(file, arguments),
    }
}

fn wrong(doing: &'static str, about: &str, cause: impl ToString) -> Fault {
    Fault::new(FaultKind::Config, load::CODE, doing, about).caused_by(cause.to_string())
}

fn list_topics(config: &Config) -> Result<Exit, Fault> {
    let client = Topics::new(&config.log.bootstrap.join(","), &config.log.read_properties()?)?;
    let captures = captured::all(config)?;
    let (existing, brokers) = (client.list()?, client.brokers()?);
    let judged = runtime()?.block_on(topics::judged(config, &client, &existing, &brokers, &captures));
    for judged in judged {
        let findings: Vec<serde_json::Value> = judged.findings.iter().map(finding).collect();
        // One line for each table: tables and captures may share a topic.
        for (capture, table) in captured::of_topic(&captures, &judged.topic.name) {
            say(&serde_json::json!({
                "capture": capture.name, "table": table, "topic": judged.topic.name,
                "partitions": judged.topic.partition_count, "replicas": judged.topic.replica_count,
                "retention_ms": judged.retention_ms, "findings": findings,
            })
            .to_string());
        }
    }
    Ok(Exit::Done)
}

fn finding(finding: &Finding) -> serde_json::Value {
    serde_json::json!({ "level": finding.level.word(), "what": finding.what, "fix": finding.fix })
}

/// The topics of a table: one for each capture that takes it, or of the capture that was asked for.
fn topics_of(config: &Config, table: &TableName, asked: Option<&str>) -> Result<Vec<TopicName>, Fault> {
    let captures = captured::chosen(config, asked)?;
    let takers = captures.iter().filter(|capture| capture.settings.takes(table));
    let topics: Result<BTreeSet<TopicName>, Fault> = takers
        .map(|capture| {
            let topic = capture.settings.topic(table);
            topic.map_err(|error| wrong("name the topic", table.as_str(), error))
        })
        .collect();
    match topics? {
        topics if topics.is_empty() => {
            let cause = match asked {
                Some(name) => {
                    format!("capture.{name} does not take this table (tables.include, tables.exclude)")
                }
                None => "no [capture.NAME] takes this table (tables.include, tables.exclude)".to_owned(),
            };
            Err(wrong("name the topic", table.as_str(), cause))
        }
        topics => Ok(topics.into_iter().collect()),
    }
}

impl Tail {
    fn run(&self, config: &Config) -> Result<Exit, Fault> {
        let table =
            TableName::new(&self.table).map_err(|error| wrong("understand --table", &self.table, error))?;
        let topics = topics_of(config, &table, self.capture.as_deref())?;
        let topics: Vec<String> = topics.iter().map(ToString::to_string).collect();
        let prefix = match &self.row_prefix {
            Some(text) => Some(
                unescape(text)
                    .ok_or_else(|| wrong("understand --row-prefix", text, "write bytes as \\x00"))?,
            ),
            None => None,
        };
        let start = match &self.since {
            None => Start::Last(i64::from(self.last)),
            Some(text) => {
                let span = crate::config::unit::Span::try_from(text.clone())
                    .map_err(|error| wrong("understand --since", text, error))?;
                Start::Since(human::now_ms() - i64::try_from(span.as_ms()).unwrap_or(i64::MAX))
            }
        };
        let bootstrap = config.log.bootstrap.join(",");
        let mut reader = Reader::open(&bootstrap, &config.log.read_properties()?, &topics, start)?;
        let is_over = interrupted()?;
        while !is_over.load(Ordering::Relaxed) {
            match reader.next(Duration::from_millis(200))? {
                Some(record) => self.show(&record, prefix.as_deref())?,
                None if self.no_follow && reader.is_at_end() => break,
                None => {}
            }
        }
        Ok(Exit::Done)
    }

    fn show(&self, record: &LogRecord, prefix: Option<&[u8]>) -> Result<(), Fault> {
        let mut change = read(&record.value)?;
        if let Some(prefix) = prefix {
            change.cells.retain(|cell| cell.row.starts_with(prefix));
            if change.cells.is_empty() {
                return Ok(());
            }
        }
        let place = format!("{}-{}@{}", record.topic, record.partition, record.offset);
        say(&if self.form.human { human(&place, &change) } else { json(&place, &change).to_string() });
        Ok(())
    }
}

/// Becomes true at SIGINT: the end that was asked for, and so no failure.
fn interrupted() -> Result<Arc<AtomicBool>, Fault> {
    let runtime = runtime()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&is_over);
    // It ends with the process: nothing waits for it, and nothing is lost with it.
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            theirs.store(true, Ordering::Relaxed);
        }
    });
    Ok(is_over)
}

fn decode(file: &str, is_hex: bool, form: Form) -> Result<Exit, Fault> {
    let mut bytes = Vec::new();
    let read_in = if file == "-" {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read_in.map_err(|error| wrong("read the record", file, error))?;
    if is_hex {
        let text = String::from_utf8_lossy(&bytes);
        bytes = unhex(&text)
            .ok_or_else(|| wrong("read the record", file, "that is no hex: two digits a byte"))?;
    }
    let change = read(&bytes)?;
    say(&if form.human { human(file, &change) } else { json(file, &change).to_string() });
    Ok(Exit::Done)
}

fn read(value: &[u8]) -> Result<Change<'_>, Fault> {
    let corrupt = |cause: String| {
        Fault::new(FaultKind::Corrupt, "W-CAPTURE-CORRUPT", "read a change record", "").caused_by(cause)
    };
    let change = change::decode(value).map_err(|error| corrupt(error.to_string()))?;
    // Nothing at all is a protobuf message too.
    if change.table.is_empty() {
        return Err(corrupt("it names no table".to_owned()));
    }
    Ok(change)
}

fn json(place: &str, change: &Change<'_>) -> serde_json::Value {
    let cells: Vec<_> = change
        .cells
        .iter()
        .map(|cell| {
            serde_json::json!({
                "row": escape(cell.row), "family": escape(cell.family), "qualifier": escape(cell.qualifier),
                "timestamp": cell.timestamp, "type": cell.kind.name(), "value": escape(cell.value), "tags": escape(cell.tags),
            })
        })
        .collect();
    let mut object = BTreeMap::from([
        ("place", place.into()),
        ("table", change.table.into()),
        ("region", change.encoded_region.into()),
        ("sequence", change.sequence.into()),
        ("write_time_ms", change.write_time_ms.into()),
        ("source", change.source.to_string().into()),
        ("clusters", change.cluster_ids.iter().map(ToString::to_string).collect::<Vec<_>>().into()),
        ("cells", serde_json::Value::from(cells)),
    ]);
    if let Some(part) = change.row_part {
        object.insert("row_part", format!("{}/{}", part.index, part.count).into());
    }
    if let Some(event) = &change.event {
        object.insert("event", words(event).into());
        // An event has no place among the sequence numbers of changes.
        object.remove("sequence");
    }
    if let Some(Event::BulkLoad { sequence, base_namespace_dir, hfile_archive_dir, .. }) = &change.event {
        let files: Vec<_> = files(change)
            .into_iter()
            .map(|(family, file)| serde_json::json!({ "family": family, "file": file }))
            .collect();
        let load = serde_json::json!({
            "sequence": sequence, "base_namespace_dir": base_namespace_dir,
            "hfile_archive_dir": hfile_archive_dir, "files": files,
        });
        object.insert("bulk_load", load);
    }
    serde_json::json!(object)
}

/// The files of a bulk load, each after its family; a file's path starts at the folder of its namespace.
fn files(change: &Change<'_>) -> Vec<(String, String)> {
    let Some(Event::BulkLoad { descriptor, .. }) = change.event else { return Vec::new() };
    let Ok(table) = TableName::new(change.table) else { return Vec::new() };
    let stores = bulk_load::stores(descriptor).unwrap_or_default();
    let of_store = |store: &bulk_load::Store<'_>| {
        let family = escape(store.family);
        let home = if store.home.is_empty() { &family } else { store.home };
        let folder = format!("{}/{}/{}/{home}", table.namespace(), table.qualifier(), change.encoded_region);
        let path = |file: &&str| (family.clone(), format!("{folder}/{file}"));
        store.files.iter().map(path).collect::<Vec<_>>()
    };
    stores.iter().flat_map(of_store).collect()
}

fn words(event: &Event<'_>) -> String {
    match event {
        Event::BulkLoad { .. } => "bulk-load".to_owned(),
        Event::Heartbeat { server, wal, offset } => format!("heartbeat {server} {wal} {offset}"),
    }
}

fn human(place: &str, change: &Change<'_>) -> String {
    let at = human::instant(change.write_time_ms);
    let mut text = format!("{at}  {place}  {} {}", change.table, change.encoded_region);
    match &change.event {
        None => text.push_str(&format!(" #{}", change.sequence)),
        Some(event) => text.push_str(&format!("\n  {}", words(event))),
    }
    for (family, file) in files(change) {
        text.push_str(&format!("\n  {family}  {file}"));
    }
    for cell in &change.cells {
        let column = format!("{}:{}", escape(cell.family), escape(cell.qualifier));
        text.push_str(&format!(
            "\n  {}  {column}  {} {}  {}",
            escape(cell.row),
            cell.timestamp,
            cell.kind.name(),
            escape(cell.value)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_two_captures_has_the_topics_of_both_and_one_can_be_chosen() {
        let text = "[capture.a]\n[capture.b]\nlisten = \"h:1\"\ntopic.prefix = \"b.\"\ntables.exclude = [\"only-a\"]\n";
        let config = load::text_of(text, "x").unwrap();
        let of = |table: &str, asked: Option<&str>| {
            let topics = topics_of(&config, &TableName::new(table).unwrap(), asked);
            topics.map(|topics| topics.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(of("t", None).unwrap(), ["b.t.wal", "hbase.t.wal"]);
        assert_eq!(of("t", Some("b")).unwrap(), ["b.t.wal"]);
        assert_eq!(of("only-a", None).unwrap(), ["hbase.only-a.wal"]);
        assert!(of("only-a", Some("b")).unwrap_err().chain().contains("capture.b does not take"));
        assert!(of("t", Some("c")).unwrap_err().chain().contains("there are: a, b"));
    }
}
