//! A client that is stuck while the brokers are well is replaced, as the producer does it: librdkafka does not always
//! come back from a broker that stood still (seen with 2.12.1 and a broker that slept longer than the session).

use super::SourceConfig;
use super::complaints::Sick;
use super::patterns::is_pattern;
use crate::reader::{client_config, create};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use weir_runtime::record::Place;

/// librdkafka's default of `session.timeout.ms`.
const SESSION: Duration = Duration::from_secs(45);

/// How long a client must be stuck beside brokers that are well, at least and at most.
const STUCK_MIN: Duration = Duration::from_secs(4);
const STUCK_MAX: Duration = Duration::from_secs(45);

/// How long one question of a probe may take, and the pause after it.
const PROBE_WAIT: Duration = Duration::from_secs(4);
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two replacements; the first is a session, each one twice as long as the one before.
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// The brokers answer, and the group waits for nobody.
    Well,
    /// Somebody does not answer, or the group is dealing its partitions.
    Unwell,
    /// The topic is not there, with the broker's word.
    Missing(String, String),
}

/// Watches over a client.
pub(super) struct Doctor {
    config: SourceConfig,
    session: Duration,
    /// When the first probe of a row of good ones was answered.
    well_since: Option<Instant>,
    probe: Option<Receiver<Found>>,
    /// Topics that are not there, with the broker's word.
    missing: Vec<(String, String)>,
    next_probe: Option<Instant>,
    /// No replacement before that, and how long the next pause is.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Doctor {
    pub(super) fn new(config: &SourceConfig) -> Self {
        let session = config.properties.get("session.timeout.ms").and_then(|text| text.parse().ok());
        let session = session.map_or(SESSION, Duration::from_millis);
        Self {
            config: config.clone(),
            session,
            well_since: None,
            probe: None,
            missing: Vec::new(),
            next_probe: None,
            not_before: None,
            pause: session,
        }
    }

    /// How long a client may be sick before anybody asks why.
    pub(super) fn patience(&self) -> Duration {
        (self.session / 2).clamp(Duration::from_secs(2), Duration::from_secs(10))
    }

    /// Whether the client is to be replaced: it has been sick for a session's time beside brokers that were well.
    pub(super) fn is_stuck(&mut self, sick: Option<Sick>, now: Instant) -> bool {
        let Some(sick) = sick else {
            (self.well_since, self.probe) = (None, None);
            return false;
        };
        match self.probe.as_ref().map(Receiver::try_recv) {
            Some(Err(TryRecvError::Empty)) => {}
            Some(answer) => {
                let is_well = matches!(answer, Ok(Found::Well));
                if let Ok(Found::Missing(topic, why)) = answer {
                    self.missing.push((topic, why));
                }
                self.well_since = is_well.then(|| self.well_since.unwrap_or(now));
                (self.probe, self.next_probe) = (None, Some(now + PROBE_PAUSE));
            }
            None if self.next_probe.is_none_or(|next| next <= now) => {
                self.probe = ask(&self.config, sick.place)
            }
            None => {}
        }
        self.is_long_enough(now)
    }

    fn is_long_enough(&mut self, now: Instant) -> bool {
        let stuck_max = self.session.clamp(STUCK_MIN, STUCK_MAX);
        let is_stuck = self.well_since.is_some_and(|since| now.saturating_duration_since(since) >= stuck_max)
            && self.not_before.is_none_or(|not_before| not_before <= now);
        if is_stuck {
            self.not_before = Some(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
            (self.well_since, self.probe) = (None, None);
        }
        is_stuck
    }

    /// Topics that a probe found to be gone.
    pub(super) fn missing(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.missing)
    }

    /// The client works: the next replacement may be soon again.
    pub(super) fn works(&mut self) {
        self.pause = self.session;
    }
}

/// Asks the brokers by a client of its own, on a thread of its own.
fn ask(config: &SourceConfig, place: Option<Place>) -> Option<Receiver<Found>> {
    let (answer, answers) = sync_channel(1);
    let config = config.clone();
    let probe = move || {
        let _ = answer.send(look(&config, place).unwrap_or(Found::Unwell));
    };
    std::thread::Builder::new().name("weir-probe".to_owned()).spawn(probe).ok().map(|_| answers)
}

/// The leader of the partition answers, the coordinator does, and the group does not wait for anybody.
fn look(config: &SourceConfig, place: Option<Place>) -> Option<Found> {
    let mut client = client_config(&config.bootstrap, &config.properties).ok()?;
    client.set("group.id", &config.group).set("statistics.interval.ms", "0");
    let asker = create(&client, &config.bootstrap).ok()?;
    let first = || config.topics.iter().find(|topic| !is_pattern(topic));
    let named = place.as_ref().map(|place| (&*place.topic, place.partition));
    let named = named.or_else(|| first().map(|topic| (topic.as_str(), 0)));
    // Without a named topic the broker is asked for all.
    let metadata = asker.fetch_metadata(named.map(|(topic, _)| topic), PROBE_WAIT).ok()?;
    if let Some((topic, partition)) = named {
        let gone = metadata.topics().iter().find_map(|found| Some(Code::from(found.error()?)));
        if let Some(code @ (Code::UnknownTopic | Code::UnknownTopicOrPartition)) = gone {
            return Some(Found::Missing(topic.to_owned(), code.to_string()));
        }
        if place.is_some() {
            asker.fetch_watermarks(topic, partition, PROBE_WAIT).ok()?;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        asker.committed_offsets(list, PROBE_WAIT).ok()?;
    }
    let groups = asker.fetch_group_list(Some(&config.group), PROBE_WAIT).ok();
    let group = groups.as_ref().and_then(|groups| groups.groups().first());
    // A member that is slow to give partitions up holds the whole group: a new client would wait for it too.
    let is_waiting = group.is_some_and(|group| group.state() == "PreparingRebalance");
    Some(if is_waiting { Found::Unwell } else { Found::Well })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_replaced_after_a_session_beside_brokers_that_are_well_and_then_ever_more_rarely() {
        let mut config = SourceConfig::new("localhost:9", "g", &["t"]);
        config.properties.insert("session.timeout.ms".to_owned(), "6000".to_owned());
        let mut doctor = Doctor::new(&config);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let sick = || Some(Sick { since: start, place: None });
        let answered = |doctor: &mut Doctor, is_well: bool, seconds: u64| {
            let (answer, answers) = sync_channel(1);
            answer.send(if is_well { Found::Well } else { Found::Unwell }).unwrap();
            doctor.probe = Some(answers);
            doctor.is_stuck(sick(), at(seconds))
        };
        assert!(!answered(&mut doctor, false, 10), "the brokers are away");
        assert!(!answered(&mut doctor, true, 20), "well just now");
        assert!(!answered(&mut doctor, true, 25));
        assert!(answered(&mut doctor, true, 26));
        assert!(!answered(&mut doctor, true, 27), "the new client has a session's time");
        assert!(answered(&mut doctor, true, 33));
        assert!(!answered(&mut doctor, true, 34));
        assert!(!answered(&mut doctor, true, 44), "and twice that after the second time");
        assert!(!doctor.is_stuck(None, at(44)), "it works");
        assert!(!answered(&mut doctor, true, 60), "well just now, once more");
    }
}
