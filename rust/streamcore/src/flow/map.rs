//! `map_batches`: the rows on their way as one batch through a function of the user.
//!
//! A batch that the function fails for is halved until the rows are found that it fails for, and those alone are
//! refused. Invariant: every row is handed to the function as long as it is in a batch that failed, and no longer.

use super::Flow;
use crate::arrays::{batch_of, read_columns};
use crate::batch::{Column, Scalar};
use crate::error::RejectKind;
use crate::function::halving;
use crate::plan::MapStep;
use crate::results::OutputColumn;
use std::borrow::Cow;

/// What came of some rows.
struct Mapped<'r> {
    rows: &'r [u32],
    /// The columns, of as many rows.
    columns: Vec<Column>,
}

impl Flow<'_> {
    /// Replaces the columns by what the function makes of the kept rows.
    pub(super) fn map(&mut self, step: &MapStep) {
        let kept: Vec<u32> = (0..self.kept.len() as u32).filter(|row| self.kept[*row as usize]).collect();
        let (mut mapped, mut failed) = (Vec::new(), Vec::new());
        halving(
            &kept,
            |rows| self.call(step, rows),
            |rows, columns| mapped.push(Mapped { rows, columns }),
            |row, detail| failed.push((*row, detail)),
        );
        for (row, detail) in failed {
            self.reject(row as usize, RejectKind::FunctionFailed, detail);
        }
        self.columns = Cow::Owned(self.spread(step, mapped));
    }

    fn call(&self, step: &MapStep, rows: &[u32]) -> Result<Vec<Column>, String> {
        let none = || step.output.iter().map(|(_, data_type)| Column::new(*data_type)).collect();
        let Some(function) = &step.function else { return Ok(none()) };
        let columns = step.input.iter().map(|input| self.argument(input.place, input.lists, rows));
        let names: Vec<_> = step.input.iter().map(|input| (input.name.clone(), input.output)).collect();
        let given = function.call(&batch_of(&names, columns.collect())).map_err(|wrong| step.detail(&wrong))?;
        let count: usize = given.iter().map(arrow_array::RecordBatch::num_rows).sum();
        if count != rows.len() {
            return Err(step.detail(&format!("it gave {count} rows for {}", rows.len())));
        }
        read_columns(&given, &step.output, "schema").map_err(|wrong| step.detail(&wrong))
    }

    /// `rows` of a column the function is given.
    fn argument(&self, place: usize, lists: Option<usize>, rows: &[u32]) -> OutputColumn {
        let lists = lists.and_then(|lists| self.rows.lists[lists].as_ref());
        lists.map_or_else(|| self.columns[place].gather(rows).into(), |lists| OutputColumn::Lists(lists.gather(rows)))
    }

    /// Columns with a value in every row of the batch: null in those that left.
    fn spread(&self, step: &MapStep, mut mapped: Vec<Mapped<'_>>) -> Vec<Column> {
        let len = self.kept.len();
        if let [all] = &mut mapped[..]
            && all.rows.len() == len
        {
            return std::mem::take(&mut all.columns);
        }
        let column = |(place, (_, data_type)): (usize, &(String, _))| {
            let mut column = Column::new(*data_type);
            for Mapped { rows, columns } in &mapped {
                for (from, row) in rows.iter().enumerate() {
                    (column.len()..*row as usize).for_each(|_| column.push(Scalar::Null));
                    column.push(columns[place].get(from));
                }
            }
            (column.len()..len).for_each(|_| column.push(Scalar::Null));
            column
        };
        step.output.iter().enumerate().map(column).collect()
    }
}
