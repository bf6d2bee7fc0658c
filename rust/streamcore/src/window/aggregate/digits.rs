//! A number held exactly, divided exactly, and rounded once to a double.
//!
//! `exact_sum` and `number` build one when a result is asked for. Invariant: whatever was cut off
//! below the last digit is remembered in `inexact`, so [`Digits::rounded`] rounds the true value,
//! half to even, as one IEEE operation would.

/// Bits of a digit.
const DIGIT_BITS: i32 = 32;
/// The exponent of bit 0: the smallest double is `2^-1074`.
const LEAST_EXPONENT: u32 = 1074;
/// The bits of a double's mantissa.
const MANTISSA_BITS: i32 = 53;

/// `±Σ words[i] * 2^(32 * (first + i) - 1074)`, plus less than one last digit if `inexact`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digits {
    /// True below zero.
    pub negative: bool,
    /// Place of the lowest digit; below 0 only after a division.
    pub first: i32,
    /// The digits, 32 bits each, from the lowest to the highest.
    pub words: Vec<u32>,
    /// True when a division left a remainder.
    pub inexact: bool,
}

impl Digits {
    /// The integer `±magnitude`, 32 bits a word, the lowest first.
    pub fn from_integer(negative: bool, magnitude: &[u32]) -> Self {
        let mut words = Vec::with_capacity(magnitude.len() + 1);
        let mut carry = 0_u64;
        for word in magnitude {
            let shifted = (u64::from(*word) << (LEAST_EXPONENT % 32)) | carry;
            words.push(shifted as u32);
            carry = shifted >> DIGIT_BITS;
        }
        words.push(carry as u32);
        Self { negative, first: (LEAST_EXPONENT / 32) as i32, words, inexact: false }
    }

    /// Divides by the product of `divisors`, none of them 0.
    pub fn divided_by(mut self, divisors: &[u64]) -> Self {
        self.extend_down(3 + 2 * divisors.len());
        for divisor in divisors {
            let mut remainder = 0_u128;
            for digit in self.words.iter_mut().rev() {
                let dividend = (remainder << DIGIT_BITS) | u128::from(*digit);
                *digit = (dividend / u128::from(*divisor)) as u32;
                remainder = dividend % u128::from(*divisor);
            }
            self.inexact |= remainder != 0;
        }
        self
    }

    /// Adds zero digits below, so that dividing keeps a mantissa and more. A divisor takes at most
    /// two digits, the mantissa needs two and the top digit may hold a single bit. No digit below
    /// place -1 is ever needed: half of the smallest double is the top bit of that one.
    fn extend_down(&mut self, digits_min: usize) {
        let used = self.words.iter().rposition(|digit| *digit != 0).map_or(0, |top| top + 1);
        let missing = digits_min.saturating_sub(used).min((self.first + 1) as usize);
        self.words.splice(..0, std::iter::repeat_n(0, missing));
        self.first -= missing as i32;
    }

    /// The nearest double, half to even; `None` beyond the largest one.
    pub fn rounded(&self) -> Option<f64> {
        let Some(top) = self.words.iter().rposition(|digit| *digit != 0) else {
            return Some(if self.negative { -0.0 } else { 0.0 });
        };
        let top_bit = DIGIT_BITS * (self.first + top as i32 + 1) - 1 - self.words[top].leading_zeros() as i32;
        let cut = (top_bit + 1 - MANTISSA_BITS).max(0);
        let mantissa = self.bits_from(cut) & ((1 << MANTISSA_BITS) - 1);
        let half = self.bits_from(cut - 1) & 1 == 1;
        let up = half && (mantissa & 1 == 1 || self.inexact || self.any_below(cut - 1));
        // The exponent field is `cut`, and 1 more where the mantissa's top bit adds itself to it; a
        // mantissa rounded up to 2^53 carries into the exponent as it should.
        let bits = ((cut as u64) << (MANTISSA_BITS - 1)) + mantissa + u64::from(up);
        let value = f64::from_bits(bits);
        (bits < f64::INFINITY.to_bits()).then_some(if self.negative { -value } else { value })
    }

    fn digit(&self, place: i32) -> u64 {
        let index = usize::try_from(place - self.first).ok();
        index.and_then(|index| self.words.get(index)).map_or(0, |digit| u64::from(*digit))
    }

    /// The 64 bits from bit `low` up.
    fn bits_from(&self, low: i32) -> u64 {
        let (place, shift) = (low.div_euclid(DIGIT_BITS), low.rem_euclid(DIGIT_BITS));
        let lower = self.digit(place) | (self.digit(place + 1) << DIGIT_BITS);
        let upper = u128::from(self.digit(place + 2)) << 64;
        ((upper | u128::from(lower)) >> shift) as u64
    }

    /// True when a bit below `low` is set.
    fn any_below(&self, low: i32) -> bool {
        let (place, shift) = (low.div_euclid(DIGIT_BITS), low.rem_euclid(DIGIT_BITS));
        let whole = usize::try_from(place - self.first).unwrap_or(0).min(self.words.len());
        self.words[..whole].iter().any(|digit| *digit != 0) || self.digit(place) & ((1 << shift) - 1) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(magnitude: u128) -> [u32; 4] {
        [0, 32, 64, 96].map(|shift| (magnitude >> shift) as u32)
    }

    #[test]
    fn small_fractions_are_correctly_rounded() {
        let quotient =
            |number: u128, divisors: &[u64]| Digits::from_integer(false, &words(number)).divided_by(divisors).rounded();
        assert_eq!(quotient(1, &[3]), Some(1.0 / 3.0));
        assert_eq!(quotient(1, &[10, 10]), Some(0.01));
        assert_eq!(quotient(0, &[7]), Some(0.0));
        assert_eq!(quotient(1, &[10_u64.pow(19), 10_u64.pow(19), u64::MAX]), "5.421010862427522172e-58".parse().ok());
        let halfway = (1_u128 << 53) + 1;
        assert_eq!(quotient(halfway, &[1]), Some(9_007_199_254_740_992.0));
        // 2^53 + 1 + 1/3 is past the half, though no digit says so before the division's remainder
        assert_eq!(quotient(halfway * 3 + 1, &[3]), Some(9_007_199_254_740_994.0));
    }

    #[test]
    fn halves_of_the_smallest_double_round_to_even() {
        let smallest = |digit: u32| Digits { words: vec![digit], ..Digits::default() };
        assert_eq!(smallest(1).divided_by(&[2]).rounded(), Some(0.0));
        assert_eq!(smallest(3).divided_by(&[2]).rounded(), Some(f64::from_bits(2)));
        assert_eq!(smallest(3).divided_by(&[4]).rounded(), Some(f64::from_bits(1)));
        assert_eq!(smallest(5).divided_by(&[9]).rounded(), Some(f64::from_bits(1)));
        assert_eq!(smallest(4).divided_by(&[9]).rounded(), Some(0.0));
    }

    #[test]
    fn the_range_ends_where_doubles_end() {
        let power = |place| Digits { first: place, words: vec![1], ..Digits::default() };
        assert_eq!(power(64).rounded(), Some(2.0_f64.powi(974)));
        assert_eq!(power(66).rounded(), None);
    }

    proptest! {
        #[test]
        fn integers_round_as_the_language_rounds_them(magnitude in any::<u128>(), shift in 0_u32..128, negative: bool) {
            let magnitude = magnitude >> shift;
            let sign = if negative { -1.0 } else { 1.0 };
            let rounded = Digits::from_integer(negative, &words(magnitude)).rounded();
            prop_assert_eq!(rounded, Some(sign * magnitude as f64));
        }

        #[test]
        fn quotients_of_exact_integers_round_as_ieee_division(number in 0_u64..1 << 53, divisor in 1_u64..1 << 53) {
            let rounded = Digits::from_integer(false, &words(number.into())).divided_by(&[divisor]).rounded();
            prop_assert_eq!(rounded, Some(number as f64 / divisor as f64));
        }

        #[test]
        fn decimals_round_as_the_parser_reads_them(number in any::<u128>(), scale in 0_u32..=38) {
            let divisors = [10_u64.pow(scale.min(19)), 10_u64.pow(scale.saturating_sub(19))];
            let rounded = Digits::from_integer(false, &words(number)).divided_by(&divisors).rounded();
            prop_assert_eq!(rounded, format!("{number}e-{scale}").parse().ok());
        }
    }
}
