//! A layout: the literal bytes of a record that the full parser has accepted, and what its values are.
//!
//! `layouts.rs` keeps those met last. A record of the same layout is checked against the literals with
//! wide compares, and only its values are scanned; it is made of the same literals and of valid values,
//! so a layout accepts and locates nothing that the full parser would not. Invariant: reading stays
//! within the slice given, whatever the record holds.

use super::Located;
use super::kernel::padded::{Chunk, Padded};
use super::kernel::{Wide, first_bits};
use super::scan::{Kind, NUMBER_BYTES_MAX, Scanner, Value};
use crate::raw::PADDING;

/// Most pieces of a layout; longer records go to the full parser.
const PIECES_MAX: usize = 512;

/// What comes after the literal of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// More literal bytes.
    Literal,
    /// Text; its quotes belong to the literals around it.
    Text,
    /// A number.
    Number,
    /// `true`, `false` or `null`.
    Word,
}

/// As much of a literal as a kernel compares at once, and the value behind it.
#[derive(Debug, Clone)]
struct Piece {
    /// The literal bytes, then zeros.
    literal: Chunk,
    len: u32,
    next: Next,
    /// The wanted field that the value is; [`UNWANTED`]: none.
    field: u32,
}

const UNWANTED: u32 = u32::MAX;

/// The literals and values of a record.
#[derive(Debug, Clone)]
pub struct Layout {
    pieces: Vec<Piece>,
    /// Literal bytes in a piece at most.
    width: usize,
}

impl Layout {
    /// The layout, for a kernel of `width`, of `record`, in which the full parser has `found` the
    /// wanted fields; `None` when it is too long, or when a wanted field is an object or array.
    #[must_use]
    pub fn learn(width: usize, record: &[u8], found: &[Located]) -> Option<Self> {
        let nested = |value: &Value| matches!(value.kind, Kind::Object | Kind::Array);
        if found.iter().flatten().any(nested) {
            return None;
        }
        let mut layout = Self { pieces: Vec::new(), width };
        let (mut at, mut literal_start) = (0, 0);
        while at < record.len() && layout.pieces.len() <= PIECES_MAX {
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
                b't' | b'f' | b'n' => (Next::Word, at, at + word(&record[at..])?.0),
                _ => {
                    at += 1;
                    continue;
                }
            };
            let field = found.iter().position(|value| value.is_some_and(|value| value.start as usize == start));
            layout.push(&record[literal_start..start], next, field);
            literal_start = end;
            // The closing quote begins the next literal.
            at = if next == Next::Text { end + 1 } else { end };
        }
        layout.push(&record[literal_start..], Next::Literal, None);
        (layout.pieces.len() <= PIECES_MAX).then_some(layout)
    }

    fn push(&mut self, literal: &[u8], next: Next, field: Option<usize>) {
        let last = literal.len().div_ceil(self.width).max(1) - 1;
        for (place, bytes) in literal.chunks(self.width).enumerate() {
            let mut piece =
                Piece { literal: [0; PADDING], len: bytes.len() as u32, next: Next::Literal, field: UNWANTED };
            piece.literal[..bytes.len()].copy_from_slice(bytes);
            if place == last {
                piece.next = next;
                piece.field = field.map_or(UNWANTED, |field| field as u32);
            }
            self.pieces.push(piece);
        }
    }

    /// Bytes it takes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.pieces.len() * size_of::<Piece>()
    }

    /// Locates the wanted fields of records (valid UTF-8) if all have this layout: as many in `found`
    /// for each record as the plan wants. Records are walked side by side, for each walk is a chain of
    /// reads that wait for one another.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    pub fn locate_with<W: Wide, const N: usize>(
        &self,
        kernel: W,
        records: [Padded<'_>; N],
        found: &mut [Located],
    ) -> bool {
        let fields = found.len() / N;
        let mut at = [0; N];
        for piece in &self.pieces {
            for lane in 0..N {
                let Some(there) = records[lane].chunk(at[lane]) else { return false };
                let len = piece.len as usize;
                if kernel.differing(&piece.literal, there) & first_bits::<W>(len) != 0 {
                    return false;
                }
                at[lane] += len;
            }
            if piece.next == Next::Literal {
                continue;
            }
            for lane in 0..N {
                let Some((len, kind)) = value(kernel, piece.next, records[lane], at[lane]) else { return false };
                let start = at[lane];
                at[lane] += len;
                if piece.field != UNWANTED
                    && let Some(field) = found.get_mut(lane * fields + piece.field as usize)
                {
                    *field = Some(Value { kind, start: start as u32, end: at[lane] as u32 });
                }
            }
        }
        // Whatever was passed beyond a record's end shows here.
        (0..N).all(|lane| at[lane] == records[lane].len())
    }
}

/// Length and kind of the value at `at`, if it is one of its sort.
#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
#[inline(always)]
fn value<W: Wide>(kernel: W, sort: Next, record: Padded<'_>, at: usize) -> Option<(usize, Kind)> {
    let chunk = record.chunk(at)?;
    match sort {
        Next::Text => text(kernel, record, chunk, at),
        Next::Number => number(record, chunk, at),
        Next::Word | Next::Literal => word(chunk),
    }
}

/// Length and kind of the text at `at`, whose opening quote is before it.
#[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
#[inline(always)]
fn text<'a, W: Wide>(kernel: W, record: Padded<'a>, mut chunk: &'a Chunk, at: usize) -> Option<(usize, Kind)> {
    let mut len = 0;
    loop {
        let (quotes, others) = kernel.text_ends(chunk);
        // The bits up to the first quote; all, if there is none.
        if others & (quotes ^ quotes.wrapping_sub(1)) != 0 {
            return escaped_text_slow(record, at);
        }
        if quotes != 0 {
            return Some((len + quotes.trailing_zeros() as usize / W::BITS, Kind::Text));
        }
        len += W::WIDTH;
        chunk = record.chunk(at + len)?;
    }
}

#[inline(never)]
fn escaped_text_slow(record: Padded<'_>, at: usize) -> Option<(usize, Kind)> {
    let value = Scanner::starting_at(record.record(), at - 1).known_text().ok()?;
    Some((value.end as usize - at, value.kind))
}

/// Whether text that ended just before `rest` is a field name.
fn is_key(rest: &[u8]) -> bool {
    rest.iter().find(|byte| !matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) == Some(&b':')
}

/// Length and kind of the number at `at`, which `chunk` begins with.
#[inline]
fn number(record: Padded<'_>, chunk: &Chunk, at: usize) -> Option<(usize, Kind)> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let word = u64::from_le_bytes(*chunk.first_chunk()?) ^ ZEROS;
    // A byte's high bit is set where it is no digit; no sum carries into the next byte.
    let others = (word | (word & !HIGHS).wrapping_add(0x7676_7676_7676_7676)) & HIGHS;
    let digits = others.trailing_zeros() as usize / 8;
    if matches!(digits, 0 | 8) || (chunk[0] == b'0' && digits > 1) || matches!(chunk[digits], b'.' | b'e' | b'E') {
        return number_slow(record.record().get(at..)?);
    }
    Some((digits, Kind::Integer))
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

/// Length and kind of the word at the start of `text`, if there is one.
#[inline]
fn word(text: &[u8]) -> Option<(usize, Kind)> {
    let words = [(&b"true"[..], Kind::True), (b"false", Kind::False), (b"null", Kind::Null)];
    words.into_iter().find(|(word, _)| text.starts_with(word)).map(|(word, kind)| (word.len(), kind))
}
