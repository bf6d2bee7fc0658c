//! Sessions of all keys in columns, as the values of a state table.
//!
//! `session/mod.rs` joins and closes them. A session has a number, by which its bounds and aggregates are found; a key
//! has the numbers of its sessions. An event that makes one longer changes it where it is; what most sessions do not
//! have is kept apart. A key may have any number of sessions, so looking up, undo and closing cost what they touch.
//! Invariant: the list of a key is sorted by its sessions' last events: those over come first, and what may join an
//! event is next to one another.

mod find;
pub mod grow;
pub mod partials;

use super::more::More;
use super::pieces::{Cells, Pieces, digest_of_cell};
use super::value::{Link, Session, digest_of_session};
use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::prefetch::{TOGETHER, prefetch};
use crate::state::{Slots, clear_for_next};
use crate::window::aggregate::Accumulators;
use partials::Partials;
use smallvec::SmallVec;
use std::collections::BTreeSet;

/// Bounds of a session, and what there is to know of it before its aggregates; one line of memory.
#[derive(Debug, Clone)]
#[repr(align(64))]
pub struct Node {
    /// Event time of the first event, ms.
    pub start_ms: i64,
    /// Event time of the last event, ms.
    pub last_ms: i64,
    /// When to look whether it is over; `i64::MIN` when it is gone. See `due.rs`.
    pub due_ms: i64,
    /// Number of the cell of its first aggregates; see `pieces.rs`.
    pub cell: i64,
    /// The lane of its only link, which is the session's stretch and has no clock; without meaning where there is `more`.
    pub lane: i32,
    /// Slot of its key.
    pub slot: u32,
    /// Epoch in which it was made, or marked before a change.
    epoch: u32,
    /// Tells sessions of the same time apart; the one that came later has the higher number.
    nth: u32,
    /// Epoch in which it was made; an earlier one when it is gone.
    born: u32,
    /// What a plain session does not have.
    more: Option<Box<More>>,
}

impl Node {
    /// Whether this is all of it: one link without a clock, one cell, nothing written.
    pub const fn is_plain(&self) -> bool {
        self.more.is_none()
    }

    /// Whether this is all of it, of `lane` and in `cell`.
    pub const fn is_plain_of(&self, lane: i32, cell: i64) -> bool {
        self.is_plain() && self.lane == lane && self.cell == cell
    }

    /// Where it lies in the list of its key.
    pub const fn place(&self) -> Place {
        Place { last_ms: self.last_ms, start_ms: self.start_ms, nth: self.nth }
    }
}

/// Where a session lies in the list of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    last_ms: i64,
    start_ms: i64,
    nth: u32,
}

/// How many numbers ahead of use the place of one that is given again is fetched.
const FREE_AHEAD: usize = 4;

/// Numbers of the sessions of a key, by last event, first event and age.
#[derive(Debug, Clone, Default)]
#[repr(align(32))]
struct List {
    ids: SmallVec<[u32; 4]>,
    /// No session here is longer, ms.
    longest_ms: i64,
}

/// Bytes of a key with one plain session, beside the key and its values.
pub const KEY_BYTES: usize = size_of::<List>() + size_of::<Node>();

/// A session as of the last commit: its bounds, where the mark of its aggregates ends, and what plain ones do not have.
#[derive(Debug, Clone)]
struct Marked {
    id: u32,
    start_ms: i64,
    last_ms: i64,
    mark_end: usize,
    more: Option<Box<More>>,
}

/// The sessions of every key.
#[derive(Debug, Clone)]
pub struct SessionSlots {
    lists: Vec<List>,
    /// By number.
    nodes: Vec<Node>,
    /// Aggregates of the first cell, by number.
    values: Accumulators,
    /// Numbers to be given again.
    free: Vec<u32>,
    epoch: u32,
    /// Sessions of the last commit that were changed where they are, and the marks of their aggregates.
    marked: Vec<Marked>,
    marks: Vec<u8>,
    /// Bytes of what plain sessions do not have, in `marked`.
    marked_bytes: usize,
    /// Sessions of the last commit that were taken out since; undo puts them back.
    taken: Vec<u32>,
    /// Sessions whose rows do not say all, by slot.
    changed: BTreeSet<(u32, u32)>,
    /// Accumulators with one empty slot, to start a session from, and its mark.
    empty: Accumulators,
    blank: Vec<u8>,
    /// Bytes of what plain sessions do not have.
    more_bytes: usize,
    /// Lists that are not empty.
    filled: usize,
    /// What was handed over of sessions; only where they are, epoch by epoch.
    partials: Option<Box<Partials>>,
}

impl SessionSlots {
    /// No lists. `empty` holds one empty slot.
    pub fn new(empty: Accumulators) -> Self {
        let (mut values, mut blank) = (empty.clone(), Vec::new());
        empty.mark(0, &mut blank);
        values.truncate(0);
        Self {
            lists: Vec::new(),
            nodes: Vec::new(),
            values,
            free: Vec::new(),
            epoch: 1,
            marked: Vec::new(),
            marks: Vec::new(),
            marked_bytes: 0,
            taken: Vec::new(),
            changed: BTreeSet::new(),
            empty,
            blank,
            more_bytes: 0,
            filled: 0,
            partials: None,
        }
    }

    /// Accumulators of a session without events.
    pub fn empty_values(&self) -> Accumulators {
        self.empty.clone()
    }

    /// Aggregates of the first cell of each session.
    pub const fn values(&self) -> &Accumulators {
        &self.values
    }

    /// The same, to be changed where [`start`](Self::start) or [`extend`](Self::extend) gave the number.
    pub fn values_mut(&mut self) -> &mut Accumulators {
        &mut self.values
    }

    /// Bounds of session `id`.
    pub fn node(&self, id: u32) -> &Node {
        &self.nodes[id as usize]
    }

    /// Notes when to look whether session `id` is over.
    pub fn set_due(&mut self, id: u32, due_ms: i64) {
        self.nodes[id as usize].due_ms = due_ms;
    }

    /// Has the last session of a slot some places behind the first of `slots` fetched.
    #[inline]
    pub fn prefetch_ahead(&self, slots: &[u32]) {
        if let Some(slot) = slots.get(2 * TOGETHER) {
            prefetch(&self.lists[*slot as usize]);
        }
        if let Some(id) = slots.get(TOGETHER).and_then(|slot| self.list(*slot).last()) {
            prefetch(self.node(*id));
            self.values.prefetch(*id);
        }
    }

    /// Links of session `id`.
    pub fn links(&self, id: u32) -> impl Iterator<Item = Link> {
        let node = self.node(id);
        let plain = Link { lane: node.lane, first_ms: node.start_ms, last_ms: node.last_ms, clock_ms: i64::MIN };
        let links: &[Link] = node.more.as_ref().map_or(&[], |more| &more.links);
        node.is_plain().then_some(plain).into_iter().chain(links.iter().copied())
    }

    /// Numbers of the sessions in `slot`.
    pub fn list(&self, slot: u32) -> &[u32] {
        &self.lists[slot as usize].ids
    }

    /// A new plain session of one event in `slot`, after the table was touched. Its aggregates are empty.
    pub fn start(&mut self, slot: u32, time_ms: i64, cell: i64, lane: i32) -> u32 {
        let id = self.add(Node {
            start_ms: time_ms,
            last_ms: time_ms,
            due_ms: i64::MIN,
            cell,
            lane,
            slot,
            epoch: self.epoch,
            nth: 0,
            born: self.epoch,
            more: None,
        });
        self.note_changed(id);
        id
    }

    /// Makes plain session `id` reach to `time_ms`, after the table was touched; no other session of its key may lie
    /// between.
    #[inline]
    pub fn extend(&mut self, id: u32, time_ms: i64) {
        self.mark_session(id);
        self.reach(id, time_ms);
    }

    /// Puts `session` into `slot`, after the table was touched; gives its number.
    pub fn put(&mut self, slot: u32, session: Session) -> u32 {
        let Session { start_ms, last_ms, links, pieces, changed, written, before } = session;
        let (cell, values, later) = pieces.into_parts();
        let lane = links.first().map_or(0, |link| link.lane);
        let more = More { links, later, changed, written }.boxed((start_ms, last_ms));
        let id = self.add(Node {
            start_ms,
            last_ms,
            due_ms: i64::MIN,
            cell,
            lane,
            slot,
            epoch: self.epoch,
            nth: 0,
            born: self.epoch,
            more,
        });
        self.values.merge(id, &values, 0);
        self.note_before(id, before);
        id
    }

    /// Copy of session `id`.
    pub fn copy(&self, id: u32) -> Session {
        self.session(id, self.node(id).more.clone())
    }

    /// Session `id`, of whose parts `more` are those that plain ones do not have.
    fn session(&self, id: u32, more: Option<Box<More>>) -> Session {
        let (node, mut values) = (self.node(id), self.empty.clone());
        values.merge(0, &self.values, id);
        let (start_ms, last_ms) = (node.start_ms, node.last_ms);
        let plain = || {
            let links = vec![Link { lane: node.lane, first_ms: start_ms, last_ms, clock_ms: i64::MIN }];
            More { links, later: Cells::new(), changed: false, written: None }
        };
        let More { links, later, changed, written } = more.map_or_else(plain, |more| *more);
        let pieces = Pieces::from_parts(node.cell, values, later);
        Session { start_ms, last_ms, links, pieces, changed, written, before: self.before(id) }
    }

    /// Takes session `id` out, after the table was touched.
    pub fn take(&mut self, id: u32) -> Session {
        if self.node(id).born != self.epoch {
            let session = self.copy(id);
            self.remove(id);
            return session;
        }
        // Undo drops it: nothing of it needs to stay, and what it has may be much.
        self.unlink(id);
        let more = self.nodes[id as usize].more.take();
        let session = self.session(id, more);
        self.release(id);
        session
    }

    /// Drops session `id`, after the table was touched.
    pub fn remove(&mut self, id: u32) {
        self.unlink(id);
        if self.node(id).born == self.epoch {
            self.release(id);
        } else {
            self.forget_partials(id);
            self.taken.push(id);
        }
    }

    /// Gives `node` a number and a place, behind all of the same time.
    fn add(&mut self, mut node: Node) -> u32 {
        let ids = &self.lists[node.slot as usize].ids;
        if ids.last().is_some_and(|last| self.node(*last).place() >= node.place()) {
            let after = ids.partition_point(|id| self.node(*id).place() <= Place { nth: u32::MAX, ..node.place() });
            let before = after.checked_sub(1).map(|at| self.node(ids[at]).place());
            let equal = before.filter(|place| Place { nth: 0, ..*place } == node.place());
            node.nth = equal.map_or(0, |place| place.nth + 1);
        }
        let ahead = self.free.len().checked_sub(FREE_AHEAD).map(|at| self.free[at]);
        ahead.iter().for_each(|id| prefetch(self.node(*id)));
        let id = self.free.pop().unwrap_or_else(|| {
            self.values.push_empty();
            self.nodes.len() as u32
        });
        match self.nodes.get_mut(id as usize) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        self.link(id);
        id
    }

    /// Takes back the number of a session that is in no list.
    fn release(&mut self, id: u32) {
        self.forget_partials(id);
        self.values.restore(id, &mut Reader::new(&self.blank));
        let node = &mut self.nodes[id as usize];
        (node.more, node.born) = (None, self.epoch.wrapping_sub(1));
        self.free.push(id);
    }

    /// Puts session `id` into the list of its key.
    fn link(&mut self, id: u32) {
        let node = self.node(id);
        let (slot, place, length_ms) = (node.slot as usize, node.place(), node.last_ms - node.start_ms);
        let before = |other: &u32| self.node(*other).place() < place;
        let ids = &self.lists[slot].ids;
        let at = if ids.last().is_none_or(before) { ids.len() } else { ids.partition_point(before) };
        self.count_more(id, true);
        let list = &mut self.lists[slot];
        list.longest_ms = if list.ids.is_empty() { length_ms } else { list.longest_ms.max(length_ms) };
        self.filled += usize::from(list.ids.is_empty());
        list.ids.insert(at, id);
    }

    /// Takes session `id` out of the list of its key.
    fn unlink(&mut self, id: u32) {
        let (slot, place) = (self.node(id).slot as usize, self.node(id).place());
        let ids = &self.lists[slot].ids;
        let at = if ids[0] == id { 0 } else { ids.partition_point(|other| self.node(*other).place() < place) };
        debug_assert_eq!(ids[at], id);
        self.count_more(id, false);
        self.nodes[id as usize].due_ms = i64::MIN;
        self.lists[slot].ids.remove(at);
        self.filled -= usize::from(self.lists[slot].ids.is_empty());
    }

    /// Counts what session `id` has and plain ones have not, in or out.
    fn count_more(&mut self, id: u32, added: bool) {
        let node = &self.nodes[id as usize];
        let Some(more) = &node.more else { return };
        let (bytes, entry) = (self.bytes_of(more), (node.slot, id));
        if added {
            self.more_bytes += bytes;
            if more.changed {
                self.changed.insert(entry);
            }
        } else {
            self.more_bytes -= bytes;
            self.changed.remove(&entry);
        }
    }

    /// Numbers of the sessions whose rows do not say all, by slot.
    pub fn changed(&self) -> impl Iterator<Item = u32> {
        self.changed.iter().map(|(_, id)| *id)
    }

    fn digest_of(&self, id: u32, lane: impl Fn(Link) -> Link) -> u64 {
        self.values.prefetch(id);
        let (node, more) = (self.node(id), self.node(id).more.as_deref());
        let later = more.into_iter().flat_map(|more| &more.later);
        let pieces = later.fold(digest_of_cell(node.cell, &self.values, id), |sum, (cell, values)| {
            sum.wrapping_add(digest_of_cell(*cell, values, 0))
        });
        let written = more.and_then(|more| more.written.as_deref());
        let changed = more.is_some_and(|more| more.changed);
        digest_of_session((node.start_ms, node.last_ms), self.links(id).map(lane), pieces, changed, written)
    }

    /// Sessions made since the last commit and still there; undo drops them.
    fn born(&self) -> Vec<u32> {
        let ids = 0..self.nodes.len() as u32;
        ids.filter(|id| self.node(*id).born == self.epoch).collect()
    }

    /// Number of sessions in all slots.
    pub fn count(&self) -> usize {
        self.nodes.len() - self.free.len() - self.taken.len()
    }

    /// Sessions made, changed and taken out since the last commit.
    #[cfg(test)]
    pub fn changes(&self) -> usize {
        self.born().len() + self.marked.len() + self.taken.len()
    }
}

impl Slots for SessionSlots {
    fn push_empty(&mut self) {
        self.lists.push(List::default());
    }
    fn truncate(&mut self, len: usize) {
        self.lists.truncate(len);
    }
    fn prefetch(&self, slot: u32) {
        prefetch(&self.lists[slot as usize]);
    }
    /// Nothing: sessions are marked one by one.
    fn mark(&self, _slot: u32, _out: &mut Vec<u8>) {}
    fn restore(&mut self, _slot: u32, _mark: &mut Reader<'_>) {}
    fn commit(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        for (at, id) in taken.iter().enumerate() {
            if let Some(id) = taken.get(at + TOGETHER) {
                prefetch(self.node(*id));
                self.values.prefetch(*id);
            }
            self.release(*id);
        }
        clear_for_next(&mut self.marked);
        clear_for_next(&mut self.marks);
        self.marked_bytes = 0;
        self.epoch = self.epoch.wrapping_add(1);
    }
    fn rollback(&mut self) {
        for id in self.born() {
            self.unlink(id);
            self.release(id);
        }
        let (marked, marks, taken) =
            (std::mem::take(&mut self.marked), std::mem::take(&mut self.marks), std::mem::take(&mut self.taken));
        let gone: BTreeSet<u32> = taken.iter().copied().collect();
        let mut start = 0;
        for Marked { id, start_ms, last_ms, mark_end, more } in marked {
            if !gone.contains(&id) {
                self.unlink(id);
            }
            self.values.restore(id, &mut Reader::new(&marks[start..mark_end]));
            start = mark_end;
            let node = &mut self.nodes[id as usize];
            (node.start_ms, node.last_ms, node.more) = (start_ms, last_ms, more);
            if !gone.contains(&id) {
                self.link(id);
            }
        }
        taken.into_iter().for_each(|id| self.link(id));
        self.marked_bytes = 0;
        self.epoch = self.epoch.wrapping_add(1);
        self.restore_partials();
    }
    fn digest(&self, slot: u32) -> u64 {
        self.list(slot).iter().fold(0, |sum, id| sum.wrapping_add(self.digest_of(*id, |link| link)))
    }
    fn content(&self, slot: u32) -> u64 {
        let of_lane_0 = |link| Link { lane: 0, ..link };
        self.list(slot).iter().fold(0, |sum, id| sum.wrapping_add(self.digest_of(*id, of_lane_0)))
    }
    fn encode(&self, slot: u32, out: &mut Vec<u8>) {
        out.put_varint(self.list(slot).len() as u64);
        self.list(slot).iter().for_each(|id| self.copy(*id).encode(out));
    }
    fn decode(&mut self, slot: u32, saved: &mut Reader<'_>) -> Result<()> {
        for _ in 0..saved.count(17)? {
            let session = Session::decode(&self.empty, saved)?;
            self.put(slot, session);
        }
        Ok(())
    }
    fn byte_len(&self) -> usize {
        let nodes = self.nodes.len() * size_of::<Node>() + self.free.len() * 4;
        self.lists.len() * size_of::<List>() + nodes + self.values.byte_len() + self.changed.len() * 8 + self.more_bytes
    }
    fn undo_len(&self) -> usize {
        self.marks.len() + self.marked.len() * size_of::<Marked>() + self.marked_bytes + self.taken.len() * 4
    }
    fn is_vacant(&self, slot: u32) -> bool {
        self.list(slot).is_empty()
    }
    fn vacant(&self) -> usize {
        self.lists.len() - self.filled
    }
}
