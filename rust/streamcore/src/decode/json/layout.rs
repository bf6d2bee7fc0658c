//! A layout: the literal bytes of a record that the full parser has accepted, and what its values are.
//!
//! `layouts.rs` keeps those met. Invariant: the pieces of a layout, each with a value of its sort behind
//! it, are one after the other a record that the full parser would accept.
#![expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]

use super::Located;
use super::kernel::{Bits, Chunk, Wide, first_bits, whole_of};
use super::marks::{Block, Record};
use super::scan::{Kind, NUMBER_BYTES_MAX, Scanner, Value};
use super::text::{escaped, hex_unit};
use crate::raw::PADDING;

/// Most pieces of a layout; longer records go to the full parser.
const PIECES_MAX: usize = 512;

/// What comes after the literal of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// More literal bytes.
    Literal,
    /// Text; its quotes belong to the literals around it.
    Text,
    /// A number.
    Number,
    /// `true`, `false` or `null`.
    Word,
    /// Nothing: the record is over.
    End,
}

/// The field number of a value that is not wanted.
pub const UNWANTED: u32 = u32::MAX;

/// As much of a literal as is compared at once, and the value behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The literal bytes, then zeros.
    pub literal: Chunk,
    /// A bit for each literal byte.
    pub compared: Bits,
    /// How many they are, at least one.
    pub len: u32,
    /// What follows.
    pub next: Next,
    /// The wanted field that the value is; [`UNWANTED`]: none.
    pub field: u32,
}

impl Piece {
    /// Where the value behind the literal ends, which is at `at`, and its kind; `None`: it is of another sort.
    /// `PLAIN`: the block is.
    #[inline(always)]
    #[must_use]
    pub fn value<W: Wide, const PLAIN: bool>(
        &self,
        kernel: W,
        block: Block<'_>,
        record: Record,
        at: u32,
    ) -> Option<(u32, Kind)> {
        match self.next {
            Next::Literal => Some((at, Kind::Null)),
            Next::Text if PLAIN => plain_text(block, at),
            Next::Text => text(kernel, block, record, at),
            Next::Number => number(block, record, at),
            Next::Word => word(block, at),
            Next::End => end(record, at),
        }
    }
}

/// The pieces of `record`, in which the full parser has `found` the wanted fields; `None` when they are
/// too many, or when a wanted field is an object or array.
#[must_use]
pub fn pieces(record: &[u8], found: &[Located]) -> Option<Vec<Piece>> {
    let nested = |value: &Value| matches!(value.kind, Kind::Object | Kind::Array);
    if found.iter().flatten().any(nested) {
        return None;
    }
    let mut pieces = Vec::new();
    let (mut at, mut literal_start) = (0, 0);
    while at < record.len() && pieces.len() <= PIECES_MAX {
        let (next, start, end) = match record[at] {
            b'"' => {
                let text = Scanner::starting_at(record, at).known_text().ok()?;
                let (start, end) = (text.start as usize, text.end as usize);
                if is_key(&record[end + 1..]) {
                    at = end + 1;
                    continue;
                }
                (Next::Text, start, end)
            }
            b'-' | b'0'..=b'9' => (Next::Number, at, at + number_slow(&record[at..])?.0),
            b't' | b'f' | b'n' => (Next::Word, at, at + word_of(&record[at..])?.0),
            _ => {
                at += 1;
                continue;
            }
        };
        let field = found.iter().position(|value| value.is_some_and(|value| value.start as usize == start));
        if field.is_none() && record[at] == b'n' {
            // It may stand above wanted fields, where nothing but an object or `null` is right: it stays literal.
            at = end;
            continue;
        }
        push(&mut pieces, &record[literal_start..start], next, field);
        literal_start = end;
        // The closing quote begins the next literal.
        at = if next == Next::Text { end + 1 } else { end };
    }
    push(&mut pieces, &record[literal_start..], Next::End, None);
    (pieces.len() <= PIECES_MAX).then_some(pieces)
}

fn push(pieces: &mut Vec<Piece>, literal: &[u8], next: Next, field: Option<usize>) {
    let last = literal.len().div_ceil(PADDING).max(1) - 1;
    for (place, bytes) in literal.chunks(PADDING).enumerate() {
        let (len, compared) = (bytes.len() as u32, first_bits(bytes.len()));
        let mut piece = Piece { literal: [0; PADDING], compared, len, next: Next::Literal, field: UNWANTED };
        piece.literal[..bytes.len()].copy_from_slice(bytes);
        if place == last {
            piece.next = next;
            piece.field = field.map_or(UNWANTED, |field| field as u32);
        }
        pieces.push(piece);
    }
}

/// Whether text that ended just before `rest` is a field name.
fn is_key(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) == Some(&b':')
}

/// The same where the record has to be over; whatever was passed beyond its end shows here.
#[inline(always)]
#[must_use]
pub fn end(record: Record, at: u32) -> Option<(u32, Kind)> {
    (at == record.end).then_some((at, Kind::Null))
}

/// Where the text at `at` ends, whose opening quote is before it, and its kind. Only in plain blocks.
#[inline(always)]
#[must_use]
pub fn plain_text(block: Block<'_>, at: u32) -> Option<(u32, Kind)> {
    block.quote_from(at).map(|end| (end, Kind::Text))
}

/// The same in any other block.
#[inline(always)]
#[must_use]
pub fn text<W: Wide>(kernel: W, block: Block<'_>, record: Record, at: u32) -> Option<(u32, Kind)> {
    match block.stop_from(at)? {
        (quote, b'"') => Some((quote, Kind::Text)),
        _ => escaped_text(kernel, block, record, at as usize),
    }
}

/// The same for a text that holds a backslash or control character: 64 bytes at a time, all escapes of them
/// together, since which comes next is nothing a CPU can predict.
#[inline(never)]
fn escaped_text<W: Wide>(kernel: W, block: Block<'_>, record: Record, at: usize) -> Option<(u32, Kind)> {
    let bytes = &block.bytes()[..record.range().end];
    let (mut place, mut from) = (at / 64, u64::MAX << (at % 64));
    // Whether the first byte of a word is escaped by the last one of the word before.
    let mut carried = 0;
    let mut surrogates = false;
    loop {
        let word = block.word(place)?;
        let escaped = escaped(word.backslashes & from, &mut carried);
        let ends = word.quotes & from & !escaped;
        // The bits before the end; all, if it is not here.
        let within = from & (ends & ends.wrapping_neg()).wrapping_sub(1);
        let controls = word.stops & !word.backslashes & !word.quotes & within;
        surrogates |= check_escapes(kernel, block, place * 64, escaped & within).filter(|_| controls == 0)?;
        if ends != 0 {
            let end = place * 64 + ends.trailing_zeros() as usize;
            if end >= bytes.len() {
                return None;
            }
            // Whether surrogates come in pairs is a question of order: the scanner's.
            let paired = !surrogates || Scanner::starting_at(bytes, at - 1).known_text().is_ok();
            return paired.then_some((end as u32, Kind::EscapedText));
        }
        (place, from) = (place + 1, u64::MAX);
    }
}

/// Whether there may be surrogates among the escapes whose second bytes are marked, counted from `base`; `None`
/// where one is no escape.
#[inline]
fn check_escapes<W: Wide>(kernel: W, block: Block<'_>, base: usize, marked: u64) -> Option<bool> {
    /// The places whose four digits lie in the same 64 bytes.
    const NEAR: u64 = u64::MAX >> 4;
    let escapes = kernel.escapes(block.chunk(base as u32)?);
    let (known, digits) = (whole_of(escapes.known), whole_of(escapes.digits));
    let mut units = marked & whole_of(escapes.units);
    let four = (digits >> 1) & (digits >> 2) & (digits >> 3) & (digits >> 4);
    if marked & !known != 0 || units & NEAR & !four != 0 {
        return None;
    }
    let mut surrogates = false;
    while units != 0 {
        let place = units.trailing_zeros() as usize;
        let digits = block.bytes().get(base + place + 1..)?.first_chunk()?;
        if NEAR >> place & 1 == 0 {
            hex_unit(*digits)?;
        }
        surrogates |= digits[0] | 0x20 == b'd';
        units &= units - 1;
    }
    Some(surrogates)
}

/// Where the number at `at` ends, and its kind.
#[inline(always)]
#[must_use]
pub fn number(block: Block<'_>, record: Record, at: u32) -> Option<(u32, Kind)> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let bytes = u64::from_le_bytes(*block.chunk(at)?.first_chunk()?);
    let word = bytes ^ ZEROS;
    // A byte's high bit is set where it is no digit; no sum carries into the next byte.
    let others = (word | (word & !HIGHS).wrapping_add(0x7676_7676_7676_7676)) & HIGHS;
    // None is at most 56: the shift below needs a byte.
    let bits = (others | 1 << 63).trailing_zeros() & 0x38;
    let behind = (bytes >> bits) as u8;
    let leading_zero = bytes as u8 == b'0' && bits > 8;
    if bits == 0 || others == 0 || leading_zero || matches!(behind, b'.' | b'e' | b'E') {
        let (len, kind) = number_slow(block.bytes().get(at as usize..record.range().end)?)?;
        return Some((at + len as u32, kind));
    }
    Some((at + bits / 8, Kind::Integer))
}

/// Long numbers, signs, fractions and exponents: as the full parser has them.
#[inline(never)]
fn number_slow(text: &[u8]) -> Option<(usize, Kind)> {
    if !matches!(text.first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let bounded = &text[..text.len().min(NUMBER_BYTES_MAX + 1)];
    let value = Scanner::starting_at(bounded, 0).known_number().ok()?;
    Some((value.end as usize, value.kind))
}

/// Where the word at `at` ends, and its kind.
#[inline(always)]
#[must_use]
pub fn word(block: Block<'_>, at: u32) -> Option<(u32, Kind)> {
    word_of(block.chunk(at)?).map(|(len, kind)| (at + len as u32, kind))
}

/// Length and kind of the word at the start of `text`, if there is one.
#[inline(always)]
fn word_of(text: &[u8]) -> Option<(usize, Kind)> {
    let words = [(&b"true"[..], Kind::True), (b"false", Kind::False), (b"null", Kind::Null)];
    words.into_iter().find(|(word, _)| text.starts_with(word)).map(|(word, kind)| (word.len(), kind))
}
