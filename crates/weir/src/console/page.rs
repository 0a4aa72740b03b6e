//! The page out of a picture: which figures, in which order, in which words. Rendered here, once, for the first load and
//! for each live change; the script only puts it in place and draws the charts.

use super::picture::{CapturePicture, Level, Picture, Reason, SourcePicture, TablePicture};
use super::play::Account;
use super::units;
use crate::pages;
use askama::Template;

/// Lines of a table that the page shows, busiest first. A cluster of a thousand region servers is not read line by line.
const ROWS_MAX: usize = 100;

/// The whole page.
#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    board: Board,
}

/// Everything that changes.
#[derive(Template)]
#[template(path = "board.html")]
struct Live {
    board: Board,
}

struct Board {
    title: String,
    level: &'static str,
    word: &'static str,
    reasons: Vec<Reason>,
    version: &'static str,
    uptime: String,
    clock: String,
    tiles: Vec<Tile>,
    play: Option<PlayBoard>,
    chart_note: String,
    sources: String,
    refused: String,
    tables: String,
    calls: String,
    faults: Vec<Fault>,
}

struct Tile {
    name: &'static str,
    value: String,
    /// Part of a bound, in thousandths.
    part: Option<usize>,
    note: String,
    level: &'static str,
}

struct PlayBoard {
    sums: Vec<Tile>,
    verdict: String,
}

struct Fault {
    code: &'static str,
    title: &'static str,
    when: String,
    text: String,
    level: &'static str,
}

#[derive(Template)]
#[template(path = "table.html")]
struct Table {
    id: &'static str,
    caption: &'static str,
    heads: Vec<Head>,
    rows: Vec<Vec<String>>,
    empty: &'static str,
    hidden: usize,
}

#[derive(Clone, Copy)]
struct Head {
    text: &'static str,
    /// `n` for numbers, `minor` for what a narrow screen leaves out.
    class: &'static str,
}

impl Table {
    fn cells<'a>(&'a self, row: &'a [String]) -> impl Iterator<Item = (&'a Head, &'a String)> {
        self.heads.iter().zip(row)
    }

    fn html(self) -> String {
        self.render().unwrap_or_default()
    }
}

/// The page as it is first loaded.
pub(super) fn page(picture: &Picture) -> Option<String> {
    Page { board: board(picture) }.render().ok()
}

/// What is put in its place, live; and the title.
pub(super) fn live(picture: &Picture) -> (String, String) {
    let live = Live { board: board(picture) };
    (live.render().unwrap_or_default(), live.board.title)
}

fn board(picture: &Picture) -> Board {
    let (now_ms, state) = (picture.now_ms, &picture.state);
    let outside = picture.totals.outside_per_s;
    Board {
        title: format!("{} · Weir", state.word),
        level: state.level.label(),
        word: state.word,
        reasons: state.reasons.clone(),
        version: picture.version,
        uptime: units::span((now_ms.saturating_sub(picture.started_ms)) / 1000 * 1000),
        clock: units::clock(now_ms),
        tiles: tiles(picture),
        play: picture.play.as_ref().map(play),
        chart_note: match outside {
            outside if outside < 1.0 => String::new(),
            outside => format!(
                "{} entries a second have write times outside of this chart: a backlog is being drained.",
                units::count(outside)
            ),
        },
        sources: sources(&picture.captures, now_ms),
        refused: refused(&picture.captures, now_ms),
        tables: tables(&picture.captures, now_ms),
        calls: calls(&picture.captures),
        faults: faults(&picture.captures, now_ms),
    }
}

fn tiles(picture: &Picture) -> Vec<Tile> {
    let totals = &picture.totals;
    let tile = |name, value, note| Tile { name, value, part: None, note, level: "" };
    let used = totals.in_flight_bytes as f64 / totals.in_flight_bytes_max.max(1) as f64;
    vec![
        tile(
            "Entries per second",
            units::count(totals.entries_per_s),
            format!("{} so far, {} cells", units::count_of(totals.entries), units::count_of(totals.cells)),
        ),
        tile(
            "Bytes per second",
            units::bytes(totals.bytes_per_s),
            format!("{} so far", units::bytes_of(totals.bytes)),
        ),
        tile(
            "Lag",
            units::ago(totals.last_write_ms, picture.now_ms),
            match totals.last_write_ms {
                0 => "nothing has come yet".to_owned(),
                at => format!("newest write {} UTC", units::clock(at)),
            },
        ),
        Tile {
            name: "In flight",
            value: units::bytes(totals.in_flight_bytes as f64),
            part: Some((used * 1000.0) as usize),
            note: match totals.connections_waiting {
                0 => format!("of {}", units::bytes(totals.in_flight_bytes_max as f64)),
                waiting => format!(
                    "of {}, {} wait",
                    units::bytes(totals.in_flight_bytes_max as f64),
                    units::counted(waiting as u64, "connection")
                ),
            },
            level: if totals.connections_waiting > 0 { "warn" } else { "" },
        },
        tile(
            "Calls open",
            units::whole(totals.calls_open),
            format!("on {}", units::counted(totals.connections, "connection")),
        ),
        Tile {
            name: "Calls to come again",
            value: units::count_of(totals.failed),
            part: None,
            note: format!("{} answered OK", units::count_of(totals.done)),
            level: if picture.state.level == Level::Bad { "bad" } else { "" },
        },
    ]
}

fn play(account: &Account) -> PlayBoard {
    let sum = |name, value, level| Tile { name, value, part: None, note: String::new(), level };
    let is_whole = account.lost == 0;
    let plays = units::counted(account.verified, "play");
    let verdict = match (account.verified, account.misplaced) {
        (0, _) => "The account is closed at the end of the play, when the log is read to its last record."
            .to_owned(),
        (_, _) if !is_whole => format!("{plays} checked to the end of the log: messages are missing."),
        (_, 0) => format!("{plays} checked to the end of the log: every message is there, in its 100 ms."),
        (_, wrong) => {
            format!("{plays} checked to the end of the log: {wrong} messages are not in their 100 ms.")
        }
    };
    PlayBoard {
        sums: vec![
            sum("sent", units::whole(account.sent), ""),
            sum("in the log", units::whole(account.in_log), ""),
            sum("counted", units::whole(account.counted), ""),
            sum("on the way", units::whole(account.on_the_way()), "minor"),
            sum("lost", units::whole(account.lost), if is_whole { "good" } else { "bad" }),
            sum("duplicates", units::whole(account.duplicates), "minor"),
        ],
        verdict,
    }
}

const fn head(text: &'static str) -> Head {
    Head { text, class: "" }
}

const fn number(text: &'static str) -> Head {
    Head { text, class: "n" }
}

const fn minor(text: &'static str) -> Head {
    Head { text, class: "n minor" }
}

/// A table with the name of the capture before each line, when there is more than one.
fn by_capture(captures: &[CapturePicture], mut table: Table, lines: Vec<(&str, f64, Vec<String>)>) -> String {
    let mut lines = lines;
    if lines.len() > ROWS_MAX {
        lines.sort_by(|left, right| right.1.total_cmp(&left.1));
    }
    let has_names = captures.len() > 1;
    if has_names {
        table.heads.insert(0, head("capture"));
    }
    table.hidden = lines.len().saturating_sub(ROWS_MAX);
    table.rows = lines
        .into_iter()
        .take(ROWS_MAX)
        .map(|(name, _, mut cells)| {
            if has_names {
                cells.insert(0, name.to_owned());
            }
            cells
        })
        .collect();
    table.html()
}

fn sources(captures: &[CapturePicture], now_ms: u64) -> String {
    let line = |source: &SourcePicture| {
        vec![
            source.address.clone(),
            if source.version.is_empty() { "–".to_owned() } else { source.version.clone() },
            units::whole(source.connections),
            units::count_of(source.calls),
            units::count(source.entries_per_s),
            units::bytes(source.bytes_per_s),
            units::count_of(source.entries),
            units::ago(source.last_write_ms, now_ms),
            units::ago(source.last_entry_ms, now_ms),
        ]
    };
    let lines = captures.iter().flat_map(|one| {
        one.sources.iter().map(|source| (one.name.as_str(), source.entries_per_s, line(source)))
    });
    let heads = vec![
        head("address"),
        Head { text: "HBase", class: "minor" },
        minor("connections"),
        minor("calls"),
        number("entries/s"),
        number("bytes/s"),
        minor("entries"),
        number("lag"),
        minor("last entry"),
    ];
    let empty = "No region server has come yet. Once `weir peer add` has told HBase of this process, each one appears here.";
    let table = Table { id: "sources", caption: "Region servers", heads, rows: Vec::new(), empty, hidden: 0 };
    by_capture(captures, table, lines.collect())
}

/// Machines that are refused; nothing when there is none.
fn refused(captures: &[CapturePicture], now_ms: u64) -> String {
    let lines: Vec<(&str, f64, Vec<String>)> = captures
        .iter()
        .flat_map(|one| one.refused.iter().map(move |refused| (one.name.as_str(), refused)))
        .map(|(name, refused)| {
            let cells = vec![
                refused.server.clone(),
                refused.reason.clone(),
                refused.fix.clone(),
                units::whole(refused.count),
                units::ago(refused.last_ms, now_ms),
            ];
            (name, refused.last_ms as f64, cells)
        })
        .collect();
    if lines.is_empty() {
        return String::new();
    }
    let heads = vec![head("address"), head("reason"), head("fix"), minor("times"), number("last try")];
    let caption = "Refused connections and calls";
    let table = Table { id: "refused", caption, heads, rows: Vec::new(), empty: "", hidden: 0 };
    by_capture(captures, table, lines)
}

fn tables(captures: &[CapturePicture], now_ms: u64) -> String {
    let line = |table: &TablePicture| {
        vec![
            table.name.clone(),
            table.board.topic.clone(),
            units::count(table.entries_per_s),
            units::bytes(table.bytes_per_s),
            units::count_of(table.board.entries),
            units::count_of(table.board.cells),
            units::bytes_of(table.board.bytes),
            units::ago(table.board.last_write_ms, now_ms),
        ]
    };
    let lines = captures
        .iter()
        .flat_map(|one| one.tables.iter().map(|table| (one.name.as_str(), table.entries_per_s, line(table))));
    let heads = vec![
        head("table"),
        Head { text: "topic", class: "minor" },
        number("entries/s"),
        number("bytes/s"),
        minor("entries"),
        number("cells"),
        minor("record bytes"),
        number("last write"),
    ];
    let empty = "No table has sent anything yet. A family is replicated when its REPLICATION_SCOPE is 1.";
    let table =
        Table { id: "tables", caption: "Tables and topics", heads, rows: Vec::new(), empty, hidden: 0 };
    by_capture(captures, table, lines.collect())
}

fn calls(captures: &[CapturePicture]) -> String {
    let mut lines: Vec<(&str, f64, Vec<String>)> = Vec::new();
    for one in captures {
        let mut line = |what: String, count: u64| {
            lines.push((one.name.as_str(), 0.0, vec![what, units::whole(count)]));
        };
        line("answered OK: every record durable in Kafka".to_owned(), one.done);
        line("answered with a retriable error".to_owned(), one.again);
        line("given up before the source's time-out".to_owned(), one.late);
        line("repeats that overlapped their first attempt".to_owned(), one.overlaps);
        for (what, counts) in [("refused", &one.refused_counts), ("skipped", &one.skipped)] {
            let found = counts.iter().filter(|(_, count)| **count > 0);
            for (reason, count) in found {
                line(format!("{what}: {reason}"), *count);
            }
            if counts.values().all(|count| *count == 0) {
                line(what.to_owned(), 0);
            }
        }
    }
    let heads = vec![head("what"), number("count")];
    let caption = "Calls, refusals, skipped entries";
    let table = Table { id: "calls", caption, heads, rows: Vec::new(), empty: "No capture runs.", hidden: 0 };
    by_capture(captures, table, lines)
}

fn faults(captures: &[CapturePicture], now_ms: u64) -> Vec<Fault> {
    let of = |one: &CapturePicture| -> Vec<Fault> {
        let each = one.faults.iter().map(|(code, fault)| Fault {
            code,
            title: pages::find(code).map_or("", |page| page.title()),
            when: format!(
                "{}: {}, the last {} ago",
                one.name,
                units::counted(fault.count, "call"),
                units::ago(fault.last_ms, now_ms)
            ),
            text: fault.text.clone(),
            level: if super::picture::is_fresh(fault.last_ms, now_ms) { "bad" } else { "" },
        });
        each.collect()
    };
    captures.iter().flat_map(of).collect()
}
