//! One run of a pipeline over a feed, on one core, from the first push to the last row.
//!
//! Before it: a feed, whose pieces it takes one by one; making them is nobody's time. After it: a bench, which looks at
//! the rows. Invariant: epochs are sealed and committed as in a service, so what that costs is in every time.

use crate::cpu_time::CpuTime;
use arrow_array::RecordBatch;
use criterion::measurement::Measurement as _;
use serde_json::Value;
use std::slice;
use std::time::Duration;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::Spec;

/// Events of one epoch.
pub const EPOCH_EVENTS: u64 = 1 << 20;

/// How long windows wait for records of their own, ms.
pub const OUT_OF_ORDERNESS_MS: i64 = 5_000;

/// What a run took.
#[derive(Debug, Default)]
pub struct Run {
    /// Processor time of pushes, seals and commits.
    pub counting: Duration,
    /// Processor time of the end of the input, where the open windows leave.
    pub ending: Duration,
    /// Rows given.
    pub rows: u64,
}

/// A pipeline of one lane and one thread.
///
/// # Panics
///
/// When `spec` is no description of one.
#[must_use]
pub fn pipeline(spec: &Value) -> Pipeline {
    let spec = Spec::from_json(spec.to_string().as_bytes()).expect("a description");
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    pipeline.assign(&[0]);
    pipeline
}

/// From the first push to the last row; `output` is shown every batch of rows.
///
/// # Panics
///
/// When a record leaves before the end.
pub fn run(
    mut pipeline: Pipeline,
    pieces: impl Iterator<Item = RawBatch>,
    mut output: impl FnMut(&RecordBatch),
) -> Run {
    let (mut run, mut epoch) = (Run::default(), Epoch::default());
    let mut take = |run: &mut Run, outputs: Vec<OutputBatch>| {
        for OutputBatch { kind, batch, .. } in outputs {
            assert_eq!(kind, OutputKind::Result, "records left before the end: {:?}", batch.slice(0, 1));
            run.rows += batch.num_rows() as u64;
            output(&batch);
        }
    };
    for piece in pieces {
        let (outputs, taken) = epoch.push(&mut pipeline, &piece);
        run.counting += taken;
        take(&mut run, outputs);
    }
    let start = CpuTime.start();
    let outputs = pipeline.end().expect("an end");
    run.ending = CpuTime.end(start);
    take(&mut run, outputs);
    run
}

/// Pushes, with a seal and a commit after every epoch.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Events since the last commit.
    events: u64,
}

impl Epoch {
    /// Pushes `piece`; gives what comes out and the processor time it took.
    ///
    /// # Panics
    ///
    /// When the engine gives an error.
    pub fn push(&mut self, pipeline: &mut Pipeline, piece: &RawBatch) -> (Vec<OutputBatch>, Duration) {
        self.events += piece.len() as u64;
        let is_over = self.events >= EPOCH_EVENTS;
        let start = CpuTime.start();
        let mut outputs = pipeline.push(slice::from_ref(piece), 0).expect("a push");
        if is_over {
            outputs.extend(pipeline.seal().expect("a seal").outputs);
            pipeline.committed();
        }
        let taken = CpuTime.end(start);
        if is_over {
            self.events = 0;
        }
        (outputs, taken)
    }
}
