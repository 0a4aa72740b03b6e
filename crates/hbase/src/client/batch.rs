//! Many actions at a time, by region server, each with an outcome of its own.
//!
//! Actions of one row are done in the order of the list. Rounds: find the regions of all that is left, ask all servers at
//! the same time, keep what failed and may pass by itself for the next round.

use super::cluster::Inner;
use super::locate::{Attempts, Location};
use super::region_cache::RegionCache;
use super::retry::{self, Verdict};
use super::{Error, Table};
use crate::rpc::RpcError;
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_model::TableName;
use weir_model::limits::{CLIENT_BATCH_ACTIONS_MAX, CLIENT_BATCH_BYTES_MAX};
use weir_wire::hbase::client::{Action, Get, Lookup, MultiAnswer, MultiRequest, Mutation, Row, parse_multi};
use weir_wire::hbase::zk::ServerName;

/// A batch while it is done.
struct Batch {
    inner: Arc<Inner>,
    table: TableName,
    actions: Vec<Action>,
    /// The same at every try, so that a server can tell a repetition.
    nonces: Vec<Option<u64>>,
}

/// The part of a round that goes to one server: actions by region.
#[derive(Default)]
struct Share {
    regions: Vec<(Arc<Location>, Vec<usize>)>,
    /// Where a region stands in the list.
    places: HashMap<Bytes, usize>,
}

/// Failed look-ups of one round. After enough of them what is known is sent, and `hbase:meta` is spared.
#[derive(Default)]
struct Missing {
    count: usize,
    last: Option<Error>,
}

impl Missing {
    fn note(&mut self, error: &Error) {
        self.count += 1;
        self.last = Some(error.clone());
    }

    /// A region that is on its way says nothing of the others; a table or a meta that is not there does.
    fn is_enough(&self) -> bool {
        const LOOKUPS_FAILED_MAX: usize = 32;
        let is_general = self.last.as_ref().is_some_and(|error| !matches!(error, Error::NoRegion { .. }));
        is_general || self.count >= LOOKUPS_FAILED_MAX
    }

    fn step(&self) -> Step {
        match &self.last {
            Some(error) if retry::of_error(error) == Verdict::Fail => Step::Unplaced(error.clone()),
            Some(_) | None => Step::Held,
        }
    }
}

/// What came of one action in one round.
enum Step {
    Done(Row),
    Failed(Arc<Location>, Error),
    /// Its region was not found.
    Unplaced(Error),
    /// Not sent: an action of the same row, or the whole call before it, has failed.
    Held,
}

impl Table {
    /// Does many actions and answers with the outcome of each, in their order: a row, empty for puts and deletes.
    ///
    /// One action that fails does not touch the others. Actions of one row are done in the order of the list, while
    /// those of different rows are done in any order.
    pub async fn batch<A: Into<Action>>(
        &self,
        actions: impl IntoIterator<Item = A>,
    ) -> Vec<Result<Row, Error>> {
        let actions: Vec<Action> = actions.into_iter().map(Into::into).collect();
        let needs_nonce = |action: &Action| match action {
            Action::Mutation(mutation) => mutation.kind().needs_nonce(),
            _ => false,
        };
        let nonces = actions.iter().map(|action| needs_nonce(action).then(|| self.inner.nonce())).collect();
        let batch = Batch { inner: self.inner.clone(), table: self.name.clone(), actions, nonces };
        Arc::new(batch).run().await
    }

    /// Reads many rows; the outcomes are in the order of the gets.
    ///
    /// # Errors
    /// The first error of any of them.
    pub async fn get_many(&self, gets: impl IntoIterator<Item = Get>) -> Result<Vec<Row>, Error> {
        self.batch(gets).await.into_iter().collect()
    }

    /// Does many mutations of any kind.
    ///
    /// # Errors
    /// The first error of any of them; the others may be done all the same.
    pub async fn mutate_many<M: Into<Mutation>>(
        &self,
        mutations: impl IntoIterator<Item = M>,
    ) -> Result<(), Error> {
        let outcomes = self.batch(mutations.into_iter().map(|one| Action::Mutation(one.into()))).await;
        outcomes.into_iter().try_for_each(|outcome| outcome.map(|_| ()))
    }
}

impl Batch {
    async fn run(self: Arc<Self>) -> Vec<Result<Row, Error>> {
        let mut attempts = Attempts::new("batch", &self.table, &self.inner.locator.options);
        let mut outcomes: Vec<Option<Result<Row, Error>>> = vec![None; self.actions.len()];
        let mut left = Vec::new();
        for (index, (action, outcome)) in self.actions.iter().zip(&mut outcomes).enumerate() {
            match action.wrong() {
                Some(what) => *outcome = Some(Err(Error::Invalid { what })),
                None => left.push(index),
            }
        }
        while !left.is_empty() {
            let (mut worst, mut last) = (None, None);
            for (index, step) in self.round(&left, attempts.deadline).await {
                let (verdict, error) = match step {
                    Step::Done(row) => {
                        attempts.progress();
                        set(&mut outcomes, index, Ok(row));
                        continue;
                    }
                    Step::Failed(location, error) => {
                        (self.inner.locator.failed(&self.table, &location, &error), error)
                    }
                    Step::Unplaced(error) => (retry::of_error(&error), error),
                    Step::Held => continue,
                };
                if verdict == Verdict::Fail {
                    set(&mut outcomes, index, Err(error));
                } else {
                    worst = graver(worst, verdict);
                    last = Some(error);
                }
            }
            left.retain(|index| outcomes.get(*index).is_some_and(Option::is_none));
            if left.is_empty() {
                break;
            }
            let why = "the calls were cancelled";
            let error = last.unwrap_or_else(|| Error::NoRegion { table: self.table.clone(), why });
            if let Err(error) = attempts.next(worst.unwrap_or(Verdict::SameServer), error).await {
                left.iter().for_each(|index| set(&mut outcomes, *index, Err(error.clone())));
                break;
            }
        }
        let missing = || Err(Error::Invalid { what: "an action without an outcome" });
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(missing)).collect()
    }

    /// One try of all that is left.
    async fn round(self: &Arc<Self>, left: &[usize], deadline: Instant) -> Vec<(usize, Step)> {
        let (shares, mut steps) = self.share_out(left, deadline).await;
        let mut running = JoinSet::new();
        for share in shares.into_values() {
            let batch = self.clone();
            running.spawn(async move { batch.send(share, deadline).await });
        }
        while let Some(done) = running.join_next().await {
            match done {
                Ok(more) => steps.extend(more),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => {}
            }
        }
        steps
    }

    /// Finds the region of each action. In one round each row has one place, so that its actions stay in order.
    async fn share_out(
        &self,
        left: &[usize],
        deadline: Instant,
    ) -> (HashMap<ServerName, Share>, Vec<(usize, Step)>) {
        let locator = &self.inner.locator;
        let mut here = RegionCache::default();
        let mut shares: HashMap<ServerName, Share> = HashMap::new();
        let mut steps = Vec::new();
        let mut missing = Missing::default();
        for &index in left {
            let Some(action) = self.actions.get(index) else { continue };
            let lookup = Lookup::Holding(action.row());
            let location = match here.find(&self.table, lookup) {
                Some(location) => location,
                None if missing.is_enough() => {
                    steps.push((index, missing.step()));
                    continue;
                }
                None => match locator.locate(&self.table, lookup, deadline).await {
                    Ok(location) => {
                        here.insert(&self.table, location.clone());
                        location
                    }
                    Err(error) => {
                        missing.note(&error);
                        steps.push((index, Step::Unplaced(error)));
                        continue;
                    }
                },
            };
            let share = shares.entry(location.server.clone()).or_default();
            let place = *share.places.entry(location.region.name.clone()).or_insert(share.regions.len());
            match share.regions.get_mut(place) {
                Some((_, indexes)) => indexes.push(index),
                None => share.regions.push((location, vec![index])),
            }
        }
        (shares, steps)
    }

    /// Sends the share of one server, in as many calls as its size asks for, one after the other.
    async fn send(&self, share: Share, deadline: Instant) -> Vec<(usize, Step)> {
        let mut steps = Vec::new();
        let mut held_rows: HashSet<Bytes> = HashSet::new();
        let mut is_stopped = false;
        for chunk in self.chunks(share) {
            let mut sent = Vec::new();
            let mut request = MultiRequest::new();
            for (location, index) in chunk {
                let Some(action) = self.actions.get(index) else { continue };
                if is_stopped || held_rows.contains(action.row()) {
                    steps.push((index, Step::Held));
                    continue;
                }
                let nonce = self.nonces.get(index).copied().flatten();
                let number = u32::try_from(index).unwrap_or(u32::MAX);
                match request.push(&location.region, number, action, nonce) {
                    Ok(place) => sent.push((location, index, place)),
                    Err(_) => {
                        let why = "the row is outside of the region";
                        let error = Error::NoRegion { table: self.table.clone(), why };
                        steps.push((index, Step::Failed(location, error)));
                    }
                }
            }
            if request.is_empty() {
                continue;
            }
            let more = self.call(request, sent, deadline).await;
            for (index, step) in &more {
                if let Step::Failed(_, error) = step
                    && retry::of_error(error) != Verdict::Fail
                    && let Some(action) = self.actions.get(*index)
                {
                    held_rows.insert(action.row().clone());
                    is_stopped |= !matches!(error, Error::Rpc(RpcError::Remote { .. }));
                }
            }
            steps.extend(more);
        }
        steps
    }

    fn chunks(&self, share: Share) -> Vec<Vec<(Arc<Location>, usize)>> {
        let mut chunks = Vec::new();
        let (mut chunk, mut chunk_bytes) = (Vec::new(), 0);
        for (location, indexes) in share.regions {
            for index in indexes {
                let bytes = self.actions.get(index).map_or(0, Action::byte_len);
                let is_full =
                    chunk_bytes + bytes > CLIENT_BATCH_BYTES_MAX || chunk.len() >= CLIENT_BATCH_ACTIONS_MAX;
                if is_full && !chunk.is_empty() {
                    chunks.push(std::mem::take(&mut chunk));
                    chunk_bytes = 0;
                }
                chunk.push((location.clone(), index));
                chunk_bytes += bytes;
            }
        }
        chunks.push(chunk);
        chunks
    }

    async fn call(
        &self,
        request: MultiRequest,
        sent: Vec<(Arc<Location>, usize, usize)>,
        deadline: Instant,
    ) -> Vec<(usize, Step)> {
        let locator = &self.inner.locator;
        let Some((location, _, _)) = sent.first() else { return Vec::new() };
        let server = locator.server(location);
        let (param, block) = request.finish(self.inner.nonce_group);
        let answer = server.call("Multi", &param, &block, locator.call_deadline(deadline)).await;
        let address = server.address();
        let corrupt = |source| RpcError::Corrupt { address: address.to_owned(), source };
        let answer = answer.and_then(|answer| parse_multi(&answer.message, answer.block).map_err(corrupt));
        match answer {
            Ok(answer) => outcomes(answer, sent, address),
            Err(error) => sent
                .into_iter()
                .map(|(location, index, _)| (index, Step::Failed(location, error.clone().into())))
                .collect(),
        }
    }
}

/// Gives each action its outcome; one that the server says nothing of is tried again.
fn outcomes(
    answer: MultiAnswer,
    sent: Vec<(Arc<Location>, usize, usize)>,
    address: &str,
) -> Vec<(usize, Step)> {
    let mut by_index = HashMap::new();
    let mut regions = Vec::with_capacity(answer.regions.len());
    for region in answer.regions {
        regions.push(region.map(|outcomes| by_index.extend(outcomes)).err());
    }
    let failed = |location, exception| {
        Step::Failed(location, RpcError::Remote { address: address.to_owned(), exception }.into())
    };
    let mut steps = Vec::with_capacity(sent.len());
    for (location, index, place) in sent {
        let outcome = u32::try_from(index).ok().and_then(|number| by_index.remove(&number));
        let step = match (outcome, regions.get(place).cloned().flatten()) {
            (_, Some(exception)) | (Some(Err(exception)), None) => failed(location, exception),
            (Some(Ok(row)), None) => Step::Done(row),
            (None, None) => {
                let source = weir_wire::WireError::Missing { what: "the outcome of an action" };
                Step::Failed(location, RpcError::Corrupt { address: address.to_owned(), source }.into())
            }
        };
        steps.push((index, step));
    }
    steps
}

fn set(outcomes: &mut [Option<Result<Row, Error>>], index: usize, outcome: Result<Row, Error>) {
    if let Some(place) = outcomes.get_mut(index) {
        *place = Some(outcome);
    }
}

/// Of two verdicts the one with the longer pause.
fn graver(one: Option<Verdict>, other: Verdict) -> Option<Verdict> {
    let weight = |verdict: Verdict| match verdict {
        Verdict::Overloaded => 3,
        Verdict::ServerGone => 2,
        Verdict::SameServer => 1,
        Verdict::Relocate | Verdict::Moved | Verdict::ReopenScanner | Verdict::Fail => 0,
    };
    Some(one.filter(|one| weight(*one) >= weight(other)).unwrap_or(other))
}
