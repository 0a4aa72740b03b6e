//! A [`Flow`] in a file that is watched: what an operator changes there holds within a second, without a restart.
//!
//! Lines of `key = value`, `#` begins a comment. What is not there has its default. A file that is wrong, or gone, at the
//! start is refused; later it is logged, and what held goes on.
//!
//! ```text
//! paused = false
//! rate = 1000                # records a second, all partitions; -1 is no limit
//! rate-per-partition = -1
//! ignored-keys = user-1, user-2
//! ```

use crate::consumer::Steering;
use crate::flow::Flow;
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use weir_model::{Fault, FaultKind};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
        let text = read(&path).await.map_err(wrong)?;
        steering.flow(parse(&text).map_err(wrong)?);
        let task = tokio::spawn(watch(path, text, steering));
        Ok(Self { task })
    }
}

async fn watch(path: PathBuf, mut last: String, steering: Steering) {
    let mut is_gone = false;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let text = match read(&path).await {
            Ok(text) => text,
            Err(error) => {
                if !std::mem::replace(&mut is_gone, true) {
                    tracing::warn!(path = %path.display(), %error, "the flow's file cannot be read; what held goes on");
                }
                continue;
            }
        };
        is_gone = false;
        if text == last {
            continue;
        }
        match parse(&text) {
            Ok(flow) => {
                tracing::info!(path = %path.display(), ?flow, "the flow has changed");
                steering.flow(flow);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the flow's file is wrong; what held goes on");
            }
        }
        last = text;
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("it has {size} bytes, over {FILE_BYTES_MAX}"));
    }
    tokio::fs::read_to_string(path).await.map_err(|error| error.to_string())
}

/// Reads the text of such a file.
///
/// # Errors
/// With the line that is wrong, and why.
pub fn parse(text: &str) -> Result<Flow, String> {
    let mut flow = Flow::default();
    for (line, number) in text.lines().zip(1..) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| format!("line {number}: it is not KEY = VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let wrong = |wanted: &str| format!("line {number}: {key} is {value:?}, and must be {wanted}");
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
            _ => {
                return Err(format!(
                    "line {number}: there is no {key}; there are paused, rate, rate-per-partition and ignored-keys"
                ));
            }
        }
    }
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
        assert_eq!(flow, Flow { is_paused: true, rate: Some(5), rate_per_partition: None, ignored_keys });
        for (text, expect) in [
            ("\npause = true", "line 2: there is no pause; there are paused,"),
            ("paused = yes", "line 1: paused is \"yes\", and must be true or false"),
            ("rate = -2", "line 1: rate is \"-2\", and must be records a second, or -1"),
            ("rate 5", "line 1: it is not KEY = VALUE"),
        ] {
            assert!(parse(text).unwrap_err().starts_with(expect), "{:?}", parse(text));
        }
    }
}
