//! The pushes under way: which is decoded, which applied, and what has come of them.
//!
//! `workers.rs` keeps it behind a lock. Invariant: places are those of the pushes that are not applied yet, oldest first.

use crate::batch::Batch;
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{OutputBatch, OutputKind, Pipeline};
use crate::raw::RawBatch;
use crate::table;
use crate::watermark::Now;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::thread;

/// Bytes of records under way, beyond which the next push waits until others are applied.
pub const BYTES_UNDER_WAY_MAX: usize = 128 << 20;

/// Bytes of records under way up to which pushes do not wait however many they are: some milliseconds of work, so that
/// the threads do not run out of it before the caller, who is one of many that want a core, has its turn again.
const BYTES_AT_HAND: usize = 8 << 20;

/// Pushes under way at most, also where they have hardly any bytes.
const PUSHES_MAX: usize = 64;

/// One push that was handed in.
pub(super) struct Push {
    pub number: u64,
    pub raws: Vec<RawBatch>,
    pub now: Now,
}

/// One push whose records are decoded.
pub(super) struct Decoded {
    pub bytes: usize,
    pub records: u64,
    pub raws: Vec<RawBatch>,
    pub batches: Vec<Vec<Batch>>,
    pub now: Now,
}

/// Records of a push that was applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// All of them.
    pub read: u64,
    /// Those that were refused; not those that were shed, which nothing is wrong with.
    pub rejected: u64,
}

impl Counts {
    pub(super) fn new(read: u64, outputs: &[OutputBatch]) -> Self {
        let refused = outputs.iter().filter(|output| output.kind == OutputKind::Rejected);
        Self { read, rejected: refused.map(|output| table::rejected_rows(&output.batch)).sum() }
    }
}

/// Why a push failed.
pub(super) enum Failure {
    Error(Error),
    Panic(Box<dyn Any + Send>),
}

/// Whose turn it is to use the pipeline.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The next push's.
    #[default]
    Next,
    /// A push is being applied.
    Applying,
    /// Rows of the push that was applied last are still to leave: none is applied until they have.
    Leaving,
}

impl Turn {
    /// Behind what may have left rows that are still to leave.
    pub const fn behind(pipeline: &Pipeline) -> Self {
        if pipeline.has_more() { Self::Leaving } else { Self::Next }
    }
}

/// The pushes under way.
#[derive(Default)]
pub(super) struct Queue {
    /// Not decoded yet, oldest first.
    pub waiting: VecDeque<Push>,
    /// One place for each push that is not applied yet, oldest first; `None` until it is decoded.
    pub places: VecDeque<Option<Decoded>>,
    /// Number of the push at the front of `places`.
    pub first: u64,
    pub turn: Turn,
    /// Bytes of records of all these.
    pub bytes: usize,
    /// Rows of the pushes that were applied, until someone takes them.
    pub outputs: Vec<OutputBatch>,
    /// Records of each of them, and how many were refused.
    pub counts: Vec<Counts>,
    /// Why a push failed, until someone is told.
    pub failure: Option<Failure>,
    /// A push failed since the last rollback: none behind it may be applied.
    pub failed: bool,
    /// The threads are to end.
    pub closing: bool,
}

impl Queue {
    /// The oldest push, if it is decoded and none is being applied; it is from now on.
    pub fn next_to_apply(&mut self) -> Option<Decoded> {
        if self.turn != Turn::Next {
            return None;
        }
        let decoded = self.places.front_mut()?.take()?;
        self.places.pop_front();
        self.first += 1;
        self.turn = Turn::Applying;
        Some(decoded)
    }

    /// The push that was being applied is.
    pub fn applied(
        &mut self,
        (bytes, records): (usize, u64),
        outcome: thread::Result<Result<(Vec<OutputBatch>, Turn)>>,
    ) {
        self.turn = Turn::Next;
        self.bytes = self.bytes.saturating_sub(bytes);
        match outcome {
            Ok(Ok((outputs, turn))) => {
                self.counts.push(Counts::new(records, &outputs));
                self.outputs.extend(outputs);
                self.turn = turn;
            }
            Ok(Err(error)) => self.fail(Failure::Error(error)),
            Err(panic) => self.fail(Failure::Panic(panic)),
        }
    }

    pub fn under_way(&self) -> usize {
        self.places.len() + usize::from(self.turn == Turn::Applying)
    }

    /// Whether a push is being applied, or will be without the caller's doing anything.
    pub fn is_working(&self) -> bool {
        match self.turn {
            Turn::Next => !self.places.is_empty(),
            Turn::Applying => true,
            Turn::Leaving => false,
        }
    }

    /// Whether a push of `bytes` must wait, where `busy` pushes keep all threads busy.
    pub fn is_full(&self, busy: usize, bytes: usize) -> bool {
        let (pushes, bytes) = (self.under_way(), self.bytes + bytes);
        let enough = if bytes <= BYTES_AT_HAND { PUSHES_MAX.max(busy) } else { busy };
        pushes >= enough || pushes > 0 && bytes > BYTES_UNDER_WAY_MAX
    }

    /// Forgets the pushes that are not being applied; one that is being decoded finds no place then.
    pub fn drop_pushes(&mut self) {
        self.first += self.places.len() as u64;
        self.waiting.clear();
        self.places.clear();
        self.bytes = 0;
    }

    pub fn fail(&mut self, failure: Failure) {
        self.drop_pushes();
        self.failure = Some(failure);
        self.failed = true;
    }

    pub fn check(&mut self) -> Result<()> {
        match self.failure.take() {
            Some(Failure::Error(error)) => Err(error),
            Some(Failure::Panic(panic)) => resume_unwind(panic),
            None if self.failed => {
                let message = "an earlier push failed; take the pipeline back to the last commit before the next one";
                Err(Error::new(ErrorKind::Internal, message))
            }
            None => Ok(()),
        }
    }
}

pub(super) fn records(raws: &[RawBatch]) -> u64 {
    raws.iter().map(|raw| raw.len() as u64).sum()
}

pub(super) fn byte_len(raws: &[RawBatch]) -> usize {
    raws.iter().map(RawBatch::byte_len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_panic_goes_on_where_the_caller_is_and_nothing_is_pushed_after_it() {
        let mut queue = Queue { places: VecDeque::from([None, None]), bytes: 7, ..Queue::default() };
        queue.waiting.push_back(Push { number: 1, raws: Vec::new(), now: 0.into() });
        queue.turn = Turn::Applying;
        queue.applied((7, 1), Err(Box::new("on purpose")));
        assert_eq!((queue.under_way(), queue.waiting.len(), queue.bytes, queue.first), (0, 0, 0, 2));
        let panic = catch_unwind(AssertUnwindSafe(|| queue.check())).expect_err("it goes on");
        assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
        assert!(queue.check().expect_err("until a rollback").message.contains("an earlier push failed"));
    }
}
