//! `cargo x fuzz`: every parser under libFuzzer for a while, starting from the kept corpus.

use std::path::{Path, PathBuf};
use std::process::Command;

const NEEDS: &str = "rustup toolchain install nightly --profile minimal; cargo install --locked cargo-fuzz";

/// Runs the named targets, or all, for so many seconds each. New inputs go to `fuzz/corpus`, which git ignores.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let (seconds, named) = match arguments {
        ["--seconds", seconds, named @ ..] => (*seconds, named),
        named => ("120", named),
    };
    seconds.parse::<u32>().map_err(|error| format!("--seconds {seconds}: {error}"))?;
    let tool = Command::new("cargo").args(["+nightly", "fuzz", "--version"]).output();
    if !tool.is_ok_and(|output| output.status.success()) {
        return Err(format!("this needs a nightly compiler and cargo-fuzz; run: {NEEDS}"));
    }
    let mut targets: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
    if targets.is_empty() {
        targets = all()?;
    }
    for target in &targets {
        let found = PathBuf::from("fuzz/corpus").join(target);
        std::fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        super::step(target, || {
            let mut command = Command::new("cargo");
            command.args(["+nightly", "fuzz", "run", target.as_str()]).arg(&found).arg(kept(target));
            command.args(["--", "-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
            command.arg(format!("-max_total_time={seconds}"));
            super::run(command)
        })?;
    }
    Ok(())
}

/// Where the kept corpus of a target is.
fn kept(target: &str) -> PathBuf {
    let owner = match target {
        "part" => "kafka",
        "offset_map" | "parallel_consumer" | "dt_meta" => "runtime",
        _ => "wire",
    };
    PathBuf::from("crates").join(owner).join("corpus").join(target)
}

fn all() -> Result<Vec<String>, String> {
    let folder = Path::new("fuzz/fuzz_targets");
    let read = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut names: Vec<String> =
        read.filter_map(|file| file.ok()?.path().file_stem()?.to_str().map(str::to_owned)).collect();
    names.sort_unstable();
    Ok(names)
}
