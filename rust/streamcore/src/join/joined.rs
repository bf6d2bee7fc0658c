//! Rows a join gives: the columns of both sides, null where a side has no partner.
//!
//! `mod.rs` says which rows belong together, in order; here they are copied out of the chunks they lie in, column by
//! column. Invariant: a batch has at most [`BATCH_ROWS`] rows and [`BATCH_TEXT_BYTES`] bytes of text a column, give
//! or take one row, however many rows leave together.

use super::rows::{RowId, Rows, place_of};
use crate::batch::{Column, DataType, Validity, Values};

/// Most rows of a batch.
const BATCH_ROWS: usize = 16 << 10;

/// Bytes of text in a column at which a batch ends: far below what a column can hold.
pub(super) const BATCH_TEXT_BYTES: usize = 256 << 20;

/// Bytes of text of rows that leave at once, from which on others wait.
const PIECE_TEXT_BYTES: usize = 32 << 20;

/// Bytes of text of a row of either side, to which all rows of a piece may come without their being counted.
const TEXT_UNCOUNTED: usize = 256;

/// Rows of both sides that belong together, `None` for no partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    /// The row of the left side.
    pub left: Option<RowId>,
    /// The row of the right side.
    pub right: Option<RowId>,
}

/// Joined rows in columns, in the order they leave.
#[derive(Debug, Clone, PartialEq)]
pub struct JoinedBatch {
    /// Time of each row, ms.
    pub times_ms: Vec<i64>,
    /// The watermark before each row, ms; empty where rows leave in order of time.
    pub watermarks_ms: Vec<i64>,
    /// Columns of the left side; all null where `left_matched` is false.
    pub left: Vec<Column>,
    /// Columns of the right side; all null where `right_matched` is false.
    pub right: Vec<Column>,
    /// Whether each row has a left side.
    pub left_matched: Vec<bool>,
    /// Whether each row has a right side.
    pub right_matched: Vec<bool>,
}

/// What a join gave, batch by batch.
#[derive(Debug, Default)]
pub struct Joined {
    /// Finished batches.
    batches: Vec<JoinedBatch>,
    /// Rows not copied yet.
    times_ms: Vec<i64>,
    pairs: Vec<Pair>,
    /// Rows in `batches`.
    copied: usize,
    /// Bytes of their texts, where those are long.
    text_bytes: usize,
}

impl Joined {
    /// Rows so far.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.copied + self.pairs.len()
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether rows that can wait are to wait, where `len_max` are enough.
    pub(super) const fn is_full(&self, len_max: usize) -> bool {
        self.len() >= len_max || self.text_bytes >= PIECE_TEXT_BYTES
    }

    /// The batches, none of them empty.
    #[must_use]
    pub fn into_batches(self) -> Vec<JoinedBatch> {
        self.batches
    }

    /// Adds a row; it is copied by the next [`copy`](Self::copy) at the latest.
    pub(super) fn push(&mut self, time_ms: i64, pair: Pair, rows: &[Rows; 2]) {
        if rows.iter().any(|rows| rows.longest_text() > TEXT_UNCOUNTED) {
            self.text_bytes += text_of(pair, rows);
        }
        self.times_ms.push(time_ms);
        self.pairs.push(pair);
        if self.pairs.len() >= BATCH_ROWS {
            self.copy(rows);
        }
    }

    /// Adds a finished batch.
    pub(super) fn push_batch(&mut self, batch: JoinedBatch) {
        self.copied += batch.times_ms.len();
        self.batches.push(batch);
    }

    /// Copies what was pushed, so that its rows may go.
    pub(super) fn copy(&mut self, rows: &[Rows; 2]) {
        let (pairs, times_ms) = (std::mem::take(&mut self.pairs), std::mem::take(&mut self.times_ms));
        let (mut pairs, mut times_ms) = (&pairs[..], &times_ms[..]);
        while !pairs.is_empty() {
            let len = text_fits(pairs, rows);
            let (now, later) = pairs.split_at(len);
            let (now_ms, later_ms) = times_ms.split_at(len);
            self.push_batch(JoinedBatch {
                times_ms: now_ms.to_vec(),
                watermarks_ms: Vec::new(),
                left: gather(&rows[0], now.iter().map(|pair| pair.left)),
                right: gather(&rows[1], now.iter().map(|pair| pair.right)),
                left_matched: now.iter().map(|pair| pair.left.is_some()).collect(),
                right_matched: now.iter().map(|pair| pair.right.is_some()).collect(),
            });
            (pairs, times_ms) = (later, later_ms);
        }
    }
}

/// How many of `pairs`, at least one, make one batch.
fn text_fits(pairs: &[Pair], rows: &[Rows; 2]) -> usize {
    let [longest_left, longest_right] = rows.each_ref().map(Rows::longest_text);
    rows_that_fit(pairs.len(), longest_left + longest_right, |place| text_of(pairs[place], rows))
}

/// Bytes of text of a row, of the column of either side that has most.
fn text_of(Pair { left, right }: Pair, rows: &[Rows; 2]) -> usize {
    left.map_or(0, |id| rows[0].text_bytes(id)) + right.map_or(0, |id| rows[1].text_bytes(id))
}

/// How many of `len` rows, at least one, make one batch. `text_bytes` gives the bytes of text of each, of the columns that
/// have most, and is asked only if they could be too many: none has more than `longest`.
pub(super) fn rows_that_fit(len: usize, longest: usize, text_bytes: impl Fn(usize) -> usize) -> usize {
    let len = len.min(BATCH_ROWS);
    if longest.saturating_mul(len) <= BATCH_TEXT_BYTES {
        return len;
    }
    let mut bytes = 0;
    let fits = (0..len).take_while(|place| {
        bytes += text_bytes(*place);
        bytes <= BATCH_TEXT_BYTES
    });
    fits.count().max(1)
}

/// The columns of the rows at `ids`; nulls for `None`.
pub(super) fn gather(rows: &Rows, ids: impl Iterator<Item = Option<RowId>>) -> Vec<Column> {
    let ids: Vec<Option<RowId>> = ids.collect();
    rows.types().iter().enumerate().map(|(place, data_type)| gather_column(rows, place, *data_type, &ids)).collect()
}

/// Column `place` of the rows at `ids`. Rows that belong together lie far apart, so each is looked for alone.
fn gather_column(rows: &Rows, place: usize, data_type: DataType, ids: &[Option<RowId>]) -> Column {
    let mut column = Column::new(data_type);
    match &mut column.values {
        Values::Bool(into) => gather_values(into, rows, place, ids, |values| match values {
            Values::Bool(values) => values,
            _ => &[],
        }),
        Values::Int64(into) => gather_values(into, rows, place, ids, |values| match values {
            Values::Int64(values) => values,
            _ => &[],
        }),
        Values::Float64(into) => gather_values(into, rows, place, ids, |values| match values {
            Values::Float64(values) => values,
            _ => &[],
        }),
        Values::Decimal(into) => gather_values(into, rows, place, ids, |values| match values {
            Values::Decimal(values) => values,
            _ => &[],
        }),
        Values::Bytes(into) => {
            for id in ids {
                let value = id.map(place_of).map(|(chunk, row)| match &rows.columns(chunk)[place].values {
                    Values::Bytes(values) => values.get(row),
                    _ => &[],
                });
                into.push(value.unwrap_or_default());
            }
        }
    }
    let is_valid = |id: &Option<RowId>| {
        id.map(place_of).is_some_and(|(chunk, row)| rows.columns(chunk)[place].validity.is_valid(row))
    };
    column.validity = Validity::from_flags(ids.iter().map(is_valid).collect());
    column
}

/// Appends the values of the rows at `ids`. `of` takes a column's values out of their enum, whose kind the type fixes.
fn gather_values<T: Copy + Default>(
    into: &mut Vec<T>,
    rows: &Rows,
    place: usize,
    ids: &[Option<RowId>],
    of: impl Fn(&Values) -> &[T],
) {
    into.extend(ids.iter().map(|id| match id.map(place_of) {
        Some((chunk, row)) => of(&rows.columns(chunk)[place].values)[row],
        None => T::default(),
    }));
}
