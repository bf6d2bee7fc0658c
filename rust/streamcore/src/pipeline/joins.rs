//! What a pipeline does where its lanes meet: rows of two inputs through the join, and bounds on what waits for others.
//!
//! `pipeline.rs` calls it; `meeting.rs` holds the join. Invariant: a side's watermark is the minimum of its active
//! lanes; a side whose lanes are all idle, or of an input that ended, is not waited for while the other goes on.

use super::meeting::{meeting_of, saved_together};
use super::{OutputBatch, Pipeline};
use crate::error::Result;
use crate::join::Side;
use crate::lane::{Lane, LaneOutput};
use crate::raw::RawBatch;
use crate::stage::StageOutput;
use crate::watermark::{WATERMARK_MAX, minimum};

impl Pipeline {
    /// Takes the rows that lanes put out for the join, and lets leave what can.
    pub(super) fn join(&mut self, raws: &[RawBatch], outputs: &mut [LaneOutput]) -> Result<Vec<OutputBatch>> {
        let Some(step) = &self.plan.join else { return Ok(Vec::new()) };
        let mut places: Vec<usize> = (0..raws.len()).collect();
        // What comes together with rows of a table finds them.
        places.sort_by_key(|place| std::cmp::Reverse(raws[*place].input));
        let mut output = StageOutput::default();
        for place in places {
            let (raw, put_out) = (&raws[place], &mut outputs[place]);
            let Some(lane) = self.lanes.get_mut(&raw.lane_id()) else { continue };
            if let Some(meeting) = self.meetings.get_mut(&meeting_of(&self.plan, lane.id)) {
                meeting.take(&self.plan, step, lane, put_out, &mut output)?;
            }
        }
        self.fire_joins(&mut output)?;
        Ok(self.batch_stages(output))
    }

    /// Lets rows leave the join that the clocks have passed.
    pub(super) fn advance_join(&mut self) -> Result<Vec<OutputBatch>> {
        let mut output = StageOutput::default();
        self.fire_joins(&mut output)?;
        Ok(self.batch_stages(output))
    }

    /// One meeting after the other, as far as there is room.
    fn fire_joins(&mut self, output: &mut StageOutput) -> Result<()> {
        let Some(step) = &self.plan.join else { return Ok(()) };
        let room = self.plan.limits.piece_rows.max(1);
        let meetings: Vec<i32> = self.meetings.keys().copied().filter(|id| !self.ended.waits(*id)).collect();
        for (place, id) in meetings.iter().enumerate() {
            if place > 0 && output.rows() >= room {
                self.more = true;
                break;
            }
            let sides_ms = self.side_watermarks(*id);
            if let Some(meeting) = self.meetings.get_mut(id) {
                self.more |= meeting.fire(&self.plan, step, sides_ms, output)?;
            }
        }
        Ok(())
    }

    /// The lanes of one side that meet there; of all sides for `None`.
    fn lanes_of(&self, meeting: i32, side: Option<usize>) -> impl Iterator<Item = &Lane> {
        let of_partition = self.plan.apart.then(|| saved_together(&self.plan, meeting));
        let of_all = of_partition.is_none().then(|| self.lanes.values()).into_iter().flatten();
        let of_partition = of_partition.unwrap_or_default().into_iter().filter_map(|id| self.lanes.get(&id));
        of_all.chain(of_partition).filter(move |lane| side.is_none_or(|side| self.plan.input_of(lane.id) == side))
    }

    /// The watermark of the left and the right side of a meeting.
    fn side_watermarks(&self, meeting: i32) -> [i64; 2] {
        let minimum_of =
            |side: usize| minimum(self.lanes_of(meeting, Some(side)).map(|lane| (&lane.clock, self.is_idle(lane))));
        let minima = [0, 1].map(minimum_of);
        let all_idle = minima.iter().all(|side| side.all_idle);
        minima.map(|side| if side.all_idle && !all_idle { WATERMARK_MAX } else { side.active_ms })
    }

    /// The watermark where lanes meet, ms; the least, where that is in several places.
    #[must_use]
    pub fn meeting_watermark_ms(&self) -> Option<i64> {
        let joined = || self.meetings.keys().filter_map(|id| self.joined_watermark_ms(*id)).min();
        self.combine.as_ref().map(crate::combine::Combine::watermark_ms).or_else(joined)
    }

    /// The watermark behind one meeting, ms.
    pub(super) fn joined_watermark_ms(&self, meeting: i32) -> Option<i64> {
        let (step, found) = (self.plan.join.as_ref()?, self.meetings.get(&meeting)?);
        Some(if step.plan.waits() { found.clock_ms() } else { self.side_watermarks(meeting)[0] })
    }

    /// Lanes further ahead than `max_lead` of the slowest active lane that they meet.
    #[must_use]
    pub fn paused(&self) -> Vec<i32> {
        if !self.plan.combine && self.plan.join.is_none() {
            return Vec::new();
        }
        let meetings =
            if self.plan.apart { self.meetings.keys().copied().collect() } else { vec![super::COMBINE_LANE] };
        let mut paused: Vec<i32> = meetings.into_iter().flat_map(|meeting| self.ahead(meeting)).collect();
        paused.sort_unstable();
        paused
    }

    /// Those of one meeting.
    fn ahead(&self, meeting: i32) -> Vec<i32> {
        let meets = |lane: &&Lane| self.is_waited_for(lane);
        let holds = |lane: &&Lane| lane.clock.max_event_time_ms().is_some() && !self.is_idle(lane);
        // Where inputs meet, one that has read all there is holds nobody back: reading less of the others brings no more.
        let has_more = |lane: &&Lane| self.plan.join.is_none() || !lane.clock.is_caught_up();
        let active = self.lanes_of(meeting, None).filter(meets).filter(holds).filter(has_more);
        let Some(slowest) = active.map(|lane| lane.clock.watermark_ms()).min() else { return Vec::new() };
        let ahead = |lane: &&Lane| {
            let lead = self.plan.input(lane.id).clock.max_lead_ms;
            lead.is_some_and(|lead_ms| lane.clock.watermark_ms() > slowest.saturating_add(lead_ms))
        };
        self.lanes_of(meeting, None).filter(meets).filter(ahead).map(|lane| lane.id).collect()
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
        self.plan.join.as_ref()?;
        let held = self.meetings.values().map(super::meeting::Meeting::buffered);
        Some(held.fold([0, 0], |[left, right], [more_left, more_right]| [left + more_left, right + more_right]))
    }
}
