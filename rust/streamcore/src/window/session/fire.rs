//! Sessions that are over leave: by the moment they are over at and by key, in pieces of as many rows as there is room for.
//!
//! `session/leave.rs` makes the rows. What has not left is still there, so an epoch may be cut after any piece.
//! Invariant: the rows and their order are the same, however large the pieces are.

use super::leave::emit_plain;
use super::{BUCKET, Closed, SessionSlots, SessionWindows, Waiting, remove};
use crate::error::Result;
use crate::prefetch::{TOGETHER, prefetch};
use crate::state::{Slots, StateTable};
use crate::window::rows::ResultRows;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Sessions on their way out.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Plain ones, the next one last.
    plain: Vec<u32>,
    /// Others, by the watermark they are over at and key.
    others: BTreeMap<(i64, Vec<u8>), Vec<u32>>,
}

/// Sessions that leave at the end of the input, and stay.
#[derive(Debug)]
pub(super) enum Ending {
    /// Plain ones, the next one last.
    Plain(Vec<u32>),
    /// Copies of all, merged with those of the lanes, from which they leave.
    Merged(Box<SessionWindows>),
}

/// Last event and beginning of the key of a session that waits to leave, the latest first; the key's slot; its number.
type InLine = (Reverse<(i64, u128)>, u32, u32);

/// The first bytes of `key`, and whether there are more, as a number: of two that differ the lesser is of the lesser key.
fn beginning(key: &[u8]) -> u128 {
    const BYTES: usize = 15;
    let mut bytes = [0; BYTES + 1];
    let len = key.len().min(BYTES);
    bytes[..len].copy_from_slice(&key[..len]);
    bytes[BYTES] = key.len().min(BYTES + 1) as u8;
    u128::from_be_bytes(bytes)
}

/// Has sessions fetched that leave soon; the next one of `ids` is the last.
#[inline]
fn prefetch_leaving(slots: &SessionSlots, ids: &[u32]) {
    if let Some(at) = ids.len().checked_sub(2 * TOGETHER) {
        prefetch(slots.node(ids[at]));
        slots.values().prefetch(ids[at]);
    }
    if let Some(at) = ids.len().checked_sub(TOGETHER) {
        slots.prefetch(slots.node(ids[at]).slot);
    }
}

impl SessionWindows {
    /// Appends the rows of the sessions that are over at `watermark_ms` and that nobody `awaits`. Stops when `out` is
    /// full: then it gives false, and is to be called again before anything else changes. Where rows may be taken back,
    /// all leave together: those at a commit are of sessions that go on.
    pub fn fire(
        &mut self,
        watermark_ms: i64,
        awaits: impl Fn(&Waiting<'_>) -> bool,
        out: &mut ResultRows,
    ) -> Result<bool> {
        if self.plan.retracts() {
            return out.whole(|out| self.fire_pieces(watermark_ms, awaits, out));
        }
        self.fire_pieces(watermark_ms, awaits, out)
    }

    fn fire_pieces(
        &mut self,
        watermark_ms: i64,
        awaits: impl Fn(&Waiting<'_>) -> bool,
        out: &mut ResultRows,
    ) -> Result<bool> {
        let early = self.early_at(watermark_ms);
        if self.over.is_empty() {
            if !self.leave_over(watermark_ms, awaits, out)? {
                return Ok(false);
            }
        } else {
            // They are no longer among the sessions, so all must leave now. The room that rows have bounds them.
            let closed = self.close(watermark_ms, awaits);
            self.emit(&closed, out)?;
        }
        self.fired_ms = self.fired_ms.max(watermark_ms);
        if early {
            self.emit_changed(out)?;
        }
        Ok(true)
    }

    /// Lets sessions that are over leave until `out` is full; whether all have.
    fn leave_over(
        &mut self,
        watermark_ms: i64,
        awaits: impl Fn(&Waiting<'_>) -> bool,
        out: &mut ResultRows,
    ) -> Result<bool> {
        let (mut awaited, mut more) = (Vec::new(), false);
        while !more {
            more = !self.leave_plain(out)? || !self.leave_others(watermark_ms, &awaits, &mut awaited, out)?;
            if !more {
                let over = self.take_over(watermark_ms);
                if over.is_empty() {
                    break;
                }
                self.line_up(over);
            }
        }
        for id in awaited {
            let slots = self.sessions.bucket(BUCKET).slots_mut();
            let (due_ms, _) = self.gaps.due(slots.node(id), self.alone);
            slots.set_due(id, due_ms);
            self.due.push(due_ms, id);
        }
        Ok(!more)
    }

    /// Puts sessions that are over in the order they leave; none was left of those before.
    fn line_up(&mut self, over: Vec<u32>) {
        if self.alone && self.are_plain(&over) {
            self.leaving.plain = self.in_reverse(&over);
            return;
        }
        let Some(table) = self.sessions.get(BUCKET) else { return };
        for id in over {
            let node = table.slots().node(id);
            let (due_ms, _) = self.gaps.due(node, self.alone);
            self.leaving.others.entry((due_ms, table.key(node.slot).to_vec())).or_default().push(id);
        }
    }

    /// Lets plain sessions leave until `out` is full; whether all have.
    fn leave_plain(&mut self, out: &mut ResultRows) -> Result<bool> {
        if self.leaving.plain.is_empty() {
            return Ok(true);
        }
        let mut plain = std::mem::take(&mut self.leaving.plain);
        let (gaps, table) = (self.gaps, self.sessions.bucket(BUCKET));
        out.reserve(out.room().min(plain.len()));
        while let Some(id) = plain.last().copied().filter(|_| !out.is_full()) {
            prefetch_leaving(table.slots(), &plain);
            emit_plain(&self.plan, gaps, table, (id, self.ends), out)?;
            self.key_bytes -= remove(table, id);
            plain.pop();
        }
        self.leaving.plain = plain;
        Ok(self.leaving.plain.is_empty())
    }

    /// Lets other sessions leave until `out` is full, but for those that somebody `awaits`, which are noted; whether all
    /// have.
    fn leave_others(
        &mut self,
        watermark_ms: i64,
        awaits: impl Fn(&Waiting<'_>) -> bool,
        awaited: &mut Vec<u32>,
        out: &mut ResultRows,
    ) -> Result<bool> {
        while !out.is_full() {
            let Some(((_, key), mut ids)) = self.leaving.others.pop_first() else { return Ok(true) };
            let mut leaving = Vec::new();
            self.sort(&mut ids);
            for id in ids {
                let Some(table) = self.table() else { break };
                if self.gaps.due(table.slots().node(id), self.alone).1 {
                    leaving.extend(self.cut(id, &key, watermark_ms));
                    continue;
                }
                if awaits(&Waiting::in_table(table, id)) {
                    awaited.push(id);
                } else {
                    leaving.push(self.take(id).1);
                }
            }
            leaving.sort_by(|left, right| left.order().cmp(&right.order()));
            self.emit(&leaving, out)?;
        }
        Ok(self.leaving.others.is_empty())
    }

    /// Cuts the first piece off session `id` of `key`; the rest leaves too when that is over.
    fn cut(&mut self, id: u32, key: &[u8], watermark_ms: i64) -> Option<Closed> {
        let (slot, whole) = self.take(id);
        let (rest, first) = self.gaps.split_first(whole);
        let id = self.put(slot, rest.session);
        let slots = self.sessions.bucket(BUCKET).slots_mut();
        let (due_ms, _) = self.gaps.due(slots.node(id), self.alone);
        if due_ms <= watermark_ms {
            slots.set_due(id, i64::MIN);
            self.leaving.others.entry((due_ms, key.to_vec())).or_default().push(id);
        }
        first
    }

    /// Takes out the sessions that are over at `watermark_ms` and that nobody `awaits`, and their pieces.
    pub fn close(&mut self, watermark_ms: i64, awaits: impl Fn(&Waiting<'_>) -> bool) -> Vec<Closed> {
        let mut all = std::mem::take(&mut self.over);
        loop {
            let mut over = self.take_over(watermark_ms);
            if over.is_empty() {
                break;
            }
            self.sort(&mut over);
            for id in over {
                let is_cut = self.gaps.due(self.sessions.bucket(BUCKET).slots().node(id), self.alone).1;
                let (slot, session) = self.take(id);
                if is_cut {
                    let (rest, first) = self.gaps.split_first(session);
                    all.extend(first);
                    self.put(slot, rest.session);
                } else {
                    all.push(session);
                }
            }
        }
        // Rows of one key and the same bounds leave in this order, in whatever order their sessions were found to be over.
        all.sort_by(|left, right| left.order().cmp(&right.order()));
        let (left, closed): (Vec<Closed>, Vec<Closed>) = all.into_iter().partition(|closed| awaits(&closed.waiting()));
        for Closed { key, session } in left {
            self.put_back(&key, session);
        }
        closed
    }

    /// Takes the sessions that are over at `watermark_ms`, or of which a piece is, out of `due`, in no order.
    fn take_over(&mut self, watermark_ms: i64) -> Vec<u32> {
        let (mut entries, mut over) = (self.due.take(watermark_ms), Vec::new());
        if entries.is_empty() {
            return over;
        }
        let (gaps, slots) = (self.gaps, self.sessions.bucket(BUCKET).slots_mut());
        while let Some((due_ms, id)) = entries.pop() {
            if let Some((_, id)) = entries.len().checked_sub(TOGETHER).map(|at| entries[at]) {
                prefetch(slots.node(id));
            }
            let node = slots.node(id);
            if node.due_ms != due_ms {
                continue;
            }
            let (over_at_ms, _) = gaps.due(node, self.alone);
            if over_at_ms > watermark_ms {
                slots.set_due(id, over_at_ms);
                self.due.push(over_at_ms, id);
            } else {
                slots.set_due(id, i64::MIN);
                over.push(id);
            }
        }
        over
    }

    /// Puts sessions of one slot in the order of their events, so that of equal ones always the same comes first.
    fn sort(&self, ids: &mut [u32]) {
        if let Some(table) = self.table() {
            ids.sort_unstable_by_key(|id| (table.slots().node(*id).slot, table.slots().node(*id).place()));
        }
    }

    /// Whether all there is to know of sessions is in their columns, and none is to be cut.
    fn are_plain(&self, ids: &[u32]) -> bool {
        let is_plain = |table: &StateTable<SessionSlots>, id: &u32| {
            let node = table.slots().node(*id);
            node.is_plain() && !self.gaps.due(node, self.alone).1
        };
        !self.plan.retracts() && self.table().is_none_or(|table| ids.iter().all(|id| is_plain(table, id)))
    }

    /// Plain sessions by last event, then by key and start: the order they leave in, backwards.
    fn in_reverse(&self, ids: &[u32]) -> Vec<u32> {
        let Some(table) = self.table() else { return ids.to_vec() };
        let slots: Vec<u32> = ids.iter().map(|id| table.slots().node(*id).slot).collect();
        let mut waiting: Vec<InLine> = Vec::with_capacity(ids.len());
        for (ids, slots) in ids.chunks(TOGETHER).zip(slots.chunks(TOGETHER)) {
            table.prefetch_all(slots);
            table.prefetch_long(slots);
            waiting.extend(ids.iter().zip(slots).map(|(id, slot)| {
                (Reverse((table.slots().node(*id).last_ms, beginning(table.key(*slot)))), *slot, *id)
            }));
        }
        let then = |slot: u32, id: u32| (table.key(slot), table.slots().node(id).place());
        waiting.sort_unstable_by(|left, right| {
            left.0.cmp(&right.0).then_with(|| then(right.1, right.2).cmp(&then(left.1, left.2)))
        });
        waiting.into_iter().map(|(.., id)| id).collect()
    }

    /// See [`crate::window::Windows::fire_at_end`]. `open` gives the lanes' open sessions, to be merged in.
    pub fn fire_at_end(&mut self, open: impl FnOnce() -> Vec<Closed>, out: &mut ResultRows) -> Result<bool> {
        if self.plan.retracts() {
            self.emit_open(out)?;
            return Ok(true);
        }
        let mut ending = self.ending.take().unwrap_or_else(|| self.begin_ending(open()));
        let is_over = match &mut ending {
            Ending::Plain(ids) => self.leave_at_end(ids, out)?,
            Ending::Merged(copies) => copies.fire(i64::MAX, |_| false, out)?,
        };
        if is_over {
            self.ends += 1;
        } else {
            self.ending = Some(ending);
        }
        Ok(is_over)
    }

    fn begin_ending(&self, open: Vec<Closed>) -> Ending {
        let all = self.all();
        if self.alone && open.is_empty() && self.are_plain(&all) {
            return Ending::Plain(self.in_reverse(&all));
        }
        let mut copies = Self::new(self.plan.clone(), self.gaps, false);
        copies.ends = self.ends;
        copies.merge(self.open());
        copies.merge(open);
        copies.alone = self.alone;
        copies.rebuild_due();
        Ending::Merged(Box::new(copies))
    }

    fn leave_at_end(&self, ids: &mut Vec<u32>, out: &mut ResultRows) -> Result<bool> {
        out.reserve(out.room().min(ids.len()));
        let Some(table) = self.table() else { return Ok(true) };
        while let Some(id) = ids.last().copied().filter(|_| !out.is_full()) {
            prefetch_leaving(table.slots(), ids);
            emit_plain(&self.plan, self.gaps, table, (id, self.ends), out)?;
            ids.pop();
        }
        Ok(ids.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Few bytes, at the ends of their range, so that keys begin with one another.
        #[test]
        fn beginnings_are_in_the_order_of_keys(
            left in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..20),
            other in proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(255)], 0..20),
            shared in 0_usize..20,
        ) {
            let right: Vec<u8> = left.iter().take(shared).chain(&other).copied().collect();
            let order = beginning(&left).cmp(&beginning(&right));
            prop_assert!(order.is_eq() || order == left.cmp(&right));
            // Those of keys that differ are one only where both are long.
            prop_assert!(order.is_ne() || left == right || left.len().min(right.len()) > 15);
        }
    }
}
