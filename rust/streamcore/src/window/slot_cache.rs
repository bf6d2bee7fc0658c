//! Where the groups of a batch are in a state table.
//!
//! Windows ask for the slots of rows; a batch has fewer groups than rows. Invariant: no slot outlives the batch.

use crate::batch::Groups;
use crate::state::{Slots, StateTable};

/// Slots of the groups of a batch in one table after the other, so that each is looked up once in each.
pub struct SlotCache<'g> {
    groups: &'g Groups,
    /// Slot of each group, and the number of the table it is for.
    slots: Vec<(u32, u32)>,
    table: u32,
    /// Groups that are to be looked up, and their slots; kept for their memory alone.
    asked: Vec<u32>,
    found: Vec<u32>,
}

impl<'g> SlotCache<'g> {
    /// Nothing is known.
    pub fn new(groups: &'g Groups) -> Self {
        Self { groups, slots: vec![(0, 0); groups.keys.len()], table: 0, asked: Vec::new(), found: Vec::new() }
    }

    /// Slots in `table`, another one than before, of the groups of `rows`, all ready to be changed.
    pub fn slots<S: Slots>(&mut self, table: &mut StateTable<S>, rows: &[u32]) -> Vec<u32> {
        self.table += 1;
        self.asked.clear();
        self.found.clear();
        let group = |row: &u32| self.groups.of_row[*row as usize];
        for group in rows.iter().map(group) {
            let known = &mut self.slots[group as usize].1;
            if *known != self.table {
                *known = self.table;
                self.asked.push(group);
            }
        }
        table.slots_for_update(self.asked.iter().map(|group| self.groups.key(*group)), &mut self.found);
        for (group, slot) in self.asked.iter().zip(&self.found) {
            self.slots[*group as usize].0 = *slot;
        }
        rows.iter().map(group).map(|group| self.slots[group as usize].0).collect()
    }
}
