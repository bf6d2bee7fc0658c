//! One session by itself, as it is joined, saved and handed from lane to lane.
//!
//! `session/slots.rs` keeps sessions in columns; what happens seldom (joining two, cutting one, leaving a lane)
//! happens to this form.

use super::pieces::Pieces;
use super::slots::partials::Before;
use super::written::Written;
use crate::codec::{Reader, Write};
use crate::error::Result;
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
    pub fn covers(&self, other: &Self) -> bool {
        let (first, last) = (other.first_ms, other.last_ms);
        self.lane == other.lane && self.first_ms <= first && last <= self.last_ms && self.clock_ms <= other.clock_ms
    }
}

/// Adds `link` to those of a session of its lane, which are by clock and lie `within` a stretch of time.
fn add_link(links: &mut Vec<Link>, mut link: Link, within: (i64, i64), touch: impl Fn((i64, i64), (i64, i64)) -> bool) {
    // The clock of a lane never falls, so links come in this order: what has this one's clock is at the end.
    let from = links.partition_point(|known| known.clock_ms < link.clock_ms);
    let mut to = from + links[from..].partition_point(|known| known.clock_ms == link.clock_ms);
    let stretch = |link: &Link| (link.first_ms, link.last_ms);
    while let Some(place) = links[from..to].iter().position(|known| touch(stretch(known), stretch(&link))) {
        let known = links.remove(from + place);
        to -= 1;
        link.first_ms = link.first_ms.min(known.first_ms);
        link.last_ms = link.last_ms.max(known.last_ms);
    }
    let may_be_covered = within.0 <= link.first_ms && link.last_ms <= within.1;
    if may_be_covered && links[..to].iter().any(|known| known.covers(&link)) {
        return;
    }
    if link.first_ms < link.last_ms || may_be_covered {
        let mut place = 0;
        links.retain(|known| {
            place += 1;
            place <= from || !link.covers(known)
        });
    }
    links.insert(from, link);
}

/// One session of a key.
#[derive(Debug, Clone)]
pub struct Session {
    /// Event time of the first event, ms.
    pub start_ms: i64,
    /// Event time of the last event, ms.
    pub last_ms: i64,
    /// How other lanes' sessions can join. Most sessions of a lane have one link, others have them by clock; merged
    /// sessions have those of their parts.
    pub links: Vec<Link>,
    /// Its aggregates.
    pub pieces: Pieces,
    /// It changed since its rows last left; only where rows leave early.
    pub changed: bool,
    /// The rows it has left behind; only where rows are taken back.
    pub written: Option<Box<Written>>,
    /// What was handed over of it; nothing where sessions are not.
    pub before: Before,
}

impl Session {
    /// Takes in a session of the same lane: links whose events touch become one, as `touch` tells.
    pub fn absorb(&mut self, other: Self, touch: impl Fn((i64, i64), (i64, i64)) -> bool) {
        let (mut links, mut others) = (std::mem::take(&mut self.links), Vec::new());
        let (mut within, mut bounds) = ((self.start_ms, self.last_ms), (other.start_ms, other.last_ms));
        self.merge(other);
        std::mem::swap(&mut self.links, &mut others);
        // A session that many late events have made may have a link for each: the fewer go into the many.
        if others.len() > links.len() {
            std::mem::swap(&mut links, &mut others);
            std::mem::swap(&mut within, &mut bounds);
        }
        for link in others {
            add_link(&mut links, link, within, &touch);
            within = (within.0.min(link.first_ms), within.1.max(link.last_ms));
        }
        self.links = links;
    }

    /// Takes in a session of other lanes: links stay apart.
    pub fn merge(&mut self, other: Self) {
        self.start_ms = self.start_ms.min(other.start_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.links.extend(other.links);
        self.pieces.merge(other.pieces);
        self.changed |= other.changed;
        self.before.merge(other.before);
        match (&mut self.written, other.written) {
            (Some(written), Some(others)) => written.merge(&others),
            (None, Some(others)) => self.written = Some(others),
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
        let before = Before::whole(last_ms);
        Ok(Self { start_ms, last_ms, links, pieces, changed: flags & 1 == 1, written, before })
    }
}

/// The digest of a session with these parts.
pub fn digest_of_session(
    (start_ms, last_ms): (i64, i64),
    links: impl Iterator<Item = Link>,
    pieces: u64,
    changed: bool,
    written: Option<&Written>,
) -> u64 {
    let links = links.fold(0_u64, |sum, link| {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&link.first_ms.to_le_bytes());
        bytes[8..16].copy_from_slice(&link.last_ms.to_le_bytes());
        bytes[16..].copy_from_slice(&link.clock_ms.to_le_bytes());
        sum.wrapping_add(xxh3_64_with_seed(&bytes, link.lane as u64))
    });
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&start_ms.to_le_bytes());
    bytes[8..16].copy_from_slice(&last_ms.to_le_bytes());
    bytes[16..].copy_from_slice(&links.to_le_bytes());
    xxh3_64_with_seed(&bytes, pieces ^ written.map_or(0, Written::digest).rotate_left(1) ^ u64::from(changed))
}
