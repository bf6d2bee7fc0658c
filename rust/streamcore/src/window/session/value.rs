//! One session by itself, as it is joined, saved and handed from lane to lane.
//!
//! `session/slots.rs` keeps sessions in columns; what happens seldom (joining two, cutting one, leaving a lane)
//! happens to this form.

use super::pieces::Pieces;
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
