//! How a consumer ends that cannot go on: a part of it that panics, or is dropped, is noticed and named.

use crate::log::Job;
use crate::poller::Orders;
use crate::record::Place;
use crate::wake::Wake;
use futures::FutureExt as _;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use weir_model::{Fault, FaultKind};

/// The consumer cannot go on, for this reason.
pub(crate) fn broken(reason: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Corrupt, "W-RUNTIME-ENDED", "go on consuming", "").caused_by(reason.into())
}

/// What a stop could not commit: the cause of a `W-RUNTIME-NOT-COMMITTED`. The records are handled, and the next owner
/// of the partitions handles them again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotCommitted {
    /// The partitions, and the offset that each was to be committed at.
    pub places: Vec<(Place, i64)>,
    /// Why not.
    pub why: String,
}

impl NotCommitted {
    /// What this fault says was not committed, if it says so.
    #[must_use]
    pub fn of(fault: &Fault) -> Option<&Self> {
        fault.cause()?.downcast_ref()
    }

    pub(crate) fn fault(self) -> Fault {
        Fault::new(FaultKind::Transient, "W-RUNTIME-NOT-COMMITTED", "commit before leaving the group", "")
            .caused_by(self)
    }
}

impl fmt::Display for NotCommitted {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (place, offset)) in self.places.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(out, "{comma}{place} at {offset}")?;
        }
        write!(out, ": {}; what was handled since the last commit is handled again", self.why)
    }
}

impl std::error::Error for NotCommitted {}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a text")
}

/// What a writer promises; a panic in it, before or after it has promised, is a write that failed.
pub(crate) fn guarded(write: impl FnOnce() -> Job<'static, ()>) -> Job<'static, ()> {
    let failed = |panic: Box<dyn Any + Send>| {
        Err(Fault::new(FaultKind::Transient, "W-RUNTIME-ENDED", "write to the log", "")
            .caused_by(format!("the writer panicked: {}", panic_text(&*panic))))
    };
    match catch_unwind(AssertUnwindSafe(write)) {
        Ok(job) => Box::pin(AssertUnwindSafe(job).catch_unwind().map(move |end| end.unwrap_or_else(failed))),
        Err(panic) => Box::pin(std::future::ready(failed(panic))),
    }
}

/// The same fault once more, its causes as text.
pub(crate) fn repeated(fault: &Fault) -> Fault {
    let copy = Fault::new(fault.kind(), fault.code(), fault.doing(), fault.about());
    let (mut causes, mut source) = (Vec::new(), fault.cause());
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    if causes.is_empty() { copy } else { copy.caused_by(causes.join(": ")) }
}

/// Watches over a shard: tells the poller when it ends otherwise than by its word.
pub(crate) struct Watch {
    orders: Arc<Mutex<Orders>>,
    wake: Wake,
    is_over: bool,
}

impl Watch {
    pub(crate) const fn new(orders: Arc<Mutex<Orders>>, wake: Wake) -> Self {
        Self { orders, wake, is_over: false }
    }

    /// Runs a shard to its end.
    pub(crate) async fn over(mut self, shard: impl Future<Output = ()>) {
        let mut shard = Box::pin(AssertUnwindSafe(shard).catch_unwind());
        let end = shard.as_mut().await;
        self.is_over = true;
        if let Err(panic) = end {
            self.tell(format!("a shard panicked: {}", panic_text(&*panic)));
        }
    }

    fn tell(&self, reason: String) {
        if let Ok(mut orders) = self.orders.lock() {
            orders.broken.get_or_insert_with(|| broken(reason));
        }
        self.wake.wake();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.is_over {
            self.tell("a shard was dropped: its tokio runtime was shut down".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_is_told_again_says_the_same() {
        let cause = Fault::new(FaultKind::Denied, "W-KAFKA-DENIED", "stay", "g").caused_by("not allowed");
        let fault = broken("").caused_by(cause);
        assert_eq!(repeated(&fault).chain(), fault.chain());
        let bare = Fault::new(FaultKind::Config, "W-CONFIG", "start", "");
        assert_eq!(repeated(&bare).chain(), bare.chain());
    }
}
