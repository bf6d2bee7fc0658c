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

use super::aggregate::Accumulators;
use super::rows::{ResultRows, RowOf};
use super::{Arrivals, Outcome, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use slots::{Link, Session, SessionSlots};
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
    pub fn apply(&mut self, arrivals: &Arrivals<'_>, outcomes: &mut Vec<Outcome>) {
        let lane = arrivals.order.partition;
        for (place, (row, watermark_ms)) in arrivals.rows.iter().zip(arrivals.watermarks_ms).enumerate() {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let mut values = self.empty_values();
            values.update(&[0], &[*row], arrivals.inputs, arrivals.order);
            // Nothing it touches is over earlier than a session that ended just within reach.
            let touched_over_at = self.gaps.over_at(time_ms - self.gaps.reach_ms());
            let clock_ms = if touched_over_at > *watermark_ms { i64::MIN } else { *watermark_ms };
            let links = vec![Link { lane, first_ms: time_ms, last_ms: time_ms, clock_ms }];
            let event = Session { start_ms: time_ms, last_ms: time_ms, links, values };
            outcomes.push(self.count(arrivals.keys.get(place), event, *watermark_ms));
        }
    }

    fn empty_values(&mut self) -> Accumulators {
        self.sessions.bucket(BUCKET).slots().empty_values()
    }

    /// Joins an event to the sessions of `key` it touches and that are not over at `watermark_ms`.
    fn count(&mut self, key: &[u8], event: Session, watermark_ms: i64) -> Outcome {
        let gaps = self.gaps;
        let touches = |session: &Session, piece: &Session| {
            let (mine, other) = ((session.start_ms, session.last_ms), (piece.start_ms, piece.last_ms));
            gaps.over_at(session.last_ms) > watermark_ms && gaps.touch(mine, other)
        };
        let over_at = gaps.over_at(event.last_ms);
        if over_at <= watermark_ms && !self.sessions_of(key).iter().any(|session| touches(session, &event)) {
            return Outcome::Late(over_at);
        }
        self.join(key, event, touches, |piece, session| {
            piece.absorb(session, |left, right| gaps.touch(left, right));
        });
        Outcome::Applied(0)
    }

    fn sessions_of(&self, key: &[u8]) -> &[Session] {
        let slot = self.table().and_then(|table| table.find(key_hash(key), key).map(|slot| (table, slot)));
        slot.map_or(&[], |(table, slot)| table.slots().list(slot))
    }

    /// Puts `piece` in, made one with every session it joins, and with those that they join then.
    fn join(
        &mut self,
        key: &[u8],
        mut piece: Session,
        joins: impl Fn(&Session, &Session) -> bool,
        absorb: impl Fn(&mut Session, &Session),
    ) {
        let table = self.sessions.bucket(BUCKET);
        let (slot, _) = table.slot_for_update(key_hash(key), key);
        let list = table.slots_mut().list_mut(slot);
        let mut alone = true;
        while let Some(place) = list.iter().position(|session| joins(session, &piece)) {
            absorb(&mut piece, &list.remove(place));
            alone = false;
        }
        let over_at = self.gaps.over_at(piece.last_ms);
        let bounds = |session: &Session| (session.start_ms, session.last_ms);
        let place = list.partition_point(|session| bounds(session) < bounds(&piece));
        list.insert(place, piece);
        // What it absorbed was due no later.
        if alone {
            self.due.insert((over_at, slot));
        }
    }

    /// Merges sessions that closed in their lanes.
    pub fn merge(&mut self, closed: Vec<Closed>) {
        let gaps = self.gaps;
        for Closed { key, session } in closed {
            self.join(&key, session, |mine, other| gaps.linked(mine, other), Session::merge);
        }
    }

    /// Whether a session that is open here will become one with `closed` of another lane.
    #[must_use]
    pub fn awaits(&self, closed: &Closed) -> bool {
        self.sessions_of(&closed.key).iter().any(|session| self.gaps.linked(session, &closed.session))
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
            let is_over = |session: &Session| self.gaps.over_at(session.last_ms) <= watermark_ms;
            if table.slots().list(slot).iter().any(is_over) {
                table.touch(slot);
                let key = table.key(slot).to_vec();
                let over: Vec<Session> = table.slots_mut().list_mut(slot).extract_if(.., |it| is_over(it)).collect();
                for session in over {
                    let session = Closed { key: key.clone(), session };
                    if awaits(&session) { left.push(session) } else { closed.push(session) }
                }
            }
            let rest = table.slots().list(slot).iter().map(|session| self.gaps.over_at(session.last_ms));
            if let Some(next) = rest.min() {
                self.due.insert((next, slot));
            }
        }
        for Closed { key, session } in left {
            self.join(&key, session, |_, _| false, Session::merge);
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
            let row = RowOf { start_ms, end_ms, revision: i64::from(self.ends), is_final: true };
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
            table.slots().list(slot).iter().map(move |session| Closed { key: key.to_vec(), session: session.clone() })
        };
        (0..table.len() as u32).flat_map(copies).collect()
    }

    fn table(&self) -> Option<&StateTable<SessionSlots>> {
        self.sessions.get(BUCKET)
    }

    fn rebuild_due(&mut self) {
        let lists = self.table().map(|table| table.slots().lists());
        let first = |list: &[Session]| list.iter().map(|session| self.gaps.over_at(session.last_ms)).min();
        let due = lists.into_iter().flatten().enumerate();
        self.due = due.filter_map(|(slot, list)| first(list).map(|over_at| (over_at, slot as u32))).collect();
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
        self.table().map_or(0, |table| table.slots().lists().map(<[Session]>::len).sum())
    }

    /// See [`super::Windows::byte_len`].
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.sessions.byte_len() + self.due.len() * 16
    }
}
