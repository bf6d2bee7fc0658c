//! Where the quotes, backslashes and control characters of a block of records are: a bit a byte.
//!
//! `decode/block.rs` has a block marked once, all of it side by side; finding the end of a text is then a
//! look at a word or two. The first stage of `simdjson` does the same (Langdale and Lemire, "Parsing
//! gigabytes of JSON per second", 2019). Invariant: nothing is read beyond the block and its padding.

use super::kernel::{Bits, Chunk, Wide};
use crate::raw::PADDING;

/// Bytes of marks read at once, and kept behind the last so that it can be.
const WORD_BYTES: usize = size_of::<u64>();

/// The marks of a block; its memory is used again for the next one.
#[derive(Debug, Default)]
pub struct Marks {
    /// The quotes, eight bytes a byte, the first byte's bit the lowest.
    quotes: Vec<u8>,
    /// The backslashes.
    backslashes: Vec<u8>,
    /// Quotes, backslashes and control characters: the first of them ends a text, or what can be read of it at once.
    stops: Vec<u8>,
    /// True when every byte is ASCII, those behind the records included.
    ascii: bool,
}

impl Marks {
    /// Marks `bytes`, whose last [`PADDING`] belong to no record. A macro of a kind: it is compiled for
    /// each kernel's instruction set.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    pub fn read_with<W: Wide>(&mut self, kernel: W, bytes: &[u8]) {
        let (chunks, _) = bytes.as_chunks::<PADDING>();
        let len = (chunks.len() + 1) * WORD_BYTES;
        for marks in [&mut self.quotes, &mut self.backslashes, &mut self.stops] {
            marks.resize(len, 0);
            marks[len - WORD_BYTES..].fill(0);
        }
        let (quotes, _) = self.quotes.as_chunks_mut::<WORD_BYTES>();
        let (backslashes, _) = self.backslashes.as_chunks_mut::<WORD_BYTES>();
        let (stops, _) = self.stops.as_chunks_mut::<WORD_BYTES>();
        let mut high = [0; 2];
        for (((chunk, quotes), backslashes), stops) in chunks.iter().zip(quotes).zip(backslashes).zip(stops) {
            let classes = kernel.classify(chunk);
            put(quotes, classes.quotes);
            put(backslashes, classes.backslashes);
            put(stops, either(either(classes.quotes, classes.backslashes), classes.controls));
            high = either(high, classes.high);
        }
        self.ascii = high == [0; 2];
    }
}

#[inline]
const fn either(left: Bits, right: Bits) -> Bits {
    [left[0] | right[0], left[1] | right[1]]
}

#[inline]
fn put(marks: &mut [u8; WORD_BYTES], [first, second]: Bits) {
    let (halves, _) = marks.as_chunks_mut();
    halves[0] = first.to_le_bytes();
    halves[1] = second.to_le_bytes();
}

/// A record of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Its row in the raw batch.
    pub row: u32,
    /// Its first byte in the block.
    pub start: u32,
    /// One past its last.
    pub end: u32,
}

impl Record {
    /// Its bytes in the block.
    #[inline]
    #[must_use]
    pub const fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The marks of 64 bytes, the first byte's the lowest bit.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    /// The quotes.
    pub quotes: u64,
    /// The backslashes.
    pub backslashes: u64,
    /// The quotes, backslashes and control characters.
    pub stops: u64,
}

/// Records one after the other, with [`PADDING`] bytes behind the last, and their marks.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    bytes: &'a [u8],
    marks: &'a Marks,
}

impl<'a> Block<'a> {
    /// `marks` are those of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], marks: &'a Marks) -> Self {
        debug_assert_eq!((bytes.len() / PADDING + 1) * WORD_BYTES, marks.quotes.len(), "the marks of another block");
        Self { bytes, marks }
    }

    /// All bytes, with those behind the last record.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// True when the records together are valid UTF-8.
    #[must_use]
    pub fn is_utf8(self) -> bool {
        self.marks.ascii || simdutf8::basic::from_utf8(&self.bytes[..self.bytes.len() - PADDING]).is_ok()
    }

    /// The bytes of a record.
    #[must_use]
    pub fn record(self, record: Record) -> &'a [u8] {
        &self.bytes[record.range()]
    }

    /// The bytes from `at` on; `None` where the padding is too short.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    #[must_use]
    pub fn chunk(self, at: usize) -> Option<&'a Chunk> {
        self.bytes.get(at..)?.first_chunk()
    }

    /// The first quote, backslash or control character at `at` or behind, and which it is.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    #[must_use]
    pub fn stop_from(self, at: usize) -> Option<(usize, u8)> {
        let stop = next(&self.marks.stops, at)?;
        Some((stop, *self.bytes.get(stop)?))
    }

    /// The marks of the 64 bytes numbered `place`.
    #[must_use]
    pub fn word(self, place: usize) -> Option<Word> {
        let word = |marks: &[u8]| marks.as_chunks().0.get(place).map(|bytes| u64::from_le_bytes(*bytes));
        Some(Word {
            quotes: word(&self.marks.quotes)?,
            backslashes: word(&self.marks.backslashes)?,
            stops: word(&self.marks.stops)?,
        })
    }
}

/// The place of the first set bit at `at` or behind.
#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
#[inline(always)]
fn next(marks: &[u8], at: usize) -> Option<usize> {
    let word = |place: usize| Some(u64::from_le_bytes(*marks.get(place..)?.first_chunk()?));
    let rest = word(at / 8)? >> (at % 8);
    if rest != 0 {
        return Some(at + rest.trailing_zeros() as usize);
    }
    let mut place = at / 8 + WORD_BYTES;
    loop {
        let bits = word(place)?;
        if bits != 0 {
            return Some(place * 8 + bits.trailing_zeros() as usize);
        }
        place += WORD_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Kernel;
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![20 => Just(b'a'), 1 => any::<u8>(), 1 => prop::sample::select(b"\"\\\n".to_vec())];
        proptest::collection::vec(byte, 0..500)
    }

    proptest! {
        #[test]
        fn marks_are_where_a_byte_loop_finds_them(bytes in bytes(), at in any::<prop::sample::Index>()) {
            let padded = [&bytes[..], &[b'x'; PADDING]].concat();
            for kernel in Kernel::available() {
                let mut marks = Marks::default();
                kernel.mark(&padded, &mut marks);
                let block = Block::new(&padded, &marks);
                let at = at.index(bytes.len() + 1);
                let first = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
                prop_assert_eq!(block.stop_from(at), first.map(|place| (at + place, bytes[at + place])));
                let word = block.word(at / 64).expect("within");
                let all = |test: fn(u8) -> bool| {
                    let bytes = padded[at / 64 * 64..].iter().take(64).enumerate();
                    bytes.fold(0, |bits, (place, byte)| bits | u64::from(test(*byte)) << place)
                };
                prop_assert_eq!(word.quotes, all(|byte| byte == b'"'));
                prop_assert_eq!(word.backslashes, all(|byte| byte == b'\\'));
                prop_assert_eq!(word.stops, all(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)));
                prop_assert_eq!(marks.ascii, bytes.is_ascii());
                prop_assert_eq!(block.is_utf8(), std::str::from_utf8(&bytes).is_ok());
                prop_assert!(block.chunk(at).is_some());
            }
        }
    }
}
