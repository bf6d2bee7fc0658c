//! Records of one layout in a row: all of them at once, piece by piece.
//!
//! `layouts.rs` tries it first, for most records have the layout of the one before. A walk down one record is a
//! chain of reads that wait for one another; the same piece of many records is not, and what it needs stays in
//! registers. Invariant: a record counts only if all its pieces were found, so a wrong guess costs time alone.

use super::kernel::Wide;
use super::layout::{Next, Piece, UNWANTED, end, number, plain_text, text, word};
use super::marks::{Block, Rows};
use super::scan::{Kind, Value};
use super::tree::{NONE, Tree};

/// Records of one layout in a row after which those behind them are taken to be of it too.
const IN_A_ROW: u32 = 4;

/// Records tried together at first, and at most; twice as many each time that none missed.
const RECORDS: (usize, usize) = (4, 64);

/// The layout met last, if it was met several times in a row.
#[derive(Debug, Clone)]
pub struct Alike {
    pieces: Vec<Piece>,
    /// The last piece of the layout that `pieces` are, in the tree.
    leaf: u32,
    /// The last piece of the layout met last, and how many records in a row had it.
    last: u32,
    in_a_row: u32,
    /// Records that are tried together next; 0: none, for the layout changed.
    records: usize,
}

impl Default for Alike {
    fn default() -> Self {
        Self { pieces: Vec::new(), leaf: NONE, last: NONE, in_a_row: 0, records: 0 }
    }
}

impl Alike {
    /// A record had the layout of `tree` that ends with the piece `leaf`.
    #[inline]
    pub fn met(&mut self, leaf: u32, tree: &Tree) {
        self.in_a_row = if leaf == self.last { self.in_a_row + 1 } else { 1 };
        self.last = leaf;
        if self.in_a_row < IN_A_ROW {
            return;
        }
        if leaf != self.leaf {
            (self.leaf, self.pieces) = (leaf, tree.path(leaf));
        }
        self.records = RECORDS.0;
    }

    /// Locates the wanted fields of records until one is not of the layout met last; how many. See
    /// [`Known::walk_with`](super::layouts::Known::walk_with).
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    pub fn walk<W: Wide, const PLAIN: bool>(&mut self, kernel: W, block: Block<'_>, mut rows: Rows<'_>) -> usize {
        let mut located = 0;
        while self.records > 0 && located < rows.records.len() {
            let mut part = rows.part(located, self.records);
            let tried = part.records.len();
            let good = self.together::<W, PLAIN>(kernel, block, part.part(0, tried));
            located += good;
            if good < tried {
                part.part(good, tried).found.fill(None);
                (self.records, self.in_a_row) = (0, 0);
            } else if tried == self.records {
                self.records = (tried * 2).min(RECORDS.1);
            }
        }
        located
    }

    /// The same for some records: those before the first of another layout are located.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    fn together<W: Wide, const PLAIN: bool>(&self, kernel: W, block: Block<'_>, rows: Rows<'_>) -> usize {
        let Rows { records, found, fields } = rows;
        let mut starts = [0; RECORDS.1];
        for (start, record) in starts.iter_mut().zip(records) {
            *start = record.start;
        }
        let mut good = records.len();
        for piece in &self.pieces {
            // Not read again after each write to `found`.
            let Piece { literal, compared, len, next, field } = *piece;
            // Where each record's value ends; those from the first without one are given up.
            macro_rules! each {
                ($start:ident, $record:ident => $value:expr) => {
                    for (place, (at, $record)) in starts[..good].iter_mut().zip(records).enumerate() {
                        let fits = block.chunk(*at).is_some_and(|chunk| kernel.begins(chunk, &literal, compared));
                        let $start = *at + len;
                        let value = if fits { $value } else { None };
                        let Some((end, kind)) = value else {
                            good = place;
                            break;
                        };
                        if field != UNWANTED
                            && let Some(field) = found.get_mut(place * fields + field as usize)
                        {
                            *field = Some(Value { kind, start: $start, end });
                        }
                        *at = end;
                    }
                };
            }
            match next {
                Next::Literal => each!(start, _record => Some((start, Kind::Null))),
                Next::Text if PLAIN => each!(start, _record => plain_text(block, start)),
                Next::Text => each!(start, record => text(kernel, block, *record, start)),
                Next::Number => each!(start, record => number(block, *record, start)),
                Next::Word => each!(start, _record => word(block, start)),
                Next::End => each!(start, record => end(*record, start)),
            }
        }
        good
    }
}
