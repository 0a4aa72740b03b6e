//! Cells with a source that goes on, or with something that goes wrong: F to J, and the window alone (M). Weir only.

use crate::child::{Child, status, value};
use crate::member::Setting;
use crate::plan::{Cell, Kind, Plan};
use crate::report::{Measured, Report, Values};
use crate::source::{self, Source};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir_runtime::window::{Slot, Window};

/// What a handler takes in F, H and J.
pub(crate) const HANDLER: Duration = Duration::from_millis(10);

/// In G. A sleep of 1 ms takes about 2 ms by tokio's clock, so one key could have 500 records a second.
const HANDLER_HOT: Duration = Duration::from_millis(1);

/// In G, records a second: half of them of the hot key, which is then busy for half of the time.
const HOT_RATE: f64 = 500.0;

/// An answer of a member takes no time; a machine may be busy.
const ASK_WAIT: Duration = Duration::from_secs(30);

/// How long a member may take to catch up with what was sent.
const CATCH_UP_WAIT: Duration = Duration::from_secs(60);

/// In H a member comes or goes this often.
const CHANGE_EVERY: Duration = Duration::from_secs(10);

/// Records of I that are pending when the member is killed.
const PENDING: u64 = 10_000;

pub(crate) fn cell(plan: &Plan, cell: &Cell, bootstrap: &str, report: &mut Report) -> Vec<Measured> {
    let mut measured = Measured { system: "weir", runs: Vec::new() };
    for run in 1..=plan.runs {
        report.progress(&format!("{} weir run {run} of {}", cell.name, plan.runs));
        let topic = format!("{}-{run}", cell.name.to_lowercase());
        let done = match cell.kind {
            Kind::Paced { share } => paced(plan, bootstrap, &topic, share),
            Kind::HotKey => hot_key(plan, bootstrap, &topic),
            Kind::Rebalance => rebalance(plan, bootstrap, &topic),
            Kind::Kill { keeps_map } => kill(bootstrap, &topic, keeps_map),
            Kind::Stuck => stuck(plan, bootstrap, &topic),
            Kind::Window => Ok(window()),
            Kind::Drain { .. } => Err("not a cell of trouble".to_owned()),
        };
        if cell.kind != Kind::Window
            && let Err(error) = source::delete(bootstrap, &topic)
        {
            report.note(format!("topic {topic} stays: {error}"));
        }
        match done {
            Ok(values) => measured.runs.push(values),
            Err(why) => report.note(format!("{} run {run} gave no figures: {why}", cell.name)),
        }
    }
    vec![measured]
}

/// A member in its own process.
struct Member(Child);

impl Member {
    fn start(setting: &Setting) -> Result<Self, String> {
        let words = setting.words();
        let mut all = vec!["member"];
        all.extend(words.iter().map(String::as_str));
        Ok(Self(Child::myself(&all)?))
    }

    fn ask(&mut self, order: &str) -> Result<String, String> {
        self.0.ask(order, ASK_WAIT)
    }

    fn done(&mut self) -> Result<f64, String> {
        value(&self.ask("counts")?, "done")
    }

    /// Waits until so many are done.
    fn catch_up(&mut self, records: f64) -> Result<(), String> {
        let started = Instant::now();
        loop {
            let done = self.done()?;
            if done >= records {
                return Ok(());
            }
            if started.elapsed() > CATCH_UP_WAIT {
                return Err(format!("{done} of {records} records after {CATCH_UP_WAIT:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn setting(bootstrap: &str, topic: &str, each: Duration) -> Setting {
    Setting {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        group: topic.to_owned(),
        each,
        stuck: None,
        keeps_map: true,
    }
}

fn made(bootstrap: &str, topic: &str, partitions: i32) -> Result<(), String> {
    source::create(bootstrap, topic, partitions).map_err(|error| error.to_string())
}

fn seconds(plan: &Plan, seconds: f64) -> f64 {
    if plan.is_quick { seconds / 3.0 } else { seconds }
}

/// A member and a source that share the machine; what the member handles while the source sends all it can, or what
/// is sent, if that is less.
fn capacity(plan: &Plan, member: &mut Member, source: &mut Source) -> Result<f64, String> {
    let warm = source.paced(1.0, 10_000.0)?;
    member.catch_up(warm.records)?;
    let started = Instant::now();
    let sent = source.full(seconds(plan, 4.0))?;
    member.catch_up(warm.records + sent.records)?;
    Ok(sent.records / started.elapsed().as_secs_f64())
}

/// F: an open loop. A record's latency counts from when it was due, through producer, broker and handler. No two records
/// have the same key: the wait for the record before of the same key is the order's price, not the runtime's, and with
/// 10,000 keys of 10 ms each it would be all that is seen.
fn paced(plan: &Plan, bootstrap: &str, topic: &str, share: f64) -> Result<Values, String> {
    made(bootstrap, topic, 3)?;
    let mut member = Member::start(&setting(bootstrap, topic, HANDLER))?;
    let mut source = Source::start(bootstrap, topic)?;
    let capacity = capacity(plan, &mut member, &mut source)?;
    let before = member.done()?;
    member.ask("forget")?;
    let sent = source.distinct(seconds(plan, 10.0), capacity * share)?;
    member.catch_up(before + sent.records)?;
    let line = member.ask("latencies")?;
    let rss_mib = status(member.0.id(), "VmHWM")? / 1024.0;
    drop(member);
    let arrivals = arrivals(plan, bootstrap, topic, &mut source, capacity * share)?;
    Ok(Values::from([
        ("capacity_per_s", capacity),
        ("records_per_s", sent.records / sent.seconds),
        ("latency_ms_p50", value(&line, "p50")?),
        ("latency_ms_p99", value(&line, "p99")?),
        ("latency_ms_p999", value(&line, "p999")?),
        ("latency_ms_max", value(&line, "max")?),
        ("handler_ms_p99", value(&line, "handler_p99")?),
        ("arrival_ms_p50", value(&arrivals, "p50")?),
        ("arrival_ms_p99", value(&arrivals, "p99")?),
        ("rss_mib", rss_mib),
    ]))
}

/// The same source at the same rate, and a bare loop in the member's place: when records arrive.
fn arrivals(
    plan: &Plan,
    bootstrap: &str,
    topic: &str,
    source: &mut Source,
    rate: f64,
) -> Result<String, String> {
    let mut floor = Member(Child::myself(&["arrivals", bootstrap, topic])?);
    let started = Instant::now();
    while floor.done()? < 1.0 {
        if started.elapsed() > CATCH_UP_WAIT {
            return Err("the bare loop has got nothing".to_owned());
        }
        source.paced(0.2, 1000.0)?;
    }
    // What was sent to see that it is there.
    std::thread::sleep(Duration::from_secs(1));
    let before = floor.done()?;
    floor.ask("forget")?;
    let sent = source.distinct(seconds(plan, 10.0), rate)?;
    floor.catch_up(before + sent.records)?;
    floor.ask("latencies")
}

/// G: half of all records have one key.
fn hot_key(plan: &Plan, bootstrap: &str, topic: &str) -> Result<Values, String> {
    made(bootstrap, topic, 3)?;
    let mut member = Member::start(&setting(bootstrap, topic, HANDLER_HOT))?;
    let mut source = Source::start(bootstrap, topic)?;
    let warm = source.paced(1.0, HOT_RATE)?;
    member.catch_up(warm.records)?;
    member.ask("forget")?;
    let sent = source.hot(seconds(plan, 10.0), HOT_RATE)?;
    member.catch_up(warm.records + sent.records)?;
    let line = member.ask("latencies")?;
    Ok(Values::from([
        ("records_per_s", sent.records / sent.seconds),
        ("others_latency_ms_p50", value(&line, "p50")?),
        ("others_latency_ms_p99", value(&line, "p99")?),
        ("hot_latency_ms_p50", value(&line, "hot_p50")?),
        ("hot_latency_ms_p99", value(&line, "hot_p99")?),
    ]))
}

/// H: a second member comes and goes at half load. Both are consumers of one process, watched by one checker.
fn rebalance(plan: &Plan, bootstrap: &str, topic: &str) -> Result<Values, String> {
    made(bootstrap, topic, 8)?;
    let mut member = Member::start(&setting(bootstrap, topic, HANDLER))?;
    let mut source = Source::start(bootstrap, topic)?;
    let capacity = capacity(plan, &mut member, &mut source)?;
    let before = value(&member.ask("checks")?, "distinct")?;
    member.ask("forget")?;
    let changes = if plan.is_quick { 2 } else { 4 };
    // The checker watches four million records a partition; the rate is held below that.
    let rate = (capacity / 2.0).min(500_000.0);
    let sending = CHANGE_EVERY.as_secs_f64() * f64::from(changes + 1);
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| source.paced(sending, rate));
        for change in 0..changes {
            std::thread::sleep(CHANGE_EVERY);
            member.ask(if change % 2 == 0 { "join" } else { "leave" })?;
        }
        sender.join().unwrap_or_else(|_| Err("the source's thread panicked".to_owned()))
    })?;
    let line = settled(&mut member, before + sent.records)?;
    Ok(Values::from([
        ("records_per_s", sent.records / sent.seconds),
        ("changes", f64::from(changes)),
        ("pause_ms_max", value(&line, "pause_ms_max")?),
        ("duplicates", value(&line, "duplicates")?),
        ("order_violations", value(&line, "order_violations")?),
        ("lost", before + sent.records - value(&line, "distinct")?),
    ]))
}

/// The checks when all records are done, or when no more come.
fn settled(member: &mut Member, records: f64) -> Result<String, String> {
    let started = Instant::now();
    loop {
        let line = member.ask("checks")?;
        if value(&line, "distinct")? >= records || started.elapsed() > CATCH_UP_WAIT {
            return Ok(line);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// I: kill -9 with ten thousand records pending behind one that is stuck; what the next member handles again.
fn kill(bootstrap: &str, topic: &str, keeps_map: bool) -> Result<Values, String> {
    made(bootstrap, topic, 1)?;
    let stuck_at = 10;
    let setting = Setting { keeps_map, stuck: Some(stuck_at), ..setting(bootstrap, topic, Duration::ZERO) };
    let mut source = Source::start(bootstrap, topic)?;
    // A record with the key of the stuck one would wait behind it.
    let sent = source.distinct(1.0, PENDING as f64 + stuck_at as f64)?;
    let mut member = Member::start(&setting)?;
    member.catch_up(sent.records - 1.0)?;
    // Three times the time between commits: what is done is in the commit then.
    std::thread::sleep(Duration::from_secs(3));
    member.0.kill();
    let started = Instant::now();
    let mut next = Member::start(&Setting { stuck: None, ..setting })?;
    // The record that was stuck is the sign that the partition has come over; then until no more come.
    next.catch_up(1.0)?;
    let waited = started.elapsed().as_secs_f64();
    let mut done = next.done()?;
    loop {
        std::thread::sleep(Duration::from_secs(1));
        let now = next.done()?;
        if now <= done {
            break;
        }
        done = now;
    }
    Ok(Values::from([
        ("records_pending", sent.records - stuck_at as f64),
        ("records_replayed", done - 1.0),
        ("takeover_s", waited),
    ]))
}

/// J: one record never ends. Memory over time, and what the rest of the partitions does.
fn stuck(plan: &Plan, bootstrap: &str, topic: &str) -> Result<Values, String> {
    made(bootstrap, topic, 3)?;
    let mut member =
        Member::start(&Setting { stuck: Some(1000), ..setting(bootstrap, topic, Duration::ZERO) })?;
    let mut source = Source::start(bootstrap, topic)?;
    let time = if plan.is_quick { plan.stuck / 3 } else { plan.stuck };
    let started = Instant::now();
    let mut resident = Vec::new();
    let sent = std::thread::scope(|scope| {
        let sender = scope.spawn(|| source.paced(time.as_secs_f64(), STUCK_RATE));
        while started.elapsed() < time {
            std::thread::sleep(time / 20);
            resident.push(status(member.0.id(), "VmRSS")? / 1024.0);
        }
        sender.join().unwrap_or_else(|_| Err("the source's thread panicked".to_owned()))
    })?;
    let done = member.done()?;
    Ok(Values::from([
        ("records_sent_per_s", sent.records / sent.seconds),
        ("records_per_s", done / sent.seconds),
        ("stuck_s", time.as_secs_f64()),
        ("rss_mib_first", resident.first().copied().unwrap_or_default()),
        ("rss_mib_middle", resident.get(resident.len() / 2).copied().unwrap_or_default()),
        ("rss_mib_last", resident.last().copied().unwrap_or_default()),
        ("rss_mib", status(member.0.id(), "VmHWM")? / 1024.0),
    ]))
}

/// Records a second in J: ten minutes of it are a few gigabytes of log.
const STUCK_RATE: f64 = 50_000.0;

/// M: a million offsets through one window of ten thousand, finished by twenty threads, as Decaton's own
/// micro-benchmark of its offset control does it.
fn window() -> Values {
    const OFFSETS: u64 = 1_000_000;
    const CAPACITY: usize = 10_000;
    const WORKERS: usize = 20;
    let mut window = Window::new(CAPACITY);
    let finished = AtomicU64::new(0);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| {
                let (slots, work) = std::sync::mpsc::sync_channel::<Vec<Slot>>(64);
                let finished = &finished;
                scope.spawn(move || {
                    for slots in work {
                        let count = slots.len() as u64;
                        slots.into_iter().for_each(Slot::finish);
                        finished.fetch_add(count, Ordering::Relaxed);
                    }
                });
                slots
            })
            .collect();
        let (mut next, mut committed) = (0, 0);
        while committed < OFFSETS as i64 {
            let count = (window.free() as u64).min(OFFSETS - next).min(1000);
            let mut dealt: Vec<Vec<Slot>> = (0..WORKERS).map(|_| Vec::new()).collect();
            for offset in next..next + count {
                dealt[offset as usize % WORKERS].push(window.start(offset as i64));
            }
            next += count;
            for (worker, slots) in workers.iter().zip(dealt) {
                if !slots.is_empty() && worker.send(slots).is_err() {
                    break;
                }
            }
            match window.advance() {
                Some(offset) => committed = offset,
                None if count == 0 => std::thread::yield_now(),
                None => {}
            }
        }
    });
    Values::from([
        ("window_ms", started.elapsed().as_secs_f64() * 1e3),
        ("records", finished.load(Ordering::Relaxed) as f64),
    ])
}
