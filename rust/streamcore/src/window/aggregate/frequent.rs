//! `top_k`: how often each value occurred, exactly, as long as they are not too many.
//!
//! `typed` feeds it and asks for the most frequent. Invariant: counts are exact or none. A group with
//! more than [`VALUES_MAX`] different values holds nothing any more, whatever came first: that too is a
//! function of the rows alone, where sketches of heavy hitters (Misra-Gries, `SpaceSaving`) hold what the
//! order of arrival and of merges left.

use super::AggregatePlan;
use super::cells::{ALLOCATION_BYTES, Cell};
use super::extreme::{Value, flag};
use super::stored::{Stored, encode_scalar, misfit};
use crate::batch::{DataType, Scalar};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use std::cmp::Ordering;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Most different values that are counted.
pub const VALUES_MAX: usize = 65_536;

/// A tag and a byte, and a count: the least that a saved value takes.
const VALUE_BYTES_MIN: usize = 4;

/// The least count that no state has seen.
const COUNT_END: u64 = 1 << 62;

/// How often each value occurred.
#[derive(Debug, Clone, Default)]
pub(super) struct Frequent {
    /// By the value's saved form.
    counts: HashMap<Box<[u8]>, u64, FixedState>,
    /// Bytes of the keys.
    key_bytes: usize,
    /// True when there were too many different values.
    is_beyond: bool,
}

impl Frequent {
    /// Counts one more `value`; `scratch` is memory to use.
    pub fn add(&mut self, value: Scalar<'_>, scratch: &mut Vec<u8>) {
        scratch.clear();
        encode_scalar(canonical(value), scratch);
        self.add_key(scratch, 1);
    }

    fn add_key(&mut self, key: &[u8], count: u64) {
        if self.is_beyond {
            return;
        }
        if let Some(known) = self.counts.get_mut(key) {
            *known += count;
            return;
        }
        self.key_bytes += key.len();
        self.counts.insert(key.into(), count);
        if self.counts.len() > VALUES_MAX {
            *self = Self { is_beyond: true, ..Self::default() };
        }
    }

    /// The `most` most frequent values, of equally frequent ones the least; `None` when there are
    /// none, or were too many.
    pub fn top(&self, most: usize) -> Option<Vec<(Stored, u64)>> {
        if self.counts.is_empty() {
            return None;
        }
        let read = |key: &[u8]| Stored::decode(&mut Reader::new(key)).expect("keys are saved values");
        let mut ranked: Vec<(Stored, u64)> = self.counts.iter().map(|(key, count)| (read(key), *count)).collect();
        let order = |left: &(Stored, u64), right: &(Stored, u64)| -> Ordering {
            right.1.cmp(&left.1).then_with(|| Stored::compare(left.0.get(), right.0.get()))
        };
        if most < ranked.len() {
            ranked.select_nth_unstable_by(most, order);
            ranked.truncate(most);
        }
        ranked.sort_unstable_by(order);
        Some(ranked)
    }

    /// Refuses values that a column of `data_type` cannot hold.
    pub fn check(&self, data_type: DataType) -> Result<()> {
        for key in self.counts.keys() {
            if !Stored::decode(&mut Reader::new(key))?.fits(data_type) {
                return Err(misfit());
            }
        }
        Ok(())
    }
}

/// One form for equal values: `-0.0` is `0.0`.
fn canonical(value: Scalar<'_>) -> Scalar<'_> {
    if let Scalar::Float64(number) = value { Scalar::Float64(number + 0.0) } else { value }
}

impl Cell for Frequent {
    const FORM: u8 = 9;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        if other.is_beyond {
            *self = Self { is_beyond: true, ..Self::default() };
        }
        for (key, count) in &other.counts {
            self.add_key(key, *count);
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u8(u8::from(self.is_beyond));
        out.put_varint(self.counts.len() as u64);
        let mut rising: Vec<(&Box<[u8]>, &u64)> = self.counts.iter().collect();
        rising.sort_unstable();
        for (key, count) in rising {
            out.put_bytes(key);
            out.put_varint(*count);
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let mut cell = Self { is_beyond: flag(saved)?, ..Self::default() };
        let len = saved.count(VALUE_BYTES_MIN)?;
        for _ in 0..len {
            let (key, count) = (saved.bytes()?, saved.varint()?);
            let mut value = Reader::new(key);
            Stored::decode(&mut value)?;
            value.finish()?;
            if cell.counts.contains_key(key) || count == 0 || count >= COUNT_END {
                return Err(overwritten());
            }
            cell.key_bytes += key.len();
            cell.counts.insert(key.into(), count);
        }
        if len > VALUES_MAX || (cell.is_beyond && len > 0) { Err(overwritten()) } else { Ok(cell) }
    }

    /// The sum of the entries' hashes: their order does not matter.
    fn digest(&self) -> u64 {
        let hashes = self.counts.iter().map(|(key, count)| xxh3_64_with_seed(key, *count));
        hashes.fold(u64::from(self.is_beyond), u64::wrapping_add)
    }

    fn heap_len(&self) -> usize {
        // an entry takes where its key is, a count and a control byte, at a load of 7/16 to 7/8
        self.key_bytes + self.counts.len() * (ALLOCATION_BYTES + 40)
    }
}

fn overwritten() -> Error {
    Error::state("saved state holds counts that no values could have left; it was overwritten")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: impl Iterator<Item = i64>) -> Frequent {
        let (mut cell, mut scratch) = (Frequent::default(), Vec::new());
        values.for_each(|value| cell.add(Scalar::Int64(value), &mut scratch));
        cell
    }

    #[test]
    fn too_many_values_leave_nothing_however_they_come() {
        let plan = AggregatePlan::resolve("count", &[]).expect("resolves");
        let end = VALUES_MAX as i64;
        let most = counted(0..end);
        assert_eq!(most.top(1).map(|top| top.len()), Some(1));
        let beyond = counted((0..=end).rev());
        assert!(beyond.top(1).is_none() && beyond.heap_len() == 0);
        let mut merged = counted(end..=end);
        merged.merge(&most, &plan);
        let mut again = merged.clone();
        again.merge(&counted(0..5), &plan);
        assert_eq!([merged.digest(), again.digest()], [beyond.digest(); 2]);
    }

    #[test]
    fn equally_frequent_values_rank_by_value() {
        let top = counted([5, 3, 9, 3, 9, 1, -7].into_iter()).top(4).expect("values");
        let ranked: Vec<String> = top.iter().map(|(value, count)| format!("{:?} {count}", value.get())).collect();
        assert_eq!(ranked, ["Int64(3) 2", "Int64(9) 2", "Int64(-7) 1", "Int64(1) 1"]);
    }

    #[test]
    fn damage_is_refused() {
        let saved = |parts: &[(&[u8], u64)]| {
            let mut out = vec![0, parts.len() as u8];
            for (key, count) in parts {
                out.put_bytes(key);
                out.put_varint(*count);
            }
            out
        };
        let decode = |bytes: Vec<u8>| Frequent::decode(&mut Reader::new(&bytes)).is_ok();
        assert!(decode(saved(&[(&[1, 1], 3)])));
        for parts in [&[(&[1_u8, 1][..], 3), (&[1, 1], 1)][..], &[(&[1, 1], 0)], &[(&[1, 1, 0], 1)], &[(&[9, 1], 1)]] {
            assert!(!decode(saved(parts)));
        }
    }
}
