//! Where lanes' windows meet: merged per key and window, fired at the minimum watermark.
//!
//! `pipeline` hands over what the lanes gathered whenever a window could fire and at the end of
//! every epoch. Lateness was judged in the lanes, so nothing is dropped here that a lane accepted,
//! except partials of windows that are over for every lane. A session waits for the open sessions of
//! other lanes that it will become one with, unless their lane is idle. Invariant: rows handed over = rows
//! merged + rows too late.

use crate::codec::Write;
use crate::error::Result;
use crate::flow::Held;
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::state::Contents;
use crate::watermark::Minimum;
use crate::window::ends::Ends;
use crate::window::rows::ResultRows;
use crate::window::session::{SessionWindows, Waiting};
use crate::window::{WindowPlan, Windows};
use std::sync::Arc;

/// A lane that meets others.
#[derive(Debug)]
pub struct Meeting<'l> {
    /// What it holds.
    pub held: &'l mut Held,
    /// Whether nothing waits for it, while others go on.
    pub is_idle: bool,
}

/// State of the combine stage.
#[derive(Debug)]
pub struct Combine {
    windows: Windows,
    /// Minimum watermark the stage last fired at, ms; never falls.
    watermark_ms: i64,
    /// Rows in partials that came when their windows were gone for good.
    too_late: u64,
    /// Minimum watermark up to which all has left, ms; not kept, since the next advance tells it again.
    left_ms: i64,
    /// `watermark_ms` and `too_late` at the last commit.
    committed: (i64, u64),
}

impl Combine {
    /// Nothing merged yet.
    #[must_use]
    pub fn new(plan: &Arc<WindowPlan>) -> Self {
        let (windows, watermark_ms) = (Windows::new(plan, false), i64::MIN);
        Self { windows, watermark_ms, too_late: 0, left_ms: watermark_ms, committed: (watermark_ms, 0) }
    }

    /// Merges what `lanes` hold, where a window could be over, and fires at `minimum`. False when `rows` are full: then it is to
    /// be called again before anything else arrives.
    pub fn advance(&mut self, lanes: &mut [Meeting<'_>], minimum: Minimum, rows: &mut ResultRows) -> Result<bool> {
        self.watermark_ms = self.watermark_ms.max(minimum.active_ms);
        let partials = lanes.iter().filter_map(|lane| lane.held.partial_fires_ms());
        let next = partials.chain(self.windows.next_fire_ms()).min();
        let sessions = matches!(self.windows, Windows::Session(_));
        let due = next.is_some_and(|next| next <= self.watermark_ms) || self.windows.early_at(self.watermark_ms);
        if sessions || due {
            self.take(lanes.iter_mut().map(|lane| &mut *lane.held), rows)?;
        }
        let has_left = match &mut self.windows {
            Windows::Aligned(windows) => {
                windows.fire(self.watermark_ms, minimum.all_ms.min(self.watermark_ms), rows)?
            }
            Windows::Session(windows) => {
                let waiting: Vec<&SessionWindows> =
                    lanes.iter().filter(|lane| !lane.is_idle).filter_map(|lane| lane.held.open_sessions()).collect();
                let awaited = |over: &Waiting<'_>| waiting.iter().any(|open| open.awaits(over));
                windows.fire(self.watermark_ms, awaited, rows)?
            }
            Windows::Sliding(_) => true,
        };
        if has_left {
            self.left_ms = self.watermark_ms;
        }
        Ok(has_left)
    }

    /// Merges what `lanes` hold.
    pub fn take<'l>(&mut self, lanes: impl Iterator<Item = &'l mut Held>, rows: &mut ResultRows) -> Result<()> {
        for held in lanes {
            match &mut self.windows {
                Windows::Aligned(windows) => {
                    if let Some(partial) = held.partial() {
                        self.too_late += windows.absorb(partial, rows)?;
                    }
                }
                Windows::Session(windows) => windows.merge(held.take_closed()),
                // Refused by the planner.
                Windows::Sliding(_) => {}
            }
        }
        Ok(())
    }

    /// Appends the rows of all open windows at the end of the input, until `rows` are full: then it gives false, and is to
    /// be called again. The windows stay.
    pub fn end<'l>(&mut self, lanes: impl Iterator<Item = &'l Held>, rows: &mut ResultRows) -> Result<bool> {
        match &mut self.windows {
            Windows::Aligned(windows) => windows.fire_at_end(rows),
            Windows::Session(windows) => {
                let open = lanes.filter_map(Held::open_sessions).flat_map(SessionWindows::open);
                windows.fire_at_end(|| open.collect(), rows)
            }
            Windows::Sliding(_) => Ok(true),
        }
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
        self.left_ms = i64::MIN;
        self.windows.rollback();
    }

    /// Appends the sealed state.
    pub fn save(&self, saving: &mut Saving) {
        saving.out.put_i64(self.watermark_ms);
        saving.out.put_varint(self.too_late);
        self.windows.save(saving);
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        (self.watermark_ms, self.too_late) = saved.newest(|saved| Ok((saved.i64()?, saved.varint()?)))?;
        self.committed = (self.watermark_ms, self.too_late);
        self.windows.load(saved)
    }

    /// What the windows' rows come to.
    #[must_use]
    pub fn contents(&self) -> Contents {
        self.windows.contents()
    }

    /// See [`Windows::ends`].
    #[must_use]
    pub fn ends(&self) -> u32 {
        self.windows.ends()
    }

    /// The minimum watermark up to which all rows have left, ms.
    #[must_use]
    pub fn left_ms(&self) -> i64 {
        self.left_ms
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

    /// Tells lanes whose state was saved by a run that shed nothing which keys there are.
    pub fn tell_keys<'l>(&self, lanes: impl Iterator<Item = &'l mut Held>) {
        if let Windows::Aligned(windows) = &self.windows {
            lanes.for_each(|held| held.learn_admitted(windows));
        }
    }

    /// Shows the open windows.
    pub fn see_open(&self, ends: &mut Ends) {
        self.windows.see_open(ends);
    }

    /// What is held.
    pub fn usage(&mut self) -> Usage {
        self.windows.usage()
    }
}
