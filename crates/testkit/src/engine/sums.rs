//! `engines.lock`: the sha256 of every jar that the fixtures run, by its path in the repository.
//!
//! Checked when a class path is resolved. A registry that serves another file under the same version is noticed.

use super::maven::{Dependency, hash};
use super::{hbase, hdfs, kafka, runtime_peer, zookeeper};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

const LOCK: &str = include_str!("../../engines.lock");

/// Where the lock file stands in the source tree.
pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engines.lock");

const HEAD: &str = "# sha256 of every jar that the fixtures run. Made by `cargo x engines lock`.\n";

/// Path in the repository (`org/apache/...`) -> sha256 in hex.
pub type Sums = BTreeMap<String, String>;

/// Every class path of the fixtures: name and dependencies.
#[must_use]
pub fn all() -> Vec<(String, &'static [Dependency])> {
    let mut all = vec![
        ("kafka-4.3.1".to_owned(), kafka::DEPENDENCIES.as_slice()),
        (zookeeper::JARS.0.to_owned(), zookeeper::JARS.1),
        (hdfs::JARS.0.to_owned(), hdfs::JARS.1),
        (runtime_peer::JARS.0.to_owned(), runtime_peer::JARS.1),
    ];
    let lines = hbase::Line::ALL.into_iter().chain(hbase::Line::MATRIX);
    all.extend(lines.map(|line| (line.jars_name(), line.dependencies())));
    all
}

/// Sums of the jars of one class path, by the system's `sha256sum`.
///
/// # Panics
/// When a jar cannot be read.
#[must_use]
pub fn of(class_path: &str) -> Sums {
    let jars: Vec<&Path> = class_path.split(':').map(Path::new).collect();
    let root = common_folder(&jars);
    let output = Command::new("sha256sum").arg("--").args(&jars).output().expect("coreutils are installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("jars have names in UTF-8");
    let line = |line: &str| {
        let (sum, jar) = line.split_once("  ")?;
        let place = Path::new(jar).strip_prefix(&root).ok()?;
        Some((place.display().to_string(), sum.to_owned()))
    };
    let sums: Sums = text.lines().filter_map(line).collect();
    assert_eq!(sums.len(), jars.len(), "sha256sum answers a line for each jar:\n{text}");
    sums
}

/// The local repository: the jars of every engine come from several groups, so it is all that they share.
fn common_folder(jars: &[&Path]) -> PathBuf {
    let mut common = jars.first().and_then(|jar| jar.parent()).unwrap_or(Path::new("/")).to_path_buf();
    while !jars.iter().all(|jar| jar.starts_with(&common)) {
        common.pop();
    }
    common
}

/// The lock file's text for these sums.
#[must_use]
pub fn write(sums: &Sums) -> String {
    let lines = sums.iter().map(|(place, sum)| format!("{sum}  {place}\n"));
    HEAD.to_owned() + &lines.collect::<String>()
}

/// Differs when the lock file does.
pub(super) fn fingerprint() -> u64 {
    hash(LOCK)
}

/// Compares a class path with the lock file that this was built with.
///
/// # Errors
/// What differs, and what to do.
pub(super) fn check(class_path: &str) -> Result<(), String> {
    compare(LOCK, &of(class_path))
}

fn compare(lock: &str, found: &Sums) -> Result<(), String> {
    let lines = lock.lines().filter(|line| !line.starts_with('#'));
    let locked: BTreeMap<&str, &str> =
        lines.filter_map(|line| line.split_once("  ")).map(|(sum, place)| (place, sum)).collect();
    let mut wrong = Vec::new();
    for (place, sum) in found {
        match locked.get(place.as_str()) {
            Some(expect) if expect == sum => {}
            Some(expect) => wrong.push(format!("{place} has sha256 {sum}, engines.lock says {expect}")),
            None => wrong.push(format!("{place} is not in engines.lock")),
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{}\nA file that differs is a broken download or not what was tested: delete it from Maven's local repository \
         and run again. If it still differs, find out why before you trust it. For a new engine or version: `cargo x \
         engines lock` writes crates/testkit/engines.lock again; look at its diff",
        wrong.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(pairs: &[(&str, &str)]) -> Sums {
        pairs.iter().map(|(place, sum)| ((*place).to_owned(), (*sum).to_owned())).collect()
    }

    #[test]
    fn a_jar_that_differs_or_is_unknown_is_named_with_what_to_do() {
        let lock = write(&sums(&[("org/a/1/a-1.jar", "aa"), ("org/b/1/b-1.jar", "bb")]));
        assert_eq!(compare(&lock, &sums(&[("org/a/1/a-1.jar", "aa")])), Ok(()));
        let differs =
            compare(&lock, &sums(&[("org/a/1/a-1.jar", "aa"), ("org/b/1/b-1.jar", "cc")])).unwrap_err();
        assert!(differs.starts_with("org/b/1/b-1.jar has sha256 cc, engines.lock says bb\n"), "{differs}");
        let unknown = compare(&lock, &sums(&[("org/c/1/c-1.jar", "cc")])).unwrap_err();
        assert!(unknown.starts_with("org/c/1/c-1.jar is not in engines.lock\n"), "{unknown}");
        assert!(unknown.contains("cargo x engines lock"), "{unknown}");
    }

    #[test]
    fn sums_are_those_of_the_files_by_their_place_in_the_repository() {
        let folder = tempfile::tempdir().unwrap();
        let jar = |place: &str, text: &str| {
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let class_path = format!("{}:{}", jar("org/a/1/a-1.jar", "abc"), jar("com/b/1/b-1.jar", ""));
        // The two examples of FIPS 180-2: "abc", and nothing.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(&class_path), sums(&[("org/a/1/a-1.jar", abc), ("com/b/1/b-1.jar", nothing)]));
    }

    #[test]
    fn the_lock_file_is_in_its_own_form() {
        let lines = LOCK.lines().filter(|line| !line.starts_with('#'));
        let sums: Sums = lines
            .map(|line| line.split_once("  ").unwrap())
            .map(|(sum, place)| (place.into(), sum.into()))
            .collect();
        assert!(sums.values().all(|sum| sum.len() == 64), "each line starts with a sha256");
        assert!(sums.len() > 300 && write(&sums) == LOCK, "`cargo x engines lock` writes it");
    }
}
