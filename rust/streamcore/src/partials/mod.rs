//! What the lanes of one phase hand over to the next through a topic: bytes by partition, and the frames they travel in.
//!
//! `window` writes the partial windows of a lane into [`Parts`] when an epoch is sealed, `frame` is what becomes of each
//! part, and `merging` reads them. A part is one run of bytes a lane, epoch and partition, cut into frames that are put
//! together again when the marker behind them comes. Invariant: a group key is in the same partition for ever.

pub mod frame;

use crate::codec::Write;
use frame::{CHUNK_BYTES, EpochOf, Marker, Told};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Of the hash that decides a key's partition.
const SEED: u64 = 0x7061_7274_6961_6c73;

/// A record of the topic: its partition, key and value.
pub type PartialRecord = (u32, Vec<u8>, Vec<u8>);

/// What one epoch of a lane hands over, by partition.
#[derive(Debug)]
pub struct Parts {
    bodies: Vec<Part>,
}

/// What goes to one partition.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The partial windows.
    pub body: Vec<u8>,
    /// Records counted in them.
    pub events: u64,
}

impl Parts {
    /// Nothing for any of `partitions`, which is at least 1.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { bodies: vec![Part::default(); partitions.max(1) as usize] }
    }

    /// Number of partitions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bodies.len()
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bodies.is_empty()
    }

    /// The partition of a group key.
    #[must_use]
    #[inline]
    pub fn place(&self, key: &[u8]) -> usize {
        let hash = xxh3_64_with_seed(key, SEED) >> 32;
        ((hash * self.bodies.len() as u64) >> 32) as usize
    }

    /// What goes to partition `place`.
    pub fn at(&mut self, place: usize) -> &mut Part {
        &mut self.bodies[place]
    }

    /// The records of `epoch`, those of one partition after those of the one before; the last of each is its marker.
    #[must_use]
    pub fn into_records(self, epoch: &EpochOf, told: Told) -> Vec<PartialRecord> {
        let mut records = Vec::new();
        let key = format!("{}/{}", epoch.lane, epoch.number).into_bytes();
        for (partition, part) in self.bodies.into_iter().enumerate() {
            let partition = partition as u32;
            let mut frames = 0;
            for chunk in part.body.chunks(CHUNK_BYTES) {
                records.push((partition, key.clone(), frame::encode_partial(epoch, partition, chunk)));
                frames += 1;
            }
            let marker = Marker { told, frames, bytes: part.body.len() as u64, events: part.events };
            records.push((partition, key.clone(), frame::encode_marker(epoch, partition, &marker)));
        }
        records
    }
}

/// Rows on their way into parts: each is a group key and what is written of it.
#[derive(Debug, Clone, Default)]
pub struct PartialRows {
    bytes: Vec<u8>,
    /// Where each row begins, and of how many bytes its key is.
    rows: Vec<(usize, usize)>,
}

impl PartialRows {
    /// Adds a row; `write` appends what there is of `key`.
    pub fn push(&mut self, key: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.rows.push((self.bytes.len(), key.len()));
        self.bytes.extend_from_slice(key);
        write(&mut self.bytes);
    }

    /// True when there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Forgets all rows.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Bytes held.
    #[must_use]
    pub const fn byte_len(&self) -> usize {
        self.bytes.capacity() + self.rows.capacity() * size_of::<(usize, usize)>()
    }

    /// Adds the rows to their parts: the key with its length, and what was written.
    pub fn put_into(&self, parts: &mut Parts) {
        let ends = self.rows.iter().skip(1).map(|(start, _)| *start).chain([self.bytes.len()]);
        for ((start, key_len), end) in self.rows.iter().zip(ends) {
            let (key, rest) = self.bytes[*start..end].split_at(*key_len);
            let place = parts.place(key);
            let body = &mut parts.at(place).body;
            body.put_bytes(key);
            body.extend_from_slice(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_same_partition_for_ever_and_keys_are_spread() {
        let parts = Parts::new(8);
        let places = |keys: std::ops::Range<u32>| keys.map(|key| parts.place(format!("key {key}").as_bytes()));
        assert_eq!(places(0..8).collect::<Vec<_>>(), [3, 0, 1, 4, 7, 1, 4, 7]);
        let mut counts = [0; 8];
        places(0..8_000).for_each(|place| counts[place] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
        assert_eq!(Parts::new(1).place(b"any"), 0);
    }

    #[test]
    fn rows_go_to_the_parts_of_their_keys() {
        let (mut rows, mut parts) = (PartialRows::default(), Parts::new(4));
        assert!(rows.is_empty());
        for key in 0..20_u8 {
            rows.push(&[key], |out| out.push(key + 100));
        }
        rows.put_into(&mut parts);
        for key in 0..20_u8 {
            let place = parts.place(&[key]);
            let body = &parts.at(place).body;
            assert!(body.chunks(3).any(|row| row == [1, key, key + 100]), "{key}: {body:?}");
        }
        assert_eq!((0..4).map(|place| parts.at(place).body.len()).sum::<usize>(), 60);
    }
}
