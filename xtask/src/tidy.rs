//! The test that reads the sources: floors, budgets, forbidden words. `ARCHITECTURE.md` says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 800;
const PACKAGES_MAX: usize = 350;
const BANNED_MODULES: [&str; 5] = ["utils", "common", "helpers", "misc", "types"];

/// Each crate with what of ours it may use (beside dev-dependencies).
const FLOORS: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("sim-kernel", &[]),
    ("wire", &["weir-model"]),
    ("runtime", &["weir-model"]),
    ("kafka", &["weir-model", "weir-runtime"]),
    ("hbase", &["weir-model", "weir-runtime", "weir-wire"]),
    ("apps", &["weir-model", "weir-runtime", "weir-wire"]),
    (
        "weir",
        &[
            "weir-apps",
            "weir-hbase",
            "weir-kafka",
            "weir-model",
            "weir-runtime",
            "weir-sim-kernel",
            "weir-wire",
        ],
    ),
    ("testkit", &["weir-model", "weir-runtime", "weir-sim-kernel", "weir-wire"]),
    ("xtask", &[]),
];

/// Crates that decide, and words that they must not hold.
const PURE: [&str; 3] = ["model", "wire", "apps"];
const IMPURE_WORDS: [&str; 8] =
    ["tokio", "std::net", "std::fs", "std::thread", "Instant", "SystemTime", "rand::", "std::env"];

/// Checks the tree; the error lists every breach.
pub(crate) fn run() -> Result<(), String> {
    let mut breaches = Vec::new();
    for (name, uses) in FLOORS {
        let folder = if name == "xtask" { PathBuf::from(name) } else { Path::new("crates").join(name) };
        let manifest = read(&folder.join("Cargo.toml"))?;
        breaches.extend(floor(name, &manifest, uses));
        let mut files = BTreeMap::new();
        collect(&folder, &mut files)?;
        for (path, text) in &files {
            breaches.extend(file(name, path, text));
        }
        let binaries = std::fs::read_dir(folder.join("tests")).map_or(0, Iterator::count);
        if binaries > 1 {
            breaches.push(format!("{name}: one integration binary per crate, in tests/it"));
        }
    }
    let packages = read(Path::new("Cargo.lock"))?.lines().filter(|line| *line == "[[package]]").count();
    if packages > PACKAGES_MAX {
        breaches.push(format!("Cargo.lock: {packages} packages, over {PACKAGES_MAX}"));
    }
    if breaches.is_empty() { Ok(()) } else { Err(format!("\n  {}", breaches.join("\n  "))) }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<(), String> {
    for entry in std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = read(&path)?;
            files.insert(path, text);
        }
    }
    Ok(())
}

fn floor(name: &str, manifest: &str, uses: &[&str]) -> Vec<String> {
    let own = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    let used = own
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|word| word.starts_with("weir-"));
    used.filter(|word| !uses.contains(word))
        .map(|word| format!("{name}: must not use {word} (floors)"))
        .collect()
}

fn file(name: &str, path: &Path, text: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut breach = |what: String| breaches.push(format!("{}: {what}", path.display()));
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        breach(format!("{lines} lines, over {FILE_LINES_MAX}"));
    }
    if !text.starts_with("//!") {
        breach("starts without `//!`: what is it for, what does it promise?".to_owned());
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if BANNED_MODULES.contains(&stem) {
        breach("a module with this name has no subject".to_owned());
    }
    // Written in halves, so that this file does not breach its own rules.
    for (word, why) in [
        (concat!("#[al", "low("), "use #[expect(lint, reason)]"),
        (concat!("#[ig", "nore"), "a test runs or goes"),
    ] {
        if text.contains(word) {
            breach(format!("{word}: {why}"));
        }
    }
    let is_source = path.components().any(|part| part.as_os_str() == "src");
    if PURE.contains(&name) && is_source {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            for word in IMPURE_WORDS.iter().filter(|word| code.contains(**word)) {
                breach(format!("line {}: {word} in a crate that decides", number + 1));
            }
        }
    }
    breaches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, path: &str, text: &str, expect: &str) {
        let found = file(name, Path::new(path), text).join("\n");
        assert!(
            found.contains(expect) && expect.is_empty() == found.is_empty(),
            "{found:?} is not {expect:?}"
        );
    }

    #[test]
    fn each_rule_catches_what_breaks_it() {
        check("apps", "crates/apps/src/a.rs", "//! Fine.\nfn a() {}\n", "");
        check("apps", "crates/apps/src/a.rs", "fn a() {}\n", "starts without");
        check("apps", "crates/apps/src/a.rs", "//! A.\nuse std::time::Instant;\n", "line 2: Instant");
        check("kafka", "crates/kafka/src/a.rs", "//! A.\nuse std::time::Instant;\n", "");
        check("apps", "crates/apps/src/utils.rs", "//! A.\n", "no subject");
        check(
            "kafka",
            "crates/kafka/src/a.rs",
            &format!("//! A.\n{}dead)]\n", concat!("#[al", "low(")),
            "expect",
        );
        check(
            "kafka",
            "crates/kafka/tests/it/a.rs",
            &format!("//! A.\n{}]\n", concat!("#[ig", "nore")),
            "runs or goes",
        );
        check("kafka", "crates/kafka/src/a.rs", &("//! A.\n".to_owned() + &"\n".repeat(800)), "801 lines");
    }

    #[test]
    fn a_crate_that_uses_what_is_above_it_is_named() {
        let manifest = "[dependencies]\nweir-model.workspace = true\nweir-kafka.workspace = true\n\n[dev-dependencies]\nweir-testkit.workspace = true\n";
        assert_eq!(floor("apps", manifest, &["weir-model"]), ["apps: must not use weir-kafka (floors)"]);
    }
}
