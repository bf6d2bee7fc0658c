//! Approximate sets of values: one `HyperLogLog` sketch a slot.
//!
//! `typed` feeds it canonical bytes, `finish` asks for the composite estimate. The sketch's other
//! estimator (HIP) depends on the order of arrival, so it is neither asked nor saved. Invariant: what
//! [`Saved`] holds (the coupons while there are few, then the registers) is a function of the set of
//! values alone, and so is the estimate: register sums are multiples of `2^-63` and add exactly.

use super::AggregatePlan;
use super::cells::Cell;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use datasketches::hash::value::raw_bytes;
use datasketches::hll::{Coupon, HllSketch, HllType, HllUnion};

/// 4096 registers: a relative error of about 1.6 %.
const LG_K: u8 = 12;
const REGISTERS: usize = 1 << LG_K;
/// From this many coupons on the sketch is a hash table, no more a list.
const LIST_END: usize = 8;
/// Most coupons before they become registers: three quarters of a table of 512.
const COUPONS_MAX: usize = 384;
/// Largest value of a register or coupon.
const VALUE_MAX: u32 = 63;
/// Where a coupon's value starts; its slot is below.
const VALUE_SHIFT: u32 = 26;

// The DataSketches image: eight bytes of preamble (its length in words, version, family, lg k, lg of
// the table, flags, number in a list, mode and type), then the sizes, then the contents.
const IMAGE_VERSION: u8 = 1;
const IMAGE_FAMILY: u8 = 7;
const IMAGE_EMPTY: u8 = 4;
const IMAGE_COMPACT: u8 = 8;
const IMAGE_OUT_OF_ORDER: u8 = 16;
const IMAGE_HLL8: u8 = 2 << 2;
const MODE_LIST: u8 = 0;
const MODE_SET: u8 = 1;
const MODE_REGISTERS: u8 = 2;
const LIST_PREAMBLE: usize = 8;
const SET_PREAMBLE: usize = 12;
const REGISTERS_PREAMBLE: usize = 40;

/// An estimate of the different values seen.
#[derive(Debug, Clone)]
pub(super) struct Approximate(HllSketch);

impl Default for Approximate {
    fn default() -> Self {
        Self(HllSketch::new(LG_K, HllType::Hll8).expect("12 is a size the sketch allows"))
    }
}

impl Approximate {
    /// Adds a value, hashed as every other `DataSketches` library hashes it.
    #[inline]
    pub fn insert(&mut self, bytes: &[u8]) {
        self.0.update_with_coupon(Coupon::from_value(raw_bytes::from_slice(bytes)));
    }

    /// The number of different values, to the nearest integer.
    pub fn estimate(&self) -> i64 {
        self.0.composite_estimate().round() as i64
    }
}

impl Cell for Approximate {
    const FORM: u8 = 6;

    fn merge(&mut self, other: &Self, _: &AggregatePlan) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        let mut union = HllUnion::new(LG_K).expect("12 is a size the union allows");
        union.update(&self.0);
        union.update(&other.0);
        self.0 = union.to_sketch(HllType::Hll8);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        Saved::of(&self.0).encode(out);
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let image = Saved::decode(saved)?.image();
        let sketch = HllSketch::deserialize(&image);
        Ok(Self(
            sketch.map_err(|error| Error::state(format!("saved state holds a sketch that cannot be read: {error}")))?,
        ))
    }

    fn heap_len(&self) -> usize {
        self.0.estimated_size()
    }
}

/// The contents of a sketch, in one form for a set of values.
enum Saved {
    /// Rising; each a value of 1 to 63 above a slot of 26 bits.
    Coupons(Vec<u32>),
    /// One byte each, 0 to 63.
    Registers(Vec<u8>),
}

impl Saved {
    fn of(sketch: &HllSketch) -> Self {
        let image = sketch.serialize();
        let start = match image[7] & 3 {
            MODE_LIST => LIST_PREAMBLE,
            MODE_SET => SET_PREAMBLE,
            _ => return Self::Registers(image[REGISTERS_PREAMBLE..].to_vec()),
        };
        let mut coupons = read_coupons(&image[start..]);
        coupons.sort_unstable();
        Self::Coupons(coupons)
    }

    /// The number of coupons and the coupons, or [`COUPONS_MAX`] + 1 and the registers.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Coupons(coupons) => {
                out.put_varint(coupons.len() as u64);
                out.extend(coupons.iter().flat_map(|coupon| coupon.to_le_bytes()));
            }
            Self::Registers(registers) => {
                out.put_varint(COUPONS_MAX as u64 + 1);
                out.extend_from_slice(registers);
            }
        }
    }

    fn decode(saved: &mut Reader<'_>) -> Result<Self> {
        let len = saved.varint()? as usize;
        let overwritten =
            || Error::state("saved state holds a sketch that no values could have left; it was overwritten");
        if len > COUPONS_MAX {
            let registers = saved.take(REGISTERS)?;
            let possible = registers.iter().all(|register| u32::from(*register) <= VALUE_MAX);
            return if len == COUPONS_MAX + 1 && possible {
                Ok(Self::Registers(registers.to_vec()))
            } else {
                Err(overwritten())
            };
        }
        let coupons = read_coupons(saved.take(len * size_of::<u32>())?);
        let rising = coupons.windows(2).all(|pair| pair[0] < pair[1]);
        let possible = coupons.iter().all(|coupon| coupon >> VALUE_SHIFT != 0);
        if rising && possible { Ok(Self::Coupons(coupons)) } else { Err(overwritten()) }
    }

    /// The `DataSketches` image with these contents.
    fn image(&self) -> Vec<u8> {
        match self {
            Self::Coupons(coupons) => coupons_image(coupons),
            Self::Registers(registers) => registers_image(registers),
        }
    }
}

fn read_coupons(bytes: &[u8]) -> Vec<u32> {
    let (coupons, _) = bytes.as_chunks();
    coupons.iter().map(|coupon| u32::from_le_bytes(*coupon)).collect()
}

fn preamble(words: u8, lg_table: u8, flags: u8, listed: u8, mode: u8) -> Vec<u8> {
    vec![words, IMAGE_VERSION, IMAGE_FAMILY, LG_K, lg_table, flags, listed, mode | IMAGE_HLL8]
}

fn coupons_image(coupons: &[u32]) -> Vec<u8> {
    let mut image = if coupons.len() < LIST_END {
        let empty = if coupons.is_empty() { IMAGE_EMPTY } else { 0 };
        preamble(2, 3, IMAGE_COMPACT | empty, coupons.len() as u8, MODE_LIST)
    } else {
        // the smallest table, of 32 at least, that is at most three quarters full
        let lg_table = (coupons.len() * 4).div_ceil(3).next_power_of_two().ilog2().max(5);
        let mut image = preamble(3, lg_table as u8, IMAGE_COMPACT, 0, MODE_SET);
        image.extend_from_slice(&(coupons.len() as u32).to_le_bytes());
        image
    };
    image.extend(coupons.iter().flat_map(|coupon| coupon.to_le_bytes()));
    image
}

fn registers_image(registers: &[u8]) -> Vec<u8> {
    // sums of 2^-register, apart below and from 32 so that each is exact
    let inverse_sum = |low: bool| {
        let chosen = registers.iter().filter(|register| (**register < 32) == low);
        chosen.map(|register| 1.0 / (1_u64 << register) as f64).fold(0.0_f64, |sum, part| sum + part)
    };
    let zeros = registers.iter().map(|register| u32::from(*register == 0)).sum::<u32>();
    let mut image = preamble(10, 0, IMAGE_OUT_OF_ORDER, 0, MODE_REGISTERS);
    image.extend_from_slice(&0.0_f64.to_le_bytes());
    image.extend_from_slice(&inverse_sum(true).to_le_bytes());
    image.extend_from_slice(&inverse_sum(false).to_le_bytes());
    image.extend_from_slice(&zeros.to_le_bytes());
    image.extend_from_slice(&0_u32.to_le_bytes());
    image.extend_from_slice(registers);
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::DataType;

    fn sketch_of(values: impl Iterator<Item = u64>) -> Approximate {
        let mut sketch = Approximate::default();
        values.for_each(|value| sketch.insert(&value.to_le_bytes()));
        sketch
    }

    fn saved(sketch: &Approximate) -> Vec<u8> {
        let mut out = Vec::new();
        sketch.encode(&mut out);
        out
    }

    /// Sizes around each change of form: list, table, its growth, registers.
    const SIZES: [u64; 16] = [0, 1, 7, 8, 9, 24, 25, 48, 49, 192, 193, 383, 384, 385, 400, 60_000];

    #[test]
    fn order_leaves_no_trace() {
        for size in SIZES {
            let (up, down) = (sketch_of(0..size), sketch_of((0..size).rev().chain(0..size)));
            assert_eq!(saved(&up), saved(&down), "{size} values");
            assert_eq!(up.estimate(), down.estimate(), "{size} values");
        }
    }

    #[test]
    fn merges_of_any_cut_leave_no_trace() {
        let plan = AggregatePlan::resolve("approx_distinct", &[DataType::Int64]).expect("resolves");
        for size in SIZES {
            let whole = sketch_of(0..size);
            for cut in SIZES.into_iter().filter(|cut| *cut <= size) {
                // halves that overlap, merged both ways
                let (left, right) = (sketch_of(0..cut), sketch_of(cut / 2..size));
                for (into, from) in [(&left, &right), (&right, &left)] {
                    let mut merged = into.clone();
                    merged.merge(from, &plan);
                    assert_eq!(saved(&merged), saved(&whole), "{cut} of {size} values");
                    assert_eq!(merged.estimate(), whole.estimate(), "{cut} of {size} values");
                }
            }
        }
    }

    #[test]
    fn saved_sketches_read_back_and_go_on() {
        for size in SIZES {
            let mut sketch = sketch_of(0..size);
            let bytes = saved(&sketch);
            let mut back = Approximate::decode(&mut Reader::new(&bytes)).expect("decodes");
            assert_eq!(saved(&back), bytes, "{size} values");
            assert_eq!(back.estimate(), sketch.estimate(), "{size} values");
            for value in size..size + 500 {
                sketch.insert(&value.to_le_bytes());
                back.insert(&value.to_le_bytes());
            }
            assert_eq!(saved(&back), saved(&sketch), "{size} values and 500 more");
            assert_eq!(back.estimate(), sketch.estimate(), "{size} values and 500 more");
        }
    }

    #[test]
    fn estimates_are_near() {
        for size in [0, 1, 2, 10, 100, 384, 1_000, 10_000, 100_000] {
            let estimate = sketch_of(0..size).estimate() as f64;
            let off = (estimate - size as f64).abs();
            assert!(off <= 0.05 * size as f64, "{estimate} for {size}");
        }
        assert_eq!(sketch_of(0..100).estimate(), 100);
    }

    #[test]
    fn an_image_can_be_rebuilt_from_its_contents() {
        for size in SIZES {
            let sketch = sketch_of(0..size);
            let rebuilt = HllSketch::deserialize(&Saved::of(&sketch.0).image()).expect("a sketch");
            assert_eq!(
                rebuilt.composite_estimate().to_bits(),
                sketch.0.composite_estimate().to_bits(),
                "{size} values"
            );
            assert_eq!(rebuilt.estimated_size(), sketch.0.estimated_size(), "{size} values");
        }
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let refused = |bytes: &[u8]| Approximate::decode(&mut Reader::new(bytes)).is_err();
        let mut falling = vec![2];
        falling.extend_from_slice(&(2_u32 << VALUE_SHIFT).to_le_bytes());
        falling.extend_from_slice(&(1_u32 << VALUE_SHIFT).to_le_bytes());
        assert!(refused(&falling));
        let mut no_value = vec![1];
        no_value.extend_from_slice(&5_u32.to_le_bytes());
        assert!(refused(&no_value));
        let mut registers = saved(&sketch_of(0..1_000));
        assert!(refused(&registers[..registers.len() - 1]));
        *registers.last_mut().expect("registers") = 64;
        assert!(refused(&registers));
        let mut unknown = Vec::new();
        unknown.put_varint(400);
        unknown.resize(REGISTERS + 8, 1);
        assert!(refused(&unknown));
    }
}
