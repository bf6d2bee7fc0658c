//! What sessions take, and whether there is room for another.
//!
//! `session/mod.rs` asks row by row, since a row may join what the row before it began. Invariant: the sessions that
//! count are those not over at the clock before the row, whenever the clock was told.

use super::SessionWindows;
use super::due::Entry;
use super::slots::KEY_BYTES;
use crate::room::{Room, Usage};
use crate::state::Slots;
use crate::window::Arrivals;
use crate::window::aggregate::Accumulators;

impl SessionWindows {
    /// Bytes that a session which is its key's only one takes, beside the key and what its values grow to; `empty` holds
    /// one empty slot.
    #[must_use]
    pub fn entry_bytes(empty: &Accumulators) -> usize {
        KEY_BYTES + empty.byte_len() + size_of::<Entry>()
    }

    /// The room, if the rows might fill it. They are not counted together then: those that are shed must leave no key.
    pub(super) fn tight_room(&self, arrivals: &Arrivals<'_>) -> Option<Room> {
        self.plan.room.filter(|room| !room.fits_any(self.entries(), arrivals.rows.len(), arrivals.key_len_max()))
    }

    /// Whether an event that is not late would be a session of its own for which there is no room.
    pub(super) fn is_full(&mut self, room: &Room, (key, hash): (&[u8], u64), time_ms: i64, watermark_ms: i64) -> bool {
        if self.reached((key, hash), time_ms, watermark_ms).is_some() {
            return false;
        }
        // Only what is not over counts, whatever the clock was told last.
        if self.next_fire_ms().is_some_and(|over_at_ms| over_at_ms <= watermark_ms) {
            self.over = self.close(watermark_ms, |_| false);
        }
        !room.fits(self.entries() + Usage::entry(key.len()))
    }

    /// The sessions and their keys.
    fn entries(&self) -> Usage {
        Usage { entries: self.open_windows() as u64, key_bytes: self.key_bytes, ..Usage::default() }
    }

    /// See [`crate::window::Windows::usage`].
    pub fn usage(&mut self) -> Usage {
        self.sessions.usage().beside() + self.entries() + Usage::bytes(self.due.byte_len())
    }
}
