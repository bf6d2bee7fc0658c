//! The types of undeclared fields, guessed from a sample of records.
//!
//! An ephemeral run and `check --write-schema` ask for them before a pipeline is built; a named
//! run never guesses. Invariant: the answer does not depend on the order of the sample.

use crate::batch::DataType;
use crate::expr::{join_path, split_path};
use crate::raw::RawBatch;
use serde_json::{Map, Value};
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

/// What a sample of records says of one field.
#[derive(Debug)]
pub struct Seen {
    /// `float64` for integers among floats, `string` where kinds mix otherwise or no record has a value.
    pub data_type: DataType,
    /// Set where no record has the field, null or not, and one has an object where it would be.
    pub absent: Option<Absent>,
}

/// Where the path of a field ends that no record has.
#[derive(Debug)]
pub struct Absent {
    /// The name that no record has at its place.
    pub segment: String,
    /// The names that stand at this place, each with the path that has it instead.
    pub beside: BTreeMap<String, String>,
}

/// Most names that are kept of one place: with ids for names there would be no end of them.
const NAMES_MAX: usize = 1000;

/// One segment of a path, in the objects that were seen where it belongs.
#[derive(Debug, Default)]
struct Place {
    has_object: bool,
    has_segment: bool,
    names: BTreeSet<String>,
}

impl Place {
    fn see(&mut self, object: &Map<String, Value>, segment: &str) {
        self.has_object = true;
        self.has_segment |= object.contains_key(segment);
        for name in object.keys() {
            if self.names.len() < NAMES_MAX && !self.names.contains(name) {
                self.names.insert(name.clone());
            }
        }
    }
}

/// A path on its way through the sample.
struct Look {
    segments: Vec<String>,
    data_type: Option<DataType>,
    is_there: bool,
    places: Vec<Place>,
}

impl Look {
    fn new(path: &str) -> Self {
        let segments = split_path(path);
        let places = segments.iter().map(|_| Place::default()).collect();
        Self { segments, data_type: None, is_there: false, places }
    }

    /// Null and what else is no object say nothing of the fields that belong into it.
    fn see(&mut self, record: &Value) {
        let mut at = record;
        for (segment, place) in self.segments.iter().zip(&mut self.places) {
            let Some(object) = at.as_object() else { return };
            if !self.is_there {
                place.see(object, segment);
            }
            let Some(value) = object.get(segment.as_str()) else { return };
            at = value;
        }
        self.is_there = true;
        if let Some(found) = type_of(at) {
            self.data_type = Some(self.data_type.map_or(found, |known| widen(known, found)));
        }
    }

    fn seen(self) -> Seen {
        let data_type = self.data_type.unwrap_or(DataType::String);
        let ends = self.places.iter().position(|place| !place.has_segment);
        let absent = ends.filter(|at| self.places[*at].has_object).map(|at| {
            let mut instead = self.segments.clone();
            let path_of = |name: String| {
                instead[at].clone_from(&name);
                let path = join_path(&instead);
                (name, path)
            };
            let beside = self.places.into_iter().nth(at).map(|place| place.names).unwrap_or_default();
            Absent { segment: self.segments[at].clone(), beside: beside.into_iter().map(path_of).collect() }
        });
        Seen { data_type, absent }
    }
}

fn records<'a>(sample: impl IntoIterator<Item = &'a RawBatch>) -> impl Iterator<Item = Value> {
    let values = sample.into_iter().flat_map(|batch| (0..batch.len()).filter_map(|row| batch.value(row)));
    values.filter_map(|value| serde_json::from_slice::<Value>(value).ok())
}

/// What the sample says of each of `paths`, in their order. Records that are not JSON objects are passed over.
#[must_use]
pub fn infer_fields<'a>(sample: impl IntoIterator<Item = &'a RawBatch>, paths: &[String]) -> Vec<Seen> {
    let mut looks: Vec<Look> = paths.iter().map(|path| Look::new(path)).collect();
    for record in records(sample) {
        looks.iter_mut().for_each(|look| look.see(&record));
    }
    looks.into_iter().map(Look::seen).collect()
}

/// Those of `paths` that no record of the sample has. Reads no further than it takes to find all of them.
#[must_use]
pub fn absent_fields<'a>(
    sample: impl IntoIterator<Item = &'a RawBatch>,
    paths: Vec<String>,
) -> BTreeMap<String, Absent> {
    let mut looks: Vec<(String, Look)> = paths.into_iter().map(|path| (path.clone(), Look::new(&path))).collect();
    for record in records(sample) {
        looks.retain_mut(|(_, look)| {
            look.see(&record);
            !look.is_there
        });
        if looks.is_empty() {
            break;
        }
    }
    looks.into_iter().filter_map(|(path, look)| Some((path, look.seen().absent?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch_of(records: &[&str]) -> RawBatch {
        let mut batch = RawBatch::new(0, "sample".into(), records.len(), 0);
        for (offset, record) in records.iter().enumerate() {
            batch.push(Some(record.as_bytes()), offset as i64, None).expect("small");
        }
        batch
    }

    fn infer(records: &[&str], path: &str) -> DataType {
        infer_fields([&batch_of(records)], &[path.to_owned()])[0].data_type
    }

    /// Those that no record has, each with the paths that could have been meant, by both ways to ask.
    fn absent(records: &[&str], paths: &[&str]) -> Vec<(String, String, Vec<String>)> {
        let batch = batch_of(records);
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let told = |(path, absent): (String, Absent)| (path, absent.segment, absent.beside.into_values().collect());
        let found: Vec<_> = absent_fields([&batch], paths.clone()).into_iter().map(told).collect();
        let seen = paths.iter().cloned().zip(infer_fields([&batch], &paths));
        let mut inferred: Vec<_> = seen.filter_map(|(path, seen)| Some(told((path, seen.absent?)))).collect();
        inferred.sort();
        assert_eq!(found, inferred);
        found
    }

    fn entry(path: &str, segment: &str, instead: &[&str]) -> (String, String, Vec<String>) {
        (path.to_owned(), segment.to_owned(), instead.iter().map(|path| (*path).to_owned()).collect())
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
        let records = [r#"{"a":{"b":null,"c":1}}"#, "[", r#"{"d":1,"a":2}"#];
        let found = absent(&records, &["a", "a.b", "a.bb", "d", "e", "x.b"]);
        let of_a_bb = entry("a.bb", "bb", &["a.b", "a.c"]);
        assert_eq!(found, [of_a_bb, entry("e", "e", &["a", "d"]), entry("x.b", "x", &["a.b", "d.b"])]);
        assert_eq!(absent(&["[", "7"], &["a"]), []);
        assert_eq!(absent(&[], &["a"]), []);
    }

    #[test]
    fn a_parent_that_is_no_object_says_nothing_of_its_fields() {
        assert_eq!(absent(&[r#"{"a":null}"#], &["a.b"]), []);
        assert_eq!(absent(&[r#"{"a":1}"#, "{}"], &["a.b"]), []);
        assert_eq!(absent(&[r#"{"a":null}"#, r#"{"a":{"c":1}}"#], &["a.b"]), [entry("a.b", "b", &["a.c"])]);
    }

    #[test]
    fn a_field_of_the_last_record_is_there() {
        let mut records = vec![r#"{"a":1}"#; 1500];
        records.push(r#"{"b":1}"#);
        assert_eq!(absent(&records, &["a", "b"]), []);
        assert_eq!(infer(&records, "b"), DataType::Int64);
    }

    #[test]
    fn paths_that_could_be_meant_are_quoted_where_they_have_to_be() {
        let records = [r#"{"x.y":{"a-b":1}}"#];
        assert_eq!(absent(&records, &["`x.z`.`a-b`"]), [entry("`x.z`.`a-b`", "x.z", &["`x.y`.`a-b`"])]);
        assert_eq!(absent(&records, &["`x.y`.ab"]), [entry("`x.y`.ab", "ab", &["`x.y`.`a-b`"])]);
    }

    #[test]
    fn names_that_have_no_end_are_not_all_kept() {
        let records: Vec<String> = (0..2000).map(|id| format!(r#"{{"n{id:04}":1}}"#)).collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        assert_eq!(absent(&records, &["zz"])[0].2.len(), NAMES_MAX);
        assert_eq!(absent(&records, &["n1999"]), []);
    }

    #[test]
    fn garbage_is_passed_over() {
        assert_eq!(infer(&["{", "[1]", "7", "{\"a\":7}"], "a"), DataType::Int64);
        assert_eq!(infer(&["{", ""], "a"), DataType::String);
    }
}
