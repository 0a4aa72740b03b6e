//! Rows of answers: cells in the order of the table, as slices of the answer's cell block.

use crate::cursor::{Cursor, WireError};
use crate::hbase::cell_block::{Cell, CellKind, Codec, read_cell, write_cell};
use bytes::{Bytes, BytesMut};

const CODEC: Codec = Codec::KeyValueWithTags;

/// One row of an answer, or a part of one.
///
/// Every cell was checked when the row was read. The row shares memory with the answer it came in: a row that is kept
/// for long should be copied with [`Row::detach`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    block: Bytes,
    cell_count: usize,
    exists: Option<bool>,
    is_partial: bool,
}

impl Row {
    /// Key of the row; empty when there are no cells.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.cells().next().map_or(&[], |cell| cell.row)
    }

    /// Key of the row, sharing memory with the row.
    #[must_use]
    pub fn key_bytes(&self) -> Bytes {
        self.block.slice_ref(self.key())
    }

    /// The cells in the order of the table: by family, qualifier, newest first.
    #[must_use]
    pub fn cells(&self) -> Cells<'_> {
        Cells { cursor: Cursor::new(&self.block) }
    }

    /// Newest value of a column.
    #[must_use]
    pub fn value(&self, family: &[u8], qualifier: &[u8]) -> Option<&[u8]> {
        let mut cells = self.cells();
        let found = cells
            .find(|cell| cell.kind == CellKind::PUT && cell.family == family && cell.qualifier == qualifier);
        found.map(|cell| cell.value)
    }

    /// How many cells there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.cell_count
    }

    /// Whether there are no cells: the row was not found, or nothing of it was asked for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cell_count == 0
    }

    /// Whether the row exists, when only that was asked.
    #[must_use]
    pub const fn exists(&self) -> Option<bool> {
        self.exists
    }

    /// Whether more cells of the same row may follow in the next part.
    #[must_use]
    pub const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Bytes of the cells as they came.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.block.len()
    }

    /// The cells as a cell block of `KeyValueCodecWithTags`.
    #[must_use]
    pub const fn block(&self) -> &Bytes {
        &self.block
    }

    /// A copy that does not keep the memory of the whole answer.
    #[must_use]
    pub fn detach(&self) -> Self {
        Self { block: Bytes::copy_from_slice(&self.block), ..self.clone() }
    }

    /// Marks it as a part of a row, or as whole.
    #[must_use]
    pub fn with_partial(mut self, is_partial: bool) -> Self {
        self.is_partial = is_partial;
        self
    }

    /// The row without its first cells that `is_known` says are known already.
    #[must_use]
    pub fn without_first(mut self, mut is_known: impl FnMut(&Cell<'_>) -> bool) -> Self {
        let mut cells = self.cells();
        let (mut rest, mut known) = (cells.cursor, 0);
        while let Some(cell) = cells.next() {
            if !is_known(&cell) {
                break;
            }
            (rest, known) = (cells.cursor, known + 1);
        }
        let at = self.block.len() - rest.rest().len();
        self.block = self.block.slice(at..);
        self.cell_count -= known;
        self
    }

    /// Puts the parts of one row together; whole when the last one is.
    #[must_use]
    pub fn join(parts: &[Self]) -> Self {
        match parts {
            [] => Self::default(),
            [one] => one.clone(),
            many => {
                let mut block = BytesMut::with_capacity(many.iter().map(Self::byte_len).sum());
                many.iter().for_each(|part| block.extend_from_slice(&part.block));
                let cell_count = many.iter().map(Self::len).sum();
                let is_partial = many.last().is_some_and(Self::is_partial);
                Self { block: block.freeze(), cell_count, exists: None, is_partial }
            }
        }
    }
}

/// The cells of a row.
#[derive(Clone, Debug)]
pub struct Cells<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cell<'a>;

    fn next(&mut self) -> Option<Cell<'a>> {
        if self.cursor.is_empty() {
            return None;
        }
        // Rows are only made of cells that were read before.
        read_cell(&mut self.cursor, CODEC).ok()
    }
}

/// The cell block of an answer, from which rows are taken in order.
#[derive(Clone, Debug, Default)]
pub struct Block {
    rest: Bytes,
}

impl Block {
    /// Starts at the first cell.
    #[must_use]
    pub const fn new(block: Bytes) -> Self {
        Self { rest: block }
    }

    /// Takes the next `cell_count` cells, which must be of one row.
    ///
    /// # Errors
    /// When a cell does not parse, cells are missing, or the cells are of several rows.
    pub fn take_row(&mut self, cell_count: usize) -> Result<Row, WireError> {
        let mut cursor = Cursor::new(&self.rest);
        let mut key: Option<&[u8]> = None;
        for _ in 0..cell_count {
            let cell = read_cell(&mut cursor, CODEC)?;
            if *key.get_or_insert(cell.row) != cell.row {
                return Err(WireError::Undecodable { what: "row of cells" });
            }
        }
        let len = self.rest.len() - cursor.rest().len();
        Ok(Row { block: self.rest.split_to(len), cell_count, exists: None, is_partial: false })
    }

    /// Whether all cells were taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}

/// Reads a message `Result`: its cells stand in the message, or next in the block.
///
/// # Errors
/// When it does not parse, or the block lacks its cells.
pub fn parse_result(message: &[u8], block: &mut Block) -> Result<Row, WireError> {
    const WHAT: &str = "result";
    let (mut inline, mut inline_count, mut block_count) = (Vec::new(), 0, 0);
    let (mut exists, mut is_partial) = (None, false);
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => {
                inline_cell(field.bytes(WHAT)?, &mut inline)?;
                inline_count += 1;
            }
            2 => block_count = usize::try_from(field.varint(WHAT)?).unwrap_or(usize::MAX),
            3 => exists = Some(field.varint(WHAT)? != 0),
            5 => is_partial = field.varint(WHAT)? != 0,
            _ => {}
        }
    }
    let row = if inline_count > 0 {
        Block::new(Bytes::from(inline)).take_row(inline_count)?
    } else {
        block.take_row(block_count)?
    };
    Ok(Row { exists, is_partial, ..row })
}

/// Reads a message `Cell` and appends the cell in the form of a block.
fn inline_cell(message: &[u8], out: &mut Vec<u8>) -> Result<(), WireError> {
    const WHAT: &str = "cell";
    let mut cell = Cell {
        row: &[],
        family: &[],
        qualifier: &[],
        timestamp: 0,
        kind: CellKind::PUT,
        value: &[],
        tags: &[],
    };
    let mut cursor = Cursor::new(message);
    while let Some((number, field)) = cursor.field(WHAT)? {
        match number {
            1 => cell.row = at_most(field.bytes(WHAT)?, i16::MAX as usize, "row")?,
            2 => cell.family = at_most(field.bytes(WHAT)?, u8::MAX as usize, "family")?,
            3 => cell.qualifier = field.bytes(WHAT)?,
            4 => cell.timestamp = field.varint(WHAT)?,
            5 => cell.kind = CellKind(field.varint(WHAT)? as u8),
            6 => cell.value = field.bytes(WHAT)?,
            7 => cell.tags = at_most(field.bytes(WHAT)?, u16::MAX as usize, "tags")?,
            _ => {}
        }
    }
    write_cell(out, &cell, CODEC);
    Ok(())
}

fn at_most<'a>(bytes: &'a [u8], max: usize, what: &'static str) -> Result<&'a [u8], WireError> {
    if bytes.len() > max { Err(WireError::TooLong { what, len: bytes.len(), max }) } else { Ok(bytes) }
}
