//! Asks for a group's commits on a thread of its own: the question waits for the coordinator, for seconds when that is
//! gone, and the poller must not.
//!
//! Not by librdkafka's admin call, which needs no thread: when the coordinator dies at the wrong moment it never answers,
//! and ends the process with an assertion when the client is closed (seen with 2.12.1).

use super::{Context, list_of};
use crate::ffi::committed::{Committed, read};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use weir_runtime::record::Place;
use weir_runtime::wake::Wake;

/// An answer, in the order of the questions.
type Answer = Result<Vec<Committed>, Code>;

/// Whoever asks.
pub(super) struct GroupCommits {
    questions: SyncSender<(Vec<Place>, Duration)>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

impl GroupCommits {
    pub(super) fn start(consumer: Arc<BaseConsumer<Context>>, wake: &Wake) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel::<(Vec<Place>, Duration)>(1);
        let (answer, answers) = sync_channel(1);
        let wake = wake.clone();
        let thread = std::thread::Builder::new().name("weir-commits".to_owned()).spawn(move || {
            for (places, wait_max) in asked {
                let found = consumer.committed_offsets(list_of(&places), wait_max);
                let found = found
                    .map(|list| read(&list))
                    .map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Fail));
                // Nobody listens any more when the source is closed.
                if answer.send(found).is_err() {
                    return;
                }
                wake.wake();
            }
        })?;
        Ok(Self { questions, answers, thread })
    }

    /// Asks, one question at a time; the answer comes within this time.
    pub(super) fn ask(&self, places: &[Place], wait_max: Duration) {
        // There is room for it: the one before was answered.
        let _ = self.questions.try_send((places.to_vec(), wait_max));
    }

    /// The answer to the oldest question, if it comes in time; 0 does not wait.
    pub(super) fn answer(&self, wait_max: Duration) -> Option<Answer> {
        self.answers.recv_timeout(wait_max).ok()
    }

    /// Asks no more; the thread ends with the question under way.
    pub(super) fn end(self) -> JoinHandle<()> {
        self.thread
    }
}
