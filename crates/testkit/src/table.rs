//! A real Java client of HBase, kept running: creates tables, adds peers, writes every kind of mutation, scans raw.

use crate::engine::hbase::{Cluster, Line};
use crate::engine::kept;
use crate::engine::maven::compile;
use crate::engine::process::{java, mortal, spawn};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use weir_wire::change;

/// One cell as the Java client's raw scan gives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScannedCell {
    /// Row key.
    pub row: Vec<u8>,
    /// Column family.
    pub family: Vec<u8>,
    /// Column qualifier.
    pub qualifier: Vec<u8>,
    /// Timestamp.
    pub timestamp: u64,
    /// Byte of the type.
    pub kind: u8,
    /// Value.
    pub value: Vec<u8>,
}

/// The running client.
#[derive(Debug)]
pub struct TableTool {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    log: PathBuf,
    _folder: TempDir,
}

impl TableTool {
    /// Starts the client of the cluster's own line.
    ///
    /// # Panics
    /// When it does not compile or start.
    #[must_use]
    pub fn start(hbase: &impl Cluster) -> Self {
        let (line, jars) = (hbase.line(), hbase.line().class_path());
        let name = format!("table-tool-{}", line.version());
        let classes = compile(&name, "TableTool.java", include_str!("../java/TableTool.java"), &jars);
        let mut folders = classes.display().to_string();
        // The clients of the oldest and the newest line lack what it calls.
        if !matches!(line, Line::V1_2 | Line::V3_0) {
            let name = format!("sink-tool-{}", line.version());
            let source = include_str!("../java/SinkTool.java");
            let more = compile(&name, "SinkTool.java", source, &format!("{folders}:{jars}"));
            folders = format!("{}:{folders}", more.display());
        }
        let port = hbase.zookeeper().rsplit(':').next().unwrap_or_default().to_owned();
        let (path, main) = line.run(&folders, &["TableTool", &port]);
        let folder = tempfile::Builder::new().prefix("weir-tool-").tempdir().expect("a temporary folder");
        // Two clients of one test have a log each.
        static STARTS: AtomicU32 = AtomicU32::new(0);
        let start = STARTS.fetch_add(1, Ordering::Relaxed);
        let log = folder.path().join(format!("table-tool-{start}.log"));
        let errors = File::create(&log).expect("the folder is writable");
        let mut command = mortal("java");
        command.args(java(256, &path, &main)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let mut child = spawn(command).expect("java is installed");
        let input = child.stdin.take().expect("standard input is piped");
        let output = BufReader::new(child.stdout.take().expect("standard output is piped"));
        Self { child, input, output, log, _folder: folder }
    }

    /// Runs one command; its lines of answer.
    ///
    /// # Panics
    /// When HBase refuses; with the exception.
    pub fn run(&mut self, command: &str) -> Vec<String> {
        writeln!(self.input, "{command}").and_then(|()| self.input.flush()).expect("the table tool lives");
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("the table tool answers in text");
            assert!(read > 0, "the table tool ended at {command:?}");
            match line.trim_end_matches('\n') {
                "ok" => return lines,
                error if error.starts_with("error ") => panic!("{command}: {error}"),
                other => lines.push(other.to_owned()),
            }
        }
    }

    /// Whether the client has ended.
    pub fn is_lost(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Every version of every cell, deletes too.
    pub fn raw_scan(&mut self, table: &str) -> Vec<ScannedCell> {
        self.run(&format!("scan {table}")).iter().map(|line| parse(line)).collect()
    }
}

fn parse(line: &str) -> ScannedCell {
    let words: Vec<&str> = line.split('\t').collect();
    let [row, family, qualifier, timestamp, kind, value] = words.as_slice() else {
        panic!("not a cell: {line:?}")
    };
    ScannedCell {
        row: hex(row),
        family: hex(family),
        qualifier: hex(qualifier),
        timestamp: timestamp.parse().expect("a timestamp"),
        kind: kind.parse().expect("a type"),
        value: hex(value),
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

impl Drop for TableTool {
    fn drop(&mut self) {
        if std::thread::panicking() {
            kept::keep(&self.log);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Identity of a cell in a table: row, family, qualifier, timestamp, type. A later write of the same hides the earlier.
pub type CellKey = (Vec<u8>, Vec<u8>, Vec<u8>, u64, u8);

/// A table as its cells.
pub type Cells = BTreeMap<CellKey, Vec<u8>>;

/// Replays change records in memory: of cells with one identity, the one with the highest sequence number counts.
#[derive(Debug, Default)]
pub struct Replay {
    cells: BTreeMap<CellKey, (u64, Vec<u8>)>,
    seen: HashSet<(String, u64)>,
    /// Records that came again.
    pub duplicates: u64,
}

impl Replay {
    /// Takes the value of one record.
    ///
    /// # Panics
    /// When it is no change record.
    pub fn take(&mut self, value: &[u8]) {
        let change = change::decode(value).expect("a change record");
        if !self.seen.insert((change.encoded_region.to_owned(), change.sequence)) {
            self.duplicates += 1;
        }
        for cell in change.cells {
            let key = (
                cell.row.to_vec(),
                cell.family.to_vec(),
                cell.qualifier.to_vec(),
                cell.timestamp,
                cell.kind.0,
            );
            let slot = self.cells.entry(key).or_default();
            if slot.0 <= change.sequence {
                *slot = (change.sequence, cell.value.to_vec());
            }
        }
    }

    /// The table that the log describes.
    #[must_use]
    pub fn cells(&self) -> Cells {
        self.cells.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect()
    }
}

/// The replicated family `f` of a raw scan.
#[must_use]
pub fn replicated(scan: Vec<ScannedCell>) -> Cells {
    let cells = scan.into_iter().filter(|cell| cell.family == b"f");
    cells
        .map(|cell| ((cell.row, cell.family, cell.qualifier, cell.timestamp, cell.kind), cell.value))
        .collect()
}
