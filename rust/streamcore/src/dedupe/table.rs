//! Fingerprints by hash, each with the tag of its generation.
//!
//! A hash names two cache lines of five entries (`line`) that mostly share a page; the one with more room takes the entry
//! (balanced allocations, Y. Azar et al., 1994). What finds both full goes on along its path (`lines`), and each line
//! counts how many went past it, so that a search ends at the first that none did (as in Folly's F14, N. Bronson and
//! X. Shi, 2019).
//! Entries whose tag may be dropped are room for others, so forgetting a generation touches none of them. There are 64
//! parts that grow on their own: no id waits for all. Invariant: every entry is found from the line its hash names.

use super::line::{ENTRIES, Entry, Line};
use super::lines::{CHUNK_LINES, Lines, Path, STRIDES};
use crate::prefetch::prefetch;
use crate::state::key_hash;

/// How many probes are asked for together.
pub const TOGETHER: usize = 32;
/// Parts of the table.
const PARTS: usize = 64;
/// Lines of a part that holds nothing.
const LINES_MIN: usize = 4;
/// Part of the places in use, in percent, beyond which entries that may be dropped are, or the part grows.
const FULL_PERCENT: usize = 84;
/// Part of the places in use after it grew; it does not if no more than `SWEPT_PERCENT` are without the dropped.
const GROWN_PERCENT: usize = 50;
const SWEPT_PERCENT: usize = 76;
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

/// How many places of so many lines may be in use.
const fn used_max(lines: usize) -> usize {
    lines * ENTRIES * FULL_PERCENT / 100
}

/// The entries whose hashes have the same low bits.
#[derive(Debug)]
struct Part {
    number: usize,
    lines: Lines,
    /// Places in use, those whose entries may be dropped included.
    used: usize,
    /// How many are too many.
    used_max: usize,
}

/// A place in a part.
type Place = (usize, usize);

impl Part {
    fn new(number: usize, lines: usize) -> Self {
        let mut part = Self { number, lines: Lines::to_come(lines), used: 0, used_max: used_max(lines) };
        part.lines.reach(lines - 1);
        part
    }

    #[inline]
    const fn path(&self, hash: u64) -> Path {
        Path::new(hash >> 32, hash as usize / PARTS, self.lines.count)
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    fn find(&self, hash: u64, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<Place> {
        let path = self.path(hash);
        let (first, second) = (self.lines.get(path.line), self.lines.get(path.second().line));
        // Both are looked at always: which of them it is would be guessed wrong every other time.
        if first.may_hold(fingerprint) | second.may_hold(fingerprint) | second.is_passed() {
            return self.find_slow(path, fingerprint, is_it);
        }
        None
    }

    /// As `find`, line by line.
    #[inline(never)]
    fn find_slow(&self, mut path: Path, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<Place> {
        while path.passed < self.lines.count + STRIDES {
            let line = self.lines.get(path.line);
            if let Some(place) = line.find(fingerprint, &is_it) {
                return Some((path.line, place));
            }
            if path.passed > 0 && !line.is_passed() {
                return None;
            }
            path = path.next();
        }
        None
    }

    /// Puts `entry` in, where there are fewer of the first two lines that have room, or into the next that has; there is
    /// one.
    #[inline]
    fn put(&mut self, spread: Spread, hash: u64, entry: Entry, tags: &mut impl Tags) {
        let first = self.path(hash);
        let second = first.second();
        let rooms = |line: usize| self.lines.get(line).rooms(|tag| tags.droppable(tag));
        let (firsts, seconds) = (rooms(first.line), rooms(second.line));
        // Places are taken from the first on, so the greater number has more bits, as a rule.
        let (line, rooms) = if firsts >= seconds { (first.line, firsts) } else { (second.line, seconds) };
        if rooms == 0 {
            return self.put_behind(second, spread, entry, tags);
        }
        self.put_at(line, rooms, spread, entry, tags);
    }

    /// Puts `entry` into the first place of `line` that is room.
    #[inline]
    fn put_at(&mut self, line: usize, rooms: u32, spread: Spread, entry: Entry, tags: &mut impl Tags) {
        let old = self.lines.get_mut(line).set(rooms.trailing_zeros() as usize, entry);
        if old.is_some() {
            tags.dropped(old.tag());
            self.none_passes(spread, line, old);
        } else {
            self.used += 1;
        }
    }

    /// Puts `entry` into the first line behind that of `path` that has room.
    #[inline(never)]
    fn put_behind(&mut self, mut path: Path, spread: Spread, entry: Entry, tags: &mut impl Tags) {
        loop {
            self.lines.get_mut(path.line).pass();
            path = path.next();
            self.lines.reach(path.line);
            let rooms = self.lines.get(path.line).rooms(|tag| tags.droppable(tag));
            if rooms != 0 {
                return self.put_at(path.line, rooms, spread, entry, tags);
            }
        }
    }

    /// One entry less, `old`, went past the lines before `line`.
    #[inline]
    fn none_passes(&mut self, spread: Spread, line: usize, old: Entry) {
        let mut path = self.path(spread.hash(old.fingerprint()));
        if path.line == line {
            return;
        }
        path = path.second();
        while path.line != line {
            self.lines.get_mut(path.line).unpass();
            path = path.next();
        }
    }

    /// Takes the entry at a place out.
    fn take(&mut self, spread: Spread, (line, at): Place) {
        let old = self.lines.get_mut(line).set(at, Entry::default());
        self.used -= 1;
        self.none_passes(spread, line, old);
    }

    /// Drops the entries that may be.
    fn sweep(&mut self, spread: Spread, tags: &mut impl Tags) {
        for line in 0..self.lines.count {
            for at in 0..ENTRIES {
                let entry = self.lines.get(line).get(at);
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
        if self.used * 100 > self.lines.count * ENTRIES * SWEPT_PERCENT {
            self.resize(spread, tags);
        }
    }

    /// The same entries in as many lines as they take when `GROWN_PERCENT` of the places are used.
    fn resize(&mut self, spread: Spread, tags: &mut impl Tags) {
        // Sizes that are spread out once stay so: parts grow one after the other, never most of them at a time.
        let spread_out = if self.used < SPREAD_MAX { (FULL_PERCENT - GROWN_PERCENT) * self.number / PARTS } else { 0 };
        let places = self.used * (100 + 2 * spread_out) / GROWN_PERCENT;
        let lines = places.div_ceil(ENTRIES).max(LINES_MIN);
        let old = std::mem::replace(&mut self.lines, Lines::to_come(lines));
        (self.used, self.used_max) = (0, used_max(lines));
        // Homes rise from line to line but for entries that went past the last one, so that chunks come one after the
        // other as those before are done with, and serve again: the same memory, mostly still in the cache.
        let mut last = Vec::new();
        for chunk in old.chunks {
            for entry in chunk.iter().flat_map(Line::entries) {
                let hash = spread.hash(entry.fingerprint());
                let home = self.path(hash).line;
                if home / CHUNK_LINES > self.lines.chunks.len() {
                    last.push((hash, entry));
                } else {
                    self.lines.reach((home + STRIDES).min(lines - 1));
                    self.put(spread, hash, entry, tags);
                }
            }
            self.lines.spare.push(chunk);
        }
        self.lines.reach(lines - 1);
        self.lines.spare = Vec::new();
        last.into_iter().for_each(|(hash, entry)| self.put(spread, hash, entry, tags));
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.lines.iter().flat_map(Line::entries)
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
    /// between other work: a processor runs ahead of a prefetch whose page it has to look up by some hundred instructions,
    /// so the fewer there are, the more lines are waited for together.
    #[inline]
    pub fn prefetch(&self, hashes: impl Iterator<Item = u64> + Clone) {
        for hash in hashes.clone() {
            let part = &self.parts[part_of(hash)];
            prefetch(part.lines.get(part.path(hash).line));
        }
        // The second mostly shares the page.
        for hash in hashes {
            let part = &self.parts[part_of(hash)];
            prefetch(part.lines.get(part.path(hash).second().line));
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
        let lines: usize = self.parts.iter().map(|part| part.lines.count).sum();
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
        self.parts.iter().map(|part| part.lines.count * size_of::<Line>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::line::cut;
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

    /// Whether every entry is found, and the count is right.
    fn is_part_in_order(part: &Part, spread: Spread) -> bool {
        let found = |entry: Entry| {
            let hash = spread.hash(entry.fingerprint());
            part.find(hash, entry.fingerprint(), |tag| tag == entry.tag()).is_some()
        };
        part.entries().count() == part.used && part.entries().all(found)
    }

    fn is_in_order(table: &Table) -> bool {
        table.parts.iter().all(|part| is_part_in_order(part, table.spread))
    }

    #[test]
    fn a_part_of_many_chunks_grows_and_shrinks_with_all_entries() {
        let (mut part, spread, mut tags) = (Part::new(7, LINES_MIN), Spread::new(), Old(2, Vec::new()));
        let entry = |number: u128| Entry::new(cut(number * 0x9e37_79b9_7f4a_7c15_f39c_c060), 1);
        for number in 1..60_001 {
            if part.used >= part.used_max {
                part.make_room(spread, &mut tags);
                assert!(is_part_in_order(&part, spread), "at {number}");
            }
            part.put(spread, spread.hash(entry(number).fingerprint()), entry(number), &mut tags);
        }
        assert!(part.lines.chunks.len() > 12 && part.lines.spare.is_empty());
        assert!(part.used == 60_000 && is_part_in_order(&part, spread));
        for number in 10_001..60_001 {
            let hash = spread.hash(entry(number).fingerprint());
            let place = part.find(hash, entry(number).fingerprint(), |_| true).expect("there");
            part.take(spread, place);
        }
        part.resize(spread, &mut tags);
        assert!(part.used == 10_000 && is_part_in_order(&part, spread) && part.lines.count < 5_000);
        for number in 1..10_001 {
            let hash = spread.hash(entry(number).fingerprint());
            let place = part.find(hash, entry(number).fingerprint(), |_| true).expect("there");
            part.take(spread, place);
        }
        assert!(part.lines.iter().all(|line| line.entries().count() == 0 && !line.is_passed()));
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
            prop_assert!(table.parts.iter().all(|part| part.lines.iter().all(|line| line.entries().count() == 0 && !line.is_passed())));
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
