//! Event-time windows: assignment, state, firing.
//!
//! `lane` hands over the rows that reached the step, each with the watermark before it; windows
//! fire when the watermark passes their end, in the lane (group key = record key) or, merged from
//! all lanes, in `combine`. Invariant: a row is counted in exactly the windows that contain it and
//! were not over when it arrived, however the input is cut into batches.

pub mod aggregate;
pub mod assign;
pub mod calendar;
pub mod rows;
pub mod session;
pub mod state;

use crate::batch::Groups;
use crate::codec::Reader;
use crate::error::Result;
use crate::group::key::KeyCodec;
use aggregate::{Accumulators, AggregatePlan, Input, Order};
use assign::Aligned;
use rows::ResultRows;
use session::{Gaps, SessionWindows};
use state::AlignedWindows;
use std::sync::Arc;

/// How rows are cut into windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowKind {
    /// Tumbling, hopping, cumulating, calendar days and the whole window.
    Aligned(Aligned),
    /// Sessions.
    Session(Gaps),
}

/// What a window step does, fixed for a pipeline's life.
#[derive(Debug)]
pub struct WindowPlan {
    /// How rows are cut into windows.
    pub kind: WindowKind,
    /// Group key columns.
    pub key: KeyCodec,
    /// Aggregates.
    pub aggregates: Vec<AggregatePlan>,
    /// Their column names.
    pub names: Vec<String>,
    /// Whether changed rows leave at each commit.
    pub updates: bool,
}

/// Rows on their way into windows. All but `rows` is dense over the batch.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals<'a> {
    /// The rows, by number in the batch.
    pub rows: &'a [u32],
    /// Group of each row.
    pub groups: &'a Groups,
    /// Watermark before each row.
    pub watermarks_ms: &'a [i64],
    /// Aggregate inputs.
    pub inputs: &'a [Input<'a>],
    /// Event time, partition and offset.
    pub order: &'a Order<'a>,
}

impl Arrivals<'_> {
    /// Group key of `row` and its hash.
    #[must_use]
    pub fn key(&self, row: u32) -> (&[u8], u64) {
        self.groups.key(self.groups.of_row[row as usize])
    }
}

/// What became of arriving rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Rows that were counted.
    pub applied: u64,
    /// Windows they missed together.
    pub missed: u64,
    /// Rows late for every window; the last of them was over from this watermark on.
    pub late: Vec<(u32, i64)>,
    /// Rows in no window.
    pub no_window: u64,
}

/// Window state of a lane whose windows are its own, or of the combine stage.
#[derive(Debug)]
pub enum Windows {
    /// Tumbling, hopping, cumulating, calendar days and the whole window.
    Aligned(AlignedWindows),
    /// Sessions.
    Session(SessionWindows),
}

impl Windows {
    /// No windows yet. `alone`: of a lane whose windows are its own, not of the combine stage.
    #[must_use]
    pub fn new(plan: &Arc<WindowPlan>, alone: bool) -> Self {
        match &plan.kind {
            WindowKind::Aligned(aligned) => Self::Aligned(AlignedWindows::new(plan.clone(), aligned.clone())),
            WindowKind::Session(gaps) => Self::Session(SessionWindows::new(plan.clone(), *gaps, alone)),
        }
    }

    /// Counts rows.
    pub fn apply(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        match self {
            Self::Aligned(windows) => windows.apply(arrivals),
            Self::Session(windows) => windows.apply(arrivals),
        }
    }

    /// The watermark from which on some window is over; `None` when none is open.
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        match self {
            Self::Aligned(windows) => windows.next_fire_ms(),
            Self::Session(windows) => windows.next_fire_ms(),
        }
    }

    /// Appends the rows of the windows that are over at `watermark_ms`, and drops the windows that
    /// are over at `purge_ms` (which is at most `watermark_ms`).
    pub fn fire(&mut self, watermark_ms: i64, purge_ms: i64, out: &mut ResultRows) -> Result<()> {
        match self {
            Self::Aligned(windows) => windows.fire(watermark_ms, purge_ms, out),
            Self::Session(windows) => windows.fire(watermark_ms, |_| false, out),
        }
    }

    /// Appends the rows of all open windows, which stay: the input ended, the clock did not move.
    pub fn fire_at_end(&mut self, out: &mut ResultRows) -> Result<()> {
        match self {
            Self::Aligned(windows) => windows.fire_at_end(out),
            Self::Session(windows) => windows.fire_at_end(Vec::new(), out),
        }
    }

    /// How often the input ended: what the revisions of windows that fire for the first time begin at.
    #[must_use]
    pub const fn ends(&self) -> u32 {
        match self {
            Self::Aligned(windows) => windows.ends(),
            Self::Session(windows) => windows.ends(),
        }
    }

    /// Ends the epoch: rows of changed windows leave (`updates`), the digest is brought up to date.
    pub fn seal(&mut self, out: &mut ResultRows) -> Result<u64> {
        match self {
            Self::Aligned(windows) => windows.seal(out),
            Self::Session(windows) => Ok(windows.seal()),
        }
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        match self {
            Self::Aligned(windows) => windows.commit(),
            Self::Session(windows) => windows.commit(),
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        match self {
            Self::Aligned(windows) => windows.rollback(),
            Self::Session(windows) => windows.rollback(),
        }
    }

    /// Appends the state.
    pub fn save(&self, out: &mut Vec<u8>) {
        match self {
            Self::Aligned(windows) => windows.save(out),
            Self::Session(windows) => windows.save(out),
        }
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Reader<'_>) -> Result<()> {
        match self {
            Self::Aligned(windows) => windows.load(saved),
            Self::Session(windows) => windows.load(saved),
        }
    }

    /// Windows that have rows and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        match self {
            Self::Aligned(windows) => windows.open_windows(),
            Self::Session(windows) => windows.open_windows(),
        }
    }

    /// Bytes held, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        match self {
            Self::Aligned(windows) => windows.byte_len(),
            Self::Session(windows) => windows.byte_len(),
        }
    }
}

/// Accumulators of one slot each, for sessions and for merging a window's slices.
fn no_accumulators(plan: &WindowPlan) -> Accumulators {
    Accumulators::new(&plan.aggregates)
}
