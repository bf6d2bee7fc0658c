//! The least or greatest value, and with a place in front of it the first or last one.
//!
//! `typed` feeds them; `chosen` and `stored` are further values that can win. Invariant: values have a total order and equal values are the same bytes, so
//! the winner does not depend on which came first. Floats order as numbers with `-0.0` before `0.0`
//! and NaN, of which there is one, above all.

use super::cells::{ALLOCATION_BYTES, Cell};
use super::{AggregatePlan, Function};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use std::cmp::Ordering;

/// A value that can win.
pub(super) trait Value: Clone {
    /// How it is read from a column, without a copy.
    type Ref<'a>: Copy;
    /// Kind and version of the saved form, as [`Cell::FORM`].
    const FORM: u8;
    /// A total order.
    fn compare(left: Self::Ref<'_>, right: Self::Ref<'_>) -> Ordering;
    /// The value, borrowed.
    fn get(&self) -> Self::Ref<'_>;
    /// The value, owned.
    fn own(value: Self::Ref<'_>) -> Self;
    /// Takes another value, into memory it already has.
    fn set(&mut self, value: Self::Ref<'_>) {
        *self = Self::own(value);
    }
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what `encode` wrote.
    fn decode(saved: &mut Reader<'_>) -> Result<Self>;
    /// Bytes held outside the value.
    fn heap_len(&self) -> usize {
        0
    }
}

/// The winner so far, if any value was seen.
#[derive(Debug, Clone)]
pub(super) struct Extreme<V>(Option<V>);

impl<V> Default for Extreme<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V: Value> Extreme<V> {
    /// Takes `candidate` if it compares to the winner as `wins`.
    #[inline]
    pub fn offer(&mut self, candidate: V::Ref<'_>, wins: Ordering) {
        match &mut self.0 {
            None => self.0 = Some(V::own(candidate)),
            Some(winner) if V::compare(candidate, winner.get()) == wins => winner.set(candidate),
            Some(_) => {}
        }
    }

    /// The winner, as it is held.
    pub fn held(&self) -> Option<&V> {
        self.0.as_ref()
    }

    /// The winner, borrowed.
    pub fn winner(&self) -> Option<V::Ref<'_>> {
        self.0.as_ref().map(V::get)
    }
}

/// How a candidate must compare to the winner to take its place.
pub(super) const fn wins(function: Function) -> Ordering {
    match function {
        Function::Min | Function::All | Function::First | Function::ArgMin => Ordering::Less,
        _ => Ordering::Greater,
    }
}

impl<V: Value> Cell for Extreme<V> {
    const FORM: u8 = V::FORM;

    fn merge(&mut self, other: &Self, plan: &AggregatePlan) {
        if let Some(candidate) = other.winner() {
            self.offer(candidate, wins(plan.function));
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.0.is_some()));
        if let Some(winner) = &self.0 {
            winner.encode(out);
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(Self(if flag(saved)? { Some(V::decode(saved)?) } else { None }))
    }

    fn heap_len(&self) -> usize {
        self.0.as_ref().map_or(0, V::heap_len)
    }
}

/// Reads a byte that is 0 or 1.
pub(super) fn flag(saved: &mut Reader<'_>) -> Result<bool> {
    match saved.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Error::state(format!("saved state holds {other} where 0 or 1 is expected; it was overwritten"))),
    }
}

/// A type whose own order is the order of its values: its form, and how it is written and read.
macro_rules! ordered_value {
    ($type:ty, $form:literal, $encode:expr, $decode:expr) => {
        impl Value for $type {
            type Ref<'a> = Self;
            const FORM: u8 = $form;

            fn compare(left: Self, right: Self) -> Ordering {
                left.cmp(&right)
            }

            fn get(&self) -> Self {
                *self
            }

            fn own(value: Self) -> Self {
                value
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $encode(out, *self);
            }

            fn decode(saved: &mut Reader<'_>) -> Result<Self> {
                $decode(saved)
            }
        }
    };
}

ordered_value!(bool, 16, |out: &mut Vec<u8>, value| out.put_u8(u8::from(value)), flag);
ordered_value!(i64, 17, Vec::put_i64, Reader::i64);
ordered_value!(i128, 19, Vec::put_i128, Reader::i128);

/// One NaN for all of them: it is positive, so it compares above infinity.
pub(super) fn one_nan(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

impl Value for f64 {
    type Ref<'a> = Self;
    const FORM: u8 = 18;

    fn compare(left: Self, right: Self) -> Ordering {
        one_nan(left).total_cmp(&one_nan(right))
    }

    fn get(&self) -> Self {
        *self
    }

    fn own(value: Self) -> Self {
        one_nan(value)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.to_bits());
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(one_nan(Self::from_bits(saved.u64()?)))
    }
}

impl Value for Vec<u8> {
    type Ref<'a> = &'a [u8];
    const FORM: u8 = 20;

    fn compare(left: &[u8], right: &[u8]) -> Ordering {
        left.cmp(right)
    }

    fn get(&self) -> &[u8] {
        self
    }

    fn own(value: &[u8]) -> Self {
        value.to_vec()
    }

    fn set(&mut self, value: &[u8]) {
        self.clear();
        self.extend_from_slice(value);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_bytes(self);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(saved.bytes()?.to_vec())
    }

    fn heap_len(&self) -> usize {
        self.len() + ALLOCATION_BYTES
    }
}

/// What orders `first` and `last`. The fields in the order they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub event_time_ms: i64,
    pub partition: i32,
    pub offset: i64,
}

impl Place {
    /// Appends the place.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.event_time_ms);
        out.put_i64(self.partition.into());
        out.put_i64(self.offset);
    }

    /// Reads what `encode` wrote.
    pub fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let (event_time_ms, partition, offset) = (saved.i64()?, saved.i64()?, saved.i64()?);
        let partition = i32::try_from(partition)
            .map_err(|_| Error::state(format!("saved state names partition {partition}; it was overwritten")))?;
        Ok(Self { event_time_ms, partition, offset })
    }
}

/// A value behind its place. Values at one place (a record merged with itself) are compared too, so
/// that merging commutes whatever it is given.
#[derive(Debug, Clone)]
pub(super) struct Placed<V> {
    place: Place,
    value: V,
}

impl<V> Placed<V> {
    /// The value, as it is held.
    pub fn value(&self) -> &V {
        &self.value
    }
}

impl<V: Value> Value for Placed<V> {
    type Ref<'a> = (Place, V::Ref<'a>);
    const FORM: u8 = V::FORM + 16;

    fn compare(left: Self::Ref<'_>, right: Self::Ref<'_>) -> Ordering {
        left.0.cmp(&right.0).then_with(|| V::compare(left.1, right.1))
    }

    fn get(&self) -> Self::Ref<'_> {
        (self.place, self.value.get())
    }

    fn own((place, value): Self::Ref<'_>) -> Self {
        Self { place, value: V::own(value) }
    }

    fn set(&mut self, (place, value): Self::Ref<'_>) {
        self.place = place;
        self.value.set(value);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.place.encode(out);
        self.value.encode(out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { place: Place::decode(saved)?, value: V::decode(saved)? })
    }

    fn heap_len(&self) -> usize {
        self.value.heap_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn least_and_greatest(values: &[f64]) -> (u64, u64) {
        let winner = |wins| {
            let mut cell = Extreme::<f64>::default();
            for value in values {
                cell.offer(*value, wins);
            }
            cell.winner().expect("a value").to_bits()
        };
        (winner(Ordering::Less), winner(Ordering::Greater))
    }

    #[test]
    fn floats_order_with_signed_zeros_and_nan_above_all() {
        let zeros = (-0.0_f64).to_bits();
        assert_eq!(least_and_greatest(&[0.0, -0.0]), (zeros, 0));
        assert_eq!(least_and_greatest(&[-0.0, 0.0]), (zeros, 0));
        let nan = f64::NAN.to_bits();
        assert_eq!(least_and_greatest(&[-f64::NAN, f64::INFINITY]), (f64::INFINITY.to_bits(), nan));
        assert_eq!(least_and_greatest(&[f64::from_bits(nan | 7), -f64::NAN]), (nan, nan));
    }

    #[test]
    fn the_place_decides_and_then_the_value() {
        let place = |event_time_ms, partition, offset| Place { event_time_ms, partition, offset };
        let mut first = Extreme::<Placed<i64>>::default();
        let mut last = Extreme::<Placed<i64>>::default();
        let rows =
            [(place(5, 1, 0), 1), (place(5, 0, 9), 2), (place(5, 0, 8), 3), (place(6, 0, 0), 4), (place(6, 0, 0), 5)];
        for row in rows {
            first.offer(row, Ordering::Less);
            last.offer(row, Ordering::Greater);
        }
        assert_eq!(first.winner().map(|row| row.1), Some(3));
        assert_eq!(last.winner().map(|row| row.1), Some(5));
    }

    #[test]
    fn impossible_saved_values_are_refused() {
        assert!(Extreme::<bool>::decode(&mut Reader::new(&[1, 2])).is_err());
        assert!(Extreme::<i64>::decode(&mut Reader::new(&[3])).is_err());
        let mut out = vec![1];
        out.put_i64(0);
        out.put_i64(1 << 40);
        out.put_i64(0);
        out.put_i64(0);
        assert!(Extreme::<Placed<i64>>::decode(&mut Reader::new(&out)).is_err());
    }
}
