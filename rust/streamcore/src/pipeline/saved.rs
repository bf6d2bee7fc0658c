//! Saving and loading a pipeline, lane by lane.
//!
//! `checkpoint` keeps the bytes. Invariant: a lane's bytes are of its own state alone, so a lane may go on in another
//! process; what lanes share, where they meet, is lane [`COMBINE_LANE`].

use super::meeting::{Meeting, saved_together};
use super::{COMBINE_LANE, Pipeline};
use crate::codec::Write;
use crate::error::{Error, Result};
use crate::lane::Lane;
use crate::saving::{Extent, Loading, Saving};

impl Pipeline {
    /// The lanes that have state to save: those assigned, and [`COMBINE_LANE`] where they meet. Where each partition is joined by
    /// itself, all of it is one, under the partition's number.
    #[must_use]
    pub fn saved_lanes(&self) -> Vec<i32> {
        if self.plan.apart {
            return self.meetings.keys().copied().collect();
        }
        let meeting = self.plan.meets().then_some(COMBINE_LANE);
        self.lanes.keys().chain(self.merging.keys()).copied().chain(meeting).collect()
    }

    /// Sealed state of each lane.
    #[must_use]
    pub fn save(&self) -> Vec<(i32, Vec<u8>)> {
        self.saved_lanes().into_iter().map(|id| (id, self.save_lane(id, Saving::new(Extent::Whole)).out)).collect()
    }

    /// Adds the sealed state of lane `id`, which is one of [`saved_lanes`](Self::saved_lanes), to `saving`. Changes are those since the last
    /// commit, so they are saved before [`committed`](Self::committed) is told.
    #[must_use]
    pub fn save_lane(&self, id: i32, mut saving: Saving) -> Saving {
        saving.out.put_u64(self.plan.fingerprint);
        saving.out.put_varint(self.epoch);
        saving.out.put_u8(u8::from(self.more));
        if id == COMBINE_LANE {
            self.combine.iter().for_each(|combine| combine.save(&mut saving));
            self.stages.save(&mut saving);
        } else if let Some(merging) = self.merging.get(&id) {
            merging.save(&mut saving);
        } else {
            saved_together(&self.plan, id).iter().for_each(|lane| self.lanes[lane].save(&mut saving));
        }
        self.meetings.get(&id).iter().for_each(|meeting| meeting.save(&mut saving));
        saving
    }

    /// Takes saved state, assigning its lanes. The next epoch is the one after the saved.
    pub fn restore(&mut self, saved: &[(i32, Vec<u8>)]) -> Result<()> {
        saved.iter().try_for_each(|(id, bytes)| self.restore_lane(*id, Loading::whole(bytes)))?;
        self.restored();
        Ok(())
    }

    /// Takes the saved state of one lane, assigning it. The next epoch is the one after the saved, or later. When all
    /// lanes are taken, [`restored`](Self::restored) is to be told.
    pub fn restore_lane(&mut self, id: i32, saved: Loading<'_>) -> Result<()> {
        self.ended.forget(id);
        let loaded = self.beside_changes(|pipeline| pipeline.load_lane(id, saved));
        loaded.map_err(|error| error.within(format!("lane {id}")))
    }

    /// All lanes that have saved state have it.
    pub fn restored(&mut self) {
        if let Some(combine) = &self.combine {
            combine.tell_keys(self.lanes.values_mut().map(|lane| &mut lane.held));
        }
    }

    fn load_lane(&mut self, id: i32, mut saved: Loading<'_>) -> Result<()> {
        let fingerprint = self.plan.fingerprint;
        let (epoch, more) = saved.newest(|saved| {
            let found = saved.u64()?;
            if found != fingerprint {
                return Err(Error::state(format!(
                    "the state was saved by another pipeline (fingerprint {found:016x}, this one is {fingerprint:016x}): \
                     its source, schema or steps differ; run it under another name, or move the state away"
                )));
            }
            Ok((saved.varint()?, saved.u8()? != 0))
        })?;
        self.more |= more;
        self.more_committed = self.more;
        if id == COMBINE_LANE {
            if !self.plan.meets() {
                return Err(Error::state("the state is of lanes that meet, and those of the pipeline do not"));
            }
            self.combine.iter_mut().try_for_each(|combine| combine.load(&mut saved))?;
            self.stages.load(&mut saved)?;
        } else if self.plan.merges() {
            let mut merging = self.new_merging(id)?;
            merging.load(&mut saved)?;
            self.merging.insert(id, merging);
        } else {
            for together in saved_together(&self.plan, id) {
                let mut lane = Lane::new(together, &self.plan);
                lane.load(&self.plan, &mut saved)?;
                self.lanes.insert(together, lane);
            }
        }
        let apart = self.plan.apart.then(|| Meeting::new(&self.plan, id));
        if let Some(mut meeting) = apart.or_else(|| self.meetings.remove(&id)) {
            meeting.load(&mut saved)?;
            self.meetings.insert(id, meeting);
        }
        self.epoch = self.epoch.max(epoch + 1);
        saved.finish()
    }
}
