//! The slices of a window as one table, and its keys in order.
//!
//! `window/state.rs` asks for them when a window leaves. Invariant: what is merged, in which order, changes no row.

use super::{Aligned, BucketKey, Buckets, Slots, StateTable, key_hash};
use crate::window::aggregate::Accumulators;
use crate::window::{WindowPlan, no_accumulators};
use std::collections::BTreeSet;

/// Slots of `keys`, or of all keys, in key order.
pub fn slots_by_key<S: Slots>(table: &StateTable<S>, keys: Option<&BTreeSet<Vec<u8>>>) -> Vec<u32> {
    if let Some(keys) = keys {
        return keys.iter().filter_map(|key| table.find(key_hash(key), key)).collect();
    }
    let shared = table.shared_key_len();
    let head = |slot: u32| {
        let rest = &table.key(slot)[shared..];
        let mut head = [0; 8];
        let len = rest.len().min(8);
        head[..len].copy_from_slice(&rest[..len]);
        (u64::from_be_bytes(head), slot)
    };
    let mut slots: Vec<(u64, u32)> = (0..table.len() as u32).map(head).collect();
    slots.sort_unstable_by_key(|(head, _)| *head);
    // Most keys differ in the first bytes behind those that all share: few are read a second time.
    for alike in slots.chunk_by_mut(|left, right| left.0 == right.0).filter(|alike| alike.len() > 1) {
        alike.sort_unstable_by(|left, right| table.key(left.1).cmp(table.key(right.1)));
    }
    slots.into_iter().map(|(_, slot)| slot).collect()
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
            Some(keys) => keys
                .iter()
                .filter_map(|key| part.find(key_hash(key), key))
                .for_each(|slot| merge_slot(&mut merged, part, slot)),
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
