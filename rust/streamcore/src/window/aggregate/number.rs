//! Counts and exact sums.
//!
//! `typed` feeds them; a sum and a mean hold the same. Invariant: no sum rounds, wraps or depends on
//! order: integers add in 128 bits, decimals in 192, floats in an [`ExactSum`]; only a result that
//! does not fit its column is an error, never a step on the way.

use super::cells::Cell;
use super::digits::Digits;
use super::exact_sum::{ExactSum, SUM_CHUNKS_MAX};
use super::{AggregatePlan, Function};
use crate::batch::Scalar;
use crate::codec::{Reader, Write};
use crate::error::{Error, ErrorKind, Result};
use xxhash_rust::xxh3::xxh3_64;

/// More rows than any state has seen, and room for as many again.
const COUNT_END: u64 = 1 << 62;

/// Reads a number of rows.
pub(super) fn read_count(saved: &mut Reader<'_>) -> Result<u64> {
    let count = saved.varint()?;
    if count >= COUNT_END {
        return Err(Error::state(format!("saved state counts {count} rows; it was overwritten")));
    }
    Ok(count)
}

/// Rows or values seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count(u64);

impl Count {
    #[inline]
    pub fn add_one(&mut self) {
        self.0 += 1;
    }

    pub fn value(self) -> i64 {
        self.0 as i64
    }
}

impl Cell for Count {
    const FORM: u8 = 1;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        self.0 += other.0;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.0);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let count = saved.varint()?;
        i64::try_from(count)
            .map_err(|_| Error::state(format!("saved state counts {count} rows; it was overwritten")))?;
        Ok(Self(count))
    }

    /// Nearly every window counts, so this asks for no memory: the bytes are those of `encode`.
    fn digest(&self) -> u64 {
        let (mut bytes, mut rest, mut len) = ([0; 10], self.0, 0);
        while rest >= 0x80 {
            bytes[len] = (rest as u8) | 0x80;
            rest >>= 7;
            len += 1;
        }
        bytes[len] = rest as u8;
        xxh3_64(&bytes[..=len])
    }
}

/// A sum of int64. Packed to 24 bytes: 16-byte alignment would make it 32.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(8))]
pub(super) struct IntSum {
    sum: i128,
    count: u64,
}

impl IntSum {
    #[inline]
    pub fn add(&mut self, value: i64) {
        self.sum += i128::from(value);
        self.count += 1;
    }

    /// The sum, or the mean as a float.
    pub fn finish(self, function: Function) -> Result<Scalar<'static>> {
        let (sum, count) = (self.sum, self.count);
        if count == 0 {
            return Ok(Scalar::Null);
        }
        if function == Function::Mean {
            return Ok(mean_of_integer(sum < 0, &words(sum.unsigned_abs(), 0), &[count]));
        }
        let fits = i64::try_from(sum).map_err(|_| {
            let message =
                format!("the sum is {sum}, beyond int64; declare the field as decimal(38,0) to keep it exact");
            Error::new(ErrorKind::Overflow, message)
        });
        Ok(Scalar::Int64(fits?))
    }
}

impl Cell for IntSum {
    const FORM: u8 = 2;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        self.sum += other.sum;
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.count);
        out.put_i128(self.sum);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let (count, sum) = (read_count(saved)?, saved.i128()?);
        // `count` values of int64 reach no further
        let bound = u128::from(count) << 63;
        if sum.unsigned_abs() > bound {
            return Err(Error::state(format!("saved state sums {count} integers to {sum}; it was overwritten")));
        }
        Ok(Self { sum, count })
    }
}

/// A sum of decimals in 192 bits, two's complement, so that no order of adding overflows.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(8))]
pub(super) struct DecimalSum {
    low: u128,
    high: i64,
    count: u64,
}

/// The least magnitude that 38 digits cannot write.
const DECIMAL_END: u128 = 10_u128.pow(38);

impl DecimalSum {
    #[inline]
    pub fn add(&mut self, value: i128) {
        self.add_wide(value as u128, (value >> 127) as i64);
        self.count += 1;
    }

    #[inline]
    fn add_wide(&mut self, low: u128, high: i64) {
        let (sum, carry) = { self.low }.overflowing_add(low);
        self.low = sum;
        self.high += high + i64::from(carry);
    }

    /// The sum as a decimal of the argument's `scale`, or the mean as a float.
    pub fn finish(self, function: Function, scale: u8) -> Result<Scalar<'static>> {
        let (low, high, count) = (self.low, self.high, self.count);
        if count == 0 {
            return Ok(Scalar::Null);
        }
        let negative = high < 0;
        let (low, high) = if negative {
            let (low, borrow) = (!low).overflowing_add(1);
            (low, (!high as u64).wrapping_add(u64::from(borrow)))
        } else {
            (low, high as u64)
        };
        if function == Function::Mean {
            let [low_power, high_power] = power_of_ten(scale);
            let divisors = [low_power, high_power, count];
            return Ok(mean_of_integer(negative, &words(low, high), &divisors));
        }
        if high != 0 || low >= DECIMAL_END {
            let message = format!(
                "the sum is beyond decimal(38,{scale}); declare the field with a smaller scale, or sum over narrower \
                 groups or windows"
            );
            return Err(Error::new(ErrorKind::Overflow, message));
        }
        Ok(Scalar::Decimal(if negative { -(low as i128) } else { low as i128 }))
    }
}

impl Cell for DecimalSum {
    const FORM: u8 = 3;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        self.add_wide(other.low, other.high);
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.count);
        out.put_i64(self.high);
        out.put_i128({ self.low } as i128);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let (count, high, low) = (read_count(saved)?, saved.i64()?, saved.i128()? as u128);
        // `count` values below 2^127 reach less than half as far
        if high.unsigned_abs() > count {
            return Err(Error::state(format!("saved state sums {count} decimals to too much; it was overwritten")));
        }
        Ok(Self { low, high, count })
    }
}

/// Two divisors that make `10^scale`, for scales to 38.
pub(super) fn power_of_ten(scale: u8) -> [u64; 2] {
    [scale.min(19), scale.saturating_sub(19)].map(|digits| 10_u64.pow(u32::from(digits)))
}

/// The 32-bit words of `high * 2^128 + low`, the lowest first.
fn words(low: u128, high: u64) -> [u32; 6] {
    let part = |shift: u32| (low >> shift) as u32;
    [part(0), part(32), part(64), part(96), high as u32, (high >> 32) as u32]
}

fn mean_of_integer(negative: bool, magnitude: &[u32], divisors: &[u64]) -> Scalar<'static> {
    let mean = Digits::from_integer(negative, magnitude).divided_by(divisors).rounded();
    Scalar::Float64(mean.expect("an integer of 192 bits is far inside a double's range"))
}

/// A sum of float64.
#[derive(Debug, Clone, Default)]
pub(super) struct FloatSum {
    sum: ExactSum,
    count: u64,
}

impl FloatSum {
    #[inline]
    pub fn add(&mut self, value: f64) {
        self.sum.add(value);
        self.count += 1;
    }

    /// The sum or the mean, rounded once.
    pub fn finish(&self, function: Function) -> Result<Scalar<'static>> {
        if self.count == 0 {
            return Ok(Scalar::Null);
        }
        let value = if function == Function::Mean { self.sum.mean(self.count) } else { self.sum.rounded() };
        value.map(Scalar::Float64).ok_or_else(|| {
            let message = "the sum is beyond 1.8e308, the largest float64; scale the values down, or use mean, which \
                           cannot exceed its values";
            Error::new(ErrorKind::Overflow, message)
        })
    }
}

impl Cell for FloatSum {
    const FORM: u8 = 4;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        self.sum.merge(&other.sum);
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.count);
        self.sum.encode(out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let (count, sum) = (read_count(saved)?, ExactSum::decode(saved, SUM_CHUNKS_MAX)?);
        Ok(Self { sum, count })
    }

    fn heap_len(&self) -> usize {
        self.sum.heap_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MONEY_SCALE: u8 = 2;
    const LARGEST: i128 = 10_i128.pow(38) - 1;

    fn decimals(values: &[i128]) -> DecimalSum {
        let mut cell = DecimalSum::default();
        for value in values {
            cell.add(*value);
        }
        cell
    }

    #[test]
    fn cells_are_as_small_as_they_can_be() {
        assert_eq!(size_of::<Count>(), 8);
        assert_eq!(size_of::<IntSum>(), 24);
        assert_eq!(size_of::<DecimalSum>(), 32);
    }

    #[test]
    fn integer_sums_pass_int64_on_the_way_and_are_refused_at_the_end() {
        let mut cell = IntSum::default();
        cell.add(i64::MAX);
        cell.add(1);
        let error = cell.finish(Function::Sum).expect_err("too large");
        assert_eq!(error.kind, ErrorKind::Overflow);
        let expected =
            "the sum is 9223372036854775808, beyond int64; declare the field as decimal(38,0) to keep it exact";
        assert_eq!(error.message, expected);
        assert_eq!(cell.finish(Function::Mean).expect("fits"), Scalar::Float64(2.0_f64.powi(62)));
        cell.add(-1);
        assert_eq!(cell.finish(Function::Sum).expect("fits"), Scalar::Int64(i64::MAX));
    }

    #[test]
    fn decimal_sums_pass_128_bits_on_the_way() {
        let ends = decimals(&[LARGEST, LARGEST, LARGEST, -LARGEST, -LARGEST, -5]);
        assert_eq!(ends.finish(Function::Sum, MONEY_SCALE).expect("fits"), Scalar::Decimal(LARGEST - 5));
        let below = decimals(&[-LARGEST, -LARGEST, -LARGEST, LARGEST, LARGEST]);
        assert_eq!(below.finish(Function::Sum, MONEY_SCALE).expect("fits"), Scalar::Decimal(-LARGEST));
        for beyond in [decimals(&[LARGEST, 1]), decimals(&[-LARGEST, -1]), decimals(&[-LARGEST; 4])] {
            let error = beyond.finish(Function::Sum, MONEY_SCALE).expect_err("too large");
            assert_eq!(error.kind, ErrorKind::Overflow);
            assert!(error.message.contains("decimal(38,2)"), "{}", error.message);
        }
    }

    #[test]
    fn the_digest_of_a_count_is_that_of_its_saved_form() {
        for count in [0, 1, 127, 128, 16_383, 16_384, 1 << 40, COUNT_END, u64::MAX] {
            let mut saved = Vec::new();
            Count(count).encode(&mut saved);
            assert_eq!(Count(count).digest(), xxh3_64(&saved), "{count}");
        }
    }

    #[test]
    fn decimal_means_are_rounded_once() {
        let mean = |values: &[i128], scale| decimals(values).finish(Function::Mean, scale).expect("a mean");
        assert_eq!(mean(&[10, 20, 25], 2), Scalar::Float64(55.0 / 300.0));
        assert_eq!(mean(&[-1], 38), Scalar::Float64(-1e-38));
        assert_eq!(mean(&[LARGEST; 7], 0), Scalar::Float64(1e38));
        assert_eq!(mean(&[-LARGEST; 5], 38), Scalar::Float64(-1.0));
        assert_eq!(mean(&[], 2), Scalar::Null);
    }

    #[test]
    fn float_sums_out_of_range_are_refused_and_their_means_are_not() {
        let mut cell = FloatSum::default();
        cell.add(f64::MAX);
        cell.add(f64::MAX);
        assert_eq!(cell.finish(Function::Sum).expect_err("too large").kind, ErrorKind::Overflow);
        assert_eq!(cell.finish(Function::Mean).expect("fits"), Scalar::Float64(f64::MAX));
    }

    #[test]
    fn impossible_saved_sums_are_refused() {
        let mut out = Vec::new();
        out.put_varint(1);
        out.put_i128(1 << 64);
        assert!(IntSum::decode(&mut Reader::new(&out)).is_err());
        out.clear();
        out.put_varint(1);
        out.put_i64(2);
        out.put_i128(0);
        assert!(DecimalSum::decode(&mut Reader::new(&out)).is_err());
        out.clear();
        out.put_varint(u64::MAX);
        assert!(Count::decode(&mut Reader::new(&out)).is_err());
    }
}
