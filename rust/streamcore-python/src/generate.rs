//! `Generator`: the engine's seeded events as a Python source reads them.
//!
//! Comes before `raw.rs`, which carries its batches. Invariant: the position moves only by events
//! handed out.

use crate::error::{Failure, enter, held, lock};
use crate::raw::Raw;
use pyo3::prelude::*;
use std::sync::Mutex;
use streamcore::generate;

/// Most events in one call: their bytes stay far below a batch's limit.
const EVENTS_MAX: u64 = 1_000_000;

/// Seeded clickstream events, the reference event of the benchmarks.
#[pyclass(frozen, module = "streamcore._core")]
pub struct Generator(Mutex<generate::Generator>);

#[pymethods]
impl Generator {
    #[new]
    #[pyo3(signature = (
        name = "clickstream", *, seed = 1, lanes = 1, start_ms = 1_790_000_000_000, events_per_second = 20_000.0,
        out_of_order_ms = 0, duplicate_rate = 0.0, position = 0
    ))]
    #[expect(clippy::too_many_arguments, reason = "one keyword argument a setting")]
    fn new(
        py: Python<'_>,
        name: &str,
        seed: i64,
        lanes: u32,
        start_ms: i64,
        events_per_second: f64,
        out_of_order_ms: u32,
        duplicate_rate: f64,
        position: u64,
    ) -> PyResult<Self> {
        let settings = generate::Settings {
            name: name.to_owned(),
            seed: seed as u64,
            lanes,
            start_ms,
            events_per_second,
            out_of_order_ms,
            duplicate_rate,
        };
        held(py, || Ok(Self(Mutex::new(generate::Generator::new(settings, position)?))))
    }

    /// The next `count` events; event time grows by `1000 / events_per_second` ms an event.
    fn read(&self, py: Python<'_>, count: u64) -> PyResult<Raw> {
        if count > EVENTS_MAX {
            let message = format!("a generator makes at most {EVENTS_MAX} events in one call; ask for them in pieces");
            return held(py, || Err(Failure::Misuse(message)));
        }
        enter(py, || Ok(Raw::from_batches(lock(&self.0, "the generator")?.read(count)?)))
    }

    /// Events made so far, of all lanes.
    #[getter]
    fn position(&self, py: Python<'_>) -> PyResult<u64> {
        held(py, || Ok(lock(&self.0, "the generator")?.position()))
    }

    /// Event time of the next event, before disorder.
    #[getter]
    fn event_time_ms(&self, py: Python<'_>) -> PyResult<i64> {
        held(py, || Ok(lock(&self.0, "the generator")?.event_time_ms()))
    }
}
