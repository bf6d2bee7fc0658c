//! The typed tree: an expression whose names are columns and whose operands fit together.
//!
//! `types` builds it, `eval` runs it. Invariant: an operation's operands have the types its kernel
//! expects; every difference in type has become an [`Operation::Convert`].

use super::text::TextFunction;
use super::time::{TimePart, TimeUnit};
use super::tree::{Comparison, Operator};
use crate::batch::{Column, DataType, Scalar};

/// A node that knows the type of its value.
#[derive(Debug, Clone)]
pub(super) struct Typed {
    pub operation: Operation,
    pub data_type: DataType,
}

/// How a value comes about.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    /// A column of the batch.
    Column(usize),
    /// The same value in every row.
    Constant(Constant),
    Not(Box<Typed>),
    /// `and` (false decides) and `or` (true decides).
    Logic {
        decisive: bool,
        operands: Vec<Typed>,
    },
    Compare {
        comparison: Comparison,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    In {
        value: Box<Typed>,
        set: Set,
        negated: bool,
    },
    IsNull {
        value: Box<Typed>,
        negated: bool,
    },
    Arithmetic {
        operator: Operator,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    Negate(Box<Typed>),
    /// To the node's type.
    Convert(Box<Typed>),
    If {
        condition: Box<Typed>,
        then: Box<Typed>,
        otherwise: Box<Typed>,
    },
    Coalesce(Vec<Typed>),
    /// `min_of` and `max_of`: the operand that compares so with all others.
    Extreme {
        comparison: Comparison,
        operands: Vec<Typed>,
    },
    Number(NumberFunction, Box<Typed>),
    Text(TextFunction, Vec<Typed>),
    TimePart(TimePart, Box<Typed>),
    Truncate(TimeUnit, Box<Typed>),
}

/// Functions of one number that keep its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberFunction {
    Abs,
    Floor,
    Ceil,
    Round,
}

/// A value known before any row; its type is that of its node.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Constant {
    Null,
    Bool(bool),
    Int64(i64),
    Float64(f64),
    Decimal(i128),
    Bytes(Box<[u8]>),
}

/// The elements of a list, rising and each once.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Set {
    Bool(Vec<bool>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Decimal(Vec<i128>),
    Bytes(Vec<Box<[u8]>>),
}

impl Typed {
    /// A constant of `data_type`.
    pub fn constant(constant: Constant, data_type: DataType) -> Self {
        Self { operation: Operation::Constant(constant), data_type }
    }

    /// The value, when it is the same in every row.
    pub fn as_constant(&self) -> Option<&Constant> {
        match &self.operation {
            Operation::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// This value as `data_type`.
    pub fn converted(self, data_type: DataType) -> Self {
        if self.data_type == data_type {
            return self;
        }
        Self { operation: Operation::Convert(Box::new(self)), data_type }
    }
}

impl Operation {
    /// The nodes whose values this one needs.
    pub fn operands(&self) -> Vec<&Typed> {
        match self {
            Self::Column(_) | Self::Constant(_) => Vec::new(),
            Self::Logic { operands, .. }
            | Self::Coalesce(operands)
            | Self::Extreme { operands, .. }
            | Self::Text(_, operands) => operands.iter().collect(),
            Self::Compare { left, right, .. } | Self::Arithmetic { left, right, .. } => vec![left, right],
            Self::If { condition, then, otherwise } => vec![condition, then, otherwise],
            Self::Not(value)
            | Self::In { value, .. }
            | Self::IsNull { value, .. }
            | Self::Negate(value)
            | Self::Convert(value)
            | Self::Number(_, value)
            | Self::TimePart(_, value)
            | Self::Truncate(_, value) => vec![value],
        }
    }
}

impl Constant {
    /// As a value of a column.
    pub fn as_scalar(&self) -> Scalar<'_> {
        match self {
            Self::Null => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int64(value) => Scalar::Int64(*value),
            Self::Float64(value) => Scalar::Float64(*value),
            Self::Decimal(value) => Scalar::Decimal(*value),
            Self::Bytes(value) => Scalar::Bytes(value),
        }
    }

    /// A copy of a column's value.
    pub fn from_scalar(value: Scalar<'_>) -> Self {
        match value {
            Scalar::Null => Self::Null,
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int64(value) => Self::Int64(value),
            Scalar::Float64(value) => Self::Float64(value),
            Scalar::Decimal(value) => Self::Decimal(value),
            Scalar::Bytes(value) => Self::Bytes(value.into()),
        }
    }

    /// `rows` copies as a column.
    pub fn to_column(&self, data_type: DataType, rows: usize) -> Column {
        let mut column = Column::new(data_type);
        for _ in 0..rows {
            column.push(self.as_scalar());
        }
        column
    }
}

impl Set {
    /// The set of `elements`, none of them null, all of the kind that `data_type` is held as.
    pub fn new(data_type: DataType, elements: Vec<Constant>) -> Self {
        macro_rules! collect {
            ($variant:ident, $compare:expr) => {{
                let each = elements.into_iter();
                let mut values: Vec<_> = each
                    .filter_map(|each| if let Constant::$variant(value) = each { Some(value) } else { None })
                    .collect();
                values.sort_unstable_by($compare);
                values.dedup();
                Self::$variant(values)
            }};
        }
        match data_type {
            DataType::Bool => collect!(Bool, Ord::cmp),
            DataType::Int64 | DataType::Timestamp => collect!(Int64, Ord::cmp),
            DataType::Float64 => collect!(Float64, f64::total_cmp),
            DataType::Decimal { .. } => collect!(Decimal, Ord::cmp),
            DataType::String | DataType::Binary | DataType::Scalar => collect!(Bytes, Ord::cmp),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_sorted_and_has_each_element_once() {
        let numbers = [3, 1, 3].map(Constant::Int64).to_vec();
        assert_eq!(Set::new(DataType::Timestamp, numbers), Set::Int64(vec![1, 3]));
        let floats = [0.5, -1.0, 0.5].map(Constant::Float64).to_vec();
        assert_eq!(Set::new(DataType::Float64, floats), Set::Float64(vec![-1.0, 0.5]));
    }

    #[test]
    fn a_constant_survives_a_column() {
        for (constant, data_type) in [
            (Constant::Null, DataType::String),
            (Constant::Bytes(b"x"[..].into()), DataType::String),
            (Constant::Decimal(5), DataType::Decimal { precision: 3, scale: 2 }),
        ] {
            let column = constant.to_column(data_type, 2);
            assert_eq!((column.len(), column.data_type), (2, data_type));
            assert_eq!(Constant::from_scalar(column.get(1)), constant);
        }
    }

    #[test]
    fn a_value_is_converted_only_to_another_type() {
        let number = || Typed::constant(Constant::Int64(1), DataType::Int64);
        assert!(number().converted(DataType::Int64).as_constant().is_some());
        assert!(matches!(number().converted(DataType::Float64).operation, Operation::Convert(_)));
    }
}
