//! The inside of JSON text: runs without escapes, and escapes as the characters they stand for.
//!
//! `scan.rs` finds and checks text with it; `convert.rs` unescapes what a scanner has accepted.
//! Invariant: `unescape` never meets an escape that `scan.rs` would refuse.

use super::kernel::portable::Portable;
use crate::raw::PADDING;
use std::borrow::Cow;
use std::ops::Range;

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

/// The bytes that a backslash escapes: those after an odd number of them in a row. `carried` is 1 where the
/// first byte is escaped from before, and is set for the bytes that follow.
///
/// Source: `json_escape_scanner` of simdjson, after Langdale and Lemire (2019), section 3.1.1.
#[inline]
pub(super) fn escaped(backslashes: u64, carried: &mut u64) -> u64 {
    const EVEN: u64 = 0x5555_5555_5555_5555;
    let backslashes = backslashes & !*carried;
    let follows = backslashes << 1 | *carried;
    let odd_starts = backslashes & !EVEN & !follows;
    let (sums, over) = odd_starts.overflowing_add(backslashes);
    *carried = u64::from(over);
    (EVEN ^ (sums << 1)) & follows
}

/// Bytes copied at once between escapes.
const RUN: usize = 16;

/// The byte before 64 bytes, they, and what is behind them. A place in the first [`PLACES`] of them has
/// [`RUN`] bytes, and an escape whole.
type Window = [u8; PLACES + RUN];

/// A power of two, so that a remainder proves a place to be within.
const PLACES: usize = 2 * PADDING;

/// Appends the characters of an escaped text that a scanner has accepted: see [`unescape_within`].
pub fn unescape(text: &[u8], out: &mut Vec<u8>) {
    unescape_within(text, 0..text.len(), out);
}

/// Appends the characters of the escaped text at `range` of `bytes` that a scanner has accepted. All escapes of 64
/// bytes are found together, for each would otherwise wait for the one before.
///
/// # Panics
/// On a text that no scanner has accepted.
pub fn unescape_within(bytes: &[u8], range: Range<usize>, out: &mut Vec<u8>) {
    let mut written: Window = [0; PLACES + RUN];
    // Where the bytes not yet written begin in the window; the first byte there is the one before the 64.
    let (mut from, mut carried) = (1, 0);
    for base in range.clone().step_by(PADDING) {
        let within = bytes.get(base.wrapping_sub(1)..).and_then(<[u8]>::first_chunk);
        let window = within.map_or_else(|| Cow::Owned(window_at(bytes, base)), Cow::Borrowed);
        let Some(chunk) = window[1..].first_chunk::<PADDING>() else { return };
        let len = (range.end - base).min(PADDING);
        let backslashes = Portable::find(chunk, b'\\') & (u64::MAX >> (PADDING - len));
        let marked = escaped(backslashes, &mut carried);
        let (mut to, next) = unescape_window(&window, marked, from, &mut written);
        // A backslash that is the last byte goes with the byte behind.
        let end = 1 + len - carried as usize;
        if let Some(rest) = end.checked_sub(next) {
            copy_run(&window, next, rest, to, &mut written);
            to += rest;
        }
        out.extend_from_slice(&written[..to]);
        from = next.max(end).saturating_sub(PADDING);
    }
}

/// The window at `base`, where `bytes` begin or end within it.
#[cold]
fn window_at(bytes: &[u8], base: usize) -> Window {
    let mut window = [0; PLACES + RUN];
    let before = base.min(1);
    let there = &bytes[base - before..];
    let room = window[1 - before..].iter_mut();
    room.zip(there).for_each(|(room, byte)| *room = *byte);
    window
}

/// Copies `run` bytes, and some behind them, from `from` of the window to `to` of what is written.
#[inline]
fn copy_run(window: &Window, from: usize, run: usize, to: usize, written: &mut Window) {
    let mut copied = 0;
    loop {
        let (source, target) = ((from + copied) % PLACES, (to + copied) % PLACES);
        let bytes: Option<[u8; RUN]> = window[source..].first_chunk().copied();
        if let (Some(bytes), Some(free)) = (bytes, written[target..].first_chunk_mut()) {
            *free = bytes;
        }
        copied += RUN;
        if copied >= run {
            return;
        }
    }
}

/// Writes the characters of a window from `from` up to its last escape; how many bytes, and what comes next.
#[inline]
fn unescape_window(window: &Window, mut marked: u64, mut from: usize, written: &mut Window) -> (usize, usize) {
    let mut to = 0;
    while marked != 0 {
        let at = (1 + marked.trailing_zeros() as usize) % PLACES;
        marked &= marked - 1;
        // The second half of a surrogate pair went with the first.
        let Some(run) = (at - 1).checked_sub(from) else { continue };
        copy_run(window, from, run, to, written);
        to = (to + run) % PLACES;
        let plain = stands_for(window[at]);
        written[to] = plain;
        (from, to) = (at + 1, to + 1);
        if plain == 0 {
            let (passed, more) = unescape_unit(&window[at..], &mut written[to - 1..]);
            (from, to) = (at + passed, to - 1 + more);
        }
    }
    (to, from)
}

/// Writes the character of `uXXXX`, or of two of them with a backslash between; the bytes passed and written.
#[inline(never)]
fn unescape_unit(text: &[u8], room: &mut [u8]) -> (usize, usize) {
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
        fn escapes_come_back_as_the_text_they_stand_for(
            text in prop_oneof![any::<String>(), "[\\\\\"\n\u{1}aé🙂]{0,200}", "[a\n]{0,20}a{0,100}[\\\\]{0,80}"],
            units in any::<bool>(),
        ) {
            let mut written = serde_json::to_string(&text).expect("text");
            if units {
                let unit = |unit: u16| format!("\\u{unit:04x}");
                written = format!("\"{}\"", text.encode_utf16().map(unit).collect::<String>());
            }
            let mut read = Vec::new();
            unescape(&written.as_bytes()[1..written.len() - 1], &mut read);
            prop_assert_eq!(&read, text.as_bytes());
            let (padded, end) = ([written.as_bytes(), &[b'\\'; 2 * PADDING]].concat(), written.len() - 1);
            unescape_within(&padded, 1..end, &mut read);
            prop_assert_eq!(read, text.repeat(2).into_bytes());
            prop_assert!(Scanner::new(written.as_bytes(), 64).skip_value().is_ok());
        }
    }
}
