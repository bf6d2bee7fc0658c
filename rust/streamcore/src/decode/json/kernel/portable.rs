//! The kernel of every CPU: eight bytes at a time in a 64-bit word.

use super::{Bits, Chunk, Classes, Escapes, Wide, halves_of, whole_of};
use crate::decode::json::layouts::Known;
use crate::decode::json::marks::{Block, Marks, Rows};
use crate::decode::json::text::stands_for;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// Plain 64-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portable;

impl Portable {
    /// A bit for each byte that is `byte`, the first one's the lowest.
    #[inline]
    #[must_use]
    pub fn find(chunk: &Chunk, byte: u8) -> u64 {
        let (mut bits, wanted) = (0, ONES * u64::from(byte));
        for (place, bytes) in chunk.as_chunks().0.iter().enumerate() {
            bits |= gather(zeros(u64::from_le_bytes(*bytes) ^ wanted)) << (8 * place);
        }
        bits
    }

    /// See [`Marks::read_with`].
    pub fn mark(self, bytes: &[u8], marks: &mut Marks) {
        marks.read_with(self, bytes);
    }

    /// See [`Known::walk_with`].
    pub fn walk(self, known: &mut Known, block: Block<'_>, rows: Rows<'_>) -> usize {
        known.walk_with(self, block, rows)
    }
}

/// The high bit of every byte that is zero; no sum carries into the next byte.
#[inline]
const fn zeros(word: u64) -> u64 {
    !(((word & !HIGHS) + !HIGHS) | word) & HIGHS
}

/// The high bits of all bytes, side by side.
#[inline]
const fn gather(highs: u64) -> u64 {
    ((highs >> 7).wrapping_mul(0x0102_0408_1020_4080)) >> 56
}

impl Wide for Portable {
    #[inline]
    fn classify(self, bytes: &Chunk) -> Classes {
        let (mut controls, mut high) = (0, 0);
        for (place, bytes) in bytes.as_chunks().0.iter().enumerate() {
            let word = u64::from_le_bytes(*bytes);
            controls |= gather(zeros(word & (ONES * 0xe0))) << (8 * place);
            high |= gather(word & HIGHS) << (8 * place);
        }
        Classes {
            quotes: halves_of(Self::find(bytes, b'"')),
            backslashes: halves_of(Self::find(bytes, b'\\')),
            controls: halves_of(controls),
            high: halves_of(high),
        }
    }

    #[inline]
    fn escapes(self, bytes: &Chunk) -> Escapes {
        let (mut known, mut digits) = (0, 0);
        for (place, byte) in bytes.iter().enumerate() {
            known |= u64::from(*byte == b'u' || stands_for(*byte) != 0) << place;
            digits |= u64::from(byte.is_ascii_hexdigit()) << place;
        }
        Escapes { known: halves_of(known), units: halves_of(Self::find(bytes, b'u')), digits: halves_of(digits) }
    }

    #[inline]
    fn mark_plain(self, chunks: &[Chunk], quotes: &mut [[u8; 8]]) -> bool {
        let mut others = 0;
        for (chunk, quotes) in chunks.iter().zip(quotes) {
            for (bytes, marks) in chunk.as_chunks().0.iter().zip(quotes) {
                let word = u64::from_le_bytes(*bytes);
                *marks = gather(zeros(word ^ (ONES * u64::from(b'"')))) as u8;
                others |= zeros(word ^ (ONES * u64::from(b'\\'))) | zeros(word & (ONES * 0xe0)) | word;
            }
        }
        others & HIGHS == 0
    }

    #[inline]
    fn begins(self, bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool {
        let len = whole_of(compared).trailing_ones() as usize;
        bytes[..len] == literal[..len]
    }
}
