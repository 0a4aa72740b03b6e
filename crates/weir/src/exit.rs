//! Exit codes: what kind of end a command came to, for scripts and supervisors.

use std::process::ExitCode;
use weir_model::{Fault, FaultKind};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All done.
    Done,
    /// Done, and what was asked for is not so: a check found something, the demonstration lost something.
    Found,
    /// The command line was wrong.
    Usage,
    /// The configuration was wrong.
    Config,
    /// Credentials or rights.
    Denied,
    /// The other side could not be reached.
    Unreachable,
    /// Bytes did not parse.
    Corrupt,
}

impl Exit {
    /// The number that the process returns. 70, our own bug, is what a panic returns.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Found => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Denied => 4,
            Self::Unreachable => 5,
            Self::Corrupt => 6,
        }
    }

    /// The end that a fault leads to.
    #[must_use]
    pub const fn of(fault: &Fault) -> Self {
        match fault.kind() {
            FaultKind::Config | FaultKind::Rejected => Self::Config,
            FaultKind::Denied => Self::Denied,
            FaultKind::Transient | FaultKind::Overloaded => Self::Unreachable,
            FaultKind::Corrupt => Self::Corrupt,
        }
    }
}

/// The exit code of a panic.
pub const PANIC: u8 = 70;

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}
