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

#[cfg(test)]
mod cut_tests;
mod due;
mod leave;
mod pieces;
mod slots;
#[cfg(test)]
mod tests;
mod value;
mod written;

use super::rows::ResultRows;
use super::slot_cache::SlotCache;
use super::{Arrivals, Outcomes, WindowPlan, no_accumulators};
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::prefetch::prefetch;
use crate::state::{BucketKey, Buckets, Slots, StateTable, key_hash};
use due::{Due, Entry};
use pieces::Pieces;
use slots::{AHEAD, Node, SessionSlots};
use std::sync::Arc;
use value::{Link, Session};

/// What makes a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    /// Longest silence inside a session, ms.
    pub gap_ms: i64,
    /// Two events exactly `gap_ms` apart are one session.
    pub inclusive: bool,
    /// How long past its end a session takes records, ms.
    pub allowed_lateness_ms: i64,
    /// The longest window, ms, not shorter than `gap_ms`: longer sessions are cut.
    pub max_length_ms: Option<i64>,
    /// Events before it are in no session, ms.
    pub min_start_ms: Option<i64>,
}

impl Gaps {
    /// The cell of `time_ms`; see `pieces.rs`.
    fn cell(&self, time_ms: i64) -> i64 {
        self.max_length_ms.map_or(0, |length_ms| time_ms.div_euclid(length_ms))
    }

    /// `max_length` of a session that is longer.
    fn cut(&self, start_ms: i64, last_ms: i64) -> Option<i64> {
        self.max_length_ms.filter(|length_ms| last_ms + self.gap_ms - start_ms > *length_ms)
    }

    /// The watermark from which on the first piece of a session is over, and whether others come after it.
    fn first_over_at(&self, node: &Node) -> (i64, bool) {
        let over_at = self.over_at(node.last_ms);
        let Some(length_ms) = self.cut(node.start_ms, node.last_ms) else { return (over_at, false) };
        let cut_ms = (node.cell + 1) * length_ms;
        if node.last_ms < cut_ms { (over_at, false) } else { (cut_ms - 1 + self.allowed_lateness_ms, true) }
    }

    /// For an event of the session `[start_ms, last_ms]`: the watermark from which on its piece is over, where
    /// the session is cut behind it.
    fn piece_over_at(&self, time_ms: i64, (start_ms, last_ms): (i64, i64)) -> Option<i64> {
        let cut_ms = (self.cell(time_ms) + 1) * self.cut(start_ms, last_ms)?;
        (last_ms >= cut_ms).then_some(cut_ms - 1 + self.allowed_lateness_ms)
    }

    /// The watermark from which on a session whose last event was at `last_ms` is over.
    const fn over_at(&self, last_ms: i64) -> i64 {
        last_ms + self.gap_ms - 1 + self.allowed_lateness_ms
    }

    /// The earliest last event of a session that is not over at `watermark_ms`.
    const fn open_from(&self, watermark_ms: i64) -> i64 {
        watermark_ms.saturating_sub(self.gap_ms - 1 + self.allowed_lateness_ms).saturating_add(1)
    }

    /// Whether an event at `time_ms` is so far ahead of the clock that nothing it touches could be over: nothing is over
    /// earlier than a session that ended just within reach.
    const fn ahead(&self, time_ms: i64, watermark_ms: i64) -> bool {
        self.over_at(time_ms - self.reach_ms()) > watermark_ms
    }

    /// Whether no piece that an event at `time_ms` may be in is over.
    fn is_whole(&self, time_ms: i64, watermark_ms: i64) -> bool {
        self.max_length_ms.is_none_or(|length_ms| {
            let cut_ms = (self.cell(time_ms) + 1) * length_ms;
            cut_ms - 1 + self.allowed_lateness_ms > watermark_ms
        })
    }

    /// A session without its first piece, and that.
    fn split_first(&self, mut whole: Closed) -> (Closed, Option<Closed>) {
        let first = whole.session.pieces.take_first().map(|pieces| {
            let cut_ms = self.max_length_ms.map_or(i64::MAX, |length_ms| (pieces.first_cell() + 1) * length_ms);
            let written = whole.session.written.as_mut().map(|written| Box::new(written.split_before(cut_ms)));
            let (start_ms, last_ms, changed) = (whole.session.start_ms, whole.session.last_ms, whole.session.changed);
            let session = Session { start_ms, last_ms, links: Vec::new(), pieces, changed, written };
            Closed { key: whole.key.clone(), session }
        });
        (whole, first)
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
    fn linked(&self, mut left: impl Iterator<Item = Link>, right: &Session) -> bool {
        let joins = |mine: &Link, other: &Link| {
            mine.lane != other.lane
                && self.touch((mine.first_ms, mine.last_ms), (other.first_ms, other.last_ms))
                && self.over_at(mine.last_ms) > other.clock_ms
                && self.over_at(other.last_ms) > mine.clock_ms
        };
        left.any(|mine| right.links.iter().any(|other| joins(&mine, other)))
    }

    /// The last piece of a session whose first cell is all that is left of it, as its row has it.
    fn bounds(&self, node: &Node) -> (i64, i64) {
        let (start_ms, end_ms) = (node.start_ms, node.last_ms + self.gap_ms);
        self.cut(start_ms, node.last_ms).map_or((start_ms, end_ms), |length_ms| {
            let (from_ms, to_ms) = (node.cell * length_ms, (node.cell + 1) * length_ms);
            (start_ms.max(from_ms), end_ms.min(to_ms))
        })
    }
}

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

/// Sessions and the rows whose values are to be added to their aggregates.
#[derive(Debug, Default)]
struct Fed {
    ids: Vec<u32>,
    rows: Vec<u32>,
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
        Self { sessions, plan, gaps, due, alone, fired_ms, ends: 0, committed: (i64::MIN, 0) }
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

    /// Counts rows.
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        let (mut outcomes, mut fed) = (Outcomes::default(), Fed::default());
        let plain = self.plain_rows(arrivals);
        let slots = SlotCache::new(arrivals.groups).slots(self.sessions.bucket(BUCKET), &plain);
        let mut next = 0;
        for row in arrivals.rows {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            if self.gaps.min_start_ms.is_some_and(|floor_ms| time_ms < floor_ms) {
                outcomes.no_window += 1;
                continue;
            }
            let watermark_ms = arrivals.watermarks_ms[*row as usize];
            if plain.get(next) == Some(row) {
                self.sessions.bucket(BUCKET).slots().prefetch_ahead(&slots[next..]);
                let id = self.count_plain(slots[next], arrivals.order.partition, time_ms, watermark_ms);
                next += 1;
                if let Some(id) = id {
                    fed.ids.push(id);
                    fed.rows.push(*row);
                    outcomes.applied += 1;
                    continue;
                }
            }
            // Its aggregates may move.
            self.feed(&mut fed, arrivals);
            let event = self.event(arrivals, *row);
            match self.count(arrivals.key(*row), event, watermark_ms) {
                None => outcomes.applied += 1,
                Some(over_at_ms) => outcomes.late.push((*row, over_at_ms)),
            }
        }
        self.feed(&mut fed, arrivals);
        outcomes
    }

    /// Rows that start a session, or belong to one that is not over, whatever there is.
    fn plain_rows(&self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        if self.plan.retracts() {
            return Vec::new();
        }
        let is_plain = |row: &u32| {
            let time_ms = arrivals.order.event_times_ms[*row as usize];
            let watermark_ms = arrivals.watermarks_ms[*row as usize];
            self.gaps.min_start_ms.is_none_or(|floor_ms| time_ms >= floor_ms)
                && self.gaps.ahead(time_ms, watermark_ms)
                && self.gaps.is_whole(time_ms, watermark_ms)
        };
        arrivals.rows.iter().copied().filter(is_plain).collect()
    }

    /// Counts one of [`plain_rows`](Self::plain_rows) where its session is: it starts one in `slot`, or belongs to one
    /// plain session. The session's number, whose aggregates are still to be fed; `None` for others, which nothing was
    /// done for.
    #[inline]
    fn count_plain(&mut self, slot: u32, lane: i32, time_ms: i64, watermark_ms: i64) -> Option<u32> {
        let (gaps, cell) = (self.gaps, self.gaps.cell(time_ms));
        let table = self.sessions.bucket(BUCKET);
        let slots = table.slots_mut();
        // Those not over never touch one another, so by their last events is by their first.
        let lasting = slots.lasting(slot, (time_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms)));
        let touches = |id: &u32| {
            let node = slots.node(*id);
            gaps.touch((node.start_ms, node.last_ms), (time_ms, time_ms))
        };
        let Some(id) = lasting.first().copied().filter(touches) else {
            let id = slots.start(slot, time_ms, cell, lane);
            slots.set_due(id, gaps.over_at(time_ms));
            self.due.push(gaps.over_at(time_ms), id);
            return Some(id);
        };
        let node = slots.node(id);
        if !node.is_plain() || node.lane != lane || node.cell != cell || lasting.get(1).is_some_and(touches) {
            return None;
        }
        slots.extend(id, time_ms);
        Some(id)
    }

    /// Updates the aggregates of sessions by the rows that were counted for them.
    fn feed(&mut self, fed: &mut Fed, arrivals: &Arrivals<'_>) {
        if !fed.ids.is_empty() {
            let values = self.sessions.bucket(BUCKET).slots_mut().values_mut();
            values.update(&fed.ids, &fed.rows, arrivals.inputs, arrivals.order);
            fed.ids.clear();
            fed.rows.clear();
        }
    }

    /// `row` as a session of its own.
    fn event(&mut self, arrivals: &Arrivals<'_>, row: u32) -> Session {
        let (time_ms, lane) = (arrivals.order.event_times_ms[row as usize], arrivals.order.partition);
        let watermark_ms = arrivals.watermarks_ms[row as usize];
        let mut values = self.sessions.bucket(BUCKET).slots().empty_values();
        values.update(&[0], &[row], arrivals.inputs, arrivals.order);
        let clock_ms = if self.gaps.ahead(time_ms, watermark_ms) { i64::MIN } else { watermark_ms };
        let links = vec![Link { lane, first_ms: time_ms, last_ms: time_ms, clock_ms }];
        let pieces = Pieces::new(self.gaps.cell(time_ms), values);
        Session { start_ms: time_ms, last_ms: time_ms, links, pieces, changed: self.plan.retracts(), written: None }
    }

    /// Joins an event to the sessions of its key (with its hash) that it touches and that are not over at
    /// `watermark_ms`; when it is late, the watermark from which on it is.
    fn count(&mut self, (key, hash): (&[u8], u64), event: Session, watermark_ms: i64) -> Option<i64> {
        let gaps = self.gaps;
        let joined = |slots: &SessionSlots, slot: u32, piece: &Session| {
            let from_ms = (piece.start_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
            // Those not over never touch one another, so by their last events is by their first.
            let (id, node) = slots.lasting(slot, from_ms).first().map(|id| (*id, slots.node(*id)))?;
            gaps.touch((node.start_ms, node.last_ms), (piece.start_ms, piece.last_ms)).then_some(id)
        };
        if let Some(over_at) = self.late((key, hash), &event, watermark_ms) {
            return Some(over_at);
        }
        self.join((key, hash), event, joined, |piece, session| {
            piece.absorb(session, |left, right| gaps.touch(left, right));
        });
        None
    }

    /// The watermark from which on `event` is late, if that is at or before `watermark_ms`.
    fn late(&self, (key, hash): (&[u8], u64), event: &Session, watermark_ms: i64) -> Option<i64> {
        let (gaps, time_ms) = (self.gaps, event.last_ms);
        let over_at = gaps.over_at(time_ms);
        if over_at > watermark_ms && gaps.is_whole(time_ms, watermark_ms) {
            return None;
        }
        let touched = self.touched((key, hash), time_ms, watermark_ms);
        let Some(stretch) = touched else { return (over_at <= watermark_ms).then_some(over_at) };
        gaps.piece_over_at(time_ms, stretch).filter(|piece_over_at| *piece_over_at <= watermark_ms)
    }

    /// The first and last event of what an event becomes with the sessions not over that it touches; `None`
    /// where it touches none.
    fn touched(&self, (key, hash): (&[u8], u64), time_ms: i64, watermark_ms: i64) -> Option<(i64, i64)> {
        let (gaps, table) = (self.gaps, self.table()?);
        let from_ms = (time_ms - gaps.reach_ms()).max(gaps.open_from(watermark_ms));
        let lasting = table.slots().lasting(table.find(hash, key)?, from_ms).iter();
        let sessions = lasting.map(|id| table.slots().node(*id)).map(|node| (node.start_ms, node.last_ms));
        // Those not over never touch one another, so by their last events is by their first.
        let touching = sessions.take_while(|session| gaps.touch(*session, (time_ms, time_ms)));
        let (start_ms, last_ms) = touching.reduce(|left, right| (left.0.min(right.0), left.1.max(right.1)))?;
        Some((start_ms.min(time_ms), last_ms.max(time_ms)))
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
        }
        self.put(slot, &piece);
    }

    /// Puts `session` into `slot`, after the table was touched; gives its number.
    fn put(&mut self, slot: u32, session: &Session) -> u32 {
        let slots = self.sessions.bucket(BUCKET).slots_mut();
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
        if self.alone && pieces.is_empty() && self.are_plain(&over) {
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
        let mut all = pieces;
        all.extend(over.into_iter().map(|id| self.take(id).1));
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
        (slot, Closed { key, session: table.slots_mut().take(id) })
    }

    /// Drops session `id`.
    fn remove(&mut self, id: u32) {
        let table = self.sessions.bucket(BUCKET);
        table.touch(table.slots().node(id).slot);
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
        self.rebuild_due();
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
        self.sessions.byte_len() + self.due.byte_len()
    }
}
