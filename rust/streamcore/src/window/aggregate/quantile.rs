//! Quantiles from counts in buckets whose width grows with the values.
//!
//! `typed` feeds it and says which quantile. A bucket is a double's sign, exponent and first seven bits
//! of the mantissa: each power of two is cut into 128 equal parts, as in `HdrHistogram` (G. Tene) and in
//! the interpolated form of `DDSketch` (C. Masson, J. Rim and H. Lee, "`DDSketch`: a fast and
//! fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019). A bucket is told by its
//! end nearer to 0, which is within 1/128 of every value in it; whole numbers to 256 are such ends
//! themselves. (The middle would halve the error and show 10 as 10.03.) Invariant: the counts are a function of the set of rows alone;
//! KLL, REQ and t-digest (as in the crate `datasketches`) draw lots or depend on order, so that a
//! replay would not give the same rows nor lanes the same state.

use super::AggregatePlan;
use super::cells::Cell;
use super::extreme::one_nan;
use super::number::read_count;
use crate::batch::Scalar;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};

/// Bits of a double that do not tell its bucket.
const WITHIN_BITS: u32 = 45;
/// Key of the first bucket of normal doubles.
const LEAST_NORMAL: i32 = 1 << 7;
/// Most powers of ten that a double's power holds exactly.
const EXACT_POWER: u8 = 22;

/// How many values fell into each bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Quantile {
    /// Key and count of each bucket that has values, rising. Negative numbers have negative keys.
    buckets: Vec<(i32, u64)>,
    /// The least and the greatest value, so that the ends, and groups of one value, are exact.
    ends: Option<(f64, f64)>,
    count: u64,
}

impl Quantile {
    /// Adds one value.
    pub fn add(&mut self, value: f64) {
        let value = one_nan(value + 0.0);
        self.add_bucket(key_of(value), 1);
        self.widen(value, value);
        self.count += 1;
    }

    fn add_bucket(&mut self, key: i32, count: u64) {
        match self.buckets.binary_search_by_key(&key, |bucket| bucket.0) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (key, count)),
        }
    }

    fn widen(&mut self, least: f64, greatest: f64) {
        let (known_least, known_greatest) = self.ends.unwrap_or((least, greatest));
        self.ends = Some((lesser(known_least, least), greater(known_greatest, greatest)));
    }

    /// The value below or at which a share `q` of all values lies; null when there is none.
    pub fn value(&self, q: f64) -> Scalar<'static> {
        let Some((least, greatest)) = self.ends else { return Scalar::Null };
        // a hair less, so that 0.55 of 100 is 55 although the double 0.55 is above 0.55
        let rank = (q * self.count as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as u64;
        let rank = rank.clamp(1, self.count);
        if rank == 1 {
            return Scalar::Float64(least);
        }
        if rank == self.count {
            return Scalar::Float64(greatest);
        }
        let mut below = 0;
        let found = self.buckets.iter().find(|(_, count)| {
            below += count;
            below >= rank
        });
        let end = found.map_or(greatest, |(key, _)| end_of(*key));
        Scalar::Float64(greater(least, lesser(end, greatest)))
    }
}

fn key_of(value: f64) -> i32 {
    let magnitude = (value.abs().to_bits() >> WITHIN_BITS) as i32;
    if value < 0.0 { -1 - magnitude } else { magnitude }
}

/// The end of a bucket that is nearer to 0; what is no normal double counts as 0.
fn end_of(key: i32) -> f64 {
    let magnitude = if key < 0 { -1 - key } else { key };
    let end = if magnitude < LEAST_NORMAL { 0.0 } else { f64::from_bits((magnitude as u64) << WITHIN_BITS) };
    if key < 0 { -end } else { end }
}

fn lesser(left: f64, right: f64) -> f64 {
    if right.total_cmp(&left).is_lt() { right } else { left }
}

fn greater(left: f64, right: f64) -> f64 {
    if right.total_cmp(&left).is_gt() { right } else { left }
}

/// A decimal as the nearest double, or the one beside it: far less off than a bucket is wide.
pub(super) fn decimal_to_double(value: i128, scale: u8) -> f64 {
    let (first, rest) = (scale.min(EXACT_POWER), scale.saturating_sub(EXACT_POWER));
    value as f64 / 10.0_f64.powi(first.into()) / 10.0_f64.powi(rest.into())
}

impl Cell for Quantile {
    const FORM: u8 = 10;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        for (key, count) in &other.buckets {
            self.add_bucket(*key, *count);
        }
        if let Some((least, greatest)) = other.ends {
            self.widen(least, greatest);
        }
        self.count += other.count;
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.buckets.len() as u64);
        let mut previous = i32::MIN;
        for (key, count) in &self.buckets {
            out.put_varint(key.abs_diff(previous).into());
            out.put_varint(*count);
            previous = *key;
        }
        if let Some((least, greatest)) = self.ends {
            out.put_u64(least.to_bits());
            out.put_u64(greatest.to_bits());
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let overwritten =
            || Error::state("saved state holds buckets that no values could have left; it was overwritten");
        let mut cell = Self::default();
        let mut key = i64::from(i32::MIN);
        for _ in 0..saved.count(2)? {
            let (step, count) = (saved.varint()?, read_count(saved)?);
            if step == 0 || step > u64::from(u32::MAX) || count == 0 {
                return Err(overwritten());
            }
            key += step as i64;
            cell.buckets.push((i32::try_from(key).map_err(|_| overwritten())?, count));
            cell.count = cell.count.checked_add(count).filter(|count| *count < 1 << 62).ok_or_else(overwritten)?;
        }
        let (Some((first, _)), Some((last, _))) = (cell.buckets.first(), cell.buckets.last()) else { return Ok(cell) };
        let (least, greatest) = (f64::from_bits(saved.u64()?), f64::from_bits(saved.u64()?));
        if key_of(least) != *first || key_of(greatest) != *last || least.total_cmp(&greatest).is_gt() {
            return Err(overwritten());
        }
        cell.ends = Some((least, greatest));
        Ok(cell)
    }

    fn heap_len(&self) -> usize {
        size_of_val(self.buckets.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Quantile {
        let mut cell = Quantile::default();
        values.iter().for_each(|value| cell.add(*value));
        cell
    }

    fn value(cell: &Quantile, q: f64) -> f64 {
        match cell.value(q) {
            Scalar::Float64(value) => value,
            other => panic!("{other:?} is no number"),
        }
    }

    /// The value at the rank itself.
    fn exact(values: &[f64], q: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (q * values.len() as f64 * (1.0 - 4.0 * f64::EPSILON)).ceil() as usize;
        sorted[rank.clamp(1, values.len()) - 1]
    }

    #[test]
    fn ends_and_single_values_are_exact() {
        assert_eq!(of(&[]).value(0.5), Scalar::Null);
        assert_eq!(of(&[0.1, 0.1, 0.1]).value(0.9), Scalar::Float64(0.1));
        let cell = of(&[3.7, -2.2, 1e300]);
        assert_eq!(cell.value(0.0), Scalar::Float64(-2.2));
        assert_eq!(cell.value(1.0), Scalar::Float64(1e300));
        assert_eq!(of(&[-0.0, 0.0]).value(0.0), Scalar::Float64(0.0));
    }

    #[test]
    fn infinities_and_nan_are_at_their_places() {
        let cell = of(&[f64::NAN, f64::INFINITY, f64::INFINITY, 1.0, f64::NEG_INFINITY, f64::NEG_INFINITY, f64::MAX]);
        assert_eq!(cell.value(0.2), Scalar::Float64(f64::NEG_INFINITY));
        assert_eq!(cell.value(0.8), Scalar::Float64(f64::INFINITY));
        assert!(value(&cell, 0.5).is_finite());
        assert!(value(&cell, 1.0).is_nan());
    }

    #[test]
    fn a_share_written_in_decimals_means_that_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(of(&values).value(0.55), Scalar::Float64(55.0));
        assert_eq!(of(&values).value(0.07), Scalar::Float64(7.0));
        let negative: Vec<f64> = values.iter().map(|value| -value).collect();
        assert_eq!(of(&negative).value(0.07), Scalar::Float64(-94.0));
    }

    proptest! {
        #[test]
        fn results_are_within_the_bound_of_the_value_at_the_rank(
            values in prop::collection::vec(prop_oneof![-1e6..1e6, 0.0..1.0, any::<u64>().prop_map(f64::from_bits)
                .prop_filter("normal", |value| value.is_normal())], 1..300),
            q in 0.0..=1.0,
        ) {
            let (found, exact) = (value(&of(&values), q), exact(&values, q));
            prop_assert!((found - exact).abs() <= exact.abs() / 128.0, "{found} for {exact}");
        }
    }
}
