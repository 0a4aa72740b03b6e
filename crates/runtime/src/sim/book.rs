//! What every member did, and the checks that hold at every moment.

use crate::offset_map;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::time::Duration;
use tokio::time::Instant;

/// A promise of the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// At the end every record is done, but those that are parked and those behind them.
    NothingLost,
    /// What a commit calls done, by its offset or its metadata, was done.
    OnlyDoneIsCommitted,
    /// Of one key, one attempt at a time in an assignment.
    OneAtATime,
    /// A record of a key begins when those before it, in its assignment, are finished.
    Order,
    /// What was called done when a partition was assigned is not handled again; nor what was done since.
    NotRepeated,
    /// Attempts are numbered, come not before their time, have their value, and end when they are used up.
    Attempts,
    /// An attempt is dropped only when its partition goes away.
    NotCancelled,
    /// A letter for each record that was given up, with its story, and none for another.
    DeadLetters,
    /// After a partition was lost nothing of it is committed.
    LostCommitsNothing,
    /// A partition that is taken away is given back within the drain limit.
    DrainInTime,
    /// After a partition was given back, nothing of it is handled.
    QuietAfterRelease,
    /// A partition that is given back in order has committed all that was done.
    CompleteHandover,
    /// A paused member fetches nothing.
    Paused,
    /// No more attempts of a member are under way at once than it may have.
    Concurrency,
    /// Health names the record that a partition waits for and why, and what keeps records from being taken.
    Health,
    /// When all troubles are over everything is done and committed.
    Progress,
    /// A stop ends in time, and well.
    Stops,
    /// At rest the byte budget is whole.
    NothingHeld,
}

/// A broken promise with its circumstances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) promise: Promise,
    pub(super) seen: String,
}

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Records in the log.
    pub(super) records: u64,
    /// Attempts that began.
    pub(super) attempts: u64,
    /// Attempts that failed.
    pub(super) failed: u64,
    /// Attempts that were dropped with their partition.
    pub(super) cancelled: u64,
    /// Attempts at records that had been done before: the duplicates that at-least-once allows.
    pub(super) repeated: u64,
    /// Records that were not repeated because a commit's metadata said that they were done.
    pub(super) spared: u64,
    /// Letters that are durable.
    pub(super) letters: u64,
    /// Of them, those that came again.
    pub(super) letters_repeated: u64,
    /// Partitions given to a member.
    pub(super) assigned: u64,
    /// Partitions lost without a drain.
    pub(super) lost: u64,
    /// Commits that were taken, by partition.
    pub(super) commits: u64,
    /// Commits that were refused or whose answer was lost, by partition.
    pub(super) commits_failed: u64,
    /// Attempts in a batch that were under way when their partition was given back.
    pub(super) overhung: u64,
    /// Records that were parked at the end.
    pub(super) parked: u64,
    /// Times that health was compared with what a partition waited for.
    pub(super) heads_named: u64,
}

impl Counts {
    pub(super) fn add(&mut self, more: &Self) {
        let Self {
            records,
            attempts,
            failed,
            cancelled,
            repeated,
            spared,
            letters,
            letters_repeated,
            assigned,
            lost,
            commits,
            commits_failed,
            overhung,
            parked,
            heads_named,
        } = more;
        self.records += records;
        self.attempts += attempts;
        self.failed += failed;
        self.cancelled += cancelled;
        self.repeated += repeated;
        self.spared += spared;
        self.letters += letters;
        self.letters_repeated += letters_repeated;
        self.assigned += assigned;
        self.lost += lost;
        self.commits += commits;
        self.commits_failed += commits_failed;
        self.overhung += overhung;
        self.parked += parked;
        self.heads_named += heads_named;
    }
}

/// One record that was fetched in an assignment and is not finished in it.
#[derive(Clone, Debug)]
pub(super) struct Track {
    pub(super) key: Option<u64>,
    pub(super) attempts: u32,
    pub(super) failed: u32,
    pub(super) failed_at: Option<Instant>,
    not_before: Instant,
    value: String,
    /// Given up: to the dead letters, or parked.
    is_given_up: bool,
    letters: u32,
    may_write_again: bool,
}

impl Track {
    /// A further attempt; what is wrong with it.
    fn begin(&mut self, attempt: u32, value: &str, attempts_max: u32) -> Vec<String> {
        let mut wrong = Vec::new();
        self.attempts += 1;
        if attempt != self.attempts {
            wrong.push(format!("has attempt {attempt} as its number {}", self.attempts));
        }
        let early = self.not_before.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            wrong.push(format!("comes {early:?} early"));
        }
        if value != self.value {
            wrong.push(format!("has the value {value:?} instead of {:?}", self.value));
        }
        if self.is_given_up || (attempts_max > 0 && attempt > attempts_max) {
            wrong.push("is tried again after it was given up".to_owned());
        }
        wrong
    }
}

/// One assignment of one partition.
#[derive(Debug)]
pub(super) struct Watch {
    member: usize,
    partition: usize,
    /// What was done already when it was assigned.
    spared: Vec<Range<i64>>,
    /// By offset.
    pub(super) tracks: BTreeMap<i64, Track>,
    by_key: BTreeMap<u64, VecDeque<i64>>,
    /// Attempts under way: key, and number of the handler's call.
    open: BTreeMap<i64, (Option<u64>, u64)>,
    finished: Vec<i64>,
    /// The oldest that is not finished, and since when.
    pub(super) head: Option<(i64, Instant)>,
    /// Told to go away, or its member stops.
    pub(super) is_leaving: bool,
    is_over: bool,
}

/// How an attempt ended, as far as the checks care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Finished,
    /// The record goes to the dead letters, or is parked.
    GivenUp,
    /// Another attempt, not before this time and with this value if they are said.
    Again(Duration, Option<String>),
}

/// Where one record is.
pub(super) type At = (usize, i64);

pub(super) struct Book {
    pub(super) breaches: Vec<Breach>,
    pub(super) counts: Counts,
    trace: DefaultHasher,
    started: Instant,
    /// When anything happened last.
    pub(super) moved_at: Instant,
    attempts_max: u32,
    has_batches: bool,
    concurrency: usize,
    pub(super) finished: BTreeSet<At>,
    /// Finished without a handler.
    pub(super) ignored: BTreeSet<At>,
    pub(super) letters: BTreeMap<At, u32>,
    pub(super) watches: Vec<Watch>,
    /// By partition: what was checked of its commits.
    checked: BTreeMap<usize, i64>,
}

impl Book {
    pub(super) fn new(attempts_max: u32, has_batches: bool, concurrency: usize) -> Self {
        Self {
            breaches: Vec::new(),
            counts: Counts::default(),
            trace: DefaultHasher::new(),
            started: Instant::now(),
            moved_at: Instant::now(),
            attempts_max,
            has_batches,
            concurrency,
            finished: BTreeSet::new(),
            ignored: BTreeSet::new(),
            letters: BTreeMap::new(),
            watches: Vec::new(),
            checked: BTreeMap::new(),
        }
    }

    pub(super) fn breach(&mut self, promise: Promise, seen: String) {
        // The first few tell the story; what follows from them does not.
        const BREACHES_MAX: usize = 8;
        if self.breaches.len() < BREACHES_MAX {
            let at_ms = self.started.elapsed().as_millis();
            self.breaches.push(Breach { promise, seen: format!("at {at_ms} ms: {seen}") });
        }
    }

    fn note(&mut self, what: &str, number: usize, offset: i64) {
        self.moved_at = Instant::now();
        (self.started.elapsed(), what, number, offset).hash(&mut self.trace);
    }

    /// Equal for two runs of the same seed and script.
    pub(super) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// Whether nobody needs to handle it any more.
    pub(super) fn is_done(&self, at: At) -> bool {
        self.finished.contains(&at)
    }

    /// A partition is assigned with this commit; the number of the assignment.
    pub(super) fn assign(
        &mut self,
        member: usize,
        partition: usize,
        committed: Option<&(i64, String)>,
    ) -> usize {
        self.counts.assigned += 1;
        let mut spared = Vec::new();
        if let Some((offset, metadata)) = committed {
            spared.push(0..*offset);
            spared.extend(offset_map::decode(*offset, metadata).unwrap_or_default());
        }
        self.note("assign", member, partition as i64);
        self.watches.push(Watch {
            member,
            partition,
            spared,
            tracks: BTreeMap::new(),
            by_key: BTreeMap::new(),
            open: BTreeMap::new(),
            finished: Vec::new(),
            head: None,
            is_leaving: false,
            is_over: false,
        });
        self.watches.len() - 1
    }

    /// A record comes from the log; one of an ignored key is finished with that.
    pub(super) fn fetched(
        &mut self,
        watch: usize,
        offset: i64,
        key: Option<u64>,
        value: String,
        is_ignored: bool,
    ) {
        let now = Instant::now();
        let one = &mut self.watches[watch];
        if one.spared.iter().any(|range| range.contains(&offset)) {
            self.counts.spared += 1;
            return;
        }
        if is_ignored {
            self.ignored.insert((one.partition, offset));
            one.finished.push(offset);
            self.finished.insert((one.partition, offset));
            return;
        }
        if let Some(key) = key {
            one.by_key.entry(key).or_default().push_back(offset);
        }
        let track = Track {
            key,
            attempts: 0,
            failed: 0,
            failed_at: None,
            not_before: now,
            value,
            is_given_up: false,
            letters: 0,
            may_write_again: false,
        };
        one.tracks.insert(offset, track);
        one.head.get_or_insert((offset, now));
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, watch: usize, offset: i64, attempt: u32, value: &str, call: u64) {
        self.note("begin", watch, offset);
        self.counts.attempts += 1;
        let one = &mut self.watches[watch];
        let at = (one.partition, offset);
        let about = format!("partition {} offset {offset} in assignment {watch}", one.partition);
        self.counts.repeated += u64::from(self.finished.contains(&at));
        let mut wrong: Vec<(Promise, String)> = Vec::new();
        if one.is_over {
            wrong.push((Promise::QuietAfterRelease, "was given back before the attempt began".to_owned()));
        }
        let key = one.tracks.get(&offset).and_then(|track| track.key);
        if let Some(key) = key {
            // A run of one key comes in one call.
            let is_in_call = |offset: &&i64| one.open.get(offset).is_some_and(|(_, other)| *other == call);
            let first =
                one.by_key.get(&key).and_then(|queue| queue.iter().find(|offset| !is_in_call(offset)));
            if first != Some(&offset) {
                wrong.push((Promise::Order, format!("of key {key} comes before {first:?} is finished")));
            }
            let of_another = |open: &(Option<u64>, u64)| open.0 == Some(key) && open.1 != call;
            if let Some((open, _)) = one.open.iter().find(|(_, open)| of_another(open)) {
                wrong.push((Promise::OneAtATime, format!("of key {key} begins while {open} runs")));
            }
        }
        match one.tracks.get_mut(&offset) {
            None if one.spared.iter().any(|range| range.contains(&offset)) => {
                let why = "was called done when the partition was assigned";
                wrong.push((Promise::NotRepeated, why.to_owned()));
            }
            None => wrong.push((Promise::NotRepeated, "was finished before, or never fetched".to_owned())),
            Some(track) => {
                let complaints = track.begin(attempt, value, self.attempts_max);
                wrong.extend(complaints.into_iter().map(|text| (Promise::Attempts, text)));
            }
        }
        if one.open.insert(offset, (key, call)).is_some() {
            wrong.push((Promise::OneAtATime, "runs twice at once".to_owned()));
        }
        let member = one.member;
        let of_member = self.watches.iter().filter(|watch| watch.member == member);
        let under_way = of_member.map(|watch| watch.open.len()).sum::<usize>();
        // A batch has a limit of its own.
        if !self.has_batches && under_way > self.concurrency {
            let what = format!("makes it {under_way} attempts at once, where {} may be", self.concurrency);
            wrong.push((Promise::Concurrency, what));
        }
        wrong.into_iter().for_each(|(promise, what)| self.breach(promise, format!("{about} {what}")));
    }

    /// An attempt has ended; whether it was its record's last one.
    pub(super) fn end(&mut self, watch: usize, offset: i64, ended: &Ended) {
        let now = Instant::now();
        self.note("end", watch, offset);
        let attempts_max = self.attempts_max;
        let one = &mut self.watches[watch];
        one.open.remove(&offset);
        if *ended == Ended::Finished {
            return self.finish(watch, offset);
        }
        self.counts.failed += 1;
        let Some(track) = one.tracks.get_mut(&offset) else { return };
        track.failed += 1;
        track.failed_at = Some(now);
        if let Ended::Again(wait, value) = ended {
            track.not_before = now + *wait;
            if let Some(value) = value {
                track.value.clone_from(value);
            }
            track.is_given_up = attempts_max > 0 && track.attempts >= attempts_max;
        } else {
            track.is_given_up = true;
        }
    }

    /// An attempt was dropped before its end.
    pub(super) fn cancelled(&mut self, watch: usize, offset: i64, is_expected: bool) {
        self.note("cancel", watch, offset);
        self.counts.cancelled += 1;
        self.uncounted(watch, offset);
        let one = &self.watches[watch];
        if !is_expected {
            let about = format!("partition {} offset {offset} in assignment {watch}", one.partition);
            self.breach(Promise::NotCancelled, format!("{about} was dropped, and its partition stays"));
        }
    }

    /// An attempt has ended and does not count: it was dropped, or ran behind one of its key that failed.
    pub(super) fn uncounted(&mut self, watch: usize, offset: i64) {
        let one = &mut self.watches[watch];
        one.open.remove(&offset);
        if let Some(track) = one.tracks.get_mut(&offset) {
            track.attempts -= 1;
        }
    }

    fn finish(&mut self, watch: usize, offset: i64) {
        let one = &mut self.watches[watch];
        self.finished.insert((one.partition, offset));
        one.finished.push(offset);
        if let Some(key) = one.tracks.remove(&offset).and_then(|track| track.key)
            && let Some(queue) = one.by_key.get_mut(&key)
        {
            queue.retain(|other| *other != offset);
        }
        let head = one.tracks.first_key_value().map(|(offset, _)| *offset);
        if one.head.map(|(offset, _)| offset) != head {
            one.head = head.map(|offset| (offset, Instant::now()));
        }
    }

    /// A letter is handed to the log; whether its answer may be lost.
    pub(super) fn letter(&mut self, watch: usize, offset: i64, attempts: u32) {
        self.note("letter", watch, offset);
        let one = &mut self.watches[watch];
        let about = format!("partition {} offset {offset} in assignment {watch}", one.partition);
        let wrong = match one.tracks.get_mut(&offset) {
            Some(track) if track.is_given_up => {
                let is_right = attempts == track.attempts && (track.letters == 0 || track.may_write_again);
                (!is_right).then(|| {
                    format!(
                        "is written as number {} after {attempts} of {} attempts",
                        track.letters + 1,
                        track.attempts
                    )
                })
            }
            _ => Some("was not given up".to_owned()),
        };
        if let Some(wrong) = wrong {
            self.breach(Promise::DeadLetters, format!("the letter of {about} {wrong}"));
        }
    }

    /// A letter is durable: its record is done, whatever becomes of the answer.
    pub(super) fn letter_is_durable(&mut self, watch: usize, offset: i64) {
        let at = (self.watches[watch].partition, offset);
        let count = self.letters.entry(at).or_default();
        *count += 1;
        self.counts.letters += 1;
        self.counts.letters_repeated += u64::from(*count > 1);
        self.finished.insert(at);
        if let Some(track) = self.watches[watch].tracks.get_mut(&offset) {
            track.letters += 1;
        }
    }

    /// The writer of a letter hears how it went.
    pub(super) fn letter_is_answered(&mut self, watch: usize, offset: i64, is_ok: bool) {
        if is_ok {
            self.finish(watch, offset);
        } else if let Some(track) = self.watches[watch].tracks.get_mut(&offset) {
            track.may_write_again = true;
        }
    }

    /// A commit is asked for; `offsets` are the partition's records.
    pub(super) fn commit(&mut self, partition: usize, offset: i64, metadata: &str, records: &BTreeSet<i64>) {
        self.note("commit", partition, offset);
        let checked = self.checked.get(&partition).copied().unwrap_or(0);
        let mut ranges: Vec<Range<i64>> = Vec::from_iter((checked < offset).then_some(checked..offset));
        match offset_map::decode(offset, metadata) {
            Ok(done) => ranges.extend(done),
            Err(error) => {
                self.breach(Promise::OnlyDoneIsCommitted, format!("partition {partition}: {error}"))
            }
        }
        let said = ranges.into_iter().flat_map(|range| records.range(range).copied());
        let wrong: Vec<i64> = said.filter(|offset| !self.is_done((partition, *offset))).collect();
        if wrong.is_empty() {
            self.checked.insert(partition, checked.max(offset));
        } else {
            let text = format!("partition {partition}: a commit of {offset} calls {wrong:?} done");
            self.breach(Promise::OnlyDoneIsCommitted, text);
        }
    }

    /// A partition is given back. `committed` is known when all that was done should be in it.
    pub(super) fn release(
        &mut self,
        watch: usize,
        committed: Option<&(i64, String)>,
        records: &BTreeSet<i64>,
        is_dead: bool,
    ) {
        self.note("release", watch, 0);
        let one = &mut self.watches[watch];
        one.is_over = true;
        let partition = one.partition;
        if self.has_batches {
            // A call goes on when its partition was not its first record's: it cannot be cut in parts.
            self.counts.overhung += one.open.len() as u64;
        } else if !one.open.is_empty() && !is_dead {
            let open: Vec<i64> = one.open.keys().copied().collect();
            let text =
                format!("partition {partition} is given back while {open:?} run in assignment {watch}");
            self.breach(Promise::QuietAfterRelease, text);
        }
        let Some((offset, metadata)) = committed else { return };
        let one = &self.watches[watch];
        let said = offset_map::decode(*offset, metadata).unwrap_or_default();
        let before = one.spared.iter().flat_map(|range| records.range(range.clone()).copied());
        let left: Vec<i64> = before
            .chain(one.finished.iter().copied())
            .filter(|done| done >= offset && !said.iter().any(|range| range.contains(done)))
            .collect();
        if !left.is_empty() {
            let text =
                format!("partition {partition}: {left:?} are done, and a commit of {offset} does not say so");
            self.breach(Promise::CompleteHandover, text);
        }
    }
}
