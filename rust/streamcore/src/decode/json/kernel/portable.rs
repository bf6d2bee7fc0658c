//! The kernel of every CPU: eight bytes at a time in a 64-bit word.

use super::Wide;
use super::padded::Chunk;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Plain 64-bit words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Portable;

#[inline]
fn word(bytes: &Chunk) -> u64 {
    u64::from_le_bytes(*bytes.first_chunk().expect("a chunk is longer"))
}

impl Wide for Portable {
    const WIDTH: usize = 8;
    const BITS: usize = 8;

    #[inline]
    fn text_ends(self, text: &Chunk) -> (u64, u64) {
        let word = word(text);
        // The classic zero-byte trick; a borrow can only set flags above the lowest true one.
        let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & HIGHS;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        (quote, backslash | control)
    }

    #[inline]
    fn differing(self, left: &Chunk, right: &Chunk) -> u64 {
        word(left) ^ word(right)
    }
}
