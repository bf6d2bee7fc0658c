//! Values by slot in pieces of memory that never move.
//!
//! A vector that grows copies itself into fresh memory again and again, and the first touch of a page is dearer than all
//! that is done with what lies in it. `state` and its values grow by a chunk instead. Invariant: every chunk but the last is
//! full.

use crate::batch::Bytes;
use smallvec::SmallVec;

/// Values of a chunk.
const CHUNK: usize = 1 << 15;

/// A list of values.
#[derive(Debug, Clone)]
pub struct Chunks<T> {
    chunks: SmallVec<[Vec<T>; 1]>,
    len: usize,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: SmallVec::new(), len: 0 }
    }
}

impl<T> Chunks<T> {
    /// Number of values.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Value `at`, if there is one.
    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    /// Value `at`, to be changed.
    #[inline]
    pub fn get_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at / CHUNK][at % CHUNK]
    }

    /// Appends `value`.
    #[inline]
    pub fn push(&mut self, value: T) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(new_chunk(self.len));
        }
        self.len += 1;
        let last = self.chunks.last_mut();
        last.expect("there is a chunk that is not full").push(value);
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            truncate(&mut self.chunks, len, Vec::truncate);
            self.len = len;
        }
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Bytes of the values.
    pub const fn byte_len(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T> std::ops::Index<usize> for Chunks<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.chunks[at / CHUNK][at % CHUNK]
    }
}

/// A chunk behind `len` values. The first grows as it must: most tables are small.
#[cold]
fn new_chunk<T>(len: usize) -> Vec<T> {
    Vec::with_capacity(if len == 0 { 0 } else { CHUNK })
}

/// Shortens `chunks` to `len` values, of which there are more; `shorten` does it to the last chunk.
fn truncate<C>(chunks: &mut SmallVec<[C; 1]>, len: usize, shorten: impl FnOnce(&mut C, usize)) {
    chunks.truncate(len.div_ceil(CHUNK));
    if let (Some(last), true) = (chunks.last_mut(), !len.is_multiple_of(CHUNK)) {
        shorten(last, len % CHUNK);
    }
}

/// Keys by slot, [`CHUNK`] to a piece.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    chunks: SmallVec<[Bytes; 1]>,
    len: usize,
    /// Bytes of all keys.
    bytes: usize,
}

impl Keys {
    /// Number of keys.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Key `at`.
    #[inline]
    pub fn get(&self, at: usize) -> &[u8] {
        self.chunks[at / CHUNK].get(at % CHUNK)
    }

    /// Appends `key`.
    #[inline]
    pub fn push(&mut self, key: &[u8]) {
        if self.len.is_multiple_of(CHUNK) {
            self.chunks.push(Bytes::default());
        }
        self.len += 1;
        self.bytes += key.len();
        self.chunks.last_mut().expect("there is a chunk that is not full").push(key);
    }

    /// Has what [`get`](Self::get) reads first of key `at` fetched, and next what [`prefetch`](Self::prefetch) reads.
    #[inline]
    pub fn prefetch_bounds(&self, at: usize) {
        self.chunks[at / CHUNK].prefetch_bounds(at % CHUNK);
    }

    /// Has the first bytes of key `at` fetched.
    #[inline]
    pub fn prefetch(&self, at: usize) {
        self.chunks[at / CHUNK].prefetch(at % CHUNK);
    }

    /// Shortens to `len` keys.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            truncate(&mut self.chunks, len, Bytes::truncate);
            self.len = len;
            self.bytes = self.chunks.iter().map(|chunk| chunk.data().len()).sum();
        }
    }

    /// Bytes of all keys.
    pub const fn key_bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.bytes + size_of::<u32>() * self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_keys_are_as_a_vector_across_their_seams() {
        let (mut chunks, mut keys, mut model) = (Chunks::default(), Keys::default(), Vec::new());
        for round in 0..3 {
            for value in 0..2 * CHUNK as u32 + 5 {
                chunks.push(value + round);
                keys.push(&(value + round).to_le_bytes()[..(value % 5) as usize]);
                model.push(value + round);
            }
            for len in [4 * CHUNK, 2 * CHUNK + 1, 2 * CHUNK, 2 * CHUNK - 1, CHUNK + 7, CHUNK] {
                chunks.truncate(len);
                keys.truncate(len);
                model.truncate(len);
                assert!(chunks.iter().eq(&model) && chunks.len() == model.len() && chunks.get(model.len()).is_none());
                let whole = |value: &u32| value.to_le_bytes();
                assert_eq!(keys.len(), model.len());
                assert!(
                    (0..keys.len()).all(|at| whole(&model[at]).starts_with(keys.get(at)) && chunks[at] == model[at])
                );
                assert_eq!(keys.key_bytes(), (0..keys.len()).map(|at| keys.get(at).len()).sum::<usize>());
            }
        }
        *chunks.get_mut(CHUNK - 1) += 7;
        model[CHUNK - 1] += 7;
        assert!(chunks.iter().eq(&model));
        chunks.truncate(0);
        keys.truncate(0);
        assert_eq!((chunks.iter().count(), keys.len(), keys.byte_len(), chunks.byte_len()), (0, 0, 0, 0));
    }
}
