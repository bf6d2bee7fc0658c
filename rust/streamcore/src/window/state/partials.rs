//! Windows on their way from a lane to where lanes meet, through a topic.
//!
//! A lane gathers an epoch's records and hands all of it over when the epoch ends. Layout of a part, table by table:
//!
//! ```text
//! i64 time  i64 since  records counted  rows  { key  value } per row
//! ```
//!
//! with numbers as varints and keys behind their length. Invariant: what is taken in is what was counted.

use super::AlignedWindows;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::partials::Parts;
use crate::state::{BucketKey, Slots, key_hash};
use std::collections::BTreeMap;

/// Bytes of a row, at least: the length of its key.
const ROW_BYTES_MIN: usize = 1;

/// Counts a record for each of `slots` of a table with `len` slots.
pub(super) fn count(counts: &mut Vec<u64>, slots: &[u32], len: usize) {
    counts.resize(len, 0);
    slots.iter().for_each(|slot| counts[*slot as usize] += 1);
}

impl AlignedWindows {
    /// The same, to be handed over epoch by epoch.
    #[must_use]
    pub fn handing_over(mut self) -> Self {
        self.slot_counts = Some(BTreeMap::new());
        self
    }

    /// The same where lanes meet, to take in what one of them handed over.
    #[must_use]
    pub fn taking_in(mut self) -> Self {
        self.admitted = None;
        self
    }

    /// Adds all windows to `parts`, by key.
    pub fn hand_over(&self, parts: &mut Parts) {
        let (mut places, none) = (Vec::new(), Vec::new());
        for (bucket, table) in self.slices.iter() {
            let counts = self.slot_counts.as_ref().and_then(|counts| counts.get(&bucket)).unwrap_or(&none);
            let (mut rows, mut events) = (vec![0_u64; parts.len()], vec![0_u64; parts.len()]);
            places.clear();
            for slot in 0..table.len() {
                let place = parts.place(table.key(slot as u32));
                places.push(place as u32);
                rows[place] += 1;
                events[place] += counts.get(slot).copied().unwrap_or_default();
            }
            for place in (0..rows.len()).filter(|place| rows[*place] > 0) {
                let part = parts.at(place);
                part.events += events[place];
                part.body.put_i64(bucket.time);
                part.body.put_i64(bucket.since);
                part.body.put_varint(events[place]);
                part.body.put_varint(rows[place]);
            }
            for (slot, place) in (0_u32..).zip(&places) {
                let body = &mut parts.at(*place as usize).body;
                body.put_bytes(table.key(slot));
                table.slots().encode(slot, body);
            }
        }
    }

    /// Whether anything is there to be handed over.
    #[must_use]
    pub fn has_rows(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Forgets what was handed over.
    pub fn clear(&mut self) {
        self.slices.take();
        self.row_counts.clear();
        self.slot_counts.iter_mut().for_each(BTreeMap::clear);
        self.next_fire_ms = None;
    }

    /// Takes in one table that a lane handed over, where there is nothing of it: the rest of `reader` begins behind it.
    /// Gives how many records it counted.
    pub fn take_in(&mut self, reader: &mut Reader<'_>) -> Result<u64> {
        let bucket = BucketKey { time: reader.i64()?, since: reader.i64()? };
        if !self.windows.has_bucket(bucket) || self.slices.get(bucket).is_some() {
            return Err(Error::state("it holds windows that there are not, or some twice"));
        }
        let events = reader.varint()?;
        let rows = reader.count(ROW_BYTES_MIN)?;
        self.note_open(bucket);
        self.row_counts.insert(bucket, events);
        let table = self.slices.bucket(bucket);
        for _ in 0..rows {
            let key = reader.bytes()?;
            let hash = key_hash(key);
            if !self.plan.key.is_valid(key) || table.find(hash, key).is_some() {
                return Err(Error::state("it holds a key of other columns, or one twice"));
            }
            let slot = table.insert_new(hash, key);
            table.slots_mut().decode(slot, reader)?;
        }
        Ok(events)
    }
}
