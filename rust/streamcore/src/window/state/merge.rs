//! The slices of a window as one table.
//!
//! `window/state.rs` asks for them when a window leaves. Invariant: what is merged, in which order, changes no row.

use super::{Aligned, BucketKey, Buckets, Slots, StateTable, key_hash};
use crate::window::aggregate::Accumulators;
use crate::window::{WindowPlan, no_accumulators};
use std::collections::BTreeSet;

/// Slots of `keys`, where they have one, in key order.
pub fn slots_of<S: Slots>(table: &StateTable<S>, keys: &BTreeSet<Vec<u8>>) -> impl Iterator<Item = u32> {
    keys.iter().filter_map(|key| table.find(key_hash(key), key))
}

/// Tables of the slices that feed the window called `name`.
pub fn parts<'a>(
    slices: &'a Buckets<Accumulators>,
    windows: &Aligned,
    name: i64,
) -> impl Iterator<Item = &'a StateTable<Accumulators>> {
    let feeds = move |(key, _): &(BucketKey, _)| key.since <= name;
    let (from, to) = windows.slices_of(name);
    slices.range(from, to).filter(feeds).map(|(_, table)| table)
}

/// One table of `parts`: of `keys`, or of all their keys.
pub fn merge(
    plan: &WindowPlan,
    parts: &[&StateTable<Accumulators>],
    keys: Option<&BTreeSet<Vec<u8>>>,
) -> StateTable<Accumulators> {
    let mut merged = StateTable::new(no_accumulators(plan));
    for part in parts {
        match keys {
            None => (0..part.len() as u32).for_each(|slot| merge_slot(&mut merged, part, slot)),
            Some(keys) => slots_of(part, keys).for_each(|slot| merge_slot(&mut merged, part, slot)),
        }
    }
    merged
}

/// Merges `slot` of `from` into the slot of its key.
pub fn merge_slot(into: &mut StateTable<Accumulators>, from: &StateTable<Accumulators>, slot: u32) {
    let key = from.key(slot);
    let (mine, _) = into.slot_for_update(key_hash(key), key);
    into.slots_mut().merge(mine, from.slots(), slot);
}
