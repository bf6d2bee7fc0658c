//! The kernel of x86-64 CPUs with AVX-512 for bytes: 64 bytes at a time, with masks in registers.
//!
//! As `avx2.rs`: operations are inlined into its entrances, and the loads are of whole chunks.
#![expect(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]

use super::{Bits, Chunk, Classes, Escapes, Wide, halves_of, whole_of};
use crate::decode::json::layouts::Known;
use crate::decode::json::marks::{Block, Marks, Rows};
use crate::raw::PADDING;
use std::arch::x86_64::{
    __m512i, _mm512_cmpeq_epi8_mask, _mm512_cmple_epu8_mask, _mm512_cmplt_epi8_mask, _mm512_cmplt_epu8_mask,
    _mm512_cmpneq_epi8_mask, _mm512_loadu_si512, _mm512_min_epi8, _mm512_movepi8_mask, _mm512_or_si512,
    _mm512_set1_epi8, _mm512_sub_epi8,
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
}

entrances!(Avx512, "avx512f,avx512bw,bmi1,bmi2,lzcnt");

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(bytes: &Chunk) -> __m512i {
    // SAFETY: a chunk has the 64 bytes that are read, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn classify(bytes: &Chunk) -> Classes {
    let bytes = load(bytes);
    Classes {
        quotes: halves_of(_mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"'.cast_signed()))),
        backslashes: halves_of(_mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\'.cast_signed()))),
        controls: halves_of(_mm512_cmplt_epu8_mask(bytes, _mm512_set1_epi8(0x20))),
        high: halves_of(_mm512_movepi8_mask(bytes)),
    }
}

/// The bytes from `first` to `last`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn between(bytes: __m512i, first: u8, last: u8) -> u64 {
    let above = _mm512_sub_epi8(bytes, _mm512_set1_epi8(first.cast_signed()));
    _mm512_cmple_epu8_mask(above, _mm512_set1_epi8((last - first).cast_signed()))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn escapes(bytes: &Chunk) -> Escapes {
    let bytes = load(bytes);
    let mut known = 0;
    for byte in *b"\"\\/bfnrtu" {
        known |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte.cast_signed()));
    }
    let lower = _mm512_or_si512(bytes, _mm512_set1_epi8(0x20));
    Escapes {
        known: halves_of(known),
        units: halves_of(_mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'u'.cast_signed()))),
        digits: halves_of(between(bytes, b'0', b'9') | between(lower, b'a', b'f')),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn mark_plain(chunks: &[Chunk], quotes: &mut [[u8; 8]]) -> bool {
    // The least byte: below the first printable one are control characters and, as signed bytes, all beyond ASCII.
    let (mut least, mut backslashes) = (_mm512_set1_epi8(i8::MAX), 0);
    for (chunk, quotes) in chunks.iter().zip(quotes) {
        let bytes = load(chunk);
        *quotes = _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'"'.cast_signed())).to_le_bytes();
        least = _mm512_min_epi8(least, bytes);
        backslashes |= _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(b'\\'.cast_signed()));
    }
    _mm512_cmplt_epi8_mask(least, _mm512_set1_epi8(0x20)) | backslashes == 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn begins(bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool {
    _mm512_cmpneq_epi8_mask(load(bytes), load(literal)) & whole_of(compared) == 0
}
