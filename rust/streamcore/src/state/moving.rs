//! Moving the rows of tables to those of other lanes, and what rows come to wherever they lie.
//!
//! `pipeline/rescaled.rs` does it when an input has another number of partitions. Invariant: what is added up while rows
//! move is told by the rows that are moved, not by their copies; the tables that they have moved to have to come to it.

#[cfg(test)]
mod tests;

use super::{BucketKey, Buckets, Slots, StateTable, key_hash};
use crate::codec::Reader;
use crate::error::Result;
use std::ops::AddAssign;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Gives the new lane, from 0, of the old one and a key that it holds.
pub type Route<'r> = dyn FnMut(usize, &[u8]) -> Result<usize> + 'r;

/// The same where there are several windows: it is given the number of the window, or of the stage, first.
pub type RouteOf<'r> = dyn FnMut(usize, usize, &[u8]) -> Result<usize> + 'r;

/// How many rows there are, and what they come to, in whichever lanes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Rows.
    pub rows: u64,
    /// Sum of their digests.
    pub digest: u64,
    /// Rows that became one with another of their key: of another lane, or of the same one where what told them apart has
    /// left. Only where rows move.
    pub merged: u64,
    /// Rows that count for fewer windows than before, as the others have left, and so have another digest. Only where rows move.
    pub cut: u64,
}

impl AddAssign for Contents {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.digest = self.digest.wrapping_add(other.digest);
        self.merged += other.merged;
        self.cut += other.cut;
    }
}

impl Contents {
    /// Counts a row that came where none was, or where one with the digest `before` was.
    pub fn arrived(&mut self, before: Option<u64>, digest: u64) {
        self.digest = self.digest.wrapping_sub(before.unwrap_or_default()).wrapping_add(digest);
        self.rows += u64::from(before.is_none());
        self.merged += u64::from(before.is_some());
    }
}

/// What a bucket adds to the digests of its rows; `table` tells the tables of a step apart.
fn place_of(bucket: BucketKey, table: u64) -> u64 {
    xxh3_64_with_seed(&bucket.time.to_le_bytes(), bucket.since as u64).wrapping_add(table)
}

impl<S: Slots> StateTable<S> {
    fn content(&self, slot: u32, place: u64) -> u64 {
        let row = xxh3_64_with_seed(&self.slots.content(slot).to_le_bytes(), xxh3_64(self.key(slot)));
        xxh3_64_with_seed(&row.to_le_bytes(), place)
    }

    /// Slots that are not vacant.
    pub(crate) fn filled(&self) -> impl Iterator<Item = u32> {
        (0..self.len() as u32).filter(|slot| !self.slots.is_vacant(*slot))
    }
}

impl<S: Slots + Clone> Buckets<S> {
    /// What all rows come to. `table` is a number for these tables.
    #[must_use]
    pub fn contents(&self, table: u64) -> Contents {
        let mut contents = Contents::default();
        for (bucket, rows) in &self.live {
            let place = place_of(*bucket, table);
            rows.filled().for_each(|slot| contents.arrived(None, rows.content(slot, place)));
        }
        contents
    }

    /// What the row in `slot` of `rows` would come to in `bucket` of these tables.
    #[must_use]
    pub fn content_in(bucket: BucketKey, rows: &StateTable<S>, slot: u32, table: u64) -> u64 {
        rows.content(slot, place_of(bucket, table))
    }

    /// What the row of `key` in `bucket` comes to, if there is one.
    #[must_use]
    pub fn content_of(&self, bucket: BucketKey, key: &[u8], table: u64) -> Option<u64> {
        let rows = self.live.get(&bucket)?;
        let slot = rows.find(key_hash(key), key).filter(|slot| !rows.slots.is_vacant(*slot))?;
        Some(rows.content(slot, place_of(bucket, table)))
    }

    /// Puts a copy of the row in `slot` of `from` into `bucket`; where its key is there already, `merge` makes one of the two.
    ///
    /// A copy is counted as what it was made of; what two come to by `merge` only the table can tell.
    pub fn take_row(
        &mut self,
        bucket: BucketKey,
        (from, slot): (&StateTable<S>, u32),
        merge: impl FnOnce(&mut S, u32, &S, u32),
        (table, contents): (u64, &mut Contents),
    ) -> Result<()> {
        let (key, place) = (from.key(slot), place_of(bucket, table));
        let rows = self.bucket(bucket);
        let (mine, is_new) = rows.slot_for_update(key_hash(key), key);
        let before = (!is_new).then(|| rows.content(mine, place));
        let digest = if is_new {
            let mut value = Vec::new();
            from.slots.encode(slot, &mut value);
            rows.slots.decode(mine, &mut Reader::new(&value))?;
            from.content(slot, place)
        } else {
            merge(&mut rows.slots, mine, &from.slots, slot);
            rows.content(mine, place)
        };
        contents.arrived(before, digest);
        Ok(())
    }

    /// Takes the rows as they are for committed.
    pub fn settle(&mut self) {
        self.seal();
        self.commit();
    }
}
