//! One run of a pipeline over a feed, on one core, from the first push to the last row.
//!
//! Before it: a feed, whose pieces it takes one by one; making them is nobody's time. After it: a bench, which looks at
//! the rows. Invariant: epochs are sealed and committed as in a service, so what that costs is in every time.

use crate::cpu_time::CpuTime;
use arrow_array::RecordBatch;
use criterion::measurement::Measurement as _;
use serde_json::Value;
use std::time::Duration;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::{RawBatch, lane_id};
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

/// A pipeline of one thread, and one lane of each input.
///
/// # Panics
///
/// When `spec` is no description of one.
#[must_use]
pub fn pipeline(spec: &Value) -> Pipeline {
    let spec = Spec::from_json(spec.to_string().as_bytes()).expect("a description");
    let mut pipeline = Pipeline::new(&spec, 1).expect("a plan");
    let lanes: Vec<i32> = (0..=spec.inputs.len() as i32).map(|input| lane_id(input, 0)).collect();
    pipeline.assign(&lanes);
    pipeline
}

/// The pushes of a feed that is the only input.
pub fn alone(pieces: impl Iterator<Item = RawBatch>) -> impl Iterator<Item = Vec<RawBatch>> {
    pieces.map(|piece| vec![piece])
}

/// The pushes of a feed that is read twice: as both inputs of a join.
pub fn twice(pieces: impl Iterator<Item = RawBatch>) -> impl Iterator<Item = Vec<RawBatch>> {
    pieces.map(|piece| {
        let mut other = piece.clone();
        other.input = 1;
        vec![piece, other]
    })
}

/// From the first push to the last row; `output` is shown every batch of rows.
///
/// # Panics
///
/// When a record leaves before the end.
pub fn run(
    mut pipeline: Pipeline,
    pushes: impl Iterator<Item = Vec<RawBatch>>,
    mut output: impl FnMut(&RecordBatch),
) -> Run {
    let (mut run, mut epoch) = (Run::default(), Epoch::default());
    let mut take = |outputs: Vec<OutputBatch>| {
        for OutputBatch { kind, batch, .. } in outputs {
            assert_eq!(kind, OutputKind::Result, "records left before the end: {:?}", batch.slice(0, 1));
            run.rows += batch.num_rows() as u64;
            output(&batch);
        }
    };
    for pieces in pushes {
        run.counting += epoch.push(&mut pipeline, &pieces, &mut take);
    }
    run.ending = until_all_have_left(&mut pipeline, |pipeline| pipeline.end().expect("an end"), &mut take);
    run
}

/// Processor time of what `begin` begins, until all of its rows have left; `take` has them, piece by piece.
fn until_all_have_left(
    pipeline: &mut Pipeline,
    begin: impl FnOnce(&mut Pipeline) -> Vec<OutputBatch>,
    take: &mut impl FnMut(Vec<OutputBatch>),
) -> Duration {
    let start = CpuTime.start();
    let outputs = begin(pipeline);
    let mut taken = CpuTime.end(start);
    take(outputs);
    while pipeline.has_more() {
        let start = CpuTime.start();
        let outputs = pipeline.go_on().expect("a piece");
        taken += CpuTime.end(start);
        take(outputs);
    }
    taken
}

/// Pushes, with a seal and a commit after every epoch.
#[derive(Debug, Default)]
pub struct Epoch {
    /// Events since the last commit.
    events: u64,
}

impl Epoch {
    /// Pushes `pieces`, one of each input; gives the processor time it took. `take` has what comes out.
    ///
    /// # Panics
    ///
    /// When the engine gives an error.
    pub fn push(
        &mut self,
        pipeline: &mut Pipeline,
        pieces: &[RawBatch],
        mut take: impl FnMut(Vec<OutputBatch>),
    ) -> Duration {
        self.events += pieces[0].len() as u64;
        let mut taken = until_all_have_left(pipeline, |pipeline| pipeline.push(pieces, 0).expect("a push"), &mut take);
        if self.events >= EPOCH_EVENTS {
            self.events = 0;
            let start = CpuTime.start();
            let outputs = pipeline.seal().expect("a seal").outputs;
            pipeline.committed();
            taken += CpuTime.end(start);
            take(outputs);
        }
        taken
    }
}
