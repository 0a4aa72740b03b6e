//! Reading rows in order, region after region.
//!
//! A failure anywhere opens the scanner again after the last row that was given, so that each row is given once and in
//! order, whatever moves, splits or dies. While the caller is slow, the scanner's lease is renewed.

use super::locate::{Attempts, Location};
use super::retry;
use super::{Error, Table};
use crate::rpc::{Answer, RpcError, Server};
use bytes::Bytes;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use weir_wire::hbase::cell_block::Cell;
use weir_wire::hbase::client::{
    Block, Lookup, Row, Scan, ScanAnswer, ScanLimits, close_request, next_request, open_request, parse_scan,
    renew_request,
};

/// How long a call that renews or closes a scanner may take.
const SMALL_CALL_WAIT: Duration = Duration::from_secs(10);

/// Rows of a scan, in order.
#[derive(Debug)]
pub struct Scanner {
    table: Table,
    scan: Scan,
    /// Where to open next: a row, and whether it is read itself.
    position: (Bytes, bool),
    open: Option<Open>,
    /// Parts of a row that is not whole yet.
    parts: Vec<Row>,
    ready: VecDeque<Row>,
    last: Option<Last>,
    row_count: u64,
    /// Set while a call is under way: still set at the next one when the caller has dropped the future in between.
    is_calling: bool,
    is_done: bool,
}

/// The last cell that was given.
#[derive(Debug)]
struct Last {
    row: Bytes,
    family: Bytes,
    qualifier: Bytes,
    timestamp: u64,
    kind: u8,
}

/// A scanner that is open on a server.
#[derive(Debug)]
struct Open {
    location: Arc<Location>,
    server: Arc<Server>,
    /// Its number; `None` when the server had nothing more to give.
    scanner: Option<u64>,
    /// Held during a call. The time of the last call; `None` when the server does not know the scanner any more.
    last_call: Arc<tokio::sync::Mutex<Option<Instant>>>,
    keeper: Option<AbortHandle>,
}

impl Scanner {
    pub(super) fn new(table: Table, scan: Scan) -> Self {
        let (start, is_included) = scan.start();
        let position = match (scan.is_reversed(), is_included) {
            (false, false) if !start.is_empty() => (after(start), true),
            (false, _) => (start.clone(), true),
            // A reversed scan from nowhere starts before the end of the table.
            (true, _) => (start.clone(), is_included && !start.is_empty()),
        };
        let is_done = scan.row_limit() == Some(0);
        Self {
            table,
            scan,
            position,
            open: None,
            parts: Vec::new(),
            ready: VecDeque::new(),
            last: None,
            row_count: 0,
            is_calling: false,
            is_done,
        }
    }

    /// The next row, or part of a row when the scan allows parts; `None` at the end.
    ///
    /// After an error the scan may be asked again: it goes on after the last row that was given. It does so, too, when
    /// the future was dropped before its end.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Ok(Some(row));
            }
            if self.is_done {
                return Ok(None);
            }
            self.fetch().await?;
        }
    }

    /// All rows that are left. For scans that are known to be small: nothing bounds the memory but the scan's limit.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn collect(mut self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        while let Some(row) = self.next().await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Makes calls until there are rows, or the region has ended.
    async fn fetch(&mut self) -> Result<(), Error> {
        let mut attempts = Attempts::new("scan", self.table.name(), &self.table.inner.locator.options);
        loop {
            if self.is_calling {
                // The rows of a call that nobody waited for are lost with it, so the server's scanner is too far.
                self.parts.clear();
                self.close();
            }
            self.is_calling = true;
            let answer = self.call(attempts.deadline).await;
            self.is_calling = false;
            let (verdict, error) = match answer {
                Ok(answer) => {
                    let is_progress = !answer.rows.is_empty() || answer.is_heartbeat;
                    self.take(answer);
                    if self.is_done || !self.ready.is_empty() {
                        return Ok(());
                    }
                    if is_progress {
                        attempts =
                            Attempts::new("scan", self.table.name(), &self.table.inner.locator.options);
                    }
                    continue;
                }
                Err((location, error)) => {
                    self.open = None;
                    self.parts.clear();
                    let locator = &self.table.inner.locator;
                    let verdict = match location {
                        Some(location) => locator.failed(self.table.name(), &location, &error),
                        None => retry::of_error(&error),
                    };
                    (verdict, error)
                }
            };
            attempts.next(verdict, error).await?;
        }
    }

    /// One call: opens a scanner, or reads on.
    async fn call(&mut self, deadline: Instant) -> Result<ScanAnswer, (Option<Arc<Location>>, Error)> {
        let limits = self.limits();
        let locator = &self.table.inner.locator;
        let deadline = locator.call_deadline(deadline);
        if let Some(open) = &self.open
            && let Some(scanner) = open.scanner
        {
            let mut last_call = open.last_call.lock().await;
            let failed = |error: RpcError| (Some(open.location.clone()), error.into());
            let answer = open.server.call("Scan", &next_request(scanner, &limits), &[], deadline).await;
            let answer = answer.and_then(|answer| parse(answer, open.server.address())).map_err(failed)?;
            *last_call = Some(Instant::now());
            return Ok(answer);
        }
        let (row, is_included) = &self.position;
        let lookup = if *is_included { Lookup::Holding(row) } else { Lookup::Before(row) };
        let found = locator.locate(self.table.name(), lookup, deadline).await;
        let location = found.map_err(|error| (None, error))?;
        let server = locator.server(&location);
        let scan = match is_included {
            true => self.scan.clone().from_inclusive(row.clone()),
            false => self.scan.clone().from_exclusive(row.clone()),
        };
        let request = open_request(&location.region, &scan, &limits);
        let answer = server.call("Scan", &request, &[], deadline).await;
        let answer = answer
            .and_then(|answer| parse(answer, server.address()))
            .map_err(|error| (Some(location.clone()), error.into()))?;
        let last_call = Arc::new(tokio::sync::Mutex::new(Some(Instant::now())));
        let lease = Duration::from_millis(u64::from(answer.lease_ms.unwrap_or(60_000)));
        let scanner = answer.scanner;
        let keeper = scanner.map(|scanner| keep(server.clone(), scanner, last_call.clone(), lease));
        self.open = Some(Open { location, server, scanner, last_call, keeper });
        Ok(answer)
    }

    fn limits(&self) -> ScanLimits {
        let left = self.scan.row_limit().map(|limit| limit.saturating_sub(self.row_count));
        let left = left.map_or(0, |left| u32::try_from(left).unwrap_or(u32::MAX));
        let rows = self.scan.call_rows().max(1);
        let rows = if left > 0 { rows.min(left) } else { rows };
        // Rows that were read before may come once more after a failure, so that only a fresh scan can be cut by the
        // server; parts of rows are not rows.
        let is_fresh = self.last.is_none() && !self.scan.gives_parts();
        ScanLimits { rows, rows_left: if is_fresh { left } else { 0 }, closes: false }
    }

    /// Takes the rows of an answer, and moves on to the next region when this one has ended.
    fn take(&mut self, answer: ScanAnswer) {
        let is_region_done = match answer.has_more_in_region {
            Some(has_more) => !has_more,
            None => answer.rows.is_empty() && !answer.is_heartbeat,
        };
        let is_region_done = is_region_done || self.open.as_ref().is_none_or(|open| open.scanner.is_none());
        let is_scan_done = answer.has_more == Some(false);
        for row in answer.rows {
            if self.is_done {
                break;
            }
            self.take_row(row);
        }
        if self.is_done {
            self.close();
        } else if is_scan_done || is_region_done {
            self.flush_parts();
            let location = self.open.as_ref().map(|open| open.location.clone());
            self.close();
            match location {
                _ if is_scan_done => self.is_done = true,
                Some(location) => self.region_ended(&location),
                None => {}
            }
        }
    }

    fn take_row(&mut self, row: Row) {
        let Some(row) = self.unseen(row) else { return };
        if self.scan.gives_parts() {
            self.give(row);
            return;
        }
        if self.parts.first().is_some_and(|part| part.key() != row.key()) {
            // The last part that was sent of it was the last one that there was.
            self.flush_parts();
            if self.is_done {
                return;
            }
        }
        let is_partial = row.is_partial();
        self.parts.push(row);
        if !is_partial {
            self.flush_parts();
        }
    }

    fn flush_parts(&mut self) {
        if !self.parts.is_empty() {
            let row = Row::join(&self.parts).with_partial(false);
            self.parts.clear();
            self.give(row);
        }
    }

    /// What of a row was not given yet: after a failure a server may send some of it a second time.
    fn unseen(&self, row: Row) -> Option<Row> {
        if row.is_empty() {
            return None;
        }
        let Some(last) = &self.last else { return Some(row) };
        let order = row.key().cmp(&last.row);
        let order = if self.scan.is_reversed() { order.reverse() } else { order };
        match order {
            std::cmp::Ordering::Greater => Some(row),
            std::cmp::Ordering::Less => None,
            std::cmp::Ordering::Equal if !self.scan.gives_parts() => None,
            std::cmp::Ordering::Equal => {
                let row = row.without_first(|cell| last.is_at_or_after(cell));
                (!row.is_empty()).then_some(row)
            }
        }
    }

    fn give(&mut self, row: Row) {
        let is_new = self.last.as_ref().is_none_or(|last| last.row != row.key());
        if is_new {
            if self.scan.row_limit().is_some_and(|limit| self.row_count >= limit) {
                self.is_done = true;
                return;
            }
            self.row_count += 1;
        }
        let Some(cell) = row.cells().last() else { return };
        self.last = Some(Last::new(&cell));
        let key = Bytes::copy_from_slice(row.key());
        self.position = match (self.scan.gives_parts(), self.scan.is_reversed()) {
            (true, _) => (key, true),
            (false, false) => (after(&key), true),
            (false, true) => (key, false),
        };
        self.ready.push_back(row);
        let is_last = self.scan.row_limit().is_some_and(|limit| self.row_count >= limit);
        if is_last && !self.scan.gives_parts() {
            self.is_done = true;
        }
    }

    /// Moves on to the region behind this one, or ends.
    fn region_ended(&mut self, location: &Location) {
        let (region, (stop, is_stop_included)) = (&location.region, self.scan.stop());
        if self.scan.is_reversed() {
            // What is left is below the region's first row.
            self.is_done |= region.start.is_empty() || (!stop.is_empty() && region.start <= *stop);
            self.position = (region.start.clone(), false);
        } else {
            let is_past = if is_stop_included { region.end > *stop } else { region.end >= *stop };
            self.is_done |= region.end.is_empty() || (!stop.is_empty() && is_past);
            self.position = (region.end.clone(), true);
        }
    }

    /// Closes the scanner at the server, without waiting for it.
    fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.close();
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    fn close(&mut self) {
        let Some(scanner) = self.scanner.take() else { return };
        let server = self.server.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let deadline = Instant::now() + SMALL_CALL_WAIT;
                // A server that does not know it any more has closed it already.
                let _ = server.call("Scan", &close_request(scanner), &[], deadline).await;
            });
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            keeper.abort();
        }
    }
}

impl Last {
    fn new(cell: &Cell<'_>) -> Self {
        Self {
            row: Bytes::copy_from_slice(cell.row),
            family: Bytes::copy_from_slice(cell.family),
            qualifier: Bytes::copy_from_slice(cell.qualifier),
            timestamp: cell.timestamp,
            kind: cell.kind.0,
        }
    }

    /// Whether a cell of the same row comes no later than this one: newer timestamps and larger types come first.
    fn is_at_or_after(&self, cell: &Cell<'_>) -> bool {
        let other = (cell.family, cell.qualifier, Reverse(cell.timestamp), Reverse(cell.kind.0));
        let this = (&*self.family, &*self.qualifier, Reverse(self.timestamp), Reverse(self.kind));
        other <= this
    }
}

fn parse(answer: Answer, address: &str) -> Result<ScanAnswer, RpcError> {
    parse_scan(&answer.message, &mut Block::new(answer.block))
        .map_err(|source| RpcError::Corrupt { address: address.to_owned(), source })
}

/// Renews the lease of a scanner whenever a third of it has passed without a call. Ends when that fails.
fn keep(
    server: Arc<Server>,
    scanner: u64,
    last_call: Arc<tokio::sync::Mutex<Option<Instant>>>,
    lease: Duration,
) -> AbortHandle {
    let every = (lease / 3).max(Duration::from_millis(10));
    let task = tokio::spawn(async move {
        let mut next = Instant::now() + every;
        loop {
            sleep_until(next).await;
            let mut last_call = last_call.lock().await;
            let Some(last) = *last_call else { return };
            next = last + every;
            if next > Instant::now() {
                continue;
            }
            let deadline = Instant::now() + SMALL_CALL_WAIT;
            match server.call("Scan", &renew_request(scanner), &[], deadline).await {
                Ok(_) => {
                    *last_call = Some(Instant::now());
                    next = Instant::now() + every;
                }
                Err(error) => {
                    tracing::debug!(error = %error, "a scanner's lease was not renewed");
                    *last_call = None;
                    return;
                }
            }
        }
    });
    task.abort_handle()
}

/// The row right after this one.
fn after(row: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(row.len() + 1);
    next.extend_from_slice(row);
    next.push(0);
    Bytes::from(next)
}
