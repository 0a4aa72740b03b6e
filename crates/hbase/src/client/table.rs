//! Operations on one row each, and on the list of regions.

use super::cluster::Inner;
use super::locate::{Attempts, Location};
use super::{Error, Scanner};
use crate::rpc::{Answer, RpcError};
use std::sync::Arc;
use weir_model::TableName;
use weir_wire::WireError;
use weir_wire::hbase::call::RemoteException;
use weir_wire::hbase::client::{
    Append, Check, Delete, Get, Increment, Lookup, MultiRequest, Mutation, OutsideRegion, Put, RegionInfo,
    Row, RowMutations, Scan, get_request, mutate_request, parse_get, parse_meta_row, parse_multi,
    parse_mutate,
};

/// A table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) inner: Arc<Inner>,
    pub(super) name: TableName,
}

/// An operation on one row, as the loop of attempts needs it.
struct Operation<'a> {
    doing: &'static str,
    method: &'static str,
    row: &'a [u8],
    /// Whether doing it twice is the same as once.
    is_repeatable: bool,
}

/// What an answer says: a value, or an exception inside of it.
type Reading<T> = Result<Result<T, RemoteException>, WireError>;

impl Table {
    pub(super) const fn new(inner: Arc<Inner>, name: TableName) -> Self {
        Self { inner, name }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &TableName {
        &self.name
    }

    /// Reads one row; the row is empty when it was not found.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn get(&self, get: Get) -> Result<Row, Error> {
        let operation = Operation { doing: "get", method: "Get", row: get.row(), is_repeatable: true };
        self.run(
            operation,
            |region| Ok((get_request(region, &get)?, &[][..])),
            |answer| parse_get(&answer.message, answer.block).map(Ok),
        )
        .await
    }

    /// Whether the row that is asked for exists.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn exists(&self, get: Get) -> Result<bool, Error> {
        let row = self.get(get.existence_only()).await?;
        Ok(row.exists().unwrap_or(!row.is_empty()))
    }

    /// Writes cells of one row. Without timestamps of the caller's, a retry after a lost answer may write two versions.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn put(&self, put: Put) -> Result<(), Error> {
        self.mutate("put", put.into(), None).await.map(|_| ())
    }

    /// Deletes cells of one row, or all.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delete(&self, delete: Delete) -> Result<(), Error> {
        self.mutate("delete", delete.into(), None).await.map(|_| ())
    }

    /// Adds to numbers, once even if it has to be tried again, and answers with the sums.
    ///
    /// # Errors
    /// See [`Error`]. `OperationConflictException` when a server knows that an earlier try was done, but not its result.
    pub async fn increment(&self, increment: Increment) -> Result<Row, Error> {
        self.mutate("increment", increment.into(), None).await.map(|(row, _)| row)
    }

    /// Adds to the end of values, once even if it has to be tried again, and answers with the whole values.
    ///
    /// # Errors
    /// As [`Table::increment`].
    pub async fn append(&self, append: Append) -> Result<Row, Error> {
        self.mutate("append", append.into(), None).await.map(|(row, _)| row)
    }

    /// Does a mutation if the check holds, in one step; whether it did.
    ///
    /// # Errors
    /// See [`Error`]. `Uncertain` when the answer was lost: a second try could meet the change that the first one made.
    pub async fn check_and_mutate(&self, check: Check, mutation: impl Into<Mutation>) -> Result<bool, Error> {
        let mutation = mutation.into();
        if check.row() != mutation.row() {
            return Err(Error::Invalid { what: "the check is of another row than the mutation" });
        }
        let (_, is_done) = self.mutate("check and mutate", mutation, Some(check)).await?;
        Ok(is_done.unwrap_or(false))
    }

    async fn mutate(
        &self,
        doing: &'static str,
        mutation: Mutation,
        check: Option<Check>,
    ) -> Result<(Row, Option<bool>), Error> {
        if let Some(what) = mutation.wrong() {
            return Err(Error::Invalid { what });
        }
        let nonce = mutation.kind().needs_nonce().then(|| (self.inner.nonce_group, self.inner.nonce()));
        let is_repeatable = check.is_none();
        self.run(
            Operation { doing, method: "Mutate", row: mutation.row(), is_repeatable },
            |region| Ok((mutate_request(region, &mutation, check.as_ref(), nonce)?, mutation.block())),
            |answer| parse_mutate(&answer.message, answer.block).map(Ok),
        )
        .await
    }

    /// Does several mutations of one row together or not at all. On 1.x their cluster ids get lost: see
    /// [`Put::cluster_ids`].
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn mutate_row(&self, mutations: RowMutations) -> Result<(), Error> {
        self.atomic("mutate row", mutations, None).await.map(|_| ())
    }

    /// Does several mutations of one row together if the check holds; whether it did.
    ///
    /// # Errors
    /// As [`Table::check_and_mutate`].
    pub async fn check_and_mutate_row(&self, check: Check, mutations: RowMutations) -> Result<bool, Error> {
        if check.row() != mutations.row() {
            return Err(Error::Invalid { what: "the check is of another row than the mutations" });
        }
        self.atomic("check and mutate row", mutations, Some(check)).await
    }

    async fn atomic(
        &self,
        doing: &'static str,
        mutations: RowMutations,
        check: Option<Check>,
    ) -> Result<bool, Error> {
        if let Some(what) = mutations.wrong() {
            return Err(Error::Invalid { what });
        }
        let is_repeatable = check.is_none();
        let read = |answer: Answer| -> Reading<bool> {
            let answer = parse_multi(&answer.message, answer.block)?;
            // One exception stands for all of them, at the region or at each action.
            for region in answer.regions {
                match region {
                    Err(exception) => return Ok(Err(exception)),
                    Ok(outcomes) => {
                        if let Some((_, Err(exception))) = outcomes.into_iter().find(|(_, one)| one.is_err())
                        {
                            return Ok(Err(exception));
                        }
                    }
                }
            }
            Ok(Ok(answer.is_processed.unwrap_or(false)))
        };
        self.run(
            Operation { doing, method: "Multi", row: mutations.row(), is_repeatable },
            |region| MultiRequest::atomic(region, &mutations, check.as_ref()),
            read,
        )
        .await
    }

    /// The loop of attempts: find the region, ask its server, draw the conclusions from a failure.
    async fn run<T, B: AsRef<[u8]>>(
        &self,
        operation: Operation<'_>,
        request: impl Fn(&RegionInfo) -> Result<(Vec<u8>, B), OutsideRegion>,
        read: impl Fn(Answer) -> Reading<T>,
    ) -> Result<T, Error> {
        let Operation { doing, method, row, is_repeatable } = operation;
        if row.is_empty() {
            return Err(Error::Invalid { what: "the row key is empty" });
        }
        let locator = &self.inner.locator;
        let mut attempts = Attempts::new(doing, &self.name, &locator.options);
        loop {
            let location = match locator.locate(&self.name, Lookup::Holding(row), attempts.deadline).await {
                Ok(location) => location,
                Err(error) => {
                    attempts.next(super::retry::of_error(&error), error).await?;
                    continue;
                }
            };
            let Ok((param, block)) = request(&location.region) else {
                // Only a look-up that is wrong by our own fault leads here; another look is all that helps.
                locator.known().remove(&self.name, &location);
                let error =
                    Error::NoRegion { table: self.name.clone(), why: "the row is outside of the region" };
                attempts.next(super::retry::Verdict::SameServer, error).await?;
                continue;
            };
            let server = locator.server(&location);
            let deadline = locator.call_deadline(attempts.deadline);
            let answer = server.call(method, &param, block.as_ref(), deadline).await;
            let remote = |exception| RpcError::Remote { address: server.address().to_owned(), exception };
            let result = answer.and_then(|answer| match read(answer) {
                Ok(reading) => reading.map_err(remote),
                Err(source) => Err(RpcError::Corrupt { address: server.address().to_owned(), source }),
            });
            let error = match result {
                Ok(value) => return Ok(value),
                Err(error) => Error::from(error),
            };
            let verdict = locator.failed(&self.name, &location, &error);
            if !is_repeatable && error.may_be_done() {
                return Err(Error::Uncertain { doing, table: self.name.clone(), source: Box::new(error) });
            }
            attempts.next(verdict, error).await?;
        }
    }

    /// Reads rows in order. Nothing is sent before the first row is asked for.
    #[must_use]
    pub fn scan(&self, scan: Scan) -> Scanner {
        Scanner::new(self.clone(), scan)
    }

    /// The region that holds a row, and where it is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn locate(&self, row: &[u8]) -> Result<Location, Error> {
        let locator = &self.inner.locator;
        let mut attempts = Attempts::new("locate", &self.name, &locator.options);
        loop {
            match locator.locate(&self.name, Lookup::Holding(row), attempts.deadline).await {
                Ok(location) => return Ok((*location).clone()),
                Err(error) => attempts.next(super::retry::of_error(&error), error).await?,
            }
        }
    }

    /// All regions in the order of their rows, as `hbase:meta` has them now; those without a server are left out.
    ///
    /// # Errors
    /// `TableNotFound`, or what may befall a scan.
    pub async fn regions(&self) -> Result<Vec<Location>, Error> {
        let meta = Self::new(self.inner.clone(), META.clone());
        let mut rows = meta.scan(Lookup::all(&self.name));
        let (mut found, mut is_table) = (Vec::new(), false);
        while let Some(row) = rows.next().await? {
            let corrupt = |source| RpcError::Corrupt { address: "hbase:meta".to_owned(), source };
            let Some(row) = parse_meta_row(&row).map_err(corrupt)? else { continue };
            is_table = true;
            let region = row.region;
            if region.is_offline || region.is_split || region.replica != 0 {
                continue;
            }
            if let Some(server) = row.server {
                let location = Location { region, server, open_sequence: row.open_sequence };
                self.inner.locator.known().insert(&self.name, Arc::new(location.clone()));
                found.push(location);
            }
        }
        if is_table { Ok(found) } else { Err(Error::TableNotFound { table: self.name.clone() }) }
    }
}

static META: std::sync::LazyLock<TableName> =
    std::sync::LazyLock::new(|| TableName::new("hbase:meta").expect("it is a name of a table"));
