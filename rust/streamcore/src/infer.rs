//! The types of undeclared fields, guessed from a sample of records.
//!
//! An ephemeral run and `check --write-schema` ask for them before a pipeline is built; a named
//! run never guesses. Invariant: the answer does not depend on the order of the sample.

use crate::batch::DataType;
use crate::expr::split_path;
use crate::raw::RawBatch;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The type of one value; `None` where null says nothing.
fn type_of(value: &Value) -> Option<DataType> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some(DataType::Bool),
        Value::Number(number) if number.is_i64() => Some(DataType::Int64),
        // Integers beyond 64 bits are floats here: int64 could hold none of them.
        Value::Number(_) => Some(DataType::Float64),
        Value::String(_) | Value::Array(_) | Value::Object(_) => Some(DataType::String),
    }
}

/// The narrowest type that takes both.
fn widen(a: DataType, b: DataType) -> DataType {
    match (a, b) {
        _ if a == b => a,
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => DataType::Float64,
        _ => DataType::String,
    }
}

/// The type of each of `paths`, in their order: `float64` for integers among floats, `string` where
/// kinds mix otherwise or no record has a value. Records that are not JSON objects are passed over.
#[must_use]
pub fn infer_types<'a>(sample: impl IntoIterator<Item = &'a RawBatch>, paths: &[String]) -> Vec<DataType> {
    let paths: Vec<Vec<String>> = paths.iter().map(|path| split_path(path)).collect();
    let mut types: Vec<Option<DataType>> = vec![None; paths.len()];
    for batch in sample {
        for value in (0..batch.len()).filter_map(|row| batch.value(row)) {
            let Ok(record) = serde_json::from_slice::<Value>(value) else { continue };
            for (path, known) in paths.iter().zip(&mut types) {
                let found = path.iter().try_fold(&record, |value, name| value.get(name.as_str())).and_then(type_of);
                *known = found.map(|found| known.map_or(found, |known| widen(known, found))).or(*known);
            }
        }
    }
    types.into_iter().map(|known| known.unwrap_or(DataType::String)).collect()
}

/// Records that are looked at for fields that none has.
const LOOKED_AT_MAX: usize = 1000;

/// Those of `paths` that none of the first records of the sample has, null or not, each with the names that stand where
/// it would. Nothing where no record is a JSON object.
#[must_use]
pub fn absent_fields<'a>(
    sample: impl IntoIterator<Item = &'a RawBatch>,
    paths: Vec<String>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut absent: Vec<_> = paths.into_iter().map(|path| (split_path(&path), path, BTreeSet::new())).collect();
    let values = sample.into_iter().flat_map(|batch| (0..batch.len()).filter_map(|row| batch.value(row)));
    let records = values.take(LOOKED_AT_MAX).filter_map(|value| serde_json::from_slice::<Value>(value).ok());
    let mut is_known = false;
    for record in records.filter(Value::is_object) {
        is_known = true;
        absent.retain_mut(|(segments, _, names)| {
            let mut at = &record;
            for segment in segments.iter() {
                let Some(fields) = at.as_object() else { return true };
                let Some(value) = fields.get(segment.as_str()) else {
                    names.extend(fields.keys().cloned());
                    return true;
                };
                at = value;
            }
            false
        });
    }
    let found = absent.into_iter().map(|(_, path, names)| (path, names));
    if is_known { found.collect() } else { BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn infer(records: &[&str], path: &str) -> DataType {
        let mut batch = RawBatch::new(0, "sample".into(), records.len(), 0);
        for (offset, record) in records.iter().enumerate() {
            batch.push(Some(record.as_bytes()), offset as i64, None).expect("small");
        }
        infer_types([&batch], &[path.to_owned()])[0]
    }

    #[test]
    fn one_kind_gives_its_type() {
        assert_eq!(infer(&[r#"{"a":{"b":true}}"#, "{}"], "a.b"), DataType::Bool);
        assert_eq!(infer(&[r#"{"a":{"b":-3}}"#, r#"{"a":{"b":null}}"#], "a.b"), DataType::Int64);
        assert_eq!(infer(&[r#"{"a":1.5}"#], "a"), DataType::Float64);
        assert_eq!(infer(&[r#"{"a":"2026-01-01T00:00:00Z"}"#], "a"), DataType::String);
    }

    #[test]
    fn mixed_numbers_are_floats_and_other_mixtures_text() {
        assert_eq!(infer(&[r#"{"a":1}"#, r#"{"a":2.5}"#], "a"), DataType::Float64);
        assert_eq!(infer(&[r#"{"a":18446744073709551615}"#, r#"{"a":1}"#], "a"), DataType::Float64);
        assert_eq!(infer(&[r#"{"a":1}"#, r#"{"a":"x"}"#], "a"), DataType::String);
        assert_eq!(infer(&[r#"{"a":1}"#, r#"{"a":true}"#], "a"), DataType::String);
        assert_eq!(infer(&[r#"{"a":{}}"#], "a"), DataType::String);
    }

    #[test]
    fn fields_that_no_record_has_are_told_with_those_beside_them() {
        let mut batch = RawBatch::new(0, "sample".into(), 3, 0);
        for (offset, record) in [r#"{"a":{"b":null,"c":1}}"#, "[", r#"{"d":1,"a":2}"#].iter().enumerate() {
            batch.push(Some(record.as_bytes()), offset as i64, None).expect("small");
        }
        let paths = ["a", "a.b", "a.bb", "d", "e", "d.x"].map(str::to_owned);
        let absent = absent_fields([&batch], paths.to_vec());
        let found: Vec<(&str, Vec<&str>)> =
            absent.iter().map(|(path, names)| (path.as_str(), names.iter().map(String::as_str).collect())).collect();
        assert_eq!(found, [("a.bb", vec!["b", "c"]), ("d.x", vec!["a"]), ("e", vec!["a", "d"])]);
        assert!(absent_fields([&RawBatch::new(0, "none".into(), 0, 0)], paths.to_vec()).is_empty());
    }

    #[test]
    fn garbage_is_passed_over() {
        assert_eq!(infer(&["{", "[1]", "7", "{\"a\":7}"], "a"), DataType::Int64);
        assert_eq!(infer(&["{", ""], "a"), DataType::String);
    }
}
