//! When to look at which session: entries by time, in stretches of it.
//!
//! `session/mod.rs` puts an entry in for every session and takes out those that are due. Most entries are put in, and
//! taken out with all others of their stretch, without being sorted; only the stretch that the clock is in is, once. An
//! entry is never taken back: the session tells whether it is still meant. Invariant: entries leave in no order, all
//! that are due and no other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A time, ms, and the number of a session.
pub type Entry = (i64, u32);

/// Entries of one stretch.
#[derive(Debug, Default)]
struct Stretch {
    first_ms: i64,
    entries: Vec<Entry>,
}

/// Sessions by when to look at them.
#[derive(Debug)]
pub struct Due {
    /// Length of a stretch, ms.
    width_ms: i64,
    /// Stretches by number, those of `near` excepted.
    far: BTreeMap<i64, Stretch>,
    /// Entries of the stretches before number `far_from`: those of the last one, the latest first,
    near: Vec<Entry>,
    /// and those put in since the clock came there.
    behind: BinaryHeap<Reverse<Entry>>,
    far_from: i64,
    len: usize,
}

impl Due {
    /// No entries. `width_ms` is some fraction of the time that entries are ahead.
    pub fn new(width_ms: i64) -> Self {
        let (far, near, behind, far_from) = (BTreeMap::new(), Vec::new(), BinaryHeap::new(), i64::MIN);
        Self { width_ms: width_ms.max(1), far, near, behind, far_from, len: 0 }
    }

    /// Looks at session `id` when the clock is at `due_ms`.
    pub fn push(&mut self, due_ms: i64, id: u32) {
        self.len += 1;
        let number = due_ms.div_euclid(self.width_ms);
        if number < self.far_from {
            return self.behind.push(Reverse((due_ms, id)));
        }
        let stretch = self.far.entry(number).or_insert(Stretch { first_ms: due_ms, entries: Vec::new() });
        stretch.first_ms = stretch.first_ms.min(due_ms);
        stretch.entries.push((due_ms, id));
    }

    /// The time of the first entry.
    pub fn first_ms(&self) -> Option<i64> {
        let near = self.near.last().copied();
        let first = near.into_iter().chain(self.behind.peek().map(|Reverse(entry)| *entry)).min();
        let far = || self.far.first_key_value().map(|(_, stretch)| stretch.first_ms);
        first.map(|(due_ms, _)| due_ms).or_else(far)
    }

    /// Takes out the entries that are due at `clock_ms`.
    pub fn take(&mut self, clock_ms: i64) -> Vec<Entry> {
        let mut due = Vec::new();
        let now = clock_ms.div_euclid(self.width_ms);
        while let Some(first) = self.far.first_entry().filter(|first| *first.key() <= now) {
            let (number, stretch) = first.remove_entry();
            self.far_from = number.saturating_add(1);
            if number < now {
                due.extend(stretch.entries);
            } else {
                due.append(&mut self.near);
                self.near = stretch.entries;
                self.near.sort_unstable_by(|left, right| right.cmp(left));
            }
        }
        let first_due = self.near.partition_point(|(due_ms, _)| *due_ms > clock_ms);
        due.extend(self.near.drain(first_due..));
        while let Some(Reverse(entry)) = self.behind.peek().filter(|Reverse((due_ms, _))| *due_ms <= clock_ms) {
            due.push(*entry);
            self.behind.pop();
        }
        self.len -= due.len();
        due
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Forgets all entries.
    pub fn clear(&mut self) {
        *self = Self::new(self.width_ms);
    }

    /// Bytes held, roughly.
    pub const fn byte_len(&self) -> usize {
        self.len * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_due_leaves(steps in proptest::collection::vec((-50_i64..200, 0_i64..9, any::<bool>()), 0..200)) {
            let (mut due, mut all, mut clock_ms) = (Due::new(7), Vec::new(), -100);
            for (number, (ahead_ms, step_ms, take)) in steps.into_iter().enumerate() {
                due.push(clock_ms + ahead_ms, number as u32);
                all.push((clock_ms + ahead_ms, number as u32));
                prop_assert_eq!(due.first_ms(), all.iter().map(|entry| entry.0).min());
                if take {
                    clock_ms += step_ms;
                    let mut taken = due.take(clock_ms);
                    taken.sort_unstable();
                    let (mut over, rest): (Vec<Entry>, Vec<Entry>) = all.into_iter().partition(|it| it.0 <= clock_ms);
                    over.sort_unstable();
                    prop_assert_eq!(taken, over);
                    all = rest;
                }
                prop_assert_eq!(due.byte_len(), all.len() * size_of::<Entry>());
            }
        }
    }
}
