//! A cache line of six fingerprints with their tags.
//!
//! `part` finds the line, and knows the bits of a fingerprint that all of its entries share. Invariant: a place without
//! an entry is all zeros; the last word counts the entries that found the line full and went on, by class, and marks those
//! that came here so.

use super::tags::TagSet;
use bytemuck::{Pod, Zeroable};

/// Bits of a fingerprint that are kept: the highest [`PART_BITS`] choose the part and are not in the line.
pub const FINGERPRINT_BITS: u32 = LINE_BITS + PART_BITS;
/// Bits of a fingerprint that choose the part.
pub const PART_BITS: u32 = 6;
/// Bits of a fingerprint that are in the line: 64, and so many as share 16 bits with a tag.
const LINE_BITS: u32 = 64 + HIGH_BITS;
const HIGH_BITS: u32 = 6;
/// Most tags there are; 0 is none.
pub const TAGS_MAX: usize = (1 << (16 - HIGH_BITS)) - 1;

/// Entries of a line.
pub const ENTRIES: usize = 6;
/// In the last word: a bit for each entry that strayed to this line, and above them for each class of hashes how many of
/// it went past. One that is full stays so until the part grows: nobody knows any more how many they are.
const CLASSES: u32 = 8;
const COUNT_BITS: u32 = 3;
const COUNT_MAX: u32 = (1 << COUNT_BITS) - 1;
/// Where the tag is in the last word of an [`Entry`].
const TAG_SHIFT: u32 = 32 - (16 - HIGH_BITS);

const MASK: u128 = (1 << FINGERPRINT_BITS) - 1;

/// A fingerprint and its tag, by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Entry([u32; 3]);

/// A fingerprint of [`FINGERPRINT_BITS`], of one that may have more.
#[inline]
pub const fn cut(fingerprint: u128) -> u128 {
    fingerprint & MASK
}

/// The part of a fingerprint of [`FINGERPRINT_BITS`].
#[inline]
pub const fn part_of(fingerprint: u128) -> usize {
    (fingerprint >> LINE_BITS) as usize
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
}

/// Places of a line, a bit each.
pub type Places = u32;

/// The first of `places`, which are not none.
#[inline]
pub const fn first(places: Places) -> usize {
    places.trailing_zeros() as usize
}

/// A line of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Line {
    low: [u64; ENTRIES],
    /// The other bits, and above them the tag.
    high: [u16; ENTRIES],
    counts: u32,
}

const _: () = assert!(size_of::<Line>() == 64, "a line is one of the cache's");

impl Line {
    /// Without entries.
    pub const EMPTY: Self = Self { low: [0; ENTRIES], high: [0; ENTRIES], counts: 0 };

    /// The tag at `at`; 0 is none.
    #[inline]
    pub const fn tag(&self, at: usize) -> u16 {
        self.high[at] >> HIGH_BITS
    }

    /// The entry at `at`, of which there is one, in a line of `part`.
    #[inline]
    pub const fn get(&self, at: usize, part: usize) -> Entry {
        let high = self.high[at] as u32;
        let shared = (part as u32) << HIGH_BITS | high & ((1 << HIGH_BITS) - 1);
        Entry([self.low[at] as u32, (self.low[at] >> 32) as u32, shared | high >> HIGH_BITS << TAG_SHIFT])
    }

    /// Puts the entry of `fingerprint` with `tag` at `at`. `strayed`: it passed other lines. Of what was there before and
    /// had passed some, the caller takes that back (`unpass`).
    #[inline]
    pub const fn set(&mut self, at: usize, fingerprint: u128, tag: u16, strayed: bool) {
        self.low[at] = fingerprint as u64;
        self.high[at] = (fingerprint >> 64) as u16 & ((1 << HIGH_BITS) - 1) | tag << HIGH_BITS;
        self.counts = self.counts & !(1 << at) | (strayed as u32) << at;
    }

    /// Leaves `at` without an entry.
    #[inline]
    pub const fn clear(&mut self, at: usize) {
        self.set(at, 0, 0, false);
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    pub fn find(&self, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<usize> {
        let low = fingerprint as u64;
        // None is, as a rule: the six are compared without a branch between them.
        if self.low.iter().fold(0, |any, word| any | u32::from(*word == low)) == 0 {
            return None;
        }
        let high = (fingerprint >> 64) as u16 & ((1 << HIGH_BITS) - 1);
        let is_here = |at: &usize| {
            let tag = self.tag(*at);
            self.low[*at] == low && self.high[*at] & ((1 << HIGH_BITS) - 1) == high && tag != 0 && is_it(tag)
        };
        (0..ENTRIES).find(is_here)
    }

    /// The places whose tag, perhaps 0, is one of `tags`.
    #[inline]
    pub fn with_tags(&self, tags: &TagSet) -> Places {
        (0..ENTRIES).fold(0, |places, at| places | u32::from(tags.contains(self.tag(at))) << at)
    }

    /// The places without an entry.
    #[inline]
    pub fn free(&self) -> Places {
        (0..ENTRIES).fold(0, |places, at| places | u32::from(self.high[at] == 0) << at)
    }

    /// The places with one.
    #[inline]
    pub fn used(&self) -> Places {
        !self.free() & ((1 << ENTRIES) - 1)
    }

    /// Its entries, in a line of `part`.
    #[inline]
    pub fn entries(&self, part: usize) -> impl Iterator<Item = Entry> {
        (0..ENTRIES).filter(|at| self.high[*at] != 0).map(move |at| self.get(at, part))
    }

    /// The places of entries that passed other lines.
    #[inline]
    pub const fn strays(&self) -> Places {
        self.counts & ((1 << ENTRIES) - 1)
    }

    /// Whether the entry of `hash` may have gone past.
    #[inline]
    pub const fn is_passed(&self, hash: u64) -> bool {
        self.passed(class(hash)) != 0
    }

    /// How many went past whose count begins at bit `class`, or [`COUNT_MAX`] if they were ever as many.
    #[inline]
    const fn passed(&self, class: u32) -> u32 {
        self.counts >> class & COUNT_MAX
    }

    /// The entry of `hash` went past.
    #[inline]
    pub const fn pass(&mut self, hash: u64) {
        let class = class(hash);
        self.counts += ((self.passed(class) < COUNT_MAX) as u32) << class;
    }

    /// The entry of `hash`, which went past, is gone.
    #[inline]
    pub const fn unpass(&mut self, hash: u64) {
        let class = class(hash);
        self.counts -= ((self.passed(class) < COUNT_MAX) as u32) << class;
    }

    /// Whether no entry is there or is counted, but for counts that are full.
    #[cfg(test)]
    pub fn is_left(&self) -> bool {
        let counts = (0..CLASSES).map(|class| self.passed(class_at(class)));
        self.used() == 0 && self.strays() == 0 && counts.into_iter().all(|count| count == 0 || count == COUNT_MAX)
    }
}

/// The first bit of the count of a hash's class: by bits that choose neither the part nor the line.
#[inline]
const fn class(hash: u64) -> u32 {
    class_at((hash >> 9) as u32 % CLASSES)
}

const fn class_at(class: u32) -> u32 {
    ENTRIES as u32 + COUNT_BITS * class
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::tags::TagSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_keep_their_fingerprints_and_tags_apart(
            drawn in proptest::collection::vec((any::<u128>(), 1_u16..=TAGS_MAX as u16), ENTRIES),
            (part, passed) in (0_usize..1 << PART_BITS, 0_u32..80),
        ) {
            let of_part = |fingerprint: u128| cut(fingerprint) % (1 << LINE_BITS) + ((part as u128) << LINE_BITS);
            let mut line = Line::EMPTY;
            let mut none = TagSet::of_none();
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                prop_assert_eq!((first(line.free()), line.tag(at)), (at, 0));
                prop_assert_eq!(line.used(), (1 << at) - 1);
                line.set(at, of_part(*fingerprint), *tag, at % 2 == 1);
            }
            (0..passed).for_each(|number| line.pass(u64::from(number) << 9));
            prop_assert_eq!((line.free(), line.strays(), line.with_tags(&none)), (0, 0b10_1010, 0));
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                let fingerprint = of_part(*fingerprint);
                let entry = line.get(at, part);
                prop_assert_eq!(entry, Entry::new(fingerprint, *tag));
                prop_assert_eq!((entry.fingerprint(), entry.tag(), line.tag(at)), (fingerprint, *tag, *tag));
                prop_assert_eq!(part_of(fingerprint), part);
                prop_assert_eq!(line.find(fingerprint, |other| other == *tag), Some(at));
                prop_assert_eq!(line.find(fingerprint, |other| other != *tag), None);
                for other in [1 << (LINE_BITS - 1), 1 << 64, 1 << 63, 1] {
                    prop_assert_eq!(line.find(fingerprint ^ other, |_| true), None);
                }
                none.insert(*tag);
                prop_assert!(line.with_tags(&none) >> at & 1 == 1 && none.contains(*tag));
                none.remove(*tag);
                prop_assert!(line.with_tags(&none) == 0 && !none.contains(*tag));
            }
            let is_full = |class: u32| (class..passed).step_by(CLASSES as usize).count() >= COUNT_MAX as usize;
            for number in 0..passed {
                prop_assert!(line.is_passed(u64::from(number) << 9));
                line.unpass(u64::from(number) << 9);
            }
            prop_assert!((0..CLASSES).all(|class| line.is_passed(u64::from(class) << 9) == is_full(class)));
            (0..ENTRIES).for_each(|at| line.clear(at));
            prop_assert_eq!(line == Line::EMPTY, !(0..CLASSES).any(is_full));
        }
    }
}
