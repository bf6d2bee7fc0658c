//! Lanes whose end has been given already: what is open in them leaves again only once records came.
//!
//! Lanes move between workers, also those whose input has ended: whoever takes one over tells of it. Invariant: between the end of
//! a lane and its next record no row of it leaves in a run that ends as well, however many workers end how often.

use super::meeting::{meeting_of, saved_together};
use super::{COMBINE_LANE, Pipeline};
use crate::plan::Plan;
use crate::raw::RawBatch;
use std::collections::BTreeSet;

/// By the lanes that state is saved of.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Lanes that ended and have read nothing since.
    lanes: BTreeSet<i32>,
    /// The same at the last commit.
    committed: BTreeSet<i32>,
    /// This run ends too, so no clock lets leave what its end does not.
    wait: bool,
}

impl Ended {
    /// Lanes that records came of go on.
    pub(super) fn arrived(&mut self, plan: &Plan, raws: &[RawBatch]) {
        if !self.lanes.is_empty() {
            raws.iter().filter(|raw| !raw.is_empty()).for_each(|raw| {
                self.lanes.remove(&saved_as(plan, raw.lane_id()));
            });
        }
    }

    /// Nothing is known of this lane.
    pub(super) fn forget(&mut self, id: i32) {
        self.lanes.remove(&id);
        self.committed.remove(&id);
    }

    /// Keeps the epoch.
    pub(super) fn commit(&mut self) {
        self.committed.clone_from(&self.lanes);
    }

    /// Takes the epoch back.
    pub(super) fn rollback(&mut self) {
        self.lanes.clone_from(&self.committed);
    }

    /// Whether the end of lane `id`, or of the partition that is joined under that number, has been given.
    pub(super) fn has(&self, id: i32) -> bool {
        self.lanes.contains(&id)
    }

    /// Whether clocks let nothing leave of what is saved as lane `id`.
    pub(super) fn waits(&self, id: i32) -> bool {
        self.wait && self.has(id)
    }
}

/// The number under which the state of lane `id` is saved.
pub(super) fn saved_as(plan: &Plan, id: i32) -> i32 {
    if plan.apart { meeting_of(plan, id) } else { id }
}

impl Pipeline {
    /// Says of lanes, by the numbers that state is saved under, that the rows of their end have left, in this run or another:
    /// until records come they do not leave at an end again. With `wait`, as this run ends too, nor by a clock. Of lanes that
    /// meet others it changes nothing, as their rows are of all.
    pub fn note_ended(&mut self, lanes: &[i32], wait: bool) {
        if self.plan.topic.is_some() || self.combine.is_some() || self.meetings.contains_key(&COMBINE_LANE) {
            return;
        }
        self.ended.wait = wait;
        for id in
            lanes.iter().filter(|id| saved_together(&self.plan, **id).iter().all(|id| self.lanes.contains_key(id)))
        {
            self.ended.lanes.insert(*id);
            self.ended.committed.insert(*id);
        }
    }

    /// Lanes that [`note_ended`](Self::note_ended) was told of and that have read nothing since.
    #[must_use]
    pub fn ended_lanes(&self) -> Vec<i32> {
        self.ended.lanes.iter().copied().collect()
    }
}
