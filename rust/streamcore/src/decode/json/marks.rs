//! Where the quotes, backslashes and control characters of a block of records are: a bit a byte.
//!
//! `decode/block.rs` has a block marked once, all of it side by side; finding the end of a text is then a
//! look at a word or two. The first stage of `simdjson` does the same (Langdale and Lemire, "Parsing
//! gigabytes of JSON per second", 2019). Invariant: nothing is read beyond the block and its padding.

use super::Located;
use super::kernel::{Bits, Chunk, Wide};
use crate::raw::PADDING;

/// Bytes of marks read at once, and kept behind the last so that it can be.
const WORD_BYTES: usize = size_of::<u64>();

/// The marks of a block; its memory is used again for the next one.
#[derive(Debug)]
pub struct Marks {
    /// The quotes, eight bytes a byte, the first byte's bit the lowest.
    quotes: Vec<u8>,
    /// The backslashes; those of another block where this one is plain.
    backslashes: Vec<u8>,
    /// Quotes, backslashes and control characters: the first of them ends a text, or what can be read of it at once.
    /// Those of another block where this one is plain.
    stops: Vec<u8>,
    /// True when every byte is ASCII, those behind the records included.
    ascii: bool,
    /// True when every byte is printable ASCII and none is a backslash: a text ends at the next quote.
    plain: bool,
}

impl Default for Marks {
    fn default() -> Self {
        let none = Vec::new();
        Self { quotes: none.clone(), backslashes: none.clone(), stops: none, ascii: true, plain: true }
    }
}

impl Marks {
    /// Marks `bytes`, whose last [`PADDING`] belong to no record. A block after a plain one is taken for plain until
    /// it turns out otherwise, for little else of it need be looked at then. A macro of a kind: it is compiled for
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
        if self.plain && kernel.mark_plain(chunks, self.quotes.as_chunks_mut().0) {
            return;
        }
        let (quotes, _) = self.quotes.as_chunks_mut::<WORD_BYTES>();
        let (backslashes, _) = self.backslashes.as_chunks_mut::<WORD_BYTES>();
        let (stops, _) = self.stops.as_chunks_mut::<WORD_BYTES>();
        let (mut high, mut odd) = ([0; 2], [0; 2]);
        for (((chunk, quotes), backslashes), stops) in chunks.iter().zip(quotes).zip(backslashes).zip(stops) {
            let classes = kernel.classify(chunk);
            let others = either(classes.backslashes, classes.controls);
            put(quotes, classes.quotes);
            put(backslashes, classes.backslashes);
            put(stops, either(classes.quotes, others));
            high = either(high, classes.high);
            odd = either(odd, others);
        }
        self.ascii = high == [0; 2];
        self.plain = self.ascii && odd == [0; 2];
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

/// Records of a block, and where their wanted fields are found: `fields` entries each, one record's after the other's.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The records.
    pub records: &'a [Record],
    /// Positions in the block.
    pub found: &'a mut [Located],
    /// Wanted fields.
    pub fields: usize,
}

#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
impl Rows<'_> {
    /// Those from the one at `place` on, `count` at most.
    #[inline(always)]
    pub fn part(&mut self, place: usize, count: usize) -> Rows<'_> {
        let end = place.saturating_add(count).min(self.records.len());
        let found = &mut self.found[place * self.fields..end * self.fields];
        Rows { records: &self.records[place..end], found, fields: self.fields }
    }

    /// What is found of the one at `place`.
    #[inline(always)]
    pub fn found_of(&mut self, place: usize) -> &mut [Located] {
        &mut self.found[place * self.fields..(place + 1) * self.fields]
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
    quotes: &'a [u8],
    backslashes: &'a [u8],
    stops: &'a [u8],
    ascii: bool,
    plain: bool,
}

impl<'a> Block<'a> {
    /// `marks` are those of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8], marks: &'a Marks) -> Self {
        let Marks { quotes, backslashes, stops, ascii, plain } = marks;
        debug_assert_eq!((bytes.len() / PADDING + 1) * WORD_BYTES, quotes.len(), "the marks of another block");
        Self { bytes, quotes, backslashes, stops, ascii: *ascii, plain: *plain }
    }

    /// All bytes, with those behind the last record.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// True when all is printable ASCII without a backslash.
    #[must_use]
    pub const fn is_plain(self) -> bool {
        self.plain
    }

    /// True when the records together are valid UTF-8.
    #[must_use]
    pub fn is_utf8(self) -> bool {
        self.ascii || simdutf8::basic::from_utf8(&self.bytes[..self.bytes.len() - PADDING]).is_ok()
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
    pub fn chunk(self, at: u32) -> Option<&'a Chunk> {
        let at = at as usize;
        self.bytes.get(at..at + PADDING)?.first_chunk()
    }

    /// The first quote at `at` or behind.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    #[must_use]
    pub fn quote_from(self, at: u32) -> Option<u32> {
        next(self.quotes, at)
    }

    /// The first quote, backslash or control character at `at` or behind, and which it is. Not in plain blocks.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    #[must_use]
    pub fn stop_from(self, at: u32) -> Option<(u32, u8)> {
        let stop = next(self.stops, at)?;
        Some((stop, *self.bytes.get(stop as usize)?))
    }

    /// The marks of the 64 bytes numbered `place`. Not in plain blocks.
    #[must_use]
    pub fn word(self, place: usize) -> Option<Word> {
        let word = |marks: &[u8]| marks.as_chunks().0.get(place).map(|bytes| u64::from_le_bytes(*bytes));
        Some(Word { quotes: word(self.quotes)?, backslashes: word(self.backslashes)?, stops: word(self.stops)? })
    }
}

/// The place of the first set bit at `at` or behind.
#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
#[inline(always)]
fn next(marks: &[u8], at: u32) -> Option<u32> {
    let mut place = (at / 8) as usize;
    let rest = word(marks, place)? >> (at % 8);
    if rest != 0 {
        return Some(at + rest.trailing_zeros());
    }
    loop {
        place += WORD_BYTES;
        let bits = word(marks, place)?;
        if bits != 0 {
            return Some(place as u32 * 8 + bits.trailing_zeros());
        }
    }
}

#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
#[inline(always)]
fn word(marks: &[u8], place: usize) -> Option<u64> {
    marks.get(place..place + WORD_BYTES)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::super::kernel::Kernel;
    use super::*;
    use proptest::prelude::*;

    /// Bytes of all sorts, or one or two of the others among plain ones.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![20 => Just(b'a'), 1 => any::<u8>(), 1 => prop::sample::select(b"\"\\\n".to_vec())];
        let plain = proptest::collection::vec(prop::sample::select(b"ab \"~!".to_vec()), 0..500);
        let other = (any::<prop::sample::Index>(), any::<u8>());
        let mostly_plain = (plain, proptest::collection::vec(other, 0..2)).prop_map(|(mut bytes, others)| {
            for (place, byte) in others.into_iter().filter(|_| !bytes.is_empty()).collect::<Vec<_>>() {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        });
        prop_oneof![proptest::collection::vec(byte, 0..500), mostly_plain]
    }

    fn is_plain(bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| matches!(byte, 0x20..0x80) && *byte != b'\\')
    }

    /// Checks the marks of a block that is not plain.
    fn check_stops(block: Block<'_>, bytes: &[u8], padded: &[u8], at: usize) -> Result<(), TestCaseError> {
        let first = bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
        prop_assert_eq!(block.stop_from(at as u32), first.map(|place| ((at + place) as u32, bytes[at + place])));
        let word = block.word(at / 64).expect("within");
        let all = |test: fn(u8) -> bool| {
            let bytes = padded[at / 64 * 64..].iter().take(64).enumerate();
            bytes.fold(0, |bits, (place, byte)| bits | u64::from(test(*byte)) << place)
        };
        prop_assert_eq!(word.quotes, all(|byte| byte == b'"'));
        prop_assert_eq!(word.backslashes, all(|byte| byte == b'\\'));
        prop_assert_eq!(word.stops, all(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)));
        Ok(())
    }

    proptest! {
        #[test]
        fn marks_are_where_a_byte_loop_finds_them(
            blocks in proptest::collection::vec(bytes(), 1..4),
            at in any::<prop::sample::Index>(),
        ) {
            for kernel in Kernel::available() {
                let mut marks = Marks::default();
                for bytes in &blocks {
                    let padded = [&bytes[..], &[b'x'; PADDING]].concat();
                    kernel.mark(&padded, &mut marks);
                    let block = Block::new(&padded, &marks);
                    let at = at.index(bytes.len() + 1);
                    let quote = bytes[at..].iter().position(|byte| *byte == b'"');
                    prop_assert_eq!(block.quote_from(at as u32), quote.map(|place| (at + place) as u32));
                    prop_assert_eq!(block.is_plain(), is_plain(bytes));
                    prop_assert_eq!(block.is_utf8(), std::str::from_utf8(bytes).is_ok());
                    prop_assert!(block.chunk(at as u32).is_some());
                    if !block.is_plain() {
                        check_stops(block, bytes, &padded, at)?;
                    }
                }
            }
        }
    }
}
