//! The exact sum of doubles: the same bits whatever the order, the cuts or the merges.
//!
//! A double is an integer times `2^-1074`, so a sum of doubles is one long integer. It is kept in
//! 32-bit digits inside 64-bit chunks, which leaves room to add a billion values before a carry
//! (the small superaccumulator of R. Neal, "Fast exact summation using small and large
//! superaccumulators", arXiv 1505.05571), and only the window of chunks in use is stored: values of
//! similar size cost three to five chunks instead of 67. `number` holds one for each slot; `digits`
//! rounds it. Invariant: each chunk stays within `(pending + 1) * 2^32`, so no chunk overflows.

use super::cells::ALLOCATION_BYTES;
use super::digits::Digits;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};

/// Bits between two chunks.
const CHUNK_BITS: u32 = 32;
/// Chunks that one double can touch: 53 bits, shifted by up to 31.
const DOUBLE_CHUNKS: usize = 3;
/// Chunks that the square of one can touch: 106 bits, shifted by up to 31.
const SQUARE_CHUNKS: usize = 4;
/// Chunks above which no sum of `2^64` doubles reaches.
pub(super) const SUM_CHUNKS_MAX: usize = 70;
/// Chunks above which no sum of `2^64` squares reaches, counted in `2^-2148`.
pub(super) const SQUARE_CHUNKS_MAX: usize = 136;
/// Additions after which carries are passed on. Two such sums still merge without overflow.
const PENDING_MAX: u32 = 1 << 30;

const SEEN_INFINITY: u8 = 1;
const SEEN_NEGATIVE_INFINITY: u8 = 2;
const SEEN_NAN: u8 = 4;
const NEGATIVE: u8 = 8;

/// A sum of doubles that never rounds. `-0.0` counts as `0.0`.
#[derive(Debug, Clone, Default)]
pub(super) struct ExactSum {
    /// Chunk `i` counts multiples of `2^(32 * (first + i) - 1074)`, signed.
    chunks: Vec<i64>,
    /// Additions since the last carry, the merged ones included.
    pending: u32,
    /// Place of the lowest chunk.
    first: u8,
    /// Which values were no numbers: `SEEN_*`.
    seen: u8,
}

impl ExactSum {
    /// Adds one value. Infinities and NaN are remembered, and give what IEEE gives.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        if exponent == 0x7ff {
            self.seen |= match (fraction, value > 0.0) {
                (0, true) => SEEN_INFINITY,
                (0, false) => SEEN_NEGATIVE_INFINITY,
                _ => SEEN_NAN,
            };
            return;
        }
        let (mantissa, lowest_bit) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if mantissa == 0 {
            // a zero would open the window down to the smallest double
            return;
        }
        let place = (lowest_bit as u32 / CHUNK_BITS) as usize;
        let shifted = u128::from(mantissa) << (lowest_bit as u32 % CHUNK_BITS);
        let start = match place.checked_sub(usize::from(self.first)) {
            Some(start) if start + DOUBLE_CHUNKS <= self.chunks.len() => start,
            _ => self.widen(place, DOUBLE_CHUNKS),
        };
        let sign = if value < 0.0 { -1 } else { 1 };
        for (part, chunk) in self.chunks[start..start + DOUBLE_CHUNKS].iter_mut().enumerate() {
            *chunk += sign * i64::from((shifted >> (part as u32 * CHUNK_BITS)) as u32);
        }
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.carry_slow();
        }
    }

    /// Adds the square of `value` to a sum that counts `2^-2148`, so that no square is out of range.
    /// What is no number is left to the sum of the values themselves.
    #[inline]
    pub fn add_square(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, lowest_bit) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        if mantissa == 0 || exponent == 0x7ff {
            return;
        }
        let square = u128::from(mantissa) * u128::from(mantissa);
        let words: [u32; SQUARE_CHUNKS] = [0, 32, 64, 96].map(|shift| (square >> shift) as u32);
        self.add_wide(false, &words, 2 * lowest_bit as u32);
    }

    /// Adds `±magnitude * 2^lowest_bit` of what the sum counts; 32 bits a word, the lowest first.
    #[inline]
    pub fn add_wide(&mut self, negative: bool, magnitude: &[u32], lowest_bit: u32) {
        let used = magnitude.iter().rposition(|word| *word != 0).map_or(0, |top| top + 1);
        if used == 0 {
            return;
        }
        let (place, shift) = ((lowest_bit / CHUNK_BITS) as usize, lowest_bit % CHUNK_BITS);
        let start = match place.checked_sub(usize::from(self.first)) {
            Some(start) if start + used < self.chunks.len() => start,
            _ => self.widen(place, used + 1),
        };
        let sign = if negative { -1 } else { 1 };
        let mut carry = 0_u64;
        for (chunk, word) in self.chunks[start..].iter_mut().zip(magnitude[..used].iter().chain([&0])) {
            let shifted = (u64::from(*word) << shift) | carry;
            *chunk += sign * i64::from(shifted as u32);
            carry = shifted >> CHUNK_BITS;
        }
        self.pending += 1;
        if self.pending >= PENDING_MAX {
            self.carry_slow();
        }
    }

    /// Adds the sum of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.seen |= other.seen;
        if other.chunks.is_empty() {
            return;
        }
        let start = self.widen(usize::from(other.first), other.chunks.len());
        for (chunk, added) in self.chunks[start..].iter_mut().zip(&other.chunks) {
            *chunk += added;
        }
        self.pending += other.pending + 1;
        if self.pending >= PENDING_MAX {
            self.carry_slow();
        }
    }

    /// Makes room for `len` chunks from `place` on; the index of the first.
    fn widen(&mut self, place: usize, len: usize) -> usize {
        if self.chunks.is_empty() {
            self.first = place as u8;
        }
        let below = usize::from(self.first).saturating_sub(place);
        self.chunks.splice(..0, std::iter::repeat_n(0, below));
        self.first -= below as u8;
        let start = place - usize::from(self.first);
        let end = (start + len).max(self.chunks.len());
        self.chunks.resize(end, 0);
        start
    }

    /// Passes carries on, so that each chunk is within a digit again. The top chunk keeps its sign;
    /// splitting a small negative one would move the sign up without end.
    #[cold]
    fn carry_slow(&mut self) {
        let mut carry = 0;
        for chunk in &mut self.chunks {
            let sum = *chunk + carry;
            *chunk = i64::from(sum as u32);
            carry = sum >> CHUNK_BITS;
        }
        match (carry, self.chunks.last_mut()) {
            (-1, Some(top)) => *top -= 1 << CHUNK_BITS,
            (0, _) | (_, None) => {}
            (_, Some(_)) => self.chunks.push(carry),
        }
        self.pending = 0;
    }

    /// The finite part as sign and magnitude, without zero digits at either end: one form for a value.
    pub fn canonical(&self) -> Digits {
        let (mut digits, mut carry) = propagate(&self.chunks, 1);
        let negative = carry < 0;
        if negative {
            (digits, carry) = propagate(&self.chunks, -1);
        }
        digits.push(carry as u32);
        let used = digits.iter().rposition(|digit| *digit != 0).map_or(0, |top| top + 1);
        digits.truncate(used);
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        let first = if digits.is_empty() { 0 } else { i32::from(self.first) + zeros as i32 };
        Digits { negative, first, words: digits, inexact: false }
    }

    /// What IEEE makes of the infinities and NaN among the values; `None` when all were numbers.
    pub fn special(&self) -> Option<f64> {
        match self.seen {
            0 => None,
            SEEN_INFINITY => Some(f64::INFINITY),
            SEEN_NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
            _ => Some(f64::NAN),
        }
    }

    /// The sum, rounded once, half to even; `None` when numbers add up beyond the largest double.
    pub fn rounded(&self) -> Option<f64> {
        self.special().or_else(|| self.canonical().rounded())
    }

    /// The sum divided by `count`, rounded once. `None` only if `count` is below the values added.
    pub fn mean(&self, count: u64) -> Option<f64> {
        self.special().or_else(|| self.canonical().divided_by(&[count]).rounded())
    }

    /// Bytes held outside the struct.
    pub fn heap_len(&self) -> usize {
        let own = if self.chunks.is_empty() { 0 } else { ALLOCATION_BYTES };
        size_of_val(self.chunks.as_slice()) + own
    }

    /// Appends the canonical form: flags, then place, number of digits and the digits.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let sum = self.canonical();
        out.put_u8(self.seen | if sum.negative { NEGATIVE } else { 0 });
        out.put_u8(sum.first as u8);
        out.put_varint(sum.words.len() as u64);
        for digit in sum.words {
            out.extend_from_slice(&digit.to_le_bytes());
        }
    }

    /// Reads what [`ExactSum::encode`] wrote, and refuses what it cannot have written: chunks beyond
    /// `chunks_max` among it.
    pub fn decode(saved: &mut Reader<'_>, chunks_max: usize) -> Result<Self> {
        let flags = saved.u8()?;
        let first = saved.u8()?;
        let len = saved.count(size_of::<u32>())?;
        let sign = if flags & NEGATIVE == 0 { 1 } else { -1 };
        let (digits, _) = saved.take(len * size_of::<u32>())?.as_chunks();
        let chunks: Vec<i64> = digits.iter().map(|digit| sign * i64::from(u32::from_le_bytes(*digit))).collect();
        let trimmed = chunks.first() != Some(&0) && chunks.last() != Some(&0);
        let zero = chunks.is_empty() && (first != 0 || flags & NEGATIVE != 0);
        let known = SEEN_INFINITY | SEEN_NEGATIVE_INFINITY | SEEN_NAN | NEGATIVE;
        if usize::from(first) + len > chunks_max || !trimmed || zero || flags & !known != 0 {
            return Err(Error::state("saved state holds a float sum that no sum could have left; it was overwritten"));
        }
        Ok(Self { chunks, pending: 0, first, seen: flags & !NEGATIVE })
    }
}

/// The digits of `sign` times the number in `chunks`, and what is carried out of the top.
fn propagate(chunks: &[i64], sign: i64) -> (Vec<u32>, i64) {
    let mut digits = Vec::with_capacity(chunks.len() + 1);
    let mut carry = 0;
    for chunk in chunks {
        let sum = sign * chunk + carry;
        digits.push(sum as u32);
        carry = sum >> CHUNK_BITS;
    }
    (digits, carry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum_of(values: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for value in values {
            sum.add(*value);
        }
        sum
    }

    fn saved(sum: &ExactSum) -> Vec<u8> {
        let mut out = Vec::new();
        sum.encode(&mut out);
        out
    }

    /// Any finite double, the awkward ones often.
    fn finite() -> impl Strategy<Value = f64> {
        let awkward = [0.0, -0.0, f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::from_bits(1), 1.0, -1.0, 0.1, 1e16];
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite()),
            prop::sample::select(awkward.to_vec()),
            -1e6..1e6,
        ]
    }

    #[test]
    fn known_sums() {
        let cases: [(&[f64], f64); 9] = [
            (&[], 0.0),
            (&[-0.0], 0.0),
            (&[0.1; 10], 1.0),
            (&[1e16, 1.0, -1e16], 1.0),
            (&[f64::MAX, f64::MAX, -f64::MAX, -f64::MAX, 3.0], 3.0),
            (&[f64::from_bits(1), -f64::from_bits(3)], -f64::from_bits(2)),
            // half an ulp above 2^53 goes to even; a hair more goes up
            (&[9_007_199_254_740_992.0, 1.0], 9_007_199_254_740_992.0),
            (&[9_007_199_254_740_992.0, 1.0, f64::from_bits(1)], 9_007_199_254_740_994.0),
            (&[1.0, -1e-300, -1.0], -1e-300),
        ];
        for (values, expected) in cases {
            assert_eq!(sum_of(values).rounded().map(f64::to_bits), Some(expected.to_bits()), "{values:?}");
        }
    }

    #[test]
    fn infinities_and_nan_give_what_ieee_gives() {
        assert_eq!(sum_of(&[1.0, f64::INFINITY]).rounded(), Some(f64::INFINITY));
        assert_eq!(sum_of(&[f64::NEG_INFINITY, f64::MAX]).mean(2), Some(f64::NEG_INFINITY));
        assert!(sum_of(&[f64::NEG_INFINITY, f64::INFINITY]).rounded().expect("a value").is_nan());
        assert!(sum_of(&[-f64::NAN, 1.0]).rounded().expect("a value").is_nan());
    }

    #[test]
    fn a_sum_out_of_range_is_none_and_its_mean_is_not() {
        let sum = sum_of(&[f64::MAX, f64::MAX]);
        assert_eq!(sum.rounded(), None);
        assert_eq!(sum.mean(2), Some(f64::MAX));
    }

    #[test]
    fn similar_values_cost_few_chunks() {
        let mut sum = ExactSum::default();
        for cents in 0..10_000 {
            sum.add(f64::from(cents) / 100.0);
        }
        assert!(sum.chunks.len() <= 5, "{}", sum.chunks.len());
    }

    #[test]
    fn carries_keep_the_value_and_do_not_grow_the_window() {
        for value in [-1.5, 1.5, f64::MAX, f64::MIN, -f64::from_bits(1)] {
            let mut sum = sum_of(&[value; 3]);
            let before = saved(&sum);
            for _ in 0..10 {
                sum.carry_slow();
            }
            assert_eq!(saved(&sum), before);
            assert!(sum.chunks.len() <= DOUBLE_CHUNKS + 1, "{value} takes {} chunks", sum.chunks.len());
        }
    }

    #[test]
    fn doubling_sixty_times_overflows_no_chunk() {
        for value in [f64::MAX, f64::MIN, -f64::from_bits(u64::MAX >> 12)] {
            let mut sum = sum_of(&[value]);
            for _ in 0..60 {
                let same = sum.clone();
                sum.merge(&same);
            }
            assert!(sum.chunks.len() + usize::from(sum.first) <= SUM_CHUNKS_MAX);
            assert_eq!(sum.mean(1 << 60), Some(value));
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let good = saved(&sum_of(&[1.5, -1e300]));
        assert!(ExactSum::decode(&mut Reader::new(&good), SUM_CHUNKS_MAX).is_ok());
        for (at, byte) in [(0, 0x80), (1, 69), (2, 0x7f), (good.len() - 1, 0)] {
            let mut bad = good.clone();
            bad[at] = byte;
            if at == good.len() - 1 {
                bad[at - 3..].fill(0);
            }
            assert!(ExactSum::decode(&mut Reader::new(&bad), SUM_CHUNKS_MAX).is_err(), "byte {at}");
        }
        assert!(ExactSum::decode(&mut Reader::new(&[NEGATIVE, 0, 0]), SUM_CHUNKS_MAX).is_err());
    }

    proptest! {
        #[test]
        fn integers_agree_with_exact_integer_arithmetic(values in prop::collection::vec(any::<i64>(), 0..60), scale in -1000_i32..900) {
            // i64 as a double, times a power of two, is exact; so is their sum in i128
            let unit = 2.0_f64.powi(scale);
            let doubles: Vec<f64> = values.iter().map(|value| *value as f64 * unit).collect();
            let exact: i128 = values.iter().map(|value| (*value as f64) as i128).sum();
            prop_assert_eq!(sum_of(&doubles).rounded(), Some(exact as f64 * unit));
        }

        #[test]
        fn two_values_add_as_ieee_adds(left in finite(), right in finite()) {
            let ieee = left + right;
            prop_assert_eq!(sum_of(&[left, right]).rounded(), ieee.is_finite().then_some(ieee));
        }

        #[test]
        fn order_and_cuts_leave_the_same_bytes(values in prop::collection::vec(finite(), 0..40), cut in any::<prop::sample::Index>()) {
            let whole = sum_of(&values);
            let (left, right) = values.split_at(cut.index(values.len() + 1));
            let mut merged = sum_of(right);
            merged.merge(&sum_of(left));
            let mut reversed = values.clone();
            reversed.reverse();
            prop_assert_eq!(saved(&merged), saved(&whole));
            prop_assert_eq!(saved(&sum_of(&reversed)), saved(&whole));
        }

        #[test]
        fn adding_the_negatives_leaves_zero(values in prop::collection::vec(finite(), 0..40)) {
            let mut sum = sum_of(&values);
            for value in &values {
                sum.add(-value);
            }
            prop_assert_eq!(saved(&sum), saved(&ExactSum::default()));
        }

        #[test]
        fn saved_sums_read_back(values in prop::collection::vec(any::<u64>().prop_map(f64::from_bits), 0..20), more in finite()) {
            let mut sum = sum_of(&values);
            let bytes = saved(&sum);
            let mut back = ExactSum::decode(&mut Reader::new(&bytes), SUM_CHUNKS_MAX).expect("decodes");
            prop_assert_eq!(saved(&back), bytes);
            sum.add(more);
            back.add(more);
            prop_assert_eq!(saved(&back), saved(&sum));
        }
    }
}
