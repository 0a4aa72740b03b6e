//! Logs of engines that a failed test used: copied out of their temporary folders, which go with the test.

use std::path::{Path, PathBuf};

/// Copies every log beside this one to `target/engine-logs/TEST/`; the folder, once per name.
pub(crate) fn keep(log: &Path) -> Option<PathBuf> {
    let folder = target()?.join("engine-logs").join(test_name());
    std::fs::create_dir_all(&folder).ok()?;
    for entry in std::fs::read_dir(log.parent()?).ok()?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let _ = std::fs::copy(&path, folder.join(entry.file_name()));
        }
    }
    Some(folder)
}

/// The running test, as a file name. libtest names each test's thread after it.
fn test_name() -> String {
    let name = std::thread::current().name().unwrap_or("no-test").replace("::", ".");
    if name == "main" { "no-test".to_owned() } else { name }
}

/// Cargo's target folder: the one above this program that cargo has marked.
fn target() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.map(Path::to_path_buf).or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::super::process::Process;
    use super::*;

    #[test]
    fn a_failed_test_leaves_the_logs_of_its_engines() {
        let place = target().unwrap().join("engine-logs").join(test_name());
        let _ = std::fs::remove_dir_all(&place);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("engine-0.log"), "of an earlier start").unwrap();
        let path = folder.path().to_path_buf();
        let run = move |fails: bool| {
            let words = ["-c".to_owned(), "echo it stands here; exec cat".to_owned()];
            let mut process = Process::start("engine", "sh", &words, &path.join("engine-1.log"));
            process.wait_for("stands here");
            assert!(!fails, "the test fails");
        };
        run(false);
        assert!(!place.exists(), "a test that passes leaves nothing");
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(true)));
        assert!(failed.is_err());
        let kept = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
        assert!(kept("engine-1.log").contains("it stands here"));
        assert_eq!(kept("engine-0.log"), "of an earlier start");
    }
}
