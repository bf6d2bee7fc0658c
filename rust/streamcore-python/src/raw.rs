//! `Raw`: undecoded records on their way into the engine.
//!
//! Sources make one, `pipeline.rs` takes its batches out. Invariant: after a push it is used up.

use crate::error::{Failure, enter, held, lock};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::BTreeMap;
use std::sync::Mutex;
use streamcore::raw::{Header, LANES_PER_INPUT, RawBatch};

const NAME: &str = "the raw batch";

/// Undecoded records of one or more lanes, in offset order within each lane: one batch a lane, and
/// none of them once it is pushed.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Raw(Mutex<Option<Vec<RawBatch>>>);

impl Raw {
    /// Batches of different lanes.
    pub fn from_batches(batches: Vec<RawBatch>) -> Self {
        Self(Mutex::new(Some(batches)))
    }

    /// The batches, once.
    pub fn take(&self) -> Result<Vec<RawBatch>, Failure> {
        lock(&self.0, NAME)?
            .take()
            .ok_or_else(|| Failure::Misuse("this raw batch was pushed already; each is pushed once".into()))
    }

    /// Bytes that the records take.
    pub fn bytes(&self) -> Result<usize, Failure> {
        Ok(lock(&self.0, NAME)?.iter().flatten().map(RawBatch::byte_len).sum())
    }
}

/// One record as `from_records` takes it: value, key, headers, `timestamp_ms`, offset.
type Record = (Option<PyBackedBytes>, Option<PyBackedBytes>, Option<HeaderList>, Option<i64>, i64);

/// Headers as Python has them.
type HeaderList = Vec<(String, Option<PyBackedBytes>)>;

#[pymethods]
impl Raw {
    /// From `(value, key, headers, timestamp_ms, offset)` tuples; offsets rise. A value of more than
    /// `record_bytes_max` bytes is not copied, only its beginning: it is refused when it is decoded.
    #[staticmethod]
    #[pyo3(signature = (lane, topic, records, record_bytes_max = None))]
    fn from_records(
        py: Python<'_>,
        lane: i32,
        topic: &str,
        records: &Bound<'_, PyAny>,
        record_bytes_max: Option<u64>,
    ) -> PyResult<Self> {
        held(py, || {
            let mut batch = RawBatch::new(lane, topic.into(), records.len()?, 0).within(record_bytes_max);
            let mut last = None;
            for record in records.try_iter()? {
                let (value, key, headers, timestamp_ms, offset) = record?.extract::<Record>()?;
                if last.is_some_and(|last| offset <= last) {
                    return Err(Failure::Misuse(format!(
                        "offset {offset} of lane {lane} does not rise; give the records of a lane in offset order"
                    )));
                }
                last = Some(offset);
                batch.push(value.as_deref(), offset, timestamp_ms)?;
                batch.push_key(key.as_deref());
                batch.push_headers(copy_headers(headers));
            }
            batch.seal();
            Ok(Self::from_batches(vec![batch]))
        })
    }

    /// From newline-separated records; a record's offset is `base` plus its place in `data`.
    #[staticmethod]
    fn from_lines(py: Python<'_>, lane: i32, topic: &str, data: &[u8], base: i64) -> PyResult<Self> {
        enter(py, || {
            let mut batch = RawBatch::from_lines(lane, topic.into(), data.to_vec().into(), base, None)?;
            batch.seal();
            Ok(Self::from_batches(vec![batch]))
        })
    }

    /// Takes the batches of `other`, which is empty afterwards. Their lanes must not occur here yet.
    fn add(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        held(py, || {
            let mut batches = lock(&self.0, NAME)?;
            let mut other = lock(&other.0, "the raw batch to add (is it the same one?)")?;
            let Some(batches) = batches.as_mut() else {
                return Err(Failure::Misuse("this raw batch was pushed already; add to a new one".into()));
            };
            let mut added = other.replace(Vec::new()).unwrap_or_default();
            let clash = added.iter().find(|new| batches.iter().any(|old| old.lane_id() == new.lane_id()));
            if let Some(clash) = clash.map(RawBatch::lane_id) {
                *other = Some(added);
                return Err(Failure::Misuse(format!("lane {clash} is in the raw batch already")));
            }
            batches.append(&mut added);
            Ok(())
        })
    }

    /// Says that the records are of an input beside the pipeline's own: 1 for that of its join.
    fn of_input(&self, py: Python<'_>, input: i32) -> PyResult<()> {
        held(py, || {
            let mut batches = lock(&self.0, NAME)?;
            let lanes = 0..LANES_PER_INPUT;
            for batch in batches.iter_mut().flatten() {
                if !lanes.contains(&batch.lane) {
                    return Err(Failure::Misuse(format!(
                        "partition {} has no number: where inputs are joined, partitions are below {}",
                        batch.lane, lanes.end
                    )));
                }
                batch.input = input;
            }
            Ok(())
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        held(py, || Ok(lock(&self.0, NAME)?.iter().flatten().map(RawBatch::len).sum()))
    }

    /// Bytes of all values.
    #[getter]
    fn byte_len(&self, py: Python<'_>) -> PyResult<usize> {
        let bytes =
            |batch: &RawBatch| -> usize { (0..batch.len()).filter_map(|row| batch.value(row)).map(<[u8]>::len).sum() };
        held(py, || Ok(lock(&self.0, NAME)?.iter().flatten().map(bytes).sum()))
    }
}

/// The fields that no record has, by path: the name that is missing, and the names at its place with the paths that have
/// them instead.
type AbsentFields = BTreeMap<String, (String, BTreeMap<String, String>)>;

/// Guesses the type of each field path from a sample of records (`string` where none has a value), and says which of
/// them no record has.
#[pyfunction]
pub fn infer_fields(
    py: Python<'_>,
    raw: &Raw,
    paths: Vec<String>,
) -> PyResult<(BTreeMap<String, String>, AbsentFields)> {
    enter(py, || {
        let batches = lock(&raw.0, NAME)?;
        let seen = streamcore::infer::infer_fields(batches.as_deref().unwrap_or_default(), &paths);
        let (mut types, mut absent) = (BTreeMap::new(), BTreeMap::new());
        for (path, seen) in paths.into_iter().zip(seen) {
            types.insert(path.clone(), seen.data_type.to_string());
            absent.extend(seen.absent.map(|found| (path, (found.segment, found.beside))));
        }
        Ok((types, absent))
    })
}

/// Those of `paths` that no record of an input has, as [`infer_fields`] tells them; `None` where there is no record.
#[pyfunction]
#[pyo3(signature = (raw, paths, of_input = 0))]
pub fn absent_fields(py: Python<'_>, raw: &Raw, paths: Vec<String>, of_input: i32) -> PyResult<Option<AbsentFields>> {
    enter(py, || {
        let batches = lock(&raw.0, NAME)?;
        let own: Vec<&RawBatch> = batches.iter().flatten().filter(|batch| batch.input == of_input).collect();
        if own.iter().all(|batch| batch.is_empty()) {
            return Ok(None);
        }
        let absent = streamcore::infer::absent_fields(own, paths);
        Ok(Some(absent.into_iter().map(|(path, found)| (path, (found.segment, found.beside))).collect()))
    })
}

/// The bytes of a message's part; `None` is a null.
pub fn bytes_of<'a>(part: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    if part.is_none() {
        return Ok(None);
    }
    Ok(Some(part.cast::<PyBytes>()?.as_bytes()))
}

/// The headers of a message.
pub fn headers_of(headers: &Bound<'_, PyAny>) -> PyResult<Vec<Header>> {
    Ok(copy_headers(headers.extract()?))
}

fn copy_headers(headers: Option<HeaderList>) -> Vec<Header> {
    let copy = |(name, value): (String, Option<PyBackedBytes>)| (name, value.map(|value| value.to_vec()));
    headers.unwrap_or_default().into_iter().map(copy).collect()
}
