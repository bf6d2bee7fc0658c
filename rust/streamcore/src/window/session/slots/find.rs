//! The sessions of a key that have part in a stretch of time.
//!
//! `session/arrive.rs` asks for each event, `session/mod.rs` where sessions of lanes meet. Invariant: it costs what is found, not
//! what there is.

use super::SessionSlots;

impl SessionSlots {
    /// Sessions in `slot` whose last event is no earlier than `from_ms`, by it.
    pub fn lasting(&self, slot: u32, from_ms: i64) -> &[u32] {
        let ids = self.list(slot);
        // Most lists are short, and most events belong to the last of them.
        let later = ids.iter().rev().take(4).take_while(|id| self.node(**id).last_ms >= from_ms).count();
        let from =
            if later < 4 { ids.len() - later } else { ids.partition_point(|id| self.node(*id).last_ms < from_ms) };
        &ids[from..]
    }

    /// Sessions in `slot` that have part in `[from_ms, to_ms]`, even where they overlap one another.
    pub fn within(&self, slot: u32, from_ms: i64, to_ms: i64) -> impl Iterator<Item = u32> {
        let longest_ms = self.lists[slot as usize].longest_ms;
        let ids = self.lasting(slot, from_ms).iter().copied();
        ids.take_while(move |id| self.node(*id).last_ms - longest_ms <= to_ms)
            .filter(move |id| self.node(*id).start_ms <= to_ms)
    }
}
