//! One part of a table of fingerprints: its lines, and how they grow.
//!
//! `table` chooses the part. The home lines of hashes rise with the hashes, however many lines there are, so a part grows
//! where it lies: as many lines are added at the end (`lines`), and entries move up, those of the last line first, so hardly any memory is
//! touched for the first time twice.
//! Invariant: every entry is found from its home line on, and the lines between count it as one that went past.

use super::line::{self, ENTRIES, Entry, Line};
use super::lines::Lines;
use super::spread::Spread;
use super::tags::Tags;

/// Lines of a part that holds nothing.
pub const LINES_MIN: usize = 4;
/// Part of the places in use, in percent, beyond which a part grows while ids only come.
const FULL_PERCENT: usize = 72;
/// The same once as many go as come: those that go wait for a commit, so there are more for a moment.
const SLIDING_PERCENT: usize = 82;
/// Part of the places in use, those whose entries may be dropped included, beyond which these are dropped.
const SWEEP_PERCENT: usize = 92;
/// Part of the places that is in use at most after the part shrank.
const FIT_PERCENT: usize = 60;

/// A place in a part.
pub type Place = (usize, usize);

/// What became of a fingerprint.
#[derive(Debug, PartialEq, Eq)]
pub enum Tried {
    /// It was there.
    Held,
    /// It is now.
    Added(Entry),
    /// More than its home line has to be looked at; nothing was done.
    Later,
}

/// The entries whose fingerprints have the same highest bits.
#[derive(Debug)]
pub struct Part {
    number: usize,
    /// How many parts there are.
    of: usize,
    /// How often it has grown, see [`lines_of`](Self::lines_of).
    size: usize,
    held: Lines,
    /// How many lines.
    pub lines: usize,
    /// Places in use, those whose entries may be dropped included.
    pub used: usize,
    /// How many are too many.
    used_max: usize,
}

impl Part {
    /// Part `number` of `of`, which holds nothing.
    pub fn new(number: usize, of: usize) -> Self {
        Self::of_size(number, of, 0)
    }

    fn of_size(number: usize, of: usize, size: usize) -> Self {
        let mut part = Self { number, of, size, held: Lines::default(), lines: 0, used: 0, used_max: 0 };
        part.add_lines(size);
        part
    }

    /// Lines of a part of `size`: twice as many as of the size before. The parts' numbers of lines lie between those of the
    /// first and twice as many, in even ratios: so parts grow one after the other, and the bytes for each entry are the
    /// same however many there are.
    fn lines_of(&self, size: usize) -> usize {
        let doublings = size as f64 + self.number as f64 / self.of as f64;
        (LINES_MIN as f64 * doublings.exp2()) as usize
    }

    #[inline]
    pub fn line(&self, line: usize) -> &Line {
        self.held.get(line)
    }

    /// Has a line fetched.
    #[inline]
    pub fn prefetch(&self, line: usize) {
        self.held.prefetch(line);
    }

    #[inline]
    fn line_mut(&mut self, line: usize) -> &mut Line {
        self.held.get_mut(line)
    }

    #[inline]
    pub fn home(&self, hash: u64) -> usize {
        (((hash >> 32) * self.lines as u64) >> 32) as usize
    }

    #[inline]
    pub const fn next(&self, line: usize) -> usize {
        if line + 1 == self.lines { 0 } else { line + 1 }
    }

    /// Whether no place may be taken that is free.
    #[inline]
    pub const fn is_full(&self) -> bool {
        self.used >= self.used_max
    }

    /// Adds `fingerprint` with the tag that `new_tag` gives, unless it is there with a tag that `is_it`, where the home line
    /// is enough for that.
    #[inline]
    pub fn insert_at_home<T: Tags, E>(
        &mut self,
        (hash, fingerprint): (u64, u128),
        tags: &mut T,
        is_it: impl Fn(&T, u16) -> bool,
        new_tag: impl FnOnce(&mut T) -> Result<u16, E>,
    ) -> Result<Tried, E> {
        let (home, is_full) = (self.home(hash), self.is_full());
        let line = self.held.get_mut(home);
        if line.find(fingerprint, |tag| is_it(tags, tag)).is_some() {
            return Ok(Tried::Held);
        }
        // Whoever takes the place of one that strayed changes other lines. The first place is rather one of the dropped than a
        // free one: a line fills from its first place on.
        let mut room = if tags.slide() { line.with_tags(tags.droppable()) & !line.strays() } else { line.free() };
        if is_full {
            room &= line.used();
        }
        if line.is_passed(hash) || room == 0 {
            return Ok(Tried::Later);
        }
        let (tag, place) = (new_tag(tags)?, line::first(room));
        let old = line.tag(place);
        line.set(place, fingerprint, tag, false);
        self.used += usize::from(old == 0);
        tags.dropped(old);
        Ok(Tried::Added(Entry::new(fingerprint, tag)))
    }

    /// The place of the entry of `fingerprint` with a tag that `is_it`.
    #[inline]
    pub fn find(&self, hash: u64, fingerprint: u128, is_it: impl Fn(u16) -> bool) -> Option<Place> {
        let mut at = self.home(hash);
        for _ in 0..self.lines {
            let line = self.line(at);
            if let Some(place) = line.find(fingerprint, &is_it) {
                return Some((at, place));
            }
            if !line.is_passed(hash) {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Puts `entry` in; there is room.
    #[inline]
    pub fn put(&mut self, spread: Spread, hash: u64, entry: Entry, tags: &mut impl Tags) {
        let (home, number) = (self.home(hash), self.number);
        let mut at = home;
        loop {
            let next = self.next(at);
            let line = self.line_mut(at);
            let (room, free) = (line.with_tags(tags.droppable()), line.free());
            if room == 0 {
                line.pass(hash);
                at = next;
                continue;
            }
            let dropped = room & !free;
            // Those that strayed last: it takes other lines to count that they did not.
            let place = line::first(match (dropped & !line.strays(), free) {
                (0, 0) => dropped,
                (0, free) => free,
                (dropped, _) => dropped,
            });
            let (old, strayed) = (line.get(place, number), line.strays() >> place & 1 == 1);
            line.set(place, entry.fingerprint(), entry.tag(), at != home);
            if strayed {
                self.none_passes(spread.hash(old.fingerprint()), at);
            }
            if free >> place & 1 == 1 {
                self.used += 1;
            } else {
                tags.dropped(old.tag());
            }
            return;
        }
    }

    /// One entry less, that of `hash`, went past the lines before `line`.
    #[inline]
    fn none_passes(&mut self, hash: u64, line: usize) {
        let mut at = self.home(hash);
        while at != line {
            self.line_mut(at).unpass(hash);
            at = self.next(at);
        }
    }

    /// Takes the entry at a place out.
    pub fn take(&mut self, spread: Spread, (at, place): Place) {
        let number = self.number;
        let line = self.line_mut(at);
        let (old, strayed) = (line.get(place, number), line.strays() >> place & 1 == 1);
        line.clear(place);
        self.used -= 1;
        if strayed {
            self.none_passes(spread.hash(old.fingerprint()), at);
        }
    }

    /// Drops the entries that may be.
    pub fn sweep(&mut self, spread: Spread, tags: &mut impl Tags) {
        for at in 0..self.lines {
            let line = self.line(at);
            self.drop_from(spread, tags, at, line.used() & line.with_tags(tags.droppable()));
        }
    }

    /// Drops the entries at `dropped` places of a line.
    #[inline]
    fn drop_from(&mut self, spread: Spread, tags: &mut impl Tags, at: usize, mut dropped: line::Places) {
        while dropped != 0 {
            let place = line::first(dropped);
            let tag = self.line(at).tag(place);
            self.take(spread, (at, place));
            tags.dropped(tag);
            dropped &= dropped - 1;
        }
    }

    /// Drops those of the entries that may be which strayed, and brings home those of the others for which there is room
    /// by now: the lines that they passed count them, and whoever looks for an id has to go by.
    pub fn sweep_strays(&mut self, spread: Spread, tags: &mut impl Tags) {
        for at in 0..self.lines {
            let line = self.line(at);
            let strays = line.strays();
            if strays == 0 {
                continue;
            }
            let droppable = line.with_tags(tags.droppable());
            self.drop_from(spread, tags, at, strays & droppable);
            let mut kept = strays & !droppable;
            while kept != 0 {
                self.bring_home(spread, tags, (at, line::first(kept)));
                kept &= kept - 1;
            }
        }
    }

    /// Moves the entry at a place, which strayed, to its home line if there is room.
    #[inline]
    fn bring_home(&mut self, spread: Spread, tags: &mut impl Tags, (at, place): Place) {
        let entry = self.line(at).get(place, self.number);
        let hash = spread.hash(entry.fingerprint());
        let home = self.home(hash);
        let line = self.line(home);
        let room = line.with_tags(tags.droppable()) & !line.strays();
        if room == 0 {
            return;
        }
        self.line_mut(at).clear(place);
        self.used -= 1;
        self.none_passes(hash, at);
        let place = line::first(room);
        let line = self.line_mut(home);
        let old = line.tag(place);
        line.set(place, entry.fingerprint(), entry.tag(), false);
        self.used += usize::from(old == 0);
        tags.dropped(old);
    }

    /// Makes room for one more entry.
    #[inline(never)]
    pub fn make_room(&mut self, spread: Spread, tags: &mut impl Tags) {
        let swept_at = self.lines * ENTRIES * SWEEP_PERCENT / 100;
        let fits = || tags.kept_among(self.used) < self.lines * ENTRIES * SLIDING_PERCENT / 100;
        if tags.slide() && self.used_max < swept_at && fits() {
            // Not full of those that stay: their number is known without a look at them.
            self.used_max = swept_at;
            return;
        }
        self.sweep(spread, tags);
        let most = if tags.slide() { SLIDING_PERCENT } else { FULL_PERCENT };
        if self.used >= self.lines * ENTRIES * most / 100 {
            self.grow(spread, tags);
        } else {
            self.used_max = swept_at;
        }
    }

    /// The same entries, of which none may be dropped, in no more lines than they take.
    pub fn shrink(&mut self, spread: Spread, tags: &mut impl Tags) {
        let fits = |size: &usize| self.used * 100 <= self.lines_of(*size) * ENTRIES * FIT_PERCENT;
        if let Some(size) = (0..self.size).find(fits) {
            let old = std::mem::replace(self, Self::of_size(self.number, self.of, size));
            old.entries().for_each(|entry| self.put(spread, spread.hash(entry.fingerprint()), entry, tags));
        }
    }

    /// Takes the lines of the next size.
    fn grow(&mut self, spread: Spread, tags: &mut impl Tags) {
        let old_lines = self.lines;
        self.add_lines(self.size + 1);
        self.used = 0;
        // Entries whose home is before the line that they were in: few, and the first is near.
        let mut held: Vec<(u64, Entry)> = Vec::new();
        for at in (0..old_lines).rev() {
            self.prefetch_growing(at, old_lines);
            let line = std::mem::replace(self.line_mut(at), Line::EMPTY);
            if !held.is_empty() {
                held.retain(|(hash, entry)| !self.put_behind(at, *hash, *entry));
            }
            for entry in line.entries(self.number) {
                let hash = spread.hash(entry.fingerprint());
                if !self.put_behind(at, hash, entry) {
                    held.push((hash, entry));
                }
            }
        }
        held.into_iter().for_each(|(hash, entry)| self.put(spread, hash, entry, tags));
    }

    /// Has those lines fetched that come to be looked at a little later when entries of `old_lines` move up.
    #[inline]
    fn prefetch_growing(&self, at: usize, old_lines: usize) {
        const AHEAD: usize = 16;
        if let Some(ahead) = at.checked_sub(AHEAD) {
            self.prefetch(ahead);
            self.prefetch((ahead as u64 * self.lines as u64 / old_lines as u64) as usize);
        }
    }

    /// Puts `entry` in if its home is `first` or a line behind, and there is room before the last line; tells whether so.
    #[inline]
    fn put_behind(&mut self, first: usize, hash: u64, entry: Entry) -> bool {
        let home = self.home(hash);
        if home < first {
            return false;
        }
        let mut at = home;
        let mut free = self.line(home).free();
        while free == 0 {
            at += 1;
            if at == self.lines {
                return false;
            }
            free = self.line(at).free();
        }
        (home..at).for_each(|passed| self.line_mut(passed).pass(hash));
        self.line_mut(at).set(line::first(free), entry.fingerprint(), entry.tag(), at != home);
        self.used += 1;
        true
    }

    /// Adds lines without entries until there are those of `size`.
    fn add_lines(&mut self, size: usize) {
        let lines = self.lines_of(size);
        self.size = size;
        self.held.grow(lines);
        self.lines = lines;
        self.used_max = lines * ENTRIES * FULL_PERCENT / 100;
    }

    /// All entries, those that may be dropped included.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        self.held.iter().flat_map(|line| line.entries(self.number))
    }

    /// Bytes held.
    pub const fn byte_len(&self) -> usize {
        self.held.byte_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::line::{FINGERPRINT_BITS, PART_BITS};
    use crate::dedupe::spread::PARTS;
    use crate::dedupe::tags::TagSet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// No entry may be dropped.
    struct Kept(TagSet);

    impl Tags for Kept {
        fn droppable(&self) -> &TagSet {
            &self.0
        }
        fn dropped(&mut self, tag: u16) {
            assert_eq!(tag, 0, "no entry may be");
        }
        fn slide(&self) -> bool {
            false
        }
        fn kept_among(&self, used: usize) -> usize {
            used
        }
    }

    proptest! {
        #[test]
        fn a_part_that_grows_where_it_lies_keeps_every_entry(
            fingerprints in proptest::collection::btree_set(any::<u64>(), 1..1500), number in 0..PARTS, more in 0_u8..3,
        ) {
            let (spread, mut tags) = (Spread::new(), Kept(TagSet::of_none()));
            let mut part = Part::new(number, PARTS);
            let of_part = |low: &u64| (number as u128) << (FINGERPRINT_BITS - PART_BITS) | u128::from(*low);
            let entries: BTreeSet<Entry> = fingerprints.iter().map(|low| Entry::new(of_part(low), 7)).collect();
            for (number, entry) in entries.iter().enumerate() {
                // Up to the last place, so that many go on and some from the last line to the first.
                if part.used == part.lines * ENTRIES {
                    part.grow(spread, &mut tags);
                    prop_assert_eq!(part.used, number);
                }
                part.put(spread, spread.hash(entry.fingerprint()), *entry, &mut tags);
            }
            (0..more).for_each(|_| part.grow(spread, &mut tags));
            prop_assert_eq!(part.entries().collect::<BTreeSet<_>>(), entries.clone());
            part.shrink(spread, &mut tags);
            prop_assert!(part.used * 100 <= part.lines * ENTRIES * FIT_PERCENT || more == 0);
            prop_assert_eq!(part.entries().collect::<BTreeSet<_>>(), entries.clone());
            for entry in &entries {
                let place = part.find(spread.hash(entry.fingerprint()), entry.fingerprint(), |tag| tag == 7);
                part.take(spread, place.expect("every entry is found"));
            }
            prop_assert_eq!(part.used, 0);
            prop_assert!((0..part.lines).all(|line| part.line(line).is_left()));
        }
    }
}
