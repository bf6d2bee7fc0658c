//! Result rows of a window step, gathered as columns.
//!
//! `window/state.rs` and `window/session/` append rows as windows fire; `pipeline` turns them
//! into an Arrow batch. Column order: group keys, `window_start`, `window_end`, aggregates,
//! `revision`, `is_final`.

use super::WindowPlan;
use super::aggregate::Accumulators;
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

    /// Appends the row of `key` with the aggregates in `slot`.
    pub fn push(&mut self, plan: &WindowPlan, key: &[u8], values: &Accumulators, slot: u32, row: RowOf) -> Result<()> {
        plan.key.decode(key, &mut self.keys);
        self.starts.push(row.bounds.map_or(Scalar::Null, |(start_ms, _)| Scalar::Int64(start_ms)));
        self.ends.push(row.bounds.map_or(Scalar::Null, |(_, end_ms)| Scalar::Int64(end_ms)));
        for (index, column) in self.aggregates.iter_mut().enumerate() {
            values.finish(index, slot, column).map_err(|error| {
                let window =
                    row.bounds.map_or("whole window".to_owned(), |(start_ms, _)| format!("window at {start_ms}"));
                error.within(format!("aggregate {} of the {window}", plan.names[index]))
            })?;
        }
        self.revisions.push(Scalar::Int64(row.revision));
        self.finals.push(Scalar::Bool(row.is_final));
        Ok(())
    }

    /// The columns, in output order.
    #[must_use]
    pub fn into_columns(self) -> Vec<OutputColumn> {
        let bounds = [self.starts, self.ends];
        let tail = [self.revisions, self.finals];
        let before = self.keys.into_iter().chain(bounds).map(OutputColumn::from);
        before.chain(self.aggregates).chain(tail.map(OutputColumn::from)).collect()
    }
}
