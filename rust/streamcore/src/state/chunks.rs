//! Values by slot in pieces of memory that never move.
//!
//! A vector that grows copies itself into fresh memory again and again, and the first touch of a page is dearer than all
//! that is done with what lies in it. `state` and its values grow by a chunk instead. Invariant: the values fill one
//! chunk after the other; behind those in use are only empty ones.

use smallvec::SmallVec;

/// Values of a chunk.
pub const CHUNK: usize = 1 << 17;

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
        let chunk = self.len / CHUNK;
        if chunk == self.chunks.len() {
            self.chunks.push(new_chunk(self.len));
        }
        self.len += 1;
        self.chunks[chunk].push(value);
    }

    /// Shortens to `len` values.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            self.chunks.truncate(len.div_ceil(CHUNK));
            if let (Some(last), true) = (self.chunks.last_mut(), !len.is_multiple_of(CHUNK)) {
                last.truncate(len % CHUNK);
            }
            self.len = len;
        }
    }

    /// Takes all values out and keeps the memory that they took, for as many again. What a longer list took goes.
    pub fn clear(&mut self) {
        self.chunks.truncate(self.len.div_ceil(CHUNK));
        self.chunks.iter_mut().for_each(Vec::clear);
        if let [first] = &mut self.chunks[..]
            && first.capacity() > 2 * self.len
        {
            *first = Vec::with_capacity(self.len);
        }
        self.len = 0;
    }

    /// The values in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_as_a_vector_across_their_seams() {
        let (mut chunks, mut model) = (Chunks::default(), Vec::new());
        for round in 0..3 {
            for value in 0..2 * CHUNK as u32 + 5 {
                chunks.push(value + round);
                model.push(value + round);
            }
            for len in [4 * CHUNK, 2 * CHUNK + 1, 2 * CHUNK, 2 * CHUNK - 1, CHUNK + 7, CHUNK] {
                chunks.truncate(len);
                model.truncate(len);
                assert!(chunks.iter().eq(&model) && chunks.len() == model.len() && chunks.get(model.len()).is_none());
                assert!((0..chunks.len()).all(|at| chunks[at] == model[at]));
            }
        }
        for (len, kept) in [(2 * CHUNK + 1, 3 * CHUNK), (CHUNK + 9, 2 * CHUNK), (CHUNK - 1, CHUNK), (8, 8), (0, 0)] {
            chunks.clear();
            (0..len as u32).for_each(|value| chunks.push(value));
            assert!(chunks.iter().copied().eq(0..len as u32) && chunks.len() == len);
            chunks.clear();
            assert_eq!((chunks.iter().count(), chunks.len(), chunks.get(0)), (0, 0, None));
            assert_eq!(chunks.chunks.iter().map(Vec::capacity).sum::<usize>(), kept);
        }
        model.iter().for_each(|value| chunks.push(*value));
        *chunks.get_mut(CHUNK - 1) += 7;
        model[CHUNK - 1] += 7;
        assert!(chunks.iter().eq(&model));
        chunks.truncate(0);
        assert_eq!((chunks.iter().count(), chunks.byte_len()), (0, 0));
    }
}
