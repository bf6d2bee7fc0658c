//! `Batch`: rows of one output, leaving as Arrow capsules, Python values or JSON.
//!
//! `pipeline.rs` makes them, sinks and users take them apart. Invariant: a batch never changes, so
//! it can be exported any number of times and from any thread.

use crate::error::{Failure, enter, held};
use crate::rows::python_rows;
use arrow_array::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, RecordBatch, RecordBatchIterator, StructArray};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict};
use std::ffi::CStr;
use std::sync::Arc;
use streamcore::encode::{TimeFormat, json_rows, null_rows};
use streamcore::error::{Error, Problem};
use streamcore::pipeline::OutputBatch;
use streamcore::raw::Header;

/// Names that the Arrow `PyCapsule` interface fixes.
pub const ARRAY: &CStr = c"arrow_array";
pub const SCHEMA: &CStr = c"arrow_schema";
pub const STREAM: &CStr = c"arrow_array_stream";

/// Rows of one output as Arrow: `result`, `late`, `future` or `rejected`.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Batch {
    output: &'static str,
    rows: RecordBatch,
    /// Headers of the original records; shorter than the rows where there are none.
    headers: Arc<[Vec<Header>]>,
    /// Place in `headers` of the first row.
    headers_start: usize,
}

impl Batch {
    /// Wraps rows of the output named `output`.
    pub fn new(output: &'static str, rows: RecordBatch, headers: Vec<Vec<Header>>) -> Self {
        Self { output, rows, headers: headers.into(), headers_start: 0 }
    }

    /// Positions of the named columns; all of them without names.
    fn positions(&self, columns: Option<Vec<String>>) -> Result<Vec<usize>, Failure> {
        let Some(columns) = columns else { return Ok((0..self.rows.num_columns()).collect()) };
        let schema = self.rows.schema_ref();
        let known = || schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
        let (mut found, mut problems) = (Vec::with_capacity(columns.len()), Vec::new());
        for name in columns {
            match schema.index_of(&name) {
                Ok(place) => found.push(place),
                Err(_) => problems.push(
                    Problem::new("columns", format!("the {} rows have no column {name:?}", self.output))
                        .hint(format!("the columns are: {}", known())),
                ),
            }
        }
        if problems.is_empty() { Ok(found) } else { Err(Error::config(problems).into()) }
    }

    fn schema(&self) -> Result<FFI_ArrowSchema, Failure> {
        Ok(FFI_ArrowSchema::try_from(self.rows.schema_ref().as_ref())?)
    }
}

impl From<OutputBatch> for Batch {
    fn from(output: OutputBatch) -> Self {
        Self::new(output.kind.as_str(), output.batch, output.headers)
    }
}

#[pymethods]
impl Batch {
    #[getter]
    fn output(&self) -> &'static str {
        self.output
    }

    #[getter]
    fn num_rows(&self) -> usize {
        self.rows.num_rows()
    }

    /// Bytes of the rows and their headers. Of what several batches share each has its own part.
    #[getter]
    fn nbytes(&self, py: Python<'_>) -> PyResult<usize> {
        let sizes = self.rows.columns().iter().map(|column| column.to_data().get_slice_memory_size());
        let headers = self.headers.iter().skip(self.headers_start).take(self.rows.num_rows()).flatten();
        let in_headers: usize = headers.map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        held(py, || Ok(in_headers + sizes.sum::<Result<usize, _>>()?))
    }

    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.rows.schema_ref().fields().iter().map(|field| field.name().clone()).collect()
    }

    /// The schema and the array as capsules. A requested schema is not honoured, as the protocol
    /// allows: columns have one type for a pipeline's life.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        let _ = requested_schema;
        held(py, || {
            let array = FFI_ArrowArray::new(&StructArray::from(self.rows.clone()).into_data());
            let schema = PyCapsule::new_with_value(py, self.schema()?, SCHEMA)?;
            Ok((schema, PyCapsule::new_with_value(py, array, ARRAY)?))
        })
    }

    /// The schema as a capsule.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        held(py, || Ok(PyCapsule::new_with_value(py, self.schema()?, SCHEMA)?))
    }

    /// A stream of this one batch. A requested schema is not honoured, see `__arrow_c_array__`.
    #[pyo3(signature = (requested_schema = None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let _ = requested_schema;
        held(py, || {
            let batches = RecordBatchIterator::new([Ok(self.rows.clone())], self.rows.schema());
            Ok(PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(batches)), STREAM)?)
        })
    }

    fn __len__(&self) -> usize {
        self.rows.num_rows()
    }

    fn __repr__(&self) -> String {
        let names = self.column_names().join(", ");
        format!("<streamcore batch of {} {} rows: {names}>", self.rows.num_rows(), self.output)
    }

    /// The named columns in that order. Raises `ConfigError` for a name that is not there.
    fn select(&self, py: Python<'_>, columns: Vec<String>) -> PyResult<Self> {
        held(py, || {
            let rows = self.rows.project(&self.positions(Some(columns))?)?;
            Ok(Self { output: self.output, rows, headers: self.headers.clone(), headers_start: self.headers_start })
        })
    }

    /// `length` rows from `start` on, fewer at the end of the batch.
    fn slice(&self, start: usize, length: usize) -> Self {
        let start = start.min(self.rows.num_rows());
        let rows = self.rows.slice(start, length.min(self.rows.num_rows() - start));
        Self { output: self.output, rows, headers: self.headers.clone(), headers_start: self.headers_start + start }
    }

    /// Python values; timestamps are aware `datetime`s in UTC.
    fn to_rows<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        held(py, || python_rows(py, &self.rows))
    }

    /// One compact JSON object a row. `timestamp_format`: `iso` (milliseconds, `Z`) or `epoch_ms`.
    #[pyo3(signature = (*, columns = None, timestamp_format = "iso", skip_null_rows = false))]
    fn to_json<'py>(
        &self,
        py: Python<'py>,
        columns: Option<Vec<String>>,
        timestamp_format: &str,
        skip_null_rows: bool,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let rows = enter(py, || {
            let columns = self.positions(columns)?;
            let mut rows = json_rows(&self.rows, &columns, time_format(timestamp_format)?);
            if skip_null_rows {
                let mut null = null_rows(&self.rows, &columns).into_iter();
                rows.retain(|_| !null.next().unwrap_or(false));
            }
            Ok(rows)
        })?;
        Ok(rows.iter().map(|row| PyBytes::new(py, row)).collect())
    }

    /// The original record's headers (outputs other than windowed results).
    fn headers<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Vec<(String, Option<Bound<'py, PyBytes>>)>> {
        held(py, || {
            if row >= self.rows.num_rows() {
                let message = format!("there is no row {row}: the batch has {} rows", self.rows.num_rows());
                return Err(Failure::Misuse(message));
            }
            let headers = self.headers.get(self.headers_start + row).map_or(&[][..], Vec::as_slice);
            let wrap = |(name, value): &Header| (name.clone(), value.as_ref().map(|value| PyBytes::new(py, value)));
            Ok(headers.iter().map(wrap).collect())
        })
    }
}

fn time_format(name: &str) -> Result<TimeFormat, Failure> {
    match name {
        "iso" => Ok(TimeFormat::Iso),
        "epoch_ms" => Ok(TimeFormat::EpochMs),
        other => {
            let problem = Problem::new("timestamp_format", format!("there is no timestamp format {other:?}"));
            Err(Error::config(vec![problem.hint("use \"iso\" or \"epoch_ms\"")]).into())
        }
    }
}
