//! Functions of the user, called by the engine: a batch goes out and Arrow comes back.
//!
//! `pipeline.rs` hands them to the engine; `python/streamcore/functions.py` catches what they raise. Invariant: the GIL
//! is taken once a batch.

use crate::arrow::{ARRAY, Batch, SCHEMA, STREAM};
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use arrow_array::ffi_stream::ArrowArrayStreamReader;
use arrow_array::{RecordBatch, StructArray};
use arrow_schema::ArrowError;
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyString};
use std::ffi::CStr;
use streamcore::function::BatchFunction;

/// A Python callable that takes a `Batch` and gives Arrow, or as text why not.
#[derive(Debug)]
pub struct Function(pub Py<PyAny>);

impl BatchFunction for Function {
    fn call(&self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, String> {
        Python::attach(|py| {
            let argument = Batch::new("rows", batch.clone(), Vec::new());
            let given = self.0.bind(py).call1((argument,)).map_err(|error| raised(py, &error))?;
            if let Ok(reason) = given.cast::<PyString>() {
                return Err(reason.to_string());
            }
            batches(&given)
        })
    }
}

/// What the guard around a user's function does not catch: the process is about to end.
fn raised(py: Python<'_>, error: &PyErr) -> String {
    error.get_type(py).name().map_or_else(|_| "it was interrupted".to_owned(), |name| format!("{name} was raised"))
}

/// The record batches of an object that speaks Arrow.
fn batches(given: &Bound<'_, PyAny>) -> Result<Vec<RecordBatch>, String> {
    let unusable = |error: PyErr| format!("its Arrow cannot be taken: {}", raised(given.py(), &error));
    let broken = |error: ArrowError| format!("its Arrow is broken: {error}");
    if given.hasattr("__arrow_c_stream__").unwrap_or(false) {
        let capsule = given.call_method0("__arrow_c_stream__").map_err(unusable)?;
        return stream(&capsule).map_err(unusable)?.and_then(Iterator::collect).map_err(broken);
    }
    let pair = given.call_method0("__arrow_c_array__").map_err(unusable)?;
    let (schema, array): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract().map_err(unusable)?;
    array_of(&schema, &array).map_err(unusable)?.map(|batch| vec![batch]).map_err(broken)
}

/// Moves the stream out of its capsule.
#[expect(unsafe_code, reason = "the Arrow PyCapsule interface hands pointers over")]
fn stream(capsule: &Bound<'_, PyAny>) -> PyResult<Result<ArrowArrayStreamReader, ArrowError>> {
    let pointer = pointer_in(capsule, STREAM)?;
    // SAFETY: a capsule of this name holds an ArrowArrayStream; moved from, it is left released, as the interface wants.
    Ok(unsafe { ArrowArrayStreamReader::from_raw(pointer.cast()) })
}

/// Moves one batch out of its capsules.
#[expect(unsafe_code, reason = "the Arrow PyCapsule interface hands pointers over")]
fn array_of(schema: &Bound<'_, PyAny>, array: &Bound<'_, PyAny>) -> PyResult<Result<RecordBatch, ArrowError>> {
    let (schema, array) = (pointer_in(schema, SCHEMA)?, pointer_in(array, ARRAY)?);
    // SAFETY: capsules of these names hold an ArrowSchema and an ArrowArray that belong together; both are moved from,
    // which leaves them released, as the interface wants.
    let data = unsafe {
        let (schema, array) = (FFI_ArrowSchema::from_raw(schema.cast()), FFI_ArrowArray::from_raw(array.cast()));
        from_ffi(array, &schema)
    };
    Ok(data.map(|data| RecordBatch::from(StructArray::from(data))))
}

fn pointer_in(capsule: &Bound<'_, PyAny>, name: &CStr) -> PyResult<*mut std::ffi::c_void> {
    Ok(capsule.cast::<PyCapsule>()?.pointer_checked(Some(name))?.as_ptr())
}
