//! Session windows: runs of a key's events no further apart than a gap.
//!
//! A session `[start, last]` has the window `[start, last + gap)` and is over by the same
//! inequality as any window, judged on the merged session. A lane makes sessions of its own events
//! ([`SessionWindows::apply`]); where lanes meet, its closed sessions are merged with those of other
//! lanes ([`SessionWindows::merge`]). Which sessions become one depends only on each lane's records
//! and their order: a lane's session joins another's through an event for which the other was not over
//! by the lane's clock, and then the other cannot have left. Invariant: the result
//! does not depend on how the input is cut into batches, nor on which lane is read first.

mod slots;
#[cfg(test)]
mod tests;

use super::aggregate::Accumulators;
use super::rows::{ResultRows, RowOf};
use super::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use slots::{Link, Place, Session, SessionSlots};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What makes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// Longest silence inside a session, ms.
    pub gap_ms: i64,
    /// Two events exactly `gap_ms` apart are one session.
    pub inclusive: bool,
    /// How long past its end a session takes records, ms.
    pub allowed_lateness_ms: i64,
}

impl Gaps {
    /// The watermark from which on a session whose last event was at `last_ms` is over.
    const fn over_at(&self, last_ms: i64) -> i64 {
        last_ms + self.gap_ms - 1 + self.allowed_lateness_ms
    }

    /// The earliest last event of a session that is not over at `watermark_ms`.
    const fn open_from(&self, watermark_ms: i64) -> i64 {
        watermark_ms.saturating_sub(self.gap_ms - 1 + self.allowed_lateness_ms).saturating_add(1)
    }

    /// The furthest apart that two events of a session may be, ms.
    const fn reach_ms(&self) -> i64 {
        if self.inclusive { self.gap_ms } else { self.gap_ms - 1 }
    }

    /// Whether events of two stretches of time belong together.
    const fn touch(&self, left: (i64, i64), right: (i64, i64)) -> bool {
        left.0 - right.1 <= self.reach_ms() && right.0 - left.1 <= self.reach_ms()
    }

    /// Whether sessions of different lanes become one.
    fn linked(&self, left: &Session, right: &Session) -> bool {
        let joins = |mine: &Link, other: &Link| {
            mine.lane != other.lane
                && self.touch((mine.first_ms, mine.last_ms), (other.first_ms, other.last_ms))
                && self.over_at(mine.last_ms) > other.clock_ms
                && self.over_at(other.last_ms) > mine.clock_ms
        };
        left.links.iter().any(|mine| right.links.iter().any(|other| joins(mine, other)))
    }
}

/// A session in `slot` that becomes one with `session` of another lane.
fn linked_in(gaps: Gaps, slots: &SessionSlots, slot: u32, session: &Session) -> Option<Place> {
    let (from_ms, to_ms) = (session.start_ms - gaps.reach_ms(), session.last_ms + gaps.reach_ms());
    slots.within(slot, from_ms, to_ms).find(|(_, other)| gaps.linked(other, session)).map(|(place, _)| place)
}

/// The one bucket sessions live in.
const BUCKET: BucketKey = BucketKey { time: 0, since: 0 };

/// A session that is over, with its key.
#[derive(Debug, Clone)]
pub struct Closed {
    key: Vec<u8>,
    session: Session,
}

/// Open sessions: of one lane, or merged from several.
#[derive(Debug)]
pub struct SessionWindows {
    plan: Arc<WindowPlan>,
    gaps: Gaps,
    sessions: Buckets<SessionSlots>,
    /// When to look at which slot: an entry for every slot with sessions, no later than its first is
    /// over. Rebuilt from the sessions after a rollback or load.
    due: BTreeSet<(i64, u32)>,
    /// Times the input ended.
    ends: u32,
    /// `ends` at the last commit.
    committed_ends: u32,
}

impl SessionWindows {
    /// No sessions yet.
    #[must_use]
    pub fn new(plan: Arc<WindowPlan>, gaps: Gaps) -> Self {
        let mut empty = no_accumulators(&plan);
        empty.push_empty();
        let sessions = Buckets::new(SessionSlots::new(empty));
        Self { sessions, plan, gaps, due: BTreeSet::new(), ends: 0, committed_ends: 0 }
    }

    /// See [`super::Windows::apply`].
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let (lane, mut outcomes) = (arrivals.order.partition, Outcomes::default());
        for row in arrivals.rows {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let watermark_ms = arrivals.watermarks_ms[*row as usize];
            let mut values = self.empty_values();
            values.update(&[0], &[*row], arrivals.inputs, arrivals.order);
            // Nothing it touches is over earlier than a session that ended just within reach.
            let touched_over_at = self.gaps.over_at(time_ms - self.gaps.reach_ms());
            let clock_ms = if touched_over_at > watermark_ms { i64::MIN } else { watermark_ms };
            let links = vec![Link { lane, first_ms: time_ms, last_ms: time_ms, clock_ms }];
            let event = Session { start_ms: time_ms, last_ms: time_ms, links, values };
            match self.count(arrivals.key(*row), event, watermark_ms) {
                None => outcomes.applied += 1,
                Some(over_at_ms) => outcomes.late.push((*row, over_at_ms)),
            }
        }
        outcomes
    }

    fn empty_values(&mut self) -> Accumulators {
        self.sessions.bucket(BUCKET).slots().empty_values()
    }

    /// Joins an event to the sessions of its key (with its hash) that it touches and that are not over at
    /// `watermark_ms`; when it is late, the watermark from which on it is.
    fn count(&mut self, (key, hash): (&[u8], u64), event: Session, watermark_ms: i64) -> Option<i64> {
        let gaps = self.gaps;
        let joined = |slots: &SessionSlots, slot: u32, piece: &Session| {
            let from_ms = (piece.start_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
            // Those not over never touch one another, so by their last events is by their first.
            let (place, session) = slots.lasting(slot, from_ms).next()?;
            gaps.touch((session.start_ms, session.last_ms), (piece.start_ms, piece.last_ms)).then_some(place)
        };
        let over_at = gaps.over_at(event.last_ms);
        if over_at <= watermark_ms {
            let table = self.table();
            let slot = table.and_then(|table| table.find(hash, key).map(|slot| (table.slots(), slot)));
            if slot.and_then(|(slots, slot)| joined(slots, slot, &event)).is_none() {
                return Some(over_at);
            }
        }
        self.join((key, hash), event, joined, |piece, session| {
            piece.absorb(session, |left, right| gaps.touch(left, right));
        });
        None
    }

    /// Puts `piece` in, made one with every session that is `joined`, and with those that are joined then.
    fn join(
        &mut self,
        (key, hash): (&[u8], u64),
        mut piece: Session,
        joined: impl Fn(&SessionSlots, u32, &Session) -> Option<Place>,
        absorb: impl Fn(&mut Session, &Session),
    ) {
        let table = self.sessions.bucket(BUCKET);
        let (slot, _) = table.slot_for_update(hash, key);
        let slots = table.slots_mut();
        let mut alone = true;
        while let Some(session) = joined(slots, slot, &piece).and_then(|place| slots.take(slot, place)) {
            absorb(&mut piece, &session);
            alone = false;
        }
        let over_at = self.gaps.over_at(piece.last_ms);
        slots.put(slot, Box::new(piece));
        // What it absorbed was due no later.
        if alone {
            self.due.insert((over_at, slot));
        }
    }

    /// Merges sessions that closed in their lanes.
    pub fn merge(&mut self, closed: Vec<Closed>) {
        let gaps = self.gaps;
        let joined = |slots: &SessionSlots, slot: u32, piece: &Session| linked_in(gaps, slots, slot, piece);
        for Closed { key, session } in closed {
            self.join((&key, key_hash(&key)), session, joined, Session::merge);
        }
    }

    /// Whether a session that is open here will become one with `closed` of another lane.
    #[must_use]
    pub fn awaits(&self, closed: &Closed) -> bool {
        self.table().is_some_and(|table| {
            let slot = table.find(key_hash(&closed.key), &closed.key);
            slot.is_some_and(|slot| linked_in(self.gaps, table.slots(), slot, &closed.session).is_some())
        })
    }

    /// See [`super::Windows::next_fire_ms`].
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        self.due.first().map(|(over_at, _)| *over_at)
    }

    /// Appends the rows of the sessions that are over at `watermark_ms` and that nobody `awaits`.
    pub fn fire(&mut self, watermark_ms: i64, awaits: impl Fn(&Closed) -> bool, out: &mut ResultRows) -> Result<()> {
        let closed = self.close(watermark_ms, awaits);
        self.emit(closed, out)
    }

    /// Takes out the sessions that are over at `watermark_ms` and that nobody `awaits`.
    pub fn close(&mut self, watermark_ms: i64, awaits: impl Fn(&Closed) -> bool) -> Vec<Closed> {
        let (mut closed, mut left) = (Vec::new(), Vec::new());
        while let Some((over_at, slot)) = self.due.first().copied().filter(|(over_at, _)| *over_at <= watermark_ms) {
            self.due.remove(&(over_at, slot));
            let table = self.sessions.bucket(BUCKET);
            while let Some(first) = table.slots().first(slot) {
                let over_at = self.gaps.over_at(first.last_ms);
                if over_at > watermark_ms {
                    self.due.insert((over_at, slot));
                    break;
                }
                table.touch(slot);
                let key = table.key(slot).to_vec();
                let Some(session) = table.slots_mut().take(slot, first) else { break };
                let session = Closed { key, session: *session };
                if awaits(&session) { left.push(session) } else { closed.push(session) }
            }
        }
        for Closed { key, session } in left {
            self.join((&key, key_hash(&key)), session, |_, _, _| None, Session::merge);
        }
        closed
    }

    fn end_ms(&self, session: &Session) -> i64 {
        session.last_ms + self.gaps.gap_ms
    }

    fn emit(&self, mut closed: Vec<Closed>, out: &mut ResultRows) -> Result<()> {
        closed.sort_by(|left, right| {
            let order = |closed: &Closed| (self.end_ms(&closed.session), closed.session.start_ms);
            let ((left_end, left_start), (right_end, right_start)) = (order(left), order(right));
            (left_end, &left.key, left_start).cmp(&(right_end, &right.key, right_start))
        });
        for Closed { key, session } in closed {
            let (start_ms, end_ms) = (session.start_ms, self.end_ms(&session));
            let row = RowOf { bounds: Some((start_ms, end_ms)), revision: i64::from(self.ends), is_final: true };
            out.push(&self.plan, &key, &session.values, 0, row)?;
        }
        Ok(())
    }

    /// See [`super::Windows::fire_at_end`]. `open` are the lanes' open sessions, to be merged in.
    pub fn fire_at_end(&mut self, open: Vec<Closed>, out: &mut ResultRows) -> Result<()> {
        let mut merged = Self::new(self.plan.clone(), self.gaps);
        merged.ends = self.ends;
        merged.merge(self.open());
        merged.merge(open);
        merged.emit(merged.open(), out)?;
        self.ends += 1;
        Ok(())
    }

    /// Copies of all open sessions.
    #[must_use]
    pub fn open(&self) -> Vec<Closed> {
        let Some(table) = self.table() else { return Vec::new() };
        let copies = |slot: u32| {
            let key = table.key(slot);
            table.slots().list(slot).map(move |session| Closed { key: key.to_vec(), session: session.clone() })
        };
        (0..table.len() as u32).flat_map(copies).collect()
    }

    fn table(&self) -> Option<&StateTable<SessionSlots>> {
        self.sessions.get(BUCKET)
    }

    fn rebuild_due(&mut self) {
        let gaps = self.gaps;
        let due = self.table().into_iter().flat_map(|table| {
            let first = move |slot| table.slots().first(slot).map(|first| (gaps.over_at(first.last_ms), slot));
            (0..table.len() as u32).filter_map(first)
        });
        self.due = due.collect();
    }

    /// See [`super::Windows::seal`].
    pub fn seal(&mut self) -> u64 {
        self.sessions.seal()
    }

    /// See [`super::Windows::commit`].
    pub fn commit(&mut self) {
        self.committed_ends = self.ends;
        if self.sessions.commit() {
            self.rebuild_due();
        }
    }

    /// See [`super::Windows::rollback`].
    pub fn rollback(&mut self) {
        self.ends = self.committed_ends;
        self.sessions.rollback();
        self.rebuild_due();
    }

    /// See [`super::Windows::save`].
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.ends));
        self.sessions.encode(out);
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.ends = saved.varint()? as u32;
        self.committed_ends = self.ends;
        self.sessions.decode(saved)?;
        let keys = self.table().map(|table| (0..table.len() as u32).map(|slot| table.key(slot)));
        if !keys.into_iter().flatten().all(|key| self.plan.key.is_valid(key)) {
            return Err(Error::state("saved sessions hold a key of other columns; the state is of another pipeline"));
        }
        self.rebuild_due();
        Ok(())
    }

    /// See [`super::Windows::open_windows`].
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.table().map_or(0, |table| table.slots().count())
    }

    /// See [`super::Windows::byte_len`].
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.sessions.byte_len() + self.due.len() * 16
    }
}
