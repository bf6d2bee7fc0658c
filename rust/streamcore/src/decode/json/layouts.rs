//! The layouts of the records before, tried before the full parser.
//!
//! `decode/block.rs` asks them for each record and teaches them what the full parser accepts. They are
//! kept as a tree: layouts that begin alike share their pieces, so that a record walks down once, however
//! many layouts there are. A record of a known layout is compared with the literals, and only its values
//! are scanned; it is made of the same literals and of valid values, so nothing is accepted or located
//! that the full parser would not. They only save time: answers do not depend on what they know.
//! Invariant: the tree's size is bounded; at the bound all is forgotten and learned anew.

use super::Located;
use super::kernel::{Kernel, Wide};
use super::layout::{Next, Piece, UNWANTED, number, pieces, text, word};
use super::marks::{Block, Record};
use super::scan::{Kind, Value};

/// Records walked side by side: as many as hide each other's latency and still fit the registers.
const GROUP: usize = 3;

/// Pieces kept.
const PIECES_MAX: usize = 4096;

/// Pieces that may come at the same place, which are tried one after the other.
const ALTERNATIVES_MAX: usize = 32;

/// After this many records it is seen whether trying layouts pays.
const WATCHED: u32 = 256;

/// Records for which layouts rest at first, and at most; each time in a row it is twice as long.
const REST: (u32, u32) = (1024, 64 << 10);

/// In the place of a node: there is none.
const NONE: u32 = u32::MAX;

/// A piece and where the walk goes on.
#[derive(Debug, Clone)]
struct Node {
    piece: Piece,
    /// The first of the pieces that may follow.
    child: u32,
    /// The next of the pieces that may come in place of this one.
    sibling: u32,
}

/// Layouts that share what they begin with.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    /// The first of the pieces that a record may begin with.
    first: u32,
}

impl Tree {
    const fn new() -> Self {
        Self { nodes: Vec::new(), first: NONE }
    }

    /// Locates the wanted fields of records (valid UTF-8) until one has no known layout; how many. `found` has
    /// `fields` entries for each, which hold nothing on entry, and nothing of use for the one that missed.
    /// Positions are those in the block. A macro of a kind: it is compiled for each kernel's instruction set.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    pub fn walk_with<W: Wide>(
        &self,
        kernel: W,
        block: Block<'_>,
        records: &[Record],
        found: &mut [Located],
        fields: usize,
    ) -> usize {
        let (mut place, mut last, mut alike) = (0, NONE, GROUP);
        while let Some(record) = records.get(place) {
            if alike >= GROUP
                && let Some(group) = records[place..].first_chunk::<GROUP>()
            {
                let own = &mut found[place * fields..(place + GROUP) * fields];
                if self.walk(kernel, block, *group, own).is_some() {
                    place += GROUP;
                    continue;
                }
                own.fill(None);
                alike = 0;
            }
            let own = &mut found[place * fields..(place + 1) * fields];
            let Some(leaf) = self.walk(kernel, block, [*record], own) else { return place };
            alike = if leaf == last { alike + 1 } else { 1 };
            last = leaf;
            place += 1;
        }
        records.len()
    }

    /// Locates the wanted fields of records that all have the same known layout, in `found` one record's after
    /// the other's; gives the last piece. They are walked side by side, for a walk is a chain of reads that wait
    /// for one another.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    fn walk<W: Wide, const N: usize>(
        &self,
        kernel: W,
        block: Block<'_>,
        records: [Record; N],
        found: &mut [Located],
    ) -> Option<u32> {
        let fields = found.len() / N;
        let mut at = records.map(|record| record.range().start);
        let mut next = self.first;
        'pieces: while let Some(node) = self.nodes.get(next as usize) {
            let (piece, place) = (&node.piece, next);
            next = node.sibling;
            for (lane, at) in at.iter().enumerate() {
                if !kernel.begins(block.chunk(*at)?, &piece.literal, piece.compared) {
                    // The first record looks for a piece that fits; the others have to have the same.
                    if lane == 0 {
                        continue 'pieces;
                    }
                    return None;
                }
            }
            for lane in 0..N {
                let start = at[lane] + piece.len as usize;
                let value = match piece.next {
                    Next::Literal => Some((start, Kind::Null)),
                    // Whatever was passed beyond a record's end shows here.
                    Next::End => (start == records[lane].range().end).then_some((start, Kind::Null)),
                    Next::Text => text(block, records[lane], start),
                    Next::Number => number(block, records[lane], start),
                    Next::Word => word(block.chunk(start)?).map(|(len, kind)| (start + len, kind)),
                };
                let Some((end, kind)) = value else {
                    if lane == 0 {
                        continue 'pieces;
                    }
                    return None;
                };
                if piece.field != UNWANTED
                    && let Some(field) = found.get_mut(lane * fields + piece.field as usize)
                {
                    *field = Some(Value { kind, start: start as u32, end: end as u32 });
                }
                at[lane] = end;
            }
            if piece.next == Next::End {
                return Some(place);
            }
            next = node.child;
        }
        None
    }

    /// Adds a layout; false, with part of it added, where the bounds do not allow it.
    fn add(&mut self, pieces: Vec<Piece>) -> bool {
        let mut parent = NONE;
        for piece in pieces {
            let (mut last, mut place, mut alternatives) = (NONE, self.child(parent), 0);
            while let Some(node) = self.nodes.get(place as usize) {
                if node.piece == piece {
                    break;
                }
                alternatives += 1;
                (last, place) = (place, node.sibling);
            }
            if place == NONE {
                if self.nodes.len() == PIECES_MAX || alternatives == ALTERNATIVES_MAX {
                    return false;
                }
                place = self.nodes.len() as u32;
                self.nodes.push(Node { piece, child: NONE, sibling: NONE });
                match (self.nodes.get_mut(last as usize), parent) {
                    (Some(before), _) => before.sibling = place,
                    (None, NONE) => self.first = place,
                    (None, _) => self.nodes[parent as usize].child = place,
                }
            }
            parent = place;
        }
        true
    }

    /// The first child of a node; of [`NONE`], the first piece of all.
    fn child(&self, parent: u32) -> u32 {
        self.nodes.get(parent as usize).map_or(self.first, |node| node.child)
    }
}

/// The layouts known, and whether trying them pays.
#[derive(Debug, Clone)]
pub struct Layouts {
    kernel: Kernel,
    tree: Tree,
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
    pub const fn new(kernel: Kernel) -> Self {
        Self { kernel, tree: Tree::new(), watched: 0, missed: 0, resting: 0, next_rest: REST.0, forgotten: 0 }
    }

    /// Locates the wanted fields of records until one has no known layout; see [`Tree::walk_with`].
    pub fn locate(&mut self, block: Block<'_>, records: &[Record], found: &mut [Located], fields: usize) -> usize {
        if self.resting > 0 {
            self.resting -= 1;
            return 0;
        }
        let located = self.kernel.walk(&self.tree, block, records, found, fields);
        self.watched += (located + 1).min(records.len()) as u32;
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
                self.tree = Tree::new();
                return;
            }
        }
        if pieces(record, found).is_some_and(|pieces| !self.tree.add(pieces)) {
            self.tree = Tree::new();
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
