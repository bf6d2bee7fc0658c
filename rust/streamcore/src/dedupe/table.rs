//! Fingerprints by hash, each with the tag of its generation.
//!
//! A hash names a cache line of five entries (`line`); what finds it full goes on to the next, and each line counts how
//! many went past it, so that a search ends at the first that none did (as in Folly's F14, N. Bronson and X. Shi, 2019).
//! Entries whose tag may be dropped are room for others, so forgetting a generation touches none of them. There are 64
//! parts that grow on their own: no id waits for all. Invariant: every entry is found from the line its hash names.

use super::line::{self, ENTRIES, Entry, LINE_WORDS, Line};
use crate::prefetch::prefetch;
use crate::state::key_hash;

/// How many probes are asked for together.
pub const TOGETHER: usize = 32;
/// Parts of the table.
const PARTS: usize = 64;
/// Lines of a part that holds nothing.
const LINES_MIN: usize = 4;
/// Part of the places in use, in percent, beyond which entries that may be dropped are, or the part grows.
const FULL_PERCENT: usize = 86;
/// Part of the places in use after it grew; it does not if no more than `SWEPT_PERCENT` are without the dropped.
const GROWN_PERCENT: usize = 50;
const SWEPT_PERCENT: usize = 78;
/// Entries of a part below which growing spreads the sizes of parts out.
const SPREAD_MAX: usize = 1024;
/// Part of the places in use below which the table shrinks.
const SPARSE_PERCENT: usize = 20;

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
    /// Whether entries with `tag` may be dropped; those with 0, which are none, may.
    fn droppable(&self, tag: u16) -> bool;
    /// One entry with `tag` was dropped.
    fn dropped(&mut self, tag: u16);
}

/// The entries whose hashes have the same low bits.
#[derive(Debug)]
struct Part {
    number: usize,
    /// The lines, from the first word on that begins a cache line.
    words: Vec<u32>,
    first: usize,
    /// How many.
    lines: usize,
    /// Places in use, those whose entries may be dropped included.
    used: usize,
    /// How many are too many.
    used_max: usize,
}

/// A place in a part.
type Place = (usize, usize);

impl Part {
    fn new(number: usize, lines: usize) -> Self {
        let words = vec![0; lines * LINE_WORDS + LINE_WORDS - 1];
        let first = words.as_ptr().align_offset(size_of::<Line>()).min(LINE_WORDS - 1);
        Self { number, words, first, lines, used: 0, used_max: lines * ENTRIES * FULL_PERCENT / 100 }
    }

    #[inline]
    fn lines(&self) -> &[Line] {
        self.words[self.first..].as_chunks().0
    }

    #[inline]
    fn line(&self, line: usize) -> &Line {
        &self.lines()[line]
    }

    #[inline]
    fn line_mut(&mut self, line: usize) -> &mut Line {
        &mut self.words[self.first..].as_chunks_mut().0[line]
    }

    #[inline]
    fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines as u64) >> 32) as usize
    }

    #[inline]
    const fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines { 0 } else { line + 1 }
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    fn find(&self, hash: u64, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<Place> {
        let mut at = self.home(hash);
        for _ in 0..self.lines {
            let line = self.line(at);
            if let Some(place) = line::find(line, fingerprint, &is_it) {
                return Some((at, place));
            }
            if !line::is_passed(line) {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Puts `entry` in; there is room.
    #[inline]
    fn put(&mut self, spread: Spread, hash: u64, entry: Entry, tags: &mut impl Tags) {
        let mut at = self.home(hash);
        loop {
            let line = self.line_mut(at);
            if let Some(place) = line::room(line, |tag| tags.droppable(tag)) {
                let old = line::set(line, place, entry);
                if old.is_some() {
                    tags.dropped(old.tag());
                    self.none_passes(spread, at, old);
                } else {
                    self.used += 1;
                }
                return;
            }
            line::pass(line);
            at = self.next(at);
        }
    }

    /// One entry less, `old`, went past the lines before `line`.
    #[inline]
    fn none_passes(&mut self, spread: Spread, line: usize, old: Entry) {
        let mut at = self.home(spread.hash(old.fingerprint()));
        while at != line {
            line::unpass(self.line_mut(at));
            at = self.next(at);
        }
    }

    /// Takes the entry at a place out.
    fn take(&mut self, spread: Spread, (line, at): Place) {
        let old = line::set(self.line_mut(line), at, Entry::default());
        self.used -= 1;
        self.none_passes(spread, line, old);
    }

    /// Drops the entries that may be.
    fn sweep(&mut self, spread: Spread, tags: &mut impl Tags) {
        for line in 0..self.lines {
            for at in 0..ENTRIES {
                let entry = line::get(self.line(line), at);
                if entry.is_some() && tags.droppable(entry.tag()) {
                    self.take(spread, (line, at));
                    tags.dropped(entry.tag());
                }
            }
        }
    }

    /// Makes room for one more entry.
    #[inline(never)]
    fn make_room(&mut self, spread: Spread, tags: &mut impl Tags) {
        self.sweep(spread, tags);
        if self.used * 100 > self.lines * ENTRIES * SWEPT_PERCENT {
            self.resize(spread, tags);
        }
    }

    /// The same entries in as many lines as they take when `GROWN_PERCENT` of the places are used.
    fn resize(&mut self, spread: Spread, tags: &mut impl Tags) {
        // Sizes that are spread out once stay so: parts grow one after the other, never most of them at a time.
        let spread_out = if self.used < SPREAD_MAX { (FULL_PERCENT - GROWN_PERCENT) * self.number / PARTS } else { 0 };
        let places = self.used * (100 + 2 * spread_out) / GROWN_PERCENT;
        let old = std::mem::replace(self, Self::new(self.number, places.div_ceil(ENTRIES).max(LINES_MIN)));
        for entry in old.entries() {
            self.put(spread, spread.hash(entry.fingerprint()), entry, tags);
        }
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        let lines = self.lines().iter().take(self.lines);
        lines.flat_map(|line| (0..ENTRIES).map(|at| line::get(line, at))).filter(|entry| entry.is_some())
    }
}

/// Fingerprints with tags.
#[derive(Debug)]
pub struct Table {
    parts: Vec<Part>,
    spread: Spread,
}

const fn part_of(hash: u64) -> usize {
    hash as usize % PARTS
}

impl Table {
    /// Holds nothing.
    pub fn new() -> Self {
        Self { parts: (0..PARTS).map(|number| Part::new(number, LINES_MIN)).collect(), spread: Spread::new() }
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
            prefetch(part.line(home));
            // Often enough the next is needed too.
            prefetch(part.line(part.next(home)));
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
        let entry = Entry::new(fingerprint, new_tag(tags)?);
        if part.used >= part.used_max {
            part.make_room(self.spread, tags);
        }
        part.put(self.spread, hash, entry, tags);
        Ok(Some(entry))
    }

    /// Takes `entry` out; tells whether it was there.
    pub fn remove(&mut self, entry: Entry) -> bool {
        let hash = self.hash(entry.fingerprint());
        let part = &mut self.parts[part_of(hash)];
        let found = part.find(hash, entry.fingerprint(), |tag| tag == entry.tag());
        found.into_iter().for_each(|place| part.take(self.spread, place));
        found.is_some()
    }

    /// Drops all entries that may be.
    pub fn sweep(&mut self, tags: &mut impl Tags) {
        self.parts.iter_mut().for_each(|part| part.sweep(self.spread, tags));
    }

    /// Gives memory back where most places hold none of the `kept` entries that may not be dropped.
    pub fn shrink(&mut self, kept: usize, tags: &mut impl Tags) {
        let lines: usize = self.parts.iter().map(|part| part.lines).sum();
        if lines > 2 * PARTS * LINES_MIN && kept * 100 < lines * ENTRIES * SPARSE_PERCENT {
            self.sweep(tags);
            for part in &mut self.parts {
                part.resize(self.spread, tags);
            }
        }
    }

    /// All entries, those that may be dropped included.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        self.parts.iter().flat_map(Part::entries)
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        self.parts.iter().map(|part| part.words.capacity() * size_of::<u32>()).sum()
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
            tag == 0 || tag >= self.0
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
            let found = |entry: Entry| {
                let hash = table.hash(entry.fingerprint());
                part.find(hash, entry.fingerprint(), |tag| tag == entry.tag()).is_some()
            };
            part.entries().count() == part.used && part.entries().all(found)
        })
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_there_until_it_is_taken_out(
            steps in proptest::collection::vec((0_u128..400, 1_u16..5, 0_u8..4), 1..3000),
        ) {
            let (mut table, mut tags, mut model) = (Table::new(), Old(3, Vec::new()), BTreeSet::new());
            for (fingerprint, tag, kind) in steps {
                let entry = Entry::new(fingerprint, tag);
                if kind == 0 && tag < 3 && model.remove(&entry) {
                    prop_assert!(table.remove(entry));
                } else if kind > 0 && tag < 3 {
                    let new = insert(&mut table, &mut tags, fingerprint, tag);
                    prop_assert_eq!(new.is_some(), model.insert(entry));
                } else if kind > 0 {
                    insert(&mut table, &mut tags, fingerprint, tag);
                }
            }
            prop_assert!(is_in_order(&table));
            let held: BTreeSet<Entry> = table.iter().filter(|entry| entry.tag() < 3).collect();
            prop_assert_eq!(held, model.clone());
            table.sweep(&mut tags);
            prop_assert!(is_in_order(&table));
            prop_assert_eq!(table.iter().collect::<BTreeSet<_>>(), model.clone());
            prop_assert!(model.into_iter().all(|entry| table.remove(entry)));
            prop_assert!(table.parts.iter().all(|part| part.words.iter().all(|word| *word == 0)));
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
        assert_eq!(table.iter().filter(|entry| entry.tag() == 1).count(), 10_000);
        table.sweep(&mut tags);
        assert!(table.iter().all(|entry| entry.tag() == 1));
        assert_eq!(tags.1.len(), 10_000);
    }
}
