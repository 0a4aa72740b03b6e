//! What a topic takes and keeps, asked for by those who are not asynchronous.

use super::Topics;
use crate::reader::{consumer, metadata};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use weir_runtime::log::TopicTerms;

/// How long a topic that is not there is looked for: a broker hears of a new one after the controller.
const NEW_TOPIC_WAIT: Duration = Duration::from_secs(2);

/// The settings of topics. `None` for one that cannot be asked for, such as without the right to.
pub(crate) fn settings(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    names: &[String],
) -> Vec<Option<BTreeMap<String, String>>> {
    // A thread of its own: the admin client is asynchronous, and nobody says what runtime this one is in.
    let asked = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let topics = Topics::new(bootstrap, properties).ok()?;
            let runtime = tokio::runtime::Builder::new_current_thread().build().ok()?;
            let ask = |name: &String| runtime.block_on(topics.settings(name)).ok();
            Some(names.iter().map(ask).collect::<Vec<_>>())
        });
        asking.join().ok().flatten()
    });
    asked.unwrap_or_else(|| names.iter().map(|_| None).collect())
}

/// What a topic takes; `None` when the brokers do not say.
pub(crate) fn terms(
    bootstrap: &str,
    properties: &BTreeMap<String, String>,
    name: &str,
) -> Option<TopicTerms> {
    if !is_there(bootstrap, properties, name)? {
        return Some(TopicTerms::default());
    }
    let settings = settings(bootstrap, properties, &[name.to_owned()]).pop().flatten().unwrap_or_default();
    let policy = settings.get("cleanup.policy");
    Some(TopicTerms {
        is_there: true,
        record_bytes_max: record_bytes_max(&settings),
        is_compacted: policy.is_some_and(|policy| policy.contains("compact")),
    })
}

pub(crate) fn record_bytes_max(settings: &BTreeMap<String, String>) -> Option<u64> {
    settings.get("max.message.bytes")?.parse().ok()
}

fn is_there(bootstrap: &str, properties: &BTreeMap<String, String>, name: &str) -> Option<bool> {
    let consumer = consumer(bootstrap, properties).ok()?;
    let began = Instant::now();
    loop {
        let metadata = metadata(&consumer, Some(name), name).ok()?;
        let found = metadata.topics().iter().find(|found| found.name() == name)?;
        match found.error().map(Code::from) {
            None => return Some(true),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {}
            Some(_) => return None,
        }
        if began.elapsed() > NEW_TOPIC_WAIT {
            return Some(false);
        }
        std::thread::sleep(NEW_TOPIC_WAIT / 10);
    }
}
