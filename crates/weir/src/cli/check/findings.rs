//! What a check has found: one line each, and for all that is not well the command that fixes it.

use crate::cli::say;
use crate::diagnosis::{Finding, Level};

/// What was found so far; lines are printed as they are found, because some questions take long.
#[derive(Default)]
pub(super) struct Findings {
    errors: usize,
}

impl Findings {
    /// Number of errors.
    pub(super) const fn error_count(&self) -> usize {
        self.errors
    }

    /// All is well.
    pub(super) fn ok(&mut self, what: &str) {
        self.print(Level::Ok, what, "");
    }

    /// Nothing to fix, but good to know.
    pub(super) fn info(&mut self, what: &str) {
        self.print(Level::Info, what, "");
    }

    /// It works, and one day it may not.
    pub(super) fn warning(&mut self, what: &str, fix: &str) {
        self.print(Level::Warning, what, fix);
    }

    /// It does not work.
    pub(super) fn error(&mut self, what: &str, fix: &str) {
        self.print(Level::Error, what, fix);
    }

    /// What a decision has found.
    pub(super) fn add(&mut self, finding: &Finding) {
        self.print(finding.level, &finding.what, &finding.fix);
    }

    fn print(&mut self, level: Level, what: &str, fix: &str) {
        self.errors += usize::from(level == Level::Error);
        let line = format!("{:<9}{what}", level.word());
        say(&if fix.is_empty() { line } else { format!("{line}\n         fix: {fix}") });
    }
}
