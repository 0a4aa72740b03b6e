//! The command tree. Each command is one file here: arguments, help that teaches, and a call into the rooms below.

mod aside;
mod check;
mod config;
mod demo;
mod explain;
mod human;
mod log;
mod peer;
mod run;

use crate::exit::{Exit, PANIC};
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use weir_model::Fault;

const ABOUT: &str = "Weir turns HBase tables into ordered change streams on Apache Kafka.

It poses as a replication peer cluster: no jar in region servers, no restart. Every write in the
WAL of a replicated table becomes a record, acknowledged to HBase only once Kafka has it for good.";

const AFTER: &str = "Start here:
  weir demo                         see it work, with nothing installed
  weir config sample > weir.toml    a configuration with every key explained
  weir run                          capture
  weir check                        what is wrong, and the command that fixes it
  weir peer add --table message     tell HBase to send, and wait until it does
  weir log tail --table message     what came
  weir peer status; weir log lag    what waits: at HBase, and for a consumer of the log

Exit codes: 0 done, 1 something was found or lost, 2 usage, 3 configuration, 4 denied,
  5 unreachable, 6 data corrupt, 70 a bug of ours.";

#[derive(Parser)]
#[command(name = "weir", version, about = ABOUT, after_help = AFTER, max_term_width = 110)]
struct Arguments {
    /// The configuration file.
    #[arg(long, short, global = true, env = "WEIR_CONFIG", default_value = "weir.toml", value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Check(check::Arguments),
    Peer(peer::Arguments),
    Log(log::Arguments),
    Config(config::Arguments),
    Explain(explain::Arguments),
}

/// Runs the command line; the result is the process's exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are results and end with 0; the rest is wrong usage.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let _ = error.print();
            return exit.into();
        }
    };
    match std::panic::catch_unwind(|| dispatch(arguments)) {
        Ok(Ok(exit)) => exit.into(),
        Ok(Err(fault)) => {
            say_fault(&fault);
            Exit::of(&fault).into()
        }
        Err(_) => ExitCode::from(PANIC),
    }
}

fn dispatch(arguments: Arguments) -> Result<Exit, Fault> {
    let Arguments { config, command } = arguments;
    match command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Run(arguments) => run::run(&config, &arguments),
        Command::Check(arguments) => check::run(&config, &arguments),
        Command::Peer(arguments) => peer::run(&config, &arguments),
        Command::Log(arguments) => log::run(&config, &arguments),
        Command::Config(arguments) => config::run(&config, &arguments),
        Command::Explain(arguments) => Ok(explain::run(&arguments)),
    }
}

/// Prints a fault for a person: the chain, then where to read on.
fn say_fault(fault: &Fault) {
    eprintln!("weir: {}", fault.chain());
    eprintln!("      `weir explain {}` says what this means and what to do", fault.code());
}

/// Writes a line of results; a closed pipe (`weir ... | head`) ends the process quietly.
fn say(line: &str) {
    use std::io::Write as _;
    if writeln!(std::io::stdout().lock(), "{line}").is_err() {
        std::process::exit(i32::from(Exit::Done.number()));
    }
}

/// The runtime of commands that talk to the world.
fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Fault::new(weir_model::FaultKind::Config, crate::config::load::CODE, "start threads", "")
            .caused_by(error)
    })
}

/// Resolves at SIGTERM or SIGINT.
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGTERM");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
