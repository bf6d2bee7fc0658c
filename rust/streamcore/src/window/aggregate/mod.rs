//! Accumulators: what a window holds for each group, column by column.
//!
//! The window step finds the slot of each row and calls [`Accumulators::update`] once a batch; combine
//! calls [`Accumulators::merge`] with the partials of other lanes; firing calls
//! [`Accumulators::finish`]. Invariant: a slot's value and digest depend on the set of rows it has
//! seen, never on their order, on batch cuts or on the way partials were merged. Nulls are skipped by
//! every function, as in SQL: `count(x)` counts the values of `x` that are present, `first(x)` is the
//! first one that is, and any other aggregate of no values is null.
//!
//! `plan` resolves a call; `typed` holds the column of a plan, `cells` its slots; `number`, `moments`,
//! `extreme`, `chosen`, `collected`, `frequent`, `quantile`, `distinct` and `approximate` are what a cell can
//! be, and `user` what functions of the user make of it; `exact_sum` and `digits` are the arithmetic, `stored` a value of any type.

mod approximate;
mod cells;
mod chosen;
mod collected;
mod digits;
mod distinct;
mod exact_sum;
mod extreme;
mod frequent;
mod moments;
mod number;
mod plan;
mod quantile;
mod states;
mod stored;
#[cfg(test)]
mod tests;
mod typed;
mod user;

pub use frequent::VALUES_MAX;
pub use plan::{AggregatePlan, Argument, Function, LIST_DEFAULT, LIST_MAX, Refusal, Setting, TOP_MAX};

pub use states::States;
pub use user::{GROUP, UserAggregate};

use crate::batch::{Column, Validity};
use crate::codec::Reader;
use crate::error::Result;
use crate::results::OutputColumn;
use crate::state::Slots;
use extreme::Place;
use std::sync::Arc;
use stored::misfit;
use typed::Typed;

/// Where one aggregate's values come from in an update. Both are dense over the batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Input<'a> {
    /// The evaluated argument, of the plan's argument type; `None` for `count()`.
    pub argument: Option<&'a Column>,
    /// The evaluated second argument, of the plan's second type.
    pub second: Option<&'a Column>,
    /// The evaluated `where`: rows that do not hold are skipped.
    pub condition: Option<&'a [bool]>,
}

/// What orders `first`, `last`, `arg_min`, `arg_max` and `collect_list`: event time, then partition, then offset. Indexed by row.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Event time of each row, ms.
    pub event_times_ms: &'a [i64],
    /// The lane's partition.
    pub partition: i32,
    /// Offset of each row in it.
    pub offsets: &'a [i64],
}

impl Order<'_> {
    #[inline]
    fn place(&self, row: usize) -> Place {
        Place { event_time_ms: self.event_times_ms[row], partition: self.partition, offset: self.offsets[row] }
    }
}

/// The rows of one update: row `rows[i]` goes to slot `slots[i]`.
#[derive(Clone, Copy)]
struct Feed<'a> {
    slots: &'a [u32],
    rows: &'a [u32],
    condition: Option<&'a [bool]>,
    order: &'a Order<'a>,
}

impl Feed<'_> {
    /// Calls `add(slot, row)` for the rows that hold and are present. What there is to test is
    /// decided once, so that the common loop tests nothing.
    #[inline]
    fn each(&self, validity: Option<&Validity>, mut add: impl FnMut(u32, usize)) {
        let pairs = self.slots.iter().zip(self.rows).map(|(slot, row)| (*slot, *row as usize));
        match (self.condition, validity.filter(|validity| !validity.no_nulls())) {
            (None, None) => pairs.for_each(|(slot, row)| add(slot, row)),
            (Some(holds), None) => pairs.filter(|(_, row)| holds[*row]).for_each(|(slot, row)| add(slot, row)),
            (holds, Some(validity)) => pairs
                .filter(|(_, row)| holds.is_none_or(|holds| holds[*row]) && validity.is_valid(*row))
                .for_each(|(slot, row)| add(slot, row)),
        }
    }
}

/// One column of accumulators for each aggregate, indexed by slot.
#[derive(Debug, Clone)]
pub struct Accumulators {
    /// The plans, in the order of the result's columns; they never change.
    plans: Arc<[AggregatePlan]>,
    /// For each plan its cells, all with [`Accumulators::len`] slots.
    columns: Vec<Typed>,
    /// The functions of the plans that are the user's; none where none is.
    users: Option<Users>,
    /// Slots, also when there is no aggregate.
    len: usize,
}

/// For each plan the functions of the user, if it is of theirs.
pub type Users = Arc<[Option<UserAggregate>]>;

impl Accumulators {
    /// Accumulators for `plans`, without a slot.
    #[must_use]
    pub fn new(plans: &[AggregatePlan]) -> Self {
        let columns = plans.iter().copied().map(Typed::new).collect();
        Self { plans: plans.into(), columns, users: None, len: 0 }
    }

    /// The same with the functions of plans that are the user's.
    #[must_use]
    pub fn with_users(self, users: Option<&Users>) -> Self {
        Self { users: users.cloned(), ..self }
    }

    /// Number of slots.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds row `rows[i]` of the batch to slot `slots[i]` for every `i`, one aggregate at a time.
    ///
    /// # Panics
    /// When `slots` and `rows` differ in length, `inputs` does not match the plans in number and
    /// type, or a slot or row does not exist: all are decided by the planner and the window step.
    pub fn update(&mut self, slots: &[u32], rows: &[u32], inputs: &[Input<'_>], order: &Order<'_>) {
        assert_eq!(slots.len(), rows.len(), "each row goes to one slot");
        assert_eq!(inputs.len(), self.plans.len(), "each aggregate has one input");
        for ((column, plan), input) in self.columns.iter_mut().zip(&*self.plans).zip(inputs) {
            let feed = Feed { slots, rows, condition: input.condition, order };
            column.update(plan, &feed, input);
        }
        self.merge_down(|_| true, slots);
    }

    /// Has users' functions merge the states of `slots` where there are many, in the cells for which `wanted` holds.
    fn merge_down(&mut self, wanted: impl Fn(&States) -> bool, slots: &[u32]) {
        let Some(users) = &self.users else { return };
        for (column, user) in self.columns.iter_mut().zip(users.iter()) {
            if let (Typed::User(cells), Some(user)) = (column, user) {
                let slots: Vec<u32> = slots.iter().copied().filter(|slot| wanted(cells.get(*slot))).collect();
                user.merge_down(cells, &slots);
            }
        }
    }

    /// The states of `slot` in aggregate `index`, if that is the user's.
    #[must_use]
    pub fn states(&self, index: usize, slot: u32) -> Option<&States> {
        match &self.columns[index] {
            Typed::User(cells) => Some(cells.get(slot)),
            _ => None,
        }
    }

    /// Adds the rows that `other_slot` of `other` has seen to `slot`.
    ///
    /// # Panics
    /// When `other` was made for other plans.
    pub fn merge(&mut self, slot: u32, other: &Self, other_slot: u32) {
        assert_eq!(self.plans, other.plans, "partials of one window step have one plan");
        for ((column, plan), others) in self.columns.iter_mut().zip(&*self.plans).zip(&other.columns) {
            column.merge(slot, others, other_slot, plan);
        }
        self.merge_down(States::is_long, &[slot]);
    }

    /// Bytes held beside the struct, roughly: for accumulators that are themselves one of many.
    #[must_use]
    pub fn heap_len(&self) -> usize {
        self.columns.len() * size_of::<Typed>() + self.byte_len()
    }

    /// Appends aggregate `index` of `slot` to `out`, which is of type `plans[index].output`. Sums and
    /// means of floats, and every mean, are rounded once, half to even.
    ///
    /// # Errors
    /// [`ErrorKind::Overflow`](crate::error::ErrorKind::Overflow) when an exact sum does not fit its
    /// column; `out` is then as it was.
    pub fn finish(&self, index: usize, slot: u32, out: &mut OutputColumn) -> Result<()> {
        self.columns[index].finish(&self.plans[index], slot, out)
    }
}

impl Slots for Accumulators {
    fn push_empty(&mut self) {
        self.columns.iter_mut().for_each(|column| column.slots_mut().push_empty());
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.slots_mut().truncate(len));
        self.len = self.len.min(len);
    }

    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.columns.iter().for_each(|column| column.slots().mark(slot, out));
    }

    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.columns.iter_mut().for_each(|column| column.slots_mut().restore(slot, mark));
    }

    fn prefetch(&self, slot: u32) {
        self.columns.iter().for_each(|column| column.slots().prefetch(slot));
    }

    fn digest(&self, slot: u32) -> u64 {
        // an odd multiplier keeps every bit, so equal values in other columns do not cancel out
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let digests = self.columns.iter().map(|column| column.slots().digest(slot));
        digests.fold(0, |digest: u64, column| digest.wrapping_mul(SPREAD).rotate_left(29).wrapping_add(column))
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        self.columns.iter().for_each(|column| column.slots().encode(slot, out));
    }

    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        for (column, plan) in self.columns.iter_mut().zip(&*self.plans) {
            column.slots_mut().decode(slot, saved)?;
            column.check(plan, slot)?;
        }
        let users = self.users.iter().flat_map(|users| users.iter()).zip(&self.columns);
        for (user, column) in users {
            if let (Some(user), Typed::User(cells)) = (user, column)
                && !cells.get(slot).fits(&user.state)
            {
                return Err(misfit());
            }
        }
        Ok(())
    }

    fn byte_len(&self) -> usize {
        self.columns.iter().map(|column| column.slots().byte_len()).sum()
    }
}
