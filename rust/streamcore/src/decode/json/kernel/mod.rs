//! The wide operations of reading JSON, for each instruction set, and which of them is in use.
//!
//! `layout.rs` and `text.rs` are written once, over [`Wide`]; the files here instantiate them. All
//! `unsafe` of the engine is in those files. Invariant: every kernel gives the same answers; which
//! one runs is chosen once, by what the CPU has.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod padded;
pub mod portable;

use super::Located;
use super::layout::Layout;
use padded::{Chunk, Padded};
use std::sync::OnceLock;

/// Operations on [`Wide::WIDTH`] bytes at a time. A byte's answer takes [`Wide::BITS`] bits of a
/// mask, the first byte's the lowest.
pub trait Wide: Copy {
    /// Bytes looked at together; at most 64.
    const WIDTH: usize;
    /// Bits of a mask for each byte; `WIDTH * BITS` is at most 64.
    const BITS: usize;

    /// The quotes among the bytes, and the backslashes and control characters. In each mask only the
    /// lowest set bit is sure to be right.
    fn text_ends(self, text: &Chunk) -> (u64, u64);

    /// The bytes in which `left` and `right` differ.
    fn differing(self, left: &Chunk, right: &Chunk) -> u64;
}

/// The bits of the first `len` bytes, of which there is at least one and at most `WIDTH`.
#[inline]
#[must_use]
pub const fn first_bits<W: Wide>(len: usize) -> u64 {
    u64::MAX >> (64 - len * W::BITS)
}

/// An instruction set that this CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Plain 64-bit words.
    Portable,
    /// AVX2 and BMI.
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    /// AVX-512 with bytes and words.
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512),
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon),
}

impl Kernel {
    /// The kernel in use: the widest this CPU has.
    #[must_use]
    pub fn chosen() -> Self {
        static CHOSEN: OnceLock<Kernel> = OnceLock::new();
        *CHOSEN.get_or_init(|| Self::available().next().unwrap_or(Self::Portable))
    }

    /// Every kernel this CPU has, the widest first.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = [avx512::Avx512::detect().map(Self::Avx512), avx2::Avx2::detect().map(Self::Avx2)];
        #[cfg(target_arch = "aarch64")]
        let wide = [neon::Neon::detect().map(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let wide = [None];
        wide.into_iter().flatten().chain([Self::Portable])
    }

    /// Its name: `avx512`, `avx2`, `neon` or `portable`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => "neon",
        }
    }

    /// Bytes it looks at together.
    #[must_use]
    pub const fn width(self) -> usize {
        match self {
            Self::Portable => portable::Portable::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => avx2::Avx2::WIDTH,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => avx512::Avx512::WIDTH,
            #[cfg(target_arch = "aarch64")]
            Self::Neon(_) => neon::Neon::WIDTH,
        }
    }

    /// See [`Layout::locate_with`].
    #[inline]
    pub fn locate<const N: usize>(self, layout: &Layout, records: [Padded<'_>; N], found: &mut [Located]) -> bool {
        match self {
            Self::Portable => layout.locate_with(portable::Portable, records, found),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(kernel) => kernel.locate(layout, records, found),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(kernel) => kernel.locate(layout, records, found),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(kernel) => kernel.locate(layout, records, found),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks one kernel's operations against byte loops.
    pub(super) fn check<W: Wide>(kernel: W, left: &[u8; 64], right: &[u8; 64]) -> Result<(), TestCaseError> {
        let first = |mask: u64| (mask != 0).then(|| mask.trailing_zeros() as usize / W::BITS);
        let (quotes, others) = kernel.text_ends(left);
        prop_assert_eq!(first(quotes), left[..W::WIDTH].iter().position(|byte| *byte == b'"'));
        prop_assert_eq!(first(others), left[..W::WIDTH].iter().position(|byte| matches!(byte, b'\\' | 0..0x20)));
        for len in 1..=W::WIDTH {
            let differs = kernel.differing(left, right) & first_bits::<W>(len);
            prop_assert_eq!(differs != 0, left[..len] != right[..len], "{}", len);
        }
        Ok(())
    }

    fn bytes() -> impl Strategy<Value = [u8; 64]> {
        let byte =
            prop_oneof![4 => Just(b'a'), 1 => any::<u8>(), 1 => prop::sample::select(b"\"\\\x1f \x80\xff".to_vec())];
        proptest::collection::vec(byte, 64).prop_map(|bytes| bytes.try_into().expect("64 bytes"))
    }

    proptest! {
        #[test]
        fn every_kernel_agrees_with_byte_loops(left in bytes(), other in bytes(), same in 0_usize..=64) {
            let mut right = other;
            right[..same].copy_from_slice(&left[..same]);
            for kernel in Kernel::available() {
                match kernel {
                    Kernel::Portable => check(portable::Portable, &left, &right)?,
                    #[cfg(target_arch = "x86_64")]
                    Kernel::Avx2(kernel) => check(kernel, &left, &right)?,
                    #[cfg(target_arch = "x86_64")]
                    Kernel::Avx512(kernel) => check(kernel, &left, &right)?,
                    #[cfg(target_arch = "aarch64")]
                    Kernel::Neon(kernel) => check(kernel, &left, &right)?,
                }
            }
        }
    }

    #[test]
    fn the_widest_is_chosen_and_the_portable_one_is_always_there() {
        let names: Vec<&str> = Kernel::available().map(Kernel::name).collect();
        assert_eq!(names.first(), Some(&Kernel::chosen().name()));
        assert_eq!(names.last(), Some(&"portable"));
    }
}
