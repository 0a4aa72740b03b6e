//! One measured pass of a system, in its own process: what it was asked for, and what it came to.
//!
//! Every system makes two passes over the same records, each with a consumer and a group of its own: one to warm up,
//! which nobody counts, and one that is measured. CPU is that of the whole process from the moment when the second
//! consumer is made (what a client fetches ahead before the first record is handled is part of the cost); the rate is
//! from the first record that was handled to the last.

use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// What a child process is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    /// A pass ends with this many records,
    pub(crate) records: u64,
    /// or after this time, whichever is first.
    pub(crate) time_max: Duration,
    pub(crate) warm_time_max: Duration,
    pub(crate) handler: Handler,
}

impl Order {
    /// Reads `BOOTSTRAP TOPIC RECORDS MS WARM_MS HANDLER`; what comes after it is for some systems only.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let [bootstrap, topic, records, ms, warm_ms, handler, ..] = words else { return None };
        let time = |word: &str| word.parse().ok().map(Duration::from_millis);
        Some(Self {
            bootstrap: (*bootstrap).to_owned(),
            topic: (*topic).to_owned(),
            records: records.parse().ok()?,
            time_max: time(ms)?,
            warm_time_max: time(warm_ms)?,
            handler: Handler::parse(handler)?,
        })
    }

    /// The limits of the two passes, with a group for each: records and time.
    pub(crate) fn passes(&self) -> [(String, u64, Duration); 2] {
        let group = |pass: &str| format!("{}-{}-{pass}", self.topic, std::process::id());
        [(group("warm"), self.records, self.warm_time_max), (group("measured"), self.records, self.time_max)]
    }
}

/// What is done with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    /// Nothing: 0 ms.
    Count,
    /// So many sleeps, each this long.
    Sleep { times: u32, each: Duration },
    /// The same after the value was read as one of Decaton's benchmark tasks.
    Json { times: u32, each: Duration },
    /// Computes without a pause.
    Spin { each: Duration },
    /// One record in a hundred fails three times before it succeeds.
    FailSome,
}

impl Handler {
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let name = parts.next()?;
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        Some(match name {
            "count" => Self::Count,
            "fail-some" => Self::FailSome,
            name => {
                let (times, each) = (u32::try_from(number()?).ok()?, Duration::from_micros(number()?));
                match name {
                    "sleep" => Self::Sleep { times, each },
                    "json" => Self::Json { times, each },
                    "spin" => Self::Spin { each },
                    _ => return None,
                }
            }
        })
    }
}

/// The clocks of a measured pass.
pub(crate) struct Lap {
    made: Duration,
    first: Option<(Instant, Duration)>,
}

impl Lap {
    /// From just before the consumer is made.
    pub(crate) fn begin() -> Self {
        Self { made: cpu(), first: None }
    }

    /// The first record is being handled; further calls change nothing.
    pub(crate) fn first(&mut self) {
        self.first.get_or_insert_with(|| (Instant::now(), cpu()));
    }

    /// The last record was handled: the line that the driver reads.
    pub(crate) fn end(&self, records: u64) -> String {
        let (ended, used) = (Instant::now(), cpu());
        let (first, used_before) = self.first.unwrap_or((ended, used));
        format!(
            "records {records} seconds {:.6} cpu_seconds {:.6} cpu_seconds_before_first {:.6} threads {}",
            (ended - first).as_secs_f64(),
            (used - self.made).as_secs_f64(),
            (used_before - self.made).as_secs_f64(),
            thread_count()
        )
    }
}

/// CPU time of this process, all threads, ended ones too.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Threads of this process now.
fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Prints the answer, then stays until the driver has looked at the process and closes its input.
pub(crate) fn answer_and_stay(line: &str) {
    use std::io::Write as _;
    let mut output = std::io::stdout();
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
    let mut rest = String::new();
    while std::io::stdin().read_line(&mut rest).is_ok_and(|read| read > 0) {}
}
