//! The demonstration's account, for its console: what the sources sent in each 100 ms of event time, beside what was
//! counted from the log.

use serde::Serialize;
use std::sync::Mutex;

/// Buckets that the page shows at most; of a longer play, the newest.
const SHOWN_MAX: usize = 600;

/// One play after another, in numbers.
#[derive(Debug, Default)]
pub struct Play {
    account: Mutex<Account>,
}

/// Where the demonstration stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Which play it is, from 1.
    pub number: u64,
    /// Event time of the first bucket, ms since 1970.
    pub first_ms: u64,
    /// Event time of midnight, ms since 1970.
    pub midnight_ms: u64,
    /// Milliseconds of one bucket.
    pub bucket_ms: u64,
    /// SEND_MESSAGE that the sources sent, by bucket of this play.
    pub sent_by_bucket: Vec<u64>,
    /// SEND_MESSAGE counted from the log, by bucket of this play.
    pub counted_by_bucket: Vec<u64>,
    /// Cells written at the sources, over all plays.
    pub sent: u64,
    /// Distinct cells read back from the log, over all plays.
    pub in_log: u64,
    /// Sum of all buckets, over all plays.
    pub counted: u64,
    /// Extra copies in the log, over all plays.
    pub duplicates: u64,
    /// Cells of finished plays that were not in the log when it had been read to its end.
    pub lost: u64,
    /// Messages of finished plays by which a bucket's count differs from what was sent in it.
    pub misplaced: u64,
    /// Plays whose log was read to its end.
    pub verified: u64,
}

impl Play {
    /// A new play begins.
    pub fn begin(&self, first_ms: u64, midnight_ms: u64, bucket_ms: u64, bucket_count: usize) {
        self.change(|account| {
            account.number += 1;
            (account.first_ms, account.midnight_ms, account.bucket_ms) = (first_ms, midnight_ms, bucket_ms);
            account.sent_by_bucket = vec![0; bucket_count];
            account.counted_by_bucket = vec![0; bucket_count];
        });
    }

    /// Changes the account, and gives what that says.
    pub fn change<T>(&self, change: impl FnOnce(&mut Account) -> T) -> T {
        change(&mut self.account.lock().expect("no panic under this lock"))
    }

    /// The account, with as many buckets as a page can show.
    #[must_use]
    pub fn account(&self) -> Account {
        let mut account = self.account.lock().expect("no panic under this lock").clone();
        let reached = account.sent_by_bucket.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        let skipped = reached.saturating_sub(SHOWN_MAX);
        account.first_ms += skipped as u64 * account.bucket_ms;
        for buckets in [&mut account.sent_by_bucket, &mut account.counted_by_bucket] {
            buckets.drain(..skipped);
            buckets.truncate(SHOWN_MAX);
        }
        account
    }
}

impl Account {
    /// Closes the account of the play that has ended: its log was read to the end.
    pub fn close(&mut self) {
        self.lost = self.sent.saturating_sub(self.in_log);
        let buckets = self.sent_by_bucket.iter().zip(&self.counted_by_bucket);
        self.misplaced += buckets.map(|(sent, counted)| sent.abs_diff(*counted)).sum::<u64>();
        self.verified += 1;
    }

    /// Index of the bucket of an event time, when it belongs to this play.
    #[must_use]
    pub fn bucket_of(&self, event_ms: u64) -> Option<usize> {
        let index = usize::try_from(event_ms.checked_sub(self.first_ms)? / self.bucket_ms.max(1)).ok()?;
        (index < self.sent_by_bucket.len()).then_some(index)
    }

    /// Cells that were sent and not read back yet.
    #[must_use]
    pub const fn on_the_way(&self) -> u64 {
        self.sent.saturating_sub(self.in_log).saturating_sub(self.lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_account_says_what_is_lost_and_what_is_in_the_wrong_bucket() {
        let play = Play::default();
        play.begin(0, 100, 100, 2);
        play.change(|account| {
            (account.sent, account.in_log, account.counted) = (10, 9, 9);
            (account.sent_by_bucket, account.counted_by_bucket) = (vec![5, 5], vec![6, 3]);
            assert_eq!(account.on_the_way(), 1);
            account.close();
            assert_eq!((account.lost, account.misplaced, account.verified), (1, 3, 1));
            assert_eq!(account.on_the_way(), 0);
        });
    }

    #[test]
    fn of_a_long_play_the_newest_buckets_are_shown() {
        let play = Play::default();
        play.begin(1000, 2000, 100, 2000);
        play.change(|account| {
            let bucket = account.bucket_of(1000 + 100 * 999 + 50);
            account.sent_by_bucket[bucket.unwrap()] = 5;
            assert_eq!((account.bucket_of(999), account.bucket_of(1000 + 100 * 2000)), (None, None));
        });
        let account = play.account();
        assert_eq!(account.sent_by_bucket.len(), SHOWN_MAX);
        assert_eq!((account.sent_by_bucket[SHOWN_MAX - 1], account.first_ms), (5, 1000 + 100 * 400));
    }
}
