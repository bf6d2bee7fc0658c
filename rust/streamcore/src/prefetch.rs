//! Asks the processor for memory before it is needed, so that many misses of the cache are waited for together.
//!
//! `dedupe` and `state` probe tables larger than the cache in batches. A request changes nothing but time.

/// How many places are asked for together, a line each, while those of as many before are worked on.
pub const TOGETHER: usize = 16;

/// Has the cache line that `value` begins in fetched, without waiting for it; into the second cache, as no more than some
/// 24 lines at once can be on their way to the first (measured, decision 0017).
#[inline]
pub fn prefetch<T>(value: &T) {
    prefetch_at(std::ptr::from_ref(value));
}

/// The same for an address, which need not be one of a value.
#[inline]
pub fn prefetch_at<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    #[expect(unsafe_code, reason = "the intrinsic takes a pointer; it is sound whatever that is")]
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(address.cast());
    }
    #[cfg(target_arch = "aarch64")]
    #[expect(unsafe_code, reason = "there is no stable intrinsic")]
    // SAFETY: as above; the instruction touches neither memory nor flags.
    unsafe {
        std::arch::asm!("prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
