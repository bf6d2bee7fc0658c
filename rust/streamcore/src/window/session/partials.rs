//! Sessions on their way from a lane to where lanes meet, through a topic.
//!
//! The lane keeps the bounds of its open sessions, by which it judges what is late, and hands over what each epoch added
//! (`slots/partials.rs`). Where lanes meet there is a copy of every lane's open sessions, made of what it handed over, so
//! sessions of lanes become one there just as they do where lanes are in one process. Invariant: once an epoch has been taken in, the
//! copy is what the lane had, and has its aggregates.

use super::slots::SessionSlots;
use super::value::Session;
use super::{BUCKET, Closed, SessionWindows};
use crate::codec::Reader;
use crate::error::{Error, Result};
use crate::partials::PartialRows;
use crate::state::{Buckets, key_hash};

impl SessionWindows {
    /// The same, of a lane that hands its sessions over.
    #[must_use]
    pub fn handing_over(mut self) -> Self {
        let mut empty = super::no_accumulators(&self.plan);
        crate::state::Slots::push_empty(&mut empty);
        self.sessions = Buckets::new(SessionSlots::new(empty).handing_over());
        self
    }

    /// Adds those that changed since they were handed over to `rows`; their aggregates begin anew. `closed` are over.
    pub fn hand_over(&mut self, closed: &[Closed], rows: &mut PartialRows) {
        for Closed { key, session } in closed.iter().filter(|closed| closed.session.before.changed) {
            rows.push(key, |out| session.encode_partial(out));
        }
        if self.table().is_none() {
            return;
        }
        let table = self.sessions.bucket(BUCKET);
        for id in table.slots_mut().take_changed() {
            rows.push(table.key(table.slots().node(id).slot), |out| table.slots().encode_partial(id, out));
            table.slots_mut().begin_anew(id);
        }
    }

    /// Takes in one row that `lane` handed over: the rest of `reader` begins behind it. Where it goes on with a session that is
    /// not there, that is refused, or counted where `incomplete` is given.
    pub fn take_in(&mut self, lane: i32, reader: &mut Reader<'_>, incomplete: Option<&mut u64>) -> Result<()> {
        let key = reader.bytes()?;
        if !self.plan.key.is_valid(key) {
            return Err(Error::state("it holds a key of other columns"));
        }
        let mut session = {
            let empty = self.sessions.bucket(BUCKET).slots().empty_values();
            Session::decode_partial(lane, &empty, reader)?
        };
        if !self.gaps.can_be(&session) {
            return Err(Error::state("it holds a session that there cannot be"));
        }
        let before = std::mem::take(&mut session.before);
        let table = self.sessions.bucket(BUCKET);
        let (slot, _) = table.slot_for_update(key_hash(key), key);
        let slots = table.slots_mut();
        let mut known: Vec<u32> = Vec::new();
        for last_ms in &before.lasts_ms {
            let is_named = |id: &u32| slots.node(*id).last_ms == *last_ms && !known.contains(id);
            let named = slots.list(slot).iter().copied().find(is_named);
            known.extend(named);
        }
        if known.len() < before.lasts_ms.len() {
            let Some(incomplete) = incomplete else {
                return Err(Error::state(
                    "it goes on with a session that is not there: partials before it are missing",
                ));
            };
            *incomplete += 1;
            // What is there within its bounds is of it: those of a lane that are open together do not touch.
            let is_within =
                |id: &u32| session.start_ms <= slots.node(*id).start_ms && slots.node(*id).last_ms <= session.last_ms;
            known = slots.list(slot).iter().copied().filter(is_within).collect();
        }
        for id in known {
            session.pieces.merge(slots.take(id).pieces);
            self.key_bytes -= key.len() as u64;
        }
        self.put(slot, session);
        Ok(())
    }
}
