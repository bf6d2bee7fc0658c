//! Byte buffers that are used again.
//!
//! `raw.rs` keeps the values of a batch in one; as [`bytes::Bytes`] several batches share it. A fresh allocation of megabytes
//! costs a page fault every 4 KiB, which for a record can be as much as decoding it; a buffer that was used before has
//! its pages, and bytes to write over that need not be zeroed. Invariant: idle buffers take at most [`IDLE_BYTES_MAX`] together;
//! what was in one is never seen as part of another.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
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

/// Bytes that are read at once where they have to be zeroed for that: no more memory is touched than comes.
const STEP_BYTES: usize = 256 << 10;

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
    fn keep(&mut self, buffer: Vec<u8>) -> Vec<Vec<u8>> {
        if buffer.capacity() > IDLE_BYTES_MAX {
            return vec![buffer];
        }
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

/// Bytes like those of a `Vec<u8>`, whose memory goes to a later buffer when it is dropped.
#[derive(Default)]
pub struct Buffer {
    /// The bytes, and behind them whatever was written there before.
    bytes: Vec<u8>,
    /// How many of them count.
    len: usize,
}

impl Buffer {
    /// An empty buffer with room for at least `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let bytes = used(capacity, WASTE_MAX).unwrap_or_else(|| Vec::with_capacity(capacity));
        Self { bytes, len: 0 }
    }

    /// Bytes that it may have without more memory.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds bytes; where there is no room, they move to a larger buffer that was used before, or a new one.
    #[inline]
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(over) = self.bytes.get_mut(self.len..end) {
            over.copy_from_slice(bytes);
        } else {
            self.push_behind(bytes);
        }
        self.len = end;
    }

    /// The same where nothing was written before.
    #[inline]
    fn push_behind(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        if let Some(over) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            over.copy_from_slice(bytes);
        } else {
            self.bytes.truncate(self.len);
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Makes room for at least `additional` bytes more, as [`push_bytes`](Self::push_bytes) does.
    #[inline]
    pub fn make_room(&mut self, additional: usize) {
        if self.bytes.capacity() - self.len < additional {
            self.grow(additional);
        }
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        let capacity = (self.len + additional).max(self.bytes.capacity() * 2);
        if let Some(mut larger) = used(capacity, GROWING_WASTE_MAX) {
            if let Some(over) = larger.get_mut(..self.len) {
                over.copy_from_slice(self);
            } else {
                larger.clear();
                larger.extend_from_slice(self);
            }
            drop(Self { bytes: std::mem::replace(&mut self.bytes, larger), len: 0 });
        } else {
            self.bytes.truncate(self.len);
            self.bytes.reserve(additional);
        }
    }

    /// The bytes, and `additional` more to write over, whatever they are; those that are written count once
    /// [`advance`](Self::advance) says so.
    pub fn room(&mut self, additional: usize) -> (&mut [u8], &mut [u8]) {
        self.make_room(additional);
        let end = self.len + additional;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[..end].split_at_mut(self.len)
    }

    /// As many bytes more as [`room`](Self::room) gave at most.
    ///
    /// # Panics
    /// There are not so many.
    pub fn advance(&mut self, additional: usize) {
        assert!(additional <= self.bytes.len() - self.len, "bytes that were never written");
        self.len += additional;
    }

    /// How many bytes `room` gives without zeroing any.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Shortens to the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// The bytes behind the first `at`, which are not here any more.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Vec<u8> {
        let behind = self[at.min(self.len)..].to_vec();
        self.truncate(at);
        behind
    }

    /// Adds what `reader` gives, up to `len` bytes; says how many that were, fewer at its end alone.
    ///
    /// # Errors
    /// Those of the reader; what came before is here.
    pub fn read_from(&mut self, reader: &mut impl Read, len: usize) -> io::Result<usize> {
        let mut read = 0;
        while read < len {
            // As many as need not be zeroed, or some more.
            let step = (len - read).min(self.written().max(STEP_BYTES));
            match reader.read(self.room(step).1) {
                Ok(0) => break,
                Ok(bytes) => {
                    self.advance(bytes);
                    read += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }
}

/// An idle buffer, if one fits.
fn used(capacity: usize, waste: usize) -> Option<Vec<u8>> {
    if capacity < POOLED_BYTES_MIN {
        return None;
    }
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).take(capacity, waste)
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        let mut copy = Self::with_capacity(self.len);
        copy.push_bytes(self);
        copy
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.bytes.capacity() >= POOLED_BYTES_MIN {
            let gone = IDLE.lock().unwrap_or_else(PoisonError::into_inner).keep(std::mem::take(&mut self.bytes));
            // Their pages go back to the system only now that nobody waits for the lock.
            drop(gone);
        }
    }
}

impl From<Vec<u8>> for Buffer {
    fn from(bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        Self { bytes, len }
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
        self
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
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
    fn a_buffer_of_about_the_size_is_used_again() {
        let mut idle = Idle(VecDeque::new());
        assert!(idle.keep(buffer(1 << 20)).is_empty());
        assert_eq!(idle.take((1 << 20) + 1, 4), None);
        assert_eq!(idle.take(100_000, 4), None, "most of it would lie idle");
        assert_eq!(idle.take(1 << 19, 4).map(|used| (used.capacity(), used.len())), Some((1 << 20, 9)));
        assert_eq!(idle.take(1 << 19, 4), None);
    }

    #[test]
    fn a_buffer_that_grows_moves_into_a_used_one() {
        let size = (3 << 20) + 1;
        drop(Buffer::from(buffer(size)));
        let mut growing = Buffer::with_capacity(8);
        growing.push_bytes(b"first ");
        growing.push_bytes(&vec![b'x'; POOLED_BYTES_MIN]);
        assert!(growing.starts_with(b"first xxx") && growing.len() == POOLED_BYTES_MIN + 6);
        assert_eq!(growing.capacity(), size);
    }

    #[test]
    fn what_was_in_a_buffer_before_is_written_over_and_never_seen() {
        let size = (7 << 20) + 5;
        drop(Buffer::from(buffer(size)));
        let mut used = Buffer::with_capacity(size - 1);
        assert_eq!((&used[..], used.written(), used.capacity()), (&b""[..], 9, size));
        used.push_bytes(b"new");
        assert_eq!((&used[..], used.written()), (&b"new"[..], 6));
        let (before, room) = used.room(8);
        assert_eq!((&before[..], &room[..]), (&b"new"[..], &b"t over\0\0"[..]), "some of it had to be made");
        room[..2].copy_from_slice(b"er");
        used.advance(2);
        assert_eq!(used[..], b"newer"[..]);
        used.truncate(3);
        used.push_bytes(&[b'x'; 20]);
        assert_eq!((used.len(), &used[..4], used.written()), (23, &b"newx"[..], 0));
        assert_eq!((used.split_off(21), used.len()), (b"xx".to_vec(), 21));
        used.make_room(2 * size);
        assert_eq!((used.len(), &used[..4]), (21, &b"newx"[..]));
        let (copy, shown) = (used.clone(), format!("{used:?}"));
        assert_eq!((&copy[..], shown), (&used[..], format!("{:?}", &used[..])), "no more than counts");
    }

    #[test]
    #[should_panic(expected = "never written")]
    fn what_was_never_written_does_not_count() {
        Buffer::with_capacity(10).advance(1);
    }

    #[test]
    fn a_reader_is_read_as_far_as_wanted_and_no_further() {
        /// Gives a byte less each time, and is interrupted now and then.
        struct Dripping(usize);
        impl Read for Dripping {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                self.0 -= 1;
                match self.0 {
                    0 => Ok(0),
                    left if left % 3 == 0 => Err(io::ErrorKind::Interrupted.into()),
                    1 => Err(io::ErrorKind::TimedOut.into()),
                    left => {
                        let bytes = left.min(into.len());
                        into[..bytes].fill(b'0' + left as u8);
                        Ok(bytes)
                    }
                }
            }
        }
        let mut buffer = Buffer::from(b"<".to_vec());
        assert_eq!(buffer.read_from(&mut Dripping(9), 17).map_err(|error| error.kind()), Ok(17));
        assert_eq!(buffer[..], b"<88888888777777755"[..]);
        let failed = buffer.read_from(&mut Dripping(5), 100).map_err(|error| error.kind());
        assert_eq!((failed, &buffer[18..]), (Err(io::ErrorKind::TimedOut), &b"444422"[..]));
        assert_eq!(buffer.read_from(&mut &b"end"[..], 100).map_err(|error| error.kind()), Ok(3));
        assert!(buffer.ends_with(b"end"));
    }

    #[test]
    fn shared_bytes_are_used_again_once_nobody_holds_them() {
        let size = (5 << 20) + 3;
        let bytes = bytes::Bytes::from(Buffer::from(buffer(size)));
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
        assert_eq!(idle.keep(buffer(IDLE_BYTES_MAX + 1)).len(), 1, "one too large for all is not kept");
    }
}
