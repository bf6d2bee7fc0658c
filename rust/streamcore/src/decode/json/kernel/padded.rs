//! A record with bytes behind it, so that wide reads near its end stay within memory.
#![allow(unsafe_code, reason = "one comparison instead of three for each wide read")]
#![allow(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]

use crate::raw::PADDING;

/// Bytes of a read, of which a kernel uses its width.
pub type Chunk = [u8; PADDING];

/// The first `len` of `bytes` are a record; at least [`PADDING`] more follow.
#[derive(Debug, Clone, Copy)]
pub struct Padded<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Padded<'a> {
    /// `None` when fewer than [`PADDING`] bytes follow the record.
    #[must_use]
    #[inline]
    pub fn new(bytes: &'a [u8], len: usize) -> Option<Self> {
        let enough = bytes.len().checked_sub(PADDING).is_some_and(|room| room >= len);
        enough.then_some(Self { bytes, len })
    }

    /// The record alone.
    #[must_use]
    #[inline]
    pub fn record(self) -> &'a [u8] {
        &self.bytes[..self.len]
    }

    /// Length of the record.
    #[expect(clippy::len_without_is_empty, reason = "an empty record is no special case")]
    #[must_use]
    #[inline(always)]
    pub fn len(self) -> usize {
        self.len
    }

    /// The bytes from `at` on, within the record or right behind it; `None` further behind.
    #[must_use]
    #[inline(always)]
    pub fn chunk(self, at: usize) -> Option<&'a Chunk> {
        if at > self.len {
            return None;
        }
        // SAFETY: `new` saw to it that PADDING bytes follow the record, so they follow `at` as well.
        Some(unsafe { &*self.bytes.as_ptr().add(at).cast() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_end_with_the_padding() {
        let bytes: Vec<u8> = (0..=100).collect();
        assert!(Padded::new(&bytes, 38).is_none());
        assert!(Padded::new(&bytes[..10], 0).is_none());
        let padded = Padded::new(&bytes, 37).expect("64 bytes follow");
        assert_eq!(padded.record(), &bytes[..37]);
        assert_eq!(padded.chunk(37).expect("right behind")[..], bytes[37..]);
        assert_eq!(padded.chunk(0).expect("within")[..], bytes[..64]);
        assert!(padded.chunk(38).is_none());
    }
}
