//! What an error code of Kafka or of librdkafka means: its kind, its page, and what to do about it.
//!
//! The one place that decides it, for producers, consumers and questions alike. Only what waiting heals is called
//! unreachable. A code that is not listed is named as it is, as a refusal.

use rdkafka::types::RDKafkaErrorCode as Code;
use weir_model::{Fault, FaultKind};

/// Page of a broker that cannot be reached or cannot serve now.
pub(crate) const UNREACHABLE: &str = "W-KAFKA-UNREACHABLE";
/// Page of a missing topic.
pub(crate) const TOPIC: &str = "W-KAFKA-TOPIC";
/// Page of missing rights and wrong credentials.
pub(crate) const DENIED: &str = "W-KAFKA-DENIED";
/// Page of a record that is never taken.
pub(crate) const REJECTED: &str = "W-KAFKA-REJECTED";
/// Page of everything else that a broker refuses.
pub(crate) const REFUSED: &str = "W-KAFKA-REFUSED";

/// The fault of a code.
pub(crate) fn fault(code: Code, doing: &'static str, about: &str) -> Fault {
    let (kind, page) = of(code);
    let by = match page {
        REFUSED if code as i32 >= Code::Unknown as i32 => "refused by the broker: ",
        REFUSED => "refused by the Kafka client: ",
        _ => "",
    };
    Fault::new(kind, page, doing, about).caused_by(format!("{by}{code}{}", fix(code)))
}

/// Kind and page of a code.
pub(crate) const fn of(code: Code) -> (FaultKind, &'static str) {
    if is_denied(code) {
        return (FaultKind::Denied, DENIED);
    }
    if is_transient_here(code) || is_transient_there(code) {
        return (FaultKind::Transient, UNREACHABLE);
    }
    match code {
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicId
        | Code::InvalidTopic => (FaultKind::Config, TOPIC),
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::MessageBatchTooLarge
        | Code::InvalidRecord
        | Code::InvalidDifferentRecord
        | Code::InvalidTimestamp
        | Code::OffsetMetadataTooLarge
        | Code::InvalidCommitOffsetSize => (FaultKind::Rejected, REJECTED),
        Code::QueueFull => (FaultKind::Overloaded, UNREACHABLE),
        Code::ThrottlingQuotaExceeded => (FaultKind::Overloaded, REFUSED),
        Code::UnsupportedForMessageFormat
        | Code::PolicyViolation
        | Code::InvalidRequiredAcks
        | Code::UnsupportedCompressionType
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::InvalidRequest
        | Code::InvalidArgument
        | Code::InvalidConfig
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidReplicaAssignment
        | Code::InvalidTransactionTimeout
        | Code::InvalidGroupId
        | Code::InvalidSessionTimeout
        | Code::InconsistentGroupProtocol
        | Code::GroupMaxSizeReached => (FaultKind::Config, REFUSED),
        // A code of a later broker, or one that no call of ours should meet: it may pass or not.
        _ => (FaultKind::Transient, REFUSED),
    }
}

/// What to do about a code, as the end of its text.
const fn fix(code: Code) -> &'static str {
    match code {
        Code::InvalidTimestamp => {
            "; fix: raise the topic's message.timestamp.before.max.ms and message.timestamp.after.max.ms, and compare the clocks of this machine and the brokers"
        }
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            "; fix: raise the topic's max.message.bytes"
        }
        Code::InvalidRecord => {
            "; a topic with cleanup.policy=compact takes no record without a key, and message.timestamp.before.max.ms and message.timestamp.after.max.ms bound timestamps"
        }
        Code::PolicyViolation => "; fix: ask the operator of the brokers for the policy that they enforce",
        Code::UnsupportedCompressionType => "; fix: choose a compression that the brokers take",
        Code::UnsupportedForMessageFormat => "; fix: raise the topic's message.format.version",
        _ => "",
    }
}

/// Whether rights or credentials are missing.
pub(crate) const fn is_denied(code: Code) -> bool {
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::Authentication
            | Code::SSL
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SecurityDisabled
            | Code::PrincipalDeserializationFailure
            | Code::UnacceptableCredential
    )
}

/// Whether librdkafka says this of itself and the same act may succeed later, with nothing changed by an operator.
const fn is_transient_here(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerDestroy
            | Code::BrokerTransportFailure
            | Code::Resolve
            | Code::MessageTimedOut
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::ISRInsufficient
            | Code::NodeUpdate
            | Code::WaitingForCoordinator
            | Code::WaitCache
            | Code::InProgress
            | Code::PreviousInProgress
            | Code::Interrupted
            | Code::Outdated
            | Code::Retry
            | Code::State
            | Code::PurgeQueue
            | Code::PurgeInflight
            | Code::Fatal
            | Code::Inconsistent
            | Code::GaplessGuarantee
            | Code::UnknownBroker
            | Code::DestroyBroker
            | Code::AssignmentLost
    )
}

/// Whether a broker says this and the same act may succeed later, with nothing changed by an operator.
const fn is_transient_there(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidMessage
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::StaleControllerEpoch
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::NotController
            | Code::OutOfOrderSequenceNumber
            | Code::DuplicateSequenceNumber
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::UnknownProducerId
            | Code::ConcurrentTransactions
            | Code::OperationNotAttempted
            | Code::KafkaStorageError
            | Code::ReassignmentInProgress
            | Code::FetchSessionIdNotFound
            | Code::InvalidFetchSessionEpoch
            | Code::ListenerNotFound
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::StaleBrokerEpoch
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::EligibleLeadersNotAvailable
            | Code::UnstableOffsetCommit
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waiting_heals_is_called_unreachable_and_the_rest_is_named() {
        let check = |code: Code, expect: (FaultKind, &str)| {
            let fault = fault(code, "write to Kafka", "t");
            assert_eq!((fault.kind(), fault.code()), expect, "{code}");
            assert!(fault.chain().contains(&code.to_string()), "{}", fault.chain());
        };
        check(Code::BrokerTransportFailure, (FaultKind::Transient, UNREACHABLE));
        check(Code::NotEnoughReplicas, (FaultKind::Transient, UNREACHABLE));
        check(Code::UnknownTopicOrPartition, (FaultKind::Config, TOPIC));
        check(Code::InvalidTopic, (FaultKind::Config, TOPIC));
        check(Code::TopicAuthorizationFailed, (FaultKind::Denied, DENIED));
        check(Code::UnsupportedSASLMechanism, (FaultKind::Denied, DENIED));
        check(Code::InvalidTimestamp, (FaultKind::Rejected, REJECTED));
        check(Code::MessageSizeTooLarge, (FaultKind::Rejected, REJECTED));
        check(Code::InvalidRecord, (FaultKind::Rejected, REJECTED));
        check(Code::PolicyViolation, (FaultKind::Config, REFUSED));
        check(Code::UnsupportedForMessageFormat, (FaultKind::Config, REFUSED));
        check(Code::InvalidRequiredAcks, (FaultKind::Config, REFUSED));
        check(Code::Unknown, (FaultKind::Transient, REFUSED));
        check(Code::ElectionNotNeeded, (FaultKind::Transient, REFUSED));
        assert!(fault(Code::Unknown, "x", "t").chain().contains("refused by the broker: "));
        assert!(fault(Code::FileSystem, "x", "t").chain().contains("refused by the Kafka client: "));
    }
}
