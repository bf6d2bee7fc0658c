//! The border: frees the GIL, stops panics, and turns failures into exceptions.
//!
//! All other files of this crate return [`Failure`]s. Invariant: this is the only file that knows
//! the exception classes of `streamcore.errors`, and no panic leaves [`enter`] or [`held`].

use arrow_schema::ArrowError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, TryLockError};
use streamcore::error::{Error, ErrorKind, Problem};

/// Why a call of the binding failed.
#[derive(Debug)]
pub enum Failure {
    /// The engine refused or failed.
    Engine(Error),
    /// Text is not TOML: what, and the 1-based line and column.
    Toml(String, usize, usize),
    /// Reading the input failed.
    Source(String),
    /// The caller broke a rule of the interface.
    Misuse(String),
    /// Python itself failed.
    Python(PyErr),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

impl From<ArrowError> for Failure {
    /// Arrow refuses only what the engine put together wrongly.
    fn from(error: ArrowError) -> Self {
        Self::Misuse(format!("internal error in the Arrow export: {error}; please report it"))
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

/// Runs `call` with the GIL released.
pub fn enter<T: Send>(py: Python<'_>, call: impl FnOnce() -> Result<T, Failure> + Send) -> PyResult<T> {
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(call)));
    finish(py, outcome)
}

/// Runs `call`, which works on Python objects, with the GIL held.
pub fn held<T>(py: Python<'_>, call: impl FnOnce() -> Result<T, Failure>) -> PyResult<T> {
    let outcome = catch_unwind(AssertUnwindSafe(call));
    finish(py, outcome)
}

/// Takes what only one thread at a time may use. A lock that a panic left behind stays refused:
/// the value may be half changed.
pub fn lock<'a, T>(mutex: &'a Mutex<T>, what: &str) -> Result<MutexGuard<'a, T>, Failure> {
    mutex.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            Failure::Misuse(format!("{what} is in use by another thread; use it from one thread at a time"))
        }
        TryLockError::Poisoned(_) => Failure::Misuse(format!(
            "{what} stopped after an internal error and can no longer be used; start again from the last checkpoint"
        )),
    })
}

fn finish<T>(py: Python<'_>, outcome: Result<Result<T, Failure>, Box<dyn Any + Send>>) -> PyResult<T> {
    let failure = match outcome {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(failure)) => failure,
        Err(panic) => of_panic(panic),
    };
    // Making the exception can fail as well (a broken installation); that error is then the answer.
    Err(exception(py, failure).unwrap_or_else(|error| error))
}

/// An error where no `Result` leads the way out (`batch/bytes.rs`) is told as any other; the rest is a mistake of ours.
fn of_panic(panic: Box<dyn Any + Send>) -> Failure {
    let panic = match panic.downcast::<Error>() {
        Ok(error) => return Failure::Engine(*error),
        Err(panic) => panic,
    };
    Failure::Misuse(format!(
        "internal error in the engine: {}; please report it with the pipeline file and this message",
        panic_text(panic.as_ref())
    ))
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("it gave no reason")
}

fn exception(py: Python<'_>, failure: Failure) -> PyResult<PyErr> {
    match failure {
        Failure::Python(error) => Ok(error),
        Failure::Misuse(message) => raise(py, "Error", &message),
        Failure::Source(message) => raise(py, "SourceError", &message),
        Failure::Toml(message, line, column) => {
            let position = [("line", line), ("column", column)].into_py_dict(py)?;
            let problem = problem(py, &Problem::new("TOML", &message), Some(&position))?;
            raise_problems(py, "ConfigError", "the text is not TOML", vec![problem])
        }
        Failure::Engine(error) => match error.kind {
            ErrorKind::Config => {
                let caret = error.problems.iter().any(|problem| problem.caret.is_some());
                let class = if caret { "ExpressionError" } else { "ConfigError" };
                let problems = error.problems.iter().map(|found| problem(py, found, None)).collect::<PyResult<_>>()?;
                raise_problems(py, class, &error.message, problems)
            }
            ErrorKind::State => raise(py, "StateError", &error.message),
            ErrorKind::Full => raise(py, "StateFullError", &error.message),
            ErrorKind::Internal => raise(py, "LedgerError", &error.message),
            ErrorKind::Limit | ErrorKind::Overflow => raise(py, "Error", &error.message),
        },
    }
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("streamcore.errors")?.getattr(name)
}

fn raise(py: Python<'_>, name: &str, message: &str) -> PyResult<PyErr> {
    Ok(PyErr::from_value(class(py, name)?.call1((message,))?))
}

fn raise_problems(py: Python<'_>, name: &str, message: &str, problems: Vec<Bound<'_, PyAny>>) -> PyResult<PyErr> {
    Ok(PyErr::from_value(class(py, name)?.call1((message, problems))?))
}

/// A `streamcore.errors.Problem`; `position` holds its line and column where they are known.
fn problem<'py>(
    py: Python<'py>,
    problem: &Problem,
    position: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let caret = problem.caret.as_ref();
    let arguments = (
        &problem.path,
        &problem.message,
        problem.hint.as_deref(),
        caret.map(|caret| &caret.text),
        caret.map(|caret| caret.start),
        caret.map(|caret| caret.end),
    );
    class(py, "Problem")?.call(arguments, position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_left_as_a_panic_is_told_as_itself() {
        let panic =
            catch_unwind(|| std::panic::panic_any(Error::new(ErrorKind::Limit, "too much"))).expect_err("a panic");
        assert!(matches!(of_panic(panic), Failure::Engine(error) if error.message == "too much"));
        let panic = catch_unwind(|| panic!("row {}", 7)).expect_err("a panic");
        assert!(matches!(of_panic(panic), Failure::Misuse(text) if text.contains("engine: row 7; please report it")));
    }
}
