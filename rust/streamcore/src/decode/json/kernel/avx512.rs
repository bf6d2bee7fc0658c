//! The kernel of x86-64 CPUs with AVX-512 for bytes: 64 bytes at a time, with masks in registers.
//!
//! As `avx2.rs`: operations are inlined into [`locate`], and the loads are of whole chunks.
#![allow(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]
#![allow(clippy::inline_always, reason = "an operation that is not inlined is compiled for any CPU")]

use super::Wide;
use super::padded::{Chunk, Padded};
use crate::decode::json::Located;
use crate::decode::json::layout::Layout;
use std::arch::x86_64::{
    __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmplt_epu8_mask, _mm512_cmpneq_epi8_mask, _mm512_loadu_si512,
    _mm512_set1_epi8,
};

/// Proof that the CPU has AVX-512 F and BW, BMI1, BMI2 and LZCNT; [`Avx512::detect`] gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, where the CPU has them.
    #[must_use]
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
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

#[target_feature(enable = "avx512f,avx512bw,bmi1,bmi2,lzcnt")]
fn locate<const N: usize>(kernel: Avx512, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
    layout.locate_with(kernel, records, found)
}

impl Wide for Avx512 {
    const WIDTH: usize = 64;
    const BITS: usize = 1;

    #[inline(always)]
    fn text_ends(self, text: &Chunk) -> (u64, u64) {
        // SAFETY: `self` proves that the CPU has AVX-512 F and BW.
        unsafe { text_ends(text) }
    }

    #[inline(always)]
    fn differing(self, left: &Chunk, right: &Chunk) -> u64 {
        // SAFETY: `self` proves that the CPU has AVX-512 F and BW.
        unsafe { differing(left, right) }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &Chunk) -> __m512i {
    // SAFETY: a chunk has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn text_ends(text: &Chunk) -> (u64, u64) {
    let bytes = load(text);
    let quotes = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"'.cast_signed()));
    let backslashes = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\'.cast_signed()));
    (quotes, backslashes | _mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn differing(left: &Chunk, right: &Chunk) -> u64 {
    _mm512_cmpneq_epi8_mask(load(left), load(right))
}
