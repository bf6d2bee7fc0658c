//! Event-time windows: assignment, state, firing.
//!
//! `lane` hands over the rows that reached the step, each with the watermark before it; windows
//! fire when the watermark passes their end, in the lane (group key = record key) or, merged from
//! all lanes, in `combine`. Invariant: a row is counted in exactly the windows that contain it and
//! were not over when it arrived, however the input is cut into batches.

pub mod aggregate;
pub mod assign;
pub mod calendar;
pub mod early;
pub mod ends;
pub mod lost;
mod moving;
pub mod room;
pub mod rows;
pub mod session;
pub mod sliding;
mod slot_cache;
pub mod state;

use crate::batch::Groups;
use crate::error::Result;
use crate::group::key::KeyCodec;
use crate::room::{Room, Usage};
use crate::saving::{Loading, Saving};
use crate::state::{SLOT_BYTES, Slots};
use aggregate::{Accumulators, AggregatePlan, Input, Order, Users};
use assign::Aligned;
use early::Early;
use ends::Ends;
use lost::LostValues;
use rows::ResultRows;
use session::{Gaps, SessionWindows};
use sliding::{SlidingWindows, Trailing};
use state::AlignedWindows;
use std::sync::Arc;

/// How rows are cut into windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowKind {
    /// Tumbling, hopping, cumulating, calendar days and the whole window.
    Aligned(Aligned),
    /// Sessions.
    Session(Gaps),
    /// The trailing window at each event.
    Sliding(Trailing),
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
    /// For each, the functions of the user, where one is of theirs.
    pub users: Option<Users>,
    /// Their column names.
    pub names: Vec<String>,
    /// For each, how many of its values were not to be had.
    pub lost: Arc<[LostValues]>,
    /// Whether rows leave before the last one of a window.
    pub updates: bool,
    /// When they do.
    pub early: Early,
    /// How many entries a lane may hold, where rows beyond it are shed.
    pub room: Option<Room>,
    /// Rows that leave at once; others of windows that are over wait until these are taken.
    pub piece_rows: usize,
}

impl WindowPlan {
    /// Bytes an entry takes beside its key and what its values grow to.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        let mut empty = no_accumulators(self);
        empty.push_empty();
        let slot_bytes = SLOT_BYTES + empty.byte_len() as u64;
        match self.kind {
            WindowKind::Aligned(_) => slot_bytes,
            WindowKind::Session(_) => SLOT_BYTES + SessionWindows::entry_bytes(&empty) as u64,
            // A total of those before it may be kept with an event.
            WindowKind::Sliding(_) => slot_bytes + empty.byte_len() as u64 + SlidingWindows::ENTRY_BYTES as u64,
        }
    }

    /// How often the key of an entry is held.
    #[must_use]
    pub const fn key_copies(&self) -> u64 {
        if matches!(self.kind, WindowKind::Sliding(_)) { 3 } else { 1 }
    }

    /// Whether rows that left early may be taken back: the bounds of a session change.
    #[must_use]
    pub fn retracts(&self) -> bool {
        self.updates && matches!(self.kind, WindowKind::Session(_))
    }
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

    /// Bytes of the longest group key.
    #[must_use]
    pub fn key_len_max(&self) -> usize {
        self.groups.keys.iter().map(<[u8]>::len).max().unwrap_or_default()
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
    /// Rows that would have added an entry for which there is no room.
    pub full: Vec<u32>,
}

impl Outcomes {
    /// Adds what became of later rows.
    fn extend(&mut self, mut later: Self) {
        self.applied += later.applied;
        self.missed += later.missed;
        self.late.append(&mut later.late);
        self.no_window += later.no_window;
        self.full.append(&mut later.full);
    }
}

/// Window state of a lane whose windows are its own, or of the combine stage.
#[derive(Debug)]
pub enum Windows {
    /// Tumbling, hopping, cumulating, calendar days and the whole window.
    Aligned(Box<AlignedWindows>),
    /// Sessions.
    Session(Box<SessionWindows>),
    /// The trailing window at each event.
    Sliding(Box<SlidingWindows>),
}

impl Windows {
    /// No windows yet. `alone`: of a lane whose windows are its own, not of the combine stage.
    #[must_use]
    pub fn new(plan: &Arc<WindowPlan>, alone: bool) -> Self {
        match &plan.kind {
            WindowKind::Aligned(aligned) => {
                Self::Aligned(Box::new(AlignedWindows::firing(plan.clone(), aligned.clone())))
            }
            WindowKind::Session(gaps) => Self::Session(Box::new(SessionWindows::new(plan.clone(), *gaps, alone))),
            WindowKind::Sliding(trailing) => Self::Sliding(Box::new(SlidingWindows::new(plan.clone(), *trailing))),
        }
    }

    /// The rows that would add an entry for which there is no room, rising; to be left out when rows are counted.
    /// Sessions, whose rows join what rows before them added, find out as they count.
    pub fn full(&mut self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        match self {
            Self::Aligned(windows) => windows.full(arrivals),
            Self::Session(_) => Vec::new(),
            Self::Sliding(windows) => windows.full(arrivals),
        }
    }

    /// Counts rows, and appends those that leave early meanwhile.
    pub fn apply(&mut self, arrivals: &Arrivals<'_>, out: &mut ResultRows) -> Result<Outcomes> {
        match self {
            Self::Aligned(windows) => windows.apply_firing(arrivals, out),
            Self::Session(windows) => windows.apply_firing(arrivals, out),
            Self::Sliding(windows) => Ok(windows.apply(arrivals)),
        }
    }

    /// Counts rows without asking whether some leave early: where all are final, or at the end of the input.
    pub fn apply_final(&mut self, arrivals: &Arrivals<'_>) -> Outcomes {
        match self {
            Self::Aligned(windows) => windows.apply(arrivals),
            Self::Session(windows) => windows.apply(arrivals),
            Self::Sliding(windows) => windows.apply(arrivals),
        }
    }

    /// Whether changed rows are to leave early at `watermark_ms`.
    #[must_use]
    pub fn early_at(&self, watermark_ms: i64) -> bool {
        match self {
            Self::Aligned(windows) => windows.early_at(watermark_ms),
            Self::Session(windows) => windows.early_at(watermark_ms),
            Self::Sliding(_) => false,
        }
    }

    /// The watermark from which on some window is over; `None` when none is open.
    #[must_use]
    pub fn next_fire_ms(&self) -> Option<i64> {
        match self {
            Self::Aligned(windows) => windows.next_fire_ms(),
            Self::Session(windows) => windows.next_fire_ms(),
            Self::Sliding(windows) => windows.next_fire_ms(),
        }
    }

    /// Appends the rows of the windows that are over at `watermark_ms` and those that leave early at it, and
    /// drops the windows that are over at `purge_ms` (which is at most `watermark_ms`). Stops when `out` is full: then it
    /// gives false, and is to be called again with the same watermarks before rows are counted.
    pub fn fire(&mut self, watermark_ms: i64, purge_ms: i64, out: &mut ResultRows) -> Result<bool> {
        match self {
            Self::Aligned(windows) => windows.fire(watermark_ms, purge_ms, out),
            Self::Session(windows) => windows.fire(watermark_ms, |_| false, out),
            Self::Sliding(windows) => windows.fire(watermark_ms, out),
        }
    }

    /// Appends the rows of all open windows, which stay: the input ended, the clock did not move. Stops when `out` is
    /// full: then it gives false, and is to be called again before anything else is asked; how far it is is not saved.
    pub fn fire_at_end(&mut self, out: &mut ResultRows) -> Result<bool> {
        match self {
            Self::Aligned(windows) => windows.fire_at_end(out),
            Self::Session(windows) => windows.fire_at_end(Vec::new, out),
            Self::Sliding(windows) => windows.fire_at_end(out),
        }
    }

    /// How often the input ended: what the revisions of windows that fire for the first time begin at.
    #[must_use]
    pub const fn ends(&self) -> u32 {
        match self {
            Self::Aligned(windows) => windows.ends(),
            Self::Session(windows) => windows.ends(),
            Self::Sliding(windows) => windows.ends(),
        }
    }

    /// Ends the epoch: rows of changed windows leave (`updates`), the digest is brought up to date.
    pub fn seal(&mut self, out: &mut ResultRows) -> Result<u64> {
        match self {
            Self::Aligned(windows) => windows.seal(out),
            Self::Session(windows) => windows.seal_leaving(out),
            Self::Sliding(windows) => Ok(windows.seal()),
        }
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        match self {
            Self::Aligned(windows) => windows.commit(),
            Self::Session(windows) => windows.commit(),
            Self::Sliding(windows) => windows.commit(),
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        match self {
            Self::Aligned(windows) => windows.rollback(),
            Self::Session(windows) => windows.rollback(),
            Self::Sliding(windows) => windows.rollback(),
        }
    }

    /// Appends the state.
    pub fn save(&self, saving: &mut Saving) {
        match self {
            Self::Aligned(windows) => windows.save(saving),
            Self::Session(windows) => windows.save(saving),
            Self::Sliding(windows) => windows.save(saving),
        }
    }

    /// Reads what `save` wrote.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        match self {
            Self::Aligned(windows) => windows.load(saved),
            Self::Session(windows) => windows.load(saved),
            Self::Sliding(windows) => windows.load(saved),
        }
    }

    /// Windows that have rows and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        match self {
            Self::Aligned(windows) => windows.open_windows(),
            Self::Session(windows) => windows.open_windows(),
            Self::Sliding(windows) => windows.open_windows(),
        }
    }

    /// Shows the windows that have rows and have not left, but for the whole window, which has no end.
    pub fn see_open(&self, ends: &mut Ends) {
        match self {
            Self::Aligned(windows) => windows.see_open(ends),
            Self::Session(windows) => windows.see_open(ends),
            Self::Sliding(windows) => windows.see_open(ends),
        }
    }

    /// What is held. An entry is a group in a slice of time, a session, or a group's event of a time.
    pub fn usage(&mut self) -> Usage {
        match self {
            Self::Aligned(windows) => windows.usage(),
            Self::Session(windows) => windows.usage(),
            Self::Sliding(windows) => windows.usage(),
        }
    }
}

/// Accumulators of one slot each, for sessions and for merging a window's slices.
fn no_accumulators(plan: &WindowPlan) -> Accumulators {
    Accumulators::new(&plan.aggregates).with_users(plan.users.as_ref())
}
