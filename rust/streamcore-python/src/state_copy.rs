//! Local copies of lanes' logs, over Python bytes.
//!
//! `copy_files.py` keeps the files. Invariant: what crosses is bytes; what they mean is decided in `checkpoint/copy.rs`.

use crate::error::{enter, lock};
use crate::state_log::StateRecords;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::sync::Mutex;
use streamcore::checkpoint::copy::{self, End, LogCopy, check_followed};

/// Writes the copy of one lane's log: what goes into its file, which somebody else keeps.
#[pyclass(frozen, module = "streamcore._core")]
pub struct StateCopy {
    facts: Vec<u8>,
    copy: Mutex<LogCopy>,
}

/// The copy, to be gone on with; the key, the value and the offset of its newest manifest; bytes of the file that count.
type Read<'py> = (StateCopy, Bound<'py, PyBytes>, Bound<'py, PyBytes>, i64, usize);

#[pymethods]
impl StateCopy {
    /// Of a file that is not there yet. `facts` is a JSON object that says what it is a copy of.
    #[new]
    fn new(facts: &[u8]) -> Self {
        Self { facts: facts.to_vec(), copy: Mutex::new(LogCopy::new(facts)) }
    }

    /// Puts the records of a file into `records`, which has none yet. Raises `StateError` for a file that is not a copy of
    /// what `facts` say.
    #[staticmethod]
    fn read<'py>(py: Python<'py>, facts: &[u8], file: &[u8], records: &StateRecords) -> PyResult<Read<'py>> {
        let (copy, end, len, manifest) = enter(py, || {
            let contents = copy::read(facts, file)?;
            let mut recovery = lock(&records.0, "the records")?;
            contents.records.iter().for_each(|(key, value)| recovery.add(key, Some(value)));
            let manifest = recovery.manifest(&contents.end.manifest_key()).unwrap_or_default().to_vec();
            Ok((LogCopy::of(facts, &contents), contents.end, contents.len, manifest))
        })?;
        let read = Self { facts: facts.to_vec(), copy: Mutex::new(copy) };
        let key = PyBytes::new(py, &end.manifest_key());
        Ok((read, key, PyBytes::new(py, &manifest), end.manifest_offset, len))
    }

    /// What a new file of all `records` has; their newest manifest is of `epoch`, and lies at `manifest_offset` of the log.
    #[staticmethod]
    fn of<'py>(
        py: Python<'py>,
        facts: &[u8],
        records: &StateRecords,
        epoch: u64,
        manifest_offset: i64,
    ) -> PyResult<(Self, Bound<'py, PyBytes>)> {
        let (copy, file) = enter(py, || {
            let recovery = lock(&records.0, "the records")?;
            let all: Vec<_> = recovery.records().collect();
            let mut copy = LogCopy::new(facts);
            let file =
                copy.append(all.iter().map(|(key, value)| (&key[..], Some(*value))), End { epoch, manifest_offset });
            Ok((copy, file))
        })?;
        Ok((Self { facts: facts.to_vec(), copy: Mutex::new(copy) }, PyBytes::new(py, &file)))
    }

    /// What the file goes on with: the records of `epoch`, whose manifest lies at `manifest_offset` of the log.
    fn append<'py>(
        &self,
        py: Python<'py>,
        records: Vec<(PyBackedBytes, Option<PyBackedBytes>)>,
        epoch: u64,
        manifest_offset: i64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = enter(py, move || {
            let slices = records.iter().map(|(key, value)| (&key[..], value.as_deref()));
            Ok(lock(&self.copy, "the copy")?.append(slices, End { epoch, manifest_offset }))
        })?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// The file without what is over. Raises `StateError` where `file` is not what was written.
    fn shrunk<'py>(&self, py: Python<'py>, file: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = enter(py, || Ok(lock(&self.copy, "the copy")?.shrunk(&self.facts, file)?))?;
        Ok(PyBytes::new(py, &bytes))
    }

    /// How many records of the file count.
    #[getter]
    fn records(&self, py: Python<'_>) -> PyResult<usize> {
        enter(py, || Ok(lock(&self.copy, "the copy")?.records()))
    }

    /// Whether about half of the file, or more, is over.
    #[getter]
    fn is_long(&self, py: Python<'_>) -> PyResult<bool> {
        enter(py, || Ok(lock(&self.copy, "the copy")?.is_long()))
    }

    /// The last epoch in it, or None.
    #[getter]
    fn epoch(&self, py: Python<'_>) -> PyResult<Option<u64>> {
        enter(py, || Ok(lock(&self.copy, "the copy")?.end().map(|end| end.epoch)))
    }
}

/// Whether the log, read from the end of a copy on into `records` that hold the copy, goes on from that copy; `manifest` is
/// its newest one, `is_there` whether the log has it at its place still. Raises `StateError` where it does not.
#[pyfunction]
pub fn check_copy(py: Python<'_>, records: &StateRecords, manifest: &[u8], is_there: bool) -> PyResult<()> {
    enter(py, || Ok(check_followed(&*lock(&records.0, "the records")?, manifest, is_there)?))
}
