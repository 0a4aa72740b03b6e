//! A child process of the bench: it talks in lines, has a deadline for each, and dies with the bench.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child as Process, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;
use weir_testkit::engine::process::{mortal, spawn};

pub(crate) struct Child {
    process: Process,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Child {
    /// This program in another role.
    pub(crate) fn myself(words: &[&str]) -> Result<Self, String> {
        // Not by its path: a build beside a long run puts another program there.
        let mut command = mortal(&format!("/proc/{}/exe", std::process::id()));
        command.arg("child").args(words);
        Self::start(command)
    }

    /// A command made by [`mortal`].
    pub(crate) fn start(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = spawn(command).map_err(|error| format!("a child does not start: {error}"))?;
        let input = process.stdin.take().expect("its input is piped");
        let output = process.stdout.take().expect("its output is piped");
        let (line, lines) = sync_channel(16);
        // A thread, because a pipe is read without a deadline. It ends with the pipe.
        std::thread::spawn(move || {
            let read = BufReader::new(output).lines();
            read.map_while(Result::ok).all(|text| line.send(text).is_ok())
        });
        Ok(Self { process, input, lines })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line that it prints.
    pub(crate) fn line(&mut self, wait_max: Duration) -> Result<String, String> {
        self.lines.recv_timeout(wait_max).map_err(|error| match self.process.try_wait() {
            Ok(Some(status)) => format!("the child ended ({status})"),
            _ => format!("no answer within {wait_max:?}: {error}"),
        })
    }

    /// The answer to a line.
    pub(crate) fn ask(&mut self, line: &str, wait_max: Duration) -> Result<String, String> {
        writeln!(self.input, "{line}").map_err(|error| format!("the child does not listen: {error}"))?;
        self.line(wait_max)
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a line of `name value name value` says of this name.
pub(crate) fn value(line: &str, name: &str) -> Result<f64, String> {
    let mut words = line.split(' ');
    words.by_ref().find(|word| *word == name).ok_or_else(|| format!("no {name} in {line:?}"))?;
    let word = words.next().unwrap_or_default();
    word.parse().map_err(|error| format!("{name} {word:?}: {error}"))
}

/// A number of the process's status, such as `VmHWM` (KiB) or `Threads`.
pub(crate) fn status(process: u32, name: &str) -> Result<f64, String> {
    let text =
        std::fs::read_to_string(format!("/proc/{process}/status")).map_err(|error| error.to_string())?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let word = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default();
    word.parse().map_err(|error| format!("{name} of a process, {word:?}: {error}"))
}
