//! Batches that a broker refuses for what one of their records is: too large, or without a key in a compacted topic.
//!
//! librdkafka puts records of many callers into one batch, and all of them are refused together. So a refused batch is
//! written once more by a client that sends each record alone and compresses it as well as it can. What is refused then
//! is the record's own fault, and the answer says which limit it met.

use super::{Answer, Client, Producer, ProducerConfig, fault_of, stopped};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use weir_model::{Fault, FaultKind};
use weir_runtime::log::{RecordBatch, RecordSpan};

/// What librdkafka adds to key, value and headers when it compares a record with its own limit, at least
/// (`rd_kafka_msg_max_wire_size`).
const FRAME_BYTES: usize = 36;

/// Errors of a whole batch that one of its records may be to blame for.
pub(super) const fn is_about_records(code: Code) -> bool {
    is_about_size(code)
        || matches!(
            code,
            Code::RD_KAFKA_RESP_ERR_INVALID_RECORD | Code::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD
        )
}

const fn is_about_size(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
            | Code::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE
            | Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE
    )
}

impl Producer {
    /// Writes a refused batch again, each record alone.
    pub(super) async fn append_alone(
        &self,
        code: Code,
        batch: RecordBatch,
        topic: &str,
    ) -> Result<(), Fault> {
        if self.shared.config.part_bytes_max.is_some() {
            // Whoever cuts values keeps the order of its calls, and repeats the whole call by itself.
            return Err(refusal(code, &batch));
        }
        if self.is_refused_here(&batch) {
            // librdkafka itself refuses the record, alone or not: the others are not written a second time for that.
            return Err(refusal(code, &batch));
        }
        let client = self.client_alone()?;
        match self.queue(&client, batch, false)?.await {
            Ok(Answer { failed: None, .. }) => Ok(()),
            Ok(Answer { failed: Some(code), batch: Some(batch) }) => Err(refusal(code, &batch)),
            Ok(Answer { failed: Some(code), batch: None }) => Err(self.failed(code, &client.state, topic)),
            Err(_) => Err(stopped(topic)),
        }
    }

    /// Whether a record is larger than the client's own `message.max.bytes`.
    fn is_refused_here(&self, batch: &RecordBatch) -> bool {
        let limit = self.shared.config.properties.get("message.max.bytes");
        let limit = limit.and_then(|text| text.parse::<usize>().ok()).unwrap_or(usize::MAX);
        batch.records.iter().any(|record| byte_count(batch, record).saturating_add(FRAME_BYTES) > limit)
    }

    fn client_alone(&self) -> Result<Arc<Client>, Fault> {
        let mut slot = self.shared.alone.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = slot.as_ref().filter(|client| !client.state.fatal.load(Ordering::Acquire)) {
            return Ok(Arc::clone(client));
        }
        let mut config =
            ProducerConfig { compression: "zstd".to_owned(), linger_ms: 0, ..self.shared.config.clone() };
        config.properties.insert("batch.num.messages".to_owned(), "1".to_owned());
        let client = Arc::new(Client::start(&config)?);
        if let Some(old) = slot.replace(Arc::clone(&client)) {
            // Its end waits for reports: not under the lock, and not on a thread that serves others.
            std::thread::spawn(move || drop(old));
        }
        Ok(client)
    }
}

/// Key, value and headers of a record.
fn byte_count(batch: &RecordBatch, record: &RecordSpan) -> usize {
    let len = |range| batch.optional(range).map_or(0, <[u8]>::len);
    let headers = &batch.headers[record.headers.start as usize..record.headers.end as usize];
    let headers: usize = headers.iter().map(|header| header.name.len() + len(&header.value)).sum();
    len(&record.key) + len(&record.value) + headers
}

/// Why a record was refused, with its size and the limit that it met.
fn refusal(code: Code, batch: &RecordBatch) -> Fault {
    let name = |record: &RecordSpan| batch.topics.get(usize::from(record.topic)).map(ToString::to_string);
    let largest = batch.records.iter().max_by_key(|record| byte_count(batch, record));
    let keyless = batch.records.iter().find(|record| batch.optional(&record.key).is_none());
    let refused = |topic: String, cause: String| {
        Fault::new(FaultKind::Rejected, "W-KAFKA-REJECTED", "write to Kafka", topic).caused_by(cause)
    };
    match (largest, keyless) {
        (Some(record), _) if is_about_size(code) => {
            let (topic, bytes) = (name(record).unwrap_or_default(), byte_count(batch, record));
            let cause = format!(
                "the record is larger than the topic takes: {bytes} bytes of key, value and headers, before compression; \
                 fix: raise max.message.bytes of {topic} (or message.max.bytes of the brokers)"
            );
            refused(topic, cause)
        }
        (_, Some(record)) if code == Code::RD_KAFKA_RESP_ERR_INVALID_RECORD => {
            let topic = name(record).unwrap_or_default();
            let cause = format!(
                "the broker refuses the record, which has no key: a compacted topic takes none without; fix: set \
                 cleanup.policy=delete for {topic}"
            );
            refused(topic, cause)
        }
        (record, _) => fault_of(code, &record.and_then(name).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::TopicName;
    use weir_runtime::log::HeaderSpan;

    #[test]
    fn a_refusal_names_size_limit_and_topic() {
        let mut batch = RecordBatch { topics: vec![TopicName::new("t").unwrap()], ..RecordBatch::default() };
        let (key, value, header) = (batch.put(b"key"), batch.put(&[7; 2000]), batch.put(b"12345"));
        batch.headers.push(HeaderSpan { name: "name".into(), value: header });
        batch.records.push(RecordSpan { topic: 0, key, value, headers: 0..1, timestamp_ms: 0 });
        let value = batch.put(b"v");
        let key = RecordBatch::NONE;
        batch.records.push(RecordSpan { topic: 0, key, value, headers: 0..0, timestamp_ms: 0 });
        let text = |code| refusal(code, &batch).chain();
        let size = text(Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
        for word in ["2012 bytes", "max.message.bytes of t", "message.max.bytes"] {
            assert!(size.contains(word), "{size}");
        }
        let keyless = text(Code::RD_KAFKA_RESP_ERR_INVALID_RECORD);
        assert!(keyless.contains("no key") && keyless.contains("cleanup.policy"), "{keyless}");
    }
}
