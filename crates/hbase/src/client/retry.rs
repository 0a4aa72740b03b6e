//! What is done after each kind of failure: one table, and the pauses between attempts.

use super::Error;
use crate::rpc::RpcError;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;
use weir_wire::hbase::call::RemoteException;

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Forget where the region is, look it up, try again.
    Relocate,
    /// Try again where the exception says that the region is now.
    Moved,
    /// Try the same server again, after a pause.
    SameServer,
    /// Try the same server again, after a longer pause and with fewer calls in flight.
    Overloaded,
    /// Close the connection, forget which regions the server has, try again.
    ServerGone,
    /// Open the scanner again after the last row that was read.
    ReopenScanner,
    /// Give up at once.
    Fail,
}

/// Exceptions by class without package. The classes are HBase's own, of 0.98 to 3.0.
const TABLE: [(&str, Verdict); 47] = [
    ("NotServingRegionException", Verdict::Relocate),
    ("RegionOfflineException", Verdict::Relocate),
    ("WrongRegionException", Verdict::Relocate),
    ("RegionMovedException", Verdict::Moved),
    ("RegionOpeningException", Verdict::SameServer),
    ("PleaseHoldException", Verdict::SameServer),
    ("ServerNotRunningYetException", Verdict::SameServer),
    ("RegionInRecoveryException", Verdict::SameServer),
    ("FailedServerException", Verdict::SameServer),
    ("RetryImmediatelyException", Verdict::SameServer),
    ("CallTimeoutException", Verdict::SameServer),
    ("TimeoutIOException", Verdict::SameServer),
    ("RegionTooBusyException", Verdict::Overloaded),
    ("CallQueueTooBigException", Verdict::Overloaded),
    ("CallDroppedException", Verdict::Overloaded),
    ("RpcThrottlingException", Verdict::Overloaded),
    ("ThrottlingException", Verdict::Overloaded),
    ("MultiActionResultTooLarge", Verdict::SameServer),
    ("RegionServerStoppedException", Verdict::ServerGone),
    ("RegionServerAbortedException", Verdict::ServerGone),
    ("MasterStoppedException", Verdict::ServerGone),
    ("ServerTooBusyException", Verdict::Overloaded),
    ("UnknownScannerException", Verdict::ReopenScanner),
    ("OutOfOrderScannerNextException", Verdict::ReopenScanner),
    ("ScannerResetException", Verdict::ReopenScanner),
    ("LeaseException", Verdict::ReopenScanner),
    ("DoNotRetryIOException", Verdict::Fail),
    ("DoNotRetryNowIOException", Verdict::Fail),
    ("NoSuchColumnFamilyException", Verdict::Fail),
    ("WrongRowIOException", Verdict::Fail),
    ("FailedSanityCheckException", Verdict::Fail),
    ("InvalidFamilyOperationException", Verdict::Fail),
    ("OperationConflictException", Verdict::Fail),
    ("RowTooBigException", Verdict::Fail),
    ("TableNotFoundException", Verdict::Fail),
    ("TableNotEnabledException", Verdict::Fail),
    ("SpaceLimitingException", Verdict::Fail),
    ("QuotaExceededException", Verdict::Fail),
    ("CorruptHFileException", Verdict::Fail),
    ("AccessDeniedException", Verdict::Fail),
    ("UnsupportedOperationException", Verdict::Fail),
    ("IllegalArgumentException", Verdict::Fail),
    ("UnknownServiceException", Verdict::Fail),
    ("UnsupportedCellCodecException", Verdict::Fail),
    ("WrongVersionException", Verdict::Fail),
    ("BadAuthException", Verdict::Fail),
    ("FatalConnectionException", Verdict::Fail),
];

/// What is done after an exception.
///
/// A class that is not in the table is tried again, unless the server says that it must not be: exceptions of single
/// actions carry no such word.
#[must_use]
pub fn of_exception(exception: &RemoteException) -> Verdict {
    let class = exception.short_class();
    let class = class.rsplit('$').next().unwrap_or(class);
    if let Some((_, verdict)) = TABLE.iter().find(|(name, _)| *name == class) {
        return *verdict;
    }
    // 1.x answers so while a server goes down.
    if exception.text.contains("Cannot append; log is closed") {
        return Verdict::Relocate;
    }
    if exception.is_overloaded {
        return Verdict::Overloaded;
    }
    if exception.do_not_retry || class.starts_with("DoNotRetry") { Verdict::Fail } else { Verdict::Relocate }
}

/// What is done after an error.
#[must_use]
pub fn of_error(error: &Error) -> Verdict {
    match error {
        Error::Rpc(RpcError::Remote { exception, .. }) => of_exception(exception),
        Error::Rpc(RpcError::Connect { .. } | RpcError::Lost { .. }) => Verdict::ServerGone,
        Error::Rpc(RpcError::TimedOut { .. }) | Error::NoRegion { .. } | Error::Registry { .. } => {
            Verdict::Relocate
        }
        // A server that sends garbage may be none of HBase's: another look at meta tells.
        Error::Rpc(RpcError::Corrupt { .. }) => Verdict::ServerGone,
        Error::Rpc(_)
        | Error::Invalid { .. }
        | Error::TableName { .. }
        | Error::TableNotFound { .. }
        | Error::DeadlineExceeded { .. }
        | Error::Uncertain { .. } => Verdict::Fail,
    }
}

/// Pause before the next attempt, after so many failed ones; of random length, so that clients do not come together.
#[must_use]
pub fn pause(verdict: Verdict, failures: u32) -> Duration {
    // As the Java client's, but that starts at 100 ms: most regions are back sooner.
    const FACTORS: [u32; 10] = [1, 2, 4, 8, 16, 32, 64, 100, 100, 100];
    let base_ms = match verdict {
        Verdict::Relocate | Verdict::Moved | Verdict::ReopenScanner if failures <= 1 => {
            return Duration::ZERO;
        }
        Verdict::Overloaded => 200,
        Verdict::Relocate
        | Verdict::Moved
        | Verdict::ReopenScanner
        | Verdict::SameServer
        | Verdict::ServerGone
        | Verdict::Fail => 50,
    };
    let index = usize::try_from(failures.saturating_sub(1)).unwrap_or(usize::MAX).min(FACTORS.len() - 1);
    let factor = FACTORS.get(index).copied().unwrap_or(100);
    let whole = Duration::from_millis(base_ms) * factor;
    let tenth = RandomState::new().hash_one(failures) % 50;
    (whole * (75 + u32::try_from(tenth).unwrap_or(0)) / 100).min(PAUSE_MAX)
}

/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(class: &'static str, text: &str, do_not_retry: bool) -> Verdict {
        let mut exception = RemoteException::retriable(class, text);
        exception.do_not_retry = do_not_retry;
        of_exception(&exception)
    }

    #[test]
    fn classes_of_the_table_win_over_the_flag_and_unknown_ones_follow_it() {
        for (class, flag, expect) in [
            ("org.apache.hadoop.hbase.NotServingRegionException", false, Verdict::Relocate),
            ("org.apache.hadoop.hbase.exceptions.RegionMovedException", false, Verdict::Moved),
            ("org.apache.hadoop.hbase.UnknownScannerException", true, Verdict::ReopenScanner),
            ("org.apache.hadoop.hbase.CallQueueTooBigException", false, Verdict::Overloaded),
            ("org.apache.hadoop.hbase.quotas.RpcThrottlingException", true, Verdict::Overloaded),
            ("org.apache.hadoop.hbase.regionserver.RegionServerStoppedException", false, Verdict::ServerGone),
            ("org.apache.hadoop.hbase.regionserver.NoSuchColumnFamilyException", false, Verdict::Fail),
            ("java.io.IOException", false, Verdict::Relocate),
            ("com.example.OurException", true, Verdict::Fail),
        ] {
            assert_eq!(verdict(class, "", flag), expect, "{class}");
        }
        assert_eq!(verdict("java.io.IOException", "Cannot append; log is closed", false), Verdict::Relocate);
    }

    #[test]
    fn no_class_stands_in_the_table_twice() {
        let mut names: Vec<_> = TABLE.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
    }

    #[test]
    fn pauses_grow_to_a_bound_and_the_first_look_up_is_at_once() {
        assert_eq!(pause(Verdict::Relocate, 1), Duration::ZERO);
        assert!(pause(Verdict::SameServer, 1) >= Duration::from_millis(37));
        assert!(pause(Verdict::Overloaded, 1) > pause(Verdict::SameServer, 1));
        for failures in [1, 5, 10, 1000, u32::MAX] {
            assert!(pause(Verdict::Overloaded, failures) <= PAUSE_MAX);
        }
    }
}
