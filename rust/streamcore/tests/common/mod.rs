//! A run of a pipeline that is disturbed, and must not show it.
//!
//! Suites say what their events are and what they keep of what leaves. Here the input is cut into pushes, epochs are committed
//! between them, one push is taken back and done again, and once the state moves into a new pipeline.

#![allow(dead_code, reason = "each suite is a crate of its own, and none needs all of it")]

use proptest::prelude::*;
use std::collections::BTreeMap;
use streamcore::encode::{TimeFormat, json_rows};
use streamcore::metrics::Ledger;
use streamcore::pipeline::{OutputBatch, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::saving::{Extent, Loading, PARTS, Saving};
use streamcore::spec::Spec;

/// How a run is disturbed.
#[derive(Debug, Clone)]
pub struct Course {
    /// Events of each push; again from the first where there are more.
    pub cuts: Vec<usize>,
    /// Threads of the pipeline.
    pub threads: usize,
    /// Pushes of an epoch; none: all are one.
    pub commit_every: Option<usize>,
    /// Before which push the state is saved and loaded into a new pipeline.
    pub restart_at: Option<usize>,
    /// Which push is done, taken back and done again.
    pub redo_at: Option<usize>,
}

impl Course {
    /// `cut` events a push, and nothing else.
    pub fn smooth(cut: usize) -> Self {
        Self { cuts: vec![cut], threads: 1, commit_every: None, restart_at: None, redo_at: None }
    }
}

/// Any course.
pub fn course() -> impl Strategy<Value = Course> {
    let cuts = proptest::collection::vec(1_usize..30, 1..12);
    let at = || proptest::option::of(0_usize..6);
    (cuts, 1_usize..3, proptest::option::of(1_usize..5), at(), at()).prop_map(
        |(cuts, threads, commit_every, restart_at, redo_at)| Course {
            cuts,
            threads,
            commit_every,
            restart_at,
            redo_at,
        },
    )
}

/// What is run.
pub struct Job<'a, E> {
    /// The pipeline.
    pub spec: &'a Spec,
    /// Its lanes.
    pub lanes: &'a [i32],
    /// One batch a lane of the events; offsets go on from those given.
    pub raws: fn(&[E], &mut BTreeMap<i32, i64>) -> Vec<RawBatch>,
}

impl<E> Job<'_, E> {
    /// A pipeline that has seen nothing.
    pub fn start(&self, threads: usize) -> Pipeline {
        let mut pipeline = Pipeline::new(self.spec, threads).expect("a plan");
        pipeline.assign(self.lanes);
        pipeline
    }

    /// Runs all `events` to the end of the input; `take` gets what leaves. Gives the pipeline, and the digest of its state.
    pub fn run(&self, events: &[E], course: &Course, mut take: impl FnMut(&[OutputBatch])) -> (Pipeline, u64) {
        let (mut pipeline, mut log) = (self.start(course.threads), Log::default());
        let (mut offsets, mut rest) = (BTreeMap::new(), events);
        for (number, cut) in course.cuts.iter().cycle().enumerate() {
            if rest.is_empty() {
                break;
            }
            let (part, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            if course.restart_at == Some(number) {
                pipeline = self.restarted(pipeline, course.threads, &mut log, &mut take);
            }
            if course.redo_at == Some(number) {
                log.commit(&mut pipeline, &mut take);
                undo(&mut pipeline, &(self.raws)(part, &mut offsets.clone()));
            }
            take(&pipeline.push(&(self.raws)(part, &mut offsets), 0).expect("a push"));
            if course.commit_every.is_some_and(|every| number % every == every - 1) {
                log.commit(&mut pipeline, &mut take);
            }
        }
        take(&pipeline.end().expect("an end"));
        let digest = log.commit(&mut pipeline, &mut take);
        assert_eq!(commit(&mut self.loaded(&log, 1), &mut |_| {}), digest, "the log holds the state of the end");
        (pipeline, digest)
    }

    /// A new pipeline with the state of `pipeline`: it is sealed to the same digest, without another row, and counts the
    /// same. Gives the one loaded from parts and changes; from the whole it is the same.
    fn restarted(
        &self,
        mut pipeline: Pipeline,
        threads: usize,
        log: &mut Log,
        take: &mut impl FnMut(&[OutputBatch]),
    ) -> Pipeline {
        let digest = log.commit(&mut pipeline, take);
        let mut fresh = Pipeline::new(self.spec, threads).expect("a plan");
        fresh.restore(&pipeline.save()).expect("whole");
        assert_eq!(held(&mut fresh), held(&mut pipeline), "loaded state holds what the saved one does");
        let again = commit(&mut fresh, &mut |outputs| assert!(outputs.is_empty(), "nothing has changed"));
        assert_eq!(again, digest, "loaded state is the saved state");
        let mut fresh = self.loaded(log, threads);
        let again = log.commit(&mut fresh, &mut |outputs| assert!(outputs.is_empty(), "nothing has changed"));
        assert_eq!(again, digest, "state loaded from parts and changes is the saved state");
        fresh
    }

    fn loaded(&self, log: &Log, threads: usize) -> Pipeline {
        let mut fresh = Pipeline::new(self.spec, threads).expect("a plan");
        log.load(&mut fresh);
        fresh
    }
}

/// What commits save: changes of each epoch, and now and then some parts, so that older changes go.
#[derive(Default)]
pub struct Log {
    epoch: u64,
    lanes: BTreeMap<i32, LaneLog>,
}

#[derive(Default)]
struct LaneLog {
    parts: BTreeMap<usize, (u64, Vec<u8>)>,
    changes: BTreeMap<u64, Vec<u8>>,
}

impl Log {
    /// Commits the epoch, and saves it. Gives the digest.
    pub fn commit(&mut self, pipeline: &mut Pipeline, take: &mut impl FnMut(&[OutputBatch])) -> u64 {
        let sealed = pipeline.seal().expect("balanced");
        take(&sealed.outputs);
        self.keep(pipeline);
        sealed.digest
    }

    /// Saves the sealed epoch, and commits it.
    pub fn keep(&mut self, pipeline: &mut Pipeline) {
        self.epoch += 1;
        for id in pipeline.saved_lanes() {
            let lane = self.lanes.entry(id).or_default();
            lane.changes.insert(self.epoch, pipeline.save_lane(id, Saving::new(Extent::Changes)).out);
            // Some, none or, every fifth time, all.
            for part in 0..PARTS as u64 {
                if self.epoch.is_multiple_of(5) || (part + self.epoch).is_multiple_of(3) {
                    let saved = pipeline.save_lane(id, Saving::new(Extent::Part(part as usize))).out;
                    lane.parts.insert(part as usize, (self.epoch, saved));
                }
            }
            if lane.parts.len() == PARTS {
                let oldest = lane.parts.values().map(|(epoch, _)| *epoch).min().expect("parts");
                lane.changes.retain(|epoch, _| *epoch > oldest || *epoch == self.epoch);
            }
        }
        pipeline.committed();
    }

    /// Loads a new pipeline.
    pub fn load(&self, pipeline: &mut Pipeline) {
        for (id, lane) in &self.lanes {
            let parts: Vec<_> = lane.parts.iter().map(|(part, (epoch, saved))| (*part, *epoch, &saved[..])).collect();
            let changes: Vec<_> = lane.changes.iter().map(|(epoch, saved)| (*epoch, &saved[..])).collect();
            let loading = Loading::parts(&parts, &changes).expect("in order");
            pipeline.restore_lane(*id, loading).expect("whole");
        }
        pipeline.restored();
    }
}

/// Does a push, the end of the input and a seal, and takes them back.
fn undo(pipeline: &mut Pipeline, raws: &[RawBatch]) {
    let (before, held_before, undo_before) = (pipeline.save(), held(pipeline), undo_bytes(pipeline));
    pipeline.push(raws, 0).expect("a push");
    pipeline.end().expect("an end");
    pipeline.seal().expect("balanced");
    pipeline.rollback();
    assert_eq!(pipeline.save(), before, "undo is the identity");
    let counted = (held(pipeline), undo_bytes(pipeline));
    assert_eq!(counted, (held_before, undo_before), "undo is the identity for what is counted");
}

/// Entries and bytes of keys of each step that keeps state.
fn held(pipeline: &mut Pipeline) -> Vec<(u64, u64)> {
    pipeline.usages().iter().map(|(_, usage)| (usage.entries, usage.key_bytes)).collect()
}

fn undo_bytes(pipeline: &mut Pipeline) -> Vec<u64> {
    pipeline.usages().iter().map(|(_, usage)| usage.undo_bytes).collect()
}

/// Commits the epoch. Gives the digest.
pub fn commit(pipeline: &mut Pipeline, take: &mut impl FnMut(&[OutputBatch])) -> u64 {
    let sealed = pipeline.seal().expect("balanced");
    take(&sealed.outputs);
    pipeline.committed();
    sealed.digest
}

/// The sum of all lanes' ledgers.
pub fn total(pipeline: &Pipeline) -> Ledger {
    pipeline.ledgers().fold(Ledger::default(), |mut sum, (_, ledger)| {
        sum.add(ledger);
        sum
    })
}

/// The rows of a batch as JSON, times in ms.
pub fn json(output: &OutputBatch) -> Vec<String> {
    let places: Vec<usize> = (0..output.batch.num_columns()).collect();
    let rows = json_rows(&output.batch, &places, TimeFormat::EpochMs);
    rows.into_iter().map(|row| String::from_utf8(row).expect("text")).collect()
}
