//! Pieces read in the background, before they are asked for.
//!
//! A thread reads while pieces are wanted, and ends; it may begin again. Invariant: the pieces handed out, and the
//! places behind them, are those of reading one after the other, whatever was read ahead.

use super::{Piece, Records};
use crate::error::Failure;
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::spawn;

/// Where reading stands.
#[derive(Clone, Copy)]
pub struct Place {
    /// Byte after the last record read.
    pub position: u64,
    /// Bytes read behind it.
    pub left: usize,
}

/// A piece, and the place behind it; or the panic that there was instead.
type Read = Result<(Piece, Place), Box<dyn Any + Send>>;

/// The records of a file, and what was read of them.
pub struct Ahead(Arc<Shared>);

struct Shared {
    pieces: Mutex<Pieces>,
    /// Told of every piece that was read.
    read: Condvar,
}

struct Pieces {
    /// Nowhere while the thread reads, and after a panic.
    records: Option<Records>,
    /// Largest bytes of the pieces that are to be read.
    wanted: VecDeque<usize>,
    ready: VecDeque<Read>,
    /// A thread reads, or is about to.
    reading: bool,
}

impl Ahead {
    pub fn new(records: Records) -> Self {
        let (wanted, ready) = Default::default();
        let pieces = Pieces { records: Some(records), wanted, ready, reading: false };
        Self(Arc::new(Shared { pieces: Mutex::new(pieces), read: Condvar::new() }))
    }

    /// Has pieces of at most `bytes_max` bytes read until there are `pieces` that were not handed out.
    pub fn ask(&self, bytes_max: usize, pieces: usize) {
        let mut queue = self.0.lock();
        if queue.records.is_none() && !queue.reading {
            return; // Reading failed; `read` says so.
        }
        while queue.wanted.len() + queue.ready.len() + usize::from(queue.is_read_now()) < pieces {
            queue.wanted.push_back(bytes_max);
        }
        if !queue.reading && !queue.wanted.is_empty() {
            queue.reading = true;
            let shared = self.0.clone();
            spawn(move || shared.work());
        }
    }

    /// The next piece: one that was read ahead, or one of at most `bytes_max` bytes.
    ///
    /// # Panics
    /// As reading it has.
    pub fn read(&self, bytes_max: usize) -> Result<(Piece, Place), Failure> {
        let wait = self.0.read.wait_while(self.0.lock(), |queue| queue.ready.is_empty() && queue.reading);
        let mut queue = wait.unwrap_or_else(PoisonError::into_inner);
        if let Some(read) = queue.ready.pop_front() {
            drop(queue);
            return Ok(read.unwrap_or_else(|panic| resume_unwind(panic)));
        }
        let Some(records) = &mut queue.records else {
            return Err(Failure::Source("reading failed before; open the file again".into()));
        };
        let piece = records.read(bytes_max);
        Ok((piece, records.place()))
    }
}

impl Pieces {
    /// A piece is being read that is neither wanted any more nor ready.
    fn is_read_now(&self) -> bool {
        self.records.is_none()
    }
}

impl Shared {
    /// Who panics with the pieces locked reads them itself, and is not let in again.
    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is wanted.
    fn work(&self) {
        let mut queue = self.lock();
        while let Some(bytes_max) = queue.wanted.pop_front() {
            let Some(mut records) = queue.records.take() else { break };
            drop(queue);
            let read = catch_unwind(AssertUnwindSafe(move || {
                let piece = records.read(bytes_max);
                (piece, records)
            }));
            queue = self.lock();
            let read = read.map(|(piece, records)| {
                let place = records.place();
                queue.records = Some(records);
                (piece, place)
            });
            queue.ready.push_back(read);
            self.read.notify_all();
        }
        queue.wanted.clear();
        queue.reading = false;
        drop(queue);
        self.read.notify_all();
    }
}
