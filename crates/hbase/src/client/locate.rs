//! Finding the region of a row: what is known, else `hbase:meta`, whose own place ZooKeeper knows.

use super::region_cache::RegionCache;
use super::registry::Registry;
use super::retry::{self, Verdict};
use super::{Error, Options};
use crate::rpc::{RpcError, Server, Servers};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};
use weir_model::TableName;
use weir_wire::hbase::client::{Lookup, MetaRow, RegionInfo, moved_to};
use weir_wire::hbase::zk::ServerName;

/// Look-ups in `hbase:meta` at a time: all of a cluster's clients share its one region.
const LOOKUPS_MAX: usize = 8;

/// A region and the server that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Region.
    pub region: RegionInfo,
    /// Server.
    pub server: ServerName,
    /// Sequence number of the region when it was opened there: of two locations the one with the larger number is newer.
    pub open_sequence: u64,
}

/// Finds regions, and remembers them.
#[derive(Debug)]
pub(super) struct Locator {
    registry: Registry,
    pub(super) servers: Servers,
    pub(super) options: Options,
    known: Mutex<RegionCache>,
    meta: tokio::sync::Mutex<Option<Arc<Location>>>,
    lookups: Semaphore,
}

impl Locator {
    pub(super) fn new(registry: Registry, servers: Servers, options: Options) -> Self {
        Self {
            registry,
            servers,
            options,
            known: Mutex::default(),
            meta: tokio::sync::Mutex::default(),
            lookups: Semaphore::new(LOOKUPS_MAX),
        }
    }

    pub(super) fn known(&self) -> std::sync::MutexGuard<'_, RegionCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of a location.
    pub(super) fn server(&self, location: &Location) -> Arc<Server> {
        self.servers.at(&location.server)
    }

    /// When one call that starts now must have its answer.
    pub(super) fn call_deadline(&self, deadline: Instant) -> Instant {
        deadline.min(Instant::now() + self.options.rpc_timeout)
    }

    /// Finds a region. One try: the caller's loop tries again.
    ///
    /// # Errors
    /// `TableNotFound`; what may pass by itself otherwise.
    pub(super) async fn locate(
        &self,
        table: &TableName,
        lookup: Lookup<'_>,
        deadline: Instant,
    ) -> Result<Arc<Location>, Error> {
        if is_meta(table) {
            return self.meta(deadline).await;
        }
        if let Some(location) = self.known().find(table, lookup) {
            return Ok(location);
        }
        let out_of_time = |_| no_region(table, "no answer from hbase:meta in time");
        let turn = timeout_at(deadline, self.lookups.acquire()).await.map_err(out_of_time)?;
        // Whoever had the turn before may have found it.
        if let Some(location) = self.known().find(table, lookup) {
            return Ok(location);
        }
        let found = self.look_up(table, lookup, deadline).await?;
        drop(turn);
        self.known().insert(table, found.clone());
        Ok(found)
    }

    async fn look_up(
        &self,
        table: &TableName,
        lookup: Lookup<'_>,
        deadline: Instant,
    ) -> Result<Arc<Location>, Error> {
        let meta = self.meta(deadline).await?;
        let server = self.server(&meta);
        let answer =
            match server.call("Scan", &lookup.request(table), &[], self.call_deadline(deadline)).await {
                Ok(answer) => answer,
                Err(error) => {
                    self.meta_failed(&meta);
                    return Err(error.into());
                }
            };
        let row = MetaRow::parse_answer(&answer.message, answer.block)
            .map_err(|source| RpcError::Corrupt { address: server.address().to_owned(), source })?;
        let row = match row {
            Some(row) if row.region.table == table.as_str() => row,
            Some(_) | None => return Err(Error::TableNotFound { table: table.clone() }),
        };
        if row.region.is_offline || row.region.is_split {
            return Err(no_region(table, "the region is offline: it is being split, merged or disabled"));
        }
        if !lookup.fits(&row.region) {
            return Err(no_region(table, "no region in hbase:meta holds the row"));
        }
        let Some(server) = row.server else {
            return Err(no_region(table, "the region is not assigned to a server"));
        };
        Ok(Arc::new(Location { region: row.region, server, open_sequence: row.open_sequence }))
    }

    /// Where `hbase:meta` is.
    async fn meta(&self, deadline: Instant) -> Result<Arc<Location>, Error> {
        let late = |_| Error::Registry {
            quorum: self.registry.quorum.clone(),
            cause: "another look has not ended in time".to_owned(),
        };
        let mut place = timeout_at(deadline, self.meta.lock()).await.map_err(late)?;
        if let Some(location) = &*place {
            return Ok(location.clone());
        }
        let server = self.registry.meta(deadline).await?;
        let location = Arc::new(Location { region: RegionInfo::meta(), server, open_sequence: 0 });
        *place = Some(location.clone());
        Ok(location)
    }

    fn meta_failed(&self, location: &Arc<Location>) {
        // Whoever holds it looks for another location already.
        let Ok(mut place) = self.meta.try_lock() else { return };
        if place.as_ref().is_some_and(|known| Arc::ptr_eq(known, location)) {
            *place = None;
        }
    }

    /// Draws the conclusions from a failure at a region: what is forgotten, and what is done next.
    pub(super) fn failed(&self, table: &TableName, location: &Arc<Location>, error: &Error) -> Verdict {
        let verdict = retry::of_error(error);
        if is_meta(table) {
            self.meta_failed(location);
            return verdict;
        }
        match verdict {
            Verdict::Relocate => self.known().remove(table, location),
            Verdict::Moved => {
                let text = error.exception().map_or("", |exception| &exception.text);
                match moved_to(text) {
                    // Servers remember for minutes where they gave a region to. Two that gave it to each other would send
                    // us to and fro after it was split: only what is newer counts.
                    Some((server, sequence)) if sequence > location.open_sequence => {
                        self.known().moved(table, location, server, sequence);
                    }
                    Some(_) | None => self.known().remove(table, location),
                }
            }
            Verdict::ServerGone => {
                self.server(location).disconnect();
                self.known().remove_server(&location.server);
            }
            Verdict::SameServer | Verdict::Overloaded | Verdict::ReopenScanner | Verdict::Fail => {}
        }
        verdict
    }
}

fn no_region(table: &TableName, why: &'static str) -> Error {
    Error::NoRegion { table: table.clone(), why }
}

fn is_meta(table: &TableName) -> bool {
    table.as_str() == "hbase:meta"
}

/// The attempts of one operation: counts them, waits between them, ends at the deadline.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) doing: &'static str,
    table: TableName,
    started: Instant,
    pub(super) deadline: Instant,
    attempts: u32,
    /// Failures since anything was done.
    failures: u32,
}

impl Attempts {
    pub(super) fn new(doing: &'static str, table: &TableName, options: &Options) -> Self {
        let started = Instant::now();
        let deadline = started + options.operation_timeout;
        Self { doing, table: table.clone(), started, deadline, attempts: 0, failures: 0 }
    }

    /// Waits before the next attempt; the error of the operation when there is none.
    pub(super) async fn next(&mut self, verdict: Verdict, error: Error) -> Result<(), Error> {
        if verdict == Verdict::Fail {
            return Err(error);
        }
        self.attempts = self.attempts.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        let next = Instant::now() + retry::pause(verdict, self.failures);
        if next >= self.deadline {
            return Err(self.exceeded(error));
        }
        tracing::debug!(
            table = %self.table, doing = self.doing, failures = self.failures, error = %error.chain(), "try again"
        );
        sleep_until(next).await;
        Ok(())
    }

    /// Some of it was done: pauses are short again, but no look-up is at once any more.
    pub(super) fn progress(&mut self) {
        self.failures = self.failures.min(1);
    }

    fn exceeded(&self, error: Error) -> Error {
        Error::DeadlineExceeded {
            doing: self.doing,
            table: self.table.clone(),
            waited: self.started.elapsed(),
            attempts: self.attempts.max(1),
            last: Box::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::Hello;
    use weir_wire::hbase::call::RemoteException;

    fn moved(port: u16, sequence: u64) -> Error {
        let class = "org.apache.hadoop.hbase.exceptions.RegionMovedException";
        let text = format!(
            "{class}: Region moved to: hostname=rs port={port} startCode=1. As of locationSeqNum={sequence}.\n\tat x"
        );
        RpcError::Remote { address: "rs:1".to_owned(), exception: RemoteException::retriable(class, text) }
            .into()
    }

    /// Two servers of 2.6.4 that had given a region to each other sent clients to and fro after it was split.
    #[test]
    fn a_move_is_only_believed_when_it_is_newer_than_what_is_known() {
        let registry = Registry { quorum: "127.0.0.1:1".to_owned(), parent: "/hbase".to_owned() };
        let hello = Hello { user: "tester".to_owned(), service: "ClientService" };
        let locator = Locator::new(registry, Servers::new(hello, 1), Options::default());
        let table = TableName::new("t").expect("a name");
        let server = |port| ServerName { host: "rs".to_owned(), port, start_code: 1 };
        let region = RegionInfo { name: "t,,1.x.".into(), ..RegionInfo::meta() };
        let here = Arc::new(Location { region, server: server(1), open_sequence: 10 });
        let find = || locator.known().find(&table, Lookup::Holding(b"a"));

        locator.known().insert(&table, here.clone());
        assert_eq!(locator.failed(&table, &here, &moved(2, 20)), Verdict::Moved);
        let there = find().expect("it is known");
        assert_eq!((&there.server, there.open_sequence), (&server(2), 20));
        assert_eq!(locator.failed(&table, &there, &moved(1, 10)), Verdict::Moved);
        assert!(find().is_none(), "meta is asked");
    }
}
