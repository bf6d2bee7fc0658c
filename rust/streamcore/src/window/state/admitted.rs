//! Where rows are shed: which have no room, and what a lane has let in whose windows are merged elsewhere.
//!
//! `flow` asks before it counts a batch. A lane hands its windows over to the combine stage, at moments that no record
//! decides, and there meet keys of all lanes; so it remembers the keys it has let in itself, as long as its clock has
//! not passed their windows. Invariant: what is `admitted` depends on the lane's records alone.

use super::blocks::Blocks;
use super::fire::Leaving;
use super::{AlignedWindows, BucketRows};
use crate::batch::Groups;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::state::{BucketKey, Buckets, NoValue, key_hash};
use crate::window::Arrivals;
use crate::window::assign::{Aligned, Assigned, Assigner};
use crate::window::room::without_room;
use crate::window::slot_cache::SlotCache;

/// Bytes of a key in a set of keys beside its own: of the vector, its allocation and its part of the tree's nodes.
const LISTED_KEY_BYTES: u64 = 48;

/// The watermark from which on the rows of `bucket` count for no window.
fn over_at_ms(windows: &Aligned, bucket: BucketKey) -> i64 {
    windows.over_at(windows.last_window(bucket))
}

impl AlignedWindows {
    /// See [`crate::window::Windows::full`].
    pub fn full(&mut self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        let Some(room) = self.plan.room else { return Vec::new() };
        let windows = &self.windows;
        let mut assigner = Assigner::new(windows);
        let entry = |row: u32, key: &mut Vec<u8>| {
            let time_ms = arrivals.order.event_times_ms[row as usize];
            match assigner.assign(time_ms, arrivals.watermarks_ms[row as usize]) {
                Assigned::Bucket(bucket, _) => {
                    key.extend_from_slice(arrivals.key(row).0);
                    Some(bucket)
                }
                _ => None,
            }
        };
        let over_at_ms = |bucket| over_at_ms(windows, bucket);
        match &mut self.admitted {
            Some(admitted) => without_room(admitted, &room, arrivals, over_at_ms, entry),
            None => without_room(&mut self.slices, &room, arrivals, over_at_ms, entry),
        }
    }

    /// See [`crate::window::Windows::usage`].
    pub fn usage(&mut self) -> Usage {
        let beside: Usage = self.changed.iter_mut().chain(&mut self.admitted).map(Buckets::usage).sum();
        let blocks = self.blocks.as_ref().map_or(0, Blocks::byte_len);
        let leaving = self.leaving.as_ref().map_or(0, Leaving::byte_len);
        let slices = self.slices.usage();
        let changing: u64 = self.changing.iter().flatten().map(|(_, keys)| keys.len() as u64).sum();
        let changing = changing * (LISTED_KEY_BYTES + slices.key_bytes / slices.entries.max(1));
        slices + (beside + self.revisions.usage()).beside() + Usage::bytes(blocks + leaving + changing as usize)
    }

    /// Notes the keys of rows that were let in.
    pub(super) fn note_admitted(&mut self, groups: &Groups, buckets: &[BucketRows]) {
        let Some(admitted) = &mut self.admitted else { return };
        let mut slots = SlotCache::new(groups);
        for (bucket, rows) in buckets {
            slots.slots(admitted.bucket(*bucket), rows);
        }
    }

    /// Forgets the keys whose windows are over at the lane's watermark.
    pub fn forget_admitted(&mut self, watermark_ms: i64) {
        let Some(admitted) = &mut self.admitted else { return };
        let buckets = admitted.iter().map(|(bucket, _)| bucket).take_while(|bucket| bucket.time <= watermark_ms);
        let over: Vec<BucketKey> =
            buckets.filter(|bucket| over_at_ms(&self.windows, *bucket) <= watermark_ms).collect();
        over.into_iter().for_each(|bucket| admitted.drop_bucket(bucket));
    }

    /// Digest of the keys let in.
    pub fn seal_admitted(&mut self) -> u64 {
        self.admitted.as_mut().map_or(0, Buckets::seal)
    }

    /// Keeps the keys let in since the last commit.
    pub fn commit_admitted(&mut self) {
        self.admitted.iter_mut().for_each(|admitted| {
            admitted.commit();
        });
    }

    /// Appends the keys let in, where they are remembered: the bounds of a run are its own, so the next may not ask.
    pub fn save_admitted(&self, saving: &mut Saving) {
        saving.out.put_u8(u8::from(self.admitted.is_some()));
        self.admitted.iter().for_each(|admitted| admitted.save(saving));
    }

    /// Reads what `save_admitted` wrote; tells whether keys are to be remembered and none were.
    pub fn load_admitted(&mut self, saved: &mut Loading<'_>) -> Result<bool> {
        if saved.newest(Reader::u8)? == 0 {
            return Ok(self.admitted.is_some());
        }
        let mut admitted = Buckets::new(NoValue);
        admitted.load(saved)?;
        let keys = admitted.iter().flat_map(|(_, table)| (0..table.len() as u32).map(|slot| table.key(slot)));
        if !keys.into_iter().all(|key| self.plan.key.is_valid(key)) {
            return Err(Error::state("saved windows hold a key of other columns; the state is of another pipeline"));
        }
        if self.admitted.is_some() {
            self.admitted = Some(admitted);
        }
        Ok(false)
    }

    /// Takes all keys of `merged`, where lanes meet, as let in: which of them this lane let in was not remembered.
    pub fn admit_all(&mut self, merged: &Self) {
        let Some(admitted) = &mut self.admitted else { return };
        for (bucket, table) in merged.slices.iter() {
            let known = admitted.bucket(bucket);
            for key in (0..table.len() as u32).map(|slot| table.key(slot)) {
                known.slot_for_update(key_hash(key), key);
            }
        }
        admitted.seal();
        admitted.commit();
    }
}
