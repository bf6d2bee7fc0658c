//! The states that aggregates of the user make of rows on their way to a window.
//!
//! They are made before a row is counted anywhere, so that one for which a function fails can be refused: it counts
//! in no aggregate and no window. Invariant: a row that goes on has a state wherever it counts.

use super::{Flow, Place};
use crate::batch::{Column, DataType, Scalar};
use crate::error::RejectKind;
use crate::function::halving;
use crate::plan::WindowStep;
use crate::window::aggregate::UserAggregate;

impl Flow<'_> {
    /// For each aggregate of the user's the states of the kept rows: null of those that do not count, because its
    /// condition does not hold or an argument is null.
    pub(super) fn states(
        &mut self,
        window: &WindowStep,
        arguments: &[Vec<Place>],
        conditions: &[Option<Vec<bool>>],
        columns: &[Column],
    ) -> Vec<Option<Column>> {
        let Some(users) = &window.plan.users else { return vec![None; arguments.len()] };
        let mut states = Vec::with_capacity(users.len());
        for ((user, arguments), condition) in users.iter().zip(arguments).zip(conditions) {
            let arguments: Vec<&Column> = arguments.iter().map(|place| place.column(columns)).collect();
            states.push(user.as_ref().map(|user| self.states_of(user, &arguments, condition.as_deref())));
        }
        states
    }

    fn states_of(&mut self, user: &UserAggregate, arguments: &[&Column], condition: Option<&[bool]>) -> Column {
        let counts = |row: usize| {
            self.kept[row]
                && condition.is_none_or(|holds| holds[row])
                && arguments.iter().all(|argument| argument.is_valid(row))
        };
        let rows: Vec<u32> = (0..self.kept.len()).filter(|row| counts(*row)).map(|row| row as u32).collect();
        let (mut states, mut failed) = (vec![None; self.kept.len()], Vec::new());
        halving(
            &rows,
            |rows| user.init(arguments, rows),
            |rows, made| rows.iter().zip(made).for_each(|(row, state)| states[*row as usize] = Some(state)),
            |row, detail| failed.push((*row, detail)),
        );
        for (row, detail) in failed {
            self.reject(row as usize, RejectKind::FunctionFailed, detail);
        }
        let mut column = Column::new(DataType::Binary);
        for state in &states {
            column.push(state.as_deref().map_or(Scalar::Null, Scalar::Bytes));
        }
        column
    }
}
