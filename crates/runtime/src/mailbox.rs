//! The way from the poller to a shard: a few messages a turn, one lock each.
//!
//! Bounded by what feeds it: records by the windows and the byte budget, the rest by partitions.

use crate::assignment::Assignment;
use crate::quota::Quota;
use crate::record::Record;
use crate::stopwatch::Moment;
use crate::window::Slot;
use futures::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::Waker;

/// One record on its way, with the duty to finish it.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) record: Record,
    pub(crate) slot: Slot,
    pub(crate) lane: u64,
    /// When it came from the log.
    pub(crate) received: Moment,
}

/// What a shard is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A partition is ours; its records follow.
    Begin(Arc<Assignment>),
    /// Records of one assignment, in log order.
    Batch { assignment: u64, works: Vec<Work> },
    /// Drop what has not started, and say when nothing runs any more.
    Revoke(u64),
    /// Drop what runs, too.
    Cancel(u64),
    /// What a key may take from now on.
    Quota(Option<Quota>),
    /// The end.
    Close,
}

#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    messages: Mutex<VecDeque<Message>>,
    waker: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn push(&self, message: Message) {
        self.messages.lock().expect("no panic under this lock").push_back(message);
        self.waker.wake();
    }

    /// Takes all there is into `messages`, which is empty; the waker is woken for what comes later.
    pub(crate) fn take(&self, messages: &mut VecDeque<Message>, waker: &Waker) {
        self.waker.register(waker);
        std::mem::swap(&mut *self.messages.lock().expect("no panic under this lock"), messages);
    }
}
