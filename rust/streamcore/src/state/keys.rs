//! The keys of a state table by slot.
//!
//! A key of a few bytes, as most are, is one aligned record of 16, so that a look at it fetches one line of memory; of a
//! longer one the record says where it lies. Invariant: long keys lie in the order of their slots.

use super::chunks::{CHUNK, Chunks};
use smallvec::SmallVec;

/// Bytes of a key that are kept in its record.
pub const SHORT_MAX: usize = 15;

/// What the last byte of a record is where the key lies elsewhere; else it is the key's length.
const LONG: u8 = u8::MAX;

/// A key, or where it begins in the bytes of its chunk, and its length.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Record([u8; 16]);

impl Record {
    fn short(key: &[u8]) -> Self {
        let mut record = [0; 16];
        record[..key.len()].copy_from_slice(key);
        record[SHORT_MAX] = key.len() as u8;
        Self(record)
    }

    fn long(start: usize, len: usize) -> Self {
        let mut record = [0; 16];
        record[..4].copy_from_slice(&(start as u32).to_le_bytes());
        record[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        record[SHORT_MAX] = LONG;
        Self(record)
    }

    /// Length of the key.
    fn len(&self) -> usize {
        let [.., len] = self.0;
        if len == LONG { self.number(4) } else { usize::from(len) }
    }

    /// Where a long key begins.
    fn start(&self) -> Option<usize> {
        (self.0[SHORT_MAX] == LONG).then(|| self.number(0))
    }

    fn number(&self, at: usize) -> usize {
        let bytes = [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
        u32::from_le_bytes(bytes) as usize
    }
}

/// Keys by slot.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    records: Chunks<Record>,
    /// The long keys of each chunk of records, one behind the other; there may be fewer of them.
    long: SmallVec<[Vec<u8>; 1]>,
    /// Bytes of all keys, and of the long ones.
    bytes: usize,
    long_bytes: usize,
}

impl Keys {
    /// Number of keys.
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Key `at`.
    #[inline]
    pub fn get(&self, at: usize) -> &[u8] {
        let record = &self.records[at];
        match record.0[SHORT_MAX] {
            LONG => &self.long[at / CHUNK][record.number(0)..][..record.len()],
            len => &record.0[..usize::from(len)],
        }
    }

    /// All keys, with zeros behind, if none is longer than there is room for.
    pub fn short(&self) -> Option<impl Iterator<Item = [u8; SHORT_MAX]> + Clone> {
        let first = |record: &Record| *record.0.first_chunk().expect("as many bytes, and their number");
        (!self.any_long()).then(|| self.records.iter().map(first))
    }

    /// Whether key `at` is `key`.
    #[inline]
    pub fn is(&self, at: usize, key: &[u8]) -> bool {
        same(self.get(at), key)
    }

    /// Appends `key`, which is shorter than 64 KiB.
    #[inline]
    pub fn push(&mut self, key: &[u8]) {
        self.bytes += key.len();
        if key.len() <= SHORT_MAX {
            self.records.push(Record::short(key));
        } else {
            self.push_long(key);
        }
    }

    #[cold]
    fn push_long(&mut self, key: &[u8]) {
        let chunk = self.len() / CHUNK;
        if chunk >= self.long.len() {
            self.long.resize_with(chunk + 1, Vec::new);
        }
        let long = &mut self.long[chunk];
        self.records.push(Record::long(long.len(), key.len()));
        long.extend_from_slice(key);
        self.long_bytes += key.len();
    }

    /// Has the record of key `at` fetched.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        crate::prefetch::prefetch(&self.records[at]);
    }

    /// Whether a record does not hold its key.
    pub const fn any_long(&self) -> bool {
        self.long_bytes > 0
    }

    /// Has the first bytes of key `at` fetched, whose record is there.
    #[inline]
    pub fn prefetch_long(&self, at: usize) {
        let first = self.records[at].start().and_then(|start| self.long[at / CHUNK].get(start));
        first.into_iter().for_each(crate::prefetch::prefetch);
    }

    /// Shortens to `len` keys.
    pub fn truncate(&mut self, len: usize) {
        for at in len..self.len() {
            let record = self.records[at];
            self.bytes -= record.len();
            if let Some(start) = record.start() {
                self.long_bytes -= record.len();
                self.long[at / CHUNK].truncate(start);
            }
        }
        self.records.truncate(len);
        self.long.truncate(len.div_ceil(CHUNK));
    }

    /// Bytes of all keys.
    pub const fn key_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.records.byte_len() + self.long_bytes
    }
}

/// Equality, without a call for short texts: their beginnings and ends of a fixed length, which overlap, are compared.
#[inline]
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && match left.len() {
            1..4 => [0, left.len() / 2, left.len() - 1].iter().all(|at| left[*at] == right[*at]),
            4..8 => same_ends::<4>(left, right),
            8..=16 => same_ends::<8>(left, right),
            _ => left == right,
        }
}

#[inline]
fn same_ends<const N: usize>(left: &[u8], right: &[u8]) -> bool {
    left.first_chunk::<N>() == right.first_chunk() && left.last_chunk::<N>() == right.last_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_a_vector_across_their_seams() {
        let (mut keys, mut model): (Keys, Vec<Vec<u8>>) = Default::default();
        for round in 0..3_u32 {
            for value in 0..2 * CHUNK as u32 + 5 {
                let key = (value + round).to_le_bytes().repeat(9)[..(value % 37) as usize].to_vec();
                keys.push(&key);
                model.push(key);
            }
            for len in [4 * CHUNK, 2 * CHUNK + 1, 2 * CHUNK, 2 * CHUNK - 1, CHUNK + 7, CHUNK] {
                keys.truncate(len);
                model.truncate(len);
                assert_eq!(keys.len(), model.len());
                assert!((0..keys.len()).all(|at| keys.get(at) == model[at]));
                assert_eq!(keys.key_bytes(), model.iter().map(Vec::len).sum::<usize>());
                let long: usize = model.iter().map(Vec::len).filter(|len| *len > SHORT_MAX).sum();
                assert_eq!((keys.byte_len(), keys.any_long()), (16 * model.len() + long, long > 0));
                (0..keys.len()).for_each(|at| keys.prefetch_long(at));
            }
        }
        keys.truncate(0);
        assert_eq!((keys.len(), keys.byte_len(), keys.key_bytes(), keys.any_long()), (0, 0, 0, false));
    }
}
