//! Layouts as a tree: those that begin alike share their pieces.
//!
//! `layouts.rs` walks it for records whose layout it cannot guess (`alike.rs` does the others). A record
//! walks down once, however many layouts there are. Invariant: the tree's size is bounded.

use super::Located;
use super::kernel::Wide;
use super::layout::{Next, Piece};
use super::marks::{Block, Record};
use super::scan::Value;

/// Pieces kept.
pub const PIECES_MAX: usize = 4096;

/// Pieces that may come at the same place, which are tried one after the other.
pub const ALTERNATIVES_MAX: usize = 32;

/// In the place of a node: there is none.
pub const NONE: u32 = u32::MAX;

/// A piece and where the walk goes on.
#[derive(Debug, Clone)]
struct Node {
    piece: Piece,
    /// The first of the pieces that may follow.
    child: u32,
    /// The next of the pieces that may come in place of this one.
    sibling: u32,
    /// The piece before.
    parent: u32,
}

/// Layouts that share what they begin with.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    /// The first of the pieces that a record may begin with.
    first: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: Vec::new(), first: NONE }
    }
}

impl Tree {
    /// Locates the wanted fields of one record in `found`, which holds nothing on entry; gives the last piece of its
    /// layout. `PLAIN`: the block is.
    #[expect(clippy::inline_always, reason = "compiled for the instruction set of each kernel")]
    #[inline(always)]
    #[must_use]
    pub fn walk<W: Wide, const PLAIN: bool>(
        &self,
        kernel: W,
        block: Block<'_>,
        record: Record,
        found: &mut [Located],
    ) -> Option<u32> {
        let (mut at, mut next) = (record.start, self.first);
        while let Some(node) = self.nodes.get(next as usize) {
            let (piece, place) = (&node.piece, next);
            next = node.sibling;
            if !kernel.begins(block.chunk(at)?, &piece.literal, piece.compared) {
                continue;
            }
            let start = at + piece.len;
            let Some((end, kind)) = piece.value::<W, PLAIN>(kernel, block, record, start) else { continue };
            if let Some(field) = found.get_mut(piece.field as usize) {
                *field = Some(Value { kind, start, end });
            }
            if piece.next == Next::End {
                return Some(place);
            }
            at = end;
            next = node.child;
        }
        None
    }

    /// Pieces kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True when it knows no layout.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The pieces of the layout whose last one is `leaf`.
    #[must_use]
    pub fn path(&self, leaf: u32) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut place = leaf;
        while let Some(node) = self.nodes.get(place as usize) {
            pieces.push(node.piece);
            place = node.parent;
        }
        pieces.reverse();
        pieces
    }

    /// Adds a layout; false, with part of it added, where the bounds do not allow it.
    pub fn add(&mut self, pieces: Vec<Piece>) -> bool {
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
                self.nodes.push(Node { piece, child: NONE, sibling: NONE, parent });
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
