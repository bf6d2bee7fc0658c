//! A value of any type, for the aggregates that hold values rather than add them up.
//!
//! `chosen` and `collected` hold them, `frequent` their saved form. Invariant: as in `extreme`, values
//! of one type have a total order and equal values are the same bytes: one NaN, above all numbers.

use super::cells::ALLOCATION_BYTES;
use super::extreme::{Value, flag, one_nan};
use crate::batch::{DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::cmp::Ordering;

const BOOL: u8 = 1;
const INT64: u8 = 2;
const FLOAT64: u8 = 3;
const DECIMAL: u8 = 4;
const BYTES: u8 = 5;

/// An owned value that is not null.
#[derive(Debug, Clone)]
pub(super) enum Stored {
    Bool(bool),
    Int64(i64),
    Float64(f64),
    Decimal(i128),
    Bytes(Box<[u8]>),
}

impl Stored {
    /// True when a column of `data_type` can hold the value: text must be UTF-8.
    pub fn fits(&self, data_type: DataType) -> bool {
        match (self, data_type) {
            (Self::Bytes(bytes), DataType::String) => simdutf8::basic::from_utf8(bytes).is_ok(),
            (Self::Bool(_), DataType::Bool)
            | (Self::Int64(_), DataType::Int64 | DataType::Timestamp)
            | (Self::Float64(_), DataType::Float64)
            | (Self::Decimal(_), DataType::Decimal { .. })
            | (Self::Bytes(_), DataType::Binary | DataType::Scalar) => true,
            _ => false,
        }
    }
}

/// The error for saved values that do not fit the aggregate's type.
pub(super) fn misfit() -> Error {
    Error::state("saved state holds a value of another type, or text that is not UTF-8; it was overwritten")
}

/// Appends `value`, which is not null, in its one form.
pub(super) fn encode_scalar(value: Scalar<'_>, out: &mut Vec<u8>) {
    match value {
        Scalar::Bool(value) => out.extend([BOOL, u8::from(value)]),
        Scalar::Int64(value) => {
            out.put_u8(INT64);
            out.put_i64(value);
        }
        Scalar::Float64(value) => {
            out.put_u8(FLOAT64);
            out.put_u64(one_nan(value).to_bits());
        }
        Scalar::Decimal(value) => {
            out.put_u8(DECIMAL);
            out.put_i128(value);
        }
        Scalar::Bytes(value) => {
            out.put_u8(BYTES);
            out.put_bytes(value);
        }
        Scalar::Null => unreachable!("aggregates skip nulls"),
    }
}

fn rank(value: Scalar<'_>) -> u8 {
    match value {
        Scalar::Null => 0,
        Scalar::Bool(_) => BOOL,
        Scalar::Int64(_) => INT64,
        Scalar::Float64(_) => FLOAT64,
        Scalar::Decimal(_) => DECIMAL,
        Scalar::Bytes(_) => BYTES,
    }
}

impl Value for Stored {
    type Ref<'a> = Scalar<'a>;
    const FORM: u8 = 21;

    fn compare(left: Scalar<'_>, right: Scalar<'_>) -> Ordering {
        match (left, right) {
            (Scalar::Bool(left), Scalar::Bool(right)) => left.cmp(&right),
            (Scalar::Int64(left), Scalar::Int64(right)) => left.cmp(&right),
            (Scalar::Float64(left), Scalar::Float64(right)) => one_nan(left).total_cmp(&one_nan(right)),
            (Scalar::Decimal(left), Scalar::Decimal(right)) => left.cmp(&right),
            (Scalar::Bytes(left), Scalar::Bytes(right)) => left.cmp(right),
            // damaged state alone mixes types
            (left, right) => rank(left).cmp(&rank(right)),
        }
    }

    fn get(&self) -> Scalar<'_> {
        match self {
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int64(value) => Scalar::Int64(*value),
            Self::Float64(value) => Scalar::Float64(*value),
            Self::Decimal(value) => Scalar::Decimal(*value),
            Self::Bytes(value) => Scalar::Bytes(value),
        }
    }

    fn own(value: Scalar<'_>) -> Self {
        match value {
            Scalar::Bool(value) => Self::Bool(value),
            Scalar::Int64(value) => Self::Int64(value),
            Scalar::Float64(value) => Self::Float64(one_nan(value)),
            Scalar::Decimal(value) => Self::Decimal(value),
            Scalar::Bytes(value) => Self::Bytes(value.into()),
            Scalar::Null => unreachable!("aggregates skip nulls"),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode_scalar(self.get(), out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(match saved.u8()? {
            BOOL => Self::Bool(flag(saved)?),
            INT64 => Self::Int64(saved.i64()?),
            FLOAT64 => Self::Float64(one_nan(f64::from_bits(saved.u64()?))),
            DECIMAL => Self::Decimal(saved.i128()?),
            BYTES => Self::Bytes(saved.bytes()?.into()),
            tag => return Err(Error::state(format!("saved state holds a value of kind {tag}; it was overwritten"))),
        })
    }

    fn heap_len(&self) -> usize {
        if let Self::Bytes(bytes) = self { bytes.len() + ALLOCATION_BYTES } else { 0 }
    }
}
