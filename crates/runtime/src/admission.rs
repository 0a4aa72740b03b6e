//! What a consumer is refused for at its start, each with the field and what mends it.

use crate::dead_letter::DeadLetters;
use crate::handler::Handler;
use crate::outlets::Outlets;
use crate::retry::{RetryPolicy, WAIT_MIN};
use crate::source::{LogSource, Membership};
use crate::wake::Wake;
use std::any::{TypeId, type_name};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use weir_model::{Fault, FaultKind, limits};

/// A setting that cannot work.
pub(crate) fn refused(field: &str, why: impl Into<String>) -> Fault {
    Fault::new(FaultKind::Config, "W-CONFIG", "start a consumer", field).caused_by(why.into())
}

/// Numbers and times of a consumer.
pub(crate) struct Measures<'a> {
    pub(crate) shard_count: usize,
    pub(crate) concurrency: usize,
    pub(crate) window_records: usize,
    pub(crate) commit_every: Duration,
    pub(crate) drain_max: Duration,
    pub(crate) retry: &'a RetryPolicy,
}

impl Measures<'_> {
    /// What is too small or too large to be meant.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let Self { shard_count, concurrency, window_records, commit_every, drain_max, retry } = *self;
        if shard_count > limits::SHARDS_MAX {
            let most = limits::SHARDS_MAX;
            return Err(refused(
                "shards",
                format!("{shard_count} is more than {most}; leave it out for one a core"),
            ));
        }
        if concurrency > limits::WINDOW_RECORDS_MAX {
            let most = limits::WINDOW_RECORDS_MAX;
            return Err(refused(
                "concurrency",
                format!("{concurrency} is more than {most}; the default is 64"),
            ));
        }
        if window_records > limits::WINDOW_RECORDS_MAX {
            let most = limits::WINDOW_RECORDS_MAX;
            return Err(refused(
                "window_records",
                format!("{window_records} is more than {most}; the default is 16384"),
            ));
        }
        let at_most = |field: &str, time: Duration, most_ms: u64, why: &str| {
            let most = Duration::from_millis(most_ms);
            if time <= most {
                Ok(())
            } else {
                Err(refused(field, format!("{time:?} is longer than {most:?}: {why}")))
            }
        };
        at_most(
            "commit_every",
            commit_every,
            limits::COMMIT_EVERY_MS_MAX,
            "what is done in the meantime is repeated after a kill; the default is a second",
        )?;
        at_most(
            "drain_max",
            drain_max,
            limits::DRAIN_MS_MAX,
            "the group waits for it; the default is a second",
        )?;
        at_most("retry.longest", retry.longest, limits::RETRY_WAIT_MS_MAX, "the default is a minute")?;
        if retry.first < WAIT_MIN {
            return Err(refused("retry.first", "it must be a millisecond at least; the default is 100 ms"));
        }
        if !(0.0..=1.0).contains(&retry.jitter) {
            let jitter = retry.jitter;
            return Err(refused(
                "retry.jitter",
                format!("{jitter} is not a part of the wait, from 0 to 1; the default is 0.5"),
            ));
        }
        if retry.age_max.is_some_and(|age| age.is_zero()) {
            return Err(refused(
                "retry.age_max",
                "nothing would be tried twice; say so with attempts_max: 1",
            ));
        }
        Ok(())
    }
}

/// What a source says about itself, held against the settings.
pub(crate) fn check_membership(membership: &Membership, drain_max: Duration) -> Result<(), Fault> {
    if let Some(silence_max) = membership.silence_max.filter(|silence_max| drain_max >= *silence_max) {
        let why = format!(
            "{drain_max:?} is not below the {silence_max:?} after which the group takes this member for dead; make it \
             shorter, or max.poll.interval.ms longer"
        );
        return Err(refused("drain_max", why));
    }
    Ok(())
}

/// Dead letters must not come back to the consumer that writes them.
pub(crate) fn check_letters(source: &dyn LogSource, letters: Option<&DeadLetters>) -> Result<(), Fault> {
    if let Some(topic) = letters.map(DeadLetters::topic).filter(|topic| source.reads(topic)) {
        let why = format!(
            "{topic} is read by this consumer: its dead letters would come back for ever; name another topic"
        );
        return Err(refused("dead_letters", why));
    }
    Ok(())
}

/// Starts a source. What is tried longer than the log keeps it is refused, and so are topics to write to that cannot
/// work; the answer has a sentence for each that may not.
pub(crate) fn open(
    source: &mut dyn LogSource,
    wake: Wake,
    age_max: Option<Duration>,
    outlets: &Outlets,
) -> Result<Vec<String>, Fault> {
    source.start(wake)?;
    let checked = check_age(source, age_max).and_then(|()| outlets.check(source));
    if checked.is_err() {
        source.close();
    }
    checked
}

fn check_age(source: &mut dyn LogSource, age_max: Option<Duration>) -> Result<(), Fault> {
    let Some(age_max) = age_max else { return Ok(()) };
    let Some(kept) = source.retention().filter(|kept| kept.kept_for <= age_max) else { return Ok(()) };
    let (topic, kept_for) = (kept.topic, kept.kept_for);
    let why = format!(
        "{topic} keeps its records for {kept_for:?}, and they are tried again for {age_max:?}: after a restart they may be \
         gone; make it shorter, or the topic's retention.ms longer"
    );
    Err(refused("retry.age_max", why))
}

/// A handler of a topic, in a group of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Post {
    log: String,
    group: String,
    topic: String,
    handler: TypeId,
}

/// The handlers of this process, with what they are called.
static POSTS: Mutex<Vec<(Post, &str)>> = Mutex::new(Vec::new());

fn posts() -> MutexGuard<'static, Vec<(Post, &'static str)>> {
    POSTS.lock().expect("no panic under this lock")
}

/// The right to handle the topics of a membership; held until the group is left.
#[derive(Debug)]
pub(crate) struct Claim {
    posts: Vec<Post>,
}

impl Claim {
    /// Two consumers of one group share its partitions, so that with two different handlers chance decides which one a
    /// record meets. Two of the same handler are fine.
    pub(crate) fn new<H: Handler>(membership: &Membership) -> Result<Self, Fault> {
        let post = |topic: &String| Post {
            log: membership.log.clone(),
            group: membership.group.clone(),
            topic: topic.clone(),
            handler: TypeId::of::<H>(),
        };
        let ours: Vec<Post> = membership.topics.iter().map(post).collect();
        let mut all = posts();
        for one in &ours {
            let other = all.iter().find(|(other, _)| {
                other.handler != one.handler
                    && (&other.log, &other.group, &other.topic) == (&one.log, &one.group, &one.topic)
            });
            if let Some((_, name)) = other {
                let why = format!(
                    "{} has a handler in group {} of this process already, {name}: each record would meet one of the two \
                     by chance; stop that one before, or take a group of its own",
                    one.topic, one.group
                );
                return Err(refused("handler", why));
            }
        }
        all.extend(ours.iter().map(|one| (one.clone(), type_name::<H>())));
        Ok(Self { posts: ours })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut all = posts();
        for one in &self.posts {
            if let Some(at) = all.iter().position(|(other, _)| other == one) {
                all.swap_remove(at);
            }
        }
    }
}
