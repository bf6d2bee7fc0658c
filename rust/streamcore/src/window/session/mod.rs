//! Session windows: runs of a key's events no further apart than a gap.
//!
//! A session `[start, last]` has the window `[start, last + gap)` and is over by the same
//! inequality as any window, judged on the merged session. A lane makes sessions of its own events
//! ([`SessionWindows::apply`]); where lanes meet, its closed sessions are merged with those of other
//! lanes ([`SessionWindows::merge`]). Which sessions become one depends only on each lane's records
//! and their order: a lane's session joins another's through an event for which the other was not over
//! by the lane's clock, and then the other cannot have left. A session longer than `max_length` is cut at the
//! multiples of it since the epoch, which no order of events can move. Invariant: the result
//! does not depend on how the input is cut into batches, nor on which lane is read first.

mod arrive;
#[cfg(test)]
mod cut_tests;
mod due;
mod gaps;
mod leave;
mod more;
mod pieces;
mod room;
mod slots;
#[cfg(test)]
mod tests;
mod value;
mod written;

use super::rows::ResultRows;
use super::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::prefetch;
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use due::{Due, Entry};
pub use gaps::Gaps;
use slots::{AHEAD, SessionSlots};
use std::sync::Arc;
use value::Session;

/// A session in `slot` that becomes one with `session` of another lane.
fn linked_in(gaps: Gaps, slots: &SessionSlots, slot: u32, session: &Session) -> Option<u32> {
    let (from_ms, to_ms) = (session.start_ms - gaps.reach_ms(), session.last_ms + gaps.reach_ms());
    slots.within(slot, from_ms, to_ms).find(|id| gaps.linked(slots.links(*id), session))
}

/// The one bucket sessions live in.
const BUCKET: BucketKey = BucketKey { time: 0, since: 0 };

/// Stretches of the time between an event and the end of its session, for `due.rs`.
const STRETCHES: i64 = 8;

/// A session that is over, with its key.
#[derive(Debug, Clone)]
pub struct Closed {
    key: Vec<u8>,
    session: Session,
}

impl Closed {
    /// Key, last event, first event, first cell.
    fn order(&self) -> (&[u8], i64, i64, i64) {
        (&self.key, self.session.last_ms, self.session.start_ms, self.session.pieces.first_cell())
    }
}

/// Entries in `due` beyond four for each session, of sessions that are gone, at which it is made anew.
const DUE_MAX: usize = 1024;

/// Open sessions: of one lane, or merged from several.
#[derive(Debug)]
pub struct SessionWindows {
    plan: Arc<WindowPlan>,
    gaps: Gaps,
    sessions: Buckets<SessionSlots>,
    /// When to look at which session: an entry for each, no later than its first piece is over. Rebuilt from the
    /// sessions after a rollback or load.
    due: Due,
    /// Sessions that were over before the clock was told to have passed them: room was asked for meanwhile.
    over: Vec<Closed>,
    /// Bytes of the keys of all sessions.
    key_bytes: u64,
    /// Pieces leave when they are over: no other lane's sessions are to be merged in.
    alone: bool,
    /// Watermark of the last fire; tells when early rows leave.
    fired_ms: i64,
    /// Times the input ended.
    ends: u32,
    /// `fired_ms` and `ends` at the last commit.
    committed: (i64, u32),
}

impl SessionWindows {
    /// No sessions yet. `alone`: all sessions of a key are here.
    #[must_use]
    pub fn new(plan: Arc<WindowPlan>, gaps: Gaps, alone: bool) -> Self {
        let mut empty = no_accumulators(&plan);
        empty.push_empty();
        let sessions = Buckets::new(SessionSlots::new(empty));
        let (fired_ms, due) = (i64::MIN, Due::new((gaps.gap_ms + gaps.allowed_lateness_ms) / STRETCHES));
        let committed = (i64::MIN, 0);
        Self { sessions, plan, gaps, due, over: Vec::new(), key_bytes: 0, alone, fired_ms, ends: 0, committed }
    }

    /// See [`super::Windows::apply`].
    pub fn apply_firing(&mut self, arrivals: &Arrivals<'_>, out: &mut ResultRows) -> Result<Outcomes> {
        if self.plan.early.every_ms.is_none() {
            return Ok(self.apply(arrivals));
        }
        let (mut outcomes, mut rest) = (Outcomes::default(), arrivals.rows);
        while let Some(first) = rest.first() {
            self.fire(arrivals.watermarks_ms[*first as usize], |_| false, out)?;
            let until_ms = self.plan.early.next_ms(self.fired_ms).unwrap_or(i64::MIN + 1);
            let stays = |row: &u32| arrivals.watermarks_ms[*row as usize] < until_ms;
            let (rows, later) = rest.split_at(rest.iter().position(|row| !stays(row)).unwrap_or(rest.len()));
            outcomes.extend(self.apply(&Arrivals { rows, ..*arrivals }));
            rest = later;
        }
        Ok(outcomes)
    }

    /// See [`super::Windows::early_at`].
    #[must_use]
    pub fn early_at(&self, watermark_ms: i64) -> bool {
        self.alone && self.plan.early.passes(self.fired_ms, watermark_ms)
    }

    /// Puts `piece` in, made one with every session that is `joined`, and with those that are joined then.
    fn join(
        &mut self,
        (key, hash): (&[u8], u64),
        mut piece: Session,
        joined: impl Fn(&SessionSlots, u32, &Session) -> Option<u32>,
        absorb: impl Fn(&mut Session, &Session),
    ) {
        let table = self.sessions.bucket(BUCKET);
        let (slot, _) = table.slot_for_update(hash, key);
        let slots = table.slots_mut();
        while let Some(session) = joined(slots, slot, &piece).map(|id| slots.take(id)) {
            absorb(&mut piece, &session);
            self.key_bytes -= key.len() as u64;
        }
        self.put(slot, &piece);
    }

    /// Puts `session` into `slot`, after the table was touched; gives its number.
    fn put(&mut self, slot: u32, session: &Session) -> u32 {
        let table = self.sessions.bucket(BUCKET);
        self.key_bytes += table.key(slot).len() as u64;
        let slots = table.slots_mut();
        let id = slots.put(slot, session);
        let due_ms =
            if self.alone { self.gaps.first_over_at(slots.node(id)).0 } else { self.gaps.over_at(session.last_ms) };
        slots.set_due(id, due_ms);
        self.due.push(due_ms, id);
        // Those that were joined have left entries behind.
        if self.due.len() > 4 * slots.count() + DUE_MAX {
            self.rebuild_due();
        }
        id
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
        self.due.first_ms()
    }

    /// Appends the rows of the sessions that are over at `watermark_ms` and that nobody `awaits`.
    pub fn fire(&mut self, watermark_ms: i64, awaits: impl Fn(&Closed) -> bool, out: &mut ResultRows) -> Result<()> {
        let early = self.early_at(watermark_ms);
        let (over, pieces) = self.take_due(watermark_ms);
        if self.alone && pieces.is_empty() && self.over.is_empty() && self.are_plain(&over) {
            self.emit_plain(over.clone(), out)?;
            over.into_iter().for_each(|id| self.remove(id));
        } else {
            let closed = self.close_those(over, pieces, awaits);
            self.emit(&closed, out)?;
        }
        self.fired_ms = self.fired_ms.max(watermark_ms);
        if early { self.emit_changed(out) } else { Ok(()) }
    }

    /// Takes out the sessions that are over at `watermark_ms` and that nobody `awaits`, and their pieces.
    pub fn close(&mut self, watermark_ms: i64, awaits: impl Fn(&Closed) -> bool) -> Vec<Closed> {
        let (over, pieces) = self.take_due(watermark_ms);
        self.close_those(over, pieces, awaits)
    }

    /// Takes out sessions that are `over`; they and `pieces` are closed but for those that somebody `awaits`.
    fn close_those(&mut self, over: Vec<u32>, pieces: Vec<Closed>, awaits: impl Fn(&Closed) -> bool) -> Vec<Closed> {
        let mut all = std::mem::take(&mut self.over);
        all.extend(pieces);
        all.extend(over.into_iter().map(|id| self.take(id).1));
        // Rows of one key and the same bounds leave in this order, in whatever order their sessions were found to be over.
        all.sort_by(|left, right| left.order().cmp(&right.order()));
        let (left, closed): (Vec<Closed>, Vec<Closed>) = all.into_iter().partition(awaits);
        for Closed { key, session } in left {
            self.join((&key, key_hash(&key)), session, |_, _, _| None, Session::merge);
        }
        closed
    }

    /// The numbers of the sessions that are over at `watermark_ms`, and the first pieces of those that are cut.
    fn take_due(&mut self, watermark_ms: i64) -> (Vec<u32>, Vec<Closed>) {
        let (mut entries, mut over, mut pieces) = (self.due.take(watermark_ms), Vec::new(), Vec::new());
        while let Some((due_ms, id)) = entries.pop() {
            self.prefetch_entry(&entries);
            let (gaps, slots) = (self.gaps, self.sessions.bucket(BUCKET).slots_mut());
            if slots.node(id).due_ms != due_ms {
                continue;
            }
            let node = slots.node(id);
            let due = if self.alone { gaps.first_over_at(node) } else { (gaps.over_at(node.last_ms), false) };
            if due.0 > watermark_ms {
                slots.set_due(id, due.0);
                self.due.push(due.0, id);
            } else if due.1 {
                let (slot, cut) = self.take(id);
                let (rest, first) = self.gaps.split_first(cut);
                pieces.extend(first);
                let id = self.put(slot, &rest.session);
                entries.push((self.sessions.bucket(BUCKET).slots().node(id).due_ms, id));
            } else {
                slots.set_due(id, i64::MIN);
                over.push(id);
            }
        }
        if let Some(table) = self.table() {
            over.sort_unstable_by_key(|id| (table.slots().node(*id).slot, table.slots().node(*id).place()));
        }
        (over, pieces)
    }

    fn prefetch_entry(&self, entries: &[Entry]) {
        let ahead = entries.len().checked_sub(AHEAD).and_then(|at| entries.get(at));
        if let (Some((_, id)), Some(table)) = (ahead, self.table()) {
            prefetch(table.slots().node(*id));
        }
    }

    /// Takes session `id` out; gives its slot too.
    fn take(&mut self, id: u32) -> (u32, Closed) {
        let table = self.sessions.bucket(BUCKET);
        let slot = table.slots().node(id).slot;
        table.touch(slot);
        let key = table.key(slot).to_vec();
        self.key_bytes -= key.len() as u64;
        (slot, Closed { key, session: table.slots_mut().take(id) })
    }

    /// Drops session `id`.
    fn remove(&mut self, id: u32) {
        let table = self.sessions.bucket(BUCKET);
        let slot = table.slots().node(id).slot;
        table.touch(slot);
        self.key_bytes -= table.key(slot).len() as u64;
        table.slots_mut().remove(id);
    }

    fn are_plain(&self, ids: &[u32]) -> bool {
        let plain = |table: &StateTable<SessionSlots>| ids.iter().all(|id| table.slots().node(*id).is_plain());
        !self.plan.retracts() && self.table().is_none_or(plain)
    }

    /// See [`super::Windows::fire_at_end`]. `open` are the lanes' open sessions, to be merged in.
    pub fn fire_at_end(&mut self, open: Vec<Closed>, out: &mut ResultRows) -> Result<()> {
        if self.plan.retracts() {
            return self.emit_open(out);
        }
        let all = self.all();
        if self.alone && open.is_empty() && self.are_plain(&all) {
            self.emit_plain(all, out)?;
            self.ends += 1;
            return Ok(());
        }
        let mut merged = Self::new(self.plan.clone(), self.gaps, false);
        merged.ends = self.ends;
        merged.merge(self.open());
        merged.merge(open);
        merged.alone = self.alone;
        merged.emit(&merged.open(), out)?;
        self.ends += 1;
        Ok(())
    }

    /// Copies of all open sessions.
    #[must_use]
    pub fn open(&self) -> Vec<Closed> {
        let Some(table) = self.table() else { return Vec::new() };
        let closed = |id| {
            let session = table.slots().copy(id);
            Closed { key: table.key(table.slots().node(id).slot).to_vec(), session }
        };
        self.all().into_iter().map(closed).collect()
    }

    /// Numbers of all open sessions, by slot.
    fn all(&self) -> Vec<u32> {
        let Some(table) = self.table() else { return Vec::new() };
        (0..table.len() as u32).flat_map(|slot| table.slots().list(slot)).copied().collect()
    }

    fn table(&self) -> Option<&StateTable<SessionSlots>> {
        self.sessions.get(BUCKET)
    }

    /// Works out anew what follows from the sessions.
    fn rebuild(&mut self) {
        self.over.clear();
        let keys = self.table().into_iter().flat_map(|table| {
            (0..table.len() as u32).map(|slot| table.slots().list(slot).len() * table.key(slot).len())
        });
        self.key_bytes = keys.sum::<usize>() as u64;
        self.rebuild_due();
    }

    fn rebuild_due(&mut self) {
        self.due.clear();
        let (gaps, all) = (self.gaps, self.all());
        for id in all {
            let slots = self.sessions.bucket(BUCKET).slots_mut();
            let node = slots.node(id);
            let due_ms = if self.alone { gaps.first_over_at(node).0 } else { gaps.over_at(node.last_ms) };
            slots.set_due(id, due_ms);
            self.due.push(due_ms, id);
        }
    }

    /// See [`super::Windows::ends`].
    #[must_use]
    pub const fn ends(&self) -> u32 {
        self.ends
    }

    /// See [`super::Windows::seal`].
    pub fn seal_leaving(&mut self, out: &mut ResultRows) -> Result<u64> {
        if self.plan.retracts() && self.plan.early.at_commit() {
            self.emit_changed(out)?;
        }
        Ok(self.seal())
    }

    /// Ends the epoch where no rows leave: the digest is brought up to date.
    pub fn seal(&mut self) -> u64 {
        self.sessions.seal()
    }

    /// See [`super::Windows::commit`].
    pub fn commit(&mut self) {
        self.committed = (self.fired_ms, self.ends);
        if self.sessions.commit() {
            self.rebuild_due();
        }
    }

    /// See [`super::Windows::rollback`].
    pub fn rollback(&mut self) {
        (self.fired_ms, self.ends) = self.committed;
        self.sessions.rollback();
        self.rebuild();
    }

    /// See [`super::Windows::save`].
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.ends));
        if self.plan.early.every_ms.is_some() {
            out.put_i64(self.fired_ms);
        }
        self.sessions.encode(out);
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.ends = saved.varint()? as u32;
        if self.plan.early.every_ms.is_some() {
            self.fired_ms = saved.i64()?;
        }
        self.committed = (self.fired_ms, self.ends);
        self.sessions.decode(saved)?;
        let keys = self.table().map(|table| (0..table.len() as u32).map(|slot| table.key(slot)));
        if !keys.into_iter().flatten().all(|key| self.plan.key.is_valid(key)) {
            return Err(Error::state("saved sessions hold a key of other columns; the state is of another pipeline"));
        }
        self.rebuild();
        Ok(())
    }

    /// See [`super::Windows::open_windows`].
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.table().map_or(0, |table| table.slots().count())
    }
}
