//! Completion from elsewhere: a token that somebody else holds, and the future that a handler waits on.
//!
//! A token cannot be forgotten: dropping it is a failure of its record.

use crate::outcome::Outcome;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// The right, and the duty, to say how a record ended. May go to any thread.
#[derive(Debug)]
pub struct Token {
    sender: Option<oneshot::Sender<Outcome>>,
}

/// What the handler waits on; its lane stays busy, and nothing else does.
#[derive(Debug)]
pub struct Completion {
    receiver: oneshot::Receiver<Outcome>,
}

/// A token and the future of what it says.
///
/// ```ignore
/// let (token, completion) = deferred::new();
/// legacy.submit(record.value_bytes(), move |answer| token.finish(answer));
/// completion.await
/// ```
#[must_use]
pub fn new() -> (Token, Completion) {
    let (sender, receiver) = oneshot::channel();
    (Token { sender: Some(sender) }, Completion { receiver })
}

impl Token {
    /// Says how the record ended. When nobody waits any more (its partition went away) that is not an error.
    pub fn finish(mut self, outcome: impl Into<Outcome>) {
        if let Some(sender) = self.sender.take() {
            let _ = sender.send(outcome.into());
        }
    }

    /// Whether nobody waits any more, so that the work may be spared.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.sender.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Completion {
    /// What was said; `None` when the token was dropped without a word.
    pub(crate) async fn told(self) -> Option<Outcome> {
        self.receiver.await.ok()
    }
}

impl Future for Completion {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let told = Pin::new(&mut self.receiver).poll(context);
        told.map(|told| told.unwrap_or_else(|_| Outcome::failed("its completion was dropped without a word")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_token_is_a_failure_and_a_token_knows_when_nobody_waits() {
        let (token, completion) = new();
        std::thread::spawn(move || token.finish(Ok::<(), &str>(()))).join().unwrap();
        assert_eq!(completion.await, Outcome::Done);
        let (token, completion) = new();
        drop(token);
        assert_eq!(completion.await, Outcome::failed("its completion was dropped without a word"));
        let (token, completion) = new();
        assert!(!token.is_abandoned());
        drop(completion);
        assert!(token.is_abandoned());
        token.finish(());
    }
}
