//! A member of a group that tells on its standard output what it does, for tests that kill it.
//!
//! `member BOOTSTRAP GROUP TOPIC [HANG]`: handles each record in `MS` of its value `KEY NUMBER MS`, hangs for ever on
//! records whose key is HANG, and ends when its standard input ends.

use std::io::Write as _;
use std::time::Duration;
use weir_kafka::source::{KafkaSource, SourceConfig};
use weir_runtime::consumer::Consumer;
use weir_runtime::record::Record;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, topic, hang @ ..] = words.as_slice() else {
        return Err("member BOOTSTRAP GROUP TOPIC [HANG]".into());
    };
    let hang = hang.first().cloned();
    let mut config = SourceConfig::new(bootstrap, group, &[topic]);
    // What was killed is missed soon.
    config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
    let handler = move |record: Record| {
        let hang = hang.clone();
        async move {
            let (key, value) = record.text();
            let place = format!("{key} {} {}", record.partition, record.offset);
            tell(&format!("begin {place}"));
            if hang.is_some_and(|hang| hang == key) {
                std::future::pending::<()>().await;
            }
            let ms = value.split(' ').nth(2).and_then(|ms| ms.parse().ok()).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            tell(&format!("done {place}"));
        }
    };
    let running = Consumer::new(KafkaSource::new(config)).concurrency(1000).start(handler).await?;
    tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin())).await??;
    let counts = running.stop(Duration::from_secs(5)).await?;
    tell(&format!("end {} {}", counts.received, counts.spared));
    Ok(())
}

/// One line, whole.
fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that is gone is no concern of a member.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
