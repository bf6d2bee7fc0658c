//! Columns as they leave the engine: of values, or of lists of values.
//!
//! Aggregates fill them, `table` makes Arrow arrays of them. Invariant: lists are a type of results
//! alone; no expression, group key or state knows them, so [`DataType`] stays a closed set of scalars.

use crate::batch::{Column, DataType, Scalar, Validity};
use std::fmt;

/// The type of a result column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputType {
    /// One value a row.
    Value(DataType),
    /// A list of values a row.
    List(DataType),
    /// A list of values a row, each with how often it occurred.
    Counts(DataType),
}

impl From<DataType> for OutputType {
    fn from(data_type: DataType) -> Self {
        Self::Value(data_type)
    }
}

impl OutputType {
    /// The type of the values, in lists or not.
    #[must_use]
    pub const fn values(self) -> DataType {
        match self {
            Self::Value(data_type) | Self::List(data_type) | Self::Counts(data_type) => data_type,
        }
    }
}

impl fmt::Display for OutputType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(data_type) => data_type.fmt(f),
            Self::List(data_type) => write!(f, "list({data_type})"),
            Self::Counts(data_type) => write!(f, "list(value {data_type}, count int64)"),
        }
    }
}

/// One result column with nulls.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputColumn {
    /// One value a row.
    Values(Column),
    /// A list a row.
    Lists(Lists),
}

/// Lists end to end, with the end of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    /// The values of all lists.
    pub items: Column,
    /// How often each of them occurred, where the type says so.
    pub counts: Option<Column>,
    /// One past the last item of each list.
    pub ends: Vec<u32>,
    /// Which lists are present.
    pub validity: Validity,
}

impl From<Column> for OutputColumn {
    fn from(column: Column) -> Self {
        Self::Values(column)
    }
}

impl OutputColumn {
    /// An empty column.
    #[must_use]
    pub fn new(output: OutputType) -> Self {
        let lists = |data_type, counts| {
            let (items, validity) = (Column::new(data_type), Validity::default());
            Self::Lists(Lists { items, counts, ends: Vec::new(), validity })
        };
        match output {
            OutputType::Value(data_type) => Self::Values(Column::new(data_type)),
            OutputType::List(data_type) => lists(data_type, None),
            OutputType::Counts(data_type) => lists(data_type, Some(Column::new(DataType::Int64))),
        }
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Values(column) => column.len(),
            Self::Lists(lists) => lists.ends.len(),
        }
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of what has no fixed length: texts, and items of lists.
    #[must_use]
    pub fn long_bytes(&self) -> usize {
        match self {
            Self::Values(column) => column.text_bytes(),
            Self::Lists(lists) => lists.items.byte_len(),
        }
    }

    /// Appends one value, or for a column of lists the null that it must be.
    ///
    /// # Panics
    /// When the value is not of the column's type.
    pub fn push(&mut self, value: Scalar<'_>) {
        match (self, value) {
            (Self::Values(column), value) => column.push(value),
            (Self::Lists(lists), Scalar::Null) => lists.end(false),
            (Self::Lists(_), value) => panic!("{value:?} pushed into a column of lists"),
        }
    }

    /// Appends row `row` of `other`, a column of the same type.
    ///
    /// # Panics
    /// When it is not of the same type.
    pub fn push_row(&mut self, other: &Self, row: usize) {
        let lists = match other {
            Self::Values(column) => return self.push(column.get(row)),
            Self::Lists(lists) if !lists.validity.is_valid(row) => return self.push(Scalar::Null),
            Self::Lists(lists) => lists,
        };
        let start = row.checked_sub(1).map_or(0, |before| lists.ends[before]) as usize;
        let count = |item| match lists.counts.as_ref().map(|counts| counts.get(item)) {
            Some(Scalar::Int64(count)) => count as u64,
            _ => 1,
        };
        self.push_list((start..lists.ends[row] as usize).map(|item| (lists.items.get(item), count(item))));
    }

    /// Appends one list of values, with their counts where the column has such.
    ///
    /// # Panics
    /// When the column holds no lists, or an item is not of its type.
    pub fn push_list<'v>(&mut self, items: impl Iterator<Item = (Scalar<'v>, u64)>) {
        let Self::Lists(lists) = self else { panic!("a list pushed into a column of values") };
        for (item, count) in items {
            lists.items.push(item);
            if let Some(counts) = &mut lists.counts {
                counts.push(Scalar::Int64(count as i64));
            }
        }
        lists.end(true);
    }
}

impl Lists {
    /// The lists of `rows`, in that order.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Self {
        let mut gathered = Self {
            items: Column::new(self.items.data_type),
            counts: self.counts.as_ref().map(|counts| Column::new(counts.data_type)),
            ends: Vec::with_capacity(rows.len()),
            validity: Validity::default(),
        };
        for row in rows.iter().map(|row| *row as usize) {
            let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
            for item in start..self.ends[row] as usize {
                gathered.items.push(self.items.get(item));
                if let (Some(counts), Some(from)) = (&mut gathered.counts, &self.counts) {
                    counts.push(from.get(item));
                }
            }
            gathered.end(self.validity.is_valid(row));
        }
        gathered
    }

    fn end(&mut self, valid: bool) {
        self.validity.push(self.ends.len(), valid);
        self.ends.push(self.items.len() as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_keep_their_ends_and_nulls() {
        let mut column = OutputColumn::new(OutputType::Counts(DataType::Bool));
        column.push_list([(Scalar::Bool(true), 2), (Scalar::Bool(false), 1)].into_iter());
        column.push(Scalar::Null);
        column.push_list(std::iter::empty());
        assert_eq!(column.len(), 3);
        let OutputColumn::Lists(lists) = column else { panic!("lists") };
        assert_eq!(lists.ends, [2, 2, 2]);
        assert_eq!(lists.validity.flags(), [true, false, true]);
        let gathered = lists.gather(&[1, 0, 0]);
        assert_eq!((&gathered.ends[..], gathered.validity.flags()), (&[0, 2, 4][..], &[false, true, true][..]));
        assert_eq!(lists.counts.map(|counts| counts.get(0) == Scalar::Int64(2)), Some(true));
    }

    #[test]
    fn rows_are_copied_with_lists_counts_and_nulls() {
        for output in [OutputType::Counts(DataType::Bool), OutputType::List(DataType::Bool)] {
            let mut column = OutputColumn::new(output);
            column.push(Scalar::Null);
            column.push_list([(Scalar::Bool(true), 2), (Scalar::Bool(false), 1)].into_iter());
            column.push_list(std::iter::empty());
            let (mut copy, mut reversed) = (OutputColumn::new(output), OutputColumn::new(output));
            (0..3).for_each(|row| copy.push_row(&column, row));
            assert_eq!(copy, column);
            (0..3).rev().for_each(|row| reversed.push_row(&column, row));
            let OutputColumn::Lists(lists) = reversed else { panic!("lists") };
            assert_eq!((lists.ends, lists.validity.flags()), (vec![0, 2, 2], &[true, true, false][..]));
        }
    }

    #[test]
    fn types_are_told_in_words() {
        let types = [OutputType::List, OutputType::Counts].map(|list| list(DataType::String).to_string());
        assert_eq!(types, ["list(string)", "list(value string, count int64)"]);
    }
}
