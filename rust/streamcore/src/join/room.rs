//! Which rows of one lane there is no room for in a join, where rows are shed.
//!
//! A lane asks before it hands rows over. How long a join holds a row depends on how far the other input has been read
//! too, which no record decides; so a row counts until the clock of its own lane has passed every time it can be matched
//! at. A table, and an as-of join of any distance, hold the latest row of each key for good: those are never turned
//! away. Invariant: which rows are follows from the lane's records alone.

use super::{Arrivals, JoinPlan, Side};
use crate::batch::Values;
use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::room::{Room, Usage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows go together by this part of the time that they are held.
const STRETCHES: i64 = 16;

/// Bytes of a saved stretch, at least.
const STRETCH_BYTES_MIN: usize = 10;

/// The rows of one lane that a join may hold.
#[derive(Debug)]
pub struct JoinRoom {
    plan: Arc<JoinPlan>,
    side: Side,
    room: Room,
    /// How long after its time a row is held, by the lane's clock, ms.
    held_ms: i64,
    living: Living,
    /// As of the last commit.
    committed: Living,
}

/// Rows that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Living {
    usage: Usage,
    /// What goes when the lane's clock reaches a time, ms.
    due: BTreeMap<i64, Usage>,
}

impl JoinRoom {
    /// No rows yet of `side`; none where rows of that side are not held for a certain time.
    #[must_use]
    pub fn new(plan: &Arc<JoinPlan>, side: Side, room: Room) -> Option<Self> {
        let held_ms = plan.held_ms(side)?;
        let (living, committed) = (Living::default(), Living::default());
        Some(Self { plan: plan.clone(), side, room, held_ms, living, committed })
    }

    /// The bounds.
    #[must_use]
    pub const fn room(&self) -> Room {
        self.room
    }

    /// Takes rows one after the other. Gives those, rising, for which there is no room; rows that the join will not hold
    /// are none of them.
    pub fn take(&mut self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        let mut full = Vec::new();
        for row in arrivals.rows {
            let (at, watermark_ms) = (*row as usize, arrivals.watermarks_ms[*row as usize]);
            let time_ms = self.plan.join_time_ms(arrivals.event_times_ms[at]);
            let is_late = time_ms.saturating_add(self.plan.allowed_lateness_ms) <= watermark_ms;
            if is_late || arrivals.has_null_key(*row) && !self.plan.keeps_alone(self.side) {
                continue;
            }
            self.living.forget(watermark_ms);
            let entry = Usage::entry(byte_len(arrivals, *row));
            if self.room.fits(self.living.usage + entry) {
                self.living.add(self.due_ms(time_ms), entry);
            } else {
                full.push(*row);
            }
        }
        full
    }

    /// The lane's clock at which a row of `time_ms` counts no more: the next full stretch.
    fn due_ms(&self, time_ms: i64) -> i64 {
        let stretch_ms = (self.held_ms / STRETCHES).max(1);
        let until_ms = time_ms.saturating_add(self.held_ms).saturating_add(stretch_ms - 1);
        until_ms - until_ms.rem_euclid(stretch_ms)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed.clone_from(&self.living);
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.living.clone_from(&self.committed);
    }

    /// Appends what counts.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_varint(self.living.due.len() as u64);
        for (due_ms, usage) in &self.living.due {
            out.put_i64(*due_ms);
            out.put_varint(usage.entries);
            out.put_varint(usage.key_bytes);
        }
    }

    /// Reads what `save` wrote; it counts as committed.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.living = Living::load(saved)?;
        self.commit();
        Ok(())
    }

    /// Passes over what `save` wrote, where no room is asked for any more.
    pub fn skip(saved: &mut Reader<'_>) -> Result<()> {
        Living::load(saved).map(|_| ())
    }
}

impl Living {
    fn add(&mut self, due_ms: i64, entry: Usage) {
        self.usage += entry;
        *self.due.entry(due_ms).or_default() += entry;
    }

    /// Takes out what is due at `watermark_ms`.
    fn forget(&mut self, watermark_ms: i64) {
        while let Some(first) = self.due.first_entry().filter(|first| *first.key() <= watermark_ms) {
            self.usage -= first.remove();
        }
    }

    fn load(saved: &mut Reader<'_>) -> Result<Self> {
        let mut living = Self::default();
        for _ in 0..saved.count(STRETCH_BYTES_MIN)? {
            let (due_ms, entries, key_bytes) = (saved.i64()?, saved.varint()?, saved.varint()?);
            living.add(due_ms, Usage { entries, key_bytes, ..Usage::default() });
        }
        Ok(living)
    }
}

/// Bytes of a row's key and texts.
fn byte_len(arrivals: &Arrivals<'_>, row: u32) -> usize {
    let texts = arrivals.columns.iter().map(|column| match &column.values {
        Values::Bytes(values) => values.get(row as usize).len(),
        _ => 0,
    });
    arrivals.key(row).0.len() + texts.sum::<usize>()
}
