//! Sessions of lanes that become those of other lanes, key by key.
//!
//! Sessions of one key that come from several lanes become one where they touch, as they would have in one lane. Invariant: what is
//! added up while they move is told by them, and what they have become has to come to it.

use super::slots::SessionSlots;
use super::value::Session;
use super::{BUCKET, SessionWindows};
use crate::error::Result;
use crate::state::{Buckets, Contents, Route, key_hash};

const SESSIONS: u64 = 4;

impl SessionWindows {
    /// What the sessions come to; those of a key are one row.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.sessions.contents(SESSIONS)
    }

    /// Sessions of `count` lanes with the keys of `olds`, which are `alone` in their lanes.
    pub fn moved(olds: &[&Self], count: usize, route: &mut Route<'_>, contents: &mut Contents) -> Result<Vec<Self>> {
        let told = olds.iter().filter(|old| old.fired_ms > i64::MIN || old.open_windows() > 0);
        let fired_ms = told.map(|old| old.fired_ms).min().unwrap_or(i64::MIN);
        let ends = olds.iter().map(|old| old.ends).max().unwrap_or_default();
        let new = || Self::new(olds[0].plan.clone(), olds[0].gaps, true);
        let mut news: Vec<Self> = (0..count).map(|_| new()).collect();
        for (lane, old) in olds.iter().enumerate() {
            let Some(rows) = old.table() else { continue };
            for slot in rows.filled() {
                let key = rows.key(slot);
                let lane = route(lane, key)?;
                let sessions = rows.slots().list(slot).iter().map(|id| rows.slots().copy(*id));
                let digest = Buckets::content_in(BUCKET, rows, slot, SESSIONS);
                news[lane].take_sessions(key, (sessions, digest), lane as i32, contents);
            }
        }
        for new in &mut news {
            (new.fired_ms, new.ends) = (fired_ms, ends);
            new.sessions.settle();
            new.committed = (fired_ms, ends);
            new.rebuild();
        }
        Ok(news)
    }

    /// `digest` is what they come to together.
    fn take_sessions(
        &mut self,
        key: &[u8],
        (sessions, digest): (impl Iterator<Item = Session>, u64),
        lane: i32,
        contents: &mut Contents,
    ) {
        let before = self.sessions.content_of(BUCKET, key, SESSIONS);
        let gaps = self.gaps;
        for mut session in sessions {
            session.links.iter_mut().for_each(|link| link.lane = lane);
            if before.is_none() {
                self.put_back(key, session);
                continue;
            }
            let joined = |slots: &SessionSlots, slot: u32, piece: &Session| {
                let (from_ms, to_ms) = (piece.start_ms - gaps.reach_ms(), piece.last_ms + gaps.reach_ms());
                slots.within(slot, from_ms, to_ms).next()
            };
            let absorb = |piece: &mut Session, other| piece.absorb(other, |left, right| gaps.touch(left, right));
            self.join((key, key_hash(key)), session, joined, absorb);
        }
        // Of those that met others only the table can tell; of copies, what they were made of.
        let joined = before.and_then(|_| self.sessions.content_of(BUCKET, key, SESSIONS));
        contents.arrived(before, joined.unwrap_or(digest));
    }
}
