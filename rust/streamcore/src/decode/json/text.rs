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

/// Appends the characters of an escaped text that a scanner has accepted.
///
/// # Panics
/// On a text that no scanner has accepted.
pub fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut at = 0;
    while at < text.len() {
        let run = memchr::memchr(b'\\', &text[at..]).unwrap_or(text.len() - at);
        out.extend_from_slice(&text[at..at + run]);
        at += run;
        if at >= text.len() {
            return;
        }
        let plain = match text[at + 1] {
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                at += unescape_unicode(&text[at..], out);
                continue;
            }
            other => other,
        };
        out.push(plain);
        at += 2;
    }
}

/// Appends the character of the accepted `\uXXXX` (or pair) at the start of `text`; bytes passed.
fn unescape_unicode(text: &[u8], out: &mut Vec<u8>) -> usize {
    let unit = |at: usize| {
        text[at + 2..at + 6].iter().fold(0, |unit, digit| unit << 4 | char::from(*digit).to_digit(16).unwrap_or(0))
    };
    let first = unit(0);
    let (code, passed) = if (0xD800..0xDC00).contains(&first) {
        (0x10000 + ((first - 0xD800) << 10) + (unit(6) - 0xDC00), 12)
    } else {
        (first, 6)
    };
    let character = char::from_u32(code).expect("the scanner refused lone surrogates");
    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    passed
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
