//! The column of cells for a plan, and the row loops that feed it.
//!
//! `mod.rs` holds one [`Typed`] for each aggregate. Invariant: the kind of cell and the types of the
//! argument are matched once an update, outside the row loop; a mismatch is a bug of the planner.

use super::approximate::Approximate;
use super::cells::{Cell, Cells};
use super::chosen::Chosen;
use super::collected::Collected;
use super::distinct::{Distinct, fingerprint};
use super::extreme::{Extreme, Placed, Value, wins};
use super::frequent::Frequent;
use super::moments::{Moments, Unit};
use super::number::{Count, DecimalSum, FloatSum, IntSum};
use super::quantile::{Quantile, decimal_to_double};
use super::states::States;
use super::stored::misfit;
use super::{AggregatePlan, Feed, Function, Input};
use crate::batch::{Column, DataType, Scalar, Values};
use crate::error::Result;
use crate::results::OutputColumn;
use crate::state::Slots;

macro_rules! typed {
    ($($(#[$doc:meta])* $kind:ident($cell:ty)),+ $(,)?) => {
        /// One aggregate's cells, by what they hold.
        #[derive(Debug, Clone)]
        pub(super) enum Typed {
            $($(#[$doc])* $kind(Cells<$cell>)),+
        }

        impl Typed {
            /// The slots, whatever they hold.
            pub fn slots(&self) -> &dyn Slots {
                match self { $(Self::$kind(cells) => cells),+ }
            }

            /// The slots, to change.
            pub fn slots_mut(&mut self) -> &mut dyn Slots {
                match self { $(Self::$kind(cells) => cells),+ }
            }

            /// Merges a slot of `other`, which holds the same kind.
            pub fn merge(&mut self, slot: u32, other: &Self, other_slot: u32, plan: &AggregatePlan) {
                match (self, other) {
                    $((Self::$kind(cells), Self::$kind(others)) => cells.merge(slot, others, other_slot, plan),)+
                    _ => unreachable!("equal plans have cells of one kind"),
                }
            }
        }
    };
}

typed! {
    /// `count`.
    Count(Count),
    /// `sum` and `mean` of int64.
    IntSum(IntSum),
    /// `sum` and `mean` of decimals.
    DecimalSum(DecimalSum),
    /// `sum` and `mean` of float64.
    FloatSum(FloatSum),
    /// `var` and `stddev`.
    Moments(Moments),
    /// `count_distinct`.
    Distinct(Distinct),
    /// `approx_distinct`.
    Approximate(Approximate),
    /// `min`, `max`, `any` and `all` of bool.
    Bool(Extreme<bool>),
    /// `min` and `max` of int64 and timestamps.
    Int(Extreme<i64>),
    /// `min` and `max` of float64.
    Float(Extreme<f64>),
    /// `min` and `max` of decimals.
    Decimal(Extreme<i128>),
    /// `min` and `max` of text and bytes.
    Bytes(Extreme<Vec<u8>>),
    /// `first` and `last` of bool.
    PlacedBool(Extreme<Placed<bool>>),
    /// `first` and `last` of int64 and timestamps.
    PlacedInt(Extreme<Placed<i64>>),
    /// `first` and `last` of float64.
    PlacedFloat(Extreme<Placed<f64>>),
    /// `first` and `last` of decimals.
    PlacedDecimal(Extreme<Placed<i128>>),
    /// `first` and `last` of text and bytes.
    PlacedBytes(Extreme<Placed<Vec<u8>>>),
    /// `arg_min`.
    Least(Extreme<Chosen<false>>),
    /// `arg_max`.
    Greatest(Extreme<Chosen<true>>),
    /// `collect_list`.
    Collected(Collected),
    /// `top_k`.
    Frequent(Frequent),
    /// `quantile`.
    Quantile(Quantile),
    /// Functions of the user.
    User(States),
}

impl Typed {
    /// The column for `plan`, without a slot.
    pub fn new(plan: AggregatePlan) -> Self {
        match plan.function {
            Function::Count => Self::Count(Cells::default()),
            Function::CountDistinct => Self::Distinct(Cells::default()),
            Function::ApproxDistinct => Self::Approximate(Cells::default()),
            Function::Sum | Function::Mean => Self::sum(plan.argument),
            Function::Var | Function::Stddev => Self::Moments(Cells::default()),
            Function::Min | Function::Max | Function::Any | Function::All => Self::extreme(plan.output.values()),
            Function::First | Function::Last => Self::placed(plan.output.values()),
            Function::ArgMin => Self::Least(Cells::default()),
            Function::ArgMax => Self::Greatest(Cells::default()),
            Function::CollectList => Self::Collected(Cells::default()),
            Function::TopK => Self::Frequent(Cells::default()),
            Function::Quantile => Self::Quantile(Cells::default()),
            Function::User => Self::User(Cells::default()),
        }
    }

    fn sum(argument: Option<DataType>) -> Self {
        match argument {
            Some(DataType::Int64) => Self::IntSum(Cells::default()),
            Some(DataType::Float64) => Self::FloatSum(Cells::default()),
            Some(DataType::Decimal { .. }) => Self::DecimalSum(Cells::default()),
            other => unreachable!("a plan sums numbers, not {other:?}"),
        }
    }

    fn extreme(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(Cells::default()),
            DataType::Int64 | DataType::Timestamp => Self::Int(Cells::default()),
            DataType::Float64 => Self::Float(Cells::default()),
            DataType::Decimal { .. } => Self::Decimal(Cells::default()),
            DataType::String | DataType::Binary | DataType::Scalar => Self::Bytes(Cells::default()),
        }
    }

    fn placed(data_type: DataType) -> Self {
        match data_type {
            DataType::Bool => Self::PlacedBool(Cells::default()),
            DataType::Int64 | DataType::Timestamp => Self::PlacedInt(Cells::default()),
            DataType::Float64 => Self::PlacedFloat(Cells::default()),
            DataType::Decimal { .. } => Self::PlacedDecimal(Cells::default()),
            DataType::String | DataType::Binary | DataType::Scalar => Self::PlacedBytes(Cells::default()),
        }
    }

    /// Adds the rows of `feed`, whose values are in `input`.
    pub fn update(&mut self, plan: &AggregatePlan, feed: &Feed<'_>, input: &Input<'_>) {
        if let Self::Count(cells) = self {
            let validity = input.argument.map(|column| &column.validity);
            return feed.each(validity, |slot, _| cells.change(slot, Count::add_one));
        }
        let column = input.argument.expect("only count has no argument");
        match (self, &column.values) {
            (Self::IntSum(cells), Values::Int64(values)) => {
                add(cells, feed, column, |cell, row| cell.add(values[row]));
            }
            (Self::DecimalSum(cells), Values::Decimal(values)) => {
                add(cells, feed, column, |cell, row| cell.add(values[row]));
            }
            (Self::FloatSum(cells), Values::Float64(values)) => {
                add(cells, feed, column, |cell, row| cell.add(values[row]));
            }
            (Self::Moments(cells), _) => add_moments(cells, feed, column),
            (Self::Distinct(cells), _) => {
                let tag = type_tag(column.data_type);
                each_value(feed, column, |slot, bytes| {
                    cells.change(slot, |cell| {
                        cell.insert(fingerprint(bytes, tag));
                    });
                });
            }
            (Self::Approximate(cells), _) => {
                each_value(feed, column, |slot, bytes| cells.change(slot, |cell| cell.insert(bytes)));
            }
            (Self::Collected(cells), _) => add(cells, feed, column, |cell, row| {
                cell.offer(feed.order.place(row), column.get(row), plan.most());
            }),
            (Self::Frequent(cells), _) => {
                let mut scratch = Vec::new();
                add(cells, feed, column, |cell, row| cell.add(column.get(row), &mut scratch));
            }
            (Self::User(cells), Values::Bytes(states)) => {
                add(cells, feed, column, |cell, row| cell.push(states.get(row)));
            }
            (Self::Quantile(cells), _) => add_quantile(cells, feed, column),
            (Self::Least(cells), _) => choose(cells, feed, column, input.second, plan.function),
            (Self::Greatest(cells), _) => choose(cells, feed, column, input.second, plan.function),
            (extreme, _) => extreme.update_extreme(plan.function, feed, column),
        }
    }

    fn update_extreme(&mut self, function: Function, feed: &Feed<'_>, column: &Column) {
        let order = feed.order;
        match (self, &column.values) {
            (Self::Bool(cells), Values::Bool(values)) => offer(cells, feed, column, function, |row| values[row]),
            (Self::Int(cells), Values::Int64(values)) => offer(cells, feed, column, function, |row| values[row]),
            (Self::Float(cells), Values::Float64(values)) => offer(cells, feed, column, function, |row| values[row]),
            (Self::Decimal(cells), Values::Decimal(values)) => offer(cells, feed, column, function, |row| values[row]),
            (Self::Bytes(cells), Values::Bytes(values)) => offer(cells, feed, column, function, |row| values.get(row)),
            (Self::PlacedBool(cells), Values::Bool(values)) => {
                offer(cells, feed, column, function, |row| (order.place(row), values[row]));
            }
            (Self::PlacedInt(cells), Values::Int64(values)) => {
                offer(cells, feed, column, function, |row| (order.place(row), values[row]));
            }
            (Self::PlacedFloat(cells), Values::Float64(values)) => {
                offer(cells, feed, column, function, |row| (order.place(row), values[row]));
            }
            (Self::PlacedDecimal(cells), Values::Decimal(values)) => {
                offer(cells, feed, column, function, |row| (order.place(row), values[row]));
            }
            (Self::PlacedBytes(cells), Values::Bytes(values)) => {
                offer(cells, feed, column, function, |row| (order.place(row), values.get(row)));
            }
            _ => unreachable!("an argument of {} for another plan", column.data_type),
        }
    }

    /// Appends the result of `slot` to `out`.
    pub fn finish(&self, plan: &AggregatePlan, slot: u32, out: &mut OutputColumn) -> Result<()> {
        let value = match self {
            Self::Count(cells) => Scalar::Int64(cells.get(slot).value()),
            Self::IntSum(cells) => cells.get(slot).finish(plan.function)?,
            Self::DecimalSum(cells) => cells.get(slot).finish(plan.function, scale_of(plan.argument))?,
            Self::FloatSum(cells) => cells.get(slot).finish(plan.function)?,
            Self::Moments(cells) => cells.get(slot).finish(plan.function, unit_of(plan.argument))?,
            Self::Distinct(cells) => Scalar::Int64(cells.get(slot).len() as i64),
            Self::Approximate(cells) => Scalar::Int64(cells.get(slot).estimate()),
            Self::Bool(cells) => cells.get(slot).winner().map_or(Scalar::Null, Scalar::Bool),
            Self::Int(cells) => cells.get(slot).winner().map_or(Scalar::Null, Scalar::Int64),
            Self::Float(cells) => cells.get(slot).winner().map_or(Scalar::Null, Scalar::Float64),
            Self::Decimal(cells) => cells.get(slot).winner().map_or(Scalar::Null, Scalar::Decimal),
            Self::Bytes(cells) => cells.get(slot).winner().map_or(Scalar::Null, Scalar::Bytes),
            Self::PlacedBool(cells) => cells.get(slot).winner().map_or(Scalar::Null, |(_, value)| Scalar::Bool(value)),
            Self::PlacedInt(cells) => cells.get(slot).winner().map_or(Scalar::Null, |(_, value)| Scalar::Int64(value)),
            Self::PlacedFloat(cells) => {
                cells.get(slot).winner().map_or(Scalar::Null, |(_, value)| Scalar::Float64(value))
            }
            Self::PlacedDecimal(cells) => {
                cells.get(slot).winner().map_or(Scalar::Null, |(_, value)| Scalar::Decimal(value))
            }
            Self::PlacedBytes(cells) => {
                cells.get(slot).winner().map_or(Scalar::Null, |(_, value)| Scalar::Bytes(value))
            }
            Self::Least(cells) => cells.get(slot).winner().map_or(Scalar::Null, |(_, _, value)| value),
            Self::Greatest(cells) => cells.get(slot).winner().map_or(Scalar::Null, |(_, _, value)| value),
            Self::Collected(cells) => {
                let list = cells.get(slot);
                if !list.is_empty() {
                    out.push_list(list.values().map(|value| (value, 1)));
                    return Ok(());
                }
                Scalar::Null
            }
            Self::Frequent(cells) => {
                if let Some(top) = cells.get(slot).top(plan.most()) {
                    out.push_list(top.iter().map(|(value, count)| (value.get(), *count)));
                    return Ok(());
                }
                Scalar::Null
            }
            Self::Quantile(cells) => cells.get(slot).value(plan.share()),
            Self::User(_) => unreachable!("rows ask for the states of users' aggregates and finish them together"),
        };
        out.push(value);
        Ok(())
    }

    /// Refuses what was read back into `slot` and is not of the plan's types: text must be text.
    pub fn check(&self, plan: &AggregatePlan, slot: u32) -> Result<()> {
        let output = plan.output.values();
        let is_text = |text: Option<&[u8]>| {
            output != DataType::String || text.is_none_or(|text| simdutf8::basic::from_utf8(text).is_ok())
        };
        let fits = match self {
            Self::Frequent(cells) => return cells.get(slot).check(output),
            Self::Bytes(cells) => is_text(cells.get(slot).winner()),
            Self::PlacedBytes(cells) => is_text(cells.get(slot).winner().map(|(_, value)| value)),
            Self::Least(cells) => cells.get(slot).held().is_none_or(|chosen| chosen.fits(plan)),
            Self::Greatest(cells) => cells.get(slot).held().is_none_or(|chosen| chosen.fits(plan)),
            Self::Collected(cells) => cells.get(slot).fits(output),
            _ => true,
        };
        if fits { Ok(()) } else { Err(misfit()) }
    }
}

/// Runs `add(cell, row)` over the present rows.
#[inline]
fn add<C: Cell>(cells: &mut Cells<C>, feed: &Feed<'_>, column: &Column, mut add: impl FnMut(&mut C, usize)) {
    feed.each(Some(&column.validity), |slot, row| cells.change(slot, |cell| add(cell, row)));
}

/// Offers the values of `column` with those of `by`, where both are present.
fn choose<const GREATEST: bool>(
    cells: &mut Cells<Extreme<Chosen<GREATEST>>>,
    feed: &Feed<'_>,
    column: &Column,
    by: Option<&Column>,
    function: Function,
) {
    let by = by.expect("the plan has a second argument");
    let wins = wins(function);
    add(cells, feed, column, |cell, row| {
        if by.is_valid(row) {
            cell.offer((by.get(row), feed.order.place(row), column.get(row)), wins);
        }
    });
}

fn add_moments(cells: &mut Cells<Moments>, feed: &Feed<'_>, column: &Column) {
    match &column.values {
        Values::Float64(values) => add(cells, feed, column, |cell, row| cell.add_double(values[row])),
        Values::Int64(values) => add(cells, feed, column, |cell, row| cell.add_integer(values[row].into())),
        Values::Decimal(values) => add(cells, feed, column, |cell, row| cell.add_integer(values[row])),
        Values::Bool(_) | Values::Bytes(_) => unreachable!("an argument of {} for a variance", column.data_type),
    }
}

fn add_quantile(cells: &mut Cells<Quantile>, feed: &Feed<'_>, column: &Column) {
    match (&column.values, column.data_type) {
        (Values::Float64(values), _) => add(cells, feed, column, |cell, row| cell.add(values[row])),
        (Values::Int64(values), _) => add(cells, feed, column, |cell, row| cell.add(values[row] as f64)),
        (Values::Decimal(values), DataType::Decimal { scale, .. }) => {
            add(cells, feed, column, |cell, row| cell.add(decimal_to_double(values[row], scale)));
        }
        (_, data_type) => unreachable!("an argument of {data_type} for a quantile"),
    }
}

/// Offers `read(row)` over the present rows. The loop is made twice, so that the comparison is fixed
/// in each.
#[inline]
fn offer<'a, V: Value>(
    cells: &mut Cells<Extreme<V>>,
    feed: &Feed<'_>,
    column: &'a Column,
    function: Function,
    read: impl Fn(usize) -> V::Ref<'a>,
) {
    use std::cmp::Ordering::{Greater, Less};
    match wins(function) {
        Less => add(cells, feed, column, |cell, row| cell.offer(read(row), Less)),
        _ => add(cells, feed, column, |cell, row| cell.offer(read(row), Greater)),
    }
}

/// Calls `take(slot, bytes)` over the present rows with one sequence of bytes for equal values:
/// `-0.0` and `0.0` are equal, and so are all NaN.
fn each_value(feed: &Feed<'_>, column: &Column, mut take: impl FnMut(u32, &[u8])) {
    let validity = Some(&column.validity);
    match &column.values {
        Values::Bool(values) => feed.each(validity, |slot, row| take(slot, &[u8::from(values[row])])),
        Values::Int64(values) => feed.each(validity, |slot, row| take(slot, &values[row].to_le_bytes())),
        Values::Decimal(values) => feed.each(validity, |slot, row| take(slot, &values[row].to_le_bytes())),
        Values::Bytes(values) => feed.each(validity, |slot, row| take(slot, values.get(row))),
        Values::Float64(values) => feed.each(validity, |slot, row| {
            let value = values[row];
            let canonical = if value.is_nan() { f64::NAN } else { value + 0.0 };
            take(slot, &canonical.to_le_bytes());
        }),
    }
}

/// What keeps the fingerprints of types apart. Saved with them: never given another meaning.
fn type_tag(data_type: DataType) -> u64 {
    match data_type {
        DataType::Bool => 1,
        DataType::Int64 => 2,
        DataType::Float64 => 3,
        DataType::String => 4,
        DataType::Binary => 5,
        DataType::Timestamp => 6,
        DataType::Scalar => 7,
        DataType::Decimal { scale, .. } => 256 + u64::from(scale),
    }
}

fn unit_of(argument: Option<DataType>) -> Unit {
    match argument {
        Some(DataType::Float64) => Unit::Double,
        Some(DataType::Decimal { scale, .. }) => Unit::Decimal(scale),
        _ => Unit::Integer,
    }
}

fn scale_of(argument: Option<DataType>) -> u8 {
    match argument {
        Some(DataType::Decimal { scale, .. }) => scale,
        _ => 0,
    }
}
