//! One part of a table of fingerprints: its lines, and how they grow.
//!
//! `table` chooses the part. The home lines of hashes rise with the hashes, however many lines there are, so a part grows
//! where it lies: lines are added at the end, and entries move up, those of the last line first. Lines come in chunks of
//! which none but the last, while it fills, moves, so hardly any memory is touched for the first time twice. Invariant: every entry is found from its home line on,
//! and the lines between count it as one that went past.

use super::line::{self, ENTRIES, Entry, Line};
use super::table::{Spread, Tags};
use crate::prefetch::prefetch;

/// Lines of a part that holds nothing.
pub const LINES_MIN: usize = 4;
/// Lines of a chunk; of the last there may be fewer.
const CHUNK: usize = 1024;
/// Part of the places in use, in percent, beyond which entries that may be dropped are, or the part grows.
const FULL_PERCENT: usize = 76;
/// Part of the places in use after it grew; it does not if no more than `SWEPT_PERCENT` are without the dropped.
const GROWN_PERCENT: usize = 54;
const SWEPT_PERCENT: usize = 72;
/// Entries of a part below which growing spreads the sizes of parts out.
const SPREAD_MAX: usize = 1024;

/// A place in a part.
pub type Place = (usize, usize);

/// What the home line tells of a fingerprint.
pub enum AtHome {
    /// It is there.
    Held,
    /// It is nowhere, and has room at this place.
    Room(Place),
    /// It may be further on, or has to go there, or there is no room.
    Unknown,
}

/// The entries whose hashes have the same low bits.
#[derive(Debug)]
pub struct Part {
    /// Of `of`; small parts differ in size by it.
    number: usize,
    of: usize,
    chunks: Vec<Vec<Line>>,
    /// How many lines.
    pub lines: usize,
    /// Places in use, those whose entries may be dropped included.
    pub used: usize,
    /// How many are too many.
    used_max: usize,
}

impl Part {
    /// Part `number` of `of`, which holds nothing.
    pub fn new(number: usize, of: usize, lines: usize) -> Self {
        let mut part = Self { number, of, chunks: Vec::new(), lines: 0, used: 0, used_max: 0 };
        part.add_lines(lines);
        part
    }

    #[inline]
    pub fn line(&self, line: usize) -> &Line {
        &self.chunks[line / CHUNK][line % CHUNK]
    }

    #[inline]
    fn line_mut(&mut self, line: usize) -> &mut Line {
        &mut self.chunks[line / CHUNK][line % CHUNK]
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

    /// Looks for `fingerprint`, with a tag that `is_it`, in its home line alone.
    #[inline]
    pub fn at_home(&self, hash: u64, fingerprint: u128, tags: &impl Tags, is_it: impl Fn(u16) -> bool) -> AtHome {
        let at = self.home(hash);
        let line = self.line(at);
        if line.find(fingerprint, is_it).is_some() {
            return AtHome::Held;
        }
        let free = line.free();
        // Whoever takes the place of one that strayed changes other lines.
        let dropped = line.with_tags(tags.droppable()) & !line.strays() & !free;
        let room = if dropped != 0 || self.is_full() { dropped } else { free };
        if line.is_passed(hash) || room == 0 { AtHome::Unknown } else { AtHome::Room((at, line::first(room))) }
    }

    /// Puts `entry` at a place that [`at_home`](Self::at_home) gave.
    #[inline]
    pub fn put_home(&mut self, (line, at): Place, entry: Entry, tags: &mut impl Tags) {
        let old = self.line(line).get(at);
        self.line_mut(line).set(at, entry, false);
        if old.is_some() {
            tags.dropped(old.tag());
        } else {
            self.used += 1;
        }
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
        let home = self.home(hash);
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
            let place = line::first(if dropped == 0 { free } else { dropped });
            let (old, strayed) = (line.get(place), line.strays() >> place & 1 == 1);
            line.set(place, entry, at != home);
            if strayed {
                self.none_passes(spread, at, old);
            }
            if dropped == 0 {
                self.used += 1;
            } else {
                tags.dropped(old.tag());
            }
            return;
        }
    }

    /// One entry less, `old`, went past the lines before `line`.
    #[inline]
    fn none_passes(&mut self, spread: Spread, line: usize, old: Entry) {
        let mut at = self.home(spread.hash(old.fingerprint()));
        while at != line {
            self.line_mut(at).unpass();
            at = self.next(at);
        }
    }

    /// Takes the entry at a place out.
    pub fn take(&mut self, spread: Spread, (at, place): Place) {
        let line = self.line_mut(at);
        let (old, strayed) = (line.get(place), line.strays() >> place & 1 == 1);
        line.set(place, Entry::default(), false);
        self.used -= 1;
        if strayed {
            self.none_passes(spread, at, old);
        }
    }

    /// Drops the entries that may be.
    pub fn sweep(&mut self, spread: Spread, tags: &mut impl Tags) {
        for at in 0..self.lines {
            let line = self.line(at);
            let mut dropped = line.with_tags(tags.droppable()) & !line.free();
            while dropped != 0 {
                let place = line::first(dropped);
                let tag = self.line(at).get(place).tag();
                self.take(spread, (at, place));
                tags.dropped(tag);
                dropped &= dropped - 1;
            }
        }
    }

    /// Makes room for one more entry.
    #[inline(never)]
    pub fn make_room(&mut self, spread: Spread, tags: &mut impl Tags) {
        self.sweep(spread, tags);
        if self.used * 100 > self.lines * ENTRIES * SWEPT_PERCENT {
            self.resize(spread, tags);
        }
    }

    /// The same entries, of which none may be dropped, in as many lines as they take when `GROWN_PERCENT` of the places
    /// are used.
    pub fn resize(&mut self, spread: Spread, tags: &mut impl Tags) {
        // Sizes that are spread out once stay so: parts grow one after the other, never most of them at a time.
        let is_small = self.used < SPREAD_MAX;
        let spread_out = if is_small { (FULL_PERCENT - GROWN_PERCENT) * self.number / self.of } else { 0 };
        let places = self.used * (100 + 2 * spread_out) / GROWN_PERCENT;
        let lines = places.div_ceil(ENTRIES).max(LINES_MIN);
        if lines > self.lines {
            self.grow(spread, lines, tags);
        } else {
            let old = std::mem::replace(self, Self::new(self.number, self.of, lines));
            old.entries().for_each(|entry| self.put(spread, spread.hash(entry.fingerprint()), entry, tags));
        }
    }

    /// Takes more lines.
    fn grow(&mut self, spread: Spread, lines: usize, tags: &mut impl Tags) {
        let old_lines = self.lines;
        self.add_lines(lines);
        self.used = 0;
        // Entries whose home is before the line that they were in: few, and the first is near.
        let mut held: Vec<(u64, Entry)> = Vec::new();
        for at in (0..old_lines).rev() {
            self.prefetch_growing(at, old_lines);
            let line = std::mem::replace(self.line_mut(at), Line::EMPTY);
            if !held.is_empty() {
                held.retain(|(hash, entry)| !self.put_behind(at, *hash, *entry));
            }
            for entry in (0..ENTRIES).map(|place| line.get(place)).filter(|entry| entry.is_some()) {
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
            prefetch(self.line(ahead));
            prefetch(self.line((ahead as u64 * self.lines as u64 / old_lines as u64) as usize));
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
        self.line_mut(at).set(line::first(free), entry, at != home);
        self.used += 1;
        true
    }

    /// Adds lines without entries until there are `lines`.
    fn add_lines(&mut self, lines: usize) {
        for chunk in self.lines / CHUNK..lines.div_ceil(CHUNK) {
            let wanted = (lines - chunk * CHUNK).min(CHUNK);
            if let Some(chunk) = self.chunks.get_mut(chunk) {
                chunk.reserve_exact(wanted - chunk.len());
                chunk.resize(wanted, Line::EMPTY);
            } else {
                self.chunks.push(vec![Line::EMPTY; wanted]);
            }
        }
        self.lines = lines;
        self.used_max = lines * ENTRIES * FULL_PERCENT / 100;
    }

    /// All entries, those that may be dropped included.
    pub fn entries(&self) -> impl Iterator<Item = Entry> {
        let lines = self.chunks.iter().flatten();
        lines.flat_map(|line| (0..ENTRIES).map(|at| line.get(at))).filter(|entry| entry.is_some())
    }

    /// Bytes held.
    pub fn byte_len(&self) -> usize {
        let lines: usize = self.chunks.iter().map(Vec::capacity).sum();
        lines * size_of::<Line>() + self.chunks.capacity() * size_of::<Vec<Line>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dedupe::line::TagSet;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// No entry may be dropped.
    struct Kept(TagSet);

    impl Tags for Kept {
        fn droppable(&self) -> &TagSet {
            &self.0
        }
        fn dropped(&mut self, _tag: u16) {
            unreachable!("no entry may be");
        }
    }

    proptest! {
        #[test]
        fn a_part_that_grows_where_it_lies_keeps_every_entry(
            fingerprints in proptest::collection::btree_set(any::<u64>(), 1..1500),
            (step, more) in (1_usize..300, 1_usize..2000),
        ) {
            let (spread, mut tags) = (Spread::new(), Kept(TagSet::of_none()));
            let mut part = Part::new(0, 1, LINES_MIN);
            let entries: BTreeSet<Entry> = fingerprints.iter().map(|low| Entry::new(u128::from(*low), 7)).collect();
            for (number, entry) in entries.iter().enumerate() {
                // Up to the last place, so that many go on and some from the last line to the first.
                if part.used == part.lines * ENTRIES {
                    part.grow(spread, part.lines + step, &mut tags);
                    prop_assert_eq!(part.used, number);
                }
                part.put(spread, spread.hash(entry.fingerprint()), *entry, &mut tags);
            }
            part.grow(spread, part.lines + more, &mut tags);
            prop_assert_eq!(part.entries().collect::<BTreeSet<_>>(), entries.clone());
            for entry in &entries {
                let place = part.find(spread.hash(entry.fingerprint()), entry.fingerprint(), |tag| tag == 7);
                part.take(spread, place.expect("every entry is found"));
            }
            prop_assert_eq!(part.used, 0);
            prop_assert!((0..part.lines).all(|line| *part.line(line) == Line::EMPTY));
        }
    }
}
