//! The end of an epoch: rows that leave, ledgers that must add up, and the digest of each lane.
//!
//! `pipeline.rs` is asked for it by whoever commits. Invariant: nothing that a lane counted is missing where lanes meet.

use super::meeting::saved_together;
use super::work::share;
use super::{COMBINE_LANE, Pipeline, Sealed};
use crate::error::{Error, ErrorKind, Result};
use crate::stage::StageOutput;
use crate::window::rows::ResultRows;
use std::sync::{Mutex, PoisonError};

/// What a lane leaves behind: digest of its state, rows of its windows, and rows of the stages behind.
type SealedLane = (u64, Option<ResultRows>, StageOutput);

impl Pipeline {
    /// Ends the epoch: changed rows leave, ledgers are checked, the digest is brought up to date. Rows that are still to
    /// leave belong to the next one; not at the end of the input, which is all of one epoch.
    pub fn seal(&mut self) -> Result<Sealed> {
        self.seal_of(None)
    }

    /// The same; `lanes` are those of the epoch: of phase partial they alone tell what they hand over. None: all there are.
    pub fn seal_of(&mut self, lanes: Option<&[i32]>) -> Result<Sealed> {
        if self.ending.is_some() {
            let message = "an epoch was to end while rows of the end of the input are still to leave";
            return Err(Error::new(ErrorKind::Internal, message));
        }
        self.tell_partials(lanes)?;
        let mut outputs = self.merge()?;
        outputs.extend(self.seal_partials()?);
        let mut left = Vec::new();
        for (id, (digest, rows, output)) in self.seal_lanes()? {
            self.digests.insert(id, digest);
            outputs.extend(self.batch_rows(rows));
            left.extend(self.batch_stages(output));
        }
        let of_lane = |id: &i32| (self.digests[id] ^ *id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut digest =
            self.saved_lanes().iter().filter(|id| **id != COMBINE_LANE).map(of_lane).fold(0, u64::wrapping_add);
        let (mut rows, mut output) = (self.plan.result_rows(), StageOutput::default());
        let meeting = self.seal_meeting(&mut rows, &mut output)?;
        self.digests.insert(COMBINE_LANE, meeting);
        digest ^= meeting;
        outputs.extend(self.batch_rows(rows));
        outputs.append(&mut left);
        outputs.extend(self.batch_stages(output));
        Ok(Sealed { epoch: self.epoch, outputs, digest })
    }

    /// Ends the epoch of every lane, side by side. Gives their digests, and the rows that leave.
    fn seal_lanes(&mut self) -> Result<Vec<(i32, SealedLane)>> {
        if self.plan.apart {
            return self.seal_partitions();
        }
        let plan = &self.plan;
        let lanes: Vec<_> = self.lanes.values_mut().map(Mutex::new).collect();
        let sealed = share(&lanes, self.threads, |lane| {
            let lane = &mut **lane.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut rows, mut output) = (plan.result_rows(), StageOutput::default());
            let digest = lane.seal(plan, rows.as_mut(), &mut output)?;
            Ok((lane.id, (digest, rows, output)))
        });
        sealed.into_iter().collect()
    }

    /// The same where each partition is joined by itself: its lanes and where they meet are one.
    fn seal_partitions(&mut self) -> Result<Vec<(i32, SealedLane)>> {
        let partitions = self.saved_lanes();
        let seal = |id: i32| {
            let (mut rows, mut output) = (self.plan.result_rows(), StageOutput::default());
            let digest = self.seal_lane(id, &mut rows, &mut output)?;
            Ok((id, (digest, rows, output)))
        };
        partitions.into_iter().map(seal).collect()
    }

    /// Ends the epoch of what is saved as lane `id`. Gives the digest.
    pub(super) fn seal_lane(
        &mut self,
        id: i32,
        rows: &mut Option<ResultRows>,
        output: &mut StageOutput,
    ) -> Result<u64> {
        if id == COMBINE_LANE {
            return self.seal_meeting(rows, output);
        }
        let mut digest = 0_u64;
        for together in saved_together(&self.plan, id) {
            let lane = self.lanes.get_mut(&together);
            let lane = lane.ok_or_else(|| Error::state(format!("lane {together} is not assigned")))?;
            digest = digest.rotate_left(13).wrapping_add(lane.seal(&self.plan, rows.as_mut(), output)?);
        }
        if let Some(meeting) = self.meetings.get_mut(&id) {
            digest = digest.rotate_left(13).wrapping_add(meeting.seal(&self.plan, output)?);
        }
        Ok(digest)
    }

    /// Ends the epoch where all lanes meet. Gives the digest.
    fn seal_meeting(&mut self, rows: &mut Option<ResultRows>, output: &mut StageOutput) -> Result<u64> {
        let mut digest = 0;
        if let (Some(combine), Some(rows)) = (&mut self.combine, rows) {
            digest ^= combine.seal(rows)?;
            self.check_combine()?;
        }
        if let Some(meeting) = self.meetings.get_mut(&COMBINE_LANE) {
            digest ^= meeting.seal(&self.plan, output)?;
        }
        Ok(digest ^ self.stages.seal(self.plan.combined_stages(), output)?)
    }

    /// Nothing that a lane counted as applied may be missing in the combine stage.
    fn check_combine(&mut self) -> Result<()> {
        if self.lanes.values_mut().any(|lane| lane.held.partial().is_some_and(|partial| partial.open_windows() > 0)) {
            return Err(Error::new(ErrorKind::Internal, "a lane still holds windows after they were merged"));
        }
        Ok(())
    }
}
