//! Variances from exact sums: `n Σx² - (Σx)²`, over `n (n - 1)`.
//!
//! `typed` feeds them; `exact_sum` is the arithmetic of the sums and `digits` rounds. Invariant: both
//! sums are exact for every finite value, whatever its size, so the difference is too, and nothing
//! cancels: a variance is rounded once. A standard deviation is the root of that, rounded once more.
//! (The form that textbooks warn of, T. Chan, G. Golub and R. `LeVeque`, "Algorithms for Computing the
//! Sample Variance", 1983, is at fault only where its sums round.)

use super::cells::Cell;
use super::digits::Digits;
use super::exact_sum::{ExactSum, SQUARE_CHUNKS_MAX, SUM_CHUNKS_MAX};
use super::number::{power_of_ten, read_count};
use super::{AggregatePlan, Function};
use crate::batch::Scalar;
use crate::codec::{Reader, Write};
use crate::error::{Error, ErrorKind, Result};

/// What the digits of the squares count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Multiples of `2^-2148`, for the squares of doubles; their sum counts `2^-1074`.
    Double,
    /// Ones, for integers; their sum too.
    Integer,
    /// Multiples of `10^(-2 * scale)`, for decimals; their sum counts `10^-scale`.
    Decimal(u8),
}

/// The sums of values and of their squares, and how many there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Moments {
    sum: ExactSum,
    squares: ExactSum,
    count: u64,
}

impl Moments {
    /// Adds a double. Infinities and NaN make the result NaN.
    #[inline]
    pub fn add_double(&mut self, value: f64) {
        self.sum.add(value);
        self.squares.add_square(value);
        self.count += 1;
    }

    /// Adds an integer, or the digits of a decimal.
    #[inline]
    pub fn add_integer(&mut self, value: i128) {
        let magnitude = words(value.unsigned_abs());
        self.sum.add_wide(value < 0, &magnitude, 0);
        self.squares.add_wide(false, &times(&magnitude, &magnitude), 0);
        self.count += 1;
    }

    /// The sample variance or standard deviation; null for fewer than two values.
    pub fn finish(&self, function: Function, unit: Unit) -> Result<Scalar<'static>> {
        if self.count < 2 {
            return Ok(Scalar::Null);
        }
        if self.sum.special().is_some() {
            return Ok(Scalar::Float64(f64::NAN));
        }
        let mut divisors = vec![self.count, self.count - 1];
        if let Unit::Decimal(scale) = unit {
            divisors.extend([scale, scale].into_iter().flat_map(power_of_ten));
        }
        let variance = self.spread(unit).divided_by(&divisors);
        let value = if function == Function::Stddev { root(variance) } else { variance.rounded() };
        value.map(Scalar::Float64).ok_or_else(|| {
            let message = format!(
                "the {} is beyond 1.8e308, the largest float64; scale the values down",
                if function == Function::Stddev { "standard deviation" } else { "variance" }
            );
            Error::new(ErrorKind::Overflow, message)
        })
    }

    /// `n Σx² - (Σx)²`, which no values make negative.
    fn spread(&self, unit: Unit) -> Digits {
        let (sum, squares) = (self.sum.canonical(), self.squares.canonical());
        let count = [self.count as u32, (self.count >> 32) as u32];
        let minuend = Placed { first: squares.first, words: times(&squares.words, &count) };
        let subtrahend = Placed { first: 2 * sum.first, words: times(&sum.words, &sum.words) };
        let difference = minuend.minus(&subtrahend);
        let (down, up) = match unit {
            // 2^-2148 is 2^-1074 shifted down by 34 digits and up again by 14 bits
            Unit::Double => (34, 14),
            // 1 is 2^-1074 shifted up by 33 digits and 18 bits
            Unit::Integer | Unit::Decimal(_) => (-33, 18),
        };
        let words = times(&difference.words, &[1 << up]);
        Digits { negative: false, first: difference.first - down, words, inexact: false }
    }
}

/// The square root; `None` beyond the largest double. The digits are first moved near to 1, by an
/// even number of bits, so that a variance out of range still has a root.
fn root(variance: Digits) -> Option<f64> {
    let Some(top) = variance.words.iter().rposition(|digit| *digit != 0) else { return Some(0.0) };
    let moved = 34 - (top as i32 + variance.first);
    let near_one = Digits { first: variance.first + moved, ..variance }.rounded()?.sqrt();
    // in two steps: 2^(16 * moved) alone may be out of range where the product is not
    let half = 2.0_f64.powi(-8 * moved);
    let value = near_one * half * half;
    value.is_finite().then_some(value)
}

impl Cell for Moments {
    const FORM: u8 = 7;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.count);
        self.sum.encode(out);
        self.squares.encode(out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let count = read_count(saved)?;
        let sum = ExactSum::decode(saved, SUM_CHUNKS_MAX)?;
        let squares = ExactSum::decode(saved, SQUARE_CHUNKS_MAX)?;
        Ok(Self { sum, squares, count })
    }

    fn heap_len(&self) -> usize {
        self.sum.heap_len() + self.squares.heap_len()
    }
}

/// A magnitude, its lowest 32 bits at place `first`.
struct Placed {
    first: i32,
    words: Vec<u32>,
}

impl Placed {
    fn digit(&self, place: i32) -> i64 {
        let index = usize::try_from(place - self.first).ok();
        index.and_then(|index| self.words.get(index)).map_or(0, |digit| i64::from(*digit))
    }

    fn end(&self) -> i32 {
        self.first + self.words.len() as i32
    }

    /// The difference, or 0 where it would be negative: damaged state alone comes to that.
    fn minus(&self, other: &Self) -> Self {
        let first = self.first.min(other.first);
        let mut words = Vec::new();
        let mut borrow = 0;
        for place in first..self.end().max(other.end()) {
            let digit = self.digit(place) - other.digit(place) + borrow;
            words.push(digit as u32);
            borrow = digit >> 32;
        }
        if borrow < 0 {
            words.clear();
        }
        Self { first, words }
    }
}

fn words(magnitude: u128) -> [u32; 4] {
    [0, 32, 64, 96].map(|shift| (magnitude >> shift) as u32)
}

/// The product, the lowest word first.
fn times(left: &[u32], right: &[u32]) -> Vec<u32> {
    let mut product = vec![0_u32; left.len() + right.len()];
    for (place, factor) in left.iter().enumerate().filter(|(_, factor)| **factor != 0) {
        let mut carry = 0;
        for (word, other) in product[place..].iter_mut().zip(right.iter().chain(std::iter::repeat(&0))) {
            let sum = u64::from(*word) + u64::from(*factor) * u64::from(*other) + carry;
            *word = sum as u32;
            carry = sum >> 32;
        }
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn doubles(values: &[f64]) -> Moments {
        let mut cell = Moments::default();
        values.iter().for_each(|value| cell.add_double(*value));
        cell
    }

    fn integers(values: &[i128]) -> Moments {
        let mut cell = Moments::default();
        values.iter().for_each(|value| cell.add_integer(*value));
        cell
    }

    fn float(result: Result<Scalar<'static>>) -> Option<f64> {
        match result {
            Ok(Scalar::Float64(value)) => Some(value),
            Ok(Scalar::Null) => None,
            other => panic!("{other:?} is no number"),
        }
    }

    #[test]
    fn known_variances() {
        let var = |values: &[f64]| float(doubles(values).finish(Function::Var, Unit::Double));
        assert_eq!(var(&[1.0, 2.0, 3.0, 4.0]), Some(5.0 / 3.0));
        assert_eq!(var(&[7.5, 7.5, 7.5]), Some(0.0));
        // where sums of doubles lose everything
        assert_eq!(var(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]), Some(30.0));
        assert_eq!(float(integers(&[1, 2, 3, -4]).finish(Function::Var, Unit::Integer)), Some(29.0 / 3.0));
        assert_eq!(float(integers(&[100, 250]).finish(Function::Var, Unit::Decimal(2))), Some(1.125));
        assert_eq!(float(integers(&[100, 400]).finish(Function::Stddev, Unit::Decimal(2))), Some(4.5_f64.sqrt()));
    }

    #[test]
    fn the_ends_of_every_range() {
        let ends = integers(&[i128::from(i64::MIN), i128::from(i64::MAX)]);
        assert_eq!(float(ends.finish(Function::Stddev, Unit::Integer)), Some((2.0_f64.powi(127)).sqrt()));
        let largest = 10_i128.pow(38) - 1;
        assert_eq!(float(integers(&[largest, -largest]).finish(Function::Var, Unit::Decimal(38))), Some(2.0));
        let wide = doubles(&[f64::MAX, f64::MAX / 2.0]);
        assert_eq!(wide.finish(Function::Var, Unit::Double).expect_err("too large").kind, ErrorKind::Overflow);
        let wide = float(wide.finish(Function::Stddev, Unit::Double)).expect("in range");
        let off = wide / (f64::MAX / 2.0 * 0.5_f64.sqrt()) - 1.0;
        assert!(off.abs() <= f64::EPSILON, "{off}");
        let beyond = doubles(&[f64::MAX, f64::MIN]);
        assert!(beyond.finish(Function::Stddev, Unit::Double).is_err());
        let tiny = doubles(&[f64::from_bits(1), f64::from_bits(3)]);
        assert_eq!(float(tiny.finish(Function::Var, Unit::Double)), Some(0.0));
        assert_eq!(float(tiny.finish(Function::Stddev, Unit::Double)), Some(f64::from_bits(1)));
    }

    #[test]
    fn fewer_than_two_values_have_no_spread_and_infinities_none_that_is_a_number() {
        for values in [&[][..], &[1.0]] {
            assert_eq!(float(doubles(values).finish(Function::Var, Unit::Double)), None);
        }
        let infinite = float(doubles(&[1.0, f64::INFINITY]).finish(Function::Stddev, Unit::Double));
        assert!(infinite.is_some_and(f64::is_nan));
        assert_eq!(float(doubles(&[2.0, 2.0]).finish(Function::Stddev, Unit::Double)), Some(0.0));
    }

    proptest! {
        #[test]
        fn variances_of_small_integers_round_once(values in prop::collection::vec(-1000_i32..1000, 2..30)) {
            let (count, sum) = (values.len() as i64, values.iter().map(|value| i64::from(*value)).sum::<i64>());
            let squares: i64 = values.iter().map(|value| i64::from(*value).pow(2)).sum();
            let expected = (count * squares - sum * sum) as f64 / (count * (count - 1)) as f64;
            let wide: Vec<i128> = values.iter().map(|value| i128::from(*value)).collect();
            prop_assert_eq!(float(integers(&wide).finish(Function::Var, Unit::Integer)), Some(expected));
            let scaled: Vec<f64> = values.iter().map(|value| f64::from(*value) / 16.0).collect();
            prop_assert_eq!(float(doubles(&scaled).finish(Function::Var, Unit::Double)), Some(expected / 256.0));
        }

        #[test]
        fn products_are_those_of_the_language(left in any::<u64>(), right in any::<u64>()) {
            let product = times(&words(left.into())[..2], &words(right.into())[..2]);
            prop_assert_eq!(product, words(u128::from(left) * u128::from(right)));
        }
    }
}
