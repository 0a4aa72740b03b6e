//! What a handler says about a record, and nothing is said by silence: an error and a panic are outcomes too.

use bytes::Bytes;
use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The record is done.
    Done,
    /// The record needs nothing; counted apart from what is done.
    Skip(Cow<'static, str>),
    /// Try again: after this time (a millisecond at least), or by the retry policy's back-off. The key waits, others go
    /// on.
    Retry(Option<Duration>),
    /// Try again with this value instead, such as what is left of a bulk that succeeded in part.
    RetryWith(Bytes, Option<Duration>),
    /// It can never succeed: to the dead letters, now.
    DeadLetter(Cow<'static, str>),
    /// It did not work, for this reason: tried again by the retry policy. Errors and panics end here.
    Failed(Cow<'static, str>),
}

impl Outcome {
    /// Whether the record is finished with this: `Done` or `Skip`.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self, Self::Done | Self::Skip(_))
    }

    /// Needs nothing, for this reason.
    #[must_use]
    pub fn skip(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Skip(reason.into())
    }

    /// Try again by the policy's back-off.
    #[must_use]
    pub const fn retry() -> Self {
        Self::Retry(None)
    }

    /// Try again after this time.
    #[must_use]
    pub const fn retry_after(after: Duration) -> Self {
        Self::Retry(Some(after))
    }

    /// Try again by the policy's back-off, with this value.
    #[must_use]
    pub fn retry_with(value: impl Into<Bytes>) -> Self {
        Self::RetryWith(value.into(), None)
    }

    /// To the dead letters, for this reason.
    #[must_use]
    pub fn dead_letter(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::DeadLetter(reason.into())
    }

    /// Did not work, for this reason.
    #[must_use]
    pub fn failed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Failed(reason.into())
    }
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

impl<T: Into<Self>, E: Display> From<Result<T, E>> for Outcome {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(outcome) => outcome.into(),
            Err(error) => Self::Failed(error.to_string().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_failure_with_its_text_and_never_done() {
        let of = |result: Result<(), &str>| Outcome::from(result);
        assert_eq!(of(Ok(())), Outcome::Done);
        assert_eq!(of(Err("no route")), Outcome::failed("no route"));
        let nested: Result<Outcome, std::num::ParseIntError> = Ok(Outcome::retry());
        assert_eq!(Outcome::from(nested), Outcome::Retry(None));
    }
}
