//! What the clocks of a pipeline's lanes show, for `Pipeline.clocks`.
//!
//! Invariant: a watermark before any record is none.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use streamcore::merging::Merging;
use streamcore::pipeline::Pipeline;
use streamcore::watermark::{Clock, WATERMARK_MIN};

/// What a lane's clock shows.
pub struct Reading {
    max_event_time_ms: Option<i64>,
    watermark_ms: Option<i64>,
    idle: bool,
    caught_up: bool,
    quiet_ms: Option<i64>,
}

impl Reading {
    fn of(clock: &Clock, idle: bool, now_ms: i64) -> Self {
        Self {
            max_event_time_ms: clock.max_event_time_ms(),
            watermark_ms: told(clock.watermark_ms()),
            idle,
            caught_up: clock.is_caught_up(),
            quiet_ms: clock.quiet_ms(now_ms),
        }
    }

    /// Of a partition where lanes meet.
    fn of_partition(merging: &Merging) -> Self {
        let inputs = merging.facts().inputs.values();
        Self {
            max_event_time_ms: inputs.filter_map(|input| input.told.max_event_time_ms).max(),
            watermark_ms: told(merging.watermark_ms()),
            idle: merging.facts().is_idle(),
            caught_up: merging.is_caught_up(),
            quiet_ms: None,
        }
    }

    /// Of all lanes.
    pub fn all(pipeline: &Pipeline) -> Vec<(i32, Self)> {
        let of_lanes =
            pipeline.lanes().map(|lane| (lane.id, Self::of(&lane.clock, pipeline.is_idle(lane), pipeline.now_ms())));
        of_lanes.chain(pipeline.merging().map(|merging| (merging.id, Self::of_partition(merging)))).collect()
    }

    /// As Python is given it.
    pub fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let clock = PyDict::new(py);
        clock.set_item("max_event_time_ms", self.max_event_time_ms)?;
        clock.set_item("watermark_ms", self.watermark_ms)?;
        clock.set_item("idle", self.idle)?;
        clock.set_item("caught_up", self.caught_up)?;
        clock.set_item("quiet_ms", self.quiet_ms)?;
        Ok(clock)
    }
}

/// A watermark that is not the one before any record.
pub fn told(watermark_ms: i64) -> Option<i64> {
    (watermark_ms != WATERMARK_MIN).then_some(watermark_ms)
}
