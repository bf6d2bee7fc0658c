//! A cache line of five fingerprints with their tags.
//!
//! `part` finds the line. Invariant: a place without an entry is all zeros; the last word counts the entries that
//! found the line full and went on, and marks those that came here so.

/// Bits of a fingerprint that are kept; the tag is above them.
pub const FINGERPRINT_BITS: u32 = 86;
/// Most tags there are; 0 is none.
pub const TAGS_MAX: usize = (1 << (96 - FINGERPRINT_BITS)) - 1;

/// Entries of a line.
pub const ENTRIES: usize = 5;
/// Words of an entry, and of a line.
const ENTRY_WORDS: usize = 3;
const LINE_WORDS: usize = 16;
/// The word that has a bit for each entry that strayed to this line, then a bit for each class of hashes of which one
/// went past, and counts above them those that did: 2^19 are more than ever meet, as a part is never near to full.
const COUNTS: usize = LINE_WORDS - 1;
const CLASSES: u32 = 8;
const COUNT_SHIFT: u32 = ENTRIES as u32 + CLASSES;
/// Bits of the tag's word that are the fingerprint's.
const TAG_SHIFT: u32 = FINGERPRINT_BITS - 64;

const MASK: u128 = (1 << FINGERPRINT_BITS) - 1;

/// A fingerprint and its tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Entry([u32; ENTRY_WORDS]);

/// A fingerprint of [`FINGERPRINT_BITS`], of one that may have more.
#[inline]
pub const fn cut(fingerprint: u128) -> u128 {
    fingerprint & MASK
}

impl Entry {
    /// The entry of `fingerprint`, which has [`FINGERPRINT_BITS`], with `tag`.
    #[inline]
    pub const fn new(fingerprint: u128, tag: u16) -> Self {
        let tag = (tag as u32) << TAG_SHIFT;
        Self([fingerprint as u32, (fingerprint >> 32) as u32, (fingerprint >> 64) as u32 | tag])
    }

    #[inline]
    pub const fn tag(self) -> u16 {
        (self.0[2] >> TAG_SHIFT) as u16
    }

    #[inline]
    pub const fn fingerprint(self) -> u128 {
        let [low, middle, high] = self.0;
        low as u128 | (middle as u128) << 32 | ((high & ((1 << TAG_SHIFT) - 1)) as u128) << 64
    }

    /// Whether there is one.
    #[inline]
    pub const fn is_some(self) -> bool {
        self.tag() != 0
    }
}

/// A set of tags.
#[derive(Debug, Clone)]
pub struct TagSet([u64; (TAGS_MAX + 1) / 64]);

impl TagSet {
    /// That of 0, which is none.
    pub const fn of_none() -> Self {
        let mut words = [0; (TAGS_MAX + 1) / 64];
        words[0] = 1;
        Self(words)
    }

    pub fn insert(&mut self, tag: u16) {
        self.0[tag as usize / 64] |= 1 << (tag % 64);
    }

    pub fn remove(&mut self, tag: u16) {
        self.0[tag as usize / 64] &= !(1 << (tag % 64));
    }

    #[inline]
    pub const fn contains(&self, tag: u16) -> bool {
        self.0[tag as usize / 64 % ((TAGS_MAX + 1) / 64)] >> (tag % 64) & 1 == 1
    }
}

/// Places of a line, a bit each.
pub type Places = u32;

/// The first of `places`, which are not none.
#[inline]
pub const fn first(places: Places) -> usize {
    places.trailing_zeros() as usize
}

/// A line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Line([u32; LINE_WORDS]);

impl Line {
    /// Without entries.
    pub const EMPTY: Self = Self([0; LINE_WORDS]);

    /// The entry at `at`.
    #[inline]
    pub const fn get(&self, at: usize) -> Entry {
        let first = at * ENTRY_WORDS;
        Entry([self.0[first], self.0[first + 1], self.0[first + 2]])
    }

    /// Puts `entry`, or none, at `at`. `strayed`: it passed other lines. Of what was there before and had passed some, the caller
    /// takes that back (`unpass`).
    #[inline]
    pub fn set(&mut self, at: usize, entry: Entry, strayed: bool) {
        self.0[at * ENTRY_WORDS..(at + 1) * ENTRY_WORDS].copy_from_slice(&entry.0);
        self.0[COUNTS] = self.0[COUNTS] & !(1 << at) | u32::from(strayed) << at;
    }

    /// The places whose low word is that of `fingerprint`.
    #[inline]
    fn alike(&self, fingerprint: u128) -> Places {
        let low = fingerprint as u32;
        (0..ENTRIES).fold(0, |places, at| places | u32::from(self.0[at * ENTRY_WORDS] == low) << at)
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    pub fn find(&self, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<usize> {
        let mut alike = self.alike(fingerprint);
        while alike != 0 {
            let entry = self.get(first(alike));
            if entry.fingerprint() == fingerprint && entry.is_some() && is_it(entry.tag()) {
                return Some(first(alike));
            }
            alike &= alike - 1;
        }
        None
    }

    /// The places whose tag, perhaps 0, is one of `tags`.
    #[inline]
    pub fn with_tags(&self, tags: &TagSet) -> Places {
        (0..ENTRIES).fold(0, |places, at| places | u32::from(tags.contains(self.get(at).tag())) << at)
    }

    /// The places without an entry.
    #[inline]
    pub fn free(&self) -> Places {
        (0..ENTRIES).fold(0, |places, at| places | u32::from(!self.get(at).is_some()) << at)
    }

    /// The places of entries that passed other lines.
    #[inline]
    pub const fn strays(&self) -> Places {
        self.0[COUNTS] & ((1 << ENTRIES) - 1)
    }

    /// Whether the entry of `hash` may have gone past.
    #[inline]
    pub const fn is_passed(&self, hash: u64) -> bool {
        self.0[COUNTS] & class(hash) != 0
    }

    /// The entry of `hash` went past.
    #[inline]
    pub const fn pass(&mut self, hash: u64) {
        self.0[COUNTS] = (self.0[COUNTS] | class(hash)) + (1 << COUNT_SHIFT);
    }

    /// One of those that went past is gone. Their classes are kept until it was the last.
    #[inline]
    pub const fn unpass(&mut self) {
        self.0[COUNTS] -= 1 << COUNT_SHIFT;
        if self.0[COUNTS] >> COUNT_SHIFT == 0 {
            self.0[COUNTS] &= (1 << ENTRIES) - 1;
        }
    }
}

/// The bit of a hash's class: of bits that choose neither the part nor the line.
#[inline]
const fn class(hash: u64) -> u32 {
    1 << (ENTRIES as u32 + (hash >> 9) as u32 % CLASSES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_keep_their_fingerprints_and_tags_apart(
            drawn in proptest::collection::vec((any::<u128>(), 1_u16..=TAGS_MAX as u16), ENTRIES), passed in 0_u32..20,
        ) {
            let mut line = Line::EMPTY;
            let mut none = TagSet::of_none();
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                prop_assert_eq!(first(line.free()), at);
                prop_assert_eq!(line.get(at), Entry::default());
                line.set(at, Entry::new(cut(*fingerprint), *tag), at % 2 == 1);
            }
            (0..passed).for_each(|number| line.pass(u64::from(number) << 9));
            prop_assert_eq!((line.free(), line.strays(), line.with_tags(&none)), (0, 0b01010, 0));
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                prop_assert_eq!(line.get(at).fingerprint(), cut(*fingerprint));
                prop_assert_eq!(line.get(at).tag(), *tag);
                prop_assert_eq!(line.find(cut(*fingerprint), |other| other == *tag), Some(at));
                prop_assert_eq!(line.find(cut(*fingerprint) ^ 1 << (FINGERPRINT_BITS - 1), |_| true), None);
                none.insert(*tag);
                prop_assert!(line.with_tags(&none) >> at & 1 == 1 && none.contains(*tag));
                none.remove(*tag);
                prop_assert!(line.with_tags(&none) == 0 && !none.contains(*tag));
            }
            (0..passed).for_each(|number| { assert!(line.is_passed(u64::from(number) << 9)); line.unpass(); });
            prop_assert!((0..8).all(|class| !line.is_passed(class << 9)));
            (0..ENTRIES).for_each(|at| line.set(at, Entry::default(), false));
            prop_assert_eq!(line, Line::EMPTY);
        }
    }
}
