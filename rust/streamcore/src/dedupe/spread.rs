//! Where fingerprints go in a table: the part by bits of their own, the line by a hash.
//!
//! `table`, `part` and `exact` carry the hashes. Invariant: whoever chooses ids may choose their part, but cannot know
//! which of them meet in a line.

use super::line::{PART_BITS, part_of};
use crate::state::key_hash;

/// Parts of a table.
pub const PARTS: usize = 1 << PART_BITS;

/// Spreads fingerprints over the lines of a part, in every process in another way.
#[derive(Debug, Clone, Copy)]
pub struct Spread(u64, u64);

impl Spread {
    pub fn new() -> Self {
        Self(key_hash(b"low"), key_hash(b"high"))
    }

    /// Both halves multiplied and folded; the lowest bits are the part, see [`part_of_hash`].
    #[inline]
    pub fn hash(self, fingerprint: u128) -> u64 {
        let (low, high) = (fingerprint as u64 ^ self.0, (fingerprint >> 64) as u64 ^ self.1);
        let product = u128::from(low) * u128::from(high);
        let folded = product as u64 ^ (product >> 64) as u64;
        folded & !(PARTS as u64 - 1) | part_of(fingerprint) as u64
    }
}

/// The part of whatever has a hash.
#[inline]
pub const fn part_of_hash(hash: u64) -> usize {
    hash as usize % PARTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::fingerprint;
    use crate::dedupe::line::FINGERPRINT_BITS;

    #[test]
    fn ids_of_one_part_spread_over_its_lines() {
        const LINES: u64 = 64;
        let spread = Spread::new();
        for part in [0, 5, PARTS - 1] {
            let mut lines = [0; LINES as usize];
            for number in 0..64 * LINES {
                let rest = fingerprint(&number.to_le_bytes()) % (1 << (FINGERPRINT_BITS - PART_BITS));
                let hash = spread.hash(rest + ((part as u128) << (FINGERPRINT_BITS - PART_BITS)));
                assert_eq!(part_of_hash(hash), part);
                lines[(((hash >> 32) * LINES) >> 32) as usize] += 1;
            }
            // 64 are expected of each, give or take eight.
            assert!(lines.iter().all(|count| (8..=144).contains(count)), "{part}: {lines:?}");
        }
    }
}
