//! Why the brokers are not reached: what librdkafka last told, kept for the one who waits.
//!
//! librdkafka answers a question with "timed out" or "transport failure" while it tells the reason (a refused login, a
//! failed handshake, a host without an address) in its error events and log lines only.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_model::{Fault, FaultKind};

/// How long a reason explains what fails: librdkafka tries again at least every ten seconds, ours every two.
const MEMORY: Duration = Duration::from_secs(15);

/// How long the other brokers of `bootstrap` have to answer after the first final refusal by one of them.
const OTHERS_WAIT: Duration = Duration::from_secs(3);

/// What stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    /// The credentials are refused.
    Login,
    /// There is no TLS on the other side, or its certificate is not accepted.
    Tls,
    /// The host has no address.
    Host,
    /// Nobody listens, or the connection ends: heals when the broker is back.
    Away,
}

#[derive(Clone, Debug)]
struct Reason {
    obstacle: Obstacle,
    text: String,
    at: Instant,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<Reason>,
    /// The last one that no waiting heals, and when the first of the present row came.
    last_final: Option<(Reason, Instant)>,
    /// Brokers that refused finally.
    refused: HashSet<String>,
    /// What was said of a damaged batch.
    damage: Option<String>,
}

/// What one client heard.
#[derive(Debug)]
pub(crate) struct Reasons {
    /// How many brokers `bootstrap` names.
    hosts: usize,
    heard: Mutex<Heard>,
}

impl Reasons {
    pub(crate) fn new(bootstrap: &str) -> Self {
        let hosts = bootstrap.split(',').filter(|host| !host.trim().is_empty()).count();
        Self { hosts: hosts.max(1), heard: Mutex::default() }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an error event.
    pub(crate) fn event(&self, code: Code, text: &str) {
        let obstacle = match code {
            code if is_damage(code) => {
                self.heard().damage = Some(text.to_owned());
                return;
            }
            Code::Authentication | Code::SaslAuthenticationFailed => Obstacle::Login,
            Code::SSL => Obstacle::Tls,
            Code::Resolve => Obstacle::Host,
            Code::BrokerTransportFailure => Obstacle::Away,
            _ => return,
        };
        self.keep(obstacle, text);
    }

    /// Takes a log line: clients without error events say the same there.
    pub(crate) fn line(&self, facility: &str, text: &str) {
        if !matches!(facility, "FAIL" | "ERROR") {
            return;
        }
        // `[thrd:NAME]: BROKER: what happened`
        let text = text.split_once("]: ").map_or(text, |(_, rest)| rest);
        let has = |words: &str| text.contains(words);
        let obstacle = if has("Failed to resolve") || has("Host resolution failure") {
            Obstacle::Host
        } else if has("SSL handshake failed") {
            Obstacle::Tls
        } else if has("SASL authentication error") || has("Authentication failure") || has("SASL mechanism") {
            Obstacle::Login
        } else if has("Connect to") || has("isconnected") {
            Obstacle::Away
        } else {
            return;
        };
        self.keep(obstacle, text);
    }

    fn keep(&self, obstacle: Obstacle, text: &str) {
        let at = Instant::now();
        let reason = Reason { obstacle, text: text.to_owned(), at };
        let mut heard = self.heard();
        if obstacle != Obstacle::Away {
            let broker = text.split_once(": ").map_or(text, |(broker, _)| broker);
            let row = heard.last_final.as_ref().filter(|(last, _)| last.at.elapsed() < MEMORY);
            let since = row.map_or(at, |(_, since)| *since);
            heard.refused.insert(broker.to_owned());
            heard.last_final = Some((reason.clone(), since));
        }
        heard.last = Some(reason);
    }

    /// The last reason, as librdkafka said it.
    pub(crate) fn last(&self) -> Option<String> {
        let heard = self.heard();
        heard.last.as_ref().filter(|reason| reason.at.elapsed() < MEMORY).map(|reason| reason.text.clone())
    }

    /// A fault, when no waiting heals what stands in the way: all brokers of `bootstrap` refuse, or one does and no
    /// other answers. A name that cannot be resolved for now only is waited for like an absent broker.
    pub(crate) fn is_final(&self, about: &str) -> Option<Fault> {
        let heard = self.heard();
        let (reason, since) = heard.last_final.as_ref().filter(|(last, _)| last.at.elapsed() < MEMORY)?;
        let have_all = heard.refused.len() >= self.hosts && !reason.text.contains("emporary failure");
        (have_all || since.elapsed() >= OTHERS_WAIT).then(|| refusal(reason, about))
    }

    /// What a question means that failed with this error: the reason that was heard, if the error itself says none.
    pub(crate) fn fault(&self, error: &KafkaError, about: &str) -> Fault {
        self.explain(crate::reader::unreachable(error, about), error.rdkafka_error_code(), about)
    }

    /// Gives a fault that says nothing of the reason the one that was heard.
    pub(crate) fn explain(&self, fault: Fault, code: Option<Code>, about: &str) -> Fault {
        let heard = self.heard();
        if let Some(damage) = heard.damage.as_ref().filter(|_| fault.kind() == FaultKind::Corrupt) {
            return damaged(about, damage);
        }
        if fault.kind() != FaultKind::Transient {
            return fault;
        }
        let fresh = |reason: &&Reason| reason.at.elapsed() < MEMORY;
        if let Some(reason) = heard.last_final.as_ref().map(|(reason, _)| reason).filter(fresh) {
            return refusal(reason, about);
        }
        match heard.last.as_ref().filter(fresh).filter(|_| code.is_some_and(is_silence)) {
            Some(reason) => {
                let cause = fault.cause().map(|cause| format!("{cause}: ")).unwrap_or_default();
                Fault::new(fault.kind(), fault.code(), fault.doing(), about).caused_by(format!(
                    "{cause}{}; fix: start the brokers, or correct the addresses of `bootstrap`",
                    reason.text
                ))
            }
            None => fault,
        }
    }
}

/// Whether an error says only that nobody answered.
const fn is_silence(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
    )
}

/// Whether a batch is not what was written: its checksum, its compression, its version, or the broker's word say so.
/// librdkafka goes on behind some of these batches.
pub(crate) const fn is_damage(code: Code) -> bool {
    matches!(code, Code::BadMessage | Code::BadCompression | Code::NotImplemented | Code::InvalidMessage)
}

/// The fault of a batch that is not what was written.
pub(crate) fn damaged(about: &str, text: &str) -> Fault {
    Fault::new(FaultKind::Corrupt, "W-KAFKA-DAMAGED", "read a batch as it was written", about).caused_by(format!(
        "{text}; fix: restore the partition from another replica, or set the group's offset behind the batch"
    ))
}

fn refusal(reason: &Reason, about: &str) -> Fault {
    let (kind, code, doing, fix) = match reason.obstacle {
        Obstacle::Login => (
            FaultKind::Denied,
            "W-KAFKA-DENIED",
            "log in to Kafka",
            "correct `sasl.mechanism`, `sasl.username` and `sasl.password` of the properties",
        ),
        Obstacle::Tls => (
            FaultKind::Denied,
            "W-KAFKA-DENIED",
            "begin TLS with Kafka",
            "set `security.protocol` to what this port speaks, and `ssl.ca.location` to the authority of its certificate",
        ),
        Obstacle::Host | Obstacle::Away => (
            FaultKind::Transient,
            "W-KAFKA-UNREACHABLE",
            "reach Kafka",
            "correct the addresses of `bootstrap`",
        ),
    };
    Fault::new(kind, code, doing, about).caused_by(format!("{}; fix: {fix}", reason.text))
}

/// Passes a line of librdkafka's log on.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, text: &str) {
    use RDKafkaLogLevel as Level;
    match level {
        // It says ERROR of each connection that ends, also on a clean stop.
        Level::Emerg | Level::Alert | Level::Critical | Level::Error | Level::Warning => {
            tracing::warn!(target: "librdkafka", facility, text);
        }
        Level::Notice | Level::Info => tracing::info!(target: "librdkafka", facility, text),
        Level::Debug => tracing::debug!(target: "librdkafka", facility, text),
    }
}

/// The context of clients that only ask and read: it keeps reasons.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) reasons: Reasons,
}

impl Listener {
    pub(crate) fn new(bootstrap: &str) -> Self {
        Self { reasons: Reasons::new(bootstrap) }
    }
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reasons.line(facility, text);
        log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.reasons.event(code, reason);
        }
        tracing::debug!(%error, reason, "kafka reports an error");
    }
}

impl ConsumerContext for Listener {}

/// A context that keeps reasons.
pub(crate) trait Hears: ConsumerContext {
    fn reasons(&self) -> &Reasons;
}

impl Hears for Listener {
    fn reasons(&self) -> &Reasons {
        &self.reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_every_broker_is_final_and_an_absent_one_is_not() {
        let check = |hosts: &str, events: &[(Code, &str)], expect: Option<(&str, &str)>| {
            let reasons = Reasons::new(hosts);
            events.iter().for_each(|(code, text)| reasons.event(*code, text));
            let fault = reasons.is_final("b");
            assert_eq!(fault.as_ref().map(|fault| (fault.code(), fault.doing())), expect, "{events:?}");
        };
        let login = (Code::Authentication, "sasl://a:1/1: SASL authentication error: no such user");
        let login_too = (Code::Authentication, "sasl://b:1/2: SASL authentication error: no such user");
        let away =
            (Code::BrokerTransportFailure, "a:1/1: Connect to ipv4#1.2.3.4:1 failed: Connection refused");
        let host = (Code::Resolve, "a:1/1: Failed to resolve 'a:1': Name or service not known");
        let later = (Code::Resolve, "a:1/1: Failed to resolve 'a:1': Temporary failure in name resolution");
        let tls = (Code::SSL, "ssl://a:1/1: SSL handshake failed: wrong version number");
        let is_denied = Some(("W-KAFKA-DENIED", "log in to Kafka"));
        check("a:1", &[login], is_denied);
        check("a:1", &[login, away], is_denied);
        check("a:1,b:1", &[login, login], None);
        check("a:1,b:1", &[login, login_too], is_denied);
        check("a:1", &[away], None);
        check("a:1", &[host], Some(("W-KAFKA-UNREACHABLE", "reach Kafka")));
        check("a:1", &[later], None);
        check("a:1", &[tls], Some(("W-KAFKA-DENIED", "begin TLS with Kafka")));
    }

    #[test]
    fn a_log_line_says_the_same_as_an_event() {
        let check = |text: &str, expect: Option<&str>| {
            let reasons = Reasons::new("a:1");
            reasons.line("FAIL", text);
            let fault = reasons.fault(&KafkaError::MetadataFetch(Code::BrokerTransportFailure), "b");
            assert_eq!(reasons.last().as_deref(), expect);
            expect.inspect(|text| assert!(fault.to_string().contains(text), "{fault}"));
        };
        check(
            "[thrd:a:1/1]: a:1/1: Connect to a failed: refused",
            Some("a:1/1: Connect to a failed: refused"),
        );
        check("[thrd:a:1/1]: a:1/1: Failed to resolve 'a:1'", Some("a:1/1: Failed to resolve 'a:1'"));
        check("[thrd:main]: something else", None);
    }
}
