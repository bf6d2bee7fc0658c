//! The engine's only control flow across stages: push, advance, end, seal, commit, restore.
//!
//! The runner calls it, one call at a time. A push decodes its batches on all threads, applies each
//! lane's share on a thread of its own, merges, fires, and returns; nothing is in flight between
//! calls but rows that are still to leave, so a checkpoint is a plain snapshot. Invariant: results do not depend on how the input is
//! cut into pushes.

mod ended;
mod full;
mod joins;
mod logged;
mod meeting;
mod open;
mod output;
mod pieces;
mod rescaled;
mod saved;
mod sealing;
mod topic;
pub mod work;
pub mod workers;

pub use open::OpenWindow;
pub use output::{OutputBatch, OutputKind};
pub use rescaled::Rescaled;

use crate::batch::Batch;
use crate::checkpoint::log::LaneLog;
use crate::combine::Combine;
use crate::decode::Decoder;
use crate::dedupe::Remembered;
use crate::error::{Error, ErrorKind, Problem, Result};
use crate::lane::{Lane, PartialsTopic};
use crate::merging::Merging;
use crate::metrics::Ledger;
use crate::plan::{Plan, StagePlan, Step, analyse};
use crate::raw::RawBatch;
use crate::spec::{AggregateSpec, Spec, StepSpec};
use crate::stage::Stages;
use crate::watermark::{Minimum, Now, minimum};
use ended::{Ended, saved_as};
use meeting::{Meeting, meeting_of, saved_together};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// The combine stage's number among the lanes of saved state.
pub const COMBINE_LANE: i32 = -1;

/// What an epoch leaves behind when it is sealed.
#[derive(Debug)]
pub struct Sealed {
    /// Number of the epoch, from 1.
    pub epoch: u64,
    /// Rows of `updates` windows.
    pub outputs: Vec<OutputBatch>,
    /// Digest of all state.
    pub digest: u64,
}

/// A running pipeline.
#[derive(Debug)]
pub struct Pipeline {
    plan: Plan,
    /// One an input; shared with whoever decodes ahead.
    decoders: Arc<Vec<Decoder>>,
    lanes: BTreeMap<i32, Lane>,
    combine: Option<Combine>,
    /// Where rows of two inputs meet: by partition where each is joined by itself, else under [`COMBINE_LANE`].
    meetings: BTreeMap<i32, Meeting>,
    /// Partitions of the topic of partials, where the lanes are such.
    merging: BTreeMap<i32, Merging>,
    /// Where lanes hand over to, once it was said, and whether epochs that are missing there are passed over.
    handing: Option<PartialsTopic>,
    accepts_gaps: bool,
    /// Lanes of inputs that ended, which nothing waits for while the other goes on.
    finished: Vec<i32>,
    /// The stages behind the first, where lanes meet in `combine`.
    stages: Stages,
    /// Logs of the lanes, where state is kept so.
    logs: BTreeMap<i32, LaneLog>,
    /// The lanes that the sealed epoch wrote to their logs; none where state is not kept so: then all are written.
    written: Option<BTreeSet<i32>>,
    /// Memory that blocks of logs are compressed in, one a thread.
    spares: Mutex<Vec<Vec<u8>>>,
    /// Digest of each lane's state, and of what is where they meet, as of the last seal.
    digests: BTreeMap<i32, u64>,
    /// Rows that are due are still to leave; the same at the last commit.
    more: bool,
    more_committed: bool,
    /// Lanes whose windows are still to leave at the end of the input, while that is under way.
    ending: Option<BTreeSet<i32>>,
    /// Lanes whose end was given before.
    ended: Ended,
    /// The epoch being filled, from 1.
    epoch: u64,
    /// Bytes that were held at the last commit, of the lanes that are there.
    committed_bytes: u64,
    /// The latest time told, by the steady clock; it never falls.
    now_ms: i64,
    /// Threads used inside one call.
    threads: usize,
}

impl Pipeline {
    /// A pipeline for `spec` without lanes, or all mistakes in it. `threads` is what the machine has.
    pub fn new(spec: &Spec, threads: usize) -> Result<Self> {
        let analysis = analyse(spec);
        let Some(plan) = analysis.plan else { return Err(Error::config(analysis.problems)) };
        let missing = missing_functions(spec);
        if !missing.is_empty() {
            return Err(Error::config(missing));
        }
        if plan.topic.is_some() && plan.phase.is_none() {
            let message = "a pipeline whose lanes meet through a topic runs in two phases, and none is named";
            return Err(Error::config(vec![Problem::new("phase", message)]));
        }
        let combine = meeting_windows(&plan);
        let bound = if plan.limits.threads_max == 0 { threads } else { plan.limits.threads_max };
        Ok(Self {
            decoders: Arc::new(decoders(&plan)),
            meetings: Meeting::of_all(&plan),
            finished: Vec::new(),
            stages: Stages::new(plan.combined_stages(), COMBINE_LANE),
            plan,
            logs: BTreeMap::new(),
            written: None,
            spares: Mutex::default(),
            digests: BTreeMap::new(),
            lanes: BTreeMap::new(),
            merging: BTreeMap::new(),
            handing: None,
            accepts_gaps: false,
            combine,
            more: false,
            more_committed: false,
            ending: None,
            ended: Ended::default(),
            epoch: 1,
            committed_bytes: 0,
            now_ms: i64::MIN,
            threads: bound.max(1),
        })
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Threads used inside one call.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Adds empty lanes; those that are there stay as they are. Where each partition is joined by itself, the lanes of
    /// both inputs come together.
    pub fn assign(&mut self, lanes: &[i32]) {
        for id in lanes {
            if self.plan.merges() {
                if let (false, Ok(merging)) = (self.merging.contains_key(id), self.new_merging(*id)) {
                    self.merging.insert(*id, merging);
                }
                continue;
            }
            for together in saved_together(&self.plan, *id) {
                self.lanes.entry(together).or_insert_with(|| Lane::new(together, &self.plan));
            }
            if self.plan.apart {
                let meeting = meeting_of(&self.plan, *id);
                self.meetings.entry(meeting).or_insert_with(|| Meeting::new(&self.plan, meeting));
            }
        }
    }

    /// Drops lanes and their state; [`COMBINE_LANE`] is what lanes share where they meet.
    pub fn revoke(&mut self, lanes: &[i32]) {
        self.beside_changes(|pipeline| pipeline.drop_lanes(lanes));
    }

    fn drop_lanes(&mut self, lanes: &[i32]) {
        for id in lanes {
            if *id == COMBINE_LANE {
                self.combine = meeting_windows(&self.plan);
                self.meetings = Meeting::of_all(&self.plan);
                self.stages = Stages::new(self.plan.combined_stages(), COMBINE_LANE);
            }
            for together in saved_together(&self.plan, *id) {
                self.lanes.remove(&together);
            }
            if self.plan.apart {
                self.meetings.remove(id);
            }
            self.merging.remove(id);
            self.ended.forget(*id);
            self.logs.remove(id);
            self.digests.remove(id);
        }
    }

    /// Runs records through their lanes. Gives what was still to leave, and the first rows that leave now; whether there
    /// are more, [`has_more`](Self::has_more) tells.
    pub fn push(&mut self, raws: &[RawBatch], now: impl Into<Now>) -> Result<Vec<OutputBatch>> {
        let decoded = work::decode(&self.decoders, raws, self.threads);
        self.push_decoded(raws, decoded, now.into(), self.threads)
    }

    /// The decoders, one an input, for decoding ahead of a push: they hold no state, so when they run cannot matter.
    #[must_use]
    pub fn decoders(&self) -> Arc<Vec<Decoder>> {
        self.decoders.clone()
    }

    /// Runs records that this pipeline's [`decoders`](Self::decoders) have decoded through their lanes, on `threads`.
    pub fn push_decoded(
        &mut self,
        raws: &[RawBatch],
        decoded: Vec<Vec<Batch>>,
        now: Now,
        threads: usize,
    ) -> Result<Vec<OutputBatch>> {
        let mut collected = self.drain()?;
        let now = Now { steady_ms: self.tell(now.steady_ms), ..now };
        self.check_lanes(raws)?;
        if self.plan.merges() {
            collected.extend(self.push_partials(raws, now.steady_ms, threads)?);
            return Ok(collected);
        }
        self.ended.arrived(&self.plan, raws);
        let mut outputs = work::apply(&self.plan, &mut self.lanes, raws, decoded, now, threads)?;
        self.more = outputs.iter().any(|output| output.more);
        collected.extend(self.join(raws, &mut outputs)?);
        collected.extend(self.collect(raws, outputs));
        collected.extend(self.advance_combine()?);
        self.check_full(&mut collected)?;
        Ok(collected)
    }

    fn tell(&mut self, now_ms: i64) -> i64 {
        self.now_ms = self.now_ms.max(now_ms);
        self.now_ms
    }

    fn check_lanes(&self, raws: &[RawBatch]) -> Result<()> {
        let mut seen = Vec::new();
        for raw in raws {
            let is_known = self.lanes.contains_key(&raw.lane_id()) || self.merging.contains_key(&raw.lane_id());
            if !is_known || seen.contains(&raw.lane_id()) {
                let message = format!("lane {} is not assigned, or occurs twice in one push", raw.lane);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            seen.push(raw.lane_id());
        }
        Ok(())
    }

    /// Says which lanes are of inputs that ended while others go on: until told otherwise, nothing waits for them.
    pub fn finish(&mut self, lanes: &[i32]) {
        lanes.clone_into(&mut self.finished);
    }

    /// Tells the steady time, and which lanes have read everything readable. Gives rows as [`push`](Self::push) does.
    pub fn advance(&mut self, now_ms: i64, caught_up: &[i32]) -> Result<Vec<OutputBatch>> {
        let mut collected = self.drain()?;
        let now_ms = self.tell(now_ms);
        if self.plan.merges() {
            collected.extend(self.advance_partials(now_ms, caught_up)?);
            return Ok(collected);
        }
        for lane in self.lanes.values_mut() {
            lane.clock.tell(now_ms, caught_up.contains(&lane.id));
        }
        // Lanes that hand over tell that they are idle: where they meet clocks run on.
        if self.minimum().all_idle && !self.plan.hands_over() {
            let runs_on = |lane: &&mut Lane| self.plan.input(lane.id).clock.advance_when_idle;
            let waits = |lane: &Lane| self.ended.waits(saved_as(&self.plan, lane.id));
            self.lanes
                .values_mut()
                .filter(|lane| runs_on(lane) && !waits(lane))
                .for_each(|lane| lane.clock.run_on(now_ms));
        }
        collected.extend(self.fire()?);
        Ok(collected)
    }

    fn minimum(&self) -> Minimum {
        minimum(self.lanes.values().map(|lane| (&lane.clock, self.is_idle(lane))))
    }

    /// Whether nothing waits for `lane`.
    #[must_use]
    pub fn is_idle(&self, lane: &Lane) -> bool {
        let timeout_ms = self.plan.input(lane.id).clock.idle_timeout_ms;
        lane.clock.is_idle(self.now_ms, timeout_ms) || self.finished.contains(&lane.id) || self.is_of_table(lane)
    }

    /// The sealed epoch is durable. What of it was not written has not moved, and its last commit stays what it was: its rows
    /// may have other places than in its log, all of which the next epoch that it moves in has to write.
    pub fn committed(&mut self) {
        let written = self.written.take();
        let is_written = |id: i32| written.as_ref().is_none_or(|lanes| lanes.contains(&id));
        self.lanes.values_mut().filter(|lane| is_written(saved_as(&self.plan, lane.id))).for_each(Lane::commit);
        self.merging.iter_mut().filter(|(id, _)| is_written(**id)).for_each(|(_, merging)| merging.commit());
        self.meetings.iter_mut().filter(|(id, _)| is_written(**id)).for_each(|(_, meeting)| meeting.commit());
        if is_written(COMBINE_LANE) {
            self.combine.iter_mut().for_each(Combine::commit);
            self.stages.commit();
        }
        self.logs.values_mut().for_each(LaneLog::commit);
        self.ended.commit();
        self.more_committed = self.more;
        self.epoch += 1;
        self.committed_bytes = self.held_bytes();
    }

    /// Everything since the last commit is taken back.
    pub fn rollback(&mut self) {
        self.lanes.values_mut().for_each(Lane::rollback);
        self.merging.values_mut().for_each(Merging::rollback);
        if let Some(combine) = &mut self.combine {
            combine.rollback();
        }
        self.meetings.values_mut().for_each(Meeting::rollback);
        self.logs.values_mut().for_each(LaneLog::rollback);
        self.written = None;
        self.finished.clear();
        (self.more, self.ending) = (self.more_committed, None);
        self.ended.rollback();
        self.stages.rollback();
        self.committed_bytes = self.held_bytes();
    }

    /// Each lane's ledger.
    pub fn ledgers(&self) -> impl Iterator<Item = (i32, &Ledger)> {
        self.lanes.values().map(|lane| (lane.id, &lane.ledger))
    }

    /// For each stage behind the first, where the rows of the window before went, in all lanes.
    #[must_use]
    pub fn stage_ledgers(&self) -> Vec<(&str, Ledger)> {
        let mut ledgers: Vec<(&str, Ledger)> =
            self.plan.stages.iter().map(|stage| (stage.name.as_str(), Ledger::default())).collect();
        let meeting = self.meetings.values().map(Meeting::stages).chain([&self.stages]);
        let of_topic = self.merging.values().map(Merging::stages);
        for stages in self.lanes.values().map(Lane::stages).chain(of_topic).chain(meeting) {
            ledgers.iter_mut().zip(stages.ledgers()).for_each(|((_, sum), ledger)| sum.add(ledger));
        }
        ledgers
    }

    /// For each aggregate of which values were not to be had: its name, how many, and why the first was.
    #[must_use]
    pub fn lost_values(&self) -> Vec<(String, u64, &str)> {
        let windows = std::iter::once(self.plan.window()).chain(self.plan.stages.iter().map(StagePlan::window));
        let told = windows.flatten().flat_map(|window| window.names.iter().zip(window.lost.iter()));
        told.filter_map(|(name, lost)| lost.told().map(|(count, first)| (name.clone(), count, first))).collect()
    }

    /// What each `dedupe` step holds, in all lanes.
    #[must_use]
    pub fn remembered(&self) -> Vec<(&str, Remembered)> {
        let mut sums: Vec<(&str, Remembered)> =
            self.plan.dedupe_names().map(|name| (name, Remembered::default())).collect();
        let dedupes = |steps: &[Step]| steps.iter().filter(|step| matches!(step, Step::Dedupe { .. })).count();
        let before = |input: usize| self.plan.inputs[..input].iter().map(|input| dedupes(&input.steps)).sum::<usize>();
        let add = |sums: &mut [(&str, Remembered)], held: &mut dyn Iterator<Item = Remembered>| {
            sums.iter_mut().zip(held).for_each(|((_, sum), held)| sum.add(&held));
        };
        let behind = before(self.plan.inputs.len());
        for (number, lane) in &self.lanes {
            add(&mut sums[before(self.plan.input_of(*number))..], &mut lane.held.remembered());
            add(&mut sums[behind..], &mut lane.stages().remembered());
        }
        add(&mut sums[behind..], &mut self.stages.remembered());
        self.meetings.values().for_each(|meeting| add(&mut sums[behind..], &mut meeting.stages().remembered()));
        sums
    }

    /// Each lane, for its clock.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.values()
    }

    /// The combine stage.
    #[must_use]
    pub fn combine(&self) -> Option<&Combine> {
        self.combine.as_ref()
    }

    /// The latest time told, by the steady clock, ms.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// The epoch being filled, from 1.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// See [`Decoder::layouts_forgotten`].
    #[must_use]
    pub fn layouts_forgotten(&self) -> u64 {
        self.decoders.iter().map(Decoder::layouts_forgotten).sum()
    }

    /// How many batches' group keys were not interned, since most keys of those before were met once: that costs
    /// time, and changes no answer. How many depends on how records are spread over batches and threads; those of a
    /// lane that was revoked no longer count.
    #[must_use]
    pub fn batches_not_interned(&self) -> u64 {
        self.decoders.iter().map(Decoder::batches_not_interned).sum::<u64>()
            + self.lanes.values().map(|lane| lane.held.batches_not_interned()).sum::<u64>()
    }

    /// Windows that have rows and have not fired. One that rows of several lanes wait to be merged
    /// in counts once a lane until then.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        let lanes: usize = self.lanes.values().map(Lane::open_windows).sum();
        let joined: usize = self.meetings.values().map(|meeting| meeting.stages().open_windows()).sum();
        let of_topic: usize = self.merging.values().map(Merging::open_windows).sum();
        let combined = self.combine.as_ref().map_or(0, Combine::open_windows);
        lanes + of_topic + combined + self.stages.open_windows() + joined
    }
}

/// The stage that merges lanes' windows, where they meet.
fn meeting_windows(plan: &Plan) -> Option<Combine> {
    plan.window().filter(|_| plan.combine && plan.topic.is_none()).map(Combine::new)
}

/// One an input; none of records that are partials.
fn decoders(plan: &Plan) -> Vec<Decoder> {
    let inputs = plan.inputs.iter().filter(|_| !plan.merges());
    inputs.map(|input| Decoder::new(input.decode.clone())).collect()
}

/// Functions that the description names and nobody handed over.
fn missing_functions(spec: &Spec) -> Vec<Problem> {
    let missing = |at: String, function: &str| {
        let message = format!("the function {function} was not handed over with the description");
        spec.functions.get(function).is_none().then(|| Problem::new(at, message))
    };
    let of_step = |(at, step): (String, &StepSpec)| match step {
        StepSpec::MapBatches { function, .. } => missing(format!("{at}.map_batches"), function).into_iter().collect(),
        StepSpec::Window(window) => {
            let parts = window.functions.iter().flat_map(|user| AggregateSpec::PARTS.map(|part| (user, part)));
            let missing_part = |(user, part): (&AggregateSpec, &str)| {
                missing(format!("{at}.functions.{}", user.name), &user.part(part))
            };
            parts.filter_map(missing_part).collect::<Vec<_>>()
        }
        _ => Vec::new(),
    };
    let own = spec.steps.iter().enumerate().map(|(number, step)| (format!("steps[{number}]"), step));
    let others = spec.inputs.iter().flat_map(|input| {
        let steps = input.steps.iter().enumerate();
        steps.map(move |(number, step)| (format!("sources.{}.steps[{number}]", input.name), step))
    });
    own.chain(others).flat_map(of_step).collect()
}
