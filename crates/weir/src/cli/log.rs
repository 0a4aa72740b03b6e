//! `weir log`: what is on the log, as JSON lines or for reading.

use super::{runtime, say};
use crate::config::{Config, load};
use crate::exit::Exit;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;
use weir_kafka::reader::{LogRecord, Reader, Start};
use weir_kafka::topics::Topics;
use weir_model::{Fault, FaultKind, TableName, TopicName, TopicNaming};
use weir_wire::change::{self, Change, Event};

/// Looks at what was captured: topics, the newest records, one record decoded.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists the topics of captured tables, with what is unwise about their settings.
    Topics,
    /// Prints records of a table as they come; ctrl-c ends it.
    Tail(Tail),
    /// Decodes one record's value from a file, or from standard input.
    Decode {
        /// File with the bytes of the value; `-` is standard input.
        #[arg(default_value = "-")]
        file: String,
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
        Command::Topics => topics(&load::file(file)?),
        Command::Tail(tail) => tail.run(&load::file(file)?),
        Command::Decode { file, form } => decode(file, *form),
        Command::Aside(arguments) => super::aside::run(file, arguments),
    }
}

fn wrong(doing: &'static str, about: &str, cause: impl ToString) -> Fault {
    Fault::new(FaultKind::Config, load::CODE, doing, about).caused_by(cause.to_string())
}

/// The naming rules of all captures.
fn namings(config: &Config) -> Vec<(&String, TopicNaming)> {
    let naming = |topic: &crate::config::Topic| TopicNaming::new(&topic.prefix, &topic.suffix).ok();
    config.capture.iter().filter_map(|(name, section)| Some((name, naming(&section.topic)?))).collect()
}

fn topics(config: &Config) -> Result<Exit, Fault> {
    let client = Topics::new(&config.log.bootstrap.join(","), &config.log.read_properties()?)?;
    let runtime = runtime()?;
    let namings = namings(config);
    for mut topic in client.list()? {
        let Some((name, table)) =
            namings.iter().find_map(|(name, rule)| Some((name, rule.table(&topic.name)?)))
        else {
            continue;
        };
        topic.settings = runtime.block_on(client.settings(&topic.name))?;
        let warnings = topic.warnings();
        say(&serde_json::json!({
            "capture": name, "table": table, "topic": topic.name, "partitions": topic.partition_count,
            "replicas": topic.replica_count, "retention_ms": topic.settings.get("retention.ms"), "warnings": warnings,
        })
        .to_string());
    }
    Ok(Exit::Done)
}

/// The topic of a table, by the first capture that takes it.
fn topic_of(config: &Config, table: &TableName) -> Result<TopicName, Fault> {
    let named = config.capture.values().find_map(|section| section.topic.names.get(table.as_str()));
    if let Some(name) = named {
        return TopicName::new(name).map_err(|error| wrong("name the topic", table.as_str(), error));
    }
    let namings = namings(config);
    let (_, rule) = namings
        .first()
        .ok_or_else(|| wrong("name the topic", table.as_str(), "there is no [capture.NAME]"))?;
    rule.topic(table).map_err(|error| wrong("name the topic", table.as_str(), error))
}

impl Tail {
    fn run(&self, config: &Config) -> Result<Exit, Fault> {
        let table =
            TableName::new(&self.table).map_err(|error| wrong("understand --table", &self.table, error))?;
        let topic = topic_of(config, &table)?;
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
                Start::Since(now_ms() - i64::try_from(span.as_ms()).unwrap_or(i64::MAX))
            }
        };
        let bootstrap = config.log.bootstrap.join(",");
        let mut reader =
            Reader::open(&bootstrap, &config.log.read_properties()?, &[topic.to_string()], start)?;
        loop {
            match reader.next(Duration::from_millis(200))? {
                Some(record) => self.show(&record, prefix.as_deref())?,
                None if self.no_follow && reader.is_at_end() => return Ok(Exit::Done),
                None => {}
            }
        }
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

fn decode(file: &str, form: Form) -> Result<Exit, Fault> {
    let mut bytes = Vec::new();
    let read_in = if file == "-" {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read_in.map_err(|error| wrong("read the record", file, error))?;
    let change = read(&bytes)?;
    say(&if form.human { human(file, &change) } else { json(file, &change).to_string() });
    Ok(Exit::Done)
}

fn read(value: &[u8]) -> Result<Change<'_>, Fault> {
    change::decode(value).map_err(|error| {
        Fault::new(FaultKind::Corrupt, "W-CAPTURE-CORRUPT", "read a change record", "").caused_by(error)
    })
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
    match change.event {
        Some(Event::BulkLoad { .. }) => {
            object.insert("event", "bulk-load".into());
        }
        Some(Event::Heartbeat { server, wal, offset }) => {
            object.insert("event", format!("heartbeat {server} {wal} {offset}").into());
        }
        None => {}
    }
    serde_json::json!(object)
}

fn human(place: &str, change: &Change<'_>) -> String {
    let mut text = format!("{place}  {} {} #{}", change.table, change.encoded_region, change.sequence);
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

/// HBase's own notation of bytes (`Bytes.toStringBinary`): printable ASCII as it is, the rest as `\xHH`.
fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'\\' => text.push_str("\\x5C"),
            0x20..=0x7e => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02X}")),
        }
    }
    text
}

/// The other way (`Bytes.toBytesBinary`); `None` when an escape is broken.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.strip_prefix(b"x")?.get(..2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after.get(3..)?;
    }
    Some(bytes)
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_as_hbase_writes_them_and_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let text = escape(&bytes);
        assert!(text.starts_with("\\x00\\x01") && text.contains("[\\x5C]^"), "{text}");
        assert_eq!(unescape(&text), Some(bytes));
        assert_eq!((unescape("a\\x"), unescape("a\\q00"), unescape("\\xZZ")), (None, None, None));
    }
}
