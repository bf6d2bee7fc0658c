//! Numbers of as many bytes as they need: seven bits a byte, the lowest first, small negative ones as small positive ones.
//!
//! `record.rs` reads every record by them. Invariant: `at` never goes beyond the bytes, and only moves where a number was read.

/// Most bytes of a number of 64 bits.
const BYTES_MAX: usize = 10;

/// The number at `at`, which then is behind it; `None` where the bytes end within it, or it has more than 64 bits.
#[inline]
pub fn read_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let first = *bytes.get(*at)?;
    if first < 0x80 {
        *at += 1;
        return Some(unfold(u64::from(first)));
    }
    let second = *bytes.get(*at + 1)?;
    if second < 0x80 {
        *at += 2;
        return Some(unfold(u64::from(first & 0x7f) | u64::from(second) << 7));
    }
    read_slow(bytes, at)
}

/// The same for a number that 32 bits hold.
#[inline]
pub fn read_i32(bytes: &[u8], at: &mut usize) -> Option<i32> {
    let mut next = *at;
    let number = i32::try_from(read_i64(bytes, &mut next)?).ok()?;
    *at = next;
    Some(number)
}

fn read_slow(bytes: &[u8], at: &mut usize) -> Option<i64> {
    let mut number = 0_u64;
    for (place, byte) in bytes.get(*at..)?.iter().take(BYTES_MAX).enumerate() {
        // Of the tenth byte only one bit is left.
        if place == BYTES_MAX - 1 && *byte > 1 {
            return None;
        }
        number |= u64::from(byte & 0x7f) << (7 * place);
        if *byte < 0x80 {
            *at += place + 1;
            return Some(unfold(number));
        }
    }
    None
}

/// 0, -1, 1, -2 and so on for 0, 1, 2, 3.
#[inline]
const fn unfold(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(number: i64) -> Vec<u8> {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        let mut bytes = Vec::new();
        while rest >= 0x80 {
            bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        bytes.push(rest as u8);
        bytes
    }

    #[test]
    fn numbers_too_long_and_cut_ones_are_none() {
        for bytes in [&[][..], &[0x80], &[0xff; 2], &[0xff; 9], &[0xff; 10], &[0xff; 11]] {
            let mut at = 0;
            assert_eq!((read_i64(bytes, &mut at), at), (None, 0), "{bytes:?}");
        }
        let mut largest = [0xff; 10];
        largest[9] = 1;
        assert_eq!(read_i64(&largest, &mut 0), Some(i64::MIN));
        largest[9] = 2;
        assert_eq!(read_i64(&largest, &mut 0), None);
        assert_eq!(read_i64(&[1], &mut 9), None, "a place beyond the bytes");
        assert_eq!(read_i32(&write(i64::from(i32::MAX) + 1), &mut 0), None);
        assert_eq!(read_i32(&write(i64::from(i32::MIN)), &mut 0), Some(i32::MIN));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(number in any::<i64>(), shift in 0_u32..64, before in 0_usize..3) {
            let number = number >> shift;
            let bytes = [&vec![0xff; before][..], &write(number), &[0xff]].concat();
            let mut at = before;
            prop_assert_eq!(read_i64(&bytes, &mut at), Some(number));
            prop_assert_eq!(at, bytes.len() - 1);
            let mut at = before;
            prop_assert_eq!(read_i32(&bytes, &mut at).map(i64::from), i32::try_from(number).ok().map(i64::from));
        }
    }
}
