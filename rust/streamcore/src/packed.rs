//! Bytes on their way out in LZ4, or as they are where that makes them no shorter.
//!
//! `checkpoint` keeps state so, `partials` what lanes hand over. Invariant: nobody is made to take more bytes than the
//! length says that was written with them.

use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

/// As they are.
pub const PLAIN: u8 = 0;
/// In LZ4.
pub const LZ4: u8 = 1;

/// How `raw` is written, and as what: in `spare`, whose memory is used again, or as it is.
#[must_use]
pub fn pack<'a>(raw: &'a [u8], spare: &'a mut Vec<u8>) -> (u8, &'a [u8]) {
    let longest = get_maximum_output_size(raw.len());
    if spare.len() < longest {
        spare.resize(longest, 0);
    }
    match compress_into(raw, spare) {
        Ok(len) if len < raw.len() => (LZ4, &spare[..len]),
        _ => (PLAIN, raw),
    }
}

/// Appends the `len` bytes that were packed as `payload` to `raw`; else tells why there are not so many.
pub fn unpack(codec: u8, payload: &[u8], len: usize, raw: &mut Vec<u8>) -> Result<(), &'static str> {
    match codec {
        PLAIN if payload.len() == len => raw.extend_from_slice(payload),
        LZ4 => {
            let start = raw.len();
            raw.resize(start + len, 0);
            if decompress_into(payload, &mut raw[start..]).ok() != Some(len) {
                return Err("it cannot be decompressed");
            }
        }
        _ => return Err("it is compressed in a way that is not known"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back_and_another_length_does_not(
            raw in proptest::collection::vec(prop_oneof![3 => Just(7_u8), 1 => any::<u8>()], 0..600), other in 0_usize..700,
        ) {
            let mut spare = b"of another".to_vec();
            let (codec, payload) = pack(&raw, &mut spare);
            prop_assert!(payload.len() <= raw.len());
            let mut back = b"before".to_vec();
            unpack(codec, payload, raw.len(), &mut back).expect("whole");
            prop_assert_eq!(&back[6..], &raw[..]);
            if other != raw.len() {
                unpack(codec, payload, other, &mut Vec::new()).expect_err("another length");
            }
            prop_assert!(unpack(9, payload, raw.len(), &mut Vec::new()).is_err());
        }
    }
}
