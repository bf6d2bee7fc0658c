//! Threads that decode and apply pushes while the caller goes on.
//!
//! The binding hands pushes in and takes their rows out. Each thread does what is most urgent: it applies
//! the oldest push if that is decoded and nobody else applies, otherwise it decodes the next one. Where not all rows of
//! a push leave at once, the caller lets the others leave, piece by piece, and no push is applied meanwhile. Invariant:
//! pushes are applied one at a time, in the order in which they were handed in, and none after one that failed.

mod queue;

use super::work;
use super::{OutputBatch, Pipeline};
use crate::decode::Decoder;
use crate::error::{Error, ErrorKind, Result};
use crate::raw::RawBatch;
use crate::watermark::Now;
pub use queue::{BYTES_UNDER_WAY_MAX, Counts};
use queue::{Decoded, Failure, Push, Queue, Turn, byte_len, records};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

struct Shared {
    queue: Mutex<Queue>,
    /// Told that there is work: one thread of each push, all of the end.
    work: Condvar,
    /// The caller is told of each push that was applied, or of a failure.
    done: Condvar,
    pipeline: Mutex<Pipeline>,
    decoders: Arc<Vec<Decoder>>,
    /// See [`Workers::is_due`].
    is_due: AtomicBool,
    /// See [`Workers::changed_bytes`].
    changed_bytes: AtomicU64,
    /// Threads that apply the lanes of one push.
    threads: usize,
}

/// A pipeline, and the threads that push to it. Used by one thread at a time, in one process: a forked one has no threads.
pub struct Workers {
    shared: Arc<Shared>,
    /// Threads that were started, with the first push. Nobody waits for them: they end when nothing is left to do.
    threads: usize,
    threads_max: usize,
    process: u32,
}

impl Workers {
    /// For `pipeline`, with as many threads as it may use.
    #[must_use]
    pub fn new(pipeline: Pipeline) -> Self {
        let threads = pipeline.threads();
        let shared = Shared {
            queue: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
            decoders: pipeline.decoders(),
            is_due: AtomicBool::new(false),
            changed_bytes: AtomicU64::new(0),
            pipeline: Mutex::new(pipeline),
            threads: threads.saturating_sub(1).max(1),
        };
        Self { shared: Arc::new(shared), threads: 0, threads_max: threads, process: process::id() }
    }

    /// The pipeline between two pushes: of those handed in, some may not be applied yet.
    ///
    /// # Errors
    /// When a panic has left it half changed, and in a forked process.
    pub fn pipeline(&self) -> Result<MutexGuard<'_, Pipeline>> {
        self.check_process()?;
        self.shared.pipeline()
    }

    /// The pipeline with all pushes applied; [`take`](Self::take) has their rows, and of the last push may
    /// [`go_on`](Self::go_on) to have others.
    ///
    /// # Errors
    /// What made a push fail, once; then, until a rollback, that one failed.
    pub fn settled(&mut self) -> Result<MutexGuard<'_, Pipeline>> {
        self.check_process()?;
        loop {
            let mut queue = self.shared.wait_while(Queue::is_working);
            queue.check()?;
            if queue.under_way() == 0 {
                break;
            }
            drop(queue);
            self.let_leave()?;
        }
        self.pipeline()
    }

    /// Waits for the pushes under way, or until rows of one must leave before the next is applied, of which it lets the
    /// next ones leave. Whether there is more to wait for; [`take`](Self::take) has the rows, and tells of pushes.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub fn go_on(&mut self) -> Result<bool> {
        self.check_process()?;
        let mut queue = self.shared.wait_while(Queue::is_working);
        queue.check()?;
        // Those that have left come first.
        if queue.turn == Turn::Leaving && queue.outputs.is_empty() {
            drop(queue);
            self.let_leave()?;
            queue = self.shared.queue();
        }
        Ok(queue.turn == Turn::Leaving || queue.under_way() > 0)
    }

    /// Drops the pushes that wait while rows of the one before them leave, so that an epoch may end between those rows; gives
    /// how many, the last ones. Whoever handed them in hands their records in again.
    ///
    /// # Errors
    /// In a forked process.
    pub fn withdraw(&mut self) -> Result<usize> {
        self.check_process()?;
        let mut queue = self.shared.queue();
        let waiting = if queue.turn == Turn::Leaving { queue.places.len() } else { 0 };
        if waiting > 0 {
            queue.drop_pushes();
        }
        Ok(waiting)
    }

    /// Lets the next rows leave of the push that was applied last.
    fn let_leave(&self) -> Result<()> {
        let mut counts = Counts::default();
        let mut queue = self.apply(|pipeline| {
            let outputs = pipeline.go_on()?;
            counts = Counts::new(0, &outputs);
            Ok(outputs)
        })?;
        // Of rows that a step behind a window refuses.
        if counts.rejected > 0 {
            queue.counts.push(counts);
        }
        Ok(())
    }

    /// Runs `call`, which makes rows, on the pipeline; they come behind those there are. No push is being applied.
    fn apply(&self, call: impl FnOnce(&mut Pipeline) -> Result<Vec<OutputBatch>>) -> Result<MutexGuard<'_, Queue>> {
        let mut pipeline = self.pipeline()?;
        let outputs = call(&mut pipeline)?;
        self.shared.note(&mut pipeline);
        let turn = Turn::behind(&pipeline);
        drop(pipeline);
        let mut queue = self.shared.queue();
        queue.outputs.extend(outputs);
        queue.turn = turn;
        if turn == Turn::Next && queue.under_way() > 0 {
            self.shared.work.notify_one();
        }
        Ok(queue)
    }

    /// Runs `call`, which makes rows, after all pushes; [`take`](Self::take) has its rows behind theirs.
    ///
    /// # Errors
    /// As [`settled`](Self::settled), and those of `call`.
    pub fn run(&mut self, call: impl FnOnce(&mut Pipeline) -> Result<Vec<OutputBatch>>) -> Result<()> {
        drop(self.settled()?);
        self.apply(call).map(drop)
    }

    /// Waits until there is room for a push of `bytes`: so many are under way that the threads have work, and no more;
    /// over [`BYTES_UNDER_WAY_MAX`] bytes only one. False when rows of an earlier one must leave before: then
    /// [`take`](Self::take) has the next ones, and it is to be asked again.
    ///
    /// # Errors
    /// What made an earlier push fail, and where the system gives no thread.
    pub fn make_room(&mut self, bytes: usize) -> Result<bool> {
        self.check_process()?;
        self.start_threads()?;
        let busy = self.threads + 1;
        let mut queue = self.shared.wait_while(|queue| queue.is_full(busy, bytes) && queue.is_working());
        queue.check()?;
        let has_room = !queue.is_full(busy, bytes);
        drop(queue);
        if !has_room {
            self.let_leave()?;
        }
        Ok(has_room)
    }

    /// Hands in records, once there is [room](Self::make_room).
    ///
    /// # Errors
    /// What made an earlier push fail: these records are dropped then, as all that were handed in after it. And where
    /// the system gives no thread.
    pub fn push(&mut self, raws: Vec<RawBatch>, now: impl Into<Now>) -> Result<()> {
        let bytes = byte_len(&raws);
        while !self.make_room(bytes)? {}
        let mut queue = self.shared.queue();
        let number = queue.first + queue.places.len() as u64;
        queue.bytes += bytes;
        queue.waiting.push_back(Push { number, raws, now: now.into() });
        queue.places.push_back(None);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Applies a push at once, after those handed in; [`take`](Self::take) has its rows behind theirs.
    ///
    /// # Errors
    /// What made it or an earlier one fail.
    pub fn push_now(&mut self, raws: &[RawBatch], now: impl Into<Now>) -> Result<()> {
        drop(self.settled()?);
        let mut counts = Counts::default();
        let mut queue = self.apply(|pipeline| {
            let outputs = pipeline.push(raws, now)?;
            counts = Counts::new(records(raws), &outputs);
            Ok(outputs)
        })?;
        queue.counts.push(counts);
        Ok(())
    }

    /// Rows of the pushes that were applied, and how many pushes are still under way.
    ///
    /// # Errors
    /// What made a push fail.
    pub fn take(&mut self) -> Result<(Vec<OutputBatch>, usize)> {
        self.check_process()?;
        let mut queue = self.shared.queue();
        queue.check()?;
        Ok((std::mem::take(&mut queue.outputs), queue.under_way()))
    }

    /// What was counted of each push that was applied, in their order, until now.
    ///
    /// # Errors
    /// In a forked process.
    pub fn take_counts(&mut self) -> Result<Vec<Counts>> {
        self.check_process()?;
        Ok(std::mem::take(&mut self.shared.queue().counts))
    }

    /// Whether an applied push has left so much to undo that the epoch is to be committed. Waits for nothing.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.shared.is_due.load(Ordering::Relaxed)
    }

    /// Bytes of state that the epoch has changed or added, roughly, as of the last push that was applied. Waits for nothing.
    #[must_use]
    pub fn changed_bytes(&self) -> u64 {
        self.shared.changed_bytes.load(Ordering::Relaxed)
    }

    /// The sealed epoch is durable.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub fn committed(&mut self) -> Result<()> {
        self.settled()?.committed();
        self.shared.note_none();
        Ok(())
    }

    /// Takes the pipeline back to the last commit. What is under way is dropped, with its rows and its failure.
    ///
    /// # Errors
    /// When a panic has left the pipeline half changed, and in a forked process.
    pub fn rollback(&mut self) -> Result<()> {
        self.check_process()?;
        self.shared.queue().drop_pushes();
        let mut queue = self.shared.wait_while(|queue| queue.turn == Turn::Applying);
        queue.outputs.clear();
        queue.counts.clear();
        queue.failure = None;
        queue.failed = false;
        drop(queue);
        self.shared.note_none();
        self.apply(|pipeline| {
            pipeline.rollback();
            Ok(Vec::new())
        })
        .map(drop)
    }

    fn start_threads(&mut self) -> Result<()> {
        while self.threads < self.threads_max {
            let shared = self.shared.clone();
            let started = Builder::new().name("streamcore-worker".into()).spawn(move || shared.work());
            match started {
                Ok(_) => self.threads += 1,
                // Fewer do the same, later.
                Err(_) if self.threads > 0 => self.threads_max = self.threads,
                Err(error) => {
                    let message = format!("the system gives no thread to push with: {error}; raise its limits");
                    return Err(Error::new(ErrorKind::Limit, message));
                }
            }
        }
        Ok(())
    }

    /// The threads stay behind in a fork, and with them whatever they had locked.
    fn check_process(&self) -> Result<()> {
        if self.process == process::id() {
            return Ok(());
        }
        let message = "the pipeline belongs to the process this one was forked from; make a new one here";
        Err(Error::new(ErrorKind::Internal, message))
    }
}

impl Drop for Workers {
    /// What is being worked on is finished behind it, and dropped.
    fn drop(&mut self) {
        if self.check_process().is_err() {
            return;
        }
        let mut queue = self.shared.queue();
        queue.drop_pushes();
        queue.closing = true;
        drop(queue);
        self.shared.work.notify_all();
    }
}

impl Shared {
    /// No code panics with the queue locked but [`Queue::check`], which leaves it whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while(&self, condition: impl Fn(&Queue) -> bool) -> MutexGuard<'_, Queue> {
        let waited = self.done.wait_while(self.queue(), |queue| condition(queue));
        waited.unwrap_or_else(PoisonError::into_inner)
    }

    fn pipeline(&self) -> Result<MutexGuard<'_, Pipeline>> {
        self.pipeline.lock().map_err(|_| {
            let message = "the pipeline stopped after an internal error and can no longer be used; \
                           start again from the last checkpoint";
            Error::new(ErrorKind::Internal, message)
        })
    }

    /// What each thread does. Who has decoded or applied a push looks again at once, so nobody else need be told
    /// that the next one can be applied.
    fn work(&self) {
        let mut queue = self.queue();
        while !queue.closing {
            if let Some(decoded) = queue.next_to_apply() {
                drop(queue);
                let size = (decoded.bytes, decoded.records);
                let outcome = catch_unwind(AssertUnwindSafe(|| self.apply(decoded)));
                queue = self.queue();
                queue.applied(size, outcome);
                self.done.notify_one();
            } else if let Some(push) = queue.waiting.pop_front() {
                drop(queue);
                let number = push.number;
                let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(push)));
                queue = self.queue();
                match (decoded, number.checked_sub(queue.first)) {
                    (Ok(decoded), Some(place)) => queue.places[place as usize] = Some(decoded),
                    (Err(panic), Some(_)) => {
                        queue.fail(Failure::Panic(panic));
                        self.done.notify_one();
                    }
                    // It was dropped meanwhile.
                    (_, None) => {}
                }
            } else {
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    fn decode(&self, push: Push) -> Decoded {
        let batches = work::decode(&self.decoders, &push.raws, 1);
        Decoded { bytes: byte_len(&push.raws), records: records(&push.raws), raws: push.raws, batches, now: push.now }
    }

    fn apply(&self, decoded: Decoded) -> Result<(Vec<OutputBatch>, Turn)> {
        let mut pipeline = self.pipeline()?;
        let outputs = pipeline.push_decoded(&decoded.raws, decoded.batches, decoded.now, self.threads)?;
        self.note(&mut pipeline);
        Ok((outputs, Turn::behind(&pipeline)))
    }

    /// Notes how much the epoch has changed by now.
    fn note(&self, pipeline: &mut Pipeline) {
        if pipeline.is_due() {
            self.is_due.store(true, Ordering::Relaxed);
        }
        self.changed_bytes.store(pipeline.changed_bytes(), Ordering::Relaxed);
    }

    /// Another epoch begins.
    fn note_none(&self) {
        self.is_due.store(false, Ordering::Relaxed);
        self.changed_bytes.store(0, Ordering::Relaxed);
    }
}
