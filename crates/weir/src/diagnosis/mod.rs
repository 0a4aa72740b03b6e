//! What is wrong and how to fix it, decided from facts alone: no socket, no file, no clock.
//!
//! `weir check`, `weir log topics` and the start of `weir run` gather the facts and print the findings. A finding
//! names the wrong value and the command or the setting that fixes it.

pub mod durability;
pub mod names;
pub mod queues;
pub mod running;
pub mod topic;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is well.
    Ok,
    /// Nothing to fix, but good to know.
    Info,
    /// It works, and one day it may not; or it could not be looked at.
    Warning,
    /// It does not work, or acknowledged records are lost by it.
    Error,
}

impl Level {
    /// The word that starts its line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is: the subject, what is wrong, the value.
    pub what: String,
    /// The command or the setting that fixes it; empty when there is nothing to fix.
    pub fix: String,
}

impl Finding {
    /// Nothing to fix, but good to know.
    #[must_use]
    pub fn info(what: impl Into<String>) -> Self {
        Self { level: Level::Info, what: what.into(), fix: String::new() }
    }

    /// It works, and one day it may not.
    #[must_use]
    pub fn warning(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warning, what: what.into(), fix: fix.into() }
    }

    /// It does not work.
    #[must_use]
    pub fn error(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Error, what: what.into(), fix: fix.into() }
    }

    /// The same about a subject, whose name is put in front.
    #[must_use]
    pub fn about(mut self, subject: &str) -> Self {
        self.what = format!("{subject}: {}", self.what);
        self
    }
}
