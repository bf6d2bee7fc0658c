//! The columns that everyone fills: the engine's own, so that all do the same work and can be compared.

use crate::corpora::{Kind, Shape};
use streamcore::batch::{Column, DataType, Scalar, Values};

/// Empty columns for what is wanted of `shape`.
#[must_use]
pub fn empty(shape: Shape) -> Vec<Column> {
    let types = shape.fields().iter().map(|(_, kind)| match kind {
        Kind::Text => DataType::String,
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
    });
    types.map(Column::new).collect()
}

/// Appends a text or a null; false for a null.
#[inline]
pub fn push_text(column: &mut Column, value: Option<&str>) -> bool {
    column.validity.push(column.len(), value.is_some());
    if let Values::Bytes(values) = &mut column.values {
        values.push(value.unwrap_or_default().as_bytes());
    }
    value.is_some()
}

/// Appends a whole number or a null; false for a null.
#[inline]
pub fn push_int(column: &mut Column, value: Option<i64>) -> bool {
    column.validity.push(column.len(), value.is_some());
    if let Values::Int64(values) = &mut column.values {
        values.push(value.unwrap_or_default());
    }
    value.is_some()
}

/// Appends a fraction or a null; false for a null.
#[inline]
pub fn push_float(column: &mut Column, value: Option<f64>) -> bool {
    column.validity.push(column.len(), value.is_some());
    if let Values::Float64(values) = &mut column.values {
        values.push(value.unwrap_or_default());
    }
    value.is_some()
}

/// The values of a column as JSON, for readers in other languages.
#[must_use]
pub fn to_json(column: &Column) -> Vec<serde_json::Value> {
    let value = |row| match column.get(row) {
        Scalar::Int64(value) => value.into(),
        Scalar::Float64(value) => value.into(),
        Scalar::Bytes(value) => String::from_utf8_lossy(value).into(),
        _ => serde_json::Value::Null,
    };
    (0..column.len()).map(value).collect()
}
