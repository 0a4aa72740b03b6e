//! Lanes that wait for a permit: `Consumer::concurrency` attempts are under way already.

use super::{BEGUN_PER_LOOK, Head, Lane, Shard};
use crate::mailbox::Work;
#[cfg(test)]
use crate::mutant::{self, Mutant};
use crate::outcome::Outcome;
use crate::record::Record;
use crate::task::Task;
use std::collections::VecDeque;
use std::future::Future;
use std::task::Context;
use tokio::time::Instant;

impl<M, F> Shard<M, F>
where
    M: Fn(Record) -> F,
    F: Future<Output = Outcome>,
{
    /// Whether an attempt may begin now; not while others wait for a permit.
    pub(super) fn may_begin(&mut self, context: &Context<'_>) -> bool {
        #[cfg(test)]
        if mutant::is(Mutant::IgnoresConcurrency) {
            return true;
        }
        let Some(permits) = &mut self.permits else { return true };
        self.ready.is_empty() && permits.has_spare(context.waker())
    }

    /// The permit of an attempt that is pending; whether it needs one.
    pub(super) fn take_permit(&mut self) -> bool {
        self.permits.as_mut().is_some_and(|permits| permits.take_spare())
    }

    /// A new lane whose first record waits for a permit.
    pub(super) fn make_ready(&mut self, assignment: u64, work: Work) {
        let number = work.lane;
        let lane = Lane { assignment, head: Head::Ready(None), queue: VecDeque::from([work]) };
        self.lanes.insert(number, lane);
        self.ready.push_back(number);
    }

    /// Begins the next record of a lane; what holds the lane when that does not end it at once.
    pub(super) fn begin_next(
        &mut self,
        assignment: u64,
        number: u64,
        context: &mut Context<'_>,
    ) -> Option<Head> {
        let work = self.lanes.get_mut(&number)?.queue.pop_front()?;
        if self.is_plain() {
            self.attempt(assignment, Task::new(work, self.stopwatch.now()), context)
        } else {
            self.begin(assignment, work, context)
        }
    }

    /// Begins what waits for a permit, oldest first, as far as permits and the turn's time go. Whether the time was
    /// too short.
    pub(super) fn begin_ready(&mut self, context: &mut Context<'_>) -> bool {
        let mut begun = 0;
        while !self.ready.is_empty()
            && self.permits.as_mut().is_none_or(|permits| permits.has_spare(context.waker()))
        {
            if begun == BEGUN_PER_LOOK {
                if Instant::now() >= self.begin_until {
                    return true;
                }
                begun = 0;
            }
            begun += 1;
            let Some(number) = self.ready.pop_front() else { break };
            let Some(lane) = self.lanes.get_mut(&number) else { continue };
            let Head::Ready(task) = &mut lane.head else { continue };
            let (task, assignment) = (task.take(), lane.assignment);
            lane.head = Head::Running;
            let head = match task {
                Some(task) => self.attempt(assignment, *task, context),
                None => self.begin_next(assignment, number, context),
            };
            self.go_on(assignment, number, head, context);
        }
        false
    }

    /// Forgets lanes that are gone with their assignment.
    pub(super) fn forget_ready(&mut self) {
        let lanes = &self.lanes;
        self.ready.retain(|number| lanes.contains_key(number));
    }
}
