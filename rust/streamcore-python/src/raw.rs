//! `Raw`: undecoded records on their way into the engine.
//!
//! Sources make one, `pipeline.rs` takes its batches out and, for the few records that come back
//! as late or refused, asks it for their keys and headers. Invariant: after a push it is used up.

use crate::error::{Failure, enter, held, lock};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};
use std::collections::BTreeMap;
use std::sync::Mutex;
use streamcore::raw::{Header, RawBatch};

const NAME: &str = "the raw batch";

/// Undecoded records of one or more lanes, in offset order within each lane.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Raw(Mutex<Contents>);

/// What a `Raw` holds.
#[derive(Default)]
pub struct Contents {
    /// One batch a lane.
    pub batches: Vec<RawBatch>,
    /// Where the records of each lane came from, when they were messages.
    pub origins: BTreeMap<i32, Origin>,
    /// True once pushed.
    pushed: bool,
}

/// The messages behind a lane's records.
pub struct Origin {
    /// All messages of the poll, kept alive for [`Origin::parts`].
    messages: Py<PyList>,
    /// Place in `messages` of each record.
    places: Vec<u32>,
}

/// A record's key and headers.
pub type Parts = (Option<Vec<u8>>, Vec<Header>);

impl Origin {
    /// Key and headers of the record `row`.
    pub fn parts(&self, py: Python<'_>, row: u32) -> PyResult<Parts> {
        let message = self.messages.bind(py).get_item(self.places[row as usize] as usize)?;
        let key = message.call_method0("key")?;
        Ok((bytes_of(&key)?.map(<[u8]>::to_vec), headers_of(&message.call_method0("headers")?)?))
    }
}

impl Raw {
    /// Batches that no message stands behind.
    pub fn from_batches(batches: Vec<RawBatch>) -> Self {
        Self(Mutex::new(Contents { batches, ..Contents::default() }))
    }

    /// The contents, once.
    pub fn take(&self) -> Result<Contents, Failure> {
        let mut contents = lock(&self.0, NAME)?;
        if contents.pushed {
            return Err(Failure::Misuse("this raw batch was pushed already; each is pushed once".into()));
        }
        Ok(std::mem::replace(&mut *contents, Contents { pushed: true, ..Contents::default() }))
    }
}

/// One record as `from_records` takes it: value, key, headers, `timestamp_ms`, offset.
type Record = (Option<PyBackedBytes>, Option<PyBackedBytes>, Option<HeaderList>, Option<i64>, i64);

/// Headers as Python has them.
type HeaderList = Vec<(String, Option<PyBackedBytes>)>;

/// What `from_messages` returns: the batch, next offsets, how many were left out, messages with errors.
type FromMessages<'py> = (Raw, BTreeMap<(String, i32), i64>, usize, Vec<Bound<'py, PyAny>>);

#[pymethods]
impl Raw {
    /// From `(value, key, headers, timestamp_ms, offset)` tuples; offsets rise.
    #[staticmethod]
    fn from_records(py: Python<'_>, lane: i32, topic: &str, records: &Bound<'_, PyAny>) -> PyResult<Self> {
        held(py, || {
            let mut batch = RawBatch::new(lane, topic.into(), records.len()?, 0);
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

    /// From `confluent_kafka` messages: `(raw, positions, refetched, errors)`.
    #[staticmethod]
    #[pyo3(signature = (messages, next_offsets, *, keys, headers))]
    fn from_messages<'py>(
        py: Python<'py>,
        messages: &Bound<'py, PyAny>,
        next_offsets: BTreeMap<(String, i32), i64>,
        keys: bool,
        headers: bool,
    ) -> PyResult<FromMessages<'py>> {
        held(py, || {
            let messages = py.get_type::<PyList>().call1((messages,))?.cast_into::<PyList>().map_err(PyErr::from)?;
            let (messages, timestamps_ms, errors) = part_errors(messages)?;
            let mut intake = Intake::new(next_offsets);
            if messages.is_empty() {
                return Ok((Self::from_batches(Vec::new()), intake.positions(), 0, errors));
            }
            let columns = Columns::new(&messages, timestamps_ms, keys, headers)?;
            intake.sort(&columns)?;
            let (positions, refetched) = (intake.positions(), intake.refetched);
            let contents = intake.copy(py, &messages, &columns)?;
            Ok((Self(Mutex::new(contents)), positions, refetched, errors))
        })
    }

    /// From newline-separated records; a record's offset is `base` plus its place in `data`.
    #[staticmethod]
    fn from_lines(py: Python<'_>, lane: i32, topic: &str, data: &[u8], base: i64) -> PyResult<Self> {
        enter(py, || {
            let mut batch = RawBatch::from_lines(lane, topic.into(), data.to_vec().into(), base)?;
            batch.seal();
            Ok(Self::from_batches(vec![batch]))
        })
    }

    /// Takes the batches of `other`, which is empty afterwards. Their lanes must not occur here yet.
    fn add(&self, py: Python<'_>, other: &Self) -> PyResult<()> {
        held(py, || {
            let mut contents = lock(&self.0, NAME)?;
            let mut added = lock(&other.0, "the raw batch to add (is it the same one?)")?;
            let clash = added.batches.iter().find(|new| contents.batches.iter().any(|old| old.lane == new.lane));
            if let Some(clash) = clash {
                return Err(Failure::Misuse(format!("lane {} is in the raw batch already", clash.lane)));
            }
            if contents.pushed {
                return Err(Failure::Misuse("this raw batch was pushed already; add to a new one".into()));
            }
            contents.batches.append(&mut added.batches);
            contents.origins.append(&mut added.origins);
            Ok(())
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        held(py, || Ok(lock(&self.0, NAME)?.batches.iter().map(RawBatch::len).sum()))
    }

    /// Bytes of all values.
    #[getter]
    fn byte_len(&self, py: Python<'_>) -> PyResult<usize> {
        let bytes =
            |batch: &RawBatch| -> usize { (0..batch.len()).filter_map(|row| batch.value(row)).map(<[u8]>::len).sum() };
        enter(py, || Ok(lock(&self.0, NAME)?.batches.iter().map(bytes).sum()))
    }
}

/// Guesses the type of each field path from a sample of records (`string` where none has a value).
#[pyfunction]
pub fn infer_types(py: Python<'_>, raw: &Raw, paths: Vec<String>) -> PyResult<BTreeMap<String, String>> {
    enter(py, || {
        let contents = lock(&raw.0, NAME)?;
        let types = streamcore::infer::infer_types(&contents.batches, &paths);
        Ok(paths.into_iter().zip(types.iter().map(ToString::to_string)).collect())
    })
}

/// `method` of every message, lazily. `map` over the unbound method runs in C with vectorcall, which
/// the stable ABI does not offer to us a call at a time.
fn every<'py>(messages: &Bound<'py, PyList>, method: &str) -> PyResult<Bound<'py, PyAny>> {
    let class = messages.get_item(0)?.get_type();
    messages.py().import("builtins")?.getattr("map")?.call1((class.getattr(method)?, messages))
}

fn list_of<'py>(items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    Ok(items.py().get_type::<PyList>().call1((items,))?.cast_into::<PyList>()?)
}

/// The integers of an iterator. `struct.pack` converts them in one C loop, several times faster than
/// taking them one by one through the stable ABI (or through `array.array`).
fn integers(items: &Bound<'_, PyAny>) -> PyResult<Vec<i64>> {
    let py = items.py();
    let items = py.get_type::<PyTuple>().call1((items,))?.cast_into::<PyTuple>()?;
    let format = PyString::new(py, &format!("={}q", items.len()));
    let packer = py.import("struct")?.getattr("Struct")?.call1((format,))?;
    let bytes = packer.getattr("pack")?.call1(items)?.cast_into::<PyBytes>()?;
    let (integers, _) = bytes.as_bytes().as_chunks();
    Ok(integers.iter().map(|integer| i64::from_ne_bytes(*integer)).collect())
}

/// In the place of a record's time: the message has none.
const NO_TIME_MS: i64 = -1;

/// Record times of messages, ms. `timestamp()` is (kind, time); where the kind says "not available",
/// as for a message that carries an error, the time is [`NO_TIME_MS`].
fn timestamps_ms(messages: &Bound<'_, PyList>) -> PyResult<Vec<i64>> {
    let second = messages.py().import("operator")?.getattr("itemgetter")?.call1((1,))?;
    let map = messages.py().import("builtins")?.getattr("map")?;
    integers(&map.call1((second, every(messages, "timestamp")?))?)
}

/// Messages with their times, and messages that carry an error instead of a record.
type Parted<'py> = (Bound<'py, PyList>, Vec<i64>, Vec<Bound<'py, PyAny>>);

/// Takes out the messages that carry an error: they have no partition, offset or value to speak of.
/// They have no time either, so they are looked for only where one is missing.
fn part_errors(messages: Bound<'_, PyList>) -> PyResult<Parted<'_>> {
    if messages.is_empty() {
        return Ok((messages, Vec::new(), Vec::new()));
    }
    let times = timestamps_ms(&messages)?;
    if !times.contains(&NO_TIME_MS) {
        return Ok((messages, times, Vec::new()));
    }
    let py = messages.py();
    let errors = list_of(&every(&messages, "error")?)?;
    let all = messages.iter().zip(&errors);
    // By identity: a `KafkaError` cannot be compared with `None`, it fails with an exception half set.
    let (failed, good): (Vec<_>, Vec<_>) = all.partition(|(_, error)| !error.is_none());
    let good = PyList::new(py, good.into_iter().map(|(message, _)| message))?;
    let times = if failed.is_empty() || good.is_empty() { times } else { timestamps_ms(&good)? };
    Ok((good, times, failed.into_iter().map(|(message, _)| message).collect()))
}

/// The parts of all messages.
struct Columns<'py> {
    topics: Bound<'py, PyList>,
    partitions: Vec<i64>,
    offsets: Vec<i64>,
    /// Record time of each, ms, or [`NO_TIME_MS`].
    timestamps_ms: Vec<i64>,
    values: Bound<'py, PyList>,
    keys: Option<Bound<'py, PyList>>,
    headers: Option<Bound<'py, PyList>>,
}

impl<'py> Columns<'py> {
    fn new(messages: &Bound<'py, PyList>, timestamps_ms: Vec<i64>, keys: bool, headers: bool) -> PyResult<Self> {
        let column = |method: &str| list_of(&every(messages, method)?);
        Ok(Self {
            topics: column("topic")?,
            partitions: integers(&every(messages, "partition")?)?,
            offsets: integers(&every(messages, "offset")?)?,
            timestamps_ms,
            values: column("value")?,
            keys: keys.then(|| column("key")).transpose()?,
            headers: headers.then(|| column("headers")).transpose()?,
        })
    }

    /// The topic of all messages, when it is one; comparing happens in C.
    fn only_topic(&self) -> PyResult<Option<String>> {
        let first = self.topics.get_item(0)?;
        let count = self.topics.call_method1("count", (&first,))?.extract::<usize>()?;
        if count == self.topics.len() { first.extract().map(Some) } else { Ok(None) }
    }
}

/// The messages of one partition that are taken.
struct Group {
    topic: String,
    partition: i32,
    /// Offset that the next message must have at least.
    next: i64,
    /// True once a message of the partition was seen.
    seen: bool,
    /// Place of each taken message.
    places: Vec<u32>,
    offsets: Vec<i64>,
    timestamps_ms: Vec<Option<i64>>,
}

/// Sorts messages into partitions.
struct Intake {
    groups: Vec<Group>,
    refetched: usize,
}

impl Intake {
    fn new(next_offsets: BTreeMap<(String, i32), i64>) -> Self {
        let group = |((topic, partition), next)| Group {
            topic,
            partition,
            next,
            seen: false,
            places: Vec::new(),
            offsets: Vec::new(),
            timestamps_ms: Vec::new(),
        };
        Self { groups: next_offsets.into_iter().map(group).collect(), refetched: 0 }
    }

    fn sort(&mut self, columns: &Columns<'_>) -> PyResult<()> {
        let only = columns.only_topic()?;
        let (mut several, mut current) = (String::new(), 0);
        let parts = columns.partitions.iter().zip(&columns.offsets).zip(&columns.timestamps_ms);
        for (place, ((partition, offset), time_ms)) in parts.enumerate() {
            if only.is_none() {
                several = columns.topics.get_item(place)?.extract()?;
            }
            let topic = only.as_ref().unwrap_or(&several);
            // Messages come in runs of one partition, so the last one is nearly always right.
            if !self.groups.get(current).is_some_and(|group| group.is(topic, *partition)) {
                let found = self.groups.binary_search_by(|group| group.order(topic, *partition));
                let Ok(found) = found else {
                    self.refetched += 1;
                    continue;
                };
                current = found;
            }
            let taken = self.groups[current].take(place, *offset, (*time_ms != NO_TIME_MS).then_some(*time_ms));
            self.refetched += usize::from(!taken);
        }
        Ok(())
    }

    fn positions(&self) -> BTreeMap<(String, i32), i64> {
        let seen = self.groups.iter().filter(|group| group.seen);
        seen.map(|group| ((group.topic.clone(), group.partition), group.next)).collect()
    }

    /// Copies the taken messages' bytes, each once and the values without the GIL.
    fn copy(self, py: Python<'_>, messages: &Bound<'_, PyList>, columns: &Columns<'_>) -> Result<Contents, Failure> {
        let mut contents = Contents::default();
        let values = columns.values.iter().collect::<Vec<_>>();
        let values = values.iter().map(bytes_of).collect::<PyResult<Vec<_>>>()?;
        for group in self.groups.into_iter().filter(|group| !group.places.is_empty()) {
            if contents.origins.contains_key(&group.partition) {
                return Err(Failure::Misuse(format!(
                    "partition {} occurs in two topics; read one topic in each raw batch",
                    group.partition
                )));
            }
            let mut batch = py.detach(|| group.batch(&values))?;
            for place in &group.places {
                if let Some(keys) = &columns.keys {
                    batch.push_key(bytes_of(&keys.get_item(*place as usize)?)?);
                }
                if let Some(headers) = &columns.headers {
                    batch.push_headers(headers_of(&headers.get_item(*place as usize)?)?);
                }
            }
            contents.batches.push(batch);
            let origin = Origin { messages: messages.clone().unbind(), places: group.places };
            contents.origins.insert(group.partition, origin);
        }
        Ok(contents)
    }
}

impl Group {
    fn is(&self, topic: &str, partition: i64) -> bool {
        i64::from(self.partition) == partition && self.topic == topic
    }

    fn order(&self, topic: &str, partition: i64) -> std::cmp::Ordering {
        self.topic.as_str().cmp(topic).then(i64::from(self.partition).cmp(&partition))
    }

    /// Takes a message, unless it lies below the expected offset: it was fetched again after a seek.
    fn take(&mut self, place: usize, offset: i64, timestamp_ms: Option<i64>) -> bool {
        self.seen = true;
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.places.push(place as u32);
        self.offsets.push(offset);
        self.timestamps_ms.push(timestamp_ms);
        true
    }

    /// The values of this partition's messages, end to end. Keys and headers are added by the caller.
    fn batch(&self, values: &[Option<&[u8]>]) -> Result<RawBatch, Failure> {
        let taken = self.places.iter().map(|place| values[*place as usize]);
        let bytes = taken.clone().flatten().map(<[u8]>::len).sum();
        let mut batch = RawBatch::new(self.partition, self.topic.as_str().into(), self.places.len(), bytes);
        for ((value, offset), timestamp_ms) in taken.zip(&self.offsets).zip(&self.timestamps_ms) {
            batch.push(value, *offset, *timestamp_ms)?;
        }
        batch.seal();
        Ok(batch)
    }
}

fn bytes_of<'a>(part: &'a Bound<'_, PyAny>) -> PyResult<Option<&'a [u8]>> {
    if part.is_none() {
        return Ok(None);
    }
    Ok(Some(part.cast::<PyBytes>()?.as_bytes()))
}

fn headers_of(headers: &Bound<'_, PyAny>) -> PyResult<Vec<Header>> {
    Ok(copy_headers(headers.extract()?))
}

fn copy_headers(headers: Option<HeaderList>) -> Vec<Header> {
    let copy = |(name, value): (String, Option<PyBackedBytes>)| (name, value.map(|value| value.to_vec()));
    headers.unwrap_or_default().into_iter().map(copy).collect()
}
