//! A record on its way through a shard, and how it has fared.

use crate::dead_letter::Told;
use crate::mailbox::Work;
use crate::stopwatch::Moment;
use std::borrow::Cow;
use tokio::time::Instant;

/// A record, and how it has fared.
pub(crate) struct Task {
    pub(crate) work: Work,
    /// When its attempt, or the writing of its dead letter, began.
    pub(crate) started: Moment,
    /// What most records never have. Boxed: a task is moved a few times, and up to 128 bytes that costs no call.
    fate: Option<Box<Fate>>,
}

#[derive(Default)]
struct Fate {
    since: Option<Instant>,
    errand: Option<(Errand, u32)>,
    is_slowed: bool,
}

/// What is written of a record, durable before it counts as done.
pub(crate) enum Errand {
    /// A dead letter, for this cause, with these headers.
    Bury(Cow<'static, str>, Told),
    /// A record for the retry topic, with the time of its next attempt, ms since 1970.
    Requeue(i64),
}

impl Task {
    pub(crate) const fn new(work: Work, started: Moment) -> Self {
        Self { work, started, fate: None }
    }

    fn fate(&mut self) -> &mut Fate {
        self.fate.get_or_insert_default()
    }

    /// When it failed for the first time.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.fate.as_ref()?.since
    }

    /// It has failed now, or before.
    pub(crate) fn failed(&mut self, now: Instant) -> Instant {
        *self.fate().since.get_or_insert(now)
    }

    /// It had failed before it came here.
    pub(crate) fn has_failed_before(&mut self, since: Option<Instant>) {
        self.fate().since = since;
    }

    /// What is to be written instead of another attempt.
    pub(crate) fn errand(&self) -> Option<&Errand> {
        self.fate.as_ref()?.errand.as_ref().map(|(errand, _)| errand)
    }

    pub(crate) fn set_errand(&mut self, errand: Errand) {
        self.fate().errand = Some((errand, 0));
    }

    /// Nothing is written of it any more; what it was.
    pub(crate) fn take_errand(&mut self) -> Option<Errand> {
        self.fate.as_mut()?.errand.take().map(|(errand, _)| errand)
    }

    /// Its errand has failed once more; how often by now.
    pub(crate) fn errand_failed(&mut self) -> u32 {
        self.fate().errand.as_mut().map_or(1, |(_, tries)| {
            *tries = tries.saturating_add(1);
            *tries
        })
    }

    /// Whether it waits for its key's quota, and for nothing else.
    pub(crate) fn is_slowed(&self) -> bool {
        self.fate.as_ref().is_some_and(|fate| fate.is_slowed)
    }

    pub(crate) fn set_slowed(&mut self, is_slowed: bool) {
        if is_slowed || self.fate.is_some() {
            self.fate().is_slowed = is_slowed;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_moved_without_a_call() {
        assert!(size_of::<Task>() <= 128, "{}", size_of::<Task>());
    }
}
