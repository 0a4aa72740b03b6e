//! `weir log aside`: records that a consumer of the keyed runtime gave up, from their topic of dead letters.

use super::say;
use crate::config::load;
use crate::exit::Exit;
use std::path::Path;
use weir_kafka::aside::{Aside, Letter};
use weir_model::{Fault, FaultKind};
use weir_runtime::dead_letter::{ATTEMPTS, CAUSE, GROUP, ORIGIN, PLACE};

/// Letters that are put back at a time.
const REPLAY_COUNT: usize = 500;

/// Bytes of a value that `list` shows.
const LIST_BYTES: usize = 200;

/// Looks at dead letters, puts them back, or drops them from sight.
///
/// What was replayed or dropped is kept in the topic `weir-aside`, which is made at the first time; the letters
/// themselves stay until their topic's retention takes them. Whoever begins to replay or drop takes over from somebody
/// who does so at the same time.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Lists the letters that were not dealt with, as JSON lines.
    List(Topic),
    /// Shows letters whole.
    Show(Chosen),
    /// Puts letters back at the end of the topics that they came from; every group of those topics gets them.
    Replay(Chosen),
    /// Drops letters from sight.
    Drop(Chosen),
}

#[derive(clap::Args)]
struct Topic {
    /// The topic of dead letters.
    #[arg(long)]
    topic: String,
}

#[derive(clap::Args)]
struct Chosen {
    #[command(flatten)]
    topic: Topic,
    /// All letters that were not dealt with.
    #[arg(long, conflicts_with = "places", required_unless_present = "places")]
    all: bool,
    /// Which: PARTITION/OFFSET, as `list` names them.
    #[arg(value_name = "PARTITION/OFFSET", value_parser = place)]
    places: Vec<(i32, i64)>,
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let parsed = text
        .split_once('/')
        .and_then(|(partition, offset)| Some((partition.parse::<i32>().ok()?, offset.parse::<i64>().ok()?)));
    parsed.ok_or_else(|| "write it as PARTITION/OFFSET, such as 0/17".to_owned())
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    let log = load::file(file)?.log;
    let topic = match &arguments.command {
        Command::List(topic) => topic,
        Command::Show(chosen) | Command::Replay(chosen) | Command::Drop(chosen) => &chosen.topic,
    };
    let (bootstrap, properties) = (log.bootstrap.join(","), log.read_properties()?);
    let open = match &arguments.command {
        Command::List(_) | Command::Show(_) => Aside::open,
        Command::Replay(_) | Command::Drop(_) => Aside::open_to_deal,
    };
    let mut aside = open(&bootstrap, &properties, &topic.topic)?;
    match &arguments.command {
        Command::List(_) => aside.for_each(|_, letter| {
            say(&json(&letter, LIST_BYTES).to_string());
            Ok(())
        })?,
        Command::Show(chosen) => {
            chosen.for_each(&mut aside, |_, letters| {
                letters.iter().for_each(|letter| say(&json(letter, usize::MAX).to_string()));
                Ok(())
            })?;
        }
        Command::Replay(chosen) => {
            let count = chosen.for_each(&mut aside, Aside::replay)?;
            say(&format!("{{\"replayed\":{count}}}"));
        }
        Command::Drop(chosen) => {
            let count = chosen.for_each(&mut aside, Aside::drop_letters)?;
            say(&format!("{{\"dropped\":{count}}}"));
        }
    }
    Ok(Exit::Done)
}

impl Chosen {
    /// Gives the chosen letters to `act`, many at a time; how many there were.
    fn for_each(
        &self,
        aside: &mut Aside,
        mut act: impl FnMut(&mut Aside, &[Letter]) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let (mut waiting, mut found) = (Vec::new(), Vec::new());
        aside.for_each(|aside, letter| {
            let at = (letter.partition, letter.offset);
            if self.all || self.places.contains(&at) {
                found.push(at);
                waiting.push(letter);
            }
            if waiting.len() == REPLAY_COUNT {
                act(aside, &waiting)?;
                waiting.clear();
            }
            Ok(())
        })?;
        // Named ones all or none, as far as they fit into one go.
        if let Some((partition, offset)) = self.places.iter().find(|at| !found.contains(at)) {
            let about = format!("{partition}/{offset} of {}", self.topic.topic);
            let fault = Fault::new(FaultKind::Config, load::CODE, "find the dead letter", about);
            return Err(fault.caused_by(
                "it is not there, or was dealt with; `weir log aside list` names those that are",
            ));
        }
        if !waiting.is_empty() {
            act(aside, &waiting)?;
        }
        Ok(found.len())
    }
}

fn json(letter: &Letter, bytes_max: usize) -> serde_json::Value {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_deref()
            .map(|bytes| String::from_utf8_lossy(&bytes[..bytes.len().min(bytes_max)]).into_owned())
    };
    let own = letter.headers.iter().filter(|(name, _)| !weir_runtime::dead_letter::is_ours(name));
    let headers: serde_json::Map<String, serde_json::Value> =
        own.map(|(name, value)| (name.clone(), text(value).into())).collect();
    serde_json::json!({
        "letter": format!("{}/{}", letter.partition, letter.offset), "from": letter.header(PLACE),
        "cause": letter.header(CAUSE), "attempts": letter.header(ATTEMPTS), "group": letter.header(GROUP),
        "origin": letter.header(ORIGIN), "timestamp_ms": letter.written_ms(), "key": text(&letter.key), "value": text(&letter.value), "headers": headers,
    })
}
