//! Starts the real binary with a configuration, and reads what came to the log.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use weir_kafka::reader::{LogRecord, Reader, Start};
use weir_model::FaultKind;
use weir_testkit::engine::process::Process;
use weir_testkit::table::{Cells, Replay};

/// How long anything may take that a test waits for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// A running `weir run`.
pub(crate) struct Weir {
    process: Option<Process>,
    folder: tempfile::TempDir,
    console: u16,
    starts: u32,
}

impl Weir {
    /// A folder with this configuration; `CONSOLE` in it becomes a port that is found out at each start.
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("weir-run-").tempdir().unwrap();
        std::fs::write(folder.path().join("weir.toml"), config.replace("CONSOLE", "0")).unwrap();
        Self { process: None, folder, console: 0, starts: 0 }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join(format!("weir-{}.log", self.starts))
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(&mut self) {
        self.start_unready();
        let started = Instant::now();
        while !self.get("/readyz").starts_with("HTTP/1.1 200") {
            assert!(started.elapsed() < DEADLINE, "weir is not ready: {}", self.get("/readyz"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts it and waits until its console answers: it may not be registered.
    pub(crate) fn start_unready(&mut self) {
        self.process = None;
        self.starts += 1;
        let config = self.folder.path().join("weir.toml").display().to_string();
        let arguments = ["run".to_owned(), "--config".to_owned(), config];
        let process = Process::start("weir", env!("CARGO_BIN_EXE_weir"), &arguments, &self.log());
        const READY: &str = "ready console=http://127.0.0.1:";
        self.process.insert(process).wait_for(READY);
        let log = std::fs::read_to_string(self.log()).unwrap();
        let port = log.split(READY).nth(1).unwrap().split('/').next().unwrap();
        self.console = port.parse().unwrap();
    }

    /// Standard output of another command with the same configuration, which must end well.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(words).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The value of a metric, 0 when there is none yet.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.get("/metrics");
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits until a metric has at least this value.
    pub(crate) fn wait_for_metric(&self, name: &str, least: u64) {
        let started = Instant::now();
        while self.metric(name) < least {
            assert!(started.elapsed() < DEADLINE, "{name} does not reach {least}:\n{}", self.get("/metrics"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Exit code and output of another command with the same configuration.
    pub(crate) fn try_command(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let output = command.args(words).current_dir(self.folder.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
        (output.status.code(), text)
    }

    /// Starts another command, waits for a text in its output, sends SIGINT; its exit code and output.
    pub(crate) fn interrupt(&self, words: &[&str], until: &str) -> (Option<i32>, String) {
        let log = self.folder.path().join("interrupted.log");
        let config = self.folder.path().join("weir.toml").display().to_string();
        let words: Vec<String> =
            words.iter().copied().chain(["--config", &config]).map(ToOwned::to_owned).collect();
        let mut process = Process::start("weir", env!("CARGO_BIN_EXE_weir"), &words, &log);
        process.wait_for(until);
        let code = process.interrupt(DEADLINE);
        (code, std::fs::read_to_string(&log).unwrap())
    }

    /// Exit code and output of `weir check`.
    pub(crate) fn check(&self) -> (Option<i32>, String) {
        self.try_command(&["check"])
    }

    pub(crate) fn kill9(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill9();
        }
    }

    /// The running process.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// SIGTERM; its exit code and how long it took.
    pub(crate) fn stop(&mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        let code = self.process.as_mut().and_then(|process| process.stop(Duration::from_secs(15)));
        (code, started.elapsed())
    }

    /// Answer of the console to a GET, head and body.
    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::Write as _;
        let mut text = String::new();
        if let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.console)) {
            let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            let _ = socket.read_to_string(&mut text);
        }
        text
    }
}

/// Reads a topic until its replay equals the table; panics with the difference when it never does.
pub(crate) fn wait_until_log_is(bootstrap: &str, topic: &str, expect: &Cells) -> Vec<LogRecord> {
    wait_until_log_is_within(bootstrap, topic, expect, DEADLINE)
}

/// The same, with a deadline.
pub(crate) fn wait_until_log_is_within(
    bootstrap: &str,
    topic: &str,
    expect: &Cells,
    wait_max: Duration,
) -> Vec<LogRecord> {
    let started = Instant::now();
    let open = || Reader::open(bootstrap, &BTreeMap::new(), &[topic.to_owned()], Start::Beginning);
    let mut reader = None;
    let (mut records, mut replay) = (Vec::new(), Replay::default());
    loop {
        let read = reader.take().map_or_else(open, Ok).and_then(|mut opened| {
            let news = opened.read_to_end(wait_max)?;
            reader = Some(opened);
            Ok(news)
        });
        match read {
            Ok(news) => {
                for record in news {
                    replay.take(&record.value);
                    records.push(record);
                }
            }
            // A broker that has just come back has no leaders yet: from the beginning again.
            Err(fault) if fault.kind() == FaultKind::Transient && started.elapsed() < wait_max => {
                std::thread::sleep(Duration::from_millis(200));
                (records, replay) = (Vec::new(), Replay::default());
                continue;
            }
            Err(fault) => panic!("{}", fault.chain()),
        }
        let got = replay.cells();
        if got == *expect {
            return records;
        }
        if started.elapsed() > wait_max {
            let missing: Vec<_> =
                expect.iter().filter(|(key, value)| got.get(*key) != Some(value)).take(5).collect();
            let extra: Vec<_> =
                got.iter().filter(|(key, value)| expect.get(*key) != Some(value)).take(5).collect();
            panic!(
                "the log has {} cells, the table {}\nmissing {missing:?}\nextra {extra:?}",
                got.len(),
                expect.len()
            );
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
