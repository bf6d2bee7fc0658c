//! What a pipeline does where its lanes meet: rows of two inputs through the join, and bounds on what waits for others.
//!
//! `pipeline.rs` calls it; `joining.rs` holds the join. Invariant: a side's watermark is the minimum of its active
//! lanes; a side whose lanes are all idle, or of an input that ended, is not waited for while the other goes on.

use super::{OutputBatch, Pipeline};
use crate::error::Result;
use crate::join::Side;
use crate::lane::{Lane, LaneOutput};
use crate::raw::RawBatch;
use crate::stage::{Fired, StageOutput};
use crate::watermark::{WATERMARK_MAX, minimum};

impl Pipeline {
    /// Takes the rows that lanes put out for the join, and lets leave what can.
    pub(super) fn join(&mut self, raws: &[RawBatch], outputs: &mut [LaneOutput]) -> Result<Vec<OutputBatch>> {
        let (Some(step), Some(joining)) = (&self.plan.join, &mut self.joining) else { return Ok(Vec::new()) };
        let mut places: Vec<usize> = (0..raws.len()).collect();
        // What comes together with rows of a table finds them.
        places.sort_by_key(|place| std::cmp::Reverse(raws[*place].input));
        let mut output = StageOutput::default();
        for place in places {
            let (raw, put_out) = (&raws[place], &mut outputs[place]);
            let Some(lane) = self.lanes.get_mut(&raw.lane_id()) else { continue };
            for fired in joining.take(step, raw.input as usize, lane, put_out) {
                self.stages.advance(&self.plan.stages, fired, i64::MIN, &mut output)?;
            }
        }
        self.fire_join(&mut output)?;
        Ok(self.batch_stages(output))
    }

    /// Lets rows leave the join that the clocks have passed.
    pub(super) fn advance_join(&mut self) -> Result<Vec<OutputBatch>> {
        let mut output = StageOutput::default();
        self.fire_join(&mut output)?;
        Ok(self.batch_stages(output))
    }

    fn fire_join(&mut self, output: &mut StageOutput) -> Result<()> {
        let [left_ms, right_ms] = self.side_watermarks();
        let (Some(step), Some(joining)) = (&self.plan.join, &mut self.joining) else { return Ok(()) };
        let plans = &self.plan.stages;
        // First what the stages behind have not let go of yet.
        let mut more = !self.stages.advance(plans, Fired::nothing(), i64::MIN, output)?;
        if !more {
            let fired;
            (fired, more) = joining.fire(step, left_ms, right_ms);
            for rows in fired {
                self.stages.advance(plans, rows, i64::MIN, output)?;
            }
            let told_ms = if step.plan.waits() { joining.clock_ms() } else { left_ms };
            more |= !self.stages.advance(plans, Fired::nothing(), told_ms, output)?;
        }
        self.more |= more;
        Ok(())
    }

    /// The watermark of the left and the right side.
    fn side_watermarks(&self) -> [i64; 2] {
        let of_side = |side: usize| self.lanes.values().filter(move |lane| self.plan.input_of(lane.id) == side);
        let minima = [0, 1].map(|side| minimum(of_side(side).map(|lane| (&lane.clock, self.is_idle(lane)))));
        let all_idle = minima.iter().all(|side| side.all_idle);
        minima.map(|side| if side.all_idle && !all_idle { WATERMARK_MAX } else { side.active_ms })
    }

    /// The watermark where lanes meet, ms.
    #[must_use]
    pub fn meeting_watermark_ms(&self) -> Option<i64> {
        let joined = || {
            let (step, joining) = (self.plan.join.as_ref()?, self.joining.as_ref()?);
            Some(if step.plan.waits() { joining.clock_ms() } else { self.side_watermarks()[0] })
        };
        self.combine.as_ref().map(crate::combine::Combine::watermark_ms).or_else(joined)
    }

    /// Lanes further ahead than `max_lead` of the slowest active lane that they meet.
    #[must_use]
    pub fn paused(&self) -> Vec<i32> {
        if !self.plan.meets() {
            return Vec::new();
        }
        let meets = |lane: &&Lane| self.is_waited_for(lane);
        let holds = |lane: &&Lane| lane.clock.max_event_time_ms().is_some() && !self.is_idle(lane);
        // Where inputs meet, one that has read all there is holds nobody back: reading less of the others brings no more.
        let has_more = |lane: &&Lane| self.plan.join.is_none() || !lane.clock.is_caught_up();
        let active = self.lanes.values().filter(meets).filter(holds).filter(has_more);
        let Some(slowest) = active.map(|lane| lane.clock.watermark_ms()).min() else { return Vec::new() };
        let ahead = |lane: &&Lane| {
            let lead = self.plan.input(lane.id).clock.max_lead_ms;
            lead.is_some_and(|lead_ms| lane.clock.watermark_ms() > slowest.saturating_add(lead_ms))
        };
        self.lanes.values().filter(meets).filter(ahead).map(|lane| lane.id).collect()
    }

    /// Whether others wait for the clock of `lane`: that of an unbounded disorder stands, and nobody asks a table's.
    fn is_waited_for(&self, lane: &Lane) -> bool {
        let has_clock = self.plan.input(lane.id).clock.out_of_orderness_ms.is_some();
        self.plan.join.is_none() || has_clock && !self.is_of_table(lane)
    }

    /// Whether `lane` is of a table whose rows count as they come, whatever their time.
    pub(super) fn is_of_table(&self, lane: &Lane) -> bool {
        let at_once = self.plan.join.as_ref().is_some_and(|step| !step.plan.waits());
        at_once && self.plan.input_of(lane.id) == 1
    }

    /// Rows of a right side that sheds none, and the number of its lanes.
    pub(super) fn kept_rows(&self) -> Option<(u64, u64)> {
        self.plan.join.as_ref().filter(|step| step.plan.held_ms(Side::Right).is_none())?;
        let lanes = self.lanes.keys().filter(|lane| self.plan.input_of(**lane) == 1).count();
        self.join_rows().map(|[_, right]| (right, lanes.max(1) as u64))
    }

    /// Rows that the join holds, left and right.
    #[must_use]
    pub fn join_rows(&self) -> Option<[u64; 2]> {
        self.joining.as_ref().map(crate::joining::Joining::buffered)
    }
}
