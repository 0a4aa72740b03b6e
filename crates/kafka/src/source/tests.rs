//! What needs the source's own state: answers that come late.

use super::*;
use crate::embedded::EmbeddedLog;
use rdkafka::types::RDKafkaApiKey;
use weir_model::TopicName;

/// Calls the source until there is an event that `pick` takes.
fn until<T>(source: &mut KafkaSource, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
    let (started, mut events, mut trouble) = (Instant::now(), Vec::new(), Vec::new());
    loop {
        source.events(&mut events);
        trouble.extend(events.iter().filter_map(|event| match event {
            Event::Trouble(fault) => Some(fault.chain()),
            _ => None,
        }));
        if let Some(found) = events.drain(..).find_map(|event| pick(&event)) {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(50), "nothing came: {trouble:?}");
        std::thread::yield_now();
    }
}

#[test]
fn what_is_fetched_ahead_is_half_of_the_budget_at_most() {
    let mut source = KafkaSource::new(SourceConfig::new("localhost:9", "g", &["t"]));
    assert_eq!(source.prefetch(32 << 20).unwrap(), 32 << 20);
    let client = source.config.client().unwrap();
    assert_eq!(client.get("queued.max.messages.kbytes"), Some("2048"), "among 16 partitions");
    let config = SourceConfig { prefetch_bytes: Some(10), ..SourceConfig::new("localhost:9", "g", &["t"]) };
    assert_eq!(KafkaSource::new(config.clone()).prefetch(10).unwrap(), 10);
    let fault = KafkaSource::new(config).prefetch(9).unwrap_err();
    assert!(
        fault.chain().contains("prefetch_bytes: 10 is more than half of the byte budget, which is 9"),
        "{}",
        fault.chain()
    );
}

/// Bounds of librdkafka that hang together: ours must not stand against what a service sets.
#[test]
fn a_service_may_raise_the_size_of_its_records_alone() {
    let made = |properties: &[(&str, &str)]| {
        let mut config = SourceConfig::new("localhost:9", "g", &["t"]);
        config.properties.extend(properties.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        config.client().unwrap().create::<BaseConsumer>().map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(made(&[("message.max.bytes", "10000000")]), Ok(()));
    assert_eq!(made(&[("receive.message.max.bytes", "3000000")]), Ok(()));
    let both = made(&[("message.max.bytes", "10000000"), ("fetch.max.bytes", "2097152")]);
    assert!(both.unwrap_err().contains("`fetch.max.bytes` must be >= `message.max.bytes`"));
}

#[test]
fn a_commits_late_answer_says_nothing_about_a_new_assignment_of_its_partition() {
    let log = EmbeddedLog::start(1).unwrap();
    log.create_topic(&TopicName::new("t").unwrap(), 2, 1).unwrap();
    let mut source = KafkaSource::new(SourceConfig::new(&log.bootstrap(), "g", &["t"]));
    source.start(Wake::default()).unwrap();
    let [first, second] = [0, 1].map(|partition| Place::new("t", partition));
    until(&mut source, |event| match event {
        Event::Assigned(assigned) => (assigned.len() == 2).then_some(()),
        _ => None,
    });
    let commit = |place: &Place| Commit { place: place.clone(), offset: 1, metadata: String::new() };
    source.commit(&[commit(&first), commit(&second)]);
    // The first goes away and comes back before the answer is looked at.
    source.own.get_mut(&first).unwrap().since = source.commit_number;
    let answered = |event: &Event| match event {
        Event::Committed(places) => Some(places.clone()),
        _ => None,
    };
    assert_eq!(until(&mut source, answered), [second]);
    source.commit(&[commit(&first)]);
    assert_eq!(until(&mut source, answered), [first]);
}

/// A member of a group of its own that has the one partition of `t`.
fn member_of(log: &EmbeddedLog) -> (KafkaSource, Vec<Commit>) {
    log.create_topic(&TopicName::new("t").unwrap(), 1, 1).unwrap();
    let mut source = KafkaSource::new(SourceConfig::new(&log.bootstrap(), "g", &["t"]));
    source.start(Wake::default()).unwrap();
    until(&mut source, |event| matches!(event, Event::Assigned(_)).then_some(()));
    let commit = Commit { place: Place::new("t", 0), offset: 1, metadata: String::new() };
    (source, vec![commit])
}

fn committed(source: &KafkaSource) -> Option<i64> {
    let list = list_of(&[Place::new("t", 0)]);
    let found = source.consumer.as_ref().unwrap().committed_offsets(list, ASK_WAIT).unwrap();
    crate::ffi::committed::read(&found)[0].offset
}

/// The group takes no commit between two generations; the two tries of the poller came a millisecond apart.
#[test]
fn the_last_commit_comes_again_while_a_rebalance_refuses_it() {
    let log = EmbeddedLog::start(1).unwrap();
    let (mut source, commits) = member_of(&log);
    log.cluster()
        .request_errors(RDKafkaApiKey::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 4]);
    source.commit_and_wait(&commits, Duration::from_secs(5)).unwrap();
    assert_eq!(committed(&source), Some(1));
}

#[test]
fn the_last_commit_waits_for_a_rebalance_only_as_long_as_it_may() {
    let log = EmbeddedLog::start(1).unwrap();
    let (mut source, commits) = member_of(&log);
    log.cluster()
        .request_errors(RDKafkaApiKey::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS; 99]);
    let began = Instant::now();
    let fault = source.commit_and_wait(&commits, Duration::from_millis(300)).unwrap_err();
    assert!(fault.chain().contains("RebalanceInProgress"), "{}", fault.chain());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A member that the group has put out would commit as one without a group, which an empty group takes.
#[test]
fn what_is_lost_is_not_committed_by_another_try() {
    let log = EmbeddedLog::start(1).unwrap();
    let (mut source, commits) = member_of(&log);
    log.cluster().request_errors(RDKafkaApiKey::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    for _ in 0..2 {
        let fault = source.commit_and_wait(&commits, Duration::from_secs(5)).unwrap_err();
        assert!(fault.chain().contains("AssignmentLost"), "{}", fault.chain());
    }
    // Where it began stays committed.
    assert_eq!(committed(&source), Some(0));
}
