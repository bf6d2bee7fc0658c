//! What leaves a session: its last rows, early ones, and those taken back because its bounds changed.
//!
//! `session/mod.rs` says when. A row is of a window with bounds; where a session grows or two become one, the rows with
//! the bounds that are no more are taken back (`retracted`) before the new one is written. Invariant: whoever applies
//! the rows in order holds, at each moment that rows leave, one row a window, and none of a window that is no more.

use super::value::Session;
use super::written::{Written, WrittenRow};
use super::{Closed, Gaps, SessionSlots, SessionWindows, WindowPlan};
use crate::error::Result;
use crate::state::{Slots, StateTable};
use crate::window::aggregate::Accumulators;
use crate::window::ends::Ends;
use crate::window::rows::{ResultRows, RowOf};
use std::borrow::Cow;

/// The window of a session, or of a piece of it, and its aggregates.
type Piece<'s> = ((i64, i64), Cow<'s, Accumulators>);

impl Gaps {
    /// The windows of `session`: one, or those it is cut into.
    fn pieces<'s>(&self, session: &'s Session) -> Vec<Piece<'s>> {
        let (start_ms, end_ms) = (session.start_ms, session.last_ms + self.gap_ms);
        let Some(length_ms) = self.cut(start_ms, session.last_ms) else {
            return vec![((start_ms, end_ms), session.pieces.total())];
        };
        let piece = |(cell, values)| {
            let (from_ms, to_ms) = (cell * length_ms, (cell + 1) * length_ms);
            ((start_ms.max(from_ms), end_ms.min(to_ms)), Cow::Borrowed(values))
        };
        session.pieces.iter().map(piece).collect()
    }
}

/// A row on its way out; without values, one that is taken back.
struct Leaving<'s> {
    order: Order<'s>,
    bounds: (i64, i64),
    values: Option<Cow<'s, Accumulators>>,
    revision: i64,
}

/// In which order rows leave: moment, end, key, start; then those taken back before others.
type Order<'s> = (i64, i64, &'s [u8], i64, bool);

/// Moments of rows that leave all at once, not because they are over: those taken back, then the others, by end.
const AT_ONCE: (i64, i64) = (i64::MIN, i64::MAX);

/// Appends the row of a plain session by its number, all there is to know of it, after so many ends of the input.
pub(super) fn emit_plain(
    plan: &WindowPlan,
    gaps: Gaps,
    table: &StateTable<SessionSlots>,
    (id, ends): (u32, u32),
    out: &mut ResultRows,
) -> Result<()> {
    let (slots, node) = (table.slots(), table.slots().node(id));
    let row = RowOf { bounds: Some(gaps.bounds(node)), revision: i64::from(ends), is_final: true };
    out.push(plan, table.key(node.slot), slots.values(), id, row)
}

impl SessionWindows {
    /// See [`crate::window::Windows::see_open`].
    pub fn see_open(&self, ends: &mut Ends) {
        let Some(table) = self.table() else { return };
        for id in self.all() {
            let node = table.slots().node(id);
            let (key, over_at_ms) = (table.key(node.slot), self.gaps.over_at(node.last_ms));
            if self.gaps.cut(node.start_ms, node.last_ms).is_none() {
                ends.see(self.gaps.bounds(node), over_at_ms, |keys| keys(key));
                continue;
            }
            let session = table.slots().copy(id);
            for (bounds, _) in self.gaps.pieces(&session) {
                // A part leaves alone once the session goes on behind it, where no other lane's are merged in.
                let is_apart = self.alone && bounds.1 <= session.last_ms;
                let over_at_ms = if is_apart { bounds.1 - 1 + self.gaps.allowed_lateness_ms } else { over_at_ms };
                ends.see(bounds, over_at_ms, |keys| keys(key));
            }
        }
    }

    /// Appends the rows of sessions that are over.
    ///
    /// Rows are in the order in which a clock that moves by single milliseconds would let them go, so that how far
    /// it jumps, which batch cuts decide, changes nothing: parts of a cut session at that of the session, or alone at
    /// their own ends, save the last, which is over with the session.
    pub(super) fn emit(&self, closed: &[Closed], out: &mut ResultRows) -> Result<()> {
        let mut rows = Vec::new();
        for Closed { key, session } in closed {
            let is_apart = |end_ms| self.alone && end_ms <= session.last_ms;
            let over_at_ms = |end_ms| if is_apart(end_ms) { end_ms } else { session.last_ms + self.gaps.gap_ms };
            self.leave(key, session, Some(&over_at_ms), &mut rows);
        }
        self.push(rows, true, out)
    }

    /// Adds the last rows of `session`, each at the moment that `over_at_ms` gives for its end, or all at once.
    fn leave<'s>(
        &self,
        key: &'s [u8],
        session: &'s Session,
        over_at_ms: Option<&dyn Fn(i64) -> i64>,
        rows: &mut Vec<Leaving<'s>>,
    ) {
        let pieces = self.gaps.pieces(session);
        let moment = |end_ms| over_at_ms.map(|over_at_ms| over_at_ms(end_ms));
        let first_ms = pieces.first().and_then(|((_, end_ms), _)| moment(*end_ms));
        self.take_back(key, session, &pieces, first_ms, rows);
        let revision = self.revision(session);
        rows.extend(pieces.into_iter().map(|(bounds, values)| {
            let (at_ms, end_ms) = moment(bounds.1).map_or((AT_ONCE.1, bounds.1), |at_ms| (at_ms, at_ms));
            Leaving { order: (at_ms, end_ms, key, bounds.0, true), bounds, values: Some(values), revision }
        }));
    }

    /// Appends the rows of sessions changed since the last time, where the condition is true for them.
    pub(super) fn emit_changed(&mut self, out: &mut ResultRows) -> Result<()> {
        let Some(table) = self.table() else { return Ok(()) };
        let changed: Vec<(u32, Session)> = table.slots().changed().map(|id| (id, table.slots().copy(id))).collect();
        let (mut rows, mut written) = (Vec::new(), Vec::with_capacity(changed.len()));
        for (id, session) in &changed {
            let key = table.key(table.slots().node(*id).slot);
            written.push((*id, self.leave_early(key, session, &mut rows)?));
        }
        self.push(rows, false, out)?;
        self.note_written(written);
        Ok(())
    }

    /// Adds the early rows of `session`; gives those that it has then.
    fn leave_early<'s>(&self, key: &'s [u8], session: &'s Session, rows: &mut Vec<Leaving<'s>>) -> Result<Written> {
        let (pieces, first, revision) = (self.gaps.pieces(session), rows.len(), self.revision(session));
        self.take_back(key, session, &pieces, None, rows);
        let mut written = Written::default();
        for (bounds, values) in pieces {
            let known = session.written.as_ref().and_then(|written| written.row(bounds).copied());
            let row = WrittenRow { bounds, digest: values.digest(0) };
            if known != Some(row) && self.holds(key, bounds, &values)? {
                let order = (AT_ONCE.1, bounds.1, key, bounds.0, true);
                rows.push(Leaving { order, bounds, values: Some(values), revision });
                written.rows.push(row);
            } else {
                written.rows.extend(known);
            }
        }
        written.revision = revision + i64::from(rows.len() > first);
        Ok(written)
    }

    /// Appends the last rows of all open sessions, which stay and know their rows.
    pub(super) fn emit_open(&mut self, out: &mut ResultRows) -> Result<()> {
        let (ids, open, mut leaving) = (self.all(), self.open(), Vec::new());
        open.iter().for_each(|Closed { key, session }| self.leave(key, session, None, &mut leaving));
        self.push(leaving, true, out)?;
        let written = open.iter().map(|Closed { session, .. }| {
            let row = |(bounds, values): Piece<'_>| WrittenRow { bounds, digest: values.digest(0) };
            let rows = self.gaps.pieces(session).into_iter().map(row).collect();
            Written { rows, revision: self.revision(session) + 1 }
        });
        let written: Vec<Written> = written.collect();
        self.note_written(ids.into_iter().zip(written).collect());
        Ok(())
    }

    /// Notes which rows sessions have, and that those say all.
    fn note_written(&mut self, written: Vec<(u32, Written)>) {
        for (id, written) in written {
            let (slot, Closed { mut session, .. }) = self.take(id);
            session.changed = false;
            session.written = (written != Written::default()).then(|| Box::new(written));
            self.put(slot, session);
        }
    }

    /// The revision of the next row of `session`.
    fn revision(&self, session: &Session) -> i64 {
        // Where rows are taken back they are counted, the last ones at an end of the input too.
        let counted = session.written.as_ref().map_or(0, |written| written.revision);
        if self.plan.retracts() { counted } else { i64::from(self.ends) }
    }

    /// Adds the rows of `session` whose bounds are none of `pieces`: right before the first of those, at `first_ms`, or
    /// before all that leaves at once.
    fn take_back<'s>(
        &self,
        key: &'s [u8],
        session: &Session,
        pieces: &[Piece<'_>],
        first_ms: Option<i64>,
        rows: &mut Vec<Leaving<'s>>,
    ) {
        let revision = self.revision(session);
        let known = session.written.iter().flat_map(|written| &written.rows);
        let mut gone: Vec<_> = known.filter(|row| pieces.iter().all(|(bounds, _)| *bounds != row.bounds)).collect();
        gone.sort_unstable_by_key(|row| (row.bounds.1, row.bounds.0));
        let first_start_ms = pieces.first().map_or(session.start_ms, |((start_ms, _), _)| *start_ms);
        rows.extend(gone.into_iter().map(|row| {
            let order = first_ms.map_or((AT_ONCE.0, row.bounds.1, key, row.bounds.0, false), |first_ms| {
                (first_ms, first_ms, key, first_start_ms, false)
            });
            Leaving { order, bounds: row.bounds, values: None, revision }
        }));
    }

    /// Whether the condition is true for a row that would leave early.
    fn holds(&self, key: &[u8], bounds: (i64, i64), values: &Accumulators) -> Result<bool> {
        let Some(condition) = self.plan.early.when.as_deref() else { return Ok(true) };
        let mut row = ResultRows::new(&self.plan);
        row.push(&self.plan, key, values, 0, RowOf { bounds: Some(bounds), revision: 0, is_final: false })?;
        Ok(row.holding(condition) == [true])
    }

    /// Appends rows in their order.
    fn push(&self, mut rows: Vec<Leaving<'_>>, is_final: bool, out: &mut ResultRows) -> Result<()> {
        rows.sort_by_key(|row| row.order);
        for Leaving { order: (_, _, key, ..), bounds, values, revision } in rows {
            let row = RowOf { bounds: Some(bounds), revision, is_final };
            match values {
                Some(values) => out.push(&self.plan, key, &values, 0, row)?,
                None => out.push_retracted(&self.plan, key, RowOf { is_final: false, ..row }),
            }
        }
        Ok(())
    }
}
