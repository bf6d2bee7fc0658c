//! Memory of zeros that grows where it lies.
//!
//! A vector that grows copies itself into fresh memory, whose first touch is dearer than all that is done with what
//! lies there. `index` has its lines here, and `dedupe`: few in a vector, many at the beginning of a mapping that is longer than they
//! are, as memory that nobody touches is none. A mapping begins where a large page does, so it consists of such pages
//! where the system has them. Invariant: what was never written is zero.

use bytemuck::Pod;
use memmap2::{MmapMut, MmapOptions};

/// Bytes from which on a region is a mapping of its own.
const MAPPED_MIN: usize = 4 << 20;
/// How much longer than what is in it a mapping is, so that hardly any is ever left for another.
const AHEAD: usize = 8;
/// Bytes of a large page.
pub const LARGE_PAGE: usize = 2 << 20;

/// A list of values that only grows.
#[derive(Debug, Clone)]
pub enum Region<T> {
    Few(Vec<T>),
    Many(Mapping),
}

/// The first bytes of a mapping, from the first large page on.
#[derive(Debug)]
pub struct Mapping {
    memory: MmapMut,
    start: usize,
    len: usize,
}

impl<T> Default for Region<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T> Region<T> {
    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        match self {
            Self::Few(values) => values.capacity() * size_of::<T>(),
            Self::Many(mapping) => mapping.len.next_multiple_of(LARGE_PAGE),
        }
    }
}

impl<T: Pod> Region<T> {
    /// `len` zeros in a mapping, however few they are.
    ///
    /// # Panics
    /// When the system has no memory for them.
    pub fn mapped(len: usize) -> Self {
        Self::Many(Mapping::with(&[], len * size_of::<T>()))
    }

    /// The values.
    #[inline]
    pub fn get(&self) -> &[T] {
        match self {
            Self::Few(values) => values,
            Self::Many(mapping) => bytemuck::cast_slice(mapping.bytes()),
        }
    }

    /// The values, to be changed.
    #[inline]
    pub fn get_mut(&mut self) -> &mut [T] {
        match self {
            Self::Few(values) => values,
            Self::Many(mapping) => bytemuck::cast_slice_mut(mapping.bytes_mut()),
        }
    }

    /// Appends zeros until there are `len` values.
    ///
    /// # Panics
    /// When the system has no memory for them.
    pub fn grow(&mut self, len: usize) {
        let bytes = len * size_of::<T>();
        match self {
            Self::Few(values) if bytes < MAPPED_MIN => {
                values.reserve_exact(len - values.len());
                values.resize(len, T::zeroed());
            }
            Self::Many(mapping) if bytes <= mapping.memory.len() - mapping.start => mapping.len = bytes,
            _ => *self = Self::Many(Mapping::with(bytemuck::cast_slice(self.get()), bytes)),
        }
    }
}

impl Mapping {
    /// `first`, and zeros behind, `len` bytes in all.
    fn with(first: &[u8], len: usize) -> Self {
        let map = |len: usize| MmapOptions::new().len(len.saturating_add(LARGE_PAGE)).no_reserve_swap().map_anon();
        // Where the system counts what it only may have to give, there is room for what is needed.
        let mut memory = map(len.saturating_mul(AHEAD)).or_else(|_| map(len)).expect("memory for a table");
        #[cfg(target_os = "linux")]
        // A system without large pages has no use for the advice.
        let _ = memory.advise(memmap2::Advice::HugePage);
        let start = memory.as_ptr().align_offset(LARGE_PAGE);
        memory[start..][..first.len()].copy_from_slice(first);
        Self { memory, start, len }
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..][..self.len]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..][..self.len]
    }
}

impl Clone for Mapping {
    fn clone(&self) -> Self {
        Self::with(self.bytes(), self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_stays_and_what_is_new_is_zero() {
        let (mut region, mut model) = (Region::default(), Vec::new());
        // Within a vector, to a mapping, within it, and to a longer one.
        for len in [3, 1_000, MAPPED_MIN / 8 - 1, MAPPED_MIN / 8, MAPPED_MIN / 2, MAPPED_MIN, 3 * MAPPED_MIN] {
            let old = model.len();
            region.grow(len);
            model.resize(len, 0_u64);
            assert_eq!(region.get(), model);
            for at in (old..len).step_by(7) {
                (region.get_mut()[at], model[at]) = (at as u64, at as u64);
            }
            assert_eq!((region.get(), region.clone().get()), (&model[..], &model[..]));
            assert!((len * 8..len * 8 + LARGE_PAGE).contains(&region.byte_len()), "{} bytes", region.byte_len());
        }
        let Region::Many(mapping) = region else { panic!("a mapping") };
        assert_eq!(mapping.bytes().as_ptr().align_offset(LARGE_PAGE), 0);
    }
}
