//! What lanes hand over through a topic, over Python objects.
//!
//! `Pipeline` asks for it and tells of it; `inspect_partial` reads one record of the topic. Invariant: what crosses is
//! bytes and numbers; the engine decides.

use crate::error::enter;
use crate::readings::told;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use std::collections::BTreeMap;
use streamcore::merging::InputFacts;
use streamcore::partials::PartialRecord;
use streamcore::partials::frame::{self, Content};
use streamcore::pipeline::Pipeline;

/// Partition, key and value of the records of each lane.
pub type PyPartials<'py> = BTreeMap<i32, Vec<(u32, Bound<'py, PyBytes>, Bound<'py, PyBytes>)>>;

/// The records of the lanes that were asked for.
pub fn to_python<'py>(py: Python<'py>, lanes: Vec<i32>, records: Vec<(i32, Vec<PartialRecord>)>) -> PyPartials<'py> {
    let mut partials: PyPartials<'py> = lanes.into_iter().map(|lane| (lane, Vec::new())).collect();
    let of_record =
        |(partition, key, value): PartialRecord| (partition, PyBytes::new(py, &key), PyBytes::new(py, &value));
    for (lane, records) in records {
        partials.insert(lane, records.into_iter().map(of_record).collect());
    }
    partials
}

/// What a partition where lanes meet knows of them.
pub struct Known {
    lanes: Option<u32>,
    generation: u64,
    /// What is true or not of all of them, by name.
    all: [(&'static str, bool); 4],
    waiting: usize,
    table: BTreeMap<i32, InputFacts>,
}

/// What each partition knows.
pub fn known(pipeline: &Pipeline) -> BTreeMap<i32, Known> {
    let of_partition = |facts: &streamcore::merging::Facts| Known {
        lanes: facts.lanes,
        generation: facts.generation,
        all: [
            ("complete", facts.is_complete()),
            ("idle", facts.is_idle()),
            ("ended", facts.has_ended()),
            ("over", facts.is_over()),
        ],
        waiting: facts.waiting.values().map(|waiting| waiting.frames.len()).sum::<usize>() + facts.inbox.len(),
        table: facts.inputs.clone(),
    };
    pipeline.merging().map(|merging| (merging.id, of_partition(merging.facts()))).collect()
}

/// The same as Python is given it.
pub fn dict_of<'py>(py: Python<'py>, known: &Known) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("lanes", known.lanes)?;
    dict.set_item("generation", known.generation)?;
    for (name, is_true) in known.all {
        dict.set_item(name, is_true)?;
    }
    dict.set_item("waiting", known.waiting)?;
    let table = PyDict::new(py);
    for (lane, input) in &known.table {
        let row = PyDict::new(py);
        row.set_item("generation", input.generation)?;
        row.set_item("number", input.number)?;
        row.set_item("seal", input.seal)?;
        row.set_item("watermark_ms", told(input.told.watermark_ms))?;
        row.set_item("max_event_time_ms", input.told.max_event_time_ms)?;
        row.set_item("idle", input.told.is_idle())?;
        row.set_item("ended", input.told.ended)?;
        table.set_item(*lane, row)?;
    }
    dict.set_item("table", table)?;
    Ok(dict)
}

/// What the frame of a record in a topic of partials says. Raises `StateError`.
#[pyfunction]
pub fn inspect_partial<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyDict>> {
    let frame = enter(py, || Ok(frame::decode(value)?))?;
    let (epoch, dict) = (frame.epoch, PyDict::new(py));
    dict.set_item("fingerprint", format!("{:016x}", epoch.fingerprint))?;
    dict.set_item("lane", epoch.lane)?;
    dict.set_item("generation", epoch.generation)?;
    dict.set_item("number", epoch.number)?;
    dict.set_item("partition", frame.partition)?;
    dict.set_item("partitions", epoch.partitions)?;
    dict.set_item("seal", epoch.seal)?;
    dict.set_item("bytes", value.len())?;
    let Content::Marker(marker) = frame.content else {
        dict.set_item("kind", "partial")?;
        return Ok(dict);
    };
    dict.set_item("kind", "marker")?;
    dict.set_item("watermark_ms", told(marker.told.watermark_ms))?;
    dict.set_item("max_event_time_ms", marker.told.max_event_time_ms)?;
    dict.set_item("idle", marker.told.is_idle())?;
    dict.set_item("ended", marker.told.ended)?;
    dict.set_item("lanes", marker.told.lanes)?;
    dict.set_item("frames", marker.frames)?;
    dict.set_item("events", marker.events)?;
    Ok(dict)
}
