//! Where lanes' windows meet: merged per key and window, fired at the minimum watermark.
//!
//! `pipeline` hands over what the lanes gathered whenever a window could fire and at the end of
//! every epoch. Lateness was judged in the lanes, so nothing is dropped here that a lane accepted,
//! except partials of windows that are over for every lane. Invariant: rows handed over = rows
//! merged + rows too late.

use crate::codec::{Reader, Write};
use crate::error::Result;
use crate::lane::Lane;
use crate::watermark::Minimum;
use crate::window::rows::ResultRows;
use crate::window::{WindowPlan, Windows};
use std::sync::Arc;

/// State of the combine stage.
#[derive(Debug)]
pub struct Combine {
    windows: Windows,
    /// Minimum watermark the stage last fired at, ms; never falls.
    watermark_ms: i64,
    /// Rows in partials that came when their windows were gone for good.
    too_late: u64,
    /// `watermark_ms` and `too_late` at the last commit.
    committed: (i64, u64),
}

impl Combine {
    /// Nothing merged yet.
    #[must_use]
    pub fn new(plan: &Arc<WindowPlan>) -> Self {
        Self { windows: Windows::new(plan), watermark_ms: i64::MIN, too_late: 0, committed: (i64::MIN, 0) }
    }

    /// Merges what `lanes` hold and fires, if a window is over at `minimum`.
    pub fn advance<'l>(
        &mut self,
        lanes: impl Iterator<Item = &'l mut Lane>,
        minimum: Minimum,
        rows: &mut ResultRows,
    ) -> Result<()> {
        let mut lanes: Vec<&mut Lane> = lanes.collect();
        self.watermark_ms = self.watermark_ms.max(minimum.active_ms);
        let partials = lanes.iter().filter_map(|lane| lane.partial_fires_ms());
        let next = partials.chain(self.windows.next_fire_ms()).min();
        if next.is_some_and(|next| next <= self.watermark_ms) {
            self.take(lanes.iter_mut().map(|lane| &mut **lane), rows)?;
        }
        self.windows.fire(self.watermark_ms, minimum.all_ms.min(self.watermark_ms), rows)
    }

    /// Merges what `lanes` hold.
    pub fn take<'l>(&mut self, lanes: impl Iterator<Item = &'l mut Lane>, rows: &mut ResultRows) -> Result<()> {
        for lane in lanes {
            if let Some(partial) = lane.partial() {
                self.too_late += self.windows.absorb(partial, rows)?;
            }
        }
        Ok(())
    }

    /// Appends the rows of all open windows at the end of the input.
    pub fn end(&mut self, rows: &mut ResultRows) -> Result<()> {
        self.windows.fire_at_end(rows)
    }

    /// Ends the epoch: changed rows leave. Gives the digest.
    pub fn seal(&mut self, rows: &mut ResultRows) -> Result<u64> {
        self.windows.seal(rows)
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed = (self.watermark_ms, self.too_late);
        self.windows.commit();
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        (self.watermark_ms, self.too_late) = self.committed;
        self.windows.rollback();
    }

    /// Appends the sealed state.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.put_i64(self.watermark_ms);
        out.put_varint(self.too_late);
        self.windows.save(out);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        self.watermark_ms = saved.i64()?;
        self.too_late = saved.varint()?;
        self.committed = (self.watermark_ms, self.too_late);
        self.windows.load(saved)
    }

    /// The minimum watermark fired at, ms.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.watermark_ms
    }

    /// Rows of partials that came when their windows were gone for good.
    #[must_use]
    pub fn late_after_combine(&self) -> u64 {
        self.too_late
    }

    /// Windows with merged rows that have not fired.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        self.windows.open_windows()
    }

    /// Bytes of state, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.windows.byte_len()
    }
}
