//! The inside of JSON text: runs without escapes, and escapes as the characters they stand for.
//!
//! `scan.rs` finds and checks text with it; `convert.rs` unescapes what a scanner has accepted.
//! Invariant: `unescape` never meets an escape that `scan.rs` would refuse.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Length of the run before the next quote, backslash or control character, eight bytes at a time.
#[inline]
#[must_use]
pub(super) fn plain_text_len(text: &[u8]) -> usize {
    let mut len = 0;
    while let Some(chunk) = text.get(len..len + 8) {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        // The classic zero-byte trick; a borrow can only set flags above the lowest true one.
        let zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & HIGHS;
        let quote = zero(word ^ (ONES * u64::from(b'"')));
        let backslash = zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let stop = quote | backslash | control;
        if stop != 0 {
            return len + (stop.trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    let tail = text[len..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20));
    tail.map_or(text.len(), |more| len + more)
}

/// What the byte after a backslash stands for; zero: nothing by itself.
const PLAIN: [u8; 256] = {
    let mut plain = [0; 256];
    let pairs = *b"\"\"\\\\//b\x08f\x0cn\nr\rt\t";
    let mut at = 0;
    while at < pairs.len() {
        plain[pairs[at] as usize] = pairs[at + 1];
        at += 2;
    }
    plain
};

/// The character that a backslash and `byte` stand for; zero: none by itself.
#[inline]
#[must_use]
pub(super) const fn stands_for(byte: u8) -> u8 {
    PLAIN[byte as usize]
}

/// The value of a hexadecimal digit; 255: it is none.
const HEX: [u8; 256] = {
    let mut hex = [255; 256];
    let mut digit = 0;
    while digit < 16 {
        hex[b"0123456789abcdef"[digit] as usize] = digit as u8;
        hex[b"0123456789ABCDEF"[digit] as usize] = digit as u8;
        digit += 1;
    }
    hex
};

/// The UTF-16 unit that four hexadecimal digits are.
#[inline]
#[must_use]
pub(super) fn hex_unit(digits: [u8; 4]) -> Option<u16> {
    let [first, second, third, fourth] = digits.map(|digit| HEX[digit as usize]);
    if (first | second | third | fourth) > 15 {
        return None;
    }
    Some(u16::from(first) << 12 | u16::from(second) << 8 | u16::from(third) << 4 | u16::from(fourth))
}

/// Appends the characters of an escaped text that a scanner has accepted.
///
/// # Panics
/// On a text that no scanner has accepted.
pub fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    // No escape is shorter than what it stands for.
    out.resize(start + text.len(), 0);
    let room = &mut out[start..];
    let (mut from, mut to) = (0, 0);
    // `to` is never ahead of `from`, so where eight bytes can be read there is room for them.
    while let (Some(chunk), Some(free)) = (eight(text, from), room.get_mut(to..).and_then(<[u8]>::first_chunk_mut)) {
        *free = chunk;
        let word = u64::from_le_bytes(chunk) ^ (ONES * u64::from(b'\\'));
        let run = (word.wrapping_sub(ONES) & !word & HIGHS).trailing_zeros() as usize / 8;
        (from, to) = (from + run, to + run);
        if run < chunk.len() {
            let (passed, written) = unescape_one(&text[from + 1..], &mut room[to..]);
            (from, to) = (from + 1 + passed, to + written);
        }
    }
    while from < text.len() {
        let (passed, written) = if text[from] == b'\\' {
            let (passed, written) = unescape_one(&text[from + 1..], &mut room[to..]);
            (1 + passed, written)
        } else {
            room[to] = text[from];
            (1, 1)
        };
        (from, to) = (from + passed, to + written);
    }
    out.truncate(start + to);
}

#[inline]
fn eight(text: &[u8], from: usize) -> Option<[u8; 8]> {
    text.get(from..)?.first_chunk().copied()
}

/// Writes the character of the accepted escape whose backslash is before `text`; bytes passed and written.
#[inline]
fn unescape_one(text: &[u8], room: &mut [u8]) -> (usize, usize) {
    let plain = stands_for(text[0]);
    if plain != 0 {
        room[0] = plain;
        return (1, 1);
    }
    let unit = |at: usize| {
        let digits = text[at..].first_chunk().expect("the scanner saw four digits");
        u32::from(hex_unit(*digits).expect("the scanner saw hexadecimal digits"))
    };
    let first = unit(1);
    let (code, passed) = if (0xD800..0xDC00).contains(&first) {
        (0x10000 + ((first - 0xD800) << 10) + (unit(7) - 0xDC00), 11)
    } else {
        (first, 5)
    };
    let character = char::from_u32(code).expect("the scanner refused lone surrogates");
    (passed, character.encode_utf8(room).len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::json::scan::Scanner;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_word_loop_finds_what_a_byte_loop_finds(text in any::<Vec<u8>>()) {
            let slow = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(text.len());
            prop_assert_eq!(plain_text_len(&text), slow);
        }

        #[test]
        fn escapes_come_back_as_the_text_they_stand_for(text in any::<String>()) {
            let written = serde_json::to_string(&text).expect("text");
            let mut read = Vec::new();
            unescape(&written.as_bytes()[1..written.len() - 1], &mut read);
            prop_assert_eq!(read, text.as_bytes());
            prop_assert!(Scanner::new(written.as_bytes(), 64).skip_value().is_ok());
        }
    }
}
