//! Sessions of a key, as the values of a state table.
//!
//! `session/mod.rs` joins and closes them. A key may have any number, so looking up, undo, digest and
//! closing cost what they touch and not the list. Invariant: the list of a key is sorted by its sessions'
//! last events: those over come first, and what may join an event is next to one another.

use super::pieces::Pieces;
use super::written::Written;
use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use std::collections::{BTreeMap, BTreeSet};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A stretch of a lane's session by which it can join sessions of other lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The lane.
    pub lane: i32,
    /// Event time of the stretch's first event, ms.
    pub first_ms: i64,
    /// Event time of its last, ms.
    pub last_ms: i64,
    /// The lane's clock when the stretch's event came: sessions that were over then are not joined.
    /// `i64::MIN` for events so far ahead of it that nothing they touch could be over.
    pub clock_ms: i64,
}

impl Link {
    /// Whether every session that `other` joins is joined by this link too.
    fn covers(&self, other: &Self) -> bool {
        let (first, last) = (other.first_ms, other.last_ms);
        self.lane == other.lane && self.first_ms <= first && last <= self.last_ms && self.clock_ms <= other.clock_ms
    }
}

/// One session of a key.
#[derive(Debug, Clone)]
pub struct Session {
    /// Event time of the first event, ms.
    pub start_ms: i64,
    /// Event time of the last event, ms.
    pub last_ms: i64,
    /// How other lanes' sessions can join. Most sessions of a lane have one link; merged sessions
    /// have those of their parts.
    pub links: Vec<Link>,
    /// Its aggregates.
    pub pieces: Pieces,
    /// It changed since its rows last left; only where rows leave early.
    pub changed: bool,
    /// The rows it has left behind; only where rows are taken back.
    pub written: Option<Box<Written>>,
}

impl Session {
    /// Takes in a session of the same lane: links whose events touch become one, as `touch` tells.
    pub fn absorb(&mut self, other: &Self, touch: impl Fn((i64, i64), (i64, i64)) -> bool) {
        let mut links = std::mem::take(&mut self.links);
        self.merge(other);
        for mut link in std::mem::take(&mut self.links) {
            let stretch = |link: &Link| (link.first_ms, link.last_ms);
            let joins =
                |known: &Link, link: &Link| known.clock_ms == link.clock_ms && touch(stretch(known), stretch(link));
            while let Some(place) = links.iter().position(|known| joins(known, &link)) {
                let known = links.swap_remove(place);
                link.first_ms = link.first_ms.min(known.first_ms);
                link.last_ms = link.last_ms.max(known.last_ms);
            }
            if !links.iter().any(|known| known.covers(&link)) {
                links.retain(|known| !link.covers(known));
                links.push(link);
            }
        }
        self.links = links;
    }

    /// Takes in a session of other lanes: links stay apart.
    pub fn merge(&mut self, other: &Self) {
        self.start_ms = self.start_ms.min(other.start_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.links.extend(&other.links);
        self.pieces.merge(&other.pieces);
        self.changed |= other.changed;
        match (&mut self.written, &other.written) {
            (Some(written), Some(others)) => written.merge(others),
            (None, Some(others)) => self.written = Some(others.clone()),
            (_, None) => {}
        }
    }

    /// Appends the session.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_i64(self.start_ms);
        out.put_i64(self.last_ms);
        out.put_varint(self.links.len() as u64);
        for link in &self.links {
            out.put_i64(i64::from(link.lane));
            out.put_i64(link.first_ms);
            out.put_i64(link.last_ms);
            out.put_i64(link.clock_ms);
        }
        self.pieces.encode(out);
        out.put_u8(u8::from(self.changed) | u8::from(self.written.is_some()) << 1);
        self.written.iter().for_each(|written| written.encode(out));
    }

    /// Reads what `encode` wrote; `empty` holds one empty slot.
    pub fn decode(empty: &Accumulators, saved: &mut Reader<'_>) -> Result<Self> {
        let (start_ms, last_ms) = (saved.i64()?, saved.i64()?);
        let mut links = Vec::new();
        for _ in 0..saved.count(32)? {
            let (lane, first_ms, last_ms) = (saved.i64()? as i32, saved.i64()?, saved.i64()?);
            links.push(Link { lane, first_ms, last_ms, clock_ms: saved.i64()? });
        }
        let (pieces, flags) = (Pieces::decode(empty, saved)?, saved.u8()?);
        let written = if flags & 2 == 0 { None } else { Some(Box::new(Written::decode(saved)?)) };
        Ok(Self { start_ms, last_ms, links, pieces, changed: flags & 1 == 1, written })
    }

    fn digest(&self) -> u64 {
        let links = self.links.iter().fold(0_u64, |sum, link| {
            let bytes = [link.first_ms, link.last_ms, link.clock_ms].map(i64::to_le_bytes).concat();
            sum.wrapping_add(xxh3_64_with_seed(&bytes, link.lane as u64))
        });
        let bounds = [self.start_ms.to_le_bytes(), self.last_ms.to_le_bytes(), links.to_le_bytes()].concat();
        let written = self.written.as_ref().map_or(0, |written| written.digest());
        let values = self.pieces.digest() ^ written.rotate_left(1) ^ u64::from(self.changed);
        xxh3_64_with_seed(&bounds, values)
    }
}

/// Where a session lies in the list of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Event time of its last event, ms.
    pub last_ms: i64,
    /// Event time of its first event, ms.
    pub start_ms: i64,
    /// Tells sessions of the same time apart; the one that came later has the higher number.
    nth: u32,
}

/// Before every place.
const FIRST: Place = Place { last_ms: i64::MIN, start_ms: i64::MIN, nth: 0 };

/// The sessions of a key.
#[derive(Debug, Clone, Default)]
struct SessionList {
    /// Boxed: a map's node has room for eleven, and most keys have one.
    sessions: BTreeMap<Place, Box<Session>>,
    /// No session here is longer, ms.
    longest_ms: i64,
    /// Sum of the digests of those that were here at the last commit and still are.
    settled: u64,
}

impl SessionList {
    fn insert(&mut self, place: Place, session: Box<Session>) {
        let length_ms = place.last_ms - place.start_ms;
        self.longest_ms = if self.sessions.is_empty() { length_ms } else { self.longest_ms.max(length_ms) };
        self.sessions.insert(place, session);
    }

    fn settle(&mut self, place: Place) {
        self.settled = self.settled.wrapping_add(self.sessions.get(&place).map_or(0, |session| session.digest()));
    }
}

/// A list of sessions per key.
#[derive(Debug, Clone)]
pub struct SessionSlots {
    lists: Vec<SessionList>,
    /// Sessions put in since the last commit and still there; undo drops them.
    fresh: BTreeSet<(u32, Place)>,
    /// Sessions of the last commit that were taken out since; undo puts them back.
    taken: BTreeMap<(u32, Place), Box<Session>>,
    /// Sessions that are `changed`.
    changed: BTreeSet<(u32, Place)>,
    /// Accumulators with one empty slot, to start a session from.
    empty: Accumulators,
}

impl SessionSlots {
    /// No lists. `empty` holds one empty slot.
    pub fn new(empty: Accumulators) -> Self {
        Self { lists: Vec::new(), fresh: BTreeSet::new(), taken: BTreeMap::new(), changed: BTreeSet::new(), empty }
    }

    /// Accumulators of a session without events.
    pub fn empty_values(&self) -> Accumulators {
        self.empty.clone()
    }

    /// The session at `place` in `slot`.
    pub fn get(&self, slot: u32, place: Place) -> Option<&Session> {
        self.lists[slot as usize].sessions.get(&place).map(|session| &**session)
    }

    /// Sessions in `slot`.
    pub fn list(&self, slot: u32) -> impl Iterator<Item = &Session> {
        self.lists[slot as usize].sessions.values().map(|session| &**session)
    }

    /// Place of the session in `slot` whose last event is the earliest.
    pub fn first(&self, slot: u32) -> Option<Place> {
        self.lists[slot as usize].sessions.keys().next().copied()
    }

    /// Sessions in `slot` whose last event is no earlier than `from_ms`, by it.
    pub fn lasting(&self, slot: u32, from_ms: i64) -> impl Iterator<Item = (Place, &Session)> {
        let from = Place { last_ms: from_ms, ..FIRST };
        self.lists[slot as usize].sessions.range(from..).map(|(place, session)| (*place, &**session))
    }

    /// Sessions in `slot` that have part in `[from_ms, to_ms]`, even where they overlap one another.
    pub fn within(&self, slot: u32, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (Place, &Session)> {
        let longest_ms = self.lists[slot as usize].longest_ms;
        self.lasting(slot, from_ms)
            .take_while(move |(place, _)| place.last_ms - longest_ms <= to_ms)
            .filter(move |(place, _)| place.start_ms <= to_ms)
    }

    /// Puts `session` into `slot`, after the table was touched.
    pub fn put(&mut self, slot: u32, session: Box<Session>) {
        let list = &mut self.lists[slot as usize];
        let place = |nth| Place { last_ms: session.last_ms, start_ms: session.start_ms, nth };
        let equal = list.sessions.range(place(0)..=place(u32::MAX)).next_back();
        let place = place(equal.map_or(0, |(other, _)| other.nth + 1));
        if session.changed {
            self.changed.insert((slot, place));
        }
        list.insert(place, session);
        self.fresh.insert((slot, place));
    }

    /// Takes the session at `place` out of `slot`, after the table was touched.
    pub fn take(&mut self, slot: u32, place: Place) -> Option<Box<Session>> {
        let list = &mut self.lists[slot as usize];
        let session = list.sessions.remove(&place)?;
        self.changed.remove(&(slot, place));
        if !self.fresh.remove(&(slot, place)) {
            list.settled = list.settled.wrapping_sub(session.digest());
            self.taken.insert((slot, place), session.clone());
        }
        Some(session)
    }

    /// Sessions whose rows do not say all, by slot.
    pub fn changed(&self) -> impl Iterator<Item = (u32, Place)> {
        self.changed.iter().copied()
    }

    /// Number of sessions in all slots.
    pub fn count(&self) -> usize {
        self.lists.iter().map(|list| list.sessions.len()).sum()
    }

    /// Sessions put in and taken out since the last commit.
    #[cfg(test)]
    pub fn changes(&self) -> usize {
        self.fresh.len() + self.taken.len()
    }

    fn fresh_of(&self, slot: u32) -> impl Iterator<Item = Place> {
        self.fresh.range((slot, FIRST)..).take_while(move |(other, _)| *other == slot).map(|(_, place)| *place)
    }
}

impl Slots for SessionSlots {
    fn push_empty(&mut self) {
        self.lists.push(SessionList::default());
    }
    fn truncate(&mut self, len: usize) {
        self.lists.truncate(len);
        self.fresh.split_off(&(len as u32, FIRST));
        self.changed.split_off(&(len as u32, FIRST));
    }
    /// Nothing: `fresh` and `taken` tell the change session by session.
    fn mark(&self, _slot: u32, _out: &mut Vec<u8>) {}
    fn restore(&mut self, slot: u32, _mark: &mut Reader<'_>) {
        let fresh: Vec<Place> = self.fresh_of(slot).collect();
        let list = &mut self.lists[slot as usize];
        for place in fresh {
            list.sessions.remove(&place);
            self.fresh.remove(&(slot, place));
            self.changed.remove(&(slot, place));
        }
        let mut taken = self.taken.split_off(&(slot, FIRST));
        self.taken.append(&mut taken.split_off(&(slot + 1, FIRST)));
        for ((_, place), session) in taken {
            if session.changed {
                self.changed.insert((slot, place));
            }
            list.insert(place, session);
            list.settle(place);
        }
    }
    fn commit(&mut self) {
        self.taken.clear();
        for (slot, place) in std::mem::take(&mut self.fresh) {
            self.lists[slot as usize].settle(place);
        }
    }
    fn digest(&self, slot: u32) -> u64 {
        let list = &self.lists[slot as usize];
        let fresh = self.fresh_of(slot).filter_map(|place| list.sessions.get(&place));
        fresh.fold(list.settled, |sum, session| sum.wrapping_add(session.digest()))
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_varint(self.lists[slot as usize].sessions.len() as u64);
        self.list(slot).for_each(|session| session.encode(out));
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(17)? {
            let session = Session::decode(&self.empty, saved)?;
            self.put(slot, Box::new(session));
        }
        Ok(())
    }
    fn byte_len(&self) -> usize {
        let piece = self.empty.byte_len().max(16);
        let entry = size_of::<Place>() + size_of::<Session>() + size_of::<Link>() + piece;
        let later: usize =
            (0..self.lists.len() as u32).flat_map(|slot| self.list(slot)).map(|it| it.pieces.later()).sum();
        let lists = self.lists.len() * size_of::<SessionList>();
        let written = |session: &Session| session.written.as_ref().map_or(0, |written| written.byte_len());
        let written: usize = (0..self.lists.len() as u32).flat_map(|slot| self.list(slot)).map(written).sum();
        lists + written + (self.count() + self.taken.len()) * entry + later * (piece + size_of::<Accumulators>())
    }
    fn is_vacant(&self, slot: u32) -> bool {
        self.lists[slot as usize].sessions.is_empty()
    }
}
