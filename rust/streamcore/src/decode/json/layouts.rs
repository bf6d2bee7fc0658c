//! The layouts of the records before, tried before the full parser.
//!
//! `decode/block.rs` asks them for each record and teaches them what the full parser accepts. A record of
//! a known layout is compared with the literals, and only its values are scanned; it is made of the same
//! literals and of valid values, so nothing is accepted or located that the full parser would not. They only save
//! time: answers do not depend on what they know. Invariant: their size is bounded; at the bound all is forgotten
//! and learned anew.

use super::Located;
use super::alike::Alike;
use super::kernel::{Kernel, Wide};
use super::layout::pieces;
use super::marks::{Block, Rows};
use super::tree::Tree;

/// After this many records it is seen whether trying layouts pays.
const WATCHED: u32 = 256;

/// Records for which layouts rest at first, and at most; each time in a row it is twice as long.
const REST: (u32, u32) = (1024, 64 << 10);

/// Layouts, and the one met last.
#[derive(Debug, Clone, Default)]
pub struct Known {
    tree: Tree,
    alike: Alike,
}

impl Known {
    /// Locates the wanted fields of records (valid UTF-8) until one has no known layout; how many. What is found holds
    /// nothing on entry, and nothing of use for the one that missed. A macro of a kind: it is compiled for each
    /// kernel's instruction set.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    pub fn walk_with<W: Wide>(&mut self, kernel: W, block: Block<'_>, rows: Rows<'_>) -> usize {
        if block.is_plain() {
            self.walk::<W, true>(kernel, block, rows)
        } else {
            self.walk::<W, false>(kernel, block, rows)
        }
    }

    /// The same; `PLAIN`: the block is.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    fn walk<W: Wide, const PLAIN: bool>(&mut self, kernel: W, block: Block<'_>, mut rows: Rows<'_>) -> usize {
        let mut place = 0;
        while place < rows.records.len() {
            place += self.alike.walk::<W, PLAIN>(kernel, block, rows.part(place, usize::MAX));
            let Some(record) = rows.records.get(place) else { break };
            let found = self.tree.walk::<W, PLAIN>(kernel, block, *record, rows.found_of(place));
            let Some(leaf) = found else { return place };
            self.alike.met(leaf, &self.tree);
            place += 1;
        }
        rows.records.len()
    }
}

/// The layouts known, and whether trying them pays.
#[derive(Debug, Clone)]
pub struct Layouts {
    kernel: Kernel,
    known: Known,
    /// Records tried, and those of them that missed, since they were looked at last.
    watched: u32,
    missed: u32,
    /// Records still to go before layouts are tried again, and how long the next rest is.
    resting: u32,
    next_rest: u32,
    /// How often the bounds made it forget.
    forgotten: u64,
}

impl Layouts {
    /// None yet. Tried with `kernel`.
    #[must_use]
    pub fn new(kernel: Kernel) -> Self {
        Self { kernel, known: Known::default(), watched: 0, missed: 0, resting: 0, next_rest: REST.0, forgotten: 0 }
    }

    /// Locates the wanted fields of records until one has no known layout; see [`Known::walk_with`].
    pub fn locate(&mut self, block: Block<'_>, rows: Rows<'_>) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let records = rows.records.len();
        let located = self.kernel.walk(&mut self.known, block, rows);
        self.watched = self.watched.saturating_add((located + 1).min(records) as u32);
        located
    }

    /// Learns the layout of a record that missed and that the full parser has accepted, `found` being
    /// positions in the record.
    pub fn learn(&mut self, record: &[u8], found: &[Located]) {
        if self.resting > 0 {
            return;
        }
        self.missed += 1;
        if self.watched >= WATCHED {
            let pays = self.missed * 2 < self.watched;
            (self.watched, self.missed) = (0, 0);
            if pays {
                self.next_rest = REST.0;
            } else {
                self.resting = self.next_rest;
                self.next_rest = (self.next_rest * 2).min(REST.1);
                self.known = Known::default();
                return;
            }
        }
        if pieces(record, found).is_some_and(|pieces| !self.known.tree.add(pieces)) {
            self.known = Known::default();
            self.forgotten += 1;
        }
    }

    /// How often there were more layouts than are kept, so that all were forgotten.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests;
