//! The logs of a pipeline's lanes: what a commit writes, and what a recovery reads.
//!
//! Where state is kept as a log, whoever commits asks for the records of the sealed epoch and hands over those of a lane
//! that it takes. Invariant: a lane that was recovered has the digest that its manifest says.

use super::meeting::{Meeting, saved_together};
use super::work::share;
use super::{COMBINE_LANE, Pipeline};
use crate::checkpoint::block::Owner;
use crate::checkpoint::log::{LaneLog, Record, Sealed};
use crate::checkpoint::manifest::{Facts, Manifest, counts, hex};
use crate::checkpoint::recovery::Recovery;
use crate::combine::Combine;
use crate::error::{Error, Result};
use crate::merging::MergedOutput;
use crate::metrics::Ledger;
use crate::saving::Saving;
use crate::stage::StageOutput;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

impl Pipeline {
    /// Whose blocks those of lane `id` are.
    #[must_use]
    pub fn log_owner(&self, id: i32) -> Owner {
        Owner { fingerprint: self.plan.fingerprint, lane: id }
    }

    /// The records of the epoch that [`seal`](Self::seal) ended, by lane. `facts` names the lanes that moved, with what there
    /// is to say of each.
    pub fn seal_logs(&mut self, facts: &BTreeMap<i32, Facts>) -> Vec<(i32, Vec<Record>)> {
        let lanes: Vec<i32> = self.saved_lanes().into_iter().filter(|id| facts.contains_key(id)).collect();
        self.written.get_or_insert_default().extend(&lanes);
        let take = |id: i32| (id, self.logs.remove(&id).unwrap_or_else(|| LaneLog::new(self.log_owner(id))));
        let logs: Vec<_> = lanes.into_iter().map(take).map(Mutex::new).collect();
        let records = share(&logs, self.threads, |log| {
            let (id, log) = &mut *log.lock().unwrap_or_else(PoisonError::into_inner);
            let mut spare = self.spares.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            let save = |extent, memory| self.save_lane(*id, Saving::reusing(memory, extent));
            let records = log.seal(self.sealed_lane(*id), facts[id].clone(), &mut spare, save);
            self.spares.lock().unwrap_or_else(PoisonError::into_inner).push(spare);
            (*id, records)
        });
        self.logs.extend(logs.into_iter().map(|log| log.into_inner().unwrap_or_else(PoisonError::into_inner)));
        records
    }

    /// Records that write the state of lane `id`, which was restored or recovered, whole: an epoch behind all that `before`
    /// has. What of it cannot be read is deleted; the rest is, in time, by whoever goes on with the lane.
    pub fn rewrite_lane(&mut self, id: i32, before: &Recovery, facts: Facts) -> Result<Vec<Record>> {
        if !self.digests.contains_key(&id) {
            let digest = self.digest_of(id)?;
            self.digests.insert(id, digest);
        }
        let (sealed, owner) = (self.sealed_lane(id), self.log_owner(id));
        let mut log = LaneLog::behind(owner, before.last_epoch());
        let mut records: Vec<Record> = before.unusable().into_iter().map(|key| (key, None)).collect();
        let written =
            log.seal_whole(sealed, facts, |extent, memory| self.save_lane(id, Saving::reusing(memory, extent)));
        let is_written = |key: &[u8]| written.iter().any(|(other, _)| other == key);
        records.retain(|(key, _)| !is_written(key));
        records.extend(written);
        Ok(records)
    }

    /// What there is to tell of a lane that is sealed: digest and watermark, ms.
    #[must_use]
    pub fn sealed_facts(&self, id: i32) -> (u64, i64) {
        let sealed = self.sealed_lane(id);
        (sealed.digest, sealed.watermark_ms)
    }

    /// Takes the state of a lane from its records, assigning it; gives its manifest, or `None` where there is no state. When
    /// all lanes are taken, [`restored`](Self::restored) is to be told.
    pub fn recover_lane(&mut self, records: &Recovery, id: i32, repair: bool) -> Result<Option<Manifest>> {
        let Some(recovered) = records.newest(repair)? else { return Ok(None) };
        let loading = recovered.loading()?;
        let digest = self.beside_changes(|pipeline| {
            pipeline.restore_lane(id, loading)?;
            pipeline.digest_of(id)
        })?;
        self.digests.insert(id, digest);
        let (found, said) = (hex(digest), &recovered.manifest.digest);
        if found != *said {
            return Err(Error::state(format!(
                "the state of lane {id} cannot be used: it was put together to the digest {found}, and the manifest of \
                 epoch {} says {said}",
                recovered.manifest.epoch
            )));
        }
        let log = LaneLog::recovered(self.log_owner(id), &recovered.manifest, recovered.stray);
        self.logs.insert(id, log);
        Ok(Some(recovered.manifest))
    }

    /// What there is to say of a lane that is sealed.
    fn sealed_lane(&self, id: i32) -> Sealed {
        let digest = self.digests.get(&id).copied().unwrap_or_default();
        match self.lanes.get(&id) {
            Some(lane) if !self.plan.apart => {
                Sealed { digest, watermark_ms: lane.clock.watermark_ms(), ledger: counts(&lane.ledger) }
            }
            Some(_) => {
                let mut ledger = Ledger::default();
                let lanes = saved_together(&self.plan, id).into_iter().filter_map(|lane| self.lanes.get(&lane));
                lanes.for_each(|lane| ledger.add(&lane.ledger));
                let watermark_ms = self.joined_watermark_ms(id).unwrap_or(i64::MIN);
                Sealed { digest, watermark_ms, ledger: counts(&ledger) }
            }
            None => match self.merging.get(&id) {
                Some(merging) => {
                    let ledger = merging.counts().entries().map(|(name, count)| (name.to_owned(), count)).into();
                    Sealed { digest, watermark_ms: merging.watermark_ms(), ledger }
                }
                None => Sealed { digest, watermark_ms: self.meeting_ms(), ledger: BTreeMap::new() },
            },
        }
    }

    /// Digest of the state of a lane that has just been loaded: no row leaves, as nothing changed.
    fn digest_of(&mut self, id: i32) -> Result<u64> {
        let (mut rows, mut output) = (self.plan.result_rows(), StageOutput::default());
        if let Some(merging) = self.merging.get_mut(&id) {
            return merging.seal(&self.plan, &mut MergedOutput::default());
        }
        self.seal_lane(id, &mut rows, &mut output)
    }

    fn meeting_ms(&self) -> i64 {
        let combined = self.combine.as_ref().map(Combine::watermark_ms);
        combined.or_else(|| self.meetings.get(&COMBINE_LANE).map(Meeting::clock_ms)).unwrap_or(i64::MIN)
    }
}
