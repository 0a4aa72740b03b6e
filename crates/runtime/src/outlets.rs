//! The topics that a consumer writes records to, looked at before it takes the first one.
//!
//! A dead letter that can never be written, or is deleted again, would be noticed when it is too late.

use crate::admission::refused;
use crate::dead_letter::DeadLetters;
use crate::log::{LogWriter, TopicTerms};
use crate::retry_topic::RetryTopic;
use crate::shaping::Shaping;
use crate::source::LogSource;
use weir_model::{Fault, FaultKind, TopicName};

/// Where a consumer writes records.
pub(crate) struct Outlets {
    /// The topics that it reads.
    pub(crate) topics: Vec<String>,
    pub(crate) dead_letters: Option<DeadLetters>,
    pub(crate) retry_topic: Option<RetryTopic>,
    pub(crate) shaping: Option<Shaping>,
}

/// A topic that is written to, for what, and what its log says about it.
struct Outlet {
    field: &'static str,
    topic: String,
    terms: Option<TopicTerms>,
}

impl Outlets {
    /// Refuses topics that are not there or are compacted; a sentence for each that may lead to trouble.
    pub(crate) fn check(&self, source: &mut dyn LogSource) -> Result<Vec<String>, Fault> {
        let outlets = self.all();
        let mut warnings: Vec<String> = outlets.iter().filter_map(|outlet| self.unread(outlet)).collect();
        if outlets.iter().any(|outlet| outlet.terms.is_some()) {
            let largest = source.largest_record();
            for outlet in &outlets {
                outlet.check()?;
                warnings.extend(largest.as_ref().and_then(|largest| outlet.too_small(largest)));
            }
        }
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok(warnings)
    }

    fn all(&self) -> Vec<Outlet> {
        let mut all = Vec::new();
        let mut add = |field, writer: &dyn LogWriter, topics: Vec<TopicName>| {
            for topic in topics {
                all.push(Outlet { field, terms: writer.terms(&topic), topic: topic.to_string() });
            }
        };
        if let Some(letters) = &self.dead_letters {
            add("dead_letters", letters.writer(), TopicName::new(letters.topic()).into_iter().collect());
        }
        if let Some((writer, topics)) =
            self.retry_topic.as_ref().and_then(|retry| retry.targets(&self.topics))
        {
            add("retry_topic", writer, topics);
        }
        if let Some(shaping) = &self.shaping {
            let topics = self.topics.iter().filter_map(|topic| shaping.target(topic)).collect();
            add("shaping", shaping.writer(), topics);
        }
        all
    }

    /// Somebody must read a retry topic, and only the consumer itself is known.
    fn unread(&self, outlet: &Outlet) -> Option<String> {
        let Outlet { field, topic, .. } = outlet;
        let is_unread = *field == "retry_topic" && !self.topics.is_empty() && !self.topics.contains(topic);
        is_unread.then(|| {
            format!(
                "{field}: {topic} is not read by this consumer: what fails is tried again only if another group reads it; \
                 fix: add {topic} to the topics of the source"
            )
        })
    }
}

impl Outlet {
    fn check(&self) -> Result<(), Fault> {
        let Self { field, topic, terms } = self;
        let Some(terms) = terms else { return Ok(()) };
        if !terms.is_there {
            let fault = Fault::new(FaultKind::Config, "W-KAFKA-TOPIC", "start a consumer", *field);
            return Err(fault.caused_by(format!("the topic {topic} is not there; fix: create it")));
        }
        if terms.is_compacted {
            let why = format!(
                "{topic} is compacted (cleanup.policy): of the records of one key only the newest stays, and a record \
                 without a key is refused; fix: set cleanup.policy=delete for {topic}"
            );
            return Err(refused(field, why));
        }
        Ok(())
    }

    fn too_small(&self, (source, source_max): &(String, u64)) -> Option<String> {
        let Self { field, topic, terms } = self;
        let most = terms.as_ref()?.record_bytes_max.filter(|most| most < source_max)?;
        Some(format!(
            "{field}: {topic} takes records of {most} bytes, and {source} of {source_max}: a larger record is not written \
             there; fix: set max.message.bytes={source_max} for {topic}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(terms: TopicTerms) -> Outlet {
        Outlet { field: "dead_letters", topic: "t-dead".to_owned(), terms: Some(terms) }
    }

    #[test]
    fn a_topic_to_write_to_is_refused_or_warned_of_with_its_fix() {
        let fine = TopicTerms { is_there: true, record_bytes_max: Some(1000), is_compacted: false };
        assert!(outlet(fine.clone()).check().is_ok());
        let missing = outlet(TopicTerms::default()).check().unwrap_err();
        assert_eq!((missing.code(), missing.about()), ("W-KAFKA-TOPIC", "dead_letters"));
        assert!(missing.chain().contains("t-dead is not there; fix: create it"), "{}", missing.chain());
        let compacted = outlet(TopicTerms { is_compacted: true, ..fine.clone() }).check().unwrap_err();
        assert!(compacted.chain().contains("set cleanup.policy=delete for t-dead"), "{}", compacted.chain());
        let source = |bytes| ("t".to_owned(), bytes);
        assert_eq!(outlet(fine.clone()).too_small(&source(1000)), None);
        let warning = outlet(fine).too_small(&source(1001)).unwrap();
        assert!(warning.contains("set max.message.bytes=1001 for t-dead"), "{warning}");
    }
}
