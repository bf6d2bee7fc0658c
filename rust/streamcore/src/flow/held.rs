//! What the steps of one stage remember from row to row.
//!
//! A lane has one for the steps up to the first window, each later stage one of its own. Invariant: `rollback`
//! brings back what there was at the last `commit`.

use crate::codec::{Reader, Write};
use crate::dedupe::{Dedupe, Remembered};
use crate::error::{Error, Result};
use crate::group::Interner;
use crate::partials::PartialRows;
use crate::plan::Step;
use crate::room::Usage;
use crate::saving::{Loading, Saving};
use crate::window::ends::Ends;
use crate::window::rows::ResultRows;
use crate::window::session::{Closed, SessionWindows};
use crate::window::state::AlignedWindows;
use crate::window::{Arrivals, Outcomes, WindowKind, WindowPlan, Windows};
use std::sync::Arc;

/// The state of a stage's steps.
#[derive(Debug)]
pub struct Held {
    /// One a `dedupe` step, in step order.
    pub(super) dedupes: Vec<Dedupe>,
    /// The window step's.
    pub(super) windows: Option<HeldWindows>,
    /// Groups of batches that come without.
    pub(super) interner: Interner,
    /// The state was saved by a run that shed nothing, so which keys were let in is not known.
    forgets_admitted: bool,
}

/// Windows of a stage.
#[derive(Debug)]
pub(super) enum HeldWindows {
    /// They fire here.
    Own(Box<Windows>),
    /// They are merged in `combine`; here is what was not handed over yet. Empty between epochs.
    Partial(Box<AlignedWindows>),
    /// Closed ones are merged in `combine`; `closed` was not handed over yet and is empty between
    /// epochs.
    Sessions { open: Box<SessionWindows>, closed: Vec<Closed> },
    /// As `Partial`, handed over through a topic when an epoch ends, and kept until it is durable.
    PartialByTopic(Box<AlignedWindows>),
    /// As `Sessions`, handed over so: `rows` are what the sealed epoch hands over.
    SessionsByTopic { open: Box<SessionWindows>, closed: Vec<Closed>, rows: PartialRows },
}

impl Held {
    /// Nothing yet. `combine`: windows are handed over to be merged with those of other lanes.
    #[must_use]
    pub fn new(steps: &[Step], combine: bool) -> Self {
        let (mut dedupes, mut windows) = (Vec::new(), None);
        for step in steps {
            match step {
                Step::Dedupe { plan, .. } => dedupes.push(Dedupe::new(plan)),
                Step::Window(window) => windows = Some(HeldWindows::new(&window.plan, combine)),
                Step::Filter(_) | Step::Select(_) | Step::MapBatches(_) => {}
            }
        }
        Self { dedupes, windows, interner: Interner::default(), forgets_admitted: false }
    }

    /// Nothing but `windows`.
    pub(super) fn of_windows(windows: Option<HeldWindows>, interner: Interner) -> Self {
        Self { dedupes: Vec::new(), windows, interner, forgets_admitted: false }
    }

    /// Forgets what is over at `watermark_ms`. The rows of windows that fire here are appended to `rows`, which is
    /// not looked at where the stage has none, until these are full: then it gives false, and is to be called again
    /// before anything arrives.
    pub fn advance(&mut self, watermark_ms: i64, rows: Option<&mut ResultRows>) -> Result<bool> {
        for dedupe in &mut self.dedupes {
            dedupe.forget(watermark_ms);
        }
        match (&mut self.windows, rows) {
            (Some(HeldWindows::Own(windows)), Some(rows)) => return windows.fire(watermark_ms, watermark_ms, rows),
            (Some(HeldWindows::Sessions { open, closed } | HeldWindows::SessionsByTopic { open, closed, .. }), _) => {
                closed.append(&mut open.close(watermark_ms, |_| false));
            }
            (Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)), _) => {
                partial.forget_admitted(watermark_ms);
            }
            _ => {}
        }
        Ok(true)
    }

    /// Appends the rows of all open windows that fire here, at the end of the input, until `rows` are full: then it gives
    /// false, and is to be called again. The windows stay.
    pub fn end(&mut self, rows: &mut ResultRows) -> Result<bool> {
        match &mut self.windows {
            Some(HeldWindows::Own(windows)) => windows.fire_at_end(rows),
            _ => Ok(true),
        }
    }

    /// How often the input ended for the windows that fire here.
    #[must_use]
    pub fn ends(&self) -> u32 {
        match &self.windows {
            Some(HeldWindows::Own(windows)) => windows.ends(),
            _ => 0,
        }
    }

    /// Windows to be merged in `combine`, if that is where they go.
    pub fn partial(&mut self) -> Option<&mut AlignedWindows> {
        match &mut self.windows {
            Some(HeldWindows::Partial(partial)) => Some(partial),
            _ => None,
        }
    }

    /// Takes the keys of `merged` as let in, where it was not remembered which were.
    pub fn learn_admitted(&mut self, merged: &AlignedWindows) {
        if let Some(partial) = std::mem::take(&mut self.forgets_admitted).then(|| self.partial()).flatten() {
            partial.admit_all(merged);
        }
    }

    /// Takes the sessions that closed and are to be merged in `combine`.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        match &mut self.windows {
            Some(HeldWindows::Sessions { closed, .. }) => std::mem::take(closed),
            _ => Vec::new(),
        }
    }

    /// The open sessions that will be merged in `combine`.
    #[must_use]
    pub fn open_sessions(&self) -> Option<&SessionWindows> {
        match &self.windows {
            Some(HeldWindows::Sessions { open, .. }) => Some(open),
            _ => None,
        }
    }

    /// The watermark from which on a window not handed over yet is over.
    #[must_use]
    pub fn partial_fires_ms(&self) -> Option<i64> {
        match &self.windows {
            Some(HeldWindows::Partial(partial)) => partial.next_fire_ms(),
            _ => None,
        }
    }

    /// Ends the epoch: changed rows of windows that fire here leave. Gives the digest.
    pub fn seal(&mut self, rows: Option<&mut ResultRows>) -> Result<u64> {
        let mut digest = 0_u64;
        for dedupe in &mut self.dedupes {
            digest = digest.rotate_left(7).wrapping_add(dedupe.seal());
        }
        let windows = match (&mut self.windows, rows) {
            (Some(HeldWindows::Own(windows)), Some(rows)) => windows.seal(rows)?,
            (Some(HeldWindows::Sessions { open, .. }), _) => open.seal(),
            (Some(HeldWindows::SessionsByTopic { open, closed, rows }), _) => {
                open.hand_over(&std::mem::take(closed), rows);
                open.seal()
            }
            (Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)), _) => partial.seal_admitted(),
            _ => 0,
        };
        Ok(digest.rotate_left(7).wrapping_add(windows))
    }

    /// Keeps the epoch.
    pub fn commit(&mut self) {
        self.dedupes.iter_mut().for_each(Dedupe::commit);
        match &mut self.windows {
            Some(HeldWindows::Own(windows)) => windows.commit(),
            Some(HeldWindows::Sessions { open, .. }) => open.commit(),
            Some(HeldWindows::SessionsByTopic { open, rows, .. }) => {
                open.commit();
                rows.clear();
            }
            Some(HeldWindows::Partial(partial)) => partial.commit_admitted(),
            Some(HeldWindows::PartialByTopic(partial)) => {
                partial.commit_admitted();
                partial.clear();
            }
            None => {}
        }
    }

    /// Takes the epoch back.
    pub fn rollback(&mut self) {
        self.dedupes.iter_mut().for_each(Dedupe::rollback);
        match &mut self.windows {
            Some(HeldWindows::Own(windows)) => windows.rollback(),
            Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)) => partial.rollback(),
            Some(HeldWindows::Sessions { open, closed }) => {
                open.rollback();
                closed.clear();
            }
            Some(HeldWindows::SessionsByTopic { open, closed, rows }) => {
                open.rollback();
                closed.clear();
                rows.clear();
            }
            None => {}
        }
    }

    /// Appends the state.
    pub fn save(&self, saving: &mut Saving) {
        saving.out.put_varint(self.dedupes.len() as u64);
        self.dedupes.iter().for_each(|dedupe| dedupe.save(saving));
        match &self.windows {
            Some(HeldWindows::Own(windows)) => windows.save(saving),
            Some(HeldWindows::Sessions { open, .. } | HeldWindows::SessionsByTopic { open, .. }) => open.save(saving),
            Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)) => partial.save_admitted(saving),
            None => {}
        }
    }

    /// Reads what `save` wrote, where nothing was held yet.
    pub fn load(&mut self, saved: &mut Loading<'_>) -> Result<()> {
        if saved.newest(Reader::varint)? != self.dedupes.len() as u64 {
            return Err(Error::state("saved state has other dedupe steps; it is of another pipeline"));
        }
        for dedupe in &mut self.dedupes {
            dedupe.load(saved)?;
        }
        match &mut self.windows {
            Some(HeldWindows::Own(windows)) => windows.load(saved),
            Some(HeldWindows::Sessions { open, .. } | HeldWindows::SessionsByTopic { open, .. }) => open.load(saved),
            Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)) => {
                self.forgets_admitted = partial.load_admitted(saved)?;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Windows that have rows here and are not over.
    #[must_use]
    pub fn open_windows(&self) -> usize {
        match &self.windows {
            Some(HeldWindows::Own(windows)) => windows.open_windows(),
            Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)) => partial.open_windows(),
            Some(HeldWindows::Sessions { open, .. } | HeldWindows::SessionsByTopic { open, .. }) => open.open_windows(),
            None => 0,
        }
    }

    /// What each `dedupe` step holds, in step order.
    pub fn remembered(&self) -> impl Iterator<Item = Remembered> {
        self.dedupes.iter().map(Dedupe::remembered)
    }

    /// See [`Interner::rested`].
    #[must_use]
    pub fn batches_not_interned(&self) -> u64 {
        self.interner.rested()
    }

    /// Shows the open windows.
    pub fn see_open(&self, ends: &mut Ends) {
        match &self.windows {
            Some(HeldWindows::Own(windows)) => windows.see_open(ends),
            Some(HeldWindows::Partial(partial) | HeldWindows::PartialByTopic(partial)) => partial.see_open(ends),
            Some(HeldWindows::Sessions { open, .. } | HeldWindows::SessionsByTopic { open, .. }) => open.see_open(ends),
            None => {}
        }
    }

    /// What each step holds, in step order: the window comes last.
    pub fn usages(&mut self) -> Vec<Usage> {
        let mut usages: Vec<Usage> = self.dedupes.iter().map(Dedupe::usage).collect();
        usages.extend(self.windows.as_mut().map(|windows| match windows {
            HeldWindows::Own(windows) => windows.usage(),
            HeldWindows::Partial(partial) => partial.usage(),
            HeldWindows::Sessions { open, .. } => open.usage(),
            HeldWindows::PartialByTopic(partial) => until_committed(partial.usage()),
            HeldWindows::SessionsByTopic { open, rows, .. } => open.usage() + undo_bytes(rows.byte_len()),
        }));
        usages
    }
}

impl HeldWindows {
    fn new(plan: &Arc<WindowPlan>, combine: bool) -> Self {
        if !combine {
            return Self::Own(Box::new(Windows::new(plan, true)));
        }
        match &plan.kind {
            // Refused by the planner: no row of a trailing window is merged with one of another lane.
            WindowKind::Sliding(_) => Self::Own(Box::new(Windows::new(plan, true))),
            WindowKind::Aligned(aligned) => Self::Partial(Box::new(AlignedWindows::new(plan.clone(), aligned.clone()))),
            WindowKind::Session(gaps) => {
                Self::Sessions { open: Box::new(SessionWindows::new(plan.clone(), *gaps, false)), closed: Vec::new() }
            }
        }
    }

    /// Counts rows. Those that leave early where windows fire here are appended to `early`; without it none does.
    pub fn apply(&mut self, arrivals: &Arrivals<'_>, early: Option<&mut ResultRows>) -> Result<Outcomes> {
        let full = self.full(arrivals);
        let rows: Vec<u32> = if full.is_empty() {
            Vec::new()
        } else {
            arrivals.rows.iter().copied().filter(|row| full.binary_search(row).is_err()).collect()
        };
        let arrivals = if full.is_empty() { arrivals } else { &Arrivals { rows: &rows, ..*arrivals } };
        let mut outcomes = match (self, early) {
            (Self::Own(windows), Some(early)) => windows.apply(arrivals, early)?,
            (Self::Own(windows), None) => windows.apply_final(arrivals),
            (Self::Partial(partial) | Self::PartialByTopic(partial), _) => partial.apply(arrivals),
            (Self::Sessions { open, .. } | Self::SessionsByTopic { open, .. }, _) => open.apply(arrivals),
        };
        outcomes.full.extend(full);
        Ok(outcomes)
    }

    /// The rows that would add an entry for which there is no room.
    fn full(&mut self, arrivals: &Arrivals<'_>) -> Vec<u32> {
        match self {
            Self::Own(windows) => windows.full(arrivals),
            Self::Partial(partial) | Self::PartialByTopic(partial) => partial.full(arrivals),
            Self::Sessions { .. } | Self::SessionsByTopic { .. } => Vec::new(),
        }
    }
}

/// What takes so many bytes until the epoch is durable.
const fn undo_bytes(bytes: usize) -> Usage {
    Usage { entries: 0, key_bytes: 0, bytes: 0, undo_bytes: bytes as u64 }
}

/// What is held until the epoch is durable, so that it is to end when that is much.
fn until_committed(usage: Usage) -> Usage {
    Usage { undo_bytes: usage.undo_bytes + usage.bytes, ..usage }
}
