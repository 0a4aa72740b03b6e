//! The library's front door: a source, a handler, and what may be set.
//!
//! ```ignore
//! let running = Consumer::new(source).start(async |record: Record| mail(record).await).await?;
//! ...
//! running.stop(Duration::from_secs(10)).await?;
//! ```

use crate::admission::{self, Claim, Measures};
use crate::budget::{Budget, Kept};
use crate::dead_letter::DeadLetters;
pub use crate::ending::NotCommitted;
use crate::ending::{self, Watch};
use crate::flow::{Flow, Means};
use crate::handler::Handler;
use crate::health::Health;
use crate::hooks::{Change, Hooks};
use crate::mailbox::Mailbox;
use crate::meter::{Decaton, Meter};
use crate::offset_map::TEXT_BYTES_MAX;
use crate::outlets::Outlets;
use crate::permits::Permits;
use crate::poller::{CANCEL_WAIT, Orders, Poller, Settings, Turn};
use crate::quota::OverQuota;
use crate::record::Place;
use crate::retry::{Exhausted, RetryPolicy};
use crate::retry_topic::RetryTopic;
use crate::shaping::Shaping;
use crate::shard::{Runs, Shard, Terms};
use crate::source::LogSource;
use crate::spans::{self, Spans};
use crate::stats::{Counts, Stats};
use crate::stopwatch::{Figures, Stopwatch};
use crate::wake::Wake;
use futures::future::Either;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir_model::{Fault, FaultKind, limits};

/// Bytes of records, fetched ahead and in flight, unless told otherwise.
pub const BUDGET_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// A consumer that has not started.
pub struct Consumer {
    source: Box<dyn LogSource>,
    name: String,
    shard_count: usize,
    concurrency: usize,
    window_records: usize,
    budget: Budget,
    commit_every: Duration,
    drain_max: Duration,
    metadata_bytes_max: usize,
    is_after_parallel_consumer: bool,
    retry: RetryPolicy,
    dead_letters: Option<DeadLetters>,
    shaping: Option<Shaping>,
    retry_topic: Option<RetryTopic>,
    seed: u64,
    flow: Flow,
    spans: Option<Arc<dyn Spans>>,
    hooks: Hooks,
}

impl Consumer {
    /// A consumer of this source, with the defaults: as many shards as cores, 64 attempts under way, 16,384 records a
    /// partition in flight, 64 MiB of records in all, a commit a second, a second to drain, retries without end.
    #[must_use]
    pub fn new(source: impl LogSource + 'static) -> Self {
        Self {
            source: Box::new(source),
            name: "weir-poller".to_owned(),
            shard_count: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            concurrency: limits::CONCURRENCY_DEFAULT,
            window_records: limits::WINDOW_RECORDS_DEFAULT,
            budget: Budget::new(BUDGET_BYTES_DEFAULT),
            commit_every: Duration::from_secs(1),
            drain_max: Duration::from_secs(1),
            metadata_bytes_max: TEXT_BYTES_MAX,
            is_after_parallel_consumer: false,
            retry: RetryPolicy::default(),
            dead_letters: None,
            shaping: None,
            retry_topic: None,
            seed: u64::from(std::process::id()),
            flow: Flow::default(),
            spans: None,
            hooks: Hooks::default(),
        }
    }

    /// The poller thread's name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Shards: tasks that handle records side by side. Attempts of one shard interleave at their `.await`s.
    #[must_use]
    pub const fn shards(mut self, count: usize) -> Self {
        self.shard_count = count;
        self
    }

    /// Attempts under way at once, over all shards and partitions; 64 unless set.
    ///
    /// The default is made for handlers that take a connection from a pool. Behind a pool of ten connections (the
    /// default of sqlx, bb8 and HikariCP) an attempt waits about six times as long as one takes, far from the pool's
    /// time-out. Set it to the size of the pool, or to rate x latency: 10,000 records/s of 50 ms each need 500.
    ///
    /// An attempt is counted while its handler is at an `.await`: one that ends at once needs nothing of it. Records in
    /// line for it stay in the window and the byte budget, oldest first. Waits between attempts, the writing of dead
    /// letters and records of the retry topic do not count, nor do handlers that have a limit of their own
    /// ([`Handler::has_own_limit`]): [`crate::blocking::Blocking`] and [`crate::batch::Batching`].
    #[must_use]
    pub const fn concurrency(mut self, count: usize) -> Self {
        self.concurrency = count;
        self
    }

    /// Records of one partition in flight, done ones past the oldest that is not done among them.
    #[must_use]
    pub const fn window_records(mut self, count: usize) -> Self {
        self.window_records = count;
        self
    }

    /// The budget for record bytes: half of it at most for what the source fetches ahead, the rest for what is in
    /// flight. Several consumers may share one; then each source is told how much it may fetch ahead.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// How often what is done is committed.
    #[must_use]
    pub const fn commit_every(mut self, every: Duration) -> Self {
        self.commit_every = every;
        self
    }

    /// How long attempts may go on when their partition is taken away. The whole group waits for it.
    #[must_use]
    pub const fn drain_max(mut self, limit: Duration) -> Self {
        self.drain_max = limit;
        self
    }

    /// The broker's `offset.metadata.max.bytes`, if it is below 4096; 0 for a log that keeps no metadata.
    #[must_use]
    pub const fn metadata_bytes_max(mut self, bytes: usize) -> Self {
        self.metadata_bytes_max = bytes;
        self
    }

    /// The group was Parallel Consumer's: what its commits say is done past them is not handled again.
    ///
    /// Not by default, because its short forms have no mark that other metadata could not have by chance, and what is
    /// wrongly read as done would be lost.
    #[must_use]
    pub const fn after_parallel_consumer(mut self) -> Self {
        self.is_after_parallel_consumer = true;
        self
    }

    /// What happens to records that fail.
    #[must_use]
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Where records go that are given up.
    #[must_use]
    pub fn dead_letters(mut self, letters: DeadLetters) -> Self {
        self.dead_letters = Some(letters);
        self
    }

    /// Where records go that are over their key's quota, when its action is to shape.
    #[must_use]
    pub fn shaping(mut self, shaping: Shaping) -> Self {
        self.shaping = Some(shaping);
        self
    }

    /// What fails is tried again through a topic, as Decaton does, and not in place. The policy's waits, attempts and age
    /// hold all the same; the order of a key does not.
    #[must_use]
    pub fn retry_topic(mut self, topic: RetryTopic) -> Self {
        self.retry_topic = Some(topic);
        self
    }

    /// How much is taken from the log, to begin with; [`Running::flow`] changes it.
    #[must_use]
    pub fn flow(mut self, flow: Flow) -> Self {
        self.flow = flow;
        self
    }

    /// A span for each attempt, continued from the record's `traceparent`. Without this there are none.
    #[must_use]
    pub fn spans(mut self, spans: impl Spans) -> Self {
        self.spans = Some(Arc::new(spans));
        self
    }

    /// Called when partitions come and go: see [`Change`]. On the poller's thread, so it must be quick: meanwhile nothing is
    /// fetched or committed, and the group waits. A panic in it ends the consumer.
    #[must_use]
    pub fn on_change(mut self, hook: impl FnMut(Change<'_>) + Send + 'static) -> Self {
        self.hooks = Hooks::new(hook);
        self
    }

    /// The seed of the retries' jitter.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn validate(&self) -> Result<(), Fault> {
        let wrong = |field: &str, why: &str| Err(admission::refused(field, why));
        if self.shard_count == 0 {
            return wrong("shards", "nothing would be handled; leave it out for one a core");
        }
        if self.concurrency == 0 {
            return wrong("concurrency", "nothing would be handled; the default is 64");
        }
        if self.window_records == 0 {
            return wrong("window_records", "nothing would be read; the default is 16384");
        }
        if self.commit_every.is_zero() {
            return wrong("commit_every", "it must be longer than nothing; the default is a second");
        }
        if self.retry.exhausted == Exhausted::DeadLetter && self.dead_letters.is_none() {
            return wrong(
                "retry.exhausted",
                "there is no place for dead letters; say where with dead_letters()",
            );
        }
        if self.retry.first > self.retry.longest {
            return wrong("retry.first", "the first wait is longer than the longest");
        }
        let measures = Measures {
            shard_count: self.shard_count,
            concurrency: self.concurrency,
            window_records: self.window_records,
            commit_every: self.commit_every,
            drain_max: self.drain_max,
            retry: &self.retry,
        };
        measures.check()?;
        self.flow.check(self.means())
    }

    fn means(&self) -> Means {
        Means { has_shaping: self.shaping.is_some(), has_dead_letters: self.dead_letters.is_some() }
    }

    /// Refuses what the source says cannot be; otherwise the claim to its topics.
    fn claim<H: Handler>(&self) -> Result<Option<Claim>, Fault> {
        admission::check_letters(&*self.source, self.dead_letters.as_ref())?;
        let Some(membership) = self.source.membership() else { return Ok(None) };
        admission::check_membership(&membership, self.drain_max)?;
        Claim::new::<H>(&membership).map(Some)
    }

    /// Where this consumer writes records.
    fn outlets(&self) -> Outlets {
        Outlets {
            topics: self.source.membership().map(|membership| membership.topics).unwrap_or_default(),
            dead_letters: self.dead_letters.clone(),
            retry_topic: self.retry_topic.clone(),
            shaping: self
                .shaping
                .clone()
                .filter(|_| self.flow.key_quota.is_some_and(|quota| quota.action == OverQuota::Shape)),
        }
    }

    /// Keeps apart of the budget what the source fetches ahead.
    fn keep_ahead(&mut self) -> Result<Kept, Fault> {
        let bytes = self.source.prefetch(self.budget.bytes_max() / 2)?;
        Ok(self.budget.keep(bytes))
    }

    /// Joins the group and handles records from then on. Shards run on the caller's tokio runtime, or on one of the
    /// library's own when there is none. The poller has a thread of its own.
    ///
    /// # Errors
    /// When a setting is wrong, or the source cannot start.
    pub async fn start<H: Handler>(mut self, handler: H) -> Result<Running, Fault> {
        self.validate()?;
        let (claim, ahead, age_max) = (self.claim::<H>()?, self.keep_ahead()?, self.retry.age_max);
        let outlets = self.outlets();
        let own = match Handle::try_current() {
            Ok(_) => None,
            Err(_) => Some(own_runtime(self.shard_count)?),
        };
        let runtime = own.as_ref().map_or_else(Handle::current, |own| own.handle().clone());
        let name = self.name.clone();
        let (mut poller, mut running, wake) = self.assemble(handler, &runtime);
        let (started, is_started) = oneshot::channel();
        let (ended, is_ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let start = admission::open(poller.source(), wake.clone(), age_max, &outlets);
            let is_refused = start.is_err();
            let _ = started.send(start);
            if is_refused {
                return;
            }
            let end = loop {
                match poller.turn() {
                    Turn::Wait(wait) if wait.is_zero() => {}
                    Turn::Wait(wait) => wake.wait(wait),
                    Turn::Ended(end) => break end,
                }
            };
            // The shards end with the poller, and the word comes last.
            drop((poller, claim, ahead));
            let _ = ended.send(end);
        });
        let thread = thread.map_err(|error| {
            Fault::new(FaultKind::Transient, "W-RUNTIME-ENDED", "start the poller's thread", "")
                .caused_by(error)
        })?;
        (running.own, running.thread, running.ended) = (own, Some(thread), Some(is_ended));
        running.warnings = is_started.await.unwrap_or_else(|_| Err(poller_is_gone()))?;
        Ok(running)
    }

    /// As [`Consumer::start`], with the poller as a task of the current runtime: for tests with tokio's paused clock.
    /// The source must not wait in any call.
    ///
    /// # Errors
    /// As [`Consumer::start`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start_in_task<H: Handler>(mut self, handler: H) -> Result<Running, Fault> {
        self.validate()?;
        let (claim, ahead, age_max) = (self.claim::<H>()?, self.keep_ahead()?, self.retry.age_max);
        let outlets = self.outlets();
        let (mut poller, mut running, wake) = self.assemble(handler, &Handle::current());
        running.warnings = admission::open(poller.source(), wake.clone(), age_max, &outlets)?;
        let (ended, is_ended) = oneshot::channel();
        running.ended = Some(is_ended);
        running.tasks.push(tokio::spawn(async move {
            let end = loop {
                match poller.turn() {
                    Turn::Wait(wait) if wait.is_zero() => tokio::task::yield_now().await,
                    Turn::Wait(wait) => {
                        let given = std::future::poll_fn(|context| wake.poll_given(context));
                        let _ = tokio::time::timeout(wait, given).await;
                    }
                    Turn::Ended(end) => break end,
                }
            };
            drop((poller, claim, ahead));
            let _ = ended.send(end);
        }));
        Ok(running)
    }

    fn assemble(mut self, handler: impl Handler, runtime: &Handle) -> (Poller, Running, Wake) {
        let wake = Wake::default();
        let means = self.means();
        let (stats, health) = (Arc::new(Stats::default()), Arc::new(Mutex::new(Health::default())));
        let orders = Arc::new(Mutex::new(Orders { flow: Some(self.flow), ..Orders::default() }));
        let terms = Arc::new(Terms {
            retry: self.retry,
            dead_letters: self.dead_letters,
            shaping: self.shaping,
            retry_topic: self.retry_topic,
            stats: Arc::clone(&stats),
            stop: Box::new({
                let (orders, wake) = (Arc::clone(&orders), wake.clone());
                move |fault| {
                    orders.lock().expect("no panic under this lock").fault.get_or_insert(fault);
                    wake.wake();
                }
            }),
        });
        let mailboxes: Vec<Arc<Mailbox>> = (0..self.shard_count).map(|_| Arc::default()).collect();
        let handler = Arc::new(handler);
        let began = Instant::now();
        let figures: Vec<Arc<Figures>> = (0..=self.shard_count).map(|_| Arc::default()).collect();
        let mut permits = (!handler.has_own_limit())
            .then(|| Permits::deal(self.concurrency, self.shard_count).into_iter())
            .into_iter()
            .flatten();
        let tasks = mailboxes.iter().zip(&figures).zip(self.seed..).map(|((mailbox, figures), seed)| {
            let (terms, mailbox, handler) = (Arc::clone(&terms), Arc::clone(mailbox), Arc::clone(&handler));
            let (stopwatch, spans) = (Stopwatch::new(began, Arc::clone(figures)), self.spans.clone());
            let (watch, permits) = (Watch::new(Arc::clone(&orders), wake.clone()), permits.next());
            let runs = (handler.run_max() > 1).then(|| Runs {
                records_max: handler.run_max(),
                make: Box::new({
                    let (handler, spans) = (Arc::clone(&handler), spans.clone());
                    move |records| {
                        let (handler, spans) = (Arc::clone(&handler), spans.clone());
                        Box::pin(async move {
                            match spans {
                                None => handler.handle_run(records).await,
                                Some(spans) => spans::run(&*spans, &*handler, records).await,
                            }
                        })
                    }
                }),
            });
            runtime.spawn(async move {
                let make = |record| match &spans {
                    None => Either::Left(handler.handle(record)),
                    Some(spans) => Either::Right(spans::attempt(&**spans, &*handler, record)),
                };
                let shard = Shard::new(terms, mailbox, seed, stopwatch, make, runs, permits);
                watch.over(shard.run()).await;
            })
        });
        let tasks: Vec<JoinHandle<()>> = tasks.collect();
        let (assigned, is_assigned) = watch::channel(Vec::new());
        let settings = Settings {
            assigned,
            window_records: self.window_records,
            commit_every: self.commit_every,
            drain_max: self.drain_max,
            metadata_bytes_max: self.source.metadata(self.metadata_bytes_max),
            began,
            figures: Arc::clone(&figures[self.shard_count]),
            is_after_parallel_consumer: self.is_after_parallel_consumer,
            hooks: self.hooks,
        };
        let poller = Poller::new(
            self.source,
            settings,
            self.budget.clone(),
            mailboxes,
            Arc::clone(&stats),
            Arc::clone(&orders),
            Arc::clone(&health),
        );
        let concurrency = if handler.has_own_limit() { 0 } else { self.concurrency };
        let running = Running {
            orders,
            warnings: Vec::new(),
            means,
            wake: wake.clone(),
            stats,
            health,
            assigned: is_assigned,
            figures: figures.into(),
            budget: self.budget,
            concurrency,
            tasks,
            thread: None,
            ended: None,
            end: None,
            runtime: runtime.clone(),
            own: None,
        };
        (poller, running, wake)
    }
}

fn own_runtime(threads: usize) -> Result<Runtime, Fault> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("weir-shard")
        .enable_all()
        .build();
    runtime.map_err(|error| {
        Fault::new(FaultKind::Transient, "W-RUNTIME-ENDED", "start the shards' threads", "").caused_by(error)
    })
}

fn poller_is_gone() -> Fault {
    ending::broken("the poller ended without a word: it panicked, or its runtime was shut down")
}

/// A consumer at work. Call [`Running::stop`] to end it.
///
/// Dropping it tells the poller's thread to stop at once: attempts under way are cancelled, what is done is committed,
/// and the group is left. Nobody waits for that, and nobody hears how it ended. At the end of `main` the process is
/// usually gone first: then up to `commit_every` of finished records is not committed and is handled again, and the
/// group waits for this member until its session ends.
#[must_use = "dropping it stops the consumer"]
pub struct Running {
    orders: Arc<Mutex<Orders>>,
    warnings: Vec<String>,
    means: Means,
    wake: Wake,
    stats: Arc<Stats>,
    health: Arc<Mutex<Health>>,
    /// The partitions that are ours.
    assigned: watch::Receiver<Vec<Place>>,
    /// One of each shard, and the poller's.
    figures: Arc<[Arc<Figures>]>,
    budget: Budget,
    /// Attempts that may be under way; 0 when the handler has a limit of its own.
    concurrency: usize,
    tasks: Vec<JoinHandle<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    ended: Option<oneshot::Receiver<Result<(), Fault>>>,
    /// How it has ended, once that is known.
    end: Option<Result<(), Fault>>,
    /// Where the shards run.
    runtime: Handle,
    own: Option<Runtime>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Running").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Running {
    /// Counters since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.stats.counts()
    }

    /// What was found at the start that is no reason not to start, such as a retry topic that this consumer does not
    /// read. One sentence each; they are in the log, too.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How each partition is doing, as of the last commit time.
    ///
    /// # Panics
    /// Never: nothing panics under this lock.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.lock().expect("no panic under this lock").clone()
    }

    /// Waits until the group has given partitions to this consumer, and returns them. A record that is written to one of
    /// them after that is handled, also by a group that starts at the end of the log: by then the position is committed,
    /// and another member goes on from it even if this one dies at once.
    ///
    /// A consumer that has partitions returns at once. It waits as long as all partitions are other members'; set a
    /// time-out where that can be.
    ///
    /// # Errors
    /// When the consumer ends, with the reason.
    pub async fn assigned(&self) -> Result<Vec<Place>, Fault> {
        let mut assigned = self.assigned.clone();
        match assigned.wait_for(|places| !places.is_empty()).await {
            Ok(places) => Ok(places.clone()),
            Err(_) => {
                let why = self.health().ended.unwrap_or_else(|| "it was stopped".to_owned());
                Err(ending::broken(format!("the consumer ended before it had a partition: {why}")))
            }
        }
    }

    /// Takes from the log as this says from now on. Nothing is drained.
    ///
    /// # Errors
    /// When this consumer cannot do what it says; then all stays as it is.
    pub fn flow(&self, flow: Flow) -> Result<(), Fault> {
        self.steering().flow(flow)
    }

    /// What changes this consumer from elsewhere.
    #[must_use]
    pub fn steering(&self) -> Steering {
        Steering { orders: Arc::clone(&self.orders), means: self.means, wake: self.wake.clone() }
    }

    /// Bytes of records in flight.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.budget.used_bytes()
    }

    /// Adds this consumer's metrics to a registry, under the label `subscription`. They are read at each scrape.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry, subscription: &str) {
        registry.register_collector(Box::new(self.meter(subscription)));
    }

    /// Adds the same figures under Decaton's names, so that its dashboards and alerts go on; `docs/runtime.md` says what
    /// each means here. Beside [`Running::register`] or instead of it.
    pub fn register_decaton_names(
        &self,
        registry: &mut prometheus_client::registry::Registry,
        subscription: &str,
    ) {
        registry.register_collector(Box::new(Decaton::new(self.meter(subscription))));
    }

    fn meter(&self, subscription: &str) -> Meter {
        Meter {
            subscription: subscription.to_owned(),
            stats: Arc::clone(&self.stats),
            health: Arc::clone(&self.health),
            figures: Arc::clone(&self.figures),
            budget: self.budget.clone(),
            concurrency: self.concurrency,
        }
    }

    /// Resolves when the consumer has ended by itself. Asked again it says the same.
    ///
    /// # Errors
    /// With the reason.
    pub async fn ended(&mut self) -> Result<(), Fault> {
        self.wait_for_end().await;
        match &self.end {
            Some(Err(fault)) => Err(ending::repeated(fault)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    async fn wait_for_end(&mut self) {
        if let Some(ended) = self.ended.as_mut() {
            self.end = Some(ended.await.unwrap_or_else(|_| Err(poller_is_gone())));
            self.ended = None;
        }
    }

    /// Takes no more records, lets attempts end, commits what is done, and leaves the group, all within `limit`.
    ///
    /// The last quarter of `limit`, two seconds at most, is kept for the last commit and for leaving; attempts that are
    /// not over by then are cancelled. Whatever was used up before, the commit and leaving have a quarter of a second
    /// each. A handler that computes without an `.await` cannot be cancelled: it is waited for two seconds longer.
    ///
    /// # Errors
    /// - When the consumer had ended by itself before, with the reason.
    /// - When the last commit failed: [`NotCommitted::of`] says of which partitions. All else was done. What the
    ///   group gave to somebody else meanwhile is not among them.
    /// - When a handler that computes without an `.await` holds a shard, which is left to itself.
    pub async fn stop(mut self, limit: Duration) -> Result<Counts, Fault> {
        self.order_stop(limit);
        self.wait_for_end().await;
        let end = self.end.take().unwrap_or(Ok(()));
        if let Some(thread) = self.thread.take() {
            // It has sent its last word, so this takes no time.
            let _ = thread.join();
        }
        let tasks = futures::future::join_all(std::mem::take(&mut self.tasks));
        // The clock of the shards' runtime: the caller may have none.
        let tasks = {
            let _entered = self.runtime.enter();
            tokio::time::timeout(CANCEL_WAIT, tasks)
        };
        let are_ended = tasks.await.is_ok();
        end?;
        if are_ended {
            Ok(self.stats.counts())
        } else {
            Err(ending::broken("a handler that computes without an .await holds its shard"))
        }
    }

    fn order_stop(&self, limit: Duration) {
        if let Ok(mut orders) = self.orders.lock() {
            orders.stop = Some(limit);
        }
        self.wake.wake();
    }
}

/// Changes a running consumer from elsewhere. Clones change the same one; when it has ended they change nothing.
#[derive(Clone, Debug)]
pub struct Steering {
    orders: Arc<Mutex<Orders>>,
    means: Means,
    wake: Wake,
}

impl Steering {
    /// Takes from the log as this says from now on. Nothing is drained.
    ///
    /// # Errors
    /// When the consumer cannot do what it says; then all stays as it is.
    ///
    /// # Panics
    /// Never: nothing panics under this lock.
    pub fn flow(&self, flow: Flow) -> Result<(), Fault> {
        flow.check(self.means)?;
        self.orders.lock().expect("no panic under this lock").flow = Some(flow);
        self.wake.wake();
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(mut orders) = self.orders.lock() {
            orders.is_dropped = true;
        }
        self.order_stop(Duration::ZERO);
        if let Some(own) = self.own.take() {
            own.shutdown_background();
        }
    }
}
