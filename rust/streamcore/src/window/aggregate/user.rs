//! Aggregates of the user: states that three functions of theirs make, merge and finish.
//!
//! `flow` calls [`UserAggregate::init`] for the rows on their way to a window, as `map_batches` calls a function; what
//! it makes of a row is that row's state, kept in cells (`states`) as bytes; `rows` asks for the values of all rows that
//! leave together. Invariant: a function that fails costs the rows it failed for, or the values of a row that leaves,
//! never the run.

#[cfg(test)]
mod tests;

use super::cells::Cells;
use super::states::{Chunk, States, decode, encoded};
use crate::arrays::{batch_of, read_columns};
use crate::batch::{Column, DataType, Scalar, Values};
use crate::function::{BatchFunction, halving};
use crate::results::OutputColumn;
use arrow_array::RecordBatch;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the column is called that tells groups apart.
pub const GROUP: &str = "group";
/// What the column of a result is called.
const VALUE: &str = "value";

/// The functions of one aggregate, and the types between them.
#[derive(Debug, Clone)]
pub struct UserAggregate {
    /// What a call names it.
    pub name: String,
    /// Name and type of each argument.
    pub arguments: Vec<(String, DataType)>,
    /// Name and type of each column of a state.
    pub state: Vec<(String, DataType)>,
    /// Type of the result.
    pub returns: DataType,
    /// Makes the state of each row; none while a description is only looked at, as the others.
    pub init: Option<Arc<dyn BatchFunction>>,
    /// Makes one state of those of each group.
    pub merge: Option<Arc<dyn BatchFunction>>,
    /// Makes the result of each state.
    pub finish: Option<Arc<dyn BatchFunction>>,
}

impl UserAggregate {
    /// The states of `rows` of the arguments' columns, as bytes in their order. The error says what went wrong and
    /// where in the user's code.
    pub fn init(&self, columns: &[&Column], rows: &[u32]) -> Result<Vec<Vec<u8>>, String> {
        let arguments = columns
            .iter()
            .zip(&self.arguments)
            .map(|(column, (_, data_type))| OutputColumn::from(as_declared(column.gather(rows), *data_type)));
        let names: Vec<_> =
            self.arguments.iter().map(|(name, data_type)| (name.clone(), (*data_type).into())).collect();
        let batch = batch_of(&names, arguments.collect());
        let columns = self.call("init", self.init.as_ref(), &batch, &self.state, rows.len())?;
        Ok(encoded(&columns, rows.len()))
    }

    /// One state for each of `groups`, every one of which has some.
    fn merge(&self, groups: &[&[Box<[u8]>]]) -> Result<Vec<Vec<u8>>, String> {
        let mut group = Column::new(DataType::Int64);
        for (number, states) in groups.iter().enumerate() {
            states.iter().for_each(|_| group.push(Scalar::Int64(number as i64)));
        }
        let batch = self.states(Some(group), groups.iter().copied().flatten());
        let mut wanted = self.state.clone();
        wanted.push((GROUP.to_owned(), DataType::Int64));
        let mut columns = self.call("merge", self.merge.as_ref(), &batch, &wanted, groups.len())?;
        let group = columns.pop().expect("the group is the last column asked for");
        let states = encoded(&columns, groups.len());
        let mut by_group: BTreeMap<i64, Vec<u8>> = BTreeMap::new();
        for (row, state) in states.into_iter().enumerate() {
            if let Scalar::Int64(number) = group.get(row) {
                by_group.insert(number, state);
            }
        }
        if by_group.keys().copied().ne(0..groups.len() as i64) {
            return Err(self.detail("merge", "it gave not one row for each group"));
        }
        Ok(by_group.into_values().collect())
    }

    /// The result of each of `states`.
    fn finish(&self, states: &[&[u8]]) -> Result<Column, String> {
        let batch = self.states(None, states.iter().copied());
        let wanted = [(VALUE.to_owned(), self.returns)];
        let mut columns = self.call("finish", self.finish.as_ref(), &batch, &wanted, states.len())?;
        Ok(columns.pop().expect("one column was asked for"))
    }

    fn call(
        &self,
        part: &str,
        function: Option<&Arc<dyn BatchFunction>>,
        batch: &RecordBatch,
        wanted: &[(String, DataType)],
        rows: usize,
    ) -> Result<Vec<Column>, String> {
        let wrong = |wrong: String| self.detail(part, &wrong);
        let Some(function) = function else { return Err(wrong("it is not at hand".to_owned())) };
        let mut given = function.call(batch).map_err(wrong)?;
        if part == "finish" {
            given = given.into_iter().map(value_of).collect::<Result<_, _>>().map_err(wrong)?;
        }
        let count: usize = given.iter().map(RecordBatch::num_rows).sum();
        if count != rows {
            return Err(wrong(format!("it gave {count} rows for {rows}")));
        }
        read_columns(&given, wanted, "the aggregate").map_err(wrong)
    }

    /// What a dead letter or a report says where a function fails.
    fn detail(&self, part: &str, wrong: &str) -> String {
        format!("{}.{part}: {wrong}", self.name)
    }

    /// A batch of `states`, behind the numbers of their groups.
    fn states<'s, S: AsRef<[u8]> + 's>(&self, group: Option<Column>, states: impl Iterator<Item = S>) -> RecordBatch {
        let mut columns: Vec<Column> = self.state.iter().map(|(_, data_type)| Column::new(*data_type)).collect();
        states.for_each(|state| decode(state.as_ref(), &mut columns));
        let named = |(name, data_type): &(String, DataType)| (name.clone(), (*data_type).into());
        let mut names: Vec<_> = self.state.iter().map(named).collect();
        if let Some(group) = group {
            names.insert(0, (GROUP.to_owned(), DataType::Int64.into()));
            columns.insert(0, group);
        }
        batch_of(&names, columns.into_iter().map(OutputColumn::from).collect())
    }

    /// Merges down the slots of `cells` that have just been added to.
    pub(super) fn merge_down(&self, cells: &mut Cells<States>, slots: &[u32]) {
        let mut slots = slots.to_vec();
        slots.sort_unstable();
        slots.dedup();
        while !slots.is_empty() {
            let mut chunks: Vec<Chunk> = Vec::new();
            slots.retain(|slot| {
                let before = chunks.len();
                cells.change(*slot, |cell| cell.take_chunks(*slot, &mut chunks));
                chunks.len() > before
            });
            let numbers: Vec<usize> = (0..chunks.len()).collect();
            let call = |numbers: &[usize]| {
                let groups: Vec<&[Box<[u8]>]> = numbers.iter().map(|number| &*chunks[*number].states).collect();
                self.merge(&groups)
            };
            let (mut merged, mut failed) = (BTreeMap::new(), BTreeMap::new());
            halving(
                &numbers,
                call,
                |numbers, states: Vec<Vec<u8>>| merged.extend(numbers.iter().copied().zip(states)),
                |number, detail| {
                    failed.insert(*number, detail);
                },
            );
            for (number, state) in merged {
                let Chunk { slot, level, .. } = chunks[number];
                cells.change(slot, |cell| cell.put(level + 1, state.into()));
            }
            for (number, detail) in failed {
                cells.change(chunks[number].slot, |cell| cell.fail(detail));
            }
        }
    }

    /// The results of `cells` in their order; null of one without a state and where a function fails. `failed` is told
    /// which each time, and why.
    pub(in crate::window) fn values(&self, cells: &[Option<States>], mut failed: impl FnMut(usize, &str)) -> Column {
        let mut states: Vec<Option<Box<[u8]>>> = vec![None; cells.len()];
        let mut several: Vec<(usize, Vec<Box<[u8]>>)> = Vec::new();
        for (row, cell) in cells.iter().enumerate() {
            let Some(cell) = cell else { continue };
            let mut all = cell.all();
            cell.failure().into_iter().for_each(|detail| failed(row, detail));
            if all.len() > 1 {
                several.push((row, all));
            } else {
                states[row] = all.pop();
            }
        }
        let call = |several: &[(usize, Vec<Box<[u8]>>)]| {
            self.merge(&several.iter().map(|(_, states)| &states[..]).collect::<Vec<_>>())
        };
        let done = |several: &[(usize, Vec<Box<[u8]>>)], merged: Vec<Vec<u8>>| {
            several.iter().zip(merged).for_each(|((row, _), state)| states[*row] = Some(state.into()));
        };
        halving(&several, call, done, |(row, _), detail| failed(*row, &detail));
        let present: Vec<(usize, &[u8])> =
            states.iter().enumerate().filter_map(|(row, state)| Some((row, state.as_deref()?))).collect();
        let mut found: Vec<Option<(usize, usize)>> = vec![None; cells.len()];
        let mut columns: Vec<Column> = Vec::new();
        let call =
            |present: &[(usize, &[u8])]| self.finish(&present.iter().map(|(_, state)| *state).collect::<Vec<_>>());
        let done = |present: &[(usize, &[u8])], column: Column| {
            present.iter().enumerate().for_each(|(at, (row, _))| found[*row] = Some((columns.len(), at)));
            columns.push(column);
        };
        halving(&present, call, done, |(row, _), detail| failed(*row, &detail));
        let mut values = Column::new(self.returns);
        for found in found {
            values.push(found.map_or(Scalar::Null, |(column, at)| columns[column].get(at)));
        }
        values
    }
}

/// A batch of one column, whatever it is called, as that of the values: there is nothing to mix up. Of several columns one
/// has to be called so.
fn value_of(batch: RecordBatch) -> Result<RecordBatch, String> {
    match batch.columns() {
        [column] => Ok(RecordBatch::try_from_iter_with_nullable([(VALUE, column.clone(), true)]).unwrap_or(batch)),
        _ if batch.column_by_name(VALUE).is_some() => Ok(batch),
        columns => {
            let schema = batch.schema();
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            Err(format!(
                "it gave {} columns ({}), and a value is one: select it, or call it {VALUE}",
                columns.len(),
                names.join(", ")
            ))
        }
    }
}

/// An integer is accepted where a float is declared.
fn as_declared(column: Column, data_type: DataType) -> Column {
    match (&column.values, data_type) {
        (Values::Int64(values), DataType::Float64) => {
            let mut floats = Column::new(DataType::Float64);
            for (row, value) in values.iter().enumerate() {
                let value = if column.is_valid(row) { Scalar::Float64(*value as f64) } else { Scalar::Null };
                floats.push(value);
            }
            floats
        }
        _ => column,
    }
}
