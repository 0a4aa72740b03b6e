//! Many actions in one call (`Multi`), each with an outcome of its own.

use super::{
    Block, Check, Get, Mutation, OutsideRegion, RegionInfo, Row, name_bytes_exception, parse_result,
};
use crate::cursor::{Cursor, WireError, put_bytes_field, put_varint_field};
use crate::hbase::call::RemoteException;
use bytes::Bytes;

/// One thing that is done to one row.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Reads the row.
    Get(Get),
    /// Changes the row.
    Mutation(Mutation),
}

impl Action {
    /// The row.
    #[must_use]
    pub const fn row(&self) -> &Bytes {
        match self {
            Self::Get(get) => get.row(),
            Self::Mutation(mutation) => mutation.row(),
        }
    }

    /// Bytes it takes in a request, about.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Get(get) => get.byte_len(),
            Self::Mutation(mutation) => mutation.byte_len(),
        }
    }

    /// What is wrong with it, in words that name no value: such an action is never sent.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        match self {
            Self::Get(get) if get.row().is_empty() => Some("the row key is empty"),
            Self::Get(_) => None,
            Self::Mutation(mutation) => mutation.wrong(),
        }
    }
}

impl From<Get> for Action {
    fn from(get: Get) -> Self {
        Self::Get(get)
    }
}

impl<T: Into<Mutation>> From<T> for Action {
    fn from(mutation: T) -> Self {
        Self::Mutation(mutation.into())
    }
}

/// Several mutations of one row that are done together or not at all: puts and deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowMutations {
    row: Bytes,
    mutations: Vec<Mutation>,
}

impl RowMutations {
    /// Starts without mutations.
    #[must_use]
    pub fn new(row: impl Into<Bytes>) -> Self {
        Self { row: row.into(), mutations: Vec::new() }
    }

    /// Adds a mutation of the same row.
    #[must_use]
    pub fn and(mut self, mutation: impl Into<Mutation>) -> Self {
        self.mutations.push(mutation.into());
        self
    }

    /// The row.
    #[must_use]
    pub const fn row(&self) -> &Bytes {
        &self.row
    }

    /// What is wrong with it: such mutations are never sent.
    #[must_use]
    pub fn wrong(&self) -> Option<&'static str> {
        if self.mutations.is_empty() {
            return Some("there are no mutations in it");
        }
        if self.mutations.iter().any(|mutation| mutation.row() != &self.row) {
            return Some("a mutation is of another row");
        }
        self.mutations.iter().find_map(Mutation::wrong)
    }
}

/// Builds one call of `Multi`, for regions of one server.
#[derive(Debug, Default)]
pub struct MultiRequest {
    /// Finished `RegionAction` fields.
    done: Vec<u8>,
    open: Option<Open>,
    block: Vec<u8>,
    region_actions: usize,
    action_count: usize,
}

#[derive(Debug)]
struct Open {
    region: Bytes,
    /// `_cs.id` of its mutations: a server takes that of the first mutation for all of a region's action.
    cluster_ids: Option<Option<Bytes>>,
    message: Vec<u8>,
}

impl MultiRequest {
    /// Starts without actions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an action; `index` comes back with its outcome, and must be unique in this request.
    ///
    /// Actions of one region that are added one after the other go in one `RegionAction`, unless they name different
    /// clusters. The server runs them in this order for each row. Returns the place of its `RegionAction` in the request.
    ///
    /// # Errors
    /// When the region does not hold the row.
    pub fn push(
        &mut self,
        region: &RegionInfo,
        index: u32,
        action: &Action,
        nonce: Option<u64>,
    ) -> Result<usize, OutsideRegion> {
        region.check(action.row())?;
        let ids = match action {
            Action::Mutation(mutation) => Some(mutation.cluster_ids().cloned()),
            Action::Get(_) => None,
        };
        let fits = self.open.as_ref().is_some_and(|open| {
            let same_ids = open.cluster_ids.is_none() || ids.is_none() || open.cluster_ids == ids;
            open.region == region.name && same_ids
        });
        if !fits {
            self.close();
            let mut message = Vec::with_capacity(256);
            put_bytes_field(&mut message, 1, &region.specifier());
            self.open = Some(Open { region: region.name.clone(), cluster_ids: None, message });
        }
        let Some(open) = &mut self.open else { return Ok(self.region_actions) };
        if ids.is_some() {
            open.cluster_ids = ids;
        }
        let mut message = Vec::with_capacity(64);
        put_varint_field(&mut message, 1, u64::from(index));
        match action {
            Action::Get(get) => put_bytes_field(&mut message, 3, &get.encode()),
            Action::Mutation(mutation) => {
                put_bytes_field(&mut message, 2, &mutation.encode(nonce));
                self.block.extend_from_slice(mutation.block());
            }
        }
        put_bytes_field(&mut open.message, 3, &message);
        self.action_count += 1;
        Ok(self.region_actions)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            put_bytes_field(&mut self.done, 1, &open.message);
            self.region_actions += 1;
        }
    }

    /// How many actions there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.action_count
    }

    /// Whether there are no actions.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.action_count == 0
    }

    /// Parameter and cell block.
    #[must_use]
    pub fn finish(mut self, nonce_group: u64) -> (Vec<u8>, Vec<u8>) {
        self.close();
        put_varint_field(&mut self.done, 2, nonce_group);
        (self.done, self.block)
    }

    /// Parameter and cell block of mutations of one row that are done together, if the check holds when there is one.
    ///
    /// # Errors
    /// When the region does not hold the row.
    pub fn atomic(
        region: &RegionInfo,
        mutations: &RowMutations,
        check: Option<&Check>,
    ) -> Result<(Vec<u8>, Vec<u8>), OutsideRegion> {
        region.check(mutations.row())?;
        let (mut message, mut block) = (Vec::new(), Vec::new());
        put_bytes_field(&mut message, 1, &region.specifier());
        put_varint_field(&mut message, 2, 1);
        for (index, mutation) in mutations.mutations.iter().enumerate() {
            let mut action = Vec::new();
            put_varint_field(&mut action, 1, index as u64);
            put_bytes_field(&mut action, 2, &mutation.encode(None));
            put_bytes_field(&mut message, 3, &action);
            block.extend_from_slice(mutation.block());
        }
        let mut out = Vec::new();
        put_bytes_field(&mut out, 1, &message);
        if let Some(check) = check {
            // 2.4 and later have it in the region's action too, and still take it from here.
            put_bytes_field(&mut out, 3, &check.encode());
        }
        Ok((out, block))
    }
}

/// What became of one action: its row, empty for puts and deletes, or the exception.
pub type Outcome = Result<Row, RemoteException>;

/// What a server answers to `Multi`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiAnswer {
    /// For each `RegionAction` in the order of the request: outcomes by index, or the exception of all its actions.
    pub regions: Vec<Result<Vec<(u32, Outcome)>, RemoteException>>,
    /// Whether a checked mutation was done.
    pub is_processed: Option<bool>,
}

/// Reads `MultiResponse`.
///
/// # Errors
/// When it does not parse.
pub fn parse_multi(message: &[u8], block: Bytes) -> Result<MultiAnswer, WireError> {
    const WHAT: &str = "multi response";
    let mut answer = MultiAnswer::default();
    let (mut cursor, mut block) = (Cursor::new(message), Block::new(block));
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => answer.regions.push(region_result(field.bytes(WHAT)?, &mut block)?),
            2 => answer.is_processed = Some(field.varint(WHAT)? != 0),
            _ => {}
        }
    }
    Ok(answer)
}

type RegionResult = Result<Vec<(u32, Outcome)>, RemoteException>;

fn region_result(message: &[u8], block: &mut Block) -> Result<RegionResult, WireError> {
    const WHAT: &str = "result of a region";
    let (mut outcomes, mut exception) = (Vec::new(), None);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => outcomes.push(outcome(field.bytes(WHAT)?, block)?),
            2 => exception = Some(name_bytes_exception(field.bytes(WHAT)?)?),
            _ => {}
        }
    }
    Ok(exception.map_or(Ok(outcomes), Err))
}

fn outcome(message: &[u8], block: &mut Block) -> Result<(u32, Outcome), WireError> {
    const WHAT: &str = "result of an action";
    let (mut index, mut outcome) = (0, Ok(Row::default()));
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => index = u32::try_from(field.varint(WHAT)?).unwrap_or(u32::MAX),
            2 => outcome = Ok(parse_result(field.bytes(WHAT)?, block)?),
            3 => outcome = Err(name_bytes_exception(field.bytes(WHAT)?)?),
            _ => {}
        }
    }
    Ok((index, outcome))
}
