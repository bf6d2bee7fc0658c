//! Typed columns of one lane's records, in Arrow's layout.
//!
//! `decode` fills a [`Batch`] from a [`RawBatch`](crate::raw::RawBatch); `expr` computes further
//! columns; the steps read them. Invariant: every column of a batch has [`Batch::len`] values.

mod bytes;

pub use bytes::{BYTES_MAX, Bytes};

use crate::error::Reject;
use std::fmt;

/// The type of a column, fixed for a pipeline's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `true` or `false`.
    Bool,
    /// 64-bit signed integer, exact.
    Int64,
    /// IEEE 754 double.
    Float64,
    /// UTF-8 text.
    String,
    /// Bytes as they are.
    Binary,
    /// Exact decimal: an `i128` count of `10^-scale`.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// Milliseconds since 1970-01-01 UTC.
    Timestamp,
    /// Any JSON scalar, held as a tagged canonical text; only for telling values apart
    /// (`dedupe`, `count_distinct`), never an output type.
    Scalar,
}

impl DataType {
    /// Reads the name used in pipeline files: `string`, `decimal(18,2)`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name.trim() {
            "bool" => Self::Bool,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "string" => Self::String,
            "binary" => Self::Binary,
            "timestamp" => Self::Timestamp,
            other => {
                let inside = other.strip_prefix("decimal(")?.strip_suffix(')')?;
                let (precision, scale) = inside.split_once(',')?;
                let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
                if !(1..=38).contains(&precision) || scale > precision {
                    return None;
                }
                Self::Decimal { precision, scale }
            }
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::String => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Scalar => f.write_str("scalar"),
        }
    }
}

/// Which values of a column are present. Empty means all, so a column without nulls costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Validity {
    valid: Vec<bool>,
}

impl Validity {
    /// From one flag a value.
    #[must_use]
    pub fn from_flags(valid: Vec<bool>) -> Self {
        if valid.iter().all(|flag| *flag) { Self::default() } else { Self { valid } }
    }

    /// True when value `row` is present.
    #[must_use]
    pub fn is_valid(&self, row: usize) -> bool {
        self.valid.is_empty() || self.valid[row]
    }

    /// True when no value is null.
    #[must_use]
    pub fn no_nulls(&self) -> bool {
        self.valid.is_empty()
    }

    /// One flag a value, or nothing at all when no value is null.
    #[must_use]
    pub fn flags(&self) -> &[bool] {
        &self.valid
    }

    /// Records the value numbered `len` (the values before it) as present or null.
    pub fn push(&mut self, len: usize, valid: bool) {
        if self.valid.is_empty() {
            if valid {
                return;
            }
            self.valid.resize(len, true);
        }
        self.valid.push(valid);
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        self.valid.truncate(len);
    }
}

/// The values of a column. `String`, `Binary` and `Scalar` share [`Bytes`].
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Booleans.
    Bool(Vec<bool>),
    /// Integers; timestamps in ms are stored this way too.
    Int64(Vec<i64>),
    /// Doubles.
    Float64(Vec<f64>),
    /// Decimals, scaled by the type's scale.
    Decimal(Vec<i128>),
    /// Text, bytes or tagged scalars.
    Bytes(Bytes),
}

/// One typed column with nulls. A null's slot holds a default value.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The type.
    pub data_type: DataType,
    /// The values.
    pub values: Values,
    /// Which of them are present.
    pub validity: Validity,
}

impl Column {
    /// An empty column of `data_type`.
    #[must_use]
    pub fn new(data_type: DataType) -> Self {
        let values = match data_type {
            DataType::Bool => Values::Bool(Vec::new()),
            DataType::Int64 | DataType::Timestamp => Values::Int64(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Decimal { .. } => Values::Decimal(Vec::new()),
            DataType::String | DataType::Binary | DataType::Scalar => Values::Bytes(Bytes::default()),
        };
        Self { data_type, values, validity: Validity::default() }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int64(values) => values.len(),
            Values::Float64(values) => values.len(),
            Values::Decimal(values) => values.len(),
            Values::Bytes(values) => values.len(),
        }
    }

    /// True when there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all values, where they are texts.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        if let Values::Bytes(values) = &self.values { values.data().len() } else { 0 }
    }

    /// Makes room for `rows` more values, which have `bytes` bytes together where they are texts.
    pub fn reserve(&mut self, rows: usize, bytes: usize) {
        match &mut self.values {
            Values::Bool(values) => values.reserve(rows),
            Values::Int64(values) => values.reserve(rows),
            Values::Float64(values) => values.reserve(rows),
            Values::Decimal(values) => values.reserve(rows),
            Values::Bytes(values) => values.reserve(rows, bytes),
        }
    }

    /// True when value `row` is present.
    #[must_use]
    pub fn is_valid(&self, row: usize) -> bool {
        self.validity.is_valid(row)
    }

    /// Appends a null.
    pub fn push_null(&mut self) {
        self.validity.push(self.len(), false);
        match &mut self.values {
            Values::Bool(values) => values.push(false),
            Values::Int64(values) => values.push(0),
            Values::Float64(values) => values.push(0.0),
            Values::Decimal(values) => values.push(0),
            Values::Bytes(values) => values.push(b""),
        }
    }

    /// Appends `value`, which must be of this column's type.
    ///
    /// # Panics
    /// When it is not: callers choose the column by the same type they push.
    pub fn push(&mut self, value: Scalar<'_>) {
        let valid = !matches!(value, Scalar::Null);
        self.validity.push(self.len(), valid);
        match (&mut self.values, value) {
            (Values::Bool(values), Scalar::Bool(value)) => values.push(value),
            (Values::Int64(values), Scalar::Int64(value)) => values.push(value),
            (Values::Float64(values), Scalar::Float64(value)) => values.push(value),
            (Values::Decimal(values), Scalar::Decimal(value)) => values.push(value),
            (Values::Bytes(values), Scalar::Bytes(value)) => values.push(value),
            (Values::Bool(values), Scalar::Null) => values.push(false),
            (Values::Int64(values), Scalar::Null) => values.push(0),
            (Values::Float64(values), Scalar::Null) => values.push(0.0),
            (Values::Decimal(values), Scalar::Null) => values.push(0),
            (Values::Bytes(values), Scalar::Null) => values.push(b""),
            (_, value) => panic!("{value:?} pushed into a {} column", self.data_type),
        }
    }

    /// Appends `value` `count` times.
    ///
    /// # Panics
    /// When it is not of this column's type.
    pub fn push_repeated(&mut self, value: Scalar<'_>, count: usize) {
        match (&mut self.values, value) {
            (Values::Bool(values), Scalar::Bool(value)) if self.validity.no_nulls() => {
                values.resize(values.len() + count, value);
            }
            (Values::Int64(values), Scalar::Int64(value)) if self.validity.no_nulls() => {
                values.resize(values.len() + count, value);
            }
            _ => (0..count).for_each(|_| self.push(value)),
        }
    }

    /// Value `row`.
    #[must_use]
    pub fn get(&self, row: usize) -> Scalar<'_> {
        if !self.is_valid(row) {
            return Scalar::Null;
        }
        match &self.values {
            Values::Bool(values) => Scalar::Bool(values[row]),
            Values::Int64(values) => Scalar::Int64(values[row]),
            Values::Float64(values) => Scalar::Float64(values[row]),
            Values::Decimal(values) => Scalar::Decimal(values[row]),
            Values::Bytes(values) => Scalar::Bytes(values.get(row)),
        }
    }

    /// The values at `rows`, in that order.
    #[must_use]
    pub fn gather(&self, rows: &[u32]) -> Self {
        let mut gathered = Self::new(self.data_type);
        gathered.extend_from(self, rows);
        gathered
    }

    /// Appends the values of `other`, which is of this column's type, at `rows`, in that order.
    ///
    /// # Panics
    /// When it is of another type.
    pub fn extend_from(&mut self, other: &Self, rows: &[u32]) {
        if !(self.validity.no_nulls() && other.validity.no_nulls()) {
            let len = self.len();
            for (place, row) in rows.iter().enumerate() {
                self.validity.push(len + place, other.is_valid(*row as usize));
            }
        }
        match (&mut self.values, &other.values) {
            (Values::Bool(into), Values::Bool(from)) => into.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Int64(into), Values::Int64(from)) => into.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Float64(into), Values::Float64(from)) => into.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Decimal(into), Values::Decimal(from)) => into.extend(rows.iter().map(|row| from[*row as usize])),
            (Values::Bytes(into), Values::Bytes(from)) => {
                rows.iter().for_each(|row| into.push(from.get(*row as usize)));
            }
            _ => panic!("{} values appended to a {} column", other.data_type, self.data_type),
        }
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let values = match &self.values {
            Values::Bool(values) => values.len(),
            Values::Int64(values) => 8 * values.len(),
            Values::Float64(values) => 8 * values.len(),
            Values::Decimal(values) => 16 * values.len(),
            Values::Bytes(values) => values.byte_len(),
        };
        values + self.validity.flags().len()
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        self.validity.truncate(len);
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::Int64(values) => values.truncate(len),
            Values::Float64(values) => values.truncate(len),
            Values::Decimal(values) => values.truncate(len),
            Values::Bytes(values) => values.truncate(len),
        }
    }
}

/// One value, borrowed. `Bytes` is text, binary or a tagged scalar; `Int64` is also a timestamp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// No value.
    Null,
    /// A boolean.
    Bool(bool),
    /// An integer, or milliseconds.
    Int64(i64),
    /// A double.
    Float64(f64),
    /// A scaled decimal.
    Decimal(i128),
    /// Text, bytes or a tagged scalar.
    Bytes(&'a [u8]),
}

/// The groups that rows of a batch belong to.
#[derive(Debug, Clone, Default)]
pub struct Groups {
    /// Group of each row of the batch; of no meaning for rows that were left out.
    pub of_row: Vec<u32>,
    /// Key of each group.
    pub keys: Bytes,
    /// [`key_hash`](crate::state::key_hash) of each key.
    pub hashes: Vec<u64>,
    /// Groups with a null among their key's columns, rising.
    pub with_null: Vec<u32>,
}

impl Groups {
    /// Key of `group` and its hash.
    #[must_use]
    #[inline]
    pub fn key(&self, group: u32) -> (&[u8], u64) {
        (self.keys.get(group as usize), self.hashes[group as usize])
    }
}

/// The accepted records of (part of) a raw batch, decoded. Row `i` is record `raw_rows[i]`.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Row in the raw batch of each accepted record, rising.
    pub raw_rows: Vec<u32>,
    /// Event time of each, ms.
    pub event_times_ms: Vec<i64>,
    /// One column for each field of the decode plan, in its order.
    pub columns: Vec<Column>,
    /// The groups the rows belong to, where decoding has told.
    pub groups: Option<Groups>,
    /// Refused records.
    pub rejects: Vec<Reject>,
    /// Records without a value.
    pub tombstones: Vec<u32>,
}

impl Batch {
    /// Number of accepted records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw_rows.len()
    }

    /// True when no record was accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw_rows.is_empty()
    }
}
