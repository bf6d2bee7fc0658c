//! Rows leave in pieces: of a million windows that one record closes, some thousands at a time.
//!
//! A push, an advance or an end gives the first piece; the caller asks for the others, and may end the epoch between
//! any two. Nothing arrives meanwhile: what is pushed waits for them. Invariant: rows and state are those of one
//! piece, but for how rows of several lanes come one after the other.

use super::ended::saved_as;
use super::{OutputBatch, Pipeline};
use crate::combine::Meeting;
use crate::error::Result;
use crate::lane::{Lane, LaneOutput};
use crate::stage::{Fired, StageOutput};
use crate::window::rows::ResultRows;
use std::collections::BTreeSet;

impl Pipeline {
    /// Whether rows that are due are still to leave.
    #[must_use]
    pub const fn has_more(&self) -> bool {
        self.more || self.ending.is_some()
    }

    /// The next rows of those that are still to leave.
    pub fn go_on(&mut self) -> Result<Vec<OutputBatch>> {
        match (&self.ending, self.more) {
            (Some(_), _) => self.end_piece(),
            (None, true) if self.plan.merges() => self.go_on_partials(),
            (None, true) => self.fire(),
            (None, false) => Ok(Vec::new()),
        }
    }

    /// All of them.
    pub fn drain(&mut self) -> Result<Vec<OutputBatch>> {
        let mut collected = Vec::new();
        while self.has_more() {
            collected.extend(self.go_on()?);
        }
        Ok(collected)
    }

    /// Lets rows leave that are due at the clocks.
    pub(super) fn fire(&mut self) -> Result<Vec<OutputBatch>> {
        let mut output = LaneOutput::default();
        for lane in self.lanes.values_mut().filter(|lane| !self.ended.waits(saved_as(&self.plan, lane.id))) {
            lane.advance(&self.plan, &mut output)?;
        }
        self.more = output.more;
        let mut collected: Vec<OutputBatch> = self.batch_rows(output.windows).into_iter().collect();
        collected.extend(self.batch_stages(output.stages));
        collected.extend(self.advance_join()?);
        collected.extend(self.advance_combine()?);
        self.check_full(&mut collected)?;
        Ok(collected)
    }

    /// Merges what lanes hold, and lets rows leave where they meet.
    pub(super) fn advance_combine(&mut self) -> Result<Vec<OutputBatch>> {
        let (minimum, rows) = (self.minimum(), self.plan.result_rows());
        let (Some(combine), Some(mut rows)) = (&mut self.combine, rows) else { return Ok(Vec::new()) };
        let (now_ms, timeout_ms) = (self.now_ms, self.plan.own().clock.idle_timeout_ms);
        let mut lanes = Vec::with_capacity(self.lanes.len());
        for lane in self.lanes.values_mut() {
            let is_idle = !minimum.all_idle && lane.clock.is_idle(now_ms, timeout_ms);
            lanes.push(Meeting { held: &mut lane.held, is_idle });
        }
        self.more |= !combine.advance(&mut lanes, minimum, &mut rows)?;
        self.pass_on(rows)
    }

    /// Merges what lanes hold. Only what that changes of windows that have left leaves.
    pub(super) fn merge(&mut self) -> Result<Vec<OutputBatch>> {
        let (Some(combine), Some(mut rows)) = (&mut self.combine, self.plan.result_rows()) else {
            return Ok(Vec::new());
        };
        combine.take(self.lanes.values_mut().map(|lane| &mut lane.held), &mut rows)?;
        if rows.is_empty() { Ok(Vec::new()) } else { self.pass_on(rows) }
    }

    /// Takes rows that left `combine` through the stages behind.
    fn pass_on(&mut self, rows: ResultRows) -> Result<Vec<OutputBatch>> {
        let combine = self.combine.as_ref().filter(|_| !self.stages.is_empty());
        let Some(combine) = combine else { return Ok(self.batch_rows(Some(rows)).into_iter().collect()) };
        let (fired, mut output) =
            (Fired::Windows { rows: Box::new(rows), ends: combine.ends() }, StageOutput::default());
        self.more |= !self.stages.advance(&self.plan.stages, fired, combine.left_ms(), &mut output)?;
        Ok(self.batch_stages(output))
    }

    /// The bounded input is over: every window's row leaves, but of lanes whose end has been given. Lanes keep their clocks and windows their state, so that a
    /// later run goes on where this one stood. Gives rows as [`push`](Self::push) does.
    pub fn end(&mut self) -> Result<Vec<OutputBatch>> {
        if self.plan.topic.is_some() {
            // Lanes that hand over tell of it; where they meet it comes to be known by that.
            self.lanes.values_mut().for_each(Lane::note_end);
            return self.drain();
        }
        // What is due is no end of theirs, nor what lanes that came back from idleness add to windows that fired.
        let mut collected = self.drain()?;
        collected.extend(self.fire()?);
        collected.extend(self.drain()?);
        collected.extend(self.merge()?);
        // Rows that are joined have left the lanes.
        let meet = self.plan.join.is_some();
        let all: BTreeSet<i32> =
            if meet { self.meetings.keys().copied().collect() } else { self.lanes.keys().copied().collect() };
        self.ending = Some(all.into_iter().filter(|id| !self.ended.has(*id)).collect());
        collected.extend(self.end_piece()?);
        Ok(collected)
    }

    /// The next rows of the end of the input.
    fn end_piece(&mut self) -> Result<Vec<OutputBatch>> {
        let (mut rows, mut output) = (self.plan.result_rows(), StageOutput::default());
        if self.end_lanes(rows.as_mut(), &mut output)? && self.end_meeting(rows.as_mut(), &mut output)? {
            self.ending = None;
        }
        let mut collected: Vec<OutputBatch> = self.batch_rows(rows).into_iter().collect();
        collected.extend(self.batch_stages(output));
        Ok(collected)
    }

    /// Lane by lane, as far as there is room; whether all rows have left.
    fn end_lanes(&mut self, rows: Option<&mut ResultRows>, output: &mut StageOutput) -> Result<bool> {
        let (Some(ending), Some(rows)) = (&mut self.ending, rows) else { return Ok(true) };
        while let Some(id) = ending.first().copied() {
            if output.rows() >= rows.room() {
                return Ok(false);
            }
            if !self.lanes.get_mut(&id).map_or(Ok(true), |lane| lane.end(&self.plan, rows, output))? {
                return Ok(false);
            }
            ending.remove(&id);
        }
        Ok(true)
    }

    /// Meeting by meeting, as far as there is room; whether all rows have left.
    fn end_joins(&mut self, output: &mut StageOutput) -> Result<bool> {
        let (Some(step), Some(ending)) = (&self.plan.join, &mut self.ending) else { return Ok(true) };
        let room = self.plan.limits.piece_rows.max(1);
        while let Some(id) = ending.first().copied() {
            if output.rows() >= room {
                return Ok(false);
            }
            let meeting = self.meetings.get_mut(&id);
            if !meeting.map_or(Ok(true), |meeting| meeting.end(&self.plan, step, output))? {
                return Ok(false);
            }
            ending.remove(&id);
        }
        Ok(true)
    }

    /// Where lanes meet, as far as there is room; whether all rows have left.
    fn end_meeting(&mut self, rows: Option<&mut ResultRows>, output: &mut StageOutput) -> Result<bool> {
        if self.plan.join.is_some() {
            return self.end_joins(output);
        }
        let (stages, plans) = (&mut self.stages, &self.plan.stages);
        let (Some(combine), Some(rows)) = (&mut self.combine, rows) else { return Ok(true) };
        if stages.is_empty() {
            return combine.end(self.lanes.values().map(|lane| &lane.held), rows);
        }
        let (ends, lanes) = (combine.ends(), &self.lanes);
        let Some(mut last) = self.plan.result_rows() else { return Ok(true) };
        let fire = || {
            let have_left = combine.end(lanes.values().map(|lane| &lane.held), &mut last)?;
            Ok((vec![Fired::Windows { rows: Box::new(last), ends }], have_left))
        };
        stages.end(plans, fire, output)
    }
}
