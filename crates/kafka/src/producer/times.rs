//! Topics that refuse the write times of records (`message.timestamp.before.max.ms`, `.after.max.ms`).
//!
//! A broker refuses a whole batch for one timestamp, and librdkafka does not always say that it was the timestamp. So a
//! batch that may have failed for it is written once more with the present. When that succeeds, the topic's records get
//! the present for a while. Then their write time is tried again: an operator may have changed the setting.

use super::{Answer, Producer, now_ms, stopped, timestamp};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};
use weir_model::{Fault, TopicName};
use weir_runtime::log::RecordBatch;

/// How long what was learned of a topic holds. Each time it ends, one batch is refused and written again.
const LEARNED_FOR: Duration = Duration::from_secs(600);

/// How long after it was queued a refused batch is written again. Later, the new message time-out could end after the
/// time-out of the call.
const AGAIN_WITHIN: Duration = Duration::from_secs(3);

/// A timestamp this near to the present, in milliseconds, is not what a broker refuses.
const NEAR_MS: u64 = 1000;

/// What was learned of the timestamps that topics take.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Topics whose records get the present, and since when.
    present: RwLock<BTreeMap<TopicName, Instant>>,
}

/// Whether a batch with this error may have failed for its timestamps.
///
/// librdkafka 2.12.1 gives `INVALID_TIMESTAMP` to the record of a single error, `INVALID_RECORD` to each of several,
/// and `_INVALID_DIFFERENT_RECORD` to the other records of the batch.
pub(super) const fn may_be_meant(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP
            | Code::RD_KAFKA_RESP_ERR_INVALID_RECORD
            | Code::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD
    )
}

impl Times {
    /// Which of these topics' records get the present; all of them when asked to.
    pub(super) fn present(&self, topics: &[TopicName], is_all: bool) -> Vec<bool> {
        let known = self.present.read().expect("no panic under this lock");
        let is_known = |topic| known.get(topic).is_some_and(|since| since.elapsed() < LEARNED_FOR);
        topics.iter().map(|topic| is_all || is_known(topic)).collect()
    }

    /// Topics of a batch whose records were given another time than the present.
    fn written_otherwise(&self, batch: &RecordBatch) -> Vec<TopicName> {
        let (now_ms, present) = (now_ms(), self.present(&batch.topics, false));
        let is_other = |index: usize| {
            let records = batch.records.iter().filter(|record| usize::from(record.topic) == index);
            records
                .map(|record| timestamp(record.timestamp_ms, now_ms))
                .any(|timestamp_ms| timestamp_ms.abs_diff(now_ms) > NEAR_MS)
        };
        let topics = batch.topics.iter().zip(present).enumerate();
        let topics = topics.filter(|(index, (_, is_present))| !is_present && is_other(*index));
        topics.map(|(_, (topic, _))| topic.clone()).collect()
    }

    fn learn(&self, topics: Vec<TopicName>) {
        let mut present = self.present.write().expect("no panic under this lock");
        for topic in topics {
            tracing::warn!(
                topic = %topic,
                "the topic refuses the write times of records, so they get the time of capture as their timestamp; fix: raise its message.timestamp.before.max.ms and message.timestamp.after.max.ms"
            );
            present.insert(topic, Instant::now());
        }
    }
}

/// What became of a batch that may have been refused for its timestamps.
pub(super) enum Settled {
    /// It is durable.
    Done,
    /// It was refused for something else.
    Refused(Code, RecordBatch),
    /// It failed.
    Failed(Fault),
}

impl Producer {
    /// Writes a refused batch once more, with the present as the timestamp of its records, when that may be the reason.
    ///
    /// The order of a region holds: its source sends nothing newer before this call is answered.
    pub(super) async fn append_at_present(
        &self,
        code: Code,
        batch: RecordBatch,
        since: Instant,
        topic: &str,
    ) -> Settled {
        let topics = self.shared.times.written_otherwise(&batch);
        if !may_be_meant(code) || topics.is_empty() || since.elapsed() > AGAIN_WITHIN {
            return Settled::Refused(code, batch);
        }
        let queued = self.client().and_then(|client| {
            let answer = self.queue(&client, batch, true)?;
            Ok((answer, Arc::clone(&client.state)))
        });
        let (answer, state) = match queued {
            Ok(queued) => queued,
            Err(fault) => return Settled::Failed(fault),
        };
        match answer.await {
            Ok(Answer { failed: None, .. }) => {
                self.shared.times.learn(topics);
                Settled::Done
            }
            Ok(Answer { failed: Some(code), batch: Some(batch) }) => Settled::Refused(code, batch),
            Ok(Answer { failed: Some(code), batch: None }) => {
                Settled::Failed(self.failed(code, &state, topic))
            }
            Err(_) => Settled::Failed(stopped(topic)),
        }
    }
}
