//! `weir demo`: see it work, with nothing installed.

use super::{asked_to_stop, runtime, say};
use crate::demo::{self, Options, Outcome, RATE_DEFAULT};
use crate::exit::Exit;
use weir_model::Fault;

/// Plays the New Year burst: simulated region servers, the real capture path, an embedded log, the console.
///
/// The last line of --headless is one JSON object: `sent` cells written at the source, `in_log` distinct cells read
/// back from the log, `counted` the sum of the 100 ms buckets, `lost`, `duplicates` extra copies in the log, `p99_ms`
/// source write to durable. Exit code 1 when anything is lost.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Scale of the burst: 1 is 400,000 messages in the second of midnight.
    #[arg(long, default_value_t = RATE_DEFAULT, value_parser = rate)]
    rate: f64,
    /// Length of one play in seconds; midnight is in its middle.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Seed of rows and regions.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Play once without a console and print the outcome as JSON.
    #[arg(long)]
    headless: bool,
    /// Where the console listens.
    #[arg(long, default_value = "127.0.0.1:8640", value_name = "ADDRESS")]
    listen: String,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10.0).contains(&rate) => Ok(rate),
        _ => Err("a number between 0.001 and 10".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Fault> {
    let console = (!arguments.headless).then(|| arguments.listen.clone());
    let options = Options { rate: arguments.rate, seconds: arguments.seconds, seed: arguments.seed, console };
    let outcome = runtime()?.block_on(demo::play(options, say, async {
        asked_to_stop().await;
        // Asked twice: it is urgent.
        tokio::spawn(async {
            asked_to_stop().await;
            std::process::exit(i32::from(Exit::Found.number()));
        });
    }))?;
    if arguments.headless {
        say(&serde_json::to_string(&outcome).expect("numbers are writable as JSON"));
    } else {
        let Outcome { sent, in_log, counted, lost, duplicates, p99_ms } = outcome;
        say(&format!(
            "\nsent {sent}, in the log {in_log}, counted {counted}, lost {lost}, duplicates {duplicates}; \
             99 % durable within {p99_ms} ms"
        ));
    }
    let is_whole = outcome.lost == 0 && outcome.sent == outcome.in_log && outcome.in_log == outcome.counted;
    Ok(if is_whole { Exit::Done } else { Exit::Found })
}
