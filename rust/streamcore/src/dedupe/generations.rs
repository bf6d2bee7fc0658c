//! The generations of event time that ids are remembered by, each with a tag for its entries.
//!
//! `exact` keeps the ids in a table under these tags. Invariant: a tag is given again only when no entry has it.

use super::Horizon;
use super::line::{Entry, TAGS_MAX};
use super::tags::{TagSet, Tags};
use std::collections::BTreeMap;

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Remembered,
    /// Since the last commit; until the next it can come back.
    Forgotten,
    /// Its entries may be dropped.
    Gone,
}

/// The ids of one stretch of event time.
#[derive(Debug, Clone, Copy)]
pub struct Generation {
    pub number: i64,
    pub life: Life,
    /// The watermark from which on its ids are forgotten.
    pub over_at: i64,
    /// Whether it was there at the last commit.
    pub is_committed: bool,
    /// Entries in the table.
    pub entries: u64,
    /// Sum over its ids.
    pub digest: u64,
}

impl Generation {
    const fn new(number: i64, life: Life, over_at: i64) -> Self {
        Self { number, life, over_at, is_committed: false, entries: 0, digest: 0 }
    }
}

/// A digest of 128 bits in 64.
pub fn mix(bits: u128) -> u64 {
    let (low, high) = (bits as u64, (bits >> 64) as u64);
    let mixed = (low ^ high.rotate_left(23)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ mixed >> 32
}

/// Generations by tag, and which of them are remembered.
#[derive(Debug)]
pub struct Generations {
    horizon: Horizon,
    /// By tag; that of 0 is none.
    pub all: Vec<Generation>,
    pub free: Vec<u16>,
    /// Tags of those that are gone.
    droppable: TagSet,
    /// Tags by the numbers of the generations remembered.
    pub live: BTreeMap<i64, u16>,
    /// Tags of those forgotten since the last commit.
    forgotten: Vec<u16>,
    /// A generation's first millisecond and its tag; no tag after a change of `live`.
    last: (i64, u16),
    /// Whether any was ever forgotten.
    slide: bool,
    /// Whether one of this epoch has ended, so that its tag may have been another's within the epoch.
    pub reuses: bool,
    /// How many have ended since [`take_ended`](Self::take_ended).
    ended: usize,
}

impl Tags for Generations {
    #[inline]
    fn droppable(&self) -> &TagSet {
        &self.droppable
    }

    fn dropped(&mut self, tag: u16) {
        let generation = &mut self.all[tag as usize];
        generation.entries -= 1;
        if generation.entries == 0 {
            self.free.push(tag);
        }
    }

    #[inline]
    fn slide(&self) -> bool {
        self.slide
    }

    fn kept_among(&self, used: usize) -> usize {
        let sum = |counts: fn(Life) -> bool| {
            let generations = self.all.iter().skip(1).filter(|generation| counts(generation.life));
            generations.map(|generation| u128::from(generation.entries)).sum::<u128>()
        };
        (used as u128 * sum(|life| life != Life::Gone)).div_ceil(sum(|_| true).max(1)) as usize
    }
}

impl Generations {
    /// None yet.
    pub fn new(horizon: Horizon) -> Self {
        // More than are ever dropped with tag 0.
        let none = Generation { entries: 1 << 63, ..Generation::new(0, Life::Gone, i64::MIN) };
        let (free, live, forgotten) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self {
            horizon,
            all: vec![none],
            free,
            droppable: TagSet::of_none(),
            live,
            forgotten,
            last: (0, 0),
            slide: false,
            reuses: false,
            ended: 0,
        }
    }

    /// Whether the ids with `tag` are remembered at `watermark_ms`.
    #[inline]
    pub fn remembers(&self, tag: u16, watermark_ms: i64) -> bool {
        let generation = &self.all[tag as usize];
        generation.life == Life::Remembered && watermark_ms < generation.over_at
    }

    /// Whether the ids of an event time are over at `watermark_ms`; asks nothing but the last generation, as a rule.
    #[inline]
    pub fn is_over(&self, event_time_ms: i64, watermark_ms: i64) -> bool {
        let (start_ms, tag) = self.last;
        if tag != 0 && (0..self.horizon.generation_ms).contains(&event_time_ms.wrapping_sub(start_ms)) {
            return watermark_ms >= self.all[tag as usize].over_at;
        }
        watermark_ms >= self.horizon.over_at(self.horizon.generation(event_time_ms))
    }

    /// Tag of the generation of an event time, made if there is none and a tag is left.
    #[inline]
    pub fn tag_at(&mut self, event_time_ms: i64) -> Option<u16> {
        let (start_ms, tag) = self.last;
        if tag != 0 && (0..self.horizon.generation_ms).contains(&event_time_ms.wrapping_sub(start_ms)) {
            return Some(tag);
        }
        let number = self.horizon.generation(event_time_ms);
        let tag = self.tag(number)?;
        self.last = (number * self.horizon.generation_ms, tag);
        Some(tag)
    }

    /// Tag of generation `number`, made if there is none and a tag is left.
    pub fn tag(&mut self, number: i64) -> Option<u16> {
        if let Some(tag) = self.live.get(&number) {
            return Some(*tag);
        }
        let over_at = self.horizon.over_at(number);
        let generation = Generation::new(number, Life::Remembered, over_at);
        let tag = match self.free.pop() {
            Some(tag) => {
                self.all[tag as usize] = generation;
                self.droppable.remove(tag);
                tag
            }
            None if self.all.len() > TAGS_MAX => return None,
            None => {
                self.all.push(generation);
                (self.all.len() - 1) as u16
            }
        };
        self.live.insert(number, tag);
        Some(tag)
    }

    /// Counts an entry that was added.
    pub fn add(&mut self, entry: Entry) {
        let generation = &mut self.all[entry.tag() as usize];
        generation.entries += 1;
        generation.digest = generation.digest.wrapping_add(mix(entry.fingerprint()));
    }

    /// Takes back what [`add`](Self::add) did, and the generation if that was all.
    pub fn subtract(&mut self, entry: Entry) {
        let generation = &mut self.all[entry.tag() as usize];
        generation.entries -= 1;
        generation.digest = generation.digest.wrapping_sub(mix(entry.fingerprint()));
        if generation.entries == 0 {
            if generation.life == Life::Remembered {
                self.live.remove(&generation.number);
            }
            generation.life = Life::Gone;
            self.droppable.insert(entry.tag());
            self.free.push(entry.tag());
        }
    }

    /// Forgets the generations that are over at `watermark_ms`.
    pub fn forget(&mut self, watermark_ms: i64) {
        while let Some(first) = self.live.first_entry() {
            if watermark_ms < self.all[*first.get() as usize].over_at {
                return;
            }
            let tag = first.remove();
            (self.last.1, self.slide) = (0, true);
            if self.all[tag as usize].is_committed {
                self.all[tag as usize].life = Life::Forgotten;
                self.forgotten.push(tag);
            } else {
                // A rollback does not bring it back: all of its entries are of this epoch.
                self.end(tag);
                self.reuses = true;
            }
        }
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.reuses = false;
        std::mem::take(&mut self.forgotten).into_iter().for_each(|tag| self.end(tag));
        for tag in self.live.values() {
            self.all[*tag as usize].is_committed = true;
        }
    }

    /// The entries with `tag` may be dropped from now on.
    fn end(&mut self, tag: u16) {
        let generation = &mut self.all[tag as usize];
        generation.life = Life::Gone;
        self.droppable.insert(tag);
        if generation.entries == 0 {
            self.free.push(tag);
        }
        self.ended += 1;
    }

    /// How many generations have ended since this was asked.
    pub const fn take_ended(&mut self) -> usize {
        std::mem::replace(&mut self.ended, 0)
    }

    /// Tags that only entries have which may be dropped.
    pub fn held_up(&self) -> usize {
        self.all.len() - 1 - self.live.len() - self.forgotten.len() - self.free.len()
    }

    /// Takes the epoch back, when its entries have been subtracted.
    pub fn rollback(&mut self) {
        (self.last.1, self.reuses) = (0, false);
        for tag in std::mem::take(&mut self.forgotten) {
            let generation = &mut self.all[tag as usize];
            if generation.life == Life::Forgotten {
                generation.life = Life::Remembered;
                self.live.insert(generation.number, tag);
            }
        }
    }

    /// Gives memory back when nothing is left.
    pub fn trim(&mut self) {
        if self.live.is_empty() && self.free.len() + 1 == self.all.len() {
            *self = Self::new(self.horizon);
        }
    }

    /// The generations remembered, by number.
    pub fn remembered(&self) -> impl Iterator<Item = (u16, &Generation)> {
        self.live.values().map(|tag| (*tag, &self.all[*tag as usize]))
    }

    /// Ids remembered.
    pub fn ids(&self) -> u64 {
        self.remembered().map(|(_, generation)| generation.entries).sum()
    }

    /// Ids that are not over at `watermark_ms`.
    pub fn ids_at(&self, watermark_ms: i64) -> u64 {
        let live = self.remembered().filter(|(_, generation)| watermark_ms < generation.over_at);
        live.map(|(_, generation)| generation.entries).sum()
    }
}
