//! Arrow rows as Python dictionaries, without pyarrow.
//!
//! `arrow.rs` calls it for `Batch.to_rows`. Invariant: values are exact: integers stay integers,
//! decimals are `decimal.Decimal`, times are aware `datetime`s in UTC to the millisecond.

use crate::error::Failure;
use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDateTime, PyDelta, PyDict, PyList, PyString, PyTzInfo};

const DAY_MS: i64 = 86_400_000;

/// One dictionary a row, in column order.
pub fn python_rows<'py>(py: Python<'py>, batch: &RecordBatch) -> Result<Vec<Bound<'py, PyDict>>, Failure> {
    let rows: Vec<Bound<'py, PyDict>> = (0..batch.num_rows()).map(|_| PyDict::new(py)).collect();
    let writer = Writer::new(py)?;
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let name = PyString::intern(py, field.name());
        for (row, values) in rows.iter().enumerate() {
            let value = writer.value(column.as_ref(), row).map_err(|error| outside(py, error, field.name(), row))?;
            values.set_item(&name, value)?;
        }
    }
    Ok(rows)
}

/// Explains the one failure to expect: a time that Python cannot hold.
fn outside(py: Python<'_>, error: PyErr, column: &str, row: usize) -> Failure {
    if !error.is_instance_of::<PyOverflowError>(py) {
        return error.into();
    }
    Failure::Misuse(format!(
        "{column} of row {row} is outside the years 1 to 9999 that datetime can hold; read it as Arrow or with to_json"
    ))
}

/// Makes Python values, with the classes they need at hand.
struct Writer<'py> {
    py: Python<'py>,
    epoch: Bound<'py, PyDateTime>,
    decimal: Bound<'py, PyAny>,
}

impl<'py> Writer<'py> {
    fn new(py: Python<'py>) -> PyResult<Self> {
        let utc = PyTzInfo::utc(py)?;
        let epoch = PyDateTime::new(py, 1970, 1, 1, 0, 0, 0, 0, Some(&utc))?;
        Ok(Self { py, epoch, decimal: py.import("decimal")?.getattr("Decimal")? })
    }

    fn value(&self, array: &dyn Array, row: usize) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        if array.is_null(row) {
            return Ok(py.None().into_bound(py));
        }
        match array.data_type() {
            DataType::Boolean => array.as_boolean().value(row).into_bound_py_any(py),
            DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into_bound_py_any(py),
            DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into_bound_py_any(py),
            DataType::Utf8 => array.as_string::<i32>().value(row).into_bound_py_any(py),
            DataType::LargeUtf8 => array.as_string::<i64>().value(row).into_bound_py_any(py),
            DataType::Binary => Ok(PyBytes::new(py, array.as_binary::<i32>().value(row)).into_any()),
            DataType::LargeBinary => Ok(PyBytes::new(py, array.as_binary::<i64>().value(row)).into_any()),
            DataType::Decimal128(_, _) => {
                self.decimal.call1((array.as_primitive::<Decimal128Type>().value_as_string(row),))
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                self.time(array.as_primitive::<TimestampMillisecondType>().value(row))
            }
            DataType::List(_) => {
                let items = array.as_list::<i32>().value(row);
                let items =
                    (0..items.len()).map(|item| self.value(items.as_ref(), item)).collect::<PyResult<Vec<_>>>()?;
                Ok(PyList::new(py, items)?.into_any())
            }
            DataType::Struct(fields) => {
                let values = PyDict::new(py);
                for (field, column) in fields.iter().zip(array.as_struct().columns()) {
                    values.set_item(field.name(), self.value(column.as_ref(), row)?)?;
                }
                Ok(values.into_any())
            }
            other => panic!("no output of the engine has a column of type {other}"),
        }
    }

    /// The epoch plus whole days and milliseconds: exact, where a float timestamp would round.
    fn time(&self, time_ms: i64) -> PyResult<Bound<'py, PyAny>> {
        let (days, of_day) = (time_ms.div_euclid(DAY_MS), time_ms.rem_euclid(DAY_MS) as i32);
        let days = i32::try_from(days).map_err(|_| PyOverflowError::new_err("days"))?;
        let since = PyDelta::new(self.py, days, of_day / 1000, of_day % 1000 * 1000, false)?;
        self.epoch.add(since)
    }
}
