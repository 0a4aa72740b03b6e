//! One process of an engine by handle: stopped, killed, paused, and started again on its own folder.
//!
//! Starting and waiting are two steps, so that the processes of one engine start side by side.

use super::process::{Process, java};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an orderly stop may take before it becomes a kill.
const STOP_WAIT: Duration = Duration::from_secs(30);

/// A Java process and all that is needed to start it again.
#[derive(Debug)]
pub struct Node {
    name: String,
    options: Vec<String>,
    ready: &'static str,
    logs: PathBuf,
    starts: u32,
    process: Process,
}

impl Node {
    /// Starts a main class; `ready` is the text that its log shows once it serves. Does not wait for it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn launch(
        name: &str,
        logs: &Path,
        heap_mib: u32,
        class_path: &str,
        main: &[&str],
        ready: &'static str,
    ) -> Self {
        std::fs::create_dir_all(logs).expect("the folder is writable");
        let options = java(heap_mib, class_path, main);
        let process = start(name, &options, logs, 0);
        Self { name: name.to_owned(), options, ready, logs: logs.to_path_buf(), starts: 0, process }
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// When it ends before, or takes too long; with the end of its log.
    pub fn wait_ready(&mut self) {
        self.process.wait_for(self.ready);
    }

    /// Waits until this text stands in the log of the present start.
    ///
    /// # Panics
    /// When it ends before, or takes too long; with the end of its log.
    pub fn wait_for(&mut self, text: &str) {
        self.process.wait_for(text);
    }

    /// kill -9, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGTERM, and waits until it is gone. The exit code; `None` when it had to be killed.
    pub fn stop(&mut self) -> Option<i32> {
        self.process.stop(STOP_WAIT)
    }

    /// SIGSTOP: it stays there and does not answer.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Undoes [`Node::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Starts it again on the same ports and folders, without waiting; what still ran is killed first.
    pub fn relaunch(&mut self) {
        self.process.kill9();
        self.starts += 1;
        self.process = start(&self.name, &self.options, &self.logs, self.starts);
    }

    /// [`Node::relaunch`], and waits until it serves.
    pub fn restart(&mut self) {
        self.relaunch();
        self.wait_ready();
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

fn start(name: &str, options: &[String], logs: &Path, starts: u32) -> Process {
    Process::start(name, "java", options, &logs.join(format!("{}-{starts}.log", name.replace(' ', "-"))))
}
