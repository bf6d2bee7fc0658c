//! `Sealed`: what an epoch leaves behind.
//!
//! `pipeline.rs` makes it. Invariant: its rows are made Python objects once.

use crate::arrow::Batch;
use pyo3::prelude::*;

/// What an epoch leaves behind when it is sealed.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Sealed {
    epoch: u64,
    outputs: Vec<Py<Batch>>,
    digest: u64,
}

impl Sealed {
    /// Of what the engine gave.
    pub fn new(py: Python<'_>, sealed: streamcore::pipeline::Sealed) -> PyResult<Self> {
        let outputs = sealed.outputs.into_iter().map(|output| Py::new(py, Batch::from(output)));
        Ok(Self { epoch: sealed.epoch, outputs: outputs.collect::<PyResult<_>>()?, digest: sealed.digest })
    }
}

#[pymethods]
impl Sealed {
    /// Number of the epoch, from 1.
    #[getter]
    fn epoch(&self) -> u64 {
        self.epoch
    }

    #[getter]
    fn outputs(&self, py: Python<'_>) -> Vec<Py<Batch>> {
        self.outputs.iter().map(|output| output.clone_ref(py)).collect()
    }

    /// Digest of all state; equal state, equal digest.
    #[getter]
    fn digest(&self) -> u64 {
        self.digest
    }
}
