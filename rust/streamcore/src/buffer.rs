//! Byte buffers that are used again.
//!
//! `raw.rs` keeps the values of a batch in one; as [`bytes::Bytes`] several batches share it. A fresh allocation of megabytes
//! costs a page fault every 4 KiB, which for a record can be as much as decoding it; a buffer that was used before has
//! its pages. Invariant: idle buffers are empty and take at most [`IDLE_BYTES_MAX`] together.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Bytes of idle buffers kept for the next batches, of the whole process.
const IDLE_BYTES_MAX: usize = 64 << 20;

/// Smaller buffers are left to the allocator, which does not give their pages back.
const POOLED_BYTES_MIN: usize = 64 << 10;

/// A buffer is used again only where at least this part of it is asked for: one in four bytes.
const WASTE_MAX: usize = 4;

/// The same for one that grows: nobody knows yet how far.
const GROWING_WASTE_MAX: usize = 64;

/// Idle buffers, the one used last at the back.
#[derive(Debug)]
struct Idle(VecDeque<Vec<u8>>);

static IDLE: Mutex<Idle> = Mutex::new(Idle(VecDeque::new()));

impl Idle {
    /// A buffer of at least `capacity` bytes and at most `waste` times as many.
    fn take(&mut self, capacity: usize, waste: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| (capacity..=capacity.saturating_mul(waste)).contains(&buffer.capacity());
        let place = self.0.iter().rposition(fits)?;
        self.0.remove(place)
    }

    /// Keeps `buffer`; gives those that it takes the place of.
    fn keep(&mut self, mut buffer: Vec<u8>) -> Vec<Vec<u8>> {
        buffer.clear();
        self.0.push_back(buffer);
        let mut gone = Vec::new();
        let mut held: usize = self.0.iter().map(Vec::capacity).sum();
        while held > IDLE_BYTES_MAX {
            let Some(oldest) = self.0.pop_front() else { break };
            held -= oldest.capacity();
            gone.push(oldest);
        }
        gone
    }
}

/// A `Vec<u8>` whose memory goes to a later buffer when it is dropped.
#[derive(Debug, Clone, Default)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer with room for at least `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(used(capacity, WASTE_MAX).unwrap_or_else(|| Vec::with_capacity(capacity)))
    }

    /// Adds bytes; where there is no room, they move to a larger buffer that was used before, or a new one.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if self.0.capacity() - self.0.len() < bytes.len() {
            self.grow(bytes.len());
        }
        self.0.extend_from_slice(bytes);
    }

    /// Makes room for at least `additional` bytes more, as [`push_bytes`](Self::push_bytes) does.
    pub fn make_room(&mut self, additional: usize) {
        if self.0.capacity() - self.0.len() < additional {
            self.grow(additional);
            self.0.reserve(additional);
        }
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        let capacity = (self.0.len() + additional).max(self.0.capacity() * 2);
        if let Some(mut larger) = used(capacity, GROWING_WASTE_MAX) {
            larger.extend_from_slice(&self.0);
            drop(Self(std::mem::replace(&mut self.0, larger)));
        }
    }
}

/// An idle buffer, if one fits.
fn used(capacity: usize, waste: usize) -> Option<Vec<u8>> {
    if capacity < POOLED_BYTES_MIN {
        return None;
    }
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).take(capacity, waste)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() >= POOLED_BYTES_MIN {
            let gone = IDLE.lock().unwrap_or_else(PoisonError::into_inner).keep(std::mem::take(&mut self.0));
            // Their pages go back to the system only now that nobody waits for the lock.
            drop(gone);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

/// Bytes that several may hold: the last one that is dropped gives the buffer back.
impl From<Buffer> for bytes::Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(capacity: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.extend_from_slice(b"left over");
        buffer
    }

    #[test]
    fn a_buffer_of_about_the_size_is_used_again_empty() {
        let mut idle = Idle(VecDeque::new());
        assert!(idle.keep(buffer(1 << 20)).is_empty());
        assert_eq!(idle.take((1 << 20) + 1, 4), None);
        assert_eq!(idle.take(100_000, 4), None, "most of it would lie idle");
        assert_eq!(idle.take(1 << 19, 4).map(|used| (used.capacity(), used.len())), Some((1 << 20, 0)));
        assert_eq!(idle.take(1 << 19, 4), None);
    }

    #[test]
    fn a_buffer_that_grows_moves_into_a_used_one() {
        let size = (3 << 20) + 1;
        drop(Buffer(buffer(size)));
        let mut growing = Buffer::with_capacity(8);
        growing.push_bytes(b"first ");
        growing.push_bytes(&vec![b'x'; POOLED_BYTES_MIN]);
        assert!(growing.starts_with(b"first xxx") && growing.len() == POOLED_BYTES_MIN + 6);
        assert_eq!(growing.capacity(), size);
    }

    #[test]
    fn shared_bytes_are_used_again_once_nobody_holds_them() {
        let size = (5 << 20) + 3;
        let bytes = bytes::Bytes::from(Buffer(buffer(size)));
        let part = bytes.slice(2..6);
        drop(bytes);
        assert_ne!(Buffer::with_capacity(size - 1).capacity(), size, "a part of it is still held");
        assert_eq!(part, &b"ft o"[..]);
        drop(part);
        assert_eq!(Buffer::with_capacity(size - 1).capacity(), size);
    }

    #[test]
    fn idle_buffers_are_bounded_and_the_oldest_goes_first() {
        let mut idle = Idle(VecDeque::new());
        let sizes = [IDLE_BYTES_MAX / 2, IDLE_BYTES_MAX / 4, IDLE_BYTES_MAX / 2];
        let gone: Vec<usize> =
            sizes.iter().flat_map(|size| idle.keep(buffer(*size))).map(|gone| gone.capacity()).collect();
        assert_eq!(gone, [IDLE_BYTES_MAX / 2]);
        assert_eq!(idle.keep(buffer(IDLE_BYTES_MAX + 1)).len(), 3, "one too large for all is not kept either");
    }
}
