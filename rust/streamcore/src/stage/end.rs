//! The end of the input for the stages behind a window: their open windows leave, and stay.
//!
//! What the last rows do to a stage is not kept: a later run goes on where the clock stood, and those rows leave again.
//! So they go through copies. Invariant: a stage's windows leave once all rows of the one before have come.

use super::{Fired, Stage, StageOutput, Stages};
use crate::error::Result;
use crate::plan::StagePlan;
use crate::saving::{Extent, Loading, Saving};

/// An end under way.
#[derive(Debug)]
pub(super) struct Ending {
    /// Copies of the stages.
    copies: Vec<Stage>,
    /// How many of them have given all their rows.
    over: usize,
    /// Whether all rows of the window or join before the first one have come.
    have_come: bool,
}

impl Ending {
    fn of(stages: &[Stage], plans: &[StagePlan]) -> Result<Self> {
        let copies = stages.iter().zip(plans).map(|(stage, plan)| stage.copy(plan)).collect::<Result<_>>()?;
        Ok(Self { copies, over: 0, have_come: false })
    }

    /// Takes rows of the window or join before through the copies, as far as there is room; whether all have left.
    fn advance(&mut self, plans: &[StagePlan], mut fired: Vec<Fired>, out: &mut StageOutput) -> Result<bool> {
        for (number, (copy, plan)) in self.copies.iter_mut().zip(plans).enumerate() {
            // Its last rows leave now, and what they replace need not leave before.
            fired.into_iter().try_for_each(|fired| copy.receive(plan, fired, None, out))?;
            let all_before = self.have_come && self.over >= number;
            let Some(mut rows) = plan.result_rows() else { return Ok(all_before) };
            let ends = copy.held.ends();
            if all_before && self.over == number && copy.held.end(&mut rows)? {
                self.over += 1;
            }
            if plan.is_last {
                out.take(rows);
                break;
            }
            fired = vec![Fired::Windows { rows: Box::new(rows), ends }];
        }
        Ok(self.over >= self.copies.len())
    }
}

impl Stages {
    /// Takes the rows that the first stage's windows, or the join, leave at the end of the input through all stages.
    /// `fire` gives the next ones, and whether they are the last; it is not asked again then. False when there is more:
    /// then `end` is to be called again before anything else is.
    pub fn end(
        &mut self,
        plans: &[StagePlan],
        fire: impl FnOnce() -> Result<(Vec<Fired>, bool)>,
        out: &mut StageOutput,
    ) -> Result<bool> {
        let mut ending = match self.ending.take() {
            Some(ending) => ending,
            None => Ending::of(&self.stages, plans)?,
        };
        let mut fired = Vec::new();
        if !ending.have_come {
            (fired, ending.have_come) = fire()?;
        }
        if !ending.advance(plans, fired, out)? {
            self.ending = Some(ending);
            return Ok(false);
        }
        for ((stage, plan), copy) in self.stages.iter_mut().zip(plans).zip(ending.copies) {
            stage.ended = Some(copy.ledger);
            // The stage itself only notes that the input ended.
            while let Some(mut unused) = plan.result_rows() {
                if stage.held.end(&mut unused)? {
                    break;
                }
            }
        }
        Ok(true)
    }
}

impl Stage {
    /// One of the same state, to be thrown away.
    fn copy(&self, plan: &StagePlan) -> Result<Self> {
        let (mut copy, mut saving) = (Self::new(plan, self.lane), Saving::new(Extent::Whole));
        self.save(&mut saving);
        copy.load(&mut Loading::whole(&saving.out))?;
        Ok(copy)
    }
}
