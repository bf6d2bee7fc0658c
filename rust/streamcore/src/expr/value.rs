//! Values while an expression runs: columns, borrowed or computed, and constants that stay single.
//!
//! `eval` passes them between the kernels of `kernels`, `convert`, `text`. Invariant: a null's slot
//! holds its type's default value, and validity without a null is empty.

use super::typed::Constant;
use crate::batch::{Bytes, Column, DataType, Scalar, Validity, Values};
use std::borrow::Cow;

/// The value of a node in every row.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    /// One value a row.
    Column(Cow<'a, Column>),
    /// The same in every row; never materialised unless it is the result.
    Constant(Constant),
}

/// A value with the rows in which computing it overflowed, rising. The value is null there.
#[derive(Debug, Clone)]
pub(super) struct Computed<'a> {
    pub value: Value<'a>,
    pub overflowed: Vec<u32>,
}

impl<'a> Computed<'a> {
    /// A value that cannot overflow.
    pub fn new(value: Value<'a>) -> Self {
        Self { value, overflowed: Vec::new() }
    }

    /// A column just computed.
    pub fn column(column: Column, overflowed: Vec<u32>) -> Self {
        Self { value: Value::Column(Cow::Owned(column)), overflowed }
    }
}

/// The operand of a kernel.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operand<'v, T> {
    Each(&'v [T]),
    Same(T),
}

impl<T: Copy> Operand<'_, T> {
    pub fn get(self, row: usize) -> T {
        match self {
            Self::Each(values) => values[row],
            Self::Same(value) => value,
        }
    }

    /// `f` of every row.
    pub fn map<O>(self, rows: usize, mut f: impl FnMut(T) -> O) -> Vec<O> {
        match self {
            Self::Each(values) => values[..rows].iter().map(|value| f(*value)).collect(),
            Self::Same(value) => (0..rows).map(|_| f(value)).collect(),
        }
    }

    /// `f` of every row of two operands, without a test in the loop.
    pub fn zip<O>(self, other: Self, rows: usize, mut f: impl FnMut(T, T) -> O) -> Vec<O> {
        match (self, other) {
            (Self::Each(left), Self::Each(right)) => {
                left[..rows].iter().zip(&right[..rows]).map(|(left, right)| f(*left, *right)).collect()
            }
            (left, Self::Same(right)) => left.map(rows, |left| f(left, right)),
            (Self::Same(left), right) => right.map(rows, |right| f(left, right)),
        }
    }
}

/// The operand of a kernel on text or bytes.
#[derive(Debug, Clone, Copy)]
pub(super) enum TextOperand<'v> {
    Each(&'v Bytes),
    Same(&'v [u8]),
}

impl<'v> TextOperand<'v> {
    pub fn get(self, row: usize) -> &'v [u8] {
        match self {
            Self::Each(values) => values.get(row),
            Self::Same(value) => value,
        }
    }
}

/// Reads a value as an operand; the type checker has chosen the kernel by the same type.
macro_rules! operand {
    ($name:ident, $variant:ident, $type:ty) => {
        pub fn $name(&self) -> Operand<'_, $type> {
            match self {
                Value::Column(column) => match &column.values {
                    Values::$variant(values) => Operand::Each(values),
                    _ => unreachable!("a {} column in a kernel for {}", column.data_type, stringify!($type)),
                },
                Value::Constant(Constant::$variant(value)) => Operand::Same(*value),
                Value::Constant(other) => unreachable!("{other:?} in a kernel for {}", stringify!($type)),
            }
        }
    };
}

impl<'a> Value<'a> {
    operand!(bools, Bool, bool);
    operand!(integers, Int64, i64);
    operand!(floats, Float64, f64);
    operand!(decimals, Decimal, i128);

    pub fn texts(&self) -> TextOperand<'_> {
        match self {
            Value::Column(column) => match &column.values {
                Values::Bytes(values) => TextOperand::Each(values),
                _ => unreachable!("a {} column in a kernel for text", column.data_type),
            },
            Value::Constant(Constant::Bytes(value)) => TextOperand::Same(value),
            Value::Constant(other) => unreachable!("{other:?} in a kernel for text"),
        }
    }

    /// This value with a constant null made a column, so that kernels meet nulls in one form only.
    pub fn without_null_constant(self, data_type: DataType, rows: usize) -> Self {
        match self {
            Value::Constant(Constant::Null) => Value::Column(Cow::Owned(Constant::Null.to_column(data_type, rows))),
            other => other,
        }
    }

    /// This value as a column.
    pub fn into_column(self, data_type: DataType, rows: usize) -> Cow<'a, Column> {
        match self {
            Value::Column(column) => column,
            Value::Constant(constant) => Cow::Owned(constant.to_column(data_type, rows)),
        }
    }

    /// One flag a row, or nothing if no row is null.
    pub fn flags(&self) -> &[bool] {
        match self {
            Value::Column(column) => column.validity.flags(),
            Value::Constant(_) => &[],
        }
    }

    /// True when the value of `row` is not null.
    pub fn is_valid(&self, row: usize) -> bool {
        match self {
            Value::Column(column) => column.is_valid(row),
            Value::Constant(constant) => *constant != Constant::Null,
        }
    }
}

/// Flags of a result that is null where either operand is.
pub(super) fn both(left: &[bool], right: &[bool]) -> Vec<bool> {
    match (left, right) {
        ([], only) | (only, []) => only.to_vec(),
        (left, right) => left.iter().zip(right).map(|(left, right)| left & right).collect(),
    }
}

/// A column of `values`, null where `flags` says so.
pub(super) fn column(data_type: DataType, mut values: Values, flags: Vec<bool>) -> Column {
    let validity = Validity::from_flags(flags);
    let flags = validity.flags();
    match &mut values {
        Values::Bool(values) => reset(values, flags),
        Values::Int64(values) => reset(values, flags),
        Values::Float64(values) => reset(values, flags),
        Values::Decimal(values) => reset(values, flags),
        // Bytes are appended value by value, and a null as nothing.
        Values::Bytes(_) => {}
    }
    Column { data_type, values, validity }
}

fn reset<T: Default>(values: &mut [T], flags: &[bool]) {
    for (value, valid) in values.iter_mut().zip(flags) {
        if !valid {
            *value = T::default();
        }
    }
}

/// Sets the flags of `rows` to null.
pub(super) fn clear(flags: &mut Vec<bool>, rows: &[u32], len: usize) {
    if rows.is_empty() {
        return;
    }
    flags.resize(len, true);
    for row in rows {
        flags[*row as usize] = false;
    }
}

/// `column` with nulls in `rows`.
pub(super) fn nulled<'a>(source: Cow<'a, Column>, rows: &[u32]) -> Cow<'a, Column> {
    if rows.iter().all(|row| !source.is_valid(*row as usize)) {
        return source;
    }
    let mut column = Column::new(source.data_type);
    let mut rows = rows.iter().peekable();
    for row in 0..source.len() {
        let overflowed = rows.next_if(|overflowed| **overflowed as usize == row).is_some();
        column.push(if overflowed { Scalar::Null } else { source.get(row) });
    }
    Cow::Owned(column)
}

/// The rows in either list; both rise.
pub(super) fn union(left: Vec<u32>, right: Vec<u32>) -> Vec<u32> {
    if left.is_empty() || right.is_empty() {
        return if left.is_empty() { right } else { left };
    }
    let mut rows = left;
    rows.extend(right);
    rows.sort_unstable();
    rows.dedup();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zip_takes_columns_and_constants_on_either_side() {
        let column = [1_i64, 2, 3];
        let minus = |left: Operand<'_, i64>, right| left.zip(right, 3, |left, right| left - right);
        assert_eq!(minus(Operand::Each(&column), Operand::Same(1)), [0, 1, 2]);
        assert_eq!(minus(Operand::Same(1), Operand::Each(&column)), [0, -1, -2]);
        assert_eq!(minus(Operand::Each(&column), Operand::Each(&column)), [0, 0, 0]);
        assert_eq!(minus(Operand::Same(5), Operand::Same(3)), [2, 2, 2]);
    }

    #[test]
    fn a_null_slot_is_reset_and_full_validity_is_dropped() {
        let nulls = column(DataType::Int64, Values::Int64(vec![7, 8]), vec![true, false]);
        assert_eq!(nulls.values, Values::Int64(vec![7, 0]));
        let full = column(DataType::Int64, Values::Int64(vec![7, 8]), vec![true, true]);
        assert!(full.validity.no_nulls());
    }

    #[test]
    fn rows_are_united_in_order() {
        assert_eq!(union(vec![1, 4], vec![0, 4, 5]), [0, 1, 4, 5]);
        assert_eq!(union(vec![], vec![2]), [2]);
        assert_eq!(both(&[], &[true, false]), [true, false]);
        assert_eq!(both(&[true, false], &[true, true]), [true, false]);
    }
}
