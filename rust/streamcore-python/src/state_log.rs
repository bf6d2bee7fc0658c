//! The logs of lanes, and the machine that commits them, over Python bytes.
//!
//! `epochs.py` writes the records to Kafka and reads them back. Invariant: what crosses is bytes and JSON; the engine decides.

use crate::error::{enter, lock};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Mutex;
use streamcore::checkpoint::block::Owner;
use streamcore::checkpoint::machine::{Event, Machine, Settings, trace};
use streamcore::checkpoint::recovery::Recovery;
use streamcore::partition::Partitioner;

/// The records of one lane's log, in order, to be recovered from.
#[pyclass(frozen, module = "streamcore._core")]
pub struct StateRecords(pub Mutex<Recovery>);

impl StateRecords {
    /// Of a log without records.
    pub fn new(owner: Owner) -> Self {
        Self(Mutex::new(Recovery::new(owner)))
    }
}

#[pymethods]
impl StateRecords {
    /// Takes the next records: key, and value or None where it was deleted.
    fn add(&self, py: Python<'_>, records: Vec<(PyBackedBytes, Option<PyBackedBytes>)>) -> PyResult<()> {
        enter(py, move || {
            let mut recovery = lock(&self.0, "the records")?;
            records.into_iter().for_each(|(key, value)| recovery.add(&key, value.as_deref()));
            Ok(())
        })
    }

    /// The manifests as JSON, newest first, each with whether all that it names is there. Raises `StateError`.
    fn manifests<'py>(&self, py: Python<'py>) -> PyResult<Vec<(Bound<'py, PyBytes>, bool)>> {
        let found = enter(py, || Ok(lock(&self.0, "the records")?.manifests()?))?;
        Ok(found.into_iter().map(|(manifest, whole)| (PyBytes::new(py, &json(&manifest)), whole)).collect())
    }

    /// What there is, as JSON, whatever is wrong with it: `manifests` (newest first, each with what is wrong with what it
    /// names, or null), `problems` beside them, how many `records` and `bytes`.
    fn inspect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let found = enter(py, || Ok(lock(&self.0, "the records")?.inspect()))?;
        Ok(PyBytes::new(py, &json(&found)))
    }

    /// Has epochs that are written anew be behind this one.
    fn write_behind(&self, py: Python<'_>, epoch: u64) -> PyResult<()> {
        enter(py, || {
            lock(&self.0, "the records")?.write_behind(epoch);
            Ok(())
        })
    }

    /// Keys of all records that are there, but for marks.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let keys: Vec<_> = enter(py, || Ok(lock(&self.0, "the records")?.keys().collect()))?;
        Ok(keys.iter().map(|key: &Vec<u8>| PyBytes::new(py, key)).collect())
    }
}

/// The commit machine: see `docs/decisions/0030-the-commit-machine.md`.
#[pyclass(frozen, module = "streamcore._core")]
pub struct CommitMachine(Mutex<Machine>);

#[pymethods]
impl CommitMachine {
    /// `settings` is JSON. Raises `ValueError` for a setting that there is not.
    #[new]
    fn new(settings: &[u8]) -> PyResult<Self> {
        let settings: Settings = serde_json::from_slice(settings).map_err(|error| unreadable(&error))?;
        Ok(Self(Mutex::new(Machine::new(settings))))
    }

    /// Takes an event as JSON, at a time that never falls; gives the actions as JSON. Raises `ValueError` for what is no
    /// event.
    fn handle<'py>(&self, py: Python<'py>, event: &[u8], now_ms: u64) -> PyResult<Bound<'py, PyBytes>> {
        let event: Event = serde_json::from_slice(event).map_err(|error| unreadable(&error))?;
        let actions = enter(py, || Ok(lock(&self.0, "the commit machine")?.handle(event, now_ms)))?;
        Ok(PyBytes::new(py, &json(&actions)))
    }

    /// Holds the recorded traces of a pipeline's workers against this machine, which must decide the same, and against
    /// each other: what was committed is read back. Gives how many calls and how many manifests were compared. Raises
    /// `StateError` for the first that differs.
    #[staticmethod]
    fn check_traces(py: Python<'_>, traces: Vec<String>) -> PyResult<(usize, usize)> {
        enter(py, move || {
            let texts: Vec<&str> = traces.iter().map(String::as_str).collect();
            let mut calls = 0;
            for text in &texts {
                calls += trace::replay(text)?;
            }
            Ok((calls, trace::audit_together(&texts)?))
        })
    }
}

/// The partition of a key among so many, as a producer with this partitioner chooses it; None where it may be any. Raises
/// `ValueError` for a partitioner that is not known.
#[pyfunction]
pub fn partition_of(partitioner: &str, key: &[u8], partitions: u32) -> PyResult<Option<u32>> {
    let known = Partitioner::named(partitioner);
    let unknown = || pyo3::exceptions::PyValueError::new_err(format!("{partitioner} is not known"));
    Ok(known.ok_or_else(unknown)?.partition(key, partitions.max(1)))
}

/// JSON of the caller's is not what it should be.
pub fn unreadable(error: &serde_json::Error) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(error.to_string())
}

/// Plain data as JSON.
pub fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}
