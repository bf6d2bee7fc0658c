//! A cache line of five fingerprints with their tags.
//!
//! `table` finds the line. Invariant: a place without an entry is all zeros; the last word counts the entries that
//! found the line full and went on.

/// Bits of a fingerprint that are kept; the tag is above them.
pub const FINGERPRINT_BITS: u32 = 86;
/// Most tags there are; 0 is none.
pub const TAGS_MAX: usize = (1 << (96 - FINGERPRINT_BITS)) - 1;

/// Entries of a line.
pub const ENTRIES: usize = 5;
/// Words of an entry, and of a line.
const ENTRY_WORDS: usize = 3;
pub const LINE_WORDS: usize = 16;
/// The word that counts who went past.
const PASSED: usize = LINE_WORDS - 1;
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

/// A line of a table.
pub type Line = [u32; LINE_WORDS];

/// The entry at `at`.
#[inline]
pub const fn get(line: &Line, at: usize) -> Entry {
    let first = at * ENTRY_WORDS;
    Entry([line[first], line[first + 1], line[first + 2]])
}

/// Puts `entry`, or none, at `at`; gives what was there.
#[inline]
pub fn set(line: &mut Line, at: usize, entry: Entry) -> Entry {
    let old = get(line, at);
    line[at * ENTRY_WORDS..(at + 1) * ENTRY_WORDS].copy_from_slice(&entry.0);
    old
}

/// The place of the entry of `fingerprint` with a tag that `is_it`.
#[inline]
pub fn find(line: &Line, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<usize> {
    let same = |entry: Entry| entry.fingerprint() == fingerprint && entry.is_some() && is_it(entry.tag());
    (0..ENTRIES).find(|at| same(get(line, *at)))
}

/// The first place whose tag, perhaps 0, `is_room`.
#[inline]
pub fn room(line: &Line, is_room: impl Fn(u16) -> bool) -> Option<usize> {
    (0..ENTRIES).find(|at| is_room(get(line, *at).tag()))
}

/// Whether entries went past.
#[inline]
pub const fn is_passed(line: &Line) -> bool {
    line[PASSED] != 0
}

/// One entry more went past.
#[inline]
pub const fn pass(line: &mut Line) {
    line[PASSED] += 1;
}

/// One of those that went past is gone.
#[inline]
pub const fn unpass(line: &mut Line) {
    line[PASSED] -= 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_keep_their_fingerprints_and_tags_apart(
            drawn in proptest::collection::vec((any::<u128>(), 1_u16..=TAGS_MAX as u16), ENTRIES), passed in 0_u32..9,
        ) {
            let mut line = [0; LINE_WORDS];
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                prop_assert_eq!(room(&line, |tag| tag == 0), Some(at));
                prop_assert_eq!(set(&mut line, at, Entry::new(cut(*fingerprint), *tag)), Entry::default());
            }
            (0..passed).for_each(|_| pass(&mut line));
            prop_assert_eq!(room(&line, |tag| tag == 0), None);
            for (at, (fingerprint, tag)) in drawn.iter().enumerate() {
                prop_assert_eq!(get(&line, at).fingerprint(), cut(*fingerprint));
                prop_assert_eq!(get(&line, at).tag(), *tag);
                prop_assert_eq!(find(&line, cut(*fingerprint), |other| other == *tag), Some(at));
                prop_assert_eq!(find(&line, cut(*fingerprint) ^ 1 << (FINGERPRINT_BITS - 1), |_| true), None);
            }
            (0..passed).for_each(|_| { assert!(is_passed(&line)); unpass(&mut line); });
            prop_assert!(!is_passed(&line));
        }
    }
}
