//! Pieces read in the background, before they are asked for.
//!
//! A thread reads while pieces are wanted, and ends; it may begin again. Invariant: the pieces handed out, and the
//! places behind them, are those of reading one after the other, whatever was read ahead.

use super::{Piece, Records};
use crate::error::Failure;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Where reading stands.
#[derive(Clone, Copy)]
pub struct Place {
    /// Byte after the last record read.
    pub position: u64,
    /// Bytes read behind it.
    pub left: u64,
}

/// A piece, and the place behind it; or the panic that there was instead.
type Outcome = Result<(Piece, Place), Box<dyn Any + Send>>;

/// The records of a file, and what was read of them. For one process: a forked one has no threads.
pub struct Ahead {
    shared: Arc<Shared>,
    process: u32,
}

struct Shared {
    pieces: Mutex<Pieces>,
    /// Told of every piece that was read.
    read: Condvar,
}

struct Pieces {
    /// Nowhere while the thread reads, and after a failure or panic: what was read then is lost.
    records: Option<Records>,
    /// Largest bytes of the pieces that are to be read.
    wanted: VecDeque<usize>,
    ready: VecDeque<Outcome>,
    /// A thread reads, or is about to.
    reading: bool,
}

impl Ahead {
    pub fn new(records: Records) -> Self {
        let (wanted, ready) = Default::default();
        let pieces = Pieces { records: Some(records), wanted, ready, reading: false };
        let shared = Arc::new(Shared { pieces: Mutex::new(pieces), read: Condvar::new() });
        Self { shared, process: process::id() }
    }

    /// Has pieces of at most `bytes_max` bytes read until there are `count` that were not handed out. Where the system
    /// gives no thread they are read when they are asked for.
    pub fn ask(&self, bytes_max: usize, count: usize) {
        if self.process != process::id() {
            return; // `read` says so.
        }
        let mut pieces = self.shared.lock();
        if pieces.records.is_none() && !pieces.reading {
            return; // Reading failed; `read` says so.
        }
        let being_read = usize::from(pieces.records.is_none());
        while pieces.wanted.len() + pieces.ready.len() + being_read < count {
            pieces.wanted.push_back(bytes_max);
        }
        if !pieces.reading && !pieces.wanted.is_empty() {
            let shared = self.shared.clone();
            pieces.reading = Builder::new().name("streamcore-reader".into()).spawn(move || shared.work()).is_ok();
            if !pieces.reading {
                pieces.wanted.clear();
            }
        }
    }

    /// The next piece: one that was read ahead, or one of at most `bytes_max` bytes.
    ///
    /// # Panics
    /// As reading it has.
    pub fn read(&self, bytes_max: usize) -> Result<(Piece, Place), Failure> {
        if self.process != process::id() {
            let message = "the file was opened by the process this one was forked from; open it again here";
            return Err(Failure::Misuse(message.into()));
        }
        let wait = self.shared.read.wait_while(self.shared.lock(), |pieces| pieces.ready.is_empty() && pieces.reading);
        let mut pieces = wait.unwrap_or_else(PoisonError::into_inner);
        if pieces.ready.is_empty() {
            let Some(mut records) = pieces.records.take() else {
                return Err(Failure::Source("reading failed before; open the file again".into()));
            };
            let outcome = catch_unwind(AssertUnwindSafe(|| records.read(bytes_max)));
            let outcome = pieces.keep(records, outcome);
            pieces.ready.push_back(outcome);
        }
        let outcome = pieces.ready.pop_front();
        drop(pieces);
        outcome.expect("there is one").map_err(|panic| resume_unwind(panic))
    }
}

impl Drop for Ahead {
    /// Nobody asks for more.
    fn drop(&mut self) {
        if self.process == process::id() {
            self.shared.lock().wanted.clear();
        }
    }
}

impl Pieces {
    /// Keeps `records` for the next piece if reading this one went well.
    fn keep(&mut self, records: Records, outcome: std::thread::Result<Piece>) -> Outcome {
        let piece = outcome?;
        let place = records.place();
        if piece.is_ok() {
            self.records = Some(records);
        }
        Ok((piece, place))
    }
}

impl Shared {
    /// Nothing panics with the pieces locked: reading is caught.
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is wanted.
    fn work(&self) {
        let mut pieces = self.lock();
        while let Some(bytes_max) = pieces.wanted.pop_front() {
            let Some(mut records) = pieces.records.take() else { break };
            drop(pieces);
            let outcome = catch_unwind(AssertUnwindSafe(|| records.read(bytes_max)));
            pieces = self.lock();
            let outcome = pieces.keep(records, outcome);
            pieces.ready.push_back(outcome);
            self.read.notify_all();
        }
        pieces.wanted.clear();
        pieces.reading = false;
        drop(pieces);
        self.read.notify_all();
    }
}
