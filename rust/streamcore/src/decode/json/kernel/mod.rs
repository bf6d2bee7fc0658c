//! The wide operations of reading JSON, for each instruction set, and which of them is in use.
//!
//! Marking a block (`marks.rs`) and walking its records (`layouts.rs`, and what it calls) are written once, over
//! [`Wide`]; the files here instantiate them. All `unsafe` of the engine is in those files. Invariant: every kernel gives the same answers; which
//! one runs is chosen once, by what the CPU has.

/// The two ways into a kernel, compiled for its instruction set: what they call is inlined into them. And its
/// operations, which are the functions of these names beside it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! entrances {
    ($kernel:ident, $features:literal) => {
        impl $kernel {
            /// See [`Marks::read_with`].
            #[inline]
            pub fn mark(self, bytes: &[u8], marks: &mut Marks) {
                #[target_feature(enable = $features)]
                fn compiled(kernel: $kernel, bytes: &[u8], marks: &mut Marks) {
                    marks.read_with(kernel, bytes);
                }
                // SAFETY: `self` proves that the CPU has the instructions `compiled` is compiled for.
                unsafe { compiled(self, bytes, marks) }
            }

            /// See [`Known::walk_with`].
            #[inline]
            pub fn walk(self, known: &mut Known, block: Block<'_>, rows: Rows<'_>) -> usize {
                #[target_feature(enable = $features)]
                fn compiled(kernel: $kernel, known: &mut Known, block: Block<'_>, rows: Rows<'_>) -> usize {
                    known.walk_with(kernel, block, rows)
                }
                // SAFETY: `self` proves that the CPU has the instructions `compiled` is compiled for.
                unsafe { compiled(self, known, block, rows) }
            }
        }

        impl Wide for $kernel {
            #[inline(always)]
            fn classify(self, bytes: &Chunk) -> Classes {
                // SAFETY: `self` proves that the CPU has the instructions.
                unsafe { classify(bytes) }
            }

            #[inline(always)]
            fn escapes(self, bytes: &Chunk) -> Escapes {
                // SAFETY: `self` proves that the CPU has the instructions.
                unsafe { escapes(bytes) }
            }

            #[inline(always)]
            fn mark_plain(self, chunks: &[Chunk], quotes: &mut [[u8; PADDING / 8]]) -> bool {
                // SAFETY: `self` proves that the CPU has the instructions.
                unsafe { mark_plain(chunks, quotes) }
            }

            #[inline(always)]
            fn begins(self, bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool {
                // SAFETY: `self` proves that the CPU has the instructions.
                unsafe { begins(bytes, literal, compared) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod portable;

use super::layouts::Known;
use super::marks::{Block, Marks, Rows};
use crate::raw::PADDING;
use std::sync::OnceLock;

/// Bytes looked at together.
pub type Chunk = [u8; PADDING];

/// Which bytes of a chunk are of a class, a bit each, the first byte's the lowest: two words, for LLVM takes
/// great pains over one that AVX2 would have to make of two.
pub type Bits = [u32; 2];

/// The classes of the bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// `"`.
    pub quotes: Bits,
    /// `\`.
    pub backslashes: Bits,
    /// Control characters.
    pub controls: Bits,
    /// Bytes of characters beyond ASCII.
    pub high: Bits,
}

/// What the bytes of a chunk are in an escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Escapes {
    /// Those that may follow a backslash.
    pub known: Bits,
    /// `u`.
    pub units: Bits,
    /// Hexadecimal digits.
    pub digits: Bits,
}

/// The two words of 64 bits.
#[inline]
#[must_use]
pub const fn halves_of(bits: u64) -> Bits {
    [bits as u32, (bits >> 32) as u32]
}

/// Operations on a chunk.
pub trait Wide: Copy {
    /// The classes of its bytes.
    fn classify(self, bytes: &Chunk) -> Classes;

    /// What its bytes are in an escape.
    fn escapes(self, bytes: &Chunk) -> Escapes;

    /// Marks the quotes of chunks, eight bytes a byte; false, with marks of no use, where a byte is a backslash,
    /// a control character or not ASCII.
    fn mark_plain(self, chunks: &[Chunk], quotes: &mut [[u8; PADDING / 8]]) -> bool;

    /// Whether those bytes are the same as in `literal` whose bits are set; they are the first ones, at
    /// least one.
    fn begins(self, bytes: &Chunk, literal: &Chunk, compared: Bits) -> bool;
}

/// The bits of the first `len` bytes, of which there is at least one and at most 64.
#[must_use]
pub const fn first_bits(len: usize) -> Bits {
    halves_of(u64::MAX >> (64 - len))
}

/// The 64 bits of two words.
#[inline]
#[must_use]
pub const fn whole_of(bits: Bits) -> u64 {
    bits[0] as u64 | (bits[1] as u64) << 32
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

/// The same call on whichever kernel it is.
macro_rules! on_kernel {
    ($of:expr, $kernel:ident => $call:expr) => {
        match $of {
            Self::Portable => {
                let $kernel = portable::Portable;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2($kernel) => $call,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512($kernel) => $call,
            #[cfg(target_arch = "aarch64")]
            Self::Neon($kernel) => $call,
        }
    };
}

/// The kernel in use.
static CHOSEN: OnceLock<Kernel> = OnceLock::new();

impl Kernel {
    /// Makes the kernel of this name the one in use; false if this CPU has none such, or one is in use already.
    #[must_use]
    pub fn choose(name: &str) -> bool {
        Self::available().find(|kernel| kernel.name() == name).is_some_and(|kernel| CHOSEN.set(kernel).is_ok())
    }

    /// The kernel in use: the widest this CPU has, unless another was [chosen](Self::choose).
    #[must_use]
    pub fn chosen() -> Self {
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

    /// See [`Marks::read_with`].
    #[inline]
    pub fn mark(self, bytes: &[u8], marks: &mut Marks) {
        on_kernel!(self, kernel => kernel.mark(bytes, marks));
    }

    /// See [`Known::walk_with`].
    #[inline]
    pub fn walk(self, known: &mut Known, block: Block<'_>, rows: Rows<'_>) -> usize {
        on_kernel!(self, kernel => kernel.walk(known, block, rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Checks one kernel's operations against byte loops.
    fn check<W: Wide>(kernel: W, left: &Chunk, right: &Chunk) -> Result<(), TestCaseError> {
        let bits = |test: fn(u8) -> bool| {
            halves_of(left.iter().enumerate().fold(0, |bits, (place, byte)| bits | u64::from(test(*byte)) << place))
        };
        let classes = kernel.classify(left);
        prop_assert_eq!(classes.quotes, bits(|byte| byte == b'"'));
        prop_assert_eq!(classes.backslashes, bits(|byte| byte == b'\\'));
        prop_assert_eq!(classes.controls, bits(|byte| byte < 0x20));
        prop_assert_eq!(classes.high, bits(|byte| byte >= 0x80));
        let escapes = kernel.escapes(left);
        prop_assert_eq!(escapes.known, bits(|byte| b"\"\\/bfnrtu".contains(&byte)));
        prop_assert_eq!(escapes.units, bits(|byte| byte == b'u'));
        prop_assert_eq!(escapes.digits, bits(|byte| byte.is_ascii_hexdigit()));
        for chunks in [&[*left][..], &[*right, *left]] {
            let plain = |byte: &u8| matches!(byte, 0x20..0x80) && *byte != b'\\';
            let mut quotes = vec![[0; PADDING / 8]; chunks.len()];
            prop_assert_eq!(kernel.mark_plain(chunks, &mut quotes), chunks.as_flattened().iter().all(plain));
            if quotes.len() == 1 {
                prop_assert_eq!(halves_of(u64::from_le_bytes(quotes[0])), classes.quotes);
            }
        }
        for len in 1..=left.len() {
            prop_assert_eq!(kernel.begins(left, right, first_bits(len)), left[..len] == right[..len], "{}", len);
        }
        Ok(())
    }

    fn bytes() -> impl Strategy<Value = Chunk> {
        let byte =
            prop_oneof![4 => Just(b'a'), 1 => any::<u8>(), 1 => prop::sample::select(b"\"\\\x1f \x80\xff".to_vec())];
        let plain = prop_oneof![50 => prop::sample::select(b"ab \"~".to_vec()), 1 => any::<u8>()];
        let bytes = prop_oneof![
            proptest::collection::vec(byte, 64),
            proptest::collection::vec(plain, 64),
            proptest::collection::vec(any::<u8>(), 64)
        ];
        bytes.prop_map(|bytes| bytes.try_into().expect("64 bytes"))
    }

    impl Kernel {
        fn check(self, left: &Chunk, right: &Chunk) -> Result<(), TestCaseError> {
            on_kernel!(self, kernel => check(kernel, left, right))
        }
    }

    proptest! {
        #[test]
        fn every_kernel_agrees_with_byte_loops(left in bytes(), other in bytes(), same in 0_usize..=64) {
            let mut right = other;
            right[..same].copy_from_slice(&left[..same]);
            for kernel in Kernel::available() {
                kernel.check(&left, &right)?;
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
