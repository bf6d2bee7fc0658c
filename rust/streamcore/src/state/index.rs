//! Where the keys of a state table are: slots by hash.
//!
//! `state` probes for the keys of a batch together, each line fetched before it is needed. An entry holds 32 bits of
//! the hash beside the slot: a key that is not meant is passed without being read, and growing reads no key at all. A
//! hash names a line of memory, and what finds it full goes on to the next, so hardly any search needs a second. The
//! number of the line rises with the hash, so the index grows where it lies: lines are added behind, and entries move
//! up, those of the last line first. Invariant: from an entry's line to the one that it is in all are full; in a line
//! no entry stands behind a gap.

use super::region::Region;
use crate::prefetch::prefetch;

/// Entries of a line.
const ENTRIES: usize = 8;
/// A cache line of entries: 32 bits of the hash, then the slot and one; 0 is none.
type Line = [u64; ENTRIES];

const LINES_MIN: usize = 1;
/// Part of the places in use, in percent, beyond which the index grows, and part of them in use after it did.
const FULL_PERCENT: usize = 80;
const GROWN_PERCENT: usize = 53;

/// Slots by hash.
#[derive(Debug, Clone, Default)]
pub struct Index {
    lines: Region<Line>,
    len: usize,
    /// How many entries there are at most before it grows.
    len_max: usize,
}

/// What is kept of a hash.
const fn kept(hash: u64) -> u32 {
    (hash >> 32) as u32 ^ hash as u32
}

const fn entry(kept: u32, slot: u32) -> u64 {
    (kept as u64) << 32 | (slot as u64 + 1)
}

const fn kept_of(entry: u64) -> u32 {
    (entry >> 32) as u32
}

const fn slot_of(entry: u64) -> u32 {
    (entry as u32).wrapping_sub(1)
}

/// The line of `lines` that a hash names.
#[inline]
const fn home(kept: u32, lines: usize) -> usize {
    ((kept as u64 * lines as u64) >> 32) as usize
}

#[inline]
const fn next(at: usize, lines: usize) -> usize {
    if at + 1 == lines { 0 } else { at + 1 }
}

/// The places of `line` with an entry of `kept`, a bit each.
#[inline]
fn alike(line: &Line, kept: u32) -> u32 {
    (0..ENTRIES).fold(0, |places, at| places | u32::from(kept_of(line[at]) == kept) << at)
}

/// Puts `entry` in the first place of `line` without one; tells whether there was one.
#[inline]
fn put_in(line: &mut Line, entry: u64) -> bool {
    let free = line.iter_mut().find(|place| **place == 0);
    free.map(|place| *place = entry).is_some()
}

impl Index {
    /// Has the line for `hash` fetched.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        let lines = self.lines.get();
        if let Some(line) = lines.get(home(kept(hash), lines.len())) {
            prefetch(line);
        }
    }

    /// The slot for `hash` for which `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let (kept, lines) = (kept(hash), self.lines.get());
        let mut at = home(kept, lines.len());
        loop {
            let line = lines.get(at)?;
            let mut alike = alike(line, kept);
            while alike != 0 {
                let entry = line[alike.trailing_zeros() as usize];
                if entry != 0 && is_it(slot_of(entry)) {
                    return Some(slot_of(entry));
                }
                alike &= alike - 1;
            }
            if line[ENTRIES - 1] == 0 {
                return None;
            }
            at = next(at, lines.len());
        }
    }

    /// Adds `slot`, which is not there.
    pub fn insert(&mut self, hash: u64, slot: u32) {
        if self.len == self.len_max {
            self.grow();
        }
        self.len += 1;
        put(self.lines.get_mut(), entry(kept(hash), slot));
    }

    /// Takes more lines.
    #[inline(never)]
    fn grow(&mut self) {
        let old = self.lines.get().len();
        let wanted = (self.len * 100).div_ceil(GROWN_PERCENT * ENTRIES).max(LINES_MIN);
        self.lines.grow(wanted);
        let lines = self.lines.get_mut();
        self.len_max = lines.len() * ENTRIES * FULL_PERCENT / 100;
        // Entries whose line is before the one that they were in, or that found none up to the last.
        let mut held: Vec<u64> = Vec::new();
        for at in (0..old).rev() {
            let line = std::mem::take(&mut lines[at]);
            if !held.is_empty() {
                held.retain(|entry| !put_behind(lines, at, *entry));
            }
            let entries = line.into_iter().take_while(|entry| *entry != 0);
            held.extend(entries.filter(|entry| !put_behind(lines, at, *entry)));
        }
        held.into_iter().for_each(|entry| put(lines, entry));
    }

    /// Takes `slot` out, which is there.
    pub fn remove(&mut self, hash: u64, slot: u32) {
        let lines = self.lines.get_mut();
        let mut at = home(kept(hash), lines.len());
        let place = loop {
            match lines[at].iter().position(|other| *other == entry(kept(hash), slot)) {
                Some(place) => break place,
                None => at = next(at, lines.len()),
            }
        };
        self.len -= 1;
        let (mut gap, mut was_full) = (at, take(&mut lines[at], place));
        // Entries that went past a full line come back to the place that is free now.
        while was_full {
            at = next(at, lines.len());
            if at == gap {
                return;
            }
            let from = at;
            let goes_back = |entry: &u64| {
                let home = home(kept_of(*entry), lines.len());
                // Not between the gap, which it could not reach, and where it is.
                if gap < from { home <= gap || from < home } else { from < home && home <= gap }
            };
            let moved = lines[from].iter().take_while(|entry| **entry != 0).position(goes_back);
            match moved {
                Some(place) => {
                    let entry = lines[from][place];
                    put_in(&mut lines[gap], entry);
                    was_full = take(&mut lines[from], place);
                    gap = from;
                }
                None => was_full = lines[from][ENTRIES - 1] != 0,
            }
        }
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.lines.byte_len()
    }
}

/// Takes the entry at `place` out of a line; tells whether the line was full.
fn take(line: &mut Line, place: usize) -> bool {
    let was_full = line[ENTRIES - 1] != 0;
    line.copy_within(place + 1.., place);
    line[ENTRIES - 1] = 0;
    was_full
}

/// Puts `entry` in the first line, from its own on, that is not full.
#[inline]
fn put(lines: &mut [Line], entry: u64) {
    let mut at = home(kept_of(entry), lines.len());
    while !put_in(&mut lines[at], entry) {
        at = next(at, lines.len());
    }
}

/// Puts `entry` in if its line is `first` or one behind, and there is room before the last; tells whether so.
#[inline]
fn put_behind(lines: &mut [Line], first: usize, entry: u64) -> bool {
    let home = home(kept_of(entry), lines.len());
    home >= first && lines[home..].iter_mut().any(|line| put_in(line, entry))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Few hashes, at both ends of their range, so that entries meet and wrap around.
        #[test]
        fn it_finds_what_is_in_it(steps in proptest::collection::vec((0_u32..300, any::<bool>()), 1..600)) {
            let hash = |slot: u32| u64::from(slot % 7).wrapping_sub(3) << 32 | u64::from(slot % 3) << 29;
            let (mut index, mut model) = (Index::default(), BTreeSet::new());
            for (slot, add) in steps {
                if !add && model.remove(&slot) {
                    index.remove(hash(slot), slot);
                } else if add && model.insert(slot) {
                    index.insert(hash(slot), slot);
                }
                for slot in 0..300 {
                    let known = model.contains(&slot).then_some(slot);
                    prop_assert_eq!(index.find(hash(slot), |other| other == slot), known);
                }
            }
        }
    }

    /// Of so many that their lines go into a mapping of their own, and grow there.
    #[test]
    fn it_grows_where_it_lies() {
        let hash = |slot: u32| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut index, slots) = (Index::default(), 1_000_000);
        for slot in 0..slots {
            index.insert(hash(slot), slot);
            assert_eq!(index.find(hash(slot / 2), |other| other == slot / 2), Some(slot / 2));
        }
        let copy = index.clone();
        for slot in (0..slots).rev() {
            assert_eq!(index.find(hash(slot), |other| other == slot), Some(slot));
            index.remove(hash(slot), slot);
        }
        assert!(index.lines.get().iter().all(|line| *line == [0; ENTRIES]));
        assert!((0..slots).all(|slot| copy.find(hash(slot), |other| other == slot) == Some(slot)));
        assert!((10..16).contains(&(copy.byte_len() / slots as usize)), "{} bytes", copy.byte_len());
    }
}
