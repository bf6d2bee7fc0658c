//! A session that is cut grows where it is.
//!
//! `session/arrive.rs` asks for each event that belongs to one session which is not plain, or is in another cell than it.
//! Taking a session out and putting it back costs as much as it has cells, so one that never ends would cost the square
//! of its events. Invariant: a session's rows and digest are then what they are when the event
//! is joined to it by itself.

use super::{Marked, More, SessionSlots};
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use crate::window::session::gaps::Gaps;
use crate::window::session::pieces::Cells;
use crate::window::session::value::Link;

/// Where the values of an event are added.
#[derive(Debug)]
pub enum Grown<'s> {
    /// To the first cell, in slot `id` of [`SessionSlots::values_mut`].
    First,
    /// To slot 0 of a later one.
    Later(&'s mut Accumulators),
}

impl SessionSlots {
    /// Bytes of what a session has and plain ones have not.
    pub(super) fn bytes_of(&self, more: &More) -> usize {
        more.byte_len(self.empty.heap_len() + size_of::<(i64, Accumulators)>())
    }

    /// Keeps session `id` as it was at the last commit, before its first change since.
    pub(super) fn mark_session(&mut self, id: u32) {
        self.note_changed(id);
        let node = &mut self.nodes[id as usize];
        if node.epoch == self.epoch {
            return;
        }
        node.epoch = self.epoch;
        self.values.mark(id, &mut self.marks);
        let (node, mark_end) = (&self.nodes[id as usize], self.marks.len());
        let more = node.more.clone();
        self.marked_bytes += more.as_deref().map_or(0, |more| self.bytes_of(more));
        self.marked.push(Marked { id, start_ms: node.start_ms, last_ms: node.last_ms, mark_end, more });
    }

    /// Makes session `id` reach to an event of `lane` at `time_ms`, so far ahead of the clock that no session it touches
    /// is over; no other session of its key may lie between. The table was touched. `None`, and nothing done, where it is
    /// not by its one stretch without a clock that the event belongs to it, or the event is before its first cell.
    pub fn grow(&mut self, gaps: Gaps, id: u32, (time_ms, cell): (i64, i64), lane: i32) -> Option<Grown<'_>> {
        let node = self.node(id);
        // Links are by clock, so those without one come first.
        let without_clock = self.links(id).enumerate().take_while(|(_, link)| link.clock_ms == i64::MIN);
        let mut open = without_clock.filter(|(_, link)| link.lane == lane);
        let (at, link) = open.next()?;
        let touches = gaps.touch((link.first_ms, link.last_ms), (time_ms, time_ms));
        if open.next().is_some() || !touches || cell < node.cell {
            return None;
        }
        drop(open);
        self.mark_session(id);
        self.count_more(id, false);
        let grown = Link { first_ms: link.first_ms.min(time_ms), last_ms: link.last_ms.max(time_ms), ..link };
        let node = &mut self.nodes[id as usize];
        let plain = || Box::new(More { links: vec![link], later: Cells::new(), changed: false, written: None });
        let more = node.more.get_or_insert_with(plain);
        more.links[at] = grown;
        if more.links.len() > 1 && grown != link {
            more.links.retain(|known| *known == grown || !grown.covers(known));
        }
        if cell > node.cell {
            more.cell_mut(cell, &self.empty);
        }
        self.count_more(id, true);
        self.reach(id, time_ms);
        let node = &mut self.nodes[id as usize];
        match node.more.as_mut().filter(|_| cell > node.cell) {
            Some(more) => Some(Grown::Later(more.cell_mut(cell, &self.empty))),
            None => Some(Grown::First),
        }
    }

    /// Sets the bounds of session `id`, which was marked, so that `time_ms` is in it.
    pub(super) fn reach(&mut self, id: u32, time_ms: i64) {
        let node = &mut self.nodes[id as usize];
        node.start_ms = node.start_ms.min(time_ms);
        node.last_ms = node.last_ms.max(time_ms);
        let (list, length_ms) = (&mut self.lists[node.slot as usize], node.last_ms - node.start_ms);
        list.longest_ms = list.longest_ms.max(length_ms);
    }
}
