//! When to look at which session: entries by time, in stretches of it.
//!
//! `session/mod.rs` puts an entry in for every session and takes out those that are due. Most entries are put in, and
//! taken out with all others of their stretch, without being sorted; only the stretch that the clock is in is, once. An
//! entry is never taken back: the session tells whether it is still meant. Stretches that begin soon lie in a ring by
//! number. Invariant: entries leave in no order, all that are due and no other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

/// A time, ms, and the number of a session.
pub type Entry = (i64, u32);

/// Stretches in the ring.
const RING: usize = 512;

/// Memory of so many stretches is kept for others, of those with no more entries than this.
const SPARE_MAX: usize = 16;
const SPARE_ENTRIES_MAX: usize = 1 << 14;

/// Entries of one stretch.
#[derive(Debug, Default)]
struct Stretch {
    /// Time of the first, where there is any.
    first_ms: i64,
    entries: Vec<Entry>,
}

impl Stretch {
    fn push(&mut self, (due_ms, id): Entry) {
        self.first_ms = if self.entries.is_empty() { due_ms } else { self.first_ms.min(due_ms) };
        self.entries.push((due_ms, id));
    }
}

/// Sessions by when to look at them.
#[derive(Debug)]
pub struct Due {
    /// Length of a stretch, ms.
    width_ms: i64,
    /// The stretches from number `from` on; number `n` at `n` modulo their count.
    ring: Vec<Stretch>,
    /// The first of them that has entries.
    first: Option<i64>,
    /// Entries in the ring.
    soon: usize,
    /// Later stretches by number.
    far: BTreeMap<i64, Stretch>,
    /// Entries of the stretches before number `from`: those of the last one, the latest first,
    near: Vec<Entry>,
    /// and those put in since the clock came there.
    behind: BinaryHeap<Reverse<Entry>>,
    from: i64,
    /// Memory for entries of stretches.
    spare: Vec<Vec<Entry>>,
    len: usize,
}

/// Where stretch `number` lies in the ring.
const fn place(number: i64) -> usize {
    number.rem_euclid(RING as i64) as usize
}

/// Whether stretch `number` has its place in a ring that begins at `from`.
const fn is_soon(from: i64, number: i64) -> bool {
    number >= from && (number.wrapping_sub(from) as u64) < RING as u64
}

impl Due {
    /// No entries. `width_ms` is some fraction of the time that entries are ahead.
    pub fn new(width_ms: i64) -> Self {
        let ring = (0..RING).map(|_| Stretch::default()).collect();
        let (far, near, behind, spare) = (BTreeMap::new(), Vec::new(), BinaryHeap::new(), Vec::new());
        Self { width_ms: width_ms.max(1), ring, first: None, soon: 0, far, near, behind, from: i64::MIN, spare, len: 0 }
    }

    /// Looks at session `id` when the clock is at `due_ms`.
    #[inline]
    pub fn push(&mut self, due_ms: i64, id: u32) {
        self.len += 1;
        let number = due_ms.div_euclid(self.width_ms);
        if number < self.from {
            self.behind.push(Reverse((due_ms, id)));
        } else if is_soon(self.from, number) {
            let stretch = &mut self.ring[place(number)];
            if stretch.entries.is_empty() {
                self.first = Some(self.first.map_or(number, |first| first.min(number)));
                if stretch.entries.capacity() == 0 {
                    stretch.entries = self.spare.pop().unwrap_or_default();
                }
            }
            stretch.push((due_ms, id));
            self.soon += 1;
        } else {
            self.far.entry(number).or_default().push((due_ms, id));
        }
    }

    /// The time of the first entry.
    pub fn first_ms(&self) -> Option<i64> {
        let near = self.near.last().copied();
        let first = near.into_iter().chain(self.behind.peek().map(|Reverse(entry)| *entry)).min();
        let soon = || self.first.map(|first| self.ring[place(first)].first_ms);
        let far = || self.far.first_key_value().map(|(_, stretch)| stretch.first_ms);
        first.map(|(due_ms, _)| due_ms).or_else(soon).or_else(far)
    }

    /// Takes out the entries that are due at `clock_ms`.
    pub fn take(&mut self, clock_ms: i64) -> Vec<Entry> {
        let mut due = Vec::new();
        let now = clock_ms.div_euclid(self.width_ms);
        while let Some(number) = self.first.filter(|first| *first <= now) {
            let entries = std::mem::take(&mut self.ring[place(number)].entries);
            self.soon -= entries.len();
            self.reach(number, entries, now, &mut due);
            let end = self.from.saturating_add(RING as i64);
            let mut later = number.saturating_add(1)..end;
            let has_any = |number: &i64| !self.ring[place(*number)].entries.is_empty();
            self.first = if self.soon > 0 { later.find(has_any) } else { None };
        }
        while let Some(first) = self.far.first_entry().filter(|first| *first.key() <= now) {
            let (number, stretch) = first.remove_entry();
            self.reach(number, stretch.entries, now, &mut due);
        }
        self.move_ring(now.saturating_add(1));
        let first_due = self.near.partition_point(|(due_ms, _)| *due_ms > clock_ms);
        due.extend(self.near.drain(first_due..));
        while let Some(Reverse(entry)) = self.behind.peek().filter(|Reverse((due_ms, _))| *due_ms <= clock_ms) {
            due.push(*entry);
            self.behind.pop();
        }
        self.len -= due.len();
        due
    }

    /// The clock is in stretch `now`, at or behind stretch `number` with its `entries`.
    fn reach(&mut self, number: i64, mut entries: Vec<Entry>, now: i64, due: &mut Vec<Entry>) {
        if number < now {
            due.append(&mut entries);
        } else {
            due.append(&mut self.near);
            entries.sort_unstable_by(|left, right| right.cmp(left));
            std::mem::swap(&mut self.near, &mut entries);
        }
        if self.spare.len() < SPARE_MAX && entries.capacity() <= SPARE_ENTRIES_MAX {
            self.spare.push(entries);
        }
    }

    /// Has the ring begin at stretch `from`, unless it begins later; those before it are empty.
    fn move_ring(&mut self, from: i64) {
        self.from = self.from.max(from);
        while let Some(first) = self.far.first_entry().filter(|first| is_soon(self.from, *first.key())) {
            let (number, stretch) = first.remove_entry();
            self.soon += stretch.entries.len();
            self.ring[place(number)] = stretch;
            self.first = Some(self.first.map_or(number, |first| first.min(number)));
        }
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
        fn what_is_due_leaves(
            steps in proptest::collection::vec(
                (prop_oneof![-50_i64..200, 0_i64..9_000], prop_oneof![0_i64..9, 0_i64..5_000], any::<bool>()),
                0..200,
            ),
        ) {
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
