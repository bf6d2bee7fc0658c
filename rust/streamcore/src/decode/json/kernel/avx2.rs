//! The kernel of x86-64 CPUs since 2013: 32 bytes at a time.
//!
//! Its operations are inlined into its entrances, which are compiled for the instruction set;
//! the loads are of halves of chunks, so nothing is read beyond memory.
#![expect(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]

use super::{Bits, Chunk, Classes, Escapes, Wide};
use crate::decode::json::layouts::Known;
use crate::decode::json::marks::{Block, Marks, Rows};
use crate::raw::PADDING;
use std::arch::x86_64::{
    __m256i, _mm256_cmpeq_epi8, _mm256_cmpgt_epi8, _mm256_loadu_si256, _mm256_min_epi8, _mm256_min_epu8,
    _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_sub_epi8,
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
}

entrances!(Avx2, "avx2,bmi1,bmi2,lzcnt");

// No closures and no `array::map` below: they would be compiled for any CPU, and called.

/// The first and the second half.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: &Chunk) -> (__m256i, __m256i) {
    let (first, second) = bytes.split_at(size_of::<__m256i>());
    // SAFETY: a chunk has the twice 32 bytes that are read, and the loads need no alignment.
    unsafe { (_mm256_loadu_si256(first.as_ptr().cast()), _mm256_loadu_si256(second.as_ptr().cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn mask(half: __m256i) -> u32 {
    _mm256_movemask_epi8(half).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(half: __m256i, byte: u8) -> __m256i {
    _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte.cast_signed()))
}

#[inline]
#[target_feature(enable = "avx2")]
fn control(half: __m256i) -> __m256i {
    _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half)
}

#[inline]
#[target_feature(enable = "avx2")]
fn classify(bytes: &Chunk) -> Classes {
    let (first, second) = halves(bytes);
    Classes {
        quotes: [mask(equal(first, b'"')), mask(equal(second, b'"'))],
        backslashes: [mask(equal(first, b'\\')), mask(equal(second, b'\\'))],
        controls: [mask(control(first)), mask(control(second))],
        high: [mask(first), mask(second)],
    }
}

/// The bytes from `first` to `last`.
#[inline]
#[target_feature(enable = "avx2")]
fn between(half: __m256i, first: u8, last: u8) -> __m256i {
    let above = _mm256_sub_epi8(half, _mm256_set1_epi8(first.cast_signed()));
    _mm256_cmpeq_epi8(_mm256_min_epu8(above, _mm256_set1_epi8((last - first).cast_signed())), above)
}

#[inline]
#[target_feature(enable = "avx2")]
fn hexadecimal(half: __m256i) -> __m256i {
    let lower = _mm256_or_si256(half, _mm256_set1_epi8(0x20));
    _mm256_or_si256(between(half, b'0', b'9'), between(lower, b'a', b'f'))
}

/// The bytes that may follow a backslash.
#[inline]
#[target_feature(enable = "avx2")]
fn known(half: __m256i) -> __m256i {
    let mut known = equal(half, b'"');
    for byte in *b"\\/bfnrtu" {
        known = _mm256_or_si256(known, equal(half, byte));
    }
    known
}

#[inline]
#[target_feature(enable = "avx2")]
fn escapes(bytes: &Chunk) -> Escapes {
    let (first, second) = halves(bytes);
    Escapes {
        known: [mask(known(first)), mask(known(second))],
        units: [mask(equal(first, b'u')), mask(equal(second, b'u'))],
        digits: [mask(hexadecimal(first)), mask(hexadecimal(second))],
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn mark_plain(chunks: &[Chunk], quotes: &mut [[u8; 8]]) -> bool {
    // The least byte: below the first printable one are control characters and, as signed bytes, all beyond ASCII.
    let (mut least, mut backslashes) = (_mm256_set1_epi8(i8::MAX), _mm256_set1_epi8(0));
    for (chunk, quotes) in chunks.iter().zip(quotes) {
        let (first, second) = halves(chunk);
        let (marks, _) = quotes.as_chunks_mut();
        marks[0] = mask(equal(first, b'"')).to_le_bytes();
        marks[1] = mask(equal(second, b'"')).to_le_bytes();
        least = _mm256_min_epi8(least, _mm256_min_epi8(first, second));
        backslashes = _mm256_or_si256(backslashes, _mm256_or_si256(equal(first, b'\\'), equal(second, b'\\')));
    }
    let low = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), least);
    mask(_mm256_or_si256(low, backslashes)) == 0
}

#[inline]
#[target_feature(enable = "avx2")]
fn begins(bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool {
    let ((first, second), (first_literal, second_literal)) = (halves(bytes), halves(literal));
    let differing = !mask(_mm256_cmpeq_epi8(first, first_literal));
    if compared[1] == 0 {
        return differing & compared[0] == 0;
    }
    let further = !mask(_mm256_cmpeq_epi8(second, second_literal));
    differing == 0 && further & compared[1] == 0
}
