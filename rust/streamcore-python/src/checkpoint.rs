//! `checkpoint_parts` and `decode_checkpoint`: the engine's file format over Python bytes.
//!
//! The runner calls them around its atomic write. Invariant: a state is not copied to be written.

use crate::error::enter;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use streamcore::checkpoint;

/// The parts of one checkpoint file: magic, version, `header` (JSON of the caller's), lane states, checksums. The states are the
/// objects that were given.
#[pyfunction]
pub fn checkpoint_parts<'py>(
    py: Python<'py>,
    header: &[u8],
    lanes: Vec<(i32, Bound<'py, PyBytes>)>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let shared: Vec<_> = lanes.iter().map(|(lane, state)| (*lane, PyBackedBytes::from(state.clone()))).collect();
    let frame = enter(py, move || Ok(checkpoint::frame(header, &shared)))?;
    let mut states = lanes.into_iter().map(|(_, state)| state);
    let parts = frame.iter().flat_map(|part| [Some(PyBytes::new(py, part)), states.next()]);
    Ok(parts.flatten().collect())
}

/// A header and the state of each lane.
type Decoded<'py> = (Bound<'py, PyBytes>, Vec<(i32, Bound<'py, PyBytes>)>);

/// Undoes `checkpoint_parts`, joined. Raises `StateError` that says which part is damaged or unknown.
#[pyfunction]
pub fn decode_checkpoint<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Decoded<'py>> {
    let (header, lanes) = enter(py, || Ok(checkpoint::decode(data)?))?;
    let lanes = lanes.into_iter().map(|(lane, state)| (lane, PyBytes::new(py, state))).collect();
    Ok((PyBytes::new(py, header), lanes))
}
