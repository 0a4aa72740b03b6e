//! Commits: how they are said to librdkafka, what their answers mean, and the last one of a partition, which is waited
//! for.

use super::{Context, trouble};
use crate::ffi::consumer::{CommitAnswer, CommitQueue};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys::rd_kafka_resp_err_t as Code;
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};
use weir_runtime::source::{Commit, Event};
use weir_runtime::wake::Wake;

/// How long a commit comes again that is refused because of a rebalance. Between generations a classic group takes none:
/// from its answers to JoinGroup until its leader's SyncGroup, which is milliseconds while the members are well.
const REBALANCE_WAIT: Duration = Duration::from_secs(3);

/// The first wait before it comes again; each one is twice as long as the one before.
const AGAIN: Duration = Duration::from_millis(10);

/// The longest of them.
const AGAIN_MAX: Duration = Duration::from_millis(160);

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
    list: &TopicPartitionList,
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
        let code = match queue.commit(list, 0) {
            Ok(()) => queue.answer(left).map_or(Code::RD_KAFKA_RESP_ERR__TIMED_OUT, |answer| worst(&answer)),
            Err(code) => code,
        };
        if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        if !is_of_a_rebalance(code) || began.elapsed() + again > wait_max.min(REBALANCE_WAIT) {
            return Err(refused(code));
        }
        tracing::debug!(code = ?code, "a rebalance refuses the last commit; it comes again");
        std::thread::sleep(again);
        again = (again * 2).min(AGAIN_MAX);
    }
}

fn refused(code: Code) -> Fault {
    trouble(&KafkaError::ConsumerCommit(code.into()), "commit")
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
