//! One picture of everything, at one moment: plain values, out of counters. `/board` gives it as JSON, the page shows it.

use super::play::Account;
use super::rates::Rates;
use super::refused::{self, RefusedPicture};
use super::units;
use crate::capture::{FaultBoard, Running, TableBoard};
use crate::failures::Failure;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use weir_hbase::replication::{Snapshot, SourceSnapshot};
use weir_runtime::budget::Budget;

/// How long a fault stays in the state, even when calls go well again.
const FRESH_MS: u64 = 60_000;

/// How long a fault counts as present although other calls go well: failing calls come again within seconds.
const PRESENT_MS: u64 = 10_000;

/// How long open calls may go without any answer before the page says so.
const STALLED_MS: u64 = 5_000;

/// One picture of everything.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Picture {
    pub(super) version: &'static str,
    pub(super) started_ms: u64,
    pub(super) now_ms: u64,
    pub(super) state: State,
    pub(super) totals: Totals,
    pub(super) captures: Vec<CapturePicture>,
    pub(super) play: Option<Account>,
}

/// How it stands, in one word and its reasons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct State {
    pub(super) level: Level,
    pub(super) word: &'static str,
    pub(super) reasons: Vec<Reason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Good,
    Idle,
    Warn,
    Bad,
}

impl Level {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Idle => "idle",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A reason why it does not stand well, with the page that explains it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Reason {
    pub(super) text: String,
    pub(super) code: Option<&'static str>,
}

/// Over all captures.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Totals {
    pub(super) entries_per_s: f64,
    pub(super) bytes_per_s: f64,
    pub(super) entries: u64,
    pub(super) cells: u64,
    pub(super) bytes: u64,
    pub(super) calls_open: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) last_write_ms: u64,
    pub(super) outside_per_s: f64,
    pub(super) in_flight_bytes: usize,
    pub(super) in_flight_bytes_max: usize,
    pub(super) connections: u64,
    pub(super) connections_waiting: usize,
}

/// What a server took, each try counted: frames as they came, compressed or not.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Taken {
    pub(super) entries: u64,
    pub(super) cells: u64,
    pub(super) bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct CapturePicture {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) trouble: Option<String>,
    pub(super) trouble_code: Option<&'static str>,
    pub(super) connections: u64,
    pub(super) calls_open: u64,
    pub(super) calls: u64,
    pub(super) entries: u64,
    pub(super) cells: u64,
    pub(super) bytes: u64,
    /// What its server took from sources.
    pub(super) taken: Taken,
    pub(super) done: u64,
    pub(super) again: u64,
    pub(super) late: u64,
    pub(super) overlaps: u64,
    /// Machines that are refused now.
    pub(super) refused: Vec<RefusedPicture>,
    pub(super) refused_counts: BTreeMap<&'static str, u64>,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    pub(super) sources: Vec<SourcePicture>,
    pub(super) tables: Vec<TablePicture>,
    pub(super) faults: BTreeMap<&'static str, FaultBoard>,
    /// What fails now: no call with these tables has succeeded since.
    pub(super) failing: Vec<Failure>,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct SourcePicture {
    pub(super) address: String,
    pub(super) version: String,
    pub(super) connections: u64,
    pub(super) calls: u64,
    pub(super) entries: u64,
    pub(super) entries_per_s: f64,
    pub(super) bytes: u64,
    pub(super) bytes_per_s: f64,
    /// Newest write time seen, ms since 1970.
    pub(super) last_write_ms: u64,
    /// When the last entry came, ms since 1970; 0 when none has since we look.
    pub(super) last_entry_ms: u64,
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct TablePicture {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) board: TableBoard,
    pub(super) entries_per_s: f64,
    pub(super) bytes_per_s: f64,
}

/// Whether something that was last seen then is still to be called present.
pub(super) const fn is_fresh(last_ms: u64, now_ms: u64) -> bool {
    last_ms > 0 && now_ms < last_ms + FRESH_MS
}

/// Looks at all counters once, notes them for the rates, and gives the picture.
pub(super) struct Look<'a> {
    pub(super) rates: &'a mut Rates,
    pub(super) now: Instant,
    pub(super) now_ms: u64,
    pub(super) budget: &'a Budget,
    pub(super) outside: u64,
}

impl Look<'_> {
    /// The picture of these captures.
    pub(super) fn picture(&mut self, running: &[Running], started_ms: u64, play: Option<Account>) -> Picture {
        let captures: Vec<CapturePicture> = running.iter().map(|one| self.capture(one)).collect();
        let totals = self.totals(&captures);
        let state = self.state(&captures, &totals);
        let version = env!("CARGO_PKG_VERSION");
        Picture { version, started_ms, now_ms: self.now_ms, state, totals, captures, play }
    }

    fn note(&mut self, name: String, value: u64) -> f64 {
        self.rates.note(name.clone(), value, self.now, self.now_ms);
        self.rates.per_second(&name)
    }

    fn capture(&mut self, running: &Running) -> CapturePicture {
        let snapshot = running.stats.snapshot();
        let name = &running.name;
        let sources = snapshot.sources.iter().map(|(address, source)| self.source(name, address, source));
        let sources = sources.collect();
        let tables = running.board.tables();
        let tables: Vec<TablePicture> =
            tables.into_iter().map(|(table, board)| self.table(name, table, board)).collect();
        // What is in the log: a call that comes again is no second one.
        let sum = |number: fn(&TableBoard) -> u64| tables.iter().map(|table| number(&table.board)).sum();
        let (entries, cells, bytes) = (sum(|one| one.entries), sum(|one| one.cells), sum(|one| one.bytes));
        let Snapshot { calls_open, calls, done, again, late, overlaps, .. } = snapshot;
        let taken = Taken { entries: snapshot.entries, cells: snapshot.cells, bytes: snapshot.bytes };
        for (what, value) in [("done", done), ("answers", done + again + late), ("late", late)] {
            self.note(format!("{name}/{what}"), value);
        }
        CapturePicture {
            name: name.clone(),
            address: running.address.to_string(),
            trouble: running.trouble(),
            trouble_code: running.trouble_code(),
            connections: snapshot.connections_open,
            calls_open,
            calls,
            entries,
            cells,
            bytes,
            taken,
            done,
            again,
            late,
            overlaps,
            refused: refused::present(name, &snapshot.refusals, self.now_ms),
            refused_counts: snapshot.refused.into_iter().collect(),
            skipped: running.skipped(),
            sources,
            tables,
            faults: running.board.faults(),
            failing: running.board.failing(self.now_ms),
        }
    }

    fn source(&mut self, capture: &str, address: &str, source: &SourceSnapshot) -> SourcePicture {
        let key = format!("{capture}/source/{address}");
        SourcePicture {
            address: address.to_owned(),
            version: source.version.clone(),
            connections: source.connections,
            calls: source.calls,
            entries: source.entries,
            entries_per_s: self.note(key.clone(), source.entries),
            bytes: source.bytes,
            bytes_per_s: self.note(format!("{key}/bytes"), source.bytes),
            last_write_ms: source.last_write_ms,
            last_entry_ms: self.rates.last_ms(&key),
        }
    }

    fn table(&mut self, capture: &str, name: String, board: TableBoard) -> TablePicture {
        let key = format!("{capture}/table/{name}");
        let entries_per_s = self.note(key.clone(), board.entries);
        let bytes_per_s = self.note(format!("{key}/bytes"), board.bytes);
        TablePicture { name, board, entries_per_s, bytes_per_s }
    }

    fn totals(&mut self, captures: &[CapturePicture]) -> Totals {
        let sum = |value: fn(&CapturePicture) -> u64| captures.iter().map(value).sum::<u64>();
        let (entries, bytes) = (sum(|one| one.entries), sum(|one| one.bytes));
        let writes = captures.iter().flat_map(|one| &one.sources).map(|source| source.last_write_ms);
        Totals {
            entries_per_s: self.note("entries".to_owned(), entries),
            bytes_per_s: self.note("bytes".to_owned(), bytes),
            outside_per_s: self.note("outside".to_owned(), self.outside),
            entries,
            cells: sum(|one| one.cells),
            bytes,
            calls_open: sum(|one| one.calls_open),
            done: sum(|one| one.done),
            failed: sum(|one| one.again + one.late),
            last_write_ms: writes.max().unwrap_or_default(),
            in_flight_bytes: self.budget.used_bytes(),
            in_flight_bytes_max: self.budget.bytes_max(),
            connections: sum(|one| one.connections),
            connections_waiting: self.budget.waiting_count(),
        }
    }

    pub(super) fn state(&self, captures: &[CapturePicture], totals: &Totals) -> State {
        let mut found: Vec<(Level, &'static str, Reason)> = Vec::new();
        let mut find = |level, word, text: String, code| found.push((level, word, Reason { text, code }));
        for one in captures {
            if let Some(trouble) = &one.trouble {
                let text = format!("{trouble}. Region servers cannot find this process.");
                let code = one.trouble_code.unwrap_or("W-ZOOKEEPER-UNREACHABLE");
                find(Level::Bad, "Not registered", text, Some(code));
            }
            let prefix = if captures.len() > 1 { format!("{}: ", one.name) } else { String::new() };
            let last_ms = |what: &str| self.rates.last_ms(&format!("{}/{what}", one.name));
            for (code, fault) in &one.faults {
                let title = crate::pages::find(code).map_or("calls fail", |page| page.title());
                let is_recent = is_fresh(fault.last_ms, self.now_ms);
                // A source that waits long between its tries still holds its connection; one that is gone tries no more.
                let is_last_word = fault.last_ms > last_ms("done") && (is_recent || one.connections > 0);
                if is_last_word || self.now_ms < fault.last_ms + PRESENT_MS {
                    let text = format!("{prefix}{title}. Calls fail and will come again; nothing is lost.");
                    find(Level::Bad, "Calls fail", text, Some(code));
                } else if is_recent {
                    let until = units::clock(fault.last_ms);
                    let text = format!("{prefix}{title}, until {until}. Since then calls go well.");
                    find(Level::Warn, "Recovering", text, Some(code));
                }
            }
            if let Some(first) = one.refused.first() {
                let more = match one.refused.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let text = format!("{prefix}{}{more}.", refused::line(first));
                find(first.level, "Sources are refused", text, Some("W-SOURCE-REFUSED"));
            }
            let answered_ms = last_ms("answers");
            if one.calls_open > 0 && answered_ms > 0 && self.now_ms > answered_ms + STALLED_MS {
                let since = units::clock(answered_ms);
                let text = format!("{prefix}calls are open, and none was answered since {since}.");
                find(Level::Warn, "Waiting for Kafka", text, Some("W-KAFKA-UNREACHABLE"));
            }
            if is_fresh(last_ms("late"), self.now_ms) {
                let text = format!("{prefix}calls were given up shortly before the source's time-out.");
                find(Level::Warn, "Slow", text, Some("W-KAFKA-UNREACHABLE"));
            }
        }
        if totals.connections_waiting > 0 {
            let text = format!(
                "{} wait: the budget of bytes in flight is spent, so the sources are held back.",
                units::counted(totals.connections_waiting as u64, "connection")
            );
            find(Level::Warn, "Held back", text, None);
        }
        if totals.connections == 0
            && captures.iter().all(|one| one.trouble.is_none() && one.refused.is_empty())
        {
            let text = "No region server is connected now: there is nothing to send, or none knows of this peer (weir check).";
            find(Level::Idle, "Waiting for region servers", text.to_owned(), None);
        }
        found.sort_by_key(|(level, ..)| std::cmp::Reverse(*level));
        let (level, word) = found.first().map_or((Level::Good, "Capturing"), |found| (found.0, found.1));
        State { level, word, reasons: found.into_iter().map(|(.., reason)| reason).collect() }
    }
}
