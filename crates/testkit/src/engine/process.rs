//! One engine process: started with a log, killed, paused and stopped by its id, gone with its parent.

use super::kept;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an engine may take to get ready; machines are shared.
const READY_WAIT: Duration = Duration::from_secs(150);

/// A running process.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in a log file; its temporary files are beside that. It dies with this process.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(name: &str, program: &str, arguments: &[String], log: &Path) -> Self {
        let output = File::options().create(true).append(true).open(log).expect("the log's folder is there");
        let errors = output.try_clone().expect("a file handle can be copied");
        let mut command = mortal(program);
        if let Some(folder) = log.parent() {
            command.env("TMPDIR", folder);
            if program == "java" {
                // Java reads no TMPDIR.
                command.arg(format!("-Djava.io.tmpdir={}", folder.display())).arg("-XX:-UsePerfData");
            }
        }
        command.args(arguments).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = spawn(command).unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log: log.to_path_buf() }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the text stands in its log.
    ///
    /// # Panics
    /// When it ends before, or takes too long; with the end of the log.
    pub fn wait_for(&mut self, text: &str) {
        let started = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            if log.contains(text) {
                return;
            }
            let ended = self.child.try_wait().expect("the child is ours");
            if ended.is_some() || started.elapsed() > READY_WAIT {
                let mut tail: Vec<&str> = log.lines().rev().take(30).collect();
                tail.reverse();
                panic!(
                    "{} is not ready ({ended:?} after {:?}):\n{}",
                    self.name,
                    started.elapsed(),
                    tail.join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// kill -9, and waits until it is gone.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    /// SIGTERM, then waits for its end; SIGKILL after the deadline. The exit code, when there is one.
    pub fn stop(&mut self, wait_max: Duration) -> Option<i32> {
        self.end("TERM", wait_max)
    }

    /// The same with SIGINT, as Ctrl-C sends it.
    pub fn interrupt(&mut self, wait_max: Duration) -> Option<i32> {
        self.end("INT", wait_max)
    }

    fn end(&mut self, signal: &str, wait_max: Duration) -> Option<i32> {
        self.signal(signal);
        let started = Instant::now();
        while started.elapsed() < wait_max {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill9();
        None
    }

    fn signal(&self, name: &str) {
        let _ = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let mut tail: Vec<&str> = log.lines().rev().take(15).collect();
            tail.reverse();
            eprintln!("-- end of the log of {}:\n{}", self.name, tail.join("\n"));
            if let Some(folder) = kept::keep(&self.log) {
                eprintln!("-- all of it: {}", folder.display());
            }
        }
        self.resume();
        self.kill9();
    }
}

/// A program that dies with this process, when it is started by [`spawn`].
#[must_use]
pub fn mortal(program: &str) -> Command {
    // setpriv (util-linux) arms the parent-death signal, so that no engine outlives a killed test.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Starts a program from a thread that lives as long as this process.
///
/// The parent-death signal comes when the *thread* ends that started the program, so an engine that was started in a
/// short-lived thread would die with that.
///
/// # Errors
/// When it cannot be started.
///
/// # Panics
/// When the starting thread is gone, which is a bug.
pub fn spawn(command: Command) -> std::io::Result<Child> {
    type Wanted = (Command, SyncSender<std::io::Result<Child>>);
    static STARTER: LazyLock<SyncSender<Wanted>> = LazyLock::new(|| {
        let (sender, receiver) = sync_channel::<Wanted>(1);
        let run = move || {
            for (mut command, answer) in receiver {
                // Whoever asked may have given up; its child ends with this process.
                let _ = answer.send(command.spawn());
            }
        };
        std::thread::Builder::new().name("starter".to_owned()).spawn(run).expect("threads can be made");
        sender
    });
    let (answer, answered) = sync_channel(1);
    STARTER.send((command, answer)).expect("the starter lives");
    answered.recv().expect("the starter answers")
}

/// Ports from here on are given out; above them Linux takes its own for outgoing connections.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port that is free now, and is not given out twice.
///
/// Not one of those that the system takes for outgoing connections: an engine that is killed and started again needs
/// the same port, and must find it free.
///
/// # Panics
/// When loopback has none.
#[must_use]
pub fn free_port() -> u16 {
    // Other tests start elsewhere in the range.
    static NEXT: LazyLock<AtomicU16> = LazyLock::new(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let start =
            now.wrapping_add(std::process::id().wrapping_mul(7919)) % u32::from(PORTS.end - PORTS.start);
        AtomicU16::new(start as u16)
    });
    (PORTS.start..PORTS.end)
        .map(|_| PORTS.start + NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("loopback has free ports")
}

/// Java's options that every engine gets.
#[must_use]
pub fn java(heap_mib: u32, class_path: &str, main: &[&str]) -> Vec<String> {
    let mut options = vec![
        format!("-Xmx{heap_mib}m"),
        "-XX:+UseSerialGC".to_owned(),
        "-XX:MaxDirectMemorySize=256m".to_owned(),
        "-XX:TieredStopAtLevel=1".to_owned(),
        "-Djava.net.preferIPv4Stack=true".to_owned(),
    ];
    for package in [
        "java.lang",
        "java.nio",
        "sun.nio.ch",
        "java.util",
        "java.util.concurrent",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "jdk.internal.ref",
    ] {
        options.push(format!("--add-opens=java.base/{package}=ALL-UNNAMED"));
    }
    for package in [
        "java.base/jdk.internal.misc",
        "java.base/sun.net.dns",
        "java.base/sun.net.util",
        "java.security.jgss/sun.security.krb5",
    ] {
        options.push(format!("--add-exports={package}=ALL-UNNAMED"));
    }
    options.extend(["-cp".to_owned(), class_path.to_owned()]);
    options.extend(main.iter().map(|word| (*word).to_owned()));
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_outlives_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("cat.log");
        let start = move || {
            let words = ["-c".to_owned(), "echo first; sleep 0.2; echo second; sleep 60".to_owned()];
            Process::start("sh", "sh", &words, &log)
        };
        let mut process = std::thread::spawn(start).join().unwrap();
        process.wait_for("second");
    }

    #[test]
    fn a_port_is_free_and_given_out_once() {
        let ports: std::collections::BTreeSet<u16> = (0..50).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 50);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
