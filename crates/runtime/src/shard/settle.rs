//! What follows an attempt: done, another one, a dead letter, parked.

use super::{Head, Shard};
use crate::assignment::Trouble;
use crate::dead_letter::{self, Told};
use crate::deadline;
use crate::mailbox::Work;
#[cfg(test)]
use crate::mutant::{self, Mutant};
use crate::outcome::Outcome;
use crate::record::Record;
use crate::retry::{Exhausted, RetryPolicy, WAIT_MIN};
use crate::step::End;
use crate::stopwatch::Stage;
use crate::task::{Errand, Task};
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::future::Future;
use tokio::time::Instant;
use weir_model::{Fault, FaultKind};

impl<M, F> Shard<M, F>
where
    M: Fn(Record) -> F,
    F: Future<Output = Outcome>,
{
    /// Does what the end of an attempt asks for; what the lane is held by, if it is.
    pub(super) fn settle(&mut self, assignment: u64, mut task: Task, end: End) -> Option<Head> {
        #[cfg(test)]
        let end = match end {
            End::Outcome(Outcome::Failed(_)) if mutant::is(Mutant::ErrorIsDone) => {
                End::Outcome(Outcome::Done)
            }
            End::Buried(Err(_)) if mutant::is(Mutant::LetterIsNotDurable) => End::Buried(Ok(())),
            end => end,
        };
        let (wait, reason) = match end {
            End::Outcome(Outcome::Done) => {
                self.counts.done += 1;
                return self.finish(assignment, task);
            }
            End::Outcome(Outcome::Skip(_)) => {
                self.counts.skipped += 1;
                return self.finish(assignment, task);
            }
            End::Buried(Ok(())) => {
                match task.errand() {
                    Some(Errand::Requeue(_)) => self.counts.requeued += 1,
                    _ => self.counts.dead_letters += 1,
                }
                return self.finish(assignment, task);
            }
            End::Run(outcomes, rest) => return self.settle_run(assignment, task, outcomes, rest),
            End::Buried(Err(fault)) => return Some(self.write_again(assignment, task, &fault)),
            End::Outcome(Outcome::DeadLetter(reason)) => {
                return Some(self.give_up(assignment, task, reason, self.terms.dead_letters.is_some()));
            }
            End::Outcome(Outcome::Retry(after)) => {
                (after, Cow::Borrowed("the handler asked for another attempt"))
            }
            End::Outcome(Outcome::RetryWith(value, after)) => {
                task.work.record = task.work.record.with_value(Some(value));
                (after, Cow::Borrowed("the handler asked for another attempt with another value"))
            }
            End::Outcome(Outcome::Failed(reason)) => {
                self.counts.failed += 1;
                if let Some(local) = self.assignments.get(&assignment) {
                    local.shared.attempt_failed();
                }
                (None, reason)
            }
        };
        let now = Instant::now();
        let since = task.failed(now);
        let attempt = task.work.record.attempt;
        if self.terms.retry.is_exhausted(attempt, now - since) {
            let to_dead_letters = self.terms.retry.exhausted == Exhausted::DeadLetter;
            return Some(self.give_up(assignment, task, reason, to_dead_letters));
        }
        self.note(assignment, &task, now, &reason, false);
        let wait = wait.unwrap_or_else(|| self.terms.retry.wait(attempt, &mut self.chance)).max(WAIT_MIN);
        self.stopwatch.took(Stage::RetryWait, wait);
        if let Some(topic) = self.terms.retry_topic.as_ref().filter(|topic| topic.writes()) {
            task.set_errand(Errand::Requeue(topic.due_ms(wait)));
            return Some(self.wait(task, now));
        }
        task.work.record.attempt = attempt.saturating_add(1);
        self.counts.retried += 1;
        Some(self.wait(task, deadline::after(now, wait)))
    }

    /// Settles a run up to its first record that is not done. What is behind that waits in the lane again.
    fn settle_run(
        &mut self,
        assignment: u64,
        first: Task,
        outcomes: Vec<Outcome>,
        rest: Vec<Work>,
    ) -> Option<Head> {
        let number = first.work.lane;
        let mut outcomes = outcomes.into_iter().take(rest.len() + 1);
        let outcome = outcomes.next();
        let outcome = outcome.unwrap_or_else(|| Outcome::failed("its handler gave a run no outcome"));
        let mut head = self.settle(assignment, first, End::Outcome(outcome));
        let mut rest = VecDeque::from(rest);
        while head.is_none()
            && let Some(outcome) = outcomes.next()
            && let Some(work) = rest.pop_front()
        {
            head = self.settle(assignment, Task::new(work, self.stopwatch.now()), End::Outcome(outcome));
        }
        self.counts.repeated += outcomes.len() as u64;
        if let Some(lane) = self.lanes.get_mut(&number) {
            rest.append(&mut lane.queue);
            lane.queue = rest;
        }
        head
    }

    fn finish(&self, assignment: u64, task: Task) -> Option<Head> {
        if task.since().is_some()
            && let Some(local) = self.assignments.get(&assignment)
        {
            local.shared.trouble_is_over(task.work.record.offset);
        }
        self.stopwatch.since(Stage::Completion, task.work.received);
        task.work.slot.finish();
        None
    }

    pub(super) fn wait(&mut self, task: Task, until: Instant) -> Head {
        task.work.record.body.held();
        self.timer_last += 1;
        #[cfg(test)]
        if mutant::is(Mutant::ForgetsATimer) && task.work.record.attempt == 3 {
            return Head::Waiting(self.timer_last, Box::new(task));
        }
        // Not a dead letter: refused and tried again at once, it would hold the clock of the simulator.
        #[cfg(test)]
        let until = match task.errand() {
            None if mutant::is(Mutant::ComesEarly) => Instant::now(),
            _ => until,
        };
        self.timers.push(Reverse((until, self.timer_last, task.work.lane)));
        Head::Waiting(self.timer_last, Box::new(task))
    }

    /// No further attempt: dead letter, park or stop.
    pub(super) fn give_up(
        &mut self,
        assignment: u64,
        mut task: Task,
        reason: Cow<'static, str>,
        to_dead_letters: bool,
    ) -> Head {
        let now = Instant::now();
        task.failed(now);
        let is_parked = !to_dead_letters && self.terms.retry.exhausted != Exhausted::Stop;
        self.note(assignment, &task, now, &reason, is_parked);
        if to_dead_letters {
            task.set_errand(Errand::Bury(reason, Told::All));
            // At once, by the timer: the lane's head is written like any other attempt.
            return self.wait(task, now);
        }
        let record = &task.work.record;
        let about = format!(
            "{}/{}/{} after {} attempts",
            record.topic, record.partition, record.offset, record.attempt
        );
        if self.terms.retry.exhausted == Exhausted::Stop {
            let fault = Fault::new(FaultKind::Rejected, "W-RUNTIME-GIVEN-UP", "handle a record", about);
            (self.terms.stop)(fault.caused_by(reason.into_owned()));
        } else {
            tracing::error!(place = %about, %reason, "a record is parked: its key and its commit wait for a restart");
        }
        task.work.record.body.held();
        self.counts.parked += 1;
        Head::Parked(Box::new(task))
    }

    fn write_again(&mut self, assignment: u64, mut task: Task, fault: &Fault) -> Head {
        let now = Instant::now();
        let what = if let Some(Errand::Requeue(_)) = task.errand() {
            self.counts.requeues_failed += 1;
            "its next attempt"
        } else {
            self.counts.dead_letters_failed += 1;
            "its dead letter"
        };
        let reason = format!("{what} is not written: {}", fault.chain());
        if fault.kind() == FaultKind::Rejected {
            return self.refused(assignment, task, now, reason);
        }
        tracing::warn!(error = %fault.chain(), "{what} is not written yet; the record stays pending");
        self.note(assignment, &task, now, &reason, false);
        let wait = RetryPolicy::default().wait(task.errand_failed(), &mut self.chance);
        self.wait(task, deadline::after(now, wait))
    }

    /// The log can never take what was to be written. A dead letter is tried with fewer headers of ours, and then its
    /// record is parked; what the retry topic does not take is tried again in place.
    fn refused(&mut self, assignment: u64, mut task: Task, now: Instant, reason: String) -> Head {
        match task.take_errand() {
            Some(Errand::Bury(cause, told)) if told.shorter().is_some() => {
                let told = told.shorter().unwrap_or(Told::Nothing);
                let place = dead_letter::place(&task.work.record);
                tracing::warn!(%place, %cause, reason, "a dead letter is written again with fewer headers");
                task.set_errand(Errand::Bury(cause, told));
                self.note(assignment, &task, now, &reason, false);
                self.wait(task, now)
            }
            Some(Errand::Requeue(_)) => {
                let attempt = task.work.record.attempt;
                tracing::warn!(
                    reason,
                    "the retry topic does not take the record: it is tried again in place"
                );
                self.note(assignment, &task, now, &reason, false);
                task.work.record.attempt = attempt.saturating_add(1);
                self.counts.retried += 1;
                let wait = self.terms.retry.wait(attempt, &mut self.chance).max(WAIT_MIN);
                self.wait(task, deadline::after(now, wait))
            }
            Some(Errand::Bury(..)) | None => {
                let place = dead_letter::place(&task.work.record);
                tracing::error!(%place, reason, "a record is parked: its key and its commit wait for a restart");
                self.note(assignment, &task, now, &reason, true);
                task.work.record.body.held();
                self.counts.parked += 1;
                Head::Parked(Box::new(task))
            }
        }
    }

    fn note(&self, assignment: u64, task: &Task, now: Instant, reason: &str, is_parked: bool) {
        #[cfg(test)]
        if mutant::is(Mutant::SaysNothing) {
            return;
        }
        if let Some(local) = self.assignments.get(&assignment) {
            let record = &task.work.record;
            let trouble = Trouble {
                attempt: record.attempt,
                since: task.since().unwrap_or(now),
                reason: reason.to_owned(),
                is_parked,
            };
            local.shared.trouble(record.offset, trouble);
        }
    }
}
