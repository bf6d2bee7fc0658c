//! Both phases of a pipeline with a topic between them, disturbed: workers of the first phase share the lanes and commit when
//! they like, partitions are read record by record by workers of the second, epochs are taken back and done again, states
//! move to new pipelines, epochs come twice.

use crate::common::{Log, json};
use crate::random::Random;
use std::collections::BTreeMap;
use streamcore::lane::PartialsTopic;
use streamcore::metrics::Ledger;
use streamcore::pipeline::{OutputBatch, OutputKind, Pipeline};
use streamcore::raw::RawBatch;
use streamcore::spec::{CombineSpec, PhaseSpec, Spec};

/// One record of the input.
#[derive(Debug, Clone)]
pub struct Event {
    pub lane: i32,
    pub json: String,
}

/// Lanes of the input, workers of each phase and partitions of the topic.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub lanes: i32,
    pub partitions: u32,
    pub workers: [usize; 2],
}

/// A worker of either phase.
struct Worker {
    pipeline: Pipeline,
    lanes: Vec<i32>,
    log: Log,
    /// Next record of each lane: as committed, and as read.
    committed: BTreeMap<i32, usize>,
    read: BTreeMap<i32, usize>,
    /// What was put out since the last commit.
    outputs: Vec<OutputBatch>,
}

/// What came out.
#[derive(Default)]
pub struct Outcome {
    /// Rows of the result, as JSON.
    pub rows: Vec<String>,
    /// Rows of `late`.
    pub late: Vec<String>,
    /// Ledgers of the input's lanes.
    pub ledgers: BTreeMap<i32, Ledger>,
    /// Records in partials, merged, and too late.
    pub partials: [u64; 3],
    /// Frames that were met a second time.
    pub repeated: u64,
}

/// The run.
pub struct World<'e> {
    specs: [Spec; 2],
    shape: Shape,
    random: Random,
    input: BTreeMap<i32, Vec<&'e Event>>,
    topic: Vec<Vec<Vec<u8>>>,
    workers: [Vec<Worker>; 2],
    outcome: Outcome,
    seals: u64,
    now_ms: i64,
}

/// The same with another way for lanes to meet.
pub fn spec_of(spec: &Spec, combine: CombineSpec, phase: Option<PhaseSpec>) -> Spec {
    Spec { combine, phase, ..spec.clone() }
}

/// A batch of `values` from `first` on.
pub fn raw_of<'v>(lane: i32, topic: &str, first: usize, values: impl Iterator<Item = &'v [u8]>) -> RawBatch {
    let mut raw = RawBatch::new(lane, topic.into(), 8, 256);
    for (number, value) in values.enumerate() {
        raw.push(Some(value), (first + number) as i64, None).expect("small");
    }
    raw
}

impl<'e> World<'e> {
    pub fn new(spec: &Spec, events: &'e [Event], shape: Shape, seed: u64) -> Self {
        let specs = [PhaseSpec::Partial, PhaseSpec::Final].map(|phase| spec_of(spec, CombineSpec::Topic, Some(phase)));
        let mut input: BTreeMap<i32, Vec<&Event>> = (0..shape.lanes).map(|lane| (lane, Vec::new())).collect();
        events.iter().for_each(|event| input.get_mut(&event.lane).expect("a lane").push(event));
        let counts = [shape.lanes, shape.partitions as i32];
        let workers = [0, 1].map(|phase| {
            let share =
                |worker: usize| (0..counts[phase]).filter(move |lane| *lane as usize % shape.workers[phase] == worker);
            (0..shape.workers[phase]).map(|worker| Worker::new(&specs[phase], share(worker).collect(), shape)).collect()
        });
        let topic = vec![Vec::new(); shape.partitions as usize];
        let (random, outcome) = (Random::new(seed), Outcome::default());
        Self { specs, shape, random, input, topic, workers, outcome, seals: 0, now_ms: 0 }
    }

    /// Runs all to the end of the input.
    pub fn run(mut self) -> Outcome {
        let (mut steps, mut is_over) = (0, false);
        while !is_over {
            steps += 1;
            let worker = self.random.below(self.shape.workers[0] + self.shape.workers[1]);
            match worker.checked_sub(self.shape.workers[0]) {
                None => self.partial_step(worker),
                Some(worker) => self.final_step(worker),
            }
            is_over = steps % 16 == 0 && self.workers[0].iter().all(|worker| worker.remaining(&self.input) == 0);
        }
        for worker in 0..self.shape.workers[0] {
            let pipeline = &mut self.workers[0][worker].pipeline;
            let outputs = pipeline.end().expect("an end");
            self.workers[0][worker].outputs.extend(outputs);
            self.commit_partial(worker);
        }
        for worker in 0..self.shape.workers[1] {
            while self.workers[1][worker].behind(&self.topic) > 0 {
                self.final_step(worker);
            }
            self.workers[1][worker].drain();
            self.commit_final(worker);
        }
        self.finish()
    }

    fn finish(mut self) -> Outcome {
        for worker in &self.workers[0] {
            self.outcome.ledgers.extend(worker.pipeline.ledgers().map(|(lane, ledger)| (lane, *ledger)));
        }
        for worker in &self.workers[1] {
            for merging in worker.pipeline.merging() {
                let counts = merging.counts();
                let sums = [counts.partials, counts.merged, counts.late_after_combine];
                self.outcome.partials.iter_mut().zip(sums).for_each(|(sum, count)| *sum += count);
                self.outcome.repeated += counts.repeated;
                assert!(merging.facts().has_ended(), "all lanes have ended");
            }
        }
        self.outcome
    }

    fn partial_step(&mut self, worker: usize) {
        match self.random.below(12) {
            0..=6 => self.push_partial(worker),
            7 | 8 => self.commit_partial(worker),
            9 => {
                self.push_partial(worker);
                if self.random.below(2) == 0 {
                    let worker = &mut self.workers[0][worker];
                    worker.pipeline.seal().expect("balanced");
                    drop(worker.pipeline.partials(&worker.lanes, 7).expect("sealed"));
                }
                self.workers[0][worker].roll_back();
            }
            10 => {
                self.commit_partial(worker);
                self.workers[0][worker].restart(&self.specs[0], self.shape);
            }
            _ => {
                self.commit_partial(worker);
                let fresh = self.workers[0][worker].restored(&self.specs[0], self.shape);
                self.workers[0][worker].pipeline = fresh;
            }
        }
    }

    fn push_partial(&mut self, worker: usize) {
        let worker = &mut self.workers[0][worker];
        let mut raws = Vec::new();
        for lane in &worker.lanes {
            let (from, events) = (worker.read[lane], &self.input[lane]);
            let to = events.len().min(from + self.random.below(6));
            if from < to {
                raws.push(raw_of(*lane, "t", from, events[from..to].iter().map(|event| event.json.as_bytes())));
                worker.read.insert(*lane, to);
            }
        }
        let outputs = worker.pipeline.push(&raws, self.now_ms).expect("a push");
        worker.outputs.extend(outputs);
    }

    /// The epoch's records go to the topic, those of several lanes among one another.
    fn commit_partial(&mut self, number: usize) {
        self.seals += 1;
        let worker = &mut self.workers[0][number];
        let sealed = worker.pipeline.seal().expect("balanced");
        worker.outputs.extend(sealed.outputs);
        let partials = worker.pipeline.partials(&worker.lanes, self.seals).expect("sealed");
        assert_eq!(worker.pipeline.partials(&worker.lanes, self.seals).expect("sealed"), partials, "asked again");
        worker.commit(&mut self.outcome);
        // Now and then an epoch comes twice.
        let again = self.random.below(4) == 0;
        let mut of_lanes: Vec<Vec<(u32, Vec<u8>)>> = Vec::new();
        for (_, records) in partials.into_iter().filter(|(_, records)| !records.is_empty()) {
            let records: Vec<(u32, Vec<u8>)> = records.into_iter().map(|(at, _, value)| (at, value)).collect();
            let twice = records.iter().filter(|_| again).cloned().collect::<Vec<_>>();
            of_lanes.push(records.into_iter().chain(twice).rev().collect());
        }
        while !of_lanes.is_empty() {
            let lane = self.random.below(of_lanes.len());
            let Some((partition, value)) = of_lanes[lane].pop() else {
                of_lanes.swap_remove(lane);
                continue;
            };
            self.topic[partition as usize].push(value);
        }
    }

    fn final_step(&mut self, worker: usize) {
        match self.random.below(12) {
            0..=7 => self.push_final(worker),
            8 => self.commit_final(worker),
            9 => {
                self.push_final(worker);
                if self.random.below(2) == 0 {
                    self.workers[1][worker].pipeline.seal().expect("balanced");
                }
                self.workers[1][worker].roll_back();
            }
            10 => {
                self.commit_final(worker);
                self.workers[1][worker].restart(&self.specs[1], self.shape);
            }
            _ => {
                self.commit_final(worker);
                let fresh = self.workers[1][worker].restored(&self.specs[1], self.shape);
                self.workers[1][worker].pipeline = fresh;
            }
        }
    }

    fn push_final(&mut self, number: usize) {
        let worker = &mut self.workers[1][number];
        let mut raws = Vec::new();
        for lane in &worker.lanes {
            let (from, records) = (worker.read[lane], &self.topic[*lane as usize]);
            let to = records.len().min(from + self.random.below(5));
            if from < to {
                raws.push(raw_of(*lane, "partials", from, records[from..to].iter().map(|value| &value[..])));
                worker.read.insert(*lane, to);
            }
        }
        let outputs = worker.pipeline.push(&raws, self.now_ms).expect("a push");
        worker.outputs.extend(outputs);
        // An epoch may end between two pieces.
        while worker.pipeline.has_more() && self.random.below(3) > 0 {
            let outputs = worker.pipeline.go_on().expect("rows");
            worker.outputs.extend(outputs);
        }
    }

    fn commit_final(&mut self, worker: usize) {
        let worker = &mut self.workers[1][worker];
        let sealed = worker.pipeline.seal().expect("balanced");
        worker.outputs.extend(sealed.outputs);
        worker.commit(&mut self.outcome);
    }
}

impl Worker {
    fn new(spec: &Spec, lanes: Vec<i32>, shape: Shape) -> Self {
        let mut pipeline = started(spec, shape);
        pipeline.assign(&lanes);
        let none: BTreeMap<i32, usize> = lanes.iter().map(|lane| (*lane, 0)).collect();
        Self { pipeline, lanes, log: Log::default(), committed: none.clone(), read: none, outputs: Vec::new() }
    }

    fn remaining(&self, input: &BTreeMap<i32, Vec<&Event>>) -> usize {
        self.read.iter().map(|(lane, read)| input[lane].len() - read).sum()
    }

    fn behind(&self, topic: &[Vec<Vec<u8>>]) -> usize {
        self.read.iter().map(|(lane, read)| topic[*lane as usize].len() - read).sum()
    }

    fn drain(&mut self) {
        let outputs = self.pipeline.drain().expect("rows");
        self.outputs.extend(outputs);
    }

    /// Keeps the sealed epoch, with all it put out.
    fn commit(&mut self, outcome: &mut Outcome) {
        self.log.keep(&mut self.pipeline);
        self.committed.clone_from(&self.read);
        for output in std::mem::take(&mut self.outputs) {
            match output.kind {
                OutputKind::Result => outcome.rows.extend(json(&output)),
                OutputKind::Late => outcome.late.extend(json(&output)),
                kind => panic!("a row of {kind:?}: {:?}", json(&output)),
            }
        }
    }

    fn roll_back(&mut self) {
        self.pipeline.rollback();
        self.read.clone_from(&self.committed);
        self.outputs.clear();
    }

    /// Goes on from the log.
    fn restart(&mut self, spec: &Spec, shape: Shape) {
        let mut fresh = started(spec, shape);
        self.log.load(&mut fresh);
        self.check(&mut fresh);
        self.pipeline = fresh;
    }

    /// One that has the whole state.
    fn restored(&mut self, spec: &Spec, shape: Shape) -> Pipeline {
        let mut fresh = started(spec, shape);
        fresh.restore(&self.pipeline.save()).expect("whole");
        self.check(&mut fresh);
        self.log = Log::default();
        fresh
    }

    /// It is sealed to the same digest, without another row, and saves the same.
    fn check(&mut self, fresh: &mut Pipeline) {
        let digest = self.pipeline.seal().expect("balanced").digest;
        self.pipeline.rollback();
        let sealed = fresh.seal().expect("balanced");
        assert!(sealed.outputs.is_empty(), "nothing has changed");
        assert_eq!(sealed.digest, digest, "loaded state is the saved state");
        fresh.rollback();
        assert_eq!(usages(fresh), usages(&mut self.pipeline), "it holds what the saved one does");
        let contents = fresh.contents();
        assert_eq!(contents, self.pipeline.contents());
        assert!(fresh.merging().all(|one| one.open_windows() == 0) || contents.rows > 0, "open windows have rows");
        assert_eq!(fresh.has_more(), self.pipeline.has_more());
    }
}

fn usages(pipeline: &mut Pipeline) -> Vec<(u64, u64)> {
    pipeline.usages().iter().map(|(_, usage)| (usage.entries, usage.key_bytes)).collect()
}

fn started(spec: &Spec, shape: Shape) -> Pipeline {
    let mut pipeline = Pipeline::new(spec, 2).expect("a plan");
    if spec.phase == Some(PhaseSpec::Partial) {
        let over = PartialsTopic { partitions: shape.partitions, generation: 1, lanes: shape.lanes as u32 };
        pipeline.hand_over(over).expect("phase partial");
    }
    pipeline
}
