//! Lanes that meet through a topic: what those of the input hand over, and the partitions where it is merged.
//!
//! `pipeline.rs` calls it where a pipeline is one of the two phases. Invariant: an epoch in which a lane has something to
//! tell is not followed by another before somebody asked what.

use super::work::share;
use super::{OutputBatch, Pipeline};
use crate::error::{Error, ErrorKind, Problem, Result};
use crate::lane::{Lane, PartialsTopic, Telling};
use crate::merging::{MergedOutput, Merging};
use crate::partials::PartialRecord;
use crate::plan::Plan;
use crate::raw::RawBatch;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Pushes with fewer bytes of partials stay on the calling thread.
const SHARED_BYTES_MIN: usize = 64 << 10;

impl Pipeline {
    /// Phase partial: says where lanes hand over to.
    pub fn hand_over(&mut self, over: PartialsTopic) -> Result<()> {
        let message = match () {
            () if !self.plan.hands_over() => "only phase partial of a pipeline hands partials over",
            () if over.partitions == 0 || over.lanes == 0 => "partials are handed over to no partition, or by no lane",
            () => {
                self.handing = Some(over);
                return Ok(());
            }
        };
        Err(Error::config(vec![Problem::new("phase", message)]))
    }

    /// Phase partial: for each lane how many epochs it has told of that are committed.
    pub fn told_numbers(&self) -> impl Iterator<Item = (i32, u64)> {
        self.lanes.values().filter_map(|lane| lane.telling().map(|telling| (lane.id, telling.number())))
    }

    /// Phase partial: what the sealed epoch of `lanes` hands over.
    pub fn partials(&mut self, lanes: &[i32], seal: u64) -> Result<Vec<(i32, Vec<PartialRecord>)>> {
        let Some(over) = self.handing else { return Err(not_told()) };
        let (plan, threads) = (&self.plan, self.threads);
        let asked: Vec<Mutex<&mut Lane>> =
            self.lanes.values_mut().filter(|lane| lanes.contains(&lane.id)).map(Mutex::new).collect();
        Ok(share(&asked, threads, |lane| {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            (lane.id, lane.partials(plan, &over, seal))
        }))
    }

    /// How long nothing has come of a lane that is idle, ms.
    fn quiet_ms(&self, lane: &Lane) -> Option<i64> {
        self.is_idle(lane).then(|| lane.clock.quiet_ms(self.now_ms).unwrap_or_default())
    }

    /// Has lanes decide what they tell of the epoch that is about to be sealed; those that are not in it tell nothing.
    pub(super) fn tell_partials(&mut self, lanes: Option<&[i32]>) -> Result<()> {
        if !self.plan.hands_over() {
            return Ok(());
        }
        let Some(over) = self.handing else { return Err(not_told()) };
        let quiet: BTreeMap<i32, Option<i64>> =
            self.lanes.values().map(|lane| (lane.id, self.quiet_ms(lane))).collect();
        for lane in self.lanes.values_mut() {
            if lane.telling().is_some_and(Telling::was_missed) {
                let message =
                    format!("lane {} had partials that nobody asked for, and its epoch was committed", lane.id);
                return Err(Error::new(ErrorKind::Internal, message));
            }
            if lanes.is_none_or(|lanes| lanes.contains(&lane.id)) {
                lane.tell(&over, quiet[&lane.id]);
            } else {
                lane.tell_nothing();
            }
        }
        Ok(())
    }

    /// Phase final: epochs that are missing are passed over.
    pub fn accept_gaps(&mut self) {
        self.accepts_gaps = true;
        self.merging.values_mut().for_each(Merging::accept_gaps);
    }

    /// Phase final: each partition of the topic.
    pub fn merging(&self) -> impl Iterator<Item = &Merging> {
        self.merging.values()
    }

    /// A partition of the topic that has seen nothing.
    pub(super) fn new_merging(&self, id: i32) -> Result<Merging> {
        let missing = || Error::new(ErrorKind::Internal, "there is no window whose parts could be merged");
        let mut merging = Merging::new(id, &self.plan, self.plan.window().ok_or_else(missing)?);
        if self.accepts_gaps {
            merging.accept_gaps();
        }
        Ok(merging)
    }

    /// Runs `work` on each partition, side by side, and gives what leaves, partition by partition.
    pub(super) fn merge_each(
        &mut self,
        threads: usize,
        work: impl Fn(&Plan, &mut Merging, &mut MergedOutput) -> Result<()> + Sync,
    ) -> Result<Vec<OutputBatch>> {
        let plan = &self.plan;
        let each: Vec<Mutex<&mut Merging>> = self.merging.values_mut().map(Mutex::new).collect();
        let outputs = share(&each, threads, |merging| {
            let mut output = MergedOutput::default();
            let mut merging = merging.lock().unwrap_or_else(PoisonError::into_inner);
            work(plan, &mut merging, &mut output).map(|()| output)
        });
        drop(each);
        let mut collected = Vec::new();
        self.more = false;
        for output in outputs {
            let output = output?;
            self.more |= output.more;
            collected.extend(output.windows.into_iter().filter_map(|rows| self.batch_rows(Some(rows))));
            collected.extend(self.batch_stages(output.stages));
        }
        Ok(collected)
    }

    /// Takes records of the topic in.
    pub(super) fn push_partials(&mut self, raws: &[RawBatch], now_ms: i64, threads: usize) -> Result<Vec<OutputBatch>> {
        let bytes: usize = raws.iter().map(RawBatch::byte_len).sum();
        let threads = if bytes < SHARED_BYTES_MIN { 1 } else { threads };
        let mut outputs = self.merge_each(threads, |plan, merging, output| {
            match raws.iter().find(|raw| raw.lane_id() == merging.id) {
                Some(raw) => merging.push(plan, raw, now_ms, output),
                None => Ok(()),
            }
        })?;
        self.check_full(&mut outputs)?;
        Ok(outputs)
    }

    /// Tells partitions the time, and which of them were read to their end.
    pub(super) fn advance_partials(&mut self, now_ms: i64, caught_up: &[i32]) -> Result<Vec<OutputBatch>> {
        let mut outputs = self.merge_each(1, |plan, merging, output| {
            merging.advance(plan, now_ms, caught_up.contains(&merging.id), output)
        })?;
        self.check_full(&mut outputs)?;
        Ok(outputs)
    }

    /// Lets the next rows of all partitions leave.
    pub(super) fn go_on_partials(&mut self) -> Result<Vec<OutputBatch>> {
        let mut outputs = self.merge_each(self.threads, |plan, merging, output| merging.go_on(plan, output))?;
        self.check_full(&mut outputs)?;
        Ok(outputs)
    }

    /// Phase final: lets the rows of all open windows leave as if the input had ended, whatever lanes have told. Gives the first rows,
    /// and `go_on` the others.
    pub fn end_partials(&mut self) -> Result<Vec<OutputBatch>> {
        self.merge_each(1, |plan, merging, output| merging.end(plan, output))
    }

    /// Ends the epoch of all partitions. Gives what leaves; the digests are noted.
    pub(super) fn seal_partials(&mut self) -> Result<Vec<OutputBatch>> {
        let (plan, mut collected) = (&self.plan, Vec::new());
        for (id, merging) in &mut self.merging {
            let mut output = MergedOutput::default();
            self.digests.insert(*id, merging.seal(plan, &mut output)?);
            collected.push(output);
        }
        let batches = collected.into_iter().flat_map(|output| {
            let rows = output.windows.into_iter().filter_map(|rows| self.batch_rows(Some(rows)));
            rows.chain(self.batch_stages(output.stages)).collect::<Vec<_>>()
        });
        Ok(batches.collect())
    }
}

fn not_told() -> Error {
    Error::new(ErrorKind::Internal, "nobody said where partials are handed over to (hand_over)")
}
