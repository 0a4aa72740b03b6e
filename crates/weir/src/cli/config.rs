//! `weir config`: schema, sample, what is in force, and the manual of one key.

use super::say;
use crate::config::{load, manual};
use crate::exit::Exit;
use std::path::Path;
use weir_model::Fault;

/// Schema, sample file, the configuration in force, and the manual of a key.
#[derive(clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Prints the JSON schema of weir.toml, for editors.
    Schema,
    /// Prints a weir.toml with every key, its manual and its default.
    Sample,
    /// Prints the configuration in force, defaults filled in, secrets left out.
    Print,
    /// Prints the manual of a key or a section: `weir config explain zookeeper`, `weir config explain capture.main.topic`.
    Explain {
        /// The key, its end is enough; without it, all keys are listed.
        key: Option<String>,
    },
}

pub(super) fn run(file: &Path, arguments: &Arguments) -> Result<Exit, Fault> {
    match &arguments.command {
        Command::Schema => say(&format!("{:#}", manual::schema())),
        Command::Sample => say(manual::sample().trim_end()),
        Command::Print => print(file)?,
        Command::Explain { key: Some(key) } => return Ok(explain(key)),
        Command::Explain { key: None } => list(),
    }
    Ok(Exit::Done)
}

fn print(file: &Path) -> Result<(), Fault> {
    let mut config = load::file(file)?;
    for value in config.log.properties.values_mut() {
        if let crate::config::unit::Value::Plain(text) = value
            && text.contains('@')
        {
            "<left out>".clone_into(text);
        }
    }
    let text = toml::to_string_pretty(&config).map_err(|error| {
        Fault::new(weir_model::FaultKind::Config, load::CODE, "write the configuration", "").caused_by(error)
    })?;
    say(text.trim_end());
    Ok(())
}

/// All keys with the first sentence of their manual.
fn list() {
    for entry in manual::entries().into_iter().filter(|entry| !entry.is_section) {
        let about = entry.about.replace('\n', " ");
        let first = about.split(". ").next().unwrap_or_default().trim_end_matches('.');
        say(&format!("{:38} {first}", entry.path));
    }
}

fn explain(key: &str) -> Exit {
    let found = manual::explain(key);
    if found.is_empty() {
        let hint =
            manual::nearest(key).map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
        eprintln!("weir: there is no key {key:?}{hint}\n      `weir config explain` lists them all");
        return Exit::Usage;
    }
    for entry in found {
        let default = match (&entry.default, entry.is_section) {
            (_, true) => " (section)".to_owned(),
            (Some(default), false) => format!(" = {default}"),
            (None, false) => " (not set)".to_owned(),
        };
        say(&format!("{}{default}", entry.path));
        entry.about.lines().for_each(|line| say(&format!("    {line}")));
        if !entry.choices.is_empty() {
            say(&format!("    One of: {}.", entry.choices.join(", ")));
        }
    }
    Exit::Done
}
