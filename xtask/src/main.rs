//! `cargo x ...`: the tasks of this repository. Depends on nothing of ours and builds in seconds.

mod fuzz;
mod machine;
mod runner;
mod soak;
mod tidy;

use runner::Runner;
use std::process::{Command, ExitCode};

const HELP: &str = "cargo x TASK

  demo [ARGS]      the demonstration: simulated HBase, the real capture path, an embedded log, the console;
                   --real: on real HBase and Kafka, with a real client writing
  test             everything, on real engines and in a real browser: what CI runs
  check            format, lints, tidy, drift, tests without a JVM: run it before every push
  soak [NAME]      the campaigns in full form (twenty kills, ten minutes without Kafka), on real engines; their
                   figures go to docs/reliability.md. NAME: a word of the tests' names, such as outage_on_hbase_2_6
  tidy             floors, budgets, forbidden words
  drift [--write]  schema and sample of weir.toml are what the binary says
  sim [ARGS]       capture and the keyed runtime in their seeded simulators, with faults and without engines:
                   [capture|runtime] --seeds N (2000), or --seed S to run one again
  fuzz [ARGS]      every parser under libFuzzer: [--seconds N] [TARGET...]; needs a nightly compiler
  golden           records again what real HBase sends, into crates/wire/golden
  bench capture    what an entry costs the capture path, the floor beside it, into the mock cluster and into real
                   Kafka; --sink mock|kafka|both, --out DIR for the JSON, --help for the rest
  bench runtime    what a record costs the keyed runtime, and its peers in Rust and Java on the same records of one
                   real Kafka; --cell, --system, --runs, --quick, --out DIR, --help for the rest
  bench source     what a real region server can send, and what Weir costs while it does
  engines ARGS     real engines for hand work: `cargo x engines up kafka hbase-2.6`, `list`, `down`;
                   `lock` writes the sums of their jars
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo", rest @ ..] => demo(rest),
        ["test"] => test(),
        ["check"] => check(),
        ["soak"] => soak::soak(None),
        ["soak", name] => soak::soak(Some(name)),
        ["tidy"] => tidy::run(),
        ["drift"] => drift(false),
        ["drift", "--write"] => drift(true),
        ["engines", rest @ ..] => engines(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["golden"] => golden(),
        ["sim", rest @ ..] => sim(rest),
        ["bench", "capture", rest @ ..] => bench("bench_capture", rest),
        ["bench", "source", rest @ ..] => machine::ensure_libraries()
            .and_then(|()| cargo(&RELEASE))
            .and_then(|()| bench("bench_source", rest)),
        ["bench", "runtime", rest @ ..] => bench_runtime(rest),
        [] | ["help" | "--help" | "-h", ..] => {
            println!("{HELP}");
            Ok(())
        }
        [other, ..] => Err(format!("there is no task {other:?}\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("cargo x: {why}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[&str]) -> Result<(), String> {
    machine::ensure_libraries()?;
    println!("the demonstration: builds weir (about 7 minutes on two cores the first time), then runs it");
    cargo(&RELEASE)?;
    if arguments.contains(&"--real") {
        machine::ensure_engines()?;
        let mut command =
            vec!["run", "--release", "--quiet", "--package", "weir", "--example", "demo_real", "--"];
        command.extend(arguments.iter().filter(|word| **word != "--real"));
        return cargo(&command);
    }
    let mut command = vec!["run", "--release", "--quiet", "--package", "weir", "--bin", "weir", "--", "demo"];
    command.extend(arguments);
    cargo(&command)
}

/// The binary that the demonstration and the benches on real engines run.
const RELEASE: [&str; 6] = ["build", "--release", "--package", "weir", "--bin", "weir"];

fn bench(example: &str, arguments: &[&str]) -> Result<(), String> {
    machine::ensure_libraries()?;
    if !arguments.contains(&"mock") {
        machine::ensure_engines()?;
    }
    let mut command = vec!["run", "--release", "--quiet", "--package", "weir", "--example", example, "--"];
    command.extend(arguments);
    cargo(&command)
}

/// The peers in Rust are a workspace of their own; they are built into the same target folder, beside the bench.
fn bench_runtime(arguments: &[&str]) -> Result<(), String> {
    machine::ensure_libraries()?;
    machine::ensure_engines()?;
    let mut peers = Command::new("cargo");
    peers.args(["build", "--release", "--quiet", "--locked", "--manifest-path", "bench/peers/Cargo.toml"]);
    if std::env::var_os("CARGO_TARGET_DIR").is_none() {
        peers.args(["--target-dir", "target"]);
    }
    if let Err(why) = run(peers) {
        eprintln!("cargo x: the Rust peers are left out: {why}");
    }
    let mut command =
        vec!["run", "--release", "--quiet", "--package", "weir-kafka", "--example", "bench_runtime", "--"];
    command.extend(arguments);
    cargo(&command)
}

/// What the simulators run: its word, package, test binary and test.
const SIMULATED: [(&str, &str, &[&str], &str); 2] = [
    ("capture", "weir", &["--test", "it"], "sim::no_fault_breaks_a_promise_of_capture"),
    ("runtime", "weir-runtime", &["--lib"], "sim::tests::no_trouble_breaks_a_promise_of_the_runtime"),
];

/// The same tests that `check` and `test` run, with another number of seeds.
fn sim(words: &[&str]) -> Result<(), String> {
    let (wanted, rest) = match words {
        [word, rest @ ..] if SIMULATED.iter().any(|(name, ..)| name == word) => (Some(*word), rest),
        _ => (None, words),
    };
    let (variable, value) = match rest {
        [] => ("WEIR_SIM_SEEDS", "2000"),
        ["--seeds", count] => ("WEIR_SIM_SEEDS", *count),
        ["--seed", seed] => ("WEIR_SIM_SEED", *seed),
        _ => return Err(format!("sim does not know {rest:?}\n\n{HELP}")),
    };
    value.parse::<u64>().map_err(|error| format!("{value:?}: {error}"))?;
    machine::ensure_libraries()?;
    for (_, package, target, test) in
        SIMULATED.iter().filter(|(name, ..)| wanted.is_none_or(|word| word == *name))
    {
        let mut command = Command::new("cargo");
        command.args(["test", "--quiet", "--package", package]).args(*target);
        command.args(["--", "--exact", test, "--nocapture"]).env(variable, value);
        run(command)?;
    }
    Ok(())
}

fn golden() -> Result<(), String> {
    machine::ensure_engines()?;
    cargo(&["run", "--quiet", "--package", "weir-hbase", "--example", "golden"])
}

fn engines(arguments: &[&str]) -> Result<(), String> {
    machine::ensure_engines()?;
    let mut command = vec!["run", "--quiet", "--package", "weir-testkit", "--bin", "weir-engines", "--"];
    command.extend(arguments);
    cargo(&command)
}

/// Everything before the tests; the runner for them.
fn gate() -> Result<Runner, String> {
    machine::ensure_libraries()?;
    let runner = Runner::ensure()?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("tidy", tidy::run)?;
    step("lints", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    step("drift", || drift(false))?;
    Ok(runner)
}

fn check() -> Result<(), String> {
    println!(
        "format, lints, tidy, drift, tests without a JVM: minutes, after a first build of about 10 on two cores"
    );
    let runner = gate()?;
    step("tests without engines", || run(runner.command(&["--workspace", "-E", "not test(/(^|::)real::/)"])))
}

fn test() -> Result<(), String> {
    println!(
        "everything, on real HBase and Kafka: about 40 minutes on two cores, 20 more the first time (build, engines)"
    );
    let runner = gate()?;
    machine::ensure_engines()?;
    machine::ensure_browser()?;
    step("documentation", || {
        let mut command = Command::new("cargo");
        command.args(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        run(command)
    })?;
    let report = std::env::temp_dir().join(format!("weir-engines-{}.txt", std::process::id()));
    let _ = std::fs::remove_file(runner::report());
    let tested = step("tests on real engines", || {
        let mut command = runner.command(&["--workspace"]);
        command.env("WEIR_ENGINES_REPORT", &report);
        run(command)
    });
    if let Ok(report) = std::fs::read_to_string(runner::report()) {
        print!("{}", runner::times(&report));
    }
    let text = std::fs::read_to_string(&report).unwrap_or_default();
    let _ = std::fs::remove_file(&report);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    tested?;
    if lines.is_empty() {
        return Err("no real engine ran".to_owned());
    }
    println!("engines that ran: {}", lines.join(", "));
    Ok(())
}

/// Files that the binary makes, and the words that make them.
const MADE: [(&str, [&str; 2]); 2] =
    [("docs/weir.schema.json", ["config", "schema"]), ("docs/weir.sample.toml", ["config", "sample"])];

fn drift(write: bool) -> Result<(), String> {
    cargo(&["build", "--package", "weir"])?;
    for (file, words) in MADE {
        let mut command = Command::new("cargo");
        command.args(["run", "--quiet", "--package", "weir", "--bin", "weir", "--"]).args(words);
        let made = command.output().map_err(|error| error.to_string())?;
        if !made.status.success() {
            return Err(format!("weir {} failed", words.join(" ")));
        }
        if write {
            std::fs::write(file, &made.stdout).map_err(|error| format!("{file}: {error}"))?;
        } else if std::fs::read(file).unwrap_or_default() != made.stdout {
            return Err(format!(
                "{file} is not what `weir {}` prints; run `cargo x drift --write`",
                words.join(" ")
            ));
        }
    }
    Ok(())
}

fn step(name: &str, work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let started = std::time::Instant::now();
    println!("== {name}");
    work().map_err(|why| format!("{name}: {why}"))?;
    println!("== {name}: {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(arguments);
    run(command)
}

fn run(mut command: Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
}
