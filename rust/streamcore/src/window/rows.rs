//! Result rows of a window step, gathered as columns.
//!
//! `window/state.rs` and `window/session/` append rows as windows fire; `pipeline` turns them
//! into an Arrow batch. Column order: group keys, `window_start`, `window_end`, aggregates,
//! `revision`, `is_final`; and `retracted`, where rows are taken back.

use super::WindowPlan;
use super::aggregate::{Accumulators, States, Users};
use super::early::RowCondition;
use super::lost::LostValues;
use crate::batch::{Column, DataType, Scalar, Values};
use crate::error::{ErrorKind, Result};
use crate::results::OutputColumn;
use crate::state::StateTable;
use std::sync::Arc;

/// Rows of one output, in firing order: by window end, then by key.
#[derive(Debug)]
pub struct ResultRows {
    /// Group key columns.
    keys: Vec<Column>,
    /// Window bounds, ms.
    starts: Column,
    ends: Column,
    /// Aggregate columns; those of the user are shorter by what waits.
    aggregates: Vec<OutputColumn>,
    /// What waits for the user's functions, which are called for many rows at once.
    waiting: Vec<Waiting>,
    /// For each aggregate, how many of its values were not to be had.
    lost: Arc<[LostValues]>,
    /// How many rows of the same key and window came before.
    revisions: Column,
    /// Whether no further row is expected.
    finals: Column,
    /// Whether the row takes an earlier one back; only where that happens.
    retracted: Option<Column>,
    /// Rows from which on there is no room for more that can wait.
    rows_max: usize,
}

/// Bytes of keys and lists from which on the rows are full: what leaves at once must fit in memory, whatever is in it.
const BYTES_MAX: usize = 32 << 20;

/// Values of an aggregate of the user that are to be worked out.
#[derive(Debug)]
struct Waiting {
    /// Number of the aggregate.
    index: usize,
    /// All aggregates' functions.
    users: Users,
    /// For each row its states, and the window's start for the report; without states the value is null.
    rows: Vec<(Option<States>, Option<i64>)>,
}

/// The window a row is of, and which of its rows it is.
#[derive(Debug, Clone, Copy)]
pub struct RowOf {
    /// Start and end of the window, ms; the whole window has none, and its columns are null.
    pub bounds: Option<(i64, i64)>,
    /// Rows of this key and window before this one.
    pub revision: i64,
    /// Whether no further row is expected.
    pub is_final: bool,
}

impl ResultRows {
    /// No rows yet.
    #[must_use]
    pub fn new(plan: &WindowPlan) -> Self {
        Self {
            keys: plan.key.types().iter().map(|data_type| Column::new(*data_type)).collect(),
            starts: Column::new(DataType::Timestamp),
            ends: Column::new(DataType::Timestamp),
            aggregates: plan.aggregates.iter().map(|aggregate| OutputColumn::new(aggregate.output)).collect(),
            waiting: waiting(plan),
            lost: plan.lost.clone(),
            revisions: Column::new(DataType::Int64),
            finals: Column::new(DataType::Bool),
            retracted: plan.retracts().then(|| Column::new(DataType::Bool)),
            rows_max: plan.piece_rows,
        }
    }

    /// Whether what can wait is to wait for the next rows. Those that cannot are appended all the same.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let keys = self.keys.iter().map(Column::text_bytes);
        let bytes = || keys.chain(self.aggregates.iter().map(OutputColumn::long_bytes)).sum::<usize>();
        self.rows_max != usize::MAX && (self.len() >= self.rows_max || bytes() >= BYTES_MAX)
    }

    /// Whether the values of one row may take many bytes: texts and lists of aggregates. Keys are bounded.
    #[must_use]
    pub fn has_long(&self) -> bool {
        self.aggregates.iter().any(|column| match column {
            OutputColumn::Values(column) => matches!(column.values, Values::Bytes(_)),
            OutputColumn::Lists(_) => true,
        })
    }

    /// How many rows they take until they are full, at least one.
    #[must_use]
    pub fn room(&self) -> usize {
        self.rows_max.saturating_sub(self.len()).max(1)
    }

    /// Lets any number of rows in while `fill` runs.
    pub fn whole<T>(&mut self, fill: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let rows_max = std::mem::replace(&mut self.rows_max, usize::MAX);
        let filled = fill(self);
        self.rows_max = rows_max;
        filled
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room for `rows` more.
    pub fn reserve(&mut self, rows: usize) {
        let values = self.aggregates.iter_mut().filter_map(|column| match column {
            OutputColumn::Values(column) => Some(column),
            OutputColumn::Lists(_) => None,
        });
        let bounds = [&mut self.starts, &mut self.ends, &mut self.revisions, &mut self.finals];
        self.keys.iter_mut().chain(bounds).chain(values).for_each(|column| column.reserve(rows, 0));
    }

    /// Appends the row of `key` with the aggregates in `slot`. A value that is not to be had is null, and noted.
    pub fn push(&mut self, plan: &WindowPlan, key: &[u8], values: &Accumulators, slot: u32, row: RowOf) -> Result<()> {
        plan.key.decode(key, &mut self.keys);
        self.push_values(values, &[slot], row)
    }

    /// Appends the rows of `slots` of `table`, which have nothing but their keys and values of their own.
    pub fn push_all(
        &mut self,
        plan: &WindowPlan,
        table: &StateTable<Accumulators>,
        slots: &[u32],
        row: RowOf,
    ) -> Result<()> {
        slots.iter().for_each(|slot| plan.key.decode(table.key(*slot), &mut self.keys));
        self.push_values(table.slots(), slots, row)
    }

    /// Appends rows of `slots` whose keys are there, column by column.
    fn push_values(&mut self, values: &Accumulators, slots: &[u32], row: RowOf) -> Result<()> {
        for (index, column) in self.aggregates.iter_mut().enumerate() {
            for slot in slots {
                if values.states(index, *slot).is_some() {
                    continue;
                }
                match values.finish(index, *slot, column) {
                    Err(error) if error.kind == ErrorKind::Overflow => {
                        column.push(Scalar::Null);
                        self.lost[index].note(|| format!("{}, in {}", error.message, window_at(row.bounds)));
                    }
                    finished => finished?,
                }
            }
        }
        let start_ms = row.bounds.map(|(start_ms, _)| start_ms);
        for waiting in &mut self.waiting {
            let states = slots.iter().map(|slot| values.states(waiting.index, *slot).cloned());
            waiting.rows.extend(states.map(|states| (states, start_ms)));
        }
        self.push_bounds(row, false, slots.len());
        Ok(())
    }

    /// Has the user's functions work out the values that wait.
    pub fn settle(&mut self) {
        for Waiting { index, users, rows } in &mut self.waiting {
            let (rows, lost) = (std::mem::take(rows), &self.lost[*index]);
            let Some(user) = users[*index].as_ref().filter(|_| !rows.is_empty()) else { continue };
            let (states, starts): (Vec<Option<States>>, Vec<Option<i64>>) = rows.into_iter().unzip();
            let failed = |row: usize, why: &str| {
                lost.note(|| format!("{why}, in {}", window_at(starts[row].map(|start_ms| (start_ms, 0)))));
            };
            let values = user.values(&states, failed);
            (0..values.len()).for_each(|row| self.aggregates[*index].push(values.get(row)));
        }
    }

    /// Appends a row that takes back the one of `key` with the same bounds; its aggregates are null.
    pub fn push_retracted(&mut self, plan: &WindowPlan, key: &[u8], row: RowOf) {
        self.settle();
        plan.key.decode(key, &mut self.keys);
        self.aggregates.iter_mut().for_each(|column| column.push(Scalar::Null));
        self.push_bounds(row, true, 1);
    }

    /// Appends what `rows` rows have in common: all but keys and aggregates.
    fn push_bounds(&mut self, row: RowOf, retracted: bool, rows: usize) {
        let bound = |bound: Option<i64>| bound.map_or(Scalar::Null, Scalar::Int64);
        self.starts.push_repeated(bound(row.bounds.map(|(start_ms, _)| start_ms)), rows);
        self.ends.push_repeated(bound(row.bounds.map(|(_, end_ms)| end_ms)), rows);
        self.revisions.push_repeated(Scalar::Int64(row.revision), rows);
        self.finals.push_repeated(Scalar::Bool(row.is_final), rows);
        self.retracted.iter_mut().for_each(|column| column.push_repeated(Scalar::Bool(retracted), rows));
    }

    /// Appends row `row` of `other`, which is settled, as that of its window's `revision`.
    pub fn push_row(&mut self, other: &Self, row: usize, revision: i64) {
        self.settle();
        let keys = self.keys.iter_mut().zip(&other.keys);
        let bounds = [(&mut self.starts, &other.starts), (&mut self.ends, &other.ends)];
        keys.chain(bounds).for_each(|(column, from)| column.push(from.get(row)));
        self.aggregates.iter_mut().zip(&other.aggregates).for_each(|(column, from)| column.push_row(from, row));
        self.revisions.push(Scalar::Int64(revision));
        self.finals.push(other.finals.get(row));
        if let (Some(column), Some(from)) = (&mut self.retracted, &other.retracted) {
            column.push(from.get(row));
        }
    }

    /// Which rows `condition` is true for. They are settled.
    #[must_use]
    pub fn holding(&mut self, condition: &dyn RowCondition) -> Vec<bool> {
        self.settle();
        let mut keep = vec![true; self.len()];
        let aggregates = self.aggregates.iter().map(|column| match column {
            OutputColumn::Values(column) => column.clone(),
            OutputColumn::Lists(lists) => Column::new(lists.items.data_type),
        });
        let bounds = [self.starts.clone(), self.ends.clone()];
        let columns: Vec<Column> = self.keys.iter().cloned().chain(bounds).chain(aggregates).collect();
        condition.retain(&columns, &mut keep);
        keep
    }

    /// The columns, in output order.
    #[must_use]
    pub fn into_columns(mut self) -> Vec<OutputColumn> {
        self.settle();
        let bounds = [self.starts, self.ends];
        let tail = [self.revisions, self.finals].into_iter().chain(self.retracted);
        let before = self.keys.into_iter().chain(bounds).map(OutputColumn::from);
        before.chain(self.aggregates).chain(tail.map(OutputColumn::from)).collect()
    }
}

/// Nothing yet, for each aggregate of the user.
fn waiting(plan: &WindowPlan) -> Vec<Waiting> {
    let Some(users) = &plan.users else { return Vec::new() };
    let of = |(index, user): (usize, &Option<_>)| {
        user.as_ref().map(|_| Waiting { index, users: users.clone(), rows: Vec::new() })
    };
    users.iter().enumerate().filter_map(of).collect()
}

fn window_at(bounds: Option<(i64, i64)>) -> String {
    bounds.map_or("the whole window".to_owned(), |(start_ms, _)| format!("the window at {start_ms}"))
}
