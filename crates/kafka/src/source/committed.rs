//! Asks the brokers on a thread of its own: a question for the group's commits waits for the coordinator, for seconds when
//! that is gone, and the poller must not.
//!
//! Not by librdkafka's admin call, which needs no thread: when the coordinator dies at the wrong moment it never answers,
//! and ends the process with an assertion when the client is closed (seen with 2.12.1).

use super::positions::{self, Asker, Found, Recreated};
use super::{Context, StartAt, list_of};
use crate::ffi::committed::{Committed, read};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::RDKafkaErrorCode as Code;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use weir_runtime::record::Place;
use weir_runtime::wake::Wake;

/// Questions that may stand in line. There are two at most: one whose answer was not waited for, and the one after it.
const QUESTIONS_MAX: usize = 4;

/// What may be asked.
enum Question {
    /// What the group has committed.
    Commits(Vec<Place>),
    /// Where partitions that were assigned are to be read from.
    Starts(Vec<Place>),
    /// Whether the topics of partitions are still those of these ids.
    Same(Vec<(Place, [u8; 8])>),
}

/// Answers, in the order of the questions.
pub(super) enum Answer {
    Commits(Result<Vec<Committed>, Code>),
    Starts(Result<Vec<Found>, Code>),
    Same(Result<Vec<Recreated>, Code>),
}

/// What asks.
pub(super) struct GroupCommits {
    questions: SyncSender<(Question, Duration)>,
    answers: Receiver<Answer>,
    thread: JoinHandle<()>,
}

impl GroupCommits {
    /// Starts the thread; it begins by looking at the topics, so that what is added to them later is known to be new.
    pub(super) fn start(
        consumer: Arc<BaseConsumer<Context>>,
        wake: &Wake,
        topics: &[String],
        start_at: StartAt,
    ) -> std::io::Result<Self> {
        let (questions, asked) = sync_channel::<(Question, Duration)>(QUESTIONS_MAX);
        let (answer, answers) = sync_channel(QUESTIONS_MAX);
        let (wake, topics) = (wake.clone(), topics.to_vec());
        let thread = std::thread::Builder::new().name("weir-commits".to_owned()).spawn(move || {
            let mut asker = Asker::new(&consumer, start_at);
            asker.look(&topics);
            for (question, wait_max) in asked {
                let found = match question {
                    Question::Commits(places) => Answer::Commits(commits(&consumer, &places, wait_max)),
                    Question::Starts(places) => Answer::Starts(asker.starts(&places, wait_max)),
                    Question::Same(known) => Answer::Same(asker.recreated(&known, wait_max)),
                };
                // Nobody listens any more when the source is closed.
                if answer.send(found).is_err() {
                    return;
                }
                wake.wake();
            }
        })?;
        Ok(Self { questions, answers, thread })
    }

    /// Asks for commits; the answer comes within about this time.
    pub(super) fn ask(&self, places: &[Place], wait_max: Duration) {
        self.put(Question::Commits(places.to_vec()), wait_max);
    }

    /// Asks where partitions begin.
    pub(super) fn ask_starts(&self, places: &[Place], wait_max: Duration) {
        self.put(Question::Starts(places.to_vec()), wait_max);
    }

    /// Asks which topics were deleted and created again since these ids were read.
    pub(super) fn ask_same(&self, known: Vec<(Place, [u8; 8])>, wait_max: Duration) {
        self.put(Question::Same(known), wait_max);
    }

    fn put(&self, question: Question, wait_max: Duration) {
        // There is room for it.
        let _ = self.questions.try_send((question, wait_max));
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

/// What the group has committed of these partitions.
pub(super) fn commits(
    consumer: &BaseConsumer<Context>,
    places: &[Place],
    wait_max: Duration,
) -> Result<Vec<Committed>, Code> {
    let found = consumer.committed_offsets(list_of(places), wait_max);
    found.map(|list| read(&list)).map_err(positions::code_of)
}
