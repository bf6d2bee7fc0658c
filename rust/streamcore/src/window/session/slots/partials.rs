//! What was handed over of a lane's sessions, epoch by epoch.
//!
//! Where lanes hand sessions over through a topic, each epoch hands over those that changed in it: their bounds and links
//! as they are, and the aggregates of the epoch's events alone, which begin anew then. Whoever merges them finds the
//! session that one goes on from by its last event, as that was handed over: of two sessions of a lane and key the later
//! one has a later last event, or was never open together with it. Invariant: a session that is not `changed` has no aggregates.

use super::SessionSlots;
use crate::codec::{Reader, Write};
use crate::error::{Error, Result};
use crate::state::Slots;
use crate::window::aggregate::Accumulators;
use crate::window::session::pieces::Pieces;
use crate::window::session::value::{Link, Session};
use hashbrown::HashMap;
use smallvec::{SmallVec, smallvec};

/// In the place of a last event: nothing was handed over.
const NOTHING: i64 = i64::MIN;

/// What was handed over of one session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// Last events of the sessions that it goes on from, as they were handed over, ms.
    pub lasts_ms: SmallVec<[i64; 1]>,
    /// It changed since.
    pub changed: bool,
}

impl Before {
    /// A session of an event that has just come.
    pub fn new_event() -> Self {
        Self { lasts_ms: SmallVec::new(), changed: true }
    }

    /// All of a session with that last event.
    pub fn whole(last_ms: i64) -> Self {
        Self { lasts_ms: smallvec![last_ms], changed: false }
    }

    /// Takes in what was handed over of a session that became one with this.
    pub fn merge(&mut self, other: Self) {
        self.lasts_ms.extend(other.lasts_ms);
        self.changed |= other.changed;
    }
}

/// What was handed over of all sessions, by number.
#[derive(Debug, Clone, Default)]
pub struct Partials {
    /// The last event as it was handed over, ms; or [`NOTHING`].
    lasts_ms: Vec<i64>,
    /// Whether it changed since.
    is_changed: Vec<bool>,
    /// Those that did, and some that are gone.
    changed: Vec<u32>,
    /// Those that go on from several.
    joined: HashMap<u32, SmallVec<[i64; 1]>>,
}

impl Partials {
    fn make_room(&mut self, id: u32) {
        if self.lasts_ms.len() <= id as usize {
            self.lasts_ms.resize(id as usize + 1, NOTHING);
            self.is_changed.resize(id as usize + 1, false);
        }
    }

    fn note_changed(&mut self, id: u32) {
        self.make_room(id);
        if !std::mem::replace(&mut self.is_changed[id as usize], true) {
            self.changed.push(id);
        }
    }

    fn set(&mut self, id: u32, last_ms: i64) {
        self.make_room(id);
        (self.lasts_ms[id as usize], self.is_changed[id as usize]) = (last_ms, false);
        self.joined.remove(&id);
    }
}

impl SessionSlots {
    /// Sessions are handed over epoch by epoch.
    pub fn handing_over(mut self) -> Self {
        self.partials = Some(Box::default());
        self
    }

    /// Session `id` changes.
    #[inline]
    pub(super) fn note_changed(&mut self, id: u32) {
        if let Some(partials) = &mut self.partials {
            partials.note_changed(id);
        }
    }

    /// Session `id` was put in, of which that was handed over.
    pub(super) fn note_before(&mut self, id: u32, before: Before) {
        let Some(partials) = &mut self.partials else { return };
        partials.set(id, before.lasts_ms.first().copied().unwrap_or(NOTHING));
        if before.lasts_ms.len() > 1 {
            partials.joined.insert(id, before.lasts_ms);
        }
        if before.changed {
            partials.note_changed(id);
        }
    }

    /// What was handed over of session `id`.
    pub(super) fn before(&self, id: u32) -> Before {
        let Some(partials) = &self.partials else { return Before::default() };
        let last_ms = partials.lasts_ms.get(id as usize).copied().filter(|last_ms| *last_ms != NOTHING);
        let lasts_ms = partials.joined.get(&id).cloned().unwrap_or_else(|| last_ms.into_iter().collect());
        Before { lasts_ms, changed: partials.is_changed.get(id as usize).copied().unwrap_or(false) }
    }

    /// Session `id` is gone.
    pub(super) fn forget_partials(&mut self, id: u32) {
        if let Some(partials) = &mut self.partials {
            partials.set(id, NOTHING);
        }
    }

    /// All was handed over of the sessions there are, as at every commit.
    pub(super) fn restore_partials(&mut self) {
        let Some(mut partials) = self.partials.take() else { return };
        *partials = Partials::default();
        for id in self.lists.iter().flat_map(|list| &list.ids) {
            partials.set(*id, self.node(*id).last_ms);
        }
        self.partials = Some(partials);
    }

    /// Numbers of the sessions that changed since they were handed over, which they are now: each is to be
    /// [written](Self::encode_partial), and then to [begin anew](Self::begin_anew).
    pub fn take_changed(&mut self) -> Vec<u32> {
        let Some(partials) = &mut self.partials else { return Vec::new() };
        let changed = std::mem::take(&mut partials.changed);
        changed.into_iter().filter(|id| std::mem::take(&mut partials.is_changed[*id as usize])).collect()
    }

    /// Appends session `id`.
    pub fn encode_partial(&self, id: u32, out: &mut Vec<u8>) {
        let (node, more) = (self.node(id), self.node(id).more.as_deref());
        let links: SmallVec<[Link; 1]> = if node.is_plain() { SmallVec::new() } else { self.links(id).collect() };
        put_head((node.start_ms, node.last_ms), &links, &self.before(id).lasts_ms, out);
        out.put_varint(more.map_or(0, |more| more.later.len()) as u64);
        out.put_i64(node.cell);
        self.values.encode(id, out);
        for (cell, values) in more.into_iter().flat_map(|more| &more.later) {
            out.put_i64(*cell);
            values.encode(0, out);
        }
    }

    /// The aggregates of session `id` begin anew, after it was marked or made in this epoch.
    pub fn begin_anew(&mut self, id: u32) {
        self.values.restore(id, &mut Reader::new(&self.blank));
        if self.node(id).more.is_some() {
            self.count_more(id, false);
            let node = &mut self.nodes[id as usize];
            let bounds = (node.start_ms, node.last_ms);
            node.more = node.more.take().and_then(|mut more| {
                more.later.clear();
                more.boxed(bounds)
            });
            self.count_more(id, true);
        }
        let last_ms = self.node(id).last_ms;
        if let Some(partials) = &mut self.partials {
            partials.set(id, last_ms);
        }
    }
}

impl Session {
    /// Appends the session, to be handed over.
    pub fn encode_partial(&self, out: &mut Vec<u8>) {
        put_head((self.start_ms, self.last_ms), &self.links, &self.before.lasts_ms, out);
        self.pieces.encode(out);
    }

    /// Reads what `encode_partial` wrote of a session of `lane`; `empty` holds one empty slot.
    pub fn decode_partial(lane: i32, empty: &Accumulators, saved: &mut Reader<'_>) -> Result<Self> {
        let start_ms = saved.i64()?;
        let length_ms =
            i64::try_from(saved.varint()?).ok().filter(|length_ms| start_ms.checked_add(*length_ms).is_some());
        let Some(length_ms) = length_ms else { return Err(Error::state("a session is longer than all time")) };
        let (last_ms, mut links) = (start_ms + length_ms, Vec::new());
        for _ in 0..saved.count(24)? {
            links.push(Link { lane, first_ms: saved.i64()?, last_ms: saved.i64()?, clock_ms: saved.i64()? });
        }
        if links.is_empty() {
            links.push(Link { lane, first_ms: start_ms, last_ms, clock_ms: i64::MIN });
        }
        let mut before = Before::default();
        for _ in 0..saved.count(8)? {
            before.lasts_ms.push(saved.i64()?);
        }
        let pieces = Pieces::decode(empty, saved)?;
        Ok(Self { start_ms, last_ms, links, pieces, changed: false, written: None, before })
    }
}

fn put_head((start_ms, last_ms): (i64, i64), links: &[Link], before_ms: &[i64], out: &mut Vec<u8>) {
    out.put_i64(start_ms);
    out.put_varint((last_ms - start_ms) as u64);
    out.put_varint(links.len() as u64);
    for link in links {
        [link.first_ms, link.last_ms, link.clock_ms].into_iter().for_each(|time_ms| out.put_i64(time_ms));
    }
    out.put_varint(before_ms.len() as u64);
    before_ms.iter().for_each(|last_ms| out.put_i64(*last_ms));
}
