//! A typed column of accumulators, one cell a slot.
//!
//! `number`, `extreme`, `distinct` and `approximate` say what a cell holds; `typed` picks the column
//! for a plan. Invariant: `heap_bytes` is the sum of the cells' `heap_len`, so that asking for the
//! size of the state costs nothing: every change of a cell goes through [`Cells::change`].

use super::AggregatePlan;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::prefetch;
use crate::state::{Chunks, Slots};
use xxhash_rust::xxh3::xxh3_64;

/// What a small piece of memory takes beside its bytes, about: the allocator's own, and what it rounds up to.
pub(super) const ALLOCATION_BYTES: usize = 16;

/// What one slot holds for one aggregate. The default is the value of no rows.
pub(super) trait Cell: Clone + Default {
    /// Kind and version of the saved form: the first byte of each cell. Never given another meaning.
    const FORM: u8;
    /// Adds the rows that `other` has seen. Associative and commutative.
    fn merge(&mut self, other: &Self, plan: &AggregatePlan);
    /// Appends the value.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what `encode` wrote; damage is an error.
    fn decode(saved: &mut Reader<'_>) -> Result<Self>;

    /// Appends what `restore` needs, which may be less than the value.
    fn mark(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    /// Goes back to a mark.
    fn restore(&mut self, mark: &mut Reader<'_>) {
        *self = Self::decode(mark).expect("a mark holds what encode wrote in this run");
    }

    /// A digest that depends on the value alone, so a value must have one encoding or override this.
    fn digest(&self) -> u64 {
        let mut bytes = Vec::with_capacity(64);
        self.encode(&mut bytes);
        xxh3_64(&bytes)
    }

    /// Bytes held outside the cell.
    fn heap_len(&self) -> usize {
        0
    }
}

/// One aggregate's cells, indexed by slot.
#[derive(Debug, Clone)]
pub(super) struct Cells<C> {
    cells: Chunks<C>,
    /// Sum of the cells' `heap_len`.
    heap_bytes: usize,
}

impl<C> Default for Cells<C> {
    fn default() -> Self {
        Self { cells: Chunks::default(), heap_bytes: 0 }
    }
}

impl<C: Cell> Cells<C> {
    /// The cell of `slot`.
    pub fn get(&self, slot: u32) -> &C {
        &self.cells[slot as usize]
    }

    /// Changes one cell. For cells without heap the accounting compiles to nothing.
    #[inline]
    pub fn change(&mut self, slot: u32, change: impl FnOnce(&mut C)) {
        let cell = self.cells.get_mut(slot as usize);
        let before = cell.heap_len();
        change(cell);
        self.heap_bytes = self.heap_bytes + cell.heap_len() - before;
    }

    /// Merges a cell of `other` into one of these.
    pub fn merge(&mut self, slot: u32, other: &Self, other_slot: u32, plan: &AggregatePlan) {
        self.change(slot, |cell| cell.merge(other.get(other_slot), plan));
    }
}

impl<C: Cell> Slots for Cells<C> {
    fn push_empty(&mut self) {
        let cell = C::default();
        self.heap_bytes += cell.heap_len();
        self.cells.push(cell);
    }

    fn truncate(&mut self, len: usize) {
        let dropped = (len..self.cells.len()).map(|slot| self.cells[slot].heap_len());
        self.heap_bytes -= dropped.sum::<usize>();
        self.cells.truncate(len);
    }

    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.get(slot).mark(out);
    }

    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.change(slot, |cell| cell.restore(mark));
    }

    fn prefetch(&self, slot: u32) {
        prefetch(self.get(slot));
    }

    fn digest(&self, slot: u32) -> u64 {
        self.get(slot).digest()
    }

    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_u8(C::FORM);
        self.get(slot).encode(out);
    }

    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        let form = saved.u8()?;
        if form != C::FORM {
            return Err(Error::state(format!(
                "saved state holds an aggregate of form {form} where form {} is expected; it is of another pipeline or \
                 of a newer streamcore",
                C::FORM
            )));
        }
        let value = C::decode(saved)?;
        self.change(slot, |cell| *cell = value);
        Ok(())
    }

    fn byte_len(&self) -> usize {
        self.cells.byte_len() + self.heap_bytes
    }
}
