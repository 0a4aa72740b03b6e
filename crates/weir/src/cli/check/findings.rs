//! What a check has found: one line each, and for all that is not well the command that mends it.

use crate::cli::say;

/// What was found so far; lines are printed as they are found, because some questions take long.
#[derive(Default)]
pub(super) struct Findings {
    wrong: usize,
}

impl Findings {
    /// How much is wrong.
    pub(super) const fn wrong_count(&self) -> usize {
        self.wrong
    }

    /// All is well.
    pub(super) fn ok(&self, what: &str) {
        say(&format!("ok     {what}"));
    }

    /// Nothing to mend, but good to know.
    pub(super) fn note(&self, what: &str) {
        say(&format!("note   {what}"));
    }

    /// It works, and one day it may not.
    pub(super) fn warn(&self, what: &str, mend: &str) {
        say(&format!("warn   {what}\n         mend: {mend}"));
    }

    /// It does not work.
    pub(super) fn wrong(&mut self, what: &str, mend: &str) {
        self.wrong += 1;
        say(&format!("WRONG  {what}\n         mend: {mend}"));
    }
}
