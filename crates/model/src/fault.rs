//! What went wrong, and what that alone says must happen next.
//!
//! Inside a crate errors are small enums. At a port everything becomes a [`Fault`], whose kind decides.

use std::fmt;

/// What kind of trouble it is. Closed: [`Advice::of`] answers each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Connection lost, leader moving, time-out: the same act may succeed later.
    Transient,
    /// The other side asked us to slow down, or our own budget is spent.
    Overloaded,
    /// Credentials or access rights.
    Denied,
    /// This record can never be accepted.
    Rejected,
    /// Bytes do not parse.
    Corrupt,
    /// The operator must change something.
    Config,
}

impl FaultKind {
    /// The label used in metrics and JSON.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Overloaded => "overloaded",
            Self::Denied => "denied",
            Self::Rejected => "rejected",
            Self::Corrupt => "corrupt",
            Self::Config => "config",
        }
    }
}

/// What happens next with the work that met a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Try the same act again, later.
    RetryInPlace,
    /// Put the record aside with the fault, go on with the rest.
    SetAside,
    /// Stop this pipeline and say why.
    StopPipeline,
}

impl Advice {
    /// The one place that turns a kind into an act.
    #[must_use]
    pub const fn of(kind: FaultKind) -> Self {
        match kind {
            FaultKind::Transient | FaultKind::Overloaded => Self::RetryInPlace,
            FaultKind::Rejected => Self::SetAside,
            FaultKind::Denied | FaultKind::Corrupt | FaultKind::Config => Self::StopPipeline,
        }
    }
}

/// One fault at a port: kind, code with a manual page (`weir explain CODE`), what was being done, to what.
///
/// `Display` prints code, deed, subject, and the causes with the fix that they name: a caller who prints the fault sees
/// all of it. So [`Error::source`](std::error::Error::source) is `None`, and who prints a chain of sources prints no
/// cause twice; [`Fault::cause`] has the cause as a value.
pub struct Fault {
    inner: Box<Inner>,
}

struct Inner {
    kind: FaultKind,
    code: &'static str,
    doing: &'static str,
    about: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Fault {
    /// A fault of `kind`; `code` is `W-...`, `doing` reads after "failed to".
    #[must_use]
    pub fn new(kind: FaultKind, code: &'static str, doing: &'static str, about: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, code, doing, about: about.into(), source: None }) }
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// What kind of trouble it is.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        self.inner.kind
    }

    /// The code of its page, `W-...`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        self.inner.code
    }

    /// What it was about: an address, a key of the configuration, a table.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.inner.about
    }

    /// What was being done; reads after "failed to".
    #[must_use]
    pub const fn doing(&self) -> &'static str {
        self.inner.doing
    }

    /// The error that caused this one.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner.source.as_ref().map(|source| &**source as &(dyn std::error::Error + 'static))
    }

    /// The fault and all its causes in one line, for a log or a terminal: the same as `Display`.
    #[must_use]
    pub fn chain(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { code, doing, about, .. } = &*self.inner;
        write!(out, "[{code}] failed to {doing}")?;
        if !about.is_empty() {
            write!(out, ": {about}")?;
        }
        let mut cause = self.cause();
        while let Some(error) = cause {
            write!(out, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.chain(), self.inner.kind.label())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_code_deed_subject_and_cause_and_nobody_prints_the_cause_twice() {
        let cause = std::io::Error::other("refused; fix: start the brokers");
        let inner =
            Fault::new(FaultKind::Transient, "W-KAFKA-DOWN", "reach the brokers", "b1:9092").caused_by(cause);
        let fault = Fault::new(FaultKind::Config, "W-CONFIG", "start", "").caused_by(inner);
        let all = "[W-CONFIG] failed to start: [W-KAFKA-DOWN] failed to reach the brokers: b1:9092: refused; fix: start the brokers";
        assert_eq!((fault.to_string(), fault.chain()), (all.to_owned(), all.to_owned()));
        assert!(std::error::Error::source(&fault).is_none() && fault.cause().is_some());
    }

    #[test]
    fn only_what_may_pass_by_itself_is_retried() {
        assert_eq!(Advice::of(FaultKind::Transient), Advice::RetryInPlace);
        assert_eq!(Advice::of(FaultKind::Rejected), Advice::SetAside);
        assert_eq!(Advice::of(FaultKind::Corrupt), Advice::StopPipeline);
    }
}
