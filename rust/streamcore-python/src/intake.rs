//! `Intake`: messages of `confluent_kafka` on their way into one batch for each partition.
//!
//! The Kafka source fills it, a few hundred messages at a time so that they are asked while they are in
//! the cache; `raw.rs` takes the batches. Messages can only be asked through Python, so each method is
//! called for all of them in one C loop. Invariant: all that is wanted of a message is copied by `take`.

use crate::error::{Failure, enter, held, lock};
use crate::raw::{Raw, bytes_of, headers_of};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple, PyType};
use std::collections::BTreeMap;
use std::sync::Mutex;
use streamcore::raw::RawBatch;

const NAME: &str = "the intake";

/// In the place of a record's time: the message has none.
const NO_TIME_MS: i64 = -1;

/// Topic and partition, and an offset in it.
type Positions = BTreeMap<(String, i32), i64>;

/// The next offset of each topic and partition, and where to stop.
type Bounds = BTreeMap<(String, i32), (i64, Option<i64>)>;

/// What `finish` returns: the records, next offsets, how many messages were left out.
type Finished = (Raw, Positions, usize);

/// Takes messages into one batch for each partition.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Intake(Mutex<Partitions>);

#[pymethods]
impl Intake {
    /// For partitions with `(next offset, offset to stop before or None)`. A value of more than `record_bytes_max`
    /// bytes is not copied, only its beginning: it is refused when it is decoded. `inputs` says of topics which input they
    /// are, where a pipeline has several.
    #[new]
    #[pyo3(signature = (bounds, *, keys, headers, record_bytes_max = None, inputs = None))]
    fn new(
        py: Python<'_>,
        bounds: Bounds,
        keys: bool,
        headers: bool,
        record_bytes_max: Option<u64>,
        inputs: Option<BTreeMap<String, i32>>,
    ) -> PyResult<Self> {
        held(py, || {
            let several_topics =
                bounds.keys().any(|(topic, _)| bounds.keys().next().is_some_and(|first| first.0 != *topic));
            let inputs = inputs.unwrap_or_default();
            let input = |topic: &str| inputs.get(topic).copied().unwrap_or(0);
            let partition = |bounds: ((String, i32), _)| {
                let input = input(&bounds.0.0);
                Partition::new(bounds, input, record_bytes_max)
            };
            let partitions = bounds.into_iter().map(partition).collect();
            let wanted = Wanted { topics: several_topics, keys, headers };
            Ok(Self(Mutex::new(Partitions { wanted, known: partitions, current: 0, refetched: 0 })))
        })
    }

    /// Takes messages; gives back those that carry an error instead of a record.
    fn take<'py>(&self, py: Python<'py>, messages: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        held(py, || {
            let messages = messages.cast::<PyList>().map_or_else(|_| list_of(messages), |list| Ok(list.clone()))?;
            if messages.is_empty() {
                return Ok(Vec::new());
            }
            let messages = Messages::new(messages)?;
            let times = messages.timestamps_ms()?;
            let mut partitions = lock(&self.0, NAME)?;
            // A message with an error has no time either, so errors are looked for only where one is missing.
            if !times.contains(&NO_TIME_MS) {
                let columns = Columns::new(&messages, times, &partitions.wanted)?;
                partitions.take(&columns)?;
                return Ok(Vec::new());
            }
            let (messages, errors) = messages.part_errors()?;
            if let Some(messages) = messages {
                let times = messages.timestamps_ms()?;
                let columns = Columns::new(&messages, times, &partitions.wanted)?;
                partitions.take(&columns)?;
            }
            Ok(errors)
        })
    }

    /// `(raw, positions, refetched)`; afterwards the intake is empty.
    fn finish(&self, py: Python<'_>) -> PyResult<Finished> {
        enter(py, || lock(&self.0, NAME)?.finish())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        held(py, || Ok(lock(&self.0, NAME)?.known.iter().map(|partition| partition.batch.len()).sum()))
    }
}

/// Which parts of messages are wanted, besides partition, offset, time and value.
struct Wanted {
    topics: bool,
    keys: bool,
    headers: bool,
}

fn list_of<'py>(items: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
    Ok(items.py().get_type::<PyList>().call1((items,))?.cast_into::<PyList>()?)
}

/// What messages are asked with: functions that loop in C.
struct Tools<'py> {
    map: &'py Bound<'py, PyAny>,
    second: &'py Bound<'py, PyAny>,
    set: &'py Bound<'py, PyAny>,
    new_struct: &'py Bound<'py, PyAny>,
}

impl<'py> Tools<'py> {
    fn new(py: Python<'py>) -> PyResult<Self> {
        static MAP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static SECOND: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static SET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static STRUCT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let second = || PyResult::Ok(py.import("operator")?.getattr("itemgetter")?.call1((1,))?.unbind());
        Ok(Self {
            map: MAP.import(py, "builtins", "map")?,
            second: SECOND.get_or_try_init(py, second)?.bind(py),
            set: SET.import(py, "builtins", "set")?,
            new_struct: STRUCT.import(py, "struct", "Struct")?,
        })
    }
}

/// Messages, at least one, and how they are asked.
struct Messages<'py> {
    list: Bound<'py, PyList>,
    class: Bound<'py, PyType>,
    tools: Tools<'py>,
    /// Packs one integer for each message.
    pack: Bound<'py, PyAny>,
}

impl<'py> Messages<'py> {
    fn new(list: Bound<'py, PyList>) -> PyResult<Self> {
        let tools = Tools::new(list.py())?;
        let format = PyString::new(list.py(), &format!("={}q", list.len()));
        let pack = tools.new_struct.call1((format,))?.getattr(intern!(list.py(), "pack"))?;
        Ok(Self { class: list.get_item(0)?.get_type(), list, tools, pack })
    }

    /// `method` of every message, lazily. `map` over the unbound method runs in C with vectorcall, which
    /// the stable ABI does not offer to us a call at a time.
    fn every(&self, method: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.tools.map.call1((self.class.getattr(method)?, &self.list))
    }

    fn column(&self, method: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyList>> {
        list_of(&self.every(method)?)
    }

    /// The integers of an iterator over all messages. `pack` converts them in one C loop, several times
    /// faster than taking them one by one through the stable ABI (or through `array.array`).
    fn integers(&self, items: &Bound<'py, PyAny>) -> PyResult<Vec<i64>> {
        let items = items.py().get_type::<PyTuple>().call1((items,))?.cast_into::<PyTuple>()?;
        let bytes = self.pack.call1(items)?.cast_into::<PyBytes>()?;
        let (integers, _) = bytes.as_bytes().as_chunks();
        Ok(integers.iter().map(|integer| i64::from_ne_bytes(*integer)).collect())
    }

    /// Record times, ms. `timestamp()` is (kind, time); where the kind says "not available", as for a
    /// message that carries an error, the time is [`NO_TIME_MS`].
    fn timestamps_ms(&self) -> PyResult<Vec<i64>> {
        let times = self.every(intern!(self.list.py(), "timestamp"))?;
        self.integers(&self.tools.map.call1((self.tools.second, times))?)
    }

    /// The partition and first offset of messages of one topic, where they are one run of one partition: nearly always, since
    /// the client hands messages over as it fetched them, partition by partition.
    ///
    /// Offsets of a partition rise, so the first and the last one tell whether any is left out between.
    fn run(&self) -> PyResult<Option<(i64, i64)>> {
        let py = self.list.py();
        let numbers = self.tools.set.call1((self.every(intern!(py, "partition"))?,))?;
        if numbers.len()? != 1 {
            return Ok(None);
        }
        let (first, last) = (self.list.get_item(0)?, self.list.get_item(self.list.len() - 1)?);
        let offset = |message: &Bound<'py, PyAny>| message.call_method0(intern!(py, "offset"))?.extract::<i64>();
        let (first_offset, last_offset) = (offset(&first)?, offset(&last)?);
        if last_offset.checked_sub(first_offset) != Some(self.list.len() as i64 - 1) {
            return Ok(None);
        }
        Ok(Some((first.call_method0(intern!(py, "partition"))?.extract()?, first_offset)))
    }

    fn places(&self, several_topics: bool) -> PyResult<Places> {
        if !several_topics && let Some((partition, first)) = self.run()? {
            return Ok(Places::Run { partition, first });
        }
        let integers = |method| self.integers(&self.every(method)?);
        let py = self.list.py();
        Ok(Places::Each { partitions: integers(intern!(py, "partition"))?, offsets: integers(intern!(py, "offset"))? })
    }

    /// Takes out the messages that carry an error: they have no partition, offset or value to speak of.
    fn part_errors(self) -> PyResult<(Option<Self>, Vec<Bound<'py, PyAny>>)> {
        let errors = self.column(intern!(self.list.py(), "error"))?;
        let all = self.list.iter().zip(&errors);
        // By identity: a `KafkaError` cannot be compared with `None`, it fails with an exception half set.
        let (failed, good): (Vec<_>, Vec<_>) = all.partition(|(_, error)| !error.is_none());
        let failed: Vec<_> = failed.into_iter().map(|(message, _)| message).collect();
        if good.is_empty() {
            return Ok((None, failed));
        }
        let good = PyList::new(self.list.py(), good.into_iter().map(|(message, _)| message))?;
        Ok((Some(Self::new(good)?), failed))
    }
}

/// Partitions and offsets of messages.
enum Places {
    /// All of one partition, without a gap.
    Run {
        partition: i64,
        first: i64,
    },
    Each {
        partitions: Vec<i64>,
        offsets: Vec<i64>,
    },
}

impl Places {
    /// Partition and offset of the message at `place`.
    fn of(&self, place: usize) -> (i64, i64) {
        match self {
            Self::Run { partition, first } => (*partition, first + place as i64),
            Self::Each { partitions, offsets } => (partitions[place], offsets[place]),
        }
    }
}

/// The parts of messages.
struct Columns<'py> {
    topics: Option<Bound<'py, PyList>>,
    places: Places,
    /// Record time of each, ms, or [`NO_TIME_MS`].
    timestamps_ms: Vec<i64>,
    values: Bound<'py, PyList>,
    keys: Option<Bound<'py, PyList>>,
    headers: Option<Bound<'py, PyList>>,
}

impl<'py> Columns<'py> {
    fn new(messages: &Messages<'py>, timestamps_ms: Vec<i64>, wanted: &Wanted) -> PyResult<Self> {
        let py = messages.list.py();
        let column_if = |wanted: bool, method| wanted.then(|| messages.column(method)).transpose();
        Ok(Self {
            topics: column_if(wanted.topics, intern!(py, "topic"))?,
            places: messages.places(wanted.topics)?,
            timestamps_ms,
            values: messages.column(intern!(py, "value"))?,
            keys: column_if(wanted.keys, intern!(py, "key"))?,
            headers: column_if(wanted.headers, intern!(py, "headers"))?,
        })
    }

    fn topic(&self, place: usize) -> PyResult<Option<String>> {
        self.topics.as_ref().map(|topics| topics.get_item(place)?.extract()).transpose()
    }

    /// Copies the parts of the message at `place`.
    fn copy(&self, place: usize, offset: i64, batch: &mut RawBatch) -> Result<(), Failure> {
        let time_ms = Some(self.timestamps_ms[place]).filter(|time_ms| *time_ms != NO_TIME_MS);
        batch.push(bytes_of(&self.values.get_item(place)?)?, offset, time_ms)?;
        if let Some(keys) = &self.keys {
            batch.push_key(bytes_of(&keys.get_item(place)?)?);
        }
        if let Some(headers) = &self.headers {
            batch.push_headers(headers_of(&headers.get_item(place)?)?);
        }
        Ok(())
    }
}

/// The partitions that are read, ordered by topic and number.
struct Partitions {
    wanted: Wanted,
    known: Vec<Partition>,
    /// The place of the last message's partition.
    current: usize,
    refetched: usize,
}

impl Partitions {
    fn take(&mut self, columns: &Columns<'_>) -> Result<(), Failure> {
        for place in 0..columns.values.len() {
            let (topic, (number, offset)) = (columns.topic(place)?, columns.places.of(place));
            let taken = match self.find(topic.as_deref(), number) {
                Some(partition) => partition.accepts(offset),
                None => Accepted::No,
            };
            match taken {
                Accepted::Yes => columns.copy(place, offset, &mut self.known[self.current].batch)?,
                Accepted::No => self.refetched += 1,
                Accepted::Behind => {}
            }
        }
        Ok(())
    }

    /// The partition of a message, if it is read.
    fn find(&mut self, topic: Option<&str>, number: i64) -> Option<&mut Partition> {
        // Messages come in runs of one partition, so the last one is nearly always right.
        if !self.known.get(self.current).is_some_and(|partition| partition.order(topic, number).is_eq()) {
            self.current = self.known.binary_search_by(|partition| partition.order(topic, number)).ok()?;
        }
        self.known.get_mut(self.current)
    }

    fn finish(&mut self) -> Result<Finished, Failure> {
        let (mut batches, mut positions) = (Vec::<RawBatch>::new(), Positions::new());
        for mut partition in std::mem::take(&mut self.known) {
            if partition.seen {
                positions.insert((partition.topic, partition.number), partition.next);
            }
            if partition.batch.is_empty() {
                continue;
            }
            if batches.iter().any(|batch| batch.lane_id() == partition.batch.lane_id()) {
                return Err(Failure::Misuse(format!(
                    "partition {} occurs in two topics; read one topic in each raw batch",
                    partition.number
                )));
            }
            partition.batch.seal();
            batches.push(partition.batch);
        }
        Ok((Raw::from_batches(batches), positions, std::mem::take(&mut self.refetched)))
    }
}

/// What becomes of a message.
enum Accepted {
    Yes,
    /// It was read before: it was fetched again after a seek.
    No,
    /// It lies behind where to stop, so it belongs to a later run.
    Behind,
}

/// The messages of one partition that are taken.
struct Partition {
    topic: String,
    number: i32,
    /// Offset that the next message must have at least.
    next: i64,
    stop: Option<i64>,
    /// True once a message of the partition was seen.
    seen: bool,
    batch: RawBatch,
}

impl Partition {
    fn new(
        ((topic, number), (next, stop)): ((String, i32), (i64, Option<i64>)),
        input: i32,
        record_bytes_max: Option<u64>,
    ) -> Self {
        let mut batch = RawBatch::new(number, topic.as_str().into(), 0, 0).within(record_bytes_max);
        batch.input = input;
        Self { topic, number, next, stop, seen: false, batch }
    }

    /// Where it stands beside the partition of a message; without a topic, all are of the same.
    fn order(&self, topic: Option<&str>, number: i64) -> std::cmp::Ordering {
        let topics = topic.map_or(std::cmp::Ordering::Equal, |topic| self.topic.as_str().cmp(topic));
        topics.then(i64::from(self.number).cmp(&number))
    }

    fn accepts(&mut self, offset: i64) -> Accepted {
        self.seen = true;
        if let Some(stop) = self.stop.filter(|stop| offset >= *stop) {
            self.next = self.next.max(stop);
            return Accepted::Behind;
        }
        if offset < self.next {
            return Accepted::No;
        }
        self.next = offset + 1;
        Accepted::Yes
    }
}
