//! Result rows of a window step, gathered as columns.
//!
//! `window/state.rs` and `window/session/` append rows as windows fire; `pipeline` turns them
//! into an Arrow batch. Column order: group keys, `window_start`, `window_end`, aggregates,
//! `revision`, `is_final`; and `retracted`, where rows are taken back.

use super::WindowPlan;
use super::aggregate::Accumulators;
use super::early::RowCondition;
use crate::batch::{Column, DataType, Scalar};
use crate::error::Result;
use crate::results::OutputColumn;

/// Rows of one output, in firing order: by window end, then by key.
#[derive(Debug)]
pub struct ResultRows {
    /// Group key columns.
    keys: Vec<Column>,
    /// Window bounds, ms.
    starts: Column,
    ends: Column,
    /// Aggregate columns.
    aggregates: Vec<OutputColumn>,
    /// How many rows of the same key and window came before.
    revisions: Column,
    /// Whether no further row is expected.
    finals: Column,
    /// Whether the row takes an earlier one back; only where that happens.
    retracted: Option<Column>,
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
            revisions: Column::new(DataType::Int64),
            finals: Column::new(DataType::Bool),
            retracted: plan.retracts().then(|| Column::new(DataType::Bool)),
        }
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

    /// Appends the row of `key` with the aggregates in `slot`.
    pub fn push(&mut self, plan: &WindowPlan, key: &[u8], values: &Accumulators, slot: u32, row: RowOf) -> Result<()> {
        self.begin_row(plan, key, row);
        for (index, column) in self.aggregates.iter_mut().enumerate() {
            values.finish(index, slot, column).map_err(|error| {
                let window =
                    row.bounds.map_or("whole window".to_owned(), |(start_ms, _)| format!("window at {start_ms}"));
                error.within(format!("aggregate {} of the {window}", plan.names[index]))
            })?;
        }
        self.end_row(row, false);
        Ok(())
    }

    /// Appends a row that takes back the one of `key` with the same bounds; its aggregates are null.
    pub fn push_retracted(&mut self, plan: &WindowPlan, key: &[u8], row: RowOf) {
        self.begin_row(plan, key, row);
        self.aggregates.iter_mut().for_each(|column| column.push(Scalar::Null));
        self.end_row(row, true);
    }

    fn begin_row(&mut self, plan: &WindowPlan, key: &[u8], row: RowOf) {
        plan.key.decode(key, &mut self.keys);
        self.starts.push(row.bounds.map_or(Scalar::Null, |(start_ms, _)| Scalar::Int64(start_ms)));
        self.ends.push(row.bounds.map_or(Scalar::Null, |(_, end_ms)| Scalar::Int64(end_ms)));
    }

    fn end_row(&mut self, row: RowOf, retracted: bool) {
        self.revisions.push(Scalar::Int64(row.revision));
        self.finals.push(Scalar::Bool(row.is_final));
        self.retracted.iter_mut().for_each(|column| column.push(Scalar::Bool(retracted)));
    }

    /// Appends row `row` of `other`, as that of its window's `revision`.
    pub fn push_row(&mut self, other: &Self, row: usize, revision: i64) {
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

    /// Which rows `condition` is true for.
    #[must_use]
    pub fn holding(&self, condition: &dyn RowCondition) -> Vec<bool> {
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
    pub fn into_columns(self) -> Vec<OutputColumn> {
        let bounds = [self.starts, self.ends];
        let tail = [self.revisions, self.finals].into_iter().chain(self.retracted);
        let before = self.keys.into_iter().chain(bounds).map(OutputColumn::from);
        before.chain(self.aggregates).chain(tail.map(OutputColumn::from)).collect()
    }
}
