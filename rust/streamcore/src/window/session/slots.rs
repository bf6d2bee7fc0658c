//! Sessions of a key, as the values of a state table.
//!
//! `session/mod.rs` joins and closes them. Invariant: the list of a key is sorted by start.

use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
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
    /// Its aggregates, in slot 0.
    pub values: Accumulators,
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
        self.values.merge(0, &other.values, 0);
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
        self.values.encode(0, out);
    }

    /// Reads what `encode` wrote; `values` holds one empty slot.
    pub fn decode(mut values: Accumulators, saved: &mut Reader<'_>) -> Result<Self> {
        let (start_ms, last_ms) = (saved.i64()?, saved.i64()?);
        let mut links = Vec::new();
        for _ in 0..saved.count(32)? {
            let (lane, first_ms, last_ms) = (saved.i64()? as i32, saved.i64()?, saved.i64()?);
            links.push(Link { lane, first_ms, last_ms, clock_ms: saved.i64()? });
        }
        values.decode(0, saved)?;
        Ok(Self { start_ms, last_ms, links, values })
    }

    fn digest(&self) -> u64 {
        let links = self.links.iter().fold(0_u64, |sum, link| {
            let bytes = [link.first_ms, link.last_ms, link.clock_ms].map(i64::to_le_bytes).concat();
            sum.wrapping_add(xxh3_64_with_seed(&bytes, link.lane as u64))
        });
        let bounds = [self.start_ms.to_le_bytes(), self.last_ms.to_le_bytes(), links.to_le_bytes()].concat();
        xxh3_64_with_seed(&bounds, self.values.digest(0))
    }
}

/// A list of sessions per key.
#[derive(Debug, Clone)]
pub struct SessionSlots {
    lists: Vec<Vec<Session>>,
    /// Accumulators with one empty slot, to start a session from.
    empty: Accumulators,
}

impl SessionSlots {
    /// No lists. `empty` holds one empty slot.
    pub fn new(empty: Accumulators) -> Self {
        Self { lists: Vec::new(), empty }
    }

    /// Accumulators of a session without events.
    pub fn empty_values(&self) -> Accumulators {
        self.empty.clone()
    }

    /// Sessions in `slot`.
    pub fn list(&self, slot: u32) -> &[Session] {
        &self.lists[slot as usize]
    }

    /// Sessions in `slot`, to change after the table was touched.
    pub fn list_mut(&mut self, slot: u32) -> &mut Vec<Session> {
        &mut self.lists[slot as usize]
    }

    /// Lists of all slots.
    pub fn lists(&self) -> impl Iterator<Item = &[Session]> {
        self.lists.iter().map(Vec::as_slice)
    }
}

impl Slots for SessionSlots {
    fn push_empty(&mut self) {
        self.lists.push(Vec::new());
    }
    fn truncate(&mut self, len: usize) {
        self.lists.truncate(len);
    }
    fn mark(&self, slot: u32, out: &mut Vec<u8>) {
        self.encode(slot, out);
    }
    fn restore(&mut self, slot: u32, mark: &mut Reader<'_>) {
        self.lists[slot as usize].clear();
        self.decode(slot, mark).expect("a mark holds what encode wrote");
    }
    fn digest(&self, slot: u32) -> u64 {
        self.list(slot).iter().fold(0, |sum, session| sum.wrapping_add(session.digest()))
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_varint(self.list(slot).len() as u64);
        self.list(slot).iter().for_each(|session| session.encode(out));
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(17)? {
            let session = Session::decode(self.empty.clone(), saved)?;
            self.lists[slot as usize].push(session);
        }
        Ok(())
    }
    fn byte_len(&self) -> usize {
        let sessions: usize = self.lists.iter().map(Vec::len).sum();
        let each = size_of::<Session>() + size_of::<Link>() + self.empty.byte_len().max(16);
        self.lists.len() * size_of::<Vec<Session>>() + sessions * each
    }
    fn is_vacant(&self, slot: u32) -> bool {
        self.list(slot).is_empty()
    }
}
