//! The aggregates of a session, apart for each stretch of time that `max_length` may cut it into.
//!
//! `session/slots.rs` keeps them with the session's bounds. A cell is the time from one multiple of
//! `max_length` to the next; without `max_length` all time is one. Invariant: cells rise, and whoever
//! merged the same events in whatever order has the same cells with the same values.

use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use std::borrow::Cow;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Cells that rise, and their aggregates, each in slot 0. Added to at one end and taken from at the other.
pub type Cells = VecDeque<(i64, Accumulators)>;

/// Aggregates by cell; there is at least one.
#[derive(Debug, Clone)]
pub struct Pieces {
    /// Number of the first cell.
    cell: i64,
    /// Its aggregates, in slot 0. Not in the list: nearly every session has one cell.
    values: Accumulators,
    /// Those of later cells.
    later: Cells,
}

impl Pieces {
    /// The aggregates of one cell.
    pub fn new(cell: i64, values: Accumulators) -> Self {
        Self { cell, values, later: Cells::new() }
    }

    /// The aggregates of a first cell and of later ones.
    pub fn from_parts(cell: i64, values: Accumulators, later: Cells) -> Self {
        Self { cell, values, later }
    }

    /// The first cell, its aggregates and those of later ones.
    pub fn into_parts(self) -> (i64, Accumulators, Cells) {
        (self.cell, self.values, self.later)
    }

    /// Number of the first cell.
    pub fn first_cell(&self) -> i64 {
        self.cell
    }

    /// The cells and their aggregates.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Accumulators)> {
        std::iter::once((self.cell, &self.values)).chain(self.later.iter().map(|(cell, values)| (*cell, values)))
    }

    /// All cells together.
    pub fn total(&self) -> Cow<'_, Accumulators> {
        let mut total = Cow::Borrowed(&self.values);
        self.later.iter().for_each(|(_, values)| total.to_mut().merge(0, values, 0));
        total
    }

    /// Takes in the aggregates of another session: those with fewer cells go into those with more.
    pub fn merge(&mut self, mut other: Self) {
        if other.later.len() > self.later.len() {
            std::mem::swap(self, &mut other);
        }
        other.iter().for_each(|(cell, values)| self.add(cell, values));
    }

    fn add(&mut self, cell: i64, values: &Accumulators) {
        if cell == self.cell {
            return self.values.merge(0, values, 0);
        }
        if cell < self.cell {
            let first = std::mem::replace(&mut self.values, values.clone());
            self.later.push_front((std::mem::replace(&mut self.cell, cell), first));
            return;
        }
        match self.later.binary_search_by_key(&cell, |(known, _)| *known) {
            Ok(place) => self.later[place].1.merge(0, values, 0),
            Err(place) => self.later.insert(place, (cell, values.clone())),
        }
    }

    /// Takes the first cell out, unless it is the only one.
    pub fn take_first(&mut self) -> Option<Self> {
        let (cell, values) = self.later.pop_front()?;
        Some(Self::new(std::mem::replace(&mut self.cell, cell), std::mem::replace(&mut self.values, values)))
    }

    /// Appends the aggregates.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.later.len() as u64);
        for (cell, values) in self.iter() {
            out.put_i64(cell);
            values.encode(0, out);
        }
    }

    /// Reads what `encode` wrote; `empty` holds one empty slot.
    pub fn decode(empty: &Accumulators, saved: &mut Reader<'_>) -> Result<Self> {
        let later = saved.count(8)?;
        let mut read = || -> Result<(i64, Accumulators)> {
            let (cell, mut values) = (saved.i64()?, empty.clone());
            values.decode(0, saved)?;
            Ok((cell, values))
        };
        let (cell, values) = read()?;
        let later = (0..later).map(|_| read()).collect::<Result<_>>()?;
        Ok(Self { cell, values, later })
    }
}

/// Part of a digest: the values in `slot` are of `cell`.
pub fn digest_of_cell(cell: i64, values: &Accumulators, slot: u32) -> u64 {
    xxh3_64_with_seed(&cell.to_le_bytes(), values.digest(slot))
}
