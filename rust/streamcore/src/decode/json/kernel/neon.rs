//! The kernel of aarch64 CPUs: 16 bytes at a time.
//!
//! As `avx2.rs`: operations are inlined into its entrances, and the loads are of quarters of chunks.
#![expect(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]

use super::{Bits, Chunk, Classes, Escapes, Wide, halves_of, whole_of};
use crate::decode::json::layouts::Known;
use crate::decode::json::marks::{Block, Marks, Rows};
use crate::raw::PADDING;
use std::arch::aarch64::{
    uint8x16_t, vandq_u8, vceqq_u8, vcleq_u8, vcltq_u8, vdupq_n_u8, vgetq_lane_u64, vld1q_u8, vmaxvq_u8, vminq_s8,
    vminvq_s8, vorrq_u8, vpaddq_u8, vreinterpretq_s8_u8, vreinterpretq_u64_u8, vsubq_u8,
};
use std::arch::is_aarch64_feature_detected;

/// Proof that the CPU has NEON; [`Neon::detect`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    /// The proof, where the CPU has it.
    #[must_use]
    pub fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }
}

entrances!(Neon, "neon");

// No closures and no `array::map` below: they would be compiled for any CPU, and called.

#[inline]
#[target_feature(enable = "neon")]
fn quarter(bytes: &Chunk, place: usize) -> uint8x16_t {
    let (quarters, _) = bytes.as_chunks::<16>();
    // SAFETY: a quarter has the 16 bytes that are read, and the load needs no alignment.
    unsafe { vld1q_u8(quarters[place].as_ptr()) }
}

/// A bit for each byte that is all ones (the others are zero): each byte keeps the bit of its place
/// among eight, and neighbours are added until eight bytes are left.
#[inline]
#[target_feature(enable = "neon")]
fn mask(first: uint8x16_t, second: uint8x16_t, third: uint8x16_t, fourth: uint8x16_t) -> u64 {
    const PLACES: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];
    // SAFETY: sixteen bytes are read of sixteen.
    let places = unsafe { vld1q_u8(PLACES.as_ptr()) };
    let start = vpaddq_u8(vandq_u8(first, places), vandq_u8(second, places));
    let end = vpaddq_u8(vandq_u8(third, places), vandq_u8(fourth, places));
    let sums = vpaddq_u8(start, end);
    vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)))
}

/// The bytes that are `byte`.
#[inline]
#[target_feature(enable = "neon")]
fn equal(bytes: &Chunk, byte: u8) -> u64 {
    let byte = vdupq_n_u8(byte);
    mask(
        vceqq_u8(quarter(bytes, 0), byte),
        vceqq_u8(quarter(bytes, 1), byte),
        vceqq_u8(quarter(bytes, 2), byte),
        vceqq_u8(quarter(bytes, 3), byte),
    )
}

/// The bytes below `limit`.
#[inline]
#[target_feature(enable = "neon")]
fn below(bytes: &Chunk, limit: u8) -> u64 {
    let limit = vdupq_n_u8(limit);
    mask(
        vcltq_u8(quarter(bytes, 0), limit),
        vcltq_u8(quarter(bytes, 1), limit),
        vcltq_u8(quarter(bytes, 2), limit),
        vcltq_u8(quarter(bytes, 3), limit),
    )
}

#[inline]
#[target_feature(enable = "neon")]
fn classify(bytes: &Chunk) -> Classes {
    Classes {
        quotes: halves_of(equal(bytes, b'"')),
        backslashes: halves_of(equal(bytes, b'\\')),
        controls: halves_of(below(bytes, 0x20)),
        high: halves_of(!below(bytes, 0x80)),
    }
}

/// The bytes from `first` to `last`.
#[inline]
#[target_feature(enable = "neon")]
fn between(bytes: uint8x16_t, first: u8, last: u8) -> uint8x16_t {
    vcleq_u8(vsubq_u8(bytes, vdupq_n_u8(first)), vdupq_n_u8(last - first))
}

#[inline]
#[target_feature(enable = "neon")]
fn hexadecimal(bytes: &Chunk, place: usize) -> uint8x16_t {
    let bytes = quarter(bytes, place);
    vorrq_u8(between(bytes, b'0', b'9'), between(vorrq_u8(bytes, vdupq_n_u8(0x20)), b'a', b'f'))
}

#[inline]
#[target_feature(enable = "neon")]
fn escapes(bytes: &Chunk) -> Escapes {
    let mut known = 0;
    for byte in *b"\"\\/bfnrtu" {
        known |= equal(bytes, byte);
    }
    let digits = mask(hexadecimal(bytes, 0), hexadecimal(bytes, 1), hexadecimal(bytes, 2), hexadecimal(bytes, 3));
    Escapes { known: halves_of(known), units: halves_of(equal(bytes, b'u')), digits: halves_of(digits) }
}

#[inline]
#[target_feature(enable = "neon")]
fn mark_plain(chunks: &[Chunk], quotes: &mut [[u8; 8]]) -> bool {
    // The least byte: below the first printable one are control characters and, as signed bytes, all beyond ASCII.
    let (mut least, mut backslashes) = (vreinterpretq_s8_u8(vdupq_n_u8(0x7f)), vdupq_n_u8(0));
    for (chunk, quotes) in chunks.iter().zip(quotes) {
        *quotes = equal(chunk, b'"').to_le_bytes();
        for place in 0..4 {
            let bytes = quarter(chunk, place);
            least = vminq_s8(least, vreinterpretq_s8_u8(bytes));
            backslashes = vorrq_u8(backslashes, vceqq_u8(bytes, vdupq_n_u8(b'\\')));
        }
    }
    vminvq_s8(least) >= 0x20 && vmaxvq_u8(backslashes) == 0
}

/// The bytes in which `left` and `right` are the same.
#[inline]
#[target_feature(enable = "neon")]
fn same(left: &Chunk, right: &Chunk) -> u64 {
    mask(
        vceqq_u8(quarter(left, 0), quarter(right, 0)),
        vceqq_u8(quarter(left, 1), quarter(right, 1)),
        vceqq_u8(quarter(left, 2), quarter(right, 2)),
        vceqq_u8(quarter(left, 3), quarter(right, 3)),
    )
}

#[inline]
#[target_feature(enable = "neon")]
fn begins(bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool {
    !same(bytes, literal) & whole_of(compared) == 0
}
