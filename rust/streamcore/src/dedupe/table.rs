//! Fingerprints by hash, each with the tag of its generation.
//!
//! A hash names a cache line of four entries; what finds it full goes on to the next, and each line counts how many went
//! past it, so that a search ends at the first that none did (as in Folly's F14, N. Bronson and X. Shi, 2019). Entries
//! whose tag may be dropped are room for others, so forgetting a generation touches none of them. There are 64 parts
//! that grow on their own: no id waits for all. Invariant: every entry is found from the line that its hash names.

use crate::prefetch::prefetch;
use crate::state::key_hash;

/// Bits of a fingerprint that are kept; the tag is above them.
pub const FINGERPRINT_BITS: u32 = 112;
/// Bits of a tag; above them are two of the number of entries that went past the line.
const TAG_BITS: u32 = 14;
/// Most tags there are; 0 is none.
pub const TAGS_MAX: usize = (1 << TAG_BITS) - 1;

/// How many probes are asked for together.
pub const TOGETHER: usize = 32;
/// Parts of the table.
const PARTS: usize = 64;
/// Places of a part that holds nothing.
const PLACES_MIN: usize = 16;
/// Entries of a part below which growing spreads the sizes of parts out.
const SPREAD_MAX: usize = 1024;
/// Part of the places in use, in percent, beyond which entries that may be dropped are, or the part grows.
const FULL_PERCENT: usize = 88;
/// Part of the places in use after it grew; it does not if no more than `SWEPT_PERCENT` are without the dropped.
const GROWN_PERCENT: usize = 70;
const SWEPT_PERCENT: usize = 80;
/// Part of the places in use below which the table shrinks.
const SPARSE_PERCENT: usize = 25;
/// Entries of a line.
const ENTRIES: usize = 4;

const MASK: u128 = (1 << FINGERPRINT_BITS) - 1;

/// A fingerprint and its tag.
pub type Entry = u128;

/// The entry of `fingerprint`, which has [`FINGERPRINT_BITS`], with `tag`.
#[inline]
pub const fn entry(fingerprint: u128, tag: u16) -> Entry {
    (tag as u128) << FINGERPRINT_BITS | fingerprint
}

/// Tag of an entry.
#[inline]
pub const fn tag_of(entry: Entry) -> u16 {
    (entry >> FINGERPRINT_BITS) as u16 & TAGS_MAX as u16
}

/// Fingerprint of an entry.
#[inline]
pub const fn fingerprint_of(entry: Entry) -> u128 {
    entry & MASK
}

/// Spreads fingerprints over the table, in every process in another way, so that nobody can send ids that all meet.
#[derive(Debug, Clone, Copy)]
struct Spread(u64, u64);

impl Spread {
    fn new() -> Self {
        Self(key_hash(b"low"), key_hash(b"high"))
    }

    /// Both halves multiplied and folded.
    #[inline]
    fn hash(self, fingerprint: u128) -> u64 {
        let (low, high) = (fingerprint as u64 ^ self.0, (fingerprint >> 64) as u64 ^ self.1);
        let product = u128::from(low) * u128::from(high);
        product as u64 ^ (product >> 64) as u64
    }
}

/// What the owner of the tags says of them.
pub trait Tags {
    /// Whether entries with `tag`, which is not 0, may be dropped.
    fn droppable(&self, tag: u16) -> bool;
    /// One entry with `tag` was dropped.
    fn dropped(&mut self, tag: u16);
}

/// A cache line of entries; 0 is none. The two highest bits of each are of the number of entries that went past.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([Entry; ENTRIES]);

const EMPTY: Line = Line([0; ENTRIES]);
const PASSED_SHIFT: u32 = FINGERPRINT_BITS + TAG_BITS;
const PASSED_MAX: u32 = (1 << (2 * ENTRIES)) - 1;

impl Line {
    /// Whether no entry went past.
    #[inline]
    fn none_passed(&self) -> bool {
        self.0.iter().fold(0, |all, entry| all | entry) >> PASSED_SHIFT == 0
    }

    /// How many entries went past; stays at the greatest number once it is there.
    fn passed(&self) -> u32 {
        self.0.iter().rev().fold(0, |passed, entry| passed << 2 | (entry >> PASSED_SHIFT) as u32)
    }

    fn set_passed(&mut self, passed: u32) {
        for (at, entry) in self.0.iter_mut().enumerate() {
            *entry = *entry & SET | u128::from(passed >> (2 * at) & 3) << PASSED_SHIFT;
        }
    }

    /// Puts `entry`, or none, at `at`; gives what was there.
    #[inline]
    fn set(&mut self, at: usize, entry: Entry) -> Entry {
        let old = self.0[at];
        self.0[at] = old & !SET | entry;
        old & SET
    }
}

/// Bits of an entry that are its own.
const SET: u128 = (1 << PASSED_SHIFT) - 1;

/// The entries whose hashes have the same low bits.
#[derive(Debug, Clone)]
struct Part {
    number: usize,
    lines: Vec<Line>,
    /// Places in use, those whose entries may be dropped included.
    used: usize,
    /// How many are too many.
    used_max: usize,
}

/// A place in a part.
type Place = (usize, usize);

impl Part {
    fn new(number: usize, mut lines: Vec<Line>, len: usize) -> Self {
        lines.clear();
        lines.reserve_exact(len);
        lines.resize(len, EMPTY);
        Self { number, lines, used: 0, used_max: len * ENTRIES * FULL_PERCENT / 100 }
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines.len() as u64) >> 32) as usize
    }

    #[inline]
    const fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines.len() { 0 } else { line + 1 }
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    fn find(&self, hash: u64, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<Place> {
        let mut line = self.home(hash);
        for _ in 0..self.lines.len() {
            let entries = &self.lines[line].0;
            for (at, entry) in entries.iter().enumerate() {
                if fingerprint_of(entry ^ fingerprint) == 0 && tag_of(*entry) != 0 && is_it(tag_of(*entry)) {
                    return Some((line, at));
                }
            }
            if self.lines[line].none_passed() {
                return None;
            }
            line = self.next(line);
        }
        None
    }

    /// Puts `entry` in; there is room.
    #[inline]
    fn put(&mut self, spread: Spread, hash: u64, entry: Entry, tags: &mut impl Tags) {
        let mut line = self.home(hash);
        loop {
            let room = |old: &Entry| tag_of(*old) == 0 || tags.droppable(tag_of(*old));
            if let Some(at) = self.lines[line].0.iter().position(room) {
                let old = self.lines[line].set(at, entry);
                self.used += usize::from(old == 0);
                if old != 0 {
                    self.drop_entry(spread, line, old, tags);
                }
                return;
            }
            let passed = self.lines[line].passed();
            self.lines[line].set_passed((passed + 1).min(PASSED_MAX));
            line = self.next(line);
        }
    }

    /// Makes up for `old`, which may be dropped and was in `line`.
    fn drop_entry(&mut self, spread: Spread, line: usize, old: Entry, tags: &mut impl Tags) {
        tags.dropped(tag_of(old));
        self.none_passes(spread, line, old);
    }

    /// One entry less, `old`, went past the lines before `line`.
    #[inline]
    fn none_passes(&mut self, spread: Spread, line: usize, old: Entry) {
        let mut at = self.home(spread.hash(fingerprint_of(old)));
        while at != line {
            let passed = self.lines[at].passed();
            if passed < PASSED_MAX {
                self.lines[at].set_passed(passed - 1);
            }
            at = self.next(at);
        }
    }

    /// Takes the entry at a place out.
    fn take(&mut self, spread: Spread, (line, at): Place) {
        let old = self.lines[line].set(at, 0);
        self.used -= 1;
        self.none_passes(spread, line, old);
    }

    /// Drops the entries that may be.
    fn sweep(&mut self, spread: Spread, tags: &mut impl Tags) {
        for line in 0..self.lines.len() {
            for at in 0..ENTRIES {
                let tag = tag_of(self.lines[line].0[at]);
                if tag != 0 && tags.droppable(tag) {
                    self.take(spread, (line, at));
                    tags.dropped(tag);
                }
            }
        }
    }

    /// Makes room for one more entry. Gives memory it has no more use for, and takes that of `spare`.
    #[inline(never)]
    fn make_room(&mut self, spread: Spread, spare: Vec<Line>, tags: &mut impl Tags) -> Vec<Line> {
        self.sweep(spread, tags);
        if self.used * 100 > self.lines.len() * ENTRIES * SWEPT_PERCENT {
            return self.resize(spread, spare, tags);
        }
        spare
    }

    /// The same entries in as many lines as they take when `GROWN_PERCENT` of the places are used. Gives the old ones.
    fn resize(&mut self, spread: Spread, spare: Vec<Line>, tags: &mut impl Tags) -> Vec<Line> {
        // Sizes that are spread out once stay so: parts grow one after the other, never most of them at a time.
        let spread_out = if self.used < SPREAD_MAX { (FULL_PERCENT - GROWN_PERCENT) * self.number / PARTS } else { 0 };
        let places = (self.used * (100 + spread_out) / GROWN_PERCENT).max(PLACES_MIN);
        let old = std::mem::replace(self, Self::new(self.number, spare, places.div_ceil(ENTRIES)));
        for line in &old.lines {
            for entry in line.0.map(|entry| entry & SET) {
                if entry != 0 {
                    self.put(spread, spread.hash(fingerprint_of(entry)), entry, tags);
                }
            }
        }
        old.lines
    }
}

/// Fingerprints with tags.
#[derive(Debug, Clone)]
pub struct Table {
    parts: Vec<Part>,
    spread: Spread,
    /// Memory of a part that was built anew, for the next.
    spare: Vec<Line>,
}

const fn part_of(hash: u64) -> usize {
    hash as usize % PARTS
}

impl Table {
    /// Holds nothing.
    pub fn new() -> Self {
        let part = |number| Part::new(number, Vec::new(), PLACES_MIN / ENTRIES);
        let parts = (0..PARTS).map(part).collect();
        Self { parts, spread: Spread::new(), spare: Vec::new() }
    }

    /// Hash of a fingerprint.
    #[inline]
    pub fn hash(&self, fingerprint: u128) -> u64 {
        self.spread.hash(fingerprint)
    }

    /// Has the lines fetched that fingerprints with `hashes`, [`TOGETHER`] or fewer, are looked for in. Not one by one
    /// ahead of use: a processor goes on past a prefetch only as far as it looks ahead, until it knows the page.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        for hash in hashes {
            let part = &self.parts[part_of(*hash)];
            let home = part.home(*hash);
            prefetch(&part.lines[home]);
            // One of three goes on.
            prefetch(&part.lines[part.next(home)]);
        }
    }

    /// Adds `fingerprint` with the tag that `new_tag` gives, unless it is there with a tag that `is_it`; its entry, if it
    /// was added.
    #[inline]
    pub fn insert<T: Tags, E>(
        &mut self,
        (hash, fingerprint): (u64, u128),
        tags: &mut T,
        is_it: impl Fn(&T, u16) -> bool,
        new_tag: impl FnOnce(&mut T) -> Result<u16, E>,
    ) -> Result<Option<Entry>, E> {
        let part = &mut self.parts[part_of(hash)];
        if part.find(hash, fingerprint, |tag| is_it(tags, tag)).is_some() {
            return Ok(None);
        }
        let entry = entry(fingerprint, new_tag(tags)?);
        if part.used >= part.used_max {
            self.spare = part.make_room(self.spread, std::mem::take(&mut self.spare), tags);
        }
        part.put(self.spread, hash, entry, tags);
        Ok(Some(entry))
    }

    /// Takes `entry` out, which is there.
    pub fn remove(&mut self, entry: Entry) {
        let hash = self.hash(fingerprint_of(entry));
        let part = &mut self.parts[part_of(hash)];
        let found = part.find(hash, fingerprint_of(entry), |tag| tag == tag_of(entry));
        debug_assert!(found.is_some(), "every id remembered has its place in the table");
        if let Some(place) = found {
            part.take(self.spread, place);
        }
    }

    /// Drops all entries that may be.
    pub fn sweep(&mut self, tags: &mut impl Tags) {
        self.parts.iter_mut().for_each(|part| part.sweep(self.spread, tags));
    }

    /// Gives memory back where most places hold none of the `kept` entries that may not be dropped.
    pub fn shrink(&mut self, kept: usize, tags: &mut impl Tags) {
        let places: usize = self.parts.iter().map(|part| part.lines.len() * ENTRIES).sum();
        if places > 2 * PARTS * PLACES_MIN && kept * 100 < places * SPARSE_PERCENT {
            self.sweep(tags);
            for part in &mut self.parts {
                part.resize(self.spread, Vec::new(), tags);
            }
            self.spare = Vec::new();
        }
    }

    /// All entries, those that may be dropped included.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        let entries = self.parts.iter().flat_map(|part| &part.lines).flat_map(|line| line.0);
        entries.map(|entry| entry & SET).filter(|entry| *entry != 0)
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        let lines: usize = self.parts.iter().map(|part| part.lines.capacity()).sum();
        (lines + self.spare.capacity()) * size_of::<Line>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Tags from the first on may be dropped; and those that were.
    struct Old(u16, Vec<u16>);

    impl Tags for Old {
        fn droppable(&self, tag: u16) -> bool {
            tag >= self.0
        }
        fn dropped(&mut self, tag: u16) {
            self.1.push(tag);
        }
    }

    fn insert(table: &mut Table, tags: &mut Old, fingerprint: u128, tag: u16) -> Option<Entry> {
        let hash = table.hash(fingerprint);
        table.insert((hash, fingerprint), tags, |_, other| other == tag, |_| Ok::<_, ()>(tag)).expect("a tag")
    }

    /// Whether every entry is found, and the counts are right.
    fn is_in_order(table: &Table) -> bool {
        table.parts.iter().all(|part| {
            let entries =
                || part.lines.iter().flat_map(|line| line.0).map(|entry| entry & SET).filter(|entry| *entry != 0);
            let found = |entry: Entry| {
                let (hash, fingerprint) = (table.hash(fingerprint_of(entry)), fingerprint_of(entry));
                part.find(hash, fingerprint, |tag| tag == tag_of(entry)).is_some()
            };
            entries().count() == part.used && entries().all(found)
        })
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_there_until_it_is_taken_out(
            steps in proptest::collection::vec((0_u128..400, 1_u16..5, 0_u8..4), 1..3000),
        ) {
            let (mut table, mut tags, mut model) = (Table::new(), Old(3, Vec::new()), BTreeSet::new());
            for (fingerprint, tag, kind) in steps {
                let entry = entry(fingerprint, tag);
                if kind == 0 && tag < 3 && model.remove(&entry) {
                    table.remove(entry);
                } else if kind > 0 && tag < 3 {
                    let new = insert(&mut table, &mut tags, fingerprint, tag);
                    prop_assert_eq!(new.is_some(), model.insert(entry));
                } else if kind > 0 {
                    insert(&mut table, &mut tags, fingerprint, tag);
                }
            }
            prop_assert!(is_in_order(&table));
            let held: BTreeSet<Entry> = table.iter().filter(|entry| tag_of(*entry) < 3).collect();
            prop_assert_eq!(held, model.clone());
            table.sweep(&mut tags);
            prop_assert!(is_in_order(&table));
            prop_assert_eq!(table.iter().collect::<BTreeSet<_>>(), model.clone());
            model.into_iter().for_each(|entry| table.remove(entry));
            prop_assert!(table.parts.iter().all(|part| part.lines.iter().all(|line| line.0 == [0; ENTRIES])));
        }
    }

    #[test]
    fn entries_that_may_be_dropped_are_room_for_others() {
        let (mut table, mut tags) = (Table::new(), Old(9, Vec::new()));
        for fingerprint in 1..10_001 {
            insert(&mut table, &mut tags, fingerprint * 0x9e37_79b9_7f4a_7c15, 3);
        }
        let bytes = table.byte_len();
        tags.0 = 3;
        for fingerprint in 1..10_001 {
            insert(&mut table, &mut tags, fingerprint * 0x6a09_e667_f3bc_c909, 1);
        }
        assert!(table.byte_len() <= bytes * 5 / 4, "{bytes} bytes became {}", table.byte_len());
        assert_eq!(table.iter().filter(|entry| tag_of(*entry) == 1).count(), 10_000);
        table.sweep(&mut tags);
        assert!(table.iter().all(|entry| tag_of(entry) == 1));
        assert_eq!(tags.1.len(), 10_000);
    }
}
