//! The port that records come from: a consumer of a partitioned log in a group.
//!
//! One thread calls it, once per batch or less, so it is `dyn`. No call waits, but those that say so.

use crate::budget::Budget;
use crate::record::{Place, Record};
use crate::wake::Wake;
use std::fmt;
use std::time::Duration;
use weir_model::Fault;

/// What a partition came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub place: Place,
    /// The offset that the group has committed, if any.
    pub committed: Option<i64>,
    /// The metadata of that commit.
    pub metadata: String,
}

/// What happened to the consumer.
#[derive(Debug)]
pub enum Event {
    /// Partitions are ours; [`LogSource::fetch`] gives their records from the next call on.
    Assigned(Vec<Assigned>),
    /// Partitions are to be given up: they stay ours until [`LogSource::release`], which must come soon.
    Revoked(Vec<Place>),
    /// Partitions are somebody else's already: nothing of them may be committed. [`LogSource::release`] follows.
    Lost(Vec<Place>),
    /// A commit that was begun has ended.
    Committed(Vec<Place>),
    /// A commit that was begun has failed: it comes again with the next one.
    CommitFailed(Vec<Place>, Fault),
    /// The position is not in the log any more (retention, a log that was cut), and the policy does not say what then.
    /// The partition gives no more records.
    OutOfRange(Place, Fault),
    /// The partition is of another log now: its topic was deleted and created again under the same name. It stays ours,
    /// and [`LogSource::fetch`] goes on at this offset of the new log. What was handed out before is of the old log:
    /// nothing of it is committed any more.
    Recreated(Place, i64),
    /// A batch is not what was written. The partition gives no more records: what is behind the batch would be
    /// committed over it.
    Damaged(Place, Fault),
    /// Trouble that may pass by itself.
    Trouble(Fault),
    /// The consumer is beyond repair.
    Ended(Fault),
}

/// Something that keeps records back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The partition; `None` when it is the whole source.
    pub place: Option<Place>,
    /// One sentence: what is wrong, and what to set or to look at.
    pub text: String,
    /// For how long.
    pub lasts: Duration,
    /// Whether no waiting heals it.
    pub is_final: bool,
}

/// What is to be committed of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The partition.
    pub place: Place,
    /// The offset that a successor starts at.
    pub offset: i64,
    /// What else a successor should know.
    pub metadata: String,
}

/// The cause of a fault of [`LogSource::commit_and_wait`] when the log took the commits of some partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartlyRefused {
    /// The partitions whose commits it did not take.
    pub places: Vec<Place>,
    /// Why not.
    pub why: String,
}

impl fmt::Display for PartlyRefused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.why)
    }
}

impl std::error::Error for PartlyRefused {}

/// Who a source is in its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The log that the group belongs to, such as its brokers' addresses: two groups of one name may be on two logs.
    pub log: String,
    /// The group.
    pub group: String,
    /// The topics that are read.
    pub topics: Vec<String>,
    /// How long the group waits for a member that is silent, or slow to give partitions up (`max.poll.interval.ms`).
    pub silence_max: Option<Duration>,
}

/// How long a topic keeps its records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The topic.
    pub topic: String,
    /// Records older than this may be deleted.
    pub kept_for: Duration,
}

/// A consumer of a partitioned, ordered log.
pub trait LogSource: Send {
    /// Who this is, as far as the settings say it; asked for once, before [`LogSource::start`]. `None` is unknown: what
    /// would be refused by it is not looked at.
    fn membership(&self) -> Option<Membership> {
        None
    }

    /// Whether records of this topic are read. By default those of the membership's topics are; a source with patterns
    /// knows better.
    fn reads(&self, topic: &str) -> bool {
        self.membership().is_some_and(|membership| membership.topics.iter().any(|one| one == topic))
    }

    /// The topic that keeps its records for the shortest time; asked for once, after [`LogSource::start`]. May wait for
    /// the brokers. `None` is unknown, or for ever.
    fn retention(&mut self) -> Option<Retention> {
        None
    }

    /// The topic that takes the largest records, and how many bytes such a record has; asked for once, after
    /// [`LogSource::start`]. May wait for the brokers. `None` is unknown.
    fn largest_record(&mut self) -> Option<(String, u64)> {
        None
    }

    /// The bytes that it will fetch ahead of what is asked for: `bytes_max` at most, and that is half of the consumer's
    /// budget. They are kept apart of the budget. Asked for once, before [`LogSource::start`].
    ///
    /// # Errors
    /// When its settings want more.
    fn prefetch(&mut self, _bytes_max: usize) -> Result<usize, Fault> {
        Ok(0)
    }

    /// Joins the group. `wake` is woken whenever there is an event, or a queue of a partition becomes non-empty. May
    /// wait for the brokers.
    ///
    /// # Errors
    /// When the topics are not there, or a setting is refused.
    fn start(&mut self, wake: Wake) -> Result<(), Fault>;

    /// Adds what happened since the last call.
    fn events(&mut self, events: &mut Vec<Event>);

    /// What keeps records back, asked for at each commit time. Empty when records come, or there are none.
    fn obstacles(&mut self) -> Vec<Obstacle> {
        Vec::new()
    }

    /// Moves records of one partition that are here already, at most `count_max`, to the end of `records`, and counts
    /// their bytes to the budget for as long as one of them lives.
    fn fetch(&mut self, place: &Place, count_max: usize, budget: &Budget, records: &mut Vec<Record>);

    /// Returns the offset below which the partition of the last [`LogSource::fetch`] has been handed out, if that call
    /// came to the partition's end. It counts what is not a record too: transaction markers, records of aborted
    /// transactions, what compaction removed. Without it the commit stays behind them until the next record comes.
    fn read_to(&mut self) -> Option<i64> {
        None
    }

    /// Returns the bytes that a map of what is done may have in the metadata of a commit, of `bytes_max` that the log
    /// takes. The source may keep some for a note of its own. Asked for once, before [`LogSource::start`].
    fn metadata(&mut self, bytes_max: usize) -> usize {
        bytes_max
    }

    /// The end of a partition's log, one past its newest record, as the brokers last said it. Asked for at each commit
    /// time: it must not wait. `None` is unknown.
    fn end(&mut self, _place: &Place) -> Option<i64> {
        None
    }

    /// Begins a commit; [`Event::Committed`] or [`Event::CommitFailed`] follows.
    fn commit(&mut self, commits: &[Commit]);

    /// Commits and waits for the answer. What the group refuses only while it deals its partitions anew is tried again
    /// within `wait_max`: nobody else comes back to it.
    ///
    /// # Errors
    /// When the answer is no, or does not come in time.
    fn commit_and_wait(&mut self, commits: &[Commit], wait_max: Duration) -> Result<(), Fault>;

    /// Gives partitions up, after [`Event::Revoked`] or [`Event::Lost`].
    fn release(&mut self, places: &[Place]);

    /// Leaves the group. May wait for the brokers.
    fn close(&mut self);

    /// Leaves the group, and waits for the brokers for at most this time.
    fn close_within(&mut self, _wait_max: Duration) {
        self.close();
    }
}
