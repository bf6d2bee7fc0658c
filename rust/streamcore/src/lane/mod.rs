//! One lane: the state of one input partition, and the steps in their order.
//!
//! `decode` comes before; `combine` and `pipeline` after. A lane sees its records in offset order,
//! alone, so it needs no locks. Invariant: its ledger balances after every call.

mod flow;

use crate::batch::{Batch, Column};
use crate::codec::{Reader, Write};
use crate::dedupe::Dedupe;
use crate::error::{Error, Result};
use crate::group::Interner;
use crate::metrics::Ledger;
use crate::plan::{Plan, Step};
use crate::raw::RawBatch;
use crate::watermark::Clock;
use crate::window::rows::ResultRows;
use crate::window::session::{Closed, SessionWindows};
use crate::window::state::AlignedWindows;
use crate::window::{WindowKind, WindowPlan, Windows};
use flow::Flow;
use std::sync::Arc;

/// Why a record left before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// Too late; by how much more lateness allowed it would have been in time, ms.
    Late {
        /// `WINDOW` or `DEDUPE_HORIZON`.
        reason: &'static str,
        /// Event time, ms.
        event_time_ms: i64,
        /// The missing allowance, ms.
        lateness_ms: i64,
    },
    /// Event time too far ahead, ms.
    Future {
        /// Event time, ms.
        event_time_ms: i64,
        /// Distance to the record's timestamp, ms.
        ahead_ms: i64,
    },
    /// Refused.
    Rejected {
        /// The class.
        reason: &'static str,
        /// What was wrong; quotes no payload.
        detail: String,
        /// Byte in the value.
        at: u32,
    },
}

/// A record that left before the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRow {
    /// Row in the raw batch.
    pub raw_row: u32,
    /// Why.
    pub left: Left,
}

/// What one push brought out of a lane.
#[derive(Debug, Default)]
pub struct LaneOutput {
    /// Rows of windows that fired here.
    pub windows: Option<ResultRows>,
    /// Columns of the rows that reached the end (`Output::Rows`), batch by batch.
    pub rows: Vec<Vec<Column>>,
    /// Raw rows that reached the end (`Output::Records`).
    pub records: Vec<u32>,
    /// Records that left before.
    pub left: Vec<LeftRow>,
}

/// Windows of a lane.
#[derive(Debug)]
enum LaneWindows {
    /// The group key is the record key: they fire here.
    Own(Box<Windows>),
    /// They are merged in `combine`; here is what was not handed over yet. Empty between epochs.
    Partial(Box<AlignedWindows>),
    /// Closed ones are merged in `combine`; `closed` was not handed over yet and is empty between
    /// epochs.
    Sessions { open: Box<SessionWindows>, closed: Vec<Closed> },
}

/// The state of one input partition.
#[derive(Debug)]
pub struct Lane {
    /// The partition's number.
    pub id: i32,
    /// Event-time clock.
    pub clock: Clock,
    /// Where its records went.
    pub ledger: Ledger,
    /// One a `dedupe` step, in step order.
    dedupes: Vec<Dedupe>,
    /// The window step's.
    windows: Option<LaneWindows>,
    /// Groups of batches that come without.
    interner: Interner,
    /// Clock and ledger at the last commit.
    committed: (Clock, Ledger),
}

impl Lane {
    /// A lane that has seen nothing.
    #[must_use]
    pub fn new(id: i32, plan: &Plan) -> Self {
        let clock = Clock::new(plan.clock.out_of_orderness_ms);
        let (mut dedupes, mut windows) = (Vec::new(), None);
        for step in &plan.steps {
            match step {
                Step::Dedupe { within_ms, .. } => dedupes.push(Dedupe::new(*within_ms)),
                Step::Window(window) => windows = Some(LaneWindows::new(&window.plan, plan.combine)),
                Step::Filter(_) | Step::Select(_) => {}
            }
        }
        let (committed, interner) = ((clock.clone(), Ledger::default()), Interner::default());
        Self { id, clock, ledger: Ledger::default(), dedupes, windows, interner, committed }
    }

    /// Runs decoded records through the steps, and fires the lane's own windows.
    pub fn apply(&mut self, plan: &Plan, raw: &RawBatch, batches: Vec<Batch>, now_ms: i64) -> Result<LaneOutput> {
        let mut output = LaneOutput::default();
        self.clock.arrived(now_ms);
        for batch in batches {
            Flow::new(self, plan, raw, &batch, now_ms, &mut output).run()?;
        }
        // In the order they came, whichever step they left at.
        output.left.sort_by_key(|row| row.raw_row);
        self.advance(plan, &mut output)?;
        Ok(output)
    }

    /// Fires and forgets what is over at the clock.
    pub fn advance(&mut self, plan: &Plan, output: &mut LaneOutput) -> Result<()> {
        let watermark_ms = self.clock.watermark_ms();
        for dedupe in &mut self.dedupes {
            dedupe.forget(watermark_ms);
        }
        match &mut self.windows {
            Some(LaneWindows::Own(windows)) => {
                let rows = output.windows.get_or_insert_with(|| ResultRows::new(window_plan(plan)));
                windows.fire(watermark_ms, watermark_ms, rows)?;
            }
            Some(LaneWindows::Sessions { open, closed }) => closed.append(&mut open.close(watermark_ms, |_| false)),
            _ => {}
        }
        Ok(())
    }

    /// Appends the rows of the lane's own open windows at the end of the input.
    pub fn end(&mut self, rows: &mut ResultRows) -> Result<()> {
        match &mut self.windows {
            Some(LaneWindows::Own(windows)) => windows.fire_at_end(rows),
            _ => Ok(()),
        }
    }

    /// Windows to be merged in `combine`, if that is where this lane's go.
    pub fn partial(&mut self) -> Option<&mut AlignedWindows> {
        match &mut self.windows {
            Some(LaneWindows::Partial(partial)) => Some(partial),
            _ => None,
        }
    }

    /// Takes the sessions that closed and are to be merged in `combine`.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        match &mut self.windows {
            Some(LaneWindows::Sessions { closed, .. }) => std::mem::take(closed),
            _ => Vec::new(),
        }
    }

    /// The open sessions that will be merged in `combine`.
    #[must_use]
    pub fn open_sessions(&self) -> Option<&SessionWindows> {
        match &self.windows {
            Some(LaneWindows::Sessions { open, .. }) => Some(open),
            _ => None,
        }
    }

    /// The watermark from which on a window not handed over yet is over.
    #[must_use]
    pub fn partial_fires_ms(&self) -> Option<i64> {
        match &self.windows {
            Some(LaneWindows::Partial(partial)) => partial.next_fire_ms(),
            _ => None,
        }
    }

    /// Ends the epoch: own windows' changed rows leave, the ledger is checked. Gives the digest.
    pub fn seal(&mut self, rows: Option<&mut ResultRows>) -> Result<u64> {
        self.ledger.check(self.id)?;
        let mut digest = 0_u64;
        for dedupe in &mut self.dedupes {
            digest = digest.rotate_left(7).wrapping_add(dedupe.seal());
        }
        let windows = match (&mut self.windows, rows) {
            (Some(LaneWindows::Own(windows)), Some(rows)) => windows.seal(rows)?,
            (Some(LaneWindows::Sessions { open, .. }), _) => open.seal(),
            _ => 0,
        };
        let mut plain = Vec::new();
        self.clock.encode(&mut plain);
        self.ledger.encode(&mut plain);
        Ok(digest.rotate_left(7).wrapping_add(windows) ^ xxhash_rust::xxh3::xxh3_64(&plain))
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.committed = (self.clock.clone(), self.ledger);
        self.dedupes.iter_mut().for_each(Dedupe::commit);
        match &mut self.windows {
            Some(LaneWindows::Own(windows)) => windows.commit(),
            Some(LaneWindows::Sessions { open, .. }) => open.commit(),
            _ => {}
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        (self.clock, self.ledger) = self.committed.clone();
        self.dedupes.iter_mut().for_each(Dedupe::rollback);
        match &mut self.windows {
            Some(LaneWindows::Own(windows)) => windows.rollback(),
            Some(LaneWindows::Partial(partial)) => partial.rollback(),
            Some(LaneWindows::Sessions { open, closed }) => {
                open.rollback();
                closed.clear();
            }
            None => {}
        }
    }

    /// Appends the sealed state.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.clock.encode(out);
        self.ledger.encode(out);
        out.put_varint(self.dedupes.len() as u64);
        self.dedupes.iter().for_each(|dedupe| dedupe.save(out));
        match &self.windows {
            Some(LaneWindows::Own(windows)) => windows.save(out),
            Some(LaneWindows::Sessions { open, .. }) => open.save(out),
            _ => {}
        }
    }

    /// Reads what `save` wrote, into a new lane of the same plan.
    pub fn load(&mut self, plan: &Plan, saved: &mut Reader<'_>) -> Result<()> {
        self.clock = Clock::decode(plan.clock.out_of_orderness_ms, saved)?;
        self.ledger = Ledger::decode(saved)?;
        if saved.varint()? != self.dedupes.len() as u64 {
            return Err(Error::state("saved state has other dedupe steps; it is of another pipeline"));
        }
        for dedupe in &mut self.dedupes {
            dedupe.load(saved)?;
        }
        match &mut self.windows {
            Some(LaneWindows::Own(windows)) => windows.load(saved)?,
            Some(LaneWindows::Sessions { open, .. }) => open.load(saved)?,
            _ => {}
        }
        self.committed = (self.clock.clone(), self.ledger);
        Ok(())
    }

    /// Windows that have rows here and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        match &self.windows {
            Some(LaneWindows::Own(windows)) => windows.open_windows(),
            Some(LaneWindows::Partial(partial)) => partial.open_windows(),
            Some(LaneWindows::Sessions { open, .. }) => open.open_windows(),
            None => 0,
        }
    }

    /// See [`Interner::rested`].
    #[must_use]
    pub fn batches_not_interned(&self) -> u64 {
        self.interner.rested()
    }

    /// Bytes of state, roughly.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        let windows = match &self.windows {
            Some(LaneWindows::Own(windows)) => windows.byte_len(),
            Some(LaneWindows::Partial(partial)) => partial.byte_len(),
            Some(LaneWindows::Sessions { open, .. }) => open.byte_len(),
            None => 0,
        };
        windows + self.dedupes.iter().map(Dedupe::byte_len).sum::<usize>()
    }
}

impl LaneWindows {
    fn new(plan: &Arc<WindowPlan>, combine: bool) -> Self {
        if !combine {
            return Self::Own(Box::new(Windows::new(plan, true)));
        }
        match &plan.kind {
            WindowKind::Aligned(aligned) => Self::Partial(Box::new(AlignedWindows::new(plan.clone(), aligned.clone()))),
            WindowKind::Session(gaps) => {
                Self::Sessions { open: Box::new(SessionWindows::new(plan.clone(), *gaps, false)), closed: Vec::new() }
            }
        }
    }
}

/// The plan of the window step.
///
/// # Panics
/// When there is none; only lanes with windows ask.
fn window_plan(plan: &Plan) -> &WindowPlan {
    let windows = plan.steps.iter().find_map(|step| match step {
        Step::Window(window) => Some(&window.plan),
        _ => None,
    });
    windows.expect("a lane has windows only where the plan has a window step")
}
