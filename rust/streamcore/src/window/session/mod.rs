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
mod fire;
mod gaps;
mod leave;
mod more;
mod moving;
mod partials;
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
use crate::saving::{Loading, Saving};
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use due::Due;
use fire::{Ending, Leaving};
pub use gaps::Gaps;
use slots::SessionSlots;
use std::borrow::Cow;
use std::sync::Arc;
use value::{Link, Session};

/// A session in `slot` that becomes one with the session `[start_ms, last_ms]` of another lane, which has `links`.
fn linked_in(
    gaps: Gaps,
    slots: &SessionSlots,
    slot: u32,
    (start_ms, last_ms): (i64, i64),
    links: &[Link],
) -> Option<u32> {
    let (from_ms, to_ms) = (start_ms - gaps.reach_ms(), last_ms + gaps.reach_ms());
    slots.within(slot, from_ms, to_ms).find(|id| gaps.linked(slots.links(*id), links))
}

/// The one bucket sessions live in.
const BUCKET: BucketKey = BucketKey { time: 0, since: 0 };

/// Stretches of the time between an event and the end of its session, for `due.rs`.
const STRETCHES: i64 = 256;

/// A session that is over, with its key.
#[derive(Debug, Clone)]
pub struct Closed {
    key: Vec<u8>,
    session: Session,
}

impl Closed {
    fn waiting(&self) -> Waiting<'_> {
        let Session { start_ms, last_ms, links, .. } = &self.session;
        Waiting { key: &self.key, bounds: (*start_ms, *last_ms), links: links.into() }
    }

    /// Key, last event, first event, first cell.
    fn order(&self) -> (&[u8], i64, i64, i64) {
        (&self.key, self.session.last_ms, self.session.start_ms, self.session.pieces.first_cell())
    }
}

/// A session that is over, without its aggregates: what tells whether it becomes one with others.
#[derive(Debug)]
pub struct Waiting<'k> {
    key: &'k [u8],
    bounds: (i64, i64),
    links: Cow<'k, [Link]>,
}

impl<'k> Waiting<'k> {
    /// Session `id` of `table`.
    fn in_table(table: &'k StateTable<SessionSlots>, id: u32) -> Self {
        let node = table.slots().node(id);
        let links = table.slots().links(id).collect::<Vec<Link>>().into();
        Self { key: table.key(node.slot), bounds: (node.start_ms, node.last_ms), links }
    }
}

/// A copy of session `id` of `table`.
fn closed(table: &StateTable<SessionSlots>, id: u32) -> Closed {
    Closed { key: table.key(table.slots().node(id).slot).to_vec(), session: table.slots().copy(id) }
}

/// Drops session `id` of `table`; gives the bytes of its key.
fn remove(table: &mut StateTable<SessionSlots>, id: u32) -> u64 {
    let slot = table.slots().node(id).slot;
    table.touch(slot);
    table.slots_mut().remove(id);
    table.key(slot).len() as u64
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
    /// Sessions that are over and have not left yet; not in `due`, which has them again when it is rebuilt.
    leaving: Leaving,
    /// An end of the input under way: nothing of it is kept.
    ending: Option<Ending>,
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
        let (over, leaving, ending) = (Vec::new(), Leaving::default(), None);
        Self { sessions, plan, gaps, due, over, leaving, ending, key_bytes: 0, alone, fired_ms, ends: 0, committed }
    }

    /// See [`super::Windows::apply`].
    pub fn apply_firing(&mut self, arrivals: &Arrivals<'_>, out: &mut ResultRows) -> Result<Outcomes> {
        if self.plan.early.every_ms.is_none() {
            return Ok(self.apply(arrivals));
        }
        let (mut outcomes, mut rest) = (Outcomes::default(), arrivals.rows);
        while let Some(first) = rest.first() {
            out.whole(|out| self.fire(arrivals.watermarks_ms[*first as usize], |_| false, out))?;
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
        absorb: impl Fn(&mut Session, Session),
    ) {
        let table = self.sessions.bucket(BUCKET);
        let (slot, _) = table.slot_for_update(hash, key);
        let slots = table.slots_mut();
        while let Some(session) = joined(slots, slot, &piece).map(|id| slots.take(id)) {
            absorb(&mut piece, session);
            self.key_bytes -= key.len() as u64;
        }
        self.put(slot, piece);
    }

    /// Puts a session back that was taken out.
    fn put_back(&mut self, key: &[u8], session: Session) {
        let (slot, _) = self.sessions.bucket(BUCKET).slot_for_update(key_hash(key), key);
        self.put(slot, session);
    }

    /// Puts `session` into `slot`, after the table was touched; gives its number.
    fn put(&mut self, slot: u32, session: Session) -> u32 {
        let table = self.sessions.bucket(BUCKET);
        self.key_bytes += table.key(slot).len() as u64;
        let slots = table.slots_mut();
        let id = slots.put(slot, session);
        let (due_ms, _) = self.gaps.due(slots.node(id), self.alone);
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
        let joined = |slots: &SessionSlots, slot: u32, piece: &Session| {
            linked_in(gaps, slots, slot, (piece.start_ms, piece.last_ms), &piece.links)
        };
        for Closed { key, session } in closed {
            self.join((&key, key_hash(&key)), session, joined, Session::merge);
        }
    }

    /// Whether a session that is open here will become one with one of another lane.
    #[must_use]
    pub fn awaits(&self, waiting: &Waiting<'_>) -> bool {
        self.table().is_some_and(|table| {
            let Waiting { key, bounds, links } = waiting;
            let slot = table.find(key_hash(key), key);
            slot.is_some_and(|slot| linked_in(self.gaps, table.slots(), slot, *bounds, links).is_some())
        })
    }

    /// See [`super::Windows::next_fire_ms`].
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        self.due.first_ms()
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

    /// Copies of all open sessions.
    #[must_use]
    pub fn open(&self) -> Vec<Closed> {
        let Some(table) = self.table() else { return Vec::new() };
        self.all().into_iter().map(|id| closed(table, id)).collect()
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
        self.ending = None;
        let keys = self.table().into_iter().flat_map(|table| {
            (0..table.len() as u32).map(|slot| table.slots().list(slot).len() * table.key(slot).len())
        });
        self.key_bytes = keys.sum::<usize>() as u64;
        self.rebuild_due();
    }

    fn rebuild_due(&mut self) {
        self.due.clear();
        self.leaving = Leaving::default();
        let (gaps, all) = (self.gaps, self.all());
        for id in all {
            let slots = self.sessions.bucket(BUCKET).slots_mut();
            let (due_ms, _) = gaps.due(slots.node(id), self.alone);
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
    pub fn save(&self, saving: &mut Saving) {
        saving.out.put_varint(u64::from(self.ends));
        if self.plan.early.every_ms.is_some() {
            saving.out.put_i64(self.fired_ms);
        }
        self.sessions.save(saving);
    }

    /// See [`super::Windows::load`].
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        self.ends = saved.newest(Reader::varint)? as u32;
        if self.plan.early.every_ms.is_some() {
            self.fired_ms = saved.newest(Reader::i64)?;
        }
        self.committed = (self.fired_ms, self.ends);
        self.sessions.load(saved)?;
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
