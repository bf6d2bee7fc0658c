//! Fingerprints by hash, each with the tag of its generation.
//!
//! A hash names a cache line of six entries (`line`); what finds it full goes on to the next, and each line counts how
//! many went past it, so that a search ends at the first that none did (as in Folly's F14, N. Bronson and X. Shi, 2019).
//! Entries whose tag may be dropped are room for others, so forgetting a generation touches none of them. There are 64
//! parts (`part`) that grow on their own: no id waits for all. Invariant: every entry is found from the line its hash
//! names.

use super::line::{ENTRIES, Entry};
use super::part::{LINES_MIN, Part, Tried};
use super::spread::{PARTS, Spread, part_of_hash};
use super::tags::Tags;

/// Part of the places in use below which the table shrinks.
const SPARSE_PERCENT: usize = 20;

/// Fingerprints with tags.
#[derive(Debug)]
pub struct Table {
    parts: Vec<Part>,
    spread: Spread,
    /// The part whose strays are swept next.
    next_swept: usize,
}

impl Table {
    /// Holds nothing.
    pub fn new() -> Self {
        let parts = (0..PARTS).map(|number| Part::new(number, PARTS)).collect();
        Self { parts, spread: Spread::new(), next_swept: 0 }
    }

    /// Hash of a fingerprint.
    #[inline]
    pub fn hash(&self, fingerprint: u128) -> u64 {
        self.spread.hash(fingerprint)
    }

    /// Has the lines fetched that fingerprints with `hashes`, [`TOGETHER`](crate::prefetch::TOGETHER) or fewer, are looked for in. Not one by one
    /// ahead of use: a processor goes on past a prefetch only as far as it looks ahead, until it knows the page.
    #[inline]
    pub fn prefetch(&self, hashes: &[u64]) {
        for hash in hashes {
            let part = &self.parts[part_of_hash(*hash)];
            part.prefetch(part.home(*hash));
        }
    }

    /// Has the home lines of `hashes` fetched and the two behind each: as many as are looked at, as a rule.
    #[inline]
    pub fn prefetch_further(&self, hashes: impl Iterator<Item = u64>) {
        for hash in hashes {
            let part = &self.parts[part_of_hash(hash)];
            let home = part.home(hash);
            let next = part.next(home);
            [home, next, part.next(next)].into_iter().for_each(|line| part.prefetch(line));
        }
    }

    /// [`insert`](Self::insert) where the home line is enough. What was [`Tried::Later`] is so again until `insert`,
    /// `remove`, `sweep` or `shrink` is called, or more tags are droppable: `at_home` tells as much as before of a line
    /// that was not changed, room becomes less by this function alone, and no count of those that went past is lowered.
    #[inline]
    pub fn insert_at_home<T: Tags, E>(
        &mut self,
        (hash, fingerprint): (u64, u128),
        tags: &mut T,
        is_it: impl Fn(&T, u16) -> bool,
        new_tag: impl FnOnce(&mut T) -> Result<u16, E>,
    ) -> Result<Tried, E> {
        self.parts[part_of_hash(hash)].insert_at_home((hash, fingerprint), tags, is_it, new_tag)
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
        let part = &mut self.parts[part_of_hash(hash)];
        if part.find(hash, fingerprint, |tag| is_it(tags, tag)).is_some() {
            return Ok(None);
        }
        let entry = Entry::new(fingerprint, new_tag(tags)?);
        if part.is_full() {
            part.make_room(self.spread, tags);
        }
        part.put(self.spread, hash, entry, tags);
        Ok(Some(entry))
    }

    /// Takes `entry` out; tells whether it was there.
    pub fn remove(&mut self, entry: Entry) -> bool {
        let hash = self.hash(entry.fingerprint());
        let part = &mut self.parts[part_of_hash(hash)];
        let found = part.find(hash, entry.fingerprint(), |tag| tag == entry.tag());
        found.into_iter().for_each(|place| part.take(self.spread, place));
        found.is_some()
    }

    /// Whether an entry is there.
    pub fn holds(&self, entry: Entry) -> bool {
        let hash = self.hash(entry.fingerprint());
        let part = &self.parts[part_of_hash(hash)];
        part.find(hash, entry.fingerprint(), |tag| tag == entry.tag()).is_some()
    }

    /// Drops those of the entries that may be which strayed, in the next `count` parts.
    pub fn sweep_strays(&mut self, count: usize, tags: &mut impl Tags) {
        for _ in 0..count.min(PARTS) {
            self.parts[self.next_swept].sweep_strays(self.spread, tags);
            self.next_swept = (self.next_swept + 1) % PARTS;
        }
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
                part.shrink(self.spread, tags);
            }
        }
    }

    /// All entries, those that may be dropped included.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        self.parts.iter().flat_map(Part::entries)
    }

    /// Entries of a part.
    pub fn part(&self, number: usize) -> impl Iterator<Item = Entry> {
        self.parts[number].entries()
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        self.parts.iter().map(Part::byte_len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::line::cut;
    use crate::dedupe::tags::TagSet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Tags from the first on may be dropped; and those that were.
    struct Old(TagSet, Vec<u16>);

    impl Tags for Old {
        fn droppable(&self) -> &TagSet {
            &self.0
        }
        fn dropped(&mut self, tag: u16) {
            self.1.extend((tag != 0).then_some(tag));
        }
        fn slide(&self) -> bool {
            true
        }
        fn kept_among(&self, used: usize) -> usize {
            used
        }
    }

    fn old(first: u16) -> Old {
        let mut tags = TagSet::of_none();
        (first..10).for_each(|tag| tags.insert(tag));
        Old(tags, Vec::new())
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
            let (mut table, mut tags, mut model) = (Table::new(), old(3), BTreeSet::new());
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
            prop_assert!(table.parts.iter().all(|part| (0..part.lines).all(|line| part.line(line).is_left())));
        }
    }

    #[test]
    fn entries_that_may_be_dropped_are_room_for_others() {
        let (mut table, mut tags) = (Table::new(), old(9));
        for fingerprint in 1..10_001 {
            insert(&mut table, &mut tags, cut(fingerprint * 0x9e37_79b9_7f4a_7c15), 3);
        }
        let bytes = table.byte_len();
        tags = old(3);
        for fingerprint in 1..10_001 {
            insert(&mut table, &mut tags, cut(fingerprint * 0x6a09_e667_f3bc_c909), 1);
        }
        // Twice as many, if the first were not room; parts that grow hold a few more, as the hash of the process has it.
        assert!(table.byte_len() < bytes * 3 / 2, "{bytes} bytes became {}", table.byte_len());
        assert_eq!(table.iter().filter(|entry| entry.tag() == 1).count(), 10_000);
        table.sweep(&mut tags);
        assert!(table.iter().all(|entry| entry.tag() == 1));
        assert_eq!(tags.1.len(), 10_000);
    }
}
