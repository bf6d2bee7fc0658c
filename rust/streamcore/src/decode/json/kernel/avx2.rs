//! The kernel of x86-64 CPUs since 2013: 32 bytes at a time.
//!
//! Its operations are inlined into [`locate`], which is compiled for the instruction set; the loads
//! are of whole chunks, so nothing is read beyond memory.
#![allow(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]
#![allow(clippy::inline_always, reason = "an operation that is not inlined is compiled for any CPU")]

use super::Wide;
use super::padded::{Chunk, Padded};
use crate::decode::json::Located;
use crate::decode::json::layout::Layout;
use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_loadu_si256, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8,
};

/// Proof that the CPU has AVX2, BMI1, BMI2 and LZCNT; [`Avx2::detect`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, where the CPU has them.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt");
        has.then_some(Self(()))
    }

    /// See [`Layout::locate_with`].
    #[inline]
    pub fn locate<const N: usize>(self, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
        // SAFETY: `self` proves that the CPU has the instructions `locate` is compiled for.
        unsafe { locate(self, layout, records, found) }
    }
}

#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
fn locate<const N: usize>(kernel: Avx2, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
    layout.locate_with(kernel, records, found)
}

impl Wide for Avx2 {
    const WIDTH: usize = 32;
    const BITS: usize = 1;

    #[inline(always)]
    fn text_ends(self, text: &Chunk) -> (u64, u64) {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { text_ends(text) }
    }

    #[inline(always)]
    fn differing(self, left: &Chunk, right: &Chunk) -> u64 {
        // SAFETY: `self` proves that the CPU has AVX2.
        unsafe { differing(left, right) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(bytes: &Chunk) -> __m256i {
    // SAFETY: a chunk has the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn mask(bytes: __m256i) -> u64 {
    u64::from(_mm256_movemask_epi8(bytes).cast_unsigned())
}

#[inline]
#[target_feature(enable = "avx2")]
fn text_ends(text: &Chunk) -> (u64, u64) {
    let bytes = load(text);
    let quotes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'"'.cast_signed()));
    let backslashes = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b'\\'.cast_signed()));
    let controls = _mm256_cmpeq_epi8(_mm256_min_epu8(bytes, _mm256_set1_epi8(0x1f)), bytes);
    (mask(quotes), mask(_mm256_or_si256(backslashes, controls)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn differing(left: &Chunk, right: &Chunk) -> u64 {
    mask(_mm256_cmpeq_epi8(load(left), load(right))) ^ u64::from(u32::MAX)
}
