//! Class paths from the Maven registry: exact versions, resolved once, kept in the user's cache folder.

use super::sums;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One dependency: `group:artifact:version`, and what is left out of it (`group:artifact`, `*` for all).
#[derive(Clone, Copy, Debug)]
pub struct Dependency {
    /// `group:artifact:version`.
    pub coordinates: &'static str,
    /// Exclusions, `group:artifact`.
    pub without: &'static [&'static str],
}

/// Where downloads and builds of the fixtures stay between runs.
///
/// # Panics
/// When neither `XDG_CACHE_HOME` nor `HOME` is set.
#[must_use]
pub fn cache() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache"));
    base.join("weir").join("engines")
}

/// The class path of an engine, each jar of it compared with `engines.lock` when it was resolved.
///
/// # Panics
/// When Maven cannot resolve it (the text is Maven's), or a jar is not the one of `engines.lock`.
#[must_use]
pub fn class_path(name: &str, dependencies: &[Dependency]) -> String {
    let (path, folder) = resolve(name, dependencies);
    let checked = folder.join("checked.txt");
    // Sums are taken again when the class path or the sums in the lock file are others than last time.
    let state = format!("{path}\n{:016x}\n", sums::fingerprint());
    if fs::read_to_string(&checked).is_ok_and(|text| text == state) {
        return path;
    }
    let _alone = lock(&folder);
    if let Err(why) = sums::check(&path) {
        panic!("{name}: {why}");
    }
    fs::write(&checked, state).expect("the cache folder is writable");
    path
}

/// The class path of an engine, unchecked, and its cache folder. Resolved by `mvn` the first time.
///
/// # Panics
/// When Maven cannot resolve it; the text is Maven's.
#[must_use]
pub fn resolve(name: &str, dependencies: &[Dependency]) -> (String, PathBuf) {
    let pom = pom(name, dependencies);
    let folder = cache().join(format!("{name}-{:016x}", hash(&pom)));
    fs::create_dir_all(&folder).expect("the cache folder is writable");
    let kept = folder.join("class-path.txt");
    let _alone = lock(&folder);
    if let Ok(path) = fs::read_to_string(&kept)
        && path.split(':').all(|jar| Path::new(jar).exists())
    {
        return (path, folder);
    }
    // What is fetched now is checked now, whatever was there before.
    let _ = fs::remove_file(folder.join("checked.txt"));
    fs::write(folder.join("pom.xml"), pom).expect("the cache folder is writable");
    let made = folder.join("resolved.txt");
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(folder.join("pom.xml"))
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath")
        .arg(format!("-Dmdep.outputFile={}", made.display()))
        .output()
        .expect("mvn is installed (`cargo x test` sees to it)");
    assert!(
        output.status.success(),
        "maven could not resolve {name}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    let path = fs::read_to_string(&made).expect("maven wrote the class path").trim().to_owned();
    fs::write(&kept, &path).expect("the cache folder is writable");
    (path, folder)
}

/// Compiles one Java source against a class path, once; the folder with the classes.
///
/// # Panics
/// When it does not compile.
#[must_use]
pub fn compile(name: &str, source_name: &str, source: &str, class_path: &str) -> PathBuf {
    let folder = cache().join(format!("{name}-{:016x}", hash(&format!("{source}{class_path}"))));
    fs::create_dir_all(&folder).expect("the cache folder is writable");
    let _alone = lock(&folder);
    let done = folder.join("done");
    if done.exists() {
        return folder;
    }
    let file = folder.join(source_name);
    fs::write(&file, source).expect("the cache folder is writable");
    let output = Command::new("javac")
        .args(["-nowarn", "-proc:none", "-cp", class_path, "-d"])
        .arg(&folder)
        .arg(&file)
        .output()
        .expect("javac is installed (`cargo x test` sees to it)");
    assert!(output.status.success(), "{source_name}:\n{}", String::from_utf8_lossy(&output.stderr));
    fs::write(done, "").expect("the cache folder is writable");
    folder
}

/// Held while one process resolves; others wait.
fn lock(folder: &Path) -> fs::File {
    let file = fs::File::create(folder.join("lock")).expect("the cache folder is writable");
    file.lock().expect("file locks work here");
    file
}

/// A name for a text's content; not for trust.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn pom(name: &str, dependencies: &[Dependency]) -> String {
    let mut text = format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>weir.testkit</groupId><artifactId>{name}</artifactId><version>1</version><dependencies>\n"
    );
    for Dependency { coordinates, without } in dependencies {
        let mut words = coordinates.split(':');
        let (group, artifact, version) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let _ = write!(
            text,
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version><exclusions>"
        );
        for exclusion in *without {
            let (group, artifact) = exclusion.split_once(':').unwrap_or((exclusion, "*"));
            let _ = write!(
                text,
                "<exclusion><groupId>{group}</groupId><artifactId>{artifact}</artifactId></exclusion>"
            );
        }
        text.push_str("</exclusions></dependency>\n");
    }
    text.push_str("</dependencies></project>\n");
    text
}

/// Notes an engine that ran, for the line at the end of `cargo x test`.
pub fn report(engine: &str) {
    if let Some(path) = std::env::var_os("WEIR_ENGINES_REPORT")
        && let Ok(mut file) = fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{engine}");
    }
}
