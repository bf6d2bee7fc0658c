//! The state table under every stateful step.

use crate::codec::Reader;
use crate::error::Result;

/// The values of a table, one slot a key, slots numbered from 0 in order of first appearance.
///
/// A table undoes an epoch by restoring the marks it took before a slot's first change, and by
/// truncating the slots that are new; so `mark` may hold less than `encode` (a set that only
/// grows marks its length).
pub trait Slots {
    /// Adds a slot holding the empty value.
    fn push_empty(&mut self);
    /// Drops the slots from `len` on.
    fn truncate(&mut self, len: usize);
    /// Appends what `restore` needs to bring `slot` back to how it is now.
    fn mark(&self, slot: u32, out: &mut Vec<u8>);
    /// Brings `slot` back to its mark.
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>);
    /// A 64-bit digest of the slot's value, independent of how it came about.
    fn digest(&self, slot: u32) -> u64;
    /// Appends the slot's value for saving.
    fn encode(&self, slot: u32, out: &mut Vec<u8>);
    /// Sets `slot`, which holds the empty value, from what `encode` wrote.
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()>;
    /// Bytes held by all slots, roughly.
    fn byte_len(&self) -> usize;
}
