//! What a record goes through before its first attempt when there is a quota, a retry topic, or runs of one key.

use super::{Head, Lane, Shard};
use crate::deadline;
use crate::mailbox::Work;
use crate::outcome::Outcome;
use crate::quota::{Accounts, OverQuota, Quota};
use crate::record::Record;
use crate::shaping::Target;
use crate::step::Step;
use crate::task::Task;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;
use tokio::time::Instant;

impl<M, F> Shard<M, F>
where
    M: Fn(Record) -> F,
    F: Future<Output = Outcome>,
{
    /// As [`Shard::arrive`] with a quota, runs or a retry topic. Apart, because a record is copied for each further call that
    /// it is given to, which is a tenth of what it costs.
    pub(super) fn arrive_by_the_rules(&mut self, assignment: u64, work: Work, context: &mut Context<'_>) {
        if let Some(target) = self.outlet(assignment, &work) {
            if let Some(local) = self.assignments.get(&assignment) {
                self.aside.add(&local.shared, work, target);
            }
            return;
        }
        let number = work.lane;
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.queue.push_back(work);
            self.stopwatch.lane_grew(lane.queue.len());
        } else if self.runs.is_some() {
            let queue = VecDeque::from([work]);
            self.lanes.insert(number, Lane { assignment, head: Head::Running, queue });
            self.fresh.push(number);
        } else if !self.may_begin(context) {
            self.make_ready(assignment, work);
        } else if let Some(head) = self.begin(assignment, work, context) {
            self.lanes.insert(number, Lane { assignment, head, queue: VecDeque::new() });
        }
    }

    /// Where a record goes that is over its key's quota; `None` for all others, and for those that may be handled later.
    fn outlet(&mut self, assignment: u64, work: &Work) -> Option<Arc<Target>> {
        let accounts = self.accounts.as_mut()?;
        let is_over = accounts.quota().action != OverQuota::SlowDown
            && work.record.key().is_some()
            && accounts.pass(work.lane).is_err();
        let local = is_over.then(|| self.assignments.get_mut(&assignment)).flatten()?;
        let (quota, terms, topic) = (accounts.quota(), &self.terms, &local.shared.place.topic);
        let find = || {
            // What is there was counted before it failed.
            let is_retried = terms.retry_topic.as_ref().is_some_and(|retry| retry.is(topic));
            if is_retried {
                return None;
            }
            Target::of(quota, topic, terms.shaping.as_ref(), terms.dead_letters.as_ref())
        };
        local.outlet.get_or_insert_with(find).clone()
    }

    pub(super) fn write_aside(&mut self, context: &mut Context<'_>) {
        for id in self.aside.poll(context, &mut self.counts, &mut self.chance) {
            self.quiet_if_idle(id);
        }
    }

    /// New accounts for all keys; what waits for its quota goes on.
    pub(super) fn set_quota(&mut self, quota: Option<Quota>) {
        self.accounts = quota.map(Accounts::new);
        self.assignments.values_mut().for_each(|local| local.outlet = None);
        let now = Instant::now();
        for (number, lane) in &self.lanes {
            if let Head::Waiting(timer, task) = &lane.head
                && task.is_slowed()
            {
                self.timers.push(Reverse((now, *timer, *number)));
            }
        }
    }

    /// Makes the first attempt at a record, now or when the retry topic's header or its key's quota says so, with those
    /// behind it that make a run.
    pub(super) fn begin(&mut self, assignment: u64, work: Work, context: &mut Context<'_>) -> Option<Head> {
        let mut task = Task::new(work, self.stopwatch.now());
        if let Some(topic) = &self.terms.retry_topic {
            match topic.open(&mut task.work.record) {
                Ok(opened) => {
                    let now = Instant::now();
                    if let Some(age) = opened.age {
                        task.has_failed_before(now.checked_sub(age));
                    }
                    if !opened.wait.is_zero() {
                        return Some(self.wait(task, deadline::after(now, opened.wait)));
                    }
                }
                Err(reason) => {
                    let to_dead_letters = self.terms.dead_letters.is_some();
                    return Some(self.give_up(assignment, task, reason.into(), to_dead_letters));
                }
            }
        }
        if let Some(wait) = self.quota_wait(&task.work) {
            self.counts.slowed += 1;
            task.set_slowed(true);
            return Some(self.wait(task, deadline::after(Instant::now(), wait)));
        }
        let rest = self.run_behind(task.work.lane);
        let Some(runs) = self.runs.as_ref().filter(|_| !rest.is_empty()) else {
            return self.attempt(assignment, task, context);
        };
        let lane = task.work.lane;
        let records = std::iter::once(&task.work).chain(&rest).map(|work| work.record.clone()).collect();
        let job = (runs.make)(records);
        std::iter::once(&task.work).chain(&rest).for_each(|work| self.stopwatch.delivered(&work.record));
        task.started = self.stopwatch.now();
        let has_permit = self.take_permit();
        self.run_step(assignment, Step::run(assignment, lane, task, rest, job).with_permit(has_permit));
        Some(Head::Running)
    }

    /// How long a record must wait for its key's quota, which it has used from now on.
    fn quota_wait(&mut self, work: &Work) -> Option<Duration> {
        let accounts = self.accounts.as_mut()?;
        let is_exempt = accounts.quota().action != OverQuota::SlowDown || work.record.key().is_none();
        // Its first attempt was counted, before it came here through the retry topic.
        let is_retried = work.record.attempt > 1;
        if is_exempt || is_retried {
            return None;
        }
        accounts.tick(Instant::now());
        accounts.reserve(work.lane)
    }

    /// The records that make a run with the lane's next one: all that wait, as far as the quota and the handler go. With
    /// a retry topic, whose records have times of their own, none.
    fn run_behind(&mut self, number: u64) -> Vec<Work> {
        let mut rest = Vec::new();
        let Some(runs) = self.runs.as_ref().filter(|_| self.terms.retry_topic.is_none()) else { return rest };
        let Some(lane) = self.lanes.get_mut(&number) else { return rest };
        while rest.len() + 1 < runs.records_max
            && let Some(next) = lane.queue.front()
        {
            if let Some(accounts) = &mut self.accounts
                && accounts.quota().action == OverQuota::SlowDown
                && next.record.key().is_some()
                && accounts.pass(number).is_err()
            {
                break;
            }
            rest.extend(lane.queue.pop_front());
        }
        rest
    }
}
