//! `encode_checkpoint` and `decode_checkpoint`: the engine's file format over Python bytes.
//!
//! The runner calls them around its atomic write. Invariant: nothing is copied under the GIL that
//! can be copied without it.

use crate::error::enter;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use streamcore::checkpoint;

/// One checkpoint file: magic, version, `header` (JSON of the caller's), lane states, checksums.
#[pyfunction]
pub fn encode_checkpoint<'py>(
    py: Python<'py>,
    header: &[u8],
    lanes: Vec<(i32, PyBackedBytes)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let file = enter(py, move || Ok(checkpoint::encode(header, &lanes)))?;
    Ok(PyBytes::new(py, &file))
}

/// A header and the state of each lane.
type Decoded<'py> = (Bound<'py, PyBytes>, Vec<(i32, Bound<'py, PyBytes>)>);

/// Undoes `encode_checkpoint`. Raises `StateError` that says which part is damaged or unknown.
#[pyfunction]
pub fn decode_checkpoint<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Decoded<'py>> {
    let (header, lanes) = enter(py, || Ok(checkpoint::decode(data)?))?;
    let lanes = lanes.into_iter().map(|(lane, state)| (lane, PyBytes::new(py, state))).collect();
    Ok((PyBytes::new(py, header), lanes))
}
