//! The kernel of aarch64 CPUs: 16 bytes at a time.
//!
//! A mask has four bits a byte, which is what narrowing shifts give (there is no `movemask`). As
//! `avx2.rs`: operations are inlined into [`locate`], and the loads are of whole chunks.
#![allow(unsafe_code, reason = "intrinsics, and functions compiled for an instruction set")]
#![allow(clippy::inline_always, reason = "an operation that is not inlined is compiled for any CPU")]

use super::Wide;
use super::padded::{Chunk, Padded};
use crate::decode::json::Located;
use crate::decode::json::layout::Layout;
use std::arch::aarch64::{
    uint8x16_t, vceqq_u8, vcltq_u8, vdupq_n_u8, vget_lane_u64, vld1q_u8, vmvnq_u8, vorrq_u8, vreinterpret_u64_u8,
    vreinterpretq_u16_u8, vshrn_n_u16,
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

    /// See [`Layout::locate_with`].
    #[inline]
    pub fn locate<const N: usize>(self, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
        // SAFETY: `self` proves that the CPU has the instructions `locate` is compiled for.
        unsafe { locate(self, layout, records, found) }
    }
}

#[target_feature(enable = "neon")]
fn locate<const N: usize>(kernel: Neon, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
    layout.locate_with(kernel, records, found)
}

impl Wide for Neon {
    const WIDTH: usize = 16;
    const BITS: usize = 4;

    #[inline(always)]
    fn text_ends(self, text: &Chunk) -> (u64, u64) {
        // SAFETY: `self` proves that the CPU has NEON.
        unsafe { text_ends(text) }
    }

    #[inline(always)]
    fn differing(self, left: &Chunk, right: &Chunk) -> u64 {
        // SAFETY: `self` proves that the CPU has NEON.
        unsafe { differing(left, right) }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(bytes: &Chunk) -> uint8x16_t {
    // SAFETY: a chunk has the 16 bytes that are read, and the load needs no alignment.
    unsafe { vld1q_u8(bytes.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn mask(bytes: uint8x16_t) -> u64 {
    vget_lane_u64::<0>(vreinterpret_u64_u8(vshrn_n_u16::<4>(vreinterpretq_u16_u8(bytes))))
}

#[inline]
#[target_feature(enable = "neon")]
fn text_ends(text: &Chunk) -> (u64, u64) {
    let bytes = load(text);
    let quotes = vceqq_u8(bytes, vdupq_n_u8(b'"'));
    let backslashes = vceqq_u8(bytes, vdupq_n_u8(b'\\'));
    let controls = vcltq_u8(bytes, vdupq_n_u8(0x20));
    (mask(quotes), mask(vorrq_u8(backslashes, controls)))
}

#[inline]
#[target_feature(enable = "neon")]
fn differing(left: &Chunk, right: &Chunk) -> u64 {
    mask(vmvnq_u8(vceqq_u8(load(left), load(right))))
}
