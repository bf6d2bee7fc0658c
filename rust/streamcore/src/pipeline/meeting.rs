//! Where rows of two inputs meet: the join and the stages behind it, of all lanes or of one partition of both inputs.
//!
//! `joins.rs` feeds it and tells it the clocks; `saved.rs` saves it. Invariant: where partitions are joined each by itself, one
//! with its lanes of both inputs shares nothing with the others, so it may go on in another process.

use super::COMBINE_LANE;
use crate::error::Result;
use crate::joining::Joining;
use crate::lane::{Lane, LaneOutput};
use crate::plan::{JoinStep, Plan};
use crate::raw::{LANES_PER_INPUT, lane_id};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::stage::{Fired, StageOutput, Stages};
use std::collections::BTreeMap;

/// A join and what is behind it.
#[derive(Debug)]
pub(super) struct Meeting {
    joining: Joining,
    stages: Stages,
}

/// The number of the meeting that rows of lane `id` go to.
pub(super) fn meeting_of(plan: &Plan, id: i32) -> i32 {
    if plan.apart { id.rem_euclid(LANES_PER_INPUT) } else { COMBINE_LANE }
}

/// The lanes whose state is saved with that of lane `id`: it, or those of its partition in all inputs.
pub(super) fn saved_together(plan: &Plan, id: i32) -> Vec<i32> {
    if !plan.apart || id < 0 {
        return vec![id];
    }
    (0..plan.inputs.len() as i32).map(|input| lane_id(input, id % LANES_PER_INPUT)).collect()
}

impl Meeting {
    /// Number `id`, where nothing has come yet.
    ///
    /// # Panics
    ///
    /// Where the plan has no join.
    pub(super) fn new(plan: &Plan, id: i32) -> Self {
        let step = plan.join.as_ref().expect("only a join has a meeting");
        Self { joining: Joining::new(step, plan.limits.piece_rows), stages: Stages::new(plan.joined_stages(), id) }
    }

    /// That of all lanes, where there is one.
    pub(super) fn of_all(plan: &Plan) -> BTreeMap<i32, Self> {
        let is_one = plan.join.is_some() && !plan.apart;
        is_one.then(|| (COMBINE_LANE, Self::new(plan, COMBINE_LANE))).into_iter().collect()
    }

    /// Takes the rows that `lane` put out; those that leave at once go through the stages.
    pub(super) fn take(
        &mut self,
        plan: &Plan,
        step: &JoinStep,
        lane: &mut Lane,
        put_out: &mut LaneOutput,
        output: &mut StageOutput,
    ) -> Result<()> {
        for fired in self.joining.take(step, plan.input_of(lane.id), lane, put_out) {
            self.stages.advance(&plan.stages, fired, i64::MIN, output)?;
        }
        Ok(())
    }

    /// Lets rows leave that the watermarks of both sides have passed. Whether there are more.
    pub(super) fn fire(
        &mut self,
        plan: &Plan,
        step: &JoinStep,
        [left_ms, right_ms]: [i64; 2],
        output: &mut StageOutput,
    ) -> Result<bool> {
        let plans = &plan.stages;
        // First what the stages behind have not let go of yet.
        let mut more = !self.stages.advance(plans, Fired::nothing(), i64::MIN, output)?;
        if !more {
            let fired;
            (fired, more) = self.joining.fire(step, left_ms, right_ms);
            for rows in fired {
                self.stages.advance(plans, rows, i64::MIN, output)?;
            }
            let told_ms = if step.plan.waits() { self.joining.clock_ms() } else { left_ms };
            more |= !self.stages.advance(plans, Fired::nothing(), told_ms, output)?;
        }
        Ok(more)
    }

    /// What leaves at the end of the input, as far as there is room; whether all has left.
    pub(super) fn end(&mut self, plan: &Plan, step: &JoinStep, output: &mut StageOutput) -> Result<bool> {
        let joining = &mut self.joining;
        let fire = || {
            let (fired, more) = joining.end(step);
            Ok((fired, !more))
        };
        self.stages.end(&plan.stages, fire, output)
    }

    /// The time up to which everything has left the join, ms.
    pub(super) fn clock_ms(&self) -> i64 {
        self.joining.clock_ms()
    }

    /// Rows that the join holds, left and right.
    pub(super) fn buffered(&self) -> [u64; 2] {
        self.joining.buffered()
    }

    /// The stages behind the join.
    pub(super) const fn stages(&self) -> &Stages {
        &self.stages
    }

    /// What the join holds, and each step behind it.
    pub(super) fn usages(&mut self) -> (Usage, Vec<Usage>) {
        (self.joining.usage(), self.stages.usages())
    }

    /// Ends the epoch. Gives the digest.
    pub(super) fn seal(&mut self, plan: &Plan, output: &mut StageOutput) -> Result<u64> {
        Ok(self.joining.seal() ^ self.stages.seal(plan.joined_stages(), output)?)
    }

    /// Keeps the epoch.
    pub(super) fn commit(&mut self) {
        self.joining.commit();
        self.stages.commit();
    }

    /// Takes the epoch back.
    pub(super) fn rollback(&mut self) {
        self.joining.rollback();
        self.stages.rollback();
    }

    /// Appends the sealed state.
    pub(super) fn save(&self, saving: &mut Saving) {
        self.joining.save(saving);
        self.stages.save(saving);
    }

    /// Reads what `save` wrote, where nothing was held yet.
    pub(super) fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.joining.load(saved)?;
        self.stages.load(saved)
    }
}
