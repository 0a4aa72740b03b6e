//! Commits: how they are said to librdkafka, what their answers mean, and the last one of a partition, which is waited
//! for.

use super::maps::{self, Maps};
use super::{Context, Own, trouble};
use crate::ffi::consumer::{CommitAnswer, CommitQueue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::record::Place;
use weir_runtime::source::{Commit, Event, PartlyRefused};
use weir_runtime::wake::Wake;

/// How long a commit comes again that is refused because of a rebalance. Between generations a classic group takes none:
/// from its answers to JoinGroup until its leader's SyncGroup, which is milliseconds while the members are well.
const REBALANCE_WAIT: Duration = Duration::from_secs(3);

/// The first wait before it comes again; each one is twice as long as the one before.
const AGAIN: Duration = Duration::from_millis(10);

/// The longest of them.
const AGAIN_MAX: Duration = Duration::from_millis(160);

/// Commits that are not past the first part of a value that is not done.
pub(super) fn held(commits: &[Commit], own: &mut HashMap<Place, Own>) -> Vec<Commit> {
    let hold = |commit: &Commit| match own.get_mut(&commit.place).map(|own| &mut own.wholes) {
        Some(wholes) if !wholes.is_empty() => wholes.hold(commit.clone()),
        _ => commit.clone(),
    };
    commits.iter().map(hold).collect()
}

/// Commits as librdkafka takes them.
pub(super) fn list(commits: &[Commit]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for commit in commits {
        let mut element = list.add_partition(&commit.place.topic, commit.place.partition);
        // An offset that we read is one that librdkafka can say.
        let is_set = element.set_offset(Offset::Offset(commit.offset));
        debug_assert!(is_set.is_ok());
        element.set_metadata(&commit.metadata);
    }
    list
}

/// Commits and waits for the answer. What a rebalance under way refuses comes again until it is over; librdkafka gives up
/// at once. Follows Kafka's `ClassicGroup.validateOffsetCommit`: ILLEGAL_GENERATION while the member has not heard of the
/// new generation, REBALANCE_IN_PROGRESS until the leader has dealt the partitions.
pub(super) fn and_wait(
    consumer: &BaseConsumer<Context>,
    mut commits: Vec<Commit>,
    (maps, own): (&mut Maps, &HashMap<Place, Own>),
    wake: &Wake,
    wait_max: Duration,
) -> Result<(), Fault> {
    let began = Instant::now();
    // A queue of its own: librdkafka's own waiting commit has no limit.
    let queue = CommitQueue::new(consumer.client().native_ptr(), wake);
    let mut again = AGAIN;
    loop {
        // librdkafka would send it without a generation, and the group take it if it is empty: over what the next owner
        // has committed before it left.
        if consumer.assignment_lost() {
            return Err(refused(Code::RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST));
        }
        let left = wait_max.saturating_sub(began.elapsed());
        commits.iter_mut().for_each(|commit| maps.fit(commit));
        let answer = match queue.commit(&maps.list(&commits, own), 0) {
            Ok(()) => queue.answer(left),
            Err(code) => Some(CommitAnswer { number: 0, code, places: Vec::new() }),
        };
        let code = answer.as_ref().map_or(Code::RD_KAFKA_RESP_ERR__TIMED_OUT, worst);
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        if maps::is_too_long(code) && maps.refused(&commits) {
            continue;
        }
        if !is_of_a_rebalance(code) || began.elapsed() + again > wait_max.min(REBALANCE_WAIT) {
            return Err(answer.and_then(|answer| partly(&answer, code)).unwrap_or_else(|| refused(code)));
        }
        tracing::debug!(code = ?code, "a rebalance refuses the last commit; it comes again");
        std::thread::sleep(again);
        again = (again * 2).min(AGAIN_MAX);
    }
}

fn refused(code: Code) -> Fault {
    trouble(&KafkaError::ConsumerCommit(code.into()), "commit")
}

/// The fault of a commit that some partitions took.
fn partly(answer: &CommitAnswer, code: Code) -> Option<Fault> {
    let fine = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    let refused = answer.places.iter().filter(|(_, code)| *code != fine);
    let places: Vec<Place> = refused.map(|(place, _)| place.clone()).collect();
    if places.is_empty() || places.len() == answer.places.len() {
        return None;
    }
    let why = KafkaError::ConsumerCommit(code.into()).to_string();
    let fault = Fault::new(FaultKind::Transient, "W-KAFKA-UNREACHABLE", "commit", "");
    Some(fault.caused_by(PartlyRefused { places, why }))
}

/// What stands in the way of it, if anything does.
fn worst(answer: &CommitAnswer) -> Code {
    let codes = std::iter::once(answer.code).chain(answer.places.iter().map(|(_, code)| *code));
    codes.into_iter().find(|code| *code != Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap_or(answer.code)
}

/// Whether the member is asked to wait until the group has dealt its partitions: the group is between two generations,
/// or the member has not heard of the new one.
const fn is_of_a_rebalance(code: Code) -> bool {
    matches!(
        code,
        Code::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
            | Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
            | Code::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH
    )
}

/// What a commit's answer means for each of its partitions.
pub(super) fn on_answer(answer: CommitAnswer, events: &mut Vec<Event>) {
    let is_fine = |code: Code| code == Code::RD_KAFKA_RESP_ERR_NO_ERROR;
    let (fine, refused): (Vec<_>, Vec<_>) =
        answer.places.into_iter().partition(|(_, code)| is_fine(answer.code) && is_fine(*code));
    if let Some((place, code)) = refused.first() {
        let code = if is_fine(answer.code) { *code } else { answer.code };
        let error = KafkaError::ConsumerCommit(code.into());
        let (_, page) = crate::meaning::of(code.into());
        let fault = Fault::new(FaultKind::Transient, page, "commit", place.to_string());
        let places = refused.iter().map(|(place, _)| place.clone()).collect();
        events.push(Event::CommitFailed(places, fault.caused_by(error)));
    }
    if !fine.is_empty() {
        events.push(Event::Committed(fine.into_iter().map(|(place, _)| place).collect()));
    }
}
