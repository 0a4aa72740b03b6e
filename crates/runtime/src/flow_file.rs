//! A [`Flow`] in a file that is watched: what an operator changes there holds within two seconds, without a restart.
//!
//! Lines of `key = value`, `#` begins a comment. What is not there has its default. A file that is wrong, or gone, at the
//! start is refused; later it is logged, and what held goes on.
//!
//! A file may be read while it is written. So it counts only when two looks, half a second apart, saw the same; and one
//! without a single byte, which a writer leaves that begins by cutting the file, or whose disk is full, never counts. A
//! comment is enough to say that everything has its default.
//!
//! ```text
//! paused = false
//! rate = 1000                # records a second, all partitions; -1 is no limit
//! rate-per-partition = -1
//! ignored-keys = user-1, user-2
//! key-quota = 50             # records a second of each key; -1 is no limit
//! key-quota-burst-seconds = 10
//! key-quota-action = shape   # slow-down (the default), shape, dead-letter
//! ```

use crate::consumer::Steering;
use crate::flow::Flow;
use crate::quota::{OverQuota, Quota};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use weir_model::{Fault, FaultKind};

/// How often the file is looked at, and how long it must have been the same to count.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Looks at the start until two saw the same. A file that is written all the time is refused.
const LOOKS_MAX: u32 = 20;

/// Longest file that is read, in bytes: a list of keys, not a database.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that is watched for as long as this lives.
#[derive(Debug)]
pub struct FlowFile {
    task: JoinHandle<()>,
}

impl Drop for FlowFile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl FlowFile {
    /// Reads the file, applies it, and watches it on the current tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be read, or a line of it is wrong.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn follow(path: &Path, steering: Steering) -> Result<Self, Fault> {
        let path = path.to_path_buf();
        let wrong = |cause: String| {
            let about = path.display().to_string();
            Fault::new(FaultKind::Config, "W-CONFIG", "read the flow", about).caused_by(cause)
        };
        let text = settled(&path).await.map_err(wrong)?;
        steering.flow(parse(&text).map_err(wrong)?).map_err(|fault| wrong(fault.chain()))?;
        let task = tokio::spawn(watch(path, text, steering));
        Ok(Self { task })
    }
}

/// What the file says as soon as two looks saw the same.
async fn settled(path: &Path) -> Result<String, String> {
    let mut last = read(path).await?;
    for _ in 0..LOOKS_MAX {
        tokio::time::sleep(LOOK_EVERY).await;
        let text = read(path).await?;
        if text == last {
            return Ok(text);
        }
        last = text;
    }
    Err("it changes all the time".to_owned())
}

async fn watch(path: PathBuf, held: String, steering: Steering) {
    // What the last look saw, and what the last look saw that counted.
    let (mut last, mut counted) = (Ok(held.clone()), Ok(held));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let seen = read(&path).await;
        let is_settled = seen == last;
        last = seen;
        if !is_settled || last == counted {
            continue;
        }
        counted = last.clone();
        let flow = last.clone().and_then(|text| parse(&text)).and_then(|flow| {
            steering.flow(flow.clone()).map_err(|fault| fault.chain())?;
            Ok(flow)
        });
        match flow {
            Ok(flow) => tracing::info!(path = %path.display(), ?flow, "the flow has changed"),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the flow's file is wrong or gone; what held goes on");
            }
        }
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it has {size} bytes, over {FILE_BYTES_MAX}"));
    }
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())?;
    if text.is_empty() {
        return Err("it is empty; a comment says that everything has its default".to_owned());
    }
    Ok(text)
}

/// Reads the text of such a file.
///
/// # Errors
/// With the line that is wrong, and why.
pub fn parse(text: &str) -> Result<Flow, String> {
    let mut flow = Flow::default();
    let mut quota = Quota::new(0, OverQuota::default());
    let mut quota_rate = None;
    let mut seen = BTreeSet::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {number}: it is not KEY = VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let wrong = |wanted: &str| format!("line {number}: {key} is {value:?}, and must be {wanted}");
        if !seen.insert(key) {
            return Err(format!("line {number}: {key} is there twice"));
        }
        match key {
            "paused" => flow.is_paused = value.parse().map_err(|_| wrong("true or false"))?,
            "rate" => flow.rate = rate(value).ok_or_else(|| wrong("records a second, or -1"))?,
            "rate-per-partition" => {
                flow.rate_per_partition = rate(value).ok_or_else(|| wrong("records a second, or -1"))?;
            }
            "ignored-keys" => {
                let keys = value.split(',').map(str::trim).filter(|key| !key.is_empty());
                flow.ignored_keys =
                    Arc::new(keys.map(|key| Bytes::copy_from_slice(key.as_bytes())).collect());
            }
            "key-quota" => {
                let read = rate(value).filter(|rate| *rate != Some(0));
                quota_rate = read.ok_or_else(|| wrong("records a second from 1 on, or -1"))?;
            }
            "key-quota-burst-seconds" => {
                let seconds: u32 = value.parse().map_err(|_| wrong("seconds"))?;
                quota.burst = Duration::from_secs(seconds.into());
            }
            "key-quota-action" => {
                quota.action = match value {
                    "slow-down" => OverQuota::SlowDown,
                    "shape" => OverQuota::Shape,
                    "dead-letter" => OverQuota::DeadLetter,
                    _ => return Err(wrong("slow-down, shape or dead-letter")),
                }
            }
            _ => {
                return Err(format!(
                    "line {number}: there is no {key}; there are paused, rate, rate-per-partition, ignored-keys, \
                     key-quota, key-quota-burst-seconds and key-quota-action"
                ));
            }
        }
    }
    flow.key_quota = quota_rate.map(|rate| Quota { rate, ..quota });
    Ok(flow)
}

/// `-1` is no limit, as Decaton has it.
fn rate(text: &str) -> Option<Option<u32>> {
    if text == "-1" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_flows_and_what_is_wrong_with_it_is_told_by_line() {
        assert_eq!(parse(""), Ok(Flow::default()));
        let flow =
            parse("# calm\npaused = true\nrate=5 # slow\nrate-per-partition = -1\nignored-keys = a, b,\n")
                .unwrap();
        let ignored_keys = Arc::new([Bytes::from("a"), Bytes::from("b")].into());
        let expect = Flow { is_paused: true, rate: Some(5), ignored_keys, ..Flow::default() };
        assert_eq!(flow, expect);
        let quota = |text| parse(text).unwrap().key_quota;
        assert_eq!(quota("key-quota = 50"), Some(Quota::new(50, OverQuota::SlowDown)));
        let all = "key-quota-action = shape\nkey-quota-burst-seconds = 3\nkey-quota = 50";
        let burst = Duration::from_secs(3);
        assert_eq!(quota(all), Some(Quota { burst, ..Quota::new(50, OverQuota::Shape) }));
        assert_eq!(quota("key-quota-action = shape\nkey-quota = -1"), None);
        for (text, expect) in [
            ("\npause = true", "line 2: there is no pause; there are paused,"),
            ("paused = yes", "line 1: paused is \"yes\", and must be true or false"),
            ("rate = -2", "line 1: rate is \"-2\", and must be records a second, or -1"),
            ("rate 5", "line 1: it is not KEY = VALUE"),
            ("rate = 5\nrate = 6", "line 2: rate is there twice"),
            ("key-quota = 0", "line 1: key-quota is \"0\", and must be records a second from 1 on, or -1"),
            (
                "key-quota-burst-seconds = 1s",
                "line 1: key-quota-burst-seconds is \"1s\", and must be seconds",
            ),
            (
                "key-quota-action = drop",
                "line 1: key-quota-action is \"drop\", and must be slow-down, shape or",
            ),
        ] {
            assert!(parse(text).unwrap_err().starts_with(expect), "{:?}", parse(text));
        }
    }
}
