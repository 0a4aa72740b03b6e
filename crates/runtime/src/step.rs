//! One attempt, or the writing of one dead letter, as a future; a panic in it is an outcome.

use crate::ending;
use crate::log::Job;
use crate::mailbox::Work;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::task::Task;
use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use weir_model::Fault;

/// A place for a handler's future on the heap, used again and again.
pub(crate) type Room<F> = Pin<Box<Option<F>>>;

/// What a handler of runs has to say.
pub(crate) type RunJob = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send>>;

enum Doing<F> {
    Handle(Room<F>),
    /// The step's task is the first of a run; these are the others.
    Run(RunJob, Vec<Work>),
    Bury(Job<'static, ()>),
}

/// What is among the running.
pub(crate) struct Step<F> {
    assignment: u64,
    lane: u64,
    task: Option<Task>,
    doing: Option<Doing<F>>,
    has_permit: bool,
}

/// How it ended.
pub(crate) enum End {
    Outcome(Outcome),
    /// Of a run, and the records behind its first.
    Run(Vec<Outcome>, Vec<Work>),
    Buried(Result<(), Fault>),
}

impl End {
    /// What is done of it, as far as it is that from the beginning.
    pub(crate) fn done(self) -> Option<Self> {
        match self {
            Self::Outcome(outcome) => outcome.is_done().then_some(Self::Outcome(outcome)),
            Self::Buried(result) => result.is_ok().then_some(Self::Buried(result)),
            Self::Run(mut outcomes, rest) => {
                let count = outcomes.iter().take_while(|outcome| outcome.is_done()).count();
                outcomes.truncate(count);
                (count > 0).then_some(Self::Run(outcomes, rest))
            }
        }
    }
}

pub(crate) struct Ended<F> {
    pub(crate) assignment: u64,
    pub(crate) lane: u64,
    pub(crate) task: Task,
    pub(crate) end: End,
    /// Whether it had one of the consumer's permits.
    pub(crate) has_permit: bool,
    /// An empty place to use again.
    pub(crate) room: Option<Room<F>>,
}

/// Makes a handler's future and polls it once: its end and the room, or the room with the future in it.
pub(crate) fn start<M, F>(
    mut room: Room<F>,
    make: &M,
    record: Record,
    context: &mut Context<'_>,
) -> Result<(End, Option<Room<F>>), Room<F>>
where
    M: Fn(Record) -> F,
    F: Future<Output = Outcome>,
{
    let made = catch_unwind(AssertUnwindSafe(|| {
        room.as_mut().set(Some(make(record)));
        poll(&mut room, context)
    }));
    match made {
        Ok(Poll::Pending) => Err(room),
        Ok(Poll::Ready(outcome)) => Ok((End::Outcome(outcome), Some(room))),
        Err(panic) => {
            drop_quietly(room);
            Ok((End::Outcome(panicked(&*panic)), None))
        }
    }
}

/// Drops what others wrote; a panic in that has nobody left to tell.
fn drop_quietly<T>(value: T) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(panic = ending::panic_text(&*panic), "a future panicked while it was dropped");
    }
}

/// Polls the future of a room and empties it at its end.
fn poll<F: Future<Output = Outcome>>(room: &mut Room<F>, context: &mut Context<'_>) -> Poll<Outcome> {
    let polled = room.as_mut().as_pin_mut().expect("a room that is polled has a future").poll(context);
    if polled.is_ready() {
        room.as_mut().set(None);
    }
    polled
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    Outcome::failed(format!("the handler panicked: {}", ending::panic_text(panic)))
}

impl<F> Step<F> {
    pub(crate) fn handle(assignment: u64, lane: u64, task: Task, room: Room<F>) -> Self {
        Self { assignment, lane, task: Some(task), doing: Some(Doing::Handle(room)), has_permit: false }
    }

    /// A dead letter that `write` begins to write.
    pub(crate) fn bury(
        assignment: u64,
        lane: u64,
        task: Task,
        write: impl FnOnce(&Task) -> Job<'static, ()>,
    ) -> Self {
        let job = ending::guarded(|| write(&task));
        Self { assignment, lane, task: Some(task), doing: Some(Doing::Bury(job)), has_permit: false }
    }

    /// A run of one key, which is settled as a whole.
    pub(crate) fn run(assignment: u64, lane: u64, first: Task, rest: Vec<Work>, job: RunJob) -> Self {
        Self { assignment, lane, task: Some(first), doing: Some(Doing::Run(job, rest)), has_permit: false }
    }

    /// The same with one of the consumer's permits, or without.
    pub(crate) const fn with_permit(mut self, has_permit: bool) -> Self {
        self.has_permit = has_permit;
        self
    }

    pub(crate) const fn has_permit(&self) -> bool {
        self.has_permit
    }

    /// Tells whoever has its records' bytes that it takes them for longer.
    pub(crate) fn held(&self) {
        let rest = match &self.doing {
            Some(Doing::Run(_, rest)) => &rest[..],
            _ => &[],
        };
        self.task.iter().map(|task| &task.work).chain(rest).for_each(|work| work.record.body.held());
    }

    pub(crate) const fn assignment(&self) -> u64 {
        self.assignment
    }
}

impl<F> Drop for Step<F> {
    fn drop(&mut self) {
        if let Some(doing) = self.doing.take() {
            drop_quietly(doing);
        }
    }
}

impl<F: Future<Output = Outcome>> Future for Step<F> {
    type Output = Ended<F>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended<F>> {
        let (end, is_room_whole) = match self.doing.as_mut().expect("a step is not polled after its end") {
            Doing::Handle(room) => match catch_unwind(AssertUnwindSafe(|| poll(room, context))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(outcome)) => (End::Outcome(outcome), true),
                Err(panic) => (End::Outcome(panicked(&*panic)), false),
            },
            Doing::Bury(job) => match job.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(wrote) => (End::Buried(wrote), false),
            },
            Doing::Run(job, rest) => match catch_unwind(AssertUnwindSafe(|| job.as_mut().poll(context))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(outcomes)) => (End::Run(outcomes, std::mem::take(rest)), false),
                Err(panic) => (End::Run(vec![panicked(&*panic)], std::mem::take(rest)), false),
            },
        };
        let room = match self.doing.take() {
            Some(Doing::Handle(room)) if is_room_whole => Some(room),
            doing => {
                drop_quietly(doing);
                None
            }
        };
        let task = self.task.take().expect("a step is not polled after its end");
        let Self { assignment, lane, has_permit, .. } = *self;
        Poll::Ready(Ended { assignment, lane, task, end, has_permit, room })
    }
}
